// From GGUF to conversion steps: which blocks have an exact affine form, and what it is.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>

#include "base/check.h"
#include "base/error.h"
#include "convert/convert_plan.h"
#include "formats/gguf.h"
#include "formats/gguf_model.h"
#include "formats/gguf_tokenizer.h"
#include "tensor/half.h"

namespace mach::convert {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kGgmlGroup = 32;  // every lossless form has groups of 32

float HalfAt(const uint8_t* at) {
  return F16ToFloat(static_cast<uint16_t>(at[0] | (static_cast<unsigned>(at[1]) << 8)));
}

std::optional<AffineScheme> LosslessScheme(formats::GgmlType type) {
  switch (type) {
    case formats::GgmlType::kQ40:
    case formats::GgmlType::kQ41:
    case formats::GgmlType::kQ4K:
      return AffineScheme{4, kGgmlGroup};
    case formats::GgmlType::kQ50:
    case formats::GgmlType::kQ51:
    case formats::GgmlType::kQ5K:
      return AffineScheme{5, kGgmlGroup};
    case formats::GgmlType::kQ80:
      return AffineScheme{8, kGgmlGroup};
    default:
      return std::nullopt;
  }
}

std::optional<DType> PlainType(formats::GgmlType type) {
  switch (type) {
    case formats::GgmlType::kF32:
      return DType::kF32;
    case formats::GgmlType::kF16:
      return DType::kF16;
    case formats::GgmlType::kBF16:
      return DType::kBF16;
    default:
      return std::nullopt;
  }
}

// Whether the biases -8d of Q4_0, -16d of Q5_0 and -128d of Q8_0 are fp16 numbers: they are unless
// they overflow.
bool FitsHalf(const formats::GgufFile& file, const formats::GgufTensor& tensor, float multiple) {
  constexpr float kMaxHalf = 65504;
  constexpr size_t kPieceBlocks = 1 << 18;
  const auto block_bytes = static_cast<size_t>(tensor.info->block_bytes);
  bool fits = true;
  for (auto rest = tensor.bytes; fits && !rest.empty();) {
    const auto piece = rest.first(std::min(rest.size(), kPieceBlocks * block_bytes));
    const auto* block = reinterpret_cast<const uint8_t*>(piece.data());
    for (const auto* end = block + piece.size(); fits && block != end; block += block_bytes) {
      fits = std::fabs(HalfAt(block)) * multiple <= kMaxHalf;
    }
    file.Drop(piece);
    rest = rest.subspan(piece.size());
  }
  return fits;
}

DType ScaleType(const formats::GgufFile& file, const formats::GgufTensor& tensor) {
  switch (tensor.type()) {
    case formats::GgmlType::kQ40:
      return FitsHalf(file, tensor, 8) ? DType::kF16 : DType::kF32;
    case formats::GgmlType::kQ50:
      return FitsHalf(file, tensor, 16) ? DType::kF16 : DType::kF32;
    case formats::GgmlType::kQ80:
      return FitsHalf(file, tensor, 128) ? DType::kF16 : DType::kF32;
    case formats::GgmlType::kQ41:
    case formats::GgmlType::kQ51:
      return DType::kF16;  // d and m as they are
    default:
      return DType::kF32;  // Q4_K and Q5_K: d * sc has 17 significant bits
  }
}

void Nibbles(const uint8_t* bytes, uint8_t* codes) {
  for (int j = 0; j < 16; ++j) {
    codes[j] = bytes[j] & 15;
    codes[j + 16] = bytes[j] >> 4;
  }
}

// Of a Q4_K or Q5_K block: the 8 groups of 32 codes have a scale and a bias each.
void SubBlockScales(const uint8_t* block, float* scales, float* biases) {
  const float d = HalfAt(block);
  const float dmin = HalfAt(block + 2);
  const formats::Q4KScales packed = formats::UnpackQ4KScales(block + 4);
  for (int sub = 0; sub < 8; ++sub) {
    scales[sub] = d * static_cast<float>(packed.scale[sub]);
    biases[sub] = -(dmin * static_cast<float>(packed.minimum[sub]));
  }
}

// One row in its affine form: w = scale * code + bias, with the very products that the ggml
// decoder computes.
void EncodeLossless(const formats::GgufFile& file, const formats::GgufTensor& tensor, int64_t row,
                    std::span<uint8_t> codes, std::span<float> scales, std::span<float> biases) {
  const auto* block = reinterpret_cast<const uint8_t*>(tensor.Row(row).data());
  size_t group = 0;
  for (size_t at = 0; at < codes.size();
       at += static_cast<size_t>(tensor.info->block_elements), block += tensor.info->block_bytes) {
    const float d = HalfAt(block);
    switch (tensor.type()) {
      case formats::GgmlType::kQ40:
        Nibbles(block + 2, &codes[at]);
        scales[group] = d;
        biases[group++] = -8 * d;
        break;
      case formats::GgmlType::kQ41:
        Nibbles(block + 4, &codes[at]);
        scales[group] = d;
        biases[group++] = HalfAt(block + 2);
        break;
      case formats::GgmlType::kQ80:
        for (size_t j = 0; j < 32; ++j) {
          codes[at + j] = block[2 + j] ^ 0x80U;  // q + 128
        }
        scales[group] = d;
        biases[group++] = -128 * d;
        break;
      case formats::GgmlType::kQ50:
        formats::UnpackQ5Codes(block + 2, block + 6, &codes[at]);
        scales[group] = d;
        biases[group++] = -16 * d;
        break;
      case formats::GgmlType::kQ51:
        formats::UnpackQ5Codes(block + 4, block + 8, &codes[at]);
        scales[group] = d;
        biases[group++] = HalfAt(block + 2);
        break;
      case formats::GgmlType::kQ4K:
        for (size_t pair = 0; pair < 4; ++pair) {
          for (size_t j = 0; j < 32; ++j) {
            const uint8_t byte = block[16 + pair * 32 + j];
            codes[at + pair * 64 + j] = byte & 15;
            codes[at + pair * 64 + 32 + j] = byte >> 4;
          }
        }
        SubBlockScales(block, &scales[group], &biases[group]);
        group += 8;
        break;
      case formats::GgmlType::kQ5K:
        formats::UnpackQ5KCodes(block, &codes[at]);
        SubBlockScales(block, &scales[group], &biases[group]);
        group += 8;
        break;
      default:
        MACH_CHECK(false);
    }
  }
  for (size_t i = 0; i < scales.size(); ++i) {
    if (!std::isfinite(scales[i]) || !std::isfinite(biases[i])) {
      throw Error(ErrorCode::kCorruptFile,
                  file.path() + ": tensor " + tensor.name + ": row " + std::to_string(row) +
                      " has a scale that is not finite",
                  formats::kFetchGgufAgain);
    }
  }
}

std::string ModuleOf(const std::string& tensor_name) {
  constexpr std::string_view kSuffix = ".weight";
  return tensor_name.substr(0, tensor_name.size() - kSuffix.size());
}

class GgufPlanner {
 public:
  GgufPlanner(const ConversionContext& context, std::shared_ptr<const formats::GgufFile> file)
      : context_(context), file_(std::move(file)) {}

