#include "models/weight_loader.h"

#include <vector>

#include "base/error.h"

namespace mach::models {

std::unique_ptr<backend::LinearWeight> WeightLoader::Linear(const std::string& module, int64_t out,
                                                            int64_t in, bool bias, Use use) {
  const formats::LinearSource source = context_.checkpoint.Linear(module, out, in);
  if (bias != source.bias.has_value()) {
    throw Error(ErrorCode::kCorruptFile,
                context_.checkpoint.dir().string() + ": tensor " + module + ".bias is " +
                    (bias ? "missing, but config.json asks for it"
                          : "there, but config.json says that there is none"));
  }
  auto weight = backend().LoadLinear({.out_features = out,
                                      .in_features = in,
                                      .affine = source.affine,
                                      .dense = source.weight,
                                      .bias = source.bias},
                                     "weights");
  context_.checkpoint.Drop(source);
  if (use == Use::kEveryToken) {
    active_bytes_ += weight->bytes();
  }
  if (context_.on_bytes) {
    context_.on_bytes(weight->bytes());
  }
  return weight;
}

std::unique_ptr<backend::VectorWeight> WeightLoader::Norm(const std::string& module, int64_t size) {
  const TensorView stored = context_.checkpoint.RequireFloat(module + ".weight", Shape{size});
  if (!zero_centred_norms_) {
    return backend().LoadVector(stored);
  }
  std::vector<float> gain(static_cast<size_t>(size));
  for (size_t i = 0; i < gain.size(); ++i) {
    gain[i] = 1.0F + FloatElement(stored, static_cast<int64_t>(i));
  }
  return backend().LoadVector({DType::kF32, Shape{size}, std::as_bytes(std::span(gain))});
}

std::unique_ptr<backend::VectorWeight> WeightLoader::Vector(const std::string& name,
                                                            const Shape& shape) {
  return backend().LoadVector(context_.checkpoint.RequireFloat(name, shape));
}

std::unique_ptr<backend::VectorWeight> WeightLoader::DepthwiseConv(const std::string& module,
                                                                   int64_t channels, int64_t taps) {
  const std::string name = module + ".weight";
  const std::optional<TensorView> found = context_.checkpoint.FindTensor(name);
  const bool taps_last = found && found->shape == Shape{channels, 1, taps};
  const TensorView stored = context_.checkpoint.RequireFloat(
      name, taps_last ? Shape{channels, 1, taps} : Shape{channels, taps, 1});
  std::vector<float> transposed(static_cast<size_t>(taps * channels));
  for (int64_t channel = 0; channel < channels; ++channel) {
    for (int64_t tap = 0; tap < taps; ++tap) {
      transposed[static_cast<size_t>(tap * channels + channel)] =
          FloatElement(stored, channel * taps + tap);
    }
  }
  return backend().LoadVector(
      {DType::kF32, Shape{taps, channels}, std::as_bytes(std::span(transposed))});
}

}  // namespace mach::models
