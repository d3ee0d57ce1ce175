// /v1/messages: its bodies as requests, and answers in its way.
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "api/answer_encoder.h"
#include "api/request.h"
#include "tests/api/named_events.h"

namespace mach::api {
namespace {

using Json = nlohmann::ordered_json;
using Kind = chat::ChatDelta::Kind;
using mach::testing::Lines;
using mach::testing::ReadNamedEvents;

const RequestLimits kLimits;

ChatRequest Parse(const char* fields) {
  Json body = {{"model", "m"},
               {"max_tokens", 9},
               {"messages", Json::array({Json{{"role", "user"}, {"content", "hi"}}})}};
  body.update(Json::parse(fields));
  return ParseMessagesRequest(body.dump(), kLimits);
}

std::string Messages(const std::string& messages, const std::string& more = "") {
  return Parse(("{\"messages\":" + messages + more + "}").c_str()).messages->dump();
}

ErrorInfo Rejection(const char* fields) {
  try {
    Parse(fields);
  } catch (const RequestError& e) {
    return e.info();
  }
  ADD_FAILURE() << "accepted: " << fields;
  return {};
}

TEST(MessagesRequest, ReadsEveryField) {
  const ChatRequest request = Parse(R"({
    "stream": true, "temperature": 0.5, "top_p": 0.25, "top_k": 7, "stop_sequences": ["a", "b"],
    "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"},
               "cache_control": {"type": "ephemeral"}}, {"type": "custom", "name": "g",
               "input_schema": {}, "strict": true}],
    "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"a": 1}}},
    "metadata": {"user_id": "u"}, "service_tier": "auto", "context_management": {"edits": []},
    "anything": 1})");
  EXPECT_EQ(request.common.model, "m");
  EXPECT_TRUE(request.common.stream);
  EXPECT_EQ(request.common.stop.max_tokens, 9);
  EXPECT_EQ(request.common.sampling.temperature, 0.5F);
  EXPECT_EQ(request.common.sampling.top_p, 0.25F);
  EXPECT_EQ(request.common.sampling.top_k, 7);
  EXPECT_EQ(request.common.stop.strings, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(request.tools->dump(),
            R"([{"type":"function","function":{"name":"f","description":"d",)"
            R"("parameters":{"type":"object"}}},)"
            R"({"type":"function","function":{"name":"g","parameters":{},"strict":true}}])");
  EXPECT_EQ(request.tool_choice.kind, ToolChoice::Kind::kRequired);
  EXPECT_FALSE(request.parallel_tool_calls);
  EXPECT_EQ(request.thinking_budget, 1024);
  EXPECT_EQ(request.template_variables->dump(),
            R"({"enable_thinking":true,"reasoning_effort":"low"})");
  EXPECT_EQ(request.response_format.kind, ResponseFormat::Kind::kJsonSchema);
  EXPECT_EQ(request.response_format.schema->dump(), R"({"a":1})");
}

TEST(MessagesRequest, ThinkingCanBeLeftToTheModelOrOff) {
  EXPECT_EQ(Parse(R"({"thinking":{"type":"adaptive"}})").template_variables->dump(), "{}");
  EXPECT_EQ(Parse(R"({"thinking":{"type":"disabled"}})").template_variables->dump(),
            R"({"enable_thinking":false})");
  EXPECT_FALSE(Parse(R"({"thinking":{"type":"adaptive","display":"omitted"}})").include_reasoning);
}

TEST(MessagesRequest, NamesAToolAndAllowsNone) {
  const ChatRequest named = Parse(R"({"tools":[{"name":"f","input_schema":{}}],
                                      "tool_choice":{"type":"tool","name":"f"}})");
  EXPECT_EQ(named.tool_choice.kind, ToolChoice::Kind::kNamed);
  EXPECT_EQ(named.tool_choice.name, "f");
  const ChatRequest none = Parse(R"({"tools":[],"tool_choice":{"type":"auto"}})");
  EXPECT_EQ(none.tool_choice.kind, ToolChoice::Kind::kNone);
  EXPECT_EQ(none.tools, nullptr);
}

