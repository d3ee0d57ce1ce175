// Hand-written matchers for the pre-splitting expressions of well known tokenisers, several times
// faster than a regular expression engine and equal to it. Pure functions.
#pragma once

#include <span>
#include <string_view>

#include "text/unicode.h"

namespace mach::text {

// The end of the match that begins at `at`, or `at` if none does. The text is valid UTF-8.
using KnownMatcher = const char* (*)(const char* at, const char* end, const UnicodeTable& table);

// The matcher of exactly this expression, or null.
KnownMatcher FindKnownMatcher(std::string_view expression);

// GPT-2's expression, which ByteLevel with use_regex applies.
inline constexpr std::string_view kGpt2Expression =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// All expressions that have a matcher.
std::span<const std::string_view> KnownExpressions();

}  // namespace mach::text
