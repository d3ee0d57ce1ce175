#include <cmath>
#include <csignal>
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/error.h"
#include "convert/convert.h"
#include "formats/checkpoint.h"
#include "formats/expert_sidecar.h"
#include "formats/expert_tensors.h"
#include "formats/journal.h"
#include "formats/moe_layout.h"
#include "platform/file.h"
#include "tests/convert/child.h"
#include "tests/convert/moe_files.h"

namespace mach::convert {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

ConvertOptions Options(const fs::path& source, const fs::path& out, int bits = 0) {
  ConvertOptions options;
  options.source = source;
  options.out = out;
  options.threads = 2;
  options.group_size = 32;
  options.max_shard_bytes = 40'000;
  if (bits > 0) {
    options.bits = bits;
  }
  return options;
}

// Every file below a directory, by relative name.
std::map<std::string, std::string> Contents(const fs::path& dir) {
  std::map<std::string, std::string> contents;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(dir)) {
    if (entry.is_regular_file()) {
      contents[fs::relative(entry.path(), dir).string()] = ReadWholeFile(entry.path());
    }
  }
  return contents;
}

// The same without what tells where a checkpoint came from: mach.json and the sidecar's
// fingerprint and own checksum.
std::map<std::string, std::string> ModelContents(const fs::path& dir) {
  std::map<std::string, std::string> contents = Contents(dir);
  contents.erase("mach.json");
  auto manifest = nlohmann::ordered_json::parse(contents.at("expert_sidecar/manifest.json"));
  manifest.erase("source_fingerprint");
  manifest.erase("manifest_xxh3_128");
  contents["expert_sidecar/manifest.json"] = manifest.dump();
  return contents;
}

// Rows of every expert of every record against `expected(layer, expert, matrix, row)`.
using ExpectedRow = std::function<std::vector<float>(int32_t layer, int32_t expert,
                                                     const std::string& matrix, int64_t row)>;
int64_t CompareRecords(const fs::path& checkpoint, const ExpectedRow& expected) {
  const auto sidecar = formats::ExpertSidecar::Find(checkpoint);
  EXPECT_TRUE(sidecar.has_value());
  const ExpertLayout& layout = sidecar->layout;
  int64_t compared = 0;
  for (const formats::SidecarLayer& layer : sidecar->moe_layers) {
    const auto file = OpenMappedFile(sidecar->PathOf(layer));
    for (int32_t expert = 0; expert < sidecar->experts; ++expert) {
      const std::byte* record = file->Mapped().data() + sidecar->OffsetOf(expert);
      const std::vector<std::pair<std::string, ExpertPart>> parts = {
          {"gate_proj", layout.gate}, {"up_proj", layout.up}, {"down_proj", layout.down}};
      for (const auto& [matrix, part] : parts) {
        const PackedView view(part.spec, record + part.offset_bytes);
        std::vector<float> row(static_cast<size_t>(part.spec.in_features));
        for (int64_t r = 0; r < part.spec.out_features; ++r) {
          view.UnpackRow(r, row);
          EXPECT_EQ(row, expected(layer.layer, expert, matrix, r))
              << layer.layer << " " << expert << " " << matrix << " " << r;
          ++compared;
        }
      }
    }
  }
  return compared;
}

constexpr int64_t kRowsOfExpert = 2 * TinyMoe::kIntermediate + TinyMoe::kHidden;

std::vector<float> RowOf(const MoeTestTensor& tensor, int64_t row) {
  const auto begin = tensor.values.begin() + row * tensor.shape[1];
  return {begin, begin + tensor.shape[1]};
}

