#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "tensor/half.h"
#include "tensor/memory.h"
#include "tensor/quant.h"

namespace mach {
namespace {

TEST(Half, EveryValueRoundTrips) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float f16 = F16ToFloat(half);
    if (std::isnan(f16)) {
      EXPECT_TRUE(std::isnan(F16ToFloat(FloatToF16(f16))));
    } else {
      EXPECT_EQ(FloatToF16(f16), half);
    }
    const float bf16 = Bf16ToFloat(half);
    if (std::isnan(bf16)) {
      EXPECT_TRUE(std::isnan(Bf16ToFloat(FloatToBf16(bf16))));
    } else {
      EXPECT_EQ(FloatToBf16(bf16), half);
    }
  }
}

// The neighbours of x among the halves, found by search, say what rounding to nearest even must
// give.
TEST(Half, RoundsToNearestEven) {
  std::mt19937 random(7);
  for (int i = 0; i < 200000; ++i) {
    const auto x = std::bit_cast<float>(static_cast<uint32_t>(random()) & 0x7fffffffU);
    if (std::isnan(x) || x > 65504.0F) {
      continue;
    }
    const uint16_t got = FloatToF16(x);
    const double error = std::abs(static_cast<double>(F16ToFloat(got)) - x);
    for (const int step : {-1, 1}) {
      const int neighbour = got + step;
      if (neighbour < 0 || neighbour >= 0x7c00) {
        continue;
      }
      const double other =
          std::abs(static_cast<double>(F16ToFloat(static_cast<uint16_t>(neighbour))) - x);
      ASSERT_TRUE(error < other || (error == other && got % 2 == 0)) << x;
    }
  }
  EXPECT_EQ(FloatToF16(65519.0F), 0x7bff);
  EXPECT_EQ(FloatToF16(65520.0F), 0x7c00);
  EXPECT_EQ(FloatToF16(-65520.0F), 0xfc00);
}

TEST(MemoryBudget, HoldsTheCeiling) {
  MemoryBudget budget(1 << 20);
  Buffer a(budget, "kv", 600 << 10);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(a.data()) % 64, 0U);
  EXPECT_EQ(budget.BytesByOwner().at("kv"), 600U << 10);
  try {
    Buffer b(budget, "weights", 500 << 10);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kResourceLimit);
    EXPECT_NE(error.Describe().find("weights"), std::string::npos);
  }
  Buffer moved = std::move(a);
  EXPECT_EQ(budget.TotalBytes(), 600U << 10);
  moved = Buffer();
  EXPECT_EQ(budget.TotalBytes(), 0U);
}

TEST(MemoryBudget, LargeBuffersAreAlignedAndZero) {
  MemoryBudget budget;
  Buffer buffer(budget, "x", (8 << 20) + 5);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % (2 << 20), 0U);
  EXPECT_EQ(buffer.size_bytes(), (8U << 20) + 5);
  for (const std::byte b : buffer.As<std::byte>()) {
    ASSERT_EQ(b, std::byte{0});
  }
}

// Packs codes by the rule of quant.h, one bit at a time, and reads them back.
TEST(MemoryBudget, ADryOneBooksWithoutMemory) {
  constexpr uint64_t kBytes = (1ULL << 50) + 5;  // more than there can be
  MemoryBudget budget = MemoryBudget::Dry();
  {
    Buffer a(budget, "x", kBytes);
    Buffer b(budget, "x", kBytes);
    EXPECT_EQ(budget.TotalBytes(), 2 * Buffer::BookedBytes(kBytes));
    EXPECT_EQ(a.size_bytes(), kBytes);
    EXPECT_EQ(a.data(), Buffer::Nowhere());
    a.Clear();
    a.CopyFrom(b);
    b = std::move(a);
    EXPECT_EQ(budget.TotalBytes(), Buffer::BookedBytes(kBytes));
  }
  EXPECT_EQ(budget.TotalBytes(), 0U);
}

TEST(Affine, UnpacksEveryWidth) {
  std::mt19937 random(3);
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    constexpr int64_t kIn = 64;
    constexpr int64_t kOut = 3;
    std::vector<uint8_t> codes(kIn * kOut);
    std::vector<std::byte> packed(static_cast<size_t>(kIn * kOut * bits / 8));
    for (size_t i = 0; i < codes.size(); ++i) {
      codes[i] = static_cast<uint8_t>(random() & ((1U << bits) - 1));
      for (int bit = 0; bit < bits; ++bit) {
        const size_t at = i * static_cast<size_t>(bits) + static_cast<size_t>(bit);
        if ((codes[i] >> bit) & 1) {
          packed[at / 8] |= static_cast<std::byte>(1 << (at % 8));
        }
      }
    }
    const std::vector<float> scales = {0.5F, -2, 1, 3, 0.25F, 7};
    const std::vector<float> biases = {1, 2, 3, 4, 5, 6};
    AffineMatrixView matrix{.scheme = {.bits = bits, .group_size = 32},
                            .out_features = kOut,
                            .in_features = kIn,
                            .codes = {DType::kU32, {kOut, kIn * bits / 32}, packed},
                            .scales = {DType::kF32, {kOut, 2}, std::as_bytes(std::span(scales))},
                            .biases = {DType::kF32, {kOut, 2}, std::as_bytes(std::span(biases))}};
    std::vector<uint8_t> row_codes(kIn);
    std::vector<float> row(kIn);
    for (int64_t r = 0; r < kOut; ++r) {
      UnpackAffineRow(matrix, r, row_codes);
      DequantizeAffineRow(matrix, r, row);
      for (int64_t i = 0; i < kIn; ++i) {
        const uint8_t code = codes[static_cast<size_t>(r * kIn + i)];
        ASSERT_EQ(row_codes[static_cast<size_t>(i)], code) << bits << " bits";
        const auto group = static_cast<size_t>(r * 2 + i / 32);
        ASSERT_EQ(row[static_cast<size_t>(i)],
                  scales[group] * static_cast<float>(code) + biases[group]);
      }
    }
  }
  EXPECT_FALSE(IsSupported({.bits = 7, .group_size = 64}));
  EXPECT_FALSE(IsSupported({.bits = 4, .group_size = 16}));
}

}  // namespace
}  // namespace mach
