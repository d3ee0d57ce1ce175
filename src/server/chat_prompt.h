// The text that a model continues in a chat: its template's rendering of the conversation. Worker
// threads.
#pragma once

#include <string>

#include "api/request.h"
#include "loading/served_model.h"

namespace mach::server {

// Gives up the request's messages. What the template refuses is rendered once more with what
// templates often trip over put differently: system messages in the middle as the user's, arguments
// of past calls that are no objects inside one. Throws api::RequestError with the template's words.
std::string RenderChat(api::ChatRequest& request, const loading::ServedModel& model);

}  // namespace mach::server
