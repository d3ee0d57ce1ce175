#include "convert/synthetic_shape.h"

#include <algorithm>
#include <optional>
#include <sstream>

#include "base/error.h"
#include "convert/synthetic_text.h"
#include "formats/expert_tensors.h"

namespace mach::convert {
namespace {

// What the loader of models takes; below it no product of two of them overflows.
constexpr int64_t kMaxWidth = 1 << 20;
constexpr int64_t kMaxHeads = 4096;
constexpr int64_t kMaxHeadDim = 4096;
constexpr int64_t kHeadDimUnit = 16;

constexpr SyntheticFlag kFlags[] = {
    {"--layers", &SyntheticShape::layers, "Layers", 1, 1000},
    {"--hidden", &SyntheticShape::hidden_size, "Width of the hidden state", 1, kMaxWidth},
    {"--experts", &SyntheticShape::experts, "Experts of each layer", 1, 65536},
    {"--top-k", &SyntheticShape::top_k, "Experts that a token uses in each layer", 1, 65536},
    {"--intermediate", &SyntheticShape::intermediate_size, "Inner width of an expert", 1,
     kMaxWidth},
    {"--shared-intermediate", &SyntheticShape::shared_intermediate_size,
     "Inner width of the shared expert (qwen3_5_moe)", 1, kMaxWidth, true},
    {"--vocab", &SyntheticShape::vocab_size, "Vocabulary", kSyntheticFirstWord + 1,
     kSyntheticMaxVocab},
    {"--max-context", &SyntheticShape::max_context, "Longest context, tokens", 1, int64_t{1} << 30},
    {"--heads", &SyntheticShape::heads, "Query heads", 1, kMaxHeads},
    {"--kv-heads", &SyntheticShape::kv_heads, "Key and value heads", 1, kMaxHeads},
    {"--head-dim", &SyntheticShape::head_dim, "Width of an attention head", 1, kMaxHeadDim},
    // At 1 no layer would be a gated delta net, and the family is known by them.
    {"--full-attention-interval", &SyntheticShape::full_attention_interval,
     "Of so many layers one is full attention, the others linear (qwen3_5_moe)", 2, 1000, true},
    {"--linear-key-heads", &SyntheticShape::linear_key_heads,
     "Key heads of linear attention (qwen3_5_moe)", 1, kMaxHeads, true},
    {"--linear-value-heads", &SyntheticShape::linear_value_heads,
     "Value heads of linear attention (qwen3_5_moe)", 1, kMaxHeads, true},
    {"--linear-key-head-dim", &SyntheticShape::linear_key_head_dim,
     "Width of its keys (qwen3_5_moe)", 1, kMaxHeadDim, true},
    {"--linear-value-head-dim", &SyntheticShape::linear_value_head_dim,
     "Width of its values (qwen3_5_moe)", 1, kMaxHeadDim, true},
    {"--conv-taps", &SyntheticShape::conv_taps,
     "Tokens that its convolution looks at (qwen3_5_moe)", 2, 16, true},
};

struct NamedShape {
  const char* name;
  SyntheticShape shape;
};

const std::vector<NamedShape>& Shapes() {
  static const std::vector<NamedShape> kShapes = {
      {"35b-a3b", {}},
      {"qwen35moe-12l", {.layers = 12, .vocab_size = 32768, .max_context = 32768}},
      {"qwen3moe-10l",
       {.family = formats::MoeFamily::kQwen3Moe,
        .layers = 10,
        .vocab_size = 32768,
        .max_context = 32768,
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
        .heads = 4,
        .kv_heads = 2,
        .head_dim = 64,
        .shared_intermediate_size = 64,
        .linear_key_heads = 2,
        .linear_value_heads = 4,
        .linear_key_head_dim = 32,
        .linear_value_head_dim = 32}},
  };
  return kShapes;
}

[[noreturn]] void Refuse(const std::string& what, const std::string& cure = "") {
  throw Error(ErrorCode::kInvalidArgument, what, cure);
}

std::string FlagOf(int64_t SyntheticShape::*field) {
  return std::ranges::find(kFlags, field, &SyntheticFlag::field)->flag;
}

// `what` is a flag, or flags whose values are multiplied.
void RequireMultiple(const std::string& what, int64_t value, int64_t unit,
                     const std::string& unit_name = "") {
  if (value % unit != 0) {
    Refuse(what + " is " + std::to_string(value) + ", expected a multiple of " +
           (unit_name.empty() ? "" : unit_name + ", ") + std::to_string(unit));
  }
}

void RequireMultiple(const SyntheticShape& shape, int64_t SyntheticShape::*field, int64_t unit,
                     const std::string& unit_name = "") {
  RequireMultiple(FlagOf(field), shape.*field, unit, unit_name);
}

void CheckHybrid(const SyntheticShape& shape, AffineScheme scheme) {
  using S = SyntheticShape;
  RequireMultiple(shape, &S::shared_intermediate_size, scheme.group_size, "--group-size");
  RequireMultiple(shape, &S::linear_key_head_dim, kHeadDimUnit);
  RequireMultiple(shape, &S::linear_value_head_dim, kHeadDimUnit);
  RequireMultiple(shape, &S::linear_value_heads, shape.linear_key_heads, "--linear-key-heads");
  RequireMultiple("--linear-value-heads times --linear-value-head-dim",
                  shape.linear_value_heads * shape.linear_value_head_dim, scheme.group_size,
                  "--group-size");
}

// In flags: how many of them make `to` of `from`.
std::vector<const SyntheticFlag*> FlagsBetween(const SyntheticShape& from,
                                               const SyntheticShape& to) {
  std::vector<const SyntheticFlag*> flags;
  for (const SyntheticFlag& flag : kFlags) {
    if ((to.is_hybrid() || !flag.hybrid) && from.*flag.field != to.*flag.field) {
      flags.push_back(&flag);
    }
  }
  return flags;
}

}  // namespace

std::span<const SyntheticFlag> SyntheticFlags() {
  return kFlags;
}

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
  Refuse("--shape: there is no shape \"" + std::string(name) + "\"", "shapes: " + names);
}