TEST(MessagesRequest, SystemComesFirstWithoutTheBill) {
  EXPECT_EQ(Messages(R"([{"role":"user","content":"u"}])", R"(,"system":"s")"),
            R"([{"role":"system","content":"s"},{"role":"user","content":"u"}])");
  EXPECT_EQ(Messages(R"([{"role":"user","content":"u"},{"role":"system","content":"late"}])",
                     R"(,"system":[{"type":"text","text":"x-anthropic-billing-header: c=1;"},
                         {"type":"text","text":"a"},{"type":"text","text":"b"}])"),
            R"([{"role":"system","content":"a\n\nb"},{"role":"user","content":"u"},)"
            R"({"role":"system","content":"late"}])");
}

TEST(MessagesRequest, ATurnOfToolsBecomesCallsAndResults) {
  EXPECT_EQ(Messages(R"([{"role":"user","content":[{"type":"text","text":"a"},
                     {"type":"text","text":"b","cache_control":{"type":"ephemeral"}}]},
        {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"x"},
          {"type":"redacted_thinking","data":"…"},{"type":"text","text":"I look."},
          {"type":"tool_use","id":"t1","name":"f","input":{"x":1}},
          {"type":"tool_use","id":"t2","name":"g","input":{}}]},
        {"role":"user","content":[
          {"type":"tool_result","tool_use_id":"t1","content":"one"},
          {"type":"tool_result","tool_use_id":"t2","is_error":true,
           "content":[{"type":"text","text":"no"},{"type":"text","text":"way"}]},
          {"type":"tool_result","tool_use_id":"t3"},
          {"type":"text","text":"go on"}]}])"),
            R"([{"role":"user","content":"a\nb"},)"
            R"({"role":"assistant","content":"I look.","reasoning_content":"hm","tool_calls":[)"
            R"({"id":"t1","type":"function","function":{"name":"f","arguments":{"x":1}}},)"
            R"({"id":"t2","type":"function","function":{"name":"g","arguments":{}}}]},)"
            R"({"role":"tool","content":"one","tool_call_id":"t1"},)"
            R"({"role":"tool","content":"Error: no\nway","tool_call_id":"t2"},)"
            R"({"role":"tool","content":"","tool_call_id":"t3"},)"
            R"({"role":"user","content":"go on"}])");
}

TEST(MessagesRequest, RefusesBadFieldsByName) {
  struct Case {
    const char* fields;
    const char* param;
  };
  const Case kCases[] = {
      {R"({"max_tokens":null})", "max_tokens"},
      {R"({"max_tokens":0})", "max_tokens"},
      {R"({"messages":[]})", "messages"},
      {R"({"messages":null})", "messages"},
      {R"({"messages":["x"]})", "messages[0]"},
      {R"({"messages":[{"role":"tool","content":"x"}]})", "messages[0].role"},
      {R"({"messages":[{"role":"user"}]})", "messages[0].content"},
      {R"({"messages":[{"role":"user","content":[{"type":"image","source":{}}]}]})",
       "messages[0].content[0].type"},
      {R"({"messages":[{"role":"user","content":[{"type":"document","source":{}}]}]})",
       "messages[0].content[0].type"},
      {R"({"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t",
           "content":[{"type":"image"}]}]}]})",
       "messages[0].content[0].content[0].type"},
      {R"({"messages":[{"role":"user","content":[{"type":"tool_result"}]}]})",
       "messages[0].content[0].tool_use_id"},
      {R"({"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f",
           "input":"x"}]}]})",
       "messages[0].content[0].input"},
      {R"({"system":5})", "system"},
      {R"({"system":[{"type":"image"}]})", "system[0].type"},
      {R"({"tools":[{"type":"web_search_20250305","name":"web_search"}]})", "tools[0].type"},
      {R"({"tools":[{"name":"f"}]})", "tools[0].input_schema"},
      {R"({"tools":[{"name":"f f","input_schema":{}}]})", "tools[0].name"},
      {R"({"tool_choice":{"type":"any"}})", "tool_choice"},
      {R"({"tool_choice":{"type":"tool","name":"f"}})", "tool_choice.name"},
      {R"({"tool_choice":{"type":"some"}})", "tool_choice.type"},
      {R"({"thinking":{"type":"much"}})", "thinking.type"},
      {R"({"output_config":{"effort":"huge"}})", "output_config.effort"},
      {R"({"output_config":{"format":{"type":"xml"}}})", "output_config.format.type"},
      {R"({"stop_sequences":[""]})", "stop_sequences[0]"},
      {R"({"mcp_servers":[{}]})", "mcp_servers"},
      {R"({"top_k":-1})", "top_k"},
  };
  for (const Case& one : kCases) {
    const ErrorInfo info = Rejection(one.fields);
    EXPECT_EQ(info.status, 400) << one.fields;
    EXPECT_EQ(info.param, one.param) << one.fields << info.message;
  }
  EXPECT_NE(Rejection(R"({"tools":[{"type":"web_search_20250305","name":"w"}]})")
                .message.find("web_search_20250305"),
            std::string::npos);
}

