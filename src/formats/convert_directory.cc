// From a Hugging Face or MLX directory to conversion steps: a verified copy, or quantisation of all
// linear layers and embeddings as mlx_lm.convert does it.

#include <algorithm>
#include <array>
#include <set>

#include "base/error.h"
#include "base/hash.h"
#include "formats/checkpoint.h"
#include "formats/convert_plan.h"
#include "formats/json.h"
#include "formats/manifest.h"

namespace mach::formats {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::array<std::string_view, 3> kDenseTypes = {"llama", "qwen2", "qwen3"};

// Configuration, tokenizer and template files, by their endings.
bool IsTextFile(const fs::path& path) {
  constexpr std::array<std::string_view, 5> kEndings = {".json", ".jinja", ".txt", ".model",
                                                        ".tiktoken"};
  const std::string name = path.filename().string();
  return name.front() != '.' && name != Manifest::kFileName &&
         std::find(kEndings.begin(), kEndings.end(), path.extension().string()) != kEndings.end();
}

OutputJob CopyJob(const fs::path& source) {
  OutputJob job;
  job.name = source.filename().string();
  job.size_bytes = fs::file_size(source);
  job.write = [source](OutputFile& file, const std::function<void(uint64_t)>& written) {
    constexpr uint64_t kPieceBytes = 8ULL << 20;
    const auto input = OpenMappedFile(source);
    const auto bytes = input->Mapped();
    for (uint64_t done = 0; done < bytes.size();) {
      const auto piece = bytes.subspan(static_cast<size_t>(done),
                                       std::min<uint64_t>(kPieceBytes, bytes.size() - done));
      file.WriteAt(done, piece);
      input->Drop(piece);
      done += piece.size();
      written(piece.size());
    }
    return FileChecksum(source, {});
  };
  return job;
}

bool EndsWith(std::string_view text, std::string_view ending) {
  return text.size() >= ending.size() && text.substr(text.size() - ending.size()) == ending;
}

struct SourceFiles {
  std::vector<fs::path> text;
  std::vector<std::string> skipped;
};

SourceFiles ListFiles(const fs::path& dir, const Checkpoint& checkpoint) {
  std::set<std::string> shards;
  for (const auto& file : checkpoint.files()) {
    shards.insert(fs::path(file->path()).filename().string());
  }
  SourceFiles result;
  for (const fs::directory_entry& entry : fs::directory_iterator(dir)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_regular_file() && IsTextFile(entry.path())) {
      result.text.push_back(entry.path());
    } else if (shards.count(name) == 0 && name != Manifest::kFileName) {
      result.skipped.push_back(name);
    }
  }
  std::sort(result.text.begin(), result.text.end());
  std::sort(result.skipped.begin(), result.skipped.end());
  return result;
}

std::string Fingerprint(const ConvertOptions& options, const Checkpoint& checkpoint,
                        const std::vector<fs::path>& text) {
  std::string description = DescribeOptions(options) + "\n";
  for (const auto& file : checkpoint.files()) {
    description += DescribeFile(file->path(), file->HeaderBytes());
  }
  for (const fs::path& path : text) {
    // Small files count by their contents alone.
    description += path.filename().string() + " " + FileChecksum(path, {}) + "\n";
  }
  return HashHex128(std::as_bytes(std::span(description)));
}

void RefuseToQuantise(const Checkpoint& checkpoint) {
  const std::string& type = checkpoint.model_type();
  if (std::find(kDenseTypes.begin(), kDenseTypes.end(), type) == kDenseTypes.end()) {
    throw Error(ErrorCode::kUnsupported,
                checkpoint.root_config().Where("model_type") + " is \"" + type +
                    "\"; --bits quantises llama, qwen2 and qwen3",
                "convert without --bits, or start from an MLX version that is already quantised");
  }
  for (const char* field : {"quantization", "quantization_config"}) {
    if (checkpoint.root_config().Has(field)) {
      throw Error(ErrorCode::kInvalidArgument,
                  checkpoint.dir().string() + " is already quantised (" +
                      checkpoint.QuantisationSummary() + ")",
                  "convert without --bits, or start from the unquantised model");
    }
  }
}

