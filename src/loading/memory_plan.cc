#include "loading/memory_plan.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "backend/dry_backend.h"
#include "base/error.h"
#include "grammar/grammar.h"
#include "models/loader.h"

namespace mach::loading {
namespace {

constexpr int64_t kMinChunk = 512;
constexpr int64_t kMaxChunk = 8192;
constexpr int64_t kUsualChunk = 2048;
constexpr int64_t kUsualContext = 32768;
constexpr int64_t kContextStep = 256;  // what a context that was chosen is a multiple of

// The program, its libraries and threads, and what a tokenizer becomes for each byte of its
// tokenizer.json; measured on builds of the preset release.
constexpr uint64_t kProcessBytes = 24ULL << 20;
constexpr double kTokenizerFactor = 3.0;

// What the bodies and answers of a server's requests get at least, of all memory.
constexpr uint64_t kRequestShare = 64;
constexpr uint64_t kLeastRequestBytes = 8ULL << 20;
constexpr uint64_t kMostRequestBytes = 256ULL << 20;

uint64_t ProcessBytes(const formats::Checkpoint& checkpoint) {
  std::error_code error;
  const auto tokenizer_bytes =
      std::filesystem::file_size(checkpoint.dir() / "tokenizer.json", error);
  return kProcessBytes +
         (error ? 0
                : static_cast<uint64_t>(static_cast<double>(tokenizer_bytes) * kTokenizerFactor));
}

int64_t ContextLimit(int64_t wanted, int64_t limit) {
  if (wanted > limit) {
    throw Error(ErrorCode::kInvalidArgument, "--max-context " + std::to_string(wanted) +
                                                 " is more than the model's own limit of " +
                                                 std::to_string(limit) + " tokens");
  }
  return wanted > 0 ? wanted : limit;
}

// The model on the dry backend.
class DryModel {
 public:
  DryModel(const formats::Checkpoint& checkpoint, const std::optional<ExpertInventory>& inventory,
           const ModelOptions& options)
      : requests_(options.engine.limits.max_requests),
        batch_(options.engine.limits.max_batch),
        decode_rows_(1 + options.engine.most_drafts),
        streamed_(options.residency == Residency::kStreaming),
        backend_(backend::MakeDryBackend(budget_, options.cpu)) {
    if (inventory) {
      experts_ =
          backend::MakeDryExperts(inventory->layout, inventory->moe.layers, inventory->experts());
    }
    model_ = models::BuildModel({.checkpoint = checkpoint,
                                 .backend = backend_,
                                 .experts = experts_.get(),
                                 .on_bytes = [this](uint64_t bytes) { weight_bytes_ += bytes; }});
  }

  const models::ModelShape& shape() const { return model_->shape(); }
  uint64_t weight_bytes() const { return weight_bytes_; }

  // Bytes by owner with as many sequences of `context` tokens as may prefill or decode, whose last
  // step has `rows` of them, and with what requests for several choices need beside that: the
  // prompt waits while a fork of it goes on.
  std::map<std::string, uint64_t> Bytes(int64_t context, int64_t rows) {
    std::vector<std::unique_ptr<state::SequenceState>> states;
    for (int32_t i = 0; i < std::max(requests_, batch_); ++i) {
      states.push_back(model_->NewSequence());
      const backend::StepScope scope(*backend_);
      RunToEnd(*BeginChunk(*states.back(), rows));
    }
    std::vector<std::unique_ptr<state::SequenceState>> decoding;
    decoding.reserve(static_cast<size_t>(std::min(requests_, batch_)));
    for (int32_t i = 0; i < std::min(requests_, batch_); ++i) {
      decoding.push_back(states[static_cast<size_t>(i)]->Fork());
    }
    // More choices than requests.
    for (int32_t i = requests_; i < batch_; ++i) {
      PrepareDecoding(*states[static_cast<size_t>(i)]);
    }
    for (const auto& fork : decoding) {
      PrepareDecoding(*fork);
    }
    for (const auto& state : states) {
      state->kv().Reserve(state->length(), context);
    }
    return budget_.BytesByOwner();
  }

