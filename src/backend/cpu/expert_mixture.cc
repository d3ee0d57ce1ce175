#include "backend/cpu/expert_mixture.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "backend/cpu/linear_ops.h"
#include "base/check.h"

namespace mach::backend {
namespace {

using kernels::QuantizedRows;

// One use of an expert: the row, and the weight that its routing gives the expert.
struct Use {
  int32_t row;
  float weight;
};

// A wanted expert; those of a layer are in ascending order of id.
struct Expert {
  int32_t id = 0;
  int64_t first_use = 0;  // its uses are consecutive, rows ascending
  int64_t uses = 0;
  const float* result = nullptr;  // [uses, hidden] once it has been computed
};

// An expert of the batch at work.
struct Job {
  Expert* expert = nullptr;
  const std::byte* record = nullptr;
  int64_t first_row = 0;  // of the batch's rows
  float* result = nullptr;
};

PackedView View(const ExpertPart& part, const std::byte* record) {
  return {part.spec, record + part.offset_bytes};
}

// Rows of all experts of a batch together, for each thread: enough to share out evenly, few enough
// for what a batch makes to stay in the cache.
constexpr int64_t kBatchRowsPerThread = 128;

class Mixture {
 public:
  Mixture(CpuContext& context, const Tensor& x, const Routing& routing, const ExpertLayout& layout)
      : context_(context),
        x_(x),
        layout_(layout),
        hidden_(layout.down.spec.out_features),
        intermediate_(layout.down.spec.in_features),
        quantized_(context, x) {
    MACH_CHECK(layout.gate.spec.in_features == x.cols && layout.up.spec.in_features == x.cols);
    MACH_CHECK(layout.gate.spec.out_features == intermediate_ &&
               layout.up.spec.out_features == intermediate_);
    out_ = context.New(x.rows, hidden_);
    mark_ = context.arena.Mark();
    SortUses(routing);
  }

  Tensor Run(ExpertLease& lease) {
    Prepare();
    while (true) {
      context_.CheckCancelled();  // a lease that need not wait does not look
      const auto ready = lease.Next(context_.cancel);
      if (ready.empty()) {
        break;
      }
      Compute(ready);
    }
    MACH_CHECK(next_ == experts_.size());
    context_.arena.Release(mark_);
    return out_;
  }

 private:
  // Gives every expert its uses, in order of row: a counting sort.
  void SortUses(const Routing& routing) {
    MACH_CHECK(routing.ids.size() == static_cast<size_t>(x_.rows * routing.top_k));
    const int32_t most = routing.ids.empty() ? -1 : *std::ranges::max_element(routing.ids);
    std::vector<int64_t> ends(static_cast<size_t>(most) + 2, 0);
    for (const int32_t id : routing.ids) {
      ++ends[static_cast<size_t>(id) + 1];
    }
    for (size_t id = 0; id + 1 < ends.size(); ++id) {
      const int64_t uses = ends[id + 1];
      ends[id + 1] = ends[id] + uses;
      if (uses > 0) {
        experts_.push_back({.id = static_cast<int32_t>(id), .first_use = ends[id], .uses = uses});
      }
      most_uses_ = std::max(most_uses_, uses);
    }
    uses_.resize(routing.ids.size());
    size_t at = 0;
    for (int32_t row = 0; row < x_.rows; ++row) {
      for (int32_t rank = 0; rank < routing.top_k; ++rank, ++at) {
        int64_t& next = ends[static_cast<size_t>(routing.ids[at])];
        uses_[static_cast<size_t>(next++)] = {row, routing.weights[at]};
      }
    }
  }

  void Prepare() {
    context_.ForRows(
        out_, [&](int64_t row) { std::fill_n(Data(out_) + row * out_.cols, out_.cols, 0.0F); });
    for (const ExpertPart* part : {&layout_.gate, &layout_.up}) {
      if (part->spec.is_affine) {
        quantized_.Prepare(part->spec.scheme.group_size);
      }
    }
    const int64_t limit = BatchRows() - 1 + most_uses_;
    const int64_t rows = std::min(limit, static_cast<int64_t>(uses_.size()));
    gate_ = context_.New(rows, intermediate_);
    up_ = context_.New(rows, intermediate_);
    if (layout_.down.spec.is_affine) {
      hidden_codes_ = NewQuantizedRows(context_.arena, rows, intermediate_,
                                       layout_.down.spec.scheme.group_size);
    }
    // One row needs no gathering: it is its own matrix.
    if (x_.rows > 1) {
      GatherInto(layout_.gate.spec, rows, gate_input_);
      if (SameInput()) {
        up_input_ = gate_input_;
      } else {
        GatherInto(layout_.up.spec, rows, up_input_);
      }
    }
    result_ = context_.New(most_uses_, hidden_);
    scratch_.emplace(context_, most_uses_, std::max(x_.cols, intermediate_));
  }

  int64_t BatchRows() const { return kBatchRowsPerThread * context_.pool.threads(); }

