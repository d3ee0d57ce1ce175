#include "text/bpe_tokenizer.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "text/unicode.h"

namespace mach::text {

namespace {

// More idle word caches than this are not worth their 3 MiB each.
constexpr size_t kMaxIdleScratch = 4;
// Buffers of a long text are given back.
constexpr size_t kMaxKeptBytes = 1U << 20;

}  // namespace

struct BpeTokenizer::Scratch {
  BpeScratch bpe;
  PreTokens tokens;
  std::vector<TokenFinder::Found> parts;
  std::vector<TokenFinder::Found> normalized_parts;
  std::string valid;
  std::string normalized;
};

// Takes working memory from the idle ones and puts it back.
class BpeTokenizer::ScratchLease {
 public:
  ScratchLease(const BpeTokenizer& owner, size_t text_bytes)
      : owner_(owner), keep_buffers_(text_bytes <= kMaxKeptBytes) {
    const std::lock_guard lock(owner_.scratch_mutex_);
    if (!owner_.idle_scratch_.empty()) {
      scratch_ = std::move(owner_.idle_scratch_.back());
      owner_.idle_scratch_.pop_back();
    }
    if (scratch_ == nullptr) {
      scratch_ = std::make_unique<Scratch>();
    }
  }
  ScratchLease(const ScratchLease&) = delete;
  ScratchLease& operator=(const ScratchLease&) = delete;
  ~ScratchLease() {
    if (!keep_buffers_) {
      auto fresh = std::make_unique<Scratch>();
      std::swap(fresh->bpe.cache, scratch_->bpe.cache);
      scratch_ = std::move(fresh);
    }
    const std::lock_guard lock(owner_.scratch_mutex_);
    if (owner_.idle_scratch_.size() < kMaxIdleScratch) {
      owner_.idle_scratch_.push_back(std::move(scratch_));
    }
  }

  Scratch* get() const { return scratch_.get(); }

 private:
  const BpeTokenizer& owner_;
  std::unique_ptr<Scratch> scratch_;
  bool keep_buffers_;
};

BpeTokenizer::BpeTokenizer(TokenizerParts parts, std::string_view source)
    : parts_(std::move(parts)) {
  int32_t end = parts_.bpe->vocab().id_end();
  for (const AddedToken& token : parts_.added_tokens) {
    end = std::max(end, token.id + 1);
  }
  infos_.resize(static_cast<size_t>(end));
  std::vector<const AddedToken*> raw;
  std::vector<const AddedToken*> normalized;
  for (const AddedToken& token : parts_.added_tokens) {
    infos_[static_cast<size_t>(token.id)].added = &token;
    added_ids_[token.content] = token.id;
    (token.normalized ? normalized : raw).push_back(&token);
  }
  // `tokenizers` tells special tokens by their text, not by their id.
  for (const AddedToken& token : parts_.added_tokens) {
    if (token.special) {
      infos_[static_cast<size_t>(token.id)].special =
          !token.normalized || token.normalized_content == token.content;
      const int32_t in_model = parts_.bpe->vocab().Find(token.content);
      if (in_model >= 0 && infos_[static_cast<size_t>(in_model)].added == nullptr) {
        infos_[static_cast<size_t>(in_model)].special = true;
      }
    }
  }
  raw_finder_ = std::make_unique<TokenFinder>(raw, false, source);
  normalized_finder_ = std::make_unique<TokenFinder>(normalized, true, source);
}

BpeTokenizer::~BpeTokenizer() = default;

std::vector<int32_t> BpeTokenizer::Encode(std::string_view text, bool add_special_tokens) const {
  if (text.size() > INT32_MAX) {
    throw Error(ErrorCode::kResourceLimit,
                "a text of " + std::to_string(text.size()) + " bytes; at most 2 GiB are tokenised");
  }
  const ScratchLease lease(*this, text.size());
  Scratch* scratch = lease.get();
  if (ValidUtf8Prefix(text) != text.size()) {
    scratch->valid.clear();
    AppendReplacingBroken(text, &scratch->valid);
    text = scratch->valid;
  }
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 4 + 16);
  scratch->parts.clear();
  raw_finder_->Find(text, &scratch->parts);
  for (const TokenFinder::Found& part : scratch->parts) {
    if (part.id >= 0) {
      ids.push_back(part.id);
    } else {
      EncodePiece(text.substr(part.begin, part.end - part.begin), part.begin == 0, scratch, &ids);
    }
  }
  parts_.post_processor.Apply(add_special_tokens, &ids);
  return ids;
}

