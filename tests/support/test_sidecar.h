// An expert sidecar of random records in a temporary directory, for tests of what reads one.
#pragma once

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "base/hash.h"
#include "formats/expert_sidecar.h"

namespace mach::testing_support {

class TestSidecar {
 public:
  // Layer 0 of the model has no experts, the others have.
  TestSidecar(int32_t moe_layers, int32_t experts, uint64_t record_bytes = 16384) {
    std::string pattern = (std::filesystem::temp_directory_path() / "mach-sidecar-XXXXXX").string();
    sidecar_.dir = ::mkdtemp(pattern.data());
    sidecar_.model_type = "test";
    sidecar_.source_fingerprint = "0123";
    sidecar_.layers = moe_layers + 1;
    sidecar_.experts = experts;
    sidecar_.layout.record_bytes = record_bytes;
    std::mt19937_64 random(7);
    for (int32_t i = 0; i < moe_layers; ++i) {
      formats::SidecarLayer layer = {i + 1, "layer_" + std::to_string(i + 1) + ".bin", {}};
      std::vector<uint64_t> words(experts * record_bytes / 8);
      for (uint64_t& word : words) {
        word = random();
      }
      const auto bytes = std::as_bytes(std::span(words));
      for (int32_t e = 0; e < experts; ++e) {
        layer.xxh3_128.push_back(HashHex128(bytes.subspan(sidecar_.OffsetOf(e), record_bytes)));
      }
      std::ofstream(sidecar_.PathOf(layer), std::ios::binary)
          .write(reinterpret_cast<const char*>(bytes.data()),
                 static_cast<std::streamsize>(bytes.size()));
      contents_.emplace_back(bytes.begin(), bytes.end());
      sidecar_.moe_layers.push_back(std::move(layer));
    }
  }
  TestSidecar(const TestSidecar&) = delete;
  TestSidecar& operator=(const TestSidecar&) = delete;
  ~TestSidecar() { std::filesystem::remove_all(sidecar_.dir); }

  formats::ExpertSidecar& value() { return sidecar_; }

  // `layer` of the model.
  std::span<const std::byte> Record(int32_t layer, int32_t expert) const {
    return std::span(contents_[static_cast<size_t>(layer - 1)])
        .subspan(sidecar_.OffsetOf(expert), sidecar_.layout.record_bytes);
  }
  bool Matches(int32_t layer, int32_t expert, const std::byte* record) const {
    return std::memcmp(record, Record(layer, expert).data(), sidecar_.layout.record_bytes) == 0;
  }

 private:
  formats::ExpertSidecar sidecar_;
  std::vector<std::vector<std::byte>> contents_;  // of the layer files
};

}  // namespace mach::testing_support
