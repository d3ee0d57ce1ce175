#include "formats/gguf.h"

#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/formats/gguf_files.h"
#include "tests/formats/test_files.h"
#include "tests/support/memory_file.h"

namespace mach::formats {
namespace {

using testing_support::OpenMemoryFile;

using testing::ElementsAre;
using testing::HasSubstr;

std::unique_ptr<GgufFile> OpenBytes(std::string contents) {
  return GgufFile::Open(OpenMemoryFile("t.gguf", std::move(contents)));
}

std::string ErrorOf(const std::string& contents) {
  try {
    OpenBytes(contents);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

GgufBuilder Small() {
  GgufBuilder builder;
  builder.Str("general.architecture", "llama")
      .U32("llama.block_count", 2)
      .F32("llama.eps", 1e-5F)
      .Bool("flag", true)
      .Strs("tokens", {"a", "b\n"})
      .I32s("types", {1, -3})
      .F32s("scores", {0.5F, -1})
      .Tensor("w", 0, {2, 3}, BytesOf<float>({1, 2, 3, 4, 5, 6}))
      .Tensor("q", 2, {32, 2}, std::string(36, 'x'));
  return builder;
}

TEST(Gguf, ReadsMetadataAndTensors) {
  const auto file = OpenBytes(Small().Build());
  EXPECT_EQ(*file->String("general.architecture"), "llama");
  EXPECT_EQ(*file->Int("llama.block_count"), 2);
  EXPECT_EQ(*file->Float("llama.eps"), 1e-5F);
  EXPECT_EQ(*file->ShortFloat("llama.eps"), 1e-5);
  EXPECT_TRUE(*file->Bool("flag"));
  EXPECT_THAT(*file->Strings("tokens"), ElementsAre("a", "b\n"));
  EXPECT_THAT(*file->Ints("types"), ElementsAre(1, -3));
  EXPECT_THAT(*file->Floats("scores"), ElementsAre(0.5F, -1.0F));
  EXPECT_FALSE(file->Int("absent").has_value());
  EXPECT_THROW((void)file->Int("general.architecture"), Error);
  EXPECT_THROW((void)file->String("flag"), Error);
  EXPECT_THROW((void)file->Ints("scores"), Error);
  EXPECT_THROW((void)file->RequireInt("llama.block_count", 3, 9), Error);
  const GgufTensor* w = file->FindTensor("w");
  ASSERT_NE(w, nullptr);
  EXPECT_EQ(w->shape, (Shape{3, 2}));
  std::vector<float> row(2);
  DequantizeGgml(*w->info, w->Row(1), row);
  EXPECT_THAT(row, ElementsAre(3.0F, 4.0F));
  EXPECT_EQ(file->FindTensor("q")->RowBytes(), 18U);
  EXPECT_EQ(OpenBytes(Small().Build(2))->version(), 2U);
}

TEST(Gguf, NamesWhatIsWrong) {
  EXPECT_THAT(ErrorOf("GGML"), HasSubstr("does not begin with GGUF"));
  EXPECT_THAT(ErrorOf(Small().Build(1)), HasSubstr("GGUF version 1"));
  EXPECT_THAT(ErrorOf(Small().Build(3U << 24)), HasSubstr("big-endian"));
  const auto tensor = [](uint32_t type, const std::vector<uint64_t>& dims, size_t bytes) {
    return ErrorOf(GgufBuilder().Tensor("w", type, dims, std::string(bytes, 'x')).Build());
  };
  EXPECT_THAT(tensor(0, {2, 2}, 15), HasSubstr("tensor w: F32 [2, 2] needs 4 blocks"));
  EXPECT_THAT(tensor(2, {33}, 18), HasSubstr("multiple of 32"));
  EXPECT_THAT(tensor(99, {32}, 18), HasSubstr("element type 99"));
  EXPECT_THAT(tensor(0, {1, 1, 1, 1, 1}, 4), HasSubstr("5 dimensions"));
  EXPECT_THAT(tensor(0, {1ULL << 40, 1ULL << 40}, 4), HasSubstr("dimension of"));
  EXPECT_THAT(tensor(0, {0}, 4), HasSubstr("dimension of 0"));
  EXPECT_THAT(
      ErrorOf(GgufBuilder().Tensor("w", 0, {1}, "abcd").Tensor("w", 0, {1}, "abcd").Build()),
      HasSubstr("given twice"));
  EXPECT_THAT(ErrorOf(GgufBuilder().U32("a", 1).U32("a", 1).Build()), HasSubstr("given twice"));
  EXPECT_THAT(ErrorOf(GgufBuilder().U32("general.alignment", 48).Build()),
              HasSubstr("power of two"));
  EXPECT_THAT(ErrorOf(GgufBuilder()
                          .U32("general.alignment", 128)
                          .Tensor("a", 0, {1}, "abcd")
                          .Tensor("b", 0, {1}, "abcd")
                          .Build() +
                      std::string(256, ' ')),
              HasSubstr("no multiple of the alignment"));
  // Array in array in array ...
  std::string nested = "GGUF";
  GgufBuilder::Put<uint32_t>(nested, 3);
  GgufBuilder::Put<uint64_t>(nested, 0);
  GgufBuilder::Put<uint64_t>(nested, 1);
  GgufBuilder::Text(nested, "k");
  GgufBuilder::Put<uint32_t>(nested, 9);
  for (int i = 0; i < 50; ++i) {
    GgufBuilder::Put<uint32_t>(nested, 9);
    GgufBuilder::Put<uint64_t>(nested, 1);
  }
  EXPECT_THAT(ErrorOf(nested + std::string(64, '\0')), HasSubstr("nested deeper"));
}

TEST(Gguf, EveryTruncationIsAnError) {
  const std::string whole = Small().Build();
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_THROW(OpenBytes(whole.substr(0, length)), Error) << length;
  }
}

TEST(Gguf, BitFlipsNeverLeaveTheFile) {
  const std::string whole = Small().Build();
  int opened = 0;
  int refused = 0;
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string broken = whole;
    broken[bit / 8] = static_cast<char>(broken[bit / 8] ^ (1 << (bit % 8)));
    try {
      const auto file = OpenBytes(broken);
      for (const GgufTensor& tensor : file->tensors()) {
        const std::string_view bytes(reinterpret_cast<const char*>(tensor.bytes.data()),
                                     tensor.bytes.size());
        EXPECT_NE(broken.find(bytes), std::string::npos) << tensor.name << ", bit " << bit;
        if (tensor.info->decodable) {
          std::vector<float> values(static_cast<size_t>(tensor.shape.Elements()));
          DequantizeGgml(*tensor.info, tensor.bytes, values);
        }
      }
      ++opened;
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(opened, 0);
  EXPECT_GT(refused, 0);
}

// Expected values made by the Python package gguf: tests/formats/tools/make_ggml_vectors.py.
TEST(Gguf, DecodesAsTheReferenceDoes) {
  std::ifstream stream(MACH_SOURCE_DIR "/tests/formats/data/ggml_vectors.bin", std::ios::binary);
  std::stringstream buffer;
  buffer << stream.rdbuf();
  const std::string data = buffer.str();
  ASSERT_FALSE(data.empty());
  size_t at = 0;
  int types = 0;
  while (at < data.size()) {
    uint32_t head[3];
    std::memcpy(head, data.data() + at, sizeof(head));
    at += sizeof(head);
    const GgmlTypeInfo* type = FindGgmlType(head[0]);
    ASSERT_TRUE(type != nullptr && type->decodable);
    std::vector<float> expected(head[2]);
    std::vector<float> found(head[2]);
    std::memcpy(expected.data(), data.data() + at + head[1], head[2] * sizeof(float));
    DequantizeGgml(*type, std::as_bytes(std::span(data.data() + at, head[1])), found);
    EXPECT_EQ(found, expected) << type->name;
    at += head[1] + head[2] * sizeof(float);
    ++types;
  }
  EXPECT_EQ(types, 10);
}

}  // namespace
}  // namespace mach::formats
