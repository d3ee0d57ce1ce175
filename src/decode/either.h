// Two constraints of which the output has to follow one: it may begin as either, and whatever it
// cannot be any more is dropped.
#pragma once

#include <memory>
#include <vector>

#include "decode/constraint.h"

namespace mach::decode {

class Either final : public Constraint {
 public:
  Either(std::unique_ptr<Constraint> one, std::unique_ptr<Constraint> other);

  bool FillMask(TokenMask& mask) override;
  void Accept(int32_t token) override;
  size_t ValidPrefix(std::span<const int32_t> tokens) override;
  std::vector<int32_t> Forced() override;
  bool Done() override;

 private:
  std::vector<std::unique_ptr<Constraint>> left_;  // one or both
  TokenMask mask_;
};

}  // namespace mach::decode
