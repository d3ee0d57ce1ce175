// Mixture-of-Experts checkpoints, raw Hugging Face or MLX, to what an engine checkpoint holds: the
// tensors that are always used under MLX names, and the experts as records of a sidecar.

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "convert/affine_quantise.h"
#include "convert/convert_plan.h"
#include "convert/expert_writer.h"
#include "formats/expert_sidecar.h"
#include "formats/module_names.h"
#include "formats/moe_layout.h"
#include "formats/pack_expert.h"

namespace mach::convert {
namespace {

using Json = nlohmann::ordered_json;

bool IsExpertTensor(std::string_view name) {
  return name.find(".mlp.switch_mlp.") != std::string_view::npos ||
         name.find(".mlp.experts.") != std::string_view::npos;
}

bool IsRouter(std::string_view module) {
  return module.ends_with(".mlp.gate") || module.ends_with(".mlp.shared_expert_gate");
}

// Names of tensors and modules as mlx-lm has them.
class MlxNames {
 public:
  explicit MlxNames(const formats::MoeLayout& layout)
      : from_prefix_(layout.prefix),
        from_head_(layout.lm_head),
        nested_(layout.family == formats::MoeFamily::kQwen35Moe) {}

  // Empty for what is no part of the language model.
  std::string Of(const std::string& name) const {
    const std::string outer = nested_ ? "language_model." : "";
    if (name.starts_with(from_prefix_)) {
      return outer + "model." + name.substr(from_prefix_.size());
    }
    if (name == from_head_ || name.starts_with(from_head_ + ".")) {
      return outer + "lm_head" + name.substr(from_head_.size());
    }
    return "";
  }

