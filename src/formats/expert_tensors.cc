#include "formats/expert_tensors.h"

#include <algorithm>
#include <charconv>
#include <utility>
#include <vector>

#include "base/error.h"
#include "formats/pack_expert.h"

namespace mach::formats {
namespace {

constexpr const char* kMatrixNames[] = {"gate_proj", "up_proj", "down_proj"};

std::string NameOf(ExpertMatrix matrix) {
  return kMatrixNames[static_cast<size_t>(matrix)];
}

// Rows [first, first + rows) of slice `index` of a [slices, all_rows, in] tensor.
TensorView RowsOf(const TensorView& tensor, int64_t index, int64_t first, int64_t rows) {
  const int64_t all_rows = tensor.shape[1];
  const int64_t in = tensor.shape[2];
  const size_t row_bytes = static_cast<size_t>(in) * DTypeBytes(tensor.dtype);
  return {tensor.dtype, Shape{rows, in},
          tensor.bytes.subspan(static_cast<size_t>(index * all_rows + first) * row_bytes,
                               static_cast<size_t>(rows) * row_bytes)};
}

}  // namespace

ExpertTensors::ExpertTensors(const Checkpoint& checkpoint, std::string module, ExpertShape shape,
                             Naming naming)
    : checkpoint_(&checkpoint), module_(std::move(module)), shape_(shape), naming_(naming) {}

std::optional<ExpertTensors> ExpertTensors::Find(const Checkpoint& checkpoint,
                                                 const std::string& mlp_module,
                                                 const ExpertShape& shape) {
  const std::vector<std::pair<std::string, Naming>> signs = {
      {mlp_module + ".switch_mlp.gate_proj.weight", Naming::kStacked},
      {mlp_module + ".experts.gate_up_proj", Naming::kFused},
      {mlp_module + ".experts.0.gate_proj.weight", Naming::kSplit}};
  std::optional<ExpertTensors> found;
  std::string found_by;
  for (const auto& [name, naming] : signs) {
    if (!checkpoint.Has(name)) {
      continue;
    }
    if (found) {
      throw Error(ErrorCode::kCorruptFile, "the experts of " + mlp_module + " are there twice: " +
                                               found_by + " in " + checkpoint.FileOf(found_by) +
                                               " and " + name + " in " + checkpoint.FileOf(name));
    }
    found = ExpertTensors(checkpoint, mlp_module, shape, naming);
    found_by = name;
  }
  if (!found) {
    return std::nullopt;
  }
  // Stacked tensors are checked whole with any of their experts.
  const int32_t to_check = found->naming_ == Naming::kSplit ? shape.experts : 1;
  const ExpertLayout layout = found->Layout();
  for (int32_t expert = 1; expert < to_check; ++expert) {
    const ExpertMatrices source = found->Source(expert);
    if (LayoutOf(source) != layout) {
      throw Error(ErrorCode::kUnsupported,
                  checkpoint.dir().string() + ": " + source.gate.module +
                      " and its up_proj and down_proj have other types or another "
                      "quantisation than expert 0 of " +
                      mlp_module);
    }
  }
  return found;
}

LinearSource ExpertTensors::Matrix(int32_t expert, ExpertMatrix matrix) const {
  const bool down = matrix == ExpertMatrix::kDown;
  const int64_t out = down ? shape_.hidden_size : shape_.intermediate_size;
  const int64_t in = down ? shape_.intermediate_size : shape_.hidden_size;
  const std::string name = NameOf(matrix);
  if (naming_ == Naming::kStacked) {
    return checkpoint_->ExpertLinear(module_ + ".switch_mlp." + name, shape_.experts, expert, out,
                                     in);
  }
  if (naming_ == Naming::kSplit) {
    return checkpoint_->Linear(module_ + ".experts." + std::to_string(expert) + "." + name, out,
                               in);
  }
  const std::string tensor_name = module_ + (down ? ".experts.down_proj" : ".experts.gate_up_proj");
  const TensorView tensor =
      checkpoint_->RequireFloat(tensor_name, Shape{shape_.experts, down ? out : 2 * out, in});
  LinearSource source;
  source.module = tensor_name + "[" + std::to_string(expert) + "]";
  source.out_features = out;
  source.in_features = in;
  source.weight = RowsOf(tensor, expert, matrix == ExpertMatrix::kUp ? out : 0, out);
  return source;
}

ExpertMatrices ExpertTensors::Source(int32_t expert) const {
  return {Matrix(expert, ExpertMatrix::kGate), Matrix(expert, ExpertMatrix::kUp),
          Matrix(expert, ExpertMatrix::kDown)};
}

bool ExpertTensors::Owns(const std::string& tensor_name) const {
  const std::string experts = module_ + ".experts.";
  if (naming_ == Naming::kFused) {
    return tensor_name == experts + "gate_up_proj" || tensor_name == experts + "down_proj";
  }
  std::string start = module_ + ".switch_mlp.";
  if (naming_ == Naming::kSplit) {
    int32_t expert = -1;
    const char* end = tensor_name.data() + tensor_name.size();
    std::from_chars(tensor_name.data() + std::min(experts.size(), tensor_name.size()), end, expert);
    if (expert < 0 || expert >= shape_.experts) {
      return false;
    }
    start = experts + std::to_string(expert) + ".";
  }
  for (const char* matrix : kMatrixNames) {
    for (const char* part : {".weight", ".scales", ".biases"}) {
      if (tensor_name == start + matrix + part) {
        return true;
      }
    }
  }
  return false;
}

ExpertLayout ExpertTensors::Layout() const {
  return LayoutOf(Source(0));
}

}  // namespace mach::formats