void BpeTokenizer::EncodePiece(std::string_view piece, bool at_origin, Scratch* scratch,
                               std::vector<int32_t>* out) const {
  if (parts_.normalizer != nullptr) {
    // Where the front is cut off, the rest no longer begins where the input does.
    if (parts_.normalizer->RemovesLeading() &&
        UnicodeTable::Get()[DecodeAt(piece.data()).code].IsSpace()) {
      at_origin = false;
    }
    scratch->normalized.assign(piece);
    parts_.normalizer->Apply(&scratch->normalized);
    piece = scratch->normalized;
    if (piece.size() > INT32_MAX) {
      throw Error(ErrorCode::kResourceLimit, "the normalised text is longer than 2 GiB");
    }
  }
  if (normalized_finder_->empty()) {
    EncodeWords(piece, at_origin, scratch, out);
    return;
  }
  scratch->normalized_parts.clear();
  normalized_finder_->Find(piece, &scratch->normalized_parts);
  for (const TokenFinder::Found& part : scratch->normalized_parts) {
    if (part.id >= 0) {
      out->push_back(part.id);
    } else {
      EncodeWords(piece.substr(part.begin, part.end - part.begin), at_origin && part.begin == 0,
                  scratch, out);
    }
  }
}

void BpeTokenizer::EncodeWords(std::string_view text, bool at_origin, Scratch* scratch,
                               std::vector<int32_t>* out) const {
  PreTokens& tokens = scratch->tokens;
  tokens.Reset(text, at_origin);
  for (const auto& step : parts_.pre_tokenizers.steps) {
    step->Apply(&tokens);
  }
  for (const Span& span : tokens.spans()) {
    parts_.bpe->Tokenize(tokens.Word(span), &scratch->bpe, out);
  }
}

std::optional<std::string_view> BpeTokenizer::DecoderToken(int32_t id,
                                                           bool skip_special_tokens) const {
  if (id < 0 || id >= vocab_size()) {
    return std::nullopt;
  }
  const TokenInfo& info = infos_[static_cast<size_t>(id)];
  if (info.special && skip_special_tokens) {
    return std::nullopt;
  }
  if (info.added != nullptr) {
    return info.added->normalized_content;
  }
  return parts_.bpe->vocab().Token(id);
}

class BpeTokenizer::PipelineDecoding : public Tokenizer::Decoding {
 public:
  PipelineDecoding(const BpeTokenizer& owner, bool skip_special_tokens)
      : owner_(owner),
        pipeline_(owner.parts_.decoders.NewPipeline()),
        skip_special_tokens_(skip_special_tokens) {}

  void Push(int32_t id, std::string* out) override {
    if (const auto token = owner_.DecoderToken(id, skip_special_tokens_)) {
      pipeline_->Push(*token, out);
    }
  }
  void Finish(std::string* out) override { pipeline_->Finish(out); }

 private:
  const BpeTokenizer& owner_;
  std::unique_ptr<DecodePipeline> pipeline_;
  bool skip_special_tokens_;
};

std::unique_ptr<Tokenizer::Decoding> BpeTokenizer::StartDecoding(bool skip_special_tokens) const {
  return std::make_unique<PipelineDecoding>(*this, skip_special_tokens);
}

std::string BpeTokenizer::Decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  PipelineDecoding decoding(*this, skip_special_tokens);
  std::string out;
  for (const int32_t id : ids) {
    decoding.Push(id, &out);
  }
  decoding.Finish(&out);
  return out;
}

std::optional<int32_t> BpeTokenizer::TokenToId(std::string_view token) const {
  const auto added = added_ids_.find(token);
  if (added != added_ids_.end()) {
    return added->second;
  }
  const int32_t id = parts_.bpe->vocab().Find(token);
  return id >= 0 ? std::optional<int32_t>(id) : std::nullopt;
}

bool BpeTokenizer::IsSpecial(int32_t id) const {
  return id >= 0 && id < vocab_size() && infos_[static_cast<size_t>(id)].special;
}

bool BpeTokenizer::IsAdded(int32_t id) const {
  return id >= 0 && id < vocab_size() && infos_[static_cast<size_t>(id)].added != nullptr;
}

std::string BpeTokenizer::TokenBytes(int32_t id) const {
  if (id < 0 || id >= vocab_size()) {
    return "";
  }
  const TokenInfo& info = infos_[static_cast<size_t>(id)];
  if (info.added != nullptr) {
    return info.added->content;
  }
  const auto token = parts_.bpe->vocab().Token(id);
  return token ? parts_.decoders.TokenBytes(*token) : "";
}

}  // namespace mach::text
