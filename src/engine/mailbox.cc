#include "engine/mailbox.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/error.h"

namespace mach::engine {
namespace {

// How a request ends that has left the queue and never ran.
void EndWaiting(Request& request, const Error& error) {
  request.usage.queue_s = NowSeconds() - request.submitted_s;
  request.SendError(error);
}

Error ShuttingDown() {
  return {ErrorCode::kUnavailable, "the server is shutting down"};
}

}  // namespace

void Mailbox::Submit(const std::vector<std::shared_ptr<Request>>& requests) {
  if (requests.size() > max_queue_) {
    throw Error(ErrorCode::kInvalidArgument,
                std::to_string(requests.size()) + " prompts are more than this server queues (" +
                    std::to_string(max_queue_) + ")",
                "send them as several requests, or raise the server's --max-queue");
  }
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) {
      throw ShuttingDown();
    }
    if (requests.size() > max_queue_ - std::min(max_queue_, queue_.size())) {
      throw Error(ErrorCode::kUnavailable,
                  "the queue is full: " + std::to_string(queue_.size()) + " requests are waiting",
                  "try again later");
    }
    stats_.requests_total += static_cast<int64_t>(requests.size());
    queue_.insert(queue_.end(), requests.begin(), requests.end());
  }
  wake_.notify_all();
}

void Mailbox::Cancel(const std::shared_ptr<Request>& request) {
  {
    const std::lock_guard lock(mutex_);
    if (request->cancelled.exchange(true)) {
      return;
    }
    const auto it = std::find(queue_.begin(), queue_.end(), request);
    if (it == queue_.end()) {
      step_cancelled_.store(AllCancelled());
      return;
    }
    queue_.erase(it);
    ++stats_.requests_cancelled;
    ++leaving_;
  }
  EndWaiting(*request, Error(ErrorCode::kCancelled, "the request was cancelled"));
  const std::lock_guard lock(mutex_);
  --leaving_;
  idle_.notify_all();
}

void Mailbox::Shutdown(double grace_s) {
  std::unique_lock lock(mutex_);
  stopping_ = true;
  wake_.notify_all();
  idle_.wait_for(lock, std::chrono::duration<double>(grace_s),
                 [&] { return queue_.empty() && running_.empty(); });
  for (const auto& request : running_) {
    request->cancelled.store(true);
  }
  step_cancelled_.store(AllCancelled());
  std::deque<std::shared_ptr<Request>> waiting;
  waiting.swap(queue_);
  stats_.requests_cancelled += static_cast<int64_t>(waiting.size());
  leaving_ += waiting.size();
  lock.unlock();
  for (const auto& request : waiting) {
    EndWaiting(*request, ShuttingDown());
  }
  lock.lock();
  leaving_ -= waiting.size();
  idle_.notify_all();
  // Cancelled steps end within a moment; afterwards no event comes any more.
  idle_.wait(lock, [&] { return running_.empty() && leaving_ == 0; });
}

EngineStats Mailbox::Snapshot() const {
  const std::lock_guard lock(mutex_);
  EngineStats stats = stats_;
  stats.requests_queued = static_cast<int64_t>(queue_.size());
  stats.requests_active = static_cast<int64_t>(running_.size());
  stats.recent_decode_tok_s = recent_decode_.TokensPerSecond();
  stats.taken_at_s = running_.empty() ? NowSeconds() : published_s_;
  return stats;
}

bool Mailbox::Wait() {
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
  return !queue_.empty();
}

int64_t Mailbox::waiting() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int64_t>(queue_.size());
}

std::shared_ptr<Request> Mailbox::Admit() {
  const std::lock_guard lock(mutex_);
  if (queue_.empty()) {
    return nullptr;
  }
  if (running_.empty()) {
    published_s_ = NowSeconds();
  }
  running_.push_back(std::move(queue_.front()));
  queue_.pop_front();
  return running_.back();
}

void Mailbox::Retire(const std::shared_ptr<Request>& request) {
  const std::lock_guard lock(mutex_);
  std::erase(running_, request);
  idle_.notify_all();
}

void Mailbox::CountFailure(bool cancelled) {
  const std::lock_guard lock(mutex_);
  ++(cancelled ? stats_.requests_cancelled : stats_.requests_failed);
}

void Mailbox::PublishPrefill(int64_t tokens, double seconds, double tok_s) {
  const std::lock_guard lock(mutex_);
  stats_.prefill_tokens += tokens;
  stats_.prefill_s += seconds;
  stats_.recent_prefill_tok_s = tok_s;
  published_s_ = NowSeconds();
}

void Mailbox::PublishDecode(int64_t tokens, double seconds) {
  const std::lock_guard lock(mutex_);
  stats_.decode_tokens += tokens;
  stats_.decode_s += seconds;
  recent_decode_.Add(tokens, seconds);
  published_s_ = NowSeconds();
}

const std::atomic<bool>& Mailbox::BeginStep(std::vector<const Request*> members) {
  const std::lock_guard lock(mutex_);
  step_ = std::move(members);
  step_cancelled_.store(AllCancelled());
  return step_cancelled_;
}

void Mailbox::EndStep() {
  const std::lock_guard lock(mutex_);
  step_.clear();
}

bool Mailbox::AllCancelled() const {
  return !step_.empty() && std::all_of(step_.begin(), step_.end(), [](const Request* request) {
    return request->cancelled.load();
  });
}

}  // namespace mach::engine
