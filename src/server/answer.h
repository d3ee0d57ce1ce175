// How one request of a client is answered, from submission to the last byte. It hands the engine
// one request for each prompt, has what comes from them written by the encoder of its protocol, and
// cancels them when the client goes away.
//
// Events arrive on the engine's thread and only join an inbox there; all else happens on the I/O
// thread, so a token costs the engine a lock and a wake-up. Kept alive by the engine's requests and
// by work posted to the I/O thread.
//
// It is answered once: by the whole response or the end of the stream, by an error, or because the
// client is gone. It ends, and is logged, once each engine request has said what it cost.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "api/answer_encoder.h"
#include "engine/engine.h"
#include "http/exchange.h"
#include "server/answer_part.h"
#include "server/event_inbox.h"
#include "server/metrics.h"
#include "server/request_memory.h"
#include "text/tokenizer.h"

namespace mach::server {

struct AnswerOptions {
  std::string id;  // for the engine's requests
  std::unique_ptr<api::AnswerEncoder> encoder;
  bool stream = false;
  bool logprobs = false;
  bool receipt = false;  // in the usage at the end
  int32_t choices_per_prompt = 1;
  std::shared_ptr<const OutputReading> reading;  // of a chat's output; null: it is all content
  // Whose special tokens the text leaves out, for text offsets; null: none are.
  const text::Tokenizer* hides_special = nullptr;
  double arrived_s = 0;                   // NowSeconds() when the request was complete
  const RequestMemory* memory = nullptr;  // for what a client is told
};

class Answer : public std::enable_shared_from_this<Answer> {
 public:
  // On the I/O thread. `respond` sends a whole response (adding what all responses carry); `fail`
  // makes one of an error, `stream_head` the head of a stream; `on_end` is called once.
  struct Hooks {
    std::function<void(http::Exchange&, http::Response)> respond;
    std::function<http::Response(const api::ErrorInfo&)> fail;
    std::function<http::Response()> stream_head;
    std::function<void(const http::Request&, const AnswerRecord&, int status)> on_end;
  };

  // `hold` is what the answer is expected to take, of options.memory.
  Answer(std::shared_ptr<http::Exchange> exchange, AnswerOptions options, RequestMemory::Hold hold,
         Hooks hooks);
  Answer(const Answer&) = delete;
  Answer& operator=(const Answer&) = delete;
  ~Answer();

  // Hands the requests to the engine; on a worker thread, once. On failure the client gets the
  // error as plain JSON and nothing goes on running.
  void Submit(engine::Engine& engine, std::vector<engine::GenerationRequest> requests);

 private:
  // Any thread.
  void Push(AnswerEvent event);
  void CancelAll();

  // I/O thread.
  void Begin();
  void Drain();
  void Handle(AnswerEvent& event, Pieces& out);
  void OnOutput(const OutputArrived& output, Pieces& out);
  void OnChoiceFinished(ChoiceFinished& finished, Pieces& out);
  void OnRequestEnded(RequestEnded& ended, Pieces& out);
  void OnOverflow(const Overflowed& overflowed, Pieces& out);
  void AddUsage(const engine::Usage& part);
  void WriteStream(Pieces& out);
  void FinishAll(Pieces& out);
  void Fail(const api::ErrorInfo& info, bool cancelled, Pieces& out);
  void ClientGone();
  void End();

  const std::shared_ptr<http::Exchange> exchange_;
  const std::string reference_;  // of the request, in the log
  const AnswerOptions options_;
  const Hooks hooks_;
  EventInbox inbox_;

  std::mutex handles_mutex_;
  std::vector<std::shared_ptr<engine::GenerationHandle>> handles_;

  // I/O thread only.
  api::UsageReport usage_;
  AnswerRecord record_;
  size_t parts_running_ = 0;  // engine requests whose last event has not been handled
  bool begun_ = false;        // events may be handled
  bool streaming_ = false;    // the head has left
  bool answered_ = false;     // nothing is sent any more
  int status_ = 0;            // as answered
  bool ended_ = false;
};

}  // namespace mach::server
