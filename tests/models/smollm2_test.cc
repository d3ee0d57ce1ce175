// A real instruction-tuned model on real prompts against float32 logits that mlx-lm computed
// (tests/golden/README.md). Needs the converted checkpoint: MACH_MODEL names its directory.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "backend/cpu/cpu_backend.h"
#include "formats/checkpoint.h"
#include "formats/safetensors.h"
#include "models/loader.h"
#include "tensor/half.h"

namespace mach::models {
namespace {

constexpr int64_t kPositions = 8;  // the reference holds the last ones of each prompt
constexpr size_t kTop = 20;

class SmolLm2 : public testing::Test {
 protected:
  void SetUp() override {
    const char* dir = std::getenv("MACH_MODEL");
    ASSERT_NE(dir, nullptr) << "set MACH_MODEL to the checkpoint that `./dev model` makes";
    checkpoint_ = formats::Checkpoint::Open(dir);
    golden_ = formats::SafetensorsFile::Open(std::filesystem::path(MACH_SOURCE_DIR) /
                                             "tests/golden/smollm2/golden.safetensors");
    model_ = BuildModel(
        {.checkpoint = *checkpoint_, .backend = backend::MakeCpuBackend(budget_, {.threads = 2})});
  }

  template <typename T>
  std::vector<T> Read(int prompt, const std::string& name) const {
    const TensorView view = golden_->Find(std::to_string(prompt) + "." + name).value();
    std::vector<T> values(view.bytes.size() / sizeof(T));
    std::memcpy(values.data(), view.bytes.data(), view.bytes.size());
    return values;
  }
  int Prompts() const {
    int count = 0;
    while (golden_->Has(std::to_string(count) + ".tokens")) {
      ++count;
    }
    return count;
  }

  std::vector<float> Forward(state::SequenceState& state, std::span<const int32_t> tokens,
                             int64_t logit_rows) {
    const backend::StepScope scope(model_->backend());
    const SequenceRows rows{.state = &state, .tokens = tokens, .logit_rows = logit_rows};
    state.Prepare(static_cast<int64_t>(tokens.size()), /*record=*/false);
    const auto logits = model_->backend().Read(model_->Forward({.batch = std::span(&rows, 1)}));
    return {logits.begin(), logits.end()};
  }

  MemoryBudget budget_;
  std::unique_ptr<formats::Checkpoint> checkpoint_;
  std::unique_ptr<formats::SafetensorsFile> golden_;
  std::unique_ptr<Model> model_;
};

// KL(reference || ours) over the whole vocabulary at the last position of a prompt.
double Divergence(const std::vector<uint16_t>& reference_f16, std::span<const float> logits) {
  double largest = -1e30;
  for (const float logit : logits) {
    largest = std::max(largest, static_cast<double>(logit));
  }
  double sum = 0;
  for (const float logit : logits) {
    sum += std::exp(logit - largest);
  }
  const double log_total = largest + std::log(sum);
  double divergence = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const double reference = F16ToFloat(reference_f16[i]);
    divergence += std::exp(reference) * (reference - (logits[i] - log_total));
  }
  return divergence;
}

TEST_F(SmolLm2, AgreesWithTheFloatModel) {
  const int prompts = Prompts();
  ASSERT_GE(prompts, 10);
  double divergence_sum = 0;
  double square_sum = 0;
  size_t compared = 0;
  for (int prompt = 0; prompt < prompts; ++prompt) {
    SCOPED_TRACE("prompt " + std::to_string(prompt));
    const auto state = model_->NewSequence();
    const auto tokens = Read<int32_t>(prompt, "tokens");
    const std::vector<float> logits = Forward(*state, tokens, kPositions);
    const size_t vocab = logits.size() / kPositions;
    const auto top_ids = Read<int32_t>(prompt, "top_ids");
    const auto top_logits = Read<float>(prompt, "top_logits");
    for (size_t position = 0; position < kPositions; ++position) {
      for (size_t i = 0; i < kTop; ++i) {
        const size_t at = position * kTop + i;
        const double difference =
            logits[position * vocab + static_cast<size_t>(top_ids[at])] - top_logits[at];
        square_sum += difference * difference;
        ++compared;
        // int8 activations alone move single logits by up to 1.3 (README of the data).
        EXPECT_LT(std::abs(difference), 2.0);
      }
    }
    const double divergence =
        Divergence(Read<uint16_t>(prompt, "last_logprobs"), std::span(logits).last(vocab));
    EXPECT_LT(divergence, 0.03);
    divergence_sum += divergence;
  }
  const double mean_divergence = divergence_sum / prompts;
  const double rms = std::sqrt(square_sum / static_cast<double>(compared));
  std::printf("mean KL divergence %.5f, rms of top logits %.4f\n", mean_divergence, rms);
  EXPECT_LT(mean_divergence, 0.005);
  EXPECT_LT(rms, 0.4);
}

TEST_F(SmolLm2, GreedyFollowsTheReferenceWhereItIsSure) {
  constexpr float kSure = 1.5F;  // logits ahead of the second best
  int sure = 0;
  for (int prompt = 0; prompt < Prompts(); ++prompt) {
    SCOPED_TRACE("prompt " + std::to_string(prompt));
    const auto state = model_->NewSequence();
    const auto greedy = Read<int32_t>(prompt, "greedy_tokens");
    const auto margins = Read<float>(prompt, "greedy_margins");
    std::vector<float> logits = Forward(*state, Read<int32_t>(prompt, "tokens"), 1);
    for (size_t i = 0; i < greedy.size(); ++i) {
      const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
      if (margins[i] > kSure) {
        EXPECT_EQ(best, greedy[i]) << "token " << i;
        ++sure;
      }
      logits = Forward(*state, std::span(&greedy[i], 1), 1);  // forced along the reference
    }
  }
  EXPECT_GT(sure, 100);
}

}  // namespace
}  // namespace mach::models
