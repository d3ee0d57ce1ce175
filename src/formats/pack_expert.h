// Packs an expert's matrices, as they lie in a checkpoint, into a record: the layout that the
// kernels read. For the converter, and for loading a checkpoint that has no sidecar. Stateless; any
// thread.
#pragma once

#include <cstddef>
#include <span>

#include "formats/expert_tensors.h"
#include "platform/thread_pool.h"
#include "tensor/expert_layout.h"

namespace mach::formats {

// The layout that the source packs to without loss. Throws kUnsupported naming the module for types
// and schemes that cannot be packed, and for a bias, which a record has no place for.
ExpertLayout LayoutOf(const ExpertMatrices& source);

// Packs an expert into `record` (layout.record_bytes, zero). Throws kUnsupported naming the module
// if the source packs to another layout.
void PackExpert(const ExpertMatrices& source, const ExpertLayout& layout,
                std::span<std::byte> record, ThreadPool& pool);

}  // namespace mach::formats
