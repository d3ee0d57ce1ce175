// `mach convert`: anything that we read (a Hugging Face or MLX directory, a GGUF file of a dense
// model) to an engine checkpoint: a directory of config.json, tokenizer, safetensors and mach.json
// with sizes and checksums. Dense ones are loaded by mlx-lm too; Mixture-of-Experts ones have their
// experts in an expert sidecar (expert_sidecar.h) and all else under MLX names.
//
// Lossless unless told otherwise: directories of dense models are copied and verified, experts
// repacked; of GGUF, all that can be read but Q6_K keeps its exact values. Written to OUT.partial,
// opened as any user would, and renamed at the end; an interrupted conversion continues with the
// files that were finished. An OUT.partial that no conversion has begun is refused. Tensors are
// streamed: memory does not grow with the model. One conversion at a time for each output; blocks.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace mach::convert {

struct ConvertOptions {
  std::filesystem::path source;  // a checkpoint directory, a .gguf file, or a directory of one
  std::filesystem::path out;
  // Directories: quantise all linear layers, embeddings and experts; routers get 8 bits in groups
  // of 64, as from mlx-lm. GGUF: only what has no lossless form (Q6_K). Absent: lossless or an
  // error that lists the tensors.
  std::optional<int> bits;
  int group_size = 64;
  bool requantise_all = false;  // GGUF: quantise every linear layer and embedding to `bits`
  bool force = false;           // replace an engine checkpoint that is already there
  int threads = 0;              // 0 = physical cores
  uint64_t max_shard_bytes = 2'000'000'000;
  std::string tool_version = "0.1.0";
  // Called with the whole output before it gets its name: throws mach::Error if no model can be
  // loaded from it. That fails the conversion and leaves nothing that opens. May be empty.
  std::function<void(const std::filesystem::path& dir)> check_output;
};

struct ConvertProgress {
  uint64_t done_bytes = 0;  // written and read back
  uint64_t total_bytes = 0;
  double elapsed_s = 0;
  std::optional<double> eta_s;  // once there is something to go by
  std::string file;             // the one being worked on
};

struct ConvertResult {
  bool already_done = false;         // the same conversion was there; nothing was written
  std::vector<std::string> files;    // in the output
  std::vector<std::string> skipped;  // files of a source directory that have no place in it
  std::map<std::string, std::vector<std::string>> skipped_tensors;  // by reason: "vision tower"
  std::vector<std::string> requantised;                             // tensors whose values changed
  int resumed_files = 0;  // kept from an interrupted conversion
  uint64_t written_bytes = 0;
  double elapsed_s = 0;
};

// `progress` may be empty; it may throw mach::Error (kCancelled) to stop, and the conversion can
// then be continued. Throws mach::Error naming file, tensor or option.
ConvertResult Convert(const ConvertOptions& options,
                      const std::function<void(const ConvertProgress&)>& progress);

}  // namespace mach::convert
