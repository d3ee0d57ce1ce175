#include "backend/cpu/gated_delta.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/cpu/cpu_recurrent_store.h"
#include "base/check.h"

namespace mach::backend {
namespace {

// Tokens that a head takes at a time: their q, k, v and o of 128 dimensions are 128 KiB.
constexpr int64_t kChunkTokens = 64;

// Rows ahead that are fetched: the rows of a head lie a whole row apart, which the hardware does
// not follow. More would push each other out of the nearest cache, where they share sets.
constexpr int64_t kPrefetchTokens = 4;

void PrefetchRow(const float* row, int64_t count) {
  for (int64_t i = 0; i < count; i += 16) {
    __builtin_prefetch(row + i);
  }
}

// One layer of one step, as every thread sees it.
struct LayerCall {
  const CpuContext& context;
  const GatedDeltaInput& input;
  RecurrentShape shape;
  int64_t padded_v_dim;
  const float* conv;  // [taps, channels]
  const float* a_log;
  const float* dt_bias;
  const float* norm;
  float norm_eps;
  float* decay;  // [rows, v_heads]
  float* beta;   // [rows, v_heads]
  Tensor out;

  int64_t group() const { return shape.v_heads / shape.k_heads; }
};

// What one thread works in.
struct Workspace {
  static int64_t Floats(const RecurrentShape& shape, int64_t padded_v_dim) {
    return kChunkTokens * 2 * (shape.k_dim + padded_v_dim) + padded_v_dim;
  }

  float* q;       // [chunk, k_dim]
  float* k;       // [chunk, k_dim], unless the tape takes it
  float* v;       // [chunk, padded v_dim]
  float* out;     // [chunk, padded v_dim]
  float* normed;  // [v_dim]

  Workspace(float* memory, const RecurrentShape& shape, int64_t padded_v_dim)
      : q(memory),
        k(q + kChunkTokens * shape.k_dim),
        v(k + kChunkTokens * shape.k_dim),
        out(v + kChunkTokens * padded_v_dim),
        normed(out + kChunkTokens * padded_v_dim) {
    if (padded_v_dim > shape.v_dim) {
      std::fill_n(v, kChunkTokens * padded_v_dim, 0.0F);  // the padding stays zero
    }
  }
};

// The heads that one thread takes through one sequence's rows.
class SpanWork {
 public:
  SpanWork(const LayerCall& call, const RowSpan& span, int32_t layer, const Workspace& workspace)
      : call_(call),
        span_(span),
        store_(static_cast<CpuRecurrentStore*>(span.recurrent)),
        parts_(store_->Layer(layer)),
        work_(workspace),
        taps_(static_cast<size_t>(call.shape.conv_kernel)) {
    MACH_CHECK(store_->step_tokens() == span.rows);
  }

  void Run(int64_t head_begin, int64_t head_end) {
    Gates(head_begin, head_end);
    const int64_t group = call_.group();
    for (int64_t head = head_begin; head < head_end;) {
      const int64_t k_head = head / group;
      const int64_t group_end = std::min((k_head + 1) * group, head_end);
      // The q and k channels are kept by the thread that has the first v head of their group.
      const bool owns_keys = head == k_head * group;
      for (int64_t token = 0; token < span_.rows; token += kChunkTokens) {
        call_.context.CheckCancelled();
        const int64_t tokens = std::min(kChunkTokens, span_.rows - token);
        Keys(k_head, token, tokens, owns_keys);
        for (int64_t v_head = head; v_head < group_end; ++v_head) {
          Head(v_head, token, tokens);
        }
      }
      if (owns_keys) {
        KeepRows(k_head * call_.shape.k_dim, call_.shape.k_dim);
        KeepRows(KeyChannel(k_head), call_.shape.k_dim);
      }
      for (int64_t v_head = head; v_head < group_end; ++v_head) {
        KeepRows(ValueChannel(v_head), call_.shape.v_dim);
      }
      head = group_end;
    }
  }

