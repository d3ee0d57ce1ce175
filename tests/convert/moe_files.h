// Small random Mixture-of-Experts checkpoints: one set of weights, written in any of the layouts
// that we read.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "convert/affine_quantise.h"
#include "tensor/half.h"
#include "tests/formats/test_files.h"

namespace mach::convert {

struct MoeTestTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;  // exact in bf16
};

// How a checkpoint is written.
struct MoeWriting {
  enum class Experts { kFused, kSplit, kStacked };
  Experts experts = Experts::kFused;
  bool raw = true;     // norms as gain - 1 and conv1d as [channels, 1, taps] (qwen3_5_moe)
  bool nested = true;  // text_config
  std::string prefix = "model.language_model.";
  std::string head = "lm_head";
  int bits = 0;  // MLX: quantise linear layers, embeddings and stacked experts
  int group_size = 32;
  bool extras = false;  // vision tower, MTP head, inverse frequencies
  int shards = 1;

  static MoeWriting Mlx(int bits = 0) {
    MoeWriting writing;
    writing.experts = Experts::kStacked;
    writing.raw = false;
    writing.prefix = "language_model.model.";
    writing.head = "language_model.lm_head";
    writing.bits = bits;
    return writing;
  }
};

class TinyMoe {
 public:
  static constexpr int64_t kHidden = 64;
  static constexpr int64_t kIntermediate = 96;
  static constexpr int64_t kVocab = 50;
  static constexpr int32_t kExperts = 3;
  static constexpr int64_t kTaps = 4;
  static constexpr int64_t kChannels = 80;

  explicit TinyMoe(std::string family = "qwen3_5_moe", int32_t layers = 4, unsigned seed = 1)
      : family_(std::move(family)), layers_(layers), random_(seed) {
    Add("embed_tokens.weight", {kVocab, kHidden});
    AddGain("norm.weight", kHidden);
    for (int32_t layer = 0; layer < layers; ++layer) {
      AddLayer(layer);
    }
    Add("lm_head.weight", {kVocab, kHidden});
  }

  bool hybrid() const { return family_ == "qwen3_5_moe"; }
  bool IsFull(int32_t layer) const { return !hybrid() || (layer + 1) % 4 == 0; }
  bool IsMoe(int32_t layer) const { return hybrid() || layer != dense_layer_; }
  int32_t layers() const { return layers_; }
  // Weights [out, in] of one expert: "gate_proj", "up_proj" or "down_proj".
  const MoeTestTensor& Expert(int32_t layer, int32_t expert, const std::string& matrix) const {
    return experts_.at("layers." + std::to_string(layer) + ".mlp." + std::to_string(expert) + "." +
                       matrix);
  }
  const std::map<std::string, MoeTestTensor>& tensors() const { return tensors_; }
  static bool IsGain(const std::string& name) {
    return name.find("norm.weight") != std::string::npos &&
           name.find("linear_attn.norm") == std::string::npos;
  }

  nlohmann::ordered_json Config(const MoeWriting& writing) const {
    nlohmann::ordered_json text = {{"model_type", hybrid() ? "qwen3_5_moe_text" : family_},
                                   {"hidden_size", kHidden},
                                   {"moe_intermediate_size", kIntermediate},
                                   {"num_experts", kExperts},
                                   {"num_experts_per_tok", 2},
                                   {"num_hidden_layers", layers_}};
    if (!hybrid()) {
      text["mlp_only_layers"] = {dense_layer_};
    }
    nlohmann::ordered_json root;
    if (writing.nested && hybrid()) {
      root = {{"model_type", family_}, {"text_config", text}};
    } else {
      root = text;
      root["model_type"] = family_;
    }
    if (writing.bits > 0) {
      root["quantization"] = {
          {"group_size", writing.group_size}, {"bits", writing.bits}, {"mode", "affine"}};
      for (const auto& [name, tensor] : tensors_) {
        if (IsRouter(name)) {
          root["quantization"][Named(name, writing).substr(0, Named(name, writing).rfind('.'))] = {
              {"group_size", 64}, {"bits", 8}};
        }
      }
      root["quantization_config"] = root["quantization"];
    }
    return root;
  }

