#include "chat/delta_sink.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <random>
#include <utility>

namespace mach::chat {
namespace {

constexpr std::string_view kWhitespace = " \t\r\n";

std::string RandomCallId() {
  thread_local std::random_device device;
  constexpr std::string_view kLetters =
      "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  std::string id = "call_";
  std::uniform_int_distribution<size_t> letter(0, kLetters.size() - 1);
  for (int i = 0; i < 24; ++i) {
    id += kLetters[letter(device)];
  }
  return id;
}

}  // namespace

DeltaSink::DeltaSink(std::function<std::string()> new_call_id, bool one_call, bool with_content)
    : new_call_id_(new_call_id ? std::move(new_call_id) : RandomCallId),
      one_call_(one_call),
      with_content_(with_content) {}

void DeltaSink::Attach(std::vector<ChatDelta>& out) {
  out_ = &out;
  first_own_ = out.size();
}

void DeltaSink::Append(ChatDelta::Kind kind, std::string_view text) {
  if (out_->size() > first_own_ && out_->back().kind == kind) {
    out_->back().text += text;
  } else {
    out_->push_back({kind, std::string(text), 0, ""});
  }
}

void DeltaSink::Text(Stretch& stretch, ChatDelta::Kind kind, std::string_view text) {
  if (text.empty()) {
    return;
  }
  if (!stretch.visible) {
    if (text.find_first_not_of(kWhitespace) == std::string_view::npos) {
      stretch.held += text;
      return;
    }
    stretch.visible = true;
    if (stretch.any && !stretch.separator.empty()) {
      Append(kind, stretch.separator);
    }
    stretch.any = true;
    if (!stretch.held.empty()) {
      Append(kind, stretch.held);
      stretch.held.clear();
    }
  }
  Append(kind, text);
}

void DeltaSink::Content(std::string_view text) {
  if (!with_content_) {
    return;
  }
  Text(content_, ChatDelta::Kind::kContent, text);
}

void DeltaSink::Reasoning(std::string_view text) {
  Text(reasoning_, ChatDelta::Kind::kReasoning, text);
}

void DeltaSink::EndContent() {
  content_.held.clear();
  content_.visible = false;
}

void DeltaSink::EndReasoning() {
  reasoning_.held.clear();
  reasoning_.visible = false;
}

void DeltaSink::OpenCall(std::string_view name) {
  EndContent();
  ++calls_;
  cut_ = true;
  if (!Hidden()) {
    out_->push_back({ChatDelta::Kind::kCallStart, std::string(name), calls_ - 1, new_call_id_()});
  }
}

void DeltaSink::Arguments(std::string_view json) {
  if (json.empty() || Hidden()) {
    return;
  }
  if (!cut_ && out_->size() > first_own_ && out_->back().kind == ChatDelta::Kind::kCallArguments) {
    out_->back().text += json;
  } else {
    out_->push_back({ChatDelta::Kind::kCallArguments, std::string(json), calls_ - 1, ""});
  }
  cut_ = false;
}

void DeltaSink::CloseCall() {
  ++closed_;
}

void DeltaSink::Finish() {
  if (calls_ == 0 && !content_.visible && !content_.held.empty()) {
    Append(ChatDelta::Kind::kContent, content_.held);
  }
  content_.held.clear();
}

}  // namespace mach::chat