 private:
  std::string from_prefix_;
  std::string from_head_;
  bool nested_;
};

// Norm weights that raw checkpoints store as gain - 1. The norm of the gated delta rule is plain.
bool IsShiftedNorm(const formats::MoeLayout& layout, const std::string& name) {
  constexpr std::array<std::string_view, 4> kEndings = {".input_layernorm.weight",
                                                        ".post_attention_layernorm.weight",
                                                        ".q_norm.weight", ".k_norm.weight"};
  return name == layout.prefix + "norm.weight" ||
         std::any_of(kEndings.begin(), kEndings.end(),
                     [&](std::string_view ending) { return name.ends_with(ending); });
}

// gain = 1 + weight, in the source's type if that holds every sum exactly, else in fp32, in which
// raw checkpoints are meant to be added.
ConversionStep GainStep(const formats::Checkpoint& checkpoint, const std::string& source_name,
                        const std::string& output_name) {
  const TensorView tensor =
      checkpoint.RequireFloat(source_name, checkpoint.FindTensor(source_name)->shape);
  std::vector<float> gains(static_cast<size_t>(tensor.shape.Elements()));
  for (size_t i = 0; i < gains.size(); ++i) {
    gains[i] = 1.0F + FloatElement(tensor, static_cast<int64_t>(i));
  }
  std::vector<std::byte> bytes(tensor.bytes.size());
  StoreFloats(gains, tensor.dtype, bytes);
  DType dtype = tensor.dtype;
  const TensorView stored = {dtype, tensor.shape, bytes};
  for (size_t i = 0; i < gains.size(); ++i) {
    if (FloatElement(stored, static_cast<int64_t>(i)) != gains[i]) {
      dtype = DType::kF32;
    }
  }
  if (dtype != tensor.dtype) {
    bytes.resize(gains.size() * sizeof(float));
    StoreFloats(gains, dtype, bytes);
  }
  return CopyRowsStep({output_name, dtype, tensor.shape}, 1,
                      [bytes = std::move(bytes)](int64_t) { return std::span(bytes); });
}

// [channels, 1, taps] to [channels, taps, 1]: the same bytes in the same order.
ConversionStep ConvStep(const formats::Checkpoint& checkpoint, const std::string& source_name,
                        const std::string& output_name) {
  const TensorView tensor = *checkpoint.FindTensor(source_name);
  if (tensor.shape.rank() != 3 || tensor.shape[1] != 1) {
    throw Error(ErrorCode::kCorruptFile,
                checkpoint.FileOf(source_name) + ": tensor " + source_name + " has shape " +
                    tensor.shape.ToString() + ", expected [channels, 1, taps]",
                formats::kFetchModelAgain);
  }
  return CopyRowsStep(
      {output_name, tensor.dtype, Shape{tensor.shape[0], tensor.shape[2], tensor.shape[1]}}, 1,
      [tensor](int64_t) { return tensor.bytes; });
}

// The number N of a name "<prefix>layers.N.*", or nothing.
std::optional<int64_t> LayerOf(const formats::MoeLayout& layout, const std::string& name) {
  const std::string start = layout.prefix + "layers.";
  if (!name.starts_with(start)) {
    return std::nullopt;
  }
  int64_t layer = 0;
  size_t at = start.size();
  for (; at < name.size() && name[at] >= '0' && name[at] <= '9' && layer < 1'000'000; ++at) {
    layer = layer * 10 + (name[at] - '0');
  }
  return at > start.size() && at < name.size() && name[at] == '.' ? std::optional(layer)
                                                                  : std::nullopt;
}

std::string UnusedReason(const formats::Checkpoint& checkpoint, const formats::MoeLayout& layout,
                         const MlxNames& names, const std::string& name) {
  std::string reason = formats::SkippedTensorReason(name);
  if (!reason.empty()) {
    return reason;
  }
  if (name.starts_with(layout.lm_head + ".") && checkpoint.TiesWordEmbeddings(layout.lm_head)) {
    return "the embedding serves as head";
  }
  if (names.Of(name).empty()) {
    return "not part of a " + checkpoint.model_type() + " language model";
  }
  const auto layer = LayerOf(layout, name);
  if (layer && *layer >= layout.layers) {
    return "beyond num_hidden_layers";
  }
  if (IsExpertTensor(name) && !(layer && layout.is_moe[static_cast<size_t>(*layer)])) {
    return "experts of a dense layer";
  }
  return "";
}

// The experts of all layers, read from the checkpoint and packed one at a time.
class ExpertPacker {
 public:
  ExpertPacker(const ConversionContext& context,
               std::shared_ptr<const formats::Checkpoint> checkpoint,
               const formats::MoeLayout& layout)
      : context_(context), checkpoint_(std::move(checkpoint)) {
    for (int32_t layer = 0; layer < layout.layers; ++layer) {
      if (!layout.is_moe[static_cast<size_t>(layer)]) {
        continue;
      }
      const std::string module = layout.MlpModule(layer);
      auto tensors = formats::ExpertTensors::Find(*checkpoint_, module, layout.experts);
      if (!tensors) {
        throw Error(ErrorCode::kNotFound,
                    checkpoint_->dir().string() + " has no experts of " + module + ": neither " +
                        module + ".switch_mlp.* nor " + module + ".experts.*",
                    formats::kFetchModelAgain);
      }
      const ExpertLayout here = LayoutOfRecords(*tensors);
      if (tensors_.empty()) {
        layout_ = here;
      } else if (here != layout_) {
        throw Error(ErrorCode::kUnsupported,
                    checkpoint_->dir().string() + ": the experts of " + module +
                        " have another type or quantisation than those of the first layer; all "
                        "experts of an engine checkpoint are alike",
                    "convert from the unquantised model with --bits");
      }
      tensors_.emplace(layer, std::move(*tensors));
    }
    if (tensors_.empty()) {
      throw Error(ErrorCode::kUnsupported,
                  checkpoint_->root_config().file() + " describes no Mixture-of-Experts layer");
    }
  }

  const ExpertLayout& layout() const { return layout_; }
  std::vector<int32_t> layers() const {
    std::vector<int32_t> all;
    for (const auto& entry : tensors_) {
      all.push_back(entry.first);
    }
    return all;
  }

  // Throws for a tensor of a layer's experts that no record has a place for.
  void RequireKnown(int32_t layer, const std::string& name) const {
    if (!tensors_.at(layer).Owns(name)) {
      throw Error(ErrorCode::kUnsupported,
                  checkpoint_->FileOf(name) + ": tensor " + name +
                      " belongs to the experts, but is no part of a gate, up or down matrix");
    }
  }

