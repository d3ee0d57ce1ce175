// Streamed experts against resident ones, through the engine: the same answer at every size of the
// bank, with prefetch, after a restart and under faults; cancellation; reads that fail.
#include <atomic>
#include <filesystem>
#include <future>
#include <limits>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "convert/convert.h"
#include "engine/local_engine.h"
#include "loading/runnable_model.h"
#include "tests/engine/engine_support.h"
#include "tests/formats/test_files.h"
#include "tests/support/faulty_reader.h"
#include "tests/support/word_tokenizer.h"

namespace mach::loading {
namespace {

using testing_support::InjectFaults;
using testing_support::ReadFault;
using testing_support::WordTokenizer;

// A tiny Mixture-of-Experts checkpoint with a sidecar, and engines over it.
class StreamingTest : public testing::TestWithParam<std::string> {
 protected:
  struct Loaded {
    RunnableModel runnable;
    std::unique_ptr<WordTokenizer> tokenizer;
    std::unique_ptr<engine::Engine> engine;

    ~Loaded() { engine.reset(); }

    engine::Outcome Run(engine::GenerationRequest request) const {
      const auto sink = std::make_shared<engine::RecordingSink>();
      const auto handle = engine->Submit(std::move(request), sink);
      return sink->Wait();
    }
  };

  void SetUp() override {
    checkpoint_ = scratch_.path() / "engine";
    convert::Convert(
        {.source = std::filesystem::path(MACH_SOURCE_DIR) / "tests/golden" / GetParam(),
         .out = checkpoint_,
         .threads = 2},
        {});
    inventory_ = FindExperts(*formats::Checkpoint::Open(checkpoint_)).value();
  }

  uint64_t record_bytes() const { return inventory_.layout.record_bytes; }

  ModelOptions Options(Residency residency) const {
    return {.checkpoint = checkpoint_,
            .residency = residency,
            .cpu = {.threads = 2},
            .engine = {.max_context = 200, .prefill_chunk = 16}};
  }
  ModelOptions Streaming(uint64_t bank_bytes) const {
    ModelOptions options = Options(Residency::kStreaming);
    options.streaming.bank_bytes = bank_bytes;
    options.streaming.read.allow_buffered = true;  // the scratch directory may be in memory
    return options;
  }
  ModelOptions Resident() const { return Options(Residency::kResident); }

  std::unique_ptr<Loaded> Load(const ModelOptions& options) const {
    auto loaded = std::make_unique<Loaded>();
    loaded->runnable = LoadRunnable(PlanLoading(options), nullptr);
    loaded->tokenizer =
        std::make_unique<WordTokenizer>(engine::Pieces(loaded->runnable.model->shape().vocab_size));
    loaded->engine = engine::MakeLocalEngine(
        std::move(loaded->runnable.model), loaded->runnable.experts.get(), *loaded->tokenizer,
        *loaded->runnable.budget, loaded->runnable.plan.options.engine);
    return loaded;
  }

  // Prompts of different lengths: some of one chunk, some of several.
  static engine::GenerationRequest Request(int64_t index, bool sampled = false) {
    engine::GenerationRequest request;
    request.id = "test";
    for (int64_t i = 0; i < 3 + 19 * index; ++i) {
      request.prompt_tokens.push_back(static_cast<int32_t>((7 * i + 13 * index) % 50));
    }
    request.sampling.temperature = sampled ? 0.8F : 0.0F;
    request.sampling.seed = 11 + index;
    request.stop.max_tokens = 24;
    return request;
  }

  std::vector<std::string> Texts(const Loaded& loaded) const {
    std::vector<std::string> texts;
    for (int64_t index = 0; index < 4; ++index) {
      for (const bool sampled : {false, true}) {
        texts.push_back(loaded.Run(Request(index, sampled)).text[0]);
      }
    }
    return texts;
  }

