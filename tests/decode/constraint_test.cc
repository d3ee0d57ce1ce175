#include "decode/constraint.h"

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "decode/after_token.h"
#include "decode/token_chooser.h"
#include "tests/support/word_tokenizer.h"

namespace mach::decode {
namespace {

// Allows the tokens of a list, position by position; then only the end, 0.
class Script final : public Constraint {
 public:
  explicit Script(std::vector<std::vector<int32_t>> steps) : steps_(std::move(steps)) {}

  bool FillMask(TokenMask& mask) override {
    mask.assign(4, 0);
    for (const int32_t token : Done() ? std::vector<int32_t>{0} : steps_[at_]) {
      mask[static_cast<size_t>(token) / 32] |= 1U << (static_cast<size_t>(token) % 32);
    }
    return true;
  }
  void Accept(int32_t token) override {
    accepted.push_back(token);
    ++at_;
  }
  size_t ValidPrefix(std::span<const int32_t> tokens) override {
    return std::min(tokens.size(), steps_.size() - at_);
  }
  std::vector<int32_t> Forced() override { return {}; }
  bool Done() override { return at_ >= steps_.size(); }

  std::vector<int32_t> accepted;

 private:
  std::vector<std::vector<int32_t>> steps_;
  size_t at_ = 0;
};

TEST(ApplyMask, LeavesWhatIsAllowed) {
  for (const size_t size : {1U, 31U, 32U, 33U, 100U, 128U}) {
    std::vector<float> logits(size);
    for (size_t i = 0; i < size; ++i) {
      logits[i] = static_cast<float>(i) - 3;
    }
    const TokenMask mask = {0xFFFFFFFF, 0x80000001, 0};
    std::vector<float> masked = logits;
    ApplyMask(mask, masked);
    for (size_t i = 0; i < size; ++i) {
      if (InMask(mask, static_cast<int32_t>(i))) {
        EXPECT_EQ(masked[i], logits[i]) << i;
      } else {
        EXPECT_EQ(masked[i], -std::numeric_limits<float>::infinity()) << i;
      }
    }
  }
}

TEST(AllowsOther, LooksBeyondTheGivenTokens) {
  const TokenMask mask = {0, 0x5};
  EXPECT_TRUE(AllowsOther(mask, std::vector<int32_t>{32}));
  EXPECT_FALSE(AllowsOther(mask, std::vector<int32_t>{32, 34, 1}));
  EXPECT_FALSE(AllowsOther(TokenMask{0, 0}, {}));
}

ChooserOptions With(std::shared_ptr<Constraint> constraint) {
  ChooserOptions options;
  options.sampling.temperature = 0;
  options.constraint = std::move(constraint);
  return options;
}

TEST(TokenChooserConstraint, NoBiasBringsBackWhatItDoesNotAllow) {
  const auto script = std::make_shared<Script>(std::vector<std::vector<int32_t>>{{1, 2}, {3}});
  ChooserOptions options = With(script);
  options.sampling.logit_bias = {{4, 100.0F}, {2, 1.0F}};
  options.sampling.repetition_penalty = 2;
  TokenChooser chooser(options, std::vector<int32_t>{1});
  const std::vector<float> logits = {9, 5, 4.5F, -7, 8};
  EXPECT_EQ(chooser.Choose(logits).token, 2);
  EXPECT_EQ(chooser.Choose(logits).token, 2) << "choosing moves nothing";
  chooser.Accept(2);
  EXPECT_EQ(chooser.Choose(logits).token, 3);
  chooser.Accept(3);
  EXPECT_EQ(chooser.Choose(logits).token, 0);
  EXPECT_EQ(script->accepted, (std::vector<int32_t>{2, 3}));
}

TEST(TokenChooserConstraint, BansGiveWayWhereNothingElseIsAllowed) {
  ChooserOptions options =
      With(std::make_shared<Script>(std::vector<std::vector<int32_t>>{{0, 1}}));
  options.banned = {0};
  options.banned_until = 10;
  TokenChooser chooser(options, {});
  const std::vector<float> logits = {9, 5, 4};
  EXPECT_EQ(chooser.Choose(logits).token, 1);
  chooser.Accept(1);
  EXPECT_EQ(chooser.Choose(logits).token, 0) << "the text can only end";
}

TEST(AfterToken, BeginsBehindAToken) {
  AfterToken after(std::make_unique<Script>(std::vector<std::vector<int32_t>>{{1}}),
                   {.tokens = {7}});
  TokenMask mask;
  EXPECT_FALSE(after.FillMask(mask));
  EXPECT_EQ(after.ValidPrefix(std::vector<int32_t>{5, 7, 1, 2}), 3U);
  after.Accept(5);
  EXPECT_FALSE(after.Done());
  after.Accept(7);
  ASSERT_TRUE(after.FillMask(mask));
  EXPECT_TRUE(InMask(mask, 1));
  after.Accept(1);
  EXPECT_TRUE(after.Done());
}

TEST(AfterToken, ATokenCanBePartOfWhatBegins) {
  auto script = std::make_unique<Script>(std::vector<std::vector<int32_t>>{{7}, {1}});
  Script* const seen = script.get();
  AfterToken after(std::move(script), {.included = {7}});
  EXPECT_EQ(after.ValidPrefix(std::vector<int32_t>{5, 7, 1, 2}), 3U);
  after.Accept(5);
  after.Accept(7);
  EXPECT_EQ(seen->accepted, std::vector<int32_t>{7});
}

TEST(AfterToken, BeginsBehindATextThatTokensSpell) {
  const testing_support::WordTokenizer tokenizer({"<", "/th", "ink>", "x", "/think>\n"});
  for (const std::vector<int32_t>& spelled :
       {std::vector<int32_t>{0, 1, 2}, std::vector<int32_t>{0, 4}}) {
    AfterToken after(std::make_unique<Script>(std::vector<std::vector<int32_t>>{{3}}),
                     {.texts = {"</think>"}}, &tokenizer);
    TokenMask mask;
    for (const int32_t token : {0, 1, 3, 2, 3}) {
      after.Accept(token);
      EXPECT_FALSE(after.FillMask(mask));
    }
    for (const int32_t token : spelled) {
      EXPECT_FALSE(after.FillMask(mask));
      after.Accept(token);
    }
    EXPECT_TRUE(after.FillMask(mask));
  }
}

}  // namespace
}  // namespace mach::decode