TEST(MessagesRequest, OfASearchBesideFunctionsTheModelIsNotTold) {
  const ChatRequest request = Parse(R"({"tools":[
      {"type":"web_search_20250305","name":"web_search","max_uses":5},
      {"name":"f","input_schema":{"type":"object"}}], "tool_choice":{"type":"auto"}})");
  EXPECT_EQ(request.ignored_tools, std::vector<std::string>{"web_search_20250305"});
  ASSERT_EQ(request.tools->size(), 1);
  EXPECT_EQ((*request.tools)[0]["function"]["name"], "f");
  EXPECT_EQ(Rejection(R"({"tools":[{"type":"web_search_20250305","name":"web_search"},
                                   {"name":"f","input_schema":{}}],
                          "tool_choice":{"type":"tool","name":"web_search"}})")
                .param,
            "tool_choice.name");
}

TEST(MessagesRequest, CountingNeedsNoMaximum) {
  EXPECT_EQ(ParseCountTokensRequest(R"({"messages":[{"role":"user","content":"x"}]})", kLimits)
                .messages->dump(),
            R"([{"role":"user","content":"x"}])");
}

TEST(AnthropicErrors, HaveTypesByStatusAndSentencesThatClaudeCodeMatches) {
  const auto error = [](const ErrorInfo& info) {
    return Json::parse(AnthropicErrorBody(info, "r"))["error"].dump();
  };
  EXPECT_EQ(AnthropicErrorBody(InvalidRequest("x"), "r1"),
            R"({"type":"error","error":{"type":"invalid_request_error","message":"x"},)"
            R"("request_id":"r1"})");
  EXPECT_NE(error(InvalidApiKey()).find("authentication_error"), std::string::npos);
  EXPECT_NE(error(Forbidden("")).find("permission_error"), std::string::npos);
  EXPECT_NE(error(ModelNotFound("m")).find("not_found_error"), std::string::npos);
  EXPECT_NE(error(BodyTooLarge(1)).find("request_too_large"), std::string::npos);
  EXPECT_NE(error(ServerBusy("")).find("overloaded_error"), std::string::npos);
  EXPECT_NE(error(Internal("r", "")).find("api_error"), std::string::npos);
  EXPECT_EQ(error(ContextOverflow(100, 20, 90, "")),
            R"({"type":"invalid_request_error","message":"input length and `max_tokens` exceed )"
            R"(context limit: 90 + 20 > 100, decrease input length or `max_tokens` and try )"
            R"(again"})");
  EXPECT_EQ(error(ContextOverflow(100, 20, 190, "")),
            R"({"type":"invalid_request_error","message":"prompt is too long: 190 tokens > 100 )"
            R"(maximum"})");
}

