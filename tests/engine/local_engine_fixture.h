// An engine over a tiny real model, for tests that do not care which.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <utility>

#include <gtest/gtest.h>

#include "backend/cpu/cpu_backend.h"
#include "engine/local_engine.h"
#include "formats/checkpoint.h"
#include "models/loader.h"
#include "tests/engine/engine_support.h"
#include "tests/support/word_tokenizer.h"

namespace mach::engine {

class LocalEngineTest : public testing::Test {
 protected:
  using ModelWrapper =
      std::function<std::unique_ptr<models::Model>(std::unique_ptr<models::Model>)>;

  void SetUp() override { Start({.max_context = 200, .prefill_chunk = 16, .max_queue = 8}); }

  // `wrap` (may be empty) stands between the model and the engine, to which `experts` is the store
  // of a model that uses one.
  void Start(LocalEngineOptions options, const ModelWrapper& wrap = {},
             experts::ExpertStore* experts = nullptr) {
    engine_.reset();
    checkpoint_ = formats::Checkpoint::Open(std::filesystem::path(MACH_SOURCE_DIR) /
                                            "tests/golden/qwen3_q4_g64");
    std::shared_ptr<backend::Backend> backend = backend::MakeCpuBackend(budget_, {.threads = 2});
    auto model = models::BuildModel({.checkpoint = *checkpoint_, .backend = backend});
    if (wrap) {
      model = wrap(std::move(model));
    }
    tokenizer_ =
        std::make_unique<testing_support::WordTokenizer>(Pieces(model->shape().vocab_size));
    engine_ = MakeLocalEngine(std::move(model), experts, *tokenizer_, budget_, std::move(options));
  }

  static GenerationRequest Request(int64_t max_tokens, float temperature = 0) {
    GenerationRequest request;
    request.id = "test";
    request.prompt_tokens = {5, 9, 1, 33, 7};
    request.sampling.temperature = temperature;
    request.stop.max_tokens = max_tokens;
    return request;
  }

  Outcome Run(GenerationRequest request) {
    const auto sink = std::make_shared<RecordingSink>();
    const auto handle = engine_->Submit(std::move(request), sink);
    return sink->Wait();
  }

  static constexpr uint64_t kCeiling = uint64_t{16} << 30;
  MemoryBudget budget_{kCeiling};
  std::unique_ptr<formats::Checkpoint> checkpoint_;
  std::unique_ptr<testing_support::WordTokenizer> tokenizer_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace mach::engine