// Entries of a quantization block that name modules as another export does.
TEST(ConvertMoe, OverridesUnderAnotherPrefixAreKept) {
  const fs::path golden = fs::path(MACH_SOURCE_DIR) / "tests/golden/qwen3_5_moe_q4_g32";
  const std::string own = "language_model.model.";
  for (const std::string prefix : {"model.language_model.", "model.", "language_model.model."}) {
    const formats::ScratchDir dir;
    auto config = nlohmann::ordered_json::parse(ReadWholeFile(golden / "config.json"));
    int renamed = 0;
    for (const char* field : {"quantization", "quantization_config"}) {
      auto block = nlohmann::ordered_json::object();
      for (const auto& [key, value] : config[field].items()) {
        const bool module = key.starts_with(own);
        block[module ? prefix + key.substr(own.size()) : key] = value;
        renamed += module ? 1 : 0;
      }
      config[field] = block;
    }
    ASSERT_GT(renamed, 0);
    dir.Write("source/config.json", config.dump());
    fs::copy(golden / "model.safetensors", dir.path() / "source");
    Convert(Options(dir.path() / "source", dir.path() / "out"), {});
    const auto checkpoint = formats::Checkpoint::Open(dir.path() / "out");
    const formats::MoeLayout layout = formats::MoeLayout::Of(*checkpoint);
    const formats::LinearSource router = checkpoint->Linear(
        layout.MlpModule(0) + ".gate", layout.experts.experts, layout.experts.hidden_size);
    ASSERT_TRUE(router.affine.has_value());
    EXPECT_EQ(router.affine->scheme.bits, 8);
    EXPECT_TRUE(
        checkpoint->root_config().RequireObject("quantization").Has(layout.MlpModule(0) + ".gate"));
  }
}

TEST(ConvertMoe, RecordsHoldEveryFloatOfEveryLayout) {
  for (const char* family : {"qwen3_5_moe", "qwen3_moe"}) {
    const TinyMoe model(family);
    for (const auto experts : {MoeWriting::Experts::kFused, MoeWriting::Experts::kSplit,
                               MoeWriting::Experts::kStacked}) {
      const formats::ScratchDir dir;
      MoeWriting writing;
      writing.experts = experts;
      writing.shards = 3;
      if (!model.hybrid()) {
        writing.prefix = "model.";
      }
      const fs::path source = model.Write(dir, "source", writing);
      Convert(Options(source, dir.path() / "out"), {});
      const int64_t compared = CompareRecords(
          dir.path() / "out",
          [&](int32_t layer, int32_t expert, const std::string& matrix, int64_t row) {
            return RowOf(model.Expert(layer, expert, matrix), row);
          });
      EXPECT_EQ(compared, kRowsOfExpert * TinyMoe::kExperts * (model.hybrid() ? 4 : 3));
      EXPECT_TRUE(formats::Checkpoint::Open(dir.path() / "out")->Verify({}));
    }
  }
}

TEST(ConvertMoe, RecordsHoldEveryCodeOfMlx) {
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    const TinyMoe model;
    const formats::ScratchDir dir;
    const fs::path source = model.Write(dir, "mlx", MoeWriting::Mlx(bits));
    Convert(Options(source, dir.path() / "out"), {});
    const auto original = formats::Checkpoint::Open(source);
    CompareRecords(dir.path() / "out", [&](int32_t layer, int32_t expert, const std::string& matrix,
                                           int64_t row) {
      const auto& shape = model.Expert(layer, expert, matrix).shape;
      std::vector<float> values(static_cast<size_t>(shape[1]));
      const formats::LinearSource linear = original->ExpertLinear(
          "language_model.model.layers." + std::to_string(layer) + ".mlp.switch_mlp." + matrix,
          TinyMoe::kExperts, expert, shape[0], shape[1]);
      DequantizeAffineRow(*linear.affine, row, values);
      return values;
    });
  }
}

TEST(ConvertMoe, EveryLayoutOfAModelGivesTheSameCheckpoint) {
  const TinyMoe model;
  const formats::ScratchDir dir;
  MoeWriting fused;
  fused.extras = true;
  MoeWriting split;
  split.experts = MoeWriting::Experts::kSplit;
  split.shards = 2;
  const fs::path a = model.Write(dir, "fused", fused);
  const fs::path b = model.Write(dir, "split", split);
  const fs::path c = model.Write(dir, "mlx", MoeWriting::Mlx());
  for (const int bits : {0, 4}) {
    const auto converted = [&](const fs::path& source) {
      const fs::path out = source.string() + std::to_string(bits);
      Convert(Options(source, out, bits), {});
      return ModelContents(out);
    };
    const auto expected = converted(a);
    EXPECT_EQ(expected, converted(b));
    EXPECT_EQ(expected, converted(c));
    EXPECT_EQ(expected.count("expert_sidecar/layer_0003.bin"), 1U);
    EXPECT_EQ(expected.count("model.safetensors.index.json"), 1U);
  }
  // What mlx-lm would make of the model, converted without loss, is what --bits makes of it.
  const fs::path d = model.Write(dir, "mlx-quantised", MoeWriting::Mlx(4));
  Convert(Options(d, dir.path() / "d"), {});
  const auto from_mlx = ModelContents(dir.path() / "d");
  const auto from_raw = ModelContents(dir.path() / "fused4");
  for (const auto& [name, contents] : from_raw) {
    if (name.find("expert_sidecar/") == 0) {
      EXPECT_EQ(from_mlx.at(name), contents) << name;
    }
  }
  EXPECT_EQ(nlohmann::json::parse(from_mlx.at("config.json")),
            nlohmann::json::parse(from_raw.at("config.json")));
  const auto one = formats::Checkpoint::Open(dir.path() / "d");
  const auto other = formats::Checkpoint::Open(dir.path() / "fused4");
  EXPECT_EQ(one->TensorNames(), other->TensorNames());
  for (const std::string& name : one->TensorNames()) {
    const TensorView found = *one->FindTensor(name);
    const TensorView expected = *other->FindTensor(name);
    EXPECT_TRUE(found.dtype == expected.dtype && found.shape == expected.shape &&
                std::equal(found.bytes.begin(), found.bytes.end(), expected.bytes.begin(),
                           expected.bytes.end()))
        << name;
  }
}