AnswerSpec Spec(bool stream) {
  return {.id = "msg_1", .model = "m", .stream = stream, .request_id = "r1"};
}

void Add(AnswerEncoder& encoder, Pieces& out, std::vector<chat::ChatDelta> deltas) {
  encoder.Delta(out, {.deltas = deltas}, {});
}

const std::vector<chat::ChatDelta> kTurn = {
    {Kind::kReasoning, "h", 0, ""},          {Kind::kReasoning, "m", 0, ""},
    {Kind::kContent, "Look.", 0, ""},        {Kind::kCallStart, "f", 0, "c1"},
    {Kind::kCallArguments, "{\"x\"", 0, ""}, {Kind::kCallArguments, ": 1}", 0, ""},
    {Kind::kCallStart, "g", 1, "c2"},        {Kind::kCallArguments, "{}", 1, ""},
    {Kind::kContent, "Done.", 0, ""}};

TEST(MessagesEncoder, StreamsBlocksInTheOrderOfTheModel) {
  const auto encoder = MakeMessagesEncoder(Spec(/*stream=*/true));
  Pieces out;
  encoder->Begin(out, {.prompt_tokens = 9});
  Add(*encoder, out, {kTurn.begin(), kTurn.begin() + 1});
  Add(*encoder, out, {kTurn.begin() + 1, kTurn.end()});
  encoder->EndChoice(out, {.finish_reason = "tool_calls"}, {});
  encoder->End(out, {.prompt_tokens = 9, .completion_tokens = 5, .cached_tokens = 4});
  EXPECT_EQ(encoder->held_bytes(), 0U);
  const std::vector<std::string> expected = {
      R"(message_start {"message":{"id":"msg_1","type":"message","role":"assistant","model":"m",)"
      R"("content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,)"
      R"("cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}})",
      R"(content_block_start {"index":0,"content_block":{"type":"thinking","thinking":"",)"
      R"("signature":""}})",
      R"(content_block_delta {"index":0,"delta":{"type":"thinking_delta","thinking":"h"}})",
      R"(content_block_delta {"index":0,"delta":{"type":"thinking_delta","thinking":"m"}})",
      R"(content_block_delta {"index":0,"delta":{"type":"signature_delta",)"
      R"("signature":"bWFjaA=="}})",
      R"(content_block_stop {"index":0})",
      R"(content_block_start {"index":1,"content_block":{"type":"text","text":""}})",
      R"(content_block_delta {"index":1,"delta":{"type":"text_delta","text":"Look."}})",
      R"(content_block_stop {"index":1})",
      R"(content_block_start {"index":2,"content_block":{"type":"tool_use","id":"c1","name":"f",)"
      R"("input":{}}})",
      R"(content_block_delta {"index":2,"delta":{"type":"input_json_delta",)"
      R"("partial_json":"{\"x\""}})",
      R"(content_block_delta {"index":2,"delta":{"type":"input_json_delta",)"
      R"("partial_json":": 1}"}})",
      R"(content_block_stop {"index":2})",
      R"(content_block_start {"index":3,"content_block":{"type":"tool_use","id":"c2","name":"g",)"
      R"("input":{}}})",
      R"(content_block_delta {"index":3,"delta":{"type":"input_json_delta","partial_json":"{}"}})",
      R"(content_block_stop {"index":3})",
      R"(content_block_start {"index":4,"content_block":{"type":"text","text":""}})",
      R"(content_block_delta {"index":4,"delta":{"type":"text_delta","text":"Done."}})",
      R"(content_block_stop {"index":4})",
      R"(message_delta {"delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{)"
      R"("input_tokens":5,"cache_creation_input_tokens":0,"cache_read_input_tokens":4,)"
      R"("output_tokens":5}})",
      R"(message_stop {})"};
  EXPECT_EQ(Lines(ReadNamedEvents(out.Join())), expected);
}

