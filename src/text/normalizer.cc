#include "text/normalizer.h"

#include <vector>

#include <nlohmann/json.hpp>
#include <utf8proc.h>

#include "base/error.h"
#include "text/byte_level.h"
#include "text/json_fields.h"
#include "text/pattern.h"
#include "text/unicode.h"

namespace mach::text {

namespace {

using nlohmann::json;

// Appends the normal form of `text`, in which no character is inert.
void AppendNormalized(NormalForm form, std::string_view text, std::string* out) {
  int options = UTF8PROC_STABLE;
  const bool compatible = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  const bool compose = form == NormalForm::kNfc || form == NormalForm::kNfkc;
  options |= compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  options |= compatible ? UTF8PROC_COMPAT : 0;
  const auto flags = static_cast<utf8proc_option_t>(options);
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  const auto size = static_cast<utf8proc_ssize_t>(text.size());
  std::vector<utf8proc_int32_t> codes(text.size() * 4 + 32);
  utf8proc_ssize_t count = utf8proc_decompose(bytes, size, codes.data(),
                                              static_cast<utf8proc_ssize_t>(codes.size()), flags);
  if (count > static_cast<utf8proc_ssize_t>(codes.size())) {
    codes.resize(static_cast<size_t>(count));
    count = utf8proc_decompose(bytes, size, codes.data(), count, flags);
  }
  if (count >= 0) {
    count = utf8proc_normalize_utf32(codes.data(), count, flags);
  }
  if (count < 0) {
    throw Error(ErrorCode::kInternal, "Unicode normalisation of " + std::to_string(text.size()) +
                                          " bytes failed: " + utf8proc_errmsg(count));
  }
  for (utf8proc_ssize_t i = 0; i < count; ++i) {
    AppendUtf8(static_cast<char32_t>(codes[static_cast<size_t>(i)]), out);
  }
}

// May normalisation change this character, or what stands before it because of it?
bool MayChange(NormalForm form, char32_t code, CharInfo info) {
  if (info.IsInert()) {
    return false;
  }
  return form == NormalForm::kNfc ? info.MayCompose() : code >= 0x80;
}

template <NormalForm kForm>
class UnicodeNormalizer : public Normalizer {
 public:
  void Apply(std::string* text) const override { NormalizeUnicode(kForm, text); }
};

class SequenceNormalizer : public Normalizer {
 public:
  explicit SequenceNormalizer(std::vector<std::unique_ptr<Normalizer>> parts)
      : parts_(std::move(parts)) {}

  void Apply(std::string* text) const override {
    for (const auto& part : parts_) {
      part->Apply(text);
    }
  }
  bool RemovesLeading() const override {
    for (const auto& part : parts_) {
      if (part->RemovesLeading()) {
        return true;
      }
    }
    return false;
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> parts_;
};

class ReplaceNormalizer : public Normalizer {
 public:
  ReplaceNormalizer(std::unique_ptr<Pattern> pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

  void Apply(std::string* text) const override {
    std::vector<Piece> pieces;
    pattern_->FindAll(*text, &pieces);
    std::string out;
    out.reserve(text->size() + text->size() / 4);
    for (const Piece& piece : pieces) {
      if (piece.is_match) {
        out += content_;
      } else {
        out.append(*text, piece.begin, piece.end - piece.begin);
      }
    }
    *text = std::move(out);
  }

 private:
  std::unique_ptr<Pattern> pattern_;
  std::string content_;
};

class PrependNormalizer : public Normalizer {
 public:
  explicit PrependNormalizer(std::string prefix) : prefix_(std::move(prefix)) {}
  void Apply(std::string* text) const override {
    if (!text->empty()) {
      text->insert(0, prefix_);
    }
  }

 private:
  std::string prefix_;
};

class StripNormalizer : public Normalizer {
 public:
  StripNormalizer(bool left, bool right) : left_(left), right_(right) {}

  void Apply(std::string* text) const override {
    const UnicodeTable& table = UnicodeTable::Get();
    size_t begin = 0;
    size_t end = 0;  // behind the last character that is no space
    bool leading = left_;
    for (size_t at = 0; at < text->size();) {
      const DecodedChar c = DecodeAt(text->data() + at);
      at += c.size;
      const bool space = table[c.code].IsSpace();
      leading = leading && space;
      begin = leading ? at : begin;
      end = space && right_ ? end : at;
    }
    *text = end > begin ? text->substr(begin, end - begin) : std::string();
  }
  bool RemovesLeading() const override { return left_; }

