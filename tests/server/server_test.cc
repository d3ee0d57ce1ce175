// The whole HTTP side on the scripted engine: requests, answers, refusals, reports.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "server/startup.h"
#include "tests/server/app_fixture.h"
#include "tests/server/reports_page.h"

namespace mach::server {
namespace {

TEST_F(ServerAppTest, SaysHowFarLoadingIs) {
  Start(/*ready=*/false);
  host_->progress().bytes_total.store(200);
  host_->progress().bytes_done.store(50);
  for (const char* path : {"/v1/models", "/v1/capabilities", "/v1/stats"}) {
    const Reply reply = Call("GET", path);
    EXPECT_EQ(reply.status, 503);
    EXPECT_NE(reply.head.find("Retry-After: 1"), std::string::npos);
    EXPECT_EQ(reply.json()["progress"]["fraction"], 0.25);
    EXPECT_EQ(reply.json()["error"]["code"], "model_loading");
  }
  EXPECT_EQ(Call("POST", kChat, ChatBody("hi")).status, 503);
  EXPECT_EQ(Call("GET", "/health").json()["status"], "loading");
  EXPECT_EQ(Call("GET", "/metrics").status, 200);
  Ready();
  EXPECT_EQ(Call("GET", "/v1/models").status, 200);
  EXPECT_EQ(Call("GET", "/health").json()["status"], "ok");
}

TEST_F(ServerAppTest, ChecksKeys) {
  app_options_.gate.api_key = "secret";
  Start();
  EXPECT_EQ(Call("GET", "/v1/models").status, 401);
  EXPECT_EQ(Call("GET", "/v1/models", "", "Authorization: Bearer secre\r\n").status, 401);
  EXPECT_EQ(Call("GET", "/v1/models", "", "Authorization: Bearer secret2\r\n").status, 401);
  const Reply reply = Call("POST", kChat, ChatBody("hi"), "x-api-key: wrong\r\n");
  EXPECT_EQ(reply.status, 401);
  EXPECT_EQ(reply.json()["error"]["code"], "invalid_api_key");
  EXPECT_EQ(Call("GET", "/v1/models", "", "Authorization: Bearer secret\r\n").status, 200);
  EXPECT_EQ(Call("GET", "/v1/models", "", "X-Api-Key: secret\r\n").status, 200);
  EXPECT_EQ(Call("GET", "/health").status, 200);
  // What there is to ask for is no business of those without a key either.
  EXPECT_EQ(Call("GET", "/v1/nope").status, 401);
  EXPECT_EQ(Call("DELETE", "/v1/models").status, 401);
  EXPECT_EQ(Call("GET", "/v1/nope", "", "X-Api-Key: secret\r\n").status, 404);
  EXPECT_EQ(Call("OPTIONS", "/v1/models").status, 204);
  EXPECT_EQ(Call("GET", "/nope").status, 404);
}

TEST_F(ServerAppTest, NamesModels) {
  Start();
  EXPECT_EQ(Call("GET", "/v1/models/fake").json()["id"], "fake");
  EXPECT_EQ(Call("GET", "/v1/models/dir%2Dname").status, 200);
  EXPECT_EQ(Call("GET", "/v1/models/other/name").json()["error"]["code"], "model_not_found");
  EXPECT_EQ(Call("POST", kChat, ChatBody("hi", R"({"model":"other"})")).status, 404);
  EXPECT_EQ(Call("POST", kChat, ChatBody("hi", R"({"model":"dir-name"})")).status, 200);
}

TEST(ModelHost, AnswersToAHubIdWithoutItsRevision) {
  ModelHost host("0a1b2c");
  auto model = mach::testing::MakeFakeModel({});
  model->info.id = "owner/name@main";
  host.SetReady(std::move(model));
  EXPECT_TRUE(host.Answers("owner/name@main"));
  EXPECT_TRUE(host.Answers("owner/name"));
  EXPECT_TRUE(host.Answers("0a1b2c"));
  EXPECT_FALSE(host.Answers("owner/name@other"));
  EXPECT_FALSE(host.Answers("owner"));
}

TEST(DirectoryName, IsTheLastPartOfThePath) {
  const std::string here = std::filesystem::current_path().filename().string();
  for (const char* path : {".", "./", "x/..", "x/../", "./."}) {
    EXPECT_EQ(loading::DirectoryName(path), here) << path;
  }
  EXPECT_EQ(loading::DirectoryName("/models/a"), "a");
  EXPECT_EQ(loading::DirectoryName("/models/a/"), "a");
  EXPECT_EQ(loading::DirectoryName("/models/b/../a/."), "a");
  EXPECT_EQ(loading::DirectoryName("a.gguf"), "a.gguf");
}

TEST_F(ServerAppTest, AnswersPreflightOfLocalPages) {
  Start();
  const Reply local = Call("OPTIONS", kChat, "", "Origin: http://localhost:3000\r\n");
  EXPECT_EQ(local.status, 204);
  EXPECT_NE(local.head.find("Access-Control-Allow-Origin: http://localhost:3000"),
            std::string::npos);
  for (const char* origin : {"https://evil.example", "http://localhost.evil.example",
                             "http://127.0.0.1.evil.example", "null"}) {
    const Reply foreign = Call("GET", "/v1/models", "", std::string("Origin: ") + origin + "\r\n");
    EXPECT_EQ(foreign.head.find("Access-Control"), std::string::npos) << origin;
  }
}

TEST_F(ServerAppTest, PagesOfOthersCannotCall) {
  app_options_.gate.cors_origins = {"https://friend.example"};
  Start();
  const auto status = [this](const std::string& origin, const std::string& path) {
    const std::string headers = "Origin: " + origin + "\r\nContent-Type: text/plain\r\n";
    return path == kChat ? Call("POST", path, ChatBody("hi"), headers).status
                         : Call("GET", path, "", headers).status;
  };
  for (const char* path : {kChat, "/v1/models", "/v1/nope"}) {
    EXPECT_EQ(status("https://evil.example", path), 403) << path;
    EXPECT_EQ(status("https://friend.example.evil", path), 403) << path;
    EXPECT_EQ(status("null", path), 403) << path;
  }
  EXPECT_EQ(status("https://friend.example", kChat), 200);
  EXPECT_EQ(status("http://localhost:3000", kChat), 200);
  EXPECT_EQ(status("http://127.0.0.1", kChat), 200);
  EXPECT_EQ(status("app://notes", "/v1/models"), 200);
  EXPECT_EQ(status("HTTPS://evil.example", "/v1/models"), 403);
  EXPECT_EQ(status("https://evil.example", "/health"), 200);
  EXPECT_EQ(engine().Snapshot().requests_total, 3);
  const Json error =
      Call("GET", "/v1/models", "", "Origin: https://evil.example\r\n").json()["error"];
  EXPECT_NE(error["message"].get<std::string>().find("--cors-origin"), std::string::npos);
}

TEST_F(ServerAppTest, AnyPageMayCallIfTheUserSaysSo) {
  app_options_.gate.cors_origins = {"*"};
  app_options_.gate.host = "127.0.0.1";
  Start();
  EXPECT_EQ(Call("GET", "/v1/models", "", "Origin: https://any.example\r\n").status, 200);
}

TEST_F(ServerAppTest, NamesMadeToPointHereAreRefused) {
  app_options_.gate.host = "localhost";
  app_options_.gate.cors_origins = {"https://proxy.example"};
  Start();
  const auto status = [this](const std::string& host) {
    RawClient client(server_->port());
    client.Send("GET /v1/models HTTP/1.1\r\nHost: " + host + "\r\n\r\n");
    return client.ReadResponse().substr(9, 3);
  };
  for (const char* host : {"localhost", "LocalHost:8080", "127.0.0.1", "127.0.0.1:1", "127.1.2.3",
                           "[::1]:8080", "[::1]", "proxy.example:80"}) {
    EXPECT_EQ(status(host), "200") << host;
  }
  for (const char* host : {"evil.example", "evil.example:8080", "127.0.0.1.evil.example",
                           "localhost.evil.example", "192.168.0.1", "[fe80::1]:80"}) {
    EXPECT_EQ(status(host), "403") << host;
  }
  RawClient old(server_->port());
  old.Send("GET /v1/models HTTP/1.0\r\n\r\n");
  EXPECT_EQ(old.ReadResponse().substr(9, 3), "200");
}

TEST_F(ServerAppTest, EveryRefusalIsAccounted) {
  app_options_.gate.api_key = "secret";
  http_.max_body_bytes = 1000;
  http_.max_head_bytes = 4000;
  http_.head_timeout_s = 0.2;
  Start();
  const std::string common = "Host: h\r\nX-Request-Id: mine-1\r\nOrigin: http://localhost:3\r\n";
  struct Case {
    const char* status;
    std::string text;
  };
  const std::string post = "POST /v1/chat/completions HTTP/1.1\r\n" + common;
  for (const Case& one :
       std::vector<Case>{{"413", post + "Content-Length: 5000\r\n\r\n"},
                         {"431", post + "X: " + std::string(9000, 'x')},
                         {"408", post + "X-Slow: "},
                         {"400", post + "Transfer-Encoding: gzip\r\n\r\n"},
                         {"401", post + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"},
                         {"404", "POST /nope HTTP/1.1\r\n" + common +
                                     "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"}}) {
    ::testing::internal::CaptureStderr();
    RawClient client(server_->port());
    client.Send(one.text);
    const std::string reply = client.ReadResponse();
    const std::string log = ::testing::internal::GetCapturedStderr();
    EXPECT_EQ(reply.substr(9, 3), one.status);
    EXPECT_NE(reply.find("x-request-id: mine-1\r\n"), std::string::npos) << reply;
    EXPECT_NE(reply.find("Access-Control-Allow-Origin: http://localhost:3\r\n"), std::string::npos);
    EXPECT_NE(log.find("request refused id=mine-1 method=POST path=/"), std::string::npos) << log;
    EXPECT_EQ(log.find('\n'), log.size() - 1) << log;
    const std::string route = one.text.find("/nope") == std::string::npos ? kChat : "other";
    EXPECT_NE(Call("GET", "/metrics")
                  .body.find("{route=\"" + route + "\",status=\"" + one.status + "\"} 1\n"),
              std::string::npos)
        << one.status;
  }
}

TEST_F(ServerAppTest, CompressedBodiesAreRefusedByName) {
  Start();
  const Reply reply = Call("POST", kChat, ChatBody("hi"), "Content-Encoding: gzip\r\n");
  EXPECT_EQ(reply.status, 415);
  EXPECT_NE(reply.body.find("Content-Encoding"), std::string::npos);
  EXPECT_EQ(Call("POST", kChat, ChatBody("hi"), "Content-Encoding: identity\r\n").status, 200);
}

TEST_F(ServerAppTest, ReportsWhatThePageShows) {
  Start();
  const Json capabilities = Call("GET", "/v1/capabilities").json();
  EXPECT_EQ(capabilities["backend"], "openai");
  EXPECT_EQ(capabilities["serving"]["decode_path"], "target-only");
  EXPECT_EQ(capabilities["arch"]["model_type"], "llama");
  EXPECT_EQ(Call("GET", "/v1/cache/stats").json()["prefix_cache"]["enabled"], false);
  EXPECT_EQ(Call("GET", "/v1/cache/warm_prefix").json()["enabled"], false);
  EXPECT_EQ(Call("POST", "/v1/cache/warm_prefix", "{}").status, 400);
  EXPECT_EQ(Call("POST", "/v1/models").status, 405);
  EXPECT_EQ(Call("GET", "/v2").status, 404);
}

// Names and order of the object's keys, one level down too.
std::vector<std::string> Keys(const Json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) {
    keys.push_back(key);
    for (const std::string& inner : value.is_object() ? Keys(value) : std::vector<std::string>{}) {
      keys.push_back(key + "." + inner);
    }
  }
  return keys;
}

TEST(Capabilities, HaveThePagesKeysOnBothPaths) {
  const auto keys = [model = mach::testing::MakeFakeModel({})](loading::ServingPath path) {
    model->info.path = path;
    return Keys(Json::parse(CapabilitiesJson(model->info)));
  };
  std::vector<std::string> page = {"model",
                                   "backend",
                                   "supported",
                                   "arch",
                                   "arch.model_type",
                                   "arch.swiglu_variant",
                                   "arch.stacked_supported",
                                   "arch.has_expert_bias",
                                   "arch.text_config_wrapped",
                                   "arch.model_module",
                                   "arch.default_bits",
                                   "arch.default_group_size",
                                   "arch.kv_cache_kind",
                                   "arch.specdec_kind",
                                   "arch.continuous_batching",
                                   "serving",
                                   "serving.expert_residency",
                                   "serving.serving_mode",
                                   "serving.decode_path",
                                   "serving.effective_decode_path",
                                   "serving.effective_decode_path_reason",
                                   "serving.continuous_batching",
                                   "serving.turboquant_kv",
                                   "serving.decode_policy",
                                   "serving.decode_policy.mode",
                                   "serving.decode_policy.engine_mode",
                                   "serving.speculation",
                                   "serving.speculation.supported_presets",
                                   "serving.speculation.additive",
                                   "serving.speculation.exactness_preserving",
                                   "serving.rho_gate",
                                   "grammar",
                                   "grammar.xgrammar",
                                   "grammar.lm_format_enforcer",
                                   "grammar.llguidance"};
  EXPECT_EQ(keys(loading::ServingPath::kResident), page);
  // The generic backend adds its flag.
  page.insert(std::find(page.begin(), page.end(), "serving.decode_policy"), "serving.disk_kv");
  EXPECT_EQ(keys(loading::ServingPath::kOpenAi), page);
}

TEST_F(ServerAppTest, StatsAnswerDuringAGeneration) {
  Start();
  RawClient busy(server_->port());
  busy.Send(Request("POST", kChat, ChatBody("[[prefill]]", R"({"stream":true})")));
  // Headers and the first chunk do not wait for the first token.
  EXPECT_NE(busy.ReadUntil("\"role\":\"assistant\""), "");
  // The role chunk leaves as soon as the request is queued; the engine takes it a moment later.
  Json stats;
  const Stopwatch patience;
  do {
    const Stopwatch watch;
    stats = Call("GET", "/v1/stats").json();
    EXPECT_LT(watch.ElapsedSeconds(), kPatienceS);  // prefill takes three times as long
  } while (stats["requests"]["active"] != 1 && patience.ElapsedSeconds() < kPatienceS);
  EXPECT_EQ(stats["requests"]["active"], 1);
  EXPECT_EQ(stats["stale_generation_in_flight"], true);
  EXPECT_GE(stats["snapshot_age_s"], 0);
}

TEST_F(ServerAppTest, StreamAndWholeAgree) {
  Start();
  const std::string whole =
      Call("POST", kChat, ChatBody("hi")).json()["choices"][0]["message"]["content"];
  EXPECT_EQ(whole.substr(0, 19), "The quick brown fox");
  const auto events = Stream(kChat, ChatBody("hi", R"({"stream":true})"));
  ASSERT_GT(events.size(), 3U);
  EXPECT_EQ(events.back(), "[DONE]");
  std::string joined;
  for (size_t i = 0; i + 1 < events.size(); ++i) {
    joined += Json::parse(events[i])["choices"][0]["delta"].value("content", "");
  }
  EXPECT_EQ(joined, whole);
  EXPECT_EQ(Json::parse(events[events.size() - 2])["choices"][0]["finish_reason"], "stop");
}

TEST_F(ServerAppTest, RunningUsageCountsTheEndTokenToo) {
  Start();
  const auto events = Stream(kChat, ChatBody("hi", R"({"stream":true,"stream_options":
                                      {"include_usage":true,"continuous_usage_stats":true}})"));
  ASSERT_GT(events.size(), 4U);
  const Json finish = Json::parse(events[events.size() - 3]);
  EXPECT_EQ(finish["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(finish["usage"]["completion_tokens"], fake_.eos_after_tokens + 1);
  EXPECT_EQ(Json::parse(events[events.size() - 2])["usage"], finish["usage"]);
}

TEST_F(ServerAppTest, FieldsReachTheEngine) {
  Start();
  Call("POST", kChat, ChatBody("hi", R"({"max_tokens":5,"seed":9,"top_k":3,"n":2,"top_p":0.5,
       "stop":"zz","logit_bias":{"65":5},"min_tokens":2,"logprobs":true,"top_logprobs":2,
       "reasoning_effort":"none"})"));
  const auto request = engine().last_request();
  EXPECT_EQ(request.stop.max_tokens, 5);
  EXPECT_EQ(request.stop.min_tokens, 2);
  EXPECT_EQ(request.sampling.seed, 9);
  EXPECT_EQ(request.sampling.top_k, 3);
  EXPECT_EQ(request.sampling.top_p, 0.5F);
  EXPECT_EQ(request.sampling.logit_bias.size(), 1U);
  EXPECT_EQ(request.choices, 2);
  EXPECT_EQ(request.top_logprobs, 2);
  const std::string prompt(request.prompt_tokens.begin(), request.prompt_tokens.end());
  EXPECT_EQ(prompt, "<user>hi\n<assistant><think></think>");
  Call("POST", kChat, ChatBody("hi"));
  EXPECT_EQ(engine().last_request().stop.max_tokens, fake_.max_context - 20);
}

TEST_F(ServerAppTest, AStopStringThatIsASpecialTokenStopsAtTheToken) {
  using Stops = std::vector<std::pair<int32_t, std::string>>;
  Start();
  Call("POST", kChat, ChatBody("hi", R"({"stop":["zz","<|end|>","q"]})"));
  EXPECT_EQ(engine().last_request().stop.string_tokens,
            (Stops{{mach::testing::kEosToken, mach::testing::kEndText}}));
  EXPECT_EQ(engine().last_request().stop.strings.size(), 3U);
  // Where special tokens are shown, the text matches.
  Call("POST", kChat, ChatBody("hi", R"({"stop":"<|end|>","skip_special_tokens":false})"));
  EXPECT_EQ(engine().last_request().stop.string_tokens, Stops{});
}

TEST_F(ServerAppTest, EngineErrorsEndStreamsProperly) {
  Start();
  const auto events = Stream(kChat, ChatBody("[[fail]]", R"({"stream":true})"));
  ASSERT_GE(events.size(), 2U);
  EXPECT_EQ(events.back(), "[DONE]");
  EXPECT_EQ(Json::parse(events[events.size() - 2])["error"]["code"], "internal_error");
  const Reply whole = Call("POST", kChat, ChatBody("[[fail]]"));
  EXPECT_EQ(whole.status, 500);
  EXPECT_EQ(whole.body.find("scripted failure"), std::string::npos) << "no business of clients";
}

TEST_F(ServerAppTest, BadInputIsTheClientsFault) {
  Start();
  const auto refused = [this](const std::string& body) {
    const Reply reply = Call("POST", kChat, body);
    EXPECT_EQ(reply.status, 400) << body.substr(0, 100);
    return reply.json()["error"];
  };
  EXPECT_EQ(refused(ChatBody("hi", R"({"max_tokens":5000})"))["code"], "context_length_exceeded");
  EXPECT_EQ(refused(ChatBody("hi", R"({"max_tokens":9223372036854775807})"))["code"],
            "context_length_exceeded");
  EXPECT_EQ(refused(ChatBody(std::string(5000, 'x')))["message"],
            "This model's maximum context length is 4096 tokens. However, you requested 0 output "
            "tokens and your prompt contains at least 5018 input tokens.");
  EXPECT_EQ(refused(ChatBody(std::string(5'000'000, 'x')))["code"], "context_length_exceeded");
  EXPECT_EQ(refused(ChatBody(std::string(5000, 'x')))["param"], "messages");
  const Json two = {{"prompt", Json::array({"a", std::string(5000, 'x')})}};
  EXPECT_EQ(Call("POST", "/v1/completions", two.dump()).json()["error"]["param"], "prompt[1]");
  EXPECT_EQ(refused(ChatBody("[[raise]]"))["param"], "messages");
  EXPECT_EQ(refused(ChatBody("hi", R"({"logit_bias":{"260":1}})"))["param"], "logit_bias.260");
  EXPECT_EQ(refused(ChatBody("hi", R"({"stop_token_ids":[260]})"))["param"], "stop_token_ids[0]");
  refused("");
  refused("{\"messages\":\"\xFF\"}");
  refused(std::string(1 << 20, '['));
  EXPECT_EQ(Call("POST", "/v1/completions", R"({"prompt":[1,2,999]})").json()["error"]["param"],
            "prompt[2]");
}

// As the templates of Qwen3.5 iterate over the arguments.
constexpr char kIteratingTemplate[] = R"({%- for m in messages %}<{{ m.role }}>{{ m.content }}
{%- for call in m.tool_calls or [] %}[{{ call.function.name }}
{%- for key, value in call.function.arguments|items %} {{ key }}={{ value }}{%- endfor %}]
{%- endfor %}
{%- endfor %})";

TEST_F(ServerAppTest, BrokenArgumentsOfPastCallsAreRendered) {
  Start(/*ready=*/false);
  auto model = mach::testing::MakeFakeModel(fake_);
  model->chat_template = jinja::ChatTemplate::Parse(kIteratingTemplate, "/home/me/t.jinja");
  host_->SetReady(std::move(model));
  const auto render = [this](const std::string& arguments) {
    Json body = {{"max_tokens", 1}};
    body["messages"] = Json::array(
        {Json{{"role", "user"}, {"content", "go"}},
         Json{{"role", "assistant"},
              {"tool_calls",
               Json::array({Json{{"function", {{"name", "f"}, {"arguments", arguments}}}},
                            Json{{"function", {{"name", "g"}, {"arguments", R"({"a":1})"}}}}})}}});
    const Reply reply = Call("POST", kChat, body.dump());
    EXPECT_EQ(reply.status, 200) << arguments << reply.body;
    const auto tokens = engine().last_request().prompt_tokens;
    return std::string(tokens.begin(), tokens.end());
  };
  EXPECT_EQ(render(R"({"x":"y"})"), "<user>go<assistant>[f x=y][g a=1]");
  for (const char* none : {"", " ", "null", "{}"}) {
    EXPECT_EQ(render(none), "<user>go<assistant>[f][g a=1]") << none;
  }
  for (const char* text : {"{bad", "[1]", "5", "\"s\""}) {
    EXPECT_EQ(render(text), std::string("<user>go<assistant>[f arguments=") + text + "][g a=1]");
  }
}

TEST_F(ServerAppTest, TemplateErrorsDoNotShowThePath) {
  Start(/*ready=*/false);
  auto model = mach::testing::MakeFakeModel(fake_);
  model->chat_template = jinja::ChatTemplate::Parse("\n{{ missing.x }}", "/home/me/t.jinja");
  host_->SetReady(std::move(model));
  ::testing::internal::CaptureStderr();
  const Reply reply = Call("POST", kChat, ChatBody("hi"));
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(reply.status, 400);
  EXPECT_NE(reply.body.find("line 2"), std::string::npos) << reply.body;
  EXPECT_EQ(reply.body.find("/home"), std::string::npos) << reply.body;
  EXPECT_NE(log.find(" status=400 error=\"/home/me/t.jinja: "), std::string::npos) << log;
  EXPECT_EQ(log.find('\n'), log.size() - 1) << log;
}

TEST_F(ServerAppTest, ModelsWithoutTemplateCannotChat) {
  fake_.with_template = false;
  Start();
  EXPECT_EQ(Call("POST", kChat, ChatBody("hi")).json()["error"]["param"], "messages");
  EXPECT_EQ(Call("POST", "/v1/completions", R"({"prompt":"hi"})").status, 200);
}

TEST_F(ServerAppTest, CompletionsOfSeveralPrompts) {
  Start();
  const Json reply =
      Call("POST", "/v1/completions",
           R"({"prompt":["a","bc"],"n":2,"max_tokens":4,"temperature":1,"seed":0,"logprobs":1})")
          .json();
  ASSERT_EQ(reply["choices"].size(), 4U);
  EXPECT_EQ(reply["choices"][0]["text"], reply["choices"][2]["text"]);
  EXPECT_NE(reply["choices"][0]["text"], reply["choices"][1]["text"]);
  EXPECT_EQ(reply["usage"]["prompt_tokens"], 5);  // with a BOS each
  EXPECT_EQ(reply["usage"]["completion_tokens"], 16);
  EXPECT_EQ(reply["choices"][0]["logprobs"]["tokens"].size(), 4U);
}

TEST_F(ServerAppTest, FullQueueIs503) {
  fake_.max_queue = 1;
  Start();
  auto clients = Occupy(1);
  const Reply reply = Call("POST", kChat, ChatBody("hi"));
  EXPECT_EQ(reply.status, 503);
  EXPECT_EQ(reply.json()["error"]["code"], "server_busy");
  EXPECT_NE(reply.head.find("Retry-After"), std::string::npos);
}

TEST_F(ServerAppTest, PromptsAreQueuedTogetherOrNotAtAll) {
  fake_.max_queue = 3;
  Start();
  const auto send = [this](const char* prompts) {
    return Call("POST", "/v1/completions",
                std::string(R"({"max_tokens":2,"prompt":)") + prompts + "}");
  };
  EXPECT_EQ(send(R"(["a","b","c"])").status, 200);
  const Reply never = send(R"(["a","b","c","d"])");
  EXPECT_EQ(never.status, 400) << "trying again cannot help";
  EXPECT_EQ(never.head.find("Retry-After"), std::string::npos);
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(std::make_unique<RawClient>(server_->port()));
    clients.back()->Send(Request("POST", kChat, ChatBody("[[prefill]]")));
    ASSERT_TRUE(WaitFor([&] {
      const auto stats = engine().Snapshot();
      return stats.requests_active == 1 && stats.requests_queued == i;
    }));
  }
  const int64_t taken = engine().Snapshot().requests_total;
  EXPECT_EQ(send(R"(["a","b"])").status, 503);
  EXPECT_EQ(engine().Snapshot().requests_total, taken);
  EXPECT_EQ(engine().Snapshot().requests_queued, 2);
}

TEST_F(ServerAppTest, HangingUpCancelsAtEveryStage) {
  http_.ping_interval_s = 1000;  // which would notice too, later
  Start();
  const auto cancelled = [this] { return engine().Snapshot().requests_cancelled; };
  const auto idle = [this] { return engine().Snapshot().requests_active == 0; };
  for (const char* more : {R"({"stream":true})", "{}"}) {
    for (const char* prompt : {"[[prefill]]", "[[slow]] [[long]]"}) {
      const int64_t before = cancelled();
      RawClient client(server_->port());
      client.Send(Request("POST", kChat, ChatBody(prompt, more)));
      ASSERT_TRUE(WaitFor([&] { return !idle(); }));
      // While that runs, another waits in the queue and gives up first.
      RawClient queued(server_->port());
      queued.Send(Request("POST", kChat, ChatBody("hi", more)));
      ASSERT_TRUE(WaitFor([&] { return engine().Snapshot().requests_queued == 1; }));
      queued.Close();
      EXPECT_TRUE(WaitFor([&] { return cancelled() == before + 1; })) << prompt << more;
      client.Close();
      EXPECT_TRUE(WaitFor([&] { return cancelled() == before + 2 && idle(); })) << prompt << more;
    }
  }
  EXPECT_EQ(Call("POST", kChat, ChatBody("still alive")).status, 200);
}

TEST_F(ServerAppTest, SlowReadersCostLittle) {
  fake_.flood = true;
  fake_.max_context = 100'000'000;
  http_.write_timeout_s = 1;
  Start();
  RawClient reader(server_->port(), 4096);
  reader.Send(Request("POST", kChat, ChatBody("[[long]]", R"({"stream":true})")));
  ASSERT_TRUE(WaitFor([&] { return engine().Snapshot().requests_active == 1; }));
  // It never reads: thrown out, and the generation ends with it.
  EXPECT_TRUE(WaitFor([&] { return engine().Snapshot().requests_cancelled == 1; }));
  EXPECT_TRUE(WaitFor([&] { return server_->connections() == 0; }));
}

TEST_F(ServerAppTest, AReaderOfLogprobsThatNeverReadsIsToldAndStopped) {
  fake_.flood = true;
  fake_.max_context = 100'000;
  Start();
  RawClient reader(server_->port(), 4096);
  reader.Send(Request("POST", kChat, ChatBody("[[long]]", R"({"stream":true,"max_tokens":20000,
                                      "logprobs":true,"top_logprobs":20})")));
  // 20,000 tokens would be 26 MB.
  ASSERT_TRUE(WaitFor([&] { return engine().Snapshot().requests_cancelled == 1; }));
  reader.ReadUntil("\r\n\r\n");
  const std::string text = Unchunk(reader.ReadUntil("\r\n0\r\n\r\n", 20000));
  EXPECT_NE(text.find("The client does not read the stream."), std::string::npos);
  EXPECT_NE(text.find("data: [DONE]"), std::string::npos);
}

TEST_F(ServerAppTest, FastStreamsArriveWhole) {
  fake_.flood = true;
  fake_.max_context = 300'000;
  Start();
  const auto events = Stream(kChat, ChatBody("[[long]]", R"({"stream":true,"max_tokens":200000,
                                      "stream_options":{"include_usage":true}})"));
  std::string joined;
  for (const std::string& event : events) {
    if (event != "[DONE]") {
      const Json chunk = Json::parse(event);
      if (!chunk["choices"].empty()) {
        joined += chunk["choices"][0]["delta"].value("content", "");
      }
    }
  }
  EXPECT_EQ(joined.substr(0, 9), "The quick");
  EXPECT_GT(joined.size(), 199'000U);
  EXPECT_EQ(Json::parse(events[events.size() - 2])["usage"]["completion_tokens"], 200000);
}

TEST_F(ServerAppTest, ManyClientsAtOnce) {
  Start();
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int i = 0; i < 16; ++i) {
    threads.emplace_back([this, i, &good] {
      for (int round = 0; round < 4; ++round) {
        if (i % 4 == 3) {
          RawClient quitter(server_->port());
          quitter.Send(Request("POST", kChat, ChatBody("[[long]]", R"({"stream":true})")));
          quitter.ReadUntil("role");
        } else if (i % 2 == 0) {
          // Deltas that queue up share a chunk, so only the ends are certain.
          const auto events = Stream(kChat, ChatBody("hi", R"({"stream":true,"max_tokens":9})"));
          good += events.size() >= 4 && events.size() <= 12 && events.back() == "[DONE]";
        } else {
          good += Call("POST", kChat, ChatBody("hi", R"({"max_tokens":9})")).status == 200;
        }
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(good, 48);
  EXPECT_TRUE(WaitFor([&] { return engine().Snapshot().requests_active == 0; }));
  const std::string metrics = Call("GET", "/metrics").body;
  EXPECT_NE(
      metrics.find("mach_http_responses_total{route=\"/v1/chat/completions\",status=\"200\"}"),
      std::string::npos);
}

TEST_F(ServerAppTest, StreamedExpertsAreReported) {
  fake_.streaming = true;
  Start();
  const Json capabilities = Call("GET", "/v1/capabilities").json();
  EXPECT_EQ(capabilities["backend"], "production");
  EXPECT_EQ(capabilities["serving"]["expert_residency"], "streaming");
  EXPECT_EQ(capabilities["serving"]["serving_mode"], "streaming");
  EXPECT_EQ(capabilities["serving"]["direct_pread"].dump(), R"({"active":true,"mode":"pread"})");
  const Json brief = Call("GET", "/v1/cache/stats").json()["streaming_summary"];
  EXPECT_EQ(
      brief.dump(),
      R"({"experts_resident":6,"capacity":8,"hits":30,"misses":10,"evictions":4,)"
      R"("hit_rate":0.75,"prefill_hits":3,"prefill_misses":20,)"
      R"("bytes_read":163840,"read_seconds":0.5,"stall_seconds":0.25,)"
      R"("prefetches":0,"prefetch_hits":0,"read_ahead_dropped":0,"read_errors":0,"policy":"lru",)"
      R"("direct_pread":{"active":true,"mode":"pread"},"snapshot_age_s":0.0})");
  const Json detailed = Call("GET", "/v1/cache/stats?x=2&detail=1").json()["streaming_summary"];
  EXPECT_EQ(detailed["per_layer"].dump(),
            R"([{"layer":1,"resident":6,"hits":30,"misses":10,"prefill_hits":3,)"
            R"("prefill_misses":20,"map":"0f30"}])");
  const std::string metrics = Call("GET", "/metrics").body;
  EXPECT_NE(metrics.find("\nmach_expert_misses_total 10\n"), std::string::npos);
  EXPECT_NE(metrics.find("\nmach_expert_prefill_misses_total 20\n"), std::string::npos);
  EXPECT_NE(metrics.find("\nmach_expert_direct_reads 1\n"), std::string::npos);
  EXPECT_NE(metrics.find("\nmach_expert_read_bytes_total 163840\n"), std::string::npos);
  EXPECT_NE(metrics.find("\nmach_expert_stall_seconds_total 0.25\n"), std::string::npos);
}

TEST_F(ServerAppTest, ReadsThroughThePageCacheAreReported) {
  fake_.streaming = fake_.buffered = true;
  Start();
  EXPECT_EQ(Call("GET", "/v1/capabilities").json()["serving"]["direct_pread"]["active"], false);
  EXPECT_NE(Call("GET", "/metrics").body.find("\nmach_expert_direct_reads 0\n"), std::string::npos);
}

// The counters of experts are read when they are asked for, whatever runs.
TEST_F(ServerAppTest, ExpertCountersAreLive) {
  fake_.streaming = true;
  Start();
  RawClient busy(server_->port());
  busy.Send(Request("POST", kChat, ChatBody("[[prefill]]")));
  ASSERT_TRUE(WaitFor([&] { return engine().Snapshot().requests_active == 1; }));
  const Json stats = Call("GET", "/v1/cache/stats").json();
  EXPECT_EQ(stats["streaming_summary"]["snapshot_age_s"], 0);
  EXPECT_EQ(stats["snapshot_age_s"], 0);
  EXPECT_EQ(stats["stale_generation_in_flight"], false);
}

TEST_F(ServerAppTest, DenseModelsHaveNoStreamingSummary) {
  Start();
  EXPECT_TRUE(Call("GET", "/v1/cache/stats?detail=1").json()["streaming_summary"].is_null());
  EXPECT_EQ(Call("GET", "/metrics").body.find("mach_expert_"), std::string::npos);
}

TEST_F(ServerAppTest, ReceiptsComeWithUsageOnRequest) {
  fake_.streaming = true;
  Start();
  const char* const kReceipt = R"({"receipt":true})";
  const Json whole = Call("POST", kChat, ChatBody("hi", kReceipt)).json()["usage"];
  EXPECT_EQ(whole["mach"]["bytes_read"], 163840 + 327680);
  EXPECT_EQ(whole["mach"]["expert_hit_rate"], 0.75);  // of decoding alone
  EXPECT_EQ(whole["mach"]["expert_prefill_hits"], 3);
  EXPECT_EQ(whole["mach"]["expert_prefill_misses"], 20);
  EXPECT_EQ(whole["mach"]["stall_seconds"], 0.75);
  for (const char* key : {"expert_hits", "expert_misses", "prefill_seconds", "decode_seconds",
                          "queue_seconds", "cached_tokens"}) {
    EXPECT_TRUE(whole["mach"][key].is_number()) << key;
  }
  EXPECT_FALSE(Call("POST", kChat, ChatBody("hi")).json()["usage"].contains("mach"));

  // A stream that asks for a receipt gets its usage chunk, whether it asked for that or not.
  const auto events = Stream(kChat, ChatBody("hi", R"({"receipt":true,"stream":true})"));
  ASSERT_GE(events.size(), 2U);
  const Json last = Json::parse(events[events.size() - 2]);
  EXPECT_TRUE(last["choices"].empty());
  EXPECT_EQ(last["usage"]["mach"]["expert_misses"], 10);

  // Two prompts of one request are one answer and one receipt.
  const Json two =
      Call("POST", "/v1/completions", R"({"prompt":["a","b"],"receipt":true})").json()["usage"];
  EXPECT_EQ(two["mach"]["expert_misses"], 20);

  EXPECT_EQ(Call("POST", kChat, ChatBody("hi", R"({"receipt":"yes"})")).json()["error"]["param"],
            "receipt");
}

TEST_F(ServerAppTest, AnUnreadableRecordFailsItsRequestAlone) {
  Start();
  const Reply reply = Call("POST", kChat, ChatBody("[[disk]]"));
  EXPECT_EQ(reply.status, 500);
  EXPECT_EQ(reply.json()["error"]["code"], "internal_error");
  EXPECT_EQ(reply.body.find("layer_0001.bin"), std::string::npos) << "no business of clients";
  EXPECT_EQ(Call("POST", kChat, ChatBody("hi")).status, 200);
}

// Clients send what got a 503 again, for ever: that is for a full queue alone.
TEST_F(ServerAppTest, WhatDoesNotFitIsNotToBeTriedAgain) {
  Start();
  const Reply whole = Call("POST", kChat, ChatBody("[[memory]]"));
  EXPECT_EQ(whole.status, 400);
  EXPECT_EQ(whole.head.find("Retry-After"), std::string::npos);
  const Json error = whole.json()["error"];
  EXPECT_EQ(error["type"], "invalid_request_error");
  // Not context_length_exceeded, on which agents throw their history away.
  EXPECT_EQ(error["code"], "out_of_memory");
  EXPECT_EQ(error["message"], "there is memory for 64 tokens (raise the server's --memory-gb)");
  const auto events = Stream(kChat, ChatBody("[[memory]]", R"({"stream":true})"));
  EXPECT_EQ(Json::parse(events.at(events.size() - 2))["error"], error);

  Reply reply = Call("POST", kChat, ChatBody("[[giveup]]"));
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.json()["error"]["type"], "invalid_request_error");
  EXPECT_TRUE(reply.json()["error"]["code"].is_null());
  EXPECT_EQ(reply.json()["error"]["param"], "messages");
  reply = Call("POST", "/v1/completions", R"({"prompt":["a","[[giveup]]"]})");
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.json()["error"]["param"], "prompt[1]");
}

TEST_F(ServerAppTest, TokensWithoutAnEmbeddingAreRefusedInPromptsAlone) {
  Start();
  const Reply reply = Call("POST", kChat, ChatBody("[[foreign]]"));
  EXPECT_EQ(reply.status, 400);
  const Json error = reply.json()["error"];
  EXPECT_EQ(error["type"], "invalid_request_error");
  EXPECT_EQ(error["param"], "messages");
  EXPECT_NE(error["message"].get<std::string>().find("no embedding"), std::string::npos);
  EXPECT_EQ(Call("POST", kChat, ChatBody("hello")).status, 200);
}

TEST(Startup, LinesHaveTheirKeysInOrder) {
  const auto model = mach::testing::MakeFakeModel({});
  const auto lines = StartupLines(model->info);
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_EQ(lines[0],
            "startup mode profile=openai production_streaming_mode=off transient_prefill=0 "
            "expert_residency=none arch=llama layers=2 experts=0 expert_cache_bytes=0 "
            "backend=openai prefill_chunk=0");
  EXPECT_EQ(lines[1].find("production optimizations direct_pread=0 "), 0U);
  EXPECT_EQ(lines[2],
            "startup direct-pread expected=0 sidecar_present=0 sidecar_valid=0 "
            "native_extension=unused io=none fallback_policy=fail-fast");
  EXPECT_EQ(lines[3].find("startup decode_path=target-only "), 0U);

  const auto streamed = mach::testing::MakeFakeModel({.streaming = true});
  EXPECT_EQ(StartupLines(streamed->info),
            (std::vector<std::string>{
                "startup mode profile=production production_streaming_mode=streaming "
                "transient_prefill=1 expert_residency=streaming arch=llama layers=2 experts=4 "
                "expert_cache_bytes=131072 backend=production prefill_chunk=0",
                "production optimizations direct_pread=1 native_prefill_fused=1 async_prefetch=1 "
                "resident_metal=0 threads=1 isa=scalar",
                "startup direct-pread expected=1 sidecar_present=1 sidecar_valid=1 "
                "native_extension=ready io=pread fallback_policy=fail-fast",
                "startup decode_path=target-only effective_decode_path=target_only "
                "adaptive_block_policy=none prefix_cache=off"}));
  const auto buffered = mach::testing::MakeFakeModel({.streaming = true, .buffered = true});
  EXPECT_EQ(StartupLines(buffered->info).at(2),
            "startup direct-pread expected=0 sidecar_present=1 sidecar_valid=1 "
            "native_extension=missing io=pread fallback_policy=diagnostic");
  EXPECT_EQ(ServingLine("::1", 80), "serving on http://[::1]:80/v1");
}

}  // namespace
}  // namespace mach::server