TEST(MessagesEncoder, AWholeMessageHasTheSameBlocks) {
  const auto encoder = MakeMessagesEncoder(Spec(/*stream=*/false));
  Pieces out;
  encoder->Begin(out, {});
  Add(*encoder, out, kTurn);
  encoder->EndChoice(out, {.finish_reason = "tool_calls"}, {});
  EXPECT_TRUE(out.empty());
  EXPECT_GT(encoder->held_bytes(), 20U);
  encoder->End(out, {.prompt_tokens = 9, .completion_tokens = 5, .cached_tokens = 4});
  EXPECT_EQ(encoder->held_bytes(), 0U);
  EXPECT_EQ(out.Join(),
            R"({"id":"msg_1","type":"message","role":"assistant","model":"m","content":[)"
            R"({"type":"thinking","thinking":"hm","signature":"bWFjaA=="},)"
            R"({"type":"text","text":"Look."},)"
            R"({"type":"tool_use","id":"c1","name":"f","input":{"x": 1}},)"
            R"({"type":"tool_use","id":"c2","name":"g","input":{}},)"
            R"({"type":"text","text":"Done."}],)"
            R"("stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":5,)"
            R"("cache_creation_input_tokens":0,"cache_read_input_tokens":4,"output_tokens":5}})");
}

// stop_reason, stop_sequence and content of a whole message.
std::string Ended(const std::vector<chat::ChatDelta>& deltas, ChoiceEnd end) {
  const auto encoder = MakeMessagesEncoder(Spec(/*stream=*/false));
  Pieces out;
  Add(*encoder, out, deltas);
  encoder->EndChoice(out, std::move(end), {});
  encoder->End(out, {});
  const Json body = Json::parse(out.Join());
  return body["stop_reason"].dump() + body["stop_sequence"].dump() + body["content"].dump();
}

TEST(MessagesEncoder, SaysHowItEnded) {
  const std::vector<chat::ChatDelta> call = {{Kind::kCallStart, "f", 0, "c"},
                                             {Kind::kCallArguments, "{\"x\": ", 0, ""}};
  EXPECT_EQ(Ended({}, {.finish_reason = "stop"}), R"("end_turn"null[])");
  EXPECT_EQ(Ended({}, {.finish_reason = "stop", .stop_reason = "END"}),
            R"("stop_sequence""END"[])");
  EXPECT_EQ(Ended({}, {.finish_reason = "stop", .stop_reason = 7}), R"("end_turn"null[])");
  // What was cut off is no call.
  EXPECT_EQ(Ended(call, {.finish_reason = "length"}), R"("max_tokens"null[])");
  // A call that was asked for by name ends with "stop".
  EXPECT_EQ(Ended({{Kind::kCallStart, "f", 0, "c"}, {Kind::kCallArguments, "[1]", 0, ""}},
                  {.finish_reason = "stop"}),
            R"("tool_use"null[{"type":"tool_use","id":"c","name":"f","input":{"arguments":[1]}}])");
  EXPECT_EQ(Ended({{Kind::kCallStart, "f", 0, "c"}, {Kind::kCallArguments, "{'", 0, ""}},
                  {.finish_reason = "tool_calls"}),
            R"("tool_use"null[{"type":"tool_use","id":"c","name":"f",)"
            R"("input":{"arguments":"{'"}}])");
}

TEST(MessagesEncoder, FailsAndPings) {
  const auto encoder = MakeMessagesEncoder(Spec(/*stream=*/true));
  Pieces out;
  encoder->Fail(out, ServerBusy("full"));
  EXPECT_EQ(out.Join(),
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\","
            "\"message\":\"full\"},\"request_id\":\"r1\"}\n\n");
  EXPECT_EQ(encoder->Heartbeat(), "event: ping\ndata: {\"type\":\"ping\"}\n\n");
}

}  // namespace
}  // namespace mach::api
