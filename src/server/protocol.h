// The protocols in which text can be asked for. One is a row of Protocols(): its path, a codec that
// turns bodies into engine requests, and an encoder that writes their answers.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/answer_encoder.h"
#include "api/request.h"
#include "engine/engine.h"
#include "server/answer_part.h"
#include "server/model_host.h"

namespace mach::server {

// A request that was found good.
struct PreparedRequest {
  api::CommonFields common;
  std::vector<engine::GenerationRequest> requests;  // one for each prompt; their ids are empty
  std::shared_ptr<const OutputReading> reading;     // null: what the model writes is the content
  std::string repeated;                             // see api::AnswerSpec
};

struct Protocol {
  const char* path;       // of its POST route
  const char* id_prefix;  // of its answers' ids
  // Checks everything, also what needs the model, which must be ready: applies its defaults,
  // renders its template, tokenises. Takes long for long prompts, so not on the I/O thread. Throws
  // api::RequestError.
  PreparedRequest (*prepare)(std::string body, const api::RequestLimits& limits,
                             const ModelHost& host);
  std::unique_ptr<api::AnswerEncoder> (*make_encoder)(api::AnswerSpec spec);
  api::ErrorBodyFunction error_body;
};

std::span<const Protocol> Protocols();

// How errors are written under `path`: by the protocol whose path it is or begins with, else as
// OpenAI does.
api::ErrorBodyFunction ErrorBodyOf(std::string_view path);

}  // namespace mach::server
