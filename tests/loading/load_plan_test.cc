// What a converter is told of its output before anyone else sees it.
#include "loading/load_plan.h"

#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "convert/convert.h"
#include "loading/runnable_model.h"
#include "platform/file.h"
#include "tests/formats/test_files.h"

namespace mach::loading {
namespace {

namespace fs = std::filesystem;
using formats::ErrorOf;
using testing::HasSubstr;

class RequireLoadableTest : public testing::Test {
 protected:
  // A golden checkpoint with a changed config.json, converted.
  std::string ErrorOfConversion(const std::string& golden,
                                const std::function<void(nlohmann::json&)>& change) {
    const fs::path source = fs::path(MACH_SOURCE_DIR) / "tests/golden" / golden;
    auto config = nlohmann::json::parse(ReadWholeFile(source / "config.json"));
    change(config);
    dir_.Write("source/config.json", config.dump());
    fs::copy(source / "model.safetensors", dir_.path() / "source",
             fs::copy_options::overwrite_existing);
    fs::remove_all(out_);
    return ErrorOf([&] {
      convert::Convert({.source = dir_.path() / "source",
                        .out = out_,
                        .threads = 1,
                        .check_output = RequireLoadable},
                       {});
    });
  }

  formats::ScratchDir dir_;
  fs::path out_ = dir_.path() / "out";
};

TEST_F(RequireLoadableTest, WhatLoadsIsPublished) {
  for (const char* golden : {"llama_f32", "qwen3_5_moe_q4_g32", "qwen3_5_moe_bf16_hf"}) {
    EXPECT_EQ(ErrorOfConversion(golden, [](nlohmann::json&) {}), "no error") << golden;
    EXPECT_NO_THROW(RequireLoadable(out_)) << golden;
  }
}

TEST_F(RequireLoadableTest, WhatDoesNotIsNot) {
  EXPECT_THAT(
      ErrorOfConversion("qwen3_5_moe_q4_g32",
                        [](nlohmann::json& config) {
                          for (const char* field : {"quantization", "quantization_config"}) {
                            for (auto& entry : config[field]) {
                              if (entry.is_object()) {
                                entry["bits"] = 4;  // of routers that have 8
                              }
                            }
                          }
                        }),
      testing::AllOf(HasSubstr("cannot be loaded"), HasSubstr("has shape")));
  EXPECT_FALSE(fs::exists(out_));
  EXPECT_THROW(RequireLoadable(dir_.path() / "out.partial"), Error);
  EXPECT_THAT(ErrorOfConversion("llama_f32",
                                [](nlohmann::json& config) { config["rms_norm_eps"] = "small"; }),
              HasSubstr("rms_norm_eps is \"small\""));
  EXPECT_FALSE(fs::exists(out_));
}

// A download that goes on, or a disk that fails, under a server that starts.
TEST(LoadRunnableTest, AFileThatShrinksWhileItIsReadIsNamed) {
  for (const char* golden : {"llama_f32", "qwen3_5_moe_bf16"}) {
    const formats::ScratchDir dir;
    for (const char* name : {"config.json", "model.safetensors"}) {
      fs::copy(fs::path(MACH_SOURCE_DIR) / "tests/golden" / golden / name, dir.path());
    }
    LoadPlan plan = PlanLoading({.checkpoint = dir.path(), .cpu = {.threads = 2}});
    const fs::path weights = dir.path() / "model.safetensors";
    fs::resize_file(weights, fs::file_size(weights) / 2);
    EXPECT_THAT(ErrorOf([&] { (void)LoadRunnable(std::move(plan), nullptr); }),
                HasSubstr(weights.string() + " was cut off while it was read"))
        << golden;
  }
}

}  // namespace
}  // namespace mach::loading
