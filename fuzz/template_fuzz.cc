// Any bytes as a chat template, and as a value it sees. Only mach::Error may come out.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "jinja/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  const nlohmann::ordered_json variables = {
      {"messages",
       {{{"role", "user"}, {"content", "hi"}},
        {{"role", "assistant"},
         {"content", nullptr},
         {"tool_calls", {{{"function", {{"name", "f"}, {"arguments", {{"a", 1.5}}}}}}}}}}},
      {"s", std::string(source)},
      {"n", 3},
      {"bos_token", "<s>"}};
  try {
    mach::jinja::ChatTemplate::Parse(source, "fuzz")->Render(variables, 0);
  } catch (const mach::Error&) {
  }
  return 0;
}
