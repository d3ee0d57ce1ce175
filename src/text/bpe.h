// Byte pair encoding (Sennrich et al. 2016, arXiv:1508.07909) of one pre-split word, with the
// options of Hugging Face `tokenizers`' BPE model. Knows nothing of normalisation, pre-splitting or
// added tokens. Immutable after Finish(): any thread may tokenise, each with its own BpeScratch.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/vocab.h"
#include "text/word_cache.h"

namespace mach::text {

struct BpeOptions {
  std::optional<std::string> unk_token;
  bool byte_fallback = false;  // characters without a token become <0x00> to <0xFF>
  bool fuse_unk = false;       // neighbouring unknown characters become one unk_token
  bool ignore_merges = false;  // a word that is a token is that token
};

// Working memory of one encoding.
struct BpeScratch {
  struct Symbol {
    int32_t id;  // -1: merged into its left neighbour
    uint32_t previous;
    uint32_t next;
  };

  WordCache cache;
  std::vector<int32_t> ids;
  std::vector<uint32_t> ranks;
  std::vector<int32_t> merged;
  std::vector<Symbol> symbols;
  std::vector<uint64_t> heap;
  std::string mapped;
  std::vector<int32_t> word_ids;
};

class Bpe {
 public:
  // How the words will come.
  enum class Input {
    kText,       // as they are in the vocabulary
    kByteLevel,  // raw bytes, to be read through the byte-level alphabet
  };

  // `merges` must be over ids of `vocab`. Throws kCorruptFile if unk_token is not in `vocab`.
  Bpe(Vocab vocab, MergeTable merges, BpeOptions options, std::string_view source);

  // Are all 256 byte-level characters tokens? Only then may Input be kByteLevel.
  bool HasByteLevelAlphabet() const { return has_byte_alphabet_; }
  // Chooses how words come; builds what that needs.
  void SetInput(Input input);

  // Appends the ids of `word`, valid UTF-8 if the input is kText.
  void Tokenize(std::string_view word, BpeScratch* scratch, std::vector<int32_t>* out) const;

  const Vocab& vocab() const { return vocab_; }

 private:
  // Words of up to this many symbols are merged by scanning, longer ones with a heap.
  static constexpr size_t kScanLimit = 64;
  static constexpr uint32_t kPairFilterBits = 21;

  int32_t CharId(char32_t code, std::string_view bytes) const;
  void TokenizeText(std::string_view word, BpeScratch* scratch, std::vector<int32_t>* out) const;
  void TokenizeSegment(std::string_view segment, BpeScratch* scratch,
                       std::vector<int32_t>* out) const;
  void AppendSymbols(std::string_view word, std::vector<int32_t>* ids) const;
  void AppendUnknown(std::string_view bytes, bool* unk_pending, std::vector<int32_t>* ids) const;
  void MergeAndAppend(BpeScratch* scratch, std::vector<int32_t>* out) const;
  void MergeByScan(BpeScratch* scratch) const;
  void MergeByHeap(BpeScratch* scratch) const;
  void BuildPairFilter();
  bool MayTouch(char32_t left, char32_t right) const;

  Vocab vocab_;
  MergeTable merges_;
  BpeOptions options_;
  Input input_ = Input::kText;
  int32_t unk_id_ = -1;
  bool has_byte_alphabet_ = false;
  bool has_all_byte_tokens_ = false;
  bool unknown_never_merges_ = false;
  std::array<int32_t, 256> byte_level_ids_{};  // of the byte-level character of each byte
  std::array<int32_t, 256> byte_token_ids_{};  // of <0x00> to <0xFF>
  std::vector<int32_t> char_ids_;              // basic plane; the rest is looked up
  // A Bloom filter of the pairs of neighbouring characters inside any product of a merge. Where a
  // pair is not in it no merge can ever cross, so a long word may be cut there: exact, and a
  // SentencePiece text becomes short cacheable words.
  std::vector<uint64_t> pair_filter_;
};

}  // namespace mach::text
