// From a Hugging Face or MLX directory to conversion steps: a verified copy of a dense model, or
// quantisation of all linear layers and embeddings as mlx_lm.convert does it. Mixture-of-Experts
// models: convert_moe.cc.

#include <algorithm>
#include <array>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "convert/convert_plan.h"
#include "formats/checkpoint.h"
#include "formats/journal.h"
#include "formats/moe_layout.h"
#include "formats/weight_files.h"

namespace mach::convert {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::array<std::string_view, 3> kDenseTypes = {"llama", "qwen2", "qwen3"};

// Configuration, tokenizer and template files, by their endings.
bool IsTextFile(const fs::path& path) {
  constexpr std::array<std::string_view, 5> kEndings = {".json", ".jinja", ".txt", ".model",
                                                        ".tiktoken"};
  const std::string name = path.filename().string();
  return name.front() != '.' && name != formats::Journal::kFileName &&
         std::find(kEndings.begin(), kEndings.end(), path.extension().string()) != kEndings.end();
}

OutputJob CopyJob(const fs::path& source) {
  OutputJob job;
  job.name = source.filename().string();
  job.size_bytes = fs::file_size(source);
  job.write = [source](OutputFile& file, const std::function<void(uint64_t)>& written) {
    uint64_t done = 0;
    return formats::FileChecksum(source, [&](std::span<const std::byte> piece) {
      file.WriteAt(done, piece);
      done += piece.size();
      written(piece.size());
    });
  };
  return job;
}

struct SourceFiles {
  std::vector<fs::path> text;
  std::vector<std::string> skipped;
};

SourceFiles ListFiles(const fs::path& dir, const formats::Checkpoint& checkpoint) {
  std::set<std::string> shards;
  for (const auto& file : checkpoint.files()) {
    shards.insert(fs::path(file->path()).filename().string());
  }
  SourceFiles result;
  for (const fs::directory_entry& entry : fs::directory_iterator(dir)) {
    const std::string name = entry.path().filename().string();
    const bool stale_index = name == formats::kWeightIndexName && !checkpoint.has_index();
    if (entry.is_regular_file() && IsTextFile(entry.path()) && !stale_index) {
      result.text.push_back(entry.path());
    } else if (shards.count(name) == 0 && name != formats::Journal::kFileName) {
      result.skipped.push_back(name);
    }
  }
  std::sort(result.text.begin(), result.text.end());
  std::sort(result.skipped.begin(), result.skipped.end());
  return result;
}

void Identify(const ConvertOptions& options, const formats::Checkpoint& checkpoint,
              const std::vector<fs::path>& text, ConversionPlan& plan) {
  std::map<std::string, std::string> files;
  std::string identity = DescribeOptions(options) + "\n";
  const auto add = [&](const fs::path& path, const std::string& description) {
    files[path.filename().string()] = description;
    identity += description;
  };
  for (const auto& file : checkpoint.files()) {
    add(file->path(), DescribeFile(file->path(), file->HeaderBytes()));
  }
  for (const fs::path& path : text) {
    // Small files count by their contents alone.
    add(path, path.filename().string() + " " + formats::FileChecksum(path, {}) + "\n");
  }
  IdentifySource(files, identity, plan);
}

void WarnWithoutTokenizer(const fs::path& dir) {
  const fs::path path = dir / "tokenizer.json";
  std::error_code ignored;
  if (!fs::exists(path, ignored)) {
    LogWarning("the source has no tokenizer.json, without which `mach serve` refuses the result",
               {{"file", path.string()}});
  }
}

// An engine checkpoint is one that can be served: a copy of anything else would only look like one.
void RequireServable(const formats::Checkpoint& checkpoint) {
  const std::string& type = checkpoint.model_type();
  if (!formats::FindMoeFamily(type) &&
      std::find(kDenseTypes.begin(), kDenseTypes.end(), type) == kDenseTypes.end()) {
    throw Error(ErrorCode::kUnsupported,
                checkpoint.root_config().Where("model_type") + " is \"" + type +
                    "\", which this build cannot serve",
                "llama, qwen2, qwen3, qwen3_moe and qwen3_5_moe can be converted");
  }
  checkpoint.RequireReadableQuantisation();
}

void RefuseToQuantise(const formats::Checkpoint& checkpoint) {
  for (const char* field : {"quantization", "quantization_config"}) {
    if (checkpoint.root_config().Has(field) || checkpoint.config().Has(field)) {
      throw Error(ErrorCode::kInvalidArgument,
                  checkpoint.dir().string() + " is already quantised (" +
                      checkpoint.QuantisationSummary() + ")",
                  "convert without --bits, or start from the unquantised model");
    }
  }
}

void PlanDenseTensors(const ConversionContext& context, const formats::Checkpoint& checkpoint,
                      ConversionPlan& plan) {
  const bool tied = checkpoint.TiesWordEmbeddings("lm_head");
  std::vector<ConversionStep> steps;
  for (const std::string& name : checkpoint.TensorNames()) {
    if (tied && name == "lm_head.weight") {
      plan.skipped_tensors["the embedding serves as head"].push_back(name);
    } else if (name.ends_with("rotary_emb.inv_freq")) {
      plan.skipped_tensors["computed, not read"].push_back(name);
    } else {
      steps.push_back(TensorStep(context, checkpoint, name, name, context.Scheme(), plan));
    }
  }
  AddShards(std::move(steps), context.options.max_shard_bytes, plan);
}

// The text files of the source, with `config` for config.json.
void AddTextFiles(const std::vector<fs::path>& text, const Json& config, ConversionPlan& plan) {
  for (const fs::path& path : text) {
    const std::string name = path.filename().string();
    if (name == "config.json") {
      plan.small_files.push_back(SmallFile::Of(name, config.dump(2) + "\n"));
    } else if (name != formats::kWeightIndexName) {
      plan.small_files.push_back(SmallFile::Of(name, ReadWholeFile(path)));
    }
  }
}

}  // namespace

ConversionPlan PlanDirectory(const ConversionContext& context, const fs::path& dir) {
  const std::shared_ptr<const formats::Checkpoint> checkpoint = formats::Checkpoint::Open(dir);
  RequireServable(*checkpoint);
  WarnWithoutTokenizer(dir);
  const SourceFiles files = ListFiles(dir, *checkpoint);
  ConversionPlan plan;
  plan.source = checkpoint;
  plan.skipped = files.skipped;
  Identify(context.options, *checkpoint, files.text, plan);
  const bool moe = formats::FindMoeFamily(checkpoint->model_type()).has_value();
  if (context.options.bits) {
    RefuseToQuantise(*checkpoint);
  }
  if (moe || context.options.bits) {
    Json config = Json::parse(ReadWholeFile(dir / "config.json"));
    if (context.options.bits) {
      const AffineScheme scheme = context.Scheme();
      config["quantization"] = {
          {"group_size", scheme.group_size}, {"bits", scheme.bits}, {"mode", "affine"}};
    }
    if (moe) {
      PlanMoeTensors(context, checkpoint, plan, config);
    } else {
      PlanDenseTensors(context, *checkpoint, plan);
    }
    if (context.options.bits) {
      config["quantization_config"] = config["quantization"];
    }
    AddTextFiles(files.text, config, plan);
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

}  // namespace mach::convert
