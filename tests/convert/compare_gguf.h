// Whether a converted checkpoint holds what its GGUF file did.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "formats/checkpoint.h"
#include "formats/gguf.h"
#include "formats/gguf_model.h"

namespace mach::convert {

// Row `row` of a linear layer or a float tensor, as the engine would read it.
inline void ReadRowOf(const formats::Checkpoint& checkpoint, const std::string& name, int64_t row,
                      std::span<float> out) {
  const auto tensor = checkpoint.FindTensor(name);
  ASSERT_TRUE(tensor.has_value()) << name;
  const auto in = static_cast<int64_t>(out.size());
  if (tensor->dtype == DType::kU32) {
    const std::string module = name.substr(0, name.size() - 7);
    const formats::LinearSource source = checkpoint.Linear(module, tensor->shape[0], in);
    ASSERT_TRUE(source.affine.has_value());
    DequantizeAffineRow(*source.affine, row, out);
    return;
  }
  for (int64_t i = 0; i < in; ++i) {
    out[static_cast<size_t>(i)] = FloatElement(*tensor, row * in + i);
  }
}

// How many values of the converted checkpoint differ from what the GGUF file decodes to. The
// permutation is written out here anew: head h keeps its rows, row (half a, pair i) comes from
// row 2i + a.
inline int64_t Differences(const formats::GgufFile& gguf, const formats::Checkpoint& checkpoint,
                           int64_t* compared) {
  const formats::GgufModel model = formats::DescribeGgufModel(gguf);
  const bool llama = *gguf.String("general.architecture") == "llama";
  int64_t differences = 0;
  for (const formats::GgufModelTensor& item : model.tensors) {
    const formats::GgufTensor& tensor = *item.tensor;
    const bool vector = tensor.shape.rank() == 1;
    const bool permuted = llama && (item.name.find("q_proj") != std::string::npos ||
                                    item.name.find("k_proj") != std::string::npos);
    const int64_t head = model.config["head_dim"].get<int64_t>();
    const int64_t rows = vector ? tensor.shape[0] : tensor.Rows();
    std::vector<float> all(static_cast<size_t>(tensor.shape.Elements()));
    formats::DequantizeGgml(*tensor.info, tensor.bytes, all);
    const size_t width = all.size() / static_cast<size_t>(rows);
    std::vector<float> found(width);
    for (int64_t row = 0; row < rows; ++row) {
      int64_t from = row;
      if (permuted) {
        const int64_t a = row % head / (head / 2);
        const int64_t i = row % (head / 2);
        from = row / head * head + 2 * i + a;
      }
      ReadRowOf(checkpoint, item.name, row, found);
      for (size_t i = 0; i < width; ++i) {
        differences += found[i] == all[static_cast<size_t>(from) * width + i] ? 0 : 1;
        ++*compared;
      }
    }
  }
  return differences;
}

}  // namespace mach::convert
