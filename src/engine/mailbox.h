// What the engine's thread and all others share, behind the only mutex of the engine: requests that
// wait, which ones run, what shall stop, and the numbers that are published. It outlives the engine
// for as long as somebody may still cancel a request.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/engine.h"
#include "engine/recent_rate.h"
#include "engine/request.h"

namespace mach::engine {

class Mailbox {
 public:
  explicit Mailbox(int32_t max_queue) : max_queue_(static_cast<size_t>(max_queue)) {}
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;
  ~Mailbox() = default;

  // Any thread.

  // Queues all or none. Throws as Engine::SubmitAll does for want of room and while stopping.
  void Submit(const std::vector<std::shared_ptr<Request>>& requests);
  // A waiting request leaves the queue and hears its last events before this returns; one that runs
  // is marked, and a step that nobody else wants stops within an operation.
  void Cancel(const std::shared_ptr<Request>& request);
  // As Engine::Shutdown.
  void Shutdown(double grace_s);
  // The counters, without what others know (memory, experts).
  EngineStats Snapshot() const;

  // The inference thread.

  // Waits for a request. False: none will come any more.
  bool Wait();
  int64_t waiting() const;
  // The first that waits; null if it has left meanwhile.
  std::shared_ptr<Request> Admit();
  // It does not run any more: no event of it comes from now on.
  void Retire(const std::shared_ptr<Request>& request);
  void CountFailure(bool cancelled);
  // `tok_s`: of the prompt so far.
  void PublishPrefill(int64_t tokens, double seconds, double tok_s);
  void PublishDecode(int64_t tokens, double seconds);

  // A step of these requests begins: the flag turns true once all of them are cancelled. It is that
  // of the last step that began.
  const std::atomic<bool>& BeginStep(std::vector<const Request*> members);
  void EndStep();

 private:
  bool AllCancelled() const;

  const size_t max_queue_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;  // a request waits, or the engine stops
  std::condition_variable idle_;  // a request has ended
  // Guarded by the mutex.
  bool stopping_ = false;
  std::deque<std::shared_ptr<Request>> queue_;
  std::vector<std::shared_ptr<Request>> running_;
  size_t leaving_ = 0;  // of the queue: their last events are under way
  std::vector<const Request*> step_;
  std::atomic<bool> step_cancelled_{false};  // read without the mutex
  EngineStats stats_;
  double published_s_ = 0;  // when the tokens and seconds of stats_ were true
  RecentRate recent_decode_;
};

}  // namespace mach::engine
