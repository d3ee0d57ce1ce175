#include "jinja/lexer.h"

#include <array>
#include <cstdio>

#include "base/error.h"
#include "jinja/unicode.h"

namespace mach::jinja {

void FailSyntax(std::string_view source_name, int line, const std::string& reason) {
  throw Error(ErrorCode::kCorruptFile,
              "chat template " + std::string(source_name) + ", line " + std::to_string(line) +
                  ": " + reason,
              "give another template");
}

namespace {

constexpr std::array<std::string_view, 6> kTwoCharOperators = {"//", "**", "==", "!=", ">=", "<="};
constexpr std::string_view kOneCharOperators = "+-/*%~[](){}><=.:|,;";

bool IsAsciiDigit(char c) {
  return c >= '0' && c <= '9';
}

int HexDigit(char c) {
  if (IsAsciiDigit(c)) {
    return c - '0';
  }
  if (c >= 'a' && c <= 'f') {
    return c - 'a' + 10;
  }
  if (c >= 'A' && c <= 'F') {
    return c - 'A' + 10;
  }
  return -1;
}

// Jinja sees \n only, and drops one newline at the very end.
std::string NormalizeNewlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') {
        ++i;
      }
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n') {
    out.pop_back();
  }
  return out;
}

class Lexer {
 public:
  Lexer(std::string_view source, std::string_view name) : name_(name) {
    if (!IsValidUtf8(source)) {
      FailSyntax(name, 1, "is not valid UTF-8");
    }
    source_ = NormalizeNewlines(source);
  }

