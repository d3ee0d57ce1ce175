// From the fields of a request and the tokens of its prompt to what the engine is asked: the
// model's defaults, its vocabulary and its context come in here. Worker threads. What the client
// is to blame for is thrown as api::RequestError.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "api/request.h"
#include "engine/engine.h"
#include "server/model_host.h"

namespace mach::server {

// Throws where the request asks for another model.
void CheckModelName(const api::CommonFields& common, const ModelHost& host);

// The tokens of a text, `path` being its field. A text that no tokenisation can fit into the
// context is refused before minutes are spent on it.
std::vector<int32_t> TokenizeText(const api::CommonFields& common, const ModelHost& host,
                                  std::string_view text, bool add_special_tokens,
                                  const std::string& path);

// The tokens of a prompt that is a text or a list of ids already. Not empty.
std::vector<int32_t> TokenizePrompt(api::Prompt prompt, const api::CommonFields& common,
                                    const ModelHost& host, const std::string& path);

// `field`: of the prompt, for what is wrong with its length.
engine::GenerationRequest MakeEngineRequest(const api::CommonFields& common, const ModelHost& host,
                                            std::vector<int32_t> prompt, const std::string& field);

}  // namespace mach::server
