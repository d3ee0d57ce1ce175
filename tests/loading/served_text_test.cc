// What the small files beside the weights make of a served model.
#include "loading/served_text.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/formats/test_files.h"

namespace mach::loading {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::ElementsAre;

// A golden checkpoint of 200 tokens with a tokenizer for them. Its own files name no end token.
class ServedTextTest : public testing::Test {
 protected:
  void SetUp() override {
    const fs::path golden = fs::path(MACH_SOURCE_DIR) / "tests/golden/llama_f32";
    fs::copy(golden / "model.safetensors", dir_.path());
    std::ifstream(golden / "config.json") >> config_;
    ASSERT_EQ(config_["vocab_size"], 200);
    config_.erase("eos_token_id");
    tokenizer_ = {{"version", "1.0"},
                  {"added_tokens", json::array()},
                  {"model", {{"type", "BPE"}, {"merges", json::array()}}}};
    SetVocabulary(100);
  }

  // Tokens w0, w1, ...; added ones have the ids after them.
  void SetVocabulary(int tokens) {
    json& vocabulary = tokenizer_["model"]["vocab"];
    for (int id = 0; id < tokens; ++id) {
      vocabulary["w" + std::to_string(id)] = id;
    }
  }

  void AddToken(const std::string& text, int id, bool special = true) {
    tokenizer_["added_tokens"].push_back({{"id", id},
                                          {"content", text},
                                          {"single_word", false},
                                          {"lstrip", false},
                                          {"rstrip", false},
                                          {"normalized", false},
                                          {"special", special}});
  }

  ServedText Load() {
    dir_.Write("config.json", config_.dump());
    dir_.Write("tokenizer.json", tokenizer_.dump());
    return LoadText(*formats::Checkpoint::Open(dir_.path()));
  }

  // What is said on stderr while it loads.
  std::string Warnings() {
    testing::internal::CaptureStderr();
    (void)Load();
    return testing::internal::GetCapturedStderr();
  }

  formats::ScratchDir dir_;
  json config_;
  json tokenizer_;
};

TEST_F(ServedTextTest, EndTokensAreThoseThatAnyFileNames) {
  config_["eos_token_id"] = {3, 9};
  dir_.Write("generation_config.json", R"({"eos_token_id":0})");
  dir_.Write("tokenizer_config.json", R"({"eos_token":{"content":"w7"}})");
  AddToken("<|im_end|>", 100);
  AddToken("<|eot_id|>", 101, /*special=*/false);  // an ordinary text of this model
  const ServedText text = Load();
  EXPECT_THAT(text.end_tokens, ElementsAre(0, 3, 7, 9, 100));
  EXPECT_EQ(EndTokensText(text), "w0 w3 w7 w9 <|im_end|>");
  EXPECT_EQ(Warnings(), "");
}

TEST_F(ServedTextTest, TheTokenizersOwnEndIsEnough) {
  dir_.Write("special_tokens_map.json", R"({"eos_token":"w7"})");
  EXPECT_THAT(Load().end_tokens, ElementsAre(7));
}

TEST_F(ServedTextTest, NoEndTokenIsAWarning) {
  config_["eos_token_id"] = 999;  // none that the model could ever say
  EXPECT_THAT(Load().end_tokens, ElementsAre());
  EXPECT_THAT(Warnings(), testing::HasSubstr("nothing names a token that ends an answer"));
}

TEST_F(ServedTextTest, TokensPastTheEmbeddingAreAWarning) {
  SetVocabulary(199);
  AddToken("<|im_end|>", 199);
  EXPECT_EQ(Warnings(), "");
  AddToken("<pad>", 200);
  EXPECT_EQ(Load().tokenizer->vocab_size(), 201);
  EXPECT_THAT(Warnings(), testing::AllOf(testing::HasSubstr("no embedding"),
                                         testing::HasSubstr("first=200 last=200")));
}

}  // namespace
}  // namespace mach::loading
