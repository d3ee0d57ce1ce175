// Chat templates: the Jinja dialect that models ship in tokenizer_config.json, chat_template.jinja
// or GGUF metadata, rendered exactly as transformers' apply_chat_template renders it.
// Immutable after parsing: any thread may render.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace mach::jinja {

class ChatTemplate {
 public:
  // Throws kCorruptFile with line and reason if the template does not parse.
  static std::unique_ptr<ChatTemplate> Parse(std::string_view source, std::string_view source_name);

  virtual ~ChatTemplate() = default;

  // Where it came from, for logs.
  virtual std::string_view source_name() const { return ""; }

  // `variables` is an object: messages, tools (null or absent = none), add_generation_prompt,
  // bos_token, eos_token and whatever the request's chat_template_kwargs add. Key order is kept.
  // As in transformers, tools and documents are none and add_generation_prompt is false where
  // absent, and a message's reasoning_content, thinking or reasoning is seen under the first two
  // names. `now_unix_s` is what strftime_now sees. Throws kInvalidArgument with the template's own
  // words where it calls raise_exception, or with the reason where it cannot be evaluated;
  // kResourceLimit where it runs away (output, steps or depth).
  // Errors name the line, and the template itself no further: clients see them.
  virtual std::string Render(const nlohmann::ordered_json& variables, int64_t now_unix_s) const = 0;
};

}  // namespace mach::jinja
