#include "formats/synthetic.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <sstream>

#include "base/error.h"
#include "base/hash.h"
#include "formats/affine_quantise.h"
#include "formats/convert_plan.h"
#include "formats/expert_writer.h"
#include "formats/synthetic_text.h"
#include "formats/synthetic_weights.h"
#include "platform/cpu.h"
#include "tensor/half.h"

namespace mach::formats {
namespace {

// Output over input, in standard deviations. Inputs of a layer are normalised, so that each adds
// about kGrowthPerLayer to the mean square of the residual stream, which begins at 1.
constexpr double kUnitGain = 1;
constexpr double kMixerOutGain = 0.5;
constexpr double kDecayGain = 0.5;
constexpr double kLogitGain = 2;
constexpr double kRouterGain = 1.5;  // the first of the chosen experts weighs a few times the last
constexpr double kGrowthPerLayer = 0.25;

struct NamedShape {
  const char* name;
  SyntheticShape shape;
};

const std::vector<NamedShape>& Shapes() {
  static const std::vector<NamedShape> kShapes = {
      {"35b-a3b", {}},
      {"qwen35moe-12l", {.layers = 12, .vocab_size = 32768, .max_context = 32768}},
      {"qwen3moe-10l",
       {.model_type = "qwen3_moe",
        .layers = 10,
        .vocab_size = 32768,
        .max_context = 32768,
        .shared_intermediate_size = 0,
        .heads = 32,
        .kv_heads = 4,
        .head_dim = 128}},
      {"tiny",
       {.hidden_size = 128,
        .layers = 4,
        .vocab_size = 2048,
        .max_context = 8192,
        .experts = 16,
        .top_k = 4,
        .intermediate_size = 64,
        .shared_intermediate_size = 64,
        .heads = 4,
        .kv_heads = 2,
        .head_dim = 64,
        .linear_key_heads = 2,
        .linear_value_heads = 4,
        .linear_head_dim = 32}},
  };
  return kShapes;
}

[[noreturn]] void Refuse(const std::string& what, const std::string& cure = "") {
  throw Error(ErrorCode::kInvalidArgument, "synthetic checkpoint: " + what, cure);
}

void RequireMultiple(const char* field, int64_t value, int64_t unit) {
  if (value <= 0 || value % unit != 0) {
    Refuse(std::string(field) + " is " + std::to_string(value) + ", expected a multiple of " +
           std::to_string(unit));
  }
}

void RequireRange(const char* field, int64_t value, int64_t min, int64_t max) {
  if (value < min || value > max) {
    Refuse(std::string(field) + " is " + std::to_string(value) + ", expected " +
           std::to_string(min) + " to " + std::to_string(max));
  }
}

void CheckOptions(const SyntheticOptions& options) {
  const SyntheticShape& shape = options.shape;
  if (options.out.empty()) {
    Refuse("no output directory given", "add --out DIR");
  }
  if (shape.model_type != "qwen3_5_moe" && shape.model_type != "qwen3_moe") {
    Refuse("model_type is \"" + shape.model_type + "\", expected qwen3_5_moe or qwen3_moe");
  }
  if (!IsSupported(options.scheme)) {
    Refuse(std::to_string(options.scheme.bits) + " bits in groups of " +
               std::to_string(options.scheme.group_size),
           "bits: 2, 3, 4, 5, 6, 8; group size: 32, 64, 128");
  }
  if (!(options.router_skew >= 0 && options.router_skew <= 4)) {
    Refuse("router_skew is " + std::to_string(options.router_skew) + ", expected 0 to 4");
  }
  // What the loader of models takes; below it no product of two of them overflows.
  constexpr int64_t kMaxWidth = 1 << 20;
  constexpr int64_t kMaxHeads = 4096;
  constexpr int64_t kMaxHeadDim = 4096;
  constexpr int64_t kHeadDimUnit = 16;
  const int64_t group = std::max(options.scheme.group_size, kRouterScheme.group_size);
  RequireRange("hidden_size", shape.hidden_size, 1, kMaxWidth);
  RequireMultiple("hidden_size", shape.hidden_size, group);
  RequireRange("intermediate_size", shape.intermediate_size, 1, kMaxWidth);
  RequireMultiple("intermediate_size", shape.intermediate_size, options.scheme.group_size);
  RequireRange("layers", shape.layers, 1, 1000);
  RequireRange("experts", shape.experts, 1, 65536);
  RequireRange("top_k", shape.top_k, 1, shape.experts);
  RequireRange("vocab_size", shape.vocab_size, kSyntheticFirstWord + 1, kSyntheticMaxVocab);
  RequireRange("max_context", shape.max_context, 1, int64_t{1} << 30);
  RequireRange("kv_heads", shape.kv_heads, 1, kMaxHeads);
  RequireRange("heads", shape.heads, 1, kMaxHeads);
  RequireMultiple("heads", shape.heads, shape.kv_heads);
  RequireRange("head_dim", shape.head_dim, 1, kMaxHeadDim);
  RequireMultiple("head_dim", shape.head_dim, kHeadDimUnit);
  RequireMultiple("heads * head_dim", shape.heads * shape.head_dim, options.scheme.group_size);
  if (shape.has_delta_net()) {
    RequireRange("full_attention_interval", shape.full_attention_interval, 1, 1000);
    RequireRange("shared_intermediate_size", shape.shared_intermediate_size, 1, kMaxWidth);
    RequireMultiple("shared_intermediate_size", shape.shared_intermediate_size,
                    options.scheme.group_size);
    RequireRange("linear_key_heads", shape.linear_key_heads, 1, kMaxHeads);
    RequireRange("linear_value_heads", shape.linear_value_heads, 1, kMaxHeads);
    RequireRange("linear_head_dim", shape.linear_head_dim, 1, kMaxHeadDim);
    RequireMultiple("linear_head_dim", shape.linear_head_dim, kHeadDimUnit);
    RequireMultiple("linear_value_heads", shape.linear_value_heads, shape.linear_key_heads);
    RequireMultiple("linear_value_heads * linear_head_dim",
                    shape.linear_value_heads * shape.linear_head_dim, options.scheme.group_size);
    RequireRange("conv_taps", shape.conv_taps, 2, 16);
  }
  // Far beyond any disk; below it all sizes in bytes, and their sums, fit into 64 bits.
  constexpr double kMaxExpertWeights = 1e16;
  const double weights = 3.0 * static_cast<double>(shape.layers * shape.experts) *
                         static_cast<double>(shape.hidden_size * shape.intermediate_size);
  if (weights > kMaxExpertWeights) {
    std::ostringstream text;
    text << "all experts together would have " << weights << " weights, expected at most "
         << kMaxExpertWeights;
    Refuse(text.str());
  }
}

// Everything that decides the bytes, for the fingerprint; `writer` are the options and the version
// of what writes them.
std::string Describe(const SyntheticOptions& options, const ConvertOptions& writer) {
  const SyntheticShape& s = options.shape;
  std::string text = "synthetic " + s.model_type;
  const auto add = [&text](const char* name, int64_t value) {
    text += std::string(" ") + name + "=" + std::to_string(value);
  };
  add("hidden_size", s.hidden_size);
  add("layers", s.layers);
  add("vocab_size", s.vocab_size);
  add("max_context", s.max_context);
  add("experts", s.experts);
  add("top_k", s.top_k);
  add("intermediate_size", s.intermediate_size);
  add("heads", s.heads);
  add("kv_heads", s.kv_heads);
  add("head_dim", s.head_dim);
  if (s.has_delta_net()) {
    add("shared_intermediate_size", s.shared_intermediate_size);
    add("full_attention_interval", s.full_attention_interval);
    add("linear_key_heads", s.linear_key_heads);
    add("linear_value_heads", s.linear_value_heads);
    add("linear_head_dim", s.linear_head_dim);
    add("conv_taps", s.conv_taps);
  }
  add("bits", options.scheme.bits);
  add("group_size", options.scheme.group_size);
  text += " router_skew=" + std::to_string(options.router_skew) +
          " seed=" + std::to_string(options.seed);
  return text + "\n" + DescribeOptions(writer);
}

// Whether flags can make one of the other.
bool SameButForFlags(const SyntheticShape& a, const SyntheticShape& b) {
  SyntheticShape flagged = a;
  for (const SyntheticFlag& flag : kSyntheticFlags) {
    flagged.*flag.field = b.*flag.field;
  }
  return flagged == b;
}

// The command that writes these bytes, but for --out. Shapes that no command can name (they differ
// from every named one in a field without a flag) get that of their family's first.
std::string Command(const SyntheticOptions& options) {
  const NamedShape* base = nullptr;
  for (const NamedShape& entry : Shapes()) {
    const bool exact = SameButForFlags(entry.shape, options.shape);
    if (exact || (base == nullptr && entry.shape.model_type == options.shape.model_type)) {
      base = &entry;
    }
    if (exact) {
      break;
    }
  }
  std::string command = std::string("mach synth --shape ") + base->name;
  for (const SyntheticFlag& flag : kSyntheticFlags) {
    if (options.shape.*flag.field != base->shape.*flag.field) {
      command += std::string(" ") + flag.flag + " " + std::to_string(options.shape.*flag.field);
    }
  }
  std::ostringstream rest;
  rest.precision(std::numeric_limits<double>::max_digits10);
  rest << " --bits " << options.scheme.bits << " --group-size " << options.scheme.group_size;
  if (options.router_skew > 0) {
    rest << " --router-skew " << options.router_skew;
  }
  rest << " --seed " << options.seed;
  return command + rest.str();
}

class SyntheticPlan {
 public:
  SyntheticPlan(const SyntheticOptions& options, const ConversionContext& context)
      : options_(options), shape_(options.shape), context_(context) {}

