// Grammars asked about whole texts, over a vocabulary of bytes or of pieces.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "grammar/byte_tokenizer.h"
#include "grammar/grammar.h"
#include "grammar/walk.h"
#include "tests/support/word_tokenizer.h"

namespace mach::grammar {

inline Compiler& ByteCompiler() {
  static Compiler compiler(std::make_shared<const ByteTokenizer>(),
                           {.end_tokens = {ByteTokenizer::kEnd}});
  return compiler;
}

// How far the grammar lets the text go; that it may end there counts for a byte more.
inline size_t Reach(const Grammar& grammar, std::string_view text) {
  const auto constraint = grammar.NewConstraint();
  const Walk walk =
      WalkThrough(*constraint, ByteTokenizer().Encode(text, false), ByteTokenizer::kEnd);
  return walk.allowed + (walk.may_end ? 1 : 0);
}
inline bool Allows(const Grammar& grammar, std::string_view text) {
  return Reach(grammar, text) == text.size() + 1;
}
inline bool Allows(const nlohmann::ordered_json& schema, std::string_view text) {
  return Allows(*ByteCompiler().Compile(Spec::JsonSchema(schema)), text);
}

// The bytes, then these pieces, of which the special ones come last, then an end token.
inline std::shared_ptr<const text::Tokenizer> Pieces(std::vector<std::string> ordinary,
                                                     std::vector<std::string> special) {
  std::vector<std::string> pieces;
  for (int byte = 0; byte < 256; ++byte) {
    pieces.push_back(std::string(1, static_cast<char>(byte)));
  }
  pieces.insert(pieces.end(), ordinary.begin(), ordinary.end());
  const auto special_from = static_cast<int32_t>(pieces.size());
  pieces.insert(pieces.end(), special.begin(), special.end());
  pieces.emplace_back("<end>");
  return std::make_shared<const testing_support::WordTokenizer>(std::move(pieces), special_from);
}

}  // namespace mach::grammar
