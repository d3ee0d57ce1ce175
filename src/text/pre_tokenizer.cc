#include "text/pre_tokenizer.h"

#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "text/byte_level.h"
#include "text/json_fields.h"
#include "text/known_patterns.h"
#include "text/unicode.h"

namespace mach::text {

void PreTokens::Reset(std::string_view text, bool at_origin) {
  text_ = text;
  at_origin_ = at_origin;
  spans_.clear();
  if (!text.empty()) {
    spans_.push_back({0, static_cast<uint32_t>(text.size())});
  }
}

template <typename SplitWord>
void PreTokens::SplitEach(const SplitWord& split) {
  next_spans_.clear();
  for (const Span& span : spans_) {
    pieces_.clear();
    split(Word(span), &pieces_);
    for (const Piece& piece : pieces_) {
      if (piece.end > piece.begin) {
        next_spans_.push_back({span.begin + piece.begin, span.begin + piece.end});
      }
    }
  }
  spans_.swap(next_spans_);
}

template <typename Rewrite>
void PreTokens::RewriteEach(const Rewrite& rewrite) {
  std::string out;
  out.reserve(text_.size() + text_.size() / 4);
  next_spans_.clear();
  const bool at_origin = !spans_.empty() && IsOrigin(spans_.front());
  for (const Span& span : spans_) {
    const auto begin = static_cast<uint32_t>(out.size());
    rewrite(span, Word(span), &out);
    if (out.size() > INT32_MAX) {
      throw Error(ErrorCode::kResourceLimit, "the text grows beyond 2 GiB while it is tokenised");
    }
    if (out.size() > begin) {
      next_spans_.push_back({begin, static_cast<uint32_t>(out.size())});
    }
  }
  at_origin_ = at_origin;
  spans_.swap(next_spans_);
  storage_ = std::move(out);
  text_ = storage_;
}

namespace {

using nlohmann::json;

enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

Behavior BehaviorFrom(const JsonFields& fields, const char* name) {
  const std::string value = fields.String(name);
  if (value == "Removed") {
    return Behavior::kRemoved;
  }
  if (value == "Isolated") {
    return Behavior::kIsolated;
  }
  if (value == "MergedWithPrevious") {
    return Behavior::kMergedWithPrevious;
  }
  if (value == "MergedWithNext") {
    return Behavior::kMergedWithNext;
  }
  if (value == "Contiguous") {
    return Behavior::kContiguous;
  }
  fields.Fail("\"" + std::string(name) + "\" is \"" + value + "\", not a behaviour of Split");
}

// Turns matches and gaps into words, in place.
void ApplyBehavior(Behavior behavior, std::vector<Piece>* pieces) {
  size_t kept = 0;
  bool previous = false;
  std::vector<Piece>& all = *pieces;
  switch (behavior) {
    case Behavior::kIsolated:
      return;
    case Behavior::kRemoved:
      for (const Piece& piece : all) {
        if (!piece.is_match) {
          all[kept++] = piece;
        }
      }
      break;
    case Behavior::kContiguous:
    case Behavior::kMergedWithPrevious:
      for (const Piece& piece : all) {
        const bool joins = behavior == Behavior::kContiguous ? piece.is_match == previous
                                                             : piece.is_match && !previous;
        previous = piece.is_match;
        if (joins && kept > 0) {
          all[kept - 1].end = piece.end;
        } else {
          all[kept++] = piece;
        }
      }
      break;
    case Behavior::kMergedWithNext: {
      // From the back, collecting at the back.
      kept = all.size();
      for (size_t i = all.size(); i-- > 0;) {
        const Piece piece = all[i];
        if (piece.is_match && !previous && kept < all.size()) {
          all[kept].begin = piece.begin;
        } else {
          all[--kept] = piece;
        }
        previous = piece.is_match;
      }
      all.erase(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(kept));
      return;
    }
  }
  all.resize(kept);
}

class SplitStep : public PreTokenizer {
 public:
  SplitStep(std::unique_ptr<Pattern> pattern, Behavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

  void Apply(PreTokens* tokens) const override {
    tokens->SplitEach([this](std::string_view word, std::vector<Piece>* pieces) {
      pattern_->FindAll(word, pieces);
      if (invert_) {
        for (Piece& piece : *pieces) {
          piece.is_match = !piece.is_match;
        }
      }
      ApplyBehavior(behavior_, pieces);
    });
  }

 private:
  std::unique_ptr<Pattern> pattern_;
  Behavior behavior_;
  bool invert_;
};

// Splits where single characters match a predicate; each is a match of its own.
template <typename Accept>
void FindChars(std::string_view text, std::vector<Piece>* pieces, const Accept& accept) {
  uint32_t gap = 0;
  for (uint32_t at = 0; at < text.size();) {
    const DecodedChar c = DecodeAt(text.data() + at);
    if (accept(c.code)) {
      if (gap < at) {
        pieces->push_back({gap, at, false});
      }
      pieces->push_back({at, at + c.size, true});
      gap = at + c.size;
    }
    at += c.size;
  }
  if (gap < text.size()) {
    pieces->push_back({gap, static_cast<uint32_t>(text.size()), false});
  }
}

template <typename Accept>
class CharSplitStep : public PreTokenizer {
 public:
  CharSplitStep(Behavior behavior, Accept accept) : behavior_(behavior), accept_(accept) {}