TEST(ConvertMoe, AlwaysUsedTensorsGetMlxNamesAndGains) {
  const TinyMoe model;
  const formats::ScratchDir dir;
  MoeWriting writing;
  writing.extras = true;
  const fs::path source = model.Write(dir, "raw", writing);
  const ConvertResult result = Convert(Options(source, dir.path() / "out"), {});
  EXPECT_THAT(result.skipped, testing::ElementsAre("notes.md"));
  EXPECT_THAT(result.skipped_tensors.at("vision tower"),
              testing::ElementsAre("model.visual.patch_embed.weight"));
  EXPECT_THAT(result.skipped_tensors.at("multi-token prediction head"),
              testing::ElementsAre("mtp.fc.weight", "mtp.layers.0.mlp.experts.gate_up_proj"));
  EXPECT_TRUE(result.requantised.empty());
  const auto out = formats::Checkpoint::Open(dir.path() / "out");
  EXPECT_EQ(out->TensorNames().size(), model.tensors().size());
  for (const auto& [name, tensor] : model.tensors()) {
    const std::string mlx =
        name == "lm_head.weight" ? "language_model.lm_head.weight" : "language_model.model." + name;
    const TensorView found = out->RequireTensor(mlx, Shape(tensor.shape));
    EXPECT_EQ(found.dtype, DType::kBF16);
    for (size_t i = 0; i < tensor.values.size(); ++i) {
      ASSERT_EQ(FloatElement(found, static_cast<int64_t>(i)), tensor.values[i]) << name;
    }
  }
  const formats::MoeLayout layout = formats::MoeLayout::Of(*out);
  EXPECT_FALSE(layout.raw);
  EXPECT_EQ(layout.prefix, "language_model.model.");
  EXPECT_EQ(layout.lm_head, "language_model.lm_head");
}

TEST(ConvertMoe, GainsThatBf16CannotHoldBecomeFloat) {
  const formats::ScratchDir dir;
  const TinyMoe model;
  const fs::path source = model.Write(dir, "raw", {});
  // 2^-20 - 1 + 1 is beyond bf16: change one weight of one norm in the file.
  const fs::path file = source / "model.safetensors";
  std::string bytes = ReadWholeFile(file);
  {
    const auto original = formats::Checkpoint::Open(source);
    const auto view = original->FindTensor("model.language_model.norm.weight");
    const auto mapped = original->files().front()->HeaderBytes();
    const auto offset = static_cast<size_t>(view->bytes.data() - mapped.data());
    const uint16_t tiny = FloatToBf16(std::ldexp(1.0F, -20));
    std::memcpy(bytes.data() + offset, &tiny, 2);
  }
  dir.Write("raw/model.safetensors", bytes);
  Convert(Options(source, dir.path() / "out"), {});
  const auto out = formats::Checkpoint::Open(dir.path() / "out");
  const auto norm = out->FindTensor("language_model.model.norm.weight");
  EXPECT_EQ(norm->dtype, DType::kF32);
  EXPECT_EQ(FloatElement(*norm, 0), 1 + std::ldexp(1.0F, -20));
  EXPECT_EQ(out->FindTensor("language_model.model.layers.0.input_layernorm.weight")->dtype,
            DType::kBF16);
}

