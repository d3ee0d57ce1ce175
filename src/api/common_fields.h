// The fields that chat and text completions share, and the refusal of those that neither honours.
// For use inside api only.
#pragma once

#include "api/fields.h"
#include "api/request.h"

namespace mach::api {

// Everything of CommonFields but logprobs, whose shape differs between the endpoints.
CommonFields ParseCommonFields(const Fields& fields, const RequestLimits& limits);

}  // namespace mach::api