  // The most activations of a chunk of `rows` tokens, and of the steps of decoding that run between
  // its layers where another request may have sequences by then.
  uint64_t ActivationBytes(int64_t rows) {
    backend_->TakePeakActivationBytes();
    {
      const auto state = model_->NewSequence();
      const backend::StepScope scope(*backend_);
      const auto chunk = BeginChunk(*state, rows);
      chunk->RunLayer();
      if (requests_ > 1) {
        DecodingStep();  // the same is alive between any two layers
      }
      RunToEnd(*chunk);
    }
    DecodingStep();
    const uint64_t peak = backend_->TakePeakActivationBytes();
    return requests_ > 1 && streamed_ ? peak + EarlyResultBytes() : peak;
  }

 private:
  // Of a prompt. The caller holds a StepScope.
  std::unique_ptr<models::StepRun> BeginChunk(state::SequenceState& state, int64_t rows) {
    const std::vector<int32_t> tokens(static_cast<size_t>(rows), 0);
    const models::SequenceRows chunk{.state = &state, .tokens = tokens, .logit_rows = 1};
    state.Prepare(rows, /*record=*/false);
    return model_->Begin({.batch = std::span(&chunk, 1)});
  }

  static void RunToEnd(models::StepRun& step) {
    while (step.RunLayer()) {
    }
    step.Finish();
  }

  void PrepareDecoding(state::SequenceState& state) const {
    state.Prepare(decode_rows_, /*record=*/decode_rows_ > 1);
  }

  // Of as many sequences as decode together, each with its drafts.
  void DecodingStep() {
    std::vector<std::unique_ptr<state::SequenceState>> states;
    const std::vector<int32_t> tokens(static_cast<size_t>(decode_rows_), 0);
    std::vector<models::SequenceRows> batch;
    for (int32_t i = 0; i < batch_; ++i) {
      states.push_back(model_->NewSequence());
      PrepareDecoding(*states.back());
      batch.push_back({.state = states.back().get(), .tokens = tokens, .logit_rows = decode_rows_});
    }
    const backend::StepScope scope(*backend_);
    model_->Forward({.batch = batch});
  }

  // Results in a step of decoding of experts that come before their turn. In a chunk the supposed
  // expert that gets all rows leaves room for them.
  uint64_t EarlyResultBytes() const {
    return static_cast<uint64_t>(batch_ * decode_rows_ * shape().experts_per_token *
                                 shape().hidden_size) *
           sizeof(float);
  }

  const int32_t requests_;
  const int32_t batch_;
  const int64_t decode_rows_;  // of a sequence in a step
  const bool streamed_;
  MemoryBudget budget_ = MemoryBudget::Dry();
  std::shared_ptr<backend::Backend> backend_;
  std::unique_ptr<backend::ExpertSource> experts_;
  uint64_t weight_bytes_ = 0;
  std::unique_ptr<models::Model> model_;
};

uint64_t Sum(const std::map<std::string, uint64_t>& bytes) {
  uint64_t sum = 0;
  for (const auto& [owner, value] : bytes) {
    sum += value;
  }
  return sum;
}

class Planner {
 public:
  Planner(const formats::Checkpoint& checkpoint, const std::optional<ExpertInventory>& inventory,
          const ModelOptions& options, uint64_t available_bytes)
      : inventory_(inventory),
        asked_(options),
        available_bytes_(available_bytes),
        process_bytes_(ProcessBytes(checkpoint)),
        model_(checkpoint, inventory, options) {
    plan_.options = options;
  }

