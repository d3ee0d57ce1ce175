// The engine's promise: a request's answer depends on the request alone. A thousand random
// schedules (requests join and leave, prompts prefill in slices with steps of decoding between
// their layers, choices fork, sequences decode in any company, drafts are right or wrong, requests
// are cancelled, memory runs out, reads fail) give each request the tokens and logprobs, to the
// last bit, of the same request alone. At the end all of that must have happened.
//
// A failure names its seed. MACH_SCHEDULE_SEED runs that one alone, MACH_SCHEDULES so many.
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/log.h"
#include "convert/convert.h"
#include "engine/local_engine.h"
#include "loading/runnable_model.h"
#include "tests/engine/engine_support.h"
#include "tests/engine/schedule_support.h"
#include "tests/formats/test_files.h"
#include "tests/support/word_tokenizer.h"

namespace mach::engine {
namespace {

using testing_support::WordTokenizer;

constexpr int64_t kContext = 100;
constexpr size_t kKinds = 40;  // of requests
constexpr uint64_t kCeiling = uint64_t{1} << 33;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int64_t kSchedules = 200;
#else
constexpr int64_t kSchedules = 1000;
#endif

int64_t FromEnvironment(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::atoll(text) : otherwise;
}

struct Setup {
  std::string checkpoint;
  loading::Residency residency;
  int64_t chunk;      // of prefill, in tokens
  int64_t schedules;  // of a thousand
};

class RandomSchedules : public testing::TestWithParam<Setup> {
 protected:
  struct Loaded {
    loading::RunnableModel runnable;
    std::unique_ptr<WordTokenizer> tokenizer;
    std::unique_ptr<Engine> engine;

    ~Loaded() { engine.reset(); }
  };

  void SetUp() override {
    ConfigureLog(LogLevel::kError, LogFormat::kText);  // reads fail on purpose
    checkpoint_ = scratch_.path() / "engine";
    convert::Convert(
        {.source = std::filesystem::path(MACH_SOURCE_DIR) / "tests/golden" / GetParam().checkpoint,
         .out = checkpoint_,
         .threads = 2},
        {});
  }

  std::unique_ptr<Loaded> Load(loading::Residency residency, LocalEngineOptions engine) {
    engine.max_context = kContext;
    loading::ModelOptions options{.checkpoint = checkpoint_,
                                  .ceiling_bytes = kCeiling,
                                  .residency = residency,
                                  .keep_heat = false,
                                  .cpu = {.threads = 1},
                                  .engine = std::move(engine)};
    if (residency == loading::Residency::kStreaming) {
      options.streaming.bank_bytes =
          5 * loading::FindExperts(*formats::Checkpoint::Open(checkpoint_))->layout.record_bytes;
      options.streaming.read.allow_buffered = true;  // the scratch directory may be in memory
      options.streaming.open_reader = [this](const DirectReaderOptions& reading) {
        return faults_.Open(reading);
      };
    }
    auto loaded = std::make_unique<Loaded>();
    loaded->runnable = loading::LoadRunnable(loading::PlanLoading(options), nullptr);
    vocab_size_ = loaded->runnable.model->shape().vocab_size;
    loaded->tokenizer = std::make_unique<WordTokenizer>(Pieces(vocab_size_));
    LocalEngineOptions planned = loaded->runnable.plan.options.engine;
    planned.end_tokens = {3, 141, 59, 26};
    loaded->engine = MakeLocalEngine(
        std::make_unique<WatchedModel>(std::move(loaded->runnable.model), happened_),
        loaded->runnable.experts.get(), *loaded->tokenizer, *loaded->runnable.budget,
        std::move(planned));
    return loaded;
  }

  // Ends the engine.
  static void ExpectNothingLeft(Loaded& loaded) {
    loaded.engine.reset();
    auto bytes = loaded.runnable.budget->BytesByOwner();
    EXPECT_EQ(bytes["kv"], 0U);
    EXPECT_EQ(bytes["recurrent"], 0U);
  }

  formats::ScratchDir scratch_;
  std::filesystem::path checkpoint_;
  ReadFaults faults_;
  int32_t vocab_size_ = 0;
  Happened happened_;
};

// A request and what it gets when nobody else is there: each choice as a request of its own, so
// that nothing is forked either.
struct Kind {
  GenerationRequest request;
  Outcome alone;
  int64_t tokens = 0;                               // of all choices
  std::map<int32_t, std::vector<int32_t>> answers;  // of its choices, as far as they were shown
};

void ExpectSameTokens(const std::vector<GeneratedToken>& got,
                      const std::vector<GeneratedToken>& want, bool whole) {
  if (whole) {
    ASSERT_EQ(got.size(), want.size());
  }
  ASSERT_LE(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].token, want[i].token);
    ASSERT_EQ(got[i].logprob, want[i].logprob);
    ASSERT_EQ(got[i].top.size(), want[i].top.size());
    for (size_t t = 0; t < got[i].top.size(); ++t) {
      ASSERT_EQ(got[i].top[t].token, want[i].top[t].token);
      ASSERT_EQ(got[i].top[t].logprob, want[i].top[t].logprob);
    }
  }
}

