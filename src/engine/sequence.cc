#include "engine/sequence.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "base/check.h"
#include "text/unicode.h"

namespace mach::engine {
namespace {

bool Contains(const std::vector<int32_t>& tokens, int32_t token) {
  return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
}

bool EndsInsideCharacter(std::string_view bytes) {
  while (true) {
    bytes.remove_prefix(text::ValidUtf8Prefix(bytes));
    if (bytes.empty()) {
      return false;
    }
    const text::BrokenUtf8 broken = text::ClassifyBrokenUtf8(bytes);
    if (broken.incomplete) {
      return true;
    }
    bytes.remove_prefix(broken.size);
  }
}

// What would end the choice is banned until min_tokens.
decode::ChooserOptions ChooserFor(const GenerationRequest& request, int64_t seed,
                                  const std::vector<int32_t>& end_tokens) {
  decode::ChooserOptions options{.sampling = request.sampling, .seed = seed};
  if (request.stop.min_tokens > 0) {
    options.banned = request.stop.token_ids;
    options.banned.insert(options.banned.end(), end_tokens.begin(), end_tokens.end());
    for (const auto& [token, unused] : request.stop.string_tokens) {
      options.banned.push_back(token);
    }
    options.banned_until = request.stop.min_tokens;
  }
  if (request.logprobs) {
    options.top_logprobs = request.top_logprobs;
  }
  if (request.make_constraint) {
    options.constraint = request.make_constraint();
  }
  return options;
}

}  // namespace

Sequence::Sequence(const GenerationRequest& request, int32_t choice, int64_t seed,
                   std::unique_ptr<state::SequenceState> state,
                   std::unique_ptr<decode::Drafter> drafter, const text::Tokenizer& tokenizer,
                   const std::vector<int32_t>& end_tokens, GenerationSink& sink)
    : request_(request),
      tokenizer_(tokenizer),
      end_tokens_(end_tokens),
      sink_(sink),
      choice_(choice),
      state_(std::move(state)),
      drafter_(std::move(drafter)),
      chooser_(ChooserFor(request, seed, end_tokens), request.prompt_tokens),
      text_(tokenizer, request.prompt_tokens, request.show_special, request.stop.strings,
            request.stop.include_stop_string),
      rows_(1, request.prompt_tokens.back()) {
  if (drafter_) {
    drafter_->Observe(request.prompt_tokens);
  }
}

void Sequence::Draft(int64_t most_drafts, int32_t vocab_size) {
  MACH_DCHECK(rows_.size() == 1);
  // Beyond max_tokens nothing can be taken, and the context may end.
  const int64_t most = std::min(most_drafts, request_.stop.max_tokens - tokens() - 1);
  if (!drafter_ || most <= 0) {
    return;
  }
  for (const int32_t draft : drafter_->Propose(most)) {
    if (static_cast<int64_t>(rows_.size()) > most || draft < 0 || draft >= vocab_size) {
      break;
    }
    rows_.push_back(draft);
  }
}

void Sequence::Verify(std::span<const float> logits) {
  const size_t vocab = logits.size() / rows_.size();
  const int64_t base = state_->length() - static_cast<int64_t>(rows_.size());
  std::vector<int32_t> taken;
  for (size_t row = 0; row < rows_.size(); ++row) {
    const decode::ChosenToken chosen = chooser_.Choose(logits.subspan(row * vocab, vocab));
    taken.push_back(chosen.token);
    Take(chosen);
    const bool drafted = row + 1 < rows_.size() && taken.back() == rows_[row + 1];
    if (ended_ || !drafted) {
      break;
    }
  }
  if (!ended_) {
    state_->Truncate(base + static_cast<int64_t>(taken.size()));
    rows_.assign(1, taken.back());
    if (drafter_) {
      drafter_->Observe(taken);
    }
  }
}

void Sequence::Take(const decode::ChosenToken& chosen) {
  const int32_t token = chosen.token;
  chooser_.Accept(token);
  if (Contains(request_.stop.token_ids, token)) {
    End({.reason = FinishReason::kStop, .stop = token});
    return;
  }
  if (const std::string* stop = StopStringOf(token)) {
    End({.reason = FinishReason::kStop, .stop = *stop},
        request_.stop.include_stop_string ? *stop : "");
    return;
  }
  if (!request_.stop.ignore_eos && Contains(end_tokens_, token)) {
    End({.reason = FinishReason::kStop, .stop = {}});
    return;
  }
  const uint64_t begin = text_.decoded_bytes();
  std::vector<decode::TextPiece> pieces = text_.Push(token, tokens() > request_.stop.min_tokens);
  if (request_.logprobs) {
    WaitForText(chosen, begin);
  }
  const Flow flow = Emit(std::move(pieces));
  if (text_.stop()) {
    Finished({.reason = FinishReason::kStop, .stop = *text_.stop()});
  } else if (flow == Flow::kStop) {
    Finished({.reason = FinishReason::kEnough, .stop = {}});
  } else if (tokens() >= request_.stop.max_tokens) {
    End({.reason = FinishReason::kLength, .stop = {}});
  }
}

void Sequence::WaitForText(const decode::ChosenToken& chosen, uint64_t begin_byte) {
  if (text_.decoded_bytes() > begin_byte) {
    CloseWaiting();
  }
  Waiting waiting{.token = {}, .begin_byte = begin_byte, .end_byte = text_.decoded_bytes()};
  waiting.token.token = chosen.token;
  waiting.token.logprob = chosen.logprob;
  waiting.token.bytes = tokenizer_.TokenBytes(chosen.token);
  if (EndsInsideCharacter(waiting.token.bytes)) {
    waiting.end_byte = kOpen;
  }
  for (const decode::TokenLogprob& entry : chosen.top) {
    waiting.token.top.push_back({entry.token, entry.logprob, tokenizer_.TokenBytes(entry.token)});
  }
  waiting_.push_back(std::move(waiting));
}

void Sequence::CloseWaiting() {
  for (Waiting& waiting : waiting_) {
    waiting.end_byte = std::min(waiting.end_byte, text_.decoded_bytes());
  }
}

const std::string* Sequence::StopStringOf(int32_t token) const {
  for (const auto& [stop_token, text] : request_.stop.string_tokens) {
    if (stop_token == token) {
      return &text;
    }
  }
  return nullptr;
}

Flow Sequence::Emit(std::vector<decode::TextPiece> pieces) {
  Delta delta{
      .choice = choice_, .pieces = std::move(pieces), .tokens = {}, .generated_tokens = tokens()};
  // A token is out when its last byte is; tokens that a stop string cut off never are.
  const uint64_t shown = text_.shown_bytes();
  while (!waiting_.empty()) {
    const Waiting& next = waiting_.front();
    const bool out = text_.stop() ? next.begin_byte < shown : next.end_byte <= shown;
    if (!out) {
      break;
    }
    delta.tokens.push_back(std::move(waiting_.front().token));
    waiting_.pop_front();
  }
  return delta.pieces.empty() && delta.tokens.empty() ? Flow::kGoOn
                                                      : sink_.OnDelta(std::move(delta));
}

void Sequence::End(Finish finish, const std::string& last) {
  std::vector<decode::TextPiece> rest = text_.Finish();
  CloseWaiting();
  if (text_.stop() && finish.reason == FinishReason::kLength) {
    finish.reason = FinishReason::kStop;
    finish.stop = *text_.stop();
  }
  if (!last.empty()) {
    rest.push_back({last, std::nullopt, false});
  }
  if (Emit(std::move(rest)) == Flow::kStop && finish.reason == FinishReason::kLength) {
    finish.reason = FinishReason::kEnough;
  }
  Finished(std::move(finish));
}

void Sequence::Finished(Finish finish) {
  finish.choice = choice_;
  finish.generated_tokens = tokens();
  ended_ = true;
  sink_.OnFinish(std::move(finish));
}

}  // namespace mach::engine
