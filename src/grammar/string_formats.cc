#include "grammar/string_formats.h"

#include <set>

namespace mach::grammar {
namespace {

const std::set<std::string_view> kFormats = {"duration", "email", "hostname", "ipv4",
                                             "ipv6",     "uuid",  "uri"};
const std::string kDate =
    "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|"
    "(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))|"
    "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)";
const std::string kTime =
    "(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]+)?"
    "(?:[zZ]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9]))";

}  // namespace

bool IsBuiltInFormat(std::string_view format) {
  return kFormats.contains(format);
}

std::optional<std::string> FormatPattern(std::string_view format) {
  if (format == "date") {
    return "^" + kDate + "$";
  }
  if (format == "time") {
    return "^" + kTime + "$";
  }
  if (format == "date-time") {
    return "^" + kDate + "[tT]" + kTime + "$";
  }
  return std::nullopt;
}

}  // namespace mach::grammar