// All of it, or, of a request that was cut short, what there is.
void ExpectSameAnswer(const Outcome& got, const Kind& kind) {
  const Outcome& want = kind.alone;
  const bool whole = !got.error;
  EXPECT_EQ(got.events_after_the_last, 0);
  for (const auto& [choice, tokens] : got.tokens) {
    ExpectSameTokens(tokens, want.tokens.at(choice), whole);
  }
  for (const auto& [choice, text] : got.text) {
    const std::string& all = want.text.at(choice);
    EXPECT_EQ(text, whole ? all : all.substr(0, text.size()));
  }
  for (const auto& [choice, finish] : got.finish) {
    EXPECT_EQ(finish.reason, want.finish.at(choice).reason);
    EXPECT_EQ(finish.stop, want.finish.at(choice).stop);
    EXPECT_EQ(finish.generated_tokens, want.finish.at(choice).generated_tokens);
  }
  if (whole) {
    EXPECT_EQ(got.text.size(), want.text.size());
    EXPECT_EQ(got.finish.size(), want.finish.size());
    EXPECT_EQ(got.usage->completion_tokens, kind.tokens);
  }
}

std::vector<Kind> MakeKinds(Engine& engine, int32_t vocab_size) {
  Random random(2024);
  std::vector<Kind> kinds;
  for (size_t i = 0; i < kKinds; ++i) {
    Kind kind{.request = RandomRequest(random, vocab_size)};
    for (int32_t choice = 0; choice < kind.request.choices; ++choice) {
      GenerationRequest single = kind.request;
      single.choices = 1;
      single.sampling.seed = static_cast<int64_t>(static_cast<uint64_t>(*single.sampling.seed) +
                                                  static_cast<uint64_t>(choice));
      const auto sink = std::make_shared<RecordingSink>();
      const auto handle = engine.Submit(single, sink);
      const Outcome got = sink->Wait();
      EXPECT_FALSE(got.error) << got.error->what();
      kind.tokens += got.usage->completion_tokens;
      kind.alone.finish[choice] = got.finish.at(0);
      if (got.text.contains(0)) {
        kind.alone.text[choice] = got.text.at(0);
        kind.alone.tokens[choice] = got.tokens.at(0);
        for (const GeneratedToken& token : got.tokens.at(0)) {
          kind.answers[choice].push_back(token.token);
        }
      }
    }
    kinds.push_back(std::move(kind));
  }
  return kinds;
}

// What goes wrong in a schedule, at random moments.
struct Trouble {
  bool cancels = false;
  bool memory = false;
  bool reads = false;
  int64_t read_failures = 0;  // that were asked for
};