TEST(ConvertMoe, RoutersGetEightBits) {
  const TinyMoe model;
  const formats::ScratchDir dir;
  const fs::path source = model.Write(dir, "raw", {});
  const ConvertResult result = Convert(Options(source, dir.path() / "out", 3), {});
  EXPECT_THAT(
      result.requantised,
      testing::IsSupersetOf({"model.language_model.layers.0.mlp.experts.gate_up_proj",
                             "model.language_model.embed_tokens.weight", "lm_head.weight"}));
  const auto out = formats::Checkpoint::Open(dir.path() / "out");
  const std::string layer = "language_model.model.layers.2.";
  EXPECT_EQ(out->Linear(layer + "mlp.gate", TinyMoe::kExperts, TinyMoe::kHidden).affine->scheme,
            (AffineScheme{8, 64}));
  EXPECT_EQ(out->Linear(layer + "mlp.shared_expert_gate", 1, TinyMoe::kHidden).affine->scheme,
            (AffineScheme{8, 64}));
  EXPECT_EQ(out->Linear("language_model.lm_head", TinyMoe::kVocab, TinyMoe::kHidden).affine->scheme,
            (AffineScheme{3, 32}));
  EXPECT_EQ(
      out->Linear(layer + "mlp.shared_expert.down_proj", TinyMoe::kHidden, TinyMoe::kIntermediate)
          .affine->scheme,
      (AffineScheme{3, 32}));
  EXPECT_FALSE(out->Has(layer + "linear_attn.conv1d.scales"));
  const auto sidecar = formats::ExpertSidecar::Find(dir.path() / "out");
  EXPECT_EQ(sidecar->layout.down.spec.scheme, (AffineScheme{3, 32}));
  EXPECT_EQ(sidecar->layout.down.spec.dtype, DType::kBF16);
}

TEST(ConvertMoe, FlatAndNestedConfigs) {
  const TinyMoe model;
  const formats::ScratchDir dir;
  MoeWriting flat;
  flat.nested = false;
  flat.prefix = "model.";
  Convert(Options(model.Write(dir, "flat", flat), dir.path() / "a"), {});
  Convert(Options(model.Write(dir, "nested", {}), dir.path() / "b"), {});
  auto a = ModelContents(dir.path() / "a");
  auto b = ModelContents(dir.path() / "b");
  EXPECT_NE(a.at("config.json"), b.at("config.json"));
  a.erase("config.json");
  b.erase("config.json");
  EXPECT_EQ(a, b);
  // Modules that a quantised source names one by one are named anew.
  MoeWriting mlx = MoeWriting::Mlx(4);
  mlx.nested = false;
  mlx.prefix = "model.";
  mlx.head = "lm_head";
  Convert(Options(model.Write(dir, "mlx", mlx), dir.path() / "c"), {});
  EXPECT_EQ(
      formats::Checkpoint::Open(dir.path() / "c")
          ->Linear("language_model.model.layers.0.mlp.gate", TinyMoe::kExperts, TinyMoe::kHidden)
          .affine->scheme,
      (AffineScheme{8, 64}));
}

TEST(ConvertMoe, WeightsThatAreNotFiniteAreNamed) {
  const formats::ScratchDir dir;
  for (const auto experts : {MoeWriting::Experts::kFused, MoeWriting::Experts::kSplit}) {
    MoeWriting writing;
    writing.experts = experts;
    const fs::path source = TinyMoe().Write(dir, "raw", writing);
    const bool fused = experts == MoeWriting::Experts::kFused;
    const std::string name = std::string("model.language_model.layers.0.mlp.experts.") +
                             (fused ? "down_proj" : "0.down_proj.weight");
    std::string bytes = ReadWholeFile(source / "model.safetensors");
    {
      const auto checkpoint = formats::Checkpoint::Open(source);
      const std::byte* file = checkpoint->files().front()->HeaderBytes().data();
      const auto offset = static_cast<size_t>(checkpoint->FindTensor(name)->bytes.data() - file);
      bytes.replace(offset, 2, "\x80\x7f");
    }
    dir.Write("raw/model.safetensors", bytes);
    EXPECT_THAT(
        formats::ErrorOf([&] { Convert(Options(source, dir.path() / "out", 4), {}); }),
        AllOf(HasSubstr("raw/model.safetensors: tensor model.language_model.layers.0.mlp"),
              HasSubstr("row 0 holds a value that is not finite"), HasSubstr("fetch it again")));
  }
}

