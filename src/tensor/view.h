// A borrowed tensor: where its bytes are, what they mean. Dense, row-major, little-endian.
#pragma once

#include <cstddef>
#include <span>

#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace mach {

struct TensorView {
  DType dtype = DType::kF32;
  Shape shape;
  std::span<const std::byte> bytes;  // shape.Elements() * DTypeBytes(dtype)

  // The bytes as elements of T. The caller has checked dtype. Files do not promise alignment:
  // use this only on memory that does.
  template <typename T>
  std::span<const T> As() const {
    return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
  }
};

}  // namespace mach
