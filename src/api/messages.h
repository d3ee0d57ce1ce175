// Normalisation of a chat's messages into what templates expect. For use inside api only.
#pragma once

#include "api/fields.h"

namespace mach::api {

// `messages` is the request's field (may be null pointer: it is required). Throws RequestError.
Json NormaliseMessages(const Json* messages);

}  // namespace mach::api
