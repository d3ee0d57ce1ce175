#include <list>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "grammar/grammar.h"
#include "grammar/matcher.h"

namespace mach::grammar {
namespace {

// A matcher at the beginning, which is cloned.
class CompiledGrammar final : public Grammar {
 public:
  explicit CompiledGrammar(std::unique_ptr<const Matcher> first) : first_(std::move(first)) {}

  std::unique_ptr<decode::Constraint> NewConstraint() const override {
    const std::lock_guard lock(mutex_);
    return first_->Clone();
  }

 private:
  mutable std::mutex mutex_;
  const std::unique_ptr<const Matcher> first_;
};

// A grammar and what it has learnt of itself once it was followed. Measured on JSON schemas and on
// calls of 1 to 60 tools in two formats: 8 to 40 times its text.
uint64_t KeptBytes(const std::string& lark) {
  return (uint64_t{64} << 10) + 40 * uint64_t{lark.size()};
}

}  // namespace

struct Compiler::Cache {
  Cache(std::shared_ptr<const TokenEnvironment> env, uint64_t most)
      : environment(std::move(env)), most_bytes(most) {}

  struct Entry {
    std::string lark;
    std::shared_ptr<const Grammar> grammar;
  };

  void Add(const std::string& lark, std::shared_ptr<const Grammar> grammar) {
    entries.push_front({lark, std::move(grammar)});
    found[entries.front().lark] = entries.begin();
    bytes += KeptBytes(lark);
    while (bytes > most_bytes && entries.size() > 1) {
      bytes -= KeptBytes(entries.back().lark);
      found.erase(entries.back().lark);
      entries.pop_back();
    }
  }

  const std::shared_ptr<const TokenEnvironment> environment;
  const uint64_t most_bytes;
  uint64_t bytes = 0;
  std::mutex mutex;
  std::list<Entry> entries;  // used last comes first
  std::unordered_map<std::string_view, std::list<Entry>::iterator> found;
};

Compiler::Compiler(std::shared_ptr<const text::Tokenizer> tokenizer, CompilerOptions options)
    : tokenizer_(std::move(tokenizer)),
      cache_(
          std::make_unique<Cache>(std::make_shared<const TokenEnvironment>(
                                      tokenizer_, options.end_tokens, std::move(options.markers)),
                                  options.cached_bytes)) {}

Compiler::~Compiler() = default;

bool Compiler::StandsApart(int32_t token) const {
  return cache_->environment->StandsApart(token);
}

std::shared_ptr<const Grammar> Compiler::Compile(const Spec& spec) {
  {
    const std::lock_guard lock(cache_->mutex);
    if (const auto it = cache_->found.find(spec.lark()); it != cache_->found.end()) {
      cache_->entries.splice(cache_->entries.begin(), cache_->entries, it->second);
      return it->second->grammar;
    }
  }
  // Two threads may do the same work; that is better than one waiting for all others'.
  auto matcher = std::make_unique<Matcher>(cache_->environment, spec.lark());
  decode::TokenMask mask;
  try {
    matcher->Clone()->FillMask(mask);
  } catch (const Error&) {
    throw Error(ErrorCode::kInvalidArgument, "no text of this vocabulary has that grammar");
  }
  auto grammar = std::make_shared<const CompiledGrammar>(std::move(matcher));
  const std::lock_guard lock(cache_->mutex);
  if (!cache_->found.contains(spec.lark())) {
    cache_->Add(spec.lark(), grammar);
  }
  return grammar;
}

}  // namespace mach::grammar
