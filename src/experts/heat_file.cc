#include "experts/heat_file.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "platform/file.h"

namespace mach::experts {
namespace {

// magic, Hash64 of the sidecar's identity, MoE layers, experts, values, Hash64 of all before.
constexpr std::string_view kMagic = "MACHHEAT";
static_assert(std::endian::native == std::endian::little);

template <typename T>
void Append(std::string& out, const T& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

uint64_t HashOf(std::string_view text) {
  return Hash64(std::as_bytes(std::span(text)));
}

std::string Header(const formats::ExpertSidecar& sidecar) {
  std::string header(kMagic);
  Append(header, HashOf(sidecar.model_type + '\n' + sidecar.source_fingerprint));
  Append(header, static_cast<int32_t>(sidecar.moe_layers.size()));
  Append(header, sidecar.experts);
  return header;
}

}  // namespace

std::optional<std::vector<float>> LoadHeat(const std::filesystem::path& path,
                                           const formats::ExpertSidecar& sidecar) {
  const auto ignore = [&path](const char* reason) -> std::optional<std::vector<float>> {
    LogWarning("expert heat map ignored", {{"file", path.string()}, {"reason", reason}});
    return std::nullopt;
  };
  const std::string header = Header(sidecar);
  std::vector<float> rates(sidecar.moe_layers.size() * static_cast<size_t>(sidecar.experts));
  const size_t body_bytes = header.size() + rates.size() * sizeof(float);
  std::string contents;
  try {
    contents = ReadWholeFile(path, body_bytes + (1 << 20));
  } catch (const Error& error) {
    return error.code() == ErrorCode::kNotFound ? std::nullopt : ignore(error.what());
  }
  if (!contents.starts_with(kMagic)) {
    return ignore("not a heat map");
  }
  if (!contents.starts_with(header)) {
    return ignore("of another model");
  }
  uint64_t checksum = 0;
  if (contents.size() != body_bytes + sizeof(checksum)) {
    return ignore("wrong size");
  }
  std::memcpy(&checksum, contents.data() + body_bytes, sizeof(checksum));
  if (checksum != HashOf(std::string_view(contents).substr(0, body_bytes))) {
    return ignore("checksum mismatch");
  }
  std::memcpy(rates.data(), contents.data() + header.size(), rates.size() * sizeof(float));
  for (float& value : rates) {
    value = std::isfinite(value) ? std::clamp(value, 0.0F, 1.0F) : 0.0F;
  }
  return rates;
}

void WriteHeat(const std::filesystem::path& path, const formats::ExpertSidecar& sidecar,
               std::span<const float> rates) {
  std::string contents = Header(sidecar);
  contents.append(reinterpret_cast<const char*>(rates.data()), rates.size_bytes());
  Append(contents, HashOf(contents));
  WriteFileAtomically(path, contents);
}

}  // namespace mach::experts
