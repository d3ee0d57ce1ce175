// What Mixture-of-Experts models do beyond the golden tests: layouts of the same weights, how they
// use their experts, and what they refuse.
#include <algorithm>
#include <atomic>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "convert/convert.h"
#include "golden_runner.h"
#include "models/registry.h"
#include "tests/formats/test_files.h"

namespace mach::models {
namespace {

using backend::ExpertUse;
using testing::HasSubstr;

std::vector<int32_t> Prompt(const std::filesystem::path& dir) {
  return ReadGolden<int32_t>(*formats::SafetensorsFile::Open(dir / "golden.safetensors"), "prompt");
}

std::vector<float> AllLogits(const std::filesystem::path& dir, std::span<const int32_t> prompt) {
  Runner runner(dir, 2);
  return runner.Forward(*runner.NewSequence(), prompt);
}

TEST(MoeLayouts, HuggingFaceAndMlxNamesGiveTheSameBits) {
  for (const char* name : {"qwen3_moe_bf16", "qwen3_5_moe_bf16"}) {
    SCOPED_TRACE(name);
    const auto prompt = Prompt(GoldenDir() / name);
    EXPECT_EQ(AllLogits(GoldenDir() / (std::string(name) + "_hf"), prompt),
              AllLogits(GoldenDir() / name, prompt));
  }
}

// An engine checkpoint has its experts in a sidecar and all else under MLX names.
TEST(MoeLayouts, EngineCheckpointsGiveTheBitsOfTheirSource) {
  for (const char* name : {"qwen3_moe_bf16_hf", "qwen3_moe_q4_g64", "qwen3_5_moe_bf16_hf",
                           "qwen3_5_moe_bf16", "qwen3_5_moe_q4_g32"}) {
    SCOPED_TRACE(name);
    const formats::ScratchDir scratch;
    const std::filesystem::path out = scratch.path() / name;
    convert::Convert({.source = GoldenDir() / name, .out = out, .threads = 1}, nullptr);
    ASSERT_TRUE(formats::ExpertSidecar::Find(out).has_value());
    const auto prompt = Prompt(GoldenDir() / name);
    EXPECT_EQ(AllLogits(out, prompt), AllLogits(GoldenDir() / name, prompt));
  }
}

TEST(Moe, ShapesAreReadFromHeaders) {
  const auto checkpoint = formats::Checkpoint::Open(GoldenDir() / "qwen3_5_moe_bf16_hf");
  const ModelShape shape = ReadModelShape(*checkpoint);
  EXPECT_EQ(shape.layers, 4);
  EXPECT_EQ(shape.moe_layers, 4);
  EXPECT_EQ(shape.experts, 8);
  EXPECT_EQ(shape.experts_per_token, 2);
  EXPECT_EQ(shape.kv.layers, 1);
  EXPECT_EQ(shape.recurrent.layers, 3);
  EXPECT_EQ(shape.recurrent.conv_channels(), 2 * 2 * 32 + 4 * 16);
}

// Which steps ask for which experts, and how.
TEST(Moe, StepsUseExpertsAsTheirCallerSays) {
  const auto dir = GoldenDir() / "qwen3_moe_bf16";  // layer 1 of 3 is dense
  const auto prompt = Prompt(dir);
  Runner runner(dir);
  const auto state = runner.NewSequence();
  runner.Forward(*state, std::span(prompt).first(32), /*record=*/false, ExpertUse::kPrefill);
  runner.Forward(*state, std::span(prompt).subspan(32, 1));
  const auto& acquired = runner.experts()->acquired;
  ASSERT_EQ(acquired.size(), 4U);
  EXPECT_EQ(acquired[0].layer, 0);
  EXPECT_EQ(acquired[1].layer, 2);
  EXPECT_EQ(acquired[0].use, ExpertUse::kPrefill);
  EXPECT_EQ(acquired[2].use, ExpertUse::kDecode);
  EXPECT_EQ(acquired[2].ids.size(), 4U);
  EXPECT_EQ(acquired[0].tokens, 32);
  EXPECT_EQ(acquired[2].tokens, 1);
  for (const auto& request : acquired) {
    EXPECT_EQ(std::accumulate(request.rows.begin(), request.rows.end(), int64_t{0}),
              request.tokens * 4);
    EXPECT_TRUE(std::ranges::is_sorted(request.ids, std::less_equal<>()));
  }
}

TEST(Moe, EarlyRoutingGuessesAndChangesNothing) {
  for (const char* name : {"qwen3_moe_bf16", "qwen3_5_moe_q4_g32"}) {
    SCOPED_TRACE(name);
    const auto prompt = Prompt(GoldenDir() / name);
    Runner plain(GoldenDir() / name, 2);
    Runner guessing(GoldenDir() / name, 2);
    guessing.experts()->set_prefetches(true);
    const auto a = plain.NewSequence();
    const auto b = guessing.NewSequence();
    EXPECT_EQ(plain.Forward(*a, prompt, /*record=*/false, ExpertUse::kPrefill),
              guessing.Forward(*b, prompt, /*record=*/false, ExpertUse::kPrefill));
    EXPECT_TRUE(guessing.experts()->prefetched.empty()) << "a prefill step guessed";
    EXPECT_TRUE(plain.experts()->prefetched.empty());
    int hits = 0;
    for (int32_t token = 3; token < 13; ++token) {
      plain.experts()->acquired.clear();
      guessing.experts()->acquired.clear();
      guessing.experts()->prefetched.clear();
      EXPECT_EQ(plain.Forward(*a, std::span(&token, 1)),
                guessing.Forward(*b, std::span(&token, 1)));
      const auto& acquired = guessing.experts()->acquired;
      const auto& prefetched = guessing.experts()->prefetched;
      EXPECT_EQ(plain.experts()->acquired, acquired);
      ASSERT_EQ(prefetched.size() + 1, acquired.size()) << "one guess for each layer but the first";
      for (size_t i = 0; i < prefetched.size(); ++i) {
        EXPECT_EQ(prefetched[i].layer, acquired[i + 1].layer);
        std::vector<int32_t> both;
        std::ranges::set_intersection(prefetched[i].ids, acquired[i + 1].ids,
                                      std::back_inserter(both));
        hits += static_cast<int>(both.size());
      }
    }
    EXPECT_GT(hits, 10) << "guesses are no better than chance";
  }
}

TEST(Moe, AFailedReadLeavesTheStateAsItWas) {
  const auto dir = GoldenDir() / "qwen3_5_moe_bf16";
  const auto prompt = Prompt(dir);
  Runner runner(dir, 2);
  const auto state = runner.NewSequence();
  runner.Forward(*state, std::span(prompt).first(10));
  runner.experts()->set_broken(true);
  EXPECT_THROW(runner.Forward(*state, std::span(prompt).subspan(10, 5)), Error);
  runner.experts()->set_broken(false);
  EXPECT_EQ(state->length(), 10);
  const auto got = runner.Forward(*state, std::span(prompt).subspan(10));
  const auto want = runner.Forward(*runner.NewSequence(), prompt);
  EXPECT_TRUE(std::equal(got.begin(), got.end(), want.end() - static_cast<ptrdiff_t>(got.size())));
}

TEST(Moe, ACancelledStepStopsBetweenExperts) {
  const auto dir = GoldenDir() / "qwen3_moe_bf16";
  const auto prompt = Prompt(dir);
  Runner runner(dir, 2);
  const auto state = runner.NewSequence();
  std::atomic<bool> cancel{false};
  int calls = 0;
  runner.experts()->on_next = [&] { cancel.store(++calls == 2); };
  try {
    runner.Forward(*state, prompt, /*record=*/false, ExpertUse::kDecode, &cancel);
    ADD_FAILURE() << "was not cancelled";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCancelled);
  }
  EXPECT_EQ(calls, 2) << "experts were asked for after the cancel";
  // The state is as before, and the flag is no longer looked at.
  EXPECT_EQ(state->length(), 0);
  runner.experts()->on_next = nullptr;
  EXPECT_EQ(runner.Forward(*state, prompt), runner.Forward(*runner.NewSequence(), prompt));
}

TEST(Moe, CountsTheExpertsOfOneToken) {
  const auto dir = GoldenDir() / "qwen3_5_moe_bf16";
  Runner runner(dir);
  const uint64_t hidden = 32;
  const uint64_t experts = 4 * 2 * 3 * 16 * hidden;    // layers x top_k x matrices
  const uint64_t shared = 4 * (3 * 32 + 16) * hidden;  // one gate row, padded to a strip
  const uint64_t routers = 4 * 16 * hidden;            // 8 rows, padded
  const uint64_t attention = (256 + 64 + 64 + 128) * hidden;
  const uint64_t gated_delta = 3 * (192 + 64 + 16 + 16 + 64) * hidden;
  const uint64_t head = 256 * hidden;
  EXPECT_EQ(runner.model().ActiveWeightBytes(),
            2 * (experts + shared + routers + attention + gated_delta + head));
}

std::string BuildError(const std::filesystem::path& dir, backend::ExpertSource* experts) {
  MemoryBudget budget;
  const auto checkpoint = formats::Checkpoint::Open(dir);
  try {
    BuildModel({.checkpoint = *checkpoint,
                .backend = backend::MakeCpuBackend(budget, {.threads = 1}),
                .experts = experts});
  } catch (const Error& error) {
    return error.Describe();
  }
  return "";
}

TEST(Moe, RefusesMissingAndForeignExperts) {
  const auto dir = GoldenDir() / "qwen3_5_moe_bf16";
  EXPECT_THAT(BuildError(dir, nullptr), HasSubstr("its experts were not loaded"));
  const auto other = formats::Checkpoint::Open(GoldenDir() / "qwen3_moe_bf16");
  MemoryExperts experts(*other);
  EXPECT_THAT(BuildError(dir, &experts), HasSubstr("3 layers of 16 experts of [16, 32]"));
}

// The table of the contract, of the families that are here.
TEST(Registry, HasTheRowsOfTheContract) {
  struct Row {
    const char* model_type;
    std::optional<bool> stacked_supported;
    std::optional<bool> has_expert_bias;
    bool text_config_wrapped;
    const char* kv_cache_kind;
    const char* specdec_kind;
  };
  const std::vector<Row> rows = {
      {"qwen3_5_moe", true, false, true, "hybrid_gdn", "specdec_v7"},
      {"qwen3_moe", true, false, false, "standard", "specdec_v7"},
      {"llama", std::nullopt, std::nullopt, false, "standard", "none"},
      {"qwen2", std::nullopt, std::nullopt, false, "standard", "none"},
      {"qwen3", std::nullopt, std::nullopt, false, "standard", "none"},
  };
  ASSERT_EQ(Registry().size(), rows.size());
  for (const Row& row : rows) {
    SCOPED_TRACE(row.model_type);
    const ArchInfo* const arch = FindArch(row.model_type);
    ASSERT_NE(arch, nullptr);
    EXPECT_EQ(arch->swiglu_variant, "plain_swiglu");
    EXPECT_EQ(arch->stacked_supported, row.stacked_supported);
    EXPECT_EQ(arch->has_expert_bias, row.has_expert_bias);
    EXPECT_EQ(arch->text_config_wrapped, row.text_config_wrapped);
    EXPECT_EQ(arch->model_module, std::string("mach.models.") + row.model_type);
    EXPECT_EQ(arch->default_bits, 4);
    EXPECT_EQ(arch->default_group_size, 64);
    EXPECT_EQ(arch->kv_cache_kind, row.kv_cache_kind);
    EXPECT_EQ(arch->specdec_kind, row.specdec_kind);
    EXPECT_EQ(arch->continuous_batching, "ok");
    EXPECT_EQ(arch->dense, !row.stacked_supported);
  }
  EXPECT_EQ(FindArch("qwen3_5_moe_text"), FindArch("qwen3_5_moe"));
  EXPECT_EQ(FindArch("gpt_oss"), nullptr);
}

}  // namespace
}  // namespace mach::models
