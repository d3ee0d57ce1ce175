// One safetensors file: 8-byte little-endian header length, JSON header, tensor data.
// Everything that the header claims is checked at Open, so a view that Find returns lies inside the
// file and has exactly the bytes its shape needs. Not here: sharding and module names
// (checkpoint.h). Owns the file; views are valid as long as this object lives. Immutable after
// opening: any thread may read.
// Source: github.com/huggingface/safetensors, README "Format".
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "platform/file.h"
#include "tensor/view.h"

namespace mach::formats {

class SafetensorsFile {
 public:
  // Throws kNotFound, kIo, or kCorruptFile naming file and tensor.
  static std::unique_ptr<SafetensorsFile> Open(const std::filesystem::path& path);
  // `file` must be mapped (RandomAccessFile::Mapped).
  static std::unique_ptr<SafetensorsFile> Open(std::unique_ptr<RandomAccessFile> file);

  const std::string& path() const { return file_->path(); }
  uint64_t size_bytes() const { return file_->size_bytes(); }
  std::vector<std::string> names() const;  // sorted
  bool Has(std::string_view name) const { return tensors_.find(name) != tensors_.end(); }

  // Throws kUnsupported if the tensor is there but of an element type this build cannot hold
  // (F4, F6, F8_E8M0, C64): only those who ask for such a tensor are troubled by it.
  std::optional<TensorView> Find(std::string_view name) const;
  // As Find, but nothing for a tensor of such a type.
  std::optional<TensorView> FindReadable(std::string_view name) const;

  // Whether `bytes` lie in this file's mapping.
  bool Contains(std::span<const std::byte> bytes) const;
  // Of a view that Find returned: its pages no longer count as this process's memory. Throws as
  // RequireIntact.
  void Drop(std::span<const std::byte> bytes) const { file_->Drop(bytes); }
  // Throws kIo naming the file if a view could not be read, and gave zeros.
  void RequireIntact() const { file_->RequireIntact(); }

  // "__metadata__" of the header.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // Bytes of the header with its length field; the fingerprint of a file hashes them.
  std::span<const std::byte> HeaderBytes() const {
    return file_->Mapped().first(static_cast<size_t>(data_start_));
  }

 private:
  struct Entry {
    TensorView view;
    std::string foreign_dtype;  // set instead of view.dtype where DType has no such type
  };

  explicit SafetensorsFile(std::unique_ptr<RandomAccessFile> file) : file_(std::move(file)) {}
  void Parse();

  std::unique_ptr<RandomAccessFile> file_;
  uint64_t data_start_ = 0;
  std::map<std::string, Entry, std::less<>> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace mach::formats
