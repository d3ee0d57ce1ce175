// The text side of a served model: tokenizer, chat template and what the small files beside the
// weights say about sampling and the end of an answer. Read before any weight, because it is small
// and often what is wrong. Immutable once loaded: any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "chat/detect.h"
#include "formats/checkpoint.h"
#include "jinja/chat_template.h"
#include "text/tokenizer.h"

namespace mach::loading {

// From generation_config.json: what unset sampling fields of a request become. Absent here means
// OpenAI's default.
struct GenerationDefaults {
  std::optional<float> temperature;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<int32_t> top_k;
  std::optional<float> repetition_penalty;
};

// What the operator says of the model's chats; absent = found from its template and type.
struct FormatChoice {
  std::optional<chat::CallFormat> call;
  std::optional<chat::ReasoningFormat> reasoning;
};

struct ServedText {
  std::shared_ptr<const text::Tokenizer> tokenizer;
  std::unique_ptr<jinja::ChatTemplate> chat_template;  // null if the checkpoint has none
  std::string bos_token;                               // for the chat template; may be empty
  std::string eos_token;
  GenerationDefaults defaults;
  // How its chats mark calls and reasoning.
  chat::Formats chat_formats;
  std::vector<std::string> added_tokens;  // the texts of all of them: markers may be among them
  // The model's own: generation ends, nothing is shown. Ascending, all within the vocabulary.
  std::vector<int32_t> end_tokens;
};

// Throws mach::Error naming file and field: NoTokenizer, kCorruptFile or kUnsupported. Warns in the
// log where the tokenizer has more ids than the model, and where nothing ends an answer.
ServedText LoadText(const formats::Checkpoint& checkpoint, const FormatChoice& choice = {});

// The end tokens as a user knows them, "<|im_end|> <|endoftext|>"; for the log.
std::string EndTokensText(const ServedText& text);

// That there is no tokenizer.json in `dir`, which running a model does without and serving does
// not.
Error NoTokenizer(const std::filesystem::path& dir);

}  // namespace mach::loading
