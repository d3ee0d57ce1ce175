#include "formats/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/formats/test_files.h"

namespace mach::formats {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

// A layer "P" of 2 outputs and 64 inputs, quantised to `bits` in groups of `group`.
std::vector<TestTensor> QuantisedLayer(const std::string& module, int bits, int group,
                                       const std::string& float_type = "F16") {
  const int64_t words = 64 * bits / 32;
  const int64_t groups = 64 / group;
  const size_t float_bytes = float_type == "F32" ? 4 : 2;
  return {
      {module + ".biases",
       float_type,
       {2, groups},
       std::string(static_cast<size_t>(2 * groups) * float_bytes, '\0')},
      {module + ".scales",
       float_type,
       {2, groups},
       std::string(static_cast<size_t>(2 * groups) * float_bytes, '\0')},
      {module + ".weight", "U32", {2, words}, std::string(static_cast<size_t>(8 * words), 'q')}};
}

TestTensor FloatLayer(const std::string& module) {
  return {module + ".weight", "BF16", {2, 64}, std::string(256, '\0')};
}

std::unique_ptr<Checkpoint> OpenWith(const ScratchDir& dir, const std::string& config,
                                     const std::vector<TestTensor>& tensors) {
  dir.Write("config.json", config);
  dir.Write("model.safetensors", MakeSafetensors(tensors));
  return Checkpoint::Open(dir.path());
}

std::vector<TestTensor> Join(std::vector<std::vector<TestTensor>> parts) {
  std::vector<TestTensor> all;
  for (auto& part : parts) {
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

TEST(Checkpoint, FlatAndWrappedConfig) {
  const ScratchDir dir;
  auto checkpoint = OpenWith(dir, R"({"model_type":"llama","hidden_size":64})", {FloatLayer("a")});
  EXPECT_EQ(checkpoint->model_type(), "llama");
  EXPECT_EQ(checkpoint->config().RequireInt("hidden_size"), 64);
  checkpoint =
      OpenWith(dir, R"({"model_type":"qwen3_5_moe","text_config":{"hidden_size":8},"x":1})",
               {FloatLayer("a")});
  EXPECT_EQ(checkpoint->config().RequireInt("hidden_size"), 8);
  EXPECT_EQ(checkpoint->root_config().RequireInt("x"), 1);
  EXPECT_THAT(checkpoint->TensorNames(), ElementsAre("a.weight"));
}

TEST(Checkpoint, FloatLinear) {
  const ScratchDir dir;
  const auto checkpoint = OpenWith(dir, R"({"model_type":"llama"})",
                                   {FloatLayer("a"), {"a.bias", "F32", {2}, std::string(8, '\0')}});
  const LinearSource source = checkpoint->Linear("a", 2, 64);
  EXPECT_TRUE(source.weight && source.bias && !source.affine);
  EXPECT_THAT(ErrorOf([&] { (void)checkpoint->Linear("a", 2, 32); }),
              AllOf(HasSubstr("a.weight has shape [2, 64]"), HasSubstr("implies [2, 32]")));
  EXPECT_THAT(ErrorOf([&] { (void)checkpoint->Linear("a", 3, 64); }),
              HasSubstr("a.bias has shape [2]"));
}

TEST(Checkpoint, QuantisationResolution) {
  const ScratchDir dir;
  const auto checkpoint =
      OpenWith(dir, R"({"model_type":"llama","quantization":{"group_size":64,"bits":4,
               "c":{"group_size":32,"bits":8},"e.f":false,"g":{"bits":8}}})",
               Join({QuantisedLayer("a", 4, 64),
                     {FloatLayer("b")},
                     QuantisedLayer("c", 8, 32, "F32"),
                     QuantisedLayer("d", 8, 64),
                     {FloatLayer("e.f")},
                     QuantisedLayer("g", 8, 64)}));
  LinearSource source = checkpoint->Linear("a", 2, 64);
  ASSERT_TRUE(source.affine.has_value());
  EXPECT_EQ(source.affine->scheme, (AffineScheme{4, 64}));
  EXPECT_FALSE(source.weight.has_value());
  EXPECT_TRUE(checkpoint->Linear("b", 2, 64).weight.has_value());
  source = checkpoint->Linear("c", 2, 64);
  EXPECT_EQ(source.affine->scheme, (AffineScheme{8, 32}));
  EXPECT_EQ(source.affine->scales.dtype, DType::kF32);
  EXPECT_TRUE(checkpoint->Linear("e.f", 2, 64).weight.has_value());
  EXPECT_EQ(checkpoint->Linear("g", 2, 64).affine->scheme, (AffineScheme{8, 64}));
  // The config says 4 bits, the tensor was packed with 8.
  EXPECT_THAT(ErrorOf([&] { (void)checkpoint->Linear("d", 2, 64); }),
              AllOf(HasSubstr("d.weight has shape [2, 16]"), HasSubstr("implies [2, 8]"),
                    HasSubstr("quantization: 4 bits, groups of 64")));
  EXPECT_EQ(checkpoint->QuantisationSummary(), "4-bit affine, group 64");
}

