// Two tables of a BPE model: token <-> id, and pair of ids -> merge. Filled once while a tokenizer
// loads, read-only afterwards: then any thread may read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mach::text {

// 64-bit hash for short keys in memory; not stable across machines, never stored.
uint64_t HashBytes(std::string_view bytes);

class Vocab {
 public:
  // Ids at or above this are refused by the loader: the id table is as long as the largest id.
  static constexpr uint32_t kMaxIds = 1U << 22;

  // A token that is there already takes the new id.
  void Add(std::string_view token, int32_t id);
  // Call once after the last Add, before Token().
  void Finish();

  // -1 if absent.
  int32_t Find(std::string_view token) const;
  // Empty optional for ids without an entry.
  std::optional<std::string_view> Token(int32_t id) const;

  size_t size() const { return entries_.size(); }
  // One past the largest id.
  int32_t id_end() const { return static_cast<int32_t>(by_id_.size()); }

 private:
  struct Entry {
    size_t offset;
    uint32_t length;
    int32_t id;
  };
  struct Slot {
    uint32_t hash;
    uint32_t entry_plus_one;  // 0: free
  };

  std::string_view TokenOf(const Entry& entry) const {
    return std::string_view(arena_).substr(entry.offset, entry.length);
  }
  void Grow();

  std::string arena_;
  std::vector<Entry> entries_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> by_id_;  // entry plus one
};

struct Merge {
  uint32_t rank;
  int32_t new_id;
};

class MergeTable {
 public:
  static constexpr uint32_t kNoRank = UINT32_MAX;

  explicit MergeTable(size_t expected = 0);

  // A pair that is there already takes the new merge.
  void Add(int32_t left, int32_t right, Merge merge);

  // rank kNoRank if the pair does not merge.
  Merge Find(int32_t left, int32_t right) const {
    for (size_t i = SlotOf(left, right);; i = (i + 1) & mask_) {
      const Slot& slot = slots_[i];
      if (slot.left == left && slot.right == right) {
        return {slot.rank, slot.new_id};
      }
      if (slot.left < 0) {
        return {kNoRank, 0};
      }
    }
  }

  // Calls `visit(left, right, merge)` for every merge, in no particular order.
  template <typename Visitor>
  void ForEach(const Visitor& visit) const {
    for (const Slot& slot : slots_) {
      if (slot.left >= 0) {
        visit(slot.left, slot.right, Merge{slot.rank, slot.new_id});
      }
    }
  }

 private:
  struct Slot {
    int32_t left = -1;  // -1: free
    int32_t right = -1;
    uint32_t rank = kNoRank;
    int32_t new_id = 0;
  };

  size_t SlotOf(int32_t left, int32_t right) const {
    const uint64_t key =
        (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
    return static_cast<size_t>((key * 0x9E3779B97F4A7C15ULL) >> shift_);
  }
  void Resize(size_t capacity);

  std::vector<Slot> slots_;
  size_t size_ = 0;
  size_t mask_ = 0;
  uint32_t shift_ = 0;
};

}  // namespace mach::text
