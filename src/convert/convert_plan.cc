#include "convert/convert_plan.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "base/error.h"
#include "base/hash.h"

namespace mach::convert {
namespace {

using Json = nlohmann::ordered_json;

// Weights decoded at a time: bounds memory, and is enough work to share among threads.
constexpr int64_t kChunkWeights = 1 << 20;

struct Placed {
  const ConversionStep* step;
  size_t output;
  uint64_t offset;  // within the data section
};

struct Shard {
  std::vector<ConversionStep> steps;
  std::vector<std::vector<uint64_t>> offsets;  // of each step's outputs, within the file
  std::string header;                          // with its length field
  uint64_t size_bytes = 0;
};

// Widest elements first, so that every tensor is aligned to its own element size.
void LayOut(Shard& shard) {
  std::vector<Placed> placed;
  for (const ConversionStep& step : shard.steps) {
    for (size_t output = 0; output < step.outputs.size(); ++output) {
      placed.push_back({&step, output, 0});
    }
  }
  std::stable_sort(placed.begin(), placed.end(), [](const Placed& a, const Placed& b) {
    return DTypeBytes(a.step->outputs[a.output].dtype) >
           DTypeBytes(b.step->outputs[b.output].dtype);
  });
  Json header = {{"__metadata__", {{"format", "mlx"}}}};
  uint64_t position = 0;
  for (Placed& item : placed) {
    const OutputTensor& tensor = item.step->outputs[item.output];
    item.offset = position;
    position += tensor.Bytes();
    header.get_ref<Json::object_t&>().emplace_back(
        tensor.name, Json{{"dtype", std::string(DTypeName(tensor.dtype))},
                          {"shape", tensor.shape.dims()},
                          {"data_offsets", {item.offset, position}}});
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  shard.header.clear();
  for (int i = 0; i < 8; ++i) {
    shard.header += static_cast<char>((text.size() >> (8 * i)) & 0xffU);
  }
  shard.header += text;
  shard.size_bytes = shard.header.size() + position;
  for (const ConversionStep& step : shard.steps) {
    shard.offsets.emplace_back(step.outputs.size());
    for (const Placed& item : placed) {
      if (item.step == &step) {
        shard.offsets.back()[item.output] = shard.header.size() + item.offset;
      }
    }
  }
}

}  // namespace

uint64_t ConversionStep::Bytes() const {
  uint64_t bytes = 0;
  for (const OutputTensor& output : outputs) {
    bytes += output.Bytes();
  }
  return bytes;
}

ConversionStep AffineStep(const ConversionContext& context, const std::string& module,
                          int64_t out_features, int64_t in_features, AffineScheme scheme,
                          DType scale_dtype, EncodeRow encode) {
  const int64_t groups = in_features / scheme.group_size;
  ConversionStep step;
  step.outputs = {
      {module + ".weight", DType::kU32, Shape{out_features, in_features * scheme.bits / 32}},
      {module + ".scales", scale_dtype, Shape{out_features, groups}},
      {module + ".biases", scale_dtype, Shape{out_features, groups}}};
  step.run = [&pool = context.pool, out_features, in_features, scheme, scale_dtype, groups,
              encode = std::move(encode)](const TensorSink& sink) {
    const int64_t chunk = std::max<int64_t>(1, kChunkWeights / in_features);
    const auto code_bytes = static_cast<size_t>(in_features * scheme.bits / 8);
    const size_t group_bytes = static_cast<size_t>(groups) * DTypeBytes(scale_dtype);
    std::vector<std::byte> packed(static_cast<size_t>(chunk) * code_bytes);
    std::vector<std::byte> scales(static_cast<size_t>(chunk) * group_bytes);
    std::vector<std::byte> biases(scales.size());
    for (int64_t first = 0; first < out_features; first += chunk) {
      const int64_t rows = std::min(chunk, out_features - first);
      EncodeRows(pool, first, rows, in_features, scheme, scale_dtype, encode,
                 {packed, scales, biases});
      const auto from = static_cast<uint64_t>(first);
      const auto count = static_cast<size_t>(rows);
      sink(0, from * code_bytes, std::span(packed).first(count * code_bytes));
      sink(1, from * group_bytes, std::span(scales).first(count * group_bytes));
      sink(2, from * group_bytes, std::span(biases).first(count * group_bytes));
    }
  };
  return step;
}

void EncodeRows(ThreadPool& pool, int64_t first, int64_t rows, int64_t in_features,
                AffineScheme scheme, DType scale_dtype, const EncodeRow& encode,
                const EncodedRows& out) {
  const auto groups = static_cast<size_t>(in_features / scheme.group_size);
  const auto code_bytes = static_cast<size_t>(in_features * scheme.bits / 8);
  const size_t group_bytes = groups * DTypeBytes(scale_dtype);
  pool.ParallelFor(rows, 1, [&](int64_t begin, int64_t end, int) {
    std::vector<uint8_t> codes(static_cast<size_t>(in_features));
    std::vector<float> row_scales(groups);
    std::vector<float> row_biases(groups);
    for (int64_t row = begin; row < end; ++row) {
      const auto at = static_cast<size_t>(row);
      encode(first + row, codes, row_scales, row_biases);
      PackCodes(codes, scheme.bits, out.codes.subspan(at * code_bytes, code_bytes));
      StoreFloats(row_scales, scale_dtype, out.scales.subspan(at * group_bytes, group_bytes));
      StoreFloats(row_biases, scale_dtype, out.biases.subspan(at * group_bytes, group_bytes));
    }
  });
}

EncodeRow QuantisingEncoder(const ConversionContext& context, std::string module,
                            std::string source, AffineScheme scheme, ReadRow read) {
  return [&quantiser = context.quantiser, module = std::move(module), source = std::move(source),
          scheme, read = std::move(read)](int64_t row, std::span<uint8_t> codes,
                                          std::span<float> scales, std::span<float> biases) {
    std::vector<float> weights(codes.size());
    read(row, weights);
    if (!std::all_of(weights.begin(), weights.end(),
                     [](float weight) { return std::isfinite(weight); })) {
      throw Error(ErrorCode::kCorruptFile,
                  source + ": row " + std::to_string(row) + " holds a value that is not finite",
                  "the file is damaged; fetch it again");
    }
    quantiser.QuantiseRow(module, row, weights, scheme, codes, scales, biases);
  };
}

ConversionStep QuantiseStep(const ConversionContext& context, const std::string& module,
                            const std::string& source, int64_t out_features, int64_t in_features,
                            AffineScheme scheme, DType scale_dtype, ReadRow read) {
  return AffineStep(context, module, out_features, in_features, scheme, scale_dtype,
                    QuantisingEncoder(context, module, source, scheme, std::move(read)));
}

ConversionStep CopyRowsStep(OutputTensor output, int64_t rows,
                            std::function<std::span<const std::byte>(int64_t row)> read_row) {
  ConversionStep step;
  step.outputs = {std::move(output)};
  step.run = [rows, read_row = std::move(read_row)](const TensorSink& sink) {
    constexpr size_t kChunkBytes = 4U << 20;
    std::vector<std::byte> chunk;
    uint64_t offset = 0;
    for (int64_t row = 0; row < rows; ++row) {
      const std::span<const std::byte> bytes = read_row(row);
      chunk.insert(chunk.end(), bytes.begin(), bytes.end());
      if (chunk.size() >= kChunkBytes || row + 1 == rows) {
        sink(0, offset, chunk);
        offset += chunk.size();
        chunk.clear();
      }
    }
  };
  return step;
}

ConversionStep TensorStep(const ConversionContext& context, const formats::Checkpoint& checkpoint,
                          const std::string& source_name, const std::string& output_name,
                          std::optional<AffineScheme> scheme, ConversionPlan& plan) {
  const TensorView tensor = *checkpoint.FindTensor(source_name);
  const std::string where = checkpoint.FileOf(source_name) + ": tensor " + source_name;
  const auto drop = [&checkpoint, bytes = tensor.bytes] { checkpoint.Drop(bytes); };
  if (scheme && IsFloat(tensor.dtype) && tensor.dtype != DType::kF32 &&
      tensor.dtype != DType::kF16 && tensor.dtype != DType::kBF16) {
    throw Error(
        ErrorCode::kUnsupported,
        where + " is " + std::string(DTypeName(tensor.dtype)) + ", expected F32, F16 or BF16",
        "use a version of the model in BF16");
  }
  constexpr std::string_view kWeight = ".weight";
  const bool matrix = tensor.shape.rank() == 2 && IsFloat(tensor.dtype) &&
                      output_name.size() > kWeight.size() &&
                      output_name.substr(output_name.size() - kWeight.size()) == kWeight;
  if (scheme && matrix && tensor.shape[1] > 0 && tensor.shape[1] % scheme->group_size == 0) {
    plan.requantised.push_back(source_name);
    const int64_t in = tensor.shape[1];
    return DropBehind(
        QuantiseStep(context, output_name.substr(0, output_name.size() - kWeight.size()), where,
                     tensor.shape[0], in, *scheme, tensor.dtype,
                     [tensor, in](int64_t row, std::span<float> weights) {
                       for (int64_t i = 0; i < in; ++i) {
                         weights[static_cast<size_t>(i)] = FloatElement(tensor, row * in + i);
                       }
                     }),
        drop);
  }
  // As rows of at most one outermost slice, so that large tensors are streamed.
  const int64_t rows = tensor.shape.rank() == 0 || tensor.bytes.empty() ? 1 : tensor.shape[0];
  const size_t row_bytes = tensor.bytes.size() / static_cast<size_t>(rows);
  return DropBehind(CopyRowsStep({output_name, tensor.dtype, tensor.shape}, rows,
                                 [tensor, row_bytes](int64_t row) {
                                   return tensor.bytes.subspan(static_cast<size_t>(row) * row_bytes,
                                                               row_bytes);
                                 }),
                    drop);
}

ConversionStep DropBehind(ConversionStep step, std::function<void()> drop) {
  step.run = [run = std::move(step.run), drop = std::move(drop)](const TensorSink& sink) {
    run([&](size_t output, uint64_t offset, std::span<const std::byte> bytes) {
      sink(output, offset, bytes);
      drop();
    });
  };
  return step;
}

void AddShards(std::vector<ConversionStep> steps, uint64_t max_shard_bytes, ConversionPlan& plan) {
  std::vector<std::shared_ptr<Shard>> shards;
  uint64_t in_shard = 0;
  uint64_t total = 0;
  for (ConversionStep& step : steps) {
    const uint64_t bytes = step.Bytes();
    if (shards.empty() || (in_shard > 0 && in_shard + bytes > max_shard_bytes)) {
      shards.push_back(std::make_shared<Shard>());
      in_shard = 0;
    }
    in_shard += bytes;
    total += bytes;
    shards.back()->steps.push_back(std::move(step));
  }
  Json weight_map = Json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::shared_ptr<Shard>& shard = shards[i];
    LayOut(*shard);
    OutputJob job;
    job.name = "model.safetensors";
    if (shards.size() > 1) {
      char name[64];
      std::snprintf(name, sizeof(name), "model-%05zu-of-%05zu.safetensors", i + 1, shards.size());
      job.name = name;
    }
    job.size_bytes = shard->size_bytes;
    job.write = [shard](OutputFile& file, const std::function<void(uint64_t)>& written) {
      file.WriteAt(0, std::as_bytes(std::span(shard->header)));
      written(shard->header.size());
      for (size_t s = 0; s < shard->steps.size(); ++s) {
        shard->steps[s].run([&](size_t output, uint64_t offset, std::span<const std::byte> bytes) {
          file.WriteAt(shard->offsets[s][output] + offset, bytes);
          written(bytes.size());
        });
      }
      return std::string();
    };
    for (const ConversionStep& step : shard->steps) {
      for (const OutputTensor& output : step.outputs) {
        weight_map.get_ref<Json::object_t&>().emplace_back(output.name, job.name);
      }
    }
    plan.jobs.push_back(std::move(job));
  }
  if (shards.size() > 1) {
    const Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
    plan.small_files.push_back(SmallFile::Of("model.safetensors.index.json", index.dump(2) + "\n"));
  }
}

std::string DescribeOptions(const ConvertOptions& options) {
  // To be raised when the same source and options give other bytes than before: files of an earlier
  // version are then not kept beside new ones.
  constexpr int kWriterVersion = 1;
  return "bits=" + (options.bits ? std::to_string(*options.bits) : std::string("as-is")) +
         (options.bits ? " group_size=" + std::to_string(options.group_size) : std::string()) +
         (options.requantise_all ? " requantise_all" : "") +
         " max_shard_bytes=" + std::to_string(options.max_shard_bytes) +
         " writer=" + std::to_string(kWriterVersion);
}

std::string DescribeFile(const std::filesystem::path& path, std::span<const std::byte> header) {
  const auto time = std::filesystem::last_write_time(path).time_since_epoch().count();
  return path.filename().string() + " " + std::to_string(std::filesystem::file_size(path)) + " " +
         std::to_string(static_cast<int64_t>(time)) + " " + HashHex128(header) + "\n";
}

void IdentifySource(const std::map<std::string, std::string>& files, const std::string& identity,
                    ConversionPlan& plan) {
  for (const auto& [name, description] : files) {
    plan.source_files[name] = HashHex128(std::as_bytes(std::span(description)));
  }
  plan.fingerprint = HashHex128(std::as_bytes(std::span(identity)));
}

}  // namespace mach::convert
