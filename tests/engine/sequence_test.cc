// One choice on scripted logits: which tokens' logprobs go out with which text, how it ends, and
// what verified drafts leave of a step.
#include "engine/sequence.h"

#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "backend/cpu/cpu_backend.h"
#include "tests/support/word_tokenizer.h"

namespace mach::engine {
namespace {

class CollectingSink : public GenerationSink {
 public:
  Flow OnDelta(Delta delta) override {
    text += decode::JoinPieces(delta.pieces, /*with_special=*/false);
    for (const GeneratedToken& token : delta.tokens) {
      tokens += token.bytes;
    }
    return text.size() < enough ? Flow::kGoOn : Flow::kStop;
  }
  void OnFinish(Finish end) override { finish = std::move(end); }
  void OnDone(const Usage& /*usage*/) override {}
  void OnError(const Error& /*error*/) override {}

  std::string text;
  std::string tokens;
  Finish finish;
  size_t enough = std::numeric_limits<size_t>::max();  // ends the choice with so much text
  size_t steps = 0;
};

// Drafts the bytes of a text, whatever was generated before.
class TextDrafter final : public decode::Drafter {
 public:
  explicit TextDrafter(std::string text) : text_(std::move(text)) {}
  void Observe(std::span<const int32_t> tokens) override { seen_ += tokens.size(); }
  std::vector<int32_t> Propose(int64_t most) override {
    std::vector<int32_t> drafts;
    const size_t at = seen_ - 1;  // the prompt is one token
    for (size_t i = 0; at + i < text_.size() && static_cast<int64_t>(i) < most; ++i) {
      drafts.push_back(static_cast<uint8_t>(text_[at + i]));
    }
    return drafts;
  }

 private:
  const std::string text_;
  size_t seen_ = 0;
};

// Generates the bytes of `output` one token each, verifying at most `most_drafts` bytes of
// `drafted` with each.
CollectingSink Generate(const std::string& output, const std::string& stop,
                        CollectingSink sink = {}, const std::string& drafted = "",
                        int64_t most_drafts = 0) {
  constexpr int32_t kVocab = 256;
  std::vector<std::string> pieces;
  for (int byte = 0; byte < kVocab; ++byte) {
    pieces.emplace_back(1, static_cast<char>(byte));
  }
  const testing_support::WordTokenizer tokenizer(pieces);
  MemoryBudget budget;
  const auto backend = backend::MakeCpuBackend(budget, {.threads = 1});
  const auto pool = backend->NewKvPool({.layers = 1, .kv_heads = 1, .head_dim = 16});
  GenerationRequest request;
  request.prompt_tokens = {'a'};
  request.sampling.temperature = 0;
  request.stop.max_tokens = static_cast<int64_t>(output.size());
  request.stop.strings = {stop};
  request.logprobs = true;
  const std::vector<int32_t> end_tokens;
  Sequence sequence(request, 0, 0,
                    std::make_unique<state::SequenceState>(pool->NewStore(), nullptr),
                    std::make_unique<TextDrafter>(drafted), tokenizer, end_tokens, sink);
  while (!sequence.ended()) {
    // The model says `output`, whatever it is given.
    const size_t rows = sequence.rows().size();
    std::vector<float> logits(rows * kVocab, 0.0F);
    for (size_t row = 0; row < rows; ++row) {
      const size_t at = static_cast<size_t>(sequence.tokens()) + row;
      logits[row * kVocab + static_cast<uint8_t>(at < output.size() ? output[at] : 0)] = 10;
    }
    sequence.state().Prepare(static_cast<int64_t>(rows), false);
    sequence.state().Commit();
    sequence.Verify(logits);
    ++sink.steps;
    if (!sequence.ended()) {
      EXPECT_EQ(sequence.state().length(), sequence.tokens());  // and the prompt, but the last one
      sequence.Draft(most_drafts, kVocab);
    }
  }
  return sink;
}

TEST(Sequence, AStopStringTakesThePartsOfItsCharactersWithIt) {
  CollectingSink sink = Generate("ab\u00e9!", "\u00e9");
  EXPECT_EQ(sink.text, "ab");
  EXPECT_EQ(sink.tokens, "ab");
  sink = Generate("ab\U0001F600x", "\U0001F600");
  EXPECT_EQ(sink.tokens, "ab");
  sink = Generate("a\U0001F600\u00e9x", "\u00e9");
  EXPECT_EQ(sink.text, "a\U0001F600");
  EXPECT_EQ(sink.tokens, sink.text);
}

TEST(Sequence, WithoutAStopEveryTokenGoesOut) {
  for (const std::string output : {"a\u00e9\U0001F600z", "ab\xF0\x9F", "\x80\xFFz\xC3", "\xC3z"}) {
    EXPECT_EQ(Generate(output, "never").tokens, output);
  }
}

TEST(Sequence, TheSinkEndsItWithTheDeltaThatWasEnough) {
  CollectingSink wants_three;
  wants_three.enough = 3;
  for (const int64_t drafts : {0, 5}) {
    const auto generate = [&](const std::string& output, const std::string& stop) {
      return Generate(output, stop, wants_three, output, drafts);
    };
    const CollectingSink sink = generate("abcdef", "never");
    EXPECT_EQ(sink.text, "abc");
    EXPECT_EQ(sink.finish.reason, FinishReason::kEnough);
    EXPECT_EQ(sink.finish.generated_tokens, 3);
    // An answer that was enough was not cut off, also where its last text came out at the limit.
    EXPECT_EQ(generate("abc", "never").finish.reason, FinishReason::kEnough);
    EXPECT_EQ(generate("abc", "cd").finish.reason, FinishReason::kEnough);
    EXPECT_EQ(generate("ab", "never").finish.reason, FinishReason::kLength);
    EXPECT_EQ(generate("abcdef", "bc").finish.reason, FinishReason::kStop);
  }
}

TEST(Sequence, DraftsThatAreRightSaveSteps) {
  const std::string output = "abcdefghij";
  EXPECT_EQ(Generate(output, "never", {}, output, 0).steps, 10U);
  const CollectingSink drafted = Generate(output, "never", {}, output, 3);
  EXPECT_EQ(drafted.text, output);
  EXPECT_EQ(drafted.steps, 4U);  // one token, then four at a time, of which the last step has one
  EXPECT_EQ(drafted.finish.generated_tokens, 10);
}

TEST(Sequence, AWrongDraftEndsTheStepBeforeIt) {
  const std::string output = "abcdefghij";
  for (const std::string drafts : {"aXcdefghij", "abcdXfghij", "XXXXXXXXXX", "abc"}) {
    for (int64_t most = 1; most <= 12; ++most) {
      const CollectingSink sink = Generate(output, "never", {}, drafts, most);
      EXPECT_EQ(sink.text, output) << drafts << " " << most;
      EXPECT_EQ(sink.tokens, output);
      EXPECT_EQ(sink.finish.reason, FinishReason::kLength);
    }
  }
}

TEST(Sequence, NothingIsTakenBehindAStop) {
  const CollectingSink sink = Generate("abcdefghij", "de", {}, "abcdefghij", 8);
  EXPECT_EQ(sink.text, "abc");
  EXPECT_EQ(sink.finish.generated_tokens, 5);
  EXPECT_EQ(sink.finish.reason, FinishReason::kStop);
}

}  // namespace
}  // namespace mach::engine
