// /v1/responses: its bodies as requests, and answers in its way. Also /tokenize and /detokenize.
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

ResponsesRequest Parse(const char* fields) {
  Json body = {{"model", "m"}, {"input", "hi"}};
  body.update(Json::parse(fields));
  return ParseResponsesRequest(body.dump(), kLimits);
}

std::string Input(const std::string& input, const std::string& more = "") {
  return Parse(("{\"input\":" + input + more + "}").c_str()).chat.messages->dump();
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

TEST(ResponsesRequest, ReadsEveryField) {
  const ResponsesRequest request = Parse(R"({
    "stream": true, "temperature": 0.5, "top_p": 0.25, "max_output_tokens": 7,
    "tools": [{"type":"function","name":"f","description":"d","strict":false,
               "parameters":{"type":"object"}},
              {"type":"web_search","external_web_access":true},
              {"type":"namespace","name":"n","tools":[]}],
    "tool_choice": {"type":"function","name":"f"}, "parallel_tool_calls": false,
    "text": {"format":{"type":"json_schema","name":"s","strict":true,"schema":{"a":1}},
             "verbosity":"low"},
    "reasoning": {"effort":"none","summary":"auto"},
    "store": true, "include": ["reasoning.encrypted_content"], "metadata": {"k":"v"},
    "prompt_cache_key": "p", "truncation": "auto", "service_tier": "auto", "user": "u",
    "client_metadata": {}, "background": false, "previous_response_id": null})");
  const ChatRequest& chat = request.chat;
  EXPECT_TRUE(chat.common.stream);
  EXPECT_EQ(chat.common.sampling.temperature, 0.5F);
  EXPECT_EQ(chat.common.sampling.top_p, 0.25F);
  EXPECT_EQ(chat.common.stop.max_tokens, 7);
  EXPECT_EQ(chat.tools->dump(), R"([{"type":"function","function":{"name":"f","description":"d",)"
                                R"("parameters":{"type":"object"},"strict":false}}])");
  EXPECT_EQ(chat.ignored_tools, (std::vector<std::string>{"web_search", "namespace"}));
  EXPECT_EQ(chat.tool_choice.kind, ToolChoice::Kind::kNamed);
  EXPECT_EQ(chat.tool_choice.name, "f");
  EXPECT_FALSE(chat.parallel_tool_calls);
  EXPECT_EQ(chat.response_format.kind, ResponseFormat::Kind::kJsonSchema);
  EXPECT_EQ(chat.response_format.schema->dump(), R"({"a":1})");
  EXPECT_EQ(chat.template_variables->dump(),
            R"({"enable_thinking":false,"reasoning_effort":"none"})");
  EXPECT_EQ(request.repeated,
            R"(,"max_output_tokens":7,"metadata":{"k":"v"},"parallel_tool_calls":false,)"
            R"("reasoning":{"effort":"none","summary":"auto"},"temperature":0.5,)"
            R"("tool_choice":{"type":"function","name":"f"},"top_p":0.25,"user":"u")");
}

TEST(ResponsesRequest, ToolsMayBeEmptyOrNoneOfTheModels) {
  for (const char* tools : {R"({"tools":[],"tool_choice":"auto"})",
                            R"({"tools":[{"type":"local_shell"},{"type":"custom","name":"p"}]})"}) {
    const ChatRequest chat = Parse(tools).chat;
    EXPECT_EQ(chat.tools, nullptr) << tools;
    EXPECT_EQ(chat.tool_choice.kind, ToolChoice::Kind::kNone) << tools;
  }
  EXPECT_EQ(Parse(R"({"text":{"format":{"type":"json_object"}}})").chat.response_format.kind,
            ResponseFormat::Kind::kJsonObject);
}

TEST(ResponsesRequest, InstructionsAndLeadingMessagesAreTheSystems) {
  EXPECT_EQ(Input(R"("hi")", R"(,"instructions":"be brief")"),
            R"([{"role":"system","content":"be brief"},{"role":"user","content":"hi"}])");
  EXPECT_EQ(Input(R"([{"type":"message","role":"developer",
                       "content":[{"type":"input_text","text":"d"}]},
                      {"role":"user","content":"a"},
                      {"role":"user","content":[{"type":"input_text","text":"b"},
                                                {"type":"input_text","text":"c"}]}])",
                  R"(,"instructions":"i")"),
            R"([{"role":"system","content":"i\n\nd"},{"role":"user","content":"a"},)"
            R"({"role":"user","content":"b\nc"}])");
}

