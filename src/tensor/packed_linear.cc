#include "tensor/packed_linear.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>

#include "base/check.h"
#include "base/error.h"
#include "tensor/half.h"
#include "tensor/packed_layout.h"

namespace mach {
namespace {

int64_t CodeBytes(const AffineScheme& scheme) {
  return kStripOutputs * scheme.group_size * scheme.bits / 8;
}

int64_t BlockBytes(const AffineScheme& scheme, DType scale_dtype) {
  return CodeBytes(scheme) + 2 * kStripOutputs * static_cast<int64_t>(DTypeBytes(scale_dtype));
}

bool IsWeightFloat(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

void RequireFloat(std::string_view owner, std::string_view what, const TensorView& tensor,
                  int64_t elements) {
  if (!IsWeightFloat(tensor.dtype)) {
    throw Error(ErrorCode::kUnsupported, std::string(owner) + ": " + std::string(what) + " is " +
                                             std::string(DTypeName(tensor.dtype)) +
                                             ", expected F32, F16 or BF16");
  }
  const auto expected = static_cast<uint64_t>(elements) * DTypeBytes(tensor.dtype);
  if (tensor.bytes.size() != expected) {
    throw Error(ErrorCode::kInvalidArgument, std::string(owner) + ": " + std::string(what) +
                                                 " has " + std::to_string(tensor.bytes.size()) +
                                                 " bytes, expected " + std::to_string(expected));
  }
}

// Four codes of kBits bits each, little-endian in the low bits of `packed`, to one code a byte.
template <int kBits>
uint32_t SpreadQuad(uint32_t packed) {
  if constexpr (kBits == 8) {
    return packed;
  } else if constexpr (kBits == 4) {
    packed = (packed | packed << 8) & 0x00ff00ffU;
    return (packed | packed << 4) & 0x0f0f0f0fU;
  } else {
    constexpr uint32_t kMask = (1U << kBits) - 1U;
    return (packed & kMask) | (packed >> kBits & kMask) << 8 |
           (packed >> (2 * kBits) & kMask) << 16 | (packed >> (3 * kBits) & kMask) << 24;
  }
}

constexpr int64_t kWordsPerLine = kLineBytes / 4;

using SubQuads = std::array<uint32_t, kSubQuads>;

// 32 codes of a row, as they lie in a file, to eight quads.
template <int kBits>
SubQuads UnpackSub(const std::byte* codes) {
  SubQuads quads;
  for (size_t pair = 0; pair < kSubQuads / 2; ++pair) {
    uint64_t packed = 0;
    std::memcpy(&packed, codes + pair * kBits, kBits);
    constexpr uint64_t kMask = (1ULL << (4 * kBits)) - 1;
    quads[2 * pair] = SpreadQuad<kBits>(static_cast<uint32_t>(packed & kMask));
    quads[2 * pair + 1] = SpreadQuad<kBits>(static_cast<uint32_t>(packed >> (4 * kBits)));
  }
  return quads;
}

// Writes the bits [shift, shift + kPlaneBits) of the codes of output `output` into a plane.
template <int kPlaneBits>
void StorePlane(const SubQuads& quads, int shift, uint32_t* plane, int64_t output) {
  constexpr size_t kQuadsPerLine = 8 / kPlaneBits;
  constexpr uint32_t kMask = 0x01010101U * ((1U << kPlaneBits) - 1U);
  for (size_t line = 0; line < kSubLines<kPlaneBits>; ++line) {
    uint32_t bytes = 0;
    for (size_t i = 0; i < kQuadsPerLine; ++i) {
      bytes |= (quads[line * kQuadsPerLine + i] >> shift & kMask) << (i * kPlaneBits);
    }
    plane[line * kWordsPerLine + static_cast<size_t>(output)] = bytes;
  }
}

template <int kPlaneBits>
void LoadPlane(const uint32_t* plane, int64_t output, int shift, SubQuads& quads) {
  constexpr size_t kQuadsPerLine = 8 / kPlaneBits;
  constexpr uint32_t kMask = 0x01010101U * ((1U << kPlaneBits) - 1U);
  for (size_t line = 0; line < kSubLines<kPlaneBits>; ++line) {
    const uint32_t bytes = plane[line * kWordsPerLine + static_cast<size_t>(output)];
    for (size_t i = 0; i < kQuadsPerLine; ++i) {
      quads[line * kQuadsPerLine + i] |= (bytes >> (i * kPlaneBits) & kMask) << shift;
    }
  }
}

template <int kBits>
uint32_t* SecondaryPlane(std::byte* block, int64_t subs) {
  return reinterpret_cast<uint32_t*>(block) + subs * kSubLines<kPrimaryBits<kBits>> * kWordsPerLine;
}

// One strip of `rows` outputs (fewer than 16 only at the end: the rest stays zero).
template <int kBits>
void PackStripCodes(const std::byte* codes, int64_t row_bytes, int64_t rows, int64_t groups,
                    int64_t subs, int64_t block_bytes, std::byte* strip) {
  constexpr int kPrimary = kPrimaryBits<kBits>;
  constexpr int kSecondary = kSecondaryBits<kBits>;
  constexpr int64_t kSubBytes = kSubInputs * kBits / 8;
  for (int64_t group = 0; group < groups; ++group) {
    std::byte* block = strip + group * block_bytes;
    for (int64_t sub = 0; sub < subs; ++sub) {
      auto* primary =
          reinterpret_cast<uint32_t*>(block) + sub * kSubLines<kPrimary> * kWordsPerLine;
      const std::byte* in = codes + (group * subs + sub) * kSubBytes;
      for (int64_t row = 0; row < rows; ++row) {
        const SubQuads quads = UnpackSub<kBits>(in + row * row_bytes);
        StorePlane<kPrimary>(quads, 0, primary, row);
        if constexpr (kSecondary > 0) {
          StorePlane<kSecondary>(
              quads, kPrimary,
              SecondaryPlane<kBits>(block, subs) + sub * kSubLines<kSecondary> * kWordsPerLine,
              row);
        }
      }
    }
  }
}

template <int kBits>
SubQuads LoadSub(const std::byte* block, int64_t subs, int64_t sub, int64_t output) {
  SubQuads quads = {};
  const auto* words = reinterpret_cast<const uint32_t*>(block);
  constexpr int kPrimary = kPrimaryBits<kBits>;
  constexpr int kSecondary = kSecondaryBits<kBits>;
  LoadPlane<kPrimary>(words + sub * kSubLines<kPrimary> * kWordsPerLine, output, 0, quads);
  if constexpr (kSecondary > 0) {
    LoadPlane<kSecondary>(
        words + (subs * kSubLines<kPrimary> + sub * kSubLines<kSecondary>)*kWordsPerLine, output,
        kPrimary, quads);
  }
  return quads;
}

template <typename Body>
auto WithBits(int bits, const Body& body) {
  switch (bits) {
    case 2:
      return body.template operator()<2>();
    case 3:
      return body.template operator()<3>();
    case 4:
      return body.template operator()<4>();
    case 5:
      return body.template operator()<5>();
    case 6:
      return body.template operator()<6>();
    default:
      return body.template operator()<8>();
  }
}

// Transposes [rows, columns] elements into [columns, 16] ones, `out_stride` bytes apart.
template <typename T>
void TransposeElements(const std::byte* in, int64_t row_bytes, int64_t rows, int64_t columns,
                       std::byte* out, int64_t out_stride) {
  for (int64_t column = 0; column < columns; ++column) {
    for (int64_t row = 0; row < rows; ++row) {
      std::memcpy(out + column * out_stride + row * static_cast<int64_t>(sizeof(T)),
                  in + row * row_bytes + column * static_cast<int64_t>(sizeof(T)), sizeof(T));
    }
  }
}

void Transpose(DType dtype, const std::byte* in, int64_t row_bytes, int64_t rows, int64_t columns,
               std::byte* out, int64_t out_stride) {
  if (dtype == DType::kF32) {
    TransposeElements<uint32_t>(in, row_bytes, rows, columns, out, out_stride);
  } else {
    TransposeElements<uint16_t>(in, row_bytes, rows, columns, out, out_stride);
  }
}

float LoadFloat(const std::byte* at, DType dtype) {
  if (dtype == DType::kF32) {
    float value = 0;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }
  uint16_t bits = 0;
  std::memcpy(&bits, at, sizeof(bits));
  return dtype == DType::kF16 ? F16ToFloat(bits) : Bf16ToFloat(bits);
}

}  // namespace

PackedSpec PackedSpec::Affine(int64_t out_features, int64_t in_features, AffineScheme scheme,
                              DType scale_dtype) {
  return {.is_affine = true,
          .scheme = scheme,
          .dtype = scale_dtype,
          .out_features = out_features,
          .in_features = in_features};
}

PackedSpec PackedSpec::Float(int64_t out_features, int64_t in_features, DType dtype) {
  return {.is_affine = false,
          .scheme = {},
          .dtype = dtype,
          .out_features = out_features,
          .in_features = in_features};
}

uint64_t PackedSpec::strip_bytes() const {
  return is_affine
             ? static_cast<uint64_t>(in_features / scheme.group_size * BlockBytes(scheme, dtype))
             : static_cast<uint64_t>(kStripOutputs * in_features) * DTypeBytes(dtype);
}

PackedSpec CheckFloat(const TensorView& weight, std::string_view what) {
  if (weight.shape.rank() != 2) {
    throw Error(ErrorCode::kInvalidArgument, std::string(what) + ": weight has shape " +
                                                 weight.shape.ToString() + ", expected [out, in]");
  }
  RequireFloat(what, "weight", weight, weight.shape[0] * weight.shape[1]);
  return PackedSpec::Float(weight.shape[0], weight.shape[1], weight.dtype);
}

PackedSpec CheckAffine(const AffineMatrixView& weight, std::string_view what) {
  const AffineScheme scheme = weight.scheme;
  if (!IsSupported(scheme) || weight.in_features % scheme.group_size != 0) {
    throw Error(ErrorCode::kUnsupported,
                std::string(what) + ": " + std::to_string(scheme.bits) + " bits in groups of " +
                    std::to_string(scheme.group_size) + " for " +
                    std::to_string(weight.in_features) +
                    " inputs; supported: 2, 3, 4, 5, 6 or 8 bits in groups of 32, 64 or 128 that "
                    "divide the inputs");
  }
  const int64_t groups = weight.in_features / scheme.group_size;
  RequireFloat(what, "scales", weight.scales, weight.out_features * groups);
  RequireFloat(what, "biases", weight.biases, weight.out_features * groups);
  const int64_t row_bytes = weight.in_features * scheme.bits / 8;
  if (weight.scales.dtype != weight.biases.dtype ||
      weight.codes.bytes.size() != static_cast<uint64_t>(weight.out_features * row_bytes)) {
    throw Error(ErrorCode::kInvalidArgument,
                std::string(what) + ": codes have " + std::to_string(weight.codes.bytes.size()) +
                    " bytes, expected " + std::to_string(weight.out_features * row_bytes) +
                    "; scales are " + std::string(DTypeName(weight.scales.dtype)) + ", biases " +
                    std::string(DTypeName(weight.biases.dtype)));
  }
  return PackedSpec::Affine(weight.out_features, weight.in_features, scheme, weight.scales.dtype);
}

PackedSpec PackFloat(const TensorView& weight, std::string_view what, std::span<std::byte> out,
                     ThreadPool& pool) {
  const PackedSpec spec = CheckFloat(weight, what);
  MACH_CHECK(out.size() >= spec.bytes());
  const auto element_bytes = static_cast<int64_t>(DTypeBytes(weight.dtype));
  const int64_t row_bytes = spec.in_features * element_bytes;
  const auto strip_bytes = static_cast<int64_t>(spec.strip_bytes());
  pool.ParallelFor(spec.strips(), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t strip = begin; strip < end; ++strip) {
      const int64_t first = strip * kStripOutputs;
      const int64_t rows = std::min(kStripOutputs, spec.out_features - first);
      Transpose(weight.dtype, weight.bytes.data() + first * row_bytes, row_bytes, rows,
                spec.in_features, out.data() + strip * strip_bytes, kStripOutputs * element_bytes);
    }
  });
  return spec;
}

