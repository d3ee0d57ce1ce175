// One step of decoding: some sequences, one forward. The inference thread's own.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/error.h"
#include "engine/mailbox.h"
#include "engine/request.h"
#include "models/model.h"

namespace mach::engine {

class DecodeBatch {
 public:
  struct Member {
    std::shared_ptr<Request> request;
    Sequence* sequence = nullptr;
    std::optional<Error> failure;  // the request cannot go on
    int64_t rows = 1;              // of the step: the last token and the drafts
  };

  // `most_drafts`: of each sequence.
  DecodeBatch(models::Model& model, Mailbox& mailbox, std::vector<Member> members,
              int64_t most_drafts);

  // Runs the step. A sequence that finds no memory stays out of it. If the step fails nothing of it
  // remains; its members run once more, one by one, and who fails then has failed. If all of them
  // are cancelled it stops within an operation, and nothing of it remains either.
  void Run();

  const std::vector<Member>& members() const { return members_; }

 private:
  // Leaves out whom it has no memory for.
  std::vector<Member*> Prepared(const std::vector<Member*>& members);
  // Throws with all states as before.
  void Forward(const std::vector<Member*>& members);

  models::Model& model_;
  Mailbox& mailbox_;
  std::vector<Member> members_;
};

}  // namespace mach::engine