  // The rows of x as gate or up take them, gathered: quantised or fp32.
  struct Input {
    QuantizedRows quantized;
    Tensor floats;
  };

  bool SameInput() const {
    const PackedSpec& gate = layout_.gate.spec;
    const PackedSpec& up = layout_.up.spec;
    return gate.is_affine == up.is_affine &&
           (!gate.is_affine || gate.scheme.group_size == up.scheme.group_size);
  }

  void GatherInto(const PackedSpec& spec, int64_t rows, Input& input) {
    if (spec.is_affine) {
      input.quantized = NewQuantizedRows(context_.arena, rows, x_.cols, spec.scheme.group_size);
    } else {
      input.floats = context_.New(rows, x_.cols);
    }
  }

  void Compute(std::span<const ReadyExpert> ready) {
    std::vector<ReadyExpert> sorted(ready.begin(), ready.end());
    std::ranges::sort(sorted, {}, &ReadyExpert::id);
    std::vector<Job> jobs;
    int64_t rows = 0;
    for (const ReadyExpert& one : sorted) {
      const auto found = std::ranges::lower_bound(experts_, one.id, {}, &Expert::id);
      if (found == experts_.end() || found->id != one.id) {
        continue;  // a lease may cover more than this routing
      }
      jobs.push_back({.expert = &*found, .record = one.record, .first_row = rows});
      rows += found->uses;
      if (rows >= BatchRows()) {
        RunBatch(jobs, rows);
        jobs.clear();
        rows = 0;
      }
    }
    if (!jobs.empty()) {
      RunBatch(jobs, rows);
    }
  }

  void RunBatch(std::span<Job> jobs, int64_t rows) {
    context_.CheckCancelled();
    if (x_.rows > 1) {
      context_.ForRows(rows, x_.cols / 16, [&](int64_t row) { Gather(jobs, row); });
    }
    // Experts whose turn comes within the batch share one place for their result: every thread adds
    // its columns before it goes on to the next.
    size_t turn = next_;
    for (Job& job : jobs) {
      const bool in_turn = turn < experts_.size() && &experts_[turn] == job.expert;
      job.result = in_turn ? Data(result_) : Data(context_.New(job.expert->uses, hidden_));
      job.expert->result = job.result;
      while (in_turn && turn < experts_.size() && experts_[turn].result != nullptr) {
        ++turn;
      }
    }
    RunUp(jobs, rows);
    RunDown(jobs);
    next_ = turn;
  }

  static const Job& JobOfRow(std::span<const Job> jobs, int64_t row) {
    return *(std::ranges::upper_bound(jobs, row, {}, &Job::first_row) - 1);
  }

  void Gather(std::span<const Job> jobs, int64_t to) {
    const Job& job = JobOfRow(jobs, to);
    const Use& use = uses_[static_cast<size_t>(job.expert->first_use + to - job.first_row)];
    GatherRow(layout_.gate.spec, use.row, to, gate_input_);
    if (!SameInput()) {
      GatherRow(layout_.up.spec, use.row, to, up_input_);
    }
  }

  void GatherRow(const PackedSpec& spec, int64_t from, int64_t to, const Input& input) {
    if (!spec.is_affine) {
      std::copy_n(Data(x_) + from * x_.cols, x_.cols, Data(input.floats) + to * x_.cols);
      return;
    }
    const QuantizedRows& all = quantized_.Get(spec.scheme.group_size);
    const int64_t groups = all.cols / all.group_size;
    std::copy_n(all.codes + from * all.cols, all.cols, input.quantized.codes + to * all.cols);
    std::copy_n(all.scales + from * groups, groups, input.quantized.scales + to * groups);
    std::copy_n(all.scaled_sums + from * groups, groups, input.quantized.scaled_sums + to * groups);
  }

  // Outputs of gate and up that a thread takes at a time: a group of the quantisation that follows.
  int64_t UnitOutputs() const {
    return layout_.down.spec.is_affine ? layout_.down.spec.scheme.group_size : kStripOutputs;
  }

  void RunUp(std::span<const Job> jobs, int64_t rows) {
    const int64_t unit = UnitOutputs();
    const int64_t units = (intermediate_ + unit - 1) / unit;
    // A unit costs a pass over its weights and the work of its rows.
    constexpr int64_t kPassCost = 4;
    const int64_t total = units * (rows + kPassCost * static_cast<int64_t>(jobs.size()));
    context_.pool.Run([&](int worker) {
      const int64_t team = context_.pool.threads();
      const int64_t begin = total * worker / team;
      const int64_t end = total * (worker + 1) / team;
      int64_t at = 0;
      for (const Job& job : jobs) {
        const int64_t cost = job.expert->uses + kPassCost;
        const int64_t first = std::clamp((begin - at + cost - 1) / cost, int64_t{0}, units);
        const int64_t last = std::clamp((end - at + cost - 1) / cost, int64_t{0}, units);
        if (first < last) {
          Up(job, first * unit, std::min(last * unit, intermediate_), worker);
        }
        at += units * cost;
      }
    });
  }

