// A binary heap of keys, smallest score first, that finds each key's place: the candidates of a
// cache policy. Scores stay with their owner, which tells when one has changed. Allocates nothing
// once it is made. Not thread-safe.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/check.h"

namespace mach::experts {

// `Score` is a callable from key to something with operator<. Equal scores: the lower key first, so
// that the order depends on scores alone.
template <typename Score>
class KeyHeap {
 public:
  KeyHeap(int32_t keys, Score score)
      : score_(std::move(score)), place_(static_cast<size_t>(keys), -1) {
    heap_.reserve(place_.size());
    frontier_.reserve(place_.size());
  }

  bool Contains(int32_t key) const { return place_[static_cast<size_t>(key)] >= 0; }

  void Insert(int32_t key) {
    MACH_DCHECK(!Contains(key));
    heap_.push_back(key);
    Put(heap_.size() - 1, key);
    Update(key);
  }
  void Erase(int32_t key) {
    const auto at = static_cast<size_t>(place_[static_cast<size_t>(key)]);
    place_[static_cast<size_t>(key)] = -1;
    const int32_t last = heap_.back();
    heap_.pop_back();
    if (last != key) {
      Put(at, last);
      Update(last);
    }
  }
  // Its score has changed.
  void Update(int32_t key) {
    auto at = static_cast<size_t>(place_[static_cast<size_t>(key)]);
    for (; at > 0 && Less(key, heap_[(at - 1) / 2]); at = (at - 1) / 2) {
      Put(at, heap_[(at - 1) / 2]);
    }
    for (;;) {
      size_t child = 2 * at + 1;
      if (child + 1 < heap_.size() && Less(heap_[child + 1], heap_[child])) {
        ++child;
      }
      if (child >= heap_.size() || !Less(heap_[child], key)) {
        break;
      }
      Put(at, heap_[child]);
      at = child;
    }
    Put(at, key);
  }

  // The smallest that `admit` takes, or -1. Visits the refused ones smaller than it, and their
  // children.
  template <typename Admit>
  int32_t Smallest(const Admit& admit) const {
    if (heap_.empty()) {
      return -1;
    }
    if (admit(heap_.front())) {
      return heap_.front();
    }
    const auto later = [this](size_t a, size_t b) { return Less(heap_[b], heap_[a]); };
    frontier_.assign(1, 0);
    while (!frontier_.empty()) {
      std::pop_heap(frontier_.begin(), frontier_.end(), later);
      const size_t at = frontier_.back();
      frontier_.pop_back();
      if (admit(heap_[at])) {
        return heap_[at];
      }
      for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < heap_.size(); ++child) {
        frontier_.push_back(child);
        std::push_heap(frontier_.begin(), frontier_.end(), later);
      }
    }
    return -1;
  }

 private:
  bool Less(int32_t a, int32_t b) const {
    const auto score_a = score_(a);
    const auto score_b = score_(b);
    return score_a < score_b || (!(score_b < score_a) && a < b);
  }
  void Put(size_t at, int32_t key) {
    heap_[at] = key;
    place_[static_cast<size_t>(key)] = static_cast<int32_t>(at);
  }

  Score score_;
  std::vector<int32_t> heap_;             // keys
  std::vector<int32_t> place_;            // [keys], index into heap_ or -1
  mutable std::vector<size_t> frontier_;  // of one search: where to look next, a heap too
};

}  // namespace mach::experts
