// The endpoints that tell of tokens and generate none: how many a request has, which they are, and
// what they say.
#pragma once

#include <span>
#include <string>

#include "api/request.h"
#include "server/model_host.h"

namespace mach::server {

struct TokenQuery {
  const char* path;  // of its POST route
  // The JSON of the answer. Takes long for long prompts, so not on the I/O thread. Throws
  // api::RequestError.
  std::string (*answer)(std::string body, const api::RequestLimits& limits, const ModelHost& host);
};

std::span<const TokenQuery> TokenQueries();

}  // namespace mach::server
