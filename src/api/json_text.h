// JSON as text at the edges: bounded reading of what clients send, and fast appending of strings to
// what they get. Not a DOM for responses: the per-token path writes text directly. Any thread.
#pragma once

#include <cstddef>
#include <string>
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

// Appends `text` as a JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD; all
// other characters beyond ASCII stay as they are.
void AppendJsonString(std::string& out, std::string_view text);

// Appends a number so that it reads back as the same float. NaN and infinities must not get here.
void AppendJsonNumber(std::string& out, float value);

}  // namespace mach::api
