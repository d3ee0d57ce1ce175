#include "formats/safetensors.h"

#include <algorithm>
#include <array>
#include <functional>
#include <limits>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "formats/json.h"

namespace mach::formats {
namespace {

using nlohmann::json;

constexpr uint64_t kLengthBytes = 8;
// The reference implementation's bound; real headers are below 10 MB.
constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kMaxRank = 16;
constexpr const char* kFetchAgain = "the file is damaged or incomplete; fetch or convert it again";

struct ElementType {
  std::string_view name;
  int bits;
  std::optional<DType> dtype;
};

constexpr std::array kElementTypes = {
    ElementType{"F64", 64, DType::kF64},       ElementType{"F32", 32, DType::kF32},
    ElementType{"F16", 16, DType::kF16},       ElementType{"BF16", 16, DType::kBF16},
    ElementType{"F8_E4M3", 8, DType::kF8E4M3}, ElementType{"F8_E5M2", 8, DType::kF8E5M2},
    ElementType{"I64", 64, DType::kI64},       ElementType{"I32", 32, DType::kI32},
    ElementType{"I16", 16, DType::kI16},       ElementType{"I8", 8, DType::kI8},
    ElementType{"U64", 64, DType::kU64},       ElementType{"U32", 32, DType::kU32},
    ElementType{"U16", 16, DType::kU16},       ElementType{"U8", 8, DType::kU8},
    ElementType{"BOOL", 8, DType::kBool},      ElementType{"C64", 64, std::nullopt},
    ElementType{"F8_E8M0", 8, std::nullopt},   ElementType{"F6_E2M3", 6, std::nullopt},
    ElementType{"F6_E3M2", 6, std::nullopt},   ElementType{"F4", 4, std::nullopt},
};

[[noreturn]] void Corrupt(const std::string& file, const std::string& what) {
  throw Error(ErrorCode::kCorruptFile, file + ": " + what, kFetchAgain);
}

uint64_t LittleEndian64(std::span<const std::byte> bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) {
    value |= static_cast<uint64_t>(bytes[i]) << (8 * i);
  }
  return value;
}

// Unsigned integers only: a float, a negative number or a string is not a size.
uint64_t RequireUnsigned(const json& value, const std::string& where) {
  if (!value.is_number_unsigned()) {
    throw Error(ErrorCode::kCorruptFile,
                where + ": expected a non-negative integer, found " + BriefJson(value),
                kFetchAgain);
  }
  return value.get<uint64_t>();
}

const json& RequireMember(const json& object, const char* key, const std::string& where) {
  const auto it = object.find(key);
  if (it == object.end()) {
    throw Error(ErrorCode::kCorruptFile, where + ": the field " + key + " is missing", kFetchAgain);
  }
  return *it;
}

struct Extent {
  uint64_t begin;
  uint64_t end;
  const std::string* name;
};

// The format forbids overlaps and holes: every data byte belongs to exactly one tensor.
void CheckCoverage(std::vector<Extent> extents, uint64_t data_bytes, const std::string& file) {
  std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  uint64_t position = 0;
  const std::string* previous = nullptr;
  for (const Extent& extent : extents) {
    if (extent.begin < position) {
      Corrupt(file, "tensor " + *extent.name + " overlaps tensor " + *previous);
    }
    if (extent.begin > position) {
      Corrupt(file, std::to_string(extent.begin - position) + " bytes before tensor " +
                        *extent.name + " belong to no tensor");
    }
    position = extent.end;
    previous = extent.name;
  }
  if (position != data_bytes) {
    Corrupt(file, "the header describes " + std::to_string(position) +
                      " bytes of data, the file has " + std::to_string(data_bytes));
  }
}

}  // namespace

std::unique_ptr<SafetensorsFile> SafetensorsFile::Open(const std::filesystem::path& path) {
  return Open(OpenMappedFile(path));
}

std::unique_ptr<SafetensorsFile> SafetensorsFile::Open(std::unique_ptr<RandomAccessFile> file) {
  std::unique_ptr<SafetensorsFile> opened(new SafetensorsFile(std::move(file)));
  opened->Parse();
  opened->RequireIntact();
  return opened;
}

