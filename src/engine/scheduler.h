// What the engine does next. A pure function of what waits, what runs and what it costs: no model,
// no clock, no memory of its own, so that it is tested by itself and another one can take its
// place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <variant>
#include <vector>

namespace mach::engine {

struct EngineLimits {
  int32_t max_requests = 1;  // admitted and not ended
  int32_t max_batch = 1;     // sequences that decode together
  // No answer waits longer than this for a prompt that prefills meanwhile, as far as it can be
  // predicted: at least one layer runs between two steps of decoding.
  double max_decode_gap_s = 0.25;
};

// A request that was admitted.
struct RequestView {
  int64_t prompt_left = 0;       // tokens that have not been prefilled
  int32_t sequences_left = 0;    // choices that have not begun
  int32_t sequences_active = 0;  // choices that decode
};

struct EngineView {
  int64_t waiting = 0;                  // requests, in the order they came
  std::span<const RequestView> active;  // in the order they were admitted
  std::optional<size_t> chunk;          // the active request whose chunk of prefill is under way
  bool decode_is_due = false;           // prefill has run since the last step of decoding
  double layer_s = 0;                   // predicted, of a layer of prefill; 0 = not known
};

inline constexpr int32_t kAllLayers = std::numeric_limits<int32_t>::max();

// Takes the first waiting request.
struct AdmitStep {};
// Begins the next choice of a request whose prompt is prefilled: its first token is chosen.
struct BeginStep {
  size_t request = 0;
};
// Runs the chunk that is under way, or begins the next one of `request`, for so many layers.
struct PrefillStep {
  size_t request = 0;
  int32_t layers = kAllLayers;
};
// One forward of some of the sequences that decode.
struct DecodeStep {
  struct Member {
    size_t request = 0;
    size_t sequence = 0;  // of its active ones

    friend bool operator==(const Member&, const Member&) = default;
  };
  std::vector<Member> batch;  // not empty, distinct
};
using Step = std::variant<AdmitStep, BeginStep, PrefillStep, DecodeStep>;

// Called by the inference thread while something waits or is active.
using Scheduler = std::function<Step(const EngineView&)>;

// In order of arrival, as far as the limits allow. Prompts prefill one after another, and while one
// does, the answers that run get a step of decoding between its layers.
Step NextStep(const EngineView& view, const EngineLimits& limits);

}  // namespace mach::engine