TEST(ResponsesRequest, ItemsOfOneTurnBecomeOneMessage) {
  EXPECT_EQ(Input(R"([{"role":"user","content":"u"},
        {"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"x",
         "content":[{"type":"reasoning_text","text":"hm"}]},
        {"type":"message","id":"msg_1","role":"assistant","status":"completed",
         "content":[{"type":"output_text","text":"I look.","annotations":[]}]},
        {"type":"function_call","call_id":"c1","name":"f","arguments":"{\"x\":1}"},
        {"type":"function_call","call_id":"c2","name":"g","arguments":"not json"},
        {"type":"function_call_output","call_id":"c1","output":"one"},
        {"type":"function_call_output","call_id":"c2",
         "output":[{"type":"input_text","text":"two"}]},
        {"type":"reasoning","summary":[{"type":"summary_text","text":"s"}],"content":null},
        {"type":"message","role":"assistant","content":[{"type":"output_text","text":"A"}]},
        {"type":"message","role":"assistant","content":[{"type":"output_text","text":"B"}]}])"),
            R"([{"role":"user","content":"u"},)"
            R"({"role":"assistant","content":"I look.","reasoning_content":"hm","tool_calls":[)"
            R"({"id":"c1","type":"function","function":{"name":"f","arguments":{"x":1}}},)"
            R"({"id":"c2","type":"function","function":{"name":"g","arguments":"not json"}}]},)"
            R"({"role":"tool","content":"one","tool_call_id":"c1"},)"
            R"({"role":"tool","content":"two","tool_call_id":"c2"},)"
            R"({"role":"assistant","content":"A","reasoning_content":"s"},)"
            R"({"role":"assistant","content":"B"}])");
}

TEST(ResponsesRequest, RefusesWhatItCannotDoByName) {
  struct Case {
    const char* fields;
    const char* param;
  };
  const Case kCases[] = {
      {R"({"input":null})", "input"},
      {R"({"input":[]})", "input"},
      {R"({"input":[5]})", "input[0]"},
      {R"({"input":[{"type":"item_reference","id":"x"}]})", "input[0].type"},
      {R"({"input":[{"type":"web_search_call"}]})", "input[0].type"},
      {R"({"input":[{"role":"robot","content":"x"}]})", "input[0].role"},
      {R"({"input":[{"role":"user","content":[{"type":"input_image"}]}]})",
       "input[0].content[0].type"},
      {R"({"input":[{"type":"function_call","name":"f","arguments":"{}"}]})", "input[0].call_id"},
      {R"({"input":[{"type":"function_call_output","call_id":"c"}]})", "input[0].output"},
      {R"({"previous_response_id":"resp_1"})", "previous_response_id"},
      {R"({"conversation":"c"})", "conversation"},
      {R"({"background":true})", "background"},
      {R"({"prompt":{"id":"p"}})", "prompt"},
      {R"({"top_logprobs":3})", "top_logprobs"},
      {R"({"include":["message.output_text.logprobs"]})", "include"},
      {R"({"tools":[{"type":"file_search"}]})", "tools[0].type"},
      {R"({"tools":[{"type":"function"}]})", "tools[0].name"},
      {R"({"tool_choice":"required"})", "tool_choice"},
      {R"({"tool_choice":"some"})", "tool_choice"},
      {R"({"tool_choice":{"type":"web_search"}})", "tool_choice.type"},
      {R"({"tool_choice":{"type":"function","name":"f"}})", "tool_choice.name"},
      {R"({"text":{"format":{"type":"json_schema","name":"s"}}})", "text.format.schema"},
      {R"({"text":{"format":{"type":"grammar"}}})", "text.format.type"},
      {R"({"reasoning":{"effort":"huge"}})", "reasoning.effort"},
      {R"({"max_output_tokens":0})", "max_output_tokens"},
      {R"({"instructions":5})", "instructions"},
  };
  for (const Case& one : kCases) {
    const ErrorInfo info = Rejection(one.fields);
    EXPECT_EQ(info.status, 400) << one.fields;
    EXPECT_EQ(info.param, one.param) << one.fields << info.message;
  }
}

AnswerSpec Spec(bool stream) {
  return {.id = "resp_1",
          .created_unix_s = 17,
          .model = "m",
          .stream = stream,
          .repeated = ",\"top_p\":null"};
}

const std::vector<chat::ChatDelta> kTurn = {{Kind::kReasoning, "hm", 0, ""},
                                            {Kind::kContent, "Lo", 0, ""},
                                            {Kind::kContent, "ok.", 0, ""},
                                            {Kind::kCallStart, "f", 0, "c1"},
                                            {Kind::kCallArguments, "{}", 0, ""}};

