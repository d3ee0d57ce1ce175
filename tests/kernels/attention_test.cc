// Attention and the KV store: every instruction set against scalar bit for bit, scalar against a
// naive computation in double precision, and the result's independence of how calls are split.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/kernels.h"
#include "kernels/vector.h"
#include "platform/cpu.h"
#include "tensor/half.h"
#include "tests/kernels/kernel_test_util.h"

namespace mach::kernels {
namespace {

constexpr uint32_t kSeed = 20240611;

// Paged KV memory that starts as NaN, so that a read of a position never stored shows.
class KvPages {
 public:
  KvPages(DType dtype, int32_t kv_heads, int32_t head_dim, int64_t positions)
      : block_bytes_(static_cast<size_t>(kKvBlockTokens * kv_heads * head_dim) *
                     DTypeBytes(dtype)) {
    const int64_t blocks = (positions + kKvBlockTokens - 1) / kKvBlockTokens;
    for (int64_t i = 0; i < 2 * blocks; ++i) {
      memory_.emplace_back(block_bytes_, std::byte{0xff});  // a NaN in each of the three types
    }
    for (int64_t i = 0; i < blocks; ++i) {
      // Values before keys and backwards, so that blocks are not neighbours.
      keys_.push_back(memory_[static_cast<size_t>(2 * blocks - 1 - i)].data());
      values_.push_back(memory_[static_cast<size_t>(i)].data());
    }
    view_ = {keys_.data(), values_.data(), dtype, kv_heads, head_dim};
  }
  const KvLayerView& view() const { return view_; }
  const std::vector<std::vector<std::byte>>& memory() const { return memory_; }

 private:
  size_t block_bytes_;
  std::vector<std::vector<std::byte>> memory_;
  std::vector<void*> keys_;
  std::vector<void*> values_;
  KvLayerView view_;
};

struct Case {
  int32_t q_heads;
  int32_t kv_heads;
  int32_t head_dim;
  int64_t first;   // tokens stored before the queries
  int64_t tokens;  // queries
  int32_t window;
  DType dtype;

  std::string Name() const {
    return std::to_string(q_heads) + "/" + std::to_string(kv_heads) + " heads of " +
           std::to_string(head_dim) + ", " + std::to_string(first) + "+" + std::to_string(tokens) +
           " tokens, window " + std::to_string(window) + ", " + std::string(DTypeName(dtype));
  }
};

struct Inputs {
  std::vector<float> q, k, v;  // [tokens, heads, head_dim]; k, v from position 0
};

Inputs MakeInputs(const Case& c, std::mt19937& random) {
  const int64_t kv_floats = (c.first + c.tokens) * c.kv_heads * c.head_dim;
  return {RandomFloats(c.tokens * c.q_heads * c.head_dim, 2.0F, random),
          RandomFloats(kv_floats, 1.0F, random), RandomFloats(kv_floats, 1.0F, random)};
}

AttentionShape ShapeOf(const Case& c) {
  return {c.q_heads, 1.0F / std::sqrt(static_cast<float>(c.head_dim)), c.window};
}

void StoreAll(const VectorTable& table, const Case& c, const Inputs& in, int64_t begin, int64_t end,
              const KvPages& pages) {
  const int64_t stride = int64_t{c.kv_heads} * c.head_dim;
  table.store_kv(pages.view(), begin, end - begin, in.k.data() + begin * stride, stride,
                 in.v.data() + begin * stride, stride);
}

// Queries [begin, end) of the case, heads [head_begin, head_end), into `out` of the whole case.
void Attend(const VectorTable& table, const Case& c, const Inputs& in, const KvPages& pages,
            int64_t begin, int64_t end, int32_t head_begin, int32_t head_end,
            std::vector<float>& out) {
  const int64_t stride = int64_t{c.q_heads} * c.head_dim;
  const AttentionShape shape = ShapeOf(c);
  // What scratch held before must not matter.
  std::vector<float> scratch(AttentionScratchBytes(shape, c.head_dim) / sizeof(float),
                             std::numeric_limits<float>::quiet_NaN());
  table.attention(pages.view(), shape, c.first + begin, end - begin, in.q.data() + begin * stride,
                  stride, head_begin, head_end, out.data() + begin * stride, stride,
                  scratch.data());
}

std::vector<float> Whole(const VectorTable& table, const Case& c, const Inputs& in) {
  KvPages pages(c.dtype, c.kv_heads, c.head_dim, c.first + c.tokens);
  StoreAll(table, c, in, 0, c.first + c.tokens, pages);
  std::vector<float> out(in.q.size(), -1.0F);
  Attend(table, c, in, pages, 0, c.tokens, 0, c.q_heads, out);
  return out;
}

void ExpectSameBits(const std::vector<float>& got, const std::vector<float>& want,
                    const std::string& what) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(want[i]))
        << what << ": element " << i << " is " << got[i] << ", expected " << want[i];
  }
}

