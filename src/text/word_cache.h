// Remembers the ids of words that were tokenised before. Bounded: when it is full it forgets
// everything and starts again. Belongs to one encoding at a time; not thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace mach::text {

class WordCache {
 public:
  // Longer words are not kept.
  static constexpr size_t kMaxWordBytes = 256;

  // The result is valid until the next Insert.
  std::optional<std::span<const int32_t>> Find(std::string_view word, uint64_t hash) const;
  void Insert(std::string_view word, uint64_t hash, std::span<const int32_t> ids);

 private:
  static constexpr size_t kSlots = 1U << 16;
  static constexpr size_t kMaxEntries = kSlots / 2;
  static constexpr size_t kArenaWords = 1U << 19;  // 2 MiB

  struct Slot {
    uint64_t hash = 0;
    uint32_t offset = 0;  // of the ids in arena_; the word's bytes follow them
    uint16_t word_bytes = 0;
    uint16_t id_count_plus_one = 0;  // 0: free
  };

  std::vector<Slot> slots_;
  std::vector<int32_t> arena_;
  size_t entries_ = 0;
};

}  // namespace mach::text