TEST(Checkpoint, OverridesMayNameModulesBelowAnotherPrefix) {
  const std::vector<std::string> prefixes = {"model.language_model.", "language_model.model.",
                                             "model."};
  for (const std::string& tensors : prefixes) {
    for (const std::string& config : prefixes) {
      const ScratchDir dir;
      const auto checkpoint =
          OpenWith(dir,
                   R"({"model_type":"qwen3_5_moe","quantization":{"group_size":64,"bits":4,")" +
                       config + R"(a":{"bits":8},")" + config +
                       R"(b":false,"language_model.lm_head":{"bits":6},"lm_head":{"bits":8}}})",
                   Join({QuantisedLayer(tensors + "a", 8, 64),
                         {FloatLayer(tensors + "b")},
                         QuantisedLayer("lm_head", 8, 64)}));
      EXPECT_EQ(checkpoint->Linear(tensors + "a", 2, 64).affine->scheme, (AffineScheme{8, 64}));
      EXPECT_TRUE(checkpoint->Linear(tensors + "b", 2, 64).weight.has_value());
      // A module's own name goes before one that only resembles it.
      EXPECT_EQ(checkpoint->Linear("lm_head", 2, 64).affine->scheme, (AffineScheme{8, 64}));
    }
  }
}

TEST(Checkpoint, EveryWidthAndGroup) {
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    for (const int group : {32, 64}) {
      const ScratchDir dir;
      const auto checkpoint =
          OpenWith(dir,
                   R"({"model_type":"llama","quantization_config":{"group_size":)" +
                       std::to_string(group) + R"(,"bits":)" + std::to_string(bits) + "}}",
                   QuantisedLayer("a", bits, group));
      const LinearSource source = checkpoint->Linear("a", 2, 64);
      EXPECT_EQ(source.affine->scheme, (AffineScheme{bits, group}));
      EXPECT_EQ(source.affine->codes.shape[1], 64 * bits / 32);
    }
  }
}

TEST(Checkpoint, QuantisationErrors) {
  const ScratchDir dir;
  const auto error = [&](const std::string& quantization, std::vector<TestTensor> tensors) {
    return ErrorOf([&] {
      const auto checkpoint =
          OpenWith(dir, R"({"model_type":"llama")" + quantization + "}", std::move(tensors));
      (void)checkpoint->Linear("a", 2, 64);
    });
  };
  EXPECT_THAT(error("", QuantisedLayer("a", 4, 64)), HasSubstr("no field quantization"));
  EXPECT_THAT(
      error(R"(,"quantization":{"bits":4,"group_size":64,"a":{"bits":4}})", {FloatLayer("a")}),
      HasSubstr("quantization.a says this layer is quantised"));
  EXPECT_THAT(error(R"(,"quantization":{"bits":4,"group_size":32,"mode":"mxfp4"})",
                    QuantisedLayer("a", 4, 32)),
              HasSubstr("mode \"mxfp4\""));
  EXPECT_THAT(error(R"(,"quantization":{"bits":7,"group_size":64})", QuantisedLayer("a", 4, 64)),
              HasSubstr("7 bits in groups of 64"));
  EXPECT_THAT(error(R"(,"quantization":{"bits":4,"group_size":128})", QuantisedLayer("a", 4, 64)),
              HasSubstr("not a multiple"));
  EXPECT_THAT(error(R"(,"quantization":{"bits":"x","group_size":64})", QuantisedLayer("a", 4, 64)),
              HasSubstr("quantization.bits is \"x\""));
  EXPECT_THAT(
      error(R"(,"quantization_config":{"quant_method":"gptq","bits":4})", {FloatLayer("a")}),
      HasSubstr("\"gptq\""));
  auto mixed = QuantisedLayer("a", 4, 64);
  mixed[0].dtype = "BF16";
  EXPECT_THAT(error(R"(,"quantization":{"bits":4,"group_size":64})", mixed),
              HasSubstr("a.scales is F16, but a.biases is BF16"));
  EXPECT_THAT(error("", {{"a.weight", "F8_E4M3", {2, 64}, std::string(128, 'x')}}),
              HasSubstr("is F8_E4M3, expected F32, F16 or BF16"));
  EXPECT_THAT(error("", {{"b", "U8", {1}, "x"}}), HasSubstr("tensor a.weight is missing"));
}

