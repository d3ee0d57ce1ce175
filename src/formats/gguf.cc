#include "formats/gguf.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "base/error.h"

namespace mach::formats {
namespace {

constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kMaxAlignment = 1ULL << 20;
constexpr uint32_t kMaxDims = 4;
constexpr int kMaxArrayDepth = 4;

// Value types of GGUF metadata.
enum ValueType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

uint64_t ScalarBytes(uint32_t type) {
  switch (type) {
    case kUint8:
    case kInt8:
    case kBool:
      return 1;
    case kUint16:
    case kInt16:
      return 2;
    case kUint32:
    case kInt32:
    case kFloat32:
      return 4;
    case kUint64:
    case kInt64:
    case kFloat64:
      return 8;
    default:
      return 0;
  }
}

std::string_view ValueTypeName(uint32_t type) {
  constexpr std::array<std::string_view, 13> kNames = {
      "uint8", "int8",   "uint16", "int16",  "uint32", "int32",  "float32",
      "bool",  "string", "array",  "uint64", "int64",  "float64"};
  return type < kNames.size() ? kNames[type] : "unknown";
}

template <typename T>
T Load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

// Integers of any width, if they fit into int64.
std::optional<int64_t> LoadInt(uint32_t type, const std::byte* at) {
  switch (type) {
    case kUint8:
      return Load<uint8_t>(at);
    case kInt8:
      return Load<int8_t>(at);
    case kUint16:
      return Load<uint16_t>(at);
    case kInt16:
      return Load<int16_t>(at);
    case kUint32:
      return Load<uint32_t>(at);
    case kInt32:
      return Load<int32_t>(at);
    case kInt64:
      return Load<int64_t>(at);
    case kUint64: {
      const auto value = Load<uint64_t>(at);
      if (value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        return static_cast<int64_t>(value);
      }
      return std::nullopt;
    }
    default:
      return std::nullopt;
  }
}

[[noreturn]] void Corrupt(const std::string& where, const std::string& what) {
  throw Error(ErrorCode::kCorruptFile, where + ": " + what, kFetchGgufAgain);
}

}  // namespace

std::string Printable(std::string_view text) {
  std::string printable;
  for (const char c : text.substr(0, 100)) {
    printable += c >= 0x20 && c < 0x7f ? c : '?';
  }
  return printable;
}

class GgufFile::Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const std::string& file) : bytes_(bytes), file_(file) {}

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return bytes_.size() - position_; }
  const std::string& file() const { return file_; }

  std::span<const std::byte> Take(uint64_t count, const std::string& what) {
    if (count > remaining()) {
      Corrupt(file_, what + " needs " + std::to_string(count) + " bytes at offset " +
                         std::to_string(position_) + ", but only " + std::to_string(remaining()) +
                         " are left");
    }
    const auto taken = bytes_.subspan(static_cast<size_t>(position_), static_cast<size_t>(count));
    position_ += count;
    return taken;
  }

  template <typename T>
  T Read(const std::string& what) {
    return Load<T>(Take(sizeof(T), what).data());
  }

  std::string_view ReadString(const std::string& what) {
    const auto length = Read<uint64_t>(what);
    const auto taken = Take(length, what);
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }

 private:
  std::span<const std::byte> bytes_;
  const std::string& file_;
  uint64_t position_ = 0;
};

std::unique_ptr<GgufFile> GgufFile::Open(const std::filesystem::path& path) {
  return Open(OpenMappedFile(path));
}

std::unique_ptr<GgufFile> GgufFile::Open(std::unique_ptr<RandomAccessFile> file) {
  std::unique_ptr<GgufFile> opened(new GgufFile(std::move(file)));
  opened->Parse();
  opened->file_->RequireIntact();
  return opened;
}

