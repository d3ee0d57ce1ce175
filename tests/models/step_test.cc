// Steps that run layer by layer, with others between their layers: whatever runs when and beside
// what, each sequence gets the bits of a run of its own.
#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "golden_runner.h"

namespace mach::models {
namespace {

using backend::ExpertUse;
using backend::StepScope;
using state::SequenceState;
using Tokens = std::vector<int32_t>;

Tokens Prompt(const std::string& name) {
  return ReadGolden<int32_t>(
      *formats::SafetensorsFile::Open(GoldenDir() / name / "golden.safetensors"), "prompt");
}

// A step that is under way, and the scope that its caller has to hold.
class OpenStep {
 public:
  OpenStep(Model& model, SequenceState& state, std::span<const int32_t> tokens, ExpertUse use,
           const std::atomic<bool>* cancel = nullptr)
      : model_(model), scope_(model.backend()) {
    const auto count = static_cast<int64_t>(tokens.size());
    state.Prepare(count, /*record=*/false);
    const SequenceRows rows{.state = &state, .tokens = tokens, .logit_rows = count};
    run_ = model.Begin({.batch = std::span(&rows, 1), .use = use, .cancel = cancel});
  }

  bool RunLayer() { return run_->RunLayer(); }
  std::vector<float> Finish() {
    const auto logits = model_.backend().Read(run_->Finish());
    return {logits.begin(), logits.end()};
  }

 private:
  Model& model_;
  StepScope scope_;
  std::unique_ptr<StepRun> run_;
};

// One checkpoint of each family.
class StepTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    prompt_ = Prompt(GetParam());
    runner_ = std::make_unique<Runner>(GoldenDir() / GetParam(), 2);
  }

  Tokens prompt_;
  std::unique_ptr<Runner> runner_;
};

TEST_P(StepTest, DecodingBetweenTheLayersOfAPrefillChangesNeither) {
  const std::span<const int32_t> prompt(prompt_);
  const auto lone_prefill = runner_->NewSequence();
  const auto lone_decode = runner_->NewSequence();
  const auto want_prefill = runner_->Forward(*lone_prefill, prompt);
  runner_->Forward(*lone_decode, prompt.first(7));

  const auto prefilled = runner_->NewSequence();
  const auto decoded = runner_->NewSequence();
  runner_->Forward(*decoded, prompt.first(7));
  OpenStep prefill(runner_->model(), *prefilled, prompt, ExpertUse::kPrefill);
  size_t layers = 0;
  for (; prefill.RunLayer(); ++layers) {
    for (int32_t token = 0; token < 2; ++token) {
      const int32_t next = 3 * static_cast<int32_t>(layers) + token;
      EXPECT_EQ(runner_->Forward(*decoded, std::span(&next, 1)),
                runner_->Forward(*lone_decode, std::span(&next, 1)));
    }
  }
  EXPECT_EQ(layers, static_cast<size_t>(runner_->model().shape().layers));
  EXPECT_FALSE(prefill.RunLayer());
  EXPECT_EQ(prefilled->length(), 0) << "committed before Finish";
  EXPECT_EQ(prefill.Finish(), want_prefill);
  EXPECT_EQ(prefilled->length(), static_cast<int64_t>(prompt.size()));
  EXPECT_EQ(decoded->length(), 7 + 2 * static_cast<int64_t>(layers));
}

// A draft model beside its target: another shape, on the same backend, with a pool of its own.
TEST_P(StepTest, AnotherModelOnTheSameBackendRunsBetweenLayers) {
  const std::span<const int32_t> prompt(prompt_);
  for (const char* name : {"llama_f32", "qwen3_5_moe_bf16"}) {
    SCOPED_TRACE(name);
    Runner lone(GoldenDir() / name, 2);
    Runner draft(GoldenDir() / name, runner_->shared_backend());
    const Tokens draft_prompt = Prompt(name);
    const std::span<const int32_t> draft_tokens(draft_prompt);
    const auto want_state = lone.NewSequence();
    const auto want_chunk = lone.Forward(*want_state, draft_tokens.first(20));

    const auto prefilled = runner_->NewSequence();
    const auto drafted = draft.NewSequence();
    OpenStep prefill(runner_->model(), *prefilled, prompt, ExpertUse::kPrefill);
    ASSERT_TRUE(prefill.RunLayer());
    EXPECT_EQ(draft.Forward(*drafted, draft_tokens.first(20)), want_chunk);
    ASSERT_TRUE(prefill.RunLayer());
    for (size_t at = 20; at < 24; ++at) {  // drafts, one by one
      EXPECT_EQ(draft.Forward(*drafted, draft_tokens.subspan(at, 1)),
                lone.Forward(*want_state, draft_tokens.subspan(at, 1)));
    }
    while (prefill.RunLayer()) {
    }
    EXPECT_EQ(prefill.Finish(), runner_->Forward(*runner_->NewSequence(), prompt));
  }
}

