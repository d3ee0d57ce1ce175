#include "api/request.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "api/errors.h"

namespace mach::api {
namespace {

using Json = nlohmann::ordered_json;

const RequestLimits kLimits;

// A valid chat body with `fields` merged in.
std::string Chat(const char* fields) {
  Json body = {{"model", "m"},
               {"messages", Json::array({Json{{"role", "user"}, {"content", "hi"}}})}};
  body.update(Json::parse(fields));
  return body.dump();
}

ChatRequest ParseChat(const char* fields) {
  return ParseChatRequest(Chat(fields), kLimits);
}

ErrorInfo Rejection(const char* fields) {
  try {
    ParseChat(fields);
  } catch (const RequestError& e) {
    return e.info();
  }
  ADD_FAILURE() << "accepted: " << fields;
  return {};
}

std::string Messages(const char* messages) {
  return ParseChat((std::string("{\"messages\":") + messages + "}").c_str()).messages->dump();
}

TEST(ChatRequest, ReadsEveryField) {
  const ChatRequest request = ParseChat(R"({
    "stream": true, "stream_options": {"include_usage": true, "continuous_usage_stats": true},
    "max_tokens": 5, "max_completion_tokens": 7, "temperature": 0, "top_p": 0.5, "top_k": -1,
    "min_p": 0.25, "presence_penalty": -2, "frequency_penalty": 2, "repetition_penalty": 1.5,
    "seed": -9223372036854775808, "stop": ["a", "b"], "stop_token_ids": [1, 2],
    "include_stop_str_in_output": true, "ignore_eos": true, "min_tokens": 3, "n": 2,
    "logprobs": true, "top_logprobs": 20, "logit_bias": {"5": -100, "7": 1.5},
    "chat_template_kwargs": {"x": 1}, "reasoning_effort": "none",
    "response_format": {"type": "text"}, "tool_choice": "none", "tools": null,
    "user": "u", "store": true, "metadata": {}, "anything": [1], "modalities": ["text"],
    "speculation": "none"})");
  const CommonFields& common = request.common;
  EXPECT_EQ(common.model, "m");
  EXPECT_TRUE(common.stream && common.include_usage && common.continuous_usage);
  EXPECT_EQ(common.stop.max_tokens, 7);
  EXPECT_EQ(common.sampling.temperature, 0.0F);
  EXPECT_EQ(common.sampling.top_k, 0);
  EXPECT_EQ(common.sampling.seed, INT64_MIN);
  EXPECT_EQ(common.sampling.repetition_penalty, 1.5F);
  ASSERT_EQ(common.sampling.logit_bias.size(), 2U);
  EXPECT_EQ(common.sampling.logit_bias[1], (std::pair<int32_t, float>(7, 1.5F)));
  EXPECT_EQ(common.stop.strings, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(common.stop.token_ids, (std::vector<int32_t>{1, 2}));
  EXPECT_TRUE(common.stop.include_stop_string && common.stop.ignore_eos);
  EXPECT_EQ(common.stop.min_tokens, 3);
  EXPECT_EQ(common.n, 2);
  EXPECT_TRUE(common.logprobs);
  EXPECT_EQ(common.top_logprobs, 20);
  EXPECT_EQ(request.template_variables->dump(),
            R"({"x":1,"enable_thinking":false,"reasoning_effort":"none"})");
}

TEST(ChatRequest, NullMeansAbsent) {
  const ChatRequest request = ParseChat(
      R"({"temperature":null,"stop":null,"n":null,"stream":null,"logit_bias":null,"seed":null})");
  EXPECT_FALSE(request.common.sampling.temperature);
  EXPECT_EQ(request.common.n, 1);
  EXPECT_FALSE(request.common.stop.max_tokens);
}

TEST(ChatRequest, TemplateArgumentsOutrankReasoningEffort) {
  const auto variables =
      ParseChat(R"({"reasoning_effort":"high","chat_template_kwargs":{"enable_thinking":false}})");
  EXPECT_EQ((*variables.template_variables)["enable_thinking"], false);
}

struct BadField {
  const char* fields;
  const char* param;
};

TEST(ChatRequest, RefusesBadFieldsByName) {
  const BadField kCases[] = {
      {R"({"messages":[]})", "messages"},
      {R"({"messages":null})", "messages"},
      {R"({"messages":"hi"})", "messages"},
      {R"({"messages":["hi"]})", "messages[0]"},
      {R"({"messages":[{"content":"x"}]})", "messages[0].role"},
      {R"({"messages":[{"role":"robot","content":"x"}]})", "messages[0].role"},
      {R"({"messages":[{"role":"user","content":5}]})", "messages[0].content"},
      {R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]})",
       "messages[0].content[0].type"},
      {R"({"messages":[{"role":"user","content":[{"type":"input_audio"}]}]})",
       "messages[0].content[0].type"},
      {R"({"messages":[{"role":"user","content":[{"type":"text"}]}]})",
       "messages[0].content[0].text"},
      {R"({"messages":[{"role":"assistant","tool_calls":[{"id":"1"}]}]})",
       "messages[0].tool_calls[0].function"},
      {R"({"model":5})", "model"},
      {R"({"stream":"yes"})", "stream"},
      {R"({"stream_options":{"include_usage":true}})", "stream_options"},
      {R"({"stream":true,"stream_options":{"include_usage":1}})", "stream_options.include_usage"},
      {R"({"temperature":-0.1})", "temperature"},
      {R"({"temperature":"hot"})", "temperature"},
      {R"({"temperature":1e300})", "temperature"},
      {R"({"top_p":0})", "top_p"},
      {R"({"top_p":1.01})", "top_p"},
      {R"({"top_k":-2})", "top_k"},
      {R"({"top_k":1.5})", "top_k"},
      {R"({"min_p":2})", "min_p"},
      {R"({"presence_penalty":2.1})", "presence_penalty"},
      {R"({"frequency_penalty":-3})", "frequency_penalty"},
      {R"({"repetition_penalty":0})", "repetition_penalty"},
      {R"({"seed":9223372036854775808})", "seed"},
      {R"({"seed":1.5})", "seed"},
      {R"({"max_tokens":0})", "max_tokens"},
      {R"({"max_completion_tokens":-1})", "max_completion_tokens"},
      {R"({"max_tokens":true})", "max_tokens"},
      {R"({"min_tokens":5,"max_tokens":4})", "min_tokens"},
      {R"({"n":0})", "n"},
      {R"({"n":9})", "n"},
      {R"({"stop":""})", "stop"},
      {R"({"stop":["a",""]})", "stop[1]"},
      {R"({"stop":[1]})", "stop[0]"},
      {R"({"stop":{}})", "stop"},
      {R"({"stop_token_ids":[-1]})", "stop_token_ids[0]"},
      {R"({"logprobs":1})", "logprobs"},
      {R"({"top_logprobs":2})", "top_logprobs"},
      {R"({"logprobs":true,"top_logprobs":21})", "top_logprobs"},
      {R"({"logit_bias":{"x":1}})", "logit_bias.x"},
      {R"({"logit_bias":{"5":101}})", "logit_bias.5"},
      {R"({"logit_bias":[1]})", "logit_bias"},
      {R"({"reasoning_effort":"extreme"})", "reasoning_effort"},
      {R"({"include_reasoning":1})", "include_reasoning"},
      {R"({"thinking_budget":-1})", "thinking_budget"},
      {R"({"chat_template_kwargs":[]})", "chat_template_kwargs"},
      {R"({"chat_template_kwargs":{"messages":[]}})", "chat_template_kwargs.messages"},
      {R"({"response_format":{"type":"json_schema"}})", "response_format.json_schema"},
      {R"({"response_format":{"type":"json_schema","json_schema":{"name":"x"}}})",
       "response_format.json_schema.schema"},
      {R"({"response_format":{"type":"xml"}})", "response_format.type"},
      {R"({"response_format":{}})", "response_format.type"},
      {R"({"tools":[]})", "tools"},
      {R"({"tools":[{"type":"function"}]})", "tools[0].function"},
      {R"({"tools":[{"type":"custom","function":{"name":"f"}}]})", "tools[0].type"},
      {R"({"tools":[{"type":"function","function":{"name":"a b"}}]})", "tools[0].function.name"},
      {R"({"tools":[{"type":"function","function":{"name":"f","parameters":[]}}]})",
       "tools[0].function.parameters"},
      {R"({"tool_choice":"auto"})", "tool_choice"},
      {R"({"tool_choice":"maybe","tools":[{"type":"function","function":{"name":"f"}}]})",
       "tool_choice"},
      {R"({"tool_choice":{"type":"function"},"tools":[{"type":"function","function":{"name":"f"}}]})",
       "tool_choice.function"},
      {R"({"tool_choice":{"type":"allowed_tools"},)"
       R"("tools":[{"type":"function","function":{"name":"f"}}]})",
       "tool_choice.type"},
      {R"({"tool_choice":{"type":"function","function":{"name":"g"}},)"
       R"("tools":[{"type":"function","function":{"name":"f"}}]})",
       "tool_choice.function.name"},
      {R"({"json_schema":{}})", "json_schema"},
      {R"({"regex":"a"})", "regex"},
      {R"({"ebnf":"a"})", "ebnf"},
      {R"({"functions":[]})", "functions"},
      {R"({"function_call":"none"})", "function_call"},
      {R"({"audio":{}})", "audio"},
      {R"({"modalities":["audio"]})", "modalities"},
      {R"({"best_of":2})", "best_of"},
      {R"({"use_beam_search":true})", "use_beam_search"},
      {R"({"echo":true})", "echo"},
      {R"({"prompt_logprobs":1})", "prompt_logprobs"},
      {R"({"guided_json":{}})", "guided_json"},
      {R"({"speculation":"magic"})", "speculation"},
      {R"({"speculation":{"preset":"magic"}})", "speculation.preset"},
  };
  for (const BadField& bad : kCases) {
    const ErrorInfo info = Rejection(bad.fields);
    EXPECT_EQ(info.status, 400) << bad.fields;
    EXPECT_EQ(info.type, "invalid_request_error") << bad.fields;
    EXPECT_EQ(info.param, bad.param) << bad.fields << " -> " << info.message;
    EXPECT_NE(info.message, "");
  }
}

