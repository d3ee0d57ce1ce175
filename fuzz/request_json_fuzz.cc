// Request bodies: any bytes give a request or a RequestError (400), and what can be encoded reads
// back as JSON.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "api/errors.h"
#include "api/request.h"
#include "base/check.h"
#include "base/json_string.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const mach::api::RequestLimits limits;
  const auto attempt = [&](auto parse) {
    try {
      parse(std::string(body), limits);
    } catch (const mach::api::RequestError& e) {
      MACH_CHECK(e.info().status == 400);
      MACH_CHECK(nlohmann::json::accept(mach::api::ErrorBody(e.info())));
      MACH_CHECK(nlohmann::json::accept(mach::api::AnthropicErrorBody(e.info(), "id")));
    }
  };
  attempt(mach::api::ParseChatRequest);
  attempt(mach::api::ParseCompletionRequest);
  attempt(mach::api::ParseMessagesRequest);
  attempt(mach::api::ParseCountTokensRequest);
  attempt(mach::api::ParseResponsesRequest);
  attempt(mach::api::ParseTokenizeRequest);
  attempt(mach::api::ParseDetokenizeRequest);
  std::string quoted;
  mach::AppendJsonString(quoted, body);
  MACH_CHECK(nlohmann::json::accept(quoted));
  return 0;
}
