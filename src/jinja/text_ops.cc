#include "jinja/text_ops.h"

#include <algorithm>

#include "jinja/interpreter.h"
#include "jinja/unicode.h"

namespace mach::jinja {

namespace {

bool IsLineBreak(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

[[noreturn]] void FailTooLong() {
  FailLimit("chat template made a text of more than " + std::to_string(kMaxStringBytes) + " bytes");
}

std::vector<std::string> SplitSpaces(std::string_view text, int64_t limit) {
  std::vector<std::string> parts;
  text = Strip(text, std::nullopt, Side::kLeft);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<int64_t>(parts.size()) == limit) {
      parts.emplace_back(text);
      break;
    }
    size_t end = 0;
    while (end < text.size()) {
      const CodePoint c = DecodeAt(text, end);
      if (IsSpace(c.value)) {
        break;
      }
      end += c.size_bytes;
    }
    parts.emplace_back(text.substr(0, end));
    text = Strip(text.substr(end), std::nullopt, Side::kLeft);
  }
  return parts;
}

std::vector<std::string> SplitSpacesFromRight(std::string_view text, int64_t limit) {
  std::vector<std::string> parts;
  text = Strip(text, std::nullopt, Side::kRight);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<int64_t>(parts.size()) == limit) {
      parts.emplace_back(text);
      break;
    }
    size_t begin = text.size();
    while (begin > 0) {
      const CodePoint c = DecodeBefore(text, begin);
      if (IsSpace(c.value)) {
        break;
      }
      begin -= c.size_bytes;
    }
    parts.emplace_back(text.substr(begin));
    text = Strip(text.substr(0, begin), std::nullopt, Side::kRight);
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

}  // namespace

std::string_view Strip(std::string_view text, std::optional<std::string_view> characters,
                       Side side) {
  const auto strips = [&](size_t offset, const CodePoint& c) {
    return characters
               ? characters->find(text.substr(offset, c.size_bytes)) != std::string_view::npos
               : IsSpace(c.value);
  };
  size_t begin = 0;
  size_t end = text.size();
  while (side != Side::kRight && begin < end) {
    const CodePoint c = DecodeAt(text, begin);
    if (!strips(begin, c)) {
      break;
    }
    begin += c.size_bytes;
  }
  while (side != Side::kLeft && end > begin) {
    const CodePoint c = DecodeBefore(text, end);
    if (!strips(end - c.size_bytes, c)) {
      break;
    }
    end -= c.size_bytes;
  }
  return text.substr(begin, end - begin);
}

std::vector<std::string> Split(std::string_view text, std::optional<std::string_view> separator,
                               int64_t limit, bool from_right) {
  if (!separator) {
    return from_right ? SplitSpacesFromRight(text, limit) : SplitSpaces(text, limit);
  }
  std::vector<std::string> parts;
  while (limit < 0 || static_cast<int64_t>(parts.size()) < limit) {
    const size_t at = from_right ? text.rfind(*separator) : text.find(*separator);
    if (at == std::string_view::npos) {
      break;
    }
    if (from_right) {
      parts.emplace_back(text.substr(at + separator->size()));
      text = text.substr(0, at);
    } else {
      parts.emplace_back(text.substr(0, at));
      text = text.substr(at + separator->size());
    }
  }
  parts.emplace_back(text);
  if (from_right) {
    std::reverse(parts.begin(), parts.end());
  }
  return parts;
}

std::vector<std::string> SplitLines(std::string_view text, bool keep_ends) {
  std::vector<std::string> lines;
  size_t begin = 0;
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = DecodeAt(text, i);
    size_t next = i + c.size_bytes;
    if (IsLineBreak(c.value)) {
      if (c.value == '\r' && next < text.size() && text[next] == '\n') {
        ++next;
      }
      lines.emplace_back(text.substr(begin, (keep_ends ? next : i) - begin));
      begin = next;
    }
    i = next;
  }
  if (begin < text.size()) {
    lines.emplace_back(text.substr(begin));
  }
  return lines;
}

std::string Replace(std::string_view text, std::string_view from, std::string_view to,
                    int64_t limit) {
  std::string out;
  int64_t done = 0;
  const auto put = [&](std::string_view piece) {
    out.append(piece);
    if (static_cast<int64_t>(out.size()) > kMaxStringBytes) {
      FailTooLong();
    }
  };
  if (from.empty()) {
    // Python puts the new text before every character and after the last one.
    size_t i = 0;
    while (limit < 0 || done < limit) {
      put(to);
      ++done;
      if (i >= text.size()) {
        return out;
      }
      const int size = DecodeAt(text, i).size_bytes;
      put(text.substr(i, size));
      i += size;
    }
    put(text.substr(i));
    return out;
  }
  size_t position = 0;
  while (limit < 0 || done < limit) {
    const size_t at = text.find(from, position);
    if (at == std::string_view::npos) {
      break;
    }
    put(text.substr(position, at - position));
    put(to);
    position = at + from.size();
    ++done;
  }
  put(text.substr(position));
  return out;
}

std::string Spaces(int64_t count) {
  if (count > kMaxStringBytes) {
    FailTooLong();
  }
  return std::string(static_cast<size_t>(std::max<int64_t>(count, 0)), ' ');
}

}  // namespace mach::jinja
