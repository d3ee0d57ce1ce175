#include "convert/synthetic.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <sstream>

#include "base/error.h"
#include "base/hash.h"
#include "convert/affine_quantise.h"
#include "convert/convert_plan.h"
#include "convert/expert_writer.h"
#include "convert/synthetic_text.h"
#include "convert/synthetic_weights.h"
#include "platform/cpu.h"
#include "tensor/half.h"

namespace mach::convert {
namespace {

// Output over input, in standard deviations. Inputs of a layer are normalised, so that each adds
// about kGrowthPerLayer to the mean square of the residual stream, which begins at 1.
constexpr double kUnitGain = 1;
constexpr double kMixerOutGain = 0.5;
constexpr double kDecayGain = 0.5;
constexpr double kLogitGain = 2;
constexpr double kRouterGain = 1.5;  // the first of the chosen experts weighs a few times the last
constexpr double kGrowthPerLayer = 0.25;

// To be raised when the same options give other bytes than before.
constexpr int kSyntheticVersion = 2;

void CheckOptions(const SyntheticOptions& options) {
  const auto refuse = [](const std::string& what, const std::string& cure = "") {
    throw Error(ErrorCode::kInvalidArgument, what, cure);
  };
  if (options.out.empty()) {
    refuse("no output directory given", "add --out DIR");
  }
  if (!IsSupported(options.scheme)) {
    refuse("cannot write " + std::to_string(options.scheme.bits) + " bits in groups of " +
               std::to_string(options.scheme.group_size),
           "--bits 2, 3, 4, 5, 6 or 8; --group-size 32, 64 or 128");
  }
  if (!(options.router_skew >= 0 && options.router_skew <= 4)) {
    refuse("--router-skew is " + std::to_string(options.router_skew) + ", expected 0 to 4");
  }
  CheckSyntheticShape(options.shape, options.scheme);
}

// The command that writes these bytes, but for --out.
std::string Command(const SyntheticOptions& options) {
  std::ostringstream command;
  command.precision(std::numeric_limits<double>::max_digits10);
  command << "mach synth " << SyntheticShapeFlags(options.shape) << " --bits "
          << options.scheme.bits << " --group-size " << options.scheme.group_size;
  if (options.router_skew > 0) {
    command << " --router-skew " << options.router_skew;
  }
  command << " --seed " << options.seed;
  return command.str();
}

// Everything that decides the bytes, for the fingerprint. Not the command: what a named shape means
// may change. `writer` are the options and the version of what writes them.
std::string Describe(const SyntheticOptions& options, const ConvertOptions& writer) {
  const SyntheticShape& shape = options.shape;
  std::string text = "synthetic " + std::to_string(kSyntheticVersion);
  text += " --family " + formats::MoeFamilyName(shape.family);
  for (const SyntheticFlag& flag : SyntheticFlags()) {
    if (shape.is_hybrid() || !flag.hybrid) {
      text += std::string(" ") + flag.flag + " " + std::to_string(shape.*flag.field);
    }
  }
  text += " --bits " + std::to_string(options.scheme.bits);
  text += " --group-size " + std::to_string(options.scheme.group_size);
  text += " --router-skew " + std::to_string(options.router_skew);
  text += " --seed " + std::to_string(options.seed);
  return text + "\n" + DescribeOptions(writer);
}

class SyntheticPlan {
 public:
  SyntheticPlan(const SyntheticOptions& options, const ConversionContext& context)
      : options_(options), shape_(options.shape), context_(context) {
    const bool nested = shape_.is_hybrid();
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
  }

  uint64_t WeightBytes() const {
    uint64_t bytes =
        static_cast<uint64_t>(shape_.layers * shape_.experts) * RecordLayout().record_bytes;
    for (const ConversionStep& step : steps_) {
      bytes += step.Bytes();
    }
    return bytes;
  }

  // Once.
  ConversionPlan Make() {
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
    if (shape_.is_hybrid()) {
      AddSharedExpert(base + "mlp.");
    }
  }

  void AddAttention(const std::string& base) {
    const int64_t width = shape_.heads * shape_.head_dim;
    const int64_t kv_width = shape_.kv_heads * shape_.head_dim;
    AddProjection(base + "q_proj", shape_.is_hybrid() ? 2 * width : width, shape_.hidden_size);
    AddProjection(base + "k_proj", kv_width, shape_.hidden_size);
    AddProjection(base + "v_proj", kv_width, shape_.hidden_size);
    AddProjection(base + "o_proj", shape_.hidden_size, width, kUnitGain);
    AddNorm(base + "q_norm", shape_.head_dim);
    AddNorm(base + "k_norm", shape_.head_dim);
  }

  void AddDeltaNet(const std::string& base) {
    const int64_t heads = shape_.linear_value_heads;
    const int64_t value_width = heads * shape_.linear_value_head_dim;
    const int64_t channels =
        2 * shape_.linear_key_heads * shape_.linear_key_head_dim + value_width;  // q, k, v
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
    AddNorm(base + "norm", shape_.linear_value_head_dim);
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

  ExpertLayout RecordLayout() const {
    const auto spec = [this](int64_t out, int64_t in) {
      return PackedSpec::Affine(out, in, options_.scheme, DType::kBF16);
    };
    return ExpertLayout::Make(spec(shape_.intermediate_size, shape_.hidden_size),
                              spec(shape_.intermediate_size, shape_.hidden_size),
                              spec(shape_.hidden_size, shape_.intermediate_size));
  }

  void AddExperts(ConversionPlan& plan) const {
    SidecarSource source;
    source.model_type = formats::MoeFamilyName(shape_.family);
    source.layers = static_cast<int32_t>(shape_.layers);
    source.experts = static_cast<int32_t>(shape_.experts);
    source.layout = RecordLayout();
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

uint64_t SyntheticBytes(const SyntheticShape& shape, AffineScheme scheme) {
  const SyntheticOptions options{.shape = shape, .scheme = scheme};
  const ConvertOptions convert;
  ThreadPool pool(1);
  const ConversionContext context{convert, pool};
  return SyntheticPlan(options, context).WeightBytes();
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
  return WriteCheckpoint(convert, SyntheticPlan(options, context).Make(), progress);
}

}  // namespace mach::convert
