#include "convert/convert.h"

#include <cmath>
#include <cstdlib>
#include <iostream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "convert/convert_plan.h"
#include "formats/checkpoint.h"
#include "formats/gguf.h"
#include "formats/gguf_model.h"
#include "formats/journal.h"
#include "formats/text_config.h"
#include "tests/convert/child.h"
#include "tests/convert/gguf_model_files.h"
#include "tests/support/memory_file.h"

namespace mach::convert {
namespace {

using testing_support::OpenMemoryFile;

namespace fs = std::filesystem;
using testing::HasSubstr;

ConvertOptions Options(const fs::path& source, const fs::path& out) {
  ConvertOptions options;
  options.source = source;
  options.out = out;
  options.threads = 2;
  return options;
}

// Row `row` of a linear layer or a float tensor, as the engine would read it.
void ReadRow(const formats::Checkpoint& checkpoint, const std::string& name, int64_t row,
             std::span<float> out) {
  const auto tensor = checkpoint.FindTensor(name);
  ASSERT_TRUE(tensor.has_value()) << name;
  const auto in = static_cast<int64_t>(out.size());
  if (tensor->dtype == DType::kU32) {
    const std::string module = name.substr(0, name.size() - 7);
    const formats::LinearSource source = checkpoint.Linear(module, tensor->shape[0], in);
    ASSERT_TRUE(source.affine.has_value());
    DequantizeAffineRow(*source.affine, row, out);
    return;
  }
  for (int64_t i = 0; i < in; ++i) {
    out[static_cast<size_t>(i)] = FloatElement(*tensor, row * in + i);
  }
}

// How many values of the converted checkpoint differ from what the GGUF file decodes to. The
// permutation is written out here anew: head h keeps its rows, row (half a, pair i) comes from
// row 2i + a.
int64_t Differences(const formats::GgufFile& gguf, const formats::Checkpoint& checkpoint,
                    int64_t* compared) {
  const formats::GgufModel model = formats::DescribeGgufModel(gguf);
  const bool llama = *gguf.String("general.architecture") == "llama";
  int64_t differences = 0;
  for (const formats::GgufModelTensor& item : model.tensors) {
    const formats::GgufTensor& tensor = *item.tensor;
    const bool vector = tensor.shape.rank() == 1;
    const bool permuted = llama && (item.name.find("q_proj") != std::string::npos ||
                                    item.name.find("k_proj") != std::string::npos);
    const int64_t head = model.config["head_dim"].get<int64_t>();
    const int64_t rows = vector ? tensor.shape[0] : tensor.Rows();
    std::vector<float> all(static_cast<size_t>(tensor.shape.Elements()));
    formats::DequantizeGgml(*tensor.info, tensor.bytes, all);
    const size_t width = all.size() / static_cast<size_t>(rows);
    std::vector<float> found(width);
    for (int64_t row = 0; row < rows; ++row) {
      int64_t from = row;
      if (permuted) {
        const int64_t a = row % head / (head / 2);
        const int64_t i = row % (head / 2);
        from = row / head * head + 2 * i + a;
      }
      ReadRow(checkpoint, item.name, row, found);
      for (size_t i = 0; i < width; ++i) {
        differences += found[i] == all[static_cast<size_t>(from) * width + i] ? 0 : 1;
        ++*compared;
      }
    }
  }
  return differences;
}

TEST(ConvertGguf, LosslessTypesKeepEveryValue) {
  for (const uint32_t type : {0U, 1U, 2U, 3U, 6U, 7U, 8U, 12U, 13U, 30U}) {
    const formats::ScratchDir dir;
    TinyModel model;
    model.linear_type = type;
    model.biases = true;
    model.own_head = true;
    model.seed = type + 7;
    const fs::path source = dir.Write("m.gguf", TinyGguf(model).Build());
    const ConvertResult result = Convert(Options(source, dir.path() / "out"), {});
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
  Convert(Options(source, dir.path() / "out"), {});
  const auto checkpoint = formats::Checkpoint::Open(dir.path() / "out");
  EXPECT_EQ(checkpoint->FindTensor("model.layers.0.mlp.up_proj.scales")->dtype, DType::kF32);
  EXPECT_EQ(checkpoint->FindTensor("model.layers.1.mlp.up_proj.scales")->dtype, DType::kF16);
  int64_t compared = 0;
  EXPECT_EQ(Differences(*formats::GgufFile::Open(source), *checkpoint, &compared), 0);

  const uint16_t infinite = 0x7c00;
  std::memcpy(file.data() + offset, &infinite, 2);
  dir.Write("m.gguf", file);
  EXPECT_THAT(formats::ErrorOf([&] { Convert(Options(source, dir.path() / "out2"), {}); }),
              testing::AllOf(HasSubstr("m.gguf: tensor blk.0.ffn_up.weight: row 0 has a scale that"
                                       " is not finite"),
                             HasSubstr("fetch it again")));
}

TEST(ConvertGguf, WritesConfig) {
  const formats::ScratchDir dir;
  TinyModel model;
  const fs::path source = dir.Write("m.gguf", TinyGguf(model).Build());
  Convert(Options(source, dir.path() / "out"), {});
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
  EXPECT_THAT(formats::ErrorOf([&] { Convert(Options(first, dir.path() / "out"), {}); }),
              testing::AllOf(HasSubstr("m-00001-of-00002.gguf: is one of 2 parts"),
                             HasSubstr("llama-gguf-split --merge")));
  dir.Write("two/m-00002-of-00002.gguf", formats::GgufBuilder().U32("split.count", 2).Build());
  const fs::path two = dir.path() / "two";
  EXPECT_THAT(formats::ErrorOf([&] { Convert(Options(two, dir.path() / "out"), {}); }),
              testing::AllOf(HasSubstr("2 .gguf files that are parts of one model"),
                             HasSubstr("llama-gguf-split --merge")));
  dir.Write("two/other.gguf", part);
  EXPECT_THAT(formats::ErrorOf([&] { Convert(Options(two, dir.path() / "out"), {}); }),
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
    Convert(Options(source, dir.path() / "out"), {});
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
        formats::ErrorOf([&] { Convert(Options(source, dir.path() / "out"), {}); });
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
  ConvertOptions options = Options(source, dir.path() / "out");
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
    ReadRow(*checkpoint, "model.layers.0.mlp.up_proj.weight", row, found);
    const auto [low, high] = std::minmax_element(expected.begin(), expected.end());
    for (size_t i = 0; i < 256; ++i) {
      ASSERT_NEAR(found[i], expected[i], (*high - *low) / 255);
    }
  }
  options.out = dir.path() / "all";
  options.requantise_all = true;
  EXPECT_EQ(Convert(options, {}).requantised.size(), 15U);
}

fs::path WriteHfModel(const formats::ScratchDir& dir, const std::string& at) {
  std::vector<uint16_t> values(64 * 128);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = FloatToBf16(static_cast<float>(i % 97) * 0.01F - 0.4F);
  }
  const std::string matrix = formats::BytesOf(values);
  dir.Write(at + "/config.json",
            R"({"model_type":"llama","tie_word_embeddings":true,"hidden_size":128})");
  dir.Write(at + "/tokenizer.json", "{}");
  dir.Write(at + "/notes.md", "not carried");
  dir.Write(
      at + "/model.safetensors",
      formats::MakeSafetensors({{"lm_head.weight", "BF16", {64, 128}, matrix},
                                {"model.embed_tokens.weight", "BF16", {64, 128}, matrix},
                                {"model.layers.0.mlp.up_proj.weight", "BF16", {64, 128}, matrix},
                                {"model.norm.weight", "BF16", {128}, std::string(256, '\1')},
                                {"odd.weight", "BF16", {2, 3}, "abcdefghijkl"}}));
  return dir.path() / at;
}

TEST(ConvertDirectory, CopiesAndVerifies) {
  const formats::ScratchDir dir;
  const fs::path source = WriteHfModel(dir, "hf");
  uint64_t last = 0;
  uint64_t total = 0;
  const ConvertResult result =
      Convert(Options(source, dir.path() / "out/"), [&](const ConvertProgress& progress) {
        EXPECT_GE(progress.done_bytes, last);
        last = progress.done_bytes;
        total = progress.total_bytes;
      });
  EXPECT_EQ(last, total);
  EXPECT_GT(total, 0U);
  EXPECT_THAT(result.skipped, testing::ElementsAre("notes.md"));
  for (const char* name : {"model.safetensors", "config.json", "tokenizer.json"}) {
    EXPECT_EQ(ReadWholeFile(source / name), ReadWholeFile(dir.path() / "out" / name));
  }
  EXPECT_TRUE(formats::Checkpoint::Open(dir.path() / "out")->Verify({}));
  EXPECT_FALSE(formats::Checkpoint::Open(source)->Verify({}));
}

TEST(ConvertDirectory, QuantisesAsMlxLmDoes) {
  const formats::ScratchDir dir;
  const fs::path source = WriteHfModel(dir, "hf");
  ConvertOptions options = Options(source, dir.path() / "out");
  options.bits = 4;
  const ConvertResult result = Convert(options, {});
  EXPECT_THAT(result.requantised, testing::ElementsAre("model.embed_tokens.weight",
                                                       "model.layers.0.mlp.up_proj.weight"));
  const auto checkpoint = formats::Checkpoint::Open(dir.path() / "out");
  EXPECT_FALSE(checkpoint->Has("lm_head.weight"));
  EXPECT_EQ(checkpoint->FindTensor("model.norm.weight")->dtype, DType::kBF16);
  EXPECT_EQ(checkpoint->FindTensor("odd.weight")->dtype, DType::kBF16);
  const formats::LinearSource layer = checkpoint->Linear("model.layers.0.mlp.up_proj", 64, 128);
  EXPECT_EQ(layer.affine->scheme, (AffineScheme{4, 64}));
  EXPECT_EQ(layer.affine->scales.dtype, DType::kBF16);
  EXPECT_EQ(checkpoint->config().RequireInt("hidden_size"), 128);

  ConvertOptions again = Options(dir.path() / "out", dir.path() / "out2");
  again.bits = 8;
  EXPECT_THAT(formats::ErrorOf([&] { Convert(again, {}); }),
              HasSubstr("already quantised (4-bit affine"));
}

TEST(ConvertDirectory, RefusesWhatCannotBeServed) {
  const formats::ScratchDir dir;
  const fs::path source = WriteHfModel(dir, "hf");
  const auto error = [&](const std::string& config, int bits) {
    dir.Write("hf/config.json", config);
    ConvertOptions options = Options(source, dir.path() / "out");
    if (bits > 0) {
      options.bits = bits;
    }
    std::string text = formats::ErrorOf([&] { Convert(options, {}); });
    EXPECT_FALSE(fs::exists(dir.path() / "out"));
    return text;
  };
  for (const int bits : {0, 4}) {
    EXPECT_THAT(error(R"({"model_type":"gemma3"})", bits),
                testing::AllOf(HasSubstr("config.json: model_type is \"gemma3\""),
                               HasSubstr("llama, qwen2, qwen3, qwen3_moe and qwen3_5_moe")));
  }
  EXPECT_THAT(error(R"({"model_type":"llama","quantization":{"mode":"mxfp4","bits":4}})", 0),
              HasSubstr("quantization says mode \"mxfp4\""));
  EXPECT_THAT(error(R"({"model_type":"llama","quantization":{"bits":4,"group_size":64,
                        "model.layers.0.mlp.up_proj":{"mode":"nvfp4"}}})",
                    0),
              HasSubstr("quantization.model.layers.0.mlp.up_proj says mode \"nvfp4\""));
  EXPECT_THAT(error(R"({"model_type":"llama","quantization":{"bits":7,"group_size":64}})", 0),
              HasSubstr("7 bits in groups of 64"));
}

