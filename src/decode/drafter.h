// Guesses the next tokens of one sequence, to be verified in one step with the token before them. A
// wrong guess costs time and changes no answer. The inference thread's own.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mach::decode {

class Drafter {
 public:
  virtual ~Drafter() = default;

  // These tokens follow what the sequence had before: at first its prompt.
  virtual void Observe(std::span<const int32_t> tokens) = 0;
  // What may come next, in order; of more than `most` the rest is left out.
  virtual std::vector<int32_t> Propose(int64_t most) = 0;
};

}  // namespace mach::decode
