// A loaded model: token ids and states in, logits out. One decoder (decoder.h), one file for each
// family that says what it is made of (registry.h). The inference thread's own.
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
  int64_t max_context = 0;  // tokens, max_position_embeddings

  // Mixture of experts; all zero for dense models.
  int32_t moe_layers = 0;
  int32_t experts = 0;            // in each of them
  int32_t experts_per_token = 0;  // that the router picks, the shared one not counted

  // What a sequence holds: keys and values of the attention layers, and the state of the
  // gated-delta layers, whose `layers` is zero where a model has none.
  backend::KvShape kv;
  backend::RecurrentShape recurrent;
};

// New tokens of one sequence within a step.
struct SequenceRows {
  state::SequenceState* state = nullptr;
  std::span<const int32_t> tokens;  // at positions state->length() ...
  int64_t logit_rows = 1;           // logits are wanted for this many last tokens
  bool record = false;              // the state may be truncated to any position of this step
};

class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelShape& shape() const = 0;
  virtual backend::Backend& backend() = 0;
  virtual std::unique_ptr<state::SequenceState> NewSequence() = 0;

  // Runs the new tokens of all sequences through the model. Returns [sum of logit_rows, vocab],
  // valid until the caller's StepScope ends, and commits every state. If `cancel` turns true the
  // step stops within an operation and throws kCancelled; the states are then as before.
  virtual backend::Tensor Forward(std::span<const SequenceRows> batch,
                                  const std::atomic<bool>* cancel) = 0;

  // Bytes of weights that one token's forward reads: what is always used, and the experts of one
  // token. States are not counted.
  virtual uint64_t ActiveWeightBytes() const = 0;
};

}  // namespace mach::models
