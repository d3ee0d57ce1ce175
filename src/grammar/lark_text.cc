#include "grammar/lark_text.h"

#include <bit>

#include "grammar/schema_text.h"

namespace mach::grammar {
namespace {

constexpr size_t kMostBits = 64;

std::string All(const std::vector<std::string>& conditions) {
  std::string all;
  for (const std::string& condition : conditions) {
    all = all.empty() ? condition : "and(" + all + ", " + condition + ")";
  }
  return all.empty() ? "true" : all;
}

}  // namespace

std::string LarkText::Quoted(std::string_view text) {
  std::string out = nlohmann::json(text).dump();
  // Lark's strings are JSON's, but for this character.
  for (size_t at = out.find('\x7f'); at != std::string::npos; at = out.find('\x7f', at)) {
    out.replace(at, 1, "\\u007f");
  }
  return out;
}

std::string LarkText::Escaped(std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
      continue;
    }
    if (std::string_view("\\/.+*?()|[]{}^$#&-~").find(c) != std::string_view::npos) {
      out += '\\';
    }
    out += c;
  }
  return out;
}

std::optional<int32_t> LarkText::TokenOf(std::string_view marker) const {
  const text::Tokenizer& tokenizer = *compiler_.tokenizer();
  const auto id = tokenizer.TokenToId(marker);
  return id && tokenizer.TokenBytes(*id) == marker ? id : std::nullopt;
}

bool LarkText::StandsApart(std::string_view marker) const {
  const auto id = TokenOf(marker);
  return id && compiler_.StandsApart(*id);
}

std::string LarkText::Marker(std::string_view marker) const {
  const auto id = TokenOf(marker);
  return id ? "<[" + std::to_string(*id) + "]>" : Quoted(marker);
}

std::string LarkText::Rule(const std::string& body) {
  std::string name = Name("r");
  rules_ += name + ": " + body + "\n";
  return name;
}

std::string LarkText::Json(const nlohmann::ordered_json& admitted) {
  return Rule("%json " + SchemaText(admitted, Keywords::kRelax));
}

std::string LarkText::Terminal(const std::string& definition) {
  std::string name = Name("T");
  rules_ += name + ": " + definition + "\n";
  return name;
}

std::string LarkText::OneOf(const std::vector<std::string>& texts) {
  std::string patterns;
  bool empty = texts.empty();
  for (const std::string& text : texts) {
    empty = empty || text.empty();
    if (!text.empty()) {
      patterns += (patterns.empty() ? "" : "|") + Escaped(text);
    }
  }
  if (patterns.empty()) {
    return "\"\"";
  }
  return Terminal("/(" + patterns + ")/") + (empty ? "?" : "");
}

std::string LarkText::AnyOrder(const std::vector<Member>& members) {
  if (members.empty()) {
    return Rule("\"\"");
  }
  const std::string name = Name("r");
  const size_t count = members.size();
  bool required = false;
  std::string body;
  for (size_t i = 0; i < count; ++i) {
    required = required || members[i].required;
    const std::string bit = std::to_string(i);
    const std::string lead = body.empty() ? "" : "    | ";
    if (count > kMostBits) {  // then they may come several times
      body += lead + members[i].more + " " + name + "\n    | " + members[i].last + "\n";
      continue;
    }
    const std::string clear = "bit_clear(" + bit + ")";
    std::vector<std::string> needed;  // of the others
    for (size_t j = 0; j < count; ++j) {
      if (j != i && members[j].required) {
        needed.push_back("bit_set(" + std::to_string(j) + ")");
      }
    }
    body += lead;
    if (count > 1) {
      const std::string next = " " + name + "::set_bit(" + bit + ") %if ";
      const std::string bits = "[0:" + std::to_string(count) + "]";
      std::vector<std::string> more = {
          clear, "bit_count_lt(" + bits + ", " + std::to_string(count - 1) + ")"};
      if (!members[i].bound.empty() && !needed.empty()) {
        body += members[i].bound + next + All({clear, "not(" + All(needed) + ")"}) + "\n    | ";
        more.push_back(All(needed));
      }
      body += members[i].more + next + All(more) + "\n    | ";
    }
    body += members[i].last + " %if " + All({clear, All(needed)}) + "\n";
  }
  rules_ += name + (count > kMostBits ? ": " : "::_ : ") + body;
  const std::string first = name + (count > kMostBits ? "" : "::0x0");
  return Rule(required ? first : first + " | \"\"");
}

std::string LarkText::Text(const std::string& start) const {
  return "start: " + start + "\n" + rules_;
}

std::string Either(const std::vector<std::string>& expressions) {
  std::string either;
  for (const std::string& expression : expressions) {
    either += (either.empty() ? "(" : " | ") + expression;
  }
  return either + ")";
}

}  // namespace mach::grammar
