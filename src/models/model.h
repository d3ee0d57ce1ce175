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
  int64_t max_context = 0;  // tokens, as far as the rotary embedding carries

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
  state::SequenceState* state = nullptr;  // prepared for exactly these tokens
  std::span<const int32_t> tokens;        // at positions state->length() ...
  int64_t logit_rows = 1;                 // logits are wanted for this many last tokens
};

// What one step is to do. Begin takes what it needs of it; only the states and `cancel` must live
// as long as the step.
struct StepSpec {
  std::span<const SequenceRows> batch;  // distinct sequences
  backend::ExpertUse use = backend::ExpertUse::kDecode;
  // Once true, the layer that runs stops within an operation and throws kCancelled. Null = nothing
  // stops it.
  const std::atomic<bool>* cancel = nullptr;
};

// A step under way: the new tokens of all its sequences, a layer at a time.
//
// The caller holds a StepScope from before Begin until it has done with the logits. Between two
// calls another step, of the same or of another model on this backend, may begin and finish within
// a StepScope of its own; it may not have a sequence of this one. A call that throws ends the step:
// its states are as before, and only the destructor may follow.
class StepRun {
 public:
  virtual ~StepRun() = default;

  // Runs the next layer. False, having done nothing, once all have been run.
  virtual bool RunLayer() = 0;

  // After the last layer, once: commits every state and returns the logits [sum of logit_rows,
  // vocab], sequence after sequence.
  virtual backend::Tensor Finish() = 0;
};

class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelShape& shape() const = 0;
  virtual backend::Backend& backend() = 0;
  virtual std::unique_ptr<state::SequenceState> NewSequence() = 0;

  virtual std::unique_ptr<StepRun> Begin(const StepSpec& spec) = 0;

  // Begin, all layers, Finish.
  backend::Tensor Forward(const StepSpec& spec);

  // Bytes of weights that one token's forward reads: what is always used, and the experts of one
  // token. States are not counted.
  virtual uint64_t ActiveWeightBytes() const = 0;
};

}  // namespace mach::models
