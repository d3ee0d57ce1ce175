#include "text/decoder.h"

#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "text/byte_level.h"
#include "text/json_fields.h"
#include "text/pattern.h"
#include "text/unicode.h"

namespace mach::text {

namespace {

using nlohmann::json;

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

class OutputStep : public DecodeStep {
 public:
  explicit OutputStep(std::string* out) : out_(out) {}
  void Text(std::string_view fragment) override { out_->append(fragment); }
  void EndToken() override {}
  void Finish() override {}

 private:
  std::string* out_;
};

// Without a decoder tokens are joined with spaces.
class JoinStep : public DecodeStep {
 public:
  explicit JoinStep(DecodeStep* next) : next_(next) {}
  void Text(std::string_view fragment) override {
    Begin();
    next_->Text(fragment);
  }
  void EndToken() override {
    Begin();
    in_token_ = false;
  }
  void Finish() override {
    any_ = false;
    next_->Finish();
  }

 private:
  void Begin() {
    if (!in_token_ && any_) {
      next_->Text(" ");
    }
    in_token_ = true;
    any_ = true;
  }

  DecodeStep* next_;
  bool in_token_ = false;
  bool any_ = false;
};

std::string Replaced(const Pattern& pattern, std::string_view content, std::string_view text) {
  std::vector<Piece> pieces;
  pattern.FindAll(text, &pieces);
  std::string out;
  for (const Piece& piece : pieces) {
    out += piece.is_match ? content : text.substr(piece.begin, piece.end - piece.begin);
  }
  return out;
}

class ReplaceStep : public DecodeStep {
 public:
  // `by_fragment`: the pattern is one character, so a fragment can be replaced by itself.
  ReplaceStep(std::shared_ptr<const Pattern> pattern, std::string content, bool by_fragment,
              DecodeStep* next)
      : pattern_(std::move(pattern)),
        content_(std::move(content)),
        by_fragment_(by_fragment),
        next_(next) {}

  void Text(std::string_view fragment) override {
    if (by_fragment_) {
      next_->Text(Replaced(*pattern_, content_, fragment));
    } else {
      token_ += fragment;
    }
  }
  void EndToken() override {
    if (!by_fragment_) {
      next_->Text(Replaced(*pattern_, content_, token_));
      token_.clear();
    }
    next_->EndToken();
  }
  void Finish() override { next_->Finish(); }