  void Apply(PreTokens* tokens) const override {
    tokens->SplitEach([this](std::string_view word, std::vector<Piece>* pieces) {
      FindChars(word, pieces, accept_);
      ApplyBehavior(behavior_, pieces);
    });
  }

 private:
  Behavior behavior_;
  Accept accept_;
};

template <typename Accept>
std::unique_ptr<PreTokenizer> MakeCharSplit(Behavior behavior, Accept accept) {
  return std::make_unique<CharSplitStep<Accept>>(behavior, accept);
}

// \w+|[^\w\s]+: runs of word characters and runs of neither these nor spaces.
class WhitespaceStep : public PreTokenizer {
 public:
  void Apply(PreTokens* tokens) const override {
    const UnicodeTable& table = UnicodeTable::Get();
    const auto kind_of = [&](char32_t code) {
      const CharInfo info = table[code];
      return info.IsWord() ? 1 : (info.IsSpace() ? 0 : 2);
    };
    tokens->SplitEach([&](std::string_view word, std::vector<Piece>* pieces) {
      uint32_t begin = 0;
      int run = 0;
      for (uint32_t at = 0; at < word.size();) {
        const DecodedChar c = DecodeAt(word.data() + at);
        const int kind = kind_of(c.code);
        if (kind != run) {
          if (run != 0) {
            pieces->push_back({begin, at, true});
          }
          begin = at;
          run = kind;
        }
        at += c.size;
      }
      if (run != 0) {
        pieces->push_back({begin, static_cast<uint32_t>(word.size()), true});
      }
    });
  }
};

class FixedLengthStep : public PreTokenizer {
 public:
  explicit FixedLengthStep(uint32_t length) : length_(length) {}

  void Apply(PreTokens* tokens) const override {
    tokens->SplitEach([this](std::string_view word, std::vector<Piece>* pieces) {
      uint32_t begin = 0;
      uint32_t count = 0;
      for (uint32_t at = 0; at < word.size();) {
        at += DecodeAt(word.data() + at).size;
        if (++count == length_ || at == word.size()) {
          pieces->push_back({begin, at, true});
          begin = at;
          count = 0;
        }
      }
    });
  }

 private:
  uint32_t length_;
};

class ByteLevelStep : public PreTokenizer {
 public:
  ByteLevelStep(bool add_prefix_space, bool use_regex, bool map_bytes)
      : pattern_(use_regex ? Pattern::Regex(kGpt2Expression, "ByteLevel") : nullptr),
        add_prefix_space_(add_prefix_space),
        map_bytes_(map_bytes) {}

  void Apply(PreTokens* tokens) const override {
    if (add_prefix_space_) {
      tokens->RewriteEach([](const Span&, std::string_view word, std::string* out) {
        if (word.front() != ' ') {
          out->push_back(' ');
        }
        out->append(word);
      });
    }
    if (pattern_ != nullptr) {
      tokens->SplitEach([this](std::string_view word, std::vector<Piece>* pieces) {
        pattern_->FindAll(word, pieces);
      });
    }
    if (map_bytes_) {
      tokens->RewriteEach(
          [](const Span&, std::string_view word, std::string* out) { AppendByteLevel(word, out); });
    }
  }

 private:
  std::unique_ptr<Pattern> pattern_;
  bool add_prefix_space_;
  bool map_bytes_;
};

enum class PrependScheme { kFirst, kNever, kAlways };

class MetaspaceStep : public PreTokenizer {
 public:
  MetaspaceStep(char32_t replacement, PrependScheme scheme, bool split)
      : code_(replacement), scheme_(scheme), split_(split) {
    AppendUtf8(replacement, &replacement_);
  }

  void Apply(PreTokens* tokens) const override {
    tokens->RewriteEach([&](const Span& span, std::string_view word, std::string* out) {
      const bool may_prepend = scheme_ == PrependScheme::kAlways ||
                               (scheme_ == PrependScheme::kFirst && tokens->IsOrigin(span));
      if (may_prepend && word.front() != ' ' && !word.starts_with(replacement_)) {
        out->append(replacement_);
      }
      for (const char c : word) {
        if (c == ' ') {
          out->append(replacement_);
        } else {
          out->push_back(c);
        }
      }
    });
    if (split_) {
      tokens->SplitEach([this](std::string_view word, std::vector<Piece>* pieces) {
        FindChars(word, pieces, [this](char32_t code) { return code == code_; });
        ApplyBehavior(Behavior::kMergedWithNext, pieces);
      });
    }
  }

