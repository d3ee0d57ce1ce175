// Reasoning before a constraint, and one of two constraints.
#include "decode/thinking.h"

#include <algorithm>
#include <memory>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "decode/either.h"

namespace mach::decode {
namespace {

constexpr int32_t kVocab = 40;
constexpr int32_t kOpen = 30;
constexpr int32_t kClose = 33;
constexpr int32_t kNewline = 1;

// Allows exactly these tokens, one after the other; then nothing.
class Exactly final : public Constraint {
 public:
  explicit Exactly(std::vector<int32_t> tokens) : tokens_(std::move(tokens)) {}

  bool FillMask(TokenMask& mask) override {
    mask.assign(MaskWords(kVocab), 0);
    if (!Done()) {
      const auto token = static_cast<uint32_t>(tokens_[at_]);
      mask[token / 32] |= 1U << (token % 32);
    }
    return true;
  }
  void Accept(int32_t token) override {
    EXPECT_EQ(token, tokens_.at(at_));
    ++at_;
  }
  size_t ValidPrefix(std::span<const int32_t> tokens) override {
    size_t valid = 0;
    while (valid < tokens.size() && at_ + valid < tokens_.size() &&
           tokens[valid] == tokens_[at_ + valid]) {
      ++valid;
    }
    return valid;
  }
  std::vector<int32_t> Forced() override {
    return {tokens_.begin() + static_cast<std::ptrdiff_t>(at_), tokens_.end()};
  }
  bool Done() override { return at_ == tokens_.size(); }

 private:
  const std::vector<int32_t> tokens_;
  size_t at_ = 0;
};

// What may come next; all of the vocabulary where there is no mask.
std::set<int32_t> Allowed(Constraint& constraint) {
  TokenMask mask;
  const bool masks = constraint.FillMask(mask);
  std::set<int32_t> allowed;
  for (int32_t token = 0; token < kVocab; ++token) {
    if (!masks || InMask(mask, token)) {
      allowed.insert(token);
    }
  }
  return allowed;
}

ThinkingSpec Spec() {
  return {.open_token = kOpen,
          .close_token = kClose,
          .closing = {kNewline, kClose, kNewline},
          .vocab_size = kVocab};
}

TEST(Thinking, AnythingGoesUntilItCloses) {
  ThinkingSpec spec = Spec();
  spec.open = true;
  Thinking thinking(spec, std::make_unique<Exactly>(std::vector<int32_t>{5, 6}));
  EXPECT_EQ(Allowed(thinking).size(), static_cast<size_t>(kVocab));
  thinking.Accept(7);
  EXPECT_EQ(Allowed(thinking).size(), static_cast<size_t>(kVocab));
  EXPECT_TRUE(thinking.Forced().empty());
  thinking.Accept(kClose);
  EXPECT_EQ(Allowed(thinking), std::set<int32_t>{5});
  EXPECT_EQ(thinking.Forced(), (std::vector<int32_t>{5, 6}));
  thinking.Accept(5);
  EXPECT_FALSE(thinking.Done());
  thinking.Accept(6);
  EXPECT_TRUE(thinking.Done());
}

TEST(Thinking, MayBeginByItselfOrNotAtAll) {
  Thinking opened(Spec(), std::make_unique<Exactly>(std::vector<int32_t>{5}));
  EXPECT_EQ(Allowed(opened), (std::set<int32_t>{5, kOpen}));
  opened.Accept(kOpen);
  EXPECT_EQ(Allowed(opened).size(), static_cast<size_t>(kVocab));
  opened.Accept(kClose);
  EXPECT_EQ(Allowed(opened), std::set<int32_t>{5});

  Thinking skipped(Spec(), std::make_unique<Exactly>(std::vector<int32_t>{5, 6}));
  skipped.Accept(5);
  EXPECT_EQ(Allowed(skipped), std::set<int32_t>{6});

  ThinkingSpec closed = Spec();
  closed.open_token.reset();
  Thinking none(closed, std::make_unique<Exactly>(std::vector<int32_t>{5}));
  EXPECT_EQ(Allowed(none), std::set<int32_t>{5});
}

TEST(Thinking, ABudgetForcesTheClosing) {
  for (const int64_t budget : {0, 1, 3}) {
    ThinkingSpec spec = Spec();
    spec.open = true;
    spec.budget = budget;
    Thinking thinking(spec, std::make_unique<Exactly>(std::vector<int32_t>{5}));
    for (int64_t i = 0; i < budget; ++i) {
      EXPECT_EQ(Allowed(thinking).size(), static_cast<size_t>(kVocab));
      EXPECT_EQ(thinking.ValidPrefix(std::vector<int32_t>(8, 7)), static_cast<size_t>(budget - i));
      thinking.Accept(7);
    }
    EXPECT_EQ(thinking.Forced(), (std::vector<int32_t>{kNewline, kClose, kNewline}));
    for (const int32_t token : {kNewline, kClose, kNewline}) {
      EXPECT_EQ(Allowed(thinking), std::set<int32_t>{token});
      EXPECT_FALSE(thinking.Done());
      thinking.Accept(token);
    }
    EXPECT_EQ(Allowed(thinking), std::set<int32_t>{5}) << budget;
  }
}

TEST(Thinking, WithinItsBudgetItEndsAsItLikes) {
  ThinkingSpec spec = Spec();
  spec.budget = 2;
  Thinking thinking(spec, nullptr);
  thinking.Accept(kOpen);
  thinking.Accept(7);
  thinking.Accept(kClose);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(Allowed(thinking).size(), static_cast<size_t>(kVocab));
    thinking.Accept(9);
  }
  EXPECT_FALSE(thinking.Done());
}

TEST(Either, FollowsWhicheverWasBegun) {
  const auto make = [] {
    return std::make_unique<Either>(std::make_unique<Exactly>(std::vector<int32_t>{1, 2, 3}),
                                    std::make_unique<Exactly>(std::vector<int32_t>{1, 4}));
  };
  const auto first = make();
  EXPECT_EQ(Allowed(*first), std::set<int32_t>{1});
  EXPECT_EQ(first->ValidPrefix(std::vector<int32_t>{1, 2, 9}), 2U);
  first->Accept(1);
  EXPECT_EQ(Allowed(*first), (std::set<int32_t>{2, 4}));
  EXPECT_TRUE(first->Forced().empty());
  first->Accept(2);
  EXPECT_EQ(Allowed(*first), std::set<int32_t>{3});
  EXPECT_EQ(first->Forced(), std::vector<int32_t>{3});
  first->Accept(3);
  EXPECT_TRUE(first->Done());

  const auto other = make();
  other->Accept(1);
  other->Accept(4);
  EXPECT_TRUE(other->Done());
}

}  // namespace
}  // namespace mach::decode
