#include "decode/logit_row.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>

namespace mach::decode {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLargest = std::numeric_limits<float>::max();

// A token has weight 0 from 28.4 nats below the best on, and noise differs by less than 40.5.
constexpr double kWeightNats = 29;
constexpr double kNoiseNats = 41;

constexpr uint32_t kBuckets = 1024;  // the last one has no weight in it
constexpr size_t kRun = 1024;        // tokens looked at together
constexpr size_t kSortable = 512;    // entries; more are put into buckets first

// Sums of weights by bucket.
class Buckets {
 public:
  // Adds weight(i) to bucket(i) for all i below n. Neighbours go into different copies of the sums:
  // equal ones would wait for each other.
  template <class B, class W>
  void Add(size_t n, const B& bucket, const W& weight) {
    size_t i = 0;
    for (; i + kCopies <= n; i += kCopies) {
      for (size_t copy = 0; copy < kCopies; ++copy) {
        sums_[bucket(i + copy)][copy] += weight(i + copy);
      }
    }
    for (; i < n; ++i) {
      sums_[bucket(i)][0] += weight(i);
    }
  }

  int64_t Total() const {
    int64_t total = 0;
    for (const auto& copies : sums_) {
      for (const int64_t sum : copies) {
        total += sum;
      }
    }
    return total;
  }

  // The bucket in which the sum from 0 on reaches `left`, which then is what is left in there.
  uint32_t Find(int64_t& left) const {
    for (uint32_t bucket = 0;; ++bucket) {
      int64_t sum = 0;
      for (const int64_t part : sums_[bucket]) {
        sum += part;
      }
      if (sum >= left || bucket + 1 == kBuckets) {
        return bucket;
      }
      left -= sum;
    }
  }

 private:
  static constexpr size_t kCopies = 4;

  std::array<std::array<int64_t, kCopies>, kBuckets> sums_ = {};
};

double Finite(float logit) {
  return std::clamp(logit, -kLargest, kLargest);
}

int64_t Integer(float weight) {
  return std::llrint(weight);
}

}  // namespace

LogitRow::LogitRow(const kernels::KernelTable& table, std::span<const float> logits)
    : table_(table),
      logits_(logits),
      maxima_((logits.size() + kernels::kTokenBlock - 1) / kernels::kTokenBlock) {
  table.block_maxima(logits.data(), static_cast<int64_t>(logits.size()), maxima_.data());
  best_ = maxima_.empty() ? -kInfinity : *std::max_element(maxima_.begin(), maxima_.end());
}

int32_t LogitRow::BestToken() const {
  const auto block = std::find(maxima_.begin(), maxima_.end(), best_) - maxima_.begin();
  const auto token =
      std::find(logits_.begin() + block * kernels::kTokenBlock, logits_.end(), best_);
  return static_cast<int32_t>(token - logits_.begin());
}

template <class F>
void LogitRow::ForRuns(float least, const F& f) const {
  constexpr size_t kBlock = kernels::kTokenBlock;
  for (size_t block = 0; block < maxima_.size();) {
    const size_t first = block;
    while (block < maxima_.size() && maxima_[block] >= least && block - first < kRun / kBlock) {
      ++block;
    }
    if (block == first) {
      ++block;  // nothing in there
    } else {
      f(first * kBlock, std::min(block * kBlock, logits_.size()));
    }
  }
}

kernels::TokenScale LogitRow::Scale(float temperature, float least, double nats) const {
  const double far = static_cast<double>(best_) - nats * static_cast<double>(temperature);
  return {.best = best_,
          .scale = std::min(static_cast<float>(1 / static_cast<double>(temperature)), kLargest),
          .least = std::max(least, static_cast<float>(far)),
          .buckets_per_nat = static_cast<float>(kBuckets / kWeightNats),
          .last_bucket = kBuckets - 1};
}

