#include "grammar/string_formats.h"

#include <functional>
#include <map>
#include <set>

namespace mach::grammar {
namespace {

// That the library enforces as they are defined.
const std::set<std::string_view> kBuiltIn = {"duration", "uuid"};
// Of drafts 3 to 2020-12.
const std::set<std::string_view> kNotEnforced = {
    "color", "host-name",     "idn-email", "idn-hostname", "ip-address",   "iri",
    "phone", "iri-reference", "regex",     "style",        "uri-template", "utc-millisec"};

const std::string kDate =
    "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|"
    "(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))|"
    "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)";
const std::string kTime =
    "(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]+)?"
    "(?:[zZ]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9]))";

// At most 63 characters, and no hyphens at both the third and the fourth place: those are of
// internationalised names, which need more than a pattern.
const std::string kLetter = "[a-zA-Z0-9]";
const std::string kInLabel = "[a-zA-Z0-9-]";
const std::string kLabel = "(?:" + kLetter + "(?:" + kInLabel + "?" + kLetter + "|" + kInLabel +
                           "{2}" + kLetter + "|" + kInLabel + "(?:" + kLetter + kInLabel + "|-" +
                           kLetter + ")" + kInLabel + "{0,58}" + kLetter + ")?)";
const std::string kHostname = kLabel + "(?:\\." + kLabel + ")*";
constexpr const char* kHostnameLength = "^(?s:.{1,253})$";

const std::string kByte = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
const std::string kIpv4 = "(?:(?:" + kByte + "\\.){3}" + kByte + ")";

// RFC 3986, IPv6address: at most 8 groups of 16 bits, of which `::` stands for one or more.
std::string Ipv6() {
  const std::string group = "[0-9a-fA-F]{1,4}";
  const std::string last = "(?:" + group + ":" + group + "|" + kIpv4 + ")";
  const auto groups = [&](int count) {
    return "(?:" + group + ":){" + std::to_string(count) + "}";
  };
  const auto at_most = [&](int count) {
    return "(?:(?:" + group + ":){0," + std::to_string(count - 1) + "}" + group + ")?";
  };
  std::string out = "(?:" + groups(6) + last + "|::" + groups(5) + last;
  for (int before = 1; before <= 5; ++before) {
    out += "|" + at_most(before) + "::" + groups(5 - before) + last;
  }
  return out + "|" + at_most(6) + "::" + group + "|" + at_most(7) + "::)";
}

// RFC 3986. `is_reference`: a relative one too.
std::string Uri(bool is_reference) {
  const std::string plain = "a-zA-Z0-9\\-._~!$&'()*+,;=";
  const auto some = [&](const std::string& more) {
    return "(?:[" + plain + more + "]|%[0-9a-fA-F]{2})";
  };
  const std::string segments = "(?:/" + some(":@") + "*)*";
  const std::string authority = "(?:" + some(":") + "*@)?(?:\\[(?:" + Ipv6() +
                                "|v[0-9a-fA-F]+\\.[" + plain + ":]+)\\]|" + some("") +
                                "*)(?::[0-9]*)?";
  const std::string rooted =
      "//" + authority + segments + "|/(?:" + some(":@") + "+" + segments + ")?";
  const std::string rest = "(?:\\?" + some(":@/?") + "*)?(?:\\#" + some(":@/?") + "*)?";
  const std::string absolute =
      "[a-zA-Z][a-zA-Z0-9+\\-.]*:(?:" + rooted + "|" + some(":@") + "+" + segments + ")?";
  if (!is_reference) {
    return absolute + rest;
  }
  return "(?:" + absolute + "|" + rooted + "|" + some("@") + "+" + segments + ")?" + rest;
}

const std::string kPointer = "(?:/(?:[^~/]|~[01])*)*";

std::vector<std::string> Whole(const std::string& pattern) {
  return {"^(?:" + pattern + ")$"};
}

std::vector<std::string> Email() {
  const std::string word = "[a-zA-Z0-9!\\#$%&'*+\\-/=?\\^_`{|}~]+";
  return {"^" + word + "(?:\\." + word + ")*@(?:" + kHostname + "|\\[" + kIpv4 + "\\])$",
          "^[^@]{1,64}@[^@]{1,253}$"};
}

using Patterns = std::function<std::vector<std::string>()>;
const std::map<std::string_view, Patterns> kPatterns = {
    {"date", [] { return Whole(kDate); }},
    {"time", [] { return Whole(kTime); }},
    {"date-time", [] { return Whole(kDate + "[tT]" + kTime); }},
    {"email", Email},
    {"hostname",
     [] {
       return std::vector<std::string>{"^" + kHostname + "$", kHostnameLength};
     }},
    {"ipv4", [] { return Whole(kIpv4); }},
    {"ipv6", [] { return Whole(Ipv6()); }},
    {"uri", [] { return Whole(Uri(false)); }},
    {"uri-reference", [] { return Whole(Uri(true)); }},
    {"json-pointer", [] { return Whole(kPointer); }},
    {"relative-json-pointer", [] { return Whole("(?:0|[1-9][0-9]*)(?:\\#|" + kPointer + ")"); }},
};

}  // namespace

FormatSupport SupportOf(std::string_view format) {
  if (kBuiltIn.contains(format) || kPatterns.contains(format)) {
    return FormatSupport::kEnforced;
  }
  return kNotEnforced.contains(format) ? FormatSupport::kNotEnforced : FormatSupport::kNoMeaning;
}

std::vector<std::string> FormatPatterns(std::string_view format) {
  const auto it = kPatterns.find(format);
  return it == kPatterns.end() ? std::vector<std::string>{} : it->second();
}

}  // namespace mach::grammar
