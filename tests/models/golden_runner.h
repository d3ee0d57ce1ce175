// A checkpoint of tests/golden and a model built from it, for the golden tests.
#pragma once

#include <atomic>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "base/error.h"
#include "formats/checkpoint.h"
#include "formats/safetensors.h"
#include "memory_experts.h"
#include "models/loader.h"

namespace mach::models {

inline std::filesystem::path GoldenDir() {
  return std::filesystem::path(MACH_SOURCE_DIR) / "tests/golden";
}

// A tensor of golden.safetensors.
template <typename T>
std::vector<T> ReadGolden(const formats::SafetensorsFile& file, const std::string& name) {
  const TensorView view = file.Find(name).value();
  std::vector<T> values(view.bytes.size() / sizeof(T));
  std::memcpy(values.data(), view.bytes.data(), view.bytes.size());
  return values;
}

class Runner {
 public:
  explicit Runner(const std::filesystem::path& dir, int threads = 1, Isa isa = BestIsa(),
                  DType kv_dtype = DType::kBF16)
      : checkpoint_(formats::Checkpoint::Open(dir)),
        backend_(backend::MakeCpuBackend(budget_, {.threads = threads, .isa = isa})) {
    Build(kv_dtype);
  }
  // A model on the backend of another runner, which must outlive this one.
  Runner(const std::filesystem::path& dir, std::shared_ptr<backend::Backend> backend)
      : checkpoint_(formats::Checkpoint::Open(dir)), backend_(std::move(backend)) {
    Build(DType::kBF16);
  }

  std::unique_ptr<state::SequenceState> NewSequence() { return model_->NewSequence(); }

  // A step, prepared and run.
  std::vector<float> Forward(const std::vector<SequenceRows>& batch, bool record = false,
                             backend::ExpertUse use = backend::ExpertUse::kDecode,
                             const std::atomic<bool>* cancel = nullptr) {
    for (const SequenceRows& rows : batch) {
      rows.state->Prepare(static_cast<int64_t>(rows.tokens.size()), record);
    }
    const backend::StepScope scope(*backend_);
    const auto logits =
        backend_->Read(model_->Forward({.batch = batch, .use = use, .cancel = cancel}));
    return {logits.begin(), logits.end()};
  }
  // Logits of all `tokens`.
  std::vector<float> Forward(state::SequenceState& state, std::span<const int32_t> tokens,
                             bool record = false,
                             backend::ExpertUse use = backend::ExpertUse::kDecode,
                             const std::atomic<bool>* cancel = nullptr) {
    return Forward(
        {{.state = &state, .tokens = tokens, .logit_rows = static_cast<int64_t>(tokens.size())}},
        record, use, cancel);
  }
  Model& model() { return *model_; }
  MemoryExperts* experts() { return experts_.get(); }  // null for dense models

  const std::shared_ptr<backend::Backend>& shared_backend() const { return backend_; }

 private:
  void Build(DType kv_dtype) {
    if (ReadModelShape(*checkpoint_).moe_layers > 0) {
      experts_ = std::make_unique<MemoryExperts>(*checkpoint_);
    }
    model_ = BuildModel({.checkpoint = *checkpoint_,
                         .backend = backend_,
                         .experts = experts_.get(),
                         .kv_dtype = kv_dtype});
  }

  MemoryBudget budget_;
  std::unique_ptr<formats::Checkpoint> checkpoint_;
  std::shared_ptr<backend::Backend> backend_;
  std::unique_ptr<MemoryExperts> experts_;
  std::unique_ptr<Model> model_;
};

}  // namespace mach::models