  ConversionPlan Plan() {
    formats::GgufModel model = formats::DescribeGgufModel(*file_);
    RefuseUndecodable(model);
    RefuseLossy(model);
    std::vector<ConversionStep> steps;
    for (const formats::GgufModelTensor& tensor : model.tensors) {
      steps.push_back(StepFor(tensor));
    }
    ConversionPlan plan;
    AddShards(std::move(steps), context_.options.max_shard_bytes, plan);
    AddQuantisation(model.config);
    plan.small_files.push_back(SmallFile::Of("config.json", model.config.dump(2) + "\n"));
    AddText(plan);
    plan.requantised = requantised_;
    const std::string source = DescribeFile(file_->path(), file_->HeaderBytes());
    IdentifySource({{std::filesystem::path(file_->path()).filename().string(), source}},
                   source + DescribeOptions(context_.options), plan);
    plan.source = file_;
    return plan;
  }

 private:
  void RefuseUndecodable(const formats::GgufModel& model) const {
    for (const formats::GgufModelTensor& tensor : model.tensors) {
      if (!tensor.tensor->info->decodable) {
        throw Error(
            ErrorCode::kUnsupported,
            file_->path() + ": tensor " + tensor.tensor->name + " is " +
                std::string(tensor.tensor->info->name) +
                "; of GGUF, F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K and Q6_K "
                "can be read",
            "use a Q4_0, Q4_K_M, Q5_K_M, Q8_0 or F16 version of the model");
      }
    }
  }

  // Q6_K scales 16 weights at a time, which no affine form here does.
  void RefuseLossy(const formats::GgufModel& model) const {
    if (context_.options.bits) {
      return;
    }
    std::string names;
    int count = 0;
    for (const formats::GgufModelTensor& tensor : model.tensors) {
      const formats::GgmlType type = tensor.tensor->type();
      if (tensor.linear && !PlainType(type) && !LosslessScheme(type)) {
        if (count < 5) {
          names += (count == 0 ? "" : ", ") + tensor.tensor->name;
        }
        ++count;
      }
    }
    if (count > 0) {
      throw Error(ErrorCode::kUnsupported,
                  file_->path() + ": " + std::to_string(count) +
                      " tensors are Q6_K, which has no lossless form here: " + names +
                      (count > 5 ? ", ..." : ""),
                  "add --bits 8 to requantise these tensors and keep all others as they are");
    }
  }

  ConversionStep StepFor(const formats::GgufModelTensor& item) {
    return DropBehind(ReadingStep(item),
                      [&file = *file_, bytes = item.tensor->bytes] { file.Drop(bytes); });
  }

