#include "api/json_text.h"

#include <charconv>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "api/errors.h"

namespace mach::api {
namespace {

// Of a value beside its text: as the member of an object whose vector has just grown.
constexpr uint64_t kValueBytes = 96;

// One linear pass before the real parser, which has no limits of its own. It only counts the
// document's values: whether it is well-formed is left to the parser.
size_t CheckLimits(std::string_view text, const JsonLimits& limits) {
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
  return values;
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

uint64_t ParsedBytes(std::string_view text, const JsonLimits& limits) {
  return kBodyCopies * text.size() + kValueBytes * CheckLimits(text, limits);
}

}  // namespace mach::api