constexpr char kOutput[] =
    R"([{"id":"rs_1_0","status":"completed","type":"reasoning","summary":[],)"
    R"("content":[{"type":"reasoning_text","text":"hm"}]},)"
    R"({"id":"msg_1_1","status":"completed","type":"message","role":"assistant",)"
    R"("content":[{"type":"output_text","annotations":[],"text":"Look."}]},)"
    R"({"id":"fc_1_2","status":"completed","type":"function_call","call_id":"c1","name":"f",)"
    R"("arguments":"{}"}])";

TEST(ResponsesEncoder, StreamsItemsInTheOrderOfTheModel) {
  const auto encoder = MakeResponsesEncoder(Spec(/*stream=*/true));
  Pieces out;
  encoder->Begin(out, {});
  encoder->Delta(out, {.deltas = kTurn}, {});
  encoder->EndChoice(out, {.finish_reason = "tool_calls"}, {});
  EXPECT_GT(encoder->held_bytes(), 9U);
  encoder->End(out, {9, 5, 4, 2});
  EXPECT_EQ(encoder->held_bytes(), 0U);
  const auto events = ReadNamedEvents(out.Join());
  for (size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(events[i].second["sequence_number"], i);
  }
  const std::vector<std::string> expected = {
      R"(response.created {})",
      R"(response.in_progress {})",
      R"(response.output_item.added {"output_index":0,"item":{"id":"rs_1_0",)"
      R"("status":"in_progress","type":"reasoning","summary":[],"content":[]}})",
      R"(response.content_part.added {"item_id":"rs_1_0","output_index":0,"content_index":0,)"
      R"("part":{"type":"reasoning_text","text":""}})",
      R"(response.reasoning_text.delta {"item_id":"rs_1_0","output_index":0,"delta":"hm",)"
      R"("content_index":0})",
      R"(response.reasoning_text.done {"item_id":"rs_1_0","output_index":0,"text":"hm",)"
      R"("content_index":0})",
      R"(response.content_part.done {"item_id":"rs_1_0","output_index":0,"content_index":0,)"
      R"("part":{"type":"reasoning_text","text":"hm"}})",
      R"(response.output_item.done {"output_index":0,"item":{"id":"rs_1_0","status":"completed",)"
      R"("type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"hm"}]}})",
      R"(response.output_item.added {"output_index":1,"item":{"id":"msg_1_1",)"
      R"("status":"in_progress","type":"message","role":"assistant","content":[]}})",
      R"(response.content_part.added {"item_id":"msg_1_1","output_index":1,"content_index":0,)"
      R"("part":{"type":"output_text","annotations":[],"text":""}})",
      R"(response.output_text.delta {"item_id":"msg_1_1","output_index":1,"delta":"Lo",)"
      R"("content_index":0,"logprobs":[]})",
      R"(response.output_text.delta {"item_id":"msg_1_1","output_index":1,"delta":"ok.",)"
      R"("content_index":0,"logprobs":[]})",
      R"(response.output_text.done {"item_id":"msg_1_1","output_index":1,"text":"Look.",)"
      R"("content_index":0,"logprobs":[]})",
      R"(response.content_part.done {"item_id":"msg_1_1","output_index":1,"content_index":0,)"
      R"("part":{"type":"output_text","annotations":[],"text":"Look."}})",
      R"(response.output_item.done {"output_index":1,"item":{"id":"msg_1_1","status":"completed",)"
      R"("type":"message","role":"assistant","content":[{"type":"output_text",)"
      R"("annotations":[],"text":"Look."}]}})",
      R"(response.output_item.added {"output_index":2,"item":{"id":"fc_1_2",)"
      R"("status":"in_progress","type":"function_call","call_id":"c1","name":"f",)"
      R"("arguments":""}})",
      R"(response.function_call_arguments.delta {"item_id":"fc_1_2","output_index":2,)"
      R"("delta":"{}"})",
      R"(response.function_call_arguments.done {"item_id":"fc_1_2","output_index":2,"name":"f",)"
      R"("arguments":"{}"})",
      R"(response.output_item.done {"output_index":2,"item":{"id":"fc_1_2","status":"completed",)"
      R"("type":"function_call","call_id":"c1","name":"f","arguments":"{}"}})",
      R"(response.completed {})"};
  EXPECT_EQ(Lines(events, {"sequence_number", "response"}), expected);
  EXPECT_EQ(events[0].second["response"].dump(),
            R"({"id":"resp_1","object":"response","created_at":17,"status":"in_progress",)"
            R"("background":false,"error":null,"incomplete_details":null,"model":"m",)"
            R"("instructions":null,"previous_response_id":null,"store":false,"tools":[],)"
            R"("top_p":null,"output":[],"usage":null})");
  const Json& last = events.back().second["response"];
  EXPECT_EQ(last["status"], "completed");
  EXPECT_EQ(last["output"].dump(), kOutput);
  EXPECT_EQ(last["usage"].dump(),
            R"({"input_tokens":9,"input_tokens_details":{"cached_tokens":4},"output_tokens":5,)"
            R"("output_tokens_details":{"reasoning_tokens":2},"total_tokens":14})");
}