TEST(ChatRequest, IntegersOfPastCallsKeepTheirDigits) {
  const ChatRequest request = ParseChatRequest(
      R"({"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":)"
      R"("{\"id\":[-123456789012345678901234567890,5,1e3],\"o\":{\"x\":true}}"}}]}]})",
      {});
  const Json& arguments = (*request.messages)[0]["tool_calls"][0]["function"]["arguments"];
  const auto& digits = arguments["id"][0].get_binary();
  EXPECT_EQ(std::string(digits.begin(), digits.end()), "-123456789012345678901234567890");
  EXPECT_EQ(arguments["id"][1], 5);
  EXPECT_EQ(arguments["id"][2], 1000.0);
  EXPECT_EQ(arguments["o"]["x"], true);
}

TEST(ChatRequest, ToolsAreTaken) {
  const char* tools = R"("messages":[{"role":"user","content":"x"}],)"
                      R"("tools":[{"type":"function","function":{"name":"f"}}])";
  const auto parse = [&](const char* more) {
    return ParseChatRequest("{" + std::string(tools) + more + "}", {});
  };
  EXPECT_EQ(parse("").tool_choice.kind, ToolChoice::Kind::kAuto);
  EXPECT_EQ(parse(R"(,"tool_choice":"none")").tool_choice.kind, ToolChoice::Kind::kNone);
  EXPECT_EQ(parse(R"(,"tool_choice":"required")").tool_choice.kind, ToolChoice::Kind::kRequired);
  const ChatRequest named = parse(
      R"(,"tool_choice":{"type":"function","function":{"name":"f"}},"parallel_tool_calls":false)");
  EXPECT_EQ(named.tool_choice.kind, ToolChoice::Kind::kNamed);
  EXPECT_EQ(named.tool_choice.name, "f");
  EXPECT_FALSE(named.parallel_tool_calls);
  EXPECT_EQ(named.tools->size(), 1U);
}

