// Masks over a vocabulary of longer tokens against the same grammar byte by byte.
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/grammar/grammar_support.h"

namespace mach::grammar {
namespace {

using Json = nlohmann::ordered_json;

const char* const kSchema = R"({"type":"object","properties":{
  "name":{"type":"string","maxLength":6},"kind":{"enum":["north","south"]},
  "list":{"type":"array","items":{"type":["integer","boolean"]},"maxItems":3},
  "n":{"type":"number","minimum":-2,"maximum":12}},"required":["name","kind"]})";

std::shared_ptr<const text::Tokenizer> Vocabulary() {
  return Pieces(
      {"{\"",   "\":",   "\": ",     "\",",  "\", \"", "name",    "kind\"", "nor",  "th\"",
       "south", "list",  "[",        "]}",   "true",   "false",   "tr",     "12",   "1.5",
       "-1",    "}}",    "\xC3\xA9", "\xC3", "aaa",    "aaaaaaa", "\n",     "\n  ", "  ",
       "\\n",   "\\u00", "\\\"",     "{}",   "\"}",    ",\"",     "x\":",   "null", "e5"},
      {"<|special|>"});
}

TEST(Mask, AllowsTheTokensWhoseBytesMayCome) {
  const auto tokenizer = Vocabulary();
  const int32_t end = tokenizer->vocab_size() - 1;
  Compiler compiler(tokenizer, {.end_tokens = {end}});
  const Spec spec = Spec::JsonSchema(Json::parse(kSchema));
  const auto by_token = compiler.Compile(spec);
  const auto by_byte = ByteCompiler().Compile(spec);
  std::mt19937 random(7);
  size_t steps = 0;
  size_t forced = 0;
  size_t ended = 0;
  for (int round = 0; round < 40; ++round) {
    const auto constraint = by_token->NewConstraint();
    const auto bytes_constraint = by_byte->NewConstraint();
    std::string text;
    decode::TokenMask mask;
    decode::TokenMask byte_mask;
    for (int step = 0; step < 60; ++step, ++steps) {
      const std::vector<int32_t> next = constraint->Forced();
      ASSERT_TRUE(constraint->FillMask(mask));
      ASSERT_TRUE(bytes_constraint->FillMask(byte_mask));
      const bool may_end = decode::InMask(byte_mask, ByteTokenizer::kEnd);
      std::vector<int32_t> allowed;
      for (int32_t token = 0; token <= end; ++token) {
        const std::string bytes = tokenizer->TokenBytes(token);
        const auto spelled = ByteTokenizer().Encode(bytes, false);
        const bool may = token == end ? may_end
                                      : !tokenizer->IsSpecial(token) &&
                                            bytes_constraint->ValidPrefix(spelled) == bytes.size();
        const bool in_mask = decode::InMask(mask, token);
        ASSERT_TRUE(may || !in_mask) << text << " then " << bytes;
        if (next.empty()) {  // else only the tokenizer's own spelling is in the mask
          ASSERT_EQ(may, in_mask) << text << " then " << bytes;
        }
        if (in_mask) {
          allowed.push_back(token);
        }
        ASSERT_EQ(constraint->ValidPrefix({&token, 1}) == 1, may && token != end);
      }
      ASSERT_FALSE(allowed.empty()) << text;
      if (!next.empty()) {
        ++forced;
        ASSERT_EQ(allowed, std::vector<int32_t>{next[0]}) << text;
      }
      const int32_t token = allowed[random() % allowed.size()];
      if (token == end) {
        ++ended;
        ASSERT_TRUE(Allows(*by_byte, text));
        break;
      }
      constraint->Accept(token);
      for (const int32_t byte : ByteTokenizer().Encode(tokenizer->TokenBytes(token), false)) {
        bytes_constraint->Accept(byte);
      }
      text += tokenizer->TokenBytes(token);
    }
  }
  EXPECT_GT(steps, 300U);
  EXPECT_GT(forced, 20U);
  EXPECT_GT(ended, 3U);
}

}  // namespace
}  // namespace mach::grammar