  ConversionPlan Make() {
    const bool nested = shape_.has_delta_net();
    prefix_ = nested ? "language_model.model." : "model.";
    AddEmbedding();
    for (int64_t layer = 0; layer < shape_.layers; ++layer) {
      AddLayer(layer);
    }
    AddNorm(prefix_ + "norm", shape_.hidden_size);
    AddLinear({.module = nested ? "language_model.lm_head" : "lm_head",
               .out_features = shape_.vocab_size,
               .in_features = shape_.hidden_size,
               .gain = kLogitGain,
               // No answer ends by itself, and none holds half a character.
               .zero_rows = kSyntheticFirstWord});
    ConversionPlan plan;
    const std::string description = Describe(options_, context_.options);
    plan.fingerprint = HashHex128(std::as_bytes(std::span(description)));
    AddShards(std::move(steps_), context_.options.max_shard_bytes, plan);
    AddExperts(plan);
    for (SmallFile& file : SyntheticTextFiles(options_, routers_)) {
      plan.small_files.push_back(std::move(file));
    }
    return plan;
  }

 private:
  void AddLinear(RandomLinear linear) {
    linear.scheme = options_.scheme;
    steps_.push_back(RandomAffineStep(context_, linear, options_.seed));
  }
  void AddProjection(const std::string& module, int64_t out, int64_t in, double gain = kUnitGain) {
    AddLinear({.module = module, .out_features = out, .in_features = in, .gain = gain});
  }