TEST_P(StepTest, NestedStepsMayNestAndMayFail) {
  const std::span<const int32_t> prompt(prompt_);
  const auto want = runner_->Forward(*runner_->NewSequence(), prompt);
  const auto want_short = runner_->Forward(*runner_->NewSequence(), prompt.first(9));
  const auto outer = runner_->NewSequence();
  const auto middle = runner_->NewSequence();
  const auto inner = runner_->NewSequence();
  OpenStep a(runner_->model(), *outer, prompt, ExpertUse::kPrefill);
  ASSERT_TRUE(a.RunLayer());
  {
    OpenStep b(runner_->model(), *middle, prompt.first(9), ExpertUse::kPrefill);
    ASSERT_TRUE(b.RunLayer());
    EXPECT_EQ(runner_->Forward(*inner, prompt.first(9)), want_short);
    const std::atomic<bool> cancel{true};
    EXPECT_THROW(
        runner_->Forward(*inner, prompt.first(3), /*record=*/false, ExpertUse::kDecode, &cancel),
        Error);
    while (b.RunLayer()) {
    }
    EXPECT_EQ(b.Finish(), want_short);
  }
  {
    const auto state = runner_->NewSequence();
    OpenStep given_up(runner_->model(), *state, prompt.first(9), ExpertUse::kDecode);
    ASSERT_TRUE(given_up.RunLayer());
  }
  while (a.RunLayer()) {
  }
  EXPECT_EQ(a.Finish(), want);
  EXPECT_EQ(inner->length(), 9);
}

// Sequences of different lengths and one in the middle of its prompt, a step at a time.
TEST_P(StepTest, ABatchGivesEachSequenceTheBitsOfALoneRun) {
  constexpr size_t kSequences = 8;
  const std::span<const int32_t> prompt(prompt_);
  std::vector<std::unique_ptr<SequenceState>> lone;
  std::vector<std::unique_ptr<SequenceState>> batched;
  for (size_t i = 0; i < kSequences; ++i) {
    lone.push_back(runner_->NewSequence());
    batched.push_back(runner_->NewSequence());
    for (auto* state : {lone.back().get(), batched.back().get()}) {
      runner_->Forward(*state, prompt.first(1 + 4 * i));
    }
  }
  for (int32_t step = 0; step < 4; ++step) {
    std::vector<Tokens> tokens;
    std::vector<SequenceRows> rows;
    std::vector<float> want;
    for (size_t i = 0; i < kSequences; ++i) {
      const size_t count = i == 3 ? 11 : 1 + (i + static_cast<size_t>(step)) % 3;
      tokens.emplace_back(prompt.begin() + step, prompt.begin() + step + count);
    }
    for (size_t i = 0; i < kSequences; ++i) {
      rows.push_back({.state = batched[i].get(), .tokens = tokens[i], .logit_rows = 1});
      const auto logits =
          runner_->Forward({{.state = lone[i].get(), .tokens = tokens[i], .logit_rows = 1}});
      want.insert(want.end(), logits.begin(), logits.end());
    }
    EXPECT_EQ(runner_->Forward(rows), want) << "step " << step;
  }
}

// Choices of one prompt: forked after it, and run together or apart.
TEST_P(StepTest, ForksGoOnAsSequencesOfTheirOwn) {
  const std::span<const int32_t> prompt(prompt_);
  const auto parent = runner_->NewSequence();
  runner_->Forward(*parent, prompt);
  std::vector<std::unique_ptr<SequenceState>> lone;
  std::vector<std::unique_ptr<SequenceState>> forks;
  for (int i = 0; i < 3; ++i) {
    forks.push_back(i == 0 ? parent->Fork() : forks.back()->Fork());
    lone.push_back(runner_->NewSequence());
    runner_->Forward(*lone.back(), prompt);
  }
  for (int32_t step = 0; step < 40; ++step) {  // over the end of a block
    std::vector<SequenceRows> rows;
    std::vector<float> want;
    const Tokens tokens = {step % 50, (step + 7) % 50, (3 * step) % 50};
    for (size_t i = 0; i < forks.size(); ++i) {
      rows.push_back({.state = forks[i].get(), .tokens = std::span(tokens).subspan(i, 1)});
      const auto logits = runner_->Forward(*lone[i], rows.back().tokens);
      want.insert(want.end(), logits.begin(), logits.end());
    }
    ASSERT_EQ(runner_->Forward(rows), want) << "step " << step;
  }
  // The parent is where it was, also where its forks have gone on.
  const int32_t token = 5;
  const auto again = runner_->NewSequence();
  runner_->Forward(*again, prompt);
  EXPECT_EQ(runner_->Forward(*parent, std::span(&token, 1)),
            runner_->Forward(*again, std::span(&token, 1)));
}