bool LogitRow::Before(const Entry& a, const Entry& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

// The cut at the entry where the weights reach `left`. `entries` are by token, and hold all tokens
// of any logit that they hold.
LogitRow::Cut LogitRow::Descend(std::vector<Entry> entries, int64_t left) {
  const auto lower = [](const Entry& a, const Entry& b) { return a.logit < b.logit; };
  bool equal = false;
  while (entries.size() > kSortable) {
    const auto [low, high] = std::minmax_element(entries.begin(), entries.end(), lower);
    const double top = Finite(high->logit);
    const double range = top - Finite(low->logit);
    equal = low->logit == high->logit;
    if (range == 0) {
      break;
    }
    const auto bucket_of = [&](const Entry& entry) {
      return static_cast<uint32_t>((top - Finite(entry.logit)) / range * (kBuckets - 1));
    };
    Buckets buckets;
    buckets.Add(
        entries.size(), [&](size_t i) { return bucket_of(entries[i]); },
        [&](size_t i) { return entries[i].weight; });
    const uint32_t bucket = buckets.Find(left);
    std::erase_if(entries, [&](const Entry& entry) { return bucket_of(entry) != bucket; });
  }
  if (!equal) {
    std::sort(entries.begin(), entries.end(), Before);
  }
  size_t last = 0;
  while (last + 1 < entries.size() && entries[last].weight < left) {
    left -= entries[last].weight;
    ++last;
  }
  Cut cut{.logit = entries[last].logit, .token = entries[last].token, .equals_left_out = {}};
  for (size_t i = last + 1; i < entries.size() && entries[i].logit == cut.logit; ++i) {
    cut.equals_left_out.push_back(entries[i].token);
  }
  return cut;
}

template <class F>
void LogitRow::ForTokensBetween(float low, float high, const F& f) const {
  ForRuns(low, [&](size_t begin, size_t end) {
    std::array<uint32_t, kRun> tokens;
    const int64_t found = table_.tokens_between(
        logits_.data() + begin, static_cast<int64_t>(end - begin), low, high, tokens.data());
    for (size_t i = 0; i < static_cast<size_t>(found); ++i) {
      const size_t token = begin + tokens[i];
      f(static_cast<int32_t>(token), logits_[token]);
    }
  });
}

std::vector<LogitRow::Entry> LogitRow::AtLeast(float least) const {
  std::vector<Entry> entries;
  ForTokensBetween(least, kInfinity, [&](int32_t token, float logit) {
    entries.push_back({logit, token, 1});
  });
  return entries;
}

float LogitRow::LeastOfFirst(int32_t count) const {
  const auto rank = static_cast<size_t>(count);
  if (rank == 0 || rank > maxima_.size()) {
    return -kInfinity;
  }
  // Each of the `count` blocks with the largest maxima holds a token of at least the smallest of
  // these maxima.
  std::vector<float> maxima = maxima_;
  const auto nth = maxima.begin() + static_cast<ptrdiff_t>(rank - 1);
  std::nth_element(maxima.begin(), nth, maxima.end(), std::greater<>());
  return *nth;
}

std::optional<LogitRow::Cut> LogitRow::AfterCount(int32_t count) const {
  const float least = LeastOfFirst(count);
  std::vector<Entry> entries = AtLeast(least);
  if (least == -kInfinity && entries.size() <= static_cast<size_t>(count)) {
    return std::nullopt;
  }
  return Descend(std::move(entries), count);
}

std::vector<int32_t> LogitRow::First(int32_t count) const {
  std::vector<Entry> entries = AtLeast(LeastOfFirst(count));
  const auto kept = std::min(static_cast<size_t>(count), entries.size());
  std::partial_sort(entries.begin(), entries.begin() + static_cast<ptrdiff_t>(kept), entries.end(),
                    Before);
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < kept; ++i) {
    tokens.push_back(entries[i].token);
  }
  return tokens;
}

