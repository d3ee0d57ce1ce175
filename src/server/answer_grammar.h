// What a chat's answer has to look like, by response_format and tool_choice, as constraints on its
// tokens. Worker threads.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "api/request.h"
#include "decode/constraint.h"
#include "server/model_host.h"

namespace mach::server {

// Makes the constraint of a choice; empty where anything may come. `prompt` is what the model
// continues. Compiles what is not cached. Throws api::RequestError (400) for what cannot be
// enforced.
std::function<std::shared_ptr<decode::Constraint>()> AnswerConstraint(
    const api::ChatRequest& request, const ModelHost& host, std::string_view prompt);

}  // namespace mach::server