// Drafts of a forked sequence, verified in a step with others and cut back.
TEST_P(StepTest, RecordedStepsOfForksCanBeCut) {
  const std::span<const int32_t> prompt(prompt_);
  const auto parent = runner_->NewSequence();
  runner_->Forward(*parent, prompt.first(30));
  const auto fork = parent->Fork();
  const auto other = runner_->NewSequence();
  runner_->Forward({{.state = fork.get(), .tokens = prompt.subspan(30, 8)},
                    {.state = other.get(), .tokens = prompt.first(5)}},
                   /*record=*/true);
  fork->Truncate(33);
  other->Truncate(2);
  const auto lone = runner_->NewSequence();
  runner_->Forward(*lone, prompt.first(33));
  EXPECT_EQ(runner_->Forward(*fork, prompt.first(4)), runner_->Forward(*lone, prompt.first(4)));
  const auto lone_other = runner_->NewSequence();
  runner_->Forward(*lone_other, prompt.first(2));
  EXPECT_EQ(runner_->Forward(*other, prompt.subspan(9, 4)),
            runner_->Forward(*lone_other, prompt.subspan(9, 4)));
}

TEST_P(StepTest, ACancelFlagIsWatchedWhileItsOwnLayersRun) {
  const std::span<const int32_t> prompt(prompt_);
  const auto prefilled = runner_->NewSequence();
  const auto decoded = runner_->NewSequence();
  std::atomic<bool> cancel{false};
  {
    OpenStep prefill(runner_->model(), *prefilled, prompt, ExpertUse::kPrefill, &cancel);
    ASSERT_TRUE(prefill.RunLayer());
    cancel.store(true);
    EXPECT_NO_THROW(runner_->Forward(*decoded, prompt.first(3))) << "another step's flag";
    EXPECT_THROW(prefill.RunLayer(), Error);
  }
  EXPECT_EQ(prefilled->length(), 0);
  EXPECT_EQ(runner_->Forward(*prefilled, prompt),
            runner_->Forward(*runner_->NewSequence(), prompt));
}

using StepDeathTest = StepTest;

TEST_P(StepDeathTest, AStepRunsWhatItsSequencesWerePreparedFor) {
  runner_ = std::make_unique<Runner>(GoldenDir() / GetParam(), 1);  // such tests want no threads
  const std::span<const int32_t> tokens(prompt_);
  const auto state = runner_->NewSequence();
  const SequenceRows rows{.state = state.get(), .tokens = tokens.first(5)};
  const StepSpec step{.batch = std::span(&rows, 1)};
  EXPECT_DEATH(runner_->model().Begin(step), "prepared");
  state->Prepare(4, /*record=*/false);
  EXPECT_DEATH(runner_->model().Begin(step), "prepared");
  state->Prepare(5, /*record=*/false);
  const StepScope scope(runner_->model().backend());
  EXPECT_DEATH(runner_->model().Begin(step)->Finish(), "next_layer_") << "layers are missing";
  runner_->model().Forward(step);
  EXPECT_EQ(state->length(), 5);
}

// A name for each family, with float and quantised weights among them.
const auto kFamilies =
    testing::Values("llama_f32", "qwen3_q4_mixed", "qwen3_moe_q4_g64", "qwen3_5_moe_q4_g32");
std::string NameOf(const testing::TestParamInfo<std::string>& info) {
  return info.param;
}

INSTANTIATE_TEST_SUITE_P(Families, StepTest, kFamilies, NameOf);
INSTANTIATE_TEST_SUITE_P(Families, StepDeathTest, kFamilies, NameOf);

}  // namespace
}  // namespace mach::models