TEST(ConvertDirectory, WeightsThatAreNotFiniteAreNamed) {
  const formats::ScratchDir dir;
  const fs::path source = WriteHfModel(dir, "hf");
  std::string bytes = ReadWholeFile(source / "model.safetensors");
  {
    const auto checkpoint = formats::Checkpoint::Open(source);
    const std::byte* file = checkpoint->files().front()->HeaderBytes().data();
    const auto tensor = checkpoint->FindTensor("model.layers.0.mlp.up_proj.weight");
    bytes.replace(static_cast<size_t>(tensor->bytes.data() - file), 2, "\x80\x7f");
  }
  dir.Write("hf/model.safetensors", bytes);
  ConvertOptions options = Options(source, dir.path() / "out");
  options.bits = 4;
  EXPECT_THAT(formats::ErrorOf([&] { Convert(options, {}); }),
              testing::AllOf(HasSubstr("hf/model.safetensors: tensor model.layers.0.mlp.up_proj."
                                       "weight: row 0 holds a value that is not finite"),
                             HasSubstr("fetch it again")));
}

TEST(Convert, ContinuesWhereItStopped) {
  const formats::ScratchDir dir;
  const fs::path source = dir.Write("m.gguf", TinyGguf({}).Build());
  ConvertOptions options = Options(source, dir.path() / "out");
  options.max_shard_bytes = 100'000;
  // Stop at every progress report in turn: a stopped conversion never leaves a directory that
  // loads, and the next one ends with the same bytes.
  Convert(Options(source, dir.path() / "unused"), {});
  options.out = dir.path() / "whole";
  const ConvertResult whole = Convert(options, {});
  EXPECT_GT(whole.files.size(), 8U);
  options.out = dir.path() / "out";
  int resumed = 0;
  int stops = 0;
  for (int stop_at = 1;; stop_at += 5) {
    int reports = 0;
    try {
      const ConvertResult result = Convert(options, [&](const ConvertProgress&) {
        if (++reports == stop_at) {
          throw Error(ErrorCode::kCancelled, "stopped");
        }
      });
      resumed += result.resumed_files;
      break;
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), ErrorCode::kCancelled);
      ++stops;
      EXPECT_FALSE(fs::exists(options.out));
      EXPECT_THROW(formats::Checkpoint::Open(dir.path() / "out.partial"), Error);
    }
  }
  EXPECT_GT(stops, 3);
  EXPECT_GT(resumed, 0);
  for (const std::string& name : whole.files) {
    EXPECT_EQ(ReadWholeFile(dir.path() / "whole" / name), ReadWholeFile(options.out / name))
        << name;
  }
}

