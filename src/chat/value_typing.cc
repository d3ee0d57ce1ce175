#include "chat/value_typing.h"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/json_string.h"

namespace mach::chat {
namespace {

constexpr std::string_view kWhitespace = " \t\r\n";
constexpr size_t kMaxDepth = 64;

// A JSON value whose numbers are still text, so that 20 digits stay 20 digits.
struct Node {
  enum class Type { kNull, kBoolean, kNumber, kString, kArray, kObject };
  Type type = Type::kNull;
  std::string text;               // number as written, characters of a string, "true" or "false"
  std::vector<std::string> keys;  // of an object's members, beside `children`
  std::vector<Node> children;
};

class NodeBuilder final : public nlohmann::json_sax<nlohmann::ordered_json> {
 public:
  Node Take() { return std::move(root_); }

  bool null() override { return Add({Node::Type::kNull, "null", {}, {}}); }
  bool boolean(bool value) override {
    return Add({Node::Type::kBoolean, value ? "true" : "false", {}, {}});
  }
  bool number_integer(number_integer_t value) override {
    return Add({Node::Type::kNumber, std::to_string(value), {}, {}});
  }
  bool number_unsigned(number_unsigned_t value) override {
    return Add({Node::Type::kNumber, std::to_string(value), {}, {}});
  }
  bool number_float(number_float_t value, const string_t& text) override {
    return std::isfinite(value) && Add({Node::Type::kNumber, text, {}, {}});
  }
  bool string(string_t& value) override {
    return Add({Node::Type::kString, std::move(value), {}, {}});
  }
  bool binary(binary_t& /*value*/) override { return false; }
  bool start_object(size_t /*size*/) override { return Open(Node::Type::kObject); }
  bool key(string_t& value) override {
    key_ = std::move(value);
    return true;
  }
  bool end_object() override { return Close(); }
  bool start_array(size_t /*size*/) override { return Open(Node::Type::kArray); }
  bool end_array() override { return Close(); }
  bool parse_error(size_t /*at*/, const std::string& /*token*/,
                   const nlohmann::detail::exception& /*error*/) override {
    return false;
  }

 private:
  bool Add(Node node) {
    if (open_.empty()) {
      root_ = std::move(node);
    } else {
      Node& parent = open_.back().second;
      if (parent.type == Node::Type::kObject) {
        parent.keys.push_back(std::move(key_));
      }
      parent.children.push_back(std::move(node));
      key_.clear();
    }
    return true;
  }
  bool Open(Node::Type type) {
    open_.emplace_back(std::move(key_), Node{type, "", {}, {}});
    key_.clear();
    return open_.size() <= kMaxDepth;
  }
  bool Close() {
    auto [key, node] = std::move(open_.back());
    open_.pop_back();
    key_ = std::move(key);
    return Add(std::move(node));
  }

