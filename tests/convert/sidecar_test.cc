#include <array>
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/hash.h"
#include "convert/expert_writer.h"
#include "formats/checkpoint.h"
#include "formats/expert_sidecar.h"
#include "formats/journal.h"
#include "platform/file.h"
#include "tests/formats/test_files.h"

namespace mach::convert {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

constexpr int32_t kExperts = 5;

std::byte RecordByte(int32_t layer, int32_t expert, size_t i) {
  return static_cast<std::byte>(static_cast<size_t>(layer * 31 + expert * 7) + i * i);
}

SidecarSource TestSource() {
  SidecarSource source;
  source.model_type = "qwen3_5_moe";
  source.layers = 4;
  source.experts = kExperts;
  source.layout = ExpertLayout::Make(PackedSpec::Affine(32, 128, {4, 64}, DType::kBF16),
                                     PackedSpec::Affine(32, 128, {4, 64}, DType::kBF16),
                                     PackedSpec::Float(128, 32, DType::kBF16));
  source.moe_layers = {1, 3};
  source.fill = [](int32_t layer, int32_t expert, std::span<std::byte> record) {
    for (size_t i = 0; i < record.size(); ++i) {
      record[i] = RecordByte(layer, expert, i);
    }
  };
  return source;
}

ConversionPlan TestPlan(SidecarSource source) {
  ConversionPlan plan;
  plan.fingerprint = "0123456789abcdef0123456789abcdef";
  plan.small_files.push_back(SmallFile::Of("config.json", R"({"model_type":"qwen3_5_moe"})"));
  ConversionStep step = CopyRowsStep({"model.norm.weight", DType::kF32, Shape{2}}, 1, [](int64_t) {
    static const std::array<float, 2> values = {1, 2};
    return std::as_bytes(std::span(values));
  });
  std::vector<ConversionStep> steps;
  steps.push_back(std::move(step));
  AddShards(std::move(steps), 1 << 20, plan);
  AddSidecar(std::move(source), plan);
  return plan;
}

ConvertResult WriteTest(const fs::path& out) {
  ConvertOptions options;
  options.source = "/models/master";
  options.out = out;
  return WriteCheckpoint(options, TestPlan(TestSource()), {});
}

void Overwrite(const fs::path& path, const std::string& contents) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << contents;
}

// Puts the right checksum into a changed manifest, as a liar would.
std::string Resealed(std::string text) {
  const std::string field = "\"manifest_xxh3_128\": \"";
  const size_t digits = text.rfind(field) + field.size();
  text.replace(digits, 32, 32, '0');
  return text.replace(digits, 32, HashHex128(std::as_bytes(std::span(text))));
}

TEST(ExpertSidecar, WhatIsWrittenIsFound) {
  const formats::ScratchDir dir;
  const ConvertResult result = WriteTest(dir.path() / "out");
  EXPECT_THAT(result.files, testing::UnorderedElementsAre(
                                "config.json", "model.safetensors", "expert_sidecar/manifest.json",
                                "expert_sidecar/layer_0001.bin", "expert_sidecar/layer_0003.bin"));
  const auto sidecar = formats::ExpertSidecar::Find(dir.path() / "out");
  ASSERT_TRUE(sidecar.has_value());
  EXPECT_EQ(sidecar->model_type, "qwen3_5_moe");
  EXPECT_EQ(sidecar->layers, 4);
  EXPECT_EQ(sidecar->experts, kExperts);
  EXPECT_EQ(sidecar->layout, TestSource().layout);
  ASSERT_EQ(sidecar->moe_layers.size(), 2U);
  for (const formats::SidecarLayer& layer : sidecar->moe_layers) {
    const std::string bytes = ReadWholeFile(sidecar->PathOf(layer));
    ASSERT_EQ(bytes.size(), sidecar->FileBytes());
    for (int32_t expert = 0; expert < kExperts; ++expert) {
      const auto record = std::as_bytes(std::span(bytes))
                              .subspan(sidecar->OffsetOf(expert), sidecar->layout.record_bytes);
      EXPECT_EQ(HashHex128(record), layer.xxh3_128[static_cast<size_t>(expert)]);
      for (size_t i = 0; i < record.size(); ++i) {
        ASSERT_EQ(record[i], RecordByte(layer.layer, expert, i));
      }
    }
  }
  EXPECT_EQ(formats::ExpertSidecar::Parse(sidecar->ToJson(), "again").ToJson(), sidecar->ToJson());
  EXPECT_FALSE(formats::ExpertSidecar::Find(dir.path()).has_value());
}