TEST(Convert, DamagedPartialFilesAreMadeAnew) {
  const formats::ScratchDir dir;
  const fs::path source = dir.Write("m.gguf", TinyGguf({}).Build());
  ConvertOptions options = Options(source, dir.path() / "out");
  options.max_shard_bytes = 100'000;
  uint64_t half = 0;
  EXPECT_THROW(Convert(options,
                       [&](const ConvertProgress& progress) {
                         if (progress.done_bytes > progress.total_bytes / 2) {
                           half = progress.done_bytes;
                           throw Error(ErrorCode::kCancelled, "stopped");
                         }
                       }),
               Error);
  ASSERT_GT(half, 0U);
  fs::path first;
  for (const auto& entry : fs::directory_iterator(dir.path() / "out.partial")) {
    if (entry.path().filename().string().find("model-00001") == 0) {
      first = entry.path();
    }
  }
  std::string bytes = ReadWholeFile(first);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  std::ofstream(first, std::ios::binary) << bytes;
  std::ofstream(dir.path() / "out.partial" / "leftover.safetensors") << "x";
  Convert(options, {});
  const auto checkpoint = formats::Checkpoint::Open(dir.path() / "out");
  EXPECT_TRUE(checkpoint->Verify({}));
  int64_t compared = 0;
  EXPECT_EQ(Differences(*formats::GgufFile::Open(source), *checkpoint, &compared), 0);
  EXPECT_FALSE(fs::exists(dir.path() / "out" / "leftover.safetensors"));
}

