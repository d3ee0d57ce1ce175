#include "decode/text_stream.h"

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/word_tokenizer.h"

namespace mach::decode {
namespace {

using testing_support::WordTokenizer;

std::string Text(const std::vector<TextPiece>& pieces) {
  return JoinPieces(pieces, /*with_special=*/true);
}

struct Shown {
  std::string text;
  std::string stop;
};

Shown Stream(const std::vector<std::string>& pieces, const std::vector<std::string>& stops,
             bool include = false) {
  const WordTokenizer tokenizer(pieces);
  TextStream stream(tokenizer, {}, false, stops, include);
  Shown shown;
  for (size_t i = 0; i < pieces.size() && !stream.stop(); ++i) {
    shown.text += Text(stream.Push(static_cast<int32_t>(i), true));
  }
  if (!stream.stop()) {
    shown.text += Text(stream.Finish());
  }
  shown.stop = stream.stop().value_or("");
  return shown;
}

TEST(TextStream, CutsAtAStopStringHoweverItIsSplit) {
  const std::string text = "one two STOP three";
  for (size_t width = 1; width <= text.size(); ++width) {
    std::vector<std::string> pieces;
    for (size_t at = 0; at < text.size(); at += width) {
      pieces.push_back(text.substr(at, width));
    }
    const Shown cut = Stream(pieces, {"STOP"});
    EXPECT_EQ(cut.text, "one two ") << width;
    EXPECT_EQ(cut.stop, "STOP");
    EXPECT_EQ(Stream(pieces, {"STOP"}, true).text, "one two STOP");
    EXPECT_EQ(Stream(pieces, {"never"}).text, text);
  }
}

TEST(TextStream, FirstMatchWinsAndFalseStartsAreReleased) {
  EXPECT_EQ(Stream({"ab", "ab", "ac"}, {"abac", "zz"}).text, "ab");
  EXPECT_EQ(Stream({"aab"}, {"b", "aa"}).text, "");
  EXPECT_EQ(Stream({"x<", "/y"}, {"</x>"}).text, "x</y");
  EXPECT_EQ(Stream({"x</"}, {"</x>"}).text, "x</");  // released at the end
}

TEST(TextStream, HoldsBackOnlyAPossibleStart) {
  const WordTokenizer tokenizer({"hello wor", "ld", "!"});
  TextStream stream(tokenizer, {}, false, {"world peace"}, false);
  EXPECT_EQ(Text(stream.Push(0, true)), "hello ");
  EXPECT_EQ(Text(stream.Push(1, true)), "");
  EXPECT_EQ(Text(stream.Push(2, true)), "world!");
}

TEST(TextStream, MinTokensLetsStopsPass) {
  const WordTokenizer tokenizer({"STOP", "a", "STOP"});
  TextStream stream(tokenizer, {}, false, {"STOP"}, false);
  EXPECT_EQ(Text(stream.Push(0, false)), "STOP");
  EXPECT_EQ(Text(stream.Push(1, true)), "a");
  EXPECT_EQ(Text(stream.Push(2, true)), "");
  EXPECT_EQ(stream.stop(), "STOP");
}

// Pieces 0 to 3 are text, the others special.
std::vector<TextPiece> Pieces(const std::vector<int32_t>& tokens, const std::string& stop,
                              bool show_special, bool include = false) {
  const WordTokenizer tokenizer({"a ", "<end>", "b", "\xC3", "<end>", "<x>"}, 4);
  TextStream stream(tokenizer, {}, show_special, {stop}, include);
  std::vector<TextPiece> all;
  const auto add = [&](std::vector<TextPiece> pieces) {
    all.insert(all.end(), pieces.begin(), pieces.end());
  };
  for (const int32_t token : tokens) {
    add(stream.Push(token, true));
  }
  add(stream.Finish());
  EXPECT_EQ(stream.shown_bytes(), JoinPieces(all, show_special).size());
  return all;
}

TEST(TextStream, ASpecialTokenIsAPieceAndTheSameCharactersAreText) {
  const std::vector<TextPiece> want = {{"a ", {}}, {"<end>", 4, true}, {"<end>", {}}, {"b", {}}};
  for (const bool show : {false, true}) {
    EXPECT_EQ(Pieces({0, 4, 1, 2}, "never", show), want);
  }
  // A broken character before it is closed by what is shown, not by what is left out.
  EXPECT_EQ(Pieces({3, 4}, "never", true),
            (std::vector<TextPiece>{{"\uFFFD", {}}, {"<end>", 4, true}}));
  EXPECT_EQ(Pieces({3, 4}, "never", false),
            (std::vector<TextPiece>{{"<end>", 4, true}, {"\uFFFD", {}}}));
}

TEST(TextStream, StopStringsSeeTheSpecialTokensThatAreShown) {
  EXPECT_EQ(Pieces({0, 4, 2}, "<end>", true), (std::vector<TextPiece>{{"a ", {}}}));
  EXPECT_EQ(Pieces({0, 4, 2}, "<end>", true, /*include=*/true),
            (std::vector<TextPiece>{{"a ", {}}, {"<end>", 4, true}}));
  EXPECT_EQ(Pieces({0, 4, 2}, "a b", true),
            (std::vector<TextPiece>{{"a ", {}}, {"<end>", 4, true}, {"b", {}}}));
  // One that is not shown is no part of the text, and goes with the text around it.
  EXPECT_EQ(Pieces({0, 4, 2}, "a b", false), (std::vector<TextPiece>{}));
  EXPECT_EQ(Pieces({0, 4, 0}, "a b", false),
            (std::vector<TextPiece>{{"a ", {}}, {"<end>", 4, true}, {"a ", {}}}));
  EXPECT_EQ(Pieces({0, 4, 2}, "<end>", false),
            (std::vector<TextPiece>{{"a ", {}}, {"<end>", 4, true}, {"b", {}}}));
  // A stop string cuts it: what is left is text. Until then it is held back whole.
  EXPECT_EQ(Pieces({4, 2}, "d>b", true), (std::vector<TextPiece>{{"<en", {}}}));
  EXPECT_EQ(Pieces({4, 5}, "d>b", true),
            (std::vector<TextPiece>{{"<end>", 4, true}, {"<x>", 5, true}}));
}

// SentencePiece's kind of decoder. Tokens 0 to 255 are the bytes "<0x00>" ... "<0xFF>".
constexpr int32_t kHello = 256;      // "▁Hello"
constexpr int32_t kWorld = 257;      // "▁world"
constexpr int32_t kBang = 258;       // "!"
constexpr int32_t kAssistant = 259;  // "<|assistant|>", special

std::unique_ptr<text::Tokenizer> SpaceTokenizer(const nlohmann::json& decoder) {
  nlohmann::json vocab = nlohmann::json::object();
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof(name), "<0x%02X>", static_cast<unsigned>(byte));
    vocab[name] = byte;
  }
  vocab["▁Hello"] = kHello;
  vocab["▁world"] = kWorld;
  vocab["!"] = kBang;
  const nlohmann::json file = {
      {"added_tokens", nlohmann::json::array({{{"id", kAssistant},
                                               {"content", "<|assistant|>"},
                                               {"single_word", false},
                                               {"lstrip", false},
                                               {"rstrip", false},
                                               {"normalized", false},
                                               {"special", true}}})},
      {"normalizer", nullptr},
      {"pre_tokenizer", nullptr},
      {"post_processor", nullptr},
      {"decoder", decoder},
      {"model",
       {{"type", "BPE"},
        {"vocab", vocab},
        {"merges", nlohmann::json::array()},
        {"byte_fallback", true}}}};
  return text::Tokenizer::FromJson(file.dump(), "test");
}