void GgufFile::Parse() {
  const std::string& file = file_->path();
  if (file_->Mapped().size() != file_->size_bytes()) {
    throw Error(ErrorCode::kInvalidArgument, file + " is not mapped into memory");
  }
  Cursor cursor(file_->Mapped(), file);
  const auto magic = cursor.Take(4, "the magic number");
  if (std::memcmp(magic.data(), "GGUF", 4) != 0) {
    Corrupt(file, "does not begin with GGUF");
  }
  version_ = cursor.Read<uint32_t>("the version");
  if (version_ != 2 && version_ != 3) {
    const bool swapped = (version_ & 0xffffU) == 0;
    throw Error(ErrorCode::kUnsupported,
                file +
                    (swapped ? std::string(": is a big-endian GGUF file")
                             : ": GGUF version " + std::to_string(version_)) +
                    ", supported are little-endian versions 2 and 3");
  }
  const auto tensor_count = cursor.Read<uint64_t>("the tensor count");
  const auto key_count = cursor.Read<uint64_t>("the metadata count");
  // The smallest possible entries: a bound on what to believe before reading them.
  constexpr uint64_t kMinKeyBytes = 8 + 4 + 1;
  constexpr uint64_t kMinTensorBytes = 8 + 4 + 8 + 4 + 8;
  if (key_count > cursor.remaining() / kMinKeyBytes ||
      tensor_count > cursor.remaining() / kMinTensorBytes) {
    Corrupt(file, "claims " + std::to_string(tensor_count) + " tensors and " +
                      std::to_string(key_count) + " metadata keys, more than its " +
                      std::to_string(file_->size_bytes()) + " bytes can hold");
  }
  for (uint64_t i = 0; i < key_count; ++i) {
    const std::string_view key = cursor.ReadString("metadata key " + std::to_string(i));
    const std::string where = "metadata key " + Printable(key);
    const auto type = cursor.Read<uint32_t>(where);
    if (!values_.emplace(std::string(key), ReadValue(cursor, type, where, 0)).second) {
      Corrupt(file, where + " is given twice");
    }
  }
  ParseTensors(cursor, tensor_count);
}

GgufFile::Value GgufFile::ReadValue(Cursor& cursor, uint32_t type, const std::string& where,
                                    int depth) {
  Value value;
  value.type = type;
  if (type == kString) {
    value.strings.push_back(cursor.ReadString(where));
    return value;
  }
  if (type != kArray) {
    const uint64_t bytes = ScalarBytes(type);
    if (bytes == 0) {
      Corrupt(cursor.file(), where + " has the unknown value type " + std::to_string(type));
    }
    value.bytes = cursor.Take(bytes, where);
    return value;
  }
  if (depth >= kMaxArrayDepth) {
    Corrupt(cursor.file(), where + ": arrays nested deeper than " + std::to_string(kMaxArrayDepth));
  }
  value.element_type = cursor.Read<uint32_t>(where);
  value.count = cursor.Read<uint64_t>(where);
  const uint64_t scalar = ScalarBytes(value.element_type);
  const bool composed = value.element_type == kString || value.element_type == kArray;
  if (scalar == 0 && !composed) {
    Corrupt(cursor.file(),
            where + " has the unknown element type " + std::to_string(value.element_type));
  }
  const uint64_t smallest = scalar != 0 ? scalar : (value.element_type == kString ? 8 : 12);
  if (value.count > cursor.remaining() / smallest) {
    Corrupt(cursor.file(), where + " claims " + std::to_string(value.count) +
                               " elements, more than the file can hold");
  }
  if (scalar != 0) {
    value.bytes = cursor.Take(value.count * scalar, where);
  } else if (value.element_type == kString) {
    value.strings.reserve(static_cast<size_t>(value.count));
    for (uint64_t i = 0; i < value.count; ++i) {
      value.strings.push_back(cursor.ReadString(where));
    }
  } else {
    for (uint64_t i = 0; i < value.count; ++i) {
      ReadValue(cursor, kArray, where, depth + 1);  // checked, and of no use to anyone here
    }
  }
  return value;
}