TEST(Checkpoint, StackedExperts) {
  const ScratchDir dir;
  const auto checkpoint =
      OpenWith(dir, R"({"model_type":"qwen3_moe","quantization":{"bits":4,"group_size":64}})",
               {{"a.biases", "F16", {3, 2, 1}, BytesOf<uint16_t>({0, 1, 2, 3, 4, 5})},
                {"a.scales", "F16", {3, 2, 1}, BytesOf<uint16_t>({0, 1, 2, 3, 4, 5})},
                {"a.weight", "U32", {3, 2, 8}, std::string(64, 'a') + std::string(128, 'b')},
                {"f.weight", "BF16", {2, 1, 2}, BytesOf<uint16_t>({10, 11, 12, 13})}});
  const LinearSource second = checkpoint->ExpertLinear("a", 3, 1, 2, 64);
  EXPECT_EQ(second.affine->codes.shape, (Shape{2, 8}));
  EXPECT_EQ(second.affine->codes.bytes[0], std::byte{'b'});
  EXPECT_EQ(second.affine->scales.bytes[0], std::byte{2});
  EXPECT_EQ(checkpoint->ExpertLinear("f", 2, 1, 1, 2).weight->bytes[0], std::byte{12});
  EXPECT_THROW((void)checkpoint->ExpertLinear("a", 4, 1, 2, 64), Error);
  EXPECT_THROW((void)checkpoint->ExpertLinear("a", 3, 3, 2, 64), Error);
}

TEST(Checkpoint, SummaryPassesOverForeignTypes) {
  const ScratchDir dir;
  const auto checkpoint = OpenWith(dir, R"({"model_type":"llama"})",
                                   {FloatLayer("a"),
                                    {"b", "F8_E8M0", {1000}, std::string(1000, 'x')},
                                    {"c", "C64", {2}, std::string(16, 'x')}});
  EXPECT_EQ(checkpoint->QuantisationSummary(), "BF16");
}

TEST(Checkpoint, WhereTiedEmbeddingsAreSaid) {
  const ScratchDir dir;
  const auto tied = [&](const std::string& text, const std::string& root, bool head) {
    std::vector<TestTensor> tensors = {FloatLayer("embed")};
    if (head) {
      tensors.push_back(FloatLayer("lm_head"));
    }
    return OpenWith(dir, R"({"model_type":"qwen3_5_moe","text_config":{)" + text + "}" + root + "}",
                    tensors)
        ->TiesWordEmbeddings("lm_head");
  };
  const std::string yes = R"("tie_word_embeddings":true)";
  const std::string no = R"("tie_word_embeddings":false)";
  for (const bool head : {false, true}) {
    EXPECT_TRUE(tied(yes, "," + no, head));
    EXPECT_FALSE(tied(no, "," + yes, head));
    EXPECT_TRUE(tied("", "," + yes, head));
    EXPECT_FALSE(tied("", "," + no, head));
    EXPECT_EQ(tied("", "", head), !head);
  }
}

TEST(Checkpoint, Shards) {
  const ScratchDir dir;
  dir.Write("config.json", R"({"model_type":"llama"})");
  dir.Write("model-00001-of-00002.safetensors", MakeSafetensors({{"a", "U8", {1}, "1"}}));
  dir.Write("model-00002-of-00002.safetensors", MakeSafetensors({{"b", "U8", {1}, "2"}}));
  EXPECT_THAT(Checkpoint::Open(dir.path())->TensorNames(), ElementsAre("a", "b"));

  const auto with_index = [&](const std::string& map) {
    dir.Write("model.safetensors.index.json", R"({"weight_map":)" + map + "}");
    return ErrorOf([&] { Checkpoint::Open(dir.path()); });
  };
  EXPECT_EQ(with_index(R"({"a":"model-00001-of-00002.safetensors",
                           "b":"model-00002-of-00002.safetensors"})"),
            "no error");
  EXPECT_THAT(
      with_index(R"({"a":"model-00003-of-00002.safetensors"})"),
      AllOf(HasSubstr("model-00003-of-00002.safetensors is missing"), HasSubstr("tensor a")));
  EXPECT_THAT(with_index(R"({"c":"model-00001-of-00002.safetensors"})"),
              HasSubstr("tensor c should be in"));
  EXPECT_THAT(with_index(R"({"a":"../evil.safetensors"})"), HasSubstr("plain file name"));
  EXPECT_THAT(with_index(R"({"a":5})"), HasSubstr("not a plain file name: 5"));
  EXPECT_THAT(with_index("{}"), HasSubstr("weight_map"));
  std::filesystem::remove(dir.path() / "model.safetensors.index.json");
  dir.Write("model-00003-of-00002.safetensors", MakeSafetensors({{"b", "U8", {1}, "2"}}));
  EXPECT_THAT(ErrorOf([&] { Checkpoint::Open(dir.path()); }), HasSubstr("is in both"));
}