TEST(ExpertSidecar, VerifyReadsEveryRecordOnce) {
  const formats::ScratchDir dir;
  WriteTest(dir.path() / "out");
  const auto sidecar = formats::ExpertSidecar::Find(dir.path() / "out");
  uint64_t last = 0;
  sidecar->Verify([&](uint64_t done, uint64_t total) {
    EXPECT_EQ(done, last + sidecar->layout.record_bytes);
    EXPECT_EQ(total, sidecar->TotalBytes());
    last = done;
  });
  EXPECT_EQ(last, sidecar->TotalBytes());
  uint64_t done_bytes = 0;
  uint64_t total_bytes = 0;
  EXPECT_TRUE(
      formats::Checkpoint::Open(dir.path() / "out")->Verify([&](uint64_t done, uint64_t total) {
        EXPECT_GE(done, done_bytes);
        done_bytes = done;
        total_bytes = total;
      }));
  EXPECT_EQ(done_bytes, total_bytes);
  EXPECT_GT(total_bytes, sidecar->TotalBytes());
}

TEST(ExpertSidecar, DamagedLayerFilesAreNamed) {
  const formats::ScratchDir dir;
  const fs::path out = dir.path() / "out";
  WriteTest(out);
  const fs::path file = out / "expert_sidecar/layer_0003.bin";
  const std::string good = ReadWholeFile(file);
  const uint64_t record = good.size() / kExperts;
  // A flipped bit in the weights, and one in the padding.
  for (const uint64_t at : {2 * record + 17, 3 * record - 1}) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 8);
    Overwrite(file, bad);
    const auto sidecar = formats::ExpertSidecar::Find(out);
    for (const std::string& error :
         {formats::ErrorOf([&] { sidecar->Verify({}); }),
          formats::ErrorOf([&] { formats::Checkpoint::Open(out)->Verify({}); })}) {
      EXPECT_THAT(error,
                  AllOf(HasSubstr("layer_0003.bin: expert 2 of layer 3"),
                        HasSubstr("at offset " + std::to_string(2 * record)),
                        HasSubstr("mach convert /models/master --out"), HasSubstr("--force")));
    }
  }
  for (const std::string& bad : {good.substr(0, good.size() - 1), good + "x", std::string()}) {
    Overwrite(file, bad);
    for (const auto& open :
         std::vector<std::function<void()>>{[&] { (void)formats::ExpertSidecar::Find(out); },
                                            [&] { (void)formats::Checkpoint::Open(out); }}) {
      EXPECT_THAT(
          formats::ErrorOf(open),
          AllOf(HasSubstr("layer_0003.bin has " + std::to_string(bad.size()) + " bytes"),
                HasSubstr(std::to_string(good.size())), HasSubstr("mach convert /models/master")));
    }
  }
  fs::remove(file);
  EXPECT_THAT(formats::ErrorOf([&] { (void)formats::ExpertSidecar::Find(out); }),
              AllOf(HasSubstr("layer_0003.bin is missing"), HasSubstr("mach convert")));
}

