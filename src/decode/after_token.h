// A constraint that begins when a marker has been said, such as the end of the reasoning: until
// then every token may come.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "decode/constraint.h"
#include "text/tokenizer.h"

namespace mach::decode {

struct StartMarkers {
  std::vector<int32_t> tokens;     // each is a whole marker, and no part of what follows it
  std::vector<int32_t> included;   // the same, but what follows begins with the token itself
  std::vector<std::string> texts;  // markers that ordinary tokens spell
};

// What comes behind a marker's text in its last token is not looked at: white space, as a rule.
class AfterToken final : public Constraint {
 public:
  // The tokenizer is needed for texts only, and outlives the object.
  AfterToken(std::unique_ptr<Constraint> then, StartMarkers markers,
             const text::Tokenizer* tokenizer = nullptr);

  bool FillMask(TokenMask& mask) override;
  void Accept(int32_t token) override;
  size_t ValidPrefix(std::span<const int32_t> tokens) override;
  std::vector<int32_t> Forced() override;
  bool Done() override;

 private:
  enum class Begins { kNot, kAfter, kWith };
  // Whether `then_` begins with this token, of which `tail` becomes the end of the text.
  Begins Look(int32_t token, std::string& tail) const;

  std::unique_ptr<Constraint> then_;
  StartMarkers markers_;
  const text::Tokenizer* tokenizer_;
  size_t longest_ = 0;
  std::string tail_;  // the end of the text, shorter than the longest marker
  bool begun_ = false;
};

}  // namespace mach::decode