void GgufFile::ParseTensors(Cursor& cursor, uint64_t count) {
  const std::string& file = file_->path();
  std::vector<uint64_t> offsets;
  for (uint64_t i = 0; i < count; ++i) {
    GgufTensor tensor;
    tensor.name = cursor.ReadString("tensor " + std::to_string(i));
    const std::string where = file + ": tensor " + Printable(tensor.name);
    const auto dim_count = cursor.Read<uint32_t>("tensor " + std::to_string(i));
    if (dim_count == 0 || dim_count > kMaxDims) {
      Corrupt(where, "has " + std::to_string(dim_count) + " dimensions, expected 1 to 4");
    }
    std::vector<int64_t> dims;
    uint64_t elements = 1;
    for (uint32_t d = 0; d < dim_count; ++d) {
      const auto dim = cursor.Read<uint64_t>("tensor " + std::to_string(i));
      constexpr uint64_t kMaxElements = 1ULL << 56;
      if (dim == 0 || dim > kMaxElements / elements) {
        Corrupt(where, "has a dimension of " + std::to_string(dim));
      }
      elements *= dim;
      dims.push_back(static_cast<int64_t>(dim));
    }
    const auto type = cursor.Read<uint32_t>("tensor " + std::to_string(i));
    tensor.info = FindGgmlType(type);
    if (tensor.info == nullptr) {
      throw Error(ErrorCode::kUnsupported, where + " has the element type " + std::to_string(type) +
                                               ", which this build does not know");
    }
    if (dims.front() % tensor.info->block_elements != 0) {
      Corrupt(where, "has rows of " + std::to_string(dims.front()) + " elements, but " +
                         std::string(tensor.info->name) + " needs a multiple of " +
                         std::to_string(tensor.info->block_elements));
    }
    std::reverse(dims.begin(), dims.end());
    tensor.shape = Shape(std::move(dims));
    offsets.push_back(cursor.Read<uint64_t>("tensor " + std::to_string(i)));
    tensors_.push_back(std::move(tensor));
  }

  uint64_t alignment = kDefaultAlignment;
  if (const auto given = Int("general.alignment")) {
    if (*given < 1 || *given > static_cast<int64_t>(kMaxAlignment) ||
        (*given & (*given - 1)) != 0) {
      Corrupt(file, "general.alignment is " + std::to_string(*given) + ", expected a power of two");
    }
    alignment = static_cast<uint64_t>(*given);
  }
  data_start_ = (cursor.position() + alignment - 1) / alignment * alignment;
  data_start_ = std::min<uint64_t>(data_start_, file_->size_bytes());
  const auto data = file_->Mapped().subspan(static_cast<size_t>(data_start_));

  std::vector<std::pair<uint64_t, size_t>> order;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    GgufTensor& tensor = tensors_[i];
    const std::string where = file + ": tensor " + Printable(tensor.name);
    if (offsets[i] % alignment != 0) {
      Corrupt(where, "begins at offset " + std::to_string(offsets[i]) +
                         ", which is no multiple of the alignment " + std::to_string(alignment));
    }
    const auto blocks =
        static_cast<uint64_t>(tensor.shape.Elements() / tensor.info->block_elements);
    const auto block_bytes = static_cast<uint64_t>(tensor.info->block_bytes);
    if (offsets[i] > data.size() || blocks > (data.size() - offsets[i]) / block_bytes) {
      Corrupt(where, std::string(tensor.info->name) + " " + tensor.shape.ToString() + " needs " +
                         std::to_string(blocks) + " blocks of " + std::to_string(block_bytes) +
                         " bytes at offset " + std::to_string(offsets[i]) +
                         ", but the file has only " + std::to_string(data.size()) +
                         " bytes of data");
    }
    tensor.bytes =
        data.subspan(static_cast<size_t>(offsets[i]), static_cast<size_t>(blocks * block_bytes));
    order.emplace_back(offsets[i], i);
    if (!by_name_.emplace(tensor.name, i).second) {
      Corrupt(where, "is given twice");
    }
  }
  std::sort(order.begin(), order.end());
  for (size_t i = 1; i < order.size(); ++i) {
    const GgufTensor& before = tensors_[order[i - 1].second];
    if (order[i].first < order[i - 1].first + before.bytes.size()) {
      Corrupt(file, "tensor " + Printable(tensors_[order[i].second].name) + " overlaps tensor " +
                        Printable(before.name));
    }
  }
}

const GgufTensor* GgufFile::FindTensor(std::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &tensors_[it->second];
}

std::vector<std::string> GgufFile::Keys() const {
  std::vector<std::string> keys;
  for (const auto& [key, value] : values_) {
    keys.push_back(key);
  }
  return keys;
}

