// The gated-delta layer and the recurrent store: any cut into steps, any thread count and any
// neighbour in the step give the same bits; rollback, snapshot and failed steps.
#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "backend_test_util.h"
#include "base/error.h"

namespace mach::backend {
namespace {

constexpr uint32_t kSeed = 20261125;
constexpr float kEps = 1e-6F;

const std::array<RecurrentShape, 3> kShapes = {{
    {.layers = 2, .k_heads = 2, .v_heads = 4, .k_dim = 32, .v_dim = 48, .conv_kernel = 4},
    {.layers = 1, .k_heads = 3, .v_heads = 3, .k_dim = 12, .v_dim = 20, .conv_kernel = 2},
    {.layers = 3, .k_heads = 1, .v_heads = 3, .k_dim = 16, .v_dim = 128, .conv_kernel = 6},
}};

// What the layers of a model would be given for a run of tokens.
struct Tokens {
  Tokens(const RecurrentShape& shape, int64_t count, std::mt19937& random)
      : qkv(RandomFloats(count * shape.conv_channels(), 1.0F, random)),
        z(RandomFloats(count * shape.v_heads * shape.v_dim, 1.0F, random)),
        a(RandomFloats(count * shape.v_heads, 2.0F, random)),
        b(RandomFloats(count * shape.v_heads, 2.0F, random)) {}

  std::vector<float> qkv, z, a, b;
};

std::vector<float> Rows(const std::vector<float>& all, int64_t cols, int64_t first, int64_t count) {
  return {all.begin() + first * cols, all.begin() + (first + count) * cols};
}

// A backend with the weights of all layers, which run one after another on the same input; the
// outputs of the layers are put side by side.
class Layers {
 public:
  Layers(const RecurrentShape& shape, const CpuOptions& options)
      : shape_(shape), backend_(MakeCpuBackend(budget_, options)) {
    std::mt19937 random(kSeed);
    for (int32_t layer = 0; layer < shape.layers; ++layer) {
      conv_values = RandomFloats(shape.conv_channels() * shape.conv_kernel, 0.5F, random);
      a_log_values = RandomFloats(shape.v_heads, 0.5F, random);
      dt_values = RandomFloats(shape.v_heads, 0.5F, random);
      norm_values = RandomFloats(shape.v_dim, 1.0F, random);
      conv_.push_back(UploadVector(*backend_, conv_values));
      a_log_.push_back(UploadVector(*backend_, a_log_values));
      dt_bias_.push_back(UploadVector(*backend_, dt_values));
      norm_.push_back(UploadVector(*backend_, norm_values));
    }
  }

  Backend& backend() { return *backend_; }
  MemoryBudget& budget() { return budget_; }
  std::unique_ptr<RecurrentStore> NewStore() { return backend_->NewRecurrentStore(shape_); }

  // The layers over rows that are laid out as `spans` say.
  std::vector<float> Forward(const Tokens& tokens, std::span<const RowSpan> spans) {
    const StepScope scope(*backend_);
    const GatedDeltaInput input = {
        .qkv = Upload(*backend_, tokens.qkv, shape_.conv_channels()),
        .z = Upload(*backend_, tokens.z, static_cast<int64_t>(shape_.v_heads) * shape_.v_dim),
        .a = Upload(*backend_, tokens.a, shape_.v_heads),
        .b = Upload(*backend_, tokens.b, shape_.v_heads)};
    std::vector<float> out;
    for (int32_t layer = 0; layer < shape_.layers; ++layer) {
      const auto at = static_cast<size_t>(layer);
      const GatedDeltaWeights weights = {.conv = conv_[at].get(),
                                         .a_log = a_log_[at].get(),
                                         .dt_bias = dt_bias_[at].get(),
                                         .norm = norm_[at].get()};
      const Tensor y = backend_->GatedDelta(input, weights, {.norm_eps = kEps}, layer, spans);
      const std::vector<float> values = Download(*backend_, y);
      out.insert(out.end(), values.begin(), values.end());
    }
    return out;
  }

  Tokens Cut(const Tokens& all, int64_t first, int64_t count) const {
    Tokens part = all;
    part.qkv = Rows(all.qkv, shape_.conv_channels(), first, count);
    part.z = Rows(all.z, static_cast<int64_t>(shape_.v_heads) * shape_.v_dim, first, count);
    part.a = Rows(all.a, shape_.v_heads, first, count);
    part.b = Rows(all.b, shape_.v_heads, first, count);
    return part;
  }