  void Fill(int32_t layer, int32_t expert, std::span<std::byte> record) {
    const formats::ExpertMatrices source = tensors_.at(layer).Source(expert);
    if (context_.options.bits) {
      std::array<Quantised, 3> owned;
      formats::PackExpert({Quantise(source.gate, owned[0]), Quantise(source.up, owned[1]),
                           Quantise(source.down, owned[2])},
                          layout_, record, context_.pool);
    } else {
      formats::PackExpert(source, layout_, record, context_.pool);
    }
    for (const formats::LinearSource* matrix : {&source.gate, &source.up, &source.down}) {
      checkpoint_->Drop(*matrix);
    }
  }

 private:
  struct Quantised {
    std::vector<std::byte> codes;
    std::vector<std::byte> scales;
    std::vector<std::byte> biases;
  };

  ExpertLayout LayoutOfRecords(const formats::ExpertTensors& tensors) const {
    if (!context_.options.bits) {
      return tensors.Layout();
    }
    const ExpertLayout as_is = tensors.Layout();
    const auto quantised = [&](const PackedSpec& spec) {
      if (spec.in_features % context_.options.group_size != 0) {
        throw Error(ErrorCode::kUnsupported,
                    checkpoint_->dir().string() + ": experts with " +
                        std::to_string(spec.in_features) +
                        " inputs cannot be quantised in groups of " +
                        std::to_string(context_.options.group_size),
                    "choose a --group-size that divides hidden_size and moe_intermediate_size");
      }
      return PackedSpec::Affine(spec.out_features, spec.in_features, context_.Scheme(), spec.dtype);
    };
    return ExpertLayout::Make(quantised(as_is.gate.spec), quantised(as_is.up.spec),
                              quantised(as_is.down.spec));
  }

  // File and tensor, for messages. An expert that is part of a larger tensor is TENSOR[N].
  std::string WhereOf(const formats::LinearSource& source) const {
    std::string file = checkpoint_->FileOf(source.module + ".weight");
    if (file.empty()) {
      file = checkpoint_->FileOf(source.module.substr(0, source.module.rfind('[')));
    }
    return file + ": tensor " + source.module;
  }

  // The same layer with codes in place of floats; `owned` holds them.
  formats::LinearSource Quantise(const formats::LinearSource& source, Quantised& owned) const {
    const AffineScheme scheme = context_.Scheme();
    const TensorView& weight = *source.weight;
    const int64_t out = source.out_features;
    const int64_t in = source.in_features;
    const int64_t groups = in / scheme.group_size;
    owned.codes.resize(static_cast<size_t>(out * in * scheme.bits / 8));
    owned.scales.resize(static_cast<size_t>(out * groups) * DTypeBytes(weight.dtype));
    owned.biases.resize(owned.scales.size());
    const EncodeRow encode = QuantisingEncoder(context_, source.module, WhereOf(source), scheme,
                                               [&](int64_t row, std::span<float> weights) {
                                                 for (int64_t i = 0; i < in; ++i) {
                                                   weights[static_cast<size_t>(i)] =
                                                       FloatElement(weight, row * in + i);
                                                 }
                                               });
    EncodeRows(context_.pool, 0, out, in, scheme, weight.dtype, encode,
               {owned.codes, owned.scales, owned.biases});
    formats::LinearSource quantised = source;
    quantised.weight.reset();
    quantised.affine = {scheme,
                        out,
                        in,
                        {DType::kU32, Shape{out, in * scheme.bits / 32}, owned.codes},
                        {weight.dtype, Shape{out, groups}, owned.scales},
                        {weight.dtype, Shape{out, groups}, owned.biases}};
    return quantised;
  }

