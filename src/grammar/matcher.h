// llguidance's handles as objects that own them. For use inside grammar/ only.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "decode/constraint.h"
#include "text/tokenizer.h"

struct LlgMatcher;
struct LlgTokenizer;

namespace mach::grammar {

// A vocabulary as llguidance wants it. Immutable; any thread.
class TokenEnvironment {
 public:
  // No text spells special tokens and markers.
  TokenEnvironment(std::shared_ptr<const text::Tokenizer> tokenizer,
                   std::span<const int32_t> end_tokens, std::vector<int32_t> markers);
  TokenEnvironment(const TokenEnvironment&) = delete;
  TokenEnvironment& operator=(const TokenEnvironment&) = delete;
  ~TokenEnvironment();

  const LlgTokenizer* handle() const { return handle_; }
  // Whether it is a special token or a marker.
  bool StandsApart(int32_t token) const;

 private:
  const std::shared_ptr<const text::Tokenizer> tokenizer_;
  const std::vector<int32_t> markers_;
  LlgTokenizer* handle_;
};

// A state within a grammar. One thread at a time.
class Matcher final : public decode::Constraint {
 public:
  // Throws kInvalidArgument where `lark` is no grammar that llguidance can follow.
  Matcher(std::shared_ptr<const TokenEnvironment> environment, const std::string& lark);
  Matcher(const Matcher&) = delete;
  Matcher& operator=(const Matcher&) = delete;
  ~Matcher() override;

  std::unique_ptr<Matcher> Clone() const;

  bool FillMask(decode::TokenMask& mask) override;
  void Accept(int32_t token) override;
  size_t ValidPrefix(std::span<const int32_t> tokens) override;
  std::vector<int32_t> Forced() override;
  bool Done() override;

 private:
  Matcher(std::shared_ptr<const TokenEnvironment> environment, LlgMatcher* handle)
      : environment_(std::move(environment)), handle_(handle) {}
  [[noreturn]] void Fail() const;

  std::shared_ptr<const TokenEnvironment> environment_;
  LlgMatcher* handle_;
};

}  // namespace mach::grammar
