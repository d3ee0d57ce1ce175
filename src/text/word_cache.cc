#include "text/word_cache.h"

#include <algorithm>
#include <cstring>

namespace mach::text {

std::optional<std::span<const int32_t>> WordCache::Find(std::string_view word,
                                                        uint64_t hash) const {
  if (slots_.empty() || word.size() > kMaxWordBytes) {
    return std::nullopt;
  }
  for (size_t i = hash & (kSlots - 1); slots_[i].id_count_plus_one != 0;
       i = (i + 1) & (kSlots - 1)) {
    const Slot& slot = slots_[i];
    if (slot.hash == hash && slot.word_bytes == word.size()) {
      const int32_t* ids = arena_.data() + slot.offset;
      const size_t count = slot.id_count_plus_one - 1U;
      if (std::memcmp(ids + count, word.data(), word.size()) == 0) {
        return std::span<const int32_t>(ids, count);
      }
    }
  }
  return std::nullopt;
}

void WordCache::Insert(std::string_view word, uint64_t hash, std::span<const int32_t> ids) {
  // A word has at most as many ids as bytes, except where a file maps bytes to several tokens.
  if (word.size() > kMaxWordBytes || ids.size() > 4 * kMaxWordBytes) {
    return;
  }
  const size_t words = ids.size() + (word.size() + sizeof(int32_t) - 1) / sizeof(int32_t);
  if (slots_.empty() || entries_ >= kMaxEntries || arena_.size() + words > kArenaWords) {
    slots_.assign(kSlots, Slot{});
    arena_.clear();
    entries_ = 0;
  }
  size_t i = hash & (kSlots - 1);
  while (slots_[i].id_count_plus_one != 0) {
    i = (i + 1) & (kSlots - 1);
  }
  slots_[i] = {hash, static_cast<uint32_t>(arena_.size()), static_cast<uint16_t>(word.size()),
               static_cast<uint16_t>(ids.size() + 1)};
  arena_.resize(arena_.size() + words);
  int32_t* at = arena_.data() + slots_[i].offset;
  std::copy(ids.begin(), ids.end(), at);
  std::memcpy(at + ids.size(), word.data(), word.size());
  ++entries_;
}

}  // namespace mach::text