float Rounded(float x, DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return Bf16ToFloat(FloatToBf16(x));
    case DType::kF16:
      return F16ToFloat(FloatToF16(x));
    default:
      return x;
  }
}

std::vector<Case> Cases() {
  return {
      {9, 3, 64, 0, 1, 0, DType::kBF16},     {9, 3, 64, 0, 70, 0, DType::kBF16},
      {9, 3, 64, 95, 1, 0, DType::kBF16},    {9, 3, 64, 37, 50, 0, DType::kF16},
      {4, 4, 80, 5, 90, 0, DType::kBF16},    {4, 4, 80, 300, 1, 0, DType::kF32},
      {8, 1, 96, 31, 33, 0, DType::kF16},    {8, 1, 128, 200, 16, 0, DType::kBF16},
      {10, 2, 128, 64, 20, 0, DType::kF32},  {16, 2, 256, 17, 40, 0, DType::kBF16},
      {7, 1, 256, 130, 1, 0, DType::kF16},   {6, 3, 64, 40, 80, 1, DType::kBF16},
      {6, 3, 64, 0, 130, 7, DType::kBF16},   {6, 3, 128, 50, 100, 32, DType::kF32},
      {4, 1, 64, 100, 60, 45, DType::kF16},  {2, 1, 16, 300, 30, 200, DType::kBF16},
      {80, 1, 32, 40, 3, 0, DType::kBF16},   {2, 2, 48, 1, 200, 64, DType::kBF16},
      {5, 1, 64, 500, 1, 100, DType::kBF16}, {3, 1, 112, 63, 2, 0, DType::kF32},
  };
}

TEST(AttentionTest, EveryInstructionSetEqualsScalar) {
  std::mt19937 random(kSeed);
  for (const Case& c : Cases()) {
    const Inputs in = MakeInputs(c, random);
    const std::vector<float> want = Whole(kVectorScalar, c, in);
    for (const Isa isa : SupportedIsas()) {
      ExpectSameBits(Whole(VectorKernels(isa), c, in), want,
                     std::string(IsaName(isa)) + ", " + c.Name());
    }
  }
}

// |error| of the weighted mean: a score is a chain of d fused steps and one product, so it is off
// by at most (d + 1) u sum|q k| scale (u = 2^-24); exp turns that into a relative error of each
// weight, to which exp itself and the subtraction add 4 u (1 + |s - m|); the sums add one u for
// each step. All of it once above and once below the fraction.
TEST(AttentionTest, ScalarAgreesWithDoublePrecision) {
  constexpr double kUnit = 0x1p-24;
  std::mt19937 random(kSeed + 1);
  for (const Case& c : Cases()) {
    const Inputs in = MakeInputs(c, random);
    const std::vector<float> got = Whole(kVectorScalar, c, in);
    const double scale = ShapeOf(c).scale;
    for (int64_t t = 0; t < c.tokens; ++t) {
      for (int64_t h = 0; h < c.q_heads; ++h) {
        const int64_t position = c.first + t;
        const int64_t begin = c.window > 0 ? std::max<int64_t>(0, position - c.window + 1) : 0;
        const int64_t kv_head = h / (c.q_heads / c.kv_heads);
        const float* q = in.q.data() + (t * c.q_heads + h) * c.head_dim;
        std::vector<double> scores;
        double score_error = 0;
        for (int64_t p = begin; p <= position; ++p) {
          const float* k = in.k.data() + (p * c.kv_heads + kv_head) * c.head_dim;
          double sum = 0;
          double magnitude = 0;
          for (int64_t d = 0; d < c.head_dim; ++d) {
            const double term = static_cast<double>(q[d]) * Rounded(k[d], c.dtype);
            sum += term;
            magnitude += std::abs(term);
          }
          scores.push_back(sum * scale);
          score_error = std::max(score_error, (c.head_dim + 1) * kUnit * magnitude * scale);
        }
        const double maximum = *std::max_element(scores.begin(), scores.end());
        const double minimum = *std::min_element(scores.begin(), scores.end());
        double total = 0;
        for (double& s : scores) {
          s = std::exp(s - maximum);
          total += s;
        }
        const auto keys = static_cast<double>(scores.size());
        const double relative =
            2 * (2 * score_error + kUnit * (4 * (1 + maximum - minimum) + keys + keys / 16 + 8));
        for (int64_t d = 0; d < c.head_dim; ++d) {
          double want = 0;
          double magnitude = 0;
          for (int64_t p = begin; p <= position; ++p) {
            const float v = in.v[static_cast<size_t>((p * c.kv_heads + kv_head) * c.head_dim + d)];
            const double term =
                scores[static_cast<size_t>(p - begin)] / total * Rounded(v, c.dtype);
            want += term;
            magnitude += std::abs(term);
          }
          const float value = got[static_cast<size_t>((t * c.q_heads + h) * c.head_dim + d)];
          ASSERT_NEAR(value, want, relative * magnitude)
              << c.Name() << ", token " << t << ", head " << h << ", dimension " << d;
        }
      }
    }
  }
}

