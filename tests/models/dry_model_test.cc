// What sequences on the dry backend are counted as, against what the CPU backend books for the same
// calls: to the byte, by owner.
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "backend/dry_backend.h"
#include "golden_runner.h"

namespace mach::models {
namespace {

using state::SequenceState;

// A checkpoint's model on one of the two backends.
struct Side {
  Side(const formats::Checkpoint& checkpoint, backend::ExpertSource* experts, bool dry)
      : budget(dry ? MemoryBudget::Dry() : MemoryBudget()),
        backend(dry ? backend::MakeDryBackend(budget, {.threads = 3})
                    : backend::MakeCpuBackend(budget, {.threads = 3})),
        model(BuildModel({.checkpoint = checkpoint, .backend = backend, .experts = experts})) {
    backend->ReserveActivations(16 << 20);
  }

  // A step of `rows` tokens of each of these.
  void Step(const std::vector<SequenceState*>& states, int64_t rows, bool record = false) {
    const std::vector<int32_t> tokens(static_cast<size_t>(rows), 3);
    std::vector<SequenceRows> batch;
    for (SequenceState* one : states) {
      one->Prepare(rows, record);
      batch.push_back({.state = one, .tokens = tokens, .logit_rows = 1});
    }
    const backend::StepScope scope(*backend);
    model->Forward({.batch = batch});
  }

  MemoryBudget budget;
  std::shared_ptr<backend::Backend> backend;
  std::unique_ptr<Model> model;
  std::unique_ptr<SequenceState> sequence;
  std::unique_ptr<SequenceState> fork;
  std::vector<state::SequenceSnapshot> snapshots;
};

// One checkpoint of each kind: dense, Mixture of Experts, hybrid.
class DryModelTest : public testing::TestWithParam<std::string> {};

TEST_P(DryModelTest, CountsWhatIsBooked) {
  const auto checkpoint = formats::Checkpoint::Open(GoldenDir() / GetParam());
  std::unique_ptr<MemoryExperts> experts;
  std::unique_ptr<backend::ExpertSource> dry_experts;
  if (ReadModelShape(*checkpoint).moe_layers > 0) {
    experts = std::make_unique<MemoryExperts>(*checkpoint);
    dry_experts = backend::MakeDryExperts(experts->layout(), experts->layers(), experts->experts());
  }
  Side cpu(*checkpoint, experts.get(), /*dry=*/false);
  Side dry(*checkpoint, dry_experts.get(), /*dry=*/true);
  const auto both = [&](const std::string& what, const auto& act) {
    act(cpu);
    act(dry);
    EXPECT_EQ(dry.budget.BytesByOwner(), cpu.budget.BytesByOwner()) << what;
    const uint64_t peak = cpu.backend->TakePeakActivationBytes();
    const uint64_t counted = dry.backend->TakePeakActivationBytes();
    if (!experts) {  // else it depends on what is routed where
      EXPECT_EQ(counted, peak) << what;
    }
    for (const auto of : {&Side::sequence, &Side::fork}) {
      if ((cpu.*of) != nullptr) {
        EXPECT_EQ((dry.*of)->kv().bytes(), (cpu.*of)->kv().bytes()) << what;
        EXPECT_EQ((dry.*of)->kv().unshared_bytes(), (cpu.*of)->kv().unshared_bytes()) << what;
        EXPECT_EQ((dry.*of)->length(), (cpu.*of)->length()) << what;
      }
    }
  };

  both("the model", [](Side&) {});
  both("a sequence", [](Side& side) { side.sequence = side.model->NewSequence(); });
  both("its first step", [](Side& side) { side.Step({side.sequence.get()}, 70); });
  both("a step of one row", [](Side& side) { side.Step({side.sequence.get()}, 1); });
  both("a recorded step", [](Side& side) { side.Step({side.sequence.get()}, 5, true); });
  both("a longer one", [](Side& side) { side.Step({side.sequence.get()}, 19, true); });
  both("a cut into it", [](Side& side) { side.sequence->Truncate(side.sequence->length() - 12); });
  both("a snapshot", [](Side& side) { side.snapshots.push_back(side.sequence->Snapshot()); });
  both("a fork", [](Side& side) { side.fork = side.sequence->Fork(); });
  both("a step of both", [](Side& side) { side.Step({side.sequence.get(), side.fork.get()}, 40); });
  both("going back", [](Side& side) {
    ASSERT_TRUE(side.sequence->CanRestore(side.snapshots.front()));
    side.fork->Truncate(0);
    side.Step({side.fork.get()}, 123);
    side.sequence->Restore(side.snapshots.front());
    side.Step({side.sequence.get()}, 40);
  });
  both("no snapshot", [](Side& side) { side.snapshots.clear(); });
}

// Kept for the next sequence by a pool; nobody is predicted to have both.
TEST_P(DryModelTest, ASequenceThatEndsIsNoLongerCounted) {
  const auto checkpoint = formats::Checkpoint::Open(GoldenDir() / GetParam());
  std::unique_ptr<backend::ExpertSource> experts;
  if (ReadModelShape(*checkpoint).moe_layers > 0) {
    const MemoryExperts real(*checkpoint);
    experts = backend::MakeDryExperts(real.layout(), real.layers(), real.experts());
  }
  Side dry(*checkpoint, experts.get(), /*dry=*/true);
  const uint64_t before = dry.budget.TotalBytes();
  dry.sequence = dry.model->NewSequence();
  dry.Step({dry.sequence.get()}, 100, true);
  EXPECT_GT(dry.budget.TotalBytes(), before);
  dry.sequence.reset();
  EXPECT_EQ(dry.budget.TotalBytes(), before);
}

INSTANTIATE_TEST_SUITE_P(Kinds, DryModelTest,
                         testing::Values("llama_q4_g64_bias", "qwen3_moe_q4_g64",
                                         "qwen3_5_moe_q4_g32"),
                         [](const auto& param_info) { return param_info.param; });

}  // namespace
}  // namespace mach::models
