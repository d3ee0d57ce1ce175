// What the operations of the CPU backend share: the kernels of one instruction set, the threads,
// the arena of the running step, and what stands behind Tensor, LinearWeight and VectorWeight.
//
// The inference thread's own; only the bodies given to ForRows and to the pool run elsewhere.
//
// On a dry budget arena and stores have no memory and the pool runs no body: operations take what
// they would take and compute nothing. So whatever reads or writes elements stands in such a body.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>
#include <vector>

#include "backend/cpu/arena.h"
#include "backend/tensor.h"
#include "backend/weights.h"
#include "base/error.h"
#include "kernels/kernels.h"
#include "platform/thread_pool.h"
#include "tensor/memory.h"
#include "tensor/packed_linear.h"

namespace mach::backend {

class CpuLinear final : public LinearWeight {
 public:
  explicit CpuLinear(PackedLinear packed) : packed_(std::move(packed)) {}
  int64_t out_features() const override { return packed_.out_features(); }
  int64_t in_features() const override { return packed_.in_features(); }
  uint64_t bytes() const override { return packed_.bytes(); }
  const PackedView& packed() const { return packed_.view(); }

 private:
  PackedLinear packed_;
};

class CpuVector final : public VectorWeight {
 public:
  explicit CpuVector(std::vector<float> values) : values_(std::move(values)) {}
  int64_t size() const override { return static_cast<int64_t>(values_.size()); }
  const float* data() const { return values_.data(); }

 private:
  std::vector<float> values_;
};

inline const PackedView& Packed(const LinearWeight& weight) {
  return static_cast<const CpuLinear&>(weight).packed();
}

inline const CpuVector& Vector(const VectorWeight& weight) {
  return static_cast<const CpuVector&>(weight);
}

inline float* Data(const Tensor& x) {
  return reinterpret_cast<float*>(x.handle);  // NOLINT(performance-no-int-to-ptr): made from one
}

struct CpuContext {
  // Work below this many elements is done by the calling thread: a parallel loop costs about as
  // much.
  static constexpr int64_t kSerialElements = 16384;
  // Multiply-adds that a thread may do between two looks at the cancel flag: tens of milliseconds.
  // Hardly any operation of a decoding step has more.
  static constexpr int64_t kWorkPerLook = int64_t{1} << 31;

  CpuContext(MemoryBudget& memory, const kernels::KernelTable& kernel_table, int threads)
      : budget(memory),
        table(kernel_table),
        pool(memory.dry() ? ThreadPool::Dry(threads) : ThreadPool(threads)),
        arena(memory) {}

  Tensor New(int64_t rows, int64_t cols) {
    return {rows, cols, reinterpret_cast<uintptr_t>(arena.Allocate<float>(rows * cols))};
  }

  // Any thread; thrown on a worker it ends the loop it is in.
  void CheckCancelled() const {
    if (cancel != nullptr && cancel->load(std::memory_order_relaxed)) {
      throw Error(ErrorCode::kCancelled, "the request was cancelled");
    }
  }

  // body(row) for each row of x, shared among the threads if that is worth it.
  template <typename Body>
  void ForRows(const Tensor& x, const Body& body) {
    ForRows(x.rows, x.cols, body);
  }
  template <typename Body>
  void ForRows(int64_t rows, int64_t cols, const Body& body) {
    const auto run = [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row) {
        body(row);
      }
    };
    if (rows * cols <= kSerialElements) {
      pool.RunAlone([&] { run(0, rows, 0); });
    } else {
      pool.ParallelFor(rows, 1, run);
    }
  }

  MemoryBudget& budget;
  const kernels::KernelTable& table;
  ThreadPool pool;
  Arena arena;
  const std::atomic<bool>* cancel = nullptr;  // of the running step; null = nothing stops it
};

}  // namespace mach::backend
