#include "chat/dsml_arguments.h"

namespace mach::chat {

void DsmlArguments::Open(const ToolSchema* tool) {
  writer_.Open();
  tool_ = tool;
  any_ = false;
  envelope_.reset();
}

void DsmlArguments::BeginValue(std::string_view key, ValueHint hint) {
  if (envelope_) {
    KeepEnvelope();
  }
  const SchemaRef schema = tool_ == nullptr ? SchemaRef() : tool_->Parameter(key);
  if (!any_ && tool_ != nullptr && tool_->has_properties() && !schema.present() &&
      (key == "arguments" || key == "input")) {
    envelope_ = Envelope{std::string(key), "", hint, false};
  } else {
    writer_.BeginValue(key, schema, hint);
  }
  any_ = true;
}

// It was an ordinary parameter after all.
void DsmlArguments::KeepEnvelope() {
  writer_.BeginValue(envelope_->key, SchemaRef(), envelope_->hint);
  writer_.Append(envelope_->value);
  writer_.EndValue();
  envelope_.reset();
}

void DsmlArguments::Append(std::string_view text) {
  if (envelope_) {
    envelope_->value += text;
  } else {
    writer_.Append(text);
  }
}

void DsmlArguments::EndValue() {
  if (envelope_) {
    envelope_->closed = true;
  } else {
    writer_.EndValue();
  }
}

void DsmlArguments::AbandonValue() {
  if (envelope_) {
    envelope_.reset();
  } else {
    writer_.AbandonValue();
  }
}

void DsmlArguments::Close() {
  if (envelope_ && envelope_->closed) {
    if (const auto object = DeclaredObject(envelope_->value, *tool_)) {
      writer_.Whole(*object);
      return;
    }
    KeepEnvelope();
  }
  writer_.Close();
}

}  // namespace mach::chat