const nlohmann::json kStripDecoder = {
    {"type", "Sequence"},
    {"decoders",
     {{{"type", "Replace"}, {"pattern", {{"String", "▁"}}}, {"content", " "}},
      {{"type", "ByteFallback"}},
      {{"type", "Fuse"}},
      {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}};
const nlohmann::json kMetaspaceDecoder = {
    {"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "first"}};

std::string Continue(const text::Tokenizer& tokenizer, const std::vector<int32_t>& prompt,
                     const std::vector<int32_t>& tokens, bool show_special = false) {
  TextStream stream(tokenizer, prompt, show_special, {}, false);
  std::string text;
  for (const int32_t token : tokens) {
    text += JoinPieces(stream.Push(token, true), show_special);
  }
  text += JoinPieces(stream.Finish(), show_special);
  EXPECT_EQ(stream.decoded_bytes(), text.size());
  return text;
}

TEST(TextStream, ContinuesThePromptWithItsSpace) {
  for (const auto& decoder : {kStripDecoder, kMetaspaceDecoder}) {
    const auto tokenizer = SpaceTokenizer(decoder);
    const std::vector<int32_t> prompt = {kHello};
    EXPECT_EQ(Continue(*tokenizer, prompt, {kWorld, kBang}), " world!");
    // What text offsets of logprobs count.
    EXPECT_EQ(tokenizer->TokenBytes(kWorld) + tokenizer->TokenBytes(kBang), " world!");
    // However long the prompt is, prompt and text read as one.
    const std::vector<int32_t> many(100, kHello);
    EXPECT_EQ(Continue(*tokenizer, many, {kWorld}), " world");
    // A text with nothing before it begins without a space.
    EXPECT_EQ(Continue(*tokenizer, {}, {kWorld}), "world");
    EXPECT_EQ(Continue(*tokenizer, {kAssistant}, {kWorld}), "world");
    EXPECT_EQ(Continue(*tokenizer, {kBang, kAssistant}, {kWorld}), " world");
    EXPECT_EQ(Continue(*tokenizer, {kAssistant}, {kWorld}, /*show_special=*/true), " world");
  }
}

TEST(TextStream, WhatTheDecoderHoldsBackOfThePromptIsNotShown) {
  const auto tokenizer = SpaceTokenizer(kStripDecoder);
  // A newline as a byte token is certain only once another kind of token follows.
  EXPECT_EQ(Continue(*tokenizer, {kHello, '\n'}, {kWorld}), " world");
  EXPECT_EQ(Continue(*tokenizer, {kHello, '\n'}, {'\n', kWorld}), "\n world");
  EXPECT_EQ(Continue(*tokenizer, {kHello, '\n'}, {}), "");
  // The prompt's characters stay whole, however many of its bytes are looked at.
  std::vector<int32_t> bytes = {kHello};
  for (int i = 0; i < 10; ++i) {
    bytes.insert(bytes.end(), {0xE4, 0xBD, 0xA0});
  }
  EXPECT_EQ(Continue(*tokenizer, bytes, {0xE5, 0xA5, 0xBD, kBang}), "\xE5\xA5\xBD!");
  // A character that the prompt began and the answer completes.
  EXPECT_EQ(Continue(*tokenizer, {kHello, 0xC3}, {0xA9, kBang}), "\xC3\xA9!");
}

}  // namespace
}  // namespace mach::decode
