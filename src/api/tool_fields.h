// The fields by which a chat asks for calls and for structured output. For use inside api only.
#pragma once

#include "api/fields.h"
#include "api/request.h"

namespace mach::api {

// tools, tool_choice and parallel_tool_calls. Throws RequestError.
void ParseTools(const Fields& fields, const RequestLimits& limits, ChatRequest& request);

// Whether `name` may be a tool's: 1 to 128 of A-Z, a-z, 0-9, _ . : and -.
bool IsToolName(std::string_view name);

// response_format. Throws RequestError.
ResponseFormat ParseResponseFormat(const Fields& fields);

}  // namespace mach::api
