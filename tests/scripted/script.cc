#include "tests/scripted/script.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/error.h"

namespace mach::testing {
namespace {

using Json = nlohmann::json;

std::vector<std::string> Texts(const Json& rule, const char* key) {
  const auto found = rule.find(key);
  if (found == rule.end()) {
    return {};
  }
  return found->is_string() ? std::vector<std::string>{found->get<std::string>()}
                            : found->get<std::vector<std::string>>();
}

bool HasAll(std::string_view text, const std::vector<std::string>& parts) {
  return std::ranges::all_of(
      parts, [text](const std::string& part) { return text.find(part) != std::string_view::npos; });
}

bool HasAny(std::string_view text, const std::vector<std::string>& parts) {
  return std::ranges::any_of(
      parts, [text](const std::string& part) { return text.find(part) != std::string_view::npos; });
}

void CheckKeys(const Json& rule) {
  constexpr const char* kKnown[] = {"contains",  "lacks", "last",     "after_tool", "nth",
                                    "reasoning", "text",  "token_ms", "prefill_ms"};
  for (const auto& [key, unused] : rule.items()) {
    if (std::ranges::find(kKnown, key) == std::end(kKnown)) {
      throw Error(ErrorCode::kCorruptFile, "unknown field '" + key + "'");
    }
  }
}

}  // namespace

Script::Script(std::string_view json, std::string_view source) {
  try {
    const Json root = Json::parse(json);
    for (const Json& from : root.at("rules")) {
      CheckKeys(from);
      Rule rule;
      rule.contains = Texts(from, "contains");
      rule.lacks = Texts(from, "lacks");
      rule.last = Texts(from, "last");
      if (from.contains("after_tool")) {
        rule.after_tool = from["after_tool"].get<bool>();
      }
      rule.nth = from.value("nth", int64_t{0});
      rule.reply = {.reasoning = from.value("reasoning", std::string()),
                    .text = from.value("text", std::string()),
                    .token_s = from.value("token_ms", 0.0) / 1000,
                    .prefill_s = from.value("prefill_ms", 0.0) / 1000};
      rules_.push_back(std::move(rule));
    }
  } catch (const std::exception& e) {
    throw Error(ErrorCode::kCorruptFile, std::string(source) + ": rule " +
                                             std::to_string(rules_.size() + 1) + ": " + e.what());
  }
}

bool Script::Rule::Fits(const Conversation& conversation) const {
  return HasAll(conversation.all, contains) && !HasAny(conversation.all, lacks) &&
         HasAll(conversation.last, last) && (!after_tool || *after_tool == conversation.after_tool);
}

void Script::RecordTo(const std::string& path) {
  record_.open(path);
  if (!record_) {
    throw Error(ErrorCode::kIo, path + ": cannot be written");
  }
}

Reply Script::Choose(const Conversation& conversation) {
  const std::lock_guard lock(mutex_);
  const Rule* chosen = nullptr;
  for (Rule& rule : rules_) {
    if (!rule.Fits(conversation)) {
      continue;
    }
    ++rule.matched;
    if (chosen == nullptr && (rule.nth == 0 || rule.nth == rule.matched)) {
      chosen = &rule;
    }
  }
  if (record_.is_open()) {
    record_ << Json{{"at_s", NowSeconds()},
                    {"rule", chosen != nullptr ? chosen - rules_.data() : -1},
                    {"prompt", conversation.all}}
                   .dump(-1, ' ', false, Json::error_handler_t::replace)
            << std::endl;
  }
  return chosen != nullptr ? chosen->reply
                           : Reply{.reasoning = "", .text = "The script has no reply to this."};
}

}  // namespace mach::testing
