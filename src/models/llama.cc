// llama: Llama 1 to 3, SmolLM2, Mistral-shaped exports of the same model_type.
#include "models/dense_decoder.h"
#include "models/families.h"

namespace mach::models {

std::unique_ptr<Model> BuildLlama(const LoadContext& context) {
  const formats::ConfigReader& config = context.checkpoint.config();
  DenseConfig dense = ReadDenseConfig(context.checkpoint);
  dense.qkv_bias = config.BoolOr("attention_bias", false);
  dense.o_bias = dense.qkv_bias;
  dense.mlp_bias = config.BoolOr("mlp_bias", false);
  return MakeDenseDecoder(context, std::move(dense));
}

}  // namespace mach::models
