#include "convert/synthetic_weights.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/check.h"
#include "base/hash.h"
#include "convert/affine_quantise.h"
#include "tensor/half.h"

namespace mach::convert {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr double kScaleSpread = 0.25;

// Scale and bias of group `index`. Uniform codes 0..2^bits-1 have a standard deviation of
// sqrt((4^bits - 1) / 12); the bias takes their mean away.
struct GroupParameters {
  uint16_t scale;  // BF16
  uint16_t bias;
};

class Grouping {
 public:
  Grouping(int bits, double weight_std)
      : levels_(std::exp2(bits)), scale_(weight_std / std::sqrt((levels_ * levels_ - 1) / 12)) {}

  GroupParameters At(const RandomWords& random, uint64_t index) const {
    const double scale = scale_ * (1 + kScaleSpread * random.Uniform(index));
    const uint16_t rounded = FloatToBf16(static_cast<float>(scale));
    return {rounded, FloatToBf16(Bf16ToFloat(rounded) * static_cast<float>((1 - levels_) / 2))};
  }

 private:
  double levels_;
  double scale_;
};

double WeightStd(double gain, int64_t in_features) {
  return gain / std::sqrt(static_cast<double>(in_features));
}

// Whole-word chunks of a byte range, shared among threads.
void FillParallel(ThreadPool& pool, const RandomWords& random, uint64_t first_word,
                  std::span<std::byte> out) {
  constexpr int64_t kGrainWords = 4096;
  pool.ParallelFor(
      static_cast<int64_t>(out.size() / 8), kGrainWords, [&](int64_t begin, int64_t end, int) {
        random.Fill(
            first_word + static_cast<uint64_t>(begin),
            out.subspan(static_cast<size_t>(begin) * 8, static_cast<size_t>(end - begin) * 8));
      });
}

void StoreWord16(std::byte* at, uint16_t value) {
  std::memcpy(at, &value, sizeof(value));
}

double NormalTail(double x) {
  return std::erfc(x / std::sqrt(2.0)) / 2;
}

// The x whose upper tail has probability p in (0, 1).
double NormalTailInverse(double p) {
  double low = -12;
  double high = 12;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (NormalTail(middle) > p ? low : high) = middle;
  }
  return (low + high) / 2;
}

}  // namespace

RandomWords::RandomWords(uint64_t seed, std::string_view name)
    : key_(Hash64(std::as_bytes(std::span(name)), seed)) {}

uint64_t RandomWords::Word(uint64_t index) const {
  uint64_t word = key_ + (index + 1) * 0x9e3779b97f4a7c15ULL;
  word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9ULL;
  word = (word ^ (word >> 27)) * 0x94d049bb133111ebULL;
  return word ^ (word >> 31);
}

float RandomWords::Uniform(uint64_t index) const {
  return static_cast<float>(static_cast<int64_t>(Word(index)) >> 40) * 0x1p-23F;
}

void RandomWords::Fill(uint64_t first, std::span<std::byte> out) const {
  MACH_CHECK(out.size() % 8 == 0);
  for (size_t i = 0; i < out.size() / 8; ++i) {
    const uint64_t word = Word(first + i);
    std::memcpy(out.data() + i * 8, &word, sizeof(word));
  }
}

ConversionStep RandomAffineStep(const ConversionContext& context, const RandomLinear& linear,
                                uint64_t seed) {
  const AffineScheme scheme = linear.scheme;
  const int64_t groups = linear.in_features / scheme.group_size;
  ConversionStep step;
  step.outputs = {{linear.module + ".weight", DType::kU32,
                   Shape{linear.out_features, linear.in_features * scheme.bits / 32}},
                  {linear.module + ".scales", DType::kBF16, Shape{linear.out_features, groups}},
                  {linear.module + ".biases", DType::kBF16, Shape{linear.out_features, groups}}};
  step.run = [&pool = context.pool, linear, groups, seed](const TensorSink& sink) {
    constexpr int64_t kChunkBytes = 4 << 20;
    const RandomWords codes(seed, linear.module + ".weight");
    const RandomWords parameters(seed, linear.module + ".scales");
    const Grouping grouping(linear.scheme.bits, WeightStd(linear.gain, linear.in_features));
    const int64_t constant_groups = linear.constant_inputs / linear.scheme.group_size;
    const int64_t row_bytes = linear.in_features * linear.scheme.bits / 8;
    const int64_t chunk_rows = std::clamp<int64_t>(kChunkBytes / row_bytes, 1, linear.out_features);
    std::vector<std::byte> code_bytes(static_cast<size_t>(chunk_rows * row_bytes));
    std::vector<uint16_t> scales(static_cast<size_t>(chunk_rows * groups));
    std::vector<uint16_t> biases(scales.size());
    for (int64_t first = 0; first < linear.out_features; first += chunk_rows) {
      const int64_t rows = std::min(chunk_rows, linear.out_features - first);
      const auto chunk = std::span(code_bytes).first(static_cast<size_t>(rows * row_bytes));
      FillParallel(pool, codes, static_cast<uint64_t>(first * row_bytes / 8), chunk);
      const auto count = static_cast<size_t>(rows * groups);
      const auto first_group = first * groups;
      for (size_t i = 0; i < count; ++i) {
        const auto group = first_group + static_cast<int64_t>(i);
        GroupParameters value = grouping.At(parameters, static_cast<uint64_t>(group));
        if (group / groups < linear.zero_rows) {
          value = {0, 0};
        } else if (group % groups < constant_groups) {
          value = {0, FloatToBf16(linear.constant)};
        }
        scales[i] = value.scale;
        biases[i] = value.bias;
      }
      sink(0, static_cast<uint64_t>(first * row_bytes), chunk);
      sink(1, static_cast<uint64_t>(first_group) * 2,
           std::as_bytes(std::span(scales).first(count)));
      sink(2, static_cast<uint64_t>(first_group) * 2,
           std::as_bytes(std::span(biases).first(count)));
    }
  };
  return step;
}

