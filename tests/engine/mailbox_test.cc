// The mailbox without a model: who waits, what a cancel does to a queue and to a step, and that
// every request ends once, before Shutdown returns, whatever happens at the same time.
#include "engine/mailbox.h"

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/engine/engine_support.h"

namespace mach::engine {
namespace {

struct Asked {
  std::shared_ptr<RecordingSink> sink = std::make_shared<RecordingSink>();
  std::shared_ptr<Request> request;
};

Asked Ask() {
  Asked asked;
  GenerationRequest what;
  what.prompt_tokens = {1, 2, 3};
  asked.request = std::make_shared<Request>(std::move(what), asked.sink);
  return asked;
}

ErrorCode CodeOf(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorCode::kInternal;
}

TEST(Mailbox, QueuesAllOrNone) {
  Mailbox mailbox(3);
  mailbox.Submit({Ask().request, Ask().request});
  EXPECT_EQ(CodeOf([&] {
              mailbox.Submit({Ask().request, Ask().request});
            }),
            ErrorCode::kUnavailable);
  EXPECT_EQ(CodeOf([&] { mailbox.Submit(std::vector(4, Ask().request)); }),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(mailbox.waiting(), 2);
  EXPECT_EQ(mailbox.Snapshot().requests_total, 2);
}

TEST(Mailbox, AWaitingRequestLeavesAtOnce) {
  Mailbox mailbox(3);
  const Asked first = Ask();
  const Asked second = Ask();
  mailbox.Submit({first.request, second.request});
  mailbox.Cancel(first.request);
  ASSERT_TRUE(first.sink->Ended());
  const Outcome outcome = first.sink->Wait();
  EXPECT_EQ(outcome.error->code(), ErrorCode::kCancelled);
  EXPECT_EQ(outcome.usage->prompt_tokens, 3);
  EXPECT_GT(outcome.usage->queue_s, 0);
  mailbox.Cancel(first.request);  // harmless
  EXPECT_EQ(mailbox.Admit(), second.request);
  EXPECT_EQ(mailbox.Admit(), nullptr);
  EXPECT_EQ(mailbox.Snapshot().requests_cancelled, 1);
  EXPECT_EQ(mailbox.Snapshot().requests_active, 1);
  mailbox.Retire(second.request);
  EXPECT_EQ(mailbox.Snapshot().requests_active, 0);
  EXPECT_EQ(first.sink->Wait().events_after_the_last, 0);
}

TEST(Mailbox, AStepIsCancelledWhenAllItsMembersAre) {
  Mailbox mailbox(3);
  const std::vector<Asked> asked = {Ask(), Ask(), Ask()};
  mailbox.Submit({asked[0].request, asked[1].request, asked[2].request});
  for (int i = 0; i < 3; ++i) {
    mailbox.Admit();
  }
  const std::atomic<bool>& cancelled =
      mailbox.BeginStep({asked[0].request.get(), asked[1].request.get(), asked[0].request.get()});
  EXPECT_FALSE(cancelled.load());
  mailbox.Cancel(asked[0].request);
  mailbox.Cancel(asked[2].request);
  EXPECT_FALSE(cancelled.load());
  mailbox.Cancel(asked[1].request);
  EXPECT_TRUE(cancelled.load());
  mailbox.EndStep();
  EXPECT_TRUE(mailbox.BeginStep({asked[2].request.get()}).load()) << "cancelled before it begins";
  const Asked other = Ask();
  EXPECT_FALSE(mailbox.BeginStep({other.request.get()}).load());
  for (const Asked& each : asked) {
    mailbox.Retire(each.request);
  }
}

TEST(Mailbox, ShutdownCancelsWhatRunsAndEndsWhatWaits) {
  Mailbox mailbox(3);
  const Asked runs = Ask();
  const Asked waits = Ask();
  mailbox.Submit({runs.request, waits.request});
  mailbox.Admit();
  const std::atomic<bool>& cancelled = mailbox.BeginStep({runs.request.get()});
  std::thread inference([&] {
    while (!cancelled.load()) {
      std::this_thread::yield();
    }
    mailbox.Retire(runs.request);
    EXPECT_FALSE(mailbox.Wait());
  });
  mailbox.Shutdown(0);
  EXPECT_EQ(waits.sink->Wait().error->code(), ErrorCode::kUnavailable);
  EXPECT_EQ(mailbox.Snapshot().requests_active, 0);
  EXPECT_EQ(CodeOf([&] { mailbox.Submit({Ask().request}); }), ErrorCode::kUnavailable);
  inference.join();
}

// A cancel that has taken its request out of the queue still owes its last events.
TEST(Mailbox, ShutdownWaitsForTheEventsOfACancel) {
  for (int repetition = 0; repetition < 500; ++repetition) {
    auto mailbox = std::make_shared<Mailbox>(8);
    std::vector<Asked> asked;
    for (int i = 0; i < 4; ++i) {
      asked.push_back(Ask());
      mailbox->Submit({asked.back().request});
    }
    std::thread canceller([mailbox, asked] {
      for (const Asked& each : asked) {
        mailbox->Cancel(each.request);
      }
    });
    std::thread other([mailbox] { mailbox->Shutdown(0); });
    mailbox->Shutdown(0);
    for (const Asked& each : asked) {
      ASSERT_TRUE(each.sink->Ended());
    }
    canceller.join();
    other.join();
    for (const Asked& each : asked) {
      EXPECT_EQ(each.sink->Wait().events_after_the_last, 0);
    }
    EXPECT_EQ(mailbox->Snapshot().requests_cancelled, 4);
  }
}

}  // namespace
}  // namespace mach::engine