TEST(Convert, ExistingOutput) {
  const formats::ScratchDir dir;
  const fs::path source = dir.Write("m.gguf", TinyGguf({}).Build());
  ConvertOptions options = Options(source, dir.path() / "out");
  Convert(options, {});
  EXPECT_TRUE(Convert(options, {}).already_done);
  options.max_shard_bytes = 100'000;
  EXPECT_THAT(formats::ErrorOf([&] { Convert(options, {}); }),
              testing::AllOf(HasSubstr("out exists and was written"), HasSubstr("--force")));
  options.force = true;
  EXPECT_FALSE(Convert(options, {}).already_done);
  EXPECT_TRUE(fs::exists(dir.path() / "out" / "model.safetensors.index.json"));
  EXPECT_FALSE(fs::exists(dir.path() / "out.replaced"));

  dir.Write("precious/thesis.txt", "x");
  options.out = dir.path() / "precious";
  EXPECT_THAT(formats::ErrorOf([&] { Convert(options, {}); }),
              HasSubstr("not an engine checkpoint"));
  EXPECT_TRUE(fs::exists(dir.path() / "precious/thesis.txt"));
  options.out = source;
  EXPECT_THAT(formats::ErrorOf([&] { Convert(options, {}); }), HasSubstr("source and output"));
  options.out = dir.path();
  EXPECT_THAT(formats::ErrorOf([&] { Convert(options, {}); }), HasSubstr("is inside the output"));
}