TEST(ChatRequest, NumbersWithoutAFractionAreIntegers) {
  const ChatRequest request = ParseChatRequest(
      R"({"messages":[{"role":"user","content":"x"}],"max_tokens":3.0,"top_logprobs":0})", {});
  EXPECT_EQ(request.common.stop.max_tokens, 3);
  EXPECT_FALSE(request.common.logprobs);
}

TEST(ChatRequest, RefusalsNameTheBound) {
  const std::pair<const char*, const char*> kCases[] = {
      {R"({"temperature":1e39})", "'temperature' must be at least 0 and at most 3.40282e+38, "},
      {R"({"temperature":-1})", "'temperature' must be at least 0, not -1."},
      {R"({"min_p":1.5})", "'min_p' must be at least 0 and at most 1, not 1.5."},
      {R"({"max_tokens":1000000000000000000000000000000})",
       "'max_tokens' must be at most 922337203"},
      {R"({"seed":18446744073709551616})", "'seed' must be at most 9223372036854775807, "},
      {R"({"seed":-18446744073709551616})", "'seed' must be a signed 64-bit integer, "},
      {R"({"seed":1.5})", "'seed' must be an integer, not a number."},
      {R"({"n":0})", "'n' must be from 1 to 8, not 0."},
      {R"({"n":9})", "'n' must be from 1 to 8, not 9."},
  };
  for (const auto& [fields, message] : kCases) {
    EXPECT_EQ(Rejection(fields).message.rfind(message, 0), 0U) << Rejection(fields).message;
  }
}

TEST(ChatRequest, StopTokensAreBounded) {
  const auto fields = [](size_t count) {
    std::string ids = "0";
    for (size_t i = 1; i < count; ++i) {
      ids += "," + std::to_string(i);
    }
    return R"({"stop_token_ids":[)" + ids + "]}";
  };
  EXPECT_EQ(ParseChat(fields(1024).c_str()).common.stop.token_ids.size(), 1024U);
  EXPECT_EQ(Rejection(fields(1025).c_str()).param, "stop_token_ids");
}

