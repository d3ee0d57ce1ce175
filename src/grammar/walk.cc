#include "grammar/walk.h"

namespace mach::grammar {

Walk WalkThrough(decode::Constraint& constraint, std::span<const int32_t> tokens, int32_t end) {
  decode::TokenMask mask;
  Walk walk;
  for (const int32_t token : tokens) {
    if (constraint.FillMask(mask) && !decode::InMask(mask, token)) {
      return walk;
    }
    constraint.Accept(token);
    ++walk.allowed;
  }
  walk.may_end = !constraint.FillMask(mask) || decode::InMask(mask, end);
  return walk;
}

}  // namespace mach::grammar
