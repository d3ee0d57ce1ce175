// Decoders of ggml's block formats: the exact fp32 meaning of each (formats/gguf.h).
#include <array>
#include <cstring>

#include "base/check.h"
#include "formats/gguf.h"
#include "tensor/half.h"

namespace mach::formats {
namespace {

// Block sizes of all types, so that a file with a type we cannot decode still gets checked and the
// error can name the tensor. Source: ggml_type traits in ggml.c.
constexpr std::array kTypes = {
    GgmlTypeInfo{0, "F32", 1, 4, true},          GgmlTypeInfo{1, "F16", 1, 2, true},
    GgmlTypeInfo{2, "Q4_0", 32, 18, true},       GgmlTypeInfo{3, "Q4_1", 32, 20, true},
    GgmlTypeInfo{6, "Q5_0", 32, 22, true},       GgmlTypeInfo{7, "Q5_1", 32, 24, true},
    GgmlTypeInfo{8, "Q8_0", 32, 34, true},       GgmlTypeInfo{10, "Q2_K", 256, 84, false},
    GgmlTypeInfo{11, "Q3_K", 256, 110, false},   GgmlTypeInfo{12, "Q4_K", 256, 144, true},
    GgmlTypeInfo{13, "Q5_K", 256, 176, true},    GgmlTypeInfo{14, "Q6_K", 256, 210, true},
    GgmlTypeInfo{16, "IQ2_XXS", 256, 66, false}, GgmlTypeInfo{17, "IQ2_XS", 256, 74, false},
    GgmlTypeInfo{18, "IQ3_XXS", 256, 98, false}, GgmlTypeInfo{19, "IQ1_S", 256, 50, false},
    GgmlTypeInfo{20, "IQ4_NL", 32, 18, false},   GgmlTypeInfo{21, "IQ3_S", 256, 110, false},
    GgmlTypeInfo{22, "IQ2_S", 256, 82, false},   GgmlTypeInfo{23, "IQ4_XS", 256, 136, false},
    GgmlTypeInfo{24, "I8", 1, 1, false},         GgmlTypeInfo{25, "I16", 1, 2, false},
    GgmlTypeInfo{26, "I32", 1, 4, false},        GgmlTypeInfo{27, "I64", 1, 8, false},
    GgmlTypeInfo{28, "F64", 1, 8, false},        GgmlTypeInfo{29, "IQ1_M", 256, 56, false},
    GgmlTypeInfo{30, "BF16", 1, 2, true},        GgmlTypeInfo{34, "TQ1_0", 256, 54, false},
    GgmlTypeInfo{35, "TQ2_0", 256, 66, false},   GgmlTypeInfo{39, "MXFP4", 32, 17, false},
};

uint16_t Load16(const uint8_t* at) {
  return static_cast<uint16_t>(at[0] | (static_cast<unsigned>(at[1]) << 8));
}
float LoadHalf(const uint8_t* at) {
  return F16ToFloat(Load16(at));
}

void DecodeQ40(const uint8_t* block, float* out) {
  const float d = LoadHalf(block);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>((block[2 + j] & 15) - 8);
    out[j + 16] = d * static_cast<float>((block[2 + j] >> 4) - 8);
  }
}

void DecodeQ41(const uint8_t* block, float* out) {
  const float d = LoadHalf(block);
  const float m = LoadHalf(block + 2);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>(block[4 + j] & 15) + m;
    out[j + 16] = d * static_cast<float>(block[4 + j] >> 4) + m;
  }
}

void DecodeQ50(const uint8_t* block, float* out) {
  const float d = LoadHalf(block);
  std::array<uint8_t, 32> codes;
  UnpackQ5Codes(block + 2, block + 6, codes.data());
  for (size_t j = 0; j < codes.size(); ++j) {
    out[j] = d * static_cast<float>(codes[j] - 16);
  }
}

void DecodeQ51(const uint8_t* block, float* out) {
  const float d = LoadHalf(block);
  const float m = LoadHalf(block + 2);
  std::array<uint8_t, 32> codes;
  UnpackQ5Codes(block + 4, block + 8, codes.data());
  for (size_t j = 0; j < codes.size(); ++j) {
    out[j] = d * static_cast<float>(codes[j]) + m;
  }
}

void DecodeQ80(const uint8_t* block, float* out) {
  const float d = LoadHalf(block);
  for (int j = 0; j < 32; ++j) {
    out[j] = d * static_cast<float>(static_cast<int8_t>(block[2 + j]));
  }
}

void DecodeQ4K(const uint8_t* block, float* out) {
  const float d = LoadHalf(block);
  const float dmin = LoadHalf(block + 2);
  const Q4KScales scales = UnpackQ4KScales(block + 4);
  const uint8_t* codes = block + 16;
  for (int sub = 0; sub < 8; ++sub) {
    const float scale = d * static_cast<float>(scales.scale[sub]);
    const float minimum = dmin * static_cast<float>(scales.minimum[sub]);
    for (int j = 0; j < 32; ++j) {
      const uint8_t byte = codes[sub / 2 * 32 + j];
      const int code = sub % 2 == 0 ? byte & 15 : byte >> 4;
      out[sub * 32 + j] = scale * static_cast<float>(code) - minimum;
    }
  }
}

