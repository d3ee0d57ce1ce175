#include "server/app.h"

#include <algorithm>
#include <atomic>

#include "base/clock.h"
#include "base/log.h"
#include "http/request_reader.h"
#include "server/prepare.h"

namespace mach::server {
namespace {

bool IsV1(std::string_view path) {
  return path.substr(0, 4) == "/v1/";
}

// Takes the same time wherever the first difference is.
bool EqualsConstantTime(std::string_view a, std::string_view b) {
  size_t difference = a.size() ^ b.size();
  for (size_t i = 0; i < a.size(); ++i) {
    difference |=
        static_cast<uint8_t>(a[i]) ^ static_cast<uint8_t>(b[i % std::max<size_t>(b.size(), 1)]);
  }
  return difference == 0;
}

// `detail=1` among the parameters of a query.
bool AsksForDetail(std::string_view query) {
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    if (query.substr(0, end) == "detail=1") {
      return true;
    }
    query.remove_prefix(std::min(end + 1, query.size()));
  }
  return false;
}

// HOST of HOST, HOST:PORT and [HOST]:PORT, the last with its brackets.
std::string_view WithoutPort(std::string_view authority) {
  const size_t colon = authority.rfind(':');
  const bool port =
      colon != std::string_view::npos && authority.find(']', colon) == std::string_view::npos;
  return port ? authority.substr(0, colon) : authority;
}

// Empty if it has none, as "null" has.
std::string_view HostOfOrigin(std::string_view origin) {
  const size_t scheme = origin.find("://");
  return scheme == std::string_view::npos ? "" : WithoutPort(origin.substr(scheme + 3));
}

bool IsLoopbackV4(std::string_view host) {
  return host.substr(0, 4) == "127." &&
         host.find_first_not_of("0123456789.") == std::string_view::npos;
}

// Names that no other machine can have.
bool IsThisMachine(std::string_view host) {
  return http::EqualsIgnoreCase(host, "localhost") || IsLoopbackV4(host) || host == "[::1]" ||
         host == "::1";
}

// Pages of an application or browser extension that is installed here ("app://", "tauri://",
// "vscode-webview://"): no web site has such an origin. "null" may be anyone's.
bool IsLocalApp(std::string_view origin) {
  const size_t scheme = origin.find("://");
  return scheme != std::string_view::npos && scheme > 0 &&
         !http::EqualsIgnoreCase(origin.substr(0, scheme), "http") &&
         !http::EqualsIgnoreCase(origin.substr(0, scheme), "https");
}

}  // namespace

App::App(AppOptions options, ModelHost& host)
    : options_(std::move(options)),
      host_(host),
      router_(MakeRoutes()),
      workers_(options_.workers, options_.max_queued_jobs) {}

App::~App() {
  Stop();
}

std::vector<http::Route> App::MakeRoutes() {
  // A handler of /v1/* runs only once the model is ready.
  const auto model_report = [this](auto report) {
    return [this, report](const ExchangePtr& exchange, const std::string&) {
      ReplyJson(*exchange, report(*host_.ready()));
    };
  };
  using loading::ServedModel;
  return {
      {"GET", "/v1/models",
       model_report([](const ServedModel& model) { return ModelListJson(model.info); })},
      {"GET", "/v1/models/{id}",
       [this](const ExchangePtr& exchange, const std::string& id) {
         if (id.empty() || !host_.Answers(id)) {
           Reply(*exchange, ErrorResponse(api::ModelNotFound(id.substr(0, 200))));
           return;
         }
         ReplyJson(*exchange, ModelJson(host_.ready()->info));
       }},
      {"GET", "/v1/capabilities",
       model_report([this](const ServedModel& model) { return CapabilitiesJson(model.info); })},
      {"GET", "/v1/stats", model_report([this](const ServedModel& model) {
         return StatsJson(model.engine->Snapshot(), model.info);
       })},
      {"GET", "/v1/cache/stats",
       [this](const ExchangePtr& exchange, const std::string&) {
         ReplyJson(*exchange, CacheStatsJson(host_.ready()->engine->Snapshot(),
                                             AsksForDetail(exchange->request().query)));
       }},
      {"GET", "/v1/cache/warm_prefix",
       model_report([](const ServedModel&) { return WarmPrefixStatusJson(); })},
      {"POST", "/v1/cache/warm_prefix",
       [this](const ExchangePtr& exchange, const std::string&) {
         Reply(*exchange, ErrorResponse(api::InvalidRequest(
                              "This server has no prefix cache yet: nothing can be warmed.")));
       }},
      {"POST", "/v1/chat/completions",
       [this](const ExchangePtr& exchange, const std::string&) {
         Generate(exchange, api::ResponseKind::kChat);
       }},
      {"POST", "/v1/completions",
       [this](const ExchangePtr& exchange, const std::string&) {
         Generate(exchange, api::ResponseKind::kText);
       }},
      {"GET", "/health",
       [this](const ExchangePtr& exchange, const std::string&) {
         ReplyJson(*exchange, HealthJson(host_.ready() != nullptr, host_.progress()));
       }},
      {"GET", "/metrics",
       [this](const ExchangePtr& exchange, const std::string&) {
         const auto* model = host_.ready();
         std::optional<engine::EngineStats> stats;
         if (model != nullptr) {
           stats = model->engine->Snapshot();
         }
         http::Response response;
         response.content_type = "text/plain; version=0.0.4; charset=utf-8";
         response.body =
             metrics_.PrometheusText(stats ? &*stats : nullptr, connections_ ? connections_() : 0);
         Reply(*exchange, std::move(response));
       }},
  };
}

