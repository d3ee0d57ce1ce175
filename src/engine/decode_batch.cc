#include "engine/decode_batch.h"

#include <span>
#include <utility>

#include "base/log.h"
#include "engine/contain.h"

namespace mach::engine {
namespace {

// The mailbox watches a step as long as this lives.
class WatchedStep {
 public:
  WatchedStep(Mailbox& mailbox, std::vector<const Request*> members)
      : mailbox_(mailbox), cancelled_(mailbox.BeginStep(std::move(members))) {}
  WatchedStep(const WatchedStep&) = delete;
  WatchedStep& operator=(const WatchedStep&) = delete;
  ~WatchedStep() { mailbox_.EndStep(); }

  const std::atomic<bool>& cancelled() const { return cancelled_; }

 private:
  Mailbox& mailbox_;
  const std::atomic<bool>& cancelled_;
};

}  // namespace

DecodeBatch::DecodeBatch(models::Model& model, Mailbox& mailbox, std::vector<Member> members,
                         int64_t most_drafts)
    : model_(model), mailbox_(mailbox), members_(std::move(members)) {
  for (Member& member : members_) {
    member.failure = Try([&] { member.sequence->Draft(most_drafts, model_.shape().vocab_size); });
    member.rows = static_cast<int64_t>(member.sequence->rows().size());
  }
}

void DecodeBatch::Run() {
  std::vector<Member*> all;
  for (Member& member : members_) {
    all.push_back(&member);
  }
  const std::vector<Member*> together = Prepared(all);
  if (together.empty()) {
    return;
  }
  const std::optional<Error> failure = Try([&] { Forward(together); });
  if (!failure || failure->code() == ErrorCode::kCancelled) {
    return;
  }
  if (together.size() == 1) {
    together.front()->failure = failure;
    return;
  }
  LogWarning("a step of several sequences failed: each runs by itself",
             {{"sequences", together.size()}, {"error", failure->Describe()}});
  for (Member* member : together) {
    const std::vector<Member*> alone = Prepared({member});
    if (!alone.empty()) {
      member->failure = Try([&] { Forward(alone); });
    }
  }
}

std::vector<DecodeBatch::Member*> DecodeBatch::Prepared(const std::vector<Member*>& members) {
  std::vector<Member*> prepared;
  for (Member* member : members) {
    const auto rows = static_cast<int64_t>(member->sequence->rows().size());
    if (!member->failure) {
      member->failure = Try([&] { member->sequence->state().Prepare(rows, /*record=*/rows > 1); });
    }
    if (!member->failure) {
      prepared.push_back(member);
    }
  }
  return prepared;
}

void DecodeBatch::Forward(const std::vector<Member*>& members) {
  std::vector<models::SequenceRows> batch;
  std::vector<const Request*> requests;
  for (const Member* member : members) {
    const std::span<const int32_t> rows = member->sequence->rows();
    batch.push_back({.state = &member->sequence->state(),
                     .tokens = rows,
                     .logit_rows = static_cast<int64_t>(rows.size())});
    requests.push_back(member->request.get());
  }
  const WatchedStep watched(mailbox_, std::move(requests));
  const backend::StepScope scope(model_.backend());
  const backend::Tensor out = model_.Forward(
      {.batch = batch, .use = backend::ExpertUse::kDecode, .cancel = &watched.cancelled()});
  std::span<const float> logits = model_.backend().Read(out);
  for (Member* member : members) {
    const size_t values = member->sequence->rows().size() * static_cast<size_t>(out.cols);
    if (!member->request->cancelled.load()) {
      member->failure = Try([&] { member->sequence->Verify(logits.first(values)); });
    }
    logits = logits.subspan(values);
  }
}

}  // namespace mach::engine
