// How often each expert was used lately, kept in a file so that the next start reads the hottest
// ones first.
//
// All members may be called from any thread. One thread of its own saves once a minute what has
// changed; it ends with the map.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "backend/experts.h"
#include "experts/cache_policy.h"
#include "experts/frequency.h"
#include "formats/expert_sidecar.h"

namespace mach::experts {

class HeatMap {
 public:
  // Begins with what `file` holds, at half its weight: the next conversation may be about something
  // else. Empty: nothing is loaded or saved.
  HeatMap(std::filesystem::path file, const formats::ExpertSidecar& sidecar,
          const CacheShape& shape);
  HeatMap(const HeatMap&) = delete;
  HeatMap& operator=(const HeatMap&) = delete;
  ~HeatMap();  // does not save

  // Experts of a decode step of so many tokens, layers in ascending order within a step.
  void Use(int32_t moe_layer, std::span<const backend::WantedExpert> experts, int64_t tokens);

  double Rate(int32_t key) const;    // share of tokens that use it
  std::vector<double> Uses() const;  // of each key, but for a common factor
  // Keys of the experts with a rate above 0, at most so many, the hottest; ascending.
  std::vector<int32_t> Hottest(int64_t most) const;

  // Writes the file if anything was used since it was written last: what is only loaded and saved
  // would cool with every start. Never throws; the first failure is logged.
  void Save();

 private:
  void SaveLoop();
  std::vector<float> TakeRates();  // to be written

  const std::filesystem::path file_;
  const formats::ExpertSidecar& sidecar_;
  const CacheShape shape_;

  std::mutex saving_mutex_;   // one writer of the file at a time; taken before mutex_
  bool save_failed_ = false;  // and told; by saving_mutex_

  mutable std::mutex mutex_;  // of what follows
  DecayedFrequency frequency_;
  StepClock clock_;
  bool changed_ = false;  // since the file was written
  bool stop_ = false;
  std::condition_variable stopping_;

  std::thread saver_;
};

}  // namespace mach::experts
