#include "api/response.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace mach::api {
namespace {

using Json = nlohmann::ordered_json;

ResponseMeta Meta(ResponseKind kind) {
  return {kind, "id-1", 17, "m\"x"};
}

// The JSON of one event, checking its framing.
Json Event(const std::string& text) {
  EXPECT_EQ(text.substr(0, 6), "data: ");
  EXPECT_EQ(text.substr(text.size() - 2), "\n\n");
  EXPECT_EQ(text.find('\n'), text.size() - 2);
  return Json::parse(text.substr(6));
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

TEST(Errors, UserErrorsAreNeverServerErrors) {
  EXPECT_EQ(FromError(Error(ErrorCode::kInvalidArgument, "x")).status, 400);
  EXPECT_EQ(FromError(Error(ErrorCode::kUnavailable, "x")).status, 503);
  EXPECT_EQ(FromError(Error(ErrorCode::kUnavailable, "x")).code, "server_busy");
  EXPECT_EQ(FromError(Error(ErrorCode::kResourceLimit, "x")).status, 400);
  EXPECT_EQ(FromError(Error(ErrorCode::kResourceLimit, "x")).code, "context_length_exceeded");
  for (const ErrorCode code : {ErrorCode::kInternal, ErrorCode::kIo, ErrorCode::kCorruptFile}) {
    EXPECT_EQ(FromError(Error(code, "x")).status, 500);
    EXPECT_EQ(FromError(Error(code, "x")).code, "internal_error");
  }
}

TEST(Response, ChatHasTheShapeOfTheContract) {
  ChoiceResult choice{"te\"xt", "stop", std::string("END"), ""};
  const Json body = Json::parse(
      EncodeResponse(Meta(ResponseKind::kChat), std::vector<ChoiceResult>{choice}, {9, 3, 4, 0}));
  EXPECT_EQ(body["object"], "chat.completion");
  EXPECT_EQ(body["model"], "m\"x");
  EXPECT_EQ(body["choices"][0].dump(),
            R"({"index":0,"message":{"role":"assistant","content":"te\"xt"},"logprobs":null,)"
            R"("finish_reason":"stop","stop_reason":"END"})");
  EXPECT_EQ(body["usage"].dump(), R"({"prompt_tokens":9,"completion_tokens":3,"total_tokens":12,)"
                                  R"("prompt_tokens_details":{"cached_tokens":4},)"
                                  R"("completion_tokens_details":{"reasoning_tokens":0}})");
}

TEST(Response, ReceiptOfAModelWithoutExpertsHasNoHitRate) {
  Usage usage{9, 3, 4, 0};
  usage.receipt = Receipt{.prefill_seconds = 0.5, .decode_seconds = 1.25};
  const Json body = Json::parse(EncodeResponse(Meta(ResponseKind::kChat), {}, usage));
  EXPECT_EQ(body["usage"]["mach"].dump(),
            R"({"bytes_read":0,"expert_hit_rate":null,"expert_hits":0,"expert_misses":0,)"
            R"("expert_prefill_hits":0,"expert_prefill_misses":0,)"
            R"("stall_seconds":0,"prefill_seconds":0.5,"decode_seconds":1.25,)"
            R"("queue_seconds":0,"cached_tokens":4})");
}

TEST(Response, TextHasTheLegacyShape) {
  const std::vector<ChoiceResult> choices = {{"a", "stop", int32_t{7}, ""},
                                             {"b", "length", {}, ""}};
  const Json body = Json::parse(EncodeResponse(Meta(ResponseKind::kText), choices, {}));
  EXPECT_EQ(body["object"], "text_completion");
  EXPECT_EQ(body["choices"][0]["text"], "a");
  EXPECT_EQ(body["choices"][0]["stop_reason"], 7);
  EXPECT_EQ(body["choices"][1]["index"], 1);
  EXPECT_TRUE(body["choices"][1]["stop_reason"].is_null());
}