  std::filesystem::path Write(const formats::ScratchDir& dir, const std::string& at,
                              const MoeWriting& writing) const {
    const std::vector<formats::TestTensor> all = All(writing);
    const auto shards = static_cast<size_t>(writing.shards);
    nlohmann::ordered_json index;
    for (size_t shard = 0; shard < shards; ++shard) {
      const size_t begin = all.size() * shard / shards;
      const size_t end = all.size() * (shard + 1) / shards;
      const std::string name = shards == 1 ? "model.safetensors"
                                           : "model-0000" + std::to_string(shard + 1) + "-of-0000" +
                                                 std::to_string(shards) + ".safetensors";
      dir.Write(at + "/" + name,
                formats::MakeSafetensors({all.begin() + static_cast<int64_t>(begin),
                                          all.begin() + static_cast<int64_t>(end)}));
      for (size_t i = begin; i < end; ++i) {
        index["weight_map"][all[i].name] = name;
      }
    }
    if (shards > 1) {
      dir.Write(at + "/model.safetensors.index.json", index.dump());
    }
    dir.Write(at + "/config.json", Config(writing).dump());
    dir.Write(at + "/tokenizer.json", "{}");
    dir.Write(at + "/notes.md", "not carried");
    return dir.path() / at;
  }

 private:
  static bool IsRouter(const std::string& name) {
    return name.find(".mlp.gate.weight") != std::string::npos ||
           name.find(".shared_expert_gate.weight") != std::string::npos;
  }

  MoeTestTensor Random(std::vector<int64_t> shape) {
    MoeTestTensor tensor{std::move(shape), {}};
    std::uniform_int_distribution<int> values(-128, 127);
    const int64_t count = Shape(tensor.shape).Elements();
    for (int64_t i = 0; i < count; ++i) {
      tensor.values.push_back(static_cast<float>(values(random_)) / 512);
    }
    return tensor;
  }
  void Add(const std::string& name, std::vector<int64_t> shape) {
    tensors_[name] = Random(std::move(shape));
  }
  // A gain that bf16 holds, and gain - 1 too.
  void AddGain(const std::string& name, int64_t size) {
    Add(name, {size});
    for (float& value : tensors_[name].values) {
      value = 1 + std::rint(value * 128) / 128;
    }
  }
  void AddLayer(int32_t layer) {
    const std::string at = "layers." + std::to_string(layer) + ".";
    AddGain(at + "input_layernorm.weight", kHidden);
    AddGain(at + "post_attention_layernorm.weight", kHidden);
    if (IsFull(layer)) {
      Add(at + "self_attn.q_proj.weight", {128, kHidden});
      Add(at + "self_attn.o_proj.weight", {kHidden, 64});
      AddGain(at + "self_attn.q_norm.weight", 32);
      AddGain(at + "self_attn.k_norm.weight", 32);
    } else {
      Add(at + "linear_attn.in_proj_qkv.weight", {kChannels, kHidden});
      Add(at + "linear_attn.conv1d.weight", {kChannels, kTaps, 1});
      Add(at + "linear_attn.A_log", {4});
      Add(at + "linear_attn.norm.weight", {32});
    }
    const std::string mlp = at + "mlp.";
    if (!IsMoe(layer)) {
      Add(mlp + "gate_proj.weight", {kIntermediate, kHidden});
      return;
    }
    Add(mlp + "gate.weight", {kExperts, kHidden});
    if (hybrid()) {
      Add(mlp + "shared_expert_gate.weight", {1, kHidden});
      Add(mlp + "shared_expert.down_proj.weight", {kHidden, kIntermediate});
    }
    for (int32_t expert = 0; expert < kExperts; ++expert) {
      const std::string e = mlp + std::to_string(expert) + ".";
      experts_[e + "gate_proj"] = Random({kIntermediate, kHidden});
      experts_[e + "up_proj"] = Random({kIntermediate, kHidden});
      experts_[e + "down_proj"] = Random({kHidden, kIntermediate});
    }
  }

