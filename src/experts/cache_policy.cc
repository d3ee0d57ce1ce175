#include "experts/cache_policy.h"

#include <algorithm>

#include "base/error.h"
#include "experts/frequency.h"
#include "experts/key_heap.h"

namespace mach::experts {
namespace {

// The best of 32, 64, 128 and 256 over two recorded traces (docs/benchmarks.md).
constexpr double kHalfLifeTokens = 32;

// A list of the resident keys, from the one used longest ago to the one used last.
class LruPolicy final : public CachePolicy {
 public:
  explicit LruPolicy(const CacheShape& shape)
      : end_(shape.keys()),
        links_(static_cast<size_t>(end_) + 1, {end_, end_}),
        resident_(static_cast<size_t>(end_), false) {}

  const char* name() const override { return "lru"; }
  void BeginLayer(int32_t, int64_t) override {}
  void Seed(int32_t, double) override {}
  void Use(int32_t key, int64_t) override {
    if (resident_[static_cast<size_t>(key)]) {
      Unlink(key);
      LinkLast(key);
    }
  }
  void Insert(int32_t key) override {
    resident_[static_cast<size_t>(key)] = true;
    LinkLast(key);
  }
  void Erase(int32_t key) override {
    resident_[static_cast<size_t>(key)] = false;
    Unlink(key);
  }
  int32_t Victim(const std::function<bool(int32_t)>& evictable) const override {
    for (int32_t key = At(end_).next; key != end_; key = At(key).next) {
      if (evictable(key)) {
        return key;
      }
    }
    return -1;
  }
  bool WorthEvicting(int32_t, int32_t) const override { return true; }

 private:
  struct Links {
    int32_t previous;
    int32_t next;
  };
  const Links& At(int32_t key) const { return links_[static_cast<size_t>(key)]; }
  Links& At(int32_t key) { return links_[static_cast<size_t>(key)]; }
  void LinkLast(int32_t key) {
    const int32_t last = At(end_).previous;
    At(key) = {last, end_};
    At(last).next = key;
    At(end_).previous = key;
  }
  void Unlink(int32_t key) {
    At(At(key).previous).next = At(key).next;
    At(At(key).next).previous = At(key).previous;
  }

  const int32_t end_;         // the key that closes the ring
  std::vector<Links> links_;  // [keys + 1]
  std::vector<bool> resident_;
};

class LfuPolicy final : public CachePolicy {
 public:
  explicit LfuPolicy(const CacheShape& shape)
      : frequency_(shape.keys(), kHalfLifeTokens), heap_(shape.keys(), Score{&frequency_}) {}
  LfuPolicy(const LfuPolicy&) = delete;
  LfuPolicy& operator=(const LfuPolicy&) = delete;
  ~LfuPolicy() override = default;

  const char* name() const override { return "lfu"; }
  void BeginLayer(int32_t layer, int64_t tokens) override {
    if (clock_.BeginLayer(layer)) {
      frequency_.BeginStep(tokens);
    }
  }
  void Use(int32_t key, int64_t tokens) override {
    frequency_.Add(key, tokens);
    if (heap_.Contains(key)) {
      heap_.Update(key);
    }
  }
  void Seed(int32_t key, double rate) override {
    frequency_.SetRate(key, rate);
    if (heap_.Contains(key)) {
      heap_.Update(key);
    }
  }
  void Insert(int32_t key) override { heap_.Insert(key); }
  void Erase(int32_t key) override { heap_.Erase(key); }
  int32_t Victim(const std::function<bool(int32_t)>& evictable) const override {
    return heap_.Smallest(evictable);
  }
  bool WorthEvicting(int32_t victim, int32_t guess) const override {
    return frequency_.RawAfterUse(guess) >= frequency_.Raw(victim);
  }

 private:
  struct Score {
    const DecayedFrequency* frequency;
    double operator()(int32_t key) const { return frequency->Raw(key); }
  };

