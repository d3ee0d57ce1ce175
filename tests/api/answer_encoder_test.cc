#include "api/answer_encoder.h"

#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace mach::api {
namespace {

using Json = nlohmann::ordered_json;

AnswerSpec Spec(bool stream = false, int32_t choices = 1) {
  return {.id = "id-1",
          .created_unix_s = 17,
          .model = "m\"x",
          .choices = choices,
          .stream = stream,
          .logprobs = true};
}

// More content of a choice.
void Say(AnswerEncoder& encoder, Pieces& out, const std::string& text, int32_t choice = 0,
         std::span<const TokenView> tokens = {}, const UsageReport& usage = {}) {
  const chat::ChatDelta delta{.text = text, .id = ""};
  encoder.Delta(
      out, {.choice = choice, .deltas = std::span(&delta, text.empty() ? 0 : 1), .tokens = tokens},
      usage);
}

// The JSON of one event, checking its framing. Nothing is left.
Json Event(Pieces& out) {
  const std::string text = out.Join();
  out = Pieces();
  EXPECT_EQ(text.substr(0, 6), "data: ");
  EXPECT_EQ(text.substr(text.size() - 2), "\n\n");
  EXPECT_EQ(text.find('\n'), text.size() - 2);
  return Json::parse(text.substr(6));
}

Json Whole(AnswerEncoder& encoder, const UsageReport& usage = {}) {
  Pieces out;
  encoder.End(out, usage);
  return Json::parse(out.Join());
}

TEST(Errors, ContextOverflowReadsAsClientsMatchIt) {
  const ErrorInfo info = ContextOverflow(100, 20, 90, "messages");
  EXPECT_EQ(info.message,
            "This model's maximum context length is 100 tokens. However, you requested 20 output "
            "tokens and your prompt contains at least 90 input tokens.");
  EXPECT_EQ(info.code, "context_length_exceeded");
  const Json body = Json::parse(ErrorBody(info));
  EXPECT_EQ(body["error"]["type"], "invalid_request_error");
  EXPECT_EQ(body["error"]["param"], "messages");
}

TEST(Errors, OnlyTheClientsOwnFaultsAreToldInFull) {
  EXPECT_EQ(FromRefusal(Error(ErrorCode::kInvalidArgument, "x", "y"), "r").status, 400);
  EXPECT_EQ(FromRefusal(Error(ErrorCode::kInvalidArgument, "x", "y"), "r").message, "x (y)");
  for (const auto from : {FromRefusal, FromFailure}) {
    EXPECT_EQ(from(Error(ErrorCode::kUnavailable, "x"), "r").status, 503);
    EXPECT_EQ(from(Error(ErrorCode::kUnavailable, "x"), "r").code, "server_busy");
    EXPECT_EQ(from(Error(ErrorCode::kResourceLimit, "x"), "r").status, 400);
    EXPECT_EQ(from(Error(ErrorCode::kResourceLimit, "x"), "r").code, "out_of_memory");
    for (const ErrorCode code : {ErrorCode::kInternal, ErrorCode::kIo, ErrorCode::kCorruptFile,
                                 ErrorCode::kNotFound, ErrorCode::kUnsupported}) {
      const ErrorInfo info = from(Error(code, "/home/me/x", "run `y`"), "id-7");
      EXPECT_EQ(info.status, 500);
      EXPECT_EQ(info.code, "internal_error");
      EXPECT_EQ(info.reason(), "/home/me/x (run `y`)");
      EXPECT_NE(info.message.find("id-7"), std::string::npos);
      EXPECT_EQ(ErrorBody(info).find("/home"), std::string::npos);
      EXPECT_EQ(ErrorBody(info).find('`'), std::string::npos);
    }
  }
  // The fields of a request that was queued have been found good.
  EXPECT_EQ(FromFailure(Error(ErrorCode::kInvalidArgument, "x"), "r").status, 500);
}

TEST(Whole, ChatHasTheShapeOfTheContract) {
  AnswerSpec spec = Spec();
  spec.logprobs = false;
  const auto encoder = MakeChatEncoder(spec);
  Pieces out;
  encoder->Begin(out, {});
  Say(*encoder, out, "te\"");
  Say(*encoder, out, "xt");
  encoder->EndChoice(out, {.finish_reason = "stop", .stop_reason = "END"}, {});
  EXPECT_TRUE(out.empty());
  EXPECT_GE(encoder->held_bytes(), 5U);
  const Json body = Whole(*encoder, {9, 3, 4, 0});
  EXPECT_EQ(encoder->held_bytes(), 0U);
  EXPECT_EQ(body["id"], "id-1");
  EXPECT_EQ(body["object"], "chat.completion");
  EXPECT_EQ(body["created"], 17);
  EXPECT_EQ(body["model"], "m\"x");
  EXPECT_EQ(body["choices"][0].dump(),
            R"({"index":0,"message":{"role":"assistant","content":"te\"xt"},"logprobs":null,)"
            R"("finish_reason":"stop","stop_reason":"END"})");
  EXPECT_EQ(body["usage"].dump(), R"({"prompt_tokens":9,"completion_tokens":3,"total_tokens":12,)"
                                  R"("prompt_tokens_details":{"cached_tokens":4},)"
                                  R"("completion_tokens_details":{"reasoning_tokens":0}})");
}

