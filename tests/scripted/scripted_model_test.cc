#include "tests/scripted/scripted_model.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "backend/cpu/cpu_backend.h"
#include "engine/local_engine.h"
#include "platform/file.h"
#include "tests/engine/engine_support.h"

namespace mach::testing {
namespace {

constexpr char kScript[] = R"({"rules": [
  {"last": "hello", "nth": 2, "text": "Once more."},
  {"last": "hello", "reasoning": "A greeting.", "text": "Grüße 🚀"},
  {"after_tool": true, "text": "It is done."},
  {"contains": ["alpha", "beta"], "lacks": "gamma", "text": "both"}]})";

class ScriptedModelTest : public ::testing::Test {
 protected:
  ScriptedModelTest() {
    const std::string path = std::string(MACH_SOURCE_DIR) + "/tests/scripted/tokenizer.json";
    tokenizer_ = text::Tokenizer::FromJson(ReadWholeFile(path), path);
    end_ = *tokenizer_->TokenToId("<|im_end|>");
    auto model =
        MakeScriptedModel(script_, *tokenizer_, backend::MakeCpuBackend(budget_, {.threads = 1}),
                          {.max_context = 1000,
                           .end_token = end_,
                           .message_token = *tokenizer_->TokenToId("<|im_start|>")});
    engine_ = engine::MakeLocalEngine(std::move(model), nullptr, *tokenizer_, budget_,
                                      {.max_context = 1000,
                                       .prefill_chunk = 8,
                                       .end_tokens = {end_},
                                       .limits = {.max_requests = 4, .max_batch = 4}});
  }

  engine::GenerationRequest Request(std::string_view message, std::string_view head = "") {
    engine::GenerationRequest request;
    request.id = "test";
    request.prompt_tokens =
        tokenizer_->Encode("<|im_start|>user\n" + std::string(message) +
                               "<|im_end|>\n<|im_start|>assistant\n" + std::string(head),
                           false);
    request.stop.max_tokens = 100;
    return request;
  }

  engine::Outcome Run(engine::GenerationRequest request) {
    const auto sink = std::make_shared<engine::RecordingSink>();
    const auto handle = engine_->Submit(std::move(request), sink);
    return sink->Wait();
  }
  std::string Say(engine::GenerationRequest request) { return Run(std::move(request)).text[0]; }

  MemoryBudget budget_;
  Script script_{kScript, "script"};
  std::unique_ptr<text::Tokenizer> tokenizer_;
  int32_t end_ = 0;
  std::unique_ptr<engine::Engine> engine_;
};

TEST_F(ScriptedModelTest, FirstRuleThatFitsSpeaks) {
  EXPECT_EQ(Say(Request("hello")), "Grüße 🚀");
  EXPECT_EQ(Say(Request("hello")), "Once more.");
  EXPECT_EQ(Say(Request("hello", "<think>\n")), "A greeting.\n</think>\n\nGrüße 🚀");
  EXPECT_EQ(Say(Request("beta, alpha")), "both");
  EXPECT_EQ(Say(Request("alpha, beta, gamma")), "The script has no reply to this.");
  EXPECT_EQ(Say(Request("<tool_response>\n1\n</tool_response>")), "It is done.");
}

TEST_F(ScriptedModelTest, ChoicesAndTemperatureChangeNothing) {
  engine::GenerationRequest request = Request("alpha beta");
  request.choices = 3;
  request.sampling.temperature = 2;
  request.logprobs = true;
  engine::Outcome outcome = Run(request);
  for (int32_t choice = 0; choice < 3; ++choice) {
    EXPECT_EQ(outcome.text[choice], "both");
    for (const engine::GeneratedToken& token : outcome.tokens[choice]) {
      EXPECT_GT(token.logprob, -0.01);
    }
  }
}

// What is masked is written with the tokens that begin it.
TEST_F(ScriptedModelTest, StaysNearItsScriptWhereTokensAreMasked) {
  engine::GenerationRequest request = Request("hello", "<think>\n");
  for (int32_t id = 0; id < tokenizer_->vocab_size(); ++id) {
    if (!tokenizer_->IsAdded(id) && tokenizer_->TokenBytes(id).size() > 1) {
      request.sampling.logit_bias.emplace_back(id, -1000.0F);
    }
  }
  request.sampling.temperature = 0;
  EXPECT_EQ(Say(request), "A greeting.\n</think>\n\nGrüße 🚀");
}

TEST_F(ScriptedModelTest, StartsAgainWhereItMayNotEnd) {
  engine::GenerationRequest request = Request("alpha beta");
  request.stop.min_tokens = 7;
  const std::string text = Say(request);
  EXPECT_TRUE(text.starts_with("bothboth")) << text;
  request = Request("alpha beta");
  request.stop.ignore_eos = true;
  request.stop.max_tokens = 7;
  const engine::Outcome outcome = Run(request);
  EXPECT_EQ(outcome.finish.at(0).reason, engine::FinishReason::kLength);
}

TEST(ScriptTest, WrongScriptsAreRefused) {
  EXPECT_THROW(Script("{", "script"), Error);
  EXPECT_THROW(Script(R"({"rules": [{"texts": "a"}]})", "script"), Error);
  EXPECT_THROW(Script(R"({"rules": [{"text": 1}]})", "script"), Error);
}

}  // namespace
}  // namespace mach::testing
