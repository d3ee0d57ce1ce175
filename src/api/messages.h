// Normalisation of a chat's messages into what templates expect. For use inside api only.
#pragma once

#include "api/fields.h"

namespace mach::api {

// `messages` is the request's field, an array or null (it is required). Its texts, which may be
// large, are moved. Throws RequestError.
Json NormaliseMessages(Json messages);

}  // namespace mach::api