  StepClock clock_;
  DecayedFrequency frequency_;
  KeyHeap<Score> heap_;
};

// Expected tokens until the next use of an expert that a token uses with probability p, whose layer
// comes after d of L layers: d / L + (1 - p) / p. Within a layer that order is the order of p, so
// each layer has a heap, and only their smallest are compared.
class NextUsePolicy final : public CachePolicy {
 public:
  explicit NextUsePolicy(const CacheShape& shape)
      : shape_(shape), frequency_(shape.keys(), kHalfLifeTokens) {
    heaps_.reserve(static_cast<size_t>(shape.layers));
    for (int32_t layer = 0; layer < shape.layers; ++layer) {
      heaps_.emplace_back(shape.experts, Score{&frequency_, layer * shape.experts});
    }
  }
  NextUsePolicy(const NextUsePolicy&) = delete;
  NextUsePolicy& operator=(const NextUsePolicy&) = delete;
  ~NextUsePolicy() override = default;

  const char* name() const override { return "next_use"; }
  void BeginLayer(int32_t layer, int64_t tokens) override {
    if (clock_.BeginLayer(layer)) {
      frequency_.BeginStep(tokens);
    }
  }
  void Use(int32_t key, int64_t tokens) override {
    frequency_.Add(key, tokens);
    Reorder(key);
  }
  void Seed(int32_t key, double rate) override {
    frequency_.SetRate(key, rate);
    Reorder(key);
  }
  void Insert(int32_t key) override { HeapOf(key).Insert(key % shape_.experts); }
  void Erase(int32_t key) override { HeapOf(key).Erase(key % shape_.experts); }

  int32_t Victim(const std::function<bool(int32_t)>& evictable) const override {
    int32_t victim = -1;
    double latest = 0;
    for (int32_t layer = 0; layer < shape_.layers; ++layer) {
      const int32_t base = layer * shape_.experts;
      const int32_t expert = heaps_[static_cast<size_t>(layer)].Smallest(
          [&](int32_t candidate) { return evictable(base + candidate); });
      if (expert < 0) {
        continue;
      }
      const double tokens = TokensToNextUse(base + expert, frequency_.Uses(base + expert));
      if (victim < 0 || tokens > latest) {
        victim = base + expert;
        latest = tokens;
      }
    }
    return victim;
  }
  bool WorthEvicting(int32_t victim, int32_t guess) const override {
    return TokensToNextUse(guess, frequency_.Uses(guess) + 1) <=
           TokensToNextUse(victim, frequency_.Uses(victim));
  }

 private:
  struct Score {
    const DecayedFrequency* frequency;
    int32_t base;
    double operator()(int32_t expert) const { return frequency->Raw(base + expert); }
  };

  KeyHeap<Score>& HeapOf(int32_t key) { return heaps_[static_cast<size_t>(key / shape_.experts)]; }
  void Reorder(int32_t key) {
    KeyHeap<Score>& heap = HeapOf(key);
    if (heap.Contains(key % shape_.experts)) {
      heap.Update(key % shape_.experts);
    }
  }
  double TokensToNextUse(int32_t key, double uses) const {
    constexpr double kRarest = 1e-9;
    const int32_t layer = key / shape_.experts;
    const int32_t distance = (layer - clock_.layer() - 1 + 2 * shape_.layers) % shape_.layers;
    const double rate = std::clamp(frequency_.RateOf(uses), kRarest, 1.0);
    return static_cast<double>(distance) / shape_.layers + (1 - rate) / rate;
  }

  const CacheShape shape_;
  StepClock clock_;
  DecayedFrequency frequency_;
  std::vector<KeyHeap<Score>> heaps_;  // [layers]
};

}  // namespace

std::vector<std::string> CachePolicyNames() {
  return {"lru", "lfu", "next_use"};
}

std::unique_ptr<CachePolicy> MakeCachePolicy(std::string_view name, const CacheShape& shape) {
  if (name == "lru") {
    return std::make_unique<LruPolicy>(shape);
  }
  if (name == "lfu") {
    return std::make_unique<LfuPolicy>(shape);
  }
  if (name == "next_use") {
    return std::make_unique<NextUsePolicy>(shape);
  }
  std::string choices;
  for (const std::string& choice : CachePolicyNames()) {
    choices += (choices.empty() ? "" : ", ") + choice;
  }
  throw Error(ErrorCode::kInvalidArgument,
              "unknown expert cache policy '" + std::string(name) + "'",
              "choose one of " + choices);
}

}  // namespace mach::experts