 private:
  char32_t code_;
  PrependScheme scheme_;
  bool split_;
  std::string replacement_;
};

std::unique_ptr<PreTokenizer> MetaspaceFrom(const JsonFields& fields) {
  PrependScheme scheme = PrependScheme::kAlways;
  if (fields.Has("prepend_scheme")) {
    const std::string name = fields.String("prepend_scheme");
    if (name == "first") {
      scheme = PrependScheme::kFirst;
    } else if (name == "never") {
      scheme = PrependScheme::kNever;
    } else if (name != "always") {
      fields.Fail("\"prepend_scheme\" is \"" + name + "\", not first, never or always");
    }
  }
  if (!fields.Bool("add_prefix_space", true)) {
    if (fields.Has("prepend_scheme") && scheme != PrependScheme::kNever) {
      fields.Fail("\"add_prefix_space\" contradicts \"prepend_scheme\"");
    }
    scheme = PrependScheme::kNever;
  }
  return std::make_unique<MetaspaceStep>(fields.Char("replacement"), scheme,
                                         fields.Bool("split", true));
}

bool IsDelimiter(char32_t code) {
  return UnicodeTable::Get()[code].IsDelimiter();
}
bool IsNumeric(char32_t code) {
  return UnicodeTable::Get()[code].IsNumeric();
}
bool IsSpace(char32_t code) {
  return UnicodeTable::Get()[code].IsSpace();
}

struct Builder {
  std::string_view source;
  bool map_bytes;
  std::vector<std::unique_ptr<PreTokenizer>>* steps;

  void Add(const json& field) const {
    if (field.is_null()) {
      return;
    }
    const JsonFields fields(field, source, "pre_tokenizer");
    const std::string type = fields.String("type");
    if (type == "Sequence") {
      for (const json& part : fields.Array("pretokenizers")) {
        Add(part);
      }
      return;
    }
    steps->push_back(Make(type, fields));
  }

  std::unique_ptr<PreTokenizer> Make(const std::string& type, const JsonFields& fields) const {
    if (type == "Split") {
      return std::make_unique<SplitStep>(fields.PatternField("pattern"),
                                         BehaviorFrom(fields, "behavior"), fields.Bool("invert"));
    }
    if (type == "ByteLevel") {
      return std::make_unique<ByteLevelStep>(fields.Bool("add_prefix_space"),
                                             fields.Bool("use_regex", true), map_bytes);
    }
    if (type == "Metaspace") {
      return MetaspaceFrom(fields);
    }
    if (type == "Digits") {
      const bool single = fields.Bool("individual_digits");
      return MakeCharSplit(single ? Behavior::kIsolated : Behavior::kContiguous, IsNumeric);
    }
    if (type == "Punctuation") {
      return MakeCharSplit(
          fields.Has("behavior") ? BehaviorFrom(fields, "behavior") : Behavior::kIsolated,
          IsDelimiter);
    }
    if (type == "Whitespace") {
      return std::make_unique<WhitespaceStep>();
    }
    if (type == "WhitespaceSplit") {
      return MakeCharSplit(Behavior::kRemoved, IsSpace);
    }
    if (type == "CharDelimiterSplit") {
      const char32_t delimiter = fields.Char("delimiter");
      return MakeCharSplit(Behavior::kRemoved,
                           [delimiter](char32_t code) { return code == delimiter; });
    }
    if (type == "FixedLength") {
      const uint32_t length = fields.Has("length") ? fields.Unsigned("length") : 5;
      if (length == 0) {
        fields.Fail("\"length\" is 0");
      }
      return std::make_unique<FixedLengthStep>(length);
    }
    fields.UnsupportedType(type);
  }
};

// The types of all steps, in order.
void CollectTypes(const json& field, std::vector<std::string>* types) {
  if (!field.is_object()) {
    return;
  }
  const auto type = field.find("type");
  const auto parts = field.find("pretokenizers");
  if (type != field.end() && *type == "Sequence" && parts != field.end() && parts->is_array()) {
    for (const json& part : *parts) {
      CollectTypes(part, types);
    }
  } else {
    types->push_back(type != field.end() && type->is_string() ? type->get<std::string>() : "");
  }
}

}  // namespace

PreTokenizerChain PreTokenizerChain::FromJson(const json& field, std::string_view source,
                                              bool defer_bytes) {
  PreTokenizerChain chain;
  std::vector<std::string> types;
  CollectTypes(field, &types);
  size_t byte_levels = 0;
  for (const std::string& type : types) {
    byte_levels += type == "ByteLevel" ? 1 : 0;
  }
  chain.words_are_bytes =
      defer_bytes && byte_levels == 1 && !types.empty() && types.back() == "ByteLevel";
  Builder{source, !chain.words_are_bytes, &chain.steps}.Add(field);
  return chain;
}

}  // namespace mach::text