TEST(Whole, ReceiptOfAModelWithoutExpertsHasNoHitRate) {
  UsageReport usage{9, 3, 4, 0};
  usage.receipt = Receipt{.prefill_seconds = 0.5, .decode_seconds = 1.25};
  const auto encoder = MakeChatEncoder(Spec());
  Pieces out;
  encoder->EndChoice(out, {.finish_reason = "stop"}, usage);
  const Json body = Whole(*encoder, usage);
  EXPECT_EQ(body["usage"]["mach"].dump(),
            R"({"bytes_read":0,"expert_hit_rate":null,"expert_hits":0,"expert_misses":0,)"
            R"("expert_prefill_hits":0,"expert_prefill_misses":0,)"
            R"("stall_seconds":0,"prefill_seconds":0.5,"decode_seconds":1.25,)"
            R"("queue_seconds":0,"cached_tokens":4})");
}

TEST(Whole, TextHasTheLegacyShapeAndChoicesMayInterleave) {
  const auto encoder = MakeCompletionEncoder(Spec(/*stream=*/false, 2));
  Pieces out;
  const TokenView token{.bytes = "a", .logprob = -1};
  Say(*encoder, out, "b", 1);
  Say(*encoder, out, "a", 0, std::span(&token, 1));
  encoder->EndChoice(out, {.choice = 1, .finish_reason = "length"}, {});
  encoder->EndChoice(out, {.choice = 0, .finish_reason = "stop", .stop_reason = 7}, {});
  const Json body = Whole(*encoder);
  EXPECT_EQ(body["object"], "text_completion");
  EXPECT_EQ(body["choices"][0]["text"], "a");
  EXPECT_EQ(body["choices"][0]["stop_reason"], 7);
  EXPECT_EQ(body["choices"][0]["logprobs"]["tokens"], Json::array({"a"}));
  EXPECT_EQ(body["choices"][1]["index"], 1);
  EXPECT_EQ(body["choices"][1]["text"], "b");
  EXPECT_TRUE(body["choices"][1]["stop_reason"].is_null());
}

TEST(Whole, ALongAnswerIsMovedAndNotCopied) {
  const auto encoder = MakeChatEncoder(Spec());
  Pieces out;
  const std::vector<AlternativeView> top(20, {"word", -2.5F});
  const TokenView token{.bytes = "word", .logprob = -0.5F, .top = top};
  constexpr int kTokens = 2000;
  for (int i = 0; i < kTokens; ++i) {
    Say(*encoder, out, "word", 0, std::span(&token, 1));
  }
  encoder->EndChoice(out, {.finish_reason = "length"}, {});
  const uint64_t held_bytes = encoder->held_bytes();
  EXPECT_GT(held_bytes, 1U << 20);
  encoder->End(out, {});
  EXPECT_EQ(encoder->held_bytes(), 0U);
  EXPECT_LT(out.size_bytes(), held_bytes + 4096);
  const std::string first = out.TakeFront();
  EXPECT_LT(first.capacity(), 2 * Pieces::kPieceBytes);
  std::string text = first;
  while (!out.empty()) {
    const std::string piece = out.TakeFront();
    EXPECT_LT(piece.capacity(), 2 * Pieces::kPieceBytes);
    text += piece;
  }
  EXPECT_EQ(Json::parse(text)["choices"][0]["logprobs"]["content"].size(), kTokens);
}

