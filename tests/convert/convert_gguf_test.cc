// Conversion of GGUF files: what is kept to the bit, what is quantised anew, what is refused.
#include <cmath>
#include <cstdlib>
#include <iostream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "convert/convert.h"
#include "convert/convert_plan.h"
#include "formats/checkpoint.h"
#include "formats/gguf.h"
#include "formats/gguf_model.h"
#include "formats/text_config.h"
#include "tests/convert/child.h"
#include "tests/convert/compare_gguf.h"
#include "tests/convert/dense_sources.h"
#include "tests/convert/gguf_model_files.h"
#include "tests/support/memory_file.h"

namespace mach::convert {
namespace {

using testing_support::OpenMemoryFile;

namespace fs = std::filesystem;
using testing::HasSubstr;

TEST(ConvertGguf, LosslessTypesKeepEveryValue) {
  for (const uint32_t type : {0U, 1U, 2U, 3U, 6U, 7U, 8U, 12U, 13U, 30U}) {
    const formats::ScratchDir dir;
    TinyModel model;
    model.linear_type = type;
    model.biases = true;
    model.own_head = true;
    model.seed = type + 7;
    const fs::path source = dir.Write("m.gguf", TinyGguf(model).Build());
    const ConvertResult result = Convert(OptionsFor(source, dir.path() / "out"), {});
    EXPECT_FALSE(result.already_done);
    EXPECT_TRUE(result.requantised.empty());
    const auto checkpoint = formats::Checkpoint::Open(dir.path() / "out");
    EXPECT_TRUE(checkpoint->Verify({}));
    int64_t compared = 0;
    EXPECT_EQ(Differences(*formats::GgufFile::Open(source), *checkpoint, &compared), 0)
        << formats::FindGgmlType(type)->name;
    EXPECT_GT(compared, 1'000'000);
    EXPECT_FALSE(fs::exists(dir.path() / "out.partial"));
  }
}

TEST(ConvertGguf, ScalesBeyondHalfPrecisionBecomeFloat) {
  const formats::ScratchDir dir;
  TinyModel model;
  std::string file = TinyGguf(model).Build();
  const fs::path source = dir.Write("m.gguf", file);
  size_t offset = 0;
  {
    const auto gguf = formats::GgufFile::Open(OpenMemoryFile("m.gguf", file));
    const auto& bytes = gguf->FindTensor("blk.0.ffn_up.weight")->bytes;
    offset = file.find(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  }
  const uint16_t big = FloatToF16(60000);
  std::memcpy(file.data() + offset, &big, 2);
  dir.Write("m.gguf", file);
  Convert(OptionsFor(source, dir.path() / "out"), {});
  const auto checkpoint = formats::Checkpoint::Open(dir.path() / "out");
  EXPECT_EQ(checkpoint->FindTensor("model.layers.0.mlp.up_proj.scales")->dtype, DType::kF32);
  EXPECT_EQ(checkpoint->FindTensor("model.layers.1.mlp.up_proj.scales")->dtype, DType::kF16);
  int64_t compared = 0;
  EXPECT_EQ(Differences(*formats::GgufFile::Open(source), *checkpoint, &compared), 0);

  const uint16_t infinite = 0x7c00;
  std::memcpy(file.data() + offset, &infinite, 2);
  dir.Write("m.gguf", file);
  EXPECT_THAT(formats::ErrorOf([&] { Convert(OptionsFor(source, dir.path() / "out2"), {}); }),
              testing::AllOf(HasSubstr("m.gguf: tensor blk.0.ffn_up.weight: row 0 has a scale that"
                                       " is not finite"),
                             HasSubstr("fetch it again")));
}

TEST(ConvertGguf, WritesConfig) {
  const formats::ScratchDir dir;
  TinyModel model;
  const fs::path source = dir.Write("m.gguf", TinyGguf(model).Build());
  Convert(OptionsFor(source, dir.path() / "out"), {});
  const auto checkpoint = formats::Checkpoint::Open(dir.path() / "out");
  const formats::ConfigReader& config = checkpoint->config();
  EXPECT_EQ(checkpoint->model_type(), "llama");
  EXPECT_THAT(*config.OptionalStringArray("architectures"),
              testing::ElementsAre("LlamaForCausalLM"));
  EXPECT_EQ(config.RequireInt("num_hidden_layers"), 2);
  EXPECT_EQ(config.RequireInt("num_key_value_heads"), 4);
  EXPECT_EQ(config.RequireInt("head_dim"), 32);
  EXPECT_EQ(config.RequireFloat("rms_norm_eps"), 1e-5);
  EXPECT_EQ(config.RequireInt("rope_theta"), 500000);
  EXPECT_FALSE(config.Has("rope_scaling"));
  EXPECT_TRUE(config.RequireBool("tie_word_embeddings"));
  EXPECT_FALSE(config.RequireBool("attention_bias"));
  const formats::ConfigReader quantization = config.RequireObject("quantization");
  EXPECT_EQ(quantization.RequireInt("bits"), 4);
  EXPECT_EQ(quantization.RequireInt("group_size"), 32);
  EXPECT_EQ(quantization.RequireObject("model.embed_tokens").RequireInt("bits"), 8);
  const formats::GenerationConfig generation = formats::ReadGenerationConfig(dir.path() / "out");
  EXPECT_THAT(formats::EndTokenIds(generation, config, config), testing::ElementsAre(0, 2));
  const formats::TokenizerConfig tokenizer = formats::ReadTokenizerConfig(dir.path() / "out");
  EXPECT_EQ(tokenizer.eos_token, "<|im_end|>");
  EXPECT_EQ(*tokenizer.chat_template, "{{ messages[0].content }}");
}

// What GGUF keeps of Llama 3 scaling from an original context of 8192 tokens.
std::vector<float> Llama3Divisors(double factor) {
  std::vector<float> divisors;
  for (int i = 0; i < 16; ++i) {
    const double wave = 2 * M_PI * std::pow(500000.0, 2.0 * i / 32);
    const double smooth = (8192 / wave - 1) / 3;
    const double divisor = wave < 2048   ? 1
                           : wave > 8192 ? factor
                                         : 1 / ((1 - smooth) / factor + smooth);
    divisors.push_back(static_cast<float>(divisor));
  }
  return divisors;
}

TEST(ConvertGguf, FindsLlama3Scaling) {
  TinyModel model;
  model.rope_factors = Llama3Divisors(32);
  const auto describe = [&] {
    const auto file = formats::GgufFile::Open(OpenMemoryFile("m.gguf", TinyGguf(model).Build()));
    return formats::DescribeGgufModel(*file).config;
  };
  const auto scaling = describe()["rope_scaling"];
  EXPECT_EQ(scaling["rope_type"], "llama3");
  EXPECT_EQ(scaling["factor"], 32.0);
  EXPECT_EQ(scaling["original_max_position_embeddings"], 8192);
  model.rope_factors[3] = 5;
  EXPECT_THAT(formats::ErrorOf(describe), HasSubstr("not those of Llama 3"));
  model.rope_factors.assign(16, 1);
  EXPECT_TRUE(describe()["rope_scaling"].is_null());
}

TEST(ConvertGguf, ScalesRotationAsLlamaCppDoes) {
  const std::string key = "llama.rope.scaling.";
  const auto scaling = [](const formats::GgufBuilder& builder) {
    const auto file = formats::GgufFile::Open(OpenMemoryFile("m.gguf", builder.Build()));
    return formats::DescribeGgufModel(*file).config["rope_scaling"];
  };
  for (const float none : {0.0F, 1.0F}) {
    EXPECT_TRUE(scaling(TinyGguf({}).F32(key + "factor", none)).is_null());
    EXPECT_TRUE(scaling(TinyGguf({}).F32("llama.rope.scale_linear", none)).is_null());
  }
  for (const auto& found :
       {scaling(TinyGguf({}).F32("llama.rope.scale_linear", 4)),
        scaling(TinyGguf({}).F32(key + "factor", 4)),
        scaling(TinyGguf({}).F32(key + "factor", 4).F32("llama.rope.scale_linear", 2)),
        scaling(TinyGguf({}).Str(key + "type", "linear").F32("llama.rope.scale_linear", 4))}) {
    EXPECT_EQ(found["rope_type"], "linear");
    EXPECT_EQ(found["factor"], 4.0);
  }
  EXPECT_TRUE(scaling(TinyGguf({}).Str(key + "type", "none").F32(key + "factor", 4)).is_null());
  EXPECT_THAT(formats::ErrorOf([&] { scaling(TinyGguf({}).F32(key + "factor", -4)); }),
              HasSubstr("with the factor -4.0"));
  EXPECT_THAT(formats::ErrorOf([&] { scaling(TinyGguf({}).Str(key + "type", "long\nrope")); }),
              HasSubstr("\"long?rope\""));
}

TEST(ConvertGguf, YarnNeedsNoOriginalLength) {
  const std::string key = "llama.rope.scaling.";
  const auto scaling = [&](formats::GgufBuilder builder) {
    builder.Str(key + "type", "yarn").F32(key + "factor", 4);
    const auto file = formats::GgufFile::Open(OpenMemoryFile("m.gguf", builder.Build()));
    return formats::DescribeGgufModel(*file).config["rope_scaling"];
  };
  const std::string length = key + "original_context_length";
  EXPECT_EQ(scaling(TinyGguf({}).U32(length, 128))["original_max_position_embeddings"], 128);
  for (const auto& found : {scaling(TinyGguf({})), scaling(TinyGguf({}).U32(length, 0))}) {
    EXPECT_EQ(found["rope_type"], "yarn");
    EXPECT_EQ(found["factor"], 4.0);
    EXPECT_FALSE(found.contains("original_max_position_embeddings"));
  }
}

TEST(ConvertGguf, TwoScalingsOfOneRotationAreRefused) {
  TinyModel model;
  const auto describe = [&](const char* type) {
    auto builder = TinyGguf(model).Str("llama.rope.scaling.type", type);
    builder.F32("llama.rope.scaling.factor", 4);
    const auto file = formats::GgufFile::Open(OpenMemoryFile("m.gguf", builder.Build()));
    return formats::DescribeGgufModel(*file).config["rope_scaling"];
  };
  model.rope_factors.assign(16, 1);
  EXPECT_EQ(describe("linear")["factor"], 4.0);
  model.rope_factors = Llama3Divisors(8);
  EXPECT_EQ(describe("none")["rope_type"], "llama3");
  EXPECT_THAT(formats::ErrorOf([&] { describe("linear"); }), HasSubstr("both scale the rotation"));
}

TEST(ConvertGguf, PartsOfASplitModelAreRefused) {
  const formats::ScratchDir dir;
  const std::string part = TinyGguf({}).U32("split.count", 2).Build();
  const fs::path first = dir.Write("two/m-00001-of-00002.gguf", part);
  EXPECT_THAT(formats::ErrorOf([&] { Convert(OptionsFor(first, dir.path() / "out"), {}); }),
              testing::AllOf(HasSubstr("m-00001-of-00002.gguf: is one of 2 parts"),
                             HasSubstr("llama-gguf-split --merge")));
  dir.Write("two/m-00002-of-00002.gguf", formats::GgufBuilder().U32("split.count", 2).Build());
  const fs::path two = dir.path() / "two";
  EXPECT_THAT(formats::ErrorOf([&] { Convert(OptionsFor(two, dir.path() / "out"), {}); }),
              testing::AllOf(HasSubstr("2 .gguf files that are parts of one model"),
                             HasSubstr("llama-gguf-split --merge")));
  dir.Write("two/other.gguf", part);
  EXPECT_THAT(formats::ErrorOf([&] { Convert(OptionsFor(two, dir.path() / "out"), {}); }),
              HasSubstr("name one of them"));
  EXPECT_EQ(formats::DescribeGgufModel(*formats::GgufFile::Open(OpenMemoryFile(
                                           "m.gguf", TinyGguf({}).U32("split.count", 1).Build())))
                .tensors.size(),
            20U);
}

TEST(ConvertGguf, QwenRowsStayInOrder) {
  for (const char* architecture : {"qwen2", "qwen3"}) {
    const formats::ScratchDir dir;
    TinyModel model;
    model.architecture = architecture;
    model.biases = model.architecture == "qwen2";
    model.pre = "qwen2";
    const fs::path source = dir.Write("m.gguf", TinyGguf(model).Build());
    Convert(OptionsFor(source, dir.path() / "out"), {});
    const auto checkpoint = formats::Checkpoint::Open(dir.path() / "out");
    EXPECT_EQ(checkpoint->Has("model.layers.1.self_attn.q_norm.weight"),
              model.architecture == "qwen3");
    int64_t compared = 0;
    EXPECT_EQ(Differences(*formats::GgufFile::Open(source), *checkpoint, &compared), 0);
  }
}

TEST(ConvertGguf, RefusesWhatItCannotCarry) {
  const auto error = [](const TinyModel& model) {
    const formats::ScratchDir dir;
    const fs::path source = dir.Write("m.gguf", TinyGguf(model).Build());
    const std::string text =
        formats::ErrorOf([&] { Convert(OptionsFor(source, dir.path() / "out"), {}); });
    EXPECT_FALSE(fs::exists(dir.path() / "out"));
    return text;
  };
  TinyModel model;
  model.architecture = "mamba";
  EXPECT_THAT(error(model), HasSubstr("general.architecture is \"mamba\""));
  model = {};
  model.biases = true;
  model.architecture = "qwen3";
  EXPECT_THAT(error(model), HasSubstr("attn_output.bias is missing"));
  model = {};
  model.linear_type = 14;
  EXPECT_THAT(error(model),
              testing::AllOf(HasSubstr("14 tensors are Q6_K"), HasSubstr("blk.0.attn_q.weight"),
                             HasSubstr("--bits 8")));
  model.linear_type = 11;
  EXPECT_THAT(error(model), HasSubstr("blk.0.attn_q.weight is Q3_K"));
  model = {};
  model.pre = "unheard-of";
  EXPECT_THAT(error(model), HasSubstr("tokenizer.ggml.pre is \"unheard-of\""));
}

TEST(ConvertGguf, RequantisesOnlyWhatItMust) {
  const formats::ScratchDir dir;
  TinyModel model;
  model.linear_type = 14;
  const fs::path source = dir.Write("m.gguf", TinyGguf(model).Build());
  ConvertOptions options = OptionsFor(source, dir.path() / "out");
  options.bits = 8;
  const ConvertResult result = Convert(options, {});
  EXPECT_EQ(result.requantised.size(), 14U);
  const auto checkpoint = formats::Checkpoint::Open(dir.path() / "out");
  EXPECT_EQ(checkpoint->Linear("model.layers.0.mlp.up_proj", 512, 256).affine->scheme,
            (AffineScheme{8, 64}));
  EXPECT_EQ(checkpoint->Linear("model.embed_tokens", 101, 256).affine->scheme,
            (AffineScheme{8, 32}));
  // Close: half a step of the largest group is the bound.
  const auto gguf = formats::GgufFile::Open(source);
  const auto* tensor = gguf->FindTensor("blk.0.ffn_up.weight");
  std::vector<float> expected(256);
  std::vector<float> found(256);
  for (int64_t row = 0; row < 512; ++row) {
    formats::DequantizeGgml(*tensor->info, tensor->Row(row), expected);
    ReadRowOf(*checkpoint, "model.layers.0.mlp.up_proj.weight", row, found);
    const auto [low, high] = std::minmax_element(expected.begin(), expected.end());
    for (size_t i = 0; i < 256; ++i) {
      ASSERT_NEAR(found[i], expected[i], (*high - *low) / 255);
    }
  }
  options.out = dir.path() / "all";
  options.requantise_all = true;
  EXPECT_EQ(Convert(options, {}).requantised.size(), 15U);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST(ConvertGguf, MemoryDoesNotGrowWithTheModel) {
  const formats::ScratchDir dir;
  TinyModel model;
  model.hidden = 32768;
  const fs::path source = dir.Write("m.gguf", TinyGguf(model).Build());
  ASSERT_GT(fs::file_size(source), 80U << 20);
  ExpectPeakBelow(32U << 20, [&] { Convert(OptionsFor(source, dir.path() / "out"), {}); });
}
#endif

// A real file, named by the environment: every value of the conversion equals the decoded GGUF.
TEST(ConvertGguf, RealFileKeepsEveryValue) {
  const char* file = std::getenv("MACH_TEST_GGUF");
  if (file == nullptr) {
    GTEST_SKIP() << "MACH_TEST_GGUF names no file";
  }
  const formats::ScratchDir dir;
  const char* keep = std::getenv("MACH_TEST_CONVERT_OUT");
  const fs::path out = keep == nullptr ? dir.path() / "out" : fs::path(keep);
  const ConvertResult result = Convert(OptionsFor(file, out), {});
  const auto checkpoint = formats::Checkpoint::Open(out);
  EXPECT_TRUE(checkpoint->Verify({}));
  int64_t compared = 0;
  EXPECT_EQ(Differences(*formats::GgufFile::Open(file), *checkpoint, &compared), 0);
  std::cout << compared << " values compared; " << result.written_bytes << " bytes in "
            << result.elapsed_s << " s\n";
}

}  // namespace
}  // namespace mach::convert
