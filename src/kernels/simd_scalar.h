// F32x16 in portable C++: 16 floats. The reference that the other variants must equal. Included by
// vector_scalar.cc only; see simd-inl.h for what every variant provides.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/vector.h"
#include "tensor/half.h"

#define MACH_SIMD simd_scalar
#define MACH_INLINE inline

namespace mach::kernels::simd_scalar {

inline constexpr int kScoreRows = 4;
inline constexpr int kScoreVectors = 1;
inline constexpr int kValueRows = 4;
inline constexpr int kValueVectors = 1;
inline constexpr int kDeltaVectors = 1;

struct F32x16 {
  float v[16];
};

template <class F>
inline F32x16 EachLane(const F& f) {
  F32x16 out;
  for (int lane = 0; lane < 16; ++lane) {
    out.v[lane] = f(lane);
  }
  return out;
}

inline F32x16 Set1(float x) {
  return EachLane([&](int /*lane*/) { return x; });
}
inline F32x16 Load(const float* p) {
  return EachLane([&](int lane) { return p[lane]; });
}
inline F32x16 LoadPartial(const float* p, int64_t count) {
  return EachLane([&](int lane) { return lane < count ? p[lane] : 0.0F; });
}
inline void StorePartial(F32x16 a, float* p, int64_t count) {
  for (int64_t lane = 0; lane < count; ++lane) {
    p[lane] = a.v[lane];
  }
}
inline void Store(F32x16 a, float* p) {
  StorePartial(a, p, 16);
}

inline void StoreStream(F32x16 a, float* p) {
  Store(a, p);
}
inline void StreamFence() {}

inline F32x16 Add(F32x16 a, F32x16 b) {
  return EachLane([&](int lane) { return a.v[lane] + b.v[lane]; });
}
inline F32x16 Sub(F32x16 a, F32x16 b) {
  return EachLane([&](int lane) { return a.v[lane] - b.v[lane]; });
}
inline F32x16 Mul(F32x16 a, F32x16 b) {
  return EachLane([&](int lane) { return a.v[lane] * b.v[lane]; });
}
inline F32x16 Div(F32x16 a, F32x16 b) {
  return EachLane([&](int lane) { return a.v[lane] / b.v[lane]; });
}
inline F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) {
  return EachLane([&](int lane) { return std::fma(a.v[lane], b.v[lane], c.v[lane]); });
}
inline float Max(float a, float b) {
  return a > b ? a : b;
}
inline F32x16 Max(F32x16 a, F32x16 b) {
  return EachLane([&](int lane) { return Max(a.v[lane], b.v[lane]); });
}

inline F32x16 SelectLess(F32x16 a, F32x16 b, F32x16 yes, F32x16 no) {
  return EachLane([&](int lane) { return a.v[lane] < b.v[lane] ? yes.v[lane] : no.v[lane]; });
}
inline F32x16 SelectNan(F32x16 a, F32x16 yes, F32x16 no) {
  return EachLane([&](int lane) { return std::isnan(a.v[lane]) ? yes.v[lane] : no.v[lane]; });
}
inline F32x16 SelectRange(int64_t begin, int64_t end, F32x16 inside, F32x16 outside) {
  return EachLane(
      [&](int lane) { return lane >= begin && lane < end ? inside.v[lane] : outside.v[lane]; });
}
inline F32x16 AddBitsShifted23(F32x16 a, F32x16 b) {
  return EachLane([&](int lane) {
    return std::bit_cast<float>(std::bit_cast<uint32_t>(a.v[lane]) +
                                (std::bit_cast<uint32_t>(b.v[lane]) << 23));
  });
}

inline uint32_t MaskBetween(F32x16 a, F32x16 low, F32x16 high) {
  uint32_t mask = 0;
  for (int lane = 0; lane < 16; ++lane) {
    mask |= (a.v[lane] >= low.v[lane] && a.v[lane] <= high.v[lane] ? 1U : 0U) << lane;
  }
  return mask;
}

struct U32x16 {
  uint32_t v[16];
};

template <class F>
inline U32x16 EachInteger(const F& f) {
  U32x16 out;
  for (int lane = 0; lane < 16; ++lane) {
    out.v[lane] = f(lane);
  }
  return out;
}

inline U32x16 SetInteger(uint32_t x) {
  return EachInteger([&](int /*lane*/) { return x; });
}
inline U32x16 LaneNumbers() {
  return EachInteger([](int lane) { return static_cast<uint32_t>(lane); });
}
inline U32x16 Add(U32x16 a, U32x16 b) {
  return EachInteger([&](int lane) { return a.v[lane] + b.v[lane]; });
}
inline U32x16 Mul(U32x16 a, U32x16 b) {
  return EachInteger([&](int lane) { return a.v[lane] * b.v[lane]; });
}
inline U32x16 Xor(U32x16 a, U32x16 b) {
  return EachInteger([&](int lane) { return a.v[lane] ^ b.v[lane]; });
}
template <int kBits>
inline U32x16 ShiftRight(U32x16 a) {
  return EachInteger([&](int lane) { return a.v[lane] >> kBits; });
}
inline U32x16 Bits(F32x16 a) {
  return EachInteger([&](int lane) { return std::bit_cast<uint32_t>(a.v[lane]); });
}
inline F32x16 ToFloat(U32x16 a) {
  return EachLane([&](int lane) { return static_cast<float>(static_cast<int32_t>(a.v[lane])); });
}
inline U32x16 Truncate(F32x16 a) {
  return EachInteger(
      [&](int lane) { return static_cast<uint32_t>(static_cast<int32_t>(a.v[lane])); });
}
inline void StorePartial(U32x16 a, uint32_t* p, int64_t count) {
  for (int64_t lane = 0; lane < count; ++lane) {
    p[lane] = a.v[lane];
  }
}
inline void Store(U32x16 a, uint32_t* p) {
  StorePartial(a, p, 16);
}

inline F32x16 Load(const Bf16* p) {
  return EachLane([&](int lane) { return Bf16ToFloat(p[lane].bits); });
}
inline F32x16 Load(const F16* p) {
  return EachLane([&](int lane) {
    // The conversion instructions make a signalling NaN quiet.
    const float x = F16ToFloat(p[lane].bits);
    return std::isnan(x) ? std::bit_cast<float>(std::bit_cast<uint32_t>(x) | 0x400000U) : x;
  });
}
inline void Store(F32x16 a, Bf16* p) {
  for (int lane = 0; lane < 16; ++lane) {
    p[lane].bits = FloatToBf16(a.v[lane]);
  }
}
inline void Store(F32x16 a, F16* p) {
  for (int lane = 0; lane < 16; ++lane) {
    p[lane].bits = FloatToF16(a.v[lane]);
  }
}

inline float Reduce16(F32x16 a) {
  for (int distance = 8; distance > 0; distance /= 2) {
    for (int lane = 0; lane < distance; ++lane) {
      a.v[lane] = a.v[lane] + a.v[lane + distance];
    }
  }
  return a.v[0];
}
inline float Max16(F32x16 a) {
  for (int distance = 8; distance > 0; distance /= 2) {
    for (int lane = 0; lane < distance; ++lane) {
      a.v[lane] = Max(a.v[lane], a.v[lane + distance]);
    }
  }
  return a.v[0];
}

}  // namespace mach::kernels::simd_scalar
