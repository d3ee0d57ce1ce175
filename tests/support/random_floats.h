// Normally distributed values for tests.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace mach::testing_support {

inline std::vector<float> RandomFloats(int64_t count, float spread, std::mt19937& random) {
  std::normal_distribution<float> normal(0.0F, spread);
  std::vector<float> out(static_cast<size_t>(count));
  for (float& x : out) {
    x = normal(random);
  }
  return out;
}

}  // namespace mach::testing_support
