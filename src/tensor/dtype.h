// Element types of tensors on disk and in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace mach {

enum class DType : uint8_t {
  kF64,
  kF32,
  kF16,
  kBF16,
  kF8E4M3,
  kF8E5M2,
  kI64,
  kI32,
  kI16,
  kI8,
  kU64,
  kU32,
  kU16,
  kU8,
  kBool,
};

size_t DTypeBytes(DType dtype);
std::string_view DTypeName(DType dtype);  // safetensors spelling: "BF16", "U32", "F8_E4M3"
bool IsFloat(DType dtype);                // any float, eight bits included

}  // namespace mach