  std::vector<Token> Run() {
    while (position_ < source_.size()) {
      LexData();
    }
    Push(TokenType::kEof, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void Fail(const std::string& reason) const { FailSyntax(name_, line_, reason); }

  void Push(TokenType type, std::string text) { tokens_.push_back({type, line_, std::move(text)}); }

  bool At(std::string_view text) const { return At(text, position_); }
  bool At(std::string_view text, size_t position) const {
    return source_.compare(position, text.size(), text) == 0;
  }

  // Consumes up to `end`, which keeps the line number right and tells whether a line begins there.
  void AdvanceTo(size_t end) {
    for (size_t i = position_; i < end; ++i) {
      line_ += source_[i] == '\n' ? 1 : 0;
    }
    if (end > position_) {
      line_starting_ = source_[end - 1] == '\n';
    }
    position_ = end;
  }

  size_t SkipSpace(size_t position) const {
    while (position < source_.size()) {
      const CodePoint c = DecodeAt(source_, position);
      if (!IsSpace(c.value)) {
        break;
      }
      position += c.size_bytes;
    }
    return position;
  }

  // End of "{% raw %}" whose "{%" is at `position`, or npos. `sign` becomes '-', '+' or 0.
  size_t MatchRawTag(size_t position, std::string_view keyword, char* sign) const {
    size_t p = position + 2;
    *sign = 0;
    if (p < source_.size() && (source_[p] == '-' || source_[p] == '+')) {
      *sign = source_[p++];
    }
    p = SkipSpace(p);
    if (!At(keyword, p)) {
      return std::string::npos;
    }
    p = SkipSpace(p + keyword.size());
    const bool end_tag = keyword == "endraw";
    if (At("-%}", p)) {
      return SkipSpace(p + 3);
    }
    if (end_tag && At("+%}", p)) {
      return p + 3;
    }
    if (At("%}", p)) {
      p += 2;
      return end_tag && p < source_.size() && source_[p] == '\n' ? p + 1 : p;
    }
    return std::string::npos;
  }

  // Emits source_[position_, tag) as data, with the whitespace control of the tag that follows.
  void EmitData(size_t tag, char sign, bool lstrip) {
    std::string text = source_.substr(position_, tag - position_);
    if (sign == '-') {
      size_t end = text.size();
      while (end > 0) {
        const CodePoint c = DecodeBefore(text, end);
        if (!IsSpace(c.value)) {
          break;
        }
        end -= c.size_bytes;
      }
      text.resize(end);
    } else if (sign != '+' && lstrip) {
      const size_t newline = text.rfind('\n');
      const size_t begin = newline == std::string::npos ? 0 : newline + 1;
      if (begin > 0 || line_starting_) {
        size_t p = begin;
        while (p < text.size()) {
          const CodePoint c = DecodeAt(text, p);
          if (!IsSpace(c.value)) {
            break;
          }
          p += c.size_bytes;
        }
        if (p == text.size()) {
          text.resize(begin);
        }
      }
    }
    if (!text.empty()) {
      Push(TokenType::kData, std::move(text));
    }
  }

  void LexData() {
    size_t tag = position_;
    while (true) {
      tag = source_.find('{', tag);
      if (tag == std::string::npos) {
        Push(TokenType::kData, source_.substr(position_));
        AdvanceTo(source_.size());
        return;
      }
      const char next = tag + 1 < source_.size() ? source_[tag + 1] : '\0';
      if (next == '%' || next == '{' || next == '#') {
        break;
      }
      ++tag;
    }
    char sign = 0;
    if (source_[tag + 1] == '%') {
      const size_t raw_end = MatchRawTag(tag, "raw", &sign);
      if (raw_end != std::string::npos) {
        EmitData(tag, sign, true);
        AdvanceTo(raw_end);
        LexRaw();
        return;
      }
    }
    size_t end = tag + 2;
    sign = 0;
    if (end < source_.size() && (source_[end] == '-' || source_[end] == '+')) {
      sign = source_[end++];
    }
    const char opener = source_[tag + 1];
    EmitData(tag, sign, opener != '{');
    AdvanceTo(end);
    if (opener == '#') {
      LexComment();
    } else {
      LexTag(opener == '{');
    }
  }

  void LexComment() {
    const size_t close = source_.find("#}", position_);
    if (close == std::string::npos) {
      Fail("Missing end of comment tag");
    }
    size_t end = close + 2;
    const char before = close > position_ ? source_[close - 1] : '\0';
    if (before == '-') {
      end = SkipSpace(end);
    } else if (before != '+' && end < source_.size() && source_[end] == '\n') {
      ++end;
    }
    AdvanceTo(end);
  }

  void LexRaw() {
    size_t tag = position_;
    while (true) {
      tag = source_.find("{%", tag);
      if (tag == std::string::npos) {
        Fail("Missing end of raw directive");
      }
      char sign = 0;
      const size_t end = MatchRawTag(tag, "endraw", &sign);
      if (end != std::string::npos) {
        EmitData(tag, sign, true);
        AdvanceTo(end);
        return;
      }
      ++tag;
    }
  }

  // If the tag ends here, consumes its end with the whitespace that goes with it.
  bool LexTagEnd(bool variable) {
    const std::string_view close = variable ? "}}" : "%}";
    const char c = source_[position_];
    if (c == '-' && At(close, position_ + 1)) {
      Push(variable ? TokenType::kVariableEnd : TokenType::kBlockEnd, "");
      AdvanceTo(SkipSpace(position_ + 3));
      return true;
    }
    if (!variable && c == '+' && At(close, position_ + 1)) {
      Push(TokenType::kBlockEnd, "");
      AdvanceTo(position_ + 3);
      return true;
    }
    if (!At(close)) {
      return false;
    }
    Push(variable ? TokenType::kVariableEnd : TokenType::kBlockEnd, "");
    size_t end = position_ + 2;
    if (!variable && end < source_.size() && source_[end] == '\n') {
      ++end;
    }
    AdvanceTo(end);
    return true;
  }

  void LexTag(bool variable) {
    Push(variable ? TokenType::kVariableBegin : TokenType::kBlockBegin, "");
    std::string brackets;
    while (position_ < source_.size()) {
      if (brackets.empty() && LexTagEnd(variable)) {
        return;
      }
      const size_t after_space = SkipSpace(position_);
      if (after_space != position_) {
        AdvanceTo(after_space);
        continue;
      }
      const char c = source_[position_];
      if (IsAsciiDigit(c)) {
        LexNumber();
      } else if (c == '"' || c == '\'') {
        LexString();
      } else if (IsIdentifierPart(DecodeAt(source_, position_).value)) {
        LexName();
      } else {
        LexOperator(&brackets);
      }
    }
  }

  void LexName() {
    size_t end = position_;
    while (end < source_.size()) {
      const CodePoint c = DecodeAt(source_, end);
      if (!IsIdentifierPart(c.value)) {
        break;
      }
      end += c.size_bytes;
    }
    if (!IsIdentifierStart(DecodeAt(source_, position_).value)) {
      Fail("Invalid character in identifier");
    }
    Push(TokenType::kName, source_.substr(position_, end - position_));
    AdvanceTo(end);
  }

  // End of (\d+_)*\d+ from `position`, or `position` itself.
  size_t Digits(size_t position) const {
    size_t end = position;
    while (end < source_.size() &&
           (IsAsciiDigit(source_[end]) ||
            (source_[end] == '_' && end > position && IsAsciiDigit(source_[end - 1]) &&
             end + 1 < source_.size() && IsAsciiDigit(source_[end + 1])))) {
      ++end;
    }
    return end;
  }

  void PushNumber(TokenType type, size_t end) {
    std::string digits;
    for (size_t i = position_; i < end; ++i) {
      if (source_[i] != '_') {
        digits += source_[i];
      }
    }
    Push(type, std::move(digits));
    AdvanceTo(end);
  }

  bool LexFloat() {
    if (position_ > 0 && source_[position_ - 1] == '.') {
      return false;
    }
    size_t end = Digits(position_);
    bool is_float = false;
    if (end + 1 < source_.size() && source_[end] == '.' && IsAsciiDigit(source_[end + 1])) {
      end = Digits(end + 1);
      is_float = true;
    }
    if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
      size_t exponent = end + 1;
      if (exponent < source_.size() && (source_[exponent] == '+' || source_[exponent] == '-')) {
        ++exponent;
      }
      if (exponent < source_.size() && IsAsciiDigit(source_[exponent])) {
        end = Digits(exponent);
        is_float = true;
      }
    }
    if (is_float) {
      PushNumber(TokenType::kFloat, end);
    }
    return is_float;
  }

  void LexNumber() {
    if (LexFloat()) {
      return;
    }
    if (source_[position_] != '0') {
      PushNumber(TokenType::kInteger, Digits(position_));
      return;
    }
    const char base = position_ + 1 < source_.size() ? source_[position_ + 1] : '\0';
    const int radix = base == 'x' || base == 'X'   ? 16
                      : base == 'o' || base == 'O' ? 8
                      : base == 'b' || base == 'B' ? 2
                                                   : 0;
    if (radix != 0) {
      size_t end = position_ + 2;
      while (end < source_.size()) {
        const size_t digit = source_[end] == '_' ? end + 1 : end;
        const int value = digit < source_.size() ? HexDigit(source_[digit]) : -1;
        if (value < 0 || value >= radix) {
          break;
        }
        end = digit + 1;
      }
      if (end > position_ + 2) {
        PushNumber(TokenType::kInteger, end);
        return;
      }
    }
    size_t end = position_ + 1;
    while (end < source_.size() &&
           (source_[end] == '0' || (source_[end] == '_' && At("_0", end)))) {
      end += source_[end] == '_' ? 2 : 1;
    }
    PushNumber(TokenType::kInteger, end);
  }

  void LexString() {
    const char quote = source_[position_];
    size_t end = position_ + 1;
    while (end < source_.size() && source_[end] != quote) {
      end += source_[end] == '\\' ? 2 : 1;
    }
    if (end >= source_.size()) {
      Fail(std::string("unexpected char '") + quote + "'");
    }
    Push(TokenType::kString, Unescape(source_.substr(position_ + 1, end - position_ - 1)));
    AdvanceTo(end + 1);
  }

  // Python's "unicode-escape" after "backslashreplace", which is what Jinja runs literals through.
  std::string Unescape(const std::string& raw) const {
    std::string out;
    for (size_t i = 0; i < raw.size();) {
      if (raw[i] != '\\') {
        out += raw[i++];
        continue;
      }
      ++i;
      if (i >= raw.size()) {
        Fail("\\ at end of string");
      }
      if (static_cast<unsigned char>(raw[i]) >= 0x80) {
        const CodePoint c = DecodeAt(raw, i);
        std::array<char, 16> buffer{};
        const char* format = c.value < 0x100     ? "\\x%02x"
                             : c.value < 0x10000 ? "\\u%04x"
                                                 : "\\U%08x";
        std::snprintf(buffer.data(), buffer.size(), format, static_cast<unsigned>(c.value));
        out += buffer.data();
        i += c.size_bytes;
        continue;
      }
      UnescapeOne(raw, &i, &out);
    }
    return out;
  }

  void UnescapeOne(const std::string& raw, size_t* i, std::string* out) const {
    const char c = raw[(*i)++];
    static constexpr std::string_view kFrom = "\\'\"abfnrtv";
    static constexpr std::string_view kTo = "\\'\"\a\b\f\n\r\t\v";
    const size_t simple = kFrom.find(c);
    if (simple != std::string_view::npos) {
      *out += kTo[simple];
    } else if (c == '\n') {
      return;
    } else if (c >= '0' && c <= '7') {
      char32_t value = c - '0';
      for (int n = 1; n < 3 && *i < raw.size() && raw[*i] >= '0' && raw[*i] <= '7'; ++n) {
        value = value * 8 + (raw[(*i)++] - '0');
      }
      AppendUtf8(value, out);
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const int digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      char32_t value = 0;
      for (int n = 0; n < digits; ++n) {
        const int digit = *i < raw.size() ? HexDigit(raw[*i]) : -1;
        if (digit < 0) {
          Fail(std::string("truncated \\") + c + " escape");
        }
        value = value * 16 + digit;
        ++*i;
      }
      if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
        Fail("illegal Unicode character in string");
      }
      AppendUtf8(value, out);
    } else if (c == 'N') {
      Fail("\\N{...} escapes are not supported");
    } else {
      *out += '\\';
      *out += c;
    }
  }

  void LexOperator(std::string* brackets) {
    for (const std::string_view op : kTwoCharOperators) {
      if (At(op)) {
        Push(TokenType::kOperator, std::string(op));
        AdvanceTo(position_ + 2);
        return;
      }
    }
    const char c = source_[position_];
    if (kOneCharOperators.find(c) == std::string_view::npos) {
      Fail("unexpected char at offset " + std::to_string(position_));
    }
    if (c == '(' || c == '[' || c == '{') {
      brackets->push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
    } else if (c == ')' || c == ']' || c == '}') {
      if (brackets->empty() || brackets->back() != c) {
        Fail(std::string("unexpected '") + c + "'");
      }
      brackets->pop_back();
    }
    Push(TokenType::kOperator, std::string(1, c));
    AdvanceTo(position_ + 1);
  }

  std::string_view name_;
  std::string source_;
  size_t position_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> Tokenize(std::string_view source, std::string_view source_name) {
  return Lexer(source, source_name).Run();
}

}  // namespace mach::jinja
