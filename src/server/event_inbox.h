// The events of one answer on their way from the engine's thread to the I/O thread. Where several
// have queued up they are taken together, up to a size; the rest waits here until the client has
// taken that, and has a bound. So a slow reader gets larger chunks, and costs at most the inbox. It
// keeps the answer's part of the requests' memory: what waits here, and what the encoder has
// gathered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "api/errors.h"
#include "chat/output_parser.h"
#include "engine/engine.h"
#include "server/request_memory.h"

namespace mach::server {

struct OutputArrived {
  int32_t choice = 0;
  std::vector<chat::ChatDelta> deltas;
  int64_t token_count = 0;
  int64_t reasoning_count = 0;                 // of these
  std::vector<engine::GeneratedToken> tokens;  // only with logprobs
  double made_s = 0;                           // NowSeconds() when its first token was there
};
struct ChoiceFinished {
  int32_t choice = 0;
  int64_t token_count = 0;      // since the last output: end tokens and others without text
  int64_t reasoning_count = 0;  // of these
  engine::Finish finish;
  bool called = false;  // a tool, and the client is to run it
};
// The last of an engine request.
struct RequestEnded {
  engine::Usage usage;
  std::optional<api::ErrorInfo> error;
  bool cancelled = false;
};
// More waits than may: of a stream for its client, or because the memory of requests is used up.
struct Overflowed {
  bool slow_client = false;
  uint64_t bytes = 0;  // that were needed
};
using AnswerEvent = std::variant<OutputArrived, ChoiceFinished, RequestEnded, Overflowed>;

class EventInbox {
 public:
  // `joins_output`: neighbouring outputs of a choice become one.
  EventInbox(bool stream, bool joins_output, RequestMemory::Hold hold)
      : stream_(stream),
        joins_output_(joins_output),
        least_hold_bytes_(hold.bytes()),
        hold_(std::move(hold)) {}

  // --- any thread

  struct Pushed {
    bool wake = false;      // somebody has to Take
    bool overflow = false;  // the engine should be told to stop
  };
  Pushed Push(AnswerEvent event);

  // From now on only last events are of interest.
  void Cancel();
  bool cancelled() const;

  // --- I/O thread

  // What may leave as one write, everything if this is no stream; sets `more` if events are left,
  // which is to be followed by another Take.
  std::vector<AnswerEvent> Take(bool* more);
  // Says how much the encoder has gathered. False if there is no memory for it.
  bool HoldEncoded(uint64_t bytes);
  // For whoever sends what was encoded: exactly that is held then.
  RequestMemory::Hold TakeHold(uint64_t bytes);

 private:
  // Appends to an output what the next one of its choice holds.
  void Join(OutputArrived& last, OutputArrived& more);
  bool Fits();
  void Overflow(bool slow_client);

  const bool stream_;
  const bool joins_output_;
  const uint64_t least_hold_bytes_;
  mutable std::mutex mutex_;
  std::deque<AnswerEvent> events_;
  uint64_t event_bytes_ = 0;
  uint64_t encoded_bytes_ = 0;
  RequestMemory::Hold hold_;
  bool scheduled_ = true;  // a Take is on its way; true until the first one
  bool cancelled_ = false;
};

// What an answer of a request may take until its last byte is on its way; expected rather than the
// most, which text made of the vocabulary's longest tokens would be. A stream takes only what its
// client has not read.
inline constexpr char kSmallerAnswer[] =
    "Ask for fewer tokens ('max_tokens'), choices ('n') or logprobs, or stream the answer";
uint64_t ExpectedAnswerBytes(const engine::GenerationRequest& request, bool stream);

}  // namespace mach::server
