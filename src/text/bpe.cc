#include "text/bpe.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "base/error.h"
#include "text/byte_level.h"
#include "text/unicode.h"

namespace mach::text {

namespace {

constexpr size_t kBasicPlane = 0x10000;

std::string ByteTokenName(uint32_t byte) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  return std::string("<0x") + kDigits[byte >> 4] + kDigits[byte & 15] + ">";
}

}  // namespace

Bpe::Bpe(Vocab vocab, MergeTable merges, BpeOptions options, std::string_view source)
    : vocab_(std::move(vocab)), merges_(std::move(merges)), options_(std::move(options)) {
  if (options_.unk_token) {
    unk_id_ = vocab_.Find(*options_.unk_token);
    if (unk_id_ < 0) {
      throw Error(ErrorCode::kCorruptFile, std::string(source) + ": model.unk_token is \"" +
                                               *options_.unk_token +
                                               "\", which model.vocab does not have");
    }
  }
  has_byte_alphabet_ = true;
  has_all_byte_tokens_ = true;
  std::string name;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    name.clear();
    AppendUtf8(ByteLevelChars()[byte], &name);
    byte_level_ids_[byte] = vocab_.Find(name);
    byte_token_ids_[byte] = vocab_.Find(ByteTokenName(byte));
    has_byte_alphabet_ = has_byte_alphabet_ && byte_level_ids_[byte] >= 0;
    has_all_byte_tokens_ = has_all_byte_tokens_ && byte_token_ids_[byte] >= 0;
  }
}

void Bpe::SetInput(Input input) {
  input_ = input;
  if (input == Input::kText) {
    char_ids_.assign(kBasicPlane, -1);
    for (int32_t id = 0; id < vocab_.id_end(); ++id) {
      const auto token = vocab_.Token(id);
      if (token && !token->empty() && token->size() <= 3) {
        const DecodedChar c = DecodeAt(token->data());
        if (c.size == token->size()) {
          char_ids_[c.code] = id;
        }
      }
    }
    BuildPairFilter();
  }
}

int32_t Bpe::CharId(char32_t code, std::string_view bytes) const {
  return code < kBasicPlane ? char_ids_[code] : vocab_.Find(bytes);
}

namespace {

struct FilterBit {
  size_t word;
  uint64_t bit;
};

FilterBit FilterBitOf(char32_t left, char32_t right, uint32_t bits) {
  const uint64_t key = (static_cast<uint64_t>(left) << 32) | right;
  const uint64_t hash = (key * 0x9E3779B97F4A7C15ULL) >> (64 - bits);
  return {static_cast<size_t>(hash >> 6), 1ULL << (hash & 63)};
}

}  // namespace

void Bpe::BuildPairFilter() {
  pair_filter_.assign((size_t{1} << kPairFilterBits) / 64, 0);
  std::vector<bool> takes_part(static_cast<size_t>(vocab_.id_end()));
  merges_.ForEach([&](int32_t left, int32_t right, Merge merge) {
    takes_part[static_cast<size_t>(left)] = true;
    takes_part[static_cast<size_t>(right)] = true;
    const auto token = vocab_.Token(merge.new_id);
    char32_t previous = 0;
    for (size_t at = 0; token && at < token->size();) {
      const DecodedChar c = DecodeAt(token->data() + at);
      if (at > 0) {
        const FilterBit place = FilterBitOf(previous, c.code, kPairFilterBits);
        pair_filter_[place.word] |= place.bit;
      }
      previous = c.code;
      at += c.size;
    }
  });
  unknown_never_merges_ = options_.byte_fallback && has_all_byte_tokens_;
  for (const int32_t id : byte_token_ids_) {
    if (id >= 0 && takes_part[static_cast<size_t>(id)]) {
      unknown_never_merges_ = false;
    }
  }
}

bool Bpe::MayTouch(char32_t left, char32_t right) const {
  const FilterBit place = FilterBitOf(left, right, kPairFilterBits);
  return (pair_filter_[place.word] & place.bit) != 0;
}

