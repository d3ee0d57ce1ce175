#include "grammar/call_watch.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/grammar/grammar_support.h"

namespace mach::grammar {
namespace {

class CallWatchTest : public testing::Test {
 protected:
  std::shared_ptr<const text::Tokenizer> tokenizer_ =
      Pieces({"<call>", "ll>1", "a<call>b"}, {"<|in|>", "<|out|>"});
  int32_t Id(const char* piece) { return *tokenizer_->TokenToId(piece); }
  Compiler compiler_{tokenizer_, {.end_tokens = {tokenizer_->vocab_size() - 1}}};

  std::unique_ptr<decode::Constraint> Watch(CallOpeners openers) {
    return WatchForCalls(tokenizer_, std::move(openers),
                         compiler_.Compile(Spec::Lark("start: /[0-9]+/ \";\"")))
        ->NewConstraint();
  }
  static void Say(decode::Constraint& constraint, const std::string& text) {
    for (const char c : text) {
      constraint.Accept(static_cast<unsigned char>(c));
    }
  }
};

TEST_F(CallWatchTest, TextIsFreeUntilAnOpenerAndAgainAfterTheCall) {
  const auto watch = Watch({.texts = {"<call>"}});
  decode::TokenMask mask;
  for (int call = 0; call < 2; ++call) {
    EXPECT_TRUE(!watch->FillMask(mask) || decode::InMask(mask, 'x'));
    Say(*watch, "x <cal <c ll>");
    EXPECT_TRUE(!watch->FillMask(mask) || decode::InMask(mask, 'x')) << "that was none";
    Say(*watch, "<call>");
    ASSERT_TRUE(watch->FillMask(mask));
    EXPECT_TRUE(decode::InMask(mask, '7'));
    EXPECT_FALSE(decode::InMask(mask, 'x'));
    EXPECT_EQ(watch->ValidPrefix(std::vector<int32_t>{'1', '2', 'x'}), 2U);
    Say(*watch, "12;");
    EXPECT_FALSE(watch->Done());
  }
}

TEST_F(CallWatchTest, ATokenThatGoesOnBehindAnOpenerIsNotAllowed) {
  const auto watch = Watch({.texts = {"<call>"}});
  decode::TokenMask mask;
  Say(*watch, "<ca");
  ASSERT_TRUE(watch->FillMask(mask));
  EXPECT_FALSE(decode::InMask(mask, Id("ll>1")));
  EXPECT_FALSE(decode::InMask(mask, Id("a<call>b")));
  EXPECT_TRUE(decode::InMask(mask, 'l'));
  EXPECT_TRUE(decode::InMask(mask, Id("<|in|>")));
}

TEST_F(CallWatchTest, DraftsAreFollowedIntoACall) {
  const auto watch = Watch({.tokens = {Id("<call>")}});
  EXPECT_EQ(watch->ValidPrefix(std::vector<int32_t>{'a', Id("<call>"), '1', 'x'}), 3U);
  EXPECT_EQ(watch->ValidPrefix(std::vector<int32_t>{'a', 'b'}), 2U) << "nothing was accepted";
  watch->Accept(Id("<call>"));
  EXPECT_EQ(watch->ValidPrefix(std::vector<int32_t>{'x'}), 0U);
}

TEST_F(CallWatchTest, OpenersCountOnlyBetweenTokens) {
  const auto watch =
      Watch({.texts = {" to="}, .within = {Id("<|in|>")}, .without = {Id("<|out|>")}});
  decode::TokenMask mask;
  watch->Accept(Id("<|out|>"));
  Say(*watch, "go to=x");
  EXPECT_FALSE(watch->FillMask(mask));
  watch->Accept(Id("<|in|>"));
  Say(*watch, "go to=");
  EXPECT_TRUE(watch->FillMask(mask));
}

}  // namespace
}  // namespace mach::grammar
