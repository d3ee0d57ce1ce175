// One generation request of a client, from submission to the last byte of its response. It is the
// sink of its engine requests (one for each prompt), turns their events into JSON or server-sent
// events, and cancels them when the client goes away.
//
// Events arrive on the engine's thread and only join an inbox there; all else happens on the I/O
// thread, so a token costs the engine a lock and a wake-up. Where several deltas have queued up
// they leave as one write, up to a size; the rest waits in the inbox until the client has taken
// that. So a slow reader gets larger chunks, and costs at most the inbox. Kept alive by the
// engine's requests and by work posted to the I/O thread.
//
// It is answered once: by the whole response or the end of the stream, by an error, or because the
// client is gone. It ends, and is logged, once each engine request has said what it cost.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "api/response.h"
#include "engine/engine.h"
#include "http/exchange.h"
#include "server/metrics.h"
#include "text/tokenizer.h"

namespace mach::server {

struct GenerationOptions {
  api::ResponseMeta meta;
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
  bool receipt =
      false;  // in the usage at the end; a stream then gets its usage chunk, asked or not
  bool logprobs = false;
  // Whose special tokens the text leaves out, for text offsets; null: none are.
  const text::Tokenizer* hides_special = nullptr;
  int32_t choices_per_prompt = 1;
  double arrived_s = 0;  // NowSeconds() when the request was complete
};

class Generation : public std::enable_shared_from_this<Generation> {
 public:
  // `respond` sends a whole response (adding what all responses carry) on the I/O thread; `head`
  // makes the head of a streamed one; `on_end` is called once, on the I/O thread.
  struct Hooks {
    std::function<void(http::Exchange&, http::Response)> respond;
    std::function<http::Response()> stream_head;
    std::function<void(const http::Request&, const GenerationRecord&, int status)> on_end;
  };

  Generation(std::shared_ptr<http::Exchange> exchange, GenerationOptions options, Hooks hooks);
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;
  ~Generation();

  // Hands the requests to the engine; on a worker thread, once. On failure the client gets the
  // error as plain JSON and nothing goes on running.
  void Submit(engine::Engine& engine, std::vector<engine::GenerationRequest> requests);

 private:
  class Part;

  struct TextEvent {
    int32_t choice = 0;
    std::string text;
    int64_t token_count = 0;
    std::vector<engine::GeneratedToken> tokens;  // only with logprobs
  };
  struct FinishEvent {
    int32_t choice = 0;
    int64_t token_count = 0;  // since the last delta: end tokens and others without text
    engine::Finish finish;
  };
  // The last of an engine request.
  struct LastEvent {
    engine::Usage usage;
    std::optional<api::ErrorInfo> error;
    bool cancelled = false;
  };
  struct OverflowEvent {};  // more waits for the client than may
  using Event = std::variant<TextEvent, FinishEvent, LastEvent, OverflowEvent>;

  struct Choice {
    api::ChoiceResult result;
    api::LogprobText logprobs;
  };

  // Any thread.
  void Push(Event event);
  void CancelAll();

  static size_t SizeOf(const Event& event);

  // I/O thread.
  void Begin();
  // Takes what leaves as one write; sets `more` if events are left.
  std::vector<Event> TakeEvents(bool* more);
  void Drain();
  void Handle(Event& event, std::string& out);
  void OnText(TextEvent& event, std::string& out);
  void AddLogprobs(Choice& choice, const std::vector<engine::GeneratedToken>& tokens);
  void OnLast(LastEvent& event, std::string& out);
  void AddUsage(const engine::Usage& part);
  void FinishAll(std::string& out);
  void Fail(const api::ErrorInfo& info, bool cancelled, std::string& out);
  void ClientGone();
  void End();
  const api::Usage* RunningUsage() const;

  const std::shared_ptr<http::Exchange> exchange_;
  const GenerationOptions options_;
  const Hooks hooks_;
  const api::StreamEncoder encoder_;

  std::mutex mutex_;  // guards the next five
  std::deque<Event> inbox_;
  size_t inbox_bytes_ = 0;
  bool scheduled_ = true;   // a Drain is on its way; true until Begin runs it the first time
  bool cancelled_ = false;  // only last events are of interest
  std::vector<std::shared_ptr<engine::GenerationHandle>> handles_;

  // I/O thread only.
  std::vector<Choice> choices_;
  api::Usage usage_;
  GenerationRecord record_;
  size_t parts_running_ = 0;  // engine requests whose last event has not been handled
  bool begun_ = false;        // events may be handled
  bool streaming_ = false;    // the head has left
  bool answered_ = false;     // nothing is sent any more
  int status_ = 0;            // as answered
  bool ended_ = false;
};

}  // namespace mach::server
