#include "server/answer_part.h"

#include <utility>

#include "api/errors.h"
#include "base/clock.h"

namespace mach::server {

AnswerPart::AnswerPart(PartOptions options, std::function<void(AnswerEvent)> push)
    : options_(std::move(options)),
      push_(std::move(push)),
      choices_(static_cast<size_t>(options_.choices)) {
  if (const OutputReading* reading = options_.reading.get()) {
    for (Choice& choice : choices_) {
      chat::ParserOptions parser = reading->parser;
      parser.tools = reading->tools.get();
      choice.parser = chat::OutputParser::Make(std::move(parser));
    }
  }
}

AnswerPart::~AnswerPart() = default;

std::vector<chat::ChatDelta> AnswerPart::Read(Choice& choice,
                                              std::span<const decode::TextPiece> pieces) {
  std::vector<chat::ChatDelta> deltas;
  if (!choice.parser) {
    std::string text = decode::JoinPieces(pieces, options_.shows_special);
    if (!text.empty()) {
      deltas.push_back({.text = std::move(text), .id = ""});
    }
    return deltas;
  }
  for (const decode::TextPiece& piece : pieces) {
    choice.parser->Push({.text = piece.text,
                         .is_token = piece.token.has_value(),
                         .is_hidden = piece.special && !options_.shows_special},
                        deltas);
  }
  return deltas;
}

std::vector<chat::ChatDelta> AnswerPart::Shown(std::vector<chat::ChatDelta> deltas) const {
  if (options_.reading && !options_.reading->show_reasoning) {
    std::erase_if(deltas, [](const chat::ChatDelta& delta) {
      return delta.kind == chat::ChatDelta::Kind::kReasoning;
    });
  }
  return deltas;
}

engine::Flow AnswerPart::OnDelta(engine::Delta delta) {
  Choice& choice = choices_[static_cast<size_t>(delta.choice)];
  const bool reasoned = choice.parser && choice.parser->InReasoning();
  std::vector<chat::ChatDelta> deltas = Shown(Read(choice, delta.pieces));
  const int64_t count = delta.generated_tokens - choice.tokens;
  OutputArrived event{.choice = options_.first_choice + delta.choice,
                      .deltas = std::move(deltas),
                      .token_count = count,
                      .reasoning_count = reasoned ? count : 0,
                      .tokens = {},
                      .made_s = NowSeconds()};
  if (options_.logprobs) {
    event.tokens = std::move(delta.tokens);
  }
  // Tokens of which nothing is seen yet are counted with the next that are.
  if (!event.deltas.empty() || !event.tokens.empty() || reasoned) {
    choice.tokens = delta.generated_tokens;
    Push(std::move(event));
  }
  return choice.parser && choice.parser->ShouldStop() ? engine::Flow::kStop : engine::Flow::kGoOn;
}

void AnswerPart::OnFinish(engine::Finish finish) {
  Choice& choice = choices_[static_cast<size_t>(finish.choice)];
  const int32_t index = options_.first_choice + finish.choice;
  const int64_t count = finish.generated_tokens - choice.tokens;
  const int64_t reasoning = choice.parser && choice.parser->InReasoning() ? count : 0;
  if (choice.parser) {
    std::vector<chat::ChatDelta> rest;
    choice.parser->Finish(finish.reason == engine::FinishReason::kLength ? chat::EndReason::kLength
                                                                         : chat::EndReason::kStop,
                          rest);
    rest = Shown(std::move(rest));
    if (!rest.empty()) {
      Push(OutputArrived{.choice = index,
                         .deltas = std::move(rest),
                         .token_count = 0,
                         .reasoning_count = 0,
                         .tokens = {},
                         .made_s = NowSeconds()});
    }
  }
  // A call that was asked for by name ends with "stop".
  const bool named = options_.reading && options_.reading->parser.named_call;
  Push(ChoiceFinished{.choice = index,
                      .token_count = count,
                      .reasoning_count = reasoning,
                      .finish = std::move(finish),
                      .called = choice.parser && choice.parser->AnyCall() && !named});
}

void AnswerPart::OnDone(const engine::Usage& usage) {
  Push(RequestEnded{.usage = usage});
}

void AnswerPart::OnUsage(const engine::Usage& usage) {
  usage_ = usage;
}

void AnswerPart::OnError(const Error& error) {
  Push(RequestEnded{.usage = usage_,
                    .error = api::FromFailure(error, options_.reference),
                    .cancelled = error.code() == ErrorCode::kCancelled});
}

}  // namespace mach::server
