// The state of a sequence on the CPU backend: what steps, cuts, snapshots and forks keep, share and
// give back. A small stack of one attention and one gated-delta layer stands for a model; what it
// puts out for the next tokens shows every part of the state.
#include "state/sequence_state.h"

#include <array>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "backend/cpu/cpu_backend.h"
#include "base/error.h"
#include "tests/backend/backend_test_util.h"

namespace mach::state {
namespace {

using backend::RecurrentShape;
using backend::RowSpan;
using backend::Tensor;

constexpr backend::KvShape kKv{.layers = 1, .kv_heads = 2, .head_dim = 16};
constexpr RecurrentShape kRecurrent{
    .layers = 1, .k_heads = 2, .v_heads = 4, .k_dim = 16, .v_dim = 16, .conv_kernel = 4};
constexpr int64_t kBlock = 32;  // positions
constexpr uint64_t kBlockBytes = 32ULL * 2 * 16 * 2 * 2;

// A layer of each kind over inputs that follow from a token and nothing else.
class TinyModel {
 public:
  explicit TinyModel(bool recurrent, uint64_t ceiling_bytes = 0)
      : budget_(ceiling_bytes),
        backend_(backend::MakeCpuBackend(budget_, {.threads = 2})),
        pool_(backend_->NewKvPool(kKv)),
        recurrent_(recurrent) {
    std::mt19937 random(7);
    const auto table = [&](int64_t cols) {
      const auto values = backend::RandomFloats(kVocab * cols, 1.0F, random);
      return backend_->LoadLinear(
          {.out_features = kVocab,
           .in_features = cols,
           .dense = TensorView{DType::kF32, {kVocab, cols}, std::as_bytes(std::span(values))}},
          "weights");
    };
    const auto vector = [&](int64_t size) {
      return backend::UploadVector(*backend_, backend::RandomFloats(size, 0.5F, random));
    };
    for (const int64_t cols : {32, 32, 32, 128, 64, 4, 4}) {
      tables_.push_back(table(cols));
    }
    conv_ = vector(kRecurrent.conv_channels() * kRecurrent.conv_kernel);
    a_log_ = vector(kRecurrent.v_heads);
    dt_bias_ = vector(kRecurrent.v_heads);
    norm_ = vector(kRecurrent.v_dim);
  }

  std::unique_ptr<SequenceState> NewSequence() {
    return std::make_unique<SequenceState>(
        pool_->NewStore(), recurrent_ ? backend_->NewRecurrentStore(kRecurrent) : nullptr);
  }

  MemoryBudget& budget() { return budget_; }
  bool recurrent() const { return recurrent_; }

  // Of the next tokens, prepared already.
  std::vector<float> Forward(SequenceState& state, const std::vector<int32_t>& tokens) {
    const backend::StepScope scope(*backend_);
    const RowSpan span{.kv = &state.kv(),
                       .recurrent = state.recurrent(),
                       .rows = static_cast<int64_t>(tokens.size()),
                       .first_position = state.length()};
    std::vector<Tensor> in;
    for (const auto& table : tables_) {
      in.push_back(backend_->Embed(*table, tokens));
    }
    std::vector<float> out = backend::Download(
        *backend_,
        backend_->Attention(in[0], in[1], in[2], 0, {.q_heads = 2, .head_dim = 16, .scale = 0.25F},
                            std::span(&span, 1)));
    if (recurrent_) {
      const std::vector<float> mixed = backend::Download(
          *backend_, backend_->GatedDelta({.qkv = in[3], .z = in[4], .a = in[5], .b = in[6]},
                                          {.conv = conv_.get(),
                                           .a_log = a_log_.get(),
                                           .dt_bias = dt_bias_.get(),
                                           .norm = norm_.get()},
                                          {.norm_eps = 1e-6F}, 0, std::span(&span, 1)));
      out.insert(out.end(), mixed.begin(), mixed.end());
    }
    return out;
  }

  // A whole step.
  std::vector<float> Step(SequenceState& state, const std::vector<int32_t>& tokens,
                          bool record = false) {
    state.Prepare(static_cast<int64_t>(tokens.size()), record);
    std::vector<float> out = Forward(state, tokens);
    state.Commit();
    return out;
  }