// --- what every request passes -----------------------------------------------------------------

bool App::KeyMatches(const http::Request& request) const {
  if (options_.api_key.empty()) {
    return true;
  }
  constexpr std::string_view kBearer = "Bearer ";
  const std::string_view authorization = request.Header("authorization");
  if (authorization.size() > kBearer.size() &&
      http::EqualsIgnoreCase(authorization.substr(0, kBearer.size()), kBearer)) {
    return EqualsConstantTime(authorization.substr(kBearer.size()), options_.api_key);
  }
  return EqualsConstantTime(request.Header("x-api-key"), options_.api_key);
}

std::optional<api::ErrorInfo> App::CheckSender(const http::Request& head) const {
  const std::string_view host = WithoutPort(head.Header("host"));
  // HTTP/1.0 may have none; no browser speaks it.
  if (IsThisMachine(options_.host) && !host.empty() && !IsThisMachine(host) && !OriginNames(host)) {
    return api::Forbidden("This server is for this machine only, and the request is for '" +
                          std::string(host.substr(0, 200)) +
                          "'. Start it with another --host, or, behind a proxy of that name, with "
                          "--cors-origin http://NAME.");
  }
  if (IsV1(head.path) && head.method != "OPTIONS" && !head.Header("origin").empty() &&
      AllowedOrigin(head).empty()) {
    return api::Forbidden("Pages of '" + std::string(head.Header("origin").substr(0, 200)) +
                          "' may not call this server. Start it with --cors-origin to let them.");
  }
  return std::nullopt;
}

std::optional<http::Response> App::CheckHead(const http::Request& head) const {
  if (const auto refusal = CheckSender(head)) {
    return ErrorResponse(*refusal);
  }
  const http::Router::Match match = router_.Find(head.method, head.path);
  if (head.method == "OPTIONS" && !match.label.empty()) {
    return std::nullopt;
  }
  if (IsV1(head.path) && !KeyMatches(head)) {
    http::Response response = ErrorResponse(api::InvalidApiKey());
    response.headers.emplace_back("WWW-Authenticate", "Bearer");
    return response;
  }
  if (match.label.empty()) {
    return ErrorResponse(api::UnknownRoute(head.method.substr(0, 32), head.path.substr(0, 200)));
  }
  if (match.route == nullptr) {
    http::Response response =
        ErrorResponse(api::MethodNotAllowed(head.method.substr(0, 32), head.path.substr(0, 200)));
    response.headers.emplace_back("Allow", match.allowed);
    return response;
  }
  const std::string_view encoding = head.Header("content-encoding");
  if (!encoding.empty() && !http::EqualsIgnoreCase(encoding, "identity")) {
    return ErrorResponse(api::UnsupportedEncoding());
  }
  if (IsV1(head.path) && host_.ready() == nullptr) {
    http::Response response = ErrorResponse(api::ModelLoading(""));
    response.body = LoadingErrorJson(host_.progress());
    return response;
  }
  return std::nullopt;
}

void App::Handle(const ExchangePtr& exchange) {
  const http::Request& request = exchange->request();
  if (auto refusal = CheckHead(request)) {
    Reply(*exchange, std::move(*refusal));
    return;
  }
  const http::Router::Match match = router_.Find(request.method, request.path);
  if (request.method == "OPTIONS") {
    Options(exchange, match);
    return;
  }
  try {
    match.route->handler(exchange, match.argument);
  } catch (const std::exception& e) {
    Reply(*exchange, ErrorResponse(api::Internal("Internal error.")), e.what());
  }
}

