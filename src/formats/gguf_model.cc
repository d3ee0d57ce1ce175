#include "formats/gguf_model.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <numbers>
#include <optional>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/portable_math.h"
#include "formats/gguf.h"

namespace mach::formats {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMaxDim = 1LL << 32;
constexpr int64_t kMaxLayers = 4096;

struct Architecture {
  std::string_view name;
  std::string_view class_name;
  bool permuted;  // q and k rows stored for neighbouring pairs
};
constexpr std::array kArchitectures = {
    Architecture{"llama", "LlamaForCausalLM", true},
    Architecture{"qwen2", "Qwen2ForCausalLM", false},
    Architecture{"qwen3", "Qwen3ForCausalLM", false},
};

struct Dims {
  int64_t layers = 0;
  int64_t hidden = 0;
  int64_t ffn = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t vocab = 0;
};

struct NamePair {
  std::string_view gguf;
  std::string_view hf;
  char kind;  // 'l' linear, 'n' norm of hidden size, 'h' norm of head size
};
constexpr std::array kBlockTensors = {
    NamePair{"attn_norm", "input_layernorm", 'n'},
    NamePair{"ffn_norm", "post_attention_layernorm", 'n'},
    NamePair{"attn_q", "self_attn.q_proj", 'l'},
    NamePair{"attn_k", "self_attn.k_proj", 'l'},
    NamePair{"attn_v", "self_attn.v_proj", 'l'},
    NamePair{"attn_output", "self_attn.o_proj", 'l'},
    NamePair{"attn_q_norm", "self_attn.q_norm", 'h'},
    NamePair{"attn_k_norm", "self_attn.k_norm", 'h'},
    NamePair{"ffn_gate", "mlp.gate_proj", 'l'},
    NamePair{"ffn_up", "mlp.up_proj", 'l'},
    NamePair{"ffn_down", "mlp.down_proj", 'l'},
};

// [out, in] of a linear layer of a block.
std::pair<int64_t, int64_t> LinearShape(std::string_view gguf_name, const Dims& dims) {
  if (gguf_name == "attn_q") {
    return {dims.heads * dims.head_dim, dims.hidden};
  }
  if (gguf_name == "attn_k" || gguf_name == "attn_v") {
    return {dims.kv_heads * dims.head_dim, dims.hidden};
  }
  if (gguf_name == "attn_output") {
    return {dims.hidden, dims.heads * dims.head_dim};
  }
  if (gguf_name == "ffn_down") {
    return {dims.hidden, dims.ffn};
  }
  return {dims.ffn, dims.hidden};
}

// The divisors that Llama 3 scaling gives to each rotary frequency (model-card formula).
std::vector<double> Llama3Factors(int64_t head_dim, double theta, double factor, double low,
                                  double high, double original) {
  std::vector<double> factors;
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    const double wavelength =
        2 * std::numbers::pi *
        PortablePow(theta, 2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    if (wavelength < original / high) {
      factors.push_back(1);
    } else if (wavelength > original / low) {
      factors.push_back(factor);
    } else {
      const double smooth = (original / wavelength - low) / (high - low);
      factors.push_back(1 / ((1 - smooth) / factor + smooth));
    }
  }
  return factors;
}

class Describer {
 public:
  explicit Describer(const GgufFile& file) : file_(file) {}

  GgufModel Describe() {
    // Before all else: only the first part says what the model is.
    if (const int64_t parts = file_.Int("split.count").value_or(1); parts > 1) {
      throw Error(
          ErrorCode::kUnsupported,
          file_.path() + ": is one of " + std::to_string(parts) + " parts of a model (split.count)",
          kMergeGgufParts);
    }
    const std::string_view name = file_.RequireString("general.architecture");
    const auto* found =
        std::find_if(kArchitectures.begin(), kArchitectures.end(),
                     [&](const Architecture& candidate) { return candidate.name == name; });
    if (found == kArchitectures.end()) {
      throw Error(ErrorCode::kUnsupported,
                  file_.path() + ": general.architecture is \"" + Printable(name) +
                      "\"; GGUF files of llama, qwen2 and qwen3 can be converted",
                  "use the Hugging Face or MLX version of the model");
    }
    architecture_ = *found;
    ReadDims();
    MapTensors();
    WriteConfig();
    return std::move(model_);
  }

 private:
  std::string Key(const std::string& suffix) const {
    return std::string(architecture_.name) + "." + suffix;
  }

  [[noreturn]] void Corrupt(const std::string& what) const {
    throw Error(ErrorCode::kCorruptFile, file_.path() + ": " + what, kFetchGgufAgain);
  }
  [[noreturn]] void Unsupported(const std::string& what) const {
    throw Error(ErrorCode::kUnsupported, file_.path() + ": " + what,
                "use the Hugging Face or MLX version of the model");
  }

