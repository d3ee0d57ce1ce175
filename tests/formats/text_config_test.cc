#include "formats/text_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "formats/config.h"
#include "tests/formats/test_files.h"

namespace mach::formats {
namespace {

using testing::ElementsAre;

TEST(GenerationConfig, AbsentFileSaysNothing) {
  const ScratchDir dir;
  const GenerationConfig config = ReadGenerationConfig(dir.path());
  EXPECT_FALSE(config.temperature.has_value());
  EXPECT_TRUE(config.eos_token_ids.empty());
}

TEST(GenerationConfig, ReadsFields) {
  const ScratchDir dir;
  dir.Write("generation_config.json",
            R"({"temperature":0.6,"top_p":0.95,"top_k":20,"do_sample":true,"min_p":0.0,
                "repetition_penalty":1.05,"eos_token_id":[7,5,7],"bos_token_id":1,
                "pad_token_id":null,"max_new_tokens":2048})");
  const GenerationConfig config = ReadGenerationConfig(dir.path());
  EXPECT_DOUBLE_EQ(*config.temperature, 0.6);
  EXPECT_EQ(*config.top_k, 20);
  EXPECT_TRUE(*config.do_sample);
  EXPECT_EQ(*config.bos_token_id, 1);
  EXPECT_FALSE(config.pad_token_id.has_value());
  EXPECT_EQ(*config.max_new_tokens, 2048);
}

TEST(EndTokens, AreThoseOfAllConfigurations) {
  GenerationConfig generation;
  generation.eos_token_ids = {7, 5, 7};
  const ConfigReader root = ConfigReader::Parse(
      R"({"eos_token_id":9,"text_config":{"eos_token_id":[5,-1,2]}})", "config.json");
  const ConfigReader text = root.RequireObject("text_config");
  EXPECT_THAT(EndTokenIds(generation, root, text), ElementsAre(2, 5, 7, 9));
  EXPECT_THAT(EndTokenIds({}, root, root), ElementsAre(9));
  EXPECT_TRUE(EndTokenIds({}, ConfigReader(), ConfigReader()).empty());
}

TEST(GenerationConfig, RefusesNonsense) {
  const ScratchDir dir;
  for (const char* text :
       {R"({"temperature":-1})", R"({"top_p":2})", R"({"eos_token_id":"x"})", R"({"do_sample":1})",
        R"({"repetition_penalty":0})", R"({"repetition_penalty":-1.5})", R"({"top_p":0})", "[]"}) {
    dir.Write("generation_config.json", text);
    EXPECT_THROW(ReadGenerationConfig(dir.path()), Error) << text;
  }
}

TEST(TokenizerConfig, TokensAndTemplates) {
  const ScratchDir dir;
  dir.Write("tokenizer_config.json",
            R"({"bos_token":{"content":"<s>","lstrip":false},"eos_token":"</s>","unk_token":null,
                "add_bos_token":true,"model_max_length":1000000000000000019884624838656,
                "chat_template":[{"name":"default","template":"D"},
                                 {"name":"tool_use","template":"T"}]})");
  TokenizerConfig config = ReadTokenizerConfig(dir.path());
  EXPECT_EQ(config.bos_token, "<s>");
  EXPECT_EQ(config.eos_token, "</s>");
  EXPECT_EQ(config.unk_token, "");
  EXPECT_TRUE(*config.add_bos_token);
  EXPECT_FALSE(config.model_max_length.has_value());
  EXPECT_EQ(*config.chat_template, "D");
  EXPECT_EQ(config.named_templates.at("tool_use"), "T");

  dir.Write("chat_template.json", R"({"chat_template":"P"})");
  EXPECT_EQ(*ReadTokenizerConfig(dir.path()).chat_template, "D");
  dir.Write("chat_template.jinja", "J");
  config = ReadTokenizerConfig(dir.path());
  EXPECT_EQ(*config.chat_template, "J");
  EXPECT_EQ(config.chat_template_source, (dir.path() / "chat_template.jinja").string());

  dir.Write("tokenizer_config.json", R"({"chat_template":[{"name":"default"}]})");
  EXPECT_THROW(ReadTokenizerConfig(dir.path()), Error);
  dir.Write("tokenizer_config.json", R"({"chat_template":5})");
  EXPECT_THROW(ReadTokenizerConfig(dir.path()), Error);
}

TEST(TokenizerConfig, ProcessorTemplateIsTheLastResort) {
  const ScratchDir dir;
  dir.Write("chat_template.json", R"({"chat_template":"P"})");
  dir.Write("tokenizer_config.json", R"({"eos_token":"</s>"})");
  EXPECT_EQ(*ReadTokenizerConfig(dir.path()).chat_template, "P");
}

}  // namespace
}  // namespace mach::formats