TEST(Stream, ChunksOfAChat) {
  const StreamEncoder encoder(Meta(ResponseKind::kChat));
  std::string out;
  encoder.Role(out, 0, nullptr);
  EXPECT_EQ(Event(out)["choices"][0]["delta"].dump(), R"({"role":"assistant","content":""})");
  out.clear();
  encoder.Delta(out, 1, "a\nb", "", nullptr);
  Json event = Event(out);
  EXPECT_EQ(event["object"], "chat.completion.chunk");
  EXPECT_EQ(event["choices"][0]["index"], 1);
  EXPECT_EQ(event["choices"][0]["delta"]["content"], "a\nb");
  EXPECT_TRUE(event["choices"][0]["finish_reason"].is_null());
  EXPECT_FALSE(event.contains("usage"));
  out.clear();
  encoder.Finish(out, 0, "length", {}, nullptr);
  EXPECT_EQ(Event(out)["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(Event(out)["choices"][0]["delta"], Json::object());
  out.clear();
  encoder.UsageChunk(out, {1, 2, 0, 0});
  EXPECT_EQ(Event(out)["choices"], Json::array());
  EXPECT_EQ(Event(out)["usage"]["total_tokens"], 3);
  out.clear();
  StreamEncoder::Error(out, Internal("x\ny"));
  EXPECT_EQ(Event(out)["error"]["message"], "x\ny");
  out.clear();
  StreamEncoder::Done(out);
  EXPECT_EQ(out, "data: [DONE]\n\n");
}

TEST(Stream, ContinuousUsageRidesOnChunks) {
  const StreamEncoder encoder(Meta(ResponseKind::kText));
  const Usage usage{5, 1, 0, 0};
  std::string out;
  encoder.Delta(out, 0, "x", "", &usage);
  EXPECT_EQ(Event(out)["usage"]["completion_tokens"], 1);
  EXPECT_EQ(Event(out)["choices"][0]["text"], "x");
}

TEST(Logprobs, ChatEntries) {
  LogprobText logprobs(ResponseKind::kChat);
  const AlternativeView top[] = {{"a", -0.5F}, {"b", -1e30F}};
  logprobs.Add("\xC3", -std::numeric_limits<float>::infinity(), top);
  logprobs.Add("b", -0.25F, {});
  const Json json = Json::parse(logprobs.Take());
  ASSERT_EQ(json["content"].size(), 2U);
  EXPECT_EQ(json["content"][0]["token"], "\xEF\xBF\xBD");
  EXPECT_EQ(json["content"][0]["bytes"], Json::array({195}));
  EXPECT_EQ(json["content"][0]["logprob"], -9999.0);
  EXPECT_EQ(json["content"][0]["top_logprobs"][1]["logprob"], -9999.0);
  EXPECT_EQ(json["content"][1]["top_logprobs"], Json::array());
  EXPECT_TRUE(logprobs.empty());
}

TEST(Logprobs, LegacyArraysKeepCountingOffsets) {
  LogprobText logprobs(ResponseKind::kText);
  const AlternativeView top[] = {{"x", -1.0F}};
  logprobs.Add("h\xC3\xA9", -0.5F, top);
  logprobs.Add("y", -0.5F, top);
  EXPECT_EQ(
      Json::parse(logprobs.Take()).dump(),
      "{\"text_offset\":[0,2],\"token_logprobs\":[-0.5,-0.5],\"tokens\":[\"h\xC3\xA9\",\"y\"],"
      "\"top_logprobs\":[{\"x\":-1,\"h\xC3\xA9\":-0.5},{\"x\":-1,\"y\":-0.5}]}");
  logprobs.Add("z", -0.5F, {});
  EXPECT_EQ(Json::parse(logprobs.Take())["text_offset"], Json::array({3}));
}

TEST(Logprobs, LegacyTopHasTheSampledTokenOnce) {
  LogprobText logprobs(ResponseKind::kText);
  const AlternativeView top[] = {{"a", -0.5F}, {"b", -1.0F}, {"b", -2.0F}};
  logprobs.Add("a", -0.5F, top);
  logprobs.Add("c", -3.0F, top);
  logprobs.Add("c", -3.0F, {});
  EXPECT_EQ(Json::parse(logprobs.Take())["top_logprobs"].dump(),
            R"([{"a":-0.5,"b":-1},{"a":-0.5,"b":-1,"c":-3},{"c":-3}])");
}

TEST(Logprobs, LegacyTokensThatArePartsOfCharactersAreWrittenAsBytes) {
  LogprobText logprobs(ResponseKind::kText);
  const AlternativeView top[] = {{"\x98", -0.5F}, {"\x99", -1.0F}};
  logprobs.Add("\xF0\x9F", -0.5F, {});
  logprobs.Add("\x98\x80", -0.5F, top);
  logprobs.Add("z", -0.5F, {});
  const Json json = Json::parse(logprobs.Take());
  EXPECT_EQ(json["tokens"].dump(), R"(["bytes:\\xf0\\x9f","bytes:\\x98\\x80","z"])");
  EXPECT_EQ(json["top_logprobs"][1].dump(),
            R"({"bytes:\\x98":-0.5,"bytes:\\x99":-1,"bytes:\\x98\\x80":-0.5})");
  EXPECT_EQ(json["text_offset"], Json::array({0, 1, 1}));
}

TEST(Logprobs, HiddenTokensDoNotMoveTheText) {
  LogprobText logprobs(ResponseKind::kText);
  logprobs.Add("ab", -0.5F, {});
  logprobs.Add("<|special|>", -0.5F, {}, /*shown=*/false);
  logprobs.Add("c", -0.5F, {});
  EXPECT_EQ(Json::parse(logprobs.Take())["text_offset"], Json::array({0, 2, 2}));
}

}  // namespace
}  // namespace mach::api