std::string App::AllowedOrigin(const http::Request& request) const {
  const std::string_view origin = request.Header("origin");
  if (origin.empty()) {
    return "";
  }
  const auto& named = options_.cors_origins;
  const bool allowed = IsThisMachine(HostOfOrigin(origin)) || IsLocalApp(origin) ||
                       std::find(named.begin(), named.end(), "*") != named.end() ||
                       std::find(named.begin(), named.end(), origin) != named.end();
  return allowed ? std::string(origin) : "";
}

bool App::OriginNames(std::string_view host) const {
  const auto& named = options_.cors_origins;
  return std::any_of(named.begin(), named.end(), [host](std::string_view origin) {
    return origin == "*" || http::EqualsIgnoreCase(HostOfOrigin(origin), host);
  });
}

void App::AddCors(const http::Request& request, http::Response& response) const {
  std::string origin = AllowedOrigin(request);
  if (origin.empty()) {
    return;
  }
  response.headers.emplace_back("Access-Control-Allow-Origin", std::move(origin));
  response.headers.emplace_back("Access-Control-Expose-Headers", "x-request-id, Retry-After");
  response.headers.emplace_back("Vary", "Origin");
}

void App::Options(const ExchangePtr& exchange, const http::Router::Match& match) {
  http::Response response;
  response.status = 204;
  response.content_type.clear();
  response.headers.emplace_back("Allow", match.allowed + ", OPTIONS");
  if (!AllowedOrigin(exchange->request()).empty()) {
    response.headers.emplace_back("Access-Control-Allow-Methods", match.allowed);
    response.headers.emplace_back("Access-Control-Allow-Headers", "*, Authorization");
    response.headers.emplace_back("Access-Control-Max-Age", "600");
  }
  Reply(*exchange, std::move(response));
}

void App::LogRefusal(const http::Request& request, int status, std::string_view cause) {
  std::vector<LogField> fields = {{"id", request.id},
                                  {"method", request.method.substr(0, 32)},
                                  {"path", request.path.substr(0, 200)},
                                  {"status", status}};
  if (!cause.empty()) {
    fields.emplace_back("error", cause);
  }
  Log(status == 500 ? LogLevel::kError : LogLevel::kInfo,
      status == 500 ? "request failed" : "request refused", fields);
}

http::Response App::Account(const http::Request& request, http::Response response) {
  AddCors(request, response);
  const auto label = router_.Find(request.method, request.path).label;
  metrics_.CountResponse(label.empty() ? "other" : label, response.status);
  return response;
}

void App::Reply(http::Exchange& exchange, http::Response response, std::string_view cause) {
  if (response.status >= 400) {
    LogRefusal(exchange.request(), response.status, cause);
  }
  exchange.Respond(Account(exchange.request(), std::move(response)));
}

void App::ReplyJson(http::Exchange& exchange, std::string body) {
  http::Response response;
  response.body = std::move(body);
  Reply(exchange, std::move(response));
}

http::Response App::ErrorResponse(const api::ErrorInfo& info) {
  http::Response response;
  response.status = info.status;
  response.body = api::ErrorBody(info);
  if (info.retry_after_s > 0) {
    response.headers.emplace_back("Retry-After", std::to_string(info.retry_after_s));
  }
  return response;
}

http::Response App::HttpError(const http::Request& head, int status, std::string_view message) {
  api::ErrorInfo info = status >= 500 ? api::ServerBusy(std::string(message))
                                      : api::InvalidRequest(std::string(message));
  info.status = status;
  LogRefusal(head, status, "");
  return Account(head, ErrorResponse(info));
}

std::optional<http::Response> App::RefuseHead(const http::Request& head) {
  auto refusal = CheckHead(head);
  if (!refusal) {
    return std::nullopt;
  }
  LogRefusal(head, refusal->status, "");
  return Account(head, std::move(*refusal));
}

// --- generation --------------------------------------------------------------------------------

void App::Generate(const ExchangePtr& exchange, api::ResponseKind kind) {
  // Known to the worker without asking the exchange, which belongs to this thread.
  const auto gone = std::make_shared<std::atomic<bool>>(false);
  exchange->OnClose([gone] { gone->store(true, std::memory_order_relaxed); });
  const double arrived_s = NowSeconds();
  const bool queued = workers_.Submit([this, exchange, kind, gone, arrived_s] {
    if (!gone->load(std::memory_order_relaxed)) {
      RunGeneration(exchange, kind, arrived_s);
    }
  });
  if (!queued) {
    Reply(*exchange, ErrorResponse(api::ServerBusy("Too many requests are waiting.")));
  }
}