TEST(Checkpoint, AnIndexThatDoesNotFitGivesWayToASingleFile) {
  const ScratchDir dir;
  dir.Write("config.json", R"({"model_type":"llama"})");
  dir.Write("model.safetensors", MakeSafetensors({{"a", "U8", {1}, "1"}}));
  const std::string index = "model.safetensors.index.json";
  for (const char* stale : {R"({"weight_map":{"a":"model-00001-of-00002.safetensors"}})",
                            R"({"weight_map":{"before":"model.safetensors"}})", "{"}) {
    dir.Write(index, stale);
    testing::internal::CaptureStderr();
    const auto checkpoint = Checkpoint::Open(dir.path());
    EXPECT_THAT(
        testing::internal::GetCapturedStderr(),
        AllOf(HasSubstr("index of weights that does not fit is ignored"), HasSubstr(index)));
    EXPECT_THAT(checkpoint->TensorNames(), ElementsAre("a"));
    EXPECT_FALSE(checkpoint->has_index());
  }
  dir.Write(index, R"({"weight_map":{"b":"model-00001-of-00001.safetensors"}})");
  dir.Write("model-00001-of-00001.safetensors", MakeSafetensors({{"b", "U8", {1}, "2"}}));
  EXPECT_THAT(Checkpoint::Open(dir.path())->TensorNames(), ElementsAre("b"));
  EXPECT_TRUE(Checkpoint::Open(dir.path())->has_index());
}

TEST(Checkpoint, FilesThatAreNotItsWeightsAreLeftAlone) {
  const ScratchDir dir;
  dir.Write("config.json", R"({"model_type":"llama"})");
  const auto names = [&] { return Checkpoint::Open(dir.path())->TensorNames(); };
  dir.Write("0000100_adapters.safetensors", MakeSafetensors({{"a", "U8", {1}, "0"}}));
  dir.Write("optimizer.safetensors", "not a safetensors file");
  EXPECT_THAT(ErrorOf(names), HasSubstr("no *.safetensors"));
  dir.Write("weights.00.safetensors", MakeSafetensors({{"a", "U8", {1}, "1"}}));
  dir.Write("weights.01.safetensors", MakeSafetensors({{"b", "U8", {1}, "2"}}));
  EXPECT_THAT(names(), ElementsAre("a", "b"));
  dir.Write("model_ema.safetensors", MakeSafetensors({{"c", "U8", {1}, "3"}}));
  EXPECT_THAT(names(), ElementsAre("c"));
  dir.Write("model-00002-of-00003.safetensors", MakeSafetensors({{"d", "U8", {1}, "4"}}));
  EXPECT_THAT(ErrorOf(names), AllOf(HasSubstr("model-00001-of-00003.safetensors is missing"),
                                    HasSubstr("and 1 others")));
}

TEST(Checkpoint, MissingParts) {
  const ScratchDir dir;
  EXPECT_THAT(ErrorOf([&] { Checkpoint::Open(dir.path() / "none"); }),
              HasSubstr("not a directory"));
  EXPECT_THAT(ErrorOf([&] { Checkpoint::Open(dir.path()); }), HasSubstr("no config.json"));
  dir.Write("config.json", "{}");
  EXPECT_THAT(ErrorOf([&] { Checkpoint::Open(dir.path()); }), HasSubstr("model_type is missing"));
  dir.Write("config.json", R"({"model_type":"llama"})");
  EXPECT_THAT(ErrorOf([&] { Checkpoint::Open(dir.path()); }), HasSubstr("no *.safetensors"));
}

}  // namespace
}  // namespace mach::formats
