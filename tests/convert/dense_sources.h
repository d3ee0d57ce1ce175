// Sources of dense models for tests of the converter.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "convert/convert.h"
#include "tensor/half.h"
#include "tests/formats/test_files.h"

namespace mach::convert {

inline ConvertOptions OptionsFor(const std::filesystem::path& source,
                                 const std::filesystem::path& out) {
  ConvertOptions options;
  options.source = source;
  options.out = out;
  options.threads = 2;
  return options;
}

// A directory as Hugging Face has them, of two layers' worth of odds and ends.
inline std::filesystem::path WriteHfModel(const formats::ScratchDir& dir, const std::string& at) {
  std::vector<uint16_t> values(64 * 128);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = FloatToBf16(static_cast<float>(i % 97) * 0.01F - 0.4F);
  }
  const std::string matrix = formats::BytesOf(values);
  dir.Write(at + "/config.json",
            R"({"model_type":"llama","tie_word_embeddings":true,"hidden_size":128})");
  dir.Write(at + "/tokenizer.json", "{}");
  dir.Write(at + "/notes.md", "not carried");
  dir.Write(
      at + "/model.safetensors",
      formats::MakeSafetensors({{"lm_head.weight", "BF16", {64, 128}, matrix},
                                {"model.embed_tokens.weight", "BF16", {64, 128}, matrix},
                                {"model.layers.0.mlp.up_proj.weight", "BF16", {64, 128}, matrix},
                                {"model.norm.weight", "BF16", {128}, std::string(256, '\1')},
                                {"odd.weight", "BF16", {2, 3}, "abcdefghijkl"}}));
  return dir.path() / at;
}
}  // namespace mach::convert