 private:
  bool left_;
  bool right_;
};

// Lower case as in Rust's standard library (Unicode 17), utf8proc's table plus what is younger.
class LowercaseNormalizer : public Normalizer {
 public:
  void Apply(std::string* text) const override {
    std::string out;
    out.reserve(text->size());
    for (size_t at = 0; at < text->size();) {
      const DecodedChar c = DecodeAt(text->data() + at);
      at += c.size;
      if (c.code == 0x130) {
        AppendUtf8('i', &out);  // the one character with a longer lower case
        AppendUtf8(0x307, &out);
      } else {
        AppendUtf8(Lower(c.code), &out);
      }
    }
    *text = std::move(out);
  }

 private:
  static char32_t Lower(char32_t code) {
    switch (code) {
      case 0x1C89:
      case 0xA7CC:
      case 0xA7CE:
      case 0xA7D2:
      case 0xA7D4:
      case 0xA7DA:
        return code + 1;
      case 0xA7CB:
        return 0x264;
      case 0xA7DC:
        return 0x19B;
      default:
        break;
    }
    if (code >= 0x10D50 && code <= 0x10D65) {
      return code + 0x20;
    }
    if (code >= 0x16EA0 && code <= 0x16EB8) {
      return code + 0x1B;
    }
    return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code)));
  }
};

class ByteLevelNormalizer : public Normalizer {
 public:
  void Apply(std::string* text) const override {
    std::string out;
    AppendByteLevel(*text, &out);
    *text = std::move(out);
  }
};

}  // namespace

void NormalizeUnicode(NormalForm form, std::string* text) {
  const UnicodeTable& table = UnicodeTable::Get();
  std::string out;
  size_t copied = 0;    // everything before is in `out`
  size_t boundary = 0;  // the last character that nothing before it can touch
  size_t at = 0;
  while (at < text->size()) {
    if (static_cast<unsigned char>((*text)[at]) < 0x80) {
      boundary = at++;
      continue;
    }
    const DecodedChar c = DecodeAt(text->data() + at);
    const CharInfo info = table[c.code];
    if (!MayChange(form, c.code, info)) {
      boundary = info.IsInert() ? at + c.size : at;
      at += c.size;
      continue;
    }
    size_t stop = at + c.size;
    while (stop < text->size()) {
      const DecodedChar next = DecodeAt(text->data() + stop);
      if (!MayChange(form, next.code, table[next.code])) {
        break;
      }
      stop += next.size;
    }
    out.append(*text, copied, boundary - copied);
    AppendNormalized(form, std::string_view(*text).substr(boundary, stop - boundary), &out);
    copied = stop;
    boundary = stop;
    at = stop;
  }
  if (copied > 0) {
    out.append(*text, copied, std::string::npos);
    *text = std::move(out);
  }
}

std::unique_ptr<Normalizer> Normalizer::FromJson(const json& field, std::string_view source) {
  if (field.is_null()) {
    return nullptr;
  }
  const JsonFields fields(field, source, "normalizer");
  const std::string type = fields.String("type");
  if (type == "Sequence") {
    std::vector<std::unique_ptr<Normalizer>> parts;
    for (const json& part : fields.Array("normalizers")) {
      if (auto normalizer = FromJson(part, source)) {
        parts.push_back(std::move(normalizer));
      }
    }
    if (parts.empty()) {
      return nullptr;
    }
    return std::make_unique<SequenceNormalizer>(std::move(parts));
  }
  if (type == "NFC") {
    return std::make_unique<UnicodeNormalizer<NormalForm::kNfc>>();
  }
  if (type == "NFD") {
    return std::make_unique<UnicodeNormalizer<NormalForm::kNfd>>();
  }
  if (type == "NFKC") {
    return std::make_unique<UnicodeNormalizer<NormalForm::kNfkc>>();
  }
  if (type == "NFKD") {
    return std::make_unique<UnicodeNormalizer<NormalForm::kNfkd>>();
  }
  if (type == "Replace") {
    return std::make_unique<ReplaceNormalizer>(fields.PatternField("pattern"),
                                               fields.String("content"));
  }
  if (type == "Prepend") {
    return std::make_unique<PrependNormalizer>(fields.String("prepend"));
  }
  if (type == "Strip") {
    return std::make_unique<StripNormalizer>(fields.Bool("strip_left"), fields.Bool("strip_right"));
  }
  if (type == "Lowercase") {
    return std::make_unique<LowercaseNormalizer>();
  }
  if (type == "ByteLevel") {
    return std::make_unique<ByteLevelNormalizer>();
  }
  fields.UnsupportedType(type);
}

}  // namespace mach::text
