#include "convert/affine_quantise.h"

#include <array>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tensor/quant.h"

namespace mach::convert {
namespace {

// Expected values made by mx.quantize: tests/convert/tools/make_affine_vectors.py.
TEST(AffineQuantise, AgreesWithMlxBitForBit) {
  std::ifstream stream(MACH_SOURCE_DIR "/tests/convert/data/affine_vectors.bin", std::ios::binary);
  std::stringstream buffer;
  buffer << stream.rdbuf();
  const std::string data = buffer.str();
  size_t at = 0;
  int cases = 0;
  const auto take = [&](size_t bytes) {
    EXPECT_LE(at + bytes, data.size());
    const auto taken = std::as_bytes(std::span(data)).subspan(at, bytes);
    at += bytes;
    return std::vector<std::byte>(taken.begin(), taken.end());
  };
  while (at < data.size()) {
    uint32_t head[5];
    std::memcpy(head, take(sizeof(head)).data(), sizeof(head));
    const AffineScheme scheme{static_cast<int>(head[0]), static_cast<int>(head[1])};
    const DType dtype = std::array{DType::kF32, DType::kF16, DType::kBF16}.at(head[2]);
    const size_t count = size_t{head[3]} * head[4];
    const size_t groups = count / head[1];
    const auto stored = take(count * DTypeBytes(dtype));
    const TensorView view{dtype, Shape{static_cast<int64_t>(count)}, stored};
    std::vector<float> weights(count);
    for (size_t i = 0; i < count; ++i) {
      weights[i] = FloatElement(view, static_cast<int64_t>(i));
    }
    std::vector<uint8_t> codes(count);
    std::vector<float> scales(groups);
    std::vector<float> biases(groups);
    QuantiseAffine(weights, scheme, codes, scales, biases);
    std::vector<std::byte> packed(count * head[0] / 8);
    PackCodes(codes, scheme.bits, packed);
    std::vector<std::byte> stored_scales(groups * DTypeBytes(dtype));
    std::vector<std::byte> stored_biases(stored_scales.size());
    StoreFloats(scales, dtype, stored_scales);
    StoreFloats(biases, dtype, stored_biases);
    const std::string name = std::to_string(head[0]) + " bits, group " + std::to_string(head[1]) +
                             ", " + std::string(DTypeName(dtype));
    EXPECT_EQ(packed, take(packed.size())) << name;
    EXPECT_EQ(stored_scales, take(stored_scales.size())) << name;
    EXPECT_EQ(stored_biases, take(stored_biases.size())) << name;
    ++cases;
  }
  EXPECT_EQ(cases, 22);
}

TEST(AffineQuantise, PackingIsWhatTheReaderUnpacks) {
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    std::vector<uint8_t> codes(64);
    for (size_t i = 0; i < codes.size(); ++i) {
      codes[i] = static_cast<uint8_t>((i * 37 + 11) % (1U << bits));
    }
    std::vector<std::byte> packed(64 * static_cast<size_t>(bits) / 8);
    PackCodes(codes, bits, packed);
    AffineMatrixView view;
    view.scheme = {bits, 64};
    view.out_features = 1;
    view.in_features = 64;
    view.codes = {DType::kU32, Shape{1, 64 * bits / 32}, packed};
    std::vector<uint8_t> unpacked(64);
    UnpackAffineRow(view, 0, unpacked);
    EXPECT_EQ(unpacked, codes) << bits;
  }
}

}  // namespace
}  // namespace mach::convert
