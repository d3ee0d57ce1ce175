// Which expert leaves a full bank. A policy knows keys (layer x experts + expert, layers counted
// over those that have experts) and the order in which they are used; it knows no memory and no
// reads. One owner, which locks.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace mach::experts {

struct CacheShape {
  int32_t layers = 0;   // with experts
  int32_t experts = 0;  // in each

  int32_t keys() const { return layers * experts; }
};

class CachePolicy {
 public:
  virtual ~CachePolicy() = default;

  virtual const char* name() const = 0;

  // A step of so many tokens comes to `layer`; uses of its experts follow.
  virtual void BeginLayer(int32_t layer, int64_t tokens) = 0;
  // So many tokens of the step use it, resident or not.
  virtual void Use(int32_t key, int64_t tokens) = 0;
  // What an earlier run knew: the share of tokens that use it.
  virtual void Seed(int32_t key, double rate) = 0;

  // It is in the bank now, or no longer.
  virtual void Insert(int32_t key) = 0;
  virtual void Erase(int32_t key) = 0;

  // The key to evict among those for which `evictable` returns true, or -1. Cheap while the
  // non-evictable keys are the most recently used. Allocates nothing and throws only what
  // `evictable` does, as what a bank does in the middle of a step must not fail.
  virtual int32_t Victim(const std::function<bool(int32_t)>& evictable) const = 0;
  // Whether a guessed key, once used, would be worth more than `victim`.
  virtual bool WorthEvicting(int32_t victim, int32_t guess) const = 0;
};

// "lru": the one not used for longest.
// "lfu": the one used least often, counts halving every 32 tokens.
// "next_use": the one whose next use is expected last, from its rate (halving every 32 tokens) and
//   the distance of its layer in the cycle of layers.
std::vector<std::string> CachePolicyNames();

// Throws kInvalidArgument naming the choices.
std::unique_ptr<CachePolicy> MakeCachePolicy(std::string_view name, const CacheShape& shape);

}  // namespace mach::experts