TEST(ConvertMoe, Refusals) {
  const TinyMoe model;
  const formats::ScratchDir dir;
  const fs::path mlx = model.Write(dir, "mlx", MoeWriting::Mlx(4));
  EXPECT_THAT(formats::ErrorOf([&] { Convert(Options(mlx, dir.path() / "x", 8), {}); }),
              HasSubstr("already quantised (4-bit affine"));
  const fs::path raw = model.Write(dir, "raw", {});
  ConvertOptions coarse = Options(raw, dir.path() / "x", 4);
  coarse.group_size = 64;
  EXPECT_THAT(
      formats::ErrorOf([&] { Convert(coarse, {}); }),
      AllOf(HasSubstr(raw.string()), HasSubstr("96 inputs cannot be quantised in groups of 64"),
            HasSubstr("--group-size")));
  Convert(Options(raw, dir.path() / "out"), {});
  EXPECT_THAT(formats::ErrorOf([&] { Convert(Options(dir.path() / "out", dir.path() / "x"), {}); }),
              HasSubstr("is an engine checkpoint already"));
  EXPECT_FALSE(fs::exists(dir.path() / "x"));

  const auto edited = [&](const MoeWriting& writing, const std::string& from,
                          const std::string& to) {
    model.Write(dir, "bad", writing);
    std::string bytes = ReadWholeFile(dir.path() / "bad/model.safetensors");
    const size_t at = bytes.find(from);
    EXPECT_NE(at, std::string::npos);
    bytes.replace(at, from.size(), to);
    dir.Write("bad/model.safetensors", bytes);
    return formats::ErrorOf([&] { Convert(Options(dir.path() / "bad", dir.path() / "x"), {}); });
  };
  EXPECT_THAT(edited({}, "[3,192,64]", "[3,64,192]"),
              AllOf(HasSubstr("layers.0.mlp.experts.gate_up_proj"), HasSubstr("[3, 192, 64]")));
  EXPECT_THAT(edited({}, "layers.1.mlp.experts.gate_up_proj", "layers.1.mlp.experts.gate_op_proj"),
              AllOf(HasSubstr("bad has no experts of model.language_model.layers.1.mlp"),
                    HasSubstr("fetch the model again")));
  EXPECT_THAT(edited({}, "[80,1,4]", "[80,4,1]"), HasSubstr("in different layouts"));
  EXPECT_THAT(edited({}, "layers.0.input_layernorm.weight", "layers.0.mlp.experts.extra_part"),
              AllOf(HasSubstr("extra_part"), HasSubstr("no part of a gate, up or down")));
  EXPECT_THAT(edited({}, "layers.3.self_attn.q_norm.weight", "layers.3.self_attn.conv1d.weight"),
              AllOf(HasSubstr("bad/model.safetensors: tensor model.language_model.layers.3."
                              "self_attn.conv1d.weight has shape [32]"),
                    HasSubstr("[channels, 1, taps]"), HasSubstr("fetch the model again")));
  EXPECT_FALSE(fs::exists(dir.path() / "x"));
}

TEST(MoeLayout, KnowsItsFamilies) {
  EXPECT_EQ(formats::FindMoeFamily("qwen3_moe"), formats::MoeFamily::kQwen3Moe);
  EXPECT_EQ(formats::FindMoeFamily("qwen3_5_moe"), formats::MoeFamily::kQwen35Moe);
  EXPECT_EQ(formats::FindMoeFamily("qwen3_5_moe_text"), formats::MoeFamily::kQwen35Moe);
  EXPECT_EQ(formats::FindMoeFamily("mixtral"), std::nullopt);
  EXPECT_EQ(formats::MoeFamilyName(formats::MoeFamily::kQwen3Moe), "qwen3_moe");
  EXPECT_EQ(formats::MoeFamilyName(formats::MoeFamily::kQwen35Moe), "qwen3_5_moe");

  const formats::ScratchDir dir;
  const TinyMoe hybrid("qwen3_5_moe", 4);
  const fs::path other = hybrid.Write(dir, "other", {});
  auto config = hybrid.Config({});
  config["model_type"] = "mixtral";
  dir.Write("other/config.json", config.dump());
  EXPECT_THAT(formats::ErrorOf([&] { formats::MoeLayout::Of(*formats::Checkpoint::Open(other)); }),
              AllOf(HasSubstr("model_type is \"mixtral\""), HasSubstr("no known")));
}

