// Linear layers: every variant against the scalar one, bit for bit; the scalar one against double
// precision; packing against the definition of the format.

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "kernels/kernels.h"
#include "tensor/half.h"

namespace mach::kernels {
namespace {

constexpr uint32_t kSeed = 20261123;
constexpr int64_t kMaxRows = 40;

void StoreFloat(std::vector<std::byte>& bytes, size_t index, DType dtype, float value) {
  if (dtype == DType::kF32) {
    std::memcpy(bytes.data() + index * 4, &value, 4);
    return;
  }
  const uint16_t half = dtype == DType::kF16 ? FloatToF16(value) : FloatToBf16(value);
  std::memcpy(bytes.data() + index * 2, &half, 2);
}

std::vector<std::byte> RandomFloats(std::mt19937& random, size_t count, DType dtype, float low,
                                    float high) {
  std::uniform_real_distribution<float> value(low, high);
  std::vector<std::byte> bytes(count * DTypeBytes(dtype));
  for (size_t i = 0; i < count; ++i) {
    StoreFloat(bytes, i, dtype, value(random));
  }
  return bytes;
}

// A random affine matrix as a file holds it.
struct AffineMatrix {
  AffineMatrix(std::mt19937& random, AffineScheme scheme, int64_t out, int64_t in, DType dtype)
      : codes(static_cast<size_t>(out * in * scheme.bits / 8)) {
    for (std::byte& byte : codes) {
      byte = static_cast<std::byte>(random());
    }
    const int64_t groups = in / scheme.group_size;
    scales = RandomFloats(random, static_cast<size_t>(out * groups), dtype, -0.05F, 0.05F);
    biases = RandomFloats(random, static_cast<size_t>(out * groups), dtype, -0.5F, 0.5F);
    view.scheme = scheme;
    view.out_features = out;
    view.in_features = in;
    view.codes = {DType::kU32, Shape{out, in * scheme.bits / 32}, codes};
    view.scales = {dtype, Shape{out, groups}, scales};
    view.biases = {dtype, Shape{out, groups}, biases};
  }
  AffineMatrix(const AffineMatrix&) = delete;
  AffineMatrix& operator=(const AffineMatrix&) = delete;
  ~AffineMatrix() = default;

  std::vector<std::byte> codes;
  std::vector<std::byte> scales;
  std::vector<std::byte> biases;
  AffineMatrixView view;
};

struct Quantized {
  Quantized(const KernelTable& table, const std::vector<float>& x, int64_t rows, int64_t cols,
            int32_t group_size)
      : codes(static_cast<size_t>(rows * cols)),
        scales(static_cast<size_t>(rows * cols / group_size)),
        sums(scales.size()) {
    view = {rows, cols, group_size, codes.data(), scales.data(), sums.data()};
    table.quantize_rows(x.data(), cols, 0, rows, view);
  }
  Quantized(const Quantized&) = delete;
  Quantized& operator=(const Quantized&) = delete;
  ~Quantized() = default;

  QuantizedRows First(int64_t rows) const {
    QuantizedRows first = view;
    first.rows = rows;
    return first;
  }