PackedSpec PackAffine(const AffineMatrixView& weight, std::string_view what,
                      std::span<std::byte> out, ThreadPool& pool) {
  const PackedSpec spec = CheckAffine(weight, what);
  MACH_CHECK(out.size() >= spec.bytes());
  const AffineScheme scheme = spec.scheme;
  const int64_t groups = spec.in_features / scheme.group_size;
  const int64_t row_bytes = spec.in_features * scheme.bits / 8;
  const int64_t block_bytes = BlockBytes(scheme, spec.dtype);
  const auto strip_bytes = static_cast<int64_t>(spec.strip_bytes());
  const auto element_bytes = static_cast<int64_t>(DTypeBytes(spec.dtype));
  const int64_t scale_row_bytes = groups * element_bytes;
  const int64_t code_bytes = CodeBytes(scheme);
  pool.ParallelFor(spec.strips(), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t strip = begin; strip < end; ++strip) {
      const int64_t first = strip * kStripOutputs;
      const int64_t rows = std::min(kStripOutputs, spec.out_features - first);
      std::byte* blocks = out.data() + strip * strip_bytes;
      WithBits(scheme.bits, [&]<int kBits>() {
        PackStripCodes<kBits>(weight.codes.bytes.data() + first * row_bytes, row_bytes, rows,
                              groups, scheme.group_size / kSubInputs, block_bytes, blocks);
      });
      Transpose(spec.dtype, weight.scales.bytes.data() + first * scale_row_bytes, scale_row_bytes,
                rows, groups, blocks + code_bytes, block_bytes);
      Transpose(spec.dtype, weight.biases.bytes.data() + first * scale_row_bytes, scale_row_bytes,
                rows, groups, blocks + code_bytes + kStripOutputs * element_bytes, block_bytes);
    }
  });
  return spec;
}

