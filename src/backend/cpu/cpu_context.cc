#include "backend/cpu/cpu_context.h"

#include "base/check.h"

namespace mach::backend {

const float* CpuVector::Transposed(int64_t columns) const {
  MACH_DCHECK(columns > 0 && size() % columns == 0);
  if (transposed_.empty()) {
    const int64_t rows = size() / columns;
    transposed_.resize(values_.size());
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = 0; column < columns; ++column) {
        transposed_[static_cast<size_t>(column * rows + row)] =
            values_[static_cast<size_t>(row * columns + column)];
      }
    }
  }
  return transposed_.data();
}

}  // namespace mach::backend
