// Tokenizer on small tokenizer.json files made by hand. Equality with Hugging Face `tokenizers` on
// real ones is tests/parity.
#include "text/tokenizer.h"

#include <atomic>
#include <cstdio>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "tests/support/cpu_time.h"
#include "text/byte_level.h"
#include "text/unicode.h"

namespace mach::text {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

json BaseFile() {
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", json::array()},
          {"normalizer", nullptr},
          {"pre_tokenizer", nullptr},
          {"post_processor", nullptr},
          {"decoder", nullptr},
          {"model", {{"type", "BPE"}, {"vocab", json::object()}, {"merges", json::array()}}}};
}

json AddedTokenJson(int id, const std::string& content) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

// All 256 byte-level characters, "he", "ll" and "Ġhe".
json ByteLevelFile() {
  json file = BaseFile();
  json& vocab = file["model"]["vocab"];
  for (int byte = 0; byte < 256; ++byte) {
    std::string name;
    AppendByteLevel(std::string(1, static_cast<char>(byte)), &name);
    vocab[name] = byte;
  }
  vocab["he"] = 256;
  vocab["ll"] = 257;
  vocab["Ġhe"] = 258;
  file["model"]["merges"] = {"h e", "l l", "Ġ he"};
  const json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", true}};
  file["pre_tokenizer"] = byte_level;
  file["decoder"] = byte_level;
  file["added_tokens"] = {AddedTokenJson(259, "<s>")};
  return file;
}

// SentencePiece's kind, with bytes 0xC3 and 0xA9 as fallback tokens among the 256.
json FallbackFile() {
  json file = BaseFile();
  json& vocab = file["model"]["vocab"];
  vocab["<unk>"] = 0;
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof(name), "<0x%02X>", static_cast<unsigned>(byte));
    vocab[name] = byte + 1;
  }
  for (const char* token : {"▁", "a", "b", "ab", "▁ab"}) {
    const int id = static_cast<int>(vocab.size());
    vocab[token] = id;
  }
  file["model"]["merges"] = json::array({json::array({"a", "b"}), json::array({"▁", "ab"})});
  file["model"]["unk_token"] = "<unk>";
  file["model"]["byte_fallback"] = true;
  file["model"]["fuse_unk"] = true;
  file["normalizer"] = {
      {"type", "Sequence"},
      {"normalizers",
       {{{"type", "Prepend"}, {"prepend", "▁"}},
        {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}}}}};
  file["decoder"] = {{"type", "Sequence"},
                     {"decoders",
                      {{{"type", "Replace"}, {"pattern", {{"String", "▁"}}}, {"content", " "}},
                       {{"type", "ByteFallback"}},
                       {{"type", "Fuse"}},
                       {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}};
  return file;
}

std::unique_ptr<Tokenizer> Load(const json& file) {
  return Tokenizer::FromJson(file.dump(), "t.json");
}

std::string FailureOf(const std::string& text, ErrorCode code) {
  try {
    Tokenizer::FromJson(text, "t.json");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "it loaded";
  return "";
}

std::string Streamed(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  StreamDecoder stream(tokenizer, false);
  std::string out;
  for (const int32_t id : ids) {
    const std::string piece = stream.Push(id);
    EXPECT_EQ(ValidUtf8Prefix(piece), piece.size());
    out += piece;
  }
  return out + stream.Finish();
}

TEST(TokenizerTest, ByteLevelMergesInRankOrder) {
  const auto tokenizer = Load(ByteLevelFile());
  EXPECT_THAT(tokenizer->Encode("hello hell", false), ElementsAre(256, 257, 'o', 258, 257));
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode("hello hell é\n", false), true), "hello hell é\n");
  EXPECT_EQ(tokenizer->vocab_size(), 260);
  EXPECT_EQ(tokenizer->TokenToId("ll"), 257);
  EXPECT_EQ(tokenizer->TokenToId("nope"), std::nullopt);
  EXPECT_EQ(tokenizer->TokenBytes(258), " he");
  EXPECT_EQ(tokenizer->TokenBytes(0xC3), "\xC3");
  EXPECT_EQ(tokenizer->TokenBytes(-1), "");
  EXPECT_EQ(tokenizer->TokenBytes(260), "");
}

