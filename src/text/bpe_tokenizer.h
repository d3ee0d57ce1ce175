// The Tokenizer put together from its parts: added tokens, normalizer, pre-tokenizer, BPE model,
// post-processor, decoder. Read by FromJson (tokenizer_json.cc); a reader of another format may
// build the parts itself.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/decoder.h"
#include "text/normalizer.h"
#include "text/post_processor.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer.h"

namespace mach::text {

struct TokenizerParts {
  std::unique_ptr<Bpe> bpe;
  std::vector<AddedToken> added_tokens;    // ids and normal forms set
  std::unique_ptr<Normalizer> normalizer;  // may be null
  PreTokenizerChain pre_tokenizers;
  PostProcessor post_processor;
  DecoderChain decoders;
};

class BpeTokenizer : public Tokenizer {
 public:
  BpeTokenizer(TokenizerParts parts, std::string_view source);
  BpeTokenizer(const BpeTokenizer&) = delete;
  BpeTokenizer& operator=(const BpeTokenizer&) = delete;
  ~BpeTokenizer() override;

  std::vector<int32_t> Encode(std::string_view text, bool add_special_tokens) const override;
  std::string Decode(std::span<const int32_t> ids, bool skip_special_tokens) const override;
  int32_t vocab_size() const override { return static_cast<int32_t>(infos_.size()); }
  std::optional<int32_t> TokenToId(std::string_view token) const override;
  bool IsSpecial(int32_t id) const override;
  bool IsAdded(int32_t id) const override;
  std::string TokenBytes(int32_t id) const override;
  std::unique_ptr<Decoding> StartDecoding(bool skip_special_tokens) const override;

 private:
  class PipelineDecoding;
  struct Scratch;
  class ScratchLease;

  struct TokenInfo {
    const AddedToken* added = nullptr;
    bool special = false;
  };

  void EncodePiece(std::string_view piece, bool at_origin, Scratch* scratch,
                   std::vector<int32_t>* out) const;
  void EncodeWords(std::string_view text, bool at_origin, Scratch* scratch,
                   std::vector<int32_t>* out) const;
  // What goes into the decoder for `id`; empty optional if there is nothing or it is skipped.
  std::optional<std::string_view> DecoderToken(int32_t id, bool skip_special_tokens) const;

  TokenizerParts parts_;
  std::vector<TokenInfo> infos_;  // by id
  std::unordered_map<std::string_view, int32_t> added_ids_;
  std::unique_ptr<TokenFinder> raw_finder_;
  std::unique_ptr<TokenFinder> normalized_finder_;
  // Working memory with warm word caches, handed from call to call.
  mutable std::mutex scratch_mutex_;
  mutable std::vector<std::unique_ptr<Scratch>> idle_scratch_;
};

}  // namespace mach::text
