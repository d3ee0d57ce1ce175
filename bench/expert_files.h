// Sidecars of random records for benchmarks of expert reading; removed again at the end.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include "base/hash.h"
#include "formats/expert_sidecar.h"

namespace mach::bench {

class ExpertFiles {
 public:
  // In a new folder below `dir`.
  ExpertFiles(const std::filesystem::path& dir, int32_t layers, int32_t experts,
              uint64_t record_bytes) {
    sidecar_.dir = dir / ("expert_files." + std::to_string(::getpid()));
    std::filesystem::create_directories(sidecar_.dir);
    sidecar_.layers = layers;
    sidecar_.experts = experts;
    sidecar_.layout.record_bytes = record_bytes;
    std::mt19937_64 random(1);
    std::vector<uint64_t> record(record_bytes / 8);
    for (uint64_t& word : record) {
      word = random();
    }
    for (int32_t i = 0; i < layers; ++i) {
      formats::SidecarLayer layer = {i, "layer_" + std::to_string(i) + ".bin", {}};
      std::ofstream file(sidecar_.PathOf(layer), std::ios::binary);
      for (int32_t e = 0; e < experts; ++e) {
        record[static_cast<size_t>(e) % record.size()] = random();
        const auto bytes = std::as_bytes(std::span(record));
        layer.xxh3_128.push_back(HashHex128(bytes));
        file.write(reinterpret_cast<const char*>(bytes.data()),
                   static_cast<std::streamsize>(bytes.size()));
      }
      file.close();
      // Nothing of it may stay in the page cache or be written back while reads are timed.
      const int fd = ::open(sidecar_.PathOf(layer).c_str(), O_RDONLY);
      ::fsync(fd);
      ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
      ::close(fd);
      sidecar_.moe_layers.push_back(std::move(layer));
    }
  }
  ExpertFiles(const ExpertFiles&) = delete;
  ExpertFiles& operator=(const ExpertFiles&) = delete;
  ~ExpertFiles() { std::filesystem::remove_all(sidecar_.dir); }

  const formats::ExpertSidecar& sidecar() const { return sidecar_; }

 private:
  formats::ExpertSidecar sidecar_;
};

inline double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

}  // namespace mach::bench