TEST(MoeLayout, ReadsWhichLayersAreWhat) {
  const formats::ScratchDir dir;
  const TinyMoe hybrid("qwen3_5_moe", 8);
  const fs::path raw = hybrid.Write(dir, "raw", {});
  formats::MoeLayout layout = formats::MoeLayout::Of(*formats::Checkpoint::Open(raw));
  EXPECT_TRUE(layout.raw);
  EXPECT_EQ(layout.prefix, "model.language_model.");
  EXPECT_EQ(layout.lm_head, "lm_head");
  EXPECT_THAT(layout.is_full_attention,
              testing::ElementsAre(false, false, false, true, false, false, false, true));
  EXPECT_EQ(std::count(layout.is_moe.begin(), layout.is_moe.end(), true), 8);

  // MTP tensors say nothing about the norms.
  MoeWriting with_mtp = MoeWriting::Mlx();
  with_mtp.extras = true;
  EXPECT_FALSE(
      formats::MoeLayout::Of(*formats::Checkpoint::Open(hybrid.Write(dir, "mtp", with_mtp))).raw);

  auto config = hybrid.Config({});
  config["text_config"]["layer_types"] = std::vector<std::string>(8, "linear_attention");
  config["text_config"]["layer_types"][3] = config["text_config"]["layer_types"][7] =
      "full_attention";
  dir.Write("raw/config.json", config.dump());
  EXPECT_EQ(formats::MoeLayout::Of(*formats::Checkpoint::Open(raw)).is_full_attention,
            layout.is_full_attention);
  config["text_config"]["layer_types"][5] = "sliding_attention";
  dir.Write("raw/config.json", config.dump());
  EXPECT_THAT(formats::ErrorOf([&] { formats::MoeLayout::Of(*formats::Checkpoint::Open(raw)); }),
              HasSubstr("text_config.layer_types"));
  config["text_config"]["layer_types"].erase(0);
  dir.Write("raw/config.json", config.dump());
  EXPECT_THAT(formats::ErrorOf([&] { formats::MoeLayout::Of(*formats::Checkpoint::Open(raw)); }),
              HasSubstr("one entry for each of 8 layers"));

  const TinyMoe dense_second("qwen3_moe", 4);
  MoeWriting flat;
  flat.prefix = "model.";
  const fs::path qwen3 = dense_second.Write(dir, "qwen3", flat);
  EXPECT_THAT(formats::MoeLayout::Of(*formats::Checkpoint::Open(qwen3)).is_moe,
              testing::ElementsAre(true, false, true, true));
  config = dense_second.Config(flat);
  config["decoder_sparse_step"] = 2;
  config["mlp_only_layers"] = {3};
  dir.Write("qwen3/config.json", config.dump());
  layout = formats::MoeLayout::Of(*formats::Checkpoint::Open(qwen3));
  EXPECT_THAT(layout.is_moe, testing::ElementsAre(false, true, false, false));
  EXPECT_FALSE(layout.raw);
}

TEST(MoeLayout, TheNumberOfExpertsHasTwoNames) {
  const formats::ScratchDir dir;
  const TinyMoe model("qwen3_moe");
  MoeWriting flat;
  flat.prefix = "model.";
  const fs::path source = model.Write(dir, "source", flat);
  auto config = model.Config(flat);
  const auto error = [&] {
    dir.Write("source/config.json", config.dump());
    return formats::ErrorOf(
        [&] { (void)formats::MoeLayout::Of(*formats::Checkpoint::Open(source)); });
  };
  config["num_local_experts"] = TinyMoe::kExperts;
  EXPECT_EQ(error(), "no error");
  config["num_experts"] = TinyMoe::kExperts + 1;
  EXPECT_THAT(error(), HasSubstr("num_local_experts is 3, expected the value of num_experts, 4"));
  config.erase("num_experts");
  EXPECT_EQ(error(), "no error");
  EXPECT_EQ(formats::MoeLayout::Of(*formats::Checkpoint::Open(source)).experts.experts,
            TinyMoe::kExperts);
  config.erase("num_local_experts");
  EXPECT_THAT(error(), HasSubstr("num_experts is missing"));
}

