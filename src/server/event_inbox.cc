#include "server/event_inbox.h"

#include <algorithm>
#include <utility>

namespace mach::server {
namespace {

// What a stream may hold back for a client that reads slowly.
constexpr uint64_t kMaxStreamBytes = 4 << 20;
// What leaves as one write: even where its JSON is several times as large, it stays below what the
// connection may have waiting.
constexpr uint64_t kWriteBytes = 32 << 10;
// Memory is asked for in steps, and given back when as much is free.
constexpr uint64_t kStepBytes = 64 << 10;

// What an event, a delta, a token with its logprob, and an alternative take beside their text; as
// JSON or in memory, which is about the same.
constexpr uint64_t kEventBytes = 96;
constexpr uint64_t kDeltaBytes = 96;
constexpr uint64_t kTokenBytes = 80;
constexpr uint64_t kAlternativeBytes = 56;

// Of answers to come: a token's text, its entry among the logprobs and that of an alternative, as
// JSON (four characters of text, listed as bytes too).
constexpr uint64_t kExpectedTextBytes = 8;
constexpr uint64_t kExpectedTokenBytes = 96;
constexpr uint64_t kExpectedAlternativeBytes = 72;
// A prompt's tokens in the request and in the engine.
constexpr uint64_t kPromptTokenBytes = 8;

uint64_t SizeOf(const chat::ChatDelta& delta) {
  return kDeltaBytes + delta.text.size() + delta.id.size();
}

uint64_t SizeOf(const AnswerEvent& event) {
  uint64_t bytes = kEventBytes;
  if (const auto* output = std::get_if<OutputArrived>(&event)) {
    for (const chat::ChatDelta& delta : output->deltas) {
      bytes += SizeOf(delta);
    }
    for (const engine::GeneratedToken& token : output->tokens) {
      bytes += kTokenBytes + token.bytes.size();
      for (const engine::TokenAlternative& alternative : token.top) {
        bytes += kAlternativeBytes + alternative.bytes.size();
      }
    }
  }
  return bytes;
}

}  // namespace

EventInbox::Pushed EventInbox::Push(AnswerEvent event) {
  const std::lock_guard lock(mutex_);
  if (cancelled_ && !std::holds_alternative<RequestEnded>(event)) {
    return {};
  }
  auto* output = std::get_if<OutputArrived>(&event);
  auto* last = events_.empty() ? nullptr : std::get_if<OutputArrived>(&events_.back());
  if (output != nullptr && last != nullptr && last->choice == output->choice && joins_output_ &&
      SizeOf(events_.back()) < kWriteBytes) {
    Join(*last, *output);
  } else {
    event_bytes_ += SizeOf(event);
    events_.push_back(std::move(event));
  }
  const bool slow_client = stream_ && event_bytes_ > kMaxStreamBytes;
  const bool overflow = !cancelled_ && (slow_client || !Fits());
  if (overflow) {
    Overflow(slow_client);
  }
  const bool wake = !std::exchange(scheduled_, true);
  return {.wake = wake || overflow, .overflow = overflow};
}

void EventInbox::Join(OutputArrived& last, OutputArrived& more) {
  if (last.deltas.empty()) {
    last.made_s = more.made_s;  // of what is seen
  }
  for (chat::ChatDelta& delta : more.deltas) {
    // A call begins with a delta of its own, which holds nothing but its name.
    const bool continues = !last.deltas.empty() && last.deltas.back().kind == delta.kind &&
                           last.deltas.back().index == delta.index &&
                           delta.kind != chat::ChatDelta::Kind::kCallStart;
    if (continues) {
      event_bytes_ += delta.text.size();
      last.deltas.back().text += delta.text;
    } else {
      event_bytes_ += SizeOf(delta);
      last.deltas.push_back(std::move(delta));
    }
  }
  last.token_count += more.token_count;
  last.reasoning_count += more.reasoning_count;
}

bool EventInbox::Fits() {
  const uint64_t needed = event_bytes_ + encoded_bytes_;
  return needed <= hold_.bytes() || hold_.Resize(needed + needed / 8 + kStepBytes) ||
         hold_.Resize(needed);
}

void EventInbox::Overflow(bool slow_client) {
  const Overflowed overflowed{.slow_client = slow_client, .bytes = event_bytes_ + encoded_bytes_};
  cancelled_ = true;
  std::erase_if(events_,
                [](const AnswerEvent& e) { return !std::holds_alternative<RequestEnded>(e); });
  events_.emplace_front(overflowed);
  event_bytes_ = events_.size() * kEventBytes;
}

void EventInbox::Cancel() {
  const std::lock_guard lock(mutex_);
  cancelled_ = true;
}

bool EventInbox::cancelled() const {
  const std::lock_guard lock(mutex_);
  return cancelled_;
}

std::vector<AnswerEvent> EventInbox::Take(bool* more) {
  std::vector<AnswerEvent> taken;
  const std::lock_guard lock(mutex_);
  uint64_t taken_bytes = 0;
  while (!events_.empty() && (!stream_ || taken_bytes < kWriteBytes)) {
    const uint64_t bytes = SizeOf(events_.front());
    taken_bytes += bytes;
    event_bytes_ -= bytes;
    taken.push_back(std::move(events_.front()));
    events_.pop_front();
  }
  *more = !events_.empty();
  scheduled_ = *more;
  const uint64_t enough = std::max(least_hold_bytes_, event_bytes_ + kStepBytes);
  if (stream_ && hold_.bytes() > enough + kStepBytes) {
    hold_.Resize(enough);
  }
  return taken;
}

bool EventInbox::HoldEncoded(uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  encoded_bytes_ = bytes;
  return Fits();
}

RequestMemory::Hold EventInbox::TakeHold(uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (bytes < hold_.bytes()) {
    hold_.Resize(bytes);
  }
  return std::move(hold_);
}

uint64_t ExpectedAnswerBytes(const engine::GenerationRequest& request, bool stream) {
  const uint64_t prompt = request.prompt_tokens.size() * kPromptTokenBytes;
  if (stream) {
    return prompt + kStepBytes;
  }
  const uint64_t token =
      kExpectedTextBytes +
      (request.logprobs ? kExpectedTokenBytes + static_cast<uint64_t>(request.top_logprobs) *
                                                    kExpectedAlternativeBytes
                        : 0);
  return prompt + static_cast<uint64_t>(request.choices) *
                      static_cast<uint64_t>(request.stop.max_tokens) * token;
}

}  // namespace mach::server