 private:
  int64_t channels() const { return call_.input.qkv.cols; }
  int64_t KeyChannel(int64_t k_head) const {
    return (call_.shape.k_heads + k_head) * call_.shape.k_dim;
  }
  int64_t ValueChannel(int64_t v_head) const {
    return 2LL * call_.shape.k_heads * call_.shape.k_dim + v_head * call_.shape.v_dim;
  }
  // Row `token` of the convolution's input; those before the span are the state's.
  const float* InputRow(int64_t token) const {
    return token < 0 ? parts_.conv + (call_.shape.conv_kernel - 1 + token) * channels()
                     : Data(call_.input.qkv) + (span_.first_row + token) * channels();
  }

  void Convolve(int64_t token, int64_t channel, int64_t count, float* out) {
    const int64_t taps = call_.shape.conv_kernel;
    if (token + kPrefetchTokens < span_.rows) {
      PrefetchRow(InputRow(token + kPrefetchTokens) + channel, count);
    }
    for (int64_t tap = 0; tap < taps; ++tap) {
      taps_[static_cast<size_t>(tap)] = InputRow(token - taps + 1 + tap) + channel;
    }
    call_.context.table.conv_silu(taps_.data(), call_.conv + channel, channels(), taps, count, out);
  }

  void Gates(int64_t head_begin, int64_t head_end) {
    const int64_t heads = call_.shape.v_heads;
    for (int64_t row = 0; row < span_.rows; ++row) {
      const int64_t at = (span_.first_row + row) * heads + head_begin;
      call_.context.table.delta_gates(Data(call_.input.a) + at, Data(call_.input.b) + at,
                                      call_.a_log + head_begin, call_.dt_bias + head_begin,
                                      head_end - head_begin, call_.decay + at, call_.beta + at);
      if (parts_.decay != nullptr) {
        std::copy_n(call_.decay + at, head_end - head_begin,
                    parts_.decay + row * heads + head_begin);
      }
    }
  }

  // q and k of a chunk, convolved and normalised.
  void Keys(int64_t k_head, int64_t token, int64_t tokens, bool owns_keys) {
    const int64_t k_dim = call_.shape.k_dim;
    const float scale = 1.0F / std::sqrt(static_cast<float>(k_dim));
    for (int64_t i = 0; i < tokens; ++i) {
      float* q = work_.q + i * k_dim;
      float* k = work_.k + i * k_dim;
      Convolve(token + i, k_head * k_dim, k_dim, q);
      Convolve(token + i, KeyChannel(k_head), k_dim, k);
      call_.context.table.l2_norm(q, scale, k_dim, q);
      call_.context.table.l2_norm(k, 1.0F, k_dim, k);
    }
    if (parts_.k != nullptr && owns_keys) {
      std::copy_n(work_.k, tokens * k_dim, parts_.k + (k_head * span_.rows + token) * k_dim);
    }
  }

  // The rule and the gated norm for a chunk of one v head.
  void Head(int64_t head, int64_t token, int64_t tokens) {
    const RecurrentShape& shape = call_.shape;
    const int64_t width = call_.padded_v_dim;
    for (int64_t i = 0; i < tokens; ++i) {
      Convolve(token + i, ValueChannel(head), shape.v_dim, work_.v + i * width);
    }
    const int64_t state = head * shape.k_dim * width;
    const int64_t gates = (span_.first_row + token) * shape.v_heads + head;
    call_.context.table.gated_delta(
        {.tokens = tokens,
         .k_dim = shape.k_dim,
         .v_dim = width,
         .q = work_.q,
         .k = work_.k,
         .v = work_.v,
         .decay = call_.decay + gates,
         .beta = call_.beta + gates,
         .gate_stride = shape.v_heads,
         .state = (token == 0 ? parts_.state : parts_.new_state) + state,
         .new_state = parts_.new_state + state,
         .out = work_.out,
         .delta = parts_.delta == nullptr ? nullptr
                                          : parts_.delta + (head * span_.rows + token) * width});
    for (int64_t i = 0; i < tokens; ++i) {
      const int64_t at = (span_.first_row + token + i) * call_.out.cols + head * shape.v_dim;
      if (i + kPrefetchTokens < tokens) {
        PrefetchRow(Data(call_.input.z) + at + kPrefetchTokens * call_.out.cols, shape.v_dim);
      }
      call_.context.table.rms_norm(work_.out + i * width, call_.norm, call_.norm_eps, shape.v_dim,
                                   work_.normed);
      call_.context.table.swiglu(Data(call_.input.z) + at, work_.normed, shape.v_dim,
                                 Data(call_.out) + at);
    }
  }

