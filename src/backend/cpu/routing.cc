#include "backend/cpu/routing.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "base/check.h"

namespace mach::backend {
namespace {

struct RankedExpert {
  int32_t id;
  float weight;
};

// The largest `chosen.size()` of `probabilities`, in rank order. Of a row of NaN, the first.
void ChooseTop(std::span<const float> probabilities, std::span<RankedExpert> chosen) {
  size_t count = 0;
  for (size_t id = 0; id < probabilities.size(); ++id) {
    const float p = probabilities[id];
    if (count == chosen.size() && !(p > chosen[count - 1].weight)) {
      continue;
    }
    size_t at = count < chosen.size() ? count++ : count - 1;
    for (; at > 0 && p > chosen[at - 1].weight; --at) {
      chosen[at] = chosen[at - 1];
    }
    chosen[at] = {static_cast<int32_t>(id), p};
  }
}

}  // namespace

Routing RouteRows(CpuContext& context, const Tensor& logits, const RouterSpec& spec) {
  MACH_CHECK(0 < spec.top_k && spec.top_k <= logits.cols);
  const auto top_k = static_cast<size_t>(spec.top_k);
  Routing routing;
  routing.top_k = spec.top_k;
  routing.ids.resize(static_cast<size_t>(logits.rows) * top_k);
  routing.weights.resize(routing.ids.size());
  const uint64_t mark = context.arena.Mark();
  const Tensor probabilities = context.New(logits.rows, logits.cols);
  if (context.pool.dry()) {
    // All rows use the same experts: the most that one expert can get to do.
    for (auto row = routing.ids.begin(); row != routing.ids.end(); row += spec.top_k) {
      std::iota(row, row + spec.top_k, 0);
    }
    context.arena.Release(mark);
    return routing;
  }
  std::vector<RankedExpert> choices(routing.ids.size());
  context.ForRows(logits, [&](int64_t row) {
    float* p = Data(probabilities) + row * logits.cols;
    context.table.softmax(Data(logits) + row * logits.cols, logits.cols, p);
    const size_t first = static_cast<size_t>(row) * top_k;
    const std::span<RankedExpert> chosen(choices.data() + first, top_k);
    ChooseTop({p, static_cast<size_t>(logits.cols)}, chosen);
    float sum = 0;
    for (const RankedExpert& choice : chosen) {
      sum += choice.weight;
    }
    std::sort(chosen.begin(), chosen.end(),
              [](const RankedExpert& a, const RankedExpert& b) { return a.id < b.id; });
    for (size_t rank = 0; rank < top_k; ++rank) {
      routing.ids[first + rank] = chosen[rank].id;
      routing.weights[first + rank] =
          spec.normalise ? chosen[rank].weight / sum : chosen[rank].weight;
    }
  });
  context.arena.Release(mark);
  return routing;
}

}  // namespace mach::backend