TEST(MoeLayout, MissingTensorsHaveACure) {
  const formats::ScratchDir dir;
  const fs::path source = TinyMoe().Write(dir, "source", {});
  const std::string whole = ReadWholeFile(source / "model.safetensors");
  for (const std::string name : {"embed_tokens.weight", "linear_attn.conv1d.weight"}) {
    std::string bytes = whole;
    bytes[bytes.find(name)] = '_';
    dir.Write("source/model.safetensors", bytes);
    EXPECT_THAT(
        formats::ErrorOf([&] { (void)formats::MoeLayout::Of(*formats::Checkpoint::Open(source)); }),
        AllOf(HasSubstr(name + " is missing in " + source.string()),
              HasSubstr("fetch the model again")));
  }
}

TEST(MoeLayout, KnowsTheMtpHeadByAnyName) {
  for (const std::string prefix :
       {"mtp.", "model.mtp.", "language_model.mtp.", "model.language_model.mtp."}) {
    EXPECT_EQ(formats::SkippedTensorReason(prefix + "fc.weight"), "multi-token prediction head")
        << prefix;
  }
  EXPECT_EQ(formats::SkippedTensorReason("model.language_model.layers.0.mlp.gate.weight"), "");
}

constexpr uint64_t kStops = 30;

// Calls `stop` when the first `part` of kStops parts of the work are done.
std::function<void(const ConvertProgress&)> StopAt(uint64_t part,
                                                   const std::function<void()>& stop) {
  return [part, stop](const ConvertProgress& progress) {
    if (progress.done_bytes * kStops >= progress.total_bytes * part) {
      stop();
    }
  };
}

void ExpectNothingLoads(const ConvertOptions& options) {
  EXPECT_FALSE(fs::exists(options.out));
  const fs::path partial = options.out.string() + ".partial";
  EXPECT_THROW(formats::Checkpoint::Open(partial), Error);
  if (fs::exists(partial / formats::ExpertSidecar::kDirName)) {
    EXPECT_THROW(formats::ExpertSidecar::Find(partial), Error);
  }
}

TEST(ConvertMoe, ContinuesWhereItStopped) {
  const TinyMoe model;
  const formats::ScratchDir dir;
  const fs::path source = model.Write(dir, "raw", {});
  Convert(Options(source, dir.path() / "whole", 4), {});
  const ConvertOptions options = Options(source, dir.path() / "out", 4);
  for (uint64_t part = 1; part <= kStops; ++part) {
    EXPECT_THAT(formats::ErrorOf([&] {
                  Convert(options,
                          StopAt(part, [] { throw Error(ErrorCode::kCancelled, "stopped here"); }));
                }),
                HasSubstr("stopped here"));
    ExpectNothingLoads(options);
  }
  EXPECT_GT(Convert(options, {}).resumed_files, 4);
  EXPECT_EQ(Contents(options.out), Contents(dir.path() / "whole"));
}

TEST(ConvertMoe, SurvivesBeingKilledAnywhere) {
  const TinyMoe model;
  const formats::ScratchDir dir;
  const fs::path source = model.Write(dir, "raw", {});
  Convert(Options(source, dir.path() / "whole"), {});
  const ConvertOptions options = Options(source, dir.path() / "out");
  for (uint64_t part = 1; part <= kStops; ++part) {
    EXPECT_FALSE(
        RunChild([&] { Convert(options, StopAt(part, [] { ::kill(::getpid(), SIGKILL); })); }));
    ExpectNothingLoads(options);
  }
  EXPECT_GT(Convert(options, {}).resumed_files, 4);
  EXPECT_EQ(Contents(options.out), Contents(dir.path() / "whole"));
}

// Between the renames that give the output its name.
TEST(ConvertMoe, SurvivesBeingKilledWhilePublishing) {
  const TinyMoe model;
  const formats::ScratchDir dir;
  const fs::path source = model.Write(dir, "raw", {});
  const ConvertOptions options = Options(source, dir.path() / "out");
  Convert(options, {});
  const auto whole = Contents(options.out);
  const auto leave_replaced = [&] {
    fs::copy(options.out, dir.path() / "out.replaced", fs::copy_options::recursive);
    dir.Write("out.replaced/.replaced-by-mach", "");
  };
  leave_replaced();
  fs::rename(options.out, dir.path() / "out.partial");
  const ConvertResult result = Convert(options, {});
  EXPECT_GT(result.resumed_files, 4);
  EXPECT_EQ(Contents(options.out), whole);
  EXPECT_FALSE(fs::exists(dir.path() / "out.replaced"));
  leave_replaced();
  EXPECT_TRUE(Convert(options, {}).already_done);
  EXPECT_FALSE(fs::exists(dir.path() / "out.replaced"));
}

