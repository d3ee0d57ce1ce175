// The protocols of other agents, through sockets on the scripted engine: /v1/messages,
// /v1/responses, /tokenize and /detokenize.
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/api/named_events.h"
#include "tests/server/app_fixture.h"

namespace mach::server {
namespace {

using mach::testing::NamedEvents;
using mach::testing::ReadNamedEvents;

constexpr char kMessages[] = "/v1/messages";
constexpr char kResponses[] = "/v1/responses";
constexpr char kThinkThenCall[] =
    "hm</think>Look.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>";

std::string MessagesBody(const std::string& text, const char* more = "{}") {
  Json body = {{"max_tokens", 500},
               {"messages", Json::array({Json{{"role", "user"}, {"content", text}}})},
               {"temperature", 0}};
  body.update(Json::parse(more));
  return body.dump();
}

std::string ResponsesBody(const std::string& text, const char* more = "{}") {
  Json body = {{"input", text}, {"temperature", 0}};
  body.update(Json::parse(more));
  return body.dump();
}

class ProtocolsTest : public ServerAppTest {
 protected:
  NamedEvents Events(const std::string& path, const std::string& body) {
    RawClient client(server_->port());
    client.Send(Request("POST", path, body));
    EXPECT_NE(client.ReadUntil("\r\n\r\n").find("text/event-stream"), std::string::npos);
    return ReadNamedEvents(Unchunk(client.ReadUntil("\r\n0\r\n\r\n", 20000)));
  }

  void StartThinkingModel() {
    fake_.says = kThinkThenCall;
    fake_.formats = {.call = chat::CallFormat::kHermes, .reasoning = chat::ReasoningFormat::kQwen3};
    Start();
  }
};

TEST_F(ProtocolsTest, MessagesAnswerWholeAndStreamed) {
  StartThinkingModel();
  const char* tools = R"({"tools":[{"name":"f","input_schema":{"type":"object"}}],
                          "thinking":{"type":"enabled","budget_tokens":1024}})";
  const Reply reply =
      Call("POST", std::string(kMessages) + "?beta=true", MessagesBody("hi", tools));
  ASSERT_EQ(reply.status, 200) << reply.body;
  const Json whole = reply.json();
  EXPECT_EQ(whole["id"].get<std::string>().substr(0, 4), "msg_");
  EXPECT_EQ(whole["stop_reason"], "tool_use");
  ASSERT_EQ(whole["content"].size(), 3U) << whole["content"];
  EXPECT_EQ(whole["content"][0]["thinking"], "hm");
  EXPECT_EQ(whole["content"][1]["text"].get<std::string>().substr(0, 5), "Look.");
  EXPECT_EQ(whole["content"][2]["input"].dump(), R"({"x":1})");
  EXPECT_GT(whole["usage"]["input_tokens"], 10);

  Json body = Json::parse(MessagesBody("hi", tools));
  body["stream"] = true;
  const NamedEvents events = Events(kMessages, body.dump());
  EXPECT_EQ(events.front().first, "message_start");
  EXPECT_EQ(events.back().first, "message_stop");
  std::vector<Json> blocks;
  for (const auto& [name, data] : events) {
    if (name == "content_block_start") {
      blocks.push_back(data["content_block"]);
      blocks.back()["json"] = "";
    } else if (name == "content_block_delta") {
      const Json& delta = data["delta"];
      Json& block = blocks.at(data["index"].get<size_t>());
      for (const auto& [key, joined] :
           {std::pair("thinking", "thinking"), {"text", "text"}, {"partial_json", "json"}}) {
        if (delta.contains(key)) {
          block[joined] = block[joined].get<std::string>() + delta[key].get<std::string>();
        }
      }
    }
  }
  ASSERT_EQ(blocks.size(), 3U);
  EXPECT_EQ(blocks[0]["thinking"], "hm");
  EXPECT_EQ(blocks[1]["text"], whole["content"][1]["text"]);
  EXPECT_EQ(Json::parse(blocks[2]["json"].get<std::string>()), whole["content"][2]["input"]);
  const Json& delta = events[events.size() - 2].second;
  EXPECT_EQ(delta["delta"]["stop_reason"], "tool_use");
  EXPECT_EQ(delta["usage"], whole["usage"]);
}

TEST_F(ProtocolsTest, MessagesCountTheirTokens) {
  Start();
  const char* tools = R"({"tools":[{"name":"f","input_schema":{}}]})";
  for (const char* more : {"{}", tools}) {
    Json body = Json::parse(MessagesBody("hello", more));
    const Json answer = Call("POST", kMessages, body.dump()).json();
    body.erase("max_tokens");
    const Reply counted = Call("POST", "/v1/messages/count_tokens", body.dump());
    ASSERT_EQ(counted.status, 200) << counted.body;
    EXPECT_EQ(counted.json()["input_tokens"], answer["usage"]["input_tokens"]);
    EXPECT_EQ(counted.json().size(), 1U);
  }
}