  void AddNorm(const std::string& module, int64_t size) {
    steps_.push_back(
        FloatStep({module + ".weight", DType::kBF16, Shape{size}}, [](int64_t) { return 1.0F; }));
  }

  // Uniform in [low, high].
  void AddUniform(const std::string& name, DType dtype, const Shape& shape, float low, float high) {
    const RandomWords random(options_.seed, name);
    steps_.push_back(FloatStep({name, dtype, shape}, [random, low, high](int64_t i) {
      return low + (high - low) * (random.Uniform(static_cast<uint64_t>(i)) + 1) / 2;
    }));
  }

  // A direction of the hidden state that is the same for all tokens is what a skewed router can
  // hold on to: the first group of every embedding. Its share of the mean square is 1/16.
  int64_t constant_inputs() const {
    return options_.router_skew > 0
               ? std::max<int64_t>(options_.scheme.group_size, kRouterScheme.group_size)
               : 0;
  }
  double constant_value() const {
    return std::sqrt(static_cast<double>(shape_.hidden_size) /
                     static_cast<double>(16 * constant_inputs()));
  }

  void AddEmbedding() {
    RandomLinear linear = {.module = prefix_ + "embed_tokens",
                           .out_features = shape_.vocab_size,
                           .in_features = shape_.hidden_size,
                           // Elements of standard deviation 1.
                           .gain = std::sqrt(static_cast<double>(shape_.hidden_size)),
                           .constant_inputs = constant_inputs()};
    if (linear.constant_inputs > 0) {
      linear.constant = static_cast<float>(constant_value());
    }
    AddLinear(linear);
  }

