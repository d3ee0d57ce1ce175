#include "server/model_host.h"

#include <algorithm>

#include "chat/output_parser.h"

namespace mach::server {

void ModelHost::SetReady(std::unique_ptr<loading::ServedModel> model) {
  model_ = std::move(model);
  request_memory_ =
      std::make_unique<RequestMemory>(model_->budget.get(), model_->info.request_bytes);
  ready_.store(model_.get(), std::memory_order_release);
}

namespace {

// The tokens that answers are read by.
std::vector<int32_t> MarkersOf(const loading::ServedModel& model) {
  const auto parser = chat::OutputParser::Make({.format = model.chat_formats.call,
                                                .reasoning = model.chat_formats.reasoning,
                                                .special_tokens = model.added_tokens});
  std::vector<int32_t> markers;
  for (const std::string& token : parser->marker_tokens()) {
    if (const auto id = model.tokenizer->TokenToId(token)) {
      markers.push_back(*id);
    }
  }
  return markers;
}

}  // namespace

grammar::Compiler& ModelHost::grammars() const {
  std::call_once(grammars_made_, [this] {
    const loading::ServedModel& model = *ready();
    grammars_ = std::make_unique<grammar::Compiler>(
        model.tokenizer,
        grammar::CompilerOptions{.end_tokens = model.end_tokens, .markers = MarkersOf(model)});
  });
  return *grammars_;
}

bool ModelHost::Answers(std::string_view name) const {
  const loading::ServedModel* model = ready();
  if (model == nullptr) {
    return false;
  }
  const std::string_view id = model->info.id;
  return name.empty() || name == id || name == alias_ || name == id.substr(0, id.find('@'));
}

size_t ModelHost::LongestTokenBytes() const {
  size_t longest = longest_token_bytes_.load(std::memory_order_relaxed);
  if (longest == 0) {
    const text::Tokenizer& tokenizer = *ready()->tokenizer;
    longest = 1;
    for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
      longest = std::max(longest, tokenizer.TokenBytes(id).size());
    }
    longest_token_bytes_.store(longest, std::memory_order_relaxed);
  }
  return longest;
}

}  // namespace mach::server
