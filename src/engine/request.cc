#include "engine/request.h"

#include <utility>

#include "engine/contain.h"

namespace mach::engine {

Request::Request(GenerationRequest what, std::shared_ptr<GenerationSink> who)
    : asked(std::move(what)),
      sink(std::move(who)),
      usage{.prompt_tokens = static_cast<int64_t>(asked.prompt_tokens.size())},
      seed_(asked.sampling.seed ? *asked.sampling.seed : decode::FreshSeed()) {}

Sequence& Request::BeginSequence(const text::Tokenizer& tokenizer,
                                 const std::vector<int32_t>& end_tokens,
                                 std::unique_ptr<decode::Drafter> drafter) {
  auto state = sequences_left() > 1 ? prompt->Fork() : std::move(prompt);
  // Unsigned: the seed wraps round.
  const auto seed =
      static_cast<int64_t>(static_cast<uint64_t>(seed_) + static_cast<uint64_t>(begun));
  sequences.push_back(std::make_unique<Sequence>(asked, begun, seed, std::move(state),
                                                 std::move(drafter), tokenizer, end_tokens, *sink));
  ++begun;
  return *sequences.back();
}

int64_t Request::CountTokens() {
  int64_t tokens = ended_tokens_;
  for (const auto& sequence : sequences) {
    tokens += sequence->tokens();
  }
  const int64_t taken = tokens - usage.completion_tokens;
  usage.completion_tokens = tokens;
  return taken;
}

std::vector<std::unique_ptr<state::SequenceState>> Request::TakeEnded() {
  std::vector<std::unique_ptr<state::SequenceState>> states;
  for (const auto& sequence : sequences) {
    if (sequence->ended()) {
      ended_tokens_ += sequence->tokens();
      states.push_back(sequence->TakeState());
    }
  }
  std::erase_if(sequences, [](const auto& sequence) { return sequence->ended(); });
  return states;
}

std::optional<Error> Request::SendDone() {
  return Try([&] { sink->OnDone(usage); });
}

void Request::SendError(const Error& error) {
  Contain("saying what request " + asked.id + " cost", [&] { sink->OnUsage(usage); });
  Contain("saying that request " + asked.id + " failed", [&] { sink->OnError(error); });
}

}  // namespace mach::engine
