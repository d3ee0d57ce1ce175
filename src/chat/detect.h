// Which formats a model writes, from its chat template, and where its output starts, from the
// prompt that was made with it. Pure functions; any thread.
#pragma once

#include <string_view>

#include "chat/output_parser.h"

namespace mach::chat {

struct Formats {
  CallFormat call = CallFormat::kNone;
  ReasoningFormat reasoning = ReasoningFormat::kNone;
};

// By the markers that the template writes; `model_type`, as in config.json, decides where there is
// no template. kNone for formats that mach does not read.
Formats DetectFormats(std::string_view chat_template, std::string_view model_type);

// Whether the prompt leaves reasoning open: it ends with an opening tag, and nothing but whitespace
// and the tag's label. `prompt_tail` may be the whole prompt.
bool StartsInReasoning(std::string_view prompt_tail, ReasoningFormat reasoning);

}  // namespace mach::chat