TEST(TokenizerTest, IgnoreMergesTakesWholeWords) {
  json file = ByteLevelFile();
  file["model"]["vocab"]["hello"] = 259;
  file["added_tokens"] = json::array();
  EXPECT_THAT(Load(file)->Encode("hello", false), ElementsAre(256, 257, 'o'));
  file["model"]["ignore_merges"] = true;
  EXPECT_THAT(Load(file)->Encode("hello", false), ElementsAre(259));
}

TEST(TokenizerTest, BrokenUtf8BecomesReplacementCharacters) {
  const auto tokenizer = Load(ByteLevelFile());
  const auto replaced = tokenizer->Encode("a\xEF\xBF\xBD\xEF\xBF\xBD", false);
  EXPECT_EQ(tokenizer->Encode("a\xC0\x80", false), replaced);
  EXPECT_EQ(tokenizer->Encode("a\xFF\xE2\x82", false), replaced);
  EXPECT_NE(tokenizer->Encode("a\xED\xA0\x80", false), replaced);  // three, as in Python
}

TEST(TokenizerTest, SpecialTokensInTextAndWhenDecoding) {
  const auto tokenizer = Load(ByteLevelFile());
  EXPECT_THAT(tokenizer->Encode("<s>he<s>", false), ElementsAre(259, 256, 259));
  EXPECT_TRUE(tokenizer->IsSpecial(259));
  EXPECT_FALSE(tokenizer->IsSpecial(256));
  EXPECT_FALSE(tokenizer->IsSpecial(-5));
  const std::vector<int32_t> ids = {259, 256, 259, -1, 1000};
  EXPECT_EQ(tokenizer->Decode(ids, false), "<s>he<s>");
  EXPECT_EQ(tokenizer->Decode(ids, true), "he");
}

TEST(TokenizerTest, StripAndSingleWordFlags) {
  json file = ByteLevelFile();
  json token = AddedTokenJson(259, "<s>");
  token["lstrip"] = true;
  token["rstrip"] = true;
  file["added_tokens"] = {token};
  EXPECT_THAT(Load(file)->Encode("he \n<s>  he", false), ElementsAre(256, 259, 256));
  token = AddedTokenJson(256, "he");
  token["single_word"] = true;
  file["added_tokens"] = {token};
  EXPECT_THAT(Load(file)->Encode("xhe. he", false), ElementsAre('x', 256, '.', ' ', 256));
}

TEST(TokenizerTest, NormalizedAddedTokensMatchNormalizedText) {
  json file = ByteLevelFile();
  file["normalizer"] = {{"type", "Lowercase"}};
  json token = AddedTokenJson(259, "HeX");
  token["normalized"] = true;
  file["added_tokens"] = {token};
  EXPECT_THAT(Load(file)->Encode("hEx", false), ElementsAre(259));
}

TEST(TokenizerTest, TemplateAddsTokens) {
  json file = ByteLevelFile();
  file["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single",
       {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
        {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
      {"pair", json::array()},
      {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {259}}, {"tokens", {"<s>"}}}}}}};
  const auto tokenizer = Load(file);
  EXPECT_THAT(tokenizer->Encode("he", true), ElementsAre(259, 256));
  EXPECT_THAT(tokenizer->Encode("he", false), ElementsAre(256));
  EXPECT_THAT(tokenizer->Encode("", true), ElementsAre(259));
  EXPECT_THAT(tokenizer->Encode("", false), IsEmpty());
}