  void ReadDims() {
    dims_.layers = file_.RequireInt(Key("block_count"), 1, kMaxLayers);
    dims_.hidden = file_.RequireInt(Key("embedding_length"), 1, kMaxDim);
    dims_.ffn = file_.RequireInt(Key("feed_forward_length"), 1, kMaxDim);
    dims_.heads = file_.RequireInt(Key("attention.head_count"), 1, 65536);
    dims_.kv_heads = file_.HasKey(Key("attention.head_count_kv"))
                         ? file_.RequireInt(Key("attention.head_count_kv"), 1, dims_.heads)
                         : dims_.heads;
    if (file_.HasKey(Key("attention.key_length"))) {
      dims_.head_dim = file_.RequireInt(Key("attention.key_length"), 2, 65536);
    } else if (dims_.hidden % dims_.heads == 0) {
      dims_.head_dim = dims_.hidden / dims_.heads;
    } else {
      Corrupt(Key("embedding_length") + " is no multiple of " + Key("attention.head_count"));
    }
    if (dims_.heads % dims_.kv_heads != 0 || dims_.head_dim % 2 != 0) {
      Corrupt("attention heads: " + std::to_string(dims_.heads) + " query, " +
              std::to_string(dims_.kv_heads) + " key, of size " + std::to_string(dims_.head_dim));
    }
    if (file_.Int(Key("attention.value_length")).value_or(dims_.head_dim) != dims_.head_dim) {
      Unsupported(Key("attention.value_length") + " differs from the key length");
    }
    if (file_.Int(Key("rope.dimension_count")).value_or(dims_.head_dim) != dims_.head_dim) {
      Unsupported(Key("rope.dimension_count") + " is " +
                  std::to_string(*file_.Int(Key("rope.dimension_count"))) + ", but heads have " +
                  std::to_string(dims_.head_dim) + " dimensions: partial rotation");
    }
    for (const char* field : {"expert_count", "attention.sliding_window"}) {
      if (file_.HasKey(Key(field)) && file_.Int(Key(field)).value_or(0) != 0) {
        Unsupported(Key(field) + " is set; only dense models with full attention are converted");
      }
    }
    for (const char* field : {"attention.scale", "logit_scale", "residual_scale", "embedding_scale",
                              "rope.scaling.attn_factor"}) {
      if (file_.HasKey(Key(field)) && file_.Float(Key(field)).value_or(1) != 1) {
        Unsupported(Key(field) + " is set, which no Hugging Face config of this architecture has");
      }
    }
    const GgufTensor& embedding = Require("token_embd.weight");
    if (embedding.shape.rank() != 2 || embedding.shape[1] != dims_.hidden) {
      Corrupt("token_embd.weight has shape " + embedding.shape.ToString() + ", but " +
              Key("embedding_length") + " is " + std::to_string(dims_.hidden));
    }
    dims_.vocab = embedding.shape[0];
  }

  const GgufTensor& Require(const std::string& name) const {
    const GgufTensor* tensor = file_.FindTensor(name);
    if (tensor == nullptr) {
      Corrupt("tensor " + name + " is missing");
    }
    return *tensor;
  }

  void CheckShape(const GgufTensor& tensor, const Shape& expected) const {
    if (tensor.shape != expected) {
      Corrupt("tensor " + Printable(tensor.name) + " has shape " + tensor.shape.ToString() +
              ", the metadata implies " + expected.ToString());
    }
  }

  void Add(const GgufTensor& tensor, std::string name, bool linear, RowOrder order = {}) {
    model_.tensors.push_back({&tensor, std::move(name), order, linear});
  }

  void MapTensors() {
    for (const GgufTensor& tensor : file_.tensors()) {
      if (tensor.name == "token_embd.weight") {
        Add(tensor, "model.embed_tokens.weight", true);
      } else if (tensor.name == "output_norm.weight") {
        CheckShape(tensor, Shape{dims_.hidden});
        Add(tensor, "model.norm.weight", false);
      } else if (tensor.name == "output.weight") {
        CheckShape(tensor, Shape{dims_.vocab, dims_.hidden});
        Add(tensor, "lm_head.weight", true);
      } else if (tensor.name != "rope_freqs.weight" && !MapBlockTensor(tensor)) {
        Unsupported("tensor " + Printable(tensor.name) + " has no place in a " +
                    std::string(architecture_.name) + " model");
      }
    }
    (void)Require("output_norm.weight");
    for (int64_t layer = 0; layer < dims_.layers; ++layer) {
      for (const NamePair& pair : kBlockTensors) {
        if (pair.kind != 'h' || architecture_.name == "qwen3") {
          (void)Require("blk." + std::to_string(layer) + "." + std::string(pair.gguf) + ".weight");
        }
      }
    }
  }

