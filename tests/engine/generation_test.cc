// One choice on scripted logits: which tokens' logprobs go out with which text.
#include "engine/generation.h"

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

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
};

// Generates the bytes of `output` one token each.
CollectingSink Generate(const std::string& output, const std::string& stop,
                        CollectingSink sink = {}) {
  std::vector<std::string> pieces;
  for (int byte = 0; byte < 256; ++byte) {
    pieces.emplace_back(1, static_cast<char>(byte));
  }
  const testing_support::WordTokenizer tokenizer(pieces);
  GenerationRequest request;
  request.prompt_tokens = {'a'};
  request.sampling.temperature = 0;
  request.stop.max_tokens = static_cast<int64_t>(output.size());
  request.stop.strings = {stop};
  request.logprobs = true;
  const std::vector<int32_t> end_tokens;
  Generation generation(request, 0, 0, tokenizer, end_tokens);
  for (const char c : output) {
    std::vector<float> logits(256, 0.0F);
    logits[static_cast<uint8_t>(c)] = 10;
    if (!generation.Step(logits, sink)) {
      break;
    }
  }
  return sink;
}

TEST(Generation, AStopStringTakesThePartsOfItsCharactersWithIt) {
  CollectingSink sink = Generate("ab\u00e9!", "\u00e9");
  EXPECT_EQ(sink.text, "ab");
  EXPECT_EQ(sink.tokens, "ab");
  sink = Generate("ab\U0001F600x", "\U0001F600");
  EXPECT_EQ(sink.tokens, "ab");
  sink = Generate("a\U0001F600\u00e9x", "\u00e9");
  EXPECT_EQ(sink.text, "a\U0001F600");
  EXPECT_EQ(sink.tokens, sink.text);
}

TEST(Generation, WithoutAStopEveryTokenGoesOut) {
  for (const std::string output : {"a\u00e9\U0001F600z", "ab\xF0\x9F", "\x80\xFFz\xC3", "\xC3z"}) {
    EXPECT_EQ(Generate(output, "never").tokens, output);
  }
}

TEST(Generation, TheSinkEndsItWithTheDeltaThatWasEnough) {
  CollectingSink wants_three;
  wants_three.enough = 3;
  CollectingSink sink = Generate("abcdef", "never", wants_three);
  EXPECT_EQ(sink.text, "abc");
  EXPECT_EQ(sink.finish.reason, FinishReason::kEnough);
  EXPECT_EQ(sink.finish.generated_tokens, 3);
  // An answer that was enough was not cut off, also where its last text came out at the limit.
  EXPECT_EQ(Generate("abc", "never", wants_three).finish.reason, FinishReason::kEnough);
  EXPECT_EQ(Generate("abc", "cd", wants_three).finish.reason, FinishReason::kEnough);
  EXPECT_EQ(Generate("ab", "never", wants_three).finish.reason, FinishReason::kLength);
  EXPECT_EQ(Generate("abcdef", "bc", wants_three).finish.reason, FinishReason::kStop);
}

}  // namespace
}  // namespace mach::engine
