#include "decode/either.h"

#include <algorithm>
#include <utility>

namespace mach::decode {

Either::Either(std::unique_ptr<Constraint> one, std::unique_ptr<Constraint> other) {
  left_.push_back(std::move(one));
  left_.push_back(std::move(other));
}

bool Either::FillMask(TokenMask& mask) {
  if (!left_.front()->FillMask(mask)) {
    return false;
  }
  if (left_.size() > 1) {
    if (!left_.back()->FillMask(mask_)) {
      return false;
    }
    mask.resize(std::max(mask.size(), mask_.size()));
    for (size_t i = 0; i < mask_.size(); ++i) {
      mask[i] |= mask_[i];
    }
  }
  return true;
}

void Either::Accept(int32_t token) {
  if (left_.size() > 1) {
    const auto fits = [token](const std::unique_ptr<Constraint>& constraint) {
      return constraint->ValidPrefix(std::span(&token, 1)) == 1;
    };
    const bool first = fits(left_.front());
    const bool last = fits(left_.back());
    if (first != last) {
      left_.erase(first ? left_.end() - 1 : left_.begin());
    }
  }
  for (const auto& constraint : left_) {
    constraint->Accept(token);
  }
}

size_t Either::ValidPrefix(std::span<const int32_t> tokens) {
  size_t most = 0;
  for (const auto& constraint : left_) {
    most = std::max(most, constraint->ValidPrefix(tokens));
  }
  return most;
}

std::vector<int32_t> Either::Forced() {
  return left_.size() == 1 ? left_.front()->Forced() : std::vector<int32_t>();
}

bool Either::Done() {
  return std::all_of(left_.begin(), left_.end(),
                     [](const auto& constraint) { return constraint->Done(); });
}

}  // namespace mach::decode
