// Formats from templates, and where output starts.
#include "chat/detect.h"

#include <gtest/gtest.h>

namespace mach::chat {
namespace {

void Expect(std::string_view chat_template, std::string_view model_type, CallFormat call,
            ReasoningFormat reasoning) {
  const Formats formats = DetectFormats(chat_template, model_type);
  EXPECT_EQ(NameOf(formats.call), NameOf(call)) << chat_template << model_type;
  EXPECT_EQ(NameOf(formats.reasoning), NameOf(reasoning)) << chat_template << model_type;
}

TEST(Detect, ByMarkers) {
  Expect("{{ '<tool_call>\\n<function=' + name + '>' }}<think>", "qwen3_moe",
         CallFormat::kQwen3Coder, ReasoningFormat::kQwen3);
  Expect(R"(<tool_call>\n{"name": "{{ name }}", "arguments": {{ a | tojson }}}</tool_call>)",
         "qwen2", CallFormat::kHermes, ReasoningFormat::kNone);
  Expect("<|start|>assistant<|channel|>final<|message|>", "", CallFormat::kHarmony,
         ReasoningFormat::kNone);
  Expect("<|tool_call>call:{{ name }}{ }<tool_call|>{% '<|channel>' %}", "", CallFormat::kGemma4,
         ReasoningFormat::kGemma4);
  Expect("{% set m = '｜DSML｜' %}<{{ m }}tool_calls>", "", CallFormat::kDeepseekV4,
         ReasoningFormat::kDeepseekV4);
  Expect("{% set m = '｜DSML｜' %}<{{ m }}function_calls>", "", CallFormat::kDeepseekV32,
         ReasoningFormat::kDeepseekV4);
  Expect("<｜DSML｜ calls>", "", CallFormat::kDeepseekV41, ReasoningFormat::kDeepseekV4);
}

TEST(Detect, WhatIsNotRead) {
  Expect("<｜tool▁call▁begin｜>function</think>", "deepseek_v3", CallFormat::kNone,
         ReasoningFormat::kDeepseekR1);
  Expect("<tool_call>{{ name }}<arg_key>\"name\"<think>", "glm4_moe", CallFormat::kNone,
         ReasoningFormat::kQwen3);
  Expect("{{ messages }}", "gpt_oss", CallFormat::kNone, ReasoningFormat::kNone);
}

TEST(Detect, WithoutATemplateByModel) {
  Expect("", "gpt_oss", CallFormat::kHarmony, ReasoningFormat::kNone);
  Expect("", "deepseek_v32", CallFormat::kDeepseekV32, ReasoningFormat::kDeepseekV4);
  Expect("", "deepseek_v4", CallFormat::kDeepseekV4, ReasoningFormat::kDeepseekV4);
  Expect("", "gemma4_text", CallFormat::kGemma4, ReasoningFormat::kGemma4);
  Expect("", "qwen3_5_moe", CallFormat::kQwen3Coder, ReasoningFormat::kQwen3);
  Expect("", "qwen3_moe", CallFormat::kHermes, ReasoningFormat::kQwen3);
  Expect("", "llama", CallFormat::kNone, ReasoningFormat::kNone);
}

TEST(Detect, StartsInReasoning) {
  const ReasoningFormat qwen3 = ReasoningFormat::kQwen3;
  EXPECT_TRUE(StartsInReasoning("<|im_start|>assistant\n<think>\n", qwen3));
  EXPECT_FALSE(StartsInReasoning("<|im_start|>assistant\n<think>\n\n</think>\n\n", qwen3));
  EXPECT_FALSE(StartsInReasoning("<|im_start|>assistant\n", qwen3));
  EXPECT_FALSE(StartsInReasoning("Say <think>.<|im_end|>\n<|im_start|>assistant\n", qwen3));
  EXPECT_FALSE(StartsInReasoning("<think>\n", ReasoningFormat::kNone));
  EXPECT_TRUE(StartsInReasoning("<｜Assistant｜><think>", ReasoningFormat::kDeepseekV4));
  EXPECT_FALSE(StartsInReasoning("<｜Assistant｜></think>", ReasoningFormat::kDeepseekV4));
  EXPECT_TRUE(StartsInReasoning("model\n<|channel>thought\n", ReasoningFormat::kGemma4));
  EXPECT_FALSE(StartsInReasoning("model\n<|channel>thought\n<channel|>", ReasoningFormat::kGemma4));
}

TEST(Formats, NamesAreKnown) {
  for (const std::string& name : CallFormatNames()) {
    ASSERT_TRUE(CallFormatFromName(name).has_value()) << name;
  }
  for (const std::string& name : ReasoningFormatNames()) {
    EXPECT_EQ(NameOf(ReasoningFormatFromName(name).value()), name);
  }
  EXPECT_EQ(NameOf(CallFormat::kQwen3Coder), "qwen3_coder");
  EXPECT_FALSE(CallFormatFromName("hermes2").has_value());
}

}  // namespace
}  // namespace mach::chat
