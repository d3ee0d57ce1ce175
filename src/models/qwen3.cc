// qwen3 (dense): RMS norm of each query and key head, no biases, explicit head_dim.
#include "models/dense_decoder.h"
#include "models/families.h"

namespace mach::models {

std::unique_ptr<Model> BuildQwen3(const LoadContext& context) {
  const formats::ConfigReader& config = context.checkpoint.config();
  DenseConfig dense = ReadDenseConfig(context.checkpoint);
  dense.qk_norm = true;
  dense.qkv_bias = config.BoolOr("attention_bias", false);
  dense.o_bias = dense.qkv_bias;
  if (config.BoolOr("use_sliding_window", false)) {
    config.Fail("use_sliding_window", "false: sliding windows are not supported in this family");
  }
  return MakeDenseDecoder(context, std::move(dense));
}

}  // namespace mach::models