  MemoryPlan Run() {
    plan_.weight_bytes = model_.weight_bytes();
    plan_.model_context = model_.shape().max_context;
    int64_t& max_context = plan_.options.engine.max_context;
    max_context = ContextLimit(asked_.engine.max_context, plan_.model_context);
    plan_.context =
        asked_.engine.max_context > 0 ? max_context : std::min(max_context, kUsualContext);
    SetLimits();
    if (inventory_ && asked_.residency == Residency::kStreaming) {
      CompleteStreaming(*inventory_, plan_.options);
      SizeBank();
      SizeArena();
    } else {
      streaming_.bank_bytes = 0;
    }
    SizeChunk();
    plan_.total_bytes = Sum(plan_.bytes);
    plan_.least_bytes = TotalWithContext(std::min(plan_.context, kLeastContext));
    if (asked_.engine.max_context == 0 && plan_.limit_bytes > 0) {
      LimitContext();
    }
    if (asked_.serves && plan_.limit_bytes > 0) {
      plan_.request_bytes = plan_.Of("requests") + Left();
    }
    return plan_;
  }

 private:
  // A machine's memory is not used to the last byte; a ceiling is.
  void SetLimits() {
    plan_.limit_bytes = available_bytes_;
    plan_.target_bytes = available_bytes_ - available_bytes_ / 10;
    if (asked_.ceiling_bytes > 0) {
      const bool known = available_bytes_ > 0;
      const auto cap = [&](uint64_t& bytes) {
        bytes = known ? std::min(bytes, asked_.ceiling_bytes) : asked_.ceiling_bytes;
      };
      cap(plan_.limit_bytes);
      cap(plan_.target_bytes);
    }
  }

  int64_t UsualChunk() const {
    return asked_.engine.prefill_chunk > 0 ? asked_.engine.prefill_chunk : kUsualChunk;
  }

  // Chunks longer than the context are never seen.
  int64_t Rows(int64_t chunk) const { return std::min(chunk, plan_.context); }

  std::map<std::string, uint64_t> BytesWithChunk(int64_t chunk) {
    auto bytes = model_.Bytes(plan_.context, Rows(chunk));
    bytes["activations"] = Buffer::BookedBytes(model_.ActivationBytes(Rows(chunk)));
    bytes["process"] = process_bytes_;
    if (asked_.serves) {
      bytes["requests"] =
          std::clamp(plan_.limit_bytes / kRequestShare, kLeastRequestBytes, kMostRequestBytes);
      bytes["grammars"] = grammar::CompilerBytes(model_.shape().vocab_size);
    }
    if (inventory_) {
      bytes.merge(ExpertBytes(*inventory_, plan_.options));
    }
    return bytes;
  }

  void SizeBank() {
    if (streaming_.bank_bytes > 0) {
      streaming_.bank_bytes = WholeRecords();
      return;
    }
    streaming_.bank_bytes = LeastBank();
    for (int64_t chunk = UsualChunk();; chunk /= 2) {
      const auto bytes = BytesWithChunk(chunk);
      const uint64_t others = Sum(bytes) - bytes.at("expert_bank") - bytes.at("expert_arena");
      const uint64_t room = plan_.target_bytes > others ? plan_.target_bytes - others : 0;
      const bool last = asked_.engine.prefill_chunk > 0 || chunk <= kMinChunk;
      if (last || room >= bytes.at("activations")) {
        streaming_.bank_bytes = BankWithin(room);
        return;
      }
    }
  }

  // With room for a layer, prefill waits for nothing but the disk. Taken where memory is left
  // beside a chunk of the usual size; else the bank's size decides.
  void SizeArena() {
    const uint64_t layer =
        static_cast<uint64_t>(inventory_->experts()) * inventory_->layout.record_bytes;
    const auto bytes = BytesWithChunk(UsualChunk());
    const uint64_t others = Sum(bytes) - bytes.at("expert_arena");
    if (bytes.at("expert_arena") < layer &&
        others + Buffer::BookedBytes(layer) <= plan_.target_bytes) {
      streaming_.arena_bytes = layer;
    }
  }

  // What a store makes of the bank's size. Throws kInvalidArgument if that is too little.
  uint64_t WholeRecords() const {
    return static_cast<uint64_t>(experts::BankRecords(*inventory_->sidecar, streaming_)) *
           inventory_->layout.record_bytes;
  }

