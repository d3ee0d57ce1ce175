// qwen2: biases on q, k and v and nowhere else. Covers Qwen2 and Qwen2.5.
#include "models/dense_decoder.h"
#include "models/families.h"

namespace mach::models {

std::unique_ptr<Model> BuildQwen2(const LoadContext& context) {
  const formats::ConfigReader& config = context.checkpoint.config();
  DenseConfig dense = ReadDenseConfig(context.checkpoint);
  dense.qkv_bias = true;
  if (config.BoolOr("use_sliding_window", false)) {
    config.Fail("use_sliding_window", "false: sliding windows are not supported in this family");
  }
  return MakeDenseDecoder(context, std::move(dense));
}

}  // namespace mach::models
