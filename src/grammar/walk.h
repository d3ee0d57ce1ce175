// How far a grammar lets a text go.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "decode/constraint.h"

namespace mach::grammar {

struct Walk {
  size_t allowed = 0;    // tokens, of which each was in the mask when it came
  bool may_end = false;  // all were, and then `end` was
};

// Accepts `tokens` one by one, as far as the masks allow them.
Walk WalkThrough(decode::Constraint& constraint, std::span<const int32_t> tokens, int32_t end);

}  // namespace mach::grammar
