// Bounded reading of the JSON that clients send. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace mach::api {

// Bounds that keep hostile documents from costing more memory or time than their size suggests.
struct JsonLimits {
  int max_depth = 64;
  size_t max_values = 4'000'000;  // values in the whole document
  size_t max_keys = 4096;         // members of one object; look-ups are linear
};

// Parses one JSON document; key order is kept, escaped lone surrogates are read as U+FFFD. Throws
// RequestError 400 if the text is not JSON, not UTF-8 or passes a limit; the message gives the byte
// offset, never the document itself.
nlohmann::ordered_json ParseJson(std::string_view text, const JsonLimits& limits = {});

// Of a body's text in memory at once, at most: the body and the strings of its document until the
// body is given up, then these, what the template makes of them, and its tokens.
constexpr uint64_t kBodyCopies = 5;

// About the most memory that a body of a request takes while it is parsed, rendered and tokenised.
// Throws RequestError if the text passes a limit.
uint64_t ParsedBytes(std::string_view text, const JsonLimits& limits = {});

}  // namespace mach::api