TEST(ConvertMoe, ForceMendsAMissingManifest) {
  const TinyMoe model;
  const formats::ScratchDir dir;
  ConvertOptions options = Options(model.Write(dir, "raw", {}), dir.path() / "out");
  Convert(options, {});
  const auto whole = Contents(options.out);
  fs::remove(options.out / "mach.json");
  EXPECT_THAT(formats::ErrorOf([&] { Convert(options, {}); }),
              HasSubstr("expert_sidecar/ but no mach.json"));
  options.force = true;
  Convert(options, {});
  EXPECT_EQ(Contents(options.out), whole);
}

TEST(ConvertMoe, DamagedPartialLayersAreMadeAnew) {
  const TinyMoe model;
  const formats::ScratchDir dir;
  const fs::path source = model.Write(dir, "raw", {});
  Convert(Options(source, dir.path() / "whole"), {});
  const ConvertOptions options = Options(source, dir.path() / "out");
  Convert(options, {});
  const fs::path partial = dir.path() / "out.partial";
  fs::rename(options.out, partial);
  const fs::path layer = partial / "expert_sidecar/layer_0001.bin";
  std::string bytes = ReadWholeFile(layer);
  bytes[bytes.size() - 1] = 'x';
  std::ofstream(layer, std::ios::binary) << bytes;
  std::ofstream(partial / "expert_sidecar/layer_0099.bin") << "a stranger";
  fs::create_directories(partial / "attic/deep");
  const ConvertResult result = Convert(options, {});
  EXPECT_GT(result.resumed_files, 4);
  EXPECT_EQ(Contents(options.out), Contents(dir.path() / "whole"));
  EXPECT_FALSE(fs::exists(options.out / "attic"));
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// A qwen3_moe master of two layers of `experts` experts, streamed to the disk.
void WriteBigMaster(const fs::path& dir, int64_t experts, int64_t hidden, int64_t intermediate) {
  fs::create_directories(dir);
  const nlohmann::ordered_json config = {{"model_type", "qwen3_moe"},
                                         {"num_hidden_layers", 2},
                                         {"num_experts", experts},
                                         {"hidden_size", hidden},
                                         {"moe_intermediate_size", intermediate}};
  std::ofstream(dir / "config.json") << config.dump();
  nlohmann::ordered_json header;
  uint64_t offset = 0;
  const auto add = [&](const std::string& name, const std::vector<int64_t>& shape) {
    const uint64_t bytes = static_cast<uint64_t>(Shape(shape).Elements()) * 2;
    header[name] = {
        {"dtype", "BF16"}, {"shape", shape}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  };
  add("model.embed_tokens.weight", {32768, hidden});
  for (const std::string layer : {"model.layers.0.mlp.", "model.layers.1.mlp."}) {
    add(layer + "experts.gate_up_proj", {experts, 2 * intermediate, hidden});
    add(layer + "experts.down_proj", {experts, hidden, intermediate});
  }
  std::ofstream file(dir / "model.safetensors", std::ios::binary);
  file << formats::SafetensorsOf(header.dump(), "");
  std::mt19937 random(3);
  std::vector<uint16_t> block(1 << 19);
  for (uint16_t& value : block) {
    value = FloatToBf16(static_cast<float>(random() % 1000) / 1000 - 0.5F);
  }
  const std::string bytes = formats::BytesOf(block);
  for (uint64_t done = 0; done < offset; done += bytes.size()) {
    file.write(bytes.data(),
               static_cast<std::streamsize>(std::min<uint64_t>(bytes.size(), offset - done)));
  }
}

TEST(ConvertMoe, MemoryDoesNotGrowWithTheModel) {
  const formats::ScratchDir dir;
  WriteBigMaster(dir.path() / "master", 48, 1024, 512);
  const uint64_t source_bytes = fs::file_size(dir.path() / "master/model.safetensors");
  ASSERT_GT(source_bytes, 300U << 20);
  for (const int bits : {0, 4}) {
    ExpectPeakBelow(64U << 20, [&] {
      ConvertOptions options = Options(dir.path() / "master", dir.path() / "out", bits);
      options.force = true;
      options.max_shard_bytes = 1 << 30;
      Convert(options, {});
    });
  }
}
#endif

}  // namespace
}  // namespace mach::convert
