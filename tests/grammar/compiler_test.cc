#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/grammar/grammar_support.h"

namespace mach::grammar {
namespace {

using Json = nlohmann::ordered_json;

TEST(Compiler, KeepsTheGrammarsUsedLast) {
  Compiler compiler(std::make_shared<const ByteTokenizer>(),
                    {.end_tokens = {ByteTokenizer::kEnd}, .cached_bytes = 170'000});
  const auto spec = [](int n) { return Spec::JsonSchema(Json{{"const", n}}); };
  const auto one = compiler.Compile(spec(1));
  const auto two = compiler.Compile(spec(2));
  EXPECT_EQ(compiler.Compile(spec(1)), one);
  compiler.Compile(spec(3));  // in place of 2
  EXPECT_EQ(compiler.Compile(spec(1)), one);
  EXPECT_NE(compiler.Compile(spec(2)), two);
}

TEST(Compiler, SaysWhatIsWrong) {
  EXPECT_THROW(Compiler(std::make_shared<const ByteTokenizer>(), {}), Error);
  try {
    ByteCompiler().Compile(Spec::Lark("start: nothing"));
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(error.what(), testing::HasSubstr("nothing"));
  }
}

TEST(Compiler, ThreadsCompileAndFollowTheSameGrammars) {
  Compiler compiler(std::make_shared<const ByteTokenizer>(),
                    {.end_tokens = {ByteTokenizer::kEnd}, .cached_bytes = 250'000});
  std::vector<std::thread> threads;
  std::vector<int> right(4);
  for (size_t t = 0; t < right.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) {
        const Json schema = {{"type", "integer"}, {"minimum", i % 5}};
        const auto grammar = compiler.Compile(Spec::JsonSchema(schema));
        right[t] += Allows(*grammar, std::to_string(i % 5)) && !Allows(*grammar, "-1") ? 1 : 0;
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(right, std::vector<int>(4, 20));
}

TEST(Grammar, ConstraintsOutliveItAndKnowNothingOfEachOther) {
  std::unique_ptr<decode::Constraint> a;
  std::unique_ptr<decode::Constraint> b;
  {
    Compiler compiler(std::make_shared<const ByteTokenizer>(),
                      {.end_tokens = {ByteTokenizer::kEnd}});
    const auto grammar = compiler.Compile(Spec::Lark("start: \"ab\" | \"cd\""));
    a = grammar->NewConstraint();
    b = grammar->NewConstraint();
  }
  decode::TokenMask mask;
  a->Accept('a');
  ASSERT_TRUE(a->FillMask(mask));
  EXPECT_TRUE(decode::InMask(mask, 'b'));
  EXPECT_FALSE(decode::InMask(mask, 'c'));
  ASSERT_TRUE(b->FillMask(mask));
  EXPECT_TRUE(decode::InMask(mask, 'c'));
}

TEST(Grammar, ForcedTokensAndDrafts) {
  const auto grammar = ByteCompiler().Compile(Spec::Lark("start: \"ab\" (\"cd\" | \"x\")"));
  const auto constraint = grammar->NewConstraint();
  EXPECT_EQ(constraint->Forced(), (std::vector<int32_t>{'a', 'b'}));
  EXPECT_EQ(constraint->ValidPrefix(std::vector<int32_t>{'a', 'b', 'c', 'x'}), 3U);
  EXPECT_EQ(constraint->ValidPrefix(std::vector<int32_t>{'b'}), 0U);
  for (const char c : {'a', 'b', 'x'}) {
    EXPECT_FALSE(constraint->Done());
    constraint->Accept(c);
  }
  EXPECT_TRUE(constraint->Done());
  decode::TokenMask mask;
  ASSERT_TRUE(constraint->FillMask(mask));
  const std::vector<int32_t> end = {ByteTokenizer::kEnd};
  EXPECT_TRUE(decode::InMask(mask, end[0]));
  EXPECT_FALSE(decode::AllowsOther(mask, end));
  EXPECT_TRUE(constraint->Forced().empty());
  constraint->Accept(end[0]);
  EXPECT_TRUE(constraint->Done());
}

TEST(Grammar, AnEndTokenMayComeWhereTheTextMayEnd) {
  const auto grammar = ByteCompiler().Compile(Spec::Lark("start: /a+/"));
  const auto constraint = grammar->NewConstraint();
  decode::TokenMask mask;
  constraint->FillMask(mask);
  EXPECT_FALSE(decode::InMask(mask, ByteTokenizer::kEnd));
  constraint->Accept('a');
  constraint->FillMask(mask);
  EXPECT_TRUE(decode::InMask(mask, ByteTokenizer::kEnd));
  EXPECT_FALSE(constraint->Done());
  constraint->Accept(ByteTokenizer::kEnd);
  EXPECT_TRUE(constraint->Done());
}

}  // namespace
}  // namespace mach::grammar