  ConversionContext context_;
  std::shared_ptr<const formats::Checkpoint> checkpoint_;
  std::map<int32_t, formats::ExpertTensors> tensors_;
  ExpertLayout layout_;
};

// What a module that config.json names, perhaps below another prefix than the tensors, is called
// among them; `key` itself if there is none.
std::string ModuleOfOverride(const formats::Checkpoint& checkpoint,
                             const formats::MoeLayout& layout, const std::string& key) {
  const std::string below(formats::BelowPrefix(key));
  for (const std::string& module :
       {key,
        below == formats::BelowPrefix(layout.lm_head) ? layout.lm_head : layout.prefix + below}) {
    if (checkpoint.Has(module + ".weight")) {
      return module;
    }
  }
  return key;
}

// Per-module entries of a quantization block, under the new names.
void RenameOverrides(const formats::Checkpoint& checkpoint, const formats::MoeLayout& layout,
                     const MlxNames& names, Json& block) {
  Json renamed = Json::object();
  for (const auto& [key, value] : block.items()) {
    const std::string module = ModuleOfOverride(checkpoint, layout, key);
    const std::string name = names.Of(module);
    // A module's own entry goes before one that names it otherwise.
    if (module == key || !block.contains(module)) {
      renamed[name.empty() ? key : name] = value;
    }
  }
  block = std::move(renamed);
}

}  // namespace

void PlanMoeTensors(const ConversionContext& context,
                    const std::shared_ptr<const formats::Checkpoint>& checkpoint,
                    ConversionPlan& plan, Json& config) {
  if (std::filesystem::exists(checkpoint->dir() / formats::ExpertSidecar::kDirName)) {
    throw Error(ErrorCode::kInvalidArgument,
                checkpoint->dir().string() + " is an engine checkpoint already",
                "serve it as it is, or copy the directory");
  }
  const formats::MoeLayout layout = formats::MoeLayout::Of(*checkpoint);
  const MlxNames names(layout);
  const auto packer = std::make_shared<ExpertPacker>(context, checkpoint, layout);
  for (Json* object :
       {&config, config.contains("text_config") ? &config["text_config"] : nullptr}) {
    for (const char* field : {"quantization", "quantization_config"}) {
      if (object != nullptr && object->contains(field) && (*object)[field].is_object()) {
        RenameOverrides(*checkpoint, layout, names, (*object)[field]);
      }
    }
  }
  std::vector<ConversionStep> steps;
  for (const std::string& name : checkpoint->TensorNames()) {
    const std::string unused = UnusedReason(*checkpoint, layout, names, name);
    if (!unused.empty()) {
      plan.skipped_tensors[unused].push_back(name);
      continue;
    }
    const std::string output = names.Of(name);
    if (IsExpertTensor(name)) {
      packer->RequireKnown(static_cast<int32_t>(*LayerOf(layout, name)), name);
      if (context.options.bits) {
        plan.requantised.push_back(name);
      }
    } else if (layout.raw && IsShiftedNorm(layout, name)) {
      steps.push_back(GainStep(*checkpoint, name, output));
    } else if (layout.raw && name.ends_with(".conv1d.weight")) {
      steps.push_back(ConvStep(*checkpoint, name, output));
    } else {
      std::optional<AffineScheme> scheme;
      const std::string module = output.substr(0, output.rfind('.'));
      if (context.options.bits) {
        scheme = IsRouter(module) ? kRouterScheme : context.Scheme();
      }
      steps.push_back(TensorStep(context, *checkpoint, name, output, scheme, plan));
      if (scheme && IsRouter(module) && steps.back().outputs.size() > 1) {
        config["quantization"][module] = {{"group_size", scheme->group_size},
                                          {"bits", scheme->bits}};
      }
    }
  }
  // In the order of their new names, so that every source of a model gives the same files.
  std::stable_sort(steps.begin(), steps.end(),
                   [](const ConversionStep& a, const ConversionStep& b) {
                     return a.outputs.front().name < b.outputs.front().name;
                   });
  AddShards(std::move(steps), context.options.max_shard_bytes, plan);
  SidecarSource sidecar;
  sidecar.model_type = checkpoint->model_type();
  sidecar.layers = layout.layers;
  sidecar.experts = layout.experts.experts;
  sidecar.layout = packer->layout();
  sidecar.moe_layers = packer->layers();
  sidecar.fill = [packer](int32_t layer, int32_t expert, std::span<std::byte> record) {
    packer->Fill(layer, expert, record);
  };
  AddSidecar(std::move(sidecar), plan);
}

}  // namespace mach::convert
