// Writing expert sidecars (formats/expert_sidecar.h): plans their files. Stateless; the plan's jobs
// run on one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "convert/convert_plan.h"
#include "tensor/expert_layout.h"

namespace mach::convert {

// What a sidecar is made from.
struct SidecarSource {
  std::string model_type;
  int32_t layers = 0;   // of the model, dense ones included
  int32_t experts = 0;  // in each Mixture-of-Experts layer
  ExpertLayout layout;
  std::vector<int32_t> moe_layers;  // ascending
  // Fills one record: layout.record_bytes, zero, aligned to 64. Called in ascending order of
  // experts for one layer at a time; layers that an earlier attempt finished are left out.
  std::function<void(int32_t layer, int32_t expert, std::span<std::byte> record)> fill;
};

// Adds one job for each layer file and the manifest, whose fingerprint is plan.fingerprint: set it
// before. The checksums of the records are taken as each file is read back, and the file's own
// checksum proves that it is what was written.
void AddSidecar(SidecarSource source, ConversionPlan& plan);

}  // namespace mach::convert