TEST_P(RandomSchedules, EachRequestGetsWhatItGetsAlone) {
  const std::vector<Kind> kinds = [&] {
    // By the scheduler of a server, from memory, the prompt in one piece, without drafts.
    const auto alone =
        Load(GetParam().residency == loading::Residency::kStreaming ? loading::Residency::kResident
                                                                    : GetParam().residency,
             {.prefill_chunk = kContext});
    return MakeKinds(*alone->engine, vocab_size_);
  }();

  uint64_t seed = 0;
  const auto scheduler = std::make_shared<RandomScheduler>();
  const auto drafter = [&](const GenerationRequest& request,
                           int32_t choice) -> std::unique_ptr<decode::Drafter> {
    const auto kind = static_cast<size_t>(std::stoul(request.id));
    Random random(seed * 1000 + kind * 10 + static_cast<uint64_t>(choice));
    const auto answer = kinds[kind].answers.find(choice);
    if (answer == kinds[kind].answers.end() || OneIn(random, 3)) {
      return nullptr;
    }
    return std::make_unique<KnowingDrafter>(answer->second, request.prompt_tokens.size(),
                                            Draw(random, 0, 4) * 25, random(), vocab_size_,
                                            happened_);
  };
  const auto load = [&] {
    return Load(GetParam().residency,
                {.prefill_chunk = GetParam().chunk,
                 .scheduler = [scheduler](const EngineView& view) { return scheduler->Next(view); },
                 .make_drafter = drafter,
                 .most_drafts = 4});
  };
  std::unique_ptr<Loaded> loaded = load();

  const int64_t only = FromEnvironment("MACH_SCHEDULE_SEED", -1);
  const int64_t count = FromEnvironment("MACH_SCHEDULES", kSchedules) * GetParam().schedules / 1000;
  std::map<ErrorCode, int64_t> cut_short;  // while they ran
  for (int64_t i = 0; i < count; ++i) {
    seed = static_cast<uint64_t>(only >= 0 ? only : i);
    SCOPED_TRACE("MACH_SCHEDULE_SEED=" + std::to_string(seed));
    Random random(seed);
    Trouble trouble{.cancels = OneIn(random, 3),
                    .memory = OneIn(random, 6),
                    .reads = loaded->runnable.experts && OneIn(random, 3)};
    if (trouble.memory) {
      // Its states have nothing yet: what they need must be had.
      ExpectNothingLeft(*loaded);
      loaded = load();
    }
    MemoryBudget& budget = *loaded->runnable.budget;
    std::vector<size_t> chosen(static_cast<size_t>(Draw(random, 1, 6)));
    std::vector<std::shared_ptr<RecordingSink>> sinks;
    std::vector<Submission> submissions;
    for (size_t& kind : chosen) {
      kind = static_cast<size_t>(Draw(random, 0, kKinds - 1));
      sinks.push_back(std::make_shared<RecordingSink>());
      submissions.push_back({kinds[kind].request, sinks.back()});
      submissions.back().request.id = std::to_string(kind);
    }
    GenerationHandles handles;
    uint64_t taken = 0;
    scheduler->Begin(random(), [&](Random& between) {
      if (trouble.cancels && OneIn(between, 20)) {
        handles[static_cast<size_t>(Draw(between, 0, static_cast<int64_t>(handles.size()) - 1))]
            ->Cancel();
      }
      if (trouble.reads && OneIn(between, 10)) {
        // Twice: a read that failed is tried again. Four times: and so is its step.
        const int64_t failures = 2 * Draw(between, 1, 2);
        faults_.Arm(failures);
        trouble.read_failures += failures;
      }
      if (taken > 0) {
        budget.Release("test", taken);
        taken = 0;
      } else if (trouble.memory && OneIn(between, 15)) {
        taken = kCeiling - budget.TotalBytes();
        budget.Book("test", taken);
      }
    });
    const auto cost = [&] {
      const auto stats = loaded->engine->Snapshot().experts;
      return stats ? ExpertCost::Of(*stats) : ExpertCost{};
    };
    const ExpertCost before = cost();
    ExpertCost charged;
    handles = loaded->engine->SubmitAll(std::move(submissions));
    scheduler->Open();
    int64_t failed_reads = 0;
    for (size_t r = 0; r < sinks.size(); ++r) {
      const Outcome got = sinks[r]->Wait();
      SCOPED_TRACE("request " + std::to_string(r) + " of kind " + std::to_string(chosen[r]));
      ExpectSameAnswer(got, kinds[chosen[r]]);
      charged += got.usage->experts;
      charged += got.usage->prefill_experts;
      if (got.error) {
        const ErrorCode code = got.error->code();
        cut_short[code] += got.usage->prefill_s > 0 ? 1 : 0;
        failed_reads += code == ErrorCode::kIo ? 1 : 0;
        EXPECT_TRUE((code == ErrorCode::kCancelled && trouble.cancels) ||
                    (code == ErrorCode::kResourceLimit && trouble.memory) ||
                    (code == ErrorCode::kIo && trouble.reads))
            << got.error->what();
      }
    }
    // A read that fails for good costs one request its answer, not its company.
    EXPECT_LE(2 * failed_reads, trouble.read_failures);
    scheduler->End();
    faults_.Arm(0);
    while (loaded->engine->Snapshot().requests_active > 0) {
      std::this_thread::yield();
    }
    if (taken > 0) {
      budget.Release("test", taken);
    }
    const ExpertCost whole = cost() - before;
    EXPECT_EQ(charged.hits, whole.hits);
    EXPECT_EQ(charged.misses, whole.misses);
    EXPECT_LE(charged.bytes_read, whole.bytes_read);  // less what nobody waited for
    EXPECT_NEAR(charged.stall_s, whole.stall_s, 1e-6);
    if (HasFailure() || only >= 0) {
      break;
    }
  }
  ExpectNothingLeft(*loaded);
  if (only < 0 && count >= 50) {
    EXPECT_GT(happened_.batches, count);
    EXPECT_GT(happened_.between_layers, count / 20);
    EXPECT_GT(happened_.partly_kept, count / 5);
    EXPECT_GT(cut_short[ErrorCode::kCancelled], count / 20);
    EXPECT_GT(cut_short[ErrorCode::kResourceLimit], count / 50);
    if (GetParam().residency == loading::Residency::kStreaming) {
      EXPECT_GT(happened_.failed_batches, count / 50);
      EXPECT_GT(cut_short[ErrorCode::kIo], count / 50);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, RandomSchedules,
    testing::Values(Setup{"qwen3_q4_g64", loading::Residency::kAllInMemory, 16, 400},
                    Setup{"qwen3_5_moe_q4_g32", loading::Residency::kResident, 16, 300},
                    Setup{"qwen3_5_moe_q4_g32", loading::Residency::kStreaming, 40, 300}),
    [](const auto& param_info) {
      const Setup& setup = param_info.param;
      return setup.checkpoint +
             (setup.residency == loading::Residency::kStreaming ? "_streamed" : "");
    });

}  // namespace
}  // namespace mach::engine