  std::vector<int8_t> codes;
  std::vector<float> scales;
  std::vector<float> sums;
  QuantizedRows view;
};

std::vector<float> RandomActivations(std::mt19937& random, int64_t count) {
  std::normal_distribution<float> value(0.0F, 2.0F);
  std::vector<float> x(static_cast<size_t>(count));
  for (float& element : x) {
    element = value(random);
  }
  return x;
}

// One layer on one table, its strips split over the threads of `pool`. The rows of y are two longer
// than the layer, and the two must stay as they are.
constexpr int64_t kGuard = 2;
constexpr float kUntouched = -12345.0F;

std::vector<float> RunAffine(const KernelTable& table, const PackedLinear& weight,
                             const QuantizedRows& x, ThreadPool& pool) {
  const int64_t stride = weight.out_features() + kGuard;
  std::vector<float> y(static_cast<size_t>(x.rows * stride), kUntouched);
  const uint64_t scratch_bytes = LinearScratchBytes(table.isa, x.rows, x.cols);
  MemoryBudget budget;
  std::vector<Buffer> scratch;
  scratch.reserve(static_cast<size_t>(pool.threads()));
  for (int i = 0; i < pool.threads(); ++i) {
    scratch.emplace_back(budget, "scratch", scratch_bytes);
  }
  pool.ParallelFor(weight.spec().strips(), 1, [&](int64_t begin, int64_t end, int worker) {
    table.linear_affine(weight.view(), x, begin, end, y.data(), stride,
                        scratch[static_cast<size_t>(worker)].data());
  });
  return y;
}

std::vector<float> RunFloat(const KernelTable& table, const PackedLinear& weight,
                            const std::vector<float>& x, int64_t rows, ThreadPool& pool) {
  const int64_t stride = weight.out_features() + kGuard;
  std::vector<float> y(static_cast<size_t>(rows * stride), kUntouched);
  pool.ParallelFor(weight.spec().strips(), 1, [&](int64_t begin, int64_t end, int) {
    table.linear_float(weight.view(), x.data(), weight.in_features(), rows, begin, end, y.data(),
                       stride);
  });
  return y;
}

// The first difference in bits (any NaN equals any NaN), or an empty string.
std::string Difference(const std::vector<float>& got, const float* want, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const bool same = std::bit_cast<uint32_t>(got[i]) == std::bit_cast<uint32_t>(want[i]) ||
                      (std::isnan(got[i]) && std::isnan(want[i]));
    if (!same) {
      return "element " + std::to_string(i) + ": " + std::to_string(got[i]) + ", expected " +
             std::to_string(want[i]);
    }
  }
  return "";
}

std::string Describe(const AffineScheme& scheme, DType dtype, int64_t out, int64_t in) {
  return std::to_string(scheme.bits) + " bits, groups of " + std::to_string(scheme.group_size) +
         ", " + std::string(DTypeName(dtype)) + ", " + std::to_string(out) + " x " +
         std::to_string(in);
}

const std::vector<AffineScheme>& AllSchemes() {
  static const std::vector<AffineScheme> kSchemes = [] {
    std::vector<AffineScheme> schemes;
    for (const int bits : {2, 3, 4, 5, 6, 8}) {
      for (const int group_size : {32, 64, 128}) {
        schemes.push_back({bits, group_size});
      }
    }
    return schemes;
  }();
  return kSchemes;
}

constexpr DType kFloatTypes[] = {DType::kF32, DType::kF16, DType::kBF16};

TEST(PackedLinearTest, UnpackRowReturnsTheDequantizedRow) {
  std::mt19937 random(kSeed);
  MemoryBudget budget;
  ThreadPool pool(2);
  for (const AffineScheme& scheme : AllSchemes()) {
    for (const DType dtype : kFloatTypes) {
      const int64_t in = 3 * scheme.group_size;
      const AffineMatrix matrix(random, scheme, 37, in, dtype);
      const PackedLinear packed =
          PackedLinear::FromAffine(budget, "test", matrix.view, nullptr, pool);
      EXPECT_EQ(packed.bytes(), PackedSpec::Affine(37, in, scheme, dtype).bytes());
      std::vector<float> got(static_cast<size_t>(in));
      std::vector<float> want(got.size());
      for (int64_t row = 0; row < 37; ++row) {
        packed.view().UnpackRow(row, got);
        DequantizeAffineRow(matrix.view, row, want);
        ASSERT_EQ(got, want) << Describe(scheme, dtype, 37, in) << ", row " << row;
      }
    }
  }
  EXPECT_EQ(budget.TotalBytes(), 0U);
}

TEST(PackedLinearTest, UnpackRowReturnsTheFloatRow) {
  std::mt19937 random(kSeed);
  MemoryBudget budget;
  ThreadPool pool(2);
  for (const DType dtype : kFloatTypes) {
    const std::vector<std::byte> bytes = RandomFloats(random, 21 * 19, dtype, -1.0F, 1.0F);
    const TensorView view = {dtype, Shape{21, 19}, bytes};
    const PackedLinear packed = PackedLinear::FromFloat(budget, "test", view, nullptr, pool);
    EXPECT_EQ(packed.bytes(), PackedSpec::Float(21, 19, dtype).bytes());
    std::vector<float> got(19);
    for (int64_t row = 0; row < 21; ++row) {
      packed.view().UnpackRow(row, got);
      for (int64_t i = 0; i < 19; ++i) {
        ASSERT_EQ(got[static_cast<size_t>(i)], FloatElement(view, row * 19 + i));
      }
    }
  }
}

TEST(PackedLinearTest, RefusesWhatDoesNotFit) {
  std::mt19937 random(kSeed);
  MemoryBudget budget;
  ThreadPool pool(1);
  const AffineMatrix matrix(random, {4, 32}, 16, 64, DType::kF16);
  AffineMatrixView view = matrix.view;
  view.codes.bytes = view.codes.bytes.first(view.codes.bytes.size() - 4);
  EXPECT_THROW(PackedLinear::FromAffine(budget, "test", view, nullptr, pool), Error);
  view = matrix.view;
  view.scheme.bits = 7;
  EXPECT_THROW(PackedLinear::FromAffine(budget, "test", view, nullptr, pool), Error);
  view = matrix.view;
  view.scales.dtype = DType::kF32;
  EXPECT_THROW(PackedLinear::FromAffine(budget, "test", view, nullptr, pool), Error);
  const std::vector<std::byte> bytes(30);
  const TensorView wrong = {DType::kF16, Shape{4, 4}, bytes};
  EXPECT_THROW(PackedLinear::FromFloat(budget, "test", wrong, nullptr, pool), Error);
}

// |y - exact| of the scalar kernel: codes of x are off by half a step of scale_x, everything else
// is fp32 rounding along the chain of groups.
TEST(LinearAffineTest, ScalarAgreesWithDoublePrecision) {
  std::mt19937 random(kSeed);
  MemoryBudget budget;
  ThreadPool pool(1);
  const KernelTable& table = Kernels(Isa::kScalar);
  for (const AffineScheme& scheme : AllSchemes()) {
    const int64_t in = 4 * scheme.group_size;
    const int64_t out = 23;
    const AffineMatrix matrix(random, scheme, out, in, DType::kF16);
    const PackedLinear packed =
        PackedLinear::FromAffine(budget, "test", matrix.view, nullptr, pool);
    const std::vector<float> x = RandomActivations(random, 2 * in);
    const Quantized quantized(table, x, 2, in, scheme.group_size);
    const std::vector<float> y = RunAffine(table, packed, quantized.view, pool);
    std::vector<float> weights(static_cast<size_t>(in));
    for (int64_t row = 0; row < 2; ++row) {
      for (int64_t o = 0; o < out; ++o) {
        DequantizeAffineRow(matrix.view, o, weights);
        double exact = 0;
        double step_error = 0;
        double magnitude = 0;
        for (int64_t i = 0; i < in; ++i) {
          const double w = weights[static_cast<size_t>(i)];
          const double value = x[static_cast<size_t>(row * in + i)];
          const double step =
              quantized.scales[static_cast<size_t>((row * in + i) / scheme.group_size)];
          exact += w * value;
          step_error += std::fabs(w) * step * 0.5;
          magnitude += std::fabs(w) * (std::fabs(value) + step);
        }
        // Terms scale*code and bias are rounded apart, each no larger than 2^bits times the weight.
        const double rounding = 16 * 0x1p-24 * (magnitude + 4.0 * static_cast<double>(in));
        const double got = y[static_cast<size_t>(row * (out + kGuard) + o)];
        ASSERT_NEAR(got, exact, step_error * 1.001 + rounding)
            << Describe(scheme, DType::kF16, out, in);
      }
    }
  }
}

// Every variant, every batch size, every split over threads gives the bits of the scalar kernel at
// the largest batch: so results depend neither on the variant nor on the batch.
TEST(LinearAffineTest, AllVariantsAgreeBitForBit) {
  std::mt19937 random(kSeed);
  MemoryBudget budget;
  std::vector<ThreadPool*> pools;
  ThreadPool one(1);
  ThreadPool two(2);
  ThreadPool three(3);
  ThreadPool four(4);
  for (ThreadPool* pool : {&one, &two, &three, &four}) {
    pools.push_back(pool);
  }
  struct Size {
    int64_t out;
    int64_t groups;
  };
  size_t turn = 0;
  for (const AffineScheme& scheme : AllSchemes()) {
    for (const DType dtype : kFloatTypes) {
      for (const Size size : {Size{7, 1}, Size{16, 2}, Size{77, 5}}) {
        const int64_t in = size.groups * scheme.group_size;
        const AffineMatrix matrix(random, scheme, size.out, in, dtype);
        const bool with_bias = turn++ % 2 == 1;
        const std::vector<std::byte> bias_bytes =
            RandomFloats(random, static_cast<size_t>(size.out), dtype, -1.0F, 1.0F);
        const TensorView bias = {dtype, Shape{size.out}, bias_bytes};
        const PackedLinear packed =
            PackedLinear::FromAffine(budget, "test", matrix.view, with_bias ? &bias : nullptr, two);
        std::vector<float> x = RandomActivations(random, kMaxRows * in);
        const Quantized quantized(Kernels(Isa::kScalar), x, kMaxRows, in, scheme.group_size);
        const std::vector<float> want =
            RunAffine(Kernels(Isa::kScalar), packed, quantized.view, one);
        for (const Isa isa : SupportedIsas()) {
          for (int64_t rows = 1; rows <= kMaxRows; rows += isa == Isa::kScalar ? 13 : 1) {
            ThreadPool& pool = *pools[static_cast<size_t>(rows) % pools.size()];
            const std::vector<float> got =
                RunAffine(Kernels(isa), packed, quantized.First(rows), pool);
            ASSERT_EQ(Difference(got, want.data(), got.size()), "")
                << IsaName(isa) << ", " << Describe(scheme, dtype, size.out, in) << ", " << rows
                << " rows, " << pool.threads() << " threads, seed " << kSeed;
          }
        }
      }
    }
  }
}

// More rows than any variant takes in one block.
TEST(LinearAffineTest, ManyRowsAgreeBitForBit) {
  std::mt19937 random(kSeed);
  MemoryBudget budget;
  ThreadPool pool(1);
  const int64_t rows = 701;
  for (const AffineScheme& scheme :
       {AffineScheme{4, 32}, AffineScheme{6, 64}, AffineScheme{8, 128}}) {
    const AffineMatrix matrix(random, scheme, 33, 1536, DType::kBF16);
    const PackedLinear packed =
        PackedLinear::FromAffine(budget, "test", matrix.view, nullptr, pool);
    const std::vector<float> x = RandomActivations(random, rows * 1536);
    const Quantized quantized(Kernels(Isa::kScalar), x, rows, 1536, scheme.group_size);
    const std::vector<float> want = RunAffine(Kernels(Isa::kScalar), packed, quantized.view, pool);
    for (const Isa isa : SupportedIsas()) {
      const std::vector<float> got = RunAffine(Kernels(isa), packed, quantized.view, pool);
      ASSERT_EQ(Difference(got, want.data(), got.size()), "")
          << IsaName(isa) << ", " << Describe(scheme, DType::kBF16, 33, 1536);
    }
  }
}

// Codes at their extremes: sums must neither wrap nor saturate.
TEST(LinearAffineTest, ExtremeCodesAreExact) {
  std::mt19937 random(kSeed);
  MemoryBudget budget;
  ThreadPool pool(1);
  for (const AffineScheme& scheme : AllSchemes()) {
    AffineMatrix matrix(random, scheme, 32, 2 * scheme.group_size, DType::kF32);
    std::fill(matrix.codes.begin(), matrix.codes.end(), std::byte{0xff});
    const PackedLinear packed =
        PackedLinear::FromAffine(budget, "test", matrix.view, nullptr, pool);
    const int64_t in = packed.in_features();
    std::vector<float> x(static_cast<size_t>(3 * in), 3.5F);
    std::fill(x.begin() + in, x.begin() + 2 * in, -3.5F);
    for (int64_t i = 2 * in; i < 3 * in; ++i) {
      x[static_cast<size_t>(i)] = i % 3 == 0 ? 3.5F : -3.5F;
    }
    const Quantized quantized(Kernels(Isa::kScalar), x, 3, in, scheme.group_size);
    ASSERT_EQ(quantized.codes[0], 127);
    ASSERT_EQ(quantized.codes[static_cast<size_t>(in)], -127);
    const std::vector<float> want = RunAffine(Kernels(Isa::kScalar), packed, quantized.view, pool);
    for (const Isa isa : SupportedIsas()) {
      const std::vector<float> got = RunAffine(Kernels(isa), packed, quantized.view, pool);
      ASSERT_EQ(Difference(got, want.data(), got.size()), "")
          << IsaName(isa) << ", " << Describe(scheme, DType::kF32, 32, in);
    }
  }
}

TEST(LinearFloatTest, AllVariantsAgreeBitForBit) {
  std::mt19937 random(kSeed);
  MemoryBudget budget;
  ThreadPool one(1);
  ThreadPool three(3);
  struct Size {
    int64_t out;
    int64_t in;
  };
  for (const DType dtype : kFloatTypes) {
    for (const Size size : {Size{5, 1}, Size{64, 96}, Size{125, 77}}) {
      const std::vector<std::byte> bytes =
          RandomFloats(random, static_cast<size_t>(size.out * size.in), dtype, -1.0F, 1.0F);
      const TensorView view = {dtype, Shape{size.out, size.in}, bytes};
      const std::vector<std::byte> bias_bytes =
          RandomFloats(random, static_cast<size_t>(size.out), DType::kBF16, -1.0F, 1.0F);
      const TensorView bias = {DType::kBF16, Shape{size.out}, bias_bytes};
      const PackedLinear packed =
          PackedLinear::FromFloat(budget, "test", view, size.in == 77 ? &bias : nullptr, three);
      const std::vector<float> x = RandomActivations(random, kMaxRows * size.in);
      const std::vector<float> want = RunFloat(Kernels(Isa::kScalar), packed, x, kMaxRows, one);
      for (int64_t row = 0; row < kMaxRows; ++row) {
        for (int64_t o = 0; o < size.out; ++o) {
          double exact = size.in == 77 ? FloatElement(bias, o) : 0;
          double magnitude = std::fabs(exact);
          for (int64_t i = 0; i < size.in; ++i) {
            const double term = double{FloatElement(view, o * size.in + i)} *
                                x[static_cast<size_t>(row * size.in + i)];
            exact += term;
            magnitude += std::fabs(term);
          }
          const double got = want[static_cast<size_t>(row * (size.out + kGuard) + o)];
          ASSERT_NEAR(got, exact, static_cast<double>(size.in + 1) * 0x1p-24 * magnitude);
        }
      }
      for (const Isa isa : SupportedIsas()) {
        for (int64_t rows = 1; rows <= kMaxRows; rows += isa == Isa::kScalar ? 13 : 1) {
          const std::vector<float> got =
              RunFloat(Kernels(isa), packed, x, rows, rows % 2 == 0 ? one : three);
          ASSERT_EQ(Difference(got, want.data(), got.size()), "")
              << IsaName(isa) << ", " << DTypeName(dtype) << ", " << size.out << " x " << size.in
              << ", " << rows << " rows, seed " << kSeed;
        }
      }
    }
  }
}

TEST(QuantizeRowsTest, FollowsTheDefinition) {
  const float huge = std::numeric_limits<float>::max();
  std::vector<float> x(64, 0.0F);
  x[0] = 2.0F;
  x[1] = -1.0F;
  x[2] = 0.5F * 2.0F / 127.0F;   // ties to even: 0
  x[3] = -1.5F * 2.0F / 127.0F;  // ties to even: -2
  x[32] = huge;
  x[33] = -huge;
  for (const Isa isa : SupportedIsas()) {
    const Quantized got(Kernels(isa), x, 1, 64, 32);
    EXPECT_EQ(got.codes[0], 127);
    EXPECT_EQ(got.codes[1], -64);  // 63.5 ties to even
    EXPECT_EQ(got.codes[3], -2);
    EXPECT_EQ(got.scales[0], 2.0F * (1.0F / 127.0F));
    EXPECT_EQ(got.sums[0], got.scales[0] * (127 - 64 - 2 + got.codes[2]));
    EXPECT_EQ(got.codes[32], 127);
    EXPECT_EQ(got.codes[33], -127);
    EXPECT_EQ(got.sums[1], 0.0F);
  }
}

TEST(QuantizeRowsTest, CornersAreDefined) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const Isa isa : SupportedIsas()) {
    for (const float odd : {inf, -inf, nan}) {
      std::vector<float> x(64, 1.0F);
      x[37] = odd;
      const Quantized got(Kernels(isa), x, 1, 64, 32);
      EXPECT_EQ(got.codes[0], 127);
      EXPECT_EQ(got.codes[32], 0);
      EXPECT_TRUE(std::isnan(got.scales[1]) && std::isnan(got.sums[1])) << IsaName(isa);
    }
    for (const float tiny : {0.0F, -0.0F, 0x1p-149F, 0x1.fp-121F}) {
      const Quantized got(Kernels(isa), std::vector<float>(32, tiny), 1, 32, 32);
      EXPECT_EQ(got.codes[5], 0);
      EXPECT_EQ(std::bit_cast<uint32_t>(got.scales[0]), 0U) << IsaName(isa);
      EXPECT_EQ(std::bit_cast<uint32_t>(got.sums[0]), 0U);
    }
    const Quantized smallest(Kernels(isa), std::vector<float>(32, 0x1p-120F), 1, 32, 32);
    EXPECT_EQ(smallest.codes[5], 127);
  }
}

