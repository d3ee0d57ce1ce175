// The sink of one engine request of an answer: what the model writes becomes what the client reads,
// on the engine's thread, and goes into the answer's inbox. With a parser for each choice,
// reasoning and calls are taken out of the text, and a choice ends as soon as nothing that could
// still come would be shown.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "chat/output_parser.h"
#include "engine/engine.h"
#include "server/event_inbox.h"

namespace mach::server {

// How a chat's output is read. Values; any thread.
struct OutputReading {
  chat::ParserOptions parser;                           // its `tools` is set from below
  std::shared_ptr<const nlohmann::ordered_json> tools;  // null = none declared
  bool show_reasoning = true;
};

struct PartOptions {
  std::string reference;     // of the request, in the log
  int32_t first_choice = 0;  // of the answer
  int32_t choices = 1;
  bool logprobs = false;
  bool shows_special = false;                    // where nothing is read: special tokens are text
  std::shared_ptr<const OutputReading> reading;  // null: the text is the content
};

class AnswerPart : public engine::GenerationSink {
 public:
  // `push` is called on the engine's thread, or on the thread that cancels.
  AnswerPart(PartOptions options, std::function<void(AnswerEvent)> push);
  AnswerPart(const AnswerPart&) = delete;
  AnswerPart& operator=(const AnswerPart&) = delete;
  ~AnswerPart() override;

  engine::Flow OnDelta(engine::Delta delta) override;
  void OnFinish(engine::Finish finish) override;
  void OnDone(const engine::Usage& usage) override;
  void OnUsage(const engine::Usage& usage) override;
  void OnError(const Error& error) override;

 private:
  struct Choice {
    std::unique_ptr<chat::OutputParser> parser;
    int64_t tokens = 0;  // that events have counted
  };

  // Takes the pieces through the choice's parser, if it has one.
  std::vector<chat::ChatDelta> Read(Choice& choice, std::span<const decode::TextPiece> pieces);
  // Keeps what the client is to see.
  std::vector<chat::ChatDelta> Shown(std::vector<chat::ChatDelta> deltas) const;
  void Push(AnswerEvent event) { push_(std::move(event)); }

  const PartOptions options_;
  const std::function<void(AnswerEvent)> push_;
  std::vector<Choice> choices_;
  engine::Usage usage_;  // of a request that is about to end in an error
};

}  // namespace mach::server
