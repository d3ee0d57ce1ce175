// A loaded model: token ids and states in, logits out. One class for each decoder shape, one file
// for each family that configures it (registry.h). The inference thread's own.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "state/sequence_state.h"

namespace mach::models {

struct ModelShape {
  int32_t layers = 0;
  int32_t hidden_size = 0;
  int32_t vocab_size = 0;
  int32_t experts = 0;
  int64_t max_context = 0;  // tokens, max_position_embeddings
};

// New tokens of one sequence within a step.
struct SequenceRows {
  state::SequenceState* state = nullptr;
  std::span<const int32_t> tokens;  // at positions state->length() ...
  int64_t logit_rows = 1;           // logits are wanted for this many last tokens
};

class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelShape& shape() const = 0;
  virtual backend::Backend& backend() = 0;
  virtual std::unique_ptr<state::SequenceState> NewSequence() = 0;

  // Runs the new tokens of all sequences through the model. Returns [sum of logit_rows, vocab],
  // valid until the caller's StepScope ends, and commits every state. If `cancel` turns true the
  // step stops within a layer and throws kCancelled; the states are then as before.
  virtual backend::Tensor Forward(std::span<const SequenceRows> batch,
                                  const std::atomic<bool>* cancel) = 0;

  // Bytes of weights that one token's forward reads.
  virtual uint64_t ActiveWeightBytes() const = 0;
};

}  // namespace mach::models