  formats::ScratchDir scratch_;
  std::filesystem::path checkpoint_;
  ExpertInventory inventory_;
};

TEST_P(StreamingTest, OneAnswerAtEverySizeOfTheBank) {
  const std::vector<std::string> want = Texts(*Load(Resident()));
  const uint64_t all = inventory_.TotalBytes();
  const uint64_t least = static_cast<uint64_t>(inventory_.top_k) * record_bytes();
  for (const uint64_t bank : {least, least + record_bytes(), all / 2, all, 2 * all}) {
    for (const bool prefetch : {false, true}) {
      SCOPED_TRACE("bank " + std::to_string(bank) + " prefetch " + std::to_string(prefetch));
      ModelOptions options = Streaming(bank);
      options.streaming.prefetch = prefetch;
      const auto streamed = Load(options);
      EXPECT_EQ(Texts(*streamed), want);
      const experts::ExpertStats stats = streamed->engine->Snapshot().experts.value();
      EXPECT_TRUE(stats.streaming);
      EXPECT_GT(stats.hits + stats.misses, 0);
      EXPECT_GT(stats.bytes_read, 0U);
    }
  }
}

TEST_P(StreamingTest, ChunksChangeNothing) {
  const std::vector<std::string> want = Texts(*Load(Resident()));
  for (const int64_t chunk : {1, 5, 64}) {
    ModelOptions options = Streaming(inventory_.TotalBytes() / 2);
    options.engine.prefill_chunk = chunk;
    const auto streamed = Load(options);
    EXPECT_EQ(Texts(*streamed), want) << chunk;
    // Chunks of less than 32 rows go through the bank.
    const experts::ExpertStats stats = streamed->engine->Snapshot().experts.value();
    EXPECT_EQ(stats.prefill_hits + stats.prefill_misses > 0, chunk >= 32) << chunk;
  }
}

TEST_P(StreamingTest, ARestartIsWarmAndAnswersTheSame) {
  const ModelOptions options = Streaming(inventory_.TotalBytes());
  auto first = Load(options);
  const std::vector<std::string> want = Texts(*first);
  first->engine->Shutdown(10);
  first.reset();
  ASSERT_TRUE(std::filesystem::exists(inventory_.HeatFile()));
  const auto second = Load(options);
  EXPECT_GT(second->engine->Snapshot().experts->experts_resident, 0);
  EXPECT_EQ(Texts(*second), want);
  // Without the file, or with a broken one, it starts cold and answers the same.
  formats::ScratchDir elsewhere;
  std::filesystem::resize_file(inventory_.HeatFile(), 10);
  EXPECT_EQ(Texts(*Load(options)), want);
}

TEST_P(StreamingTest, AMeasurementLeavesTheHeatMapAlone) {
  ModelOptions options = Streaming(inventory_.TotalBytes());
  options.keep_heat = false;
  auto cold = Load(options);
  Texts(*cold);
  cold->engine->Shutdown(10);
  EXPECT_FALSE(std::filesystem::exists(inventory_.HeatFile()));
  cold.reset();
  options.keep_heat = true;
  auto serving = Load(options);
  Texts(*serving);
  serving->engine->Shutdown(10);
  serving.reset();
  ASSERT_TRUE(std::filesystem::exists(inventory_.HeatFile()));
  options.keep_heat = false;
  EXPECT_EQ(Load(options)->engine->Snapshot().experts->experts_resident, 0);
}

TEST_P(StreamingTest, WhatIsReportedIsWhatTheStoreDid) {
  const auto streamed = Load(Streaming(inventory_.TotalBytes()));
  const ExpertServing& streaming = streamed->runnable.serving.value();
  EXPECT_TRUE(streaming.streaming && streaming.transient_prefill);
  EXPECT_TRUE(streaming.sidecar_present && streaming.sidecar_valid);
  EXPECT_EQ(streamed->runnable.experts->Stats().records_checked, 1);  // the probe

  const auto all = Load(Resident());
  const ExpertServing& resident = all->runnable.serving.value();
  EXPECT_FALSE(resident.streaming || resident.transient_prefill);
  EXPECT_TRUE(resident.sidecar_present && resident.sidecar_valid);
  EXPECT_EQ(static_cast<uint64_t>(all->runnable.experts->Stats().records_checked) * record_bytes(),
            inventory_.TotalBytes());

  ModelOptions without_sidecar = Resident();
  without_sidecar.checkpoint = std::filesystem::path(MACH_SOURCE_DIR) / "tests/golden" / GetParam();
  const auto packed = Load(without_sidecar);
  EXPECT_FALSE(packed->runnable.serving->sidecar_present);
  EXPECT_FALSE(packed->runnable.serving->sidecar_valid);
  for (const auto* loaded : {&streamed, &all, &packed}) {
    EXPECT_TRUE((*loaded)->runnable.serving->grouped_prefill);
  }
}

TEST_P(StreamingTest, LoadingCountsEveryByteOnce) {
  LoadProgress progress;
  const RunnableModel runnable = LoadRunnable(PlanLoading(Resident()), &progress);
  EXPECT_EQ(progress.bytes_done.load(), inventory_.TotalBytes() + runnable.plan.weight_bytes);
  EXPECT_EQ(progress.bytes_done.load(), progress.bytes_total.load());
}

// A bank may be larger than what was ever used.
TEST_P(StreamingTest, LoadingAHalfWarmBankEndsComplete) {
  ModelOptions options = Streaming(inventory_.TotalBytes());
  {
    const auto loaded = Load(options);
    engine::GenerationRequest request = Request(0);
    request.stop.max_tokens = 2;
    loaded->Run(request);
    loaded->engine->Shutdown(10);
  }
  LoadProgress progress;
  const RunnableModel runnable = LoadRunnable(PlanLoading(options), &progress);
  const int64_t warm = runnable.experts->Stats().experts_resident;
  EXPECT_GT(warm, 0);
  EXPECT_LT(static_cast<uint64_t>(warm) * record_bytes(), inventory_.TotalBytes());
  EXPECT_EQ(progress.bytes_done.load(),
            static_cast<uint64_t>(warm) * record_bytes() + runnable.plan.weight_bytes);
  EXPECT_EQ(progress.bytes_done.load(), progress.bytes_total.load());
}

TEST_P(StreamingTest, TheCacheReportedIsTheBankThatIsThere) {
  const uint64_t bank = inventory_.TotalBytes() / 2 / record_bytes() * record_bytes();
  EXPECT_EQ(Load(Streaming(bank + record_bytes() - 1))->runnable.serving->cache_bytes, bank);
  EXPECT_EQ(Load(Streaming(1ULL << 40))->runnable.serving->cache_bytes, inventory_.TotalBytes());
}

TEST_P(StreamingTest, FaultsThatARetryMendsChangeNothing) {
  const std::vector<std::string> want = Texts(*Load(Resident()));
  ModelOptions options = Streaming(static_cast<uint64_t>(inventory_.top_k) * record_bytes());
  options.streaming.open_reader = [](const DirectReaderOptions& reading) {
    // What failed is read well the second time, which has the tag of the first.
    const auto failed = std::make_shared<std::set<uint64_t>>();
    return InjectFaults(OpenDirectReader(reading),
                        [failed](uint64_t index, const ReadRequest& request) {
                          if (failed->erase(request.tag) > 0) {
                            return ReadFault::kNone;
                          }
                          if (index % 8 == 3 || index % 8 == 5) {
                            failed->insert(request.tag);
                          }
                          switch (index % 8) {
                            case 1:
                              return ReadFault::kLate;
                            case 3:
                              return ReadFault::kFail;
                            case 5:
                              return ReadFault::kShort;
                            default:
                              return ReadFault::kNone;
                          }
                        });
  };
  EXPECT_EQ(Texts(*Load(options)), want);
}

TEST_P(StreamingTest, AReadThatFailsFailsOneRequest) {
  constexpr int64_t kAll = std::numeric_limits<int64_t>::max();
  const auto good_reads = std::make_shared<std::atomic<int64_t>>(kAll);
  ModelOptions options = Streaming(static_cast<uint64_t>(inventory_.top_k) * record_bytes());
  options.streaming.open_reader = [good_reads](const DirectReaderOptions& reading) {
    return InjectFaults(OpenDirectReader(reading), [good_reads](uint64_t, const ReadRequest&) {
      return good_reads->fetch_sub(1) <= 0 ? ReadFault::kFail : ReadFault::kNone;
    });
  };
  const auto loaded = Load(options);
  const std::string want = loaded->Run(Request(2)).text[0];
  good_reads->store(0);
  for (const int64_t index : {0, 2}) {  // in decode steps and in chunks of prefill
    const engine::Outcome outcome = loaded->Run(Request(index));
    ASSERT_TRUE(outcome.error);
    EXPECT_EQ(outcome.error->code(), ErrorCode::kIo);
    EXPECT_THAT(outcome.error->what(), testing::HasSubstr("layer_"));
    EXPECT_THAT(outcome.error->what(), testing::HasSubstr("offset"));
    EXPECT_GT(outcome.usage->prefill_s, 0);
    EXPECT_GT(outcome.usage->prefill_experts.misses, 0);
    EXPECT_EQ(outcome.usage->experts.misses, 0);
  }
  // What was read before the failure is the request's all the same.
  const int64_t top_k = inventory_.top_k;
  good_reads->store(top_k);
  const engine::Outcome outcome = loaded->Run(Request(0));
  ASSERT_TRUE(outcome.error);
  EXPECT_GE(outcome.usage->prefill_experts.bytes_read,
            static_cast<uint64_t>(top_k) * record_bytes());
  EXPECT_EQ(loaded->engine->Snapshot().requests_failed, 3);
  good_reads->store(kAll);
  EXPECT_EQ(loaded->Run(Request(2)).text[0], want);
}

TEST_P(StreamingTest, CancelsWhileExpertsAreRead) {
  // Cancels from inside a read, so that inference stands in the middle of a layer.
  struct Trigger {
    std::atomic<int64_t> reads_left{-1};
    std::atomic<engine::GenerationHandle*> handle{nullptr};
  };
  const auto trigger = std::make_shared<Trigger>();
  ModelOptions options = Streaming(static_cast<uint64_t>(inventory_.top_k) * record_bytes());
  options.streaming.open_reader = [trigger](const DirectReaderOptions& reading) {
    return InjectFaults(OpenDirectReader(reading), [trigger](uint64_t, const ReadRequest&) {
      if (trigger->reads_left.fetch_sub(1) == 0) {
        trigger->handle.load()->Cancel();
      }
      return ReadFault::kNone;
    });
  };
  const auto loaded = Load(options);
  const std::string want = loaded->Run(Request(3)).text[0];
  for (const int64_t reads : {0, 20, 60}) {  // in prefill, and in decode
    // The request waits behind another until its handle is known to the trigger.
    std::promise<void> release;
    const auto holder = std::make_shared<engine::RecordingSink>();
    std::once_flag once;
    holder->on_delta = [&] { std::call_once(once, [&] { release.get_future().wait(); }); };
    const auto first = loaded->engine->Submit(Request(0), holder);
    const auto sink = std::make_shared<engine::RecordingSink>();
    engine::GenerationRequest request = Request(3, /*sampled=*/true);
    request.stop.max_tokens = 100;
    const auto handle = loaded->engine->Submit(std::move(request), sink);
    trigger->handle.store(handle.get());
    trigger->reads_left.store(reads);
    first->Cancel();
    release.set_value();
    EXPECT_TRUE(holder->Wait().error);
    const engine::Outcome outcome = sink->Wait();
    ASSERT_TRUE(outcome.error) << reads;
    EXPECT_EQ(outcome.error->code(), ErrorCode::kCancelled);
    EXPECT_GT(outcome.usage->prefill_s, 0);
    EXPECT_GT(outcome.usage->prefill_experts.misses, 0);
    trigger->reads_left.store(-1);
    EXPECT_EQ(loaded->Run(Request(3)).text[0], want) << reads;
  }
}

TEST_P(StreamingTest, UsageSaysWhatTheAnswerCost) {
  const auto small = Load(Streaming(static_cast<uint64_t>(inventory_.top_k) * record_bytes()));
  const engine::Usage cold = small->Run(Request(1)).usage.value();
  EXPECT_GT(cold.experts.misses, 0);
  EXPECT_GE(cold.experts.bytes_read, static_cast<uint64_t>(cold.experts.misses) * record_bytes());
  EXPECT_GE(cold.experts.stall_s, 0);
  EXPECT_GT(cold.prefill_experts.misses, 0);
  EXPECT_GT(cold.prefill_experts.bytes_read, 0U);
  // Nothing is counted twice or left out.
  const experts::ExpertStats stats = small->engine->Snapshot().experts.value();
  EXPECT_EQ(cold.experts.misses + cold.prefill_experts.misses, stats.misses + stats.prefill_misses);
  EXPECT_EQ(cold.experts.hits + cold.prefill_experts.hits, stats.hits + stats.prefill_hits);

  const auto large = Load(Streaming(inventory_.TotalBytes()));
  large->Run(Request(0));
  large->Run(Request(0));
  const engine::Usage warm = large->Run(Request(0)).usage.value();
  EXPECT_EQ(warm.experts.misses, 0);
  EXPECT_EQ(warm.experts.bytes_read, 0U);
  EXPECT_EQ(warm.prefill_experts.bytes_read, 0U);
  EXPECT_GT(warm.experts.hits, 0);

  const engine::Usage resident = Load(Resident())->Run(Request(0)).usage.value();
  EXPECT_EQ(resident.experts.misses, 0);
  EXPECT_EQ(resident.experts.bytes_read, 0U);
}

INSTANTIATE_TEST_SUITE_P(All, StreamingTest,
                         testing::Values("qwen3_5_moe_q4_g32", "qwen3_5_moe_bf16",
                                         "qwen3_moe_q4_g64", "qwen3_moe_bf16_hf"),
                         [](const auto& param_info) { return param_info.param; });

}  // namespace
}  // namespace mach::loading
