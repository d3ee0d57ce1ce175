// The fields that chat and text completions share, and the refusal of those that neither honours.
// For use inside api only.
#pragma once

#include <string>
#include <vector>

#include "api/fields.h"
#include "api/request.h"

namespace mach::api {

// The array or string `key` of stop strings. Throws RequestError.
std::vector<std::string> ParseStopStrings(const Fields& fields, const char* key,
                                          const RequestLimits& limits);

// What an effort asks of a template, unless `variables` say otherwise: reasoning_effort, and
// enable_thinking unless it is "none". `path` is its field. Throws RequestError.
void ApplyEffort(const std::string& effort, const std::string& path, Json& variables);

// Everything of CommonFields but logprobs, whose shape differs between the endpoints.
CommonFields ParseCommonFields(const Fields& fields, const RequestLimits& limits);

// The body of /v1/chat/completions.
ChatRequest ReadChatRequest(Json document, const RequestLimits& limits);

}  // namespace mach::api
