// Cuts template source into tokens with Jinja's rules for trim_blocks and lstrip_blocks.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mach::jinja {

enum class TokenType : uint8_t {
  kData,
  kBlockBegin,
  kBlockEnd,
  kVariableBegin,
  kVariableEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,  // `text` is the operator
  kEof,
};

struct Token {
  TokenType type = TokenType::kEof;
  int line = 1;
  std::string text;  // data, name, unescaped string, operator, digits
};

// Throws mach::Error(kCorruptFile) with the line on malformed source.
std::vector<Token> Tokenize(std::string_view source, std::string_view source_name);

// The error of a template that does not parse.
[[noreturn]] void FailSyntax(std::string_view source_name, int line, const std::string& reason);

}  // namespace mach::jinja
