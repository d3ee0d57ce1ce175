// A piece of a prompt on its way through the layers of the model. Between two layers other
// sequences may have steps of their own; destroying it earlier leaves the prompt as it was. The
// inference thread's own.
#pragma once

#include <cstdint>
#include <memory>

#include "backend/backend.h"
#include "engine/request.h"
#include "models/model.h"

namespace mach::engine {

class PrefillChunk {
 public:
  // The next tokens of the request's prompt, at most so many. It stops within an operation once the
  // request is cancelled. Throws kResourceLimit.
  PrefillChunk(models::Model& model, std::shared_ptr<Request> request, int64_t most_tokens);

  // Runs so many more layers. True once the prompt holds the chunk, and, after its last chunk, the
  // request the logits behind it. Throws as StepRun does; the chunk is useless then.
  bool Run(int32_t layers);

  const std::shared_ptr<Request>& request() const { return request_; }
  int64_t tokens() const { return tokens_; }
  int32_t layers_run() const { return layers_run_; }

 private:
  const std::shared_ptr<Request> request_;
  models::Model& model_;
  const int64_t tokens_;
  const bool last_;
  int32_t layers_run_ = 0;
  backend::StepScope scope_;
  std::unique_ptr<models::StepRun> step_;
};

}  // namespace mach::engine