TEST(Convert, SaysWhatAnExistingOutputIs) {
  const formats::ScratchDir dir;
  const fs::path source = WriteHfModel(dir, "hf");
  ConvertOptions options = Options(source, dir.path() / "out");
  options.bits = 4;
  Convert(options, {});
  const auto error = [&] { return formats::ErrorOf([&] { Convert(options, {}); }); };
  const std::string made = "out exists and was made from " + source.string();
  options.bits = 8;
  options.group_size = 32;
  EXPECT_THAT(error(),
              testing::AllOf(HasSubstr(made + " with --bits 4 --group-size 64, not with --bits 8 "
                                              "--group-size 32 (choose another --out, or add "
                                              "--force"),
                             testing::Not(HasSubstr("writer"))));
  options.bits.reset();
  EXPECT_THAT(error(), HasSubstr(made + " with --bits 4 --group-size 64, not without --bits"));
  options.bits = 4;
  options.group_size = 64;
  options.max_shard_bytes = 10'000;
  EXPECT_THAT(error(), HasSubstr("was written by another version of mach"));
  options.max_shard_bytes = ConvertOptions().max_shard_bytes;
  options.source = WriteHfModel(dir, "other");
  EXPECT_THAT(error(), HasSubstr(made + " with --bits 4 --group-size 64 (choose"));
  options.source = source / "";
  EXPECT_TRUE(Convert(options, {}).already_done);

  dir.Write("hf/tokenizer.json", "{ }");
  dir.Write("hf/added_tokens.json", "{}");
  EXPECT_THAT(error(), HasSubstr(made + ", which has changed since: added_tokens.json, "
                                        "tokenizer.json (choose"));
  // Of a mach.json without the files of the source.
  formats::Journal journal = *formats::Journal::Find(options.out);
  journal.source_files.clear();
  WriteFileAtomically(options.out / "mach.json", journal.ToJson());
  EXPECT_THAT(error(), HasSubstr(made + ", which has changed since (choose"));
  options.force = true;
  EXPECT_FALSE(Convert(options, {}).already_done);
}

TEST(Convert, TextsMayBeEdited) {
  const formats::ScratchDir dir;
  WriteHfModel(dir, "hf");
  for (const char* name : {"tokenizer_config.json", "generation_config.json"}) {
    dir.Write(std::string("hf/") + name, "{}");
  }
  dir.Write("hf/chat_template.jinja", "{{ messages }}");
  const ConvertOptions options = Options(dir.path() / "hf", dir.path() / "out");
  Convert(options, {});
  EXPECT_THAT(formats::Checkpoint::Open(options.out)->Verify({}),
              testing::Optional(testing::IsEmpty()));
  dir.Write("out/chat_template.jinja", "{{ messages[0].content }}");
  dir.Write("out/generation_config.json", R"({"temperature":0.5})");
  uint64_t last = 0;
  uint64_t total = 0;
  EXPECT_THAT(formats::Checkpoint::Open(options.out)->Verify([&](uint64_t done, uint64_t all) {
    last = done;
    total = all;
  }),
              testing::Optional(
                  testing::UnorderedElementsAre("chat_template.jinja", "generation_config.json")));
  EXPECT_EQ(last, total);
  EXPECT_TRUE(Convert(options, {}).already_done);
  for (const char* name : {"tokenizer.json", "config.json"}) {
    const std::string text = ReadWholeFile(options.out / name);
    dir.Write(std::string("out/") + name, text + " ");
    EXPECT_THAT(formats::ErrorOf([&] { formats::Checkpoint::Open(options.out); }),
                testing::AllOf(HasSubstr(name), HasSubstr("bytes, ")));
    dir.Write(std::string("out/") + name, text);
  }
  fs::remove(options.out / "generation_config.json");
  EXPECT_THAT(formats::ErrorOf([&] { formats::Checkpoint::Open(options.out); }),
              HasSubstr("is missing"));
}

TEST(Convert, AnEditThatKeepsTheLengthIsSeen) {
  const formats::ScratchDir dir;
  const ConvertOptions options = Options(WriteHfModel(dir, "hf"), dir.path() / "out");
  Convert(options, {});
  for (const char* name : {"tokenizer.json", "config.json"}) {
    const std::string text = ReadWholeFile(options.out / name);
    std::string edited = text;
    edited.back() = edited.back() == ' ' ? '\n' : ' ';
    dir.Write(std::string("out/") + name, edited);
    EXPECT_THAT(formats::ErrorOf([&] { formats::Checkpoint::Open(options.out); }),
                testing::AllOf(HasSubstr(name), HasSubstr("was changed after the conversion"),
                               HasSubstr("mach convert")));
    dir.Write(std::string("out/") + name, text);
    EXPECT_EQ(formats::ErrorOf([&] { formats::Checkpoint::Open(options.out); }), "no error");
  }
}

