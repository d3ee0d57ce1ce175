// JSON written as text, without a document in between: what is made for every token goes this way.
// Any thread.
#pragma once

#include <string>
#include <string_view>

namespace mach {

// Appends `text` as a JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD; all
// other characters beyond ASCII stay as they are.
void AppendJsonString(std::string& out, std::string_view text);

// Appends a number so that it reads back as the same float. NaN and infinities must not get here.
void AppendJsonNumber(std::string& out, float value);

}  // namespace mach
