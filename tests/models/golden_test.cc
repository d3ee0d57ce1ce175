// Every family against logits that mlx-lm or transformers computed (tests/golden/README.md), and
// every way to cut the same work into forwards against each other, bit for bit.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/hash.h"
#include "golden_runner.h"
#include "kernels/kernels.h"

namespace mach::models {
namespace {

struct Difference {
  double max = 0;
  double rms = 0;
};

Difference Compare(const std::vector<float>& got, const std::vector<float>& want) {
  EXPECT_EQ(got.size(), want.size());
  Difference difference;
  double sum = 0;
  for (size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    const double d = std::abs(static_cast<double>(got[i]) - static_cast<double>(want[i]));
    difference.max = std::max(difference.max, std::isnan(d) ? 1e9 : d);
    sum += d * d;
  }
  difference.rms = std::sqrt(sum / static_cast<double>(want.size()));
  return difference;
}

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(GoldenDir())) {
    if (std::filesystem::exists(entry.path() / "config.json")) {
      names.push_back(entry.path().filename().string());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> QuantisedNames() {
  std::vector<std::string> names = Names();
  std::erase_if(names, [](const std::string& name) {
    return !formats::SafetensorsFile::Open(GoldenDir() / name / "golden.safetensors")
                ->Has("int8_prefill_logits");
  });
  return names;
}

class GoldenTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    dir_ = GoldenDir() / GetParam();
    golden_ = formats::SafetensorsFile::Open(dir_ / "golden.safetensors");
    quantised_ = golden_->Has("int8_prefill_logits");
    prompt_ = ReadGolden<int32_t>(*golden_, "prompt");
    decode_tokens_ = ReadGolden<int32_t>(*golden_, "decode_tokens");
  }

  std::string Key(const std::string& name) const { return (quantised_ ? "int8_" : "") + name; }

  std::filesystem::path dir_;
  std::unique_ptr<formats::SafetensorsFile> golden_;
  bool quantised_ = false;  // compared with the reference that also rounds activations to int8
  std::vector<int32_t> prompt_;
  std::vector<int32_t> decode_tokens_;
};

class QuantisedGoldenTest : public GoldenTest {};

// The largest difference in each row of `vocab` logits.
std::vector<double> RowDifferences(const std::vector<float>& got, const std::vector<float>& want,
                                   size_t rows) {
  EXPECT_EQ(got.size(), want.size());
  const size_t vocab = want.size() / rows;
  std::vector<double> largest;
  for (size_t row = 0; row < rows; ++row) {
    const auto begin = static_cast<ptrdiff_t>(row * vocab);
    const auto end = begin + static_cast<ptrdiff_t>(vocab);
    largest.push_back(Compare({got.begin() + begin, got.begin() + end},
                              {want.begin() + begin, want.begin() + end})
                          .max);
  }
  return largest;
}

// fp32 against fp32 or float64: sums of about a hundred terms near 1.
constexpr double kTight = 1e-3;

TEST_P(GoldenTest, MatchesTheReference) {
  Runner runner(dir_, 2, BestIsa(), DType::kF32);
  const auto state = runner.NewSequence();
  std::vector<float> got = runner.Forward(*state, prompt_);
  std::vector<float> want = ReadGolden<float>(*golden_, Key("prefill_logits"));
  for (const int32_t token : decode_tokens_) {
    const auto logits = runner.Forward(*state, std::span(&token, 1));
    got.insert(got.end(), logits.begin(), logits.end());
  }
  const auto decoded = ReadGolden<float>(*golden_, Key("decode_logits"));
  want.insert(want.end(), decoded.begin(), decoded.end());
  const auto rows = RowDifferences(got, want, prompt_.size() + decode_tokens_.size());
  // With int8 activations the reference's float64 sums may put a value on the other side of a
  // rounding boundary; everything that attends to that row then differs as much as rounding itself
  // does. Rows before are tight; MostWindowsAreTight looks at more than those.
  EXPECT_LT(rows.front(), kTight);
  for (const double row : rows) {
    EXPECT_LT(row, quantised_ ? 0.5 : kTight);
  }
}

// Of each checkpoint, most windows of the prompt, run as sequences of their own: what hangs by a
// rounding error spoils its window alone, and a checkpoint that is loose throughout cannot hide.
TEST_P(QuantisedGoldenTest, MostWindowsAreTight) {
  constexpr size_t kWindow = 6;
  constexpr size_t kStride = 2;
  Runner runner(dir_, 2, BestIsa(), DType::kF32);
  std::vector<float> got;
  size_t windows = 0;
  for (size_t begin = 0; begin + kWindow <= prompt_.size(); begin += kStride) {
    const auto state = runner.NewSequence();
    const auto logits = runner.Forward(*state, std::span(prompt_).subspan(begin, kWindow));
    got.insert(got.end(), logits.end() - static_cast<ptrdiff_t>(logits.size() / kWindow),
               logits.end());
    ++windows;
  }
  const auto want = ReadGolden<float>(*golden_, "int8_window_logits");
  const auto rows = RowDifferences(got, want, windows);
  const auto tight = std::count_if(rows.begin(), rows.end(), [](double x) { return x < kTight; });
  EXPECT_GE(tight, static_cast<ptrdiff_t>(windows * 2 / 3)) << "of " << windows;
}

// The bits of all logits, against tests/golden/bits.txt: a line for each checkpoint and each
// arithmetic version that changed it. Lines are added, never edited.
TEST(Golden, LogitsKeepTheirBitsWithinAnArithmeticVersion) {
  struct Line {
    int version = 0;
    std::string hash;
  };
  std::map<std::string, Line> known;  // the latest of each checkpoint
  std::ifstream file(GoldenDir() / "bits.txt");
  int latest = 0;
  for (std::string text; std::getline(file, text);) {
    std::istringstream words(text);
    int version = 0;
    std::string name;
    std::string hash;
    ASSERT_TRUE(words >> version >> name >> hash) << text;
    ASSERT_GE(version, latest) << text;
    ASSERT_GT(version, known[name].version) << "a checkpoint changes once in a version: " << text;
    known[name] = {version, hash};
    latest = version;
  }
  EXPECT_EQ(kernels::kArithmeticVersion, latest);
  std::string wanted;
  for (const std::string& name : Names()) {
    const auto golden = formats::SafetensorsFile::Open(GoldenDir() / name / "golden.safetensors");
    Runner runner(GoldenDir() / name, 2);
    const auto state = runner.NewSequence();
    Hasher128 hasher;
    for (const char* tokens : {"prompt", "decode_tokens"}) {
      const auto logits = runner.Forward(*state, ReadGolden<int32_t>(*golden, tokens));
      hasher.Update(std::as_bytes(std::span(logits)));
    }
    if (known[name].hash != hasher.Hex()) {
      const bool is_new = known[name].version == 0;
      wanted += std::to_string(is_new ? std::max(latest, 1) : latest + 1);
      wanted += " " + name + " " + hasher.Hex() + "\n";
    }
  }
  EXPECT_EQ(wanted, "") << "these logits have other bits. If that is meant, add these lines to "
                           "tests/golden/bits.txt, and raise kArithmeticVersion "
                           "(kernels/kernels.h) to their number.";
}

TEST_P(GoldenTest, StaysNearTheUnroundedModel) {
  // What a user gets: int8 activations, bf16 keys and values.
  Runner runner(dir_, 2, BestIsa(), DType::kBF16);
  const auto state = runner.NewSequence();
  const auto got = runner.Forward(*state, prompt_);
  const auto want = ReadGolden<float>(*golden_, "prefill_logits");
  double allowed = 0.03;
  if (quantised_) {
    // As far as rounding moves the reference itself, which is farther where it changes a routing.
    allowed += 1.25 * Compare(ReadGolden<float>(*golden_, "int8_prefill_logits"), want).rms;
  }
  EXPECT_LT(Compare(got, want).rms, allowed);
}

// One answer: chunks, single steps, neighbours in the batch, threads and instruction sets change
// nothing, not a bit.
TEST_P(GoldenTest, AnyCutGivesTheSameBits) {
  Runner whole(dir_, 1, Isa::kScalar, DType::kBF16);
  const auto whole_state = whole.NewSequence();
  const std::vector<float> want = whole.Forward(*whole_state, prompt_);
  const size_t vocab = want.size() / prompt_.size();
  const std::vector<float> want_last(want.end() - static_cast<ptrdiff_t>(vocab), want.end());

  for (const Isa isa : SupportedIsas()) {
    for (const int threads : {1, 2, 3}) {
      SCOPED_TRACE(std::string(IsaName(isa)) + " threads=" + std::to_string(threads));
      Runner runner(dir_, threads, isa, DType::kBF16);
      const auto a = runner.NewSequence();
      EXPECT_EQ(runner.Forward(*a, prompt_, /*record=*/true), want);

      const auto b = runner.NewSequence();
      std::vector<float> chunked;
      for (size_t at = 0; at < prompt_.size();) {
        const size_t count = std::min<size_t>(prompt_.size() - at, at % 2 == 0 ? 7 : 1);
        const auto part = runner.Forward(*b, std::span(prompt_).subspan(at, count));
        chunked.insert(chunked.end(), part.begin(), part.end());
        at += count;
      }
      EXPECT_EQ(chunked, want);

      // Verification of rejected drafts: run on, cut back, run again.
      a->Truncate(static_cast<int64_t>(prompt_.size()) - 5);
      const auto again = runner.Forward(*a, std::span(prompt_).last(5));
      EXPECT_TRUE(std::equal(again.begin(), again.end(), want.end() - again.size()));

      // Another sequence in the same steps.
      const auto c = runner.NewSequence();
      const auto d = runner.NewSequence();
      std::vector<int32_t> other(prompt_.rbegin(), prompt_.rend() - 3);
      const auto both = runner.Forward({{.state = d.get(), .tokens = other, .logit_rows = 1},
                                        {.state = c.get(), .tokens = prompt_, .logit_rows = 1}});
      EXPECT_TRUE(std::equal(want_last.begin(), want_last.end(), both.begin() + vocab));
    }
  }
}

// A recorded step cut back to any of its tokens is a step of those tokens: everything after it is
// the same, to the last bit.
TEST_P(GoldenTest, RollbackEqualsStepping) {
  constexpr size_t kBefore = 9;
  constexpr size_t kStep = 7;
  constexpr size_t kAfter = 5;
  const std::span<const int32_t> prompt(prompt_);
  // What is rejected differs from what comes instead.
  std::vector<int32_t> drafts(prompt_.rbegin(), prompt_.rbegin() + kStep);
  Runner runner(dir_, 2);
  for (size_t keep = 0; keep <= kStep; ++keep) {
    SCOPED_TRACE("keep=" + std::to_string(keep));
    std::copy_n(prompt_.begin() + kBefore, keep, drafts.begin());
    const auto stepped = runner.NewSequence();
    runner.Forward(*stepped, prompt.first(kBefore + keep));
    const auto want = runner.Forward(*stepped, prompt.subspan(kBefore + keep, kAfter));

    const auto rolled = runner.NewSequence();
    runner.Forward(*rolled, prompt.first(kBefore));
    runner.Forward(*rolled, drafts, /*record=*/true);
    const auto length = static_cast<int64_t>(kBefore + keep);
    ASSERT_TRUE(rolled->CanTruncate(length));
    rolled->Truncate(length);
    EXPECT_EQ(rolled->length(), length);
    EXPECT_EQ(runner.Forward(*rolled, prompt.subspan(kBefore + keep, kAfter)), want);
  }
}

TEST_P(GoldenTest, SnapshotsAreReturnedToAnyNumberOfTimes) {
  constexpr size_t kBefore = 11;
  const std::span<const int32_t> prompt(prompt_);
  Runner runner(dir_, 2);
  const auto state = runner.NewSequence();
  runner.Forward(*state, prompt.first(kBefore));
  const state::SequenceSnapshot snapshot = state->Snapshot();
  const auto want = runner.Forward(*state, prompt.subspan(kBefore));
  for (int time = 0; time < 2; ++time) {
    state->Restore(snapshot);
    EXPECT_EQ(state->length(), static_cast<int64_t>(kBefore));
    EXPECT_EQ(runner.Forward(*state, prompt.subspan(kBefore)), want);
    runner.Forward(*state, prompt.first(3));  // other tokens beyond the snapshot
  }
  state->Truncate(0);
  EXPECT_EQ(runner.Forward(*state, prompt.first(kBefore + 1)),
            runner.Forward(*runner.NewSequence(), prompt.first(kBefore + 1)));
}

TEST_P(GoldenTest, RecurrentStatesRefuseWhatTheyCannotUndo) {
  Runner runner(dir_);
  const auto state = runner.NewSequence();
  runner.Forward(*state, std::span(prompt_).first(8));
  runner.Forward(*state, std::span(prompt_).subspan(8, 4));
  EXPECT_TRUE(state->CanTruncate(0) && state->CanTruncate(8) && state->CanTruncate(12));
  EXPECT_FALSE(state->CanTruncate(13));
  const bool recurrent = runner.model().shape().recurrent.layers > 0;
  for (const int64_t length : {10, 5}) {
    EXPECT_EQ(state->CanTruncate(length), !recurrent);
  }
  if (recurrent) {
    EXPECT_THROW(state->Truncate(10), Error);
    EXPECT_EQ(state->length(), 12);
  }
  const auto other = runner.NewSequence();
  const auto want = runner.Forward(*other, std::span(prompt_).first(20));
  const auto got = runner.Forward(*state, std::span(prompt_).subspan(12, 8));
  EXPECT_TRUE(std::equal(got.begin(), got.end(), want.end() - static_cast<ptrdiff_t>(got.size())));
}

TEST_P(GoldenTest, CancelLeavesTheStateAsItWas) {
  Runner runner(dir_);
  const auto state = runner.NewSequence();
  runner.Forward(*state, std::span(prompt_).first(10));
  const std::atomic<bool> cancel{true};
  EXPECT_THROW(runner.Forward(*state, std::span(prompt_).subspan(10), /*record=*/false,
                              backend::ExpertUse::kDecode, &cancel),
               Error);
  EXPECT_EQ(state->length(), 10);
  const auto got = runner.Forward(*state, std::span(prompt_).subspan(10));
  const auto want = runner.Forward(*runner.NewSequence(), prompt_);
  EXPECT_TRUE(std::equal(got.begin(), got.end(), want.end() - static_cast<ptrdiff_t>(got.size())));
}

INSTANTIATE_TEST_SUITE_P(All, GoldenTest, testing::ValuesIn(Names()),
                         [](const auto& param_info) { return param_info.param; });
INSTANTIATE_TEST_SUITE_P(All, QuantisedGoldenTest, testing::ValuesIn(QuantisedNames()),
                         [](const auto& param_info) { return param_info.param; });

}  // namespace
}  // namespace mach::models