TEST(Convert, AnIndexThatDoesNotFitIsLeftBehind) {
  const formats::ScratchDir dir;
  const fs::path source = WriteHfModel(dir, "hf");
  dir.Write("hf/model.safetensors.index.json", R"({"weight_map":{"a":"b.safetensors"}})");
  const ConvertResult result = Convert(Options(source, dir.path() / "out"), {});
  EXPECT_THAT(result.skipped, testing::ElementsAre("model.safetensors.index.json", "notes.md"));
  EXPECT_FALSE(fs::exists(dir.path() / "out/model.safetensors.index.json"));
}

TEST(Convert, WhatCannotBeLoadedIsNotPublished) {
  const formats::ScratchDir dir;
  ConvertOptions options = Options(WriteHfModel(dir, "hf"), dir.path() / "out");
  const fs::path partial = dir.path() / "out.partial";
  options.check_output = [&](const fs::path& out) {
    EXPECT_EQ(out, partial);
    EXPECT_EQ(formats::ErrorOf([&] { (void)formats::Checkpoint::Open(out); }), "no error");
    throw Error(ErrorCode::kUnsupported, "no model has this shape");
  };
  EXPECT_THAT(formats::ErrorOf([&] { Convert(options, {}); }),
              testing::AllOf(HasSubstr("hf cannot be loaded: no model has this shape")));
  EXPECT_FALSE(fs::exists(options.out));
  EXPECT_THAT(formats::ErrorOf([&] { (void)formats::Checkpoint::Open(partial); }),
              HasSubstr("did not finish"));
  // What was written counts as far as it goes.
  options.check_output = [](const fs::path&) {};
  EXPECT_GT(Convert(options, {}).resumed_files, 0);
  EXPECT_EQ(formats::ErrorOf([&] { (void)formats::Checkpoint::Open(options.out); }), "no error");
}

TEST(Convert, ASourceThatShrinksIsNamed) {
  for (const bool gguf : {false, true}) {
    for (const int bits : {0, 8}) {
      if (!gguf && bits == 0) {
        continue;  // a copy, which has the small file read before it tells of any progress
      }
      const formats::ScratchDir dir;
      const fs::path source = gguf ? dir.Write("m.gguf", TinyGguf({.linear_type = 8}).Build())
                                   : WriteHfModel(dir, "hf");
      const fs::path weights = gguf ? source : source / "model.safetensors";
      ConvertOptions options = Options(source, dir.path() / "out");
      if (bits > 0) {
        options.bits = bits;
        options.requantise_all = gguf;
      }
      const std::string error = formats::ErrorOf([&] {
        Convert(options, [&](const ConvertProgress&) { fs::resize_file(weights, 100); });
      });
      EXPECT_THAT(error, HasSubstr(weights.string())) << gguf << bits;
      EXPECT_FALSE(fs::exists(options.out));
    }
  }
}

TEST(Convert, TwoConversionsDoNotShareAnOutput) {
  const formats::ScratchDir dir;
  const ConvertOptions options = Options(WriteHfModel(dir, "hf"), dir.path() / "out");
  ConvertOptions first = options;
  std::string second;
  first.check_output = [&](const fs::path&) {
    second = formats::ErrorOf([&] { Convert(options, {}); });
  };
  Convert(first, {});
  EXPECT_THAT(second, HasSubstr("out.partial is being written by another conversion"));
  // One that was let in just when the other gave the directory its final name.
  const fs::path partial = dir.path() / "out.partial";
  fs::create_directory(partial);
  {
    const DirectoryLock lock(partial);
    EXPECT_THAT(formats::ErrorOf([&] { const DirectoryLock other(partial); }),
                HasSubstr("another"));
  }
  EXPECT_EQ(formats::ErrorOf([&] { const DirectoryLock other(partial); }), "no error");
}

TEST(Convert, WarnsOfASourceWithoutTokenizer) {
  const formats::ScratchDir dir;
  const ConvertOptions options = Options(WriteHfModel(dir, "hf"), dir.path() / "out");
  fs::remove(dir.path() / "hf/tokenizer.json");
  testing::internal::CaptureStderr();
  Convert(options, {});
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              testing::AllOf(HasSubstr("no tokenizer.json"), HasSubstr("hf/tokenizer.json")));
}