ConversionStep FloatStep(OutputTensor tensor, std::function<float(int64_t)> value) {
  ConversionStep step;
  step.run = [tensor, value = std::move(value)](const TensorSink& sink) {
    std::vector<float> values(static_cast<size_t>(tensor.shape.Elements()));
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = value(static_cast<int64_t>(i));
    }
    std::vector<std::byte> bytes(static_cast<size_t>(tensor.Bytes()));
    StoreFloats(values, tensor.dtype, bytes);
    sink(0, 0, bytes);
  };
  step.outputs = {std::move(tensor)};
  return step;
}

ExpertPool::Blocks::Blocks(const PackedSpec& spec, int64_t parts, uint64_t seed,
                           std::string_view name, ThreadPool& pool) {
  // A block is codes, then 16 scales, then 16 biases (packed_linear.h). Any bits are valid codes.
  const uint64_t code_bytes =
      static_cast<uint64_t>(kStripOutputs * spec.scheme.group_size * spec.scheme.bits / 8);
  constexpr uint64_t kParameterBytes = kStripOutputs * 2;
  block_bytes_ = code_bytes + 2 * kParameterBytes;
  part_bytes_ = spec.bytes();
  MACH_CHECK(part_bytes_ % block_bytes_ == 0);
  const uint64_t part_blocks = part_bytes_ / block_bytes_;
  // More places than parts, so that neighbours do not begin next to each other.
  starts_ = 4 * static_cast<uint64_t>(parts);
  // About the golden section of the range, and coprime to it: all starts differ.
  step_ = static_cast<uint64_t>(static_cast<double>(starts_) * 0.6180339887);
  while (std::gcd(step_, starts_) != 1) {
    ++step_;
  }
  const uint64_t blocks = starts_ + part_blocks - 1;
  bytes_.resize(blocks * block_bytes_);
  FillParallel(pool, RandomWords(seed, name), 0, bytes_);
  const RandomWords parameters(seed, std::string(name) + ".scales");
  const Grouping grouping(spec.scheme.bits, WeightStd(1, spec.in_features));
  pool.ParallelFor(static_cast<int64_t>(blocks), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t block = begin; block < end; ++block) {
      std::byte* at = bytes_.data() + static_cast<uint64_t>(block) * block_bytes_ + code_bytes;
      for (int64_t output = 0; output < kStripOutputs; ++output) {
        const GroupParameters value =
            grouping.At(parameters, static_cast<uint64_t>(block * kStripOutputs + output));
        StoreWord16(at + output * 2, value.scale);
        StoreWord16(at + kParameterBytes + output * 2, value.bias);
      }
    }
  });
}

std::span<const std::byte> ExpertPool::Blocks::Part(int64_t index) const {
  const uint64_t start = static_cast<uint64_t>(index) * step_ % starts_;
  return std::span(bytes_).subspan(start * block_bytes_, part_bytes_);
}

ExpertPool::ExpertPool(const ExpertLayout& layout, int64_t records, uint64_t seed, ThreadPool& pool)
    : layout_(layout),
      gate_up_(layout.gate.spec, 2 * records, seed, "experts.gate_up", pool),
      down_(layout.down.spec, records, seed, "experts.down", pool) {
  MACH_CHECK(layout.gate.spec == layout.up.spec);
}

void ExpertPool::Fill(int64_t index, std::span<std::byte> record) const {
  const auto put = [record](const ExpertPart& part, std::span<const std::byte> bytes) {
    std::memcpy(record.data() + part.offset_bytes, bytes.data(), bytes.size());
  };
  put(layout_.gate, gate_up_.Part(2 * index));
  put(layout_.up, gate_up_.Part(2 * index + 1));
  put(layout_.down, down_.Part(index));
}

std::vector<double> PopularityShifts(int64_t experts, int64_t top_k, double skew) {
  constexpr double kMostOften = 0.98;
  const auto probability = [&](double factor, int64_t rank) {
    return std::min(kMostOften, factor * std::pow(static_cast<double>(rank + 1), -skew));
  };
  // The factor for which top_k experts are chosen on average.
  const double wanted = std::min(static_cast<double>(top_k), 0.9 * static_cast<double>(experts));
  double low = 0;
  double high = std::pow(static_cast<double>(experts), skew);
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    double sum = 0;
    for (int64_t rank = 0; rank < experts; ++rank) {
      sum += probability(middle, rank);
    }
    (sum < wanted ? low : high) = middle;
  }
  std::vector<double> shifts;
  for (int64_t rank = 0; rank < experts; ++rank) {
    shifts.push_back(-NormalTailInverse(std::max(probability(high, rank), 1e-12)));
  }
  return shifts;
}

}  // namespace mach::convert
