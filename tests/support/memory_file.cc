#include "tests/support/memory_file.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include "base/error.h"

namespace mach::testing_support {
namespace {

class MemoryFile final : public RandomAccessFile {
 public:
  MemoryFile(std::string name, std::string contents)
      : path_(std::move(name)), contents_(std::move(contents)) {}

  const std::string& path() const override { return path_; }
  uint64_t size_bytes() const override { return contents_.size(); }
  std::span<const std::byte> Mapped() const override {
    return std::as_bytes(std::span(contents_.data(), contents_.size()));
  }

  void ReadAt(uint64_t offset_bytes, std::span<std::byte> out) const override {
    if (offset_bytes > contents_.size() || out.size() > contents_.size() - offset_bytes) {
      throw Error(ErrorCode::kCorruptFile,
                  path_ + ": ends before " + std::to_string(offset_bytes + out.size()));
    }
    if (!out.empty()) {
      std::memcpy(out.data(), contents_.data() + offset_bytes, out.size());
    }
  }

 private:
  std::string path_;
  std::string contents_;
};

}  // namespace

std::unique_ptr<RandomAccessFile> OpenMemoryFile(std::string name, std::string contents) {
  return std::make_unique<MemoryFile>(std::move(name), std::move(contents));
}

}  // namespace mach::testing_support
