// A DirectReader that misbehaves on purpose, for tests of whatever stands above it.
#pragma once

#include <functional>
#include <memory>

#include "platform/direct_reader.h"

namespace mach::testing_support {

enum class ReadFault : uint8_t {
  kNone,
  kLate,     // its result comes after those of all other reads that are under way
  kShort,    // as if the file ended in the middle of it
  kFail,     // EIO
  kBitFlip,  // one bit of the bytes is wrong
  kHang,     // it has no result before Interrupt is called for the first time
};

// Decides about each read, by the count of reads before it (retries included) and what it asks
// for. Called under a lock, from the submitting threads.
using FaultPattern = std::function<ReadFault(uint64_t index, const ReadRequest& request)>;

std::unique_ptr<DirectReader> InjectFaults(std::unique_ptr<DirectReader> reader,
                                           FaultPattern pattern);

}  // namespace mach::testing_support