TEST(Convert, AnOutputThatCannotBeMadeIsNamed) {
  const formats::ScratchDir dir;
  const fs::path source = WriteHfModel(dir, "hf");
  const fs::path out = dir.Write("file", "x") / "out";
  EXPECT_EQ(formats::ErrorOf([&] { Convert(Options(source, out), {}); }),
            "cannot write " + out.string() + ": " + out.string() +
                ".partial: Not a directory (choose another --out)");
}

TEST(Convert, ForceMendsADamagedManifest) {
  const formats::ScratchDir dir;
  const fs::path source = dir.Write("m.gguf", TinyGguf({}).Build());
  ConvertOptions options = Options(source, dir.path() / "out");
  Convert(options, {});
  for (const char* damaged : {"{", "{}", ""}) {
    std::ofstream(options.out / "mach.json") << damaged;
    options.force = false;
    for (const std::string& error :
         {formats::ErrorOf([&] { Convert(options, {}); }),
          formats::ErrorOf([&] { (void)formats::Checkpoint::Open(options.out); })}) {
      EXPECT_THAT(error, testing::AllOf(HasSubstr("mach.json"),
                                        HasSubstr("--out " + options.out.string() + " --force")));
    }
    options.force = true;
    EXPECT_FALSE(Convert(options, {}).already_done);
    EXPECT_TRUE(formats::Checkpoint::Open(options.out)->Verify({}));
  }
}

TEST(Convert, ReplacesNothingOfOthers) {
  const formats::ScratchDir dir;
  const fs::path source = dir.Write("m.gguf", TinyGguf({}).Build());
  ConvertOptions options = Options(source, dir.path() / "out");
  Convert(options, {});
  // Somebody's copy, which has the name that what is replaced would get first.
  fs::copy(options.out, dir.path() / "out.replaced", fs::copy_options::recursive);
  options.force = true;
  EXPECT_FALSE(Convert(options, {}).already_done);
  EXPECT_TRUE(formats::Checkpoint::Open(dir.path() / "out.replaced")->Verify({}));
  EXPECT_FALSE(fs::exists(dir.path() / "out.replaced-1"));
}

// A removal that was killed between the mark and the directory.
TEST(Convert, AnEmptyReplacedDirectoryGoes) {
  const formats::ScratchDir dir;
  const ConvertOptions options = Options(WriteHfModel(dir, "hf"), dir.path() / "out");
  for (const bool already_done : {false, true}) {
    fs::create_directory(dir.path() / "out.replaced");
    EXPECT_EQ(Convert(options, {}).already_done, already_done);
    EXPECT_FALSE(fs::exists(dir.path() / "out.replaced"));
  }
}

TEST(Convert, APartialDirectoryOfOthersStays) {
  const formats::ScratchDir dir;
  const fs::path source = dir.Write("m.gguf", TinyGguf({}).Build());
  const ConvertOptions options = Options(source, dir.path() / "out");
  const fs::path thesis = dir.Write("out.partial/thesis/1.txt", "x");
  EXPECT_THAT(formats::ErrorOf([&] { Convert(options, {}); }),
              testing::AllOf(HasSubstr("out.partial exists and was not begun by a conversion"),
                             HasSubstr("thesis"), HasSubstr("another --out")));
  EXPECT_TRUE(fs::exists(thesis));
  EXPECT_FALSE(fs::exists(dir.path() / "out.partial/mach.json"));
  // A journal that cannot be read is a journal.
  dir.Write("out.partial/mach.json", "{");
  Convert(options, {});
  EXPECT_FALSE(fs::exists(dir.path() / "out/thesis"));
  // What a kill leaves that came while the first journal was written.
  dir.Write("other.partial/mach.json.tmp-123", "{");
  Convert(Options(source, dir.path() / "other"), {});
  EXPECT_FALSE(fs::exists(dir.path() / "other/mach.json.tmp-123"));
}

TEST(Convert, ACompleteCheckpointCalledPartialStays) {
  const formats::ScratchDir dir;
  const fs::path source = dir.Write("m.gguf", TinyGguf({}).Build());
  Convert(Options(WriteHfModel(dir, "hf"), dir.path() / "out.partial"), {});
  EXPECT_THAT(formats::ErrorOf([&] { Convert(Options(source, dir.path() / "out"), {}); }),
              testing::AllOf(HasSubstr("out.partial exists and is a complete checkpoint"),
                             HasSubstr("another --out")));
  EXPECT_TRUE(formats::Checkpoint::Open(dir.path() / "out.partial")->Verify({}));
}