TEST(Stream, ChunksOfAChat) {
  AnswerSpec spec = Spec(/*stream=*/true, 2);
  spec.logprobs = false;
  spec.usage_at_end = true;
  const auto encoder = MakeChatEncoder(spec);
  Pieces out;
  encoder->Begin(out, {});
  const std::string begin = out.Join();
  const size_t second = begin.find("\n\n") + 2;
  out = Pieces(begin.substr(second));
  Json event = Event(out);
  EXPECT_EQ(event["choices"][0]["index"], 1);
  out = Pieces(begin.substr(0, second));
  event = Event(out);
  EXPECT_EQ(event["choices"][0]["index"], 0);
  EXPECT_EQ(event["choices"][0]["delta"].dump(), R"({"role":"assistant","content":""})");
  Say(*encoder, out, "a\nb", 1);
  event = Event(out);
  EXPECT_EQ(event["object"], "chat.completion.chunk");
  EXPECT_EQ(event["choices"][0]["index"], 1);
  EXPECT_EQ(event["choices"][0]["delta"]["content"], "a\nb");
  EXPECT_TRUE(event["choices"][0]["logprobs"].is_null());
  EXPECT_TRUE(event["choices"][0]["finish_reason"].is_null());
  EXPECT_FALSE(event.contains("usage"));
  encoder->EndChoice(out, {.finish_reason = "length"}, {});
  event = Event(out);
  EXPECT_EQ(event["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(event["choices"][0]["delta"], Json::object());
  encoder->End(out, {1, 2, 0, 0});
  const std::string end = out.Join();
  constexpr char kDone[] = "data: [DONE]\n\n";
  ASSERT_EQ(end.find(kDone), end.size() - std::strlen(kDone));
  out = Pieces(end.substr(0, end.size() - std::strlen(kDone)));
  event = Event(out);
  EXPECT_EQ(event["choices"], Json::array());
  EXPECT_EQ(event["usage"]["total_tokens"], 3);
  EXPECT_EQ(encoder->held_bytes(), 0U);
}

chat::ChatDelta Delta(chat::ChatDelta::Kind kind, const char* text, int32_t index = 0,
                      const char* id = "") {
  return {.kind = kind, .text = text, .index = index, .id = id};
}

TEST(Stream, ReasoningAndCallsAreDeltasOfTheirOwn) {
  using Kind = chat::ChatDelta::Kind;
  AnswerSpec spec = Spec(/*stream=*/true);
  spec.reasoning = true;
  const auto encoder = MakeChatEncoder(spec);
  const std::vector<chat::ChatDelta> deltas = {Delta(Kind::kReasoning, "hm"),
                                               Delta(Kind::kCallStart, "f", 1, "call_1"),
                                               Delta(Kind::kCallArguments, "{\"a\"", 1)};
  const TokenView token{.bytes = "hm", .logprob = -1};
  Pieces out;
  encoder->Delta(out, {.deltas = deltas, .tokens = std::span(&token, 1)}, {});
  const std::string text = out.Join();
  std::vector<Json> choices;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find("\n\n", at);
    choices.push_back(Json::parse(text.substr(at + 6, end - at - 6))["choices"][0]);
    at = end + 2;
  }
  ASSERT_EQ(choices.size(), 3U);
  EXPECT_EQ(choices[0]["delta"].dump(), R"({"reasoning_content":"hm","reasoning":"hm"})");
  EXPECT_EQ(choices[0]["logprobs"]["content"].size(), 1U);
  EXPECT_TRUE(choices[1]["logprobs"].is_null());
  EXPECT_EQ(choices[1]["delta"].dump(),
            R"({"tool_calls":[{"index":1,"id":"call_1","type":"function",)"
            R"("function":{"name":"f","arguments":""}}]})");
  EXPECT_EQ(choices[2]["delta"].dump(),
            R"({"tool_calls":[{"index":1,"function":{"arguments":"{\"a\""}}]})");
}

TEST(Whole, ACallHasNoContent) {
  using Kind = chat::ChatDelta::Kind;
  const auto encoder = MakeChatEncoder(Spec());
  const std::vector<chat::ChatDelta> deltas = {Delta(Kind::kCallStart, "f", 0, "call_1"),
                                               Delta(Kind::kCallArguments, "{}")};
  Pieces out;
  encoder->Delta(out, {.deltas = deltas}, {});
  EXPECT_GT(encoder->held_bytes(), 0U);
  encoder->EndChoice(out, {.finish_reason = "tool_calls"}, {});
  const Json choice = Whole(*encoder)["choices"][0];
  EXPECT_EQ(choice["message"].dump(),
            R"({"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function",)"
            R"("function":{"name":"f","arguments":"{}"}}]})");
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
}

TEST(Stream, AnErrorIsItsLastWord) {
  const auto encoder = MakeCompletionEncoder(Spec(/*stream=*/true));
  Pieces out;
  encoder->Begin(out, {});
  EXPECT_TRUE(out.empty());
  encoder->Fail(out, InvalidRequest("x\ny"));
  const std::string text = out.Join();
  const size_t end = text.find("\n\n") + 2;
  EXPECT_EQ(text.substr(end), "data: [DONE]\n\n");
  out = Pieces(text.substr(0, end));
  EXPECT_EQ(Event(out)["error"]["message"], "x\ny");
}

