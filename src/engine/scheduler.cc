#include "engine/scheduler.h"

#include <algorithm>

#include "base/check.h"

namespace mach::engine {
namespace {

// The first request that fits, if any.
template <typename Predicate>
std::optional<size_t> FirstOf(std::span<const RequestView> active, const Predicate& fits) {
  const auto it = std::find_if(active.begin(), active.end(), fits);
  return it == active.end() ? std::nullopt : std::optional<size_t>(it - active.begin());
}

DecodeStep EverySequence(std::span<const RequestView> active) {
  DecodeStep step;
  for (size_t request = 0; request < active.size(); ++request) {
    for (int32_t i = 0; i < active[request].sequences_active; ++i) {
      step.batch.push_back({request, static_cast<size_t>(i)});
    }
  }
  return step;
}

int32_t LayersWithin(double gap_s, double layer_s) {
  const double layers = layer_s > 0 ? gap_s / layer_s : 1;
  return static_cast<int32_t>(std::clamp(layers, 1.0, static_cast<double>(kAllLayers)));
}

}  // namespace

Step NextStep(const EngineView& view, const EngineLimits& limits) {
  int32_t decoding = 0;
  for (const RequestView& request : view.active) {
    decoding += request.sequences_active;
  }
  if (view.waiting > 0 && static_cast<int64_t>(view.active.size()) < limits.max_requests) {
    return AdmitStep{};
  }
  if (decoding < limits.max_batch) {
    const auto ready = FirstOf(view.active, [](const RequestView& request) {
      return request.prompt_left == 0 && request.sequences_left > 0;
    });
    if (ready) {
      return BeginStep{*ready};
    }
  }
  const auto prompt =
      view.chunk ? view.chunk : FirstOf(view.active, [](const RequestView& request) {
        return request.prompt_left > 0;
      });
  if (prompt && decoding == 0) {
    return PrefillStep{*prompt, kAllLayers};
  }
  if (prompt && !view.decode_is_due) {
    return PrefillStep{*prompt, LayersWithin(limits.max_decode_gap_s, view.layer_s)};
  }
  MACH_CHECK(decoding > 0);
  return EverySequence(view.active);
}

}  // namespace mach::engine