  // The last rows of these channels become the new state; the tape takes all.
  void KeepRows(int64_t channel, int64_t count) {
    const int64_t history = call_.shape.conv_kernel - 1;
    for (int64_t row = 0; row < history; ++row) {
      std::copy_n(InputRow(span_.rows - history + row) + channel, count,
                  parts_.new_conv + row * channels() + channel);
    }
    for (int64_t row = 0; parts_.rows != nullptr && row < span_.rows; ++row) {
      std::copy_n(InputRow(row) + channel, count, parts_.rows + row * channels() + channel);
    }
  }

  const LayerCall& call_;
  const RowSpan& span_;
  CpuRecurrentStore* store_;
  CpuRecurrentStore::LayerStep parts_;
  Workspace work_;
  std::vector<const float*> taps_;
};

}  // namespace

Tensor GatedDeltaLayer(CpuContext& context, const GatedDeltaInput& input,
                       const GatedDeltaWeights& weights, const GatedDeltaSpec& spec, int32_t layer,
                       std::span<const RowSpan> spans) {
  MACH_CHECK(!spans.empty() && spans.front().recurrent != nullptr);
  const auto& store = static_cast<const CpuRecurrentStore&>(*spans.front().recurrent);
  const RecurrentShape& shape = store.shape();
  const int64_t rows = input.qkv.rows;
  const int64_t padded_v_dim = store.padded_v_dim();
  MACH_CHECK(input.qkv.cols == shape.conv_channels());
  MACH_CHECK(weights.conv->size() == shape.conv_channels() * shape.conv_kernel);
  MACH_CHECK(weights.norm->size() == shape.v_dim && weights.a_log->size() == shape.v_heads);
  MACH_CHECK(input.z.cols == shape.v_heads * static_cast<int64_t>(shape.v_dim));

  const Tensor out = context.New(rows, input.z.cols);
  const uint64_t mark = context.arena.Mark();
  const LayerCall call{.context = context,
                       .input = input,
                       .shape = shape,
                       .padded_v_dim = padded_v_dim,
                       .conv = Vector(*weights.conv).data(),
                       .a_log = Vector(*weights.a_log).data(),
                       .dt_bias = Vector(*weights.dt_bias).data(),
                       .norm = Vector(*weights.norm).data(),
                       .norm_eps = spec.norm_eps,
                       .decay = context.arena.Allocate<float>(rows * shape.v_heads),
                       .beta = context.arena.Allocate<float>(rows * shape.v_heads),
                       .out = out};
  const int64_t floats = Workspace::Floats(shape, padded_v_dim);
  float* memory = context.arena.Allocate<float>(floats * context.pool.threads());
  context.pool.ParallelFor(shape.v_heads, 1, [&](int64_t begin, int64_t end, int worker) {
    const Workspace workspace(memory + floats * worker, shape, padded_v_dim);
    for (const RowSpan& span : spans) {
      SpanWork(call, span, layer, workspace).Run(begin, end);
    }
  });
  context.arena.Release(mark);
  return out;
}

}  // namespace mach::backend