TEST(QuantizeRowsTest, AllVariantsAgreeBitForBit) {
  std::mt19937 random(kSeed);
  for (const int32_t group_size : {32, 64, 128}) {
    const int64_t cols = 3 * group_size;
    const int64_t rows = 300;
    std::vector<float> x(static_cast<size_t>(rows * cols));
    // Any bit pattern, with exponents drawn for each row so that groups are not all NaN.
    for (int64_t i = 0; i < rows * cols; ++i) {
      const uint32_t exponent =
          static_cast<uint32_t>(i / cols * 7 % 250 + static_cast<int64_t>(random() % 8));
      x[static_cast<size_t>(i)] = std::bit_cast<float>(
          static_cast<uint32_t>(random() & 0x807fffffU) | std::min(exponent, 255U) << 23);
    }
    const Quantized want(Kernels(Isa::kScalar), x, rows, cols, group_size);
    for (const Isa isa : SupportedIsas()) {
      const Quantized got(Kernels(isa), x, rows, cols, group_size);
      ASSERT_EQ(got.codes, want.codes) << IsaName(isa) << ", seed " << kSeed;
      ASSERT_EQ(Difference(got.scales, want.scales.data(), got.scales.size()), "") << IsaName(isa);
      ASSERT_EQ(Difference(got.sums, want.sums.data(), got.sums.size()), "") << IsaName(isa);
    }
  }
}

// A NaN among the activations reaches every output of its row and no other row.
TEST(LinearAffineTest, NanStaysInItsRow) {
  std::mt19937 random(kSeed);
  MemoryBudget budget;
  ThreadPool pool(1);
  const AffineMatrix matrix(random, {4, 64}, 32, 128, DType::kBF16);
  const PackedLinear packed = PackedLinear::FromAffine(budget, "test", matrix.view, nullptr, pool);
  std::vector<float> x = RandomActivations(random, 3 * 128);
  x[128 + 70] = std::numeric_limits<float>::quiet_NaN();
  for (const Isa isa : SupportedIsas()) {
    const Quantized quantized(Kernels(isa), x, 3, 128, 64);
    const std::vector<float> y = RunAffine(Kernels(isa), packed, quantized.view, pool);
    for (int64_t i = 0; i < 32; ++i) {
      EXPECT_TRUE(std::isfinite(y[static_cast<size_t>(i)]));
      EXPECT_TRUE(std::isnan(y[static_cast<size_t>(32 + kGuard + i)])) << IsaName(isa);
      EXPECT_TRUE(std::isfinite(y[static_cast<size_t>(2 * (32 + kGuard) + i)]));
    }
  }
}

}  // namespace
}  // namespace mach::kernels