const GgufFile::Value* GgufFile::Find(std::string_view key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

void GgufFile::WrongType(std::string_view key, const Value& value, const char* wanted) const {
  std::string found(ValueTypeName(value.type));
  if (value.type == kArray) {
    found += " of " + std::string(ValueTypeName(value.element_type));
  }
  throw Error(
      ErrorCode::kCorruptFile,
      path() + ": metadata key " + std::string(key) + " is " + found + ", expected " + wanted,
      kFetchGgufAgain);
}

std::optional<std::string_view> GgufFile::String(std::string_view key) const {
  const Value* value = Find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (value->type != kString) {
    WrongType(key, *value, "a string");
  }
  return value->strings.front();
}

std::optional<int64_t> GgufFile::Int(std::string_view key) const {
  const Value* value = Find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  const auto number = value->type == kArray || value->type == kString
                          ? std::nullopt
                          : LoadInt(value->type, value->bytes.data());
  if (!number) {
    WrongType(key, *value, "an integer below 2^63");
  }
  return number;
}

std::optional<double> GgufFile::Float(std::string_view key) const {
  const Value* value = Find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  double number = 0;
  if (value->type == kFloat32) {
    number = Load<float>(value->bytes.data());
  } else if (value->type == kFloat64) {
    number = Load<double>(value->bytes.data());
  } else {
    WrongType(key, *value, "a number");
  }
  if (!std::isfinite(number)) {
    throw Error(ErrorCode::kCorruptFile,
                path() + ": metadata key " + std::string(key) + " is not finite", kFetchGgufAgain);
  }
  return number;
}

std::optional<double> GgufFile::ShortFloat(std::string_view key) const {
  const auto number = Float(key);
  if (!number || Find(key)->type != kFloat32) {
    return number;
  }
  char text[64];
  const auto end = std::to_chars(text, text + sizeof(text), static_cast<float>(*number)).ptr;
  double shortest = *number;
  std::from_chars(text, end, shortest);
  return shortest;
}

std::optional<bool> GgufFile::Bool(std::string_view key) const {
  const Value* value = Find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (value->type != kBool) {
    WrongType(key, *value, "a bool");
  }
  return value->bytes[0] != std::byte{0};
}

std::optional<std::vector<std::string_view>> GgufFile::Strings(std::string_view key) const {
  const Value* value = Find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (value->type != kArray || value->element_type != kString) {
    WrongType(key, *value, "an array of strings");
  }
  return value->strings;
}

std::optional<std::vector<int64_t>> GgufFile::Ints(std::string_view key) const {
  const Value* value = Find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  std::vector<int64_t> numbers;
  const uint64_t bytes = value->type == kArray ? ScalarBytes(value->element_type) : 0;
  if (bytes == 0) {
    WrongType(key, *value, "an array of integers");
  }
  numbers.reserve(static_cast<size_t>(value->count));
  for (uint64_t i = 0; i < value->count; ++i) {
    const auto number = LoadInt(value->element_type, value->bytes.data() + i * bytes);
    if (!number) {
      WrongType(key, *value, "an array of integers below 2^63");
    }
    numbers.push_back(*number);
  }
  return numbers;
}

std::optional<std::vector<float>> GgufFile::Floats(std::string_view key) const {
  const Value* value = Find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (value->type != kArray || value->element_type != kFloat32) {
    WrongType(key, *value, "an array of float32");
  }
  std::vector<float> numbers(static_cast<size_t>(value->count));
  if (!numbers.empty()) {
    std::memcpy(numbers.data(), value->bytes.data(), value->bytes.size());
  }
  return numbers;
}

std::string_view GgufFile::RequireString(std::string_view key) const {
  const auto value = String(key);
  if (!value) {
    throw Error(ErrorCode::kCorruptFile,
                path() + ": metadata key " + std::string(key) + " is missing, expected a string",
                kFetchGgufAgain);
  }
  return *value;
}

int64_t GgufFile::RequireInt(std::string_view key, int64_t min, int64_t max) const {
  const auto value = Int(key);
  if (!value || *value < min || *value > max) {
    throw Error(ErrorCode::kCorruptFile,
                path() + ": metadata key " + std::string(key) + " is " +
                    (value ? std::to_string(*value) : "missing") + ", expected an integer from " +
                    std::to_string(min) + " to " + std::to_string(max),
                kFetchGgufAgain);
  }
  return *value;
}

}  // namespace mach::formats
