#include "decode/constraint.h"

#include <algorithm>
#include <limits>

namespace mach::decode {

void ApplyMask(std::span<const uint32_t> mask, std::span<float> logits) {
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  constexpr uint32_t kAll = 0xFFFFFFFF;
  const size_t words = MaskWords(logits.size());
  for (size_t i = 0; i < words; ++i) {
    const uint32_t word = i < mask.size() ? mask[i] : 0;
    float* const first = logits.data() + 32 * i;
    const size_t count = std::min<size_t>(32, logits.size() - 32 * i);
    if (word == 0) {
      std::fill_n(first, count, kNever);
    } else if (word != kAll) {
      for (size_t bit = 0; bit < count; ++bit) {
        first[bit] = ((word >> bit) & 1U) != 0 ? first[bit] : kNever;
      }
    }
  }
}

bool AllowsOther(std::span<const uint32_t> mask, std::span<const int32_t> but) {
  for (size_t i = 0; i < mask.size(); ++i) {
    uint32_t word = mask[i];
    for (const int32_t token : but) {
      if (token >= 0 && static_cast<size_t>(token) / 32 == i) {
        word &= ~(1U << (static_cast<size_t>(token) % 32));
      }
    }
    if (word != 0) {
      return true;
    }
  }
  return false;
}

}  // namespace mach::decode
