#include "formats/gguf_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "formats/gguf.h"
#include "tests/formats/gguf_files.h"
#include "tests/support/memory_file.h"

namespace mach::formats {
namespace {

using testing_support::OpenMemoryFile;

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

GgufTokenizer BuildFrom(const GgufBuilder& builder) {
  return BuildGgufTokenizer(*GgufFile::Open(OpenMemoryFile("t.gguf", builder.Build())));
}

std::string ErrorOf(const GgufBuilder& builder) {
  try {
    BuildFrom(builder);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

// Tokens: 0 control, 1..3 letters, 4 "ab", 5 user-defined, 6 unused.
GgufBuilder ByteLevel(const std::string& pre) {
  GgufBuilder builder;
  builder.Str("tokenizer.ggml.model", "gpt2")
      .Str("tokenizer.ggml.pre", pre)
      .Strs("tokenizer.ggml.tokens", {"<|im_end|>", "a", "b", "c", "ab", "<think>", "[PAD6]"})
      .I32s("tokenizer.ggml.token_type", {3, 1, 1, 1, 1, 4, 5})
      .Strs("tokenizer.ggml.merges", {"a b"})
      .U32("tokenizer.ggml.eos_token_id", 0);
  return builder;
}

TEST(GgufTokenizer, ByteLevelBpe) {
  const GgufTokenizer result = BuildFrom(ByteLevel("smollm"));
  const json root = json::parse(result.tokenizer_json);
  EXPECT_EQ(root["model"]["vocab"],
            json({{"<|im_end|>", 0}, {"a", 1}, {"b", 2}, {"c", 3}, {"ab", 4}, {"<think>", 5}}));
  EXPECT_EQ(root["model"]["merges"], json({"a b"}));
  EXPECT_EQ(root["pre_tokenizer"]["pretokenizers"][0]["type"], "Digits");
  EXPECT_EQ(root["pre_tokenizer"]["pretokenizers"][1]["use_regex"], true);
  EXPECT_TRUE(root["post_processor"].is_null());
  ASSERT_EQ(root["added_tokens"].size(), 2U);
  EXPECT_EQ(root["added_tokens"][0]["special"], true);
  EXPECT_EQ(root["added_tokens"][1]["content"], "<think>");
  EXPECT_EQ(root["added_tokens"][1]["special"], false);
  EXPECT_THAT(result.end_token_ids, ElementsAre(0));
  EXPECT_EQ(json::parse(result.tokenizer_config_json)["eos_token"], "<|im_end|>");
}

TEST(GgufTokenizer, PreTokenizersByName) {
  const auto build = [](const char* pre) {
    return json::parse(BuildFrom(ByteLevel(pre)).tokenizer_json);
  };
  EXPECT_EQ(build("gpt-2")["pre_tokenizer"]["type"], "ByteLevel");
  EXPECT_EQ(build("qwen2")["normalizer"]["type"], "NFC");
  EXPECT_EQ(build("llama-bpe")["model"]["ignore_merges"], true);
  EXPECT_THAT(build("llama-bpe")["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
                  .get<std::string>(),
              HasSubstr("\\p{N}{1,3}"));
  EXPECT_EQ(build("deepseek-v3")["pre_tokenizer"]["pretokenizers"].size(), 4U);
  EXPECT_THAT(ErrorOf(ByteLevel("nonesuch")), HasSubstr("tokenizer.ggml.pre is \"nonesuch\""));
}

TEST(GgufTokenizer, BeginningOfText) {
  GgufBuilder builder = ByteLevel("llama-bpe");
  builder.U32("tokenizer.ggml.bos_token_id", 0);
  json root = json::parse(BuildFrom(builder).tokenizer_json);
  EXPECT_EQ(root["post_processor"]["type"], "TemplateProcessing");
  EXPECT_EQ(root["post_processor"]["single"],
            json::parse(R"([{"SpecialToken":{"id":"<|im_end|>","type_id":0}},
                            {"Sequence":{"id":"A","type_id":0}}])"));
  EXPECT_EQ(root["post_processor"]["special_tokens"]["<|im_end|>"]["ids"], json({0}));
  builder.Bool("tokenizer.ggml.add_bos_token", false);
  root = json::parse(BuildFrom(builder).tokenizer_json);
  EXPECT_TRUE(root["post_processor"].is_null());
}

TEST(GgufTokenizer, SentencePieceMergesFollowScores) {
  GgufBuilder builder;
  builder.Str("tokenizer.ggml.model", "llama")
      .Strs("tokenizer.ggml.tokens",
            {"<unk>", "<s>", "</s>", "<0x41>", "a", "b", "ab", "abb", "bb", "\u2581"})
      .I32s("tokenizer.ggml.token_type", {2, 3, 3, 6, 1, 1, 1, 1, 1, 1})
      .F32s("tokenizer.ggml.scores", {0, 0, 0, 0, -10, -11, -2, -3, -1, -12})
      .U32("tokenizer.ggml.bos_token_id", 1)
      .U32("tokenizer.ggml.eos_token_id", 2)
      .U32("tokenizer.ggml.unknown_token_id", 0);
  json root = json::parse(BuildFrom(builder).tokenizer_json);
  EXPECT_EQ(root["model"]["merges"], json({"b b", "a b", "a bb", "ab b"}));
  EXPECT_EQ(root["model"]["byte_fallback"], true);
  EXPECT_EQ(root["model"]["unk_token"], "<unk>");
  EXPECT_EQ(root["normalizer"]["normalizers"][0]["type"], "Prepend");
  EXPECT_EQ(root["post_processor"]["type"], "TemplateProcessing");
  builder.Bool("tokenizer.ggml.add_space_prefix", false);
  root = json::parse(BuildFrom(builder).tokenizer_json);
  EXPECT_EQ(root["normalizer"]["normalizers"].size(), 1U);
  EXPECT_EQ(root["decoder"]["decoders"].size(), 3U);
}

TEST(GgufTokenizer, PreTokenizersOfAnotherNameEqualAKnownOne) {
  const std::vector<std::pair<const char*, const char*>> pairs = {
      {"falcon3", "llama-bpe"}, {"pixtral", "llama-bpe"},   {"midm-2.0", "llama-bpe"},
      {"minerva-7b", "smollm"}, {"trillion", "gpt-2"},      {"a.x-4.0", "gpt-2"},
      {"megrez", "stablelm2"},  {"llama4", "gpt-4o"},       {"hunyuan-dense", "deepseek-v3"},
      {"glm4", "dbrx"},         {"command-r", "starcoder"}, {"hunyuan", "deepseek-r1-qwen"}};
  for (const auto& [name, known] : pairs) {
    EXPECT_EQ(BuildFrom(ByteLevel(name)).tokenizer_json, BuildFrom(ByteLevel(known)).tokenizer_json)
        << name;
  }
}

TEST(GgufTokenizer, SpecialIdsPastTheVocabularyAreLeftOut) {
  GgufBuilder builder;
  builder.Str("tokenizer.ggml.model", "gpt2")
      .Strs("tokenizer.ggml.tokens", {"a", "b", "ab"})
      .Strs("tokenizer.ggml.merges", {"a b"})
      .U32("tokenizer.ggml.eos_token_id", 3)
      .U32("tokenizer.ggml.padding_token_id", 7)
      .U32("tokenizer.ggml.bos_token_id", 1);
  const GgufTokenizer tokenizer = BuildFrom(builder);
  EXPECT_TRUE(tokenizer.end_token_ids.empty());
  EXPECT_FALSE(tokenizer.pad_token_id.has_value());
  EXPECT_EQ(tokenizer.bos_token_id, 1);
}

TEST(GgufTokenizer, RefusesInconsistentMetadata) {
  GgufBuilder builder;
  EXPECT_THAT(ErrorOf(builder), HasSubstr("tokenizer.ggml.tokens is missing"));
  builder.Strs("tokenizer.ggml.tokens", {"a", "b", "ab"});
  EXPECT_THAT(ErrorOf(builder), HasSubstr("tokenizer.ggml.model is missing"));
  GgufBuilder gpt2 = builder;
  gpt2.Str("tokenizer.ggml.model", "gpt2").Str("tokenizer.ggml.pre", "gpt-2");
  EXPECT_THAT(ErrorOf(gpt2), HasSubstr("merges is missing"));
  EXPECT_THAT(ErrorOf(GgufBuilder(gpt2).Strs("tokenizer.ggml.merges", {"a c"})),
              HasSubstr("merge 0 does not join"));
  gpt2.Strs("tokenizer.ggml.merges", {"a b"});
  EXPECT_THAT(ErrorOf(GgufBuilder(gpt2).I32s("tokenizer.ggml.token_type", {1})),
              HasSubstr("token_type has 1 entries"));
  GgufBuilder twice;
  twice.Str("tokenizer.ggml.model", "gpt2").Strs("tokenizer.ggml.tokens", {"a", "a"});
  EXPECT_THAT(ErrorOf(twice), HasSubstr("tokens 0 and 1 are the same"));
  GgufBuilder broken;
  broken.Str("tokenizer.ggml.model", "gpt2")
      .Strs("tokenizer.ggml.tokens", {"\xff"})
      .Strs("tokenizer.ggml.merges", {});
  EXPECT_THAT(ErrorOf(broken), HasSubstr("not valid UTF-8"));
  builder.Str("tokenizer.ggml.model", "llama");
  EXPECT_THAT(ErrorOf(builder), HasSubstr("scores is missing"));
  GgufBuilder other;
  other.Str("tokenizer.ggml.model", "bert").Strs("tokenizer.ggml.tokens", {"a"});
  EXPECT_THAT(ErrorOf(other), HasSubstr("\"bert\""));
}

}  // namespace
}  // namespace mach::formats
