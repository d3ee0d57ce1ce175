// What may come next in a sequence: a grammar, or one that begins later. Only accepted tokens move
// it, so nothing is rolled back. One per sequence; not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace mach::decode {

// A bit for each token: token t is bit t % 32 of word t / 32.
using TokenMask = std::vector<uint32_t>;

inline size_t MaskWords(size_t tokens) {
  return (tokens + 31) / 32;
}

inline bool InMask(std::span<const uint32_t> mask, int32_t token) {
  const auto at = static_cast<size_t>(token);
  return token >= 0 && at / 32 < mask.size() && ((mask[at / 32] >> (at % 32)) & 1U) != 0;
}

class Constraint {
 public:
  Constraint() = default;
  Constraint(const Constraint&) = delete;
  Constraint& operator=(const Constraint&) = delete;
  virtual ~Constraint() = default;

  // Makes `mask` the tokens that may come next. False: every token may, and `mask` says nothing.
  // Throws kResourceLimit where that takes too long to find out.
  virtual bool FillMask(TokenMask& mask) = 0;
  // The token that came next; one that FillMask allowed.
  virtual void Accept(int32_t token) = 0;
  // How many of `tokens` may come next, one after the other. FillMask may allow fewer: of the ways
  // to spell a forced text only the tokenizer's own.
  virtual size_t ValidPrefix(std::span<const int32_t> tokens) = 0;
  // Tokens that come next whatever the model says; often none.
  virtual std::vector<int32_t> Forced() = 0;
  // Nothing but an end token may come.
  virtual bool Done() = 0;
};

// Takes every token out of `logits` that `mask` does not allow: minus infinity.
void ApplyMask(std::span<const uint32_t> mask, std::span<float> logits);

// Whether `mask` allows a token that is none of `but`.
bool AllowsOther(std::span<const uint32_t> mask, std::span<const int32_t> but);

}  // namespace mach::decode
