// Acquire as a step of one token does it, from plain ids.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/experts.h"

namespace mach::testing_support {

inline std::unique_ptr<backend::ExpertLease> Acquire(backend::ExpertSource& source, int32_t layer,
                                                     const std::vector<int32_t>& ids,
                                                     backend::ExpertUse use) {
  std::vector<backend::WantedExpert> wanted;
  for (const int32_t id : ids) {
    wanted.push_back({id, 1});
  }
  return source.Acquire(layer, wanted, 1, use);
}

}  // namespace mach::testing_support