ConversionStep StepFor(const ConversionContext& context, const std::string& name,
                       const TensorView& tensor, ConversionPlan& plan) {
  const ConvertOptions& options = context.options;
  const bool readable =
      tensor.dtype == DType::kF32 || tensor.dtype == DType::kF16 || tensor.dtype == DType::kBF16;
  if (IsFloat(tensor.dtype) && !readable) {
    throw Error(ErrorCode::kUnsupported, "tensor " + name + " is " +
                                             std::string(DTypeName(tensor.dtype)) +
                                             ", expected F32, F16 or BF16");
  }
  const bool matrix = tensor.shape.rank() == 2 && EndsWith(name, ".weight") && readable;
  if (matrix && tensor.shape[1] > 0 && tensor.shape[1] % options.group_size == 0) {
    plan.requantised.push_back(name);
    const int64_t in = tensor.shape[1];
    const std::string module = name.substr(0, name.size() - std::string_view(".weight").size());
    return QuantiseStep(context, module, tensor.shape[0], in, {*options.bits, options.group_size},
                        tensor.dtype, [tensor, in](int64_t row, std::span<float> weights) {
                          for (int64_t i = 0; i < in; ++i) {
                            weights[static_cast<size_t>(i)] = FloatElement(tensor, row * in + i);
                          }
                        });
  }
  // As rows of at most one outermost slice, so that large tensors are streamed.
  const int64_t rows = tensor.shape.rank() == 0 || tensor.bytes.empty() ? 1 : tensor.shape[0];
  const size_t row_bytes = tensor.bytes.size() / static_cast<size_t>(rows);
  return CopyRowsStep({name, tensor.dtype, tensor.shape}, rows, [tensor, row_bytes](int64_t row) {
    return tensor.bytes.subspan(static_cast<size_t>(row) * row_bytes, row_bytes);
  });
}

void PlanQuantisation(const ConversionContext& context, const Checkpoint& checkpoint,
                      const std::vector<fs::path>& text, ConversionPlan& plan) {
  RefuseToQuantise(checkpoint);
  const bool tied = checkpoint.config().BoolOr("tie_word_embeddings", false);
  std::vector<ConversionStep> steps;
  for (const std::string& name : checkpoint.TensorNames()) {
    // Neither is read by anyone: the head is the embedding, the frequencies are computed.
    const bool unused = (tied && name == "lm_head.weight") || EndsWith(name, "rotary_emb.inv_freq");
    if (unused) {
      plan.skipped.push_back("tensor " + name);
      continue;
    }
    steps.push_back(StepFor(context, name, *checkpoint.FindTensor(name), plan));
  }
  AddShards(std::move(steps), context.options.max_shard_bytes, plan);
  for (const fs::path& path : text) {
    const std::string name = path.filename().string();
    if (name == "model.safetensors.index.json") {
      continue;
    }
    std::string contents = ReadWholeFile(path, 1ULL << 30);
    if (name == "config.json") {
      Json config = Json::parse(contents);
      const Json block = {{"group_size", context.options.group_size},
                          {"bits", *context.options.bits},
                          {"mode", "affine"}};
      config["quantization"] = block;
      config["quantization_config"] = block;
      contents = config.dump(2) + "\n";
    }
    plan.small_files.push_back(SmallFile::Of(name, std::move(contents)));
  }
}

}  // namespace

ConversionPlan PlanDirectory(const ConversionContext& context, const fs::path& dir) {
  const std::shared_ptr<const Checkpoint> checkpoint = Checkpoint::Open(dir);
  const SourceFiles files = ListFiles(dir, *checkpoint);
  ConversionPlan plan;
  plan.source = checkpoint;
  plan.skipped = files.skipped;
  plan.fingerprint = Fingerprint(context.options, *checkpoint, files.text);
  if (context.options.bits) {
    PlanQuantisation(context, *checkpoint, files.text, plan);
    return plan;
  }
  for (const auto& file : checkpoint->files()) {
    plan.jobs.push_back(CopyJob(file->path()));
  }
  for (const fs::path& path : files.text) {
    plan.jobs.push_back(CopyJob(path));
  }
  return plan;
}

}  // namespace mach::formats