void CheckSyntheticShape(const SyntheticShape& shape, AffineScheme scheme) {
  for (const SyntheticFlag& flag : kFlags) {
    const int64_t value = shape.*flag.field;
    if ((shape.is_hybrid() || !flag.hybrid) && (value < flag.min || value > flag.max)) {
      Refuse(std::string(flag.flag) + " is " + std::to_string(value) + ", expected " +
             std::to_string(flag.min) + " to " + std::to_string(flag.max));
    }
  }
  using S = SyntheticShape;
  RequireMultiple(shape, &S::hidden_size, std::max(scheme.group_size, kRouterScheme.group_size));
  RequireMultiple(shape, &S::intermediate_size, scheme.group_size, "--group-size");
  RequireMultiple(shape, &S::heads, shape.kv_heads, "--kv-heads");
  RequireMultiple(shape, &S::head_dim, kHeadDimUnit);
  RequireMultiple("--heads times --head-dim", shape.heads * shape.head_dim, scheme.group_size,
                  "--group-size");
  if (shape.top_k > shape.experts) {
    Refuse("--top-k is " + std::to_string(shape.top_k) + ", expected at most --experts, " +
           std::to_string(shape.experts));
  }
  if (shape.is_hybrid()) {
    CheckHybrid(shape, scheme);
  }
  // Far beyond any disk; below it all sizes in bytes, and their sums, fit into 64 bits.
  constexpr double kMaxExpertWeights = 1e16;
  const double weights = 3.0 * static_cast<double>(shape.layers * shape.experts) *
                         static_cast<double>(shape.hidden_size * shape.intermediate_size);
  if (weights > kMaxExpertWeights) {
    std::ostringstream text;
    text << "all experts together would have " << weights << " weights, expected at most "
         << kMaxExpertWeights;
    Refuse(text.str(), "lower --layers, --experts, --hidden or --intermediate");
  }
}

std::string SyntheticShapeFlags(const SyntheticShape& shape) {
  const auto cost = [&shape](const NamedShape& from) {
    return FlagsBetween(from.shape, shape).size() + (from.shape.family == shape.family ? 0 : 1);
  };
  const NamedShape& base = *std::ranges::min_element(Shapes(), {}, cost);
  std::string flags = std::string("--shape ") + base.name;
  if (base.shape.family != shape.family) {
    flags += " --family " + formats::MoeFamilyName(shape.family);
  }
  for (const SyntheticFlag* flag : FlagsBetween(base.shape, shape)) {
    flags += std::string(" ") + flag->flag + " " + std::to_string(shape.*flag->field);
  }
  return flags;
}

}  // namespace mach::convert
