// Where the experts of a Mixture-of-Experts checkpoint lie in its safetensors: the layouts of
// Hugging Face and MLX behind one interface. Knows names and shapes, no arithmetic.
//   MLX: P.switch_mlp.{gate,up,down}_proj, each [experts, out, in], float or affine
//   Hugging Face, fused: P.experts.gate_up_proj (gate rows before up rows) and P.experts.down_proj
//   Hugging Face, split: P.experts.E.{gate,up,down}_proj.weight, one matrix for each expert E
// with P = "<prefix>layers.N.mlp".
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "formats/checkpoint.h"
#include "tensor/expert_layout.h"

namespace mach::formats {

struct ExpertShape {
  int32_t experts = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
};

// The three matrices of one expert, quantised or float.
struct ExpertMatrices {
  LinearSource gate;  // [intermediate, hidden]
  LinearSource up;    // [intermediate, hidden]
  LinearSource down;  // [hidden, intermediate]
};

enum class ExpertMatrix { kGate, kUp, kDown };

class ExpertTensors {
 public:
  // `mlp_module` is P. Nothing if the layer has no expert tensors there. Throws kCorruptFile naming
  // tensor and shapes if they contradict `shape`, kUnsupported if its experts are not all of one
  // type and quantisation. `checkpoint` must outlive the result.
  static std::optional<ExpertTensors> Find(const Checkpoint& checkpoint,
                                           const std::string& mlp_module, const ExpertShape& shape);

  // [out, in] of one expert; a view into the mapped checkpoint.
  LinearSource Matrix(int32_t expert, ExpertMatrix matrix) const;

  ExpertMatrices Source(int32_t expert) const;

  // Whether a tensor is one of these, part of a matrix of some expert.
  bool Owns(const std::string& tensor_name) const;

  // The record layout that these tensors pack to without loss.
  ExpertLayout Layout() const;

 private:
  enum class Naming { kStacked, kFused, kSplit };
  ExpertTensors(const Checkpoint& checkpoint, std::string module, ExpertShape shape, Naming naming);

  const Checkpoint* checkpoint_;
  std::string module_;
  ExpertShape shape_;
  Naming naming_;
};

}  // namespace mach::formats