  uint64_t LeastBank() const {
    return static_cast<uint64_t>(inventory_->top_k) * inventory_->layout.record_bytes;
  }

  // The most records that fit into `room` with the arena beside them; LeastBank() in any case.
  uint64_t BankWithin(uint64_t room) const {
    const uint64_t record = inventory_->layout.record_bytes;
    uint64_t least = LeastBank() / record;
    uint64_t most = std::max(least, std::min(room, inventory_->TotalBytes()) / record);
    ModelOptions options = plan_.options;
    while (least < most) {
      const uint64_t half = (least + most + 1) / 2;
      options.streaming.bank_bytes = half * record;
      if (Sum(ExpertBytes(*inventory_, options)) <= room) {
        least = half;
      } else {
        most = half - 1;
      }
    }
    return least * record;
  }

  void SizeChunk() {
    int64_t& planned = plan_.options.engine.prefill_chunk;
    planned = asked_.engine.prefill_chunk > 0 ? asked_.engine.prefill_chunk : kMinChunk;
    plan_.bytes = BytesWithChunk(planned);
    if (inventory_ && asked_.engine.prefill_chunk == 0) {
      // Until a chunk holds the whole context or no longer fits.
      for (int64_t chunk = 2 * kMinChunk; chunk <= kMaxChunk && chunk / 2 < plan_.context;
           chunk *= 2) {
        auto bytes = BytesWithChunk(chunk);
        if (Sum(bytes) > plan_.target_bytes) {
          break;
        }
        planned = chunk;
        plan_.bytes = std::move(bytes);
      }
    }
    plan_.activation_bytes = model_.ActivationBytes(Rows(planned));
  }

  // No request is let in that memory has no room for: it would end in the middle, or the process
  // would.
  void LimitContext() {
    const int64_t own = plan_.max_context();
    const auto per_token = static_cast<double>(plan_.Of("kv")) / static_cast<double>(plan_.context);
    const double room =
        static_cast<double>(plan_.limit_bytes) - static_cast<double>(plan_.total_bytes);
    const double more = per_token > 0 ? room / per_token : 0;
    if (static_cast<double>(plan_.context) + more >= static_cast<double>(own)) {
      return;
    }
    int64_t context = plan_.context + static_cast<int64_t>(more);
    context -= context % kContextStep;
    // Keys and values are booked in blocks, which the rate above spreads evenly.
    while (context > kLeastContext && TotalWithContext(context) > plan_.limit_bytes) {
      context -= kContextStep;
    }
    plan_.options.engine.max_context = std::min(own, std::max(context, kLeastContext));
  }

  // Of what was planned for, beside the longest request.
  uint64_t Left() {
    const uint64_t taken = TotalWithContext(std::max(plan_.context, plan_.max_context()));
    return plan_.target_bytes > taken ? plan_.target_bytes - taken : 0;
  }

  uint64_t TotalWithContext(int64_t context) {
    const uint64_t kv = model_.Bytes(context, 1)["kv"];
    return plan_.total_bytes - plan_.Of("kv") + kv;
  }

  const std::optional<ExpertInventory>& inventory_;
  const ModelOptions& asked_;
  const uint64_t available_bytes_;
  const uint64_t process_bytes_;
  DryModel model_;
  MemoryPlan plan_;
  experts::StreamOptions& streaming_ = plan_.options.streaming;
};

}  // namespace

Verdict MemoryPlan::Judge() const {
  if (limit_bytes == 0 || total_bytes <= target_bytes) {
    return Verdict::kFits;
  }
  return total_bytes <= limit_bytes ? Verdict::kTight : Verdict::kWontFit;
}

MemoryPlan PlanMemory(const formats::Checkpoint& checkpoint,
                      const std::optional<ExpertInventory>& inventory, const ModelOptions& options,
                      uint64_t available_bytes) {
  return Planner(checkpoint, inventory, options, available_bytes).Run();
}

}  // namespace mach::loading