TEST(Convert, TheSourceIsNotThePartialDirectory) {
  const formats::ScratchDir dir;
  const fs::path hf = WriteHfModel(dir, "hf.partial");
  dir.Write("hf.partial/mach.json", "{}");
  const fs::path gguf = dir.Write("hf.partial/below/m.gguf", TinyGguf({}).Build());
  const fs::path out = dir.path() / "hf";
  EXPECT_THAT(formats::ErrorOf([&] { Convert(Options(hf, out), {}); }),
              HasSubstr("source and output"));
  EXPECT_THAT(formats::ErrorOf([&] { Convert(Options(gguf, out), {}); }),
              HasSubstr("is inside the output"));
  fs::create_directory_symlink(hf, dir.path() / "link.partial");
  EXPECT_THAT(formats::ErrorOf([&] { Convert(Options(gguf, dir.path() / "link"), {}); }),
              HasSubstr("is inside the output"));
  EXPECT_TRUE(fs::exists(hf / "model.safetensors"));
  EXPECT_TRUE(fs::exists(gguf));
}

TEST(Journal, TheCureHasTheOptions) {
  formats::Journal journal;
  journal.source_path = "/my models/m";
  ConvertOptions options;
  journal.options = DescribeOptions(options);
  EXPECT_EQ(journal.Cure("/o"), "convert it again: mach convert '/my models/m' --out /o --force");
  options.bits = 8;
  options.group_size = 32;
  options.requantise_all = true;
  journal.options = DescribeOptions(options);
  EXPECT_EQ(journal.Cure("/o"),
            "convert it again: mach convert '/my models/m' --bits 8 --group-size 32 "
            "--requantise-all --out /o --force");
}

TEST(Convert, ManifestCatchesDamage) {
  const formats::ScratchDir dir;
  const fs::path source = dir.Write("m.gguf", TinyGguf({}).Build());
  Convert(Options(source, dir.path() / "out"), {});
  const fs::path weights = dir.path() / "out" / "model.safetensors";
  std::string bytes = ReadWholeFile(weights);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 4);
  std::ofstream(weights, std::ios::binary) << bytes;
  EXPECT_THAT(formats::ErrorOf([&] { formats::Checkpoint::Open(dir.path() / "out")->Verify({}); }),
              testing::AllOf(HasSubstr("model.safetensors: checksum is"), HasSubstr("says")));
  std::ofstream(weights, std::ios::binary) << bytes.substr(0, bytes.size() - 1);
  EXPECT_THAT(formats::ErrorOf([&] { formats::Checkpoint::Open(dir.path() / "out"); }),
              HasSubstr("bytes,"));
  fs::remove(weights);
  EXPECT_THAT(formats::ErrorOf([&] { formats::Checkpoint::Open(dir.path() / "out"); }),
              HasSubstr("is missing"));
}

TEST(Convert, BadOptions) {
  const formats::ScratchDir dir;
  ConvertOptions options = Options(dir.path() / "none", dir.path() / "out");
  EXPECT_THAT(formats::ErrorOf([&] { Convert(options, {}); }), HasSubstr("no file or directory"));
  options.bits = 7;
  EXPECT_THAT(formats::ErrorOf([&] { Convert(options, {}); }),
              HasSubstr("cannot quantise to 7 bits"));
  options.bits.reset();
  options.requantise_all = true;
  EXPECT_THAT(formats::ErrorOf([&] { Convert(options, {}); }), HasSubstr("needs a number of bits"));
  options = Options(dir.path(), "");
  EXPECT_THAT(formats::ErrorOf([&] { Convert(options, {}); }), HasSubstr("--out"));
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST(ConvertGguf, MemoryDoesNotGrowWithTheModel) {
  const formats::ScratchDir dir;
  TinyModel model;
  model.hidden = 32768;
  const fs::path source = dir.Write("m.gguf", TinyGguf(model).Build());
  ASSERT_GT(fs::file_size(source), 80U << 20);
  ExpectPeakBelow(32U << 20, [&] { Convert(Options(source, dir.path() / "out"), {}); });
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
  const ConvertResult result = Convert(Options(file, out), {});
  const auto checkpoint = formats::Checkpoint::Open(out);
  EXPECT_TRUE(checkpoint->Verify({}));
  int64_t compared = 0;
  EXPECT_EQ(Differences(*formats::GgufFile::Open(file), *checkpoint, &compared), 0);
  std::cout << compared << " values compared; " << result.written_bytes << " bytes in "
            << result.elapsed_s << " s\n";
}

}  // namespace
}  // namespace mach::convert
