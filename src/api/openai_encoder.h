// What the answers of /v1/chat/completions and /v1/completions have in common: `choices`, `usage`,
// chunks of the same make. They differ in the literals of an OpenAiForm and in how logprobs are
// written. For the encoders of api/ only.
#pragma once

#include <cstdint>
#include <memory>

#include "api/answer_encoder.h"

namespace mach::api {

// Collects the logprobs of one choice and gives them out as the JSON of its protocol.
class LogprobWriter {
 public:
  virtual ~LogprobWriter() = default;
  virtual void Add(const TokenView& token) = 0;
  // Appends the object for all tokens since the last call.
  virtual void Take(Pieces& out) = 0;
  virtual uint64_t held_bytes() const = 0;
};

struct OpenAiForm {
  const char* whole_object;
  const char* chunk_object;
  const char* whole_open;   // before the text of a choice
  const char* chunk_open;   // before the text of a chunk
  const char* close;        // after either
  const char* empty_delta;  // of a chunk without text
  const char* first_delta;  // of the chunk that opens a choice; null: there is none
  std::unique_ptr<LogprobWriter> (*make_logprobs)();
};

// `form` outlives the encoder.
std::unique_ptr<AnswerEncoder> MakeOpenAiEncoder(AnswerSpec spec, const OpenAiForm& form);

void AppendLogprob(std::string& out, float logprob);

}  // namespace mach::api