Buffer PackedLinear::PackBias(MemoryBudget& budget, std::string_view owner, int64_t out_features,
                              const TensorView* bias, ThreadPool& pool) {
  if (bias == nullptr || bias->bytes.empty()) {
    return {};
  }
  RequireFloat(owner, "bias", *bias, out_features);
  const int64_t strips = (out_features + kStripOutputs - 1) / kStripOutputs;
  Buffer packed(budget, owner, static_cast<uint64_t>(strips * kStripOutputs) * sizeof(float));
  const auto out = packed.As<float>();
  pool.ParallelFor(out_features, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      out[static_cast<size_t>(i)] = FloatElement(*bias, i);
    }
  });
  return packed;
}

template <typename Pack>
PackedLinear PackedLinear::Make(MemoryBudget& budget, std::string_view owner,
                                const PackedSpec& spec, const TensorView* bias, ThreadPool& pool,
                                const Pack& pack) {
  PackedLinear packed;
  packed.data_ = Buffer(budget, owner, spec.bytes());
  packed.bias_ = PackBias(budget, owner, spec.out_features, bias, pool);
  pack(packed.data_.As<std::byte>());
  packed.view_ = PackedView(spec, packed.data_.data(),
                            packed.bias_.empty() ? nullptr : packed.bias_.As<float>().data());
  return packed;
}