 private:
  std::shared_ptr<const Pattern> pattern_;
  std::string content_;
  bool by_fragment_;
  DecodeStep* next_;
  std::string token_;
};

// The byte of "<0x0A>". A '+' in place of the first digit is what Rust's parser also takes.
std::optional<char> ByteOfToken(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') {
    return std::nullopt;
  }
  const auto digit = [](char c) -> int {
    if (c >= '0' && c <= '9') {
      return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
      return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  const int high = token[3] == '+' ? 0 : digit(token[3]);
  const int low = digit(token[4]);
  if (high < 0 || low < 0) {
    return std::nullopt;
  }
  return static_cast<char>(high * 16 + low);
}

// A run of byte tokens becomes text if it is valid as a whole, otherwise one U+FFFD for each byte:
// so nothing of a run is certain before it ends.
class ByteFallbackStep : public DecodeStep {
 public:
  explicit ByteFallbackStep(DecodeStep* next) : next_(next) {}

  void Text(std::string_view fragment) override { token_ += fragment; }
  void EndToken() override {
    if (const auto byte = ByteOfToken(token_)) {
      run_.push_back(*byte);
    } else {
      FlushRun();
      next_->Text(token_);
      next_->EndToken();
    }
    token_.clear();
  }
  void Finish() override {
    FlushRun();
    next_->Finish();
  }

 private:
  void FlushRun() {
    if (run_.empty()) {
      return;
    }
    if (ValidUtf8Prefix(run_) == run_.size()) {
      next_->Text(run_);
      next_->EndToken();
    } else {
      for (size_t i = 0; i < run_.size(); ++i) {
        next_->Text(kReplacement);
        next_->EndToken();
      }
    }
    run_.clear();
  }

  DecodeStep* next_;
  std::string token_;
  std::string run_;
};

class FuseStep : public DecodeStep {
 public:
  explicit FuseStep(DecodeStep* next) : next_(next) {}
  void Text(std::string_view fragment) override { next_->Text(fragment); }
  void EndToken() override {}
  void Finish() override {
    next_->EndToken();
    next_->Finish();
  }

 private:
  DecodeStep* next_;
};

// Takes up to `start` and `stop` times `content` from the ends of each token.
class StripStep : public DecodeStep {
 public:
  StripStep(char32_t content, uint32_t start, uint32_t stop, DecodeStep* next)
      : code_(content), start_(start), stop_(stop), next_(next), start_left_(start) {
    AppendUtf8(content, &content_);
  }

  void Text(std::string_view fragment) override {
    std::string out;
    for (size_t at = 0; at < fragment.size();) {
      const DecodedChar c = DecodeAt(fragment.data() + at);
      const std::string_view bytes = fragment.substr(at, c.size);
      at += c.size;
      if (c.code != code_) {
        start_left_ = 0;
        for (; held_ > 0; --held_) {
          out += content_;
        }
        out += bytes;
      } else if (start_left_ > 0) {
        --start_left_;
      } else if (held_ < stop_) {
        ++held_;
      } else {
        out += content_;
      }
    }
    next_->Text(out);
  }
  void EndToken() override {
    held_ = 0;
    start_left_ = start_;
    next_->EndToken();
  }
  void Finish() override { next_->Finish(); }

 private:
  char32_t code_;
  std::string content_;
  uint32_t start_;
  uint32_t stop_;
  DecodeStep* next_;
  uint32_t start_left_;
  uint32_t held_ = 0;  // contents at the end so far
};

// Appends the bytes that the token's byte-level characters stand for, or, if it has others, itself.
void AppendTokenBytes(std::string_view token, std::string* out) {
  const size_t before = out->size();
  for (size_t at = 0; at < token.size();) {
    const DecodedChar c = DecodeAt(token.data() + at);
    const int byte = ByteOfByteLevelChar(c.code);
    if (byte < 0) {
      out->resize(before);
      out->append(token);
      return;
    }
    out->push_back(static_cast<char>(byte));
    at += c.size;
  }
}

// All tokens become one, broken UTF-8 is replaced.
class ByteLevelStep : public DecodeStep {
 public:
  explicit ByteLevelStep(DecodeStep* next) : next_(next) {}

  void Text(std::string_view fragment) override { token_ += fragment; }
  void EndToken() override {
    AppendTokenBytes(token_, &bytes_);
    token_.clear();
    Emit(false);
  }
  void Finish() override {
    Emit(true);
    next_->EndToken();
    next_->Finish();
  }

 private:
  void Emit(bool all) {
    std::string_view rest = bytes_;
    while (!rest.empty()) {
      const size_t valid = ValidUtf8Prefix(rest);
      if (valid > 0) {
        next_->Text(rest.substr(0, valid));
        rest.remove_prefix(valid);
      }
      if (rest.empty()) {
        break;
      }
      const BrokenUtf8 broken = ClassifyBrokenUtf8(rest);
      if (broken.incomplete && !all) {
        break;
      }
      next_->Text(kReplacement);
      rest.remove_prefix(broken.size);
    }
    bytes_.erase(0, bytes_.size() - rest.size());
  }

  DecodeStep* next_;
  std::string token_;
  std::string bytes_;  // the begin of a character
};

class MetaspaceStep : public DecodeStep {
 public:
  MetaspaceStep(char32_t replacement, bool drop_in_first, DecodeStep* next)
      : code_(replacement), drop_in_first_(drop_in_first), next_(next) {}

  void Text(std::string_view fragment) override {
    std::string out;
    for (size_t at = 0; at < fragment.size();) {
      const DecodedChar c = DecodeAt(fragment.data() + at);
      if (c.code != code_) {
        out += fragment.substr(at, c.size);
      } else if (!first_ || !drop_in_first_) {
        out += ' ';
      }
      at += c.size;
    }
    next_->Text(out);
  }
  void EndToken() override {
    first_ = false;
    next_->EndToken();
  }
  void Finish() override {
    first_ = true;
    next_->Finish();
  }

 private:
  char32_t code_;
  bool drop_in_first_;
  DecodeStep* next_;
  bool first_ = true;
};

bool IsOneChar(std::string_view text) {
  return !text.empty() && DecodeAt(text.data()).size == text.size();
}

}  // namespace

void DecodePipeline::Push(std::string_view token, std::string* out) {
  steps_.back()->Text(token);
  steps_.back()->EndToken();
  out->append(text_);
  text_.clear();
}

void DecodePipeline::Finish(std::string* out) {
  steps_.back()->Finish();
  out->append(text_);
  text_.clear();
}

DecoderChain DecoderChain::FromJson(const json& field, std::string_view source) {
  DecoderChain chain;
  chain.Add(field, source);
  if (field.is_null()) {
    chain.stages_.push_back(
        {[](DecodeStep* next) { return std::make_unique<JoinStep>(next); }, nullptr});
  }
  return chain;
}

void DecoderChain::Add(const json& field, std::string_view source) {
  if (field.is_null()) {
    return;
  }
  const JsonFields fields(field, source, "decoder");
  const std::string type = fields.String("type");
  if (type == "Sequence") {
    for (const json& part : fields.Array("decoders")) {
      Add(part, source);
    }
  } else if (type == "ByteLevel") {
    stages_.push_back({[](DecodeStep* next) { return std::make_unique<ByteLevelStep>(next); },
                       [](std::string* bytes) {
                         std::string out;
                         AppendTokenBytes(*bytes, &out);
                         *bytes = std::move(out);
                       }});
  } else if (type == "ByteFallback") {
    stages_.push_back({[](DecodeStep* next) { return std::make_unique<ByteFallbackStep>(next); },
                       [](std::string* bytes) {
                         if (const auto byte = ByteOfToken(*bytes)) {
                           bytes->assign(1, *byte);
                         }
                       }});
  } else if (type == "Fuse") {
    stages_.push_back({[](DecodeStep* next) { return std::make_unique<FuseStep>(next); }, nullptr});
  } else if (type == "Strip") {
    const char32_t content = fields.Char("content");
    const uint32_t start = fields.Unsigned("start");
    const uint32_t stop = fields.Unsigned("stop");
    stages_.push_back({[content, start, stop](DecodeStep* next) {
                         return std::make_unique<StripStep>(content, start, stop, next);
                       },
                       nullptr});
  } else if (type == "Replace") {
    const std::shared_ptr<const Pattern> pattern = fields.PatternField("pattern");
    const std::string content = fields.String("content");
    const JsonFields pattern_fields(fields.Object("pattern"), source, "decoder");
    const bool one_char =
        pattern_fields.Has("String") && IsOneChar(pattern_fields.String("String"));
    stages_.push_back({[pattern, content, one_char](DecodeStep* next) {
                         return std::make_unique<ReplaceStep>(pattern, content, one_char, next);
                       },
                       [pattern, content](std::string* bytes) {
                         if (ValidUtf8Prefix(*bytes) == bytes->size()) {
                           *bytes = Replaced(*pattern, content, *bytes);
                         }
                       }});
  } else if (type == "Metaspace") {
    const char32_t replacement = fields.Char("replacement");
    const bool never =
        (fields.Has("prepend_scheme") && fields.String("prepend_scheme") == "never") ||
        !fields.Bool("add_prefix_space", true);
    std::string text;
    AppendUtf8(replacement, &text);
    const std::shared_ptr<const Pattern> pattern = Pattern::Literal(text);
    stages_.push_back(
        {[replacement, never](DecodeStep* next) {
           return std::make_unique<MetaspaceStep>(replacement, !never, next);
         },
         [pattern](std::string* bytes) { *bytes = Replaced(*pattern, " ", *bytes); }});
  } else {
    fields.UnsupportedType(type);
  }
}

std::unique_ptr<DecodePipeline> DecoderChain::NewPipeline() const {
  auto pipeline = std::make_unique<DecodePipeline>();
  pipeline->steps_.push_back(std::make_unique<OutputStep>(&pipeline->text_));
  for (size_t i = stages_.size(); i-- > 0;) {
    pipeline->steps_.push_back(stages_[i].start(pipeline->steps_.back().get()));
  }
  return pipeline;
}

std::string DecoderChain::TokenBytes(std::string_view token) const {
  std::string bytes(token);
  for (const Stage& stage : stages_) {
    if (stage.token_bytes) {
      stage.token_bytes(&bytes);
    }
  }
  return bytes;
}

}  // namespace mach::text
