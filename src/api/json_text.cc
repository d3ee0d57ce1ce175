#include "api/json_text.h"

#include <array>
#include <charconv>
#include <cstdint>
#include <vector>

#include <nlohmann/json.hpp>

#include "api/errors.h"

namespace mach::api {
namespace {

// One linear pass before the real parser, which has no limits of its own. It only counts: whether
// the document is well-formed is left to the parser.
void CheckLimits(std::string_view text, const JsonLimits& limits) {
  struct Level {
    bool object;
    size_t commas;
  };
  std::vector<Level> levels;
  size_t values = 1;
  for (size_t i = 0; i < text.size(); ++i) {
    switch (text[i]) {
      case '"':
        for (++i; i < text.size() && text[i] != '"'; ++i) {
          if (text[i] == '\\') {
            ++i;
          }
        }
        break;
      case '{':
      case '[':
        levels.push_back({text[i] == '{', 0});
        ++values;
        if (levels.size() > static_cast<size_t>(limits.max_depth)) {
          throw RequestError(InvalidRequest("The JSON body is nested deeper than " +
                                            std::to_string(limits.max_depth) + " levels at byte " +
                                            std::to_string(i) + "."));
        }
        break;
      case '}':
      case ']':
        if (!levels.empty()) {
          levels.pop_back();
        }
        break;
      case ',':
        ++values;
        if (!levels.empty() && levels.back().object && ++levels.back().commas >= limits.max_keys) {
          throw RequestError(InvalidRequest("An object of the JSON body has more than " +
                                            std::to_string(limits.max_keys) + " members at byte " +
                                            std::to_string(i) + "."));
        }
        break;
      default:
        break;
    }
    if (values > limits.max_values) {
      throw RequestError(InvalidRequest("The JSON body holds more than " +
                                        std::to_string(limits.max_values) + " values."));
    }
  }
}

// What AppendJsonString has to do at a byte: 0 = copy, 'u' = \u00XX, 'M' = start of a multi-byte
// character, 'X' = not UTF-8 here, else the letter after the backslash.
constexpr std::array<char, 256> MakeEscapes() {
  std::array<char, 256> table{};
  for (size_t i = 0; i < 0x20; ++i) {
    table[i] = 'u';
  }
  table['\b'] = 'b';
  table['\f'] = 'f';
  table['\n'] = 'n';
  table['\r'] = 'r';
  table['\t'] = 't';
  table['"'] = '"';
  table['\\'] = '\\';
  table[0x7F] = 'u';
  for (size_t i = 0x80; i < 256; ++i) {
    table[i] = (i >= 0xC2 && i <= 0xF4) ? 'M' : 'X';
  }
  return table;
}

constexpr std::array<char, 256> kEscapes = MakeEscapes();

// Length of the well-formed UTF-8 sequence at `text[at]`, 0 if there is none.
size_t SequenceLength(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(at);
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (at + length > text.size()) {
    return 0;
  }
  for (size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) {
      return 0;
    }
  }
  const uint8_t second = byte(at + 1);
  const bool overlong = (lead == 0xE0 && second < 0xA0) || (lead == 0xF0 && second < 0x90);
  const bool surrogate = lead == 0xED && second >= 0xA0;
  const bool beyond = lead == 0xF4 && second >= 0x90;
  return overlong || surrogate || beyond ? 0 : length;
}

// The value of the escape \uXXXX at `at`, -1 if there is none.
int EscapedUnit(std::string_view text, size_t at) {
  if (at + 6 > text.size() || text[at] != '\\' || text[at + 1] != 'u') {
    return -1;
  }
  int unit = 0;
  const char* const end = text.data() + at + 6;
  const auto parsed = std::from_chars(text.data() + at + 2, end, unit, 16);
  return parsed.ec == std::errc() && parsed.ptr == end ? unit : -1;
}

bool IsHighSurrogate(int unit) {
  return unit >= 0xD800 && unit < 0xDC00;
}

bool IsLowSurrogate(int unit) {
  return unit >= 0xDC00 && unit < 0xE000;
}

// Escaped halves of characters become U+FFFD, escaped too, so that nothing moves. JavaScript writes
// them where it cuts a string between the halves.
std::string MendSurrogates(std::string_view text) {
  std::string out(text);
  for (size_t i = text.find('\\'); i < text.size(); i = text.find('\\', i)) {
    const int unit = EscapedUnit(text, i);
    if (IsHighSurrogate(unit) && IsLowSurrogate(EscapedUnit(text, i + 6))) {
      i += 12;
    } else if (IsHighSurrogate(unit) || IsLowSurrogate(unit)) {
      out.replace(i, 6, "\\ufffd");
      i += 6;
    } else {
      i += 2;
    }
  }
  return out;
}

std::string SyntaxMessage(size_t byte, std::string_view text) {
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    return "The request body is empty.";
  }
  const std::string size = std::to_string(text.size());
  return byte > text.size()
             ? "The request body is not valid JSON: it ends too early, after " + size + " bytes."
             : "The request body is not valid JSON in UTF-8: error at byte " +
                   std::to_string(byte) + " of " + size + ".";
}

}  // namespace

nlohmann::ordered_json ParseJson(std::string_view text, const JsonLimits& limits) {
  CheckLimits(text, limits);
  try {
    try {
      return nlohmann::ordered_json::parse(text);
    } catch (const nlohmann::ordered_json::parse_error&) {
      const std::string mended = MendSurrogates(text);
      if (mended == text) {
        throw;
      }
      return nlohmann::ordered_json::parse(mended);
    }
  } catch (const nlohmann::ordered_json::parse_error& e) {
    // The library's message quotes the text around the error, which may be megabytes long.
    throw RequestError(InvalidRequest(SyntaxMessage(e.byte, text)));
  } catch (const nlohmann::ordered_json::exception&) {
    throw RequestError(
        InvalidRequest("The request body is not valid JSON: a number is out of range."));
  }
}

void AppendJsonString(std::string& out, std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  out += '"';
  size_t copied = 0;
  size_t i = 0;
  while (i < text.size()) {
    const auto byte = static_cast<uint8_t>(text[i]);
    const char escape = kEscapes[byte];
    if (escape == 0) {
      ++i;
      continue;
    }
    if (escape == 'M') {
      const size_t length = SequenceLength(text, i);
      if (length > 0) {
        i += length;
        continue;
      }
    }
    out.append(text, copied, i - copied);
    if (escape == 'M' || escape == 'X') {
      out += "\xEF\xBF\xBD";
    } else if (escape == 'u') {
      out += "\\u00";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += '\\';
      out += escape;
    }
    copied = ++i;
  }
  out.append(text, copied, i - copied);
  out += '"';
}

void AppendJsonNumber(std::string& out, float value) {
  std::array<char, 32> digits;
  const auto result = std::to_chars(digits.data(), digits.data() + digits.size(), value);
  out.append(digits.data(), result.ptr);
}

}  // namespace mach::api
