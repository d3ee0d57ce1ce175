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

class Decoder final : public Model {
 public:
  Decoder(const LoadContext& context, const DecoderConfig& config)
      : config_(config),
        shape_(config.Shape()),
        backend_(context.backend),
        kv_pool_(backend_->NewKvPool(config.KvShape(context.kv_dtype))) {
    shape_.kv = kv_pool_->shape();
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
        kv_pool_->NewStore(),
        shape_.recurrent.layers > 0 ? backend_->NewRecurrentStore(shape_.recurrent) : nullptr);
  }

  std::unique_ptr<StepRun> Begin(const StepSpec& spec) override;

 private:
  friend class DecoderStep;

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
  const std::shared_ptr<backend::KvPool> kv_pool_;
  std::unique_ptr<LinearWeight> embedding_;
  std::unique_ptr<LinearWeight> output_;  // null if tied
  std::unique_ptr<VectorWeight> final_norm_;
  std::vector<Layer> layers_;
  uint64_t active_weight_bytes_ = 0;
};

class DecoderStep final : public StepRun {
 public:
  DecoderStep(Decoder& model, const StepSpec& spec)
      : model_(model), backend_(model.backend()), use_(spec.use), cancel_(spec.cancel) {
    std::vector<int32_t> ids;
    for (const SequenceRows& rows : spec.batch) {
      const auto count = static_cast<int64_t>(rows.tokens.size());
      const auto first_row = static_cast<int64_t>(ids.size());
      MACH_CHECK(count > 0 && rows.logit_rows <= count);
      MACH_CHECK(rows.state->prepared() == count);
      states_.push_back(rows.state);
      spans_.push_back({.kv = &rows.state->kv(),
                        .recurrent = rows.state->recurrent(),
                        .first_row = first_row,
                        .rows = count,
                        .first_position = rows.state->length()});
      ids.insert(ids.end(), rows.tokens.begin(), rows.tokens.end());
      for (int64_t row = count - rows.logit_rows; row < count; ++row) {
        logit_rows_.push_back(first_row + row);
      }
    }
    const CancelScope cancellable(backend_, cancel_);
    x_ = backend_.Embed(*model.embedding_, ids);
    angles_ = backend_.RopeAngles(model.config_.attention.rope, spans_);
  }

  bool RunLayer() override {
    MACH_CHECK(!in_layer_);  // else the one before threw
    if (next_layer_ == model_.layers_.size()) {
      return false;
    }
    in_layer_ = true;
    const Layer& layer = model_.layers_[next_layer_++];
    const CancelScope cancellable(backend_, cancel_);
    const StepScope scope(backend_);
    const BlockStep step{.spans = spans_, .angles = angles_, .use = use_};
    layer.mixer->Run(x_, step);
    layer.feed_forward->Run(x_, step);
    in_layer_ = false;
    return true;
  }

  Tensor Finish() override {
    MACH_CHECK(!in_layer_ && next_layer_ == model_.layers_.size());
    const CancelScope cancellable(backend_, cancel_);
    const Tensor logits = logit_rows_.empty() ? Tensor{} : model_.Logits(x_, logit_rows_);
    for (size_t i = 0; i < states_.size(); ++i) {
      MACH_CHECK(states_[i]->prepared() == spans_[i].rows &&
                 states_[i]->length() == spans_[i].first_position);
      states_[i]->Commit();
    }
    return logits;
  }

 private:
  Decoder& model_;
  backend::Backend& backend_;
  const backend::ExpertUse use_;
  const std::atomic<bool>* const cancel_;
  std::vector<state::SequenceState*> states_;
  std::vector<RowSpan> spans_;  // of each state, in the same order
  std::vector<int64_t> logit_rows_;
  Tensor x_;       // [rows, hidden]
  Tensor angles_;  // [rows, rotated elements of a head]
  size_t next_layer_ = 0;
  bool in_layer_ = false;
};

std::unique_ptr<StepRun> Decoder::Begin(const StepSpec& spec) {
  return std::make_unique<DecoderStep>(*this, spec);
}

}  // namespace

std::unique_ptr<Model> MakeDecoder(const LoadContext& context, const DecoderConfig& config) {
  return std::make_unique<Decoder>(context, config);
}

}  // namespace mach::models
