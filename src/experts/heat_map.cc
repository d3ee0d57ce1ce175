#include "experts/heat_map.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <optional>
#include <utility>

#include "base/log.h"
#include "base/quietly.h"
#include "experts/heat_file.h"
#include "platform/file.h"

namespace mach::experts {
namespace {

constexpr double kHalfLifeTokens = 4096;
constexpr float kKeptOverRestart = 0.5F;
constexpr auto kSaveInterval = std::chrono::minutes(1);

}  // namespace

HeatMap::HeatMap(std::filesystem::path file, const formats::ExpertSidecar& sidecar,
                 const CacheShape& shape)
    : file_(std::move(file)),
      sidecar_(sidecar),
      shape_(shape),
      frequency_(shape.keys(), kHalfLifeTokens) {
  if (file_.empty()) {
    return;
  }
  RemoveStaleTemporaries(file_);
  if (const std::optional<std::vector<float>> rates = LoadHeat(file_, sidecar_)) {
    for (int32_t key = 0; key < shape_.keys(); ++key) {
      frequency_.SetRate(key, kKeptOverRestart * (*rates)[static_cast<size_t>(key)]);
    }
  }
  saver_ = std::thread([this] { SaveLoop(); });
}

HeatMap::~HeatMap() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  stopping_.notify_all();
  if (saver_.joinable()) {
    saver_.join();
  }
}

void HeatMap::Use(int32_t moe_layer, std::span<const backend::WantedExpert> experts,
                  int64_t tokens) {
  const std::lock_guard lock(mutex_);
  if (clock_.BeginLayer(moe_layer)) {
    frequency_.BeginStep(tokens);
  }
  for (const backend::WantedExpert& expert : experts) {
    frequency_.Add(moe_layer * shape_.experts + expert.id, expert.rows);
  }
  changed_ = true;
}

double HeatMap::Rate(int32_t key) const {
  const std::lock_guard lock(mutex_);
  return frequency_.Rate(key);
}

std::vector<double> HeatMap::Uses() const {
  const std::lock_guard lock(mutex_);
  std::vector<double> uses;
  uses.reserve(static_cast<size_t>(shape_.keys()));
  for (int32_t key = 0; key < shape_.keys(); ++key) {
    uses.push_back(frequency_.Raw(key));
  }
  return uses;
}

std::vector<int32_t> HeatMap::Hottest(int64_t most) const {
  const std::lock_guard lock(mutex_);
  std::vector<int32_t> keys;
  for (int32_t key = 0; key < shape_.keys(); ++key) {
    if (frequency_.Raw(key) > 0) {
      keys.push_back(key);
    }
  }
  if (static_cast<int64_t>(keys.size()) > most) {
    std::nth_element(keys.begin(), keys.begin() + most, keys.end(), [&](int32_t a, int32_t b) {
      const double heat_a = frequency_.Raw(a);
      const double heat_b = frequency_.Raw(b);
      return heat_a > heat_b || (heat_a == heat_b && a < b);
    });
    keys.resize(static_cast<size_t>(most));
    std::ranges::sort(keys);
  }
  return keys;
}

void HeatMap::Save() {
  if (file_.empty()) {
    return;
  }
  const std::lock_guard saving(saving_mutex_);
  {
    const std::lock_guard lock(mutex_);
    if (!changed_) {
      return;
    }
  }
  try {
    WriteHeat(file_, sidecar_, TakeRates());
    return;
  } catch (const std::exception& error) {
    // Once: a read-only checkpoint stays one. Where memory is missing, for the line too, another
    // failure may be the first to be told.
    save_failed_ = save_failed_ || Quietly([&error] {
                     LogWarning("expert heat map not saved", {{"reason", error.what()}});
                   });
  }
  const std::lock_guard lock(mutex_);
  changed_ = true;
}

std::vector<float> HeatMap::TakeRates() {
  std::vector<float> rates(static_cast<size_t>(shape_.keys()));
  const std::lock_guard lock(mutex_);
  for (int32_t key = 0; key < shape_.keys(); ++key) {
    rates[static_cast<size_t>(key)] = static_cast<float>(frequency_.Rate(key));
  }
  changed_ = false;
  return rates;
}

void HeatMap::SaveLoop() {
  std::unique_lock lock(mutex_);
  while (!stopping_.wait_for(lock, kSaveInterval, [this] { return stop_; })) {
    if (changed_) {
      lock.unlock();
      Save();
      lock.lock();
    }
  }
}

}  // namespace mach::experts