TEST(ExpertSidecar, DamagedManifestsAreRefused) {
  const formats::ScratchDir dir;
  const fs::path out = dir.path() / "out";
  WriteTest(out);
  const fs::path file = out / "expert_sidecar/manifest.json";
  const std::string good = ReadWholeFile(file);
  // No byte may change unnoticed, and no prefix may pass.
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    EXPECT_THROW(formats::ExpertSidecar::Parse(bad, "m"), Error) << i;
    EXPECT_THROW(formats::ExpertSidecar::Parse(good.substr(0, i), "m"), Error) << i;
  }
  std::string edited = good;
  edited.replace(edited.find("\"layers\": 4"), 11, "\"layers\": 5");
  Overwrite(file, edited);
  EXPECT_THAT(formats::ErrorOf([&] { (void)formats::ExpertSidecar::Find(out); }),
              AllOf(HasSubstr("manifest.json was changed after it was written"),
                    HasSubstr("mach convert /models/master --out")));
  fs::remove(file);
  EXPECT_THAT(formats::ErrorOf([&] { (void)formats::ExpertSidecar::Find(out); }),
              AllOf(HasSubstr("manifest.json"), HasSubstr("mach convert")));
}

TEST(ExpertSidecar, LyingManifestsAreRefused) {
  const formats::ScratchDir dir;
  WriteTest(dir.path() / "out");
  const std::string good = ReadWholeFile(dir.path() / "out/expert_sidecar/manifest.json");
  using Json = nlohmann::ordered_json;
  const auto error = [&](const std::function<void(Json&)>& edit) {
    Json root = Json::parse(good);
    edit(root);
    return formats::ErrorOf(
        [&] { (void)formats::ExpertSidecar::Parse(Resealed(root.dump(1)), "m.json"); });
  };
  EXPECT_EQ(error([](Json&) {}), "no error");
  const auto part = [](Json& root, int i) -> Json& {
    return root["record"]["parts"][static_cast<size_t>(i)];
  };
  EXPECT_THAT(error([](Json& r) { r["format_version"] = 2; }),
              AllOf(HasSubstr("format_version is 2"), HasSubstr("reads 1")));
  EXPECT_THAT(error([](Json& r) { r["record"]["layout"] = "rows"; }), HasSubstr("record.layout"));
  EXPECT_THAT(error([](Json& r) { r["record"]["size_bytes"] = 16385; }),
              HasSubstr("record.size_bytes is 16385, expected a multiple of 16384"));
  EXPECT_THAT(error([](Json& r) { r["record"]["size_bytes"] = 16384ULL << 40; }),
              HasSubstr("record.size_bytes"));
  EXPECT_THAT(error([&](Json& r) { part(r, 1)["offset_bytes"] = 32; }),
              HasSubstr("parts[1].offset_bytes is 32, expected a multiple of 64"));
  EXPECT_THAT(error([&](Json& r) { part(r, 1)["offset_bytes"] = 0; }), HasSubstr("do not overlap"));
  EXPECT_THAT(error([&](Json& r) { part(r, 2)["offset_bytes"] = 16320; }),
              HasSubstr("parts[2].offset_bytes is 16320"));
  EXPECT_THAT(error([&](Json& r) { part(r, 2)["offset_bytes"] = int64_t{1} << 62; }),
              HasSubstr("parts[2].offset_bytes"));
  EXPECT_THAT(error([&](Json& r) { part(r, 2)["offset_bytes"] = -64; }),
              HasSubstr("parts[2].offset_bytes is -64"));
  EXPECT_THAT(error([&](Json& r) { part(r, 0)["size_bytes"] = 64; }),
              HasSubstr("parts[0].size_bytes is 64"));
  EXPECT_THAT(error([&](Json& r) { part(r, 0)["out_features"] = int64_t{1} << 40; }),
              HasSubstr("parts[0].out_features"));
  EXPECT_THAT(error([&](Json& r) { part(r, 0)["in_features"] = 96; }),
              HasSubstr("parts[0].in_features is 96"));
  EXPECT_THAT(error([&](Json& r) { part(r, 0)["bits"] = 7; }), HasSubstr("parts[0].bits is 7"));
  EXPECT_THAT(error([&](Json& r) { part(r, 0)["encoding"] = "mxfp4"; }), HasSubstr("encoding"));
  EXPECT_THAT(error([&](Json& r) { part(r, 0)["dtype"] = "F64"; }), HasSubstr("dtype"));
  EXPECT_THAT(error([&](Json& r) { part(r, 0)["name"] = "up"; }), HasSubstr("name"));
  EXPECT_THAT(error([&](Json& r) { part(r, 0) = part(r, 2), part(r, 0)["name"] = "gate"; }),
              HasSubstr("m.json"));
  EXPECT_THAT(error([&](Json& r) { r["record"]["parts"].erase(2); }), HasSubstr("record.parts"));
  EXPECT_THAT(error([](Json& r) { r["experts"] = 6; }),
              HasSubstr("expected checksums of 32 hex digits for each of 6 experts"));
  EXPECT_THAT(error([](Json& r) { r["experts"] = int64_t{1} << 33; }), HasSubstr("experts"));
  EXPECT_THAT(error([](Json& r) { r["layers"] = 3; }), HasSubstr("moe_layers[1].layer is 3"));
  EXPECT_THAT(error([](Json& r) { r["moe_layers"][1]["layer"] = 1; }), HasSubstr("ascending"));
  EXPECT_THAT(error([](Json& r) { r["moe_layers"] = Json::array(); }),
              HasSubstr("at least one layer"));
  EXPECT_THAT(error([](Json& r) { r["moe_layers"] = 3; }), HasSubstr("an array of objects"));
  for (const char* name : {"../layer_0001.bin", "/etc/passwd", "", "..", "a/b"}) {
    EXPECT_THAT(error([&](Json& r) { r["moe_layers"][0]["file"] = name; }),
                HasSubstr("moe_layers[0].file"));
  }
  EXPECT_THAT(error([](Json& r) { r["moe_layers"][1]["file"] = "layer_0001.bin"; }),
              HasSubstr("no other layer has"));
  EXPECT_THAT(error([](Json& r) { r["moe_layers"][0]["xxh3_128"][0] = "xyz"; }),
              HasSubstr("xxh3_128"));
  EXPECT_THAT(error([](Json& r) { r["moe_layers"][0]["xxh3_128"] = 1; }), HasSubstr("xxh3_128"));
}