void App::RunGeneration(const ExchangePtr& exchange, api::ResponseKind kind, double arrived_s) {
  const auto refuse = [this, exchange](const api::ErrorInfo& info, const std::string& cause) {
    exchange->Post([this, exchange, info, cause] {
      if (!exchange->closed()) {
        Reply(*exchange, ErrorResponse(info), cause);
      }
    });
  };
  try {
    // The body is the worker's from here on: nobody else looks at it, and it may be large.
    const std::string body = std::move(exchange->request().body);
    GenerationOptions options;
    options.arrived_s = arrived_s;
    std::vector<engine::GenerationRequest> requests;
    const loading::ServedModel& model = *host_.ready();
    const auto take = [&options, &model](const api::CommonFields& common) {
      options.hides_special = common.skip_special_tokens ? model.tokenizer.get() : nullptr;
      options.stream = common.stream;
      options.include_usage = common.include_usage;
      options.continuous_usage = common.continuous_usage;
      options.receipt = common.receipt;
      options.logprobs = common.logprobs;
      options.choices_per_prompt = common.n;
    };
    if (kind == api::ResponseKind::kChat) {
      const api::ChatRequest request = api::ParseChatRequest(body, options_.limits);
      take(request.common);
      requests.push_back(PrepareChat(request, host_));
    } else {
      const api::CompletionRequest request = api::ParseCompletionRequest(body, options_.limits);
      take(request.common);
      requests = PrepareCompletion(request, host_);
    }
    options.meta.kind = kind;
    // The server's own request id where there is one; a client's may repeat.
    const http::Request& asked = exchange->request();
    options.meta.id = (kind == api::ResponseKind::kChat ? "chatcmpl-" : "cmpl-") +
                      (asked.Header("x-request-id").empty() ? asked.id : http::NewRequestId());
    options.meta.created_unix_s = UnixSeconds();
    options.meta.model = model.info.id;
    Generation::Hooks hooks;
    hooks.respond = [this](http::Exchange& target, http::Response response) {
      target.Respond(Account(target.request(), std::move(response)));
    };
    hooks.stream_head = [this, exchange] {
      http::Response head;
      head.content_type = "text/event-stream; charset=utf-8";
      head.headers.emplace_back("Cache-Control", "no-cache");
      // Proxies of the nginx kind would hold events back otherwise.
      head.headers.emplace_back("X-Accel-Buffering", "no");
      AddCors(exchange->request(), head);
      metrics_.CountResponse(exchange->request().path, head.status);
      return head;
    };
    hooks.on_end = [this](const http::Request& request, const GenerationRecord& record,
                          int status) {
      LogEnd(request, record, status);
      metrics_.CountGeneration(record);
    };
    std::make_shared<Generation>(exchange, std::move(options), std::move(hooks))
        ->Submit(*model.engine, std::move(requests));
  } catch (const api::RequestError& e) {
    refuse(e.info(), e.info().cause);
  } catch (const Error& e) {
    const api::ErrorInfo info = api::FromError(e);
    refuse(info, info.status == 500 ? e.Describe() : "");
  } catch (const std::bad_alloc& e) {
    refuse(api::Internal("Not enough memory for this request."), e.what());
  } catch (const std::exception& e) {
    refuse(api::Internal("Internal error."), e.what());
  }
}

void App::LogEnd(const http::Request& request, const GenerationRecord& record, int status) const {
  std::vector<LogField> fields = {{"id", request.id},
                                  {"path", request.path},
                                  {"status", status},
                                  {"prompt_tokens", record.prompt_tokens},
                                  {"completion_tokens", record.completion_tokens},
                                  {"cached_tokens", record.cached_tokens}};
  // What it did not come to has no time.
  const auto seconds = [&fields](const char* key, double value) {
    if (value > 0) {
      fields.emplace_back(key, value);
    }
  };
  seconds("queue_s", record.queue_s);
  seconds("prefill_s", record.prefill_s);
  seconds("decode_s", record.decode_s);
  seconds("first_token_s", record.first_token_s.value_or(0));
  if (host_.ready()->info.experts > 0 && record.prefill_s > 0) {
    const engine::ExpertUsage& prefill = record.prefill_experts;
    if (record.decode_s > 0) {
      fields.emplace_back("expert_misses", record.experts.misses);
    }
    fields.emplace_back("expert_prefill_misses", prefill.misses);
    fields.emplace_back("expert_bytes_read", record.experts.bytes_read + prefill.bytes_read);
    fields.emplace_back("expert_stall_s", record.experts.stall_s + prefill.stall_s);
  }
  fields.emplace_back("total_s", record.total_s);
  fields.emplace_back("cancelled", record.cancelled);
  fields.emplace_back("failed", record.failed());
  if (record.error) {
    fields.emplace_back("error", record.error->message);
  }
  const bool ours = record.failed() && record.error->status == 500;
  Log(ours ? LogLevel::kError : LogLevel::kInfo, "request", fields);
}

}  // namespace mach::server
