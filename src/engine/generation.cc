#include "engine/generation.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "decode/logprob.h"
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

}  // namespace

Generation::Generation(const GenerationRequest& request, int32_t choice, int64_t seed,
                       const text::Tokenizer& tokenizer, const std::vector<int32_t>& end_tokens)
    : request_(request),
      tokenizer_(tokenizer),
      end_tokens_(end_tokens),
      choice_(choice),
      sampler_(request.sampling, seed, request.prompt_tokens),
      text_(tokenizer, request.prompt_tokens, request.show_special, request.stop.strings,
            request.stop.include_stop_string) {
  if (request.stop.min_tokens > 0) {
    banned_ = request.stop.token_ids;
    banned_.insert(banned_.end(), end_tokens.begin(), end_tokens.end());
    for (const auto& [token, unused] : request.stop.string_tokens) {
      banned_.push_back(token);
    }
  }
}

std::optional<int32_t> Generation::Step(std::span<float> logits, GenerationSink& sink) {
  if (request_.logprobs) {
    untouched_.assign(logits.begin(), logits.end());
  }
  const bool held = tokens_ < request_.stop.min_tokens;
  const int32_t token = sampler_.Sample(
      logits, tokens_, held ? std::span<const int32_t>(banned_) : std::span<const int32_t>());
  sampler_.Accept(token);
  ++tokens_;

  if (Contains(request_.stop.token_ids, token)) {
    End({.choice = choice_, .reason = FinishReason::kStop, .stop = token}, sink);
    return std::nullopt;
  }
  if (const std::string* stop = StopStringOf(token)) {
    End({.choice = choice_, .reason = FinishReason::kStop, .stop = *stop}, sink,
        request_.stop.include_stop_string ? *stop : "");
    return std::nullopt;
  }
  if (!request_.stop.ignore_eos && Contains(end_tokens_, token)) {
    End({.choice = choice_, .reason = FinishReason::kStop, .stop = {}}, sink);
    return std::nullopt;
  }
  const uint64_t begin = text_.decoded_bytes();
  std::vector<decode::TextPiece> pieces = text_.Push(token, tokens_ > request_.stop.min_tokens);
  if (request_.logprobs) {
    if (text_.decoded_bytes() > begin) {
      CloseWaiting();
    }
    Waiting waiting{.token = {}, .begin_byte = begin, .end_byte = text_.decoded_bytes()};
    std::vector<decode::TokenLogprob> top;
    waiting.token.token = token;
    waiting.token.logprob = decode::Logprob(untouched_, token, request_.top_logprobs, &top).logprob;
    waiting.token.bytes = tokenizer_.TokenBytes(token);
    if (EndsInsideCharacter(waiting.token.bytes)) {
      waiting.end_byte = kOpen;
    }
    for (const decode::TokenLogprob& entry : top) {
      waiting.token.top.push_back({entry.token, entry.logprob, tokenizer_.TokenBytes(entry.token)});
    }
    waiting_.push_back(std::move(waiting));
  }
  if (text_.stop()) {
    Emit(std::move(pieces), sink);
    sink.OnFinish({.choice = choice_,
                   .reason = FinishReason::kStop,
                   .stop = *text_.stop(),
                   .generated_tokens = tokens_});
    return std::nullopt;
  }
  if (Emit(std::move(pieces), sink) == Flow::kStop) {
    sink.OnFinish(
        {.choice = choice_, .reason = FinishReason::kEnough, .generated_tokens = tokens_});
    return std::nullopt;
  }
  if (tokens_ >= request_.stop.max_tokens) {
    End({.choice = choice_, .reason = FinishReason::kLength, .stop = {}}, sink);
    return std::nullopt;
  }
  return token;
}

Flow Generation::Emit(std::vector<decode::TextPiece> pieces, GenerationSink& sink) {
  Delta delta{
      .choice = choice_, .pieces = std::move(pieces), .tokens = {}, .generated_tokens = tokens_};
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
                                                      : sink.OnDelta(std::move(delta));
}

void Generation::CloseWaiting() {
  for (Waiting& waiting : waiting_) {
    waiting.end_byte = std::min(waiting.end_byte, text_.decoded_bytes());
  }
}

const std::string* Generation::StopStringOf(int32_t token) const {
  for (const auto& [stop_token, text] : request_.stop.string_tokens) {
    if (stop_token == token) {
      return &text;
    }
  }
  return nullptr;
}

void Generation::End(Finish finish, GenerationSink& sink, const std::string& last) {
  std::vector<decode::TextPiece> rest = text_.Finish();
  CloseWaiting();
  if (text_.stop() && finish.reason == FinishReason::kLength) {
    finish.reason = FinishReason::kStop;
    finish.stop = *text_.stop();
  }
  if (!last.empty()) {
    rest.push_back({last, std::nullopt});
  }
  finish.generated_tokens = tokens_;
  if (Emit(std::move(rest), sink) == Flow::kStop && finish.reason == FinishReason::kLength) {
    finish.reason = FinishReason::kEnough;
  }
  sink.OnFinish(std::move(finish));
}

}  // namespace mach::engine
