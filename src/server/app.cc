#include "server/app.h"

#include <algorithm>
#include <utility>

#include "server/page.h"

namespace mach::server {
namespace {

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

}  // namespace

App::App(AppOptions options, ModelHost& host)
    : options_(std::move(options)),
      host_(host),
      gate_(options_.gate),
      router_(MakeRoutes()),
      replies_(gate_, router_, metrics_),
      generate_(options_.limits, options_.reasoning, options_.workers, options_.max_queued_jobs,
                host_, replies_, metrics_) {}

App::~App() {
  Stop();
}

std::vector<http::Route> App::MakeRoutes() {
  // A handler of /v1/* runs only once the model is ready.
  const auto model_report = [this](auto report) {
    return [this, report](const ExchangePtr& exchange, const std::string&) {
      replies_.SendJson(*exchange, report(*host_.ready()));
    };
  };
  using loading::ServedModel;
  std::vector<http::Route> routes = {
      {"GET", "/v1/models",
       model_report([](const ServedModel& model) { return ModelListJson(model.info); })},
      {"GET", "/v1/models/{id}",
       [this](const ExchangePtr& exchange, const std::string& id) { ReplyModel(*exchange, id); }},
      {"GET", "/v1/capabilities",
       model_report([](const ServedModel& model) { return CapabilitiesJson(model.info); })},
      {"GET", "/v1/stats", model_report([](const ServedModel& model) {
         return StatsJson(model.engine->Snapshot(), model.info);
       })},
      {"GET", "/v1/cache/stats",
       [this](const ExchangePtr& exchange, const std::string&) {
         const engine::Engine& engine = *host_.ready()->engine;
         std::optional<std::vector<std::string>> map;
         if (AsksForDetail(exchange->request().query)) {
           map = engine.ExpertMap();
         }
         replies_.SendJson(*exchange, CacheStatsJson(engine.Snapshot(), map));
       }},
      {"GET", "/v1/cache/warm_prefix",
       model_report([](const ServedModel&) { return WarmPrefixStatusJson(); })},
      {"POST", "/v1/cache/warm_prefix",
       [this](const ExchangePtr& exchange, const std::string&) {
         replies_.SendError(
             *exchange,
             api::InvalidRequest("This server has no prefix cache yet: nothing can be warmed."));
       }},
      {"GET", "/health",
       [this](const ExchangePtr& exchange, const std::string&) {
         replies_.SendJson(*exchange, HealthJson(host_.ready() != nullptr, host_.progress()));
       }},
      {"GET", "/metrics",
       [this](const ExchangePtr& exchange, const std::string&) { ReplyMetrics(*exchange); }},
  };
  if (options_.page) {
    routes.push_back({"GET", "/", [this](const ExchangePtr& exchange, const std::string&) {
                        ReplyPage(*exchange, kPageIndex);
                      }});
    routes.push_back(
        {"GET", "/page/{file}", [this](const ExchangePtr& exchange, const std::string& name) {
           // The index's links are those of `/`.
           ReplyPage(*exchange, name == kPageIndex ? "" : name);
         }});
  }
  routes.push_back(
      {"POST", "/v1/embeddings", [this](const ExchangePtr& exchange, const std::string&) {
         replies_.SendError(*exchange, api::NotServed("This server has no embeddings: "
                                                      "its models generate text."));
       }});
  for (const TokenQuery& query : TokenQueries()) {
    routes.push_back(
        {"POST", query.path, [this, &query](const ExchangePtr& exchange, const std::string&) {
           generate_.Handle(exchange, query);
         }});
  }
  for (const Protocol& protocol : Protocols()) {
    routes.push_back(
        {"POST", protocol.path, [this, &protocol](const ExchangePtr& exchange, const std::string&) {
           generate_.Handle(exchange, protocol);
         }});
  }
  return routes;
}

void App::ReplyModel(http::Exchange& exchange, const std::string& id) {
  if (id.empty() || !host_.Answers(id)) {
    replies_.SendError(exchange, api::ModelNotFound(id.substr(0, 200)));
    return;
  }
  replies_.SendJson(exchange, ModelJson(host_.ready()->info));
}

void App::ReplyMetrics(http::Exchange& exchange) {
  const auto* model = host_.ready();
  std::optional<engine::EngineStats> stats;
  if (model != nullptr) {
    stats = model->engine->Snapshot();
  }
  http::Response response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  response.body =
      Pieces(metrics_.PrometheusText(stats ? &*stats : nullptr, connections_ ? connections_() : 0));
  replies_.Send(exchange, std::move(response));
}

void App::ReplyPage(http::Exchange& exchange, std::string_view name) {
  const http::Request& request = exchange.request();
  const PageFile* file = FindPageFile(name);
  if (file == nullptr) {
    replies_.SendError(
        exchange, api::UnknownRoute(request.method.substr(0, 32), request.path.substr(0, 200)));
    return;
  }
  replies_.Send(exchange, PageResponse(*file, request.Header("if-none-match")));
}

std::optional<http::Response> App::CheckHead(const http::Request& head) const {
  if (const auto refusal = gate_.CheckSender(head)) {
    return ErrorResponse(head, *refusal);
  }
  const http::Router::Match match = router_.Find(head.method, head.path);
  if (head.method == "OPTIONS" && !match.label.empty()) {
    return std::nullopt;
  }
  if (Gate::IsApi(head.path) && !gate_.KeyMatches(head)) {
    http::Response response = ErrorResponse(head, api::InvalidApiKey());
    response.headers.emplace_back("WWW-Authenticate", "Bearer");
    return response;
  }
  if (match.label.empty()) {
    return ErrorResponse(head,
                         api::UnknownRoute(head.method.substr(0, 32), head.path.substr(0, 200)));
  }
  if (match.route == nullptr) {
    http::Response response = ErrorResponse(
        head, api::MethodNotAllowed(head.method.substr(0, 32), head.path.substr(0, 200)));
    response.headers.emplace_back("Allow", match.allowed);
    return response;
  }
  const std::string_view encoding = head.Header("content-encoding");
  if (!encoding.empty() && !http::EqualsIgnoreCase(encoding, "identity")) {
    return ErrorResponse(head, api::UnsupportedEncoding());
  }
  if (Gate::IsApi(head.path) && host_.ready() == nullptr) {
    const api::ErrorInfo info = LoadingError(host_.progress());
    http::Response response = ErrorResponse(head, info);
    response.body = Pieces(WithProgress(response.body.Join(), host_.progress()));
    return response;
  }
  return std::nullopt;
}

void App::Handle(const ExchangePtr& exchange) {
  const http::Request& request = exchange->request();
  if (auto refusal = CheckHead(request)) {
    Replies::LogRefusal(request, refusal->status, "");
    replies_.Send(*exchange, std::move(*refusal));
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
    replies_.SendError(*exchange, api::Internal(request.id, e.what()));
  }
}

void App::Options(const ExchangePtr& exchange, const http::Router::Match& match) {
  http::Response response;
  response.status = 204;
  response.content_type.clear();
  response.headers.emplace_back("Allow", match.allowed + ", OPTIONS");
  if (!gate_.AllowedOrigin(exchange->request()).empty()) {
    response.headers.emplace_back("Access-Control-Allow-Methods", match.allowed);
    response.headers.emplace_back("Access-Control-Allow-Headers", "*, Authorization");
    response.headers.emplace_back("Access-Control-Max-Age", "600");
  }
  replies_.Send(*exchange, std::move(response));
}

http::Response App::HttpError(const http::Request& head, int status, std::string_view message) {
  std::string text(message);
  if (status == 413) {
    text += " The server's --max-body-mb and --memory-gb decide how large it may be.";
  }
  api::ErrorInfo info =
      status >= 500 ? api::ServerBusy(std::move(text)) : api::InvalidRequest(std::move(text));
  info.status = status;
  Replies::LogRefusal(head, status, "");
  return replies_.Account(head, ErrorResponse(head, info));
}

std::optional<http::Response> App::RefuseHead(const http::Request& head) {
  auto refusal = CheckHead(head);
  if (!refusal) {
    return std::nullopt;
  }
  Replies::LogRefusal(head, refusal->status, "");
  return replies_.Account(head, std::move(*refusal));
}

bool App::BookBodies(uint64_t bytes) {
  if (host_.ready() == nullptr) {
    return true;
  }
  if (!bodies_) {
    bodies_ = RequestMemory::Hold(host_.request_memory());
  }
  return bodies_->Resize(bytes);
}

}  // namespace mach::server
