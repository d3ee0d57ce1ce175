// Inside of the converter: what is to be written, before any of it is. For convert/, and for tools
// that write engine checkpoints from something else than a model (synthetic weights): they fill a
// ConversionPlan with AddShards (below) and AddSidecar (expert_writer.h) and call WriteCheckpoint.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "convert/affine_quantise.h"
#include "convert/convert.h"
#include "convert/output_file.h"
#include "formats/checkpoint.h"
#include "platform/thread_pool.h"
#include "tensor/quant.h"
#include "tensor/view.h"

namespace mach::convert {

struct OutputTensor {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;

  uint64_t Bytes() const { return static_cast<uint64_t>(shape.Elements()) * DTypeBytes(dtype); }
};

// Where a step puts bytes: `output` counts the step's outputs, the offset is within that tensor.
using TensorSink =
    std::function<void(size_t output, uint64_t offset_bytes, std::span<const std::byte> bytes)>;

// One source tensor on its way: one output, or weight, scales and biases.
struct ConversionStep {
  std::vector<OutputTensor> outputs;
  std::function<void(const TensorSink& sink)> run;

  uint64_t Bytes() const;
};

// One output file. `write` reports the bytes it has written and returns the checksum that the file
// must have, or an empty string if that is not known beforehand.
struct OutputJob {
  std::string name;  // perhaps in one directory: "expert_sidecar/layer_0000.bin"
  uint64_t size_bytes = 0;
  std::function<std::string(OutputFile& file, const std::function<void(uint64_t)>& written)> write;
  // Sees the finished file's bytes in order as they are read back, from offset 0, also those of a
  // file that an earlier attempt finished. Perhaps more than once; may be empty.
  std::function<void(uint64_t offset_bytes, std::span<const std::byte> bytes)> read_back;
};

// Written after all jobs; `contents` may depend on what they wrote.
struct SmallFile {
  std::string name;
  std::function<std::string()> contents;

  static SmallFile Of(std::string name, std::string text) {
    return {std::move(name), [text = std::move(text)] { return text; }};
  }
};

struct ConversionPlan {
  std::shared_ptr<const void> source;  // keeps what the jobs read from alive
  std::vector<OutputJob> jobs;
  std::vector<SmallFile> small_files;
  std::string fingerprint;  // of the source and of all that decides what is written
  std::map<std::string, std::string> source_files;  // as in Journal
  std::vector<std::string> skipped;
  std::map<std::string, std::vector<std::string>> skipped_tensors;  // by reason
  std::vector<std::string> requantised;
};

// Work shared by all rows of a conversion.
struct ConversionContext {
  const ConvertOptions& options;
  ThreadPool& pool;
  const WeightQuantiser& quantiser = RoundToNearest();

  // What --bits asks for; only with options.bits.
  AffineScheme Scheme() const { return {*options.bits, options.group_size}; }
};

// Writes the plan's files to options.out through options.out + ".partial", as Convert describes.
// Of the options it reads source (for mach.json), out, force and those that DescribeOptions names.
ConvertResult WriteCheckpoint(const ConvertOptions& options, ConversionPlan plan,
                              const std::function<void(const ConvertProgress&)>& progress);

ConversionPlan PlanGguf(const ConversionContext& context, const std::filesystem::path& file);
ConversionPlan PlanDirectory(const ConversionContext& context, const std::filesystem::path& dir);

// Rows of [out, in] weights to codes, scales and biases. `encode` fills one row: codes[in], and
// fp32 scales and biases [in / group_size]. May be called from several threads.
using EncodeRow = std::function<void(int64_t row, std::span<uint8_t> codes, std::span<float> scales,
                                     std::span<float> biases)>;
ConversionStep AffineStep(const ConversionContext& context, const std::string& module,
                          int64_t out_features, int64_t in_features, AffineScheme scheme,
                          DType scale_dtype, EncodeRow encode);

// Encodes rows [first, first + rows) into what an AffineMatrixView of that many rows has.
struct EncodedRows {
  std::span<std::byte> codes;
  std::span<std::byte> scales;
  std::span<std::byte> biases;
};
void EncodeRows(ThreadPool& pool, int64_t first, int64_t rows, int64_t in_features,
                AffineScheme scheme, DType scale_dtype, const EncodeRow& encode,
                const EncodedRows& out);

// An EncodeRow that quantises what `read` decodes. Throws kCorruptFile naming `source` ("FILE:
// tensor NAME") for weights that are not finite.
using ReadRow = std::function<void(int64_t row, std::span<float> weights)>;
EncodeRow QuantisingEncoder(const ConversionContext& context, std::string module,
                            std::string source, AffineScheme scheme, ReadRow read);

ConversionStep QuantiseStep(const ConversionContext& context, const std::string& module,
                            const std::string& source, int64_t out_features, int64_t in_features,
                            AffineScheme scheme, DType scale_dtype, ReadRow read);

// Rows written one after another; `read_row` gives the bytes of a row.
ConversionStep CopyRowsStep(OutputTensor output, int64_t rows,
                            std::function<std::span<const std::byte>(int64_t row)> read_row);

// A float tensor of a checkpoint under a name of its own: quantised if it is the ".weight" of a
// matrix whose inputs the scheme's groups divide, else as it is. The pages read are dropped.
ConversionStep TensorStep(const ConversionContext& context, const formats::Checkpoint& checkpoint,
                          const std::string& source_name, const std::string& output_name,
                          std::optional<AffineScheme> scheme, ConversionPlan& plan);

// A step that calls `drop`, which gives back the pages it reads from, whenever it has written.
ConversionStep DropBehind(ConversionStep step, std::function<void()> drop);

// The experts and all other tensors of a Mixture-of-Experts checkpoint: safetensors under MLX names
// and a sidecar. Changes `config` to what describes them.
void PlanMoeTensors(const ConversionContext& context,
                    const std::shared_ptr<const formats::Checkpoint>& checkpoint,
                    ConversionPlan& plan, nlohmann::ordered_json& config);

// Packs steps into model*.safetensors of about max_shard_bytes, with an index if there are several.
void AddShards(std::vector<ConversionStep> steps, uint64_t max_shard_bytes, ConversionPlan& plan);

// The options that change what is written, as text; part of the fingerprint.
std::string DescribeOptions(const ConvertOptions& options);
// Name, size and modification time of a file as text, plus `header`'s hash.
std::string DescribeFile(const std::filesystem::path& path, std::span<const std::byte> header);
// Sets source_files and fingerprint from what is to be known of each file of the source, by name
// (DescribeFile), and from `identity`, which says all of it and the options.
void IdentifySource(const std::map<std::string, std::string>& files, const std::string& identity,
                    ConversionPlan& plan);

}  // namespace mach::convert
