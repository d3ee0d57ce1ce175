#include "text/json_reader.h"

#include "base/error.h"
#include "text/unicode.h"

namespace mach::text {

namespace {

bool IsJsonSpace(char c) {
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

}  // namespace

void JsonReader::Fail(const std::string& problem) const {
  throw Error(ErrorCode::kCorruptFile, std::string(source_) + ": " + problem + " at byte " +
                                           std::to_string(at_) + "; expected a tokenizer.json");
}

char JsonReader::Peek() {
  while (at_ < text_.size() && IsJsonSpace(text_[at_])) {
    ++at_;
  }
  return at_ < text_.size() ? text_[at_] : '\0';
}

void JsonReader::Expect(char c) {
  if (!TryConsume(c)) {
    Fail(std::string("no '") + c + "'");
  }
}

bool JsonReader::TryConsume(char c) {
  if (Peek() != c) {
    return false;
  }
  ++at_;
  return true;
}

bool JsonReader::NextElement(char closer, bool* first) {
  if (TryConsume(closer)) {
    return false;
  }
  if (!*first) {
    Expect(',');
    if (Peek() == closer) {
      Fail("a trailing comma");
    }
  }
  *first = false;
  return true;
}

void JsonReader::SkipString() {
  // The opening quote is behind `at_`; stops at the closing quote or at the first backslash.
  while (at_ < text_.size()) {
    const char c = text_[at_];
    if (c == '"' || c == '\\') {
      return;
    }
    if (static_cast<unsigned char>(c) < 0x20) {
      Fail("a control character in a string");
    }
    ++at_;
  }
  Fail("a string without an end");
}

std::string_view JsonReader::String(std::string* scratch) {
  Expect('"');
  const size_t begin = at_;
  SkipString();
  if (text_[at_] == '"') {
    return text_.substr(begin, at_++ - begin);
  }
  scratch->assign(text_.substr(begin, at_ - begin));
  while (text_[at_] == '\\') {
    ++at_;
    Unescape(scratch);
    const size_t piece = at_;
    SkipString();
    scratch->append(text_.substr(piece, at_ - piece));
  }
  ++at_;
  return *scratch;
}

uint32_t JsonReader::HexQuad() {
  if (text_.size() - at_ < 4) {
    Fail("an unfinished \\u");
  }
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i, ++at_) {
    const char c = text_[at_];
    uint32_t digit = 0;
    if (c >= '0' && c <= '9') {
      digit = static_cast<uint32_t>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      digit = static_cast<uint32_t>(c - 'a') + 10;
    } else if (c >= 'A' && c <= 'F') {
      digit = static_cast<uint32_t>(c - 'A') + 10;
    } else {
      Fail("a broken \\u");
    }
    value = value * 16 + digit;
  }
  return value;
}

void JsonReader::Unescape(std::string* out) {
  if (at_ >= text_.size()) {
    Fail("a string without an end");
  }
  const char c = text_[at_++];
  switch (c) {
    case '"':
    case '\\':
    case '/':
      out->push_back(c);
      return;
    case 'b':
      out->push_back('\b');
      return;
    case 'f':
      out->push_back('\f');
      return;
    case 'n':
      out->push_back('\n');
      return;
    case 'r':
      out->push_back('\r');
      return;
    case 't':
      out->push_back('\t');
      return;
    case 'u':
      break;
    default:
      Fail("an unknown escape");
  }
  uint32_t code = HexQuad();
  if (code >= 0xDC00 && code <= 0xDFFF) {
    Fail("half a surrogate pair");
  }
  if (code >= 0xD800 && code <= 0xDBFF) {
    if (text_.size() - at_ < 2 || text_[at_] != '\\' || text_[at_ + 1] != 'u') {
      Fail("half a surrogate pair");
    }
    at_ += 2;
    const uint32_t low = HexQuad();
    if (low < 0xDC00 || low > 0xDFFF) {
      Fail("half a surrogate pair");
    }
    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
  }
  AppendUtf8(code, out);
}

uint32_t JsonReader::Unsigned() {
  const char c = Peek();
  if (c < '0' || c > '9') {
    Fail("no whole number of 0 or more");
  }
  uint64_t value = 0;
  while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') {
    value = value * 10 + static_cast<uint64_t>(text_[at_] - '0');
    if (value > UINT32_MAX) {
      Fail("a number of more than 32 bits");
    }
    ++at_;
  }
  if (at_ < text_.size() && (text_[at_] == '.' || text_[at_] == 'e' || text_[at_] == 'E')) {
    Fail("no whole number of 0 or more");
  }
  return static_cast<uint32_t>(value);
}

std::string_view JsonReader::RawValue() {
  Peek();
  const size_t begin = at_;
  int depth = 0;
  // Only the nesting is followed here; whoever uses the value parses it properly.
  do {
    const char c = Peek();
    if (c == '\0') {
      Fail("an unfinished value");
    }
    ++at_;
    if (c == '{' || c == '[') {
      if (++depth > kMaxDepth) {
        Fail("nesting deeper than " + std::to_string(kMaxDepth) + " levels");
      }
    } else if (c == '}' || c == ']') {
      --depth;
    } else if (c == '"') {
      SkipString();
      while (text_[at_] == '\\') {
        at_ += 2;
        SkipString();
      }
      ++at_;
    } else if (c != ',' && c != ':') {
      while (at_ < text_.size() && text_[at_] != ',' && text_[at_] != '}' && text_[at_] != ']' &&
             !IsJsonSpace(text_[at_])) {
        ++at_;
      }
    }
  } while (depth > 0);
  if (depth < 0 || at_ == begin) {
    Fail("no value");
  }
  return text_.substr(begin, at_ - begin);
}

void JsonReader::ExpectEnd() {
  if (Peek() != '\0' || at_ != text_.size()) {
    Fail("something after the end");
  }
}

}  // namespace mach::text
