// Steps that run layer by layer, with others between their layers: whatever runs when and beside
// what, each sequence gets the bits of a run of its own.
#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>
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