TEST_F(ProtocolsTest, ResponsesAnswerWholeAndStreamed) {
  StartThinkingModel();
  const char* tools = R"({"tools":[{"type":"function","name":"f","parameters":{}}],
                          "reasoning":{"effort":"high"}})";
  const Reply reply = Call("POST", kResponses, ResponsesBody("hi", tools));
  ASSERT_EQ(reply.status, 200) << reply.body;
  const Json whole = reply.json();
  EXPECT_EQ(whole["id"].get<std::string>().substr(0, 5), "resp_");
  EXPECT_EQ(whole["status"], "completed");
  ASSERT_EQ(whole["output"].size(), 3U) << whole["output"];
  EXPECT_EQ(whole["output"][0]["content"][0]["text"], "hm");
  EXPECT_EQ(whole["output"][2]["arguments"], R"({"x": 1})");
  EXPECT_GT(whole["usage"]["output_tokens_details"]["reasoning_tokens"], 0);

  Json body = Json::parse(ResponsesBody("hi", tools));
  body["stream"] = true;
  const NamedEvents events = Events(kResponses, body.dump());
  EXPECT_EQ(events[0].first, "response.created");
  EXPECT_EQ(events[1].first, "response.in_progress");
  EXPECT_EQ(events.back().first, "response.completed");
  const Json& last = events.back().second["response"];
  ASSERT_EQ(last["output"].size(), 3U);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(last["output"][i]["content"], whole["output"][i]["content"]);
  }
  EXPECT_EQ(last["output"][2]["arguments"], whole["output"][2]["arguments"]);
  EXPECT_EQ(last["usage"], whole["usage"]);
}

TEST_F(ProtocolsTest, LimitsAndStopsAreToldInEachWay) {
  Start();
  EXPECT_EQ(
      Call("POST", kMessages, MessagesBody("hi", R"({"max_tokens":5})")).json()["stop_reason"],
      "max_tokens");
  const Json stopped =
      Call("POST", kMessages, MessagesBody("hi", R"({"stop_sequences":["brown"]})")).json();
  EXPECT_EQ(stopped["stop_reason"], "stop_sequence");
  EXPECT_EQ(stopped["stop_sequence"], "brown");
  EXPECT_EQ(stopped["content"][0]["text"], "The quick ");
  const Json cut =
      Call("POST", kResponses, ResponsesBody("hi", R"({"max_output_tokens":5})")).json();
  EXPECT_EQ(cut["status"], "incomplete");
  EXPECT_EQ(cut["incomplete_details"]["reason"], "max_output_tokens");
}

TEST_F(ProtocolsTest, RefusalsHaveTheShapeOfTheirPath) {
  app_options_.gate.api_key = "secret";
  http_.max_body_bytes = 5000;
  Start(/*ready=*/false);
  const std::string key = "x-api-key: secret\r\n";
  const auto type = [&](const Reply& reply) {
    const Json json = reply.json();
    EXPECT_EQ(json["type"], "error") << reply.body;
    EXPECT_NE(reply.head.find("x-request-id: " + json["request_id"].get<std::string>()),
              std::string::npos);
    return std::to_string(reply.status) + " " + json["error"]["type"].get<std::string>();
  };
  for (const char* path : {kMessages, "/v1/messages/count_tokens"}) {
    EXPECT_EQ(type(Call("POST", path, MessagesBody("hi"))), "401 authentication_error");
    const Reply loading = Call("POST", path, MessagesBody("hi"), key);
    EXPECT_EQ(type(loading), "503 overloaded_error");
    EXPECT_TRUE(loading.json().contains("progress"));
  }
  EXPECT_EQ(Call("POST", kResponses, ResponsesBody("hi"), key).json()["error"]["code"],
            "model_loading");
  Ready();
  for (const char* path : {kMessages, "/v1/messages/count_tokens"}) {
    const auto call = [&](const std::string& body) { return type(Call("POST", path, body, key)); };
    EXPECT_EQ(call("{"), "400 invalid_request_error");
    EXPECT_EQ(call(MessagesBody("hi", R"({"tools":5})")), "400 invalid_request_error");
    EXPECT_EQ(call(MessagesBody("hi", R"({"model":"other"})")), "404 not_found_error");
    EXPECT_EQ(call(std::string(9000, ' ')), "413 request_too_large");
    EXPECT_EQ(type(Call("GET", path, "", key)), "405 invalid_request_error");
  }
  const Reply full = Call("POST", kMessages, MessagesBody("hi", R"({"max_tokens":5000})"), key);
  EXPECT_NE(full.json()["error"]["message"].get<std::string>().find(" + 5000 > 4096"),
            std::string::npos)
      << full.body;
  for (const char* path : {kResponses, "/tokenize", "/detokenize"}) {
    EXPECT_EQ(Call("POST", path, "{").status, 401) << path;
    const Reply reply = Call("POST", path, "{", key);
    EXPECT_EQ(reply.status, 400) << path;
    EXPECT_EQ(reply.json()["error"]["type"], "invalid_request_error") << path;
  }
}

