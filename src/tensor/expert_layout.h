// What lies where in the record of one expert of a Mixture-of-Experts layer: three packed layers,
// one after another. The same for all experts of a model. A value.
//   expert(x) = down(silu(gate x) * up x)
#pragma once

#include <cstdint>

#include "tensor/packed_linear.h"

namespace mach {

// One packed layer inside a record.
struct ExpertPart {
  PackedSpec spec;
  uint64_t offset_bytes = 0;  // within the record, a multiple of 64

  friend bool operator==(const ExpertPart&, const ExpertPart&) = default;
};

struct ExpertLayout {
  // Records start at multiples of this in a file, and are padded to it: direct reads of any disk.
  static constexpr uint64_t kRecordAlignment = 16384;

  ExpertPart gate;            // [intermediate, hidden]
  ExpertPart up;              // [intermediate, hidden]
  ExpertPart down;            // [hidden, intermediate]
  uint64_t record_bytes = 0;  // a multiple of kRecordAlignment

  // Lays the parts out in the order gate, up, down.
  static ExpertLayout Make(const PackedSpec& gate, const PackedSpec& up, const PackedSpec& down) {
    ExpertLayout layout;
    layout.gate = {gate, 0};
    layout.up = {up, RoundUp(gate.bytes(), 64)};
    layout.down = {down, RoundUp(layout.up.offset_bytes + up.bytes(), 64)};
    layout.record_bytes = RoundUp(layout.down.offset_bytes + down.bytes(), kRecordAlignment);
    return layout;
  }

  // Bytes that one use of an expert reads from memory.
  uint64_t weight_bytes() const { return gate.spec.bytes() + up.spec.bytes() + down.spec.bytes(); }

  friend bool operator==(const ExpertLayout&, const ExpertLayout&) = default;

 private:
  static uint64_t RoundUp(uint64_t value, uint64_t unit) {
    return (value + unit - 1) / unit * unit;
  }
};

}  // namespace mach
