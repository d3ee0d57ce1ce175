// The experts of a loaded model: a backend::ExpertSource with statistics and a life cycle.
//
// Two kinds: all experts resident, or a bounded bank over an expert sidecar. Acquire, Prefetch and
// leases belong to the inference thread; Stats may be called from any thread at any time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/experts.h"
#include "experts/routing_stats.h"
#include "experts/trace_writer.h"
#include "formats/expert_sidecar.h"
#include "platform/direct_reader.h"
#include "tensor/memory.h"

namespace mach::experts {

// Counters since loading. A hit is an expert that was in memory when a step asked for it. Steps
// that decode (ExpertUse::kDecode) ask the bank; those of streamed prefill leave it as it is, so
// they are counted apart and say nothing about how well it serves.
struct LayerStats {
  int32_t layer = 0;
  int64_t resident = 0;  // experts in the bank now
  int64_t hits = 0;      // of decoding
  int64_t misses = 0;
  int64_t prefill_hits = 0;
  int64_t prefill_misses = 0;

  void CountRequest(backend::ExpertUse use, bool hit) {
    const bool prefill = use != backend::ExpertUse::kDecode;
    ++(prefill ? (hit ? prefill_hits : prefill_misses) : (hit ? hits : misses));
  }
};

// The numbers of LayerStats are sums over the layers here.
struct ExpertStats {
  bool streaming = false;
  int64_t experts_resident = 0;
  int64_t capacity = 0;        // slots of the bank; all experts if resident
  int64_t arena_capacity = 0;  // slots that prefill streams through; 0: it does not
  int64_t hits = 0;            // of decoding
  int64_t misses = 0;
  int64_t prefill_hits = 0;
  int64_t prefill_misses = 0;
  int64_t evictions = 0;
  int64_t prefetches = 0;          // reads asked for on a guess, given up before they began or not
  int64_t prefetch_hits = 0;       // of them, wanted before they were evicted
  int64_t read_ahead_dropped = 0;  // prefill's reads for the next layer that it did not want
  uint64_t bytes_read = 0;         // from disk, guesses and prefill included
  double read_seconds = 0;         // time with at least one read in flight
  double stall_seconds = 0;        // time the inference thread waited for a record
  int64_t read_errors = 0;         // failed reads and checksums, retried or not
  int64_t records_checked = 0;     // of a sidecar, that were read and matched their checksum
  bool direct = false;             // reads bypass the page cache
  std::string io;                  // "io_uring", "pread", "none"
  std::string policy;              // "lru", "lfu", ...
  std::vector<LayerStats> per_layer;
  std::optional<RoutingSummary> routing;  // of an observed store

  void AddLayer(const LayerStats& layer) {
    hits += layer.hits;
    misses += layer.misses;
    prefill_hits += layer.prefill_hits;
    prefill_misses += layer.prefill_misses;
    per_layer.push_back(layer);
  }
};

class ExpertStore : public backend::ExpertSource {
 public:
  virtual ExpertStats Stats() const = 0;
  // What lies in the bank, as a picture: for each MoE layer a hexadecimal digit for each expert. 0
  // is not in it; 1 to f is, by how often it was used lately: f as often as any, one less is 0.7
  // times as often. Empty where all are resident.
  virtual std::vector<std::string> Map() const { return {}; }
  // Writes what a restart needs to be warm. Does nothing for resident experts. Never throws; a
  // failure is logged.
  virtual void SaveHeat() = 0;
};

// What the user may choose, and below it what follows from the checkpoint.
struct StreamOptions {
  // Of the decode bank. At least one layer's top_k records, or kInvalidArgument says how much.
  uint64_t bank_bytes = 0;
  uint64_t arena_bytes = 0;  // of the transient prefill arena, see ArenaRecords; 0 = its default
  std::string policy = "next_use";  // CachePolicyNames names the choices
  bool prefetch = false;
  ReadOptions read;

  int32_t top_k = 0;                // experts that one token uses in a layer
  std::filesystem::path heat_file;  // empty: nothing is loaded or saved
  OpenReader open_reader = OpenDirectReader;
};

// What a streamed store takes from the budget: slots of the bank ("expert_bank") and of the arena
// ("expert_arena"), each of layout.record_bytes. The bank never has more slots than there are
// experts; the arena has a sixteenth of that unless told, between a quarter of a layer and one
// layer, and never less than 4. Throw kInvalidArgument.
int64_t BankRecords(const formats::ExpertSidecar& sidecar, const StreamOptions& options);
int64_t ArenaRecords(const formats::ExpertSidecar& sidecar, const StreamOptions& options);

// Opens the sidecar's files, probes a read, allocates the bank, and loads the hottest experts that
// `heat_file` names; one that cannot be had is an error. `progress` (may be empty) gets the bytes
// read so far. Throws mach::Error naming the file and the cure.
std::unique_ptr<ExpertStore> MakeStreamedStore(const formats::ExpertSidecar& sidecar,
                                               const StreamOptions& options, MemoryBudget& budget,
                                               const std::function<void(uint64_t)>& progress);

// Fills one record; called from several threads for different experts.
using RecordWriter =
    std::function<void(int32_t layer, int32_t expert, std::span<std::byte> record)>;

// All records in memory. `moe_layers` are the layers that have experts; `threads` call `write`.
std::unique_ptr<ExpertStore> MakeResidentStore(const ExpertLayout& layout, int32_t layers,
                                               const std::vector<int32_t>& moe_layers,
                                               int32_t experts, int threads, MemoryBudget& budget,
                                               const RecordWriter& write);

// The records of a sidecar, read and checked; past the page cache, or through it with a warning
// where the file system refuses that: they are read once, so nothing is slower afterwards.
// `progress` (may be empty) gets the bytes read so far.
std::unique_ptr<ExpertStore> MakeResidentStore(const formats::ExpertSidecar& sidecar,
                                               MemoryBudget& budget,
                                               const std::function<void(uint64_t)>& progress,
                                               const OpenReader& open_reader = OpenDirectReader);

// The same store, but its routing is counted, and recorded if there is a trace: decode steps only.
// `moe_layers` are the layers that have experts.
std::unique_ptr<ExpertStore> MakeObservedStore(std::unique_ptr<ExpertStore> store,
                                               const std::vector<int32_t>& moe_layers,
                                               std::optional<TraceWriter> trace);

}  // namespace mach::experts