  void AddLayer(int64_t layer) {
    const std::string base = prefix_ + "layers." + std::to_string(layer) + ".";
    AddNorm(base + "input_layernorm", shape_.hidden_size);
    AddNorm(base + "post_attention_layernorm", shape_.hidden_size);
    if (shape_.IsFullAttention(layer)) {
      AddAttention(base + "self_attn.");
    } else {
      AddDeltaNet(base + "linear_attn.");
    }
    AddRouter(base + "mlp.gate", layer);
    if (shape_.has_delta_net()) {
      AddSharedExpert(base + "mlp.");
    }
  }

  void AddAttention(const std::string& base) {
    const int64_t width = shape_.heads * shape_.head_dim;
    const int64_t kv_width = shape_.kv_heads * shape_.head_dim;
    AddProjection(base + "q_proj", shape_.has_delta_net() ? 2 * width : width, shape_.hidden_size);
    AddProjection(base + "k_proj", kv_width, shape_.hidden_size);
    AddProjection(base + "v_proj", kv_width, shape_.hidden_size);
    AddProjection(base + "o_proj", shape_.hidden_size, width, kUnitGain);
    AddNorm(base + "q_norm", shape_.head_dim);
    AddNorm(base + "k_norm", shape_.head_dim);
  }

  void AddDeltaNet(const std::string& base) {
    const int64_t heads = shape_.linear_value_heads;
    const int64_t value_width = heads * shape_.linear_head_dim;
    const int64_t channels =
        2 * shape_.linear_key_heads * shape_.linear_head_dim + value_width;  // q, k, v
    AddProjection(base + "in_proj_qkv", channels, shape_.hidden_size);
    AddProjection(base + "in_proj_z", value_width, shape_.hidden_size);
    AddProjection(base + "in_proj_a", heads, shape_.hidden_size, kDecayGain);
    AddProjection(base + "in_proj_b", heads, shape_.hidden_size);
    AddProjection(base + "out_proj", shape_.hidden_size, value_width, kMixerOutGain);
    const float tap = std::sqrt(3.0F / static_cast<float>(shape_.conv_taps));
    AddUniform(base + "conv1d.weight", DType::kBF16, Shape{channels, shape_.conv_taps, 1}, -tap,
               tap);
    // Memories of a few to a few hundred tokens.
    AddUniform(base + "A_log", DType::kF32, Shape{heads}, -3.0F, 0.5F);
    AddUniform(base + "dt_bias", DType::kF32, Shape{heads}, -2.0F, 0.0F);
    AddNorm(base + "norm", shape_.linear_head_dim);
  }

  void AddSharedExpert(const std::string& base) {
    const int64_t width = shape_.shared_intermediate_size;
    AddProjection(base + "shared_expert.gate_proj", width, shape_.hidden_size);
    AddProjection(base + "shared_expert.up_proj", width, shape_.hidden_size);
    AddProjection(base + "shared_expert.down_proj", shape_.hidden_size, width);
    AddQuantised(base + "shared_expert_gate", 1, [](int64_t) { return 0.0F; });
  }

  void AddRouter(const std::string& module, int64_t layer) {
    std::vector<float> raised(static_cast<size_t>(shape_.experts), 0.0F);
    if (options_.router_skew > 0) {
      const std::vector<double> shifts =
          PopularityShifts(shape_.experts, shape_.top_k, options_.router_skew);
      const std::vector<size_t> experts = Shuffled(shifts.size(), module);
      // The norm before the router divides by the root mean square, which grows with depth.
      const double rms = std::sqrt(1 + kGrowthPerLayer * (static_cast<double>(layer) + 0.5));
      const double per_weight =
          kRouterGain * rms / (static_cast<double>(constant_inputs()) * constant_value());
      for (size_t rank = 0; rank < experts.size(); ++rank) {
        raised[experts[rank]] = static_cast<float>(shifts[rank] * per_weight);
      }
    }
    AddQuantised(module, shape_.experts,
                 [raised](int64_t expert) { return raised[static_cast<size_t>(expert)]; });
  }

