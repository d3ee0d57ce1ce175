// A GGUF file (version 2 or 3, little-endian), opened for reading: metadata and tensors in ggml's
// block formats, with an exact decoder for each format we read. Not here: what the names mean
// (gguf_model.h) and tokenizers (gguf_tokenizer.h). Everything that the file claims is checked at
// Open. Owns the mapped file; views and string_views are valid as long as the object lives.
// Immutable after opening: any thread may read.
// Source: ggml, docs/gguf.md and ggml-common.h (block layouts).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "platform/file.h"
#include "tensor/shape.h"

namespace mach::formats {

enum class GgmlType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ40 = 2,
  kQ41 = 3,
  kQ50 = 6,
  kQ51 = 7,
  kQ80 = 8,
  kQ4K = 12,
  kQ5K = 13,
  kQ6K = 14,
  kBF16 = 30,
};

// What is known of a ggml element type. A block is the unit that shares scales.
struct GgmlTypeInfo {
  uint32_t id;
  std::string_view name;  // "Q4_K"
  int64_t block_elements;
  int64_t block_bytes;
  bool decodable;  // has a decoder here
};

// The cure of a file that contradicts itself.
inline constexpr const char* kFetchGgufAgain = "the file is damaged or incomplete; fetch it again";

// Names and texts from a file as they may go into messages: they can hold anything.
std::string Printable(std::string_view text);

// The cure of a model in several files (split.count).
inline constexpr const char* kMergeGgufParts =
    "merge the parts: llama-gguf-split --merge FIRST-PART.gguf MERGED.gguf, then convert that";

// Null for ids that no release of ggml has used.
const GgmlTypeInfo* FindGgmlType(uint32_t id);

struct GgufTensor {
  std::string name;
  const GgmlTypeInfo* info = nullptr;
  Shape shape;  // outermost first, as everywhere else here (the file stores the reverse)
  std::span<const std::byte> bytes;

  GgmlType type() const { return static_cast<GgmlType>(info->id); }
  int64_t RowElements() const { return shape[shape.rank() - 1]; }
  int64_t Rows() const { return RowElements() == 0 ? 0 : shape.Elements() / RowElements(); }
  uint64_t RowBytes() const {
    return static_cast<uint64_t>(RowElements() / info->block_elements * info->block_bytes);
  }
  std::span<const std::byte> Row(int64_t row) const {
    return bytes.subspan(static_cast<size_t>(row) * RowBytes(), RowBytes());
  }
};

// Decodes whole blocks: out.size() elements from the blocks at `bytes`. fp32, exactly as ggml's own
// reference (every product is exact, sums round once). The type must be decodable.
void DequantizeGgml(const GgmlTypeInfo& type, std::span<const std::byte> bytes,
                    std::span<float> out);

// The eight 6-bit scales and minimums of a Q4_K or Q5_K block, from its 12 packed bytes.
struct Q4KScales {
  uint8_t scale[8];
  uint8_t minimum[8];
};
Q4KScales UnpackQ4KScales(const uint8_t* packed);

// The 5-bit codes of 32 weights of Q5_0 or Q5_1: their fifth bits are the 4 bytes `high`, the
// others the 16 bytes `low`.
void UnpackQ5Codes(const uint8_t* high, const uint8_t* low, uint8_t* codes);
// The 256 codes of a Q5_K block.
void UnpackQ5KCodes(const uint8_t* block, uint8_t* codes);

class GgufFile {
 public:
  // Throws kNotFound, kIo, kCorruptFile, or kUnsupported (version, byte order, element type),
  // naming the file and the key or tensor.
  static std::unique_ptr<GgufFile> Open(const std::filesystem::path& path);
  // `file` must be mapped.
  static std::unique_ptr<GgufFile> Open(std::unique_ptr<RandomAccessFile> file);

  const std::string& path() const { return file_->path(); }
  uint64_t size_bytes() const { return file_->size_bytes(); }
  uint32_t version() const { return version_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }  // in file order
  const GgufTensor* FindTensor(std::string_view name) const;           // null if absent
  // Of a tensor's bytes: their pages no longer count as this process's memory. Throws kIo naming
  // the file if any could not be read, and gave zeros.
  void Drop(std::span<const std::byte> bytes) const { file_->Drop(bytes); }
  // Everything before the tensor data; the fingerprint of a file hashes it.
  std::span<const std::byte> HeaderBytes() const {
    return file_->Mapped().first(static_cast<size_t>(data_start_));
  }

  // Metadata. Absent keys give nothing; a value of another type throws kCorruptFile naming the key.
  bool HasKey(std::string_view key) const { return values_.find(key) != values_.end(); }
  std::vector<std::string> Keys() const;
  std::optional<std::string_view> String(std::string_view key) const;
  std::optional<int64_t> Int(std::string_view key) const;  // any integer type that fits
  std::optional<double> Float(std::string_view key) const;
  // F32 values keep their shortest decimal form: 9.99999975e-06F comes back as 1e-05.
  std::optional<double> ShortFloat(std::string_view key) const;
  std::optional<bool> Bool(std::string_view key) const;
  std::optional<std::vector<std::string_view>> Strings(std::string_view key) const;
  std::optional<std::vector<int64_t>> Ints(std::string_view key) const;
  std::optional<std::vector<float>> Floats(std::string_view key) const;

  // As above, but absence is an error too.
  std::string_view RequireString(std::string_view key) const;
  int64_t RequireInt(std::string_view key, int64_t min, int64_t max) const;

 private:
  // A value as it lies in the file. Numbers: `bytes` is one element; arrays of numbers: all of
  // them.
  struct Value {
    uint32_t type = 0;
    uint32_t element_type = 0;  // of arrays
    uint64_t count = 1;
    std::span<const std::byte> bytes;
    std::vector<std::string_view> strings;
  };
  class Cursor;

  explicit GgufFile(std::unique_ptr<RandomAccessFile> file) : file_(std::move(file)) {}
  void Parse();
  void ParseTensors(Cursor& cursor, uint64_t count);
  static Value ReadValue(Cursor& cursor, uint32_t type, const std::string& where, int depth);
  const Value* Find(std::string_view key) const;
  [[noreturn]] void WrongType(std::string_view key, const Value& value, const char* wanted) const;

  std::unique_ptr<RandomAccessFile> file_;
  uint32_t version_ = 0;
  uint64_t data_start_ = 0;
  std::map<std::string, Value, std::less<>> values_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string_view, size_t> by_name_;
};

}  // namespace mach::formats
