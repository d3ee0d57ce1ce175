// What linear.cc hands to the linear kernels of one instruction set. Private to the kernels.
//
// Plain structs, because a file compiled for one instruction set must not instantiate code that the
// linker could pick for everyone: no inline member functions, no std:: containers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mach {
enum class Isa;
}

namespace mach::kernels {

struct KernelTable;

enum class FloatType : uint8_t { kF32, kF16, kBF16 };

struct QuantizeCall {
  const float* x;
  int64_t x_stride;
  int64_t rows;
  int64_t groups;
  int64_t group_size;
  int8_t* codes;       // [rows, groups * group_size]
  float* scales;       // [rows, groups]
  float* scaled_sums;  // [rows, groups]
};

struct AffineCall {
  const std::byte* data;  // first strip of the call
  int64_t strip_bytes;
  int64_t strips;
  int64_t outputs;  // outputs to write, at most strips * 16; fewer only in the last strip
  int64_t groups;
  int64_t group_size;
  int bits;
  FloatType type;     // of scales and biases
  const float* bias;  // of the layer, padded to whole strips, or null
  int64_t rows;
  const int8_t* codes;       // [rows, groups * group_size]
  const float* scales;       // [rows, groups]
  const float* scaled_sums;  // [rows, groups]
  float* y;                  // [rows, outputs]
  int64_t y_stride;
  void* scratch;
};

struct FloatCall {
  const std::byte* data;
  int64_t strip_bytes;
  int64_t strips;
  int64_t outputs;
  int64_t inputs;
  FloatType type;
  const float* bias;
  int64_t rows;
  const float* x;
  int64_t x_stride;
  float* y;
  int64_t y_stride;
};

struct LinearImpl {
  void (*quantize)(const QuantizeCall& call);
  void (*affine)(const AffineCall& call);
  void (*dense)(const FloatCall& call);
};

// One for each file linear_<isa>.cc that the target architecture has.
extern const LinearImpl kLinearScalar;
extern const LinearImpl kLinearAvx2;
extern const LinearImpl kLinearAvx512;
extern const LinearImpl kLinearAmx;
extern const LinearImpl kLinearNeon;

// Rows that the AMX variant packs at a time; its scratch holds that many.
inline constexpr int64_t kAmxRowBlock = 256;

// Quantisation, the corners that KernelTable::quantize_rows leaves open: a group whose largest
// magnitude is below kSmallestMagnitude (where 127 / d could overflow) counts as zero; a group with
// a NaN or an infinity has codes 0 and a NaN scale, so that it reaches every output as NaN.
inline constexpr float kSmallestMagnitude = 0x1p-120F;
inline constexpr float kInverse127 = 1.0F / 127.0F;

// Fills the three linear entries of a table (linear.cc). A variant of another architecture gets the
// portable ones.
void FillLinearEntries(Isa isa, KernelTable& table);

}  // namespace mach::kernels