void DecodeQ5K(const uint8_t* block, float* out) {
  const float d = LoadHalf(block);
  const float dmin = LoadHalf(block + 2);
  const Q4KScales scales = UnpackQ4KScales(block + 4);
  std::array<uint8_t, 256> codes;
  UnpackQ5KCodes(block, codes.data());
  for (size_t i = 0; i < codes.size(); ++i) {
    const size_t group = i / 32;
    const float scale = d * static_cast<float>(scales.scale[group]);
    const float minimum = dmin * static_cast<float>(scales.minimum[group]);
    out[i] = scale * static_cast<float>(codes[i]) - minimum;
  }
}

void DecodeQ6K(const uint8_t* block, float* out) {
  const float d = LoadHalf(block + 208);
  for (int half = 0; half < 2; ++half) {
    const uint8_t* low = block + half * 64;
    const uint8_t* high = block + 128 + half * 32;
    const uint8_t* scales = block + 192 + half * 8;
    for (int l = 0; l < 32; ++l) {
      const std::array<int, 4> codes = {
          (low[l] & 15) | ((high[l] & 3) << 4), (low[l + 32] & 15) | (((high[l] >> 2) & 3) << 4),
          (low[l] >> 4) | (((high[l] >> 4) & 3) << 4), (low[l + 32] >> 4) | ((high[l] >> 6) << 4)};
      for (int quarter = 0; quarter < 4; ++quarter) {
        const auto scale = static_cast<float>(static_cast<int8_t>(scales[l / 16 + 2 * quarter]));
        out[half * 128 + quarter * 32 + l] =
            d * scale * static_cast<float>(codes[static_cast<size_t>(quarter)] - 32);
      }
    }
  }
}

}  // namespace

const GgmlTypeInfo* FindGgmlType(uint32_t id) {
  for (const GgmlTypeInfo& type : kTypes) {
    if (type.id == id) {
      return &type;
    }
  }
  return nullptr;
}

Q4KScales UnpackQ4KScales(const uint8_t* packed) {
  Q4KScales result;
  for (int j = 0; j < 4; ++j) {
    result.scale[j] = packed[j] & 63;
    result.minimum[j] = packed[j + 4] & 63;
    result.scale[j + 4] = static_cast<uint8_t>((packed[j + 8] & 15) | ((packed[j] >> 6) << 4));
    result.minimum[j + 4] =
        static_cast<uint8_t>((packed[j + 8] >> 4) | ((packed[j + 4] >> 6) << 4));
  }
  return result;
}

void UnpackQ5Codes(const uint8_t* high, const uint8_t* low, uint8_t* codes) {
  for (int j = 0; j < 32; ++j) {
    const int fifth = (high[j / 8] >> (j % 8)) & 1;
    const int rest = j < 16 ? low[j] & 15 : low[j - 16] >> 4;
    codes[j] = static_cast<uint8_t>(rest | (fifth << 4));
  }
}

void UnpackQ5KCodes(const uint8_t* block, uint8_t* codes) {
  const uint8_t* high = block + 16;
  const uint8_t* low = block + 48;
  for (int i = 0; i < 256; ++i) {
    const int sub = i / 32;
    const uint8_t byte = low[sub / 2 * 32 + i % 32];
    const int rest = sub % 2 == 0 ? byte & 15 : byte >> 4;
    codes[i] = static_cast<uint8_t>(rest | (((high[i % 32] >> sub) & 1) << 4));
  }
}

void DequantizeGgml(const GgmlTypeInfo& type, std::span<const std::byte> bytes,
                    std::span<float> out) {
  const auto* block = reinterpret_cast<const uint8_t*>(bytes.data());
  const auto elements = static_cast<size_t>(type.block_elements);
  MACH_CHECK(type.decodable && out.size() % elements == 0 &&
             out.size() / elements * static_cast<size_t>(type.block_bytes) == bytes.size());
  for (size_t at = 0; at < out.size(); at += elements, block += type.block_bytes) {
    float* to = out.data() + at;
    switch (static_cast<GgmlType>(type.id)) {
      case GgmlType::kF32:
        std::memcpy(to, block, sizeof(float));
        break;
      case GgmlType::kF16:
        *to = LoadHalf(block);
        break;
      case GgmlType::kBF16:
        *to = Bf16ToFloat(Load16(block));
        break;
      case GgmlType::kQ40:
        DecodeQ40(block, to);
        break;
      case GgmlType::kQ41:
        DecodeQ41(block, to);
        break;
      case GgmlType::kQ50:
        DecodeQ50(block, to);
        break;
      case GgmlType::kQ51:
        DecodeQ51(block, to);
        break;
      case GgmlType::kQ80:
        DecodeQ80(block, to);
        break;
      case GgmlType::kQ4K:
        DecodeQ4K(block, to);
        break;
      case GgmlType::kQ5K:
        DecodeQ5K(block, to);
        break;
      case GgmlType::kQ6K:
        DecodeQ6K(block, to);
        break;
    }
  }
}

}  // namespace mach::formats