  // One committed step of a single sequence.
  std::vector<float> Step(RecurrentStore& store, const Tokens& all, int64_t first, int64_t count,
                          bool record) {
    store.Begin(count, record);
    const RowSpan span = {.recurrent = &store, .rows = count, .first_position = first};
    std::vector<float> out = Forward(Cut(all, first, count), {&span, 1});
    store.Commit();
    return out;
  }

  // The outputs of the next tokens: they show every part of the state.
  std::vector<float> Probe(RecurrentStore& store, const Tokens& all, int64_t first) {
    return Step(store, all, first, 4, false);
  }

  // Of the last layer.
  std::vector<float> conv_values, a_log_values, dt_values, norm_values;

 private:
  RecurrentShape shape_;
  MemoryBudget budget_;
  std::unique_ptr<Backend> backend_;
  std::vector<std::unique_ptr<VectorWeight>> conv_, a_log_, dt_bias_, norm_;
};

// [layer][token] rows of a whole run from the parts of several steps.
std::vector<float> Join(const std::vector<std::vector<float>>& parts, int32_t layers) {
  std::vector<float> out;
  for (int32_t layer = 0; layer < layers; ++layer) {
    for (const std::vector<float>& part : parts) {
      const auto size = static_cast<std::ptrdiff_t>(part.size()) / layers;
      out.insert(out.end(), part.begin() + layer * size, part.begin() + (layer + 1) * size);
    }
  }
  return out;
}

TEST(GatedDelta, AnyCutAndThreadCountGiveTheSame) {
  for (const RecurrentShape& shape : kShapes) {
    std::mt19937 random(kSeed + 1);
    const Tokens tokens(shape, 150, random);
    std::vector<float> want;
    for (const CpuOptions& options : AllOptions()) {
      Layers layers(shape, options);
      for (const int64_t part : {150, 1, 3, 7, 16, 64, 100}) {
        const auto store = layers.NewStore();
        std::vector<std::vector<float>> parts;
        for (int64_t first = 0; first < 150; first += part) {
          parts.push_back(layers.Step(*store, tokens, first, std::min(part, 150 - first),
                                      (first / part) % 2 == 0));
        }
        const std::vector<float> got = Join(parts, shape.layers);
        if (want.empty()) {
          want = got;
        }
        ExpectSame(got, want, Describe(options) + ", part " + std::to_string(part));
      }
    }
  }
}

TEST(GatedDelta, SequencesOfAStepDoNotMeet) {
  const RecurrentShape& shape = kShapes[0];
  std::mt19937 random(kSeed + 2);
  Layers layers(shape, {.threads = 2});
  Tokens tokens(shape, 20, random);
  const auto lone = layers.NewStore();
  const std::vector<float> want = layers.Step(*lone, tokens, 3, 9, false);
  // The same nine rows between a sequence of NaN and another.
  std::fill_n(tokens.qkv.begin(), 3 * shape.conv_channels(), NAN);
  const std::array<std::unique_ptr<RecurrentStore>, 3> stores = {
      layers.NewStore(), layers.NewStore(), layers.NewStore()};
  const std::array<RowSpan, 3> spans = {
      RowSpan{.recurrent = stores[0].get(), .first_row = 0, .rows = 3},
      RowSpan{.recurrent = stores[1].get(), .first_row = 3, .rows = 9},
      RowSpan{.recurrent = stores[2].get(), .first_row = 12, .rows = 8}};
  for (size_t i = 0; i < 3; ++i) {
    stores[i]->Begin(spans[i].rows, i == 1);
  }
  const std::vector<float> all = layers.Forward(tokens, spans);
  const int64_t cols = static_cast<int64_t>(shape.v_heads) * shape.v_dim;
  std::vector<float> got;
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    const std::vector<float> part = Rows(all, cols, layer * 20 + 3, 9);
    got.insert(got.end(), part.begin(), part.end());
    EXPECT_TRUE(std::isnan(all[static_cast<size_t>(layer * 20 * cols)]));
  }
  ExpectSame(got, want, "the sequence in the middle");
  stores[1]->Commit();
  ExpectSame(layers.Probe(*stores[1], tokens, 12), layers.Probe(*lone, tokens, 12), "its state");
}

// The whole layer in double precision, a plain loop for every term. Magnitudes are of order one
// and the rule contracts, so the error is that of a few chains of k_dim steps.
TEST(GatedDelta, AgreesWithDoublePrecision) {
  RecurrentShape shape = kShapes[0];
  shape.layers = 1;
  constexpr int64_t kTokens = 40;
  std::mt19937 random(kSeed + 3);
  Layers layers(shape, {.threads = 2});
  const Tokens tokens(shape, kTokens, random);
  const auto store = layers.NewStore();
  const std::vector<float> got = layers.Step(*store, tokens, 0, kTokens, false);

  const auto channels = static_cast<size_t>(shape.conv_channels());
  const auto taps = static_cast<size_t>(shape.conv_kernel);
  const auto k_dim = static_cast<size_t>(shape.k_dim);
  const auto v_dim = static_cast<size_t>(shape.v_dim);
  const auto v_heads = static_cast<size_t>(shape.v_heads);
  const auto k_heads = static_cast<size_t>(shape.k_heads);
  std::vector<double> state(v_heads * k_dim * v_dim);
  for (size_t t = 0; t < kTokens; ++t) {
    std::vector<double> x(channels);
    for (size_t c = 0; c < channels; ++c) {
      for (size_t tap = 0; tap < taps; ++tap) {
        if (t + tap + 1 >= taps) {
          x[c] += static_cast<double>(layers.conv_values[tap * channels + c]) *
                  tokens.qkv[(t + tap + 1 - taps) * channels + c];
        }
      }
      x[c] /= 1 + std::exp(-x[c]);
    }
    for (size_t head = 0; head < 2 * k_heads; ++head) {
      double sum = 1e-6;
      for (size_t i = 0; i < k_dim; ++i) {
        sum += x[head * k_dim + i] * x[head * k_dim + i];
      }
      const double scale = head < k_heads ? static_cast<double>(k_dim) : 1.0;
      for (size_t i = 0; i < k_dim; ++i) {
        x[head * k_dim + i] /= std::sqrt(sum * scale);
      }
    }
    for (size_t head = 0; head < v_heads; ++head) {
      const size_t k_head = head / (v_heads / k_heads);
      const double* q = x.data() + k_head * k_dim;
      const double* k = x.data() + (k_heads + k_head) * k_dim;
      const double* v = x.data() + 2 * k_heads * k_dim + head * v_dim;
      double* s = state.data() + head * k_dim * v_dim;
      const double step =
          static_cast<double>(tokens.a[t * v_heads + head]) + layers.dt_values[head];
      const double decay = std::exp(-std::exp(static_cast<double>(layers.a_log_values[head])) *
                                    std::log1p(std::exp(step)));
      const double beta = 1 / (1 + std::exp(-static_cast<double>(tokens.b[t * v_heads + head])));
      std::vector<double> o(v_dim);
      double squares = 0;
      for (size_t c = 0; c < v_dim; ++c) {
        double memory = 0;
        for (size_t i = 0; i < k_dim; ++i) {
          s[i * v_dim + c] *= decay;
          memory += s[i * v_dim + c] * k[i];
        }
        for (size_t i = 0; i < k_dim; ++i) {
          s[i * v_dim + c] += k[i] * beta * (v[c] - memory);
          o[c] += s[i * v_dim + c] * q[i];
        }
        squares += o[c] * o[c];
      }
      const double inverse = 1 / std::sqrt(squares / static_cast<double>(v_dim) + kEps);
      for (size_t c = 0; c < v_dim; ++c) {
        const double z = tokens.z[(t * v_heads + head) * v_dim + c];
        const double want = o[c] * inverse * layers.norm_values[c] * z / (1 + std::exp(-z));
        // Where o is small the norm magnifies its error.
        const double magnified = inverse * std::fabs(layers.norm_values[c] * z);
        ASSERT_NEAR(got[(t * v_heads + head) * v_dim + c], want,
                    0x1p-24 * (256 * magnified + 32 * std::fabs(want)))
            << "token " << t << ", head " << head << ", column " << c;
      }
    }
  }
}

TEST(RecurrentStore, RollbackToEveryTokenEqualsAStepOfThatMany) {
  for (const RecurrentShape& shape : kShapes) {
    std::mt19937 random(kSeed + 4);
    Layers layers(shape, {.threads = 3});
    const Tokens tokens(shape, 40, random);
    for (int64_t keep = 0; keep <= 9; ++keep) {
      const auto straight = layers.NewStore();
      layers.Step(*straight, tokens, 0, 5, false);
      if (keep > 0) {
        layers.Step(*straight, tokens, 5, keep, false);
      }
      const auto store = layers.NewStore();
      layers.Step(*store, tokens, 0, 5, false);
      EXPECT_FALSE(store->CanRollback(3));
      EXPECT_TRUE(store->CanRollback(0));
      layers.Step(*store, tokens, 5, 9, true);
      ASSERT_TRUE(store->CanRollback(keep));
      EXPECT_FALSE(store->CanRollback(10));
      EXPECT_FALSE(store->CanRollback(-1));
      store->Rollback(keep);
      EXPECT_FALSE(store->CanRollback(0));
      ExpectSame(layers.Probe(*store, tokens, 5 + keep), layers.Probe(*straight, tokens, 5 + keep),
                 "keep " + std::to_string(keep));
    }
  }
}

TEST(RecurrentStore, AStepThatIsNotCommittedLeavesTheState) {
  const RecurrentShape& shape = kShapes[0];
  std::mt19937 random(kSeed + 5);
  Layers layers(shape, {.threads = 2});
  const Tokens tokens(shape, 40, random);
  const auto straight = layers.NewStore();
  layers.Step(*straight, tokens, 0, 6, false);
  const auto store = layers.NewStore();
  layers.Step(*store, tokens, 0, 6, true);
  store->Begin(8, true);
  const RowSpan span = {.recurrent = store.get(), .rows = 8};
  layers.Forward(layers.Cut(tokens, 6, 8), {&span, 1});
  // Never committed: the next step starts from the state of before.
  EXPECT_FALSE(store->CanRollback(0));
  ExpectSame(layers.Probe(*store, tokens, 6), layers.Probe(*straight, tokens, 6), "probe");
}

// Buffers are booked in whole pages.
uint64_t Pages(uint64_t bytes) {
  return (bytes + 4095) / 4096;
}

uint64_t BookedPages(Layers& layers) {
  return Pages(layers.budget().BytesByOwner()["recurrent"]);
}

TEST(RecurrentStore, SnapshotsResetAndMemory) {
  const RecurrentShape& shape = kShapes[0];
  std::mt19937 random(kSeed + 6);
  Layers layers(shape, {.threads = 2});
  const Tokens tokens(shape, 40, random);
  {
    const auto store = layers.NewStore();
    EXPECT_EQ(BookedPages(layers), Pages(store->bytes() / 2) * 2);
    const std::vector<float> fresh = layers.Probe(*store, tokens, 20);
    store->Reset();
    ExpectSame(layers.Probe(*store, tokens, 20), fresh, "after Reset");

    store->Reset();
    layers.Step(*store, tokens, 0, 7, false);
    const auto snapshot = store->Snapshot();
    EXPECT_EQ(snapshot->bytes(), store->bytes() / 2);
    EXPECT_EQ(BookedPages(layers), Pages(snapshot->bytes()) * 3);
    const std::vector<float> want = layers.Probe(*store, tokens, 7);
    layers.Step(*store, tokens, 11, 9, true);
    store->Restore(*snapshot);
    EXPECT_FALSE(store->CanRollback(0));
    ExpectSame(layers.Probe(*store, tokens, 7), want, "restored");
    const auto other = layers.NewStore();
    other->Restore(*snapshot);
    ExpectSame(layers.Probe(*other, tokens, 7), want, "in another sequence");
  }
  EXPECT_EQ(layers.budget().BytesByOwner()["recurrent"], 0U);
}

TEST(RecurrentStore, ATapeThatDoesNotFitLeavesTheState) {
  const RecurrentShape shape = {
      .layers = 1, .k_heads = 1, .v_heads = 1, .k_dim = 16, .v_dim = 16, .conv_kernel = 4};
  MemoryBudget budget(64 << 10);
  const auto backend = MakeCpuBackend(budget, {.threads = 1});
  const auto store = backend->NewRecurrentStore(shape);
  store->Begin(2, true);
  store->Commit();
  EXPECT_THROW(store->Begin(1'000'000, true), Error);
  EXPECT_FALSE(store->CanRollback(1));  // its tape is gone
  EXPECT_TRUE(store->CanRollback(0));
  EXPECT_THROW(
      backend->NewRecurrentStore(
          {.layers = 1000, .k_heads = 1, .v_heads = 1, .k_dim = 64, .v_dim = 64, .conv_kernel = 4}),
      Error);
  store->Begin(2, false);
  store->Commit();
}

}  // namespace
}  // namespace mach::backend
