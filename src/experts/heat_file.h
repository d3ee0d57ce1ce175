// The heat map file: how often each expert was used lately, so that a restart reads the hottest
// ones first. Bound to one sidecar by fingerprint and shape, and protected by a checksum.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <vector>

#include "formats/expert_sidecar.h"

namespace mach::experts {

// [MoE layers x experts] shares of tokens that use it, 0 to 1. Nothing if there is no such file;
// nothing, and a line in the log, if it is corrupt or belongs to another sidecar.
std::optional<std::vector<float>> LoadHeat(const std::filesystem::path& path,
                                           const formats::ExpertSidecar& sidecar);

// Atomically. Throws kIo.
void WriteHeat(const std::filesystem::path& path, const formats::ExpertSidecar& sidecar,
               std::span<const float> rates);

}  // namespace mach::experts