  ConversionStep ReadingStep(const formats::GgufModelTensor& item) {
    const formats::GgufTensor& tensor = *item.tensor;
    const ConvertOptions& options = context_.options;
    const auto read = [&tensor, order = item.order](int64_t row, std::span<float> weights) {
      formats::DequantizeGgml(*tensor.info, tensor.Row(order.SourceRow(row)), weights);
    };
    if (item.linear) {
      const int64_t in = tensor.RowElements();
      const auto lossless = LosslessScheme(tensor.type());
      const bool has_exact_form = lossless || PlainType(tensor.type());
      const bool fits = options.bits && in % options.group_size == 0;
      if (options.bits && !fits && !has_exact_form) {
        throw Error(ErrorCode::kInvalidArgument,
                    file_->path() + ": tensor " + tensor.name + " has rows of " +
                        std::to_string(in) + " weights, no multiple of the group size " +
                        std::to_string(options.group_size),
                    "choose --group-size 32, 64 or 128 so that it divides them");
      }
      const std::string module = ModuleOf(item.name);
      if (fits && (options.requantise_all || !has_exact_form)) {
        const AffineScheme scheme{*options.bits, options.group_size};
        schemes_[module] = scheme;
        requantised_.push_back(item.name);
        return QuantiseStep(context_, module, file_->path() + ": tensor " + tensor.name,
                            tensor.Rows(), in, scheme, DType::kF32, read);
      }
      if (lossless) {
        schemes_[module] = *lossless;
        return AffineStep(
            context_, module, tensor.Rows(), in, *lossless, ScaleType(*file_, tensor),
            [&file = *file_, &tensor, order = item.order](int64_t row, std::span<uint8_t> codes,
                                                          std::span<float> scales,
                                                          std::span<float> biases) {
              EncodeLossless(file, tensor, order.SourceRow(row), codes, scales, biases);
            });
      }
    }
    if (const auto plain = PlainType(tensor.type())) {
      // A vector is permuted element by element, as if its rows had one element each.
      const bool vector = tensor.shape.rank() == 1;
      const int64_t rows = vector ? tensor.RowElements() : tensor.Rows();
      const size_t row_bytes = tensor.bytes.size() / static_cast<size_t>(rows);
      return CopyRowsStep({item.name, *plain, tensor.shape}, rows,
                          [&tensor, row_bytes, order = item.order](int64_t row) {
                            return tensor.bytes.subspan(
                                static_cast<size_t>(order.SourceRow(row)) * row_bytes, row_bytes);
                          });
    }
    throw Error(ErrorCode::kUnsupported,
                file_->path() + ": tensor " + tensor.name + " is " +
                    std::string(tensor.info->name) + ", expected F32, F16 or BF16",
                "use an F16 version of the model");
  }

  // The commonest scheme speaks for all; the others are named one by one.
  void AddQuantisation(Json& config) const {
    if (schemes_.empty()) {
      return;
    }
    const auto rank = [](const AffineScheme& scheme) {
      return std::pair(scheme.bits, scheme.group_size);
    };
    std::map<std::pair<int, int>, int> counts;
    for (const auto& [module, scheme] : schemes_) {
      ++counts[rank(scheme)];
    }
    const auto common = std::max_element(counts.begin(), counts.end(),
                                         [](auto& a, auto& b) { return a.second < b.second; });
    const auto describe = [](int bits, int group_size) {
      return Json{{"group_size", group_size}, {"bits", bits}, {"mode", "affine"}};
    };
    Json block = describe(common->first.first, common->first.second);
    for (const auto& [module, scheme] : schemes_) {
      if (rank(scheme) != common->first) {
        block[module] = describe(scheme.bits, scheme.group_size);
      }
    }
    config["quantization"] = block;
    config["quantization_config"] = block;
  }

  void AddText(ConversionPlan& plan) const {
    const formats::GgufTokenizer tokenizer = formats::BuildGgufTokenizer(*file_);
    plan.small_files.push_back(SmallFile::Of("tokenizer.json", tokenizer.tokenizer_json));
    plan.small_files.push_back(
        SmallFile::Of("tokenizer_config.json", tokenizer.tokenizer_config_json));
    if (tokenizer.chat_template) {
      plan.small_files.push_back(SmallFile::Of("chat_template.jinja", *tokenizer.chat_template));
    }
    Json generation = Json::object();
    if (tokenizer.bos_token_id) {
      generation["bos_token_id"] = *tokenizer.bos_token_id;
    }
    if (tokenizer.end_token_ids.size() == 1) {
      generation["eos_token_id"] = tokenizer.end_token_ids.front();
    } else if (!tokenizer.end_token_ids.empty()) {
      generation["eos_token_id"] = tokenizer.end_token_ids;
    }
    if (tokenizer.pad_token_id) {
      generation["pad_token_id"] = *tokenizer.pad_token_id;
    }
    plan.small_files.push_back(SmallFile::Of("generation_config.json", generation.dump(2) + "\n"));
  }

  const ConversionContext& context_;
  std::shared_ptr<const formats::GgufFile> file_;
  std::map<std::string, AffineScheme> schemes_;
  std::vector<std::string> requantised_;
};

}  // namespace

ConversionPlan PlanGguf(const ConversionContext& context, const std::filesystem::path& file) {
  return GgufPlanner(context, formats::GgufFile::Open(file)).Plan();
}

}  // namespace mach::convert