TEST(TokenizerTest, ByteFallback) {
  const auto tokenizer = Load(FallbackFile());
  const int32_t word = *tokenizer->TokenToId("▁ab");
  EXPECT_THAT(tokenizer->Encode("ab ab", false), ElementsAre(word, word));
  const auto ids = tokenizer->Encode("abé", false);
  EXPECT_THAT(ids, ElementsAre(word, 0xC3 + 1, 0xA9 + 1));
  EXPECT_EQ(tokenizer->Decode(ids, false), "abé");
  EXPECT_EQ(Streamed(*tokenizer, ids), "abé");
  EXPECT_EQ(tokenizer->TokenBytes(0xC3 + 1), "\xC3");
  EXPECT_EQ(tokenizer->TokenBytes(word), " ab");
  // A run of bytes that is not valid as a whole: one U+FFFD for each.
  EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{word, 0xC3 + 1, 0xA9 + 1, 0xC3 + 1}, false),
            "ab\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(TokenizerTest, UnknownCharactersFuse) {
  json file = FallbackFile();
  file["model"]["byte_fallback"] = false;
  const auto tokenizer = Load(file);
  const int32_t space = *tokenizer->TokenToId("▁");
  const int32_t a = *tokenizer->TokenToId("a");
  EXPECT_THAT(tokenizer->Encode("é漢a", false), ElementsAre(space, 0, a));
  file["model"]["fuse_unk"] = false;
  EXPECT_THAT(Load(file)->Encode("é漢a", false), ElementsAre(space, 0, 0, a));
}

TEST(TokenizerTest, NormalFormsHaveTheTablesOfUnicode9) {
  json file = ByteLevelFile();
  file["normalizer"] = {{"type", "NFC"}};
  const auto tokenizer = Load(file);
  const auto nfc = [&](const char* text) {
    return tokenizer->Decode(tokenizer->Encode(text, false), false);
  };
  EXPECT_EQ(nfc("e\u0301x"), "\u00e9x");
  EXPECT_EQ(nfc("\u1100\u1161\u11a8"), "\uac01");
  EXPECT_EQ(nfc("a\u0345\u0334"), "a\u0334\u0345");
  EXPECT_EQ(nfc("\u0958"), "\u0915\u093c");
  EXPECT_EQ(nfc("\U00011935\U00011930"), "\U00011935\U00011930");  // Unicode 13 composes these
}

TEST(TokenizerTest, StreamedPiecesJoinToTheWhole) {
  const auto tokenizer = Load(ByteLevelFile());
  const uint32_t seed = 12345;
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 300; ++round) {
    std::vector<int32_t> ids;
    for (uint32_t i = 0; i < 1 + random() % 20; ++i) {
      ids.push_back(
          static_cast<int32_t>(random() % 3 == 0 ? random() % 260 : 0x80 + random() % 0x80));
    }
    EXPECT_EQ(Streamed(*tokenizer, ids), tokenizer->Decode(ids, false));
  }
  StreamDecoder stream(*tokenizer, false);
  EXPECT_EQ(stream.Push(0xE2), "");
  EXPECT_EQ(stream.Push(0x82), "");
  EXPECT_EQ(stream.Push(0xAC), "€");
  EXPECT_EQ(stream.Push(0xE2), "");
  EXPECT_EQ(stream.Push('a'),
            "\xEF\xBF\xBD"
            "a");
  EXPECT_EQ(stream.Push(0xF0), "");
  EXPECT_EQ(stream.Finish(), "\xEF\xBF\xBD");
  EXPECT_EQ(stream.Push('b'), "b");
}

TEST(TokenizerTest, LongWordsTakeAboutLinearTime) {
  for (const json& file : {ByteLevelFile(), FallbackFile()}) {
    const auto tokenizer = Load(file);
    for (const char* unit : {"a", "ab", "l", " ", "é"}) {
      std::string text;
      while (text.size() < 1'000'000) {
        text += unit;
      }
      const double begin = testing_support::ThreadCpuSeconds();
      const auto ids = tokenizer->Encode(text, false);
      EXPECT_LT(testing_support::ThreadCpuSeconds() - begin, 20) << unit;
      EXPECT_EQ(tokenizer->Decode(ids, false), text);
    }
  }
}

TEST(TokenizerTest, ThreadsAgree) {
  const auto tokenizer = Load(ByteLevelFile());
  const std::string text = "hello hell he <s> llll é 123 'll";
  const auto expected = tokenizer->Encode(text, true);
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 500; ++round) {
        wrong += tokenizer->Encode(text, true) == expected ? 0 : 1;
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(wrong, 0);
}