TEST(AttentionTest, ResultDoesNotDependOnChunksOrHeadSplit) {
  std::mt19937 random(kSeed + 2);
  for (const Case& c : Cases()) {
    const Inputs in = MakeInputs(c, random);
    for (const Isa isa : SupportedIsas()) {
      const VectorTable& table = VectorKernels(isa);
      if (isa == Isa::kScalar && c.head_dim > 128) {
        continue;  // slow, and the fast sets are compared with it above
      }
      const std::vector<float> want = Whole(table, c, in);
      const std::string name = std::string(IsaName(isa)) + ", " + c.Name();
      // Keys beyond the chunk are not stored yet (NaN), as when tokens arrive one by one.
      for (const int64_t chunk : {int64_t{1}, int64_t{7}, int64_t{16}, int64_t{32}}) {
        KvPages pages(c.dtype, c.kv_heads, c.head_dim, c.first + c.tokens);
        StoreAll(table, c, in, 0, c.first, pages);
        std::vector<float> out(in.q.size(), -1.0F);
        for (int64_t t = 0; t < c.tokens; t += chunk) {
          const int64_t end = std::min(c.tokens, t + chunk);
          StoreAll(table, c, in, c.first + t, c.first + end, pages);
          const auto cut = static_cast<int32_t>((t * 5 + chunk) % (c.q_heads + 1));
          Attend(table, c, in, pages, t, end, 0, cut, out);
          Attend(table, c, in, pages, t, end, cut, c.q_heads, out);
        }
        ExpectSameBits(out, want, name + ", chunks of " + std::to_string(chunk));
      }
      KvPages pages(c.dtype, c.kv_heads, c.head_dim, c.first + c.tokens);
      StoreAll(table, c, in, 0, c.first + c.tokens, pages);
      std::vector<float> out(in.q.size(), -1.0F);
      for (int32_t head = 0; head < c.q_heads; ++head) {
        Attend(table, c, in, pages, 0, c.tokens, head, head + 1, out);
      }
      ExpectSameBits(out, want, name + ", head by head");
    }
  }
}

// Positions that no query sees, before the window and after the last query, hold NaN or infinity.
TEST(AttentionTest, InvisiblePositionsDoNotMatter) {
  std::mt19937 random(kSeed + 3);
  for (Case c : Cases()) {
    const Inputs in = MakeInputs(c, random);
    for (const Isa isa : SupportedIsas()) {
      const VectorTable& table = VectorKernels(isa);
      const std::vector<float> want = Whole(table, c, in);
      // The last query alone, with only its window stored and 40 poisoned positions behind it.
      KvPages pages(c.dtype, c.kv_heads, c.head_dim, c.first + c.tokens + 40);
      const int64_t end = c.first + c.tokens;
      const int64_t begin = c.window > 0 ? std::max<int64_t>(0, end - c.window) : 0;
      StoreAll(table, c, in, begin, end, pages);
      std::vector<float> out = want;
      std::fill(out.end() - int64_t{c.q_heads} * c.head_dim, out.end(), -1.0F);
      Attend(table, c, in, pages, c.tokens - 1, c.tokens, 0, c.q_heads, out);
      ExpectSameBits(out, want, std::string(IsaName(isa)) + ", " + c.Name());
    }
  }
}

