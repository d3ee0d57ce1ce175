// What a plan predicts against what loading and running really book, on every golden checkpoint.
#include "loading/memory_plan.h"

#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "backend/cpu/cpu_backend.h"
#include "backend/dry_backend.h"
#include "base/error.h"
#include "convert/convert.h"
#include "loading/preflight.h"
#include "loading/runnable_model.h"
#include "models/loader.h"
#include "platform/file.h"
#include "tests/formats/test_files.h"

namespace mach::loading {
namespace {

const std::filesystem::path kGoldenDir = std::filesystem::path(MACH_SOURCE_DIR) / "tests/golden";

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kGoldenDir)) {
    if (std::filesystem::exists(entry.path() / "config.json")) {
      names.push_back(entry.path().filename().string());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

void Step(models::Model& model, state::SequenceState& state, int64_t rows) {
  const std::vector<int32_t> tokens(static_cast<size_t>(rows), 3);
  const models::SequenceRows step{.state = &state, .tokens = tokens, .logit_rows = 1};
  const backend::StepScope scope(model.backend());
  state.Prepare(rows, /*record=*/false);
  model.Forward({.batch = std::span(&step, 1)});
}

class MemoryPlanTest : public testing::TestWithParam<std::string> {};

TEST_P(MemoryPlanTest, LoadingAndRunningBookWhatWasPredicted) {
  for (const int64_t chunk : {1, 40, 100}) {
    SCOPED_TRACE(chunk);
    RunnableModel runnable =
        LoadRunnable(PlanLoading({.checkpoint = kGoldenDir / GetParam(),
                                  .cpu = {.threads = 2},
                                  .engine = {.max_context = 150, .prefill_chunk = chunk}}),
                     nullptr);
    const auto state = runnable.model->NewSequence();
    for (int64_t rows = 1; state->length() + rows <= 150 && rows <= chunk; rows += 13) {
      Step(*runnable.model, *state, rows);
    }
    while (state->length() < 150) {
      Step(*runnable.model, *state, std::min(chunk, 150 - state->length()));
    }
    // Another choice of the same prompt.
    const auto fork = state->Fork();
    Step(*runnable.model, *fork, 1);
    EXPECT_EQ(runnable.budget->BytesByOwner(), runnable.plan.bytes);
    EXPECT_EQ(runnable.budget->TotalBytes(), runnable.plan.total_bytes);
  }
}

TEST_P(MemoryPlanTest, LoadingReadsTheBytesThatItsProgressCounts) {
  LoadProgress progress;
  const RunnableModel runnable = LoadRunnable(
      PlanLoading({.checkpoint = kGoldenDir / GetParam(), .cpu = {.threads = 2}}), &progress);
  EXPECT_GT(progress.bytes_done.load(), 0U);
  EXPECT_EQ(progress.bytes_done.load(), progress.bytes_total.load());
}

// The peak of activations is exact where it does not depend on what is routed where.
TEST_P(MemoryPlanTest, ActivationsOfDenseModelsAreExact) {
  const auto checkpoint = formats::Checkpoint::Open(kGoldenDir / GetParam());
  if (FindExperts(*checkpoint)) {
    GTEST_SKIP() << "a Mixture-of-Experts model: an upper bound";
  }
  MemoryBudget dry_budget = MemoryBudget::Dry();
  const std::shared_ptr<backend::Backend> dry = backend::MakeDryBackend(dry_budget, {.threads = 3});
  const auto dry_model = models::BuildModel({.checkpoint = *checkpoint, .backend = dry});
  Step(*dry_model, *dry_model->NewSequence(), 77);
  const uint64_t peak = dry->TakePeakActivationBytes();

  const auto grown = [&](uint64_t reserved) {
    MemoryBudget budget;
    const std::shared_ptr<backend::Backend> cpu = backend::MakeCpuBackend(budget, {.threads = 3});
    cpu->ReserveActivations(reserved);
    const uint64_t before = budget.BytesByOwner().at("activations");
    const auto model = models::BuildModel({.checkpoint = *checkpoint, .backend = cpu});
    Step(*model, *model->NewSequence(), 77);
    return budget.BytesByOwner().at("activations") - before;
  };
  EXPECT_EQ(grown(peak), 0U);
  EXPECT_GT(grown(peak - 64), 0U);
}

// Of several sequences, a row each.
void DecodingStep(models::Model& model, const std::vector<state::SequenceState*>& states) {
  const std::vector<int32_t> tokens(1, 5);
  std::vector<models::SequenceRows> batch;
  for (state::SequenceState* state : states) {
    state->Prepare(1, /*record=*/false);
    batch.push_back({.state = state, .tokens = tokens, .logit_rows = 1});
  }
  const backend::StepScope scope(model.backend());
  model.Forward({.batch = batch});
}

// A chunk, between whose layers others decode.
void SharedChunk(models::Model& model, state::SequenceState& prompt, int64_t rows,
                 const std::vector<state::SequenceState*>& others) {
  const std::vector<int32_t> tokens(static_cast<size_t>(rows), 3);
  const models::SequenceRows chunk{.state = &prompt, .tokens = tokens, .logit_rows = 1};
  const backend::StepScope scope(model.backend());
  prompt.Prepare(rows, /*record=*/false);
  const auto step = model.Begin({.batch = std::span(&chunk, 1)});
  while (step->RunLayer()) {
    DecodingStep(model, others);
  }
  step->Finish();
}

TEST_P(MemoryPlanTest, RequestsThatRunTogetherBookWhatWasPredicted) {
  RunnableModel runnable =
      LoadRunnable(PlanLoading({.checkpoint = kGoldenDir / GetParam(),
                                .cpu = {.threads = 2},
                                .engine = {.max_context = 150,
                                           .prefill_chunk = 100,
                                           .limits = {.max_requests = 4, .max_batch = 4}}}),
                   nullptr);
  models::Model& model = *runnable.model;
  std::vector<std::unique_ptr<state::SequenceState>> prompts;
  std::vector<std::unique_ptr<state::SequenceState>> choices;
  for (int i = 0; i < 3; ++i) {
    prompts.push_back(model.NewSequence());
    Step(model, *prompts.back(), 100);
    Step(model, *prompts.back(), 50);
    choices.push_back(prompts.back()->Fork());
  }
  prompts.push_back(model.NewSequence());
  choices.push_back(prompts.front()->Fork());
  SharedChunk(model, *prompts.back(), 100,
              {choices[0].get(), choices[1].get(), choices[2].get(), choices[3].get()});
  Step(model, *prompts.back(), 50);
  choices.back().reset();
  choices.back() = prompts.back()->Fork();
  Step(model, *choices.back(), 1);
  EXPECT_EQ(runnable.budget->BytesByOwner(), runnable.plan.bytes);
}

TEST_P(MemoryPlanTest, ADecodeStepWithinAChunkIsPlannedExactlyForDenseModels) {
  const auto checkpoint = formats::Checkpoint::Open(kGoldenDir / GetParam());
  if (FindExperts(*checkpoint)) {
    GTEST_SKIP() << "a Mixture-of-Experts model: an upper bound";
  }
  // What a long chunk takes within a layer is more than what the step does between two.
  for (const int64_t chunk : {2, 77}) {
    SCOPED_TRACE(chunk);
    ModelOptions options{.cpu = {.threads = 3},
                         .engine = {.max_context = 150,
                                    .prefill_chunk = chunk,
                                    .limits = {.max_requests = 4, .max_batch = 4}}};
    const uint64_t planned = PlanMemory(*checkpoint, {}, options, 0).activation_bytes;
    const auto grown = [&](uint64_t reserved) {
      MemoryBudget budget;
      const std::shared_ptr<backend::Backend> cpu = backend::MakeCpuBackend(budget, options.cpu);
      cpu->ReserveActivations(reserved);
      const uint64_t before = budget.BytesByOwner().at("activations");
      const auto model = models::BuildModel({.checkpoint = *checkpoint, .backend = cpu});
      std::vector<std::unique_ptr<state::SequenceState>> states;
      std::vector<state::SequenceState*> decoding;
      for (int i = 0; i < 4; ++i) {
        states.push_back(model->NewSequence());
        decoding.push_back(states.back().get());
      }
      SharedChunk(*model, *model->NewSequence(), chunk, decoding);
      return budget.BytesByOwner().at("activations") - before;
    };
    EXPECT_EQ(grown(planned), 0U);
    EXPECT_GT(grown(planned - 64), 0U);
    if (chunk == 2) {
      options.engine.limits.max_requests = 1;
      const uint64_t together = PlanMemory(*checkpoint, {}, options, 0).activation_bytes;
      EXPECT_LT(together, planned);
      options.engine.limits.max_batch = 1;
      EXPECT_LT(PlanMemory(*checkpoint, {}, options, 0).activation_bytes, together);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, MemoryPlanTest, testing::ValuesIn(Names()),
                         [](const auto& param_info) { return param_info.param; });

// An engine checkpoint with a sidecar, for plans that stream.
class StreamingPlanTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = scratch_.path() / "engine";
    convert::Convert({.source = kGoldenDir / "qwen3_5_moe_q4_g32", .out = dir_, .threads = 1}, {});
    std::ofstream(dir_ / "tokenizer.json") << "{}";
    checkpoint_ = formats::Checkpoint::Open(dir_);
    inventory_ = FindExperts(*checkpoint_);
  }

  MemoryPlan Plan(uint64_t ceiling_bytes, uint64_t bank_bytes = 0) {
    ModelOptions options{.checkpoint = {}, .ceiling_bytes = ceiling_bytes, .cpu = {.threads = 2}};
    options.residency = Residency::kStreaming;
    options.streaming.bank_bytes = bank_bytes;
    return PlanMemory(*checkpoint_, inventory_, options, 0);
  }

  // Wherever the scratch directory lies, in memory too.
  ModelOptions Anywhere(uint64_t ceiling_bytes = 0) const {
    ModelOptions options{.checkpoint = dir_, .ceiling_bytes = ceiling_bytes, .cpu = {.threads = 2}};
    options.streaming.read.allow_buffered = true;
    return options;
  }

  formats::ScratchDir scratch_;
  std::filesystem::path dir_;
  std::unique_ptr<formats::Checkpoint> checkpoint_;
  std::optional<ExpertInventory> inventory_;
};

TEST_F(StreamingPlanTest, StreamedLoadingBooksWhatWasPredicted) {
  ModelOptions options = Anywhere();
  options.engine.max_context = 100;
  options.residency = Residency::kStreaming;
  options.streaming.bank_bytes = inventory_->TotalBytes() / 2;
  RunnableModel runnable = LoadRunnable(PlanLoading(options), nullptr);
  const auto state = runnable.model->NewSequence();
  Step(*runnable.model, *state, 70);
  Step(*runnable.model, *state, 30);
  const auto fork = state->Fork();
  Step(*runnable.model, *fork, 1);
  EXPECT_EQ(runnable.budget->BytesByOwner(), runnable.plan.bytes);
}

TEST_F(StreamingPlanTest, StreamedRequestsThatRunTogetherBookWhatWasPredicted) {
  ModelOptions options = Anywhere();
  options.engine.max_context = 100;
  options.engine.prefill_chunk = 4;
  options.engine.limits = {.max_requests = 4, .max_batch = 4};
  options.residency = Residency::kStreaming;
  options.streaming.bank_bytes = inventory_->TotalBytes() / 2;
  RunnableModel runnable = LoadRunnable(PlanLoading(options), nullptr);
  std::vector<std::unique_ptr<state::SequenceState>> states;
  std::vector<state::SequenceState*> decoding;
  for (int i = 0; i < 4; ++i) {
    states.push_back(runnable.model->NewSequence());
    decoding.push_back(states.back().get());
  }
  const auto prompt = runnable.model->NewSequence();
  for (int i = 0; i < 20; ++i) {
    SharedChunk(*runnable.model, *prompt, 4, decoding);
  }
  const auto booked = runnable.budget->BytesByOwner();
  EXPECT_EQ(booked.at("activations"), runnable.plan.Of("activations"));
  EXPECT_LE(booked.at("kv"), runnable.plan.Of("kv"));
  EXPECT_LE(booked.at("recurrent"), runnable.plan.Of("recurrent"));
}

TEST_F(StreamingPlanTest, TheBankTakesWhatTheCeilingLeaves) {
  const uint64_t record = inventory_->layout.record_bytes;
  const MemoryPlan roomy = Plan(1ULL << 40);
  EXPECT_EQ(roomy.bank_bytes(), inventory_->TotalBytes());
  const MemoryPlan least = Plan(1);
  EXPECT_EQ(least.bank_bytes(), static_cast<uint64_t>(inventory_->top_k) * record);
  // One that is in between is used up to a record and the rounding of buffers, and never passed.
  const uint64_t ceiling = roomy.total_bytes - 5 * record;
  const MemoryPlan tight = Plan(ceiling);
  EXPECT_LT(tight.bank_bytes(), roomy.bank_bytes());
  EXPECT_GT(tight.bank_bytes(), least.bank_bytes());
  EXPECT_LE(tight.total_bytes, ceiling);
  EXPECT_GT(tight.total_bytes + record + (8ULL << 20), ceiling);
}

TEST_F(StreamingPlanTest, TheArenaTakesALayerWhereThereIsRoom) {
  const uint64_t record = inventory_->layout.record_bytes;
  const uint64_t bank = static_cast<uint64_t>(inventory_->top_k) * record;
  const uint64_t layer = static_cast<uint64_t>(inventory_->experts()) * record;
  const MemoryPlan roomy = Plan(1ULL << 40, bank);
  EXPECT_EQ(roomy.Of("expert_arena"), Buffer::BookedBytes(layer));
  const MemoryPlan tight = Plan(roomy.total_bytes - record, bank);
  EXPECT_LT(tight.Of("expert_arena"), layer);
  EXPECT_EQ(tight.Of("expert_bank"), roomy.Of("expert_bank"));
  EXPECT_LT(tight.total_bytes, roomy.total_bytes);
}

TEST_F(StreamingPlanTest, TheChunkGrowsWithTheCeiling) {
  const uint64_t bank = inventory_->TotalBytes();
  const MemoryPlan roomy = Plan(1ULL << 40, bank);
  EXPECT_EQ(roomy.prefill_chunk(), 512);  // the whole context
  EXPECT_THROW(Plan(1ULL << 40, 1), Error);
}

TEST_F(StreamingPlanTest, NoContextIsPromisedThatMemoryHasNoRoomFor) {
  const std::filesystem::path golden = kGoldenDir / "qwen3_5_moe_q4_g32";
  auto config = nlohmann::json::parse(ReadWholeFile(golden / "config.json"));
  nlohmann::json& text = config.contains("text_config") ? config["text_config"] : config;
  text["max_position_embeddings"] = 1000000;
  scratch_.Write("long/config.json", config.dump());
  std::filesystem::copy(golden / "model.safetensors", scratch_.path() / "long");
  dir_ = scratch_.path() / "long-engine";
  convert::Convert({.source = scratch_.path() / "long", .out = dir_, .threads = 1}, {});
  checkpoint_ = formats::Checkpoint::Open(dir_);
  inventory_ = FindExperts(*checkpoint_);
  ModelOptions options = Anywhere(1ULL << 40);
  options.engine.prefill_chunk = 64;
  options.residency = Residency::kStreaming;
  options.streaming.bank_bytes = inventory_->TotalBytes();
  const MemoryPlan roomy = PlanMemory(*checkpoint_, inventory_, options, 0);
  EXPECT_EQ(roomy.max_context(), 1000000);
  EXPECT_EQ(roomy.context, 32768);
  for (const int64_t context : {8192, 200 * 1024}) {
    options.engine.max_context = context;
    options.ceiling_bytes = 1ULL << 40;
    options.ceiling_bytes = PlanMemory(*checkpoint_, inventory_, options, 0).total_bytes;
    options.engine.max_context = 0;
    const MemoryPlan limited = PlanMemory(*checkpoint_, inventory_, options, 0);
    // The arena is smaller where the context is longer.
    EXPECT_NEAR(static_cast<double>(limited.max_context()), static_cast<double>(context), 1024);
    options.engine.max_context = limited.max_context();
    EXPECT_LE(PlanMemory(*checkpoint_, inventory_, options, 0).total_bytes, options.ceiling_bytes);
  }
  options.engine.max_context = 0;
  options.ceiling_bytes = 1;
  EXPECT_EQ(PlanMemory(*checkpoint_, inventory_, options, 0).max_context(), 2048);
}

TEST_F(StreamingPlanTest, WhatCannotFitIsRefusedBeforeLoading) {
  ModelOptions options = Anywhere();
  options.residency = Residency::kStreaming;
  const uint64_t least = PlanLoading(options).memory.least_bytes;
  options.ceiling_bytes = least;
  EXPECT_LE(PlanLoading(options).memory.least_bytes, least);
  options.ceiling_bytes = 1 << 20;
  try {
    PlanLoading(options);
    FAIL() << "it was not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kResourceLimit);
    const std::string text = error.Describe();
    EXPECT_NE(text.find("--memory-gb allows 0.00105 GB"), std::string::npos) << text;
    EXPECT_NE(text.find("mach check " + dir_.string()), std::string::npos) << text;
  }
  // With a longer context than fits the requests fail, not the start.
  options.engine.max_context = 100;
  options.residency = Residency::kResident;
  options.ceiling_bytes = 0;
  options.ceiling_bytes = PlanLoading(options).memory.least_bytes;
  EXPECT_NO_THROW(PlanLoading(options));
}

TEST_F(StreamingPlanTest, ResidentWhereThatFitsElseStreamed) {
  ModelOptions options = Anywhere();
  options.residency = Residency::kFitting;
  const LoadPlan roomy = PlanLoading(options);
  EXPECT_EQ(roomy.memory.options.residency, Residency::kAllInMemory);
  EXPECT_EQ(roomy.memory.bank_bytes(), 0U);
  options.ceiling_bytes = roomy.memory.total_bytes - 1;
  const LoadPlan tight = PlanLoading(options);
  EXPECT_EQ(tight.memory.options.residency, Residency::kStreaming);
  EXPECT_LE(tight.memory.total_bytes, roomy.memory.total_bytes - 1);
}

TEST_F(StreamingPlanTest, PreflightJudgesAndAdvises) {
  const MachineMemory machine{.total_bytes = 16ULL << 30, .available_bytes = 8ULL << 30};
  const Preflight report = RunPreflight(Anywhere(), machine);
  ASSERT_EQ(report.paths.size(), 3U);
  EXPECT_EQ(report.Best(), Verdict::kFits);
  EXPECT_EQ(report.experts, inventory_->experts());
  for (const auto path : {ServingPath::kStreaming, ServingPath::kResident, ServingPath::kOpenAi}) {
    EXPECT_EQ(report.Of(path).path, path);
  }
  for (const PathReport& path : report.paths) {
    EXPECT_TRUE(path.runnable) << ServingPathName(path.path) << ": " << path.reason;
    EXPECT_NE(path.advice.find("mach serve " + dir_.string()), std::string::npos);
  }
  EXPECT_NE(report.paths[0].advice.find(" --streaming --expert-cache-gb "), std::string::npos);
  EXPECT_GT(report.paths[0].plan.Of("expert_bank"), 0U);
  EXPECT_GT(report.paths[1].plan.Of("experts"), 0U);

  // Too little for anything: nothing is advised, but the least is named.
  const Preflight hopeless = RunPreflight(Anywhere(1 << 20), machine);
  EXPECT_EQ(hopeless.Best(), Verdict::kWontFit);
  for (const PathReport& path : hopeless.paths) {
    EXPECT_EQ(path.advice, "") << ServingPathName(path.path);
    EXPECT_GT(path.advised.least_bytes, 1U << 20) << ServingPathName(path.path);
  }
  // Room for the ceiling, but not much more in the machine.
  const MachineMemory small{.total_bytes = 16ULL << 30,
                            .available_bytes = report.paths[1].plan.total_bytes + (1 << 20)};
  EXPECT_EQ(RunPreflight(Anywhere(), small).paths[1].verdict, Verdict::kTight);
}

// The advised bank, read back as the command line reads it, is the planned one.
TEST_F(StreamingPlanTest, AdviceIsExactAndCanBeTyped) {
  const MachineMemory machine{.total_bytes = 16ULL << 30, .available_bytes = 8ULL << 30};
  const std::filesystem::path spaced = scratch_.path() / "my model";
  std::filesystem::rename(dir_, spaced);
  ModelOptions options = Anywhere();
  options.checkpoint = spaced;
  options.streaming.bank_bytes = inventory_->TotalBytes() / 3;
  const PathReport path = RunPreflight(options, machine).paths[0];
  EXPECT_EQ(path.plan.bank_bytes() % inventory_->layout.record_bytes, 0U);
  EXPECT_LE(path.plan.bank_bytes(), options.streaming.bank_bytes);
  EXPECT_NE(path.advice.find("'" + spaced.string() + "'"), std::string::npos) << path.advice;
  const std::string flag = "--expert-cache-gb ";
  const double gb = std::stod(path.advice.substr(path.advice.find(flag) + flag.size()));
  EXPECT_EQ(static_cast<uint64_t>(std::llround(gb * 1e9)), path.plan.bank_bytes());
}

TEST_F(StreamingPlanTest, PreflightNamesWhatIsMissing) {
  const MachineMemory machine{.total_bytes = 16ULL << 30, .available_bytes = 8ULL << 30};
  std::filesystem::remove(dir_ / "tokenizer.json");
  const Preflight report = RunPreflight(Anywhere(), machine);
  EXPECT_FALSE(report.Best());
  EXPECT_EQ(report.paths[0].missing, std::vector<std::string>{"tokenizer.json"});
  EXPECT_NE(report.paths[2].reason.find("fetch the model's tokenizer.json"), std::string::npos);

  std::filesystem::remove(dir_ / "mach.json");
  EXPECT_EQ(RunPreflight(Anywhere(), machine).paths[0].missing,
            (std::vector<std::string>{"tokenizer.json", "mach.json"}));
  std::filesystem::remove_all(dir_ / "expert_sidecar");
  EXPECT_EQ(RunPreflight(Anywhere(), machine).paths[0].missing,
            (std::vector<std::string>{"tokenizer.json", "expert_sidecar/"}));

  const Preflight unconverted =
      RunPreflight({.checkpoint = kGoldenDir / "qwen3_moe_bf16", .cpu = {.threads = 2}}, machine);
  EXPECT_EQ(unconverted.paths[0].missing,
            (std::vector<std::string>{"tokenizer.json", "expert_sidecar/"}));
  EXPECT_NE(unconverted.paths[0].reason.find("mach convert"), std::string::npos);

  const Preflight raw = RunPreflight(
      {.checkpoint = kGoldenDir / "qwen3_5_moe_bf16_hf", .cpu = {.threads = 2}}, machine);
  EXPECT_EQ(raw.left_out, (std::map<std::string, int64_t>{{"multi-token prediction head", 1},
                                                          {"vision tower", 1}}));

  const Preflight dense =
      RunPreflight({.checkpoint = kGoldenDir / "llama_f32", .cpu = {.threads = 2}}, machine);
  EXPECT_NE(dense.paths[0].reason.find("--backend openai"), std::string::npos);
  EXPECT_NE(dense.paths[1].reason.find("--backend openai"), std::string::npos);
}

TEST_F(StreamingPlanTest, PreflightReportsWhatDoesNotOpen) {
  const MachineMemory machine{.total_bytes = 16ULL << 30, .available_bytes = 8ULL << 30};
  std::filesystem::remove(dir_ / "expert_sidecar" / "layer_0001.bin");
  const Preflight report = RunPreflight(Anywhere(), machine);
  ASSERT_TRUE(report.error);
  EXPECT_FALSE(report.Best());
  for (const PathReport& path : report.paths) {
    EXPECT_FALSE(path.runnable);
    EXPECT_NE(path.reason.find("layer_0001.bin"), std::string::npos);
    EXPECT_EQ(path.missing, std::vector<std::string>{"expert_sidecar/layer_0001.bin"});
  }
  std::filesystem::remove(dir_ / "config.json");
  EXPECT_THROW(RunPreflight(Anywhere(), machine), Error);
}

}  // namespace
}  // namespace mach::loading