  bool MapBlockTensor(const GgufTensor& tensor) {
    std::string_view rest = tensor.name;
    if (rest.substr(0, 4) != "blk.") {
      return false;
    }
    rest.remove_prefix(4);
    int64_t layer = -1;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), layer);
    rest.remove_prefix(static_cast<size_t>(end - rest.data()));
    if (error != std::errc() || layer < 0 || layer >= dims_.layers || rest.substr(0, 1) != ".") {
      return false;
    }
    rest.remove_prefix(1);
    const size_t dot = rest.rfind('.');
    if (dot == std::string_view::npos) {
      return false;
    }
    const std::string_view stem = rest.substr(0, dot);
    const std::string_view part = rest.substr(dot + 1);
    const auto* pair =
        std::find_if(kBlockTensors.begin(), kBlockTensors.end(),
                     [&](const NamePair& candidate) { return candidate.gguf == stem; });
    if (pair == kBlockTensors.end()) {
      return false;
    }
    const std::string name = "model.layers." + std::to_string(layer) + "." + std::string(pair->hf) +
                             "." + std::string(part);
    if (pair->kind != 'l') {
      CheckShape(tensor, Shape{pair->kind == 'h' ? dims_.head_dim : dims_.hidden});
      const bool fits = part == "weight" && (pair->kind != 'h' || architecture_.name == "qwen3");
      if (fits) {
        Add(tensor, name, false);
      }
      return fits;
    }
    const auto [out, in] = LinearShape(stem, dims_);
    const bool rotated = architecture_.permuted && (stem == "attn_q" || stem == "attn_k");
    const RowOrder order{rotated ? dims_.head_dim : 0};
    if (part == "weight") {
      CheckShape(tensor, Shape{out, in});
      Add(tensor, name, true, order);
      return true;
    }
    if (part == "bias") {
      CheckShape(tensor, Shape{out});
      Add(tensor, name, false, order);
      return true;
    }
    return false;
  }

  bool HasBias(const std::string& stem) const {
    return file_.FindTensor("blk.0." + stem + ".bias") != nullptr;
  }

  // Every layer must have the same biases, or the config cannot say which it has.
  void CheckBias(const std::string& stem, bool expected) const {
    for (int64_t layer = 0; layer < dims_.layers; ++layer) {
      const std::string name = "blk." + std::to_string(layer) + "." + stem + ".bias";
      if ((file_.FindTensor(name) != nullptr) != expected) {
        Unsupported("tensor " + name + (expected ? " is missing" : " is not expected") + " in a " +
                    std::string(architecture_.name) + " model with these other biases");
      }
    }
  }

  void WriteConfig() {
    Json& config = model_.config;
    config["architectures"] = {std::string(architecture_.class_name)};
    config["model_type"] = std::string(architecture_.name);
    config["hidden_size"] = dims_.hidden;
    config["num_hidden_layers"] = dims_.layers;
    config["intermediate_size"] = dims_.ffn;
    config["num_attention_heads"] = dims_.heads;
    config["num_key_value_heads"] = dims_.kv_heads;
    config["head_dim"] = dims_.head_dim;
    config["vocab_size"] = dims_.vocab;
    config["max_position_embeddings"] = file_.RequireInt(Key("context_length"), 1, kMaxDim);
    const auto eps = file_.ShortFloat(Key("attention.layer_norm_rms_epsilon"));
    if (!eps || *eps < 0) {
      Corrupt(Key("attention.layer_norm_rms_epsilon") + " is missing or negative");
    }
    config["rms_norm_eps"] = *eps;
    theta_ = file_.ShortFloat(Key("rope.freq_base")).value_or(10000.0);
    if (!(theta_ > 0)) {
      Corrupt(Key("rope.freq_base") + " is not positive");
    }
    // Whole numbers are written as such, as Hugging Face does.
    if (theta_ == std::floor(theta_) && theta_ < 1e15) {
      config["rope_theta"] = static_cast<int64_t>(theta_);
    } else {
      config["rope_theta"] = theta_;
    }
    config["rope_scaling"] = RopeScaling();
    config["hidden_act"] = "silu";
    config["tie_word_embeddings"] = file_.FindTensor("output.weight") == nullptr;
    WriteBiases(config);
    WriteTokenIds(config);
  }

  void WriteBiases(Json& config) const {
    if (architecture_.name == "qwen2") {
      for (const char* stem : {"attn_q", "attn_k", "attn_v"}) {
        CheckBias(stem, true);
      }
      for (const char* stem : {"attn_output", "ffn_gate", "ffn_up", "ffn_down"}) {
        CheckBias(stem, false);
      }
      return;
    }
    const bool attention = HasBias("attn_q");
    for (const char* stem : {"attn_q", "attn_k", "attn_v", "attn_output"}) {
      CheckBias(stem, attention);
    }
    const bool mlp = architecture_.name == "llama" && HasBias("ffn_gate");
    for (const char* stem : {"ffn_gate", "ffn_up", "ffn_down"}) {
      CheckBias(stem, mlp);
    }
    config["attention_bias"] = attention;
    if (architecture_.name == "llama") {
      config["mlp_bias"] = mlp;
    }
  }

  void WriteTokenIds(Json& config) const {
    for (const auto& [field, key] :
         {std::pair{"bos_token_id", "tokenizer.ggml.bos_token_id"},
          std::pair{"eos_token_id", "tokenizer.ggml.eos_token_id"},
          std::pair{"pad_token_id", "tokenizer.ggml.padding_token_id"}}) {
      const auto id = file_.Int(key);
      if (id && *id >= 0 && *id < dims_.vocab) {
        config[field] = *id;
      }
    }
  }

  Json RopeScaling() const {
    Json scaling = ScalingOfKeys();
    const GgufTensor* divisors = file_.FindTensor("rope_freqs.weight");
    Json llama3 = divisors != nullptr ? Llama3Scaling(*divisors) : Json();
    if (!scaling.is_null() && !llama3.is_null()) {
      Unsupported("tensor rope_freqs.weight and " + Key("rope.scaling") +
                  " both scale the rotation, which no Hugging Face config can say");
    }
    return llama3.is_null() ? scaling : llama3;
  }

  Json ScalingOfKeys() const {
    // As llama.cpp: the factor also under its older name, a factor alone scales linearly, and 0 or
    // nothing is 1.
    auto factor = file_.ShortFloat(Key("rope.scaling.factor"));
    if (!factor) {
      factor = file_.ShortFloat(Key("rope.scale_linear"));
    }
    const bool scales = factor && *factor != 0 && *factor != 1;
    const std::string type(
        file_.String(Key("rope.scaling.type")).value_or(scales ? "linear" : "none"));
    if (type == "none" || (type == "linear" && !scales)) {
      return nullptr;
    }
    if ((type != "linear" && type != "yarn") || !factor || *factor <= 0) {
      Unsupported(Key("rope.scaling.type") + " is \"" + Printable(type) + "\", with the factor " +
                  (factor ? Json(*factor).dump() : "missing") +
                  "; known are none, linear and yarn with a positive factor");
    }
    Json scaling = {{"rope_type", type}, {"type", type}, {"factor", *factor}};
    if (type == "yarn") {
      // Left out or 0, it is the context length, as for readers of config.json.
      const std::string original = Key("rope.scaling.original_context_length");
      if (file_.Int(original).value_or(0) != 0) {
        scaling["original_max_position_embeddings"] = file_.RequireInt(original, 1, kMaxDim);
      }
      for (const auto& [field, key] : {std::pair{"beta_fast", "rope.scaling.yarn_beta_fast"},
                                       std::pair{"beta_slow", "rope.scaling.yarn_beta_slow"}}) {
        if (const auto value = file_.ShortFloat(Key(key))) {
          scaling[field] = *value;
        }
      }
    }
    return scaling;
  }

  // GGUF keeps only the divisors. The parameters behind them are found by trying the published
  // sets; a file whose divisors none of them reproduces is refused.
  Json Llama3Scaling(const GgufTensor& tensor) const {
    CheckShape(tensor, Shape{dims_.head_dim / 2});
    if (tensor.type() != GgmlType::kF32) {
      Unsupported("tensor rope_freqs.weight is " + std::string(tensor.info->name) +
                  ", expected F32");
    }
    std::vector<float> found(static_cast<size_t>(dims_.head_dim / 2));
    DequantizeGgml(*tensor.info, tensor.bytes, found);
    if (std::all_of(found.begin(), found.end(), [](float f) { return f == 1; })) {
      return nullptr;
    }
    const double factor = *std::max_element(found.begin(), found.end());
    for (const double original : {8192.0, 4096.0, 16384.0, 32768.0, 2048.0}) {
      const auto expected = Llama3Factors(dims_.head_dim, theta_, factor, 1, 4, original);
      bool same = true;
      for (size_t i = 0; i < found.size(); ++i) {
        same = same && std::fabs(found[i] - expected[i]) <= 1e-4 * expected[i];
      }
      if (same) {
        return {{"rope_type", "llama3"},
                {"factor", factor},
                {"low_freq_factor", 1.0},
                {"high_freq_factor", 4.0},
                {"original_max_position_embeddings", static_cast<int64_t>(original)}};
      }
    }
    Unsupported("tensor rope_freqs.weight holds frequency divisors that are not those of Llama 3");
  }

  const GgufFile& file_;
  Architecture architecture_ = kArchitectures[0];
  Dims dims_;
  double theta_ = 0;
  GgufModel model_;
};

}  // namespace

GgufModel DescribeGgufModel(const GgufFile& file) {
  return Describer(file).Describe();
}

}  // namespace mach::formats
