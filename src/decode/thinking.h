// Reasoning before what a constraint is for: the constraint begins where it ends, and a budget may
// end it. For models whose reasoning ends with one token.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "decode/constraint.h"

namespace mach::decode {

struct ThinkingSpec {
  bool open = false;                  // the prompt left reasoning open
  std::optional<int32_t> open_token;  // by which the model may begin it, as its first token
  int32_t close_token = 0;
  std::optional<int64_t> budget;  // tokens of reasoning; then `closing` comes
  std::vector<int32_t> closing;   // has the closing token in it
  int32_t vocab_size = 0;
};

class Thinking final : public Constraint {
 public:
  // `then` may be null: anything may follow.
  Thinking(ThinkingSpec spec, std::unique_ptr<Constraint> then);

  bool FillMask(TokenMask& mask) override;
  void Accept(int32_t token) override;
  size_t ValidPrefix(std::span<const int32_t> tokens) override;
  std::vector<int32_t> Forced() override;
  bool Done() override;

 private:
  enum class State { kMayOpen, kOpen, kClosed };
  // The token of `closing` that has to come; none while the budget lasts.
  std::optional<int32_t> Closing() const;

  const ThinkingSpec spec_;
  const std::unique_ptr<Constraint> then_;
  State state_;
  int64_t used_ = 0;       // tokens of reasoning
  size_t closing_at_ = 0;  // of `closing`, that has come
};

}  // namespace mach::decode