void SafetensorsFile::Parse() {
  const std::string& file = file_->path();
  const std::span<const std::byte> bytes = file_->Mapped();
  if (bytes.size() != file_->size_bytes()) {
    throw Error(ErrorCode::kInvalidArgument, file + " is not mapped into memory");
  }
  if (bytes.size() < kLengthBytes) {
    Corrupt(file, "has " + std::to_string(bytes.size()) + " bytes, a safetensors file at least 8");
  }
  const uint64_t header_bytes = LittleEndian64(bytes);
  if (header_bytes > kMaxHeaderBytes || header_bytes > bytes.size() - kLengthBytes) {
    Corrupt(file, "the header claims " + std::to_string(header_bytes) + " bytes, the file has " +
                      std::to_string(bytes.size()) + " in all");
  }
  data_start_ = kLengthBytes + header_bytes;
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes,
                              static_cast<size_t>(header_bytes));
  const json header =
      ParseJsonObject(text, file + " (header)", {.max_depth = 8, .unique_top_keys = true});
  const std::span<const std::byte> data = bytes.subspan(static_cast<size_t>(data_start_));

  std::vector<Extent> extents;
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      if (value.is_null()) {
        continue;  // MLX writes null where it has none
      }
      if (!value.is_object()) {
        Corrupt(file, "__metadata__ is not an object: " + BriefJson(value));
      }
      for (const auto& [key, text_value] : value.items()) {
        if (text_value.is_string()) {
          metadata_.emplace(key, text_value.get<std::string>());
        }
      }
      continue;
    }
    const std::string where = file + ": tensor " + name;
    if (!value.is_object()) {
      throw Error(ErrorCode::kCorruptFile,
                  where + ": expected an object, found " + BriefJson(value), kFetchAgain);
    }
    const json& dtype_name = RequireMember(value, "dtype", where);
    const auto* type =
        std::find_if(kElementTypes.begin(), kElementTypes.end(), [&](const ElementType& candidate) {
          return dtype_name.is_string() &&
                 dtype_name.get_ref<const std::string&>() == candidate.name;
        });
    if (type == kElementTypes.end()) {
      throw Error(ErrorCode::kCorruptFile, where + ": unknown dtype " + BriefJson(dtype_name));
    }
    const json& shape = RequireMember(value, "shape", where);
    if (!shape.is_array() || shape.size() > kMaxRank) {
      throw Error(ErrorCode::kCorruptFile,
                  where + ": shape should be an array of at most " + std::to_string(kMaxRank) +
                      " sizes, found " + BriefJson(shape),
                  kFetchAgain);
    }
    std::vector<int64_t> dims;
    uint64_t elements = 1;
    for (const json& dim_value : shape) {
      const uint64_t dim = RequireUnsigned(dim_value, where + ": shape");
      // 2^56 elements are beyond any file; the bound keeps elements * bits inside 64 bits.
      constexpr uint64_t kMaxElements = 1ULL << 56;
      if (dim > kMaxElements || (dim != 0 && elements > kMaxElements / dim)) {
        throw Error(ErrorCode::kCorruptFile, where + ": shape " + BriefJson(shape) + " overflows",
                    kFetchAgain);
      }
      elements *= dim;
      dims.push_back(static_cast<int64_t>(dim));
    }
    const json& offsets = RequireMember(value, "data_offsets", where);
    if (!offsets.is_array() || offsets.size() != 2) {
      throw Error(ErrorCode::kCorruptFile,
                  where + ": data_offsets should be [begin, end], found " + BriefJson(offsets),
                  kFetchAgain);
    }
    const uint64_t begin = RequireUnsigned(offsets[0], where + ": data_offsets");
    const uint64_t end = RequireUnsigned(offsets[1], where + ": data_offsets");
    if (begin > end || end > data.size()) {
      throw Error(ErrorCode::kCorruptFile,
                  where + ": data_offsets " + BriefJson(offsets) + " lie outside the " +
                      std::to_string(data.size()) + " bytes of data",
                  kFetchAgain);
    }
    const uint64_t bits = elements * static_cast<uint64_t>(type->bits);
    if (bits % 8 != 0 || bits / 8 != end - begin) {
      throw Error(ErrorCode::kCorruptFile,
                  where + ": " + std::string(type->name) + " " + BriefJson(shape) + " needs " +
                      std::to_string(bits / 8) + " bytes, data_offsets give " +
                      std::to_string(end - begin),
                  kFetchAgain);
    }
    Entry entry;
    entry.view.shape = Shape(std::move(dims));
    entry.view.bytes = data.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    if (type->dtype) {
      entry.view.dtype = *type->dtype;
    } else {
      entry.foreign_dtype = type->name;
    }
    const auto [it, inserted] = tensors_.emplace(name, std::move(entry));
    extents.push_back({begin, end, &it->first});
  }
  CheckCoverage(std::move(extents), data.size(), file);
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> all;
  all.reserve(tensors_.size());
  for (const auto& [name, entry] : tensors_) {
    all.push_back(name);
  }
  return all;
}

bool SafetensorsFile::Contains(std::span<const std::byte> bytes) const {
  const std::span<const std::byte> mapped = file_->Mapped();
  const std::less_equal<const std::byte*> not_after;
  return !bytes.empty() && not_after(mapped.data(), bytes.data()) &&
         not_after(bytes.data() + bytes.size(), mapped.data() + mapped.size());
}

std::optional<TensorView> SafetensorsFile::Find(std::string_view name) const {
  const auto it = tensors_.find(name);
  if (it == tensors_.end()) {
    return std::nullopt;
  }
  if (!it->second.foreign_dtype.empty()) {
    throw Error(ErrorCode::kUnsupported, path() + ": tensor " + it->first +
                                             " has elements of type " + it->second.foreign_dtype +
                                             ", which this build cannot read");
  }
  return it->second.view;
}

std::optional<TensorView> SafetensorsFile::FindReadable(std::string_view name) const {
  const auto it = tensors_.find(name);
  return it != tensors_.end() && it->second.foreign_dtype.empty() ? std::optional(it->second.view)
                                                                  : std::nullopt;
}

}  // namespace mach::formats
