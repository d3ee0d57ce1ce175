// Renders chat templates for tests/parity/templates_parity.py.
//
// Reads one JSON object a line: {"template": ..., "variables": {...}, "now": seconds}. Answers one
// a line: {"text": ...} or {"error": message, "code": name}. "repeat" renders so often and adds the
// seconds of the fastest rendering.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <limits>
#include <memory>
#include <string>
#include <unordered_map>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "jinja/chat_template.h"

namespace {

using mach::jinja::ChatTemplate;
using Json = nlohmann::ordered_json;

class Driver {
 public:
  Json Answer(const Json& request) {
    Json answer;
    try {
      const ChatTemplate& chat_template = Parsed(request.at("template").get<std::string>());
      const int64_t now = request.value("now", int64_t{0});
      answer["text"] = chat_template.Render(request.at("variables"), now);
      if (request.contains("repeat")) {
        answer["seconds"] = Fastest(chat_template, request, now);
      }
    } catch (const mach::Error& error) {
      answer["error"] = error.what();
      answer["code"] = mach::ErrorCodeName(error.code());
    }
    return answer;
  }

 private:
  const ChatTemplate& Parsed(const std::string& source) {
    auto& slot = parsed_[source];
    if (!slot) {
      slot = ChatTemplate::Parse(source, "parity");
    }
    return *slot;
  }

  static double Fastest(const ChatTemplate& chat_template, const Json& request, int64_t now) {
    double best = std::numeric_limits<double>::infinity();
    for (int i = 0; i < request.at("repeat").get<int>(); ++i) {
      const auto begin = std::chrono::steady_clock::now();
      const std::string text = chat_template.Render(request.at("variables"), now);
      const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
      best = std::min(best, elapsed.count());
    }
    return best;
  }

  std::unordered_map<std::string, std::unique_ptr<ChatTemplate>> parsed_;
};

}  // namespace

int main() {
  Driver driver;
  std::string line;
  while (std::getline(std::cin, line)) {
    std::cout
        << driver.Answer(Json::parse(line)).dump(-1, ' ', false, Json::error_handler_t::replace)
        << "\n";
  }
  return 0;
}
