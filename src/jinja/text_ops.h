// Python's string algorithms on UTF-8 text. Positions are bytes unless a name says otherwise.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mach::jinja {

enum class Side : uint8_t { kBoth, kLeft, kRight };

// str.strip and its siblings; without `characters`, whitespace.
std::string_view Strip(std::string_view text, std::optional<std::string_view> characters,
                       Side side);
// str.split / str.rsplit with at most `limit` cuts (negative: no limit). The separator is not
// empty; without one, runs of whitespace.
std::vector<std::string> Split(std::string_view text, std::optional<std::string_view> separator,
                               int64_t limit, bool from_right);
std::vector<std::string> SplitLines(std::string_view text, bool keep_ends);
// str.replace; `limit` < 0 replaces all. Fails with a resource limit if the result would be larger
// than any text may get.
std::string Replace(std::string_view text, std::string_view from, std::string_view to,
                    int64_t limit);
// None where `count` is negative. Fails with a resource limit like Replace.
std::string Spaces(int64_t count);

}  // namespace mach::jinja