PackedLinear PackedLinear::FromFloat(MemoryBudget& budget, std::string_view owner,
                                     const TensorView& weight, const TensorView* bias,
                                     ThreadPool& pool) {
  return Make(budget, owner, CheckFloat(weight, owner), bias, pool,
              [&](std::span<std::byte> out) { PackFloat(weight, owner, out, pool); });
}

PackedLinear PackedLinear::FromAffine(MemoryBudget& budget, std::string_view owner,
                                      const AffineMatrixView& weight, const TensorView* bias,
                                      ThreadPool& pool) {
  return Make(budget, owner, CheckAffine(weight, owner), bias, pool,
              [&](std::span<std::byte> out) { PackAffine(weight, owner, out, pool); });
}

void PackedView::UnpackRow(int64_t row, std::span<float> out) const {
  const std::byte* strip = Strip(row / kStripOutputs);
  const int64_t output = row % kStripOutputs;
  const auto element_bytes = static_cast<int64_t>(DTypeBytes(spec.dtype));
  if (!spec.is_affine) {
    for (int64_t i = 0; i < spec.in_features; ++i) {
      out[static_cast<size_t>(i)] =
          LoadFloat(strip + (i * kStripOutputs + output) * element_bytes, spec.dtype);
    }
    return;
  }
  const int64_t subs = spec.scheme.group_size / kSubInputs;
  const int64_t code_bytes = CodeBytes(spec.scheme);
  const int64_t block_bytes = BlockBytes(spec.scheme, spec.dtype);
  auto at = out.begin();
  for (int64_t group = 0; group < spec.in_features / spec.scheme.group_size; ++group) {
    const std::byte* block = strip + group * block_bytes;
    const std::byte* scales = block + code_bytes + output * element_bytes;
    const float scale = LoadFloat(scales, spec.dtype);
    const float offset = LoadFloat(scales + kStripOutputs * element_bytes, spec.dtype);
    for (int64_t sub = 0; sub < subs; ++sub) {
      const SubQuads quads = WithBits(
          spec.scheme.bits, [&]<int kBits>() { return LoadSub<kBits>(block, subs, sub, output); });
      for (const uint32_t quad : quads) {
        for (int i = 0; i < 4; ++i) {
          *at++ = std::fma(scale, static_cast<float>(quad >> (8 * i) & 0xffU), offset);
        }
      }
    }
  }
}

}  // namespace mach