TEST(Stream, ContinuousUsageRidesOnChunks) {
  AnswerSpec spec = Spec(/*stream=*/true);
  spec.running_usage = true;
  const auto encoder = MakeCompletionEncoder(spec);
  Pieces out;
  Say(*encoder, out, "x", 0, {}, {5, 1, 0, 0});
  const Json event = Event(out);
  EXPECT_EQ(event["usage"]["completion_tokens"], 1);
  EXPECT_EQ(event["choices"][0]["text"], "x");
}

// The logprobs of these tokens of one choice, streamed as one event.
Json Logprobs(AnswerEncoder& encoder, const std::vector<TokenView>& tokens, int32_t choice = 0) {
  Pieces out;
  Say(encoder, out, "", choice, tokens);
  return Event(out)["choices"][0]["logprobs"];
}

TEST(Logprobs, ChatEntries) {
  const auto encoder = MakeChatEncoder(Spec(/*stream=*/true));
  const AlternativeView top[] = {{"a", -0.5F}, {"b", -1e30F}};
  const Json json = Logprobs(
      *encoder, {{"\xC3", -std::numeric_limits<float>::infinity(), top}, {"b", -0.25F, {}}});
  ASSERT_EQ(json["content"].size(), 2U);
  EXPECT_EQ(json["content"][0]["token"], "\xEF\xBF\xBD");
  EXPECT_EQ(json["content"][0]["bytes"], Json::array({195}));
  EXPECT_EQ(json["content"][0]["logprob"], -9999.0);
  EXPECT_EQ(json["content"][0]["top_logprobs"][1]["logprob"], -9999.0);
  EXPECT_EQ(json["content"][1]["top_logprobs"], Json::array());
  EXPECT_EQ(Logprobs(*encoder, {{"c", -1, {}}})["content"].size(), 1U);
}

TEST(Logprobs, LegacyArraysKeepCountingOffsetsByChoice) {
  const auto encoder = MakeCompletionEncoder(Spec(/*stream=*/true, 2));
  const AlternativeView top[] = {{"x", -1.0F}};
  EXPECT_EQ(
      Logprobs(*encoder, {{"h\xC3\xA9", -0.5F, top}, {"y", -0.5F, top}}).dump(),
      "{\"text_offset\":[0,2],\"token_logprobs\":[-0.5,-0.5],\"tokens\":[\"h\xC3\xA9\",\"y\"],"
      "\"top_logprobs\":[{\"x\":-1,\"h\xC3\xA9\":-0.5},{\"x\":-1,\"y\":-0.5}]}");
  EXPECT_EQ(Logprobs(*encoder, {{"z", -0.5F, {}}}, /*choice=*/1)["text_offset"], Json::array({0}));
  EXPECT_EQ(Logprobs(*encoder, {{"z", -0.5F, {}}})["text_offset"], Json::array({3}));
}

TEST(Logprobs, LegacyTopHasTheSampledTokenOnce) {
  const auto encoder = MakeCompletionEncoder(Spec(/*stream=*/true));
  const AlternativeView top[] = {{"a", -0.5F}, {"b", -1.0F}, {"b", -2.0F}};
  EXPECT_EQ(
      Logprobs(*encoder, {{"a", -0.5F, top}, {"c", -3.0F, top}, {"c", -3.0F, {}}})["top_logprobs"]
          .dump(),
      R"([{"a":-0.5,"b":-1},{"a":-0.5,"b":-1,"c":-3},{"c":-3}])");
}

TEST(Logprobs, LegacyTokensThatArePartsOfCharactersAreWrittenAsBytes) {
  const auto encoder = MakeCompletionEncoder(Spec(/*stream=*/true));
  const AlternativeView top[] = {{"\x98", -0.5F}, {"\x99", -1.0F}};
  const Json json =
      Logprobs(*encoder, {{"\xF0\x9F", -0.5F, {}}, {"\x98\x80", -0.5F, top}, {"z", -0.5F, {}}});
  EXPECT_EQ(json["tokens"].dump(), R"(["bytes:\\xf0\\x9f","bytes:\\x98\\x80","z"])");
  EXPECT_EQ(json["top_logprobs"][1].dump(),
            R"({"bytes:\\x98":-0.5,"bytes:\\x99":-1,"bytes:\\x98\\x80":-0.5})");
  EXPECT_EQ(json["text_offset"], Json::array({0, 1, 1}));
}

TEST(Logprobs, HiddenTokensDoNotMoveTheText) {
  const auto encoder = MakeCompletionEncoder(Spec(/*stream=*/true));
  EXPECT_EQ(Logprobs(*encoder, {{"ab", -0.5F, {}},
                                {"<|special|>", -0.5F, {}, /*shown=*/false},
                                {"c", -0.5F, {}}})["text_offset"],
            Json::array({0, 2, 2}));
}

}  // namespace
}  // namespace mach::api