TEST(ChatRequest, ErrorsDoNotRepeatLongInput) {
  const std::string role(100000, 'r');
  const auto info =
      Rejection((R"({"messages":[{"role":")" + role + R"(","content":"x"}]})").c_str());
  EXPECT_LT(info.message.size(), 300U);
}

TEST(ChatRequest, BodyMustBeAnObject) {
  for (const char* body : {"[]", "5", "\"x\"", "null"}) {
    EXPECT_THROW(ParseChatRequest(body, kLimits), RequestError) << body;
    EXPECT_THROW(ParseCompletionRequest(body, kLimits), RequestError) << body;
  }
}

TEST(Messages, MergesLeadingSystemMessages) {
  EXPECT_EQ(Messages(R"([{"role":"system","content":"a"},{"role":"developer","content":"b"},
                         {"role":"user","content":"c"},{"role":"developer","content":"d"}])"),
            R"([{"role":"system","content":"a\n\nb"},{"role":"user","content":"c"},)"
            R"({"role":"system","content":"d"}])");
}

TEST(Messages, JoinsTextPartsAndTakesNullAsEmpty) {
  EXPECT_EQ(Messages(R"([{"role":"user","content":[{"type":"text","text":"a"},
                         {"type":"text","text":"b"}]},{"role":"assistant","content":null},
                         {"role":"user"}])"),
            R"([{"role":"user","content":"a\nb"},{"role":"assistant","content":""},)"
            R"({"role":"user","content":""}])");
}

TEST(Messages, ParsesArgumentsOfPastCalls) {
  const Json messages = Json::parse(Messages(R"([
    {"role":"assistant","reasoning":"r","tool_calls":[
      {"id":"1","type":"function","function":{"name":"f","arguments":"{\"z\":1,\"a\":[2]}"}},
      {"function":{"name":"g","arguments":""}},
      {"function":{"name":"h","arguments":"{broken"}},
      {"function":{"name":"i","arguments":"5"}},
      {"function":{"name":"j"}},
      {"function":{"name":"k","arguments":" null "}},
      {"function":{"name":"l","arguments":" \n"}},
      {"function":{"name":"m","arguments":"[1]"}}]},
    {"role":"tool","tool_call_id":"1","content":"done"},
    {"role":"assistant","content":"x","reasoning_content":""}])"));
  const Json& calls = messages[0]["tool_calls"];
  EXPECT_EQ(messages[0]["reasoning_content"], "r");
  EXPECT_EQ(calls[0].dump(),
            R"({"id":"1","type":"function","function":{"name":"f","arguments":{"z":1,"a":[2]}}})");
  EXPECT_EQ(calls[1]["function"]["arguments"], Json::object());
  EXPECT_EQ(calls[2]["function"]["arguments"], "{broken");
  EXPECT_EQ(calls[3]["function"]["arguments"], "5");
  EXPECT_EQ(calls[4]["function"]["arguments"], Json::object());
  EXPECT_EQ(calls[5]["function"]["arguments"], Json::object());
  EXPECT_EQ(calls[6]["function"]["arguments"], Json::object());
  EXPECT_EQ(calls[7]["function"]["arguments"], "[1]");
  EXPECT_EQ(messages[1]["tool_call_id"], "1");
  EXPECT_EQ(messages[2]["reasoning_content"], "");
}

TEST(CompletionRequest, ReadsAllPromptForms) {
  const auto prompts = [](const char* json) {
    return ParseCompletionRequest(std::string("{\"prompt\":") + json + "}", kLimits).prompts;
  };
  EXPECT_EQ(std::get<std::string>(prompts("\"a\"")[0]), "a");
  EXPECT_EQ(prompts("[\"a\",\"b\"]").size(), 2U);
  EXPECT_EQ(std::get<std::vector<int32_t>>(prompts("[1,2,3]")[0]).size(), 3U);
  EXPECT_EQ(prompts("[[1,2],[3]]").size(), 2U);
}

TEST(CompletionRequest, RefusesBadPrompts) {
  for (const char* json : {"null", "[]", "5", "{}", "[[]]", "[1,\"a\"]", "[\"a\",1]", "[1.5]",
                           "[-1]", "[4294967296]", "[null]"}) {
    EXPECT_THROW(ParseCompletionRequest(std::string("{\"prompt\":") + json + "}", kLimits),
                 RequestError)
        << json;
  }
}

TEST(CompletionRequest, LegacyLogprobsIsACount) {
  const auto request = ParseCompletionRequest(R"({"prompt":"a","logprobs":3})", kLimits);
  EXPECT_TRUE(request.common.logprobs);
  EXPECT_EQ(request.common.top_logprobs, 3);
  EXPECT_THROW(ParseCompletionRequest(R"({"prompt":"a","logprobs":true})", kLimits), RequestError);
}

}  // namespace
}  // namespace mach::api
