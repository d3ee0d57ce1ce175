#include "server/generate.h"

#include <atomic>
#include <utility>
#include <vector>

#include "api/json_text.h"
#include "base/clock.h"
#include "base/log.h"
#include "http/request_reader.h"
#include "server/answer.h"

namespace mach::server {
namespace {

constexpr char kSmallerBody[] = "Send a shorter request";

}  // namespace

struct Generate::Job {
  ExchangePtr exchange;
  Work work;
  double arrived_s;
  std::string body;
  RequestMemory::Hold hold;
};

void Generate::Handle(const ExchangePtr& exchange, const Protocol& protocol) {
  Queue(exchange, [this, &protocol](Job& job) {
    StartAnswer(job, protocol, protocol.prepare(std::move(job.body), limits_, host_));
  });
}

void Generate::Handle(const ExchangePtr& exchange, const TokenQuery& query) {
  Queue(exchange, [this, &query](Job& job) {
    Reply(job, query.answer(std::move(job.body), limits_, host_));
  });
}

void Generate::Queue(const ExchangePtr& exchange, Work work) {
  const auto job = std::make_shared<Job>(Job{.exchange = exchange,
                                             .work = std::move(work),
                                             .arrived_s = NowSeconds(),
                                             .body = exchange->TakeBody(),
                                             .hold = RequestMemory::Hold(host_.request_memory())});
  try {
    Hold(*job, job->body.size(), "its body", kSmallerBody);
  } catch (const api::RequestError& e) {
    replies_.SendError(*exchange, e.info());
    return;
  }
  // Known to the worker without asking the exchange, which belongs to this thread.
  const auto gone = std::make_shared<std::atomic<bool>>(false);
  exchange->OnClose([gone] { gone->store(true, std::memory_order_relaxed); });
  const bool queued = workers_.Submit([this, job, gone] {
    if (!gone->load(std::memory_order_relaxed)) {
      Run(*job);
    }
  });
  if (!queued) {
    replies_.SendError(*exchange, api::ServerBusy("Too many requests are waiting."));
  }
}

void Generate::Run(Job& job) {
  const std::string& reference = job.exchange->request().id;
  try {
    Hold(job, api::ParsedBytes(job.body), "its body", kSmallerBody);
    job.work(job);
  } catch (const api::RequestError& e) {
    Refuse(job.exchange, e.info());
  } catch (const Error& e) {
    Refuse(job.exchange, api::FromFailure(e, reference));
  } catch (const std::exception& e) {
    Refuse(job.exchange, api::Internal(reference, e.what()));
  }
}

void Generate::Hold(Job& job, uint64_t bytes, const char* what, const char* cure) const {
  if (!job.hold.Resize(bytes)) {
    throw api::RequestError(host_.request_memory().Refusal(bytes, what, cure));
  }
}

void Generate::Reply(Job& job, std::string body) {
  Hold(job, body.size(), "its answer", kSmallerBody);
  http::Response response;
  response.body = Pieces(std::move(body));
  response.holds = std::make_shared<RequestMemory::Hold>(std::move(job.hold));
  const auto reply = std::make_shared<http::Response>(std::move(response));
  job.exchange->Post([this, exchange = job.exchange, reply] {
    if (!exchange->closed()) {
      replies_.Send(*exchange, std::move(*reply));
    }
  });
}

void Generate::StartAnswer(Job& job, const Protocol& protocol, PreparedRequest prepared) {
  const ExchangePtr& exchange = job.exchange;
  const loading::ServedModel& model = *host_.ready();
  const api::CommonFields& common = prepared.common;
  uint64_t bytes = 0;
  for (const engine::GenerationRequest& request : prepared.requests) {
    bytes += ExpectedAnswerBytes(request, common.stream);
  }
  Hold(job, bytes, "its answer", kSmallerAnswer);

  // Tokens that the client is not to see have no logprobs, and there is no telling them apart.
  const bool shows_reasoning = !prepared.reading || prepared.reading->show_reasoning;
  const http::Request& asked = exchange->request();
  AnswerOptions options;
  // The server's own request id where there is one; a client's may repeat.
  options.id =
      protocol.id_prefix + (asked.Header("x-request-id").empty() ? asked.id : http::NewRequestId());
  options.encoder =
      protocol.make_encoder({.id = options.id,
                             .created_unix_s = UnixSeconds(),
                             .model = model.info.id,
                             .choices = common.n * static_cast<int32_t>(prepared.requests.size()),
                             .stream = common.stream,
                             .logprobs = common.logprobs && shows_reasoning,
                             // A receipt is in the usage, so there is one, asked for or not.
                             .usage_at_end = common.include_usage || common.receipt,
                             .running_usage = common.continuous_usage,
                             .reasoning_content = reasoning_.reasoning_content,
                             .reasoning = reasoning_.reasoning,
                             .request_id = asked.id,
                             .repeated = std::move(prepared.repeated)});
  options.stream = common.stream;
  options.logprobs = common.logprobs && shows_reasoning;
  options.receipt = common.receipt;
  options.choices_per_prompt = common.n;
  options.reading = prepared.reading;
  options.hides_special = common.skip_special_tokens ? model.tokenizer.get() : nullptr;
  options.arrived_s = job.arrived_s;
  options.memory = &host_.request_memory();

  Answer::Hooks hooks;
  hooks.respond = [this](http::Exchange& target, http::Response response) {
    replies_.Send(target, std::move(response));
  };
  hooks.fail = [exchange](const api::ErrorInfo& info) {
    return ErrorResponse(exchange->request(), info);
  };
  hooks.stream_head = [this, exchange] {
    http::Response head;
    head.content_type = "text/event-stream; charset=utf-8";
    head.headers.emplace_back("Cache-Control", "no-cache");
    // Proxies of the nginx kind would hold events back otherwise.
    head.headers.emplace_back("X-Accel-Buffering", "no");
    return replies_.Account(exchange->request(), std::move(head));
  };
  hooks.on_end = [this](const http::Request& request, const AnswerRecord& record, int status) {
    LogEnd(request, record, status);
    metrics_.CountAnswer(record);
  };
  std::make_shared<Answer>(exchange, std::move(options), std::move(job.hold), std::move(hooks))
      ->Submit(*model.engine, std::move(prepared.requests));
}

void Generate::Refuse(const ExchangePtr& exchange, const api::ErrorInfo& info) {
  exchange->Post([this, exchange, info] {
    if (!exchange->closed()) {
      replies_.SendError(*exchange, info);
    }
  });
}

void Generate::LogEnd(const http::Request& request, const AnswerRecord& record, int status) const {
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
    const engine::ExpertCost& prefill = record.prefill_experts;
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
    fields.emplace_back("error", record.error->reason());
  }
  const bool ours = record.failed() && record.error->status == 500;
  Log(ours ? LogLevel::kError : LogLevel::kInfo, "request", fields);
}

}  // namespace mach::server
