// The attributes of a DSML tag. Pure functions; for use inside chat/ only.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace mach::chat {

struct DsmlAttributes {
  std::string name;
  std::string string;
  bool closed = false;  // as in <…/>
};

enum class AttributesEnd { kClosed, kNotYet, kNone };

// Reads ` name="value"…>` and says whether the tag ends within `text`, whose first `length` bytes
// it then is.
AttributesEnd ReadAttributes(std::string_view text, DsmlAttributes& attributes, size_t& length);

}  // namespace mach::chat
