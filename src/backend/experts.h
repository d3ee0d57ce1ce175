// Where the experts of a mixture come from, as a backend sees it: records in memory, one for each
// expert, that become ready one by one. Behind it (experts/): all experts resident, or a bounded
// bank that reads what is missing from disk.
//
// All calls come from the inference thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "tensor/expert_layout.h"

namespace mach::backend {

// An expert that a step wants, and for how many of its rows.
struct WantedExpert {
  int32_t id = 0;  // of the expert within its layer
  int32_t rows = 1;

  friend bool operator==(const WantedExpert&, const WantedExpert&) = default;
};

struct ReadyExpert {
  int32_t id = 0;
  const std::byte* record = nullptr;  // layout().record_bytes, aligned to 64
};

// The experts of one layer that a step wants. Reads of what is missing are under way when Acquire
// returns. Destroying it, at any point, gives up what is left.
class ExpertLease {
 public:
  virtual ~ExpertLease() = default;

  // Blocks until at least one wanted expert that was not returned before is in memory, and returns
  // one or more such; empty once every expert has been returned, each once. What an earlier call
  // returned is no longer valid. Throws kIo or kCorruptFile naming file and offset if a record
  // cannot be had, and kCancelled within a tenth of a second if `cancel` (null = nothing) turns
  // true while it waits; reads under way go on then, and nobody needs to wait for them.
  virtual std::span<const ReadyExpert> Next(const std::atomic<bool>* cancel) = 0;
};

// How a step uses experts, so that a long prompt does not flush what decoding keeps.
enum class ExpertUse {
  kDecode,   // few tokens: what is read stays in the bank
  kPrefill,  // a long chunk that needs most experts once: read past the bank
  // The same, and another chunk comes next, of whichever prompt: its first layer may be read while
  // this chunk ends. Only the caller knows; a guess would read a layer for nothing after each
  // prompt.
  kPrefillMore,
};

class ExpertSource {
 public:
  virtual ~ExpertSource() = default;
  virtual const ExpertLayout& layout() const = 0;
  virtual int32_t layers() const = 0;   // of the model; those without experts are never asked for
  virtual int32_t experts() const = 0;  // in each layer

  // `wanted` are distinct and ascending, of a step of so many tokens: what a source learns from it
  // about the use of experts are shares of tokens. The layers of a decode step come in ascending
  // order, with no other decode step between them; whole decode steps may come between two layers
  // of a prefill step. At most one lease lives at a time.
  virtual std::unique_ptr<ExpertLease> Acquire(int32_t layer, std::span<const WantedExpert> wanted,
                                               int64_t tokens, ExpertUse use) = 0;

  // A guess: these experts may be wanted soon. Never blocks, never throws; may do nothing.
  virtual void Prefetch(int32_t layer, std::span<const int32_t> ids) = 0;

  // Whether Prefetch does anything, so that a model does not guess in vain.
  virtual bool prefetches() const = 0;
};

}  // namespace mach::backend
