// From a checked API request to engine requests: applies the model's defaults, renders the
// template, tokenises, and makes every check that needs the model. Pure functions; any thread; they
// may take long for long prompts, so not the I/O thread.
#pragma once

#include <vector>

#include "api/request.h"
#include "engine/engine.h"
#include "server/model_host.h"

namespace mach::server {

// Both need a host that is ready and throw api::RequestError. The ids of the results are empty.
engine::GenerationRequest PrepareChat(const api::ChatRequest& request, const ModelHost& host);

// One engine request for each prompt.
std::vector<engine::GenerationRequest> PrepareCompletion(const api::CompletionRequest& request,
                                                         const ModelHost& host);

}  // namespace mach::server
