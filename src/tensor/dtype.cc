#include "tensor/dtype.h"

#include <array>

#include "base/check.h"

namespace mach {
namespace {

struct DTypeRow {
  DType dtype;
  size_t bytes;
  std::string_view name;
  bool is_float;
};

constexpr std::array kRows = {
    DTypeRow{DType::kF64, 8, "F64", true},        DTypeRow{DType::kF32, 4, "F32", true},
    DTypeRow{DType::kF16, 2, "F16", true},        DTypeRow{DType::kBF16, 2, "BF16", true},
    DTypeRow{DType::kF8E4M3, 1, "F8_E4M3", true}, DTypeRow{DType::kF8E5M2, 1, "F8_E5M2", true},
    DTypeRow{DType::kI64, 8, "I64", false},       DTypeRow{DType::kI32, 4, "I32", false},
    DTypeRow{DType::kI16, 2, "I16", false},       DTypeRow{DType::kI8, 1, "I8", false},
    DTypeRow{DType::kU64, 8, "U64", false},       DTypeRow{DType::kU32, 4, "U32", false},
    DTypeRow{DType::kU16, 2, "U16", false},       DTypeRow{DType::kU8, 1, "U8", false},
    DTypeRow{DType::kBool, 1, "BOOL", false},
};

const DTypeRow& Row(DType dtype) {
  const auto index = static_cast<size_t>(dtype);
  MACH_CHECK(index < kRows.size() && kRows[index].dtype == dtype);
  return kRows[index];
}

}  // namespace

size_t DTypeBytes(DType dtype) {
  return Row(dtype).bytes;
}
std::string_view DTypeName(DType dtype) {
  return Row(dtype).name;
}
bool IsFloat(DType dtype) {
  return Row(dtype).is_float;
}

}  // namespace mach
