// Any bytes as the manifest of an expert sidecar: an Error, or shapes, offsets and sizes that fit
// together. The manifest's own checksum is put right first, so that what lies behind it is reached.
#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/hash.h"
#include "formats/expert_sidecar.h"

namespace {

using mach::ExpertLayout;
using mach::ExpertPart;
using mach::formats::ExpertSidecar;

void Require(bool holds) {
  if (!holds) {
    __builtin_trap();
  }
}

std::string Sealed(std::string text) {
  constexpr size_t kDigits = 32;
  const std::string field = "\"manifest_xxh3_128\": \"";
  const size_t at = text.rfind(field);
  if (at == std::string::npos || text.size() - at < field.size() + kDigits) {
    return text;
  }
  text.replace(at + field.size(), kDigits, kDigits, '0');
  return text.replace(at + field.size(), kDigits, mach::HashHex128(std::as_bytes(std::span(text))));
}

void Check(const ExpertSidecar& sidecar) {
  const ExpertLayout& layout = sidecar.layout;
  uint64_t end = 0;
  for (const ExpertPart* part : {&layout.gate, &layout.up, &layout.down}) {
    Require(part->offset_bytes >= end && part->offset_bytes % 64 == 0);
    end = part->offset_bytes + part->spec.bytes();
  }
  Require(end <= layout.record_bytes);
  Require(layout.record_bytes % ExpertLayout::kRecordAlignment == 0);
  Require(sidecar.TotalBytes() / layout.record_bytes ==
          static_cast<uint64_t>(sidecar.experts) * sidecar.moe_layers.size());
  for (const mach::formats::SidecarLayer& layer : sidecar.moe_layers) {
    Require(layer.file.find('/') == std::string::npos);
    Require(layer.xxh3_128.size() == static_cast<size_t>(sidecar.experts));
  }
  Require(ExpertSidecar::Parse(sidecar.ToJson(), "again").layout == layout);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  for (const std::string& manifest : {text, Sealed(text)}) {
    try {
      Check(ExpertSidecar::Parse(manifest, "fuzz"));
    } catch (const mach::Error&) {
    }
  }
  return 0;
}
