// Any bytes as a GGUF file: reading, decoding, the model's description and the tokenizer give an
// Error or a result.
#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "formats/gguf.h"
#include "formats/gguf_model.h"
#include "formats/gguf_tokenizer.h"
#include "tests/support/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace formats = mach::formats;
  try {
    const auto file = formats::GgufFile::Open(mach::testing_support::OpenMemoryFile(
        "fuzz", std::string(reinterpret_cast<const char*>(data), size)));
    for (const formats::GgufTensor& tensor : file->tensors()) {
      if (tensor.info->decodable) {
        std::vector<float> row(static_cast<size_t>(tensor.RowElements()));
        formats::DequantizeGgml(*tensor.info, tensor.Row(tensor.Rows() - 1), row);
      }
    }
    try {
      (void)formats::BuildGgufTokenizer(*file);
    } catch (const mach::Error&) {
    }
    (void)formats::DescribeGgufModel(*file);
  } catch (const mach::Error&) {
  }
  return 0;
}
