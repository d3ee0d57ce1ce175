// What the answers of /v1/chat/completions and /v1/completions have in common: `choices`, `usage`,
// chunks of the same make. They differ in what an OpenAiForm writes. For the encoders of api/ only.
#pragma once

#include <cstdint>
#include <memory>

#include "api/answer_encoder.h"
#include "chat/final_message.h"

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
  const char* first_delta;  // of the chunk that opens a choice; null: there is none
  // What a choice holds beside index, logprobs and how it ended, with a comma before it: of a chunk
  // (`delta` is null where there is nothing to show) and of a whole answer.
  void (*append_delta)(std::string& out, const chat::ChatDelta* delta, const AnswerSpec& spec);
  void (*append_message)(std::string& out, const chat::FinalMessage& message,
                         const AnswerSpec& spec);
  std::unique_ptr<LogprobWriter> (*make_logprobs)();
};

// `form` outlives the encoder.
std::unique_ptr<AnswerEncoder> MakeOpenAiEncoder(AnswerSpec spec, const OpenAiForm& form);

void AppendLogprob(std::string& out, float logprob);

}  // namespace mach::api
