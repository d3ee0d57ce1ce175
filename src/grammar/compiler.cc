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

}  // namespace

struct Compiler::Cache {
  Cache(std::shared_ptr<const TokenEnvironment> env, size_t cached)
      : environment(std::move(env)), most(cached) {}

  struct Entry {
    std::string lark;
    std::shared_ptr<const Grammar> grammar;
  };

  const std::shared_ptr<const TokenEnvironment> environment;
  const size_t most;
  std::mutex mutex;
  std::list<Entry> entries;  // used last comes first
  std::unordered_map<std::string_view, std::list<Entry>::iterator> found;
};

Compiler::Compiler(std::shared_ptr<const text::Tokenizer> tokenizer, CompilerOptions options)
    : tokenizer_(std::move(tokenizer)),
      cache_(std::make_unique<Cache>(
          std::make_shared<const TokenEnvironment>(tokenizer_, options.end_tokens),
          std::max<size_t>(options.cached, 1))) {}

Compiler::~Compiler() = default;

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
    cache_->entries.push_front({spec.lark(), grammar});
    cache_->found[cache_->entries.front().lark] = cache_->entries.begin();
    if (cache_->entries.size() > cache_->most) {
      cache_->found.erase(cache_->entries.back().lark);
      cache_->entries.pop_back();
    }
  }
  return grammar;
}

}  // namespace mach::grammar