  // An 8-bit linear layer on the hidden state; `constant` is the weight of a row's constant inputs.
  void AddQuantised(const std::string& module, int64_t rows,
                    std::function<float(int64_t row)> constant) {
    routers_.push_back(module);
    const int64_t inputs = shape_.hidden_size;
    const RandomWords random(options_.seed, module);
    const auto spread =
        static_cast<float>(kRouterGain * std::sqrt(3.0 / static_cast<double>(inputs)));
    steps_.push_back(QuantiseStep(
        context_, module, "synthetic tensor " + module, rows, inputs, kRouterScheme, DType::kBF16,
        [random, inputs, spread, constant_inputs = constant_inputs(),
         constant = std::move(constant)](int64_t row, std::span<float> weights) {
          for (int64_t i = 0; i < inputs; ++i) {
            weights[static_cast<size_t>(i)] =
                i < constant_inputs
                    ? constant(row)
                    : spread * random.Uniform(static_cast<uint64_t>(row * inputs + i));
          }
        }));
  }

  void AddExperts(ConversionPlan& plan) const {
    const auto spec = [this](int64_t out, int64_t in) {
      return PackedSpec::Affine(out, in, options_.scheme, DType::kBF16);
    };
    SidecarSource source;
    source.model_type = shape_.model_type;
    source.layers = static_cast<int32_t>(shape_.layers);
    source.experts = static_cast<int32_t>(shape_.experts);
    source.layout = ExpertLayout::Make(spec(shape_.intermediate_size, shape_.hidden_size),
                                       spec(shape_.intermediate_size, shape_.hidden_size),
                                       spec(shape_.hidden_size, shape_.intermediate_size));
    source.moe_layers.resize(static_cast<size_t>(shape_.layers));
    std::iota(source.moe_layers.begin(), source.moe_layers.end(), 0);
    const auto pool = std::make_shared<ExpertPool>(source.layout, shape_.layers * shape_.experts,
                                                   options_.seed, context_.pool);
    source.fill = [pool, experts = shape_.experts](int32_t layer, int32_t expert,
                                                   std::span<std::byte> record) {
      pool->Fill(layer * experts + expert, record);
    };
    AddSidecar(std::move(source), plan);
  }

  // A permutation of 0 .. count-1 that depends on `name`.
  std::vector<size_t> Shuffled(size_t count, const std::string& name) const {
    const RandomWords random(options_.seed, name + ".order");
    std::vector<size_t> order(count);
    std::iota(order.begin(), order.end(), size_t{0});
    for (size_t i = count; i > 1; --i) {
      std::swap(order[i - 1], order[random.Word(i) % i]);
    }
    return order;
  }

  const SyntheticOptions& options_;
  const SyntheticShape& shape_;
  const ConversionContext& context_;
  std::string prefix_;
  std::vector<ConversionStep> steps_;
  std::vector<std::string> routers_;
};

}  // namespace

std::vector<std::string> SyntheticShapeNames() {
  std::vector<std::string> names;
  for (const NamedShape& entry : Shapes()) {
    names.emplace_back(entry.name);
  }
  return names;
}

SyntheticShape NamedSyntheticShape(std::string_view name) {
  std::string names;
  for (const NamedShape& entry : Shapes()) {
    if (entry.name == name) {
      return entry.shape;
    }
    names += (names.empty() ? "" : ", ") + std::string(entry.name);
  }
  Refuse("there is no shape \"" + std::string(name) + "\"", "shapes: " + names);
}

ConvertResult WriteSynthetic(const SyntheticOptions& options,
                             const std::function<void(const ConvertProgress&)>& progress) {
  CheckOptions(options);
  ConvertOptions convert;
  convert.source = Command(options);
  convert.out = options.out;
  convert.bits = options.scheme.bits;
  convert.group_size = options.scheme.group_size;
  convert.force = options.force;
  convert.tool_version = options.tool_version;
  ThreadPool pool(options.threads > 0 ? options.threads : PhysicalCores());
  const ConversionContext context{convert, pool};
  try {
    return WriteCheckpoint(convert, SyntheticPlan(options, context).Make(), progress);
  } catch (const std::filesystem::filesystem_error& error) {
    throw Error(ErrorCode::kIo, error.what());
  }
}

}  // namespace mach::formats
