#include "decode/logprob.h"

#include <cmath>
#include <limits>

#include "base/portable_math.h"
#include "decode/logit_row.h"

namespace mach::decode {

TokenLogprob Logprob(std::span<const float> logits, int32_t token, int32_t top,
                     std::vector<TokenLogprob>* alternatives, const kernels::KernelTable& table) {
  const LogitRow row(table, logits);
  const bool finite = std::isfinite(row.best());
  const double log_total = finite ? PortableLog(row.TotalWeight(1)) : 0;
  const auto logprob = [&](int32_t id) {
    const float logit = logits[static_cast<size_t>(id)];
    if (logit == row.best() && !finite) {
      return 0.0F;
    }
    if (!finite || std::isnan(logit)) {
      return -std::numeric_limits<float>::infinity();
    }
    const double below = static_cast<double>(logit) - static_cast<double>(row.best());
    return static_cast<float>(below - log_total);
  };
  if (alternatives != nullptr && top > 0) {
    for (const int32_t id : row.First(top)) {
      alternatives->push_back({id, logprob(id)});
    }
  }
  return {token, logprob(token)};
}

}  // namespace mach::decode
