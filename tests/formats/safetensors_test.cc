#include "formats/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/formats/test_files.h"
#include "tests/support/memory_file.h"

namespace mach::formats {
namespace {

using testing_support::OpenMemoryFile;

using testing::ElementsAre;
using testing::HasSubstr;

std::unique_ptr<SafetensorsFile> OpenBytes(std::string contents) {
  return SafetensorsFile::Open(OpenMemoryFile("t.safetensors", std::move(contents)));
}

std::string ErrorOf(const std::string& contents) {
  try {
    OpenBytes(contents);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::string Small() {
  return MakeSafetensors({{"a", "F32", {2, 2}, BytesOf<float>({1, 2, 3, 4})},
                          {"b.weight", "U32", {1, 2}, BytesOf<uint32_t>({5, 6})},
                          {"c", "BF16", {}, BytesOf<uint16_t>({0x3f80})}});
}

TEST(Safetensors, ReadsTensors) {
  const auto file = OpenBytes(Small());
  EXPECT_THAT(file->names(), ElementsAre("a", "b.weight", "c"));
  const auto a = file->Find("a");
  ASSERT_TRUE(a.has_value());
  EXPECT_EQ(a->dtype, DType::kF32);
  EXPECT_EQ(a->shape, (Shape{2, 2}));
  float last = 0;
  std::memcpy(&last, a->bytes.data() + 12, 4);
  EXPECT_EQ(last, 4.0F);
  EXPECT_EQ(file->Find("c")->shape, Shape{});
  EXPECT_FALSE(file->Find("d").has_value());
}

TEST(Safetensors, NamesWhatIsWrong) {
  const auto one = [](const std::string& body, size_t data) {
    return ErrorOf(SafetensorsOf("{\"w\":" + body + "}", std::string(data, 'x')));
  };
  EXPECT_THAT(ErrorOf("abc"), HasSubstr("t.safetensors: has 3 bytes"));
  EXPECT_THAT(ErrorOf(std::string(8, '\xff') + "{}"), HasSubstr("the header claims"));
  EXPECT_THAT(ErrorOf(SafetensorsOf("[]", "")), HasSubstr("expected a JSON object"));
  EXPECT_THAT(one("3", 0), HasSubstr("tensor w: expected an object, found 3"));
  EXPECT_THAT(one(R"({"dtype":"F99","shape":[1],"data_offsets":[0,4]})", 4),
              HasSubstr("tensor w: unknown dtype \"F99\""));
  EXPECT_THAT(one(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})", 4),
              HasSubstr("non-negative integer, found -1"));
  EXPECT_THAT(one(R"({"dtype":"F32","shape":[1.5],"data_offsets":[0,4]})", 4),
              HasSubstr("found 1.5"));
  EXPECT_THAT(one(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]})", 4),
              HasSubstr("overflows"));
  EXPECT_THAT(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})", 4),
              HasSubstr("needs 8 bytes, data_offsets give 4"));
  EXPECT_THAT(one(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})", 4),
              HasSubstr("lie outside the 4 bytes"));
  EXPECT_THAT(one(R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})", 8), HasSubstr("outside"));
  EXPECT_THAT(one(R"({"dtype":"F32","shape":[1],"data_offsets":[0]})", 4),
              HasSubstr("[begin, end]"));
  EXPECT_THAT(one(R"({"dtype":"F32","shape":[1]})", 4), HasSubstr("data_offsets is missing"));
  EXPECT_THAT(one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})", 6),
              HasSubstr("describes 4 bytes of data, the file has 6"));
  EXPECT_THAT(one(R"({"dtype":"F32","shape":[1],"data_offsets":[2,6]})", 6),
              HasSubstr("belong to no tensor"));
  const std::string entry = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  EXPECT_THAT(ErrorOf(SafetensorsOf("{\"a\":" + entry + ",\"b\":" + entry + "}", "xxxx")),
              HasSubstr("overlaps"));
  EXPECT_THAT(ErrorOf(SafetensorsOf("{\"a\":" + entry + ",\"a\":" + entry + "}", "xxxx")),
              HasSubstr("given twice"));
  EXPECT_THAT(one(std::string(100, '['), 0), HasSubstr("nested deeper"));
}

TEST(Safetensors, ForeignElementTypesTroubleOnlyThoseWhoAsk) {
  const auto file = OpenBytes(MakeSafetensors(
      {{"a", "F8_E8M0", {3}, "xyz"}, {"b", "F4", {4}, "xy"}, {"c", "U8", {1}, "z"}}));
  EXPECT_TRUE(file->Find("c").has_value());
  EXPECT_TRUE(file->Has("a"));
  EXPECT_THROW((void)file->Find("a"), Error);
  EXPECT_THROW((void)file->Find("b"), Error);
  EXPECT_FALSE(file->FindReadable("a").has_value());
  EXPECT_TRUE(file->FindReadable("c").has_value());
}

TEST(Safetensors, EveryTruncationIsAnError) {
  const std::string whole = Small();
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_THROW(OpenBytes(whole.substr(0, length)), Error) << length;
  }
}

TEST(Safetensors, BitFlipsNeverLeaveTheFile) {
  const std::string whole = Small();
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string broken = whole;
    broken[bit / 8] = static_cast<char>(broken[bit / 8] ^ (1 << (bit % 8)));
    try {
      const auto file = OpenBytes(broken);
      for (const std::string& name : file->names()) {
        if (const auto tensor = file->Find(name)) {
          ASSERT_EQ(tensor->bytes.size(),
                    static_cast<size_t>(tensor->shape.Elements()) * DTypeBytes(tensor->dtype));
          unsigned sum = 0;
          for (const std::byte b : tensor->bytes) {
            sum += static_cast<unsigned>(b);
          }
          EXPECT_LE(sum, 255U * tensor->bytes.size());
        }
      }
    } catch (const Error&) {
    }
  }
}

}  // namespace
}  // namespace mach::formats
