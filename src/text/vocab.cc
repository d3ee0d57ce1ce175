#include "text/vocab.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace mach::text {

namespace {

uint64_t MulMix(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

}  // namespace

uint64_t HashBytes(std::string_view bytes) {
  constexpr uint64_t kFirst = 0xA0761D6478BD642FULL;
  constexpr uint64_t kSecond = 0xE7037ED1A0B428DBULL;
  const char* at = bytes.data();
  size_t left = bytes.size();
  uint64_t hash = kFirst ^ bytes.size();
  while (left > 8) {
    uint64_t word = 0;
    std::memcpy(&word, at, sizeof(word));
    hash = MulMix(hash ^ word, kSecond);
    at += 8;
    left -= 8;
  }
  uint64_t tail = 0;
  if (left >= 4) {
    uint32_t low = 0;
    uint32_t high = 0;
    std::memcpy(&low, at, sizeof(low));
    std::memcpy(&high, at + left - sizeof(high), sizeof(high));
    tail = (static_cast<uint64_t>(high) << 32) | low;
  } else if (left > 0) {
    tail = static_cast<uint64_t>(static_cast<uint8_t>(at[0])) |
           (static_cast<uint64_t>(static_cast<uint8_t>(at[left / 2])) << 8) |
           (static_cast<uint64_t>(static_cast<uint8_t>(at[left - 1])) << 16);
  }
  return MulMix(hash ^ tail, kFirst);
}

void Vocab::Grow() {
  const size_t capacity = std::max<size_t>(1024, slots_.size() * 2);
  std::vector<Slot> old(capacity);
  old.swap(slots_);
  for (const Slot& slot : old) {
    if (slot.entry_plus_one != 0) {
      size_t i = slot.hash & (capacity - 1);
      while (slots_[i].entry_plus_one != 0) {
        i = (i + 1) & (capacity - 1);
      }
      slots_[i] = slot;
    }
  }
}

void Vocab::Add(std::string_view token, int32_t id) {
  if ((entries_.size() + 1) * 2 > slots_.size()) {
    Grow();
  }
  const auto hash = static_cast<uint32_t>(HashBytes(token));
  size_t i = hash & (slots_.size() - 1);
  while (slots_[i].entry_plus_one != 0) {
    Entry& entry = entries_[slots_[i].entry_plus_one - 1];
    if (slots_[i].hash == hash && TokenOf(entry) == token) {
      entry.id = id;
      return;
    }
    i = (i + 1) & (slots_.size() - 1);
  }
  entries_.push_back({arena_.size(), static_cast<uint32_t>(token.size()), id});
  arena_.append(token);
  slots_[i] = {hash, static_cast<uint32_t>(entries_.size())};
}

void Vocab::Finish() {
  int32_t end = 0;
  for (const Entry& entry : entries_) {
    end = std::max(end, entry.id + 1);
  }
  by_id_.assign(static_cast<size_t>(end), 0);
  for (size_t i = 0; i < entries_.size(); ++i) {
    by_id_[static_cast<size_t>(entries_[i].id)] = static_cast<uint32_t>(i + 1);
  }
  arena_.shrink_to_fit();
  entries_.shrink_to_fit();
}

int32_t Vocab::Find(std::string_view token) const {
  if (slots_.empty()) {
    return -1;
  }
  const auto hash = static_cast<uint32_t>(HashBytes(token));
  for (size_t i = hash & (slots_.size() - 1); slots_[i].entry_plus_one != 0;
       i = (i + 1) & (slots_.size() - 1)) {
    if (slots_[i].hash == hash) {
      const Entry& entry = entries_[slots_[i].entry_plus_one - 1];
      if (TokenOf(entry) == token) {
        return entry.id;
      }
    }
  }
  return -1;
}

std::optional<std::string_view> Vocab::Token(int32_t id) const {
  if (id < 0 || id >= id_end() || by_id_[static_cast<size_t>(id)] == 0) {
    return std::nullopt;
  }
  return TokenOf(entries_[by_id_[static_cast<size_t>(id)] - 1]);
}

MergeTable::MergeTable(size_t expected) {
  Resize(std::bit_ceil(std::max<size_t>(16, expected * 2)));
}

void MergeTable::Resize(size_t capacity) {
  std::vector<Slot> old(capacity);
  old.swap(slots_);
  mask_ = capacity - 1;
  shift_ = 64 - static_cast<uint32_t>(std::countr_zero(capacity));
  size_ = 0;
  for (const Slot& slot : old) {
    if (slot.left >= 0) {
      Add(slot.left, slot.right, {slot.rank, slot.new_id});
    }
  }
}

void MergeTable::Add(int32_t left, int32_t right, Merge merge) {
  if ((size_ + 1) * 2 > slots_.size()) {
    Resize(slots_.size() * 2);
  }
  for (size_t i = SlotOf(left, right);; i = (i + 1) & mask_) {
    Slot& slot = slots_[i];
    if (slot.left < 0) {
      slot = {left, right, merge.rank, merge.new_id};
      ++size_;
      return;
    }
    if (slot.left == left && slot.right == right) {
      slot.rank = merge.rank;
      slot.new_id = merge.new_id;
      return;
    }
  }
}

}  // namespace mach::text