TEST(TokenizerTest, NamesWhatIsNotImplemented) {
  const std::vector<std::pair<const char*, json>> cases = {
      {"normalizer", {{"type", "BertNormalizer"}}},
      {"pre_tokenizer", {{"type", "UnicodeScripts"}}},
      {"decoder", {{"type", "WordPiece"}}},
      {"post_processor", {{"type", "Unheard"}}},
  };
  for (const auto& [field, value] : cases) {
    json file = ByteLevelFile();
    file[field] = value;
    const std::string message = FailureOf(file.dump(), ErrorCode::kUnsupported);
    EXPECT_THAT(message, HasSubstr(value["type"].get<std::string>()));
    EXPECT_THAT(message, HasSubstr("t.json"));
  }
  json file = ByteLevelFile();
  file["model"]["type"] = "Unigram";
  EXPECT_THAT(FailureOf(file.dump(), ErrorCode::kUnsupported), HasSubstr("Unigram"));
  file = ByteLevelFile();
  file["model"]["dropout"] = 0.1;
  EXPECT_THAT(FailureOf(file.dump(), ErrorCode::kUnsupported), HasSubstr("dropout"));
  file = ByteLevelFile();
  file["model"]["end_of_word_suffix"] = "</w>";
  EXPECT_THAT(FailureOf(file.dump(), ErrorCode::kUnsupported), HasSubstr("end_of_word_suffix"));
}

TEST(TokenizerTest, RefusesBrokenFiles) {
  FailureOf("", ErrorCode::kCorruptFile);
  FailureOf("{", ErrorCode::kCorruptFile);
  FailureOf("[]", ErrorCode::kCorruptFile);
  FailureOf("{}", ErrorCode::kCorruptFile);
  FailureOf("{\"model\": \"\xFF\"}", ErrorCode::kCorruptFile);
  FailureOf("{\"model\":" + std::string(100000, '['), ErrorCode::kCorruptFile);
  FailureOf("{\"normalizer\":" + std::string(100000, '[') + std::string(100000, ']') + "}",
            ErrorCode::kCorruptFile);
  const std::string good = ByteLevelFile().dump();
  FailureOf(good + "x", ErrorCode::kCorruptFile);
  for (size_t size = 0; size < good.size(); size += 7) {
    EXPECT_THROW(Tokenizer::FromJson(good.substr(0, size), "t.json"), Error) << size;
  }
  const auto broken = [](auto change) {
    json file = ByteLevelFile();
    change(file);
    return FailureOf(file.dump(), ErrorCode::kCorruptFile);
  };
  EXPECT_THAT(broken([](json& f) { f["model"]["merges"].push_back("q nope"); }), HasSubstr("nope"));
  EXPECT_THAT(broken([](json& f) { f["model"]["merges"].push_back("a b c"); }), HasSubstr("merge"));
  EXPECT_THAT(broken([](json& f) { f["model"]["vocab"]["x"] = -1; }), HasSubstr("whole number"));
  EXPECT_THAT(broken([](json& f) { f["model"]["vocab"]["x"] = 4000000000U; }),
              HasSubstr("4000000000"));
  EXPECT_THAT(broken([](json& f) { f["model"]["unk_token"] = "gone"; }), HasSubstr("unk_token"));
  EXPECT_THAT(broken([](json& f) { f["model"].erase("vocab"); }), HasSubstr("vocab"));
  EXPECT_THAT(broken([](json& f) { f["added_tokens"][0].erase("content"); }), HasSubstr("content"));
  EXPECT_THAT(broken([](json& f) { f["pre_tokenizer"] = 5; }), HasSubstr("pre_tokenizer"));
  EXPECT_THAT(broken([](json& f) {
                f["pre_tokenizer"] = {{"type", "Split"},
                                      {"pattern", {{"Regex", "(a"}}},
                                      {"behavior", "Isolated"},
                                      {"invert", false}};
              }),
              HasSubstr("regular expression"));
}

TEST(TokenizerTest, ReadsMergesBeforeTheVocabulary) {
  const std::string text =
      R"({"model":{"type":"BPE","merges":["a b",["ab","a"]],"vocab":{"a":0,"b":1,"ab":2,"aba":3}}})";
  const auto tokenizer = Tokenizer::FromJson(text, "t.json");
  EXPECT_THAT(tokenizer->Encode("abaab", false), ElementsAre(3, 2));
  EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{3, 2}, false), "aba ab");
}

}  // namespace
}  // namespace mach::text