void Bpe::Tokenize(std::string_view word, BpeScratch* scratch, std::vector<int32_t>* out) const {
  if (word.empty()) {
    return;
  }
  if (input_ == Input::kText) {
    TokenizeText(word, scratch, out);
    return;
  }
  const uint64_t hash = HashBytes(word);
  if (const auto found = scratch->cache.Find(word, hash)) {
    out->insert(out->end(), found->begin(), found->end());
    return;
  }
  const size_t before = out->size();
  int32_t whole = -1;
  if (options_.ignore_merges) {
    scratch->mapped.clear();
    AppendByteLevel(word, &scratch->mapped);
    whole = vocab_.Find(scratch->mapped);
  }
  if (whole >= 0) {
    out->push_back(whole);
  } else {
    scratch->ids.clear();
    for (const char byte : word) {
      scratch->ids.push_back(byte_level_ids_[static_cast<uint8_t>(byte)]);
    }
    MergeAndAppend(scratch, out);
  }
  scratch->cache.Insert(word, hash, {out->data() + before, out->size() - before});
}

void Bpe::TokenizeText(std::string_view word, BpeScratch* scratch,
                       std::vector<int32_t>* out) const {
  if (options_.ignore_merges) {
    const int32_t whole = vocab_.Find(word);
    if (whole >= 0) {
      out->push_back(whole);
      return;
    }
  }
  size_t begin = 0;
  char32_t previous = 0;
  bool previous_known = false;
  for (size_t at = 0; at < word.size();) {
    const DecodedChar c = DecodeAt(word.data() + at);
    const bool known = CharId(c.code, word.substr(at, c.size)) >= 0;
    const bool both_known = known && previous_known;
    if (at > begin && (both_known ? !MayTouch(previous, c.code) : unknown_never_merges_)) {
      TokenizeSegment(word.substr(begin, at - begin), scratch, out);
      begin = at;
    }
    previous = c.code;
    previous_known = known;
    at += c.size;
  }
  TokenizeSegment(word.substr(begin), scratch, out);
}

void Bpe::TokenizeSegment(std::string_view segment, BpeScratch* scratch,
                          std::vector<int32_t>* out) const {
  const uint64_t hash = HashBytes(segment);
  if (const auto found = scratch->cache.Find(segment, hash)) {
    out->insert(out->end(), found->begin(), found->end());
    return;
  }
  const size_t before = out->size();
  scratch->ids.clear();
  AppendSymbols(segment, &scratch->ids);
  MergeAndAppend(scratch, out);
  scratch->cache.Insert(segment, hash, {out->data() + before, out->size() - before});
}

void Bpe::AppendSymbols(std::string_view word, std::vector<int32_t>* ids) const {
  bool unk_pending = false;
  for (size_t at = 0; at < word.size();) {
    const DecodedChar c = DecodeAt(word.data() + at);
    const std::string_view bytes = word.substr(at, c.size);
    at += c.size;
    const int32_t id = CharId(c.code, bytes);
    if (id < 0) {
      AppendUnknown(bytes, &unk_pending, ids);
      continue;
    }
    if (unk_pending) {
      ids->push_back(unk_id_);
      unk_pending = false;
    }
    ids->push_back(id);
  }
  if (unk_pending) {
    ids->push_back(unk_id_);
  }
}

void Bpe::AppendUnknown(std::string_view bytes, bool* unk_pending,
                        std::vector<int32_t>* ids) const {
  if (options_.byte_fallback) {
    const bool complete = std::all_of(bytes.begin(), bytes.end(), [this](char byte) {
      return byte_token_ids_[static_cast<uint8_t>(byte)] >= 0;
    });
    if (complete) {
      // `tokenizers` leaves a pending unk_token pending here, so it comes after these bytes.
      for (const char byte : bytes) {
        ids->push_back(byte_token_ids_[static_cast<uint8_t>(byte)]);
      }
      return;
    }
  }
  if (unk_id_ < 0) {
    return;  // without an unk_token unknown characters vanish
  }
  if (*unk_pending && !options_.fuse_unk) {
    ids->push_back(unk_id_);
  }
  *unk_pending = true;
}

