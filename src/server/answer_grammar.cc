#include "server/answer_grammar.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "api/errors.h"
#include "chat/detect.h"
#include "decode/after_token.h"
#include "decode/either.h"
#include "decode/thinking.h"
#include "grammar/tool_grammar.h"

namespace mach::server {
namespace {

using chat::CallFormat;
using chat::ReasoningFormat;
using Choice = api::ToolChoice::Kind;
using Format = api::ResponseFormat::Kind;
using GrammarPtr = std::shared_ptr<const grammar::Grammar>;

// By which tokens a model marks its reasoning.
struct Tags {
  const char* open;
  const char* close;
};

std::optional<Tags> TagsOf(ReasoningFormat format) {
  switch (format) {
    case ReasoningFormat::kQwen3:
    case ReasoningFormat::kDeepseekR1:
    case ReasoningFormat::kDeepseekV4:
      return Tags{"<think>", "</think>"};
    case ReasoningFormat::kGemma4:
      return Tags{"<|channel>", "<channel|>"};
    case ReasoningFormat::kNone:
      break;
  }
  return std::nullopt;
}

std::vector<grammar::Tool> ToolsOf(const api::ChatRequest& request) {
  std::vector<grammar::Tool> tools;
  for (const auto& tool : *request.tools) {
    const auto& function = tool["function"];
    const auto& name = function["name"].get_ref<const std::string&>();
    if (request.tool_choice.kind != Choice::kNamed || name == request.tool_choice.name) {
      const auto parameters = function.find("parameters");
      tools.push_back({name, parameters != function.end() ? *parameters : nullptr});
    }
  }
  return tools;
}

// The document that the answer has to be; null for text.
GrammarPtr DocumentGrammar(const api::ResponseFormat& format, const ModelHost& host) {
  try {
    if (format.kind == Format::kJsonObject) {
      return host.grammars().Compile(grammar::Spec::JsonObject());
    }
    if (format.kind == Format::kJsonSchema) {
      return host.grammars().Compile(grammar::Spec::JsonSchema(*format.schema));
    }
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kInvalidArgument) {
      throw;
    }
    throw api::RequestError(
        api::InvalidRequest("This schema cannot be enforced: " + e.Describe(), format.path));
  }
  return nullptr;
}

// What calls of the tools have to be. Their schemas are relaxed until there is a grammar, so what
// fails is more than that.
GrammarPtr CallGrammar(const api::ChatRequest& request, const ModelHost& host, bool nothing_else) {
  const CallFormat format = host.ready()->chat_formats.call;
  const bool one = request.tool_choice.kind == Choice::kNamed || !request.parallel_tool_calls;
  const auto declared = ToolsOf(request);
  try {
    return nothing_else ? grammar::CompileCalls(
                              host.grammars(), format, declared,
                              one ? grammar::CallCount::kOne : grammar::CallCount::kOneOrMore)
                        : grammar::CompileFreeText(host.grammars(), format, declared);
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kInvalidArgument) {
      throw;
    }
    throw api::RequestError(api::InvalidRequest(
        "Calls of these tools cannot be held to a grammar: " + e.Describe(), "tools"));
  }
}

// A document of harmony is the body of its last message.
std::unique_ptr<decode::Constraint> Document(const GrammarPtr& grammar, CallFormat format,
                                             const text::Tokenizer& tokenizer) {
  std::unique_ptr<decode::Constraint> constraint = grammar->NewConstraint();
  if (format == CallFormat::kHarmony) {
    return std::make_unique<decode::AfterToken>(
        std::move(constraint), decode::StartMarkers{.texts = {"<|channel|>final<|message|>"}},
        &tokenizer);
  }
  return constraint;
}

// What may come before the constraint; nothing where this model does not reason.
std::optional<decode::ThinkingSpec> ThinkingOf(const api::ChatRequest& request,
                                               const loading::ServedModel& model,
                                               std::string_view prompt) {
  const ReasoningFormat format = model.chat_formats.reasoning;
  const auto tags = TagsOf(format);
  if (!tags) {
    return std::nullopt;  // and a budget has nothing to bound
  }
  const auto close = model.tokenizer->TokenToId(tags->close);
  if (!close) {
    if (request.thinking_budget) {
      throw api::RequestError(api::InvalidRequest(
          "'thinking_budget' needs a model whose reasoning ends with one token.",
          "thinking_budget"));
    }
    return std::nullopt;
  }
  decode::ThinkingSpec spec{.open = chat::StartsInReasoning(prompt, format),
                            .open_token = model.tokenizer->TokenToId(tags->open),
                            .close_token = *close,
                            .budget = request.thinking_budget,
                            .closing = {},
                            .vocab_size = model.info.vocab_size};
  const size_t end = prompt.find_last_not_of(" \t\r\n");
  if (end != std::string_view::npos && prompt.substr(0, end + 1).ends_with(tags->close)) {
    spec.open_token.reset();  // the prompt says that there is none
  }
  const std::string closing =
      format == ReasoningFormat::kGemma4 ? tags->close : "\n" + std::string(tags->close) + "\n\n";
  spec.closing = model.tokenizer->Encode(closing, /*add_special_tokens=*/false);
  return spec;
}

}  // namespace

std::function<std::shared_ptr<decode::Constraint>()> AnswerConstraint(
    const api::ChatRequest& request, const ModelHost& host, std::string_view prompt) {
  const loading::ServedModel& model = *host.ready();
  const CallFormat format = model.chat_formats.call;
  const Choice choice = request.tool_choice.kind;
  bool calls = choice != Choice::kNone && format != CallFormat::kNone;
  if (!calls && request.response_format.kind == Format::kText && !request.thinking_budget) {
    return {};
  }
  const bool must_call = choice == Choice::kRequired || choice == Choice::kNamed;
  const bool must_fit = must_call || request.response_format.kind != Format::kText;
  if (model.end_tokens.empty()) {
    if (must_fit) {
      throw api::RequestError(api::InvalidRequest(
          "Constrained answers need a model with an end token, and this one's files name none.",
          must_call ? "tool_choice" : "response_format"));
    }
    calls = false;
  }
  GrammarPtr document = DocumentGrammar(request.response_format, host);
  GrammarPtr tools;
  if (calls) {
    // Beside a document, what is no document is calls.
    tools = CallGrammar(request, host, must_call || document);
  }
  if (must_call) {
    document = nullptr;
  }
  const auto thinking = ThinkingOf(request, model, prompt);
  // These hold for reasoning as well: the grammars of harmony begin with it, and free text may
  // open a call in it.
  const bool from_beginning = format == CallFormat::kHarmony ||
                              (tools && !must_call && !document &&
                               model.chat_formats.reasoning != ReasoningFormat::kDeepseekR1);
  return [=, tokenizer = model.tokenizer]() -> std::shared_ptr<decode::Constraint> {
    std::unique_ptr<decode::Constraint> constraint;
    if (document) {
      constraint = Document(document, format, *tokenizer);
    }
    if (tools) {
      auto call = tools->NewConstraint();
      constraint = constraint
                       ? std::make_unique<decode::Either>(std::move(call), std::move(constraint))
                       : std::move(call);
    }
    if (thinking && (!from_beginning || thinking->budget)) {
      constraint = std::make_unique<decode::Thinking>(*thinking, std::move(constraint));
    }
    return constraint;
  };
}

}  // namespace mach::server