TEST(AttentionTest, LaterTokensOfTheChunkDoNotMatter) {
  std::mt19937 random(kSeed + 4);
  const Case c = {6, 2, 64, 20, 60, 0, DType::kF32};
  Inputs in = MakeInputs(c, random);
  for (const Isa isa : SupportedIsas()) {
    const std::vector<float> want = Whole(VectorKernels(isa), c, in);
    Inputs infinite = in;
    const int64_t stride = int64_t{c.kv_heads} * c.head_dim;
    std::fill(infinite.v.end() - stride, infinite.v.end(), std::numeric_limits<float>::infinity());
    std::vector<float> got = Whole(VectorKernels(isa), c, infinite);
    const auto last = static_cast<size_t>(int64_t{c.q_heads} * c.head_dim);
    EXPECT_TRUE(std::isinf(got.back()));
    got.resize(got.size() - last);
    std::vector<float> head(want.begin(), want.end() - static_cast<int64_t>(last));
    ExpectSameBits(got, head, std::string(IsaName(isa)));
  }
}

TEST(AttentionTest, ExtremeScoresAndNan) {
  std::mt19937 random(kSeed + 5);
  const Case c = {2, 1, 64, 50, 10, 0, DType::kF32};
  Inputs in = MakeInputs(c, random);
  for (float& x : in.q) {
    x *= 1000.0F;  // differences of scores far beyond the range of exp
  }
  const std::vector<float> want = Whole(kVectorScalar, c, in);
  for (const float x : want) {
    ASSERT_TRUE(std::isfinite(x));
  }
  Inputs broken = in;
  broken.k[static_cast<size_t>(55 * c.head_dim + 3)] = std::numeric_limits<float>::quiet_NaN();
  for (const Isa isa : SupportedIsas()) {
    ExpectSameBits(Whole(VectorKernels(isa), c, in), want, std::string(IsaName(isa)));
    const std::vector<float> got = Whole(VectorKernels(isa), c, broken);
    for (size_t i = 0; i < got.size(); ++i) {
      const auto token = static_cast<int64_t>(i) / (c.q_heads * c.head_dim);
      // A key that is NaN must show in every query that sees it and in no other.
      ASSERT_EQ(std::isnan(got[i]), c.first + token >= 55) << IsaName(isa) << " element " << i;
    }
  }
}

TEST(StoreKvTest, EveryInstructionSetEqualsTheDefinition) {
  std::mt19937 random(kSeed + 6);
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const int32_t head_dim : {16, 64, 80, 96, 128, 256}) {
      const Case c = {1, 3, head_dim, 0, 75, 0, dtype};
      const int64_t k_stride = int64_t{c.kv_heads} * head_dim + 5;
      const int64_t v_stride = int64_t{c.kv_heads} * head_dim + 16;
      const std::vector<float> k = RandomFloats(c.tokens * k_stride, 1.0F, random);
      const std::vector<float> v = RandomFloats(c.tokens * v_stride, 1e-5F, random);
      for (const Isa isa : SupportedIsas()) {
        KvPages pages(dtype, c.kv_heads, head_dim, 20 + c.tokens);
        VectorKernels(isa).store_kv(pages.view(), 20, c.tokens, k.data(), k_stride, v.data(),
                                    v_stride);
        const KvLayerView& view = pages.view();
        const auto element = [&](void* const* blocks, int64_t block, int64_t index) {
          uint32_t bits = 0;
          const size_t bytes = DTypeBytes(dtype);
          std::memcpy(&bits, static_cast<std::byte*>(blocks[block]) + index * int64_t(bytes),
                      bytes);
          return bits;
        };
        const auto encoded = [&](float x) -> uint32_t {
          return dtype == DType::kF32    ? std::bit_cast<uint32_t>(x)
                 : dtype == DType::kBF16 ? FloatToBf16(x)
                                         : FloatToF16(x);
        };
        const uint32_t untouched = dtype == DType::kF32 ? 0xffffffffU : 0xffffU;
        for (int64_t p = 0; p < 96; ++p) {
          const int64_t t = p - 20;
          const bool stored = t >= 0 && t < c.tokens;
          for (int64_t h = 0; h < c.kv_heads; ++h) {
            for (int64_t d = 0; d < head_dim; ++d) {
              const int64_t slot = p % kKvBlockTokens;
              const uint32_t key =
                  element(view.key_blocks, p / 32, (h * head_dim + d) * kKvBlockTokens + slot);
              const uint32_t value =
                  element(view.value_blocks, p / 32, (h * kKvBlockTokens + slot) * head_dim + d);
              const auto source = static_cast<size_t>(h * head_dim + d);
              const auto row = static_cast<size_t>(stored ? t : 0);
              const auto ks = static_cast<size_t>(k_stride);
              const auto vs = static_cast<size_t>(v_stride);
              ASSERT_EQ(key, stored ? encoded(k[row * ks + source]) : untouched) << IsaName(isa);
              ASSERT_EQ(value, stored ? encoded(v[row * vs + source]) : untouched) << IsaName(isa);
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace mach::kernels
