// Activations and weights made of plain floats, for the tests of the CPU backend.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "backend/backend.h"
#include "backend/cpu/cpu_backend.h"
#include "tests/support/random_floats.h"

namespace mach::backend {

// Thread counts on the best instruction set, then every instruction set.
inline std::vector<CpuOptions> AllOptions() {
  std::vector<CpuOptions> options;
  for (const int threads : {1, 2, 3, 5}) {
    options.push_back({.threads = threads});
  }
  for (const Isa isa : SupportedIsas()) {
    options.push_back({.threads = 2, .isa = isa});
  }
  return options;
}

inline std::string Describe(const CpuOptions& options) {
  return std::string(IsaName(options.isa)) + ", " + std::to_string(options.threads) + " threads";
}

using testing_support::RandomFloats;

// A tensor with these values; `values` is [rows, cols].
inline Tensor Upload(Backend& backend, const std::vector<float>& values, int64_t cols) {
  const auto rows = static_cast<int64_t>(values.size()) / cols;
  const auto table = backend.LoadLinear(
      {.out_features = rows,
       .in_features = cols,
       .dense = TensorView{DType::kF32, {rows, cols}, std::as_bytes(std::span(values))}},
      "test");
  std::vector<int32_t> ids(static_cast<size_t>(rows));
  std::iota(ids.begin(), ids.end(), 0);
  return backend.Embed(*table, ids);
}

inline std::vector<float> Download(Backend& backend, const Tensor& x) {
  const auto values = backend.Read(x);
  return {values.begin(), values.end()};
}

inline std::unique_ptr<VectorWeight> UploadVector(Backend& backend,
                                                  const std::vector<float>& values) {
  return backend.LoadVector(TensorView{
      DType::kF32, {static_cast<int64_t>(values.size())}, std::as_bytes(std::span(values))});
}

// Bit equality, any NaN equal to any other.
inline void ExpectSame(const std::vector<float>& got, const std::vector<float>& want,
                       const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(got[i]) && std::isnan(want[i])) {
      continue;
    }
    ASSERT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(want[i]))
        << what << ": element " << i << " is " << got[i] << ", expected " << want[i];
  }
}

}  // namespace mach::backend
