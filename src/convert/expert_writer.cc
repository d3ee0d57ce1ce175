#include "convert/expert_writer.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <utility>

#include "base/check.h"
#include "base/hash.h"
#include "formats/expert_sidecar.h"
#include "tensor/memory.h"

namespace mach::convert {
namespace {

// Checksums of consecutive records from bytes that come in pieces of any size.
class RecordSums {
 public:
  explicit RecordSums(uint64_t record_bytes) : record_bytes_(record_bytes) {}

  void Update(uint64_t offset_bytes, std::span<const std::byte> bytes) {
    if (offset_bytes == 0) {
      sums_.clear();
      hasher_.Reset();
      in_record_ = 0;
    }
    while (!bytes.empty()) {
      const auto count =
          static_cast<size_t>(std::min<uint64_t>(bytes.size(), record_bytes_ - in_record_));
      hasher_.Update(bytes.first(count));
      bytes = bytes.subspan(count);
      in_record_ += count;
      if (in_record_ == record_bytes_) {
        sums_.push_back(hasher_.Hex());
        hasher_.Reset();
        in_record_ = 0;
      }
    }
  }

  const std::vector<std::string>& sums() const { return sums_; }

 private:
  uint64_t record_bytes_;
  uint64_t in_record_ = 0;
  Hasher128 hasher_;
  std::vector<std::string> sums_;
};

std::string LayerFileName(int32_t layer) {
  char name[32];
  std::snprintf(name, sizeof(name), "layer_%04d.bin", layer);
  return name;
}

std::string WriteLayer(const SidecarSource& source, int32_t layer, OutputFile& file,
                       const std::function<void(uint64_t)>& written) {
  const uint64_t record_bytes = source.layout.record_bytes;
  MemoryBudget budget;
  Buffer buffer(budget, "record", record_bytes);
  const auto record = buffer.As<std::byte>();
  Hasher128 hasher;
  for (int32_t expert = 0; expert < source.experts; ++expert) {
    std::memset(record.data(), 0, record.size());
    source.fill(layer, expert, record);
    file.WriteAt(static_cast<uint64_t>(expert) * record_bytes, record);
    hasher.Update(record);
    written(record_bytes);
  }
  return hasher.Hex();
}

}  // namespace

void AddSidecar(SidecarSource source, ConversionPlan& plan) {
  MACH_CHECK(!plan.fingerprint.empty());
  struct Work {
    SidecarSource source;
    std::vector<RecordSums> sums;  // [moe_layers]
  };
  const auto work = std::make_shared<Work>();
  work->source = std::move(source);
  const uint64_t record_bytes = work->source.layout.record_bytes;
  const std::string directory = std::string(formats::ExpertSidecar::kDirName) + "/";
  for (size_t i = 0; i < work->source.moe_layers.size(); ++i) {
    const int32_t layer = work->source.moe_layers[i];
    work->sums.emplace_back(record_bytes);
    OutputJob job;
    job.name = directory + LayerFileName(layer);
    job.size_bytes = static_cast<uint64_t>(work->source.experts) * record_bytes;
    job.write = [work, layer](OutputFile& file, const std::function<void(uint64_t)>& written) {
      return WriteLayer(work->source, layer, file, written);
    };
    job.read_back = [work, i](uint64_t offset, std::span<const std::byte> bytes) {
      work->sums[i].Update(offset, bytes);
    };
    plan.jobs.push_back(std::move(job));
  }
  plan.small_files.push_back(
      {directory + formats::ExpertSidecar::kManifestName, [work, fingerprint = plan.fingerprint] {
         formats::ExpertSidecar sidecar;
         sidecar.model_type = work->source.model_type;
         sidecar.source_fingerprint = fingerprint;
         sidecar.layers = work->source.layers;
         sidecar.experts = work->source.experts;
         sidecar.layout = work->source.layout;
         for (size_t l = 0; l < work->source.moe_layers.size(); ++l) {
           const int32_t layer = work->source.moe_layers[l];
           sidecar.moe_layers.push_back({layer, LayerFileName(layer), work->sums[l].sums()});
         }
         return sidecar.ToJson();
       }});
}

}  // namespace mach::convert
