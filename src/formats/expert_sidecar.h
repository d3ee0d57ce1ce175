// `expert_sidecar/` of an engine checkpoint: the experts of every Mixture-of-Experts layer in the
// layout that the kernels read, one file for each layer, one record of fixed size for each expert.
// A record starts at a multiple of 16 KiB, so it is one direct read into its final place.
//
//   expert_sidecar/manifest.json    format version, source fingerprint, shapes, the parts of a
//                                   record, and one XXH3-128 for each record
//   expert_sidecar/layer_0007.bin   experts x record_bytes
//
// Here: describing, opening and checking. Packing an expert: pack_expert.h. Writing a
// sidecar: convert/expert_writer.h. Reading records while a model runs: experts/. A value; any
// thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tensor/expert_layout.h"

namespace mach::formats {

struct SidecarLayer {
  int32_t layer = 0;                  // of the model
  std::string file;                   // name within expert_sidecar/
  std::vector<std::string> xxh3_128;  // [experts], each of a whole record, padding included
};

struct ExpertSidecar {
  static constexpr const char* kDirName = "expert_sidecar";
  static constexpr const char* kManifestName = "manifest.json";
  static constexpr int64_t kFormatVersion = 1;

  std::filesystem::path dir;  // .../expert_sidecar
  std::string model_type;
  std::string source_fingerprint;  // that of mach.json beside it
  int32_t layers = 0;              // of the model, dense ones included
  int32_t experts = 0;             // in each Mixture-of-Experts layer
  ExpertLayout layout;
  std::vector<SidecarLayer> moe_layers;  // ascending by layer
  // What a user can do who finds it damaged; for the cure of errors. Set by Find.
  std::string cure;

  // Reads the manifest in `checkpoint_dir`/expert_sidecar and checks it: version, its own checksum,
  // shapes against record size, size of every layer file, fingerprint against mach.json. Reads no
  // record. Nothing if there is no sidecar directory; throws kCorruptFile, kUnsupported or
  // kNotFound naming file, what was expected, what was found, and the command that mends it.
  static std::optional<ExpertSidecar> Find(const std::filesystem::path& checkpoint_dir);
  // The manifest alone: what Find checks without looking at other files. `dir` and `cure` are left
  // empty.
  // Throws kCorruptFile or kUnsupported naming `file` and the field.
  static ExpertSidecar Parse(const std::string& text, const std::string& file);
  std::string ToJson() const;

  std::filesystem::path PathOf(const SidecarLayer& layer) const { return dir / layer.file; }
  uint64_t OffsetOf(int32_t expert) const {
    return static_cast<uint64_t>(expert) * layout.record_bytes;
  }
  uint64_t FileBytes() const { return static_cast<uint64_t>(experts) * layout.record_bytes; }
  uint64_t TotalBytes() const { return FileBytes() * moe_layers.size(); }

  // Reads every record, past the page cache, and compares checksums. `progress` gets done and total
  // bytes, may be empty, may throw kCancelled. Throws kCorruptFile naming file, expert and offset,
  // or kIo naming file and offset.
  void Verify(const std::function<void(uint64_t, uint64_t)>& progress) const;
};

}  // namespace mach::formats
