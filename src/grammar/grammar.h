// What a model's output must look like: from a description to constraints that hold it to that.
//
//   Compiler compiler(tokenizer, {.end_tokens = …});              once for each model
//   auto grammar = compiler.Compile(Spec::JsonSchema(schema));    any thread
//   options.constraint = grammar->NewConstraint();                one for each sequence
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "decode/constraint.h"
#include "text/tokenizer.h"

namespace mach::grammar {

// What is done about a keyword of a schema that cannot be enforced.
enum class Keywords { kRefuse, kRelax };

// A description of texts. Made by the functions only.
class Spec {
 public:
  // Any JSON object.
  static Spec JsonObject();
  // The JSON values that the schema allows, objects with their members in the order of its
  // properties. Throws kInvalidArgument, with the path and name of the keyword, where one cannot be
  // enforced and is not to be relaxed.
  static Spec JsonSchema(const nlohmann::ordered_json& schema,
                         Keywords keywords = Keywords::kRefuse);
  // llguidance's variant of Lark.
  static Spec Lark(std::string text) { return Spec(std::move(text)); }

  const std::string& lark() const { return lark_; }

 private:
  explicit Spec(std::string lark) : lark_(std::move(lark)) {}

  std::string lark_;
};

// Immutable; any thread.
class Grammar {
 public:
  Grammar() = default;
  Grammar(const Grammar&) = delete;
  Grammar& operator=(const Grammar&) = delete;
  virtual ~Grammar() = default;

  // Needs neither the grammar nor its compiler afterwards.
  virtual std::unique_ptr<decode::Constraint> NewConstraint() const = 0;
};

struct CompilerOptions {
  std::vector<int32_t> end_tokens;  // may come where a grammar ends; at least one
  // Tokens that are more than their text to whoever reads the output, as special ones are: they
  // come where a grammar names them, and never inside strings and texts.
  std::vector<int32_t> markers;
  // For the grammars that are kept, those used last; each counts with an upper bound. The last one
  // is kept in any case.
  uint64_t cached_bytes = uint64_t{32} << 20;
};

// What a compiler takes of memory for a vocabulary of so many tokens, and what it keeps: about 570
// bytes a token were measured with Qwen3's and GPT-4o's.
constexpr uint64_t CompilerBytes(int64_t tokens, const CompilerOptions& options = {}) {
  return 640 * static_cast<uint64_t>(tokens) + options.cached_bytes;
}

// Thread-safe.
class Compiler {
 public:
  // Takes about a second with a vocabulary of 150,000.
  Compiler(std::shared_ptr<const text::Tokenizer> tokenizer, CompilerOptions options);
  Compiler(const Compiler&) = delete;
  Compiler& operator=(const Compiler&) = delete;
  ~Compiler();

  // Throws kInvalidArgument with llguidance's reason where it cannot hold a model to `spec`.
  std::shared_ptr<const Grammar> Compile(const Spec& spec);

  const std::shared_ptr<const text::Tokenizer>& tokenizer() const { return tokenizer_; }
  // Whether it is a special token or a marker.
  bool StandsApart(int32_t token) const;

 private:
  struct Cache;

  const std::shared_ptr<const text::Tokenizer> tokenizer_;
  const std::unique_ptr<Cache> cache_;
};

}  // namespace mach::grammar