TEST(ResponsesEncoder, AWholeResponseHasTheSameItems) {
  const auto encoder = MakeResponsesEncoder(Spec(/*stream=*/false));
  Pieces out;
  encoder->Begin(out, {});
  encoder->Delta(out, {.deltas = kTurn}, {});
  encoder->EndChoice(out, {.finish_reason = "tool_calls"}, {});
  EXPECT_TRUE(out.empty());
  encoder->End(out, {});
  const Json body = Json::parse(out.Join());
  EXPECT_EQ(body["object"], "response");
  EXPECT_EQ(body["status"], "completed");
  EXPECT_EQ(body["output"].dump(), kOutput);
}

TEST(ResponsesEncoder, ACallThatIsCutOffIsNeverDone) {
  const auto encoder = MakeResponsesEncoder(Spec(/*stream=*/true));
  Pieces out;
  encoder->Begin(out, {});
  encoder->Delta(out, {.deltas = std::span(kTurn).subspan(3)}, {});
  encoder->EndChoice(out, {.finish_reason = "length"}, {});
  encoder->End(out, {});
  const auto events = ReadNamedEvents(out.Join());
  ASSERT_EQ(events.size(), 5U);
  EXPECT_EQ(events[3].first, "response.function_call_arguments.delta");
  EXPECT_EQ(events[4].first, "response.incomplete");
  const Json& response = events[4].second["response"];
  EXPECT_EQ(response["incomplete_details"]["reason"], "max_output_tokens");
  EXPECT_EQ(response["output"][0]["status"], "incomplete");
}

TEST(ResponsesEncoder, FailsWithACodeAndShowsThatItLives) {
  const auto encoder = MakeResponsesEncoder(Spec(/*stream=*/true));
  Pieces out;
  encoder->Begin(out, {});
  const auto beat = ReadNamedEvents(encoder->Heartbeat());
  ASSERT_EQ(beat.size(), 1U);
  EXPECT_EQ(beat[0].first, "response.in_progress");
  EXPECT_EQ(beat[0].second["sequence_number"], 2);
  encoder->Delta(out, {.deltas = std::span(kTurn).subspan(0, 1)}, {});
  encoder->Fail(out, Internal("r", "x"));
  const auto events = ReadNamedEvents(out.Join());
  EXPECT_EQ(events.back().first, "response.failed");
  EXPECT_EQ(events.back().second["response"]["status"], "failed");
  EXPECT_EQ(events.back().second["response"]["error"]["code"], "internal_error");
  EXPECT_EQ(events.back().second["response"]["output"][0]["status"], "incomplete");
  Pieces other;
  MakeResponsesEncoder(Spec(true))->Fail(other, InvalidRequest("x"));
  EXPECT_EQ(ReadNamedEvents(other.Join())[0].second["response"]["error"].dump(),
            R"({"code":"invalid_prompt","message":"x"})");
}

TEST(TokenRequests, ReadTextsChatsAndTokens) {
  const TokenizeRequest text = ParseTokenizeRequest(
      R"({"model":"m","prompt":"p","add_special_tokens":false,"return_token_strs":true})", kLimits);
  EXPECT_EQ(text.model, "m");
  EXPECT_EQ(text.text, "p");
  EXPECT_FALSE(text.chat || text.add_special_tokens);
  EXPECT_TRUE(text.token_texts);
  const TokenizeRequest chat = ParseTokenizeRequest(
      R"({"messages":[{"role":"user","content":"x"}],"add_generation_prompt":false,
          "chat_template_kwargs":{"a":1}})",
      kLimits);
  ASSERT_TRUE(chat.chat);
  EXPECT_FALSE(chat.chat->generation_prompt || chat.add_special_tokens);
  EXPECT_EQ(chat.chat->template_variables->dump(), R"({"a":1})");
  EXPECT_EQ(ParseDetokenizeRequest(R"({"tokens":[1,2]})", kLimits).tokens,
            (std::vector<int32_t>{1, 2}));
  for (const char* body : {"{}", R"({"prompt":5})", R"({"prompt":["a"]})", R"({"messages":[]})"}) {
    EXPECT_THROW(ParseTokenizeRequest(body, kLimits), RequestError) << body;
  }
  for (const char* body :
       {"{}", R"({"tokens":"x"})", R"({"tokens":[-1]})", R"({"tokens":["a"]})"}) {
    EXPECT_THROW(ParseDetokenizeRequest(body, kLimits), RequestError) << body;
  }
}

}  // namespace
}  // namespace mach::api