  static std::string Named(const std::string& name, const MoeWriting& writing) {
    return name.find("lm_head") == 0 ? writing.head + name.substr(7) : writing.prefix + name;
  }
  static formats::TestTensor Bf16(const std::string& name, const std::vector<int64_t>& shape,
                                  const std::vector<float>& values) {
    std::vector<uint16_t> bits;
    for (const float value : values) {
      bits.push_back(FloatToBf16(value));
    }
    return {name, "BF16", shape, formats::BytesOf(bits)};
  }
  static void AddQuantised(const std::string& module, std::vector<int64_t> shape,
                           const std::vector<float>& values, AffineScheme scheme,
                           std::vector<formats::TestTensor>& out) {
    const size_t groups = values.size() / static_cast<size_t>(scheme.group_size);
    std::vector<uint8_t> codes(values.size());
    std::vector<float> scales(groups);
    std::vector<float> biases(groups);
    QuantiseAffine(values, scheme, codes, scales, biases);
    std::string packed(codes.size() * static_cast<size_t>(scheme.bits) / 8, '\0');
    PackCodes(codes, scheme.bits, std::as_writable_bytes(std::span(packed)));
    const int64_t in = shape.back();
    shape.back() = in * scheme.bits / 32;
    out.push_back({module + ".weight", "U32", shape, packed});
    shape.back() = in / scheme.group_size;
    out.push_back(Bf16(module + ".scales", shape, scales));
    out.push_back(Bf16(module + ".biases", shape, biases));
  }
  // "module.weight" as it is, or quantised.
  static void AddLinear(const std::string& name, const std::vector<int64_t>& shape,
                        const std::vector<float>& values, const MoeWriting& writing,
                        std::vector<formats::TestTensor>& out) {
    if (writing.bits == 0) {
      out.push_back(Bf16(name, shape, values));
      return;
    }
    const AffineScheme scheme =
        IsRouter(name) ? AffineScheme{8, 64} : AffineScheme{writing.bits, writing.group_size};
    AddQuantised(name.substr(0, name.rfind('.')), shape, values, scheme, out);
  }

  void AddExperts(int32_t layer, const MoeWriting& writing,
                  std::vector<formats::TestTensor>& out) const {
    const std::string mlp = writing.prefix + "layers." + std::to_string(layer) + ".mlp.";
    if (writing.experts == MoeWriting::Experts::kSplit) {
      for (int32_t expert = 0; expert < kExperts; ++expert) {
        for (const char* matrix : {"gate_proj", "up_proj", "down_proj"}) {
          const MoeTestTensor& tensor = Expert(layer, expert, matrix);
          out.push_back(Bf16(mlp + "experts." + std::to_string(expert) + "." + matrix + ".weight",
                             tensor.shape, tensor.values));
        }
      }
      return;
    }
    const auto stacked = [&](const std::vector<std::string>& matrices) {
      std::vector<float> values;
      for (int32_t expert = 0; expert < kExperts; ++expert) {
        for (const std::string& matrix : matrices) {
          const auto& add = Expert(layer, expert, matrix).values;
          values.insert(values.end(), add.begin(), add.end());
        }
      }
      return values;
    };
    if (writing.experts == MoeWriting::Experts::kFused) {
      out.push_back(Bf16(mlp + "experts.gate_up_proj", {kExperts, 2 * kIntermediate, kHidden},
                         stacked({"gate_proj", "up_proj"})));
      out.push_back(Bf16(mlp + "experts.down_proj", {kExperts, kHidden, kIntermediate},
                         stacked({"down_proj"})));
      return;
    }
    for (const char* matrix : {"gate_proj", "up_proj", "down_proj"}) {
      std::vector<int64_t> shape = Expert(layer, 0, matrix).shape;
      shape.insert(shape.begin(), kExperts);
      AddLinear(mlp + "switch_mlp." + matrix + ".weight", shape, stacked({matrix}), writing, out);
    }
  }

  std::vector<formats::TestTensor> All(const MoeWriting& writing) const {
    std::vector<formats::TestTensor> out;
    for (const auto& [name, tensor] : tensors_) {
      std::vector<int64_t> shape = tensor.shape;
      std::vector<float> values = tensor.values;
      if (writing.raw && hybrid() && IsGain(name)) {
        for (float& value : values) {
          value -= 1;
        }
      }
      if (writing.raw && shape.size() == 3) {
        std::swap(shape[1], shape[2]);
      }
      if (shape.size() == 2) {
        AddLinear(Named(name, writing), shape, values, writing, out);
      } else {
        out.push_back(Bf16(Named(name, writing), shape, values));
      }
    }
    for (int32_t layer = 0; layer < layers_; ++layer) {
      if (IsMoe(layer)) {
        AddExperts(layer, writing, out);
      }
    }
    if (writing.extras) {
      out.push_back(Bf16("model.visual.patch_embed.weight", {2}, {1, 2}));
      out.push_back(Bf16("mtp.fc.weight", {2}, {1, 2}));
      out.push_back(Bf16("mtp.layers.0.mlp.experts.gate_up_proj", {2}, {1, 2}));
    }
    return out;
  }

  std::string family_;
  int32_t layers_;
  int32_t dense_layer_ = 1;  // of qwen3_moe
  std::mt19937 random_;
  std::map<std::string, MoeTestTensor> tensors_;
  std::map<std::string, MoeTestTensor> experts_;
};

}  // namespace mach::convert