TEST_F(ProtocolsTest, AFullQueueIsToldInEachWay) {
  fake_.max_queue = 1;
  Start();
  const auto clients = Occupy(1);
  EXPECT_EQ(Call("POST", kMessages, MessagesBody("hi")).json()["error"]["type"],
            "overloaded_error");
  EXPECT_EQ(Call("POST", kMessages, MessagesBody("hi", R"({"stream":true})")).status, 503);
  EXPECT_EQ(Call("POST", kResponses, ResponsesBody("hi")).json()["error"]["code"], "server_busy");
}

TEST_F(ProtocolsTest, FaultsInAStreamAreItsLastEvent) {
  Start();
  const NamedEvents messages = Events(kMessages, MessagesBody("[[fail]]", R"({"stream":true})"));
  EXPECT_EQ(messages.back().first, "error");
  EXPECT_EQ(messages.back().second["error"]["type"], "api_error");
  const NamedEvents responses = Events(kResponses, ResponsesBody("[[fail]]", R"({"stream":true})"));
  EXPECT_EQ(responses.back().first, "response.failed");
  EXPECT_EQ(responses.back().second["response"]["error"]["code"], "internal_error");
}

TEST_F(ProtocolsTest, SilenceIsFilledWithEvents) {
  http_.ping_interval_s = 0.1;
  Start();
  RawClient messages(server_->port());
  messages.Send(Request("POST", kMessages, MessagesBody("[[prefill]]", R"({"stream":true})")));
  EXPECT_NE(messages.ReadUntil("event: ping\ndata: {\"type\":\"ping\"}\n\n"), "");
  RawClient responses(server_->port());
  responses.Send(Request("POST", kResponses, ResponsesBody("[[prefill]]", R"({"stream":true})")));
  EXPECT_NE(responses.ReadUntil("event: response.in_progress\ndata: {\"type\":\"response."
                                "in_progress\",\"sequence_number\":3"),
            "");
  RawClient chat(server_->port());
  chat.Send(Request("POST", kChat, ChatBody("[[prefill]]", R"({"stream":true})")));
  EXPECT_NE(chat.ReadUntil(": ping\n\n"), "");
}

TEST_F(ProtocolsTest, HangingUpCancels) {
  http_.ping_interval_s = 1000;  // which would notice too, later
  Start();
  int64_t cancelled = 0;
  for (const char* more : {R"({"stream":true})", "{}"}) {
    for (const char* path : {kMessages, kResponses}) {
      RawClient client(server_->port());
      client.Send(Request("POST", path,
                          path == kMessages ? MessagesBody("[[prefill]]", more)
                                            : ResponsesBody("[[prefill]]", more)));
      ASSERT_TRUE(WaitFor([&] { return engine().Snapshot().requests_active == 1; }));
      client.Close();
      ++cancelled;
      EXPECT_TRUE(WaitFor([&] { return engine().Snapshot().requests_cancelled == cancelled; }));
    }
  }
}

TEST_F(ProtocolsTest, TokensGoBothWays) {
  Start();
  const Json text = Call("POST", "/tokenize", R"({"prompt":"ab"})").json();
  EXPECT_EQ(text.dump(),
            R"({"count":3,"max_model_len":4096,"tokens":[256,97,98],"token_strs":null})");
  const Json plain = Call("POST", "/tokenize",
                          R"({"prompt":"ab","add_special_tokens":false,"return_token_strs":true})")
                         .json();
  EXPECT_EQ(plain["tokens"].dump(), "[97,98]");
  EXPECT_EQ(plain["token_strs"].dump(), R"(["a","b"])");
  EXPECT_EQ(Call("POST", "/tokenize",
                 R"({"prompt":"","add_special_tokens":false,)"
                 R"("return_token_strs":true})")
                .body,
            R"({"count":0,"max_model_len":4096,"tokens":[],"token_strs":[]})");

  const Json chat = Call("POST", "/tokenize", ChatBody("x")).json();
  const Json back = Call("POST", "/detokenize", Json{{"tokens", chat["tokens"]}}.dump()).json();
  EXPECT_EQ(back.dump(), R"({"prompt":"<user>x\n<assistant>"})");
  const Json open =
      Call("POST", "/tokenize", ChatBody("x", R"({"add_generation_prompt":false})")).json();
  EXPECT_EQ(open["count"].get<int>() + 11, chat["count"].get<int>());

  EXPECT_EQ(Call("POST", "/tokenize", R"({"prompt":"a","model":"other"})").status, 404);
  EXPECT_EQ(Call("POST", "/detokenize", R"({"tokens":[260]})").status, 400);
  EXPECT_EQ(Call("POST", "/detokenize", R"({"tokens":[]})").json()["prompt"], "");
}

TEST_F(ProtocolsTest, EmbeddingsAreSaidToBeMissing) {
  Start();
  const Reply reply = Call("POST", "/v1/embeddings", R"({"input":"x"})");
  EXPECT_EQ(reply.status, 404);
  EXPECT_NE(reply.body.find("no embeddings"), std::string::npos);
}

}  // namespace
}  // namespace mach::server