  // Outputs [begin, end) of gate and up of an expert, and what `down` takes of them.
  void Up(const Job& job, int64_t begin, int64_t end, int worker) {
    Project(View(layout_.gate, job.record), gate_input_, job, begin, end, gate_, worker);
    Project(View(layout_.up, job.record), up_input_, job, begin, end, up_, worker);
    for (int64_t row = job.first_row; row < job.first_row + job.expert->uses; ++row) {
      float* gate = Data(gate_) + row * intermediate_ + begin;
      context_.table.swiglu(gate, Data(up_) + row * intermediate_ + begin, end - begin, gate);
      if (layout_.down.spec.is_affine) {
        QuantizedRows part = RowsOf(hidden_codes_, row, 1);
        part.cols = end - begin;
        part.codes += begin;
        part.scales += begin / part.group_size;
        part.scaled_sums += begin / part.group_size;
        context_.table.quantize_rows(gate, intermediate_, 0, 1, part);
      }
    }
  }

  void Project(const PackedView& weight, const Input& input, const Job& job, int64_t begin,
               int64_t end, const Tensor& out, int worker) {
    const int64_t first_strip = begin / kStripOutputs;
    const int64_t last_strip = (end + kStripOutputs - 1) / kStripOutputs;
    const bool gathered = x_.rows > 1;
    const int64_t first_row = gathered ? job.first_row : 0;
    float* y = Data(out) + job.first_row * intermediate_;
    if (weight.spec.is_affine) {
      const QuantizedRows& rows =
          gathered ? input.quantized : quantized_.Get(weight.spec.scheme.group_size);
      context_.table.linear_affine(weight, RowsOf(rows, first_row, job.expert->uses), first_strip,
                                   last_strip, y, intermediate_, scratch_->Of(worker));
    } else {
      const float* rows = gathered ? Data(input.floats) : Data(x_);
      context_.table.linear_float(weight, rows + first_row * x_.cols, x_.cols, job.expert->uses,
                                  first_strip, last_strip, y, intermediate_);
    }
  }

  void RunDown(std::span<const Job> jobs) {
    const int64_t strips = layout_.down.spec.strips();
    context_.pool.ParallelFor(strips, 1, [&](int64_t begin, int64_t end, int worker) {
      const int64_t first = begin * kStripOutputs;
      const int64_t columns = std::min(end * kStripOutputs, hidden_) - first;
      size_t turn = next_;
      for (const Job& job : jobs) {
        Down(job, begin, end, worker);
        // Only up to this job: the results of later ones have their place but are not there yet.
        while (turn < experts_.size() && experts_[turn].result != nullptr &&
               experts_[turn].id <= job.expert->id) {
          AddResult(experts_[turn], first, columns);
          ++turn;
        }
      }
      // What was kept from earlier batches and now has its turn.
      while (turn < experts_.size() && experts_[turn].result != nullptr) {
        AddResult(experts_[turn], first, columns);
        ++turn;
      }
    });
  }

  void Down(const Job& job, int64_t begin, int64_t end, int worker) {
    const PackedView weight = View(layout_.down, job.record);
    if (weight.spec.is_affine) {
      context_.table.linear_affine(weight, RowsOf(hidden_codes_, job.first_row, job.expert->uses),
                                   begin, end, job.result, hidden_, scratch_->Of(worker));
    } else {
      context_.table.linear_float(weight, Data(gate_) + job.first_row * intermediate_,
                                  intermediate_, job.expert->uses, begin, end, job.result, hidden_);
    }
  }

  void AddResult(const Expert& expert, int64_t first, int64_t columns) {
    for (int64_t i = 0; i < expert.uses; ++i) {
      const Use& use = uses_[static_cast<size_t>(expert.first_use + i)];
      context_.table.add_scaled(Data(out_) + use.row * hidden_ + first,
                                expert.result + i * hidden_ + first, use.weight, columns);
    }
  }

  CpuContext& context_;
  Tensor x_;
  const ExpertLayout& layout_;
  int64_t hidden_;
  int64_t intermediate_;
  QuantizedInput quantized_;
  Tensor out_;
  uint64_t mark_ = 0;

  std::vector<Use> uses_;
  std::vector<Expert> experts_;
  int64_t most_uses_ = 0;
  size_t next_ = 0;  // the first expert that has not been added to the sum

  // Of a batch: a row for each use.
  Input gate_input_;
  Input up_input_;
  Tensor gate_;  // then silu(gate) * up
  Tensor up_;
  QuantizedRows hidden_codes_;
  Tensor result_;
  std::optional<LinearScratch> scratch_;  // made by Prepare
};

}  // namespace

Tensor MixExperts(CpuContext& context, const Tensor& x, const Routing& routing,
                  const ExpertLayout& layout, ExpertLease& lease) {
  return Mixture(context, x, routing, layout).Run(lease);
}

}  // namespace mach::backend