LogitRow::Cut LogitRow::AfterWeight(float share, float temperature, float least) const {
  const kernels::TokenScale by = Scale(temperature, least, kWeightNats);
  Buckets buckets;
  ForRuns(by.least, [&](size_t begin, size_t end) {
    std::array<float, kRun> weights;
    std::array<uint32_t, kRun> bucket;
    table_.token_weights(logits_.data() + begin, static_cast<int64_t>(end - begin), by,
                         weights.data(), bucket.data());
    buckets.Add(
        end - begin, [&](size_t i) { return bucket[i]; },
        [&](size_t i) { return Integer(weights[i]); });
  });
  const double target = static_cast<double>(share) * static_cast<double>(buckets.Total());
  int64_t left = std::max(static_cast<int64_t>(target), int64_t{1});
  const uint32_t bucket = buckets.Find(left);
  return Descend(InBucket(bucket, by), left);
}

std::vector<LogitRow::Entry> LogitRow::InBucket(uint32_t bucket,
                                                const kernels::TokenScale& by) const {
  // As the kernel has it.
  const auto bucket_of = [&](float logit) {
    const float at = (logit - by.best) * by.scale * -by.buckets_per_nat;
    return static_cast<uint32_t>(std::min(at, by.last_bucket));
  };
  // Limits with room for rounding spare most tokens that.
  const double width = 1 / (static_cast<double>(by.buckets_per_nat) * by.scale);
  const auto low = static_cast<float>(by.best - (bucket + 1.01) * width);
  const auto high = static_cast<float>(by.best - (bucket - 0.01) * width);
  std::vector<Entry> entries;
  std::vector<float> logits;
  ForTokensBetween(std::max(low, by.least), high, [&](int32_t token, float logit) {
    if (bucket_of(logit) == bucket) {
      entries.push_back({logit, token, 0});
      logits.push_back(logit);
    }
  });
  std::vector<float> weights(logits.size());
  std::vector<uint32_t> buckets(logits.size());
  table_.token_weights(logits.data(), static_cast<int64_t>(logits.size()), by, weights.data(),
                       buckets.data());
  for (size_t i = 0; i < entries.size(); ++i) {
    entries[i].weight = Integer(weights[i]);
  }
  return entries;
}

double LogitRow::TotalWeight(float temperature) const {
  const kernels::TokenScale by = Scale(temperature, -kInfinity, kWeightNats);
  int64_t total = 0;
  ForRuns(by.least, [&](size_t begin, size_t end) {
    std::array<float, kRun> weights;
    std::array<uint32_t, kRun> buckets;
    table_.token_weights(logits_.data() + begin, static_cast<int64_t>(end - begin), by,
                         weights.data(), buckets.data());
    for (size_t i = 0; i < end - begin; ++i) {
      total += Integer(weights[i]);
    }
  });
  return static_cast<double>(total) * 0x1p-40;
}

int32_t LogitRow::Draw(float temperature, float least, const GumbelNoise& noise) const {
  const kernels::TokenScale by = Scale(temperature, least, kNoiseNats);
  std::vector<float> bounds(maxima_.size());
  table_.noise_bounds(logits_.data(), static_cast<int64_t>(logits_.size()), by, noise.upper_key(),
                      maxima_.data(), bounds.data());
  int32_t drawn = -1;
  double best_score = -std::numeric_limits<double>::infinity();
  const auto look = [&](size_t block) {
    const size_t begin = block * kernels::kTokenBlock;
    const size_t end = std::min<size_t>(begin + kernels::kTokenBlock, logits_.size());
    for (size_t i = begin; i < end; ++i) {
      if (!(logits_[i] >= by.least)) {
        continue;
      }
      const auto token = static_cast<int32_t>(i);
      const double score = (static_cast<double>(logits_[i]) - static_cast<double>(best_)) /
                               static_cast<double>(temperature) +
                           noise(token);
      if (score > best_score || (score == best_score && token < drawn)) {
        best_score = score;
        drawn = token;
      }
    }
  };
  // The block with the highest bound nearly always has the winner; few others come near.
  const auto likeliest =
      static_cast<size_t>(std::max_element(bounds.begin(), bounds.end()) - bounds.begin());
  look(likeliest);
  for (size_t block = 0; block < bounds.size(); ++block) {
    if (bounds[block] >= best_score && block != likeliest) {
      look(block);
    }
  }
  return drawn;
}

}  // namespace mach::decode