TEST(ExpertSidecar, BelongsToTheCheckpointBesideIt) {
  const formats::ScratchDir dir;
  const fs::path out = dir.path() / "out";
  WriteTest(out);
  formats::Journal journal = *formats::Journal::Find(out);
  journal.source_fingerprint = std::string(32, 'a');
  Overwrite(out / "mach.json", journal.ToJson());
  EXPECT_THAT(formats::ErrorOf([&] { (void)formats::ExpertSidecar::Find(out); }),
              AllOf(HasSubstr("belongs to another conversion"), HasSubstr(std::string(32, 'a')),
                    HasSubstr("mach convert")));
  journal.source_fingerprint = TestPlan(TestSource()).fingerprint;
  journal.complete = false;
  Overwrite(out / "mach.json", journal.ToJson());
  EXPECT_THAT(formats::ErrorOf([&] { (void)formats::ExpertSidecar::Find(out); }),
              HasSubstr("did not finish"));
  fs::remove(out / "mach.json");
  EXPECT_THAT(formats::ErrorOf([&] { (void)formats::ExpertSidecar::Find(out); }),
              AllOf(HasSubstr("mach.json is missing"), HasSubstr("mach convert SRC --out")));
}

TEST(Journal, NamesLeadNowhereElse) {
  formats::Journal journal;
  for (const char* name : {"../x", "/x", "a/../x", "a/b/c", "a/", "", "."}) {
    journal.files = {{name, 1, "x"}};
    EXPECT_THAT(formats::ErrorOf([&] { (void)formats::Journal::Parse(journal.ToJson(), "m"); }),
                HasSubstr("files[0].name"))
        << name;
  }
}

}  // namespace
}  // namespace mach::convert