  // What a sequence of exactly these tokens puts out for the next ones.
  std::vector<float> Lone(const std::vector<int32_t>& before, const std::vector<int32_t>& tokens) {
    const auto state = NewSequence();
    Step(*state, before);
    return Step(*state, tokens);
  }

 private:
  static constexpr int64_t kVocab = 64;

  MemoryBudget budget_;
  std::unique_ptr<backend::Backend> backend_;
  std::shared_ptr<backend::KvPool> pool_;
  bool recurrent_;
  // q, k, v of the attention; qkv, z, a, b of the gated delta.
  std::vector<std::unique_ptr<backend::LinearWeight>> tables_;
  std::unique_ptr<backend::VectorWeight> conv_, a_log_, dt_bias_, norm_;
};

// `count` tokens, others for each `salt`.
std::vector<int32_t> Tokens(int64_t count, int32_t salt = 0) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<int32_t>((11 * i + 17 * salt + i * i) % 64));
  }
  return tokens;
}

std::vector<int32_t> Join(std::vector<int32_t> a, const std::vector<int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

std::vector<int32_t> First(const std::vector<int32_t>& tokens, int64_t count) {
  return {tokens.begin(), tokens.begin() + count};
}

// With and without recurrent layers.
class SequenceStateTest : public testing::TestWithParam<bool> {
 protected:
  TinyModel model_{GetParam()};
  const std::vector<int32_t> next_ = Tokens(3, 5);
};

TEST_P(SequenceStateTest, AStepCountsOnceItIsCommitted) {
  const auto state = model_.NewSequence();
  EXPECT_EQ(state->prepared(), 0);
  state->Prepare(5, false);
  EXPECT_EQ(state->prepared(), 5);
  EXPECT_EQ(state->length(), 0);
  model_.Forward(*state, Tokens(5));
  state->Commit();
  EXPECT_EQ(state->prepared(), 0);
  EXPECT_EQ(state->length(), 5);
  EXPECT_EQ(model_.Step(*state, next_), model_.Lone(Tokens(5), next_));
}

TEST_P(SequenceStateTest, AStepThatIsNeverCommittedIsForgotten) {
  const auto state = model_.NewSequence();
  model_.Step(*state, Tokens(40));
  state->Prepare(30, true);
  model_.Forward(*state, Tokens(30, 1));
  state->Prepare(2, false);  // another one
  model_.Forward(*state, Tokens(2, 2));
  state->Truncate(40);  // and that one is given up too
  EXPECT_EQ(state->prepared(), 0);
  EXPECT_EQ(model_.Step(*state, next_), model_.Lone(Tokens(40), next_));
}

TEST_P(SequenceStateTest, WhatIsCutOffLeavesNoTrace) {
  for (const int64_t length : {0, 40, 43, 45, 50}) {
    SCOPED_TRACE(length);
    const auto state = model_.NewSequence();
    model_.Step(*state, Tokens(40));
    model_.Step(*state, Tokens(10, 1), /*record=*/true);
    ASSERT_TRUE(state->CanTruncate(length));
    state->Truncate(length);
    EXPECT_EQ(state->length(), length);
    const auto kept = First(Join(Tokens(40), Tokens(10, 1)), length);
    if (length == 0) {
      EXPECT_EQ(model_.Step(*state, next_), model_.Step(*model_.NewSequence(), next_));
    } else {
      EXPECT_EQ(model_.Step(*state, next_), model_.Lone(kept, next_));
    }
  }
}

TEST_P(SequenceStateTest, TruncateGivesBackWholeBlocks) {
  const auto state = model_.NewSequence();
  model_.Step(*state, Tokens(3 * kBlock));
  const uint64_t recurrent = state->bytes() - 3 * kBlockBytes;
  state->Prepare(40, false);
  EXPECT_EQ(state->bytes(), recurrent + 5 * kBlockBytes);
  state->Truncate(3 * kBlock);
  EXPECT_EQ(state->bytes(), recurrent + 3 * kBlockBytes);
}

TEST_P(SequenceStateTest, ForksGoOnByThemselves) {
  for (const int64_t length : {20, 64, 70}) {
    SCOPED_TRACE(length);
    const auto state = model_.NewSequence();
    model_.Step(*state, Tokens(length));
    const auto fork = state->Fork();
    EXPECT_EQ(fork->length(), length);
    // In turns, each with tokens of its own, over the end of a block.
    std::vector<int32_t> a = Tokens(length);
    std::vector<int32_t> b = a;
    for (int32_t step = 0; step < 6; ++step) {
      const auto for_a = Tokens(7, 2 * step);
      const auto for_b = Tokens(6, 2 * step + 1);
      EXPECT_EQ(model_.Step(*state, for_a), model_.Lone(a, for_a));
      EXPECT_EQ(model_.Step(*fork, for_b), model_.Lone(b, for_b));
      a = Join(a, for_a);
      b = Join(b, for_b);
    }
  }
}

TEST_P(SequenceStateTest, AForkOutlivesItsParent) {
  std::unique_ptr<SequenceState> fork;
  {
    const auto state = model_.NewSequence();
    model_.Step(*state, Tokens(70));
    fork = state->Fork();
  }
  // Takes what the parent gave back.
  model_.Step(*model_.NewSequence(), Tokens(100, 3));
  EXPECT_EQ(model_.Step(*fork, next_), model_.Lone(Tokens(70), next_));
}

TEST_P(SequenceStateTest, ForksOfForksAndOfAStepUnderWay) {
  const auto state = model_.NewSequence();
  model_.Step(*state, Tokens(50));
  state->Prepare(20, false);
  model_.Forward(*state, Tokens(20, 1));
  const auto fork = state->Fork();  // before the commit
  state->Commit();
  const auto second = fork->Fork();
  EXPECT_EQ(fork->length(), 50);
  EXPECT_EQ(fork->prepared(), 0);
  EXPECT_EQ(model_.Step(*fork, Tokens(30, 2)), model_.Lone(Tokens(50), Tokens(30, 2)));
  EXPECT_EQ(model_.Step(*second, next_), model_.Lone(Tokens(50), next_));
  EXPECT_EQ(model_.Step(*state, next_), model_.Lone(Join(Tokens(50), Tokens(20, 1)), next_));
}

TEST_P(SequenceStateTest, FullBlocksAreSharedAndCountedOnce) {
  const auto state = model_.NewSequence();
  model_.Step(*state, Tokens(3 * kBlock + 10));
  const uint64_t recurrent = state->bytes() - 4 * kBlockBytes;
  const uint64_t before = model_.budget().TotalBytes();
  {
    const auto fork = state->Fork();
    EXPECT_EQ(fork->bytes(), state->bytes());
    EXPECT_EQ(state->unshared_bytes(), recurrent + kBlockBytes);
    EXPECT_EQ(fork->unshared_bytes(), recurrent + kBlockBytes);
    EXPECT_EQ(model_.budget().TotalBytes() - before,
              Buffer::BookedBytes(kBlockBytes) +
                  (model_.recurrent() ? 2 * Buffer::BookedBytes(recurrent / 2) : 0));
    const auto third = fork->Fork();
    EXPECT_EQ(third->unshared_bytes(), recurrent + kBlockBytes);
  }
  EXPECT_EQ(state->unshared_bytes(), state->bytes());
}

// Cut back into what they share, both sides write without being seen by the other.
TEST_P(SequenceStateTest, SharedBlocksAreCopiedBeforeTheyAreWritten) {
  const auto parent_tokens = Tokens(3 * kBlock);
  const auto state = model_.NewSequence();
  model_.Step(*state, First(parent_tokens, 40));
  const auto at_40 = state->Snapshot();
  model_.Step(*state, {parent_tokens.begin() + 40, parent_tokens.end()});
  const auto fork = state->Fork();
  const auto witness = state->Fork();
  state->Restore(at_40);
  const auto other = Tokens(2 * kBlock, 4);
  EXPECT_EQ(model_.Step(*state, other), model_.Lone(First(parent_tokens, 40), other));
  EXPECT_EQ(model_.Step(*fork, next_), model_.Lone(parent_tokens, next_));
  if (!model_.recurrent()) {
    fork->Truncate(50);
    EXPECT_EQ(model_.Step(*fork, other), model_.Lone(First(parent_tokens, 50), other));
  }
  EXPECT_EQ(model_.Step(*witness, next_), model_.Lone(parent_tokens, next_));
}

TEST_P(SequenceStateTest, ForksUndoNothingThatHappenedBefore) {
  const auto state = model_.NewSequence();
  model_.Step(*state, Tokens(20));
  model_.Step(*state, Tokens(5, 1), /*record=*/true);
  const auto fork = state->Fork();
  EXPECT_TRUE(state->CanTruncate(22));
  EXPECT_EQ(fork->CanTruncate(22), !model_.recurrent());
  EXPECT_TRUE(fork->CanTruncate(25));
  model_.Step(*fork, Tokens(4, 2), /*record=*/true);
  fork->Truncate(27);
  EXPECT_EQ(model_.Step(*fork, next_),
            model_.Lone(Join(Join(Tokens(20), Tokens(5, 1)), Tokens(2, 2)), next_));
  state->Truncate(22);
  EXPECT_EQ(model_.Step(*state, next_), model_.Lone(Join(Tokens(20), Tokens(2, 1)), next_));
}

TEST_P(SequenceStateTest, SnapshotsAreReturnedToAsOftenAsWanted) {
  const auto state = model_.NewSequence();
  model_.Step(*state, Tokens(37));
  const SequenceSnapshot snapshot = state->Snapshot();
  for (int32_t time = 0; time < 3; ++time) {
    model_.Step(*state, Tokens(40, time + 1));
    ASSERT_TRUE(state->CanRestore(snapshot));
    state->Restore(snapshot);
    EXPECT_EQ(state->length(), 37);
    EXPECT_EQ(model_.Step(*state, next_), model_.Lone(Tokens(37), next_));
  }
}

// The positions of a snapshot may have been cut off and written again by other tokens: its length
// fits then, its keys do not.
TEST_P(SequenceStateTest, StaleSnapshotsAreRefused) {
  const auto state = model_.NewSequence();
  model_.Step(*state, Tokens(10));
  const SequenceSnapshot early = state->Snapshot();
  model_.Step(*state, Tokens(10, 1));
  const SequenceSnapshot late = state->Snapshot();
  state->Restore(early);
  EXPECT_FALSE(state->CanRestore(late)) << "the sequence is shorter";
  model_.Step(*state, Tokens(20, 2));
  EXPECT_FALSE(state->CanRestore(late)) << "the sequence is longer again";
  try {
    state->Restore(late);
    FAIL() << "was not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
  }
  EXPECT_EQ(state->length(), 30) << "a refusal changes nothing";
  EXPECT_EQ(model_.Step(*state, next_), model_.Lone(Join(Tokens(10), Tokens(20, 2)), next_));
  // One that is taken now is good, as is the early one.
  const SequenceSnapshot now = state->Snapshot();
  model_.Step(*state, Tokens(5, 3));
  state->Restore(now);
  EXPECT_EQ(state->length(), 33);
  state->Restore(early);
  EXPECT_EQ(model_.Step(*state, next_), model_.Lone(Tokens(10), next_));
  state->Truncate(0);
  EXPECT_FALSE(state->CanRestore(early));
  EXPECT_FALSE(state->CanRestore(now));
}

TEST_P(SequenceStateTest, SnapshotsOfAnotherSequenceAreRefused) {
  const auto state = model_.NewSequence();
  model_.Step(*state, Tokens(10));
  const SequenceSnapshot snapshot = state->Snapshot();
  const auto fork = state->Fork();
  EXPECT_FALSE(fork->CanRestore(snapshot));
  EXPECT_THROW(fork->Restore(snapshot), Error);
  EXPECT_TRUE(state->CanRestore(snapshot));
}

INSTANTIATE_TEST_SUITE_P(State, SequenceStateTest, testing::Bool(), [](const auto& param_info) {
  return std::string(param_info.param ? "Hybrid" : "Attention");
});

// Against a list of what happened: random snapshots and cuts, in all orders.
TEST(CutLog, HoldsWhatNoCutWentBelow) {
  std::mt19937 random(20261203);
  for (int round = 0; round < 200; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    struct Taken {
      uint64_t generation;
      int64_t length;
      bool good = true;
    };
    CutLog log;
    std::vector<Taken> taken;
    int64_t length = 0;
    for (int event = 0; event < 60; ++event) {
      length += static_cast<int64_t>(random() % 9);
      if (random() % 3 == 0) {
        taken.push_back({log.NewGeneration(), length});
      } else if (random() % 2 == 0) {
        length = static_cast<int64_t>(random() % static_cast<uint64_t>(length + 1));
        log.Cut(length);
        for (Taken& one : taken) {
          one.good = one.good && one.length <= length;
        }
      }
      for (const Taken& one : taken) {
        ASSERT_EQ(log.Holds(one.generation, one.length), one.good);
      }
    }
  }
}

// At the memory ceiling whatever asks for more fails, and all sequences stay what they were.
class Ceiling : public testing::TestWithParam<bool> {};

TEST_P(Ceiling, FailuresLeaveAllSequencesValid) {
  const auto tokens = Tokens(2 * kBlock + 5);
  const std::vector<int32_t> next = Tokens(3, 5);
  const std::vector<int32_t> many = Tokens(40 * kBlock, 6);
  TinyModel free_model(GetParam());
  const auto want = free_model.Lone(tokens, next);

  // As much as two sequences and their steps take, and a little.
  uint64_t enough = 0;
  {
    TinyModel model(GetParam());
    const auto a = model.NewSequence();
    const auto b = model.NewSequence();
    model.Step(*a, tokens);
    model.Step(*b, tokens);
    enough = model.budget().TotalBytes() + 2 * Buffer::BookedBytes(kBlockBytes);
  }
  TinyModel model(GetParam(), enough);
  const auto a = model.NewSequence();
  model.Step(*a, tokens);
  const auto b = a->Fork();
  std::vector<std::unique_ptr<SequenceState>> forks;
  const auto fork_until_full = [&] {
    while (forks.size() < 1000) {
      forks.push_back(b->Fork());
    }
  };
  EXPECT_THROW(fork_until_full(), Error);
  EXPECT_LT(forks.size(), 1000U);
  EXPECT_THROW(a->Prepare(static_cast<int64_t>(many.size()), true), Error);
  EXPECT_EQ(a->prepared(), 0);
  EXPECT_EQ(a->length(), static_cast<int64_t>(tokens.size()));
  forks.clear();
  if (GetParam()) {
    std::vector<SequenceSnapshot> snapshots;
    const auto snapshot_until_full = [&] {
      while (snapshots.size() < 1000) {
        snapshots.push_back(a->Snapshot());
      }
    };
    EXPECT_THROW(snapshot_until_full(), Error);
  }
  a->Truncate(a->length());  // gives back what the failed step had got
  EXPECT_EQ(model.Step(*a, next), want);
  EXPECT_EQ(model.Step(*b, next), want);
}

// A shared block that cannot be copied stays shared and whole.
TEST(Sharing, ACopyThatFailsLeavesBothSidesWhole) {
  const auto tokens = Tokens(2 * kBlock);
  const std::vector<int32_t> next = Tokens(3, 5);
  uint64_t enough = 0;
  {
    TinyModel model(false);
    model.Step(*model.NewSequence(), tokens);
    enough = model.budget().TotalBytes();
  }
  TinyModel model(false, enough);
  const auto a = model.NewSequence();
  model.Step(*a, tokens);
  const auto b = a->Fork();
  EXPECT_EQ(b->unshared_bytes(), 0U);
  b->Truncate(40);
  EXPECT_THROW(b->Prepare(1, false), Error);
  EXPECT_EQ(b->length(), 40);
  EXPECT_EQ(b->unshared_bytes(), 0U);
  a->Truncate(kBlock);  // now the block is b's alone
  EXPECT_EQ(model.Step(*b, next), TinyModel(false).Lone(First(tokens, 40), next));
}

INSTANTIATE_TEST_SUITE_P(State, Ceiling, testing::Bool(), [](const auto& param_info) {
  return std::string(param_info.param ? "Hybrid" : "Attention");
});

}  // namespace
}  // namespace mach::state
