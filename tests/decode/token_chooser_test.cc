#include "decode/token_chooser.h"

#include <vector>

#include <gtest/gtest.h>

namespace mach::decode {
namespace {

std::vector<float> Logits() {
  return {0.0F, 3.0F, 1.0F, 2.0F};
}

TEST(TokenChooser, OnlyWhatIsAcceptedChangesAnything) {
  const std::vector<int32_t> prompt = {0};
  ChooserOptions options;
  options.sampling.temperature = 0;
  options.sampling.frequency_penalty = 1.5F;
  TokenChooser chooser(options, prompt);
  const std::vector<float> logits = Logits();
  EXPECT_EQ(chooser.Choose(logits).token, 1);
  EXPECT_EQ(chooser.Choose(logits).token, 1) << "asking again penalises nothing";
  EXPECT_EQ(logits, Logits());
  chooser.Accept(1);
  EXPECT_EQ(chooser.Choose(logits).token, 3);
  EXPECT_EQ(chooser.accepted(), 1);
}

TEST(TokenChooser, ADrawDependsOnTheTokensBeforeIt) {
  ChooserOptions options;
  options.seed = 5;
  TokenChooser asked_often(options, {});
  TokenChooser asked_once(options, {});
  const std::vector<float> logits(50, 0.0F);
  for (int position = 0; position < 20; ++position) {
    for (int again = 0; again < position % 3; ++again) {
      asked_often.Choose(logits);
    }
    const int32_t token = asked_once.Choose(logits).token;
    EXPECT_EQ(asked_often.Choose(logits).token, token);
    asked_often.Accept(token);
    asked_once.Accept(token);
  }
}

TEST(TokenChooser, BansEndWithTheTokensTheyWereFor) {
  ChooserOptions options;
  options.sampling.temperature = 0;
  options.banned = {1, 3};
  options.banned_until = 2;
  TokenChooser chooser(options, {});
  const std::vector<float> logits = Logits();
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(chooser.Choose(logits).token, 2);
    chooser.Accept(2);
  }
  EXPECT_EQ(chooser.Choose(logits).token, 1);
}

TEST(TokenChooser, LogprobsAreOfTheModelsOwnDistribution) {
  ChooserOptions options;
  options.sampling.temperature = 0;
  options.sampling.logit_bias = {{2, 100.0F}};
  EXPECT_TRUE(TokenChooser(options, {}).Choose(Logits()).top.empty());
  options.top_logprobs = 2;
  const ChosenToken chosen = TokenChooser(options, {}).Choose(Logits());
  EXPECT_EQ(chosen.token, 2);
  ASSERT_EQ(chosen.top.size(), 2U);
  EXPECT_EQ(chosen.top[0].token, 1);
  EXPECT_EQ(chosen.top[1].token, 3);
  EXPECT_NEAR(chosen.top[0].logprob - chosen.logprob, 2.0F, 1e-5F);
}

}  // namespace
}  // namespace mach::decode
