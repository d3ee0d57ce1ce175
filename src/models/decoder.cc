#include "models/decoder.h"

#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "models/attention_block.h"
#include "models/gated_delta_block.h"
#include "models/mlp_block.h"
#include "models/moe_block.h"
#include "models/weight_loader.h"

namespace mach::models {
namespace {

using backend::CancelScope;
using backend::LinearWeight;
using backend::RowSpan;
using backend::StepScope;
using backend::Tensor;
using backend::VectorWeight;

struct Layer {
  std::unique_ptr<Block> mixer;
  std::unique_ptr<Block> feed_forward;
};

// The rows of a step, sequence after sequence.
struct StepRows {
  std::vector<int32_t> ids;
  std::vector<RowSpan> spans;
  std::vector<int64_t> logit_rows;
};

class Decoder final : public Model {
 public:
  Decoder(const LoadContext& context, const DecoderConfig& config)
      : config_(config),
        shape_(config.Shape()),
        backend_(context.backend),
        kv_shape_(config.KvShape(context.kv_dtype)) {
    shape_.kv = kv_shape_;
    WeightLoader loader(context, config.zero_centred_norms);
    LoadTables(loader);
    LoadLayers(context, loader);
    active_weight_bytes_ = loader.active_bytes();
    if (shape_.moe_layers > 0) {
      active_weight_bytes_ += static_cast<uint64_t>(shape_.moe_layers) *
                              static_cast<uint64_t>(shape_.experts_per_token) *
                              context.experts->layout().weight_bytes();
    }
  }

  const ModelShape& shape() const override { return shape_; }
  backend::Backend& backend() override { return *backend_; }
  uint64_t ActiveWeightBytes() const override { return active_weight_bytes_; }

  std::unique_ptr<state::SequenceState> NewSequence() override {
    return std::make_unique<state::SequenceState>(
        backend_->NewKvStore(kv_shape_),
        shape_.recurrent.layers > 0 ? backend_->NewRecurrentStore(shape_.recurrent) : nullptr);
  }

  Tensor Forward(std::span<const SequenceRows> batch, const std::atomic<bool>* cancel) override {
    const StepRows step = Prepare(batch);
    const CancelScope cancellable(*backend_, cancel);
    const Tensor x = backend_->Embed(*embedding_, step.ids);
    for (const Layer& layer : layers_) {
      const StepScope scope(*backend_);
      layer.mixer->Run(x, step.spans);
      layer.feed_forward->Run(x, step.spans);
    }
    const Tensor logits = step.logit_rows.empty() ? Tensor{} : Logits(x, step.logit_rows);
    for (const SequenceRows& rows : batch) {
      rows.state->Commit();
    }
    return logits;
  }

 private:
  static StepRows Prepare(std::span<const SequenceRows> batch) {
    StepRows step;
    for (const SequenceRows& rows : batch) {
      const auto count = static_cast<int64_t>(rows.tokens.size());
      MACH_DCHECK(count > 0 && rows.logit_rows <= count);
      rows.state->Prepare(count, rows.record);
      const auto first_row = static_cast<int64_t>(step.ids.size());
      step.spans.push_back({.kv = &rows.state->kv(),
                            .recurrent = rows.state->recurrent(),
                            .first_row = first_row,
                            .rows = count,
                            .first_position = rows.state->length()});
      step.ids.insert(step.ids.end(), rows.tokens.begin(), rows.tokens.end());
      for (int64_t row = count - rows.logit_rows; row < count; ++row) {
        step.logit_rows.push_back(first_row + row);
      }
    }
    return step;
  }

  Tensor Logits(const Tensor& x, std::span<const int64_t> rows) {
    const bool all = static_cast<int64_t>(rows.size()) == x.rows;
    const Tensor wanted = all ? x : backend_->TakeRows(x, rows);
    const Tensor normed = backend_->RmsNorm(wanted, *final_norm_, config_.norm_eps);
    return Apply(*backend_, output_ ? *output_ : *embedding_, normed);
  }

  // First, since they are the largest tensors: what packing needs beside the packed weights is then
  // gone before the rest is there.
  void LoadTables(WeightLoader& loader) {
    const bool tied = config_.tie_word_embeddings;
    embedding_ = loader.Linear(config_.prefix + "embed_tokens", config_.vocab_size,
                               config_.hidden_size, false, tied ? Use::kEveryToken : Use::kOneRow);
    if (!tied) {
      output_ = loader.Linear(config_.lm_head, config_.vocab_size, config_.hidden_size);
    }
    final_norm_ = loader.Norm(config_.prefix + "norm", config_.hidden_size);
  }

  void LoadLayers(const LoadContext& context, WeightLoader& loader) {
    if (shape_.moe_layers > 0) {
      CheckExperts(context);
    }
    int32_t kv_layer = 0;
    int32_t recurrent_layer = 0;
    MoeBlock* last_moe = nullptr;
    for (size_t i = 0; i < config_.layers.size(); ++i) {
      Layer layer;
      layer.mixer = config_.layers[i].mixer == MixerKind::kAttention
                        ? MakeAttentionBlock(config_, loader, i, kv_layer++)
                        : MakeGatedDeltaBlock(config_, loader, i, recurrent_layer++);
      if (config_.layers[i].feed_forward == FeedForwardKind::kMoe) {
        auto moe = std::make_unique<MoeBlock>(config_, loader, i, *context.experts);
        if (last_moe != nullptr) {
          last_moe->set_next(moe.get());
        }
        last_moe = moe.get();
        layer.feed_forward = std::move(moe);
      } else {
        layer.feed_forward = MakeMlpBlock(config_, loader, i);
      }
      layers_.push_back(std::move(layer));
    }
  }

  void CheckExperts(const LoadContext& context) const {
    const std::string dir = context.checkpoint.dir().string();
    if (context.experts == nullptr) {
      throw Error(ErrorCode::kInvalidArgument,
                  dir + " is a Mixture-of-Experts model, and its experts were not loaded");
    }
    const formats::ExpertShape& want = config_.moe.experts;
    const backend::ExpertSource& have = *context.experts;
    const PackedSpec& gate = have.layout().gate.spec;
    if (have.layers() != shape_.layers || have.experts() != want.experts ||
        gate.in_features != want.hidden_size || gate.out_features != want.intermediate_size) {
      const auto describe = [](int32_t layers, int32_t experts, int64_t rows, int64_t columns) {
        return std::to_string(layers) + " layers of " + std::to_string(experts) + " experts of [" +
               std::to_string(rows) + ", " + std::to_string(columns) + "]";
      };
      throw Error(
          ErrorCode::kCorruptFile,
          dir + ": config.json says " +
              describe(shape_.layers, want.experts, want.intermediate_size, want.hidden_size) +
              ", but the experts loaded are " +
              describe(have.layers(), have.experts(), gate.out_features, gate.in_features),
          "convert the checkpoint again");
    }
  }

  const DecoderConfig config_;
  ModelShape shape_;
  const std::shared_ptr<backend::Backend> backend_;
  const backend::KvShape kv_shape_;
  std::unique_ptr<LinearWeight> embedding_;
  std::unique_ptr<LinearWeight> output_;  // null if tied
  std::unique_ptr<VectorWeight> final_norm_;
  std::vector<Layer> layers_;
  uint64_t active_weight_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Model> MakeDecoder(const LoadContext& context, const DecoderConfig& config) {
  return std::make_unique<Decoder>(context, config);
}

}  // namespace mach::models