  Node root_;
  std::vector<std::pair<std::string, Node>> open_;
  std::string key_;
};

std::optional<Node> ParseNode(std::string_view text) {
  NodeBuilder builder;
  if (!nlohmann::ordered_json::sax_parse(text, &builder)) {
    return std::nullopt;
  }
  return builder.Take();
}

void Write(const Node& node, std::string& out) {
  switch (node.type) {
    case Node::Type::kString:
      AppendJsonString(out, node.text);
      break;
    case Node::Type::kArray:
    case Node::Type::kObject: {
      const bool object = node.type == Node::Type::kObject;
      out += object ? '{' : '[';
      for (size_t i = 0; i < node.children.size(); ++i) {
        out += i > 0 ? ", " : "";
        if (object) {
          AppendJsonString(out, node.keys[i]);
          out += ": ";
        }
        Write(node.children[i], out);
      }
      out += object ? '}' : ']';
      break;
    }
    default:
      out += node.text;
  }
}

std::string Dump(const Node& node) {
  std::string out;
  Write(node, out);
  return out;
}

// What remains of a number once 5.0 is 5; nullopt for fractions and numbers too large to tell.
std::optional<std::string> AsInteger(const std::string& number) {
  if (number.find_first_of(".eE") == std::string::npos) {
    return number;
  }
  double value = 0;
  std::from_chars(number.data(), number.data() + number.size(), value);
  constexpr double kExact = 9007199254740992.0;  // 2^53
  if (!std::isfinite(value) || value != std::trunc(value) || std::abs(value) > kExact) {
    return std::nullopt;
  }
  return std::to_string(static_cast<int64_t>(value));
}

std::optional<std::string> AsBoolean(std::string_view text) {
  if (text == "true" || text == "True" || text == "TRUE" || text == "1") {
    return "true";
  }
  if (text == "false" || text == "False" || text == "FALSE" || text == "0") {
    return "false";
  }
  return std::nullopt;
}

Node TypeText(std::string_view text, SchemaRef schema, size_t depth);

// Members and items take the types of their own schemas.
Node TypeNode(Node node, SchemaRef schema, size_t depth) {
  if (!schema.present() || depth > kMaxDepth) {
    return node;
  }
  const TypeSet types = schema.Types();
  switch (node.type) {
    case Node::Type::kString:
      return types.string ? node : TypeText(node.text, schema, depth);
    case Node::Type::kNull:
      return node;
    case Node::Type::kObject:
    case Node::Type::kArray: {
      const bool object = node.type == Node::Type::kObject;
      if (object ? types.object : types.array) {
        for (size_t i = 0; i < node.children.size(); ++i) {
          node.children[i] =
              TypeNode(std::move(node.children[i]),
                       object ? schema.Property(node.keys[i]) : schema.Item(), depth + 1);
        }
        return node;
      }
      return types.string ? Node{Node::Type::kString, Dump(node), {}, {}} : node;
    }
    default:
      return TypeText(node.text, schema, depth);
  }
}

Node TypeText(std::string_view text, SchemaRef schema, size_t depth) {
  const TypeSet types = schema.Types();
  const std::string_view trimmed = TrimSpace(text);
  if (types.null && trimmed == "null") {
    return {Node::Type::kNull, "null", {}, {}};
  }
  const bool structured = types.object || types.array;
  std::optional<Node> parsed;
  if (types.integer || types.number || structured || !types.string) {
    parsed = ParseNode(trimmed);
  }
  if (parsed && parsed->type == Node::Type::kNumber && (types.integer || types.number)) {
    if (std::optional<std::string> integer = AsInteger(parsed->text)) {
      return {Node::Type::kNumber, std::move(*integer), {}, {}};
    }
    if (types.number) {
      return *parsed;
    }
  }
  if (types.boolean) {
    if (std::optional<std::string> boolean = AsBoolean(trimmed)) {
      return {Node::Type::kBoolean, std::move(*boolean), {}, {}};
    }
  }
  if (parsed && ((parsed->type == Node::Type::kObject && types.object) ||
                 (parsed->type == Node::Type::kArray && types.array))) {
    return TypeNode(std::move(*parsed), schema, depth);
  }
  if (types.string || !parsed) {
    return {Node::Type::kString, std::string(text), {}, {}};
  }
  return *parsed;
}

}  // namespace

std::string_view TrimSpace(std::string_view text) {
  const size_t first = text.find_first_not_of(kWhitespace);
  if (first == std::string_view::npos) {
    return {};
  }
  return text.substr(first, text.find_last_not_of(kWhitespace) - first + 1);
}

std::string TypedValue(std::string_view text, SchemaRef schema, ValueHint hint) {
  if (hint == ValueHint::kJson) {
    if (std::optional<Node> node = ParseNode(TrimSpace(text))) {
      return Dump(TypeNode(std::move(*node), schema, 0));
    }
  }
  if (!schema.present()) {
    return Dump({Node::Type::kString, std::string(text), {}, {}});
  }
  return Dump(TypeText(text, schema, 0));
}

std::optional<std::string> DeclaredObject(std::string_view text, const ToolSchema& tool) {
  std::optional<Node> node = ParseNode(TrimSpace(text));
  if (node && node->type == Node::Type::kString) {
    node = ParseNode(TrimSpace(node->text));
  }
  if (!node || node->type != Node::Type::kObject) {
    return std::nullopt;
  }
  for (size_t i = 0; i < node->children.size(); ++i) {
    if (!tool.Declares(node->keys[i])) {
      return std::nullopt;
    }
    node->children[i] = TypeNode(std::move(node->children[i]), tool.Parameter(node->keys[i]), 0);
  }
  return Dump(*node);
}

bool IsJsonObject(std::string_view text) {
  const std::optional<Node> node = ParseNode(text);
  return node && node->type == Node::Type::kObject;
}

std::optional<std::string> UnquoteJson(std::string_view text) {
  std::optional<Node> node = ParseNode(text);
  if (!node || node->type != Node::Type::kString) {
    return std::nullopt;
  }
  return std::move(node->text);
}

StringWatch::StringWatch(const TypeSet& types)
    : types_(types),
      words_{{{"null", types.null}, {"true", types.boolean}, {"false", types.boolean}}},
      digits_(types.integer || types.number || types.boolean),
      only_string_(types.OnlyString()) {}

void StringWatch::Feed(std::string_view text) {
  constexpr std::string_view kNumberCharacters = "+-.0123456789eE";
  for (const char c : text) {
    if (only_string_) {
      return;
    }
    const bool space = kWhitespace.find(c) != std::string_view::npos;
    if (space && length_ == 0) {
      continue;
    }
    if (length_ == 0 && ((c == '{' && types_.object) || (c == '[' && types_.array))) {
      // Only its end can tell whether it is JSON.
      types_.string = false;
    }
    if (!types_.string) {
      return;
    }
    for (Word& word : words_) {
      const char lower =
          c >= 'A' && c <= 'Z' && word.text != "null" ? static_cast<char>(c + 32) : c;
      word.alive = word.alive && (length_ < word.text.size() ? lower == word.text[length_] : space);
    }
    digits_ = digits_ && (space || kNumberCharacters.find(c) != std::string_view::npos);
    ++length_;
    only_string_ = !digits_ && !words_[0].alive && !words_[1].alive && !words_[2].alive;
  }
}

}  // namespace mach::chat