void Bpe::MergeAndAppend(BpeScratch* scratch, std::vector<int32_t>* out) const {
  if (scratch->ids.size() > kScanLimit) {
    MergeByHeap(scratch);
  } else if (scratch->ids.size() > 1) {
    MergeByScan(scratch);
  }
  out->insert(out->end(), scratch->ids.begin(), scratch->ids.end());
}

void Bpe::MergeByScan(BpeScratch* scratch) const {
  std::vector<int32_t>& ids = scratch->ids;
  size_t pairs = ids.size() - 1;
  scratch->ranks.resize(pairs);
  scratch->merged.resize(pairs);
  uint32_t* ranks = scratch->ranks.data();
  int32_t* merged = scratch->merged.data();
  const auto look_up = [&](size_t i) {
    const Merge merge = merges_.Find(ids[i], ids[i + 1]);
    ranks[i] = merge.rank;
    merged[i] = merge.new_id;
  };
  for (size_t i = 0; i < pairs; ++i) {
    look_up(i);
  }
  size_t count = ids.size();
  while (pairs > 0) {
    size_t best = 0;
    for (size_t i = 1; i < pairs; ++i) {
      best = ranks[i] < ranks[best] ? i : best;
    }
    if (ranks[best] == MergeTable::kNoRank) {
      break;
    }
    ids[best] = merged[best];
    std::copy(ids.data() + best + 2, ids.data() + count, ids.data() + best + 1);
    --count;
    --pairs;
    if (best < pairs) {
      std::copy(ranks + best + 1, ranks + pairs + 1, ranks + best);
      std::copy(merged + best + 1, merged + pairs + 1, merged + best);
      look_up(best);
    }
    if (best > 0) {
      look_up(best - 1);
    }
  }
  ids.resize(count);
}

void Bpe::MergeByHeap(BpeScratch* scratch) const {
  constexpr uint32_t kNone = UINT32_MAX;
  auto& symbols = scratch->symbols;
  auto& heap = scratch->heap;
  const auto count = static_cast<uint32_t>(scratch->ids.size());
  symbols.resize(count);
  for (uint32_t i = 0; i < count; ++i) {
    symbols[i] = {scratch->ids[i], i == 0 ? kNone : i - 1, i + 1 == count ? kNone : i + 1};
  }
  // Lowest rank first, then the leftmost.
  heap.clear();
  const auto entry_of = [&](uint32_t left, uint32_t right) -> std::optional<uint64_t> {
    const uint32_t rank = merges_.Find(symbols[left].id, symbols[right].id).rank;
    if (rank == MergeTable::kNoRank) {
      return std::nullopt;
    }
    return (static_cast<uint64_t>(rank) << 32) | left;
  };
  for (uint32_t i = 0; i + 1 < count; ++i) {
    if (const auto entry = entry_of(i, i + 1)) {
      heap.push_back(*entry);
    }
  }
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  const auto push = [&](uint32_t left, uint32_t right) {
    if (const auto entry = entry_of(left, right)) {
      heap.push_back(*entry);
      std::push_heap(heap.begin(), heap.end(), std::greater<>());
    }
  };
  while (!heap.empty()) {
    const uint64_t top = heap.front();
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    heap.pop_back();
    const auto left = static_cast<uint32_t>(top);
    if (symbols[left].id < 0 || symbols[left].next == kNone) {
      continue;
    }
    const uint32_t right = symbols[left].next;
    const Merge merge = merges_.Find(symbols[left].id, symbols[right].id);
    if (merge.rank != static_cast<uint32_t>(top >> 32)) {
      continue;  // one of the two has changed since
    }
    symbols[left].id = merge.new_id;
    symbols[left].next = symbols[right].next;
    symbols[right].id = -1;
    if (symbols[left].next != kNone) {
      symbols[symbols[left].next].previous = left;
      push(left, symbols[left].next);
    }
    if (symbols[left].previous != kNone) {
      push(symbols[left].previous, left);
    }
  }
  scratch->ids.clear();
  for (const BpeScratch::Symbol& symbol : symbols) {
    if (symbol.id >= 0) {
      scratch->ids.push_back(symbol.id);
    }
  }
}

}  // namespace mach::text
