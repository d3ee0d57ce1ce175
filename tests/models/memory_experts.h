// All experts of a tiny checkpoint in memory, as a backend::ExpertSource for tests: from stacked,
// fused or split tensors or from the sidecar of an engine checkpoint. Hands experts out one at a
// time in descending order, so that a result which depends on arrival shows, and notes what it was
// asked for.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backend/experts.h"
#include "formats/expert_sidecar.h"
#include "formats/expert_tensors.h"
#include "formats/moe_layout.h"
#include "formats/pack_expert.h"
#include "platform/file.h"
#include "platform/thread_pool.h"
#include "tensor/memory.h"

namespace mach::models {

class MemoryExperts final : public backend::ExpertSource {
 public:
  struct Request {
    int32_t layer = 0;
    std::vector<int32_t> ids;
    std::vector<int32_t> rows = {};  // [ids]; none of a guess
    int64_t tokens = 0;
    backend::ExpertUse use = backend::ExpertUse::kDecode;

    friend bool operator==(const Request&, const Request&) = default;
  };

  explicit MemoryExperts(const formats::Checkpoint& checkpoint) {
    if (const auto sidecar = formats::ExpertSidecar::Find(checkpoint.dir())) {
      ReadSidecar(*sidecar);
    } else {
      PackTensors(checkpoint);
    }
  }

  const ExpertLayout& layout() const override { return layout_; }
  int32_t layers() const override { return layers_; }
  int32_t experts() const override { return experts_; }
  bool prefetches() const override { return prefetches_; }
  void set_prefetches(bool on) { prefetches_ = on; }
  // Acquire fails from then on, as a disk would.
  void set_broken(bool on) { broken_ = on; }

  std::unique_ptr<backend::ExpertLease> Acquire(int32_t layer,
                                                std::span<const backend::WantedExpert> wanted,
                                                int64_t tokens, backend::ExpertUse use) override {
    if (broken_ && layer > 0) {
      throw Error(ErrorCode::kIo, "layer_0001.bin: injected");
    }
    Request request = {layer, {}, {}, tokens, use};
    for (const backend::WantedExpert& expert : wanted) {
      request.ids.push_back(expert.id);
      request.rows.push_back(expert.rows);
    }
    acquired.push_back(request);
    return std::make_unique<Lease>(*this, records_.at(layer), request.ids);
  }
  void Prefetch(int32_t layer, std::span<const int32_t> ids) override {
    prefetched.push_back({.layer = layer, .ids = {ids.begin(), ids.end()}});
  }

  std::function<void()> on_next;  // called by each Next of a lease

  std::vector<Request> acquired;
  std::vector<Request> prefetched;

 private:
  class Lease final : public backend::ExpertLease {
   public:
    Lease(const MemoryExperts& owner, const Buffer& records, std::span<const int32_t> ids)
        : owner_(owner) {
      for (const int32_t id : ids) {
        left_.push_back(
            {id, records.data() + owner.layout_.record_bytes * static_cast<uint64_t>(id)});
      }
    }
    std::span<const backend::ReadyExpert> Next(const std::atomic<bool>* /*cancel*/) override {
      if (owner_.on_next) {
        owner_.on_next();
      }
      if (left_.empty()) {
        return {};
      }
      ready_ = left_.back();
      left_.pop_back();
      return std::span(&ready_, 1);
    }

   private:
    const MemoryExperts& owner_;
    std::vector<backend::ReadyExpert> left_;
    backend::ReadyExpert ready_;
  };

  void PackTensors(const formats::Checkpoint& checkpoint) {
    const auto names = formats::MoeLayout::Of(checkpoint);
    layers_ = names.layers;
    experts_ = names.experts.experts;
    ThreadPool pool(1);
    for (int32_t layer = 0; layer < layers_; ++layer) {
      if (!names.is_moe[static_cast<size_t>(layer)]) {
        continue;
      }
      const auto tensors =
          formats::ExpertTensors::Find(checkpoint, names.MlpModule(layer), names.experts).value();
      layout_ = tensors.Layout();
      Buffer& records = NewRecords(layer);
      for (int32_t id = 0; id < experts_; ++id) {
        formats::PackExpert(tensors.Source(id), layout_,
                            {records.data() + layout_.record_bytes * static_cast<uint64_t>(id),
                             layout_.record_bytes},
                            pool);
      }
    }
  }

  void ReadSidecar(const formats::ExpertSidecar& sidecar) {
    layers_ = sidecar.layers;
    experts_ = sidecar.experts;
    layout_ = sidecar.layout;
    for (const formats::SidecarLayer& layer : sidecar.moe_layers) {
      const std::string bytes = ReadWholeFile(sidecar.PathOf(layer));
      Buffer& records = NewRecords(layer.layer);
      std::memcpy(records.data(), bytes.data(), std::min(bytes.size(), records.size_bytes()));
    }
  }

  Buffer& NewRecords(int32_t layer) {
    Buffer buffer(budget_, "experts", layout_.record_bytes * static_cast<uint64_t>(experts_));
    return records_.emplace(layer, std::move(buffer)).first->second;
  }

  MemoryBudget budget_;
  ExpertLayout layout_;
  int32_t layers_ = 0;
  int32_t experts_ = 0;
  bool prefetches_ = false;
  bool broken_ = false;
  std::map<int32_t, Buffer> records_;  // by layer
};

}  // namespace mach::models
