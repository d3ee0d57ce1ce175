// Beast 1.81 asserts at least five bytes where a last chunk "0\r\n" and one byte more are three or
// four; the code behind the assertion handles them, and a client may well send single bytes.
#define BOOST_DISABLE_ASSERTS

#include "http/request_reader.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <random>

#include <boost/beast/core/string.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

namespace mach::http {
namespace {

namespace beast = boost::beast;

constexpr size_t kMaxRequestIdBytes = 128;

// Only what is safe to repeat in a header and a log line.
bool IsPlainToken(std::string_view text) {
  return !text.empty() && text.size() <= kMaxRequestIdBytes &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                  c == '-' || c == '_' || c == '.';
         });
}

std::string_view View(boost::beast::string_view text) {
  return {text.data(), text.size()};
}

// What the parser lets pass and a server must not (RFC 9112, 3.2 and 6.3); empty if nothing is
// wrong. A body whose end the two sides see in different places would be run as requests.
template <typename Head>
std::string FindFault(const Head& head) {
  const bool http10 = head.version() < 11;
  const auto codings = head.count(beast::http::field::transfer_encoding);
  if (codings > 0 && http10) {
    return "HTTP/1.0 has no Transfer-Encoding.";
  }
  if (codings > 1 ||
      (codings == 1 &&
       !EqualsIgnoreCase(View(head[beast::http::field::transfer_encoding]), "chunked"))) {
    return "Transfer-Encoding must be 'chunked' alone.";
  }
  const auto hosts = head.count(beast::http::field::host);
  if (hosts > 1) {
    return "It has more than one Host.";
  }
  return hosts == 0 && !http10 ? "It has no Host." : "";
}

}  // namespace

struct RequestReader::State {
  beast::http::request_parser<beast::http::string_body> parser;
  bool head_checked = false;
  bool head_reported = false;
  std::string fault;
};

RequestReader::RequestReader(size_t max_head_bytes, uint64_t max_body_bytes)
    : state_(std::make_unique<State>()) {
  state_->parser.header_limit(static_cast<uint32_t>(max_head_bytes));
  state_->parser.body_limit(max_body_bytes);
  state_->parser.eager(false);
}

RequestReader::~RequestReader() = default;

size_t RequestReader::Feed(std::string_view data, Status* status) {
  auto& parser = state_->parser;
  size_t consumed = 0;
  *status = Status::kNeedMore;
  while (consumed < data.size()) {
    boost::system::error_code ec;
    const size_t used =
        parser.put(boost::asio::const_buffer(data.data() + consumed, data.size() - consumed), ec);
    consumed += used;
    if (ec == beast::http::error::need_more) {
      return consumed;
    }
    if (ec) {
      *status = ec == beast::http::error::header_limit ? Status::kHeadTooLarge
                : ec == beast::http::error::body_limit ? Status::kBodyTooLarge
                                                       : Status::kBad;
      return consumed;
    }
    if (parser.is_header_done() && !state_->head_checked) {
      state_->head_checked = true;
      state_->fault = FindFault(parser.get());
      if (!state_->fault.empty()) {
        *status = Status::kBad;
        return consumed;
      }
    }
    if (parser.is_done()) {
      *status = Status::kDone;
      return consumed;
    }
    if (parser.is_header_done() && !state_->head_reported) {
      state_->head_reported = true;
      parser.eager(true);
      *status = Status::kHeadDone;
      return consumed;
    }
    if (used == 0) {
      return consumed;
    }
  }
  return consumed;
}

bool RequestReader::head_done() const {
  return state_->parser.is_header_done();
}

bool RequestReader::expects_continue() const {
  const auto& head = state_->parser.get();
  return head.version() >= 11 &&
         EqualsIgnoreCase(View(head[beast::http::field::expect]), "100-continue");
}

std::string RequestReader::fault() const {
  return "The request is not valid HTTP/1.1." + (state_->fault.empty() ? "" : " " + state_->fault);
}

std::optional<uint64_t> RequestReader::content_length() const {
  const auto length = state_->parser.content_length();
  return length ? std::optional<uint64_t>(*length) : std::nullopt;
}

size_t RequestReader::body_bytes_read() const {
  return state_->parser.get().body().size();
}

Request RequestReader::Head() const {
  const auto& message = state_->parser.get();
  Request request;
  request.method = std::string(View(message.method_string()));
  std::string_view target = View(message.target());
  // Proxies may send the absolute form.
  const size_t scheme = target.find("://");
  if (scheme != std::string_view::npos && !target.empty() && target[0] != '/') {
    const size_t slash = target.find('/', scheme + 3);
    target = slash == std::string_view::npos ? std::string_view("/") : target.substr(slash);
  }
  const size_t question = target.find('?');
  request.path = std::string(target.substr(0, question));
  if (question != std::string_view::npos) {
    request.query = std::string(target.substr(question + 1));
  }
  for (const auto& field : message) {
    request.headers.emplace_back(View(field.name_string()), View(field.value()));
  }
  request.http10 = message.version() < 11;
  request.keep_alive = state_->parser.keep_alive();
  const std::string_view id = request.Header("x-request-id");
  request.id = IsPlainToken(id) ? std::string(id) : NewRequestId();
  return request;
}

Request RequestReader::TakeRequest() {
  Request request = Head();
  request.body = std::move(state_->parser.get().body());
  return request;
}

std::string NewRequestId() {
  static const uint64_t kProcessPart =
      (static_cast<uint64_t>(std::random_device{}()) << 32) | std::random_device{}();
  static std::atomic<uint32_t> counter{0};
  constexpr char kHex[] = "0123456789abcdef";
  std::string out(24, '0');
  uint64_t high = kProcessPart;
  // An odd multiplier permutes 32-bit numbers: ids in a row look unrelated and never collide.
  uint32_t low = counter.fetch_add(1, std::memory_order_relaxed) * 2654435761U;
  for (size_t i = 0; i < 16; ++i, high >>= 4) {
    out[i] = kHex[high & 15];
  }
  for (size_t i = 16; i < 24; ++i, low >>= 4) {
    out[i] = kHex[low & 15];
  }
  return out;
}

}  // namespace mach::http
