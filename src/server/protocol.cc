#include "server/protocol.h"

#include <array>
#include <mutex>
#include <set>
#include <utility>

#include "api/errors.h"
#include "base/log.h"
#include "chat/detect.h"
#include "server/answer_grammar.h"
#include "server/chat_prompt.h"
#include "server/engine_request.h"

namespace mach::server {
namespace {

// How the output of a chat is read, `prompt` being the end of what the model continues.
std::shared_ptr<const OutputReading> ReadingOf(const api::ChatRequest& request,
                                               const loading::ServedModel& model,
                                               std::string_view prompt) {
  using Kind = api::ToolChoice::Kind;
  const chat::Formats& formats = model.chat_formats;
  const Kind choice = request.tool_choice.kind;
  if (formats.call == chat::CallFormat::kNone &&
      (choice == Kind::kRequired || choice == Kind::kNamed)) {
    throw api::RequestError(api::InvalidRequest(
        "How this model writes calls is not known; the server's --tool-call-parser says it.",
        "tool_choice"));
  }
  auto reading = std::make_shared<OutputReading>();
  chat::ParserOptions& parser = reading->parser;
  // Without tools an agent that writes its own calls into the text reads them there. A format with
  // channels is always read: they are not text.
  const bool reads_calls = choice != Kind::kNone || formats.call == chat::CallFormat::kHarmony;
  parser.format = reads_calls ? formats.call : chat::CallFormat::kNone;
  parser.reasoning = formats.reasoning;
  parser.starts_in = chat::StartsInReasoning(prompt, formats.reasoning) ? chat::StartsIn::kReasoning
                                                                        : chat::StartsIn::kContent;
  parser.parallel_tool_calls = request.parallel_tool_calls;
  parser.named_call = choice == Kind::kNamed;
  parser.special_tokens = model.added_tokens;
  reading->tools = request.tools;
  reading->show_reasoning = request.include_reasoning;
  return reading;
}

PreparedRequest PrepareChat(api::ChatRequest request, const ModelHost& host) {
  CheckModelName(request.common, host);
  const loading::ServedModel& model = *host.ready();
  const std::string text = RenderChat(request, model);
  // The template writes its own BOS and role markers.
  std::vector<int32_t> tokens =
      TokenizeText(request.common, host, text, /*add_special_tokens=*/false, "messages");
  if (tokens.empty()) {
    throw api::RequestError(
        api::InvalidRequest("The rendered conversation has no tokens.", "messages"));
  }
  PreparedRequest prepared;
  prepared.reading = ReadingOf(request, model, text);
  prepared.requests.push_back(
      MakeEngineRequest(request.common, host, std::move(tokens), "messages"));
  prepared.requests.back().make_constraint = AnswerConstraint(request, host, text);
  prepared.common = std::move(request.common);
  return prepared;
}

PreparedRequest PrepareChatCompletion(std::string body, const api::RequestLimits& limits,
                                      const ModelHost& host) {
  return PrepareChat(api::ParseChatRequest(std::move(body), limits), host);
}

PreparedRequest PrepareCompletion(std::string body, const api::RequestLimits& limits,
                                  const ModelHost& host) {
  api::CompletionRequest request = api::ParseCompletionRequest(std::move(body), limits);
  CheckModelName(request.common, host);
  PreparedRequest prepared;
  for (size_t i = 0; i < request.prompts.size(); ++i) {
    const std::string path =
        request.prompts.size() == 1 ? "prompt" : "prompt[" + std::to_string(i) + "]";
    std::vector<int32_t> tokens =
        TokenizePrompt(std::move(request.prompts[i]), request.common, host, path);
    prepared.requests.push_back(MakeEngineRequest(request.common, host, std::move(tokens), path));
  }
  prepared.common = std::move(request.common);
  return prepared;
}

// Once for each type: an agent declares them with every request.
void WarnOfIgnored(const std::vector<std::string>& types) {
  static std::mutex mutex;
  static std::set<std::string> told;
  const std::lock_guard lock(mutex);
  for (const std::string& type : types) {
    if (told.insert(type).second) {
      LogWarning("the model is not told of tools of this type", {{"type", type}});
    }
  }
}

PreparedRequest PrepareMessages(std::string body, const api::RequestLimits& limits,
                                const ModelHost& host) {
  api::ChatRequest request = api::ParseMessagesRequest(std::move(body), limits);
  WarnOfIgnored(request.ignored_tools);
  return PrepareChat(std::move(request), host);
}

PreparedRequest PrepareResponses(std::string body, const api::RequestLimits& limits,
                                 const ModelHost& host) {
  api::ResponsesRequest request = api::ParseResponsesRequest(std::move(body), limits);
  WarnOfIgnored(request.chat.ignored_tools);
  PreparedRequest prepared = PrepareChat(std::move(request.chat), host);
  prepared.repeated = std::move(request.repeated);
  return prepared;
}

constexpr std::array<Protocol, 4> kProtocols = {{
    {"/v1/chat/completions", "chatcmpl-", PrepareChatCompletion, api::MakeChatEncoder,
     api::ErrorBody},
    {"/v1/completions", "cmpl-", PrepareCompletion, api::MakeCompletionEncoder, api::ErrorBody},
    {"/v1/messages", "msg_", PrepareMessages, api::MakeMessagesEncoder, api::AnthropicErrorBody},
    {"/v1/responses", "resp_", PrepareResponses, api::MakeResponsesEncoder, api::ErrorBody},
}};

}  // namespace

api::ErrorBodyFunction ErrorBodyOf(std::string_view path) {
  for (const Protocol& protocol : kProtocols) {
    const std::string_view own = protocol.path;
    if (path.starts_with(own) && (path.size() == own.size() || path[own.size()] == '/')) {
      return protocol.error_body;
    }
  }
  return api::ErrorBody;
}

std::span<const Protocol> Protocols() {
  return kProtocols;
}

}  // namespace mach::server
