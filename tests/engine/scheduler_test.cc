// The scheduler without a model: what comes next in each situation, and a whole run on paper.
#include "engine/scheduler.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace mach::engine {
namespace {

// "admit", "begin 1", "prefill 0 x3", "decode 0.0 1.0".
std::string Describe(const Step& step) {
  if (std::holds_alternative<AdmitStep>(step)) {
    return "admit";
  }
  if (const auto* begin = std::get_if<BeginStep>(&step)) {
    return "begin " + std::to_string(begin->request);
  }
  if (const auto* prefill = std::get_if<PrefillStep>(&step)) {
    return "prefill " + std::to_string(prefill->request) +
           (prefill->layers == kAllLayers ? "" : " x" + std::to_string(prefill->layers));
  }
  std::string text = "decode";
  for (const DecodeStep::Member& member : std::get<DecodeStep>(step).batch) {
    text += " " + std::to_string(member.request) + "." + std::to_string(member.sequence);
  }
  return text;
}

constexpr EngineLimits kMany = {.max_requests = 4, .max_batch = 3, .max_decode_gap_s = 0.25};

std::string Next(const EngineLimits& limits, int64_t waiting, std::vector<RequestView> active,
                 std::optional<size_t> chunk = {}, bool decode_is_due = false, double layer_s = 0) {
  return Describe(NextStep({.waiting = waiting,
                            .active = active,
                            .chunk = chunk,
                            .decode_is_due = decode_is_due,
                            .layer_s = layer_s},
                           limits));
}

TEST(Scheduler, AdmitsUntilTheLimit) {
  EXPECT_EQ(Next({}, 2, {}), "admit");
  EXPECT_EQ(Next({}, 2, {{.prompt_left = 5, .sequences_left = 1}}), "prefill 0");
  EXPECT_EQ(Next(kMany, 1, {{.prompt_left = 5, .sequences_left = 1}}), "admit");
  EXPECT_EQ(Next(kMany, 0, {{.prompt_left = 5, .sequences_left = 1}}), "prefill 0");
}

TEST(Scheduler, BeginsSequencesInOrderAsLongAsABatchHasRoom) {
  EXPECT_EQ(Next({}, 0, {{.sequences_left = 2}}), "begin 0");
  EXPECT_EQ(Next({}, 0, {{.sequences_left = 1, .sequences_active = 1}}), "decode 0.0");
  EXPECT_EQ(Next(kMany, 0, {{.sequences_left = 1, .sequences_active = 1}}), "begin 0");
  EXPECT_EQ(Next(kMany, 0, {{.sequences_active = 1}, {.sequences_left = 1}}), "begin 1");
  EXPECT_EQ(Next(kMany, 0, {{.sequences_active = 1}, {.sequences_left = 1, .sequences_active = 2}}),
            "decode 0.0 1.0 1.1");
  EXPECT_EQ(Next(kMany, 0, {{.prompt_left = 3, .sequences_left = 1}, {.sequences_left = 1}}),
            "begin 1");
}

TEST(Scheduler, DecodesBetweenTheLayersOfAPrompt) {
  const std::vector<RequestView> both = {{.prompt_left = 9, .sequences_left = 1},
                                         {.sequences_active = 1}};
  EXPECT_EQ(Next(kMany, 0, both, {}, false), "prefill 0 x1") << "nothing is known of its cost";
  EXPECT_EQ(Next(kMany, 0, both, 0, false, 0.1), "prefill 0 x2");
  EXPECT_EQ(Next(kMany, 0, both, 0, false, 10), "prefill 0 x1");
  EXPECT_EQ(Next(kMany, 0, both, 0, false, 1e-12), "prefill 0");
  EXPECT_EQ(Next(kMany, 0, both, 0, true, 0.1), "decode 1.0");
}

TEST(Scheduler, FinishesAChunkBeforeAnotherPromptBegins) {
  const RequestView prompt = {.prompt_left = 9, .sequences_left = 1};
  EXPECT_EQ(Next(kMany, 0, {prompt, prompt}), "prefill 0");
  EXPECT_EQ(Next(kMany, 0, {prompt, prompt}, 1), "prefill 1");
}

// What a server does today with two requests, of which the first has two choices.
TEST(Scheduler, OneRequestAtATime) {
  std::vector<std::string> steps;
  std::vector<RequestView> active;
  int64_t waiting = 2;
  while (waiting > 0 || !active.empty()) {
    const Step step = NextStep({.waiting = waiting, .active = active}, {});
    steps.push_back(Describe(step));
    if (std::holds_alternative<AdmitStep>(step)) {
      active.push_back({.prompt_left = 10, .sequences_left = static_cast<int32_t>(waiting)});
      --waiting;
    } else if (std::holds_alternative<PrefillStep>(step)) {
      active[0].prompt_left -= 5;
    } else if (std::holds_alternative<BeginStep>(step)) {
      --active[0].sequences_left;
      ++active[0].sequences_active;
    } else if (--active[0].sequences_active == 0 && active[0].sequences_left == 0) {
      active.clear();
    }
  }
  EXPECT_EQ(steps, (std::vector<std::string>{"admit", "prefill 0", "prefill 0", "begin 0",
                                             "decode 0.0", "begin 0", "decode 0.0", "admit",
                                             "prefill 0", "prefill 0", "begin 0", "decode 0.0"}));
}

}  // namespace
}  // namespace mach::engine
