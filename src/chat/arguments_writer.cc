#include "chat/arguments_writer.h"

#include "base/json_string.h"

namespace mach::chat {

void ArgumentsWriter::Open() {
  seen_.clear();
  unread_.clear();
  any_ = false;
}

void ArgumentsWriter::BeginValue(std::string_view key, SchemaRef schema, ValueHint hint) {
  key_ = key;
  duplicate_ = !seen_.emplace(key).second;
  schema_ = schema;
  hint_ = hint;
  shown_ = false;
  held_.clear();
  watch_.reset();
  if (hint != ValueHint::kJson) {
    TypeSet string_only;
    string_only.string = true;
    watch_.emplace(schema.present() ? schema.Types() : string_only);
  }
}

std::string ArgumentsWriter::Prefix() const {
  std::string prefix = any_ ? ", " : "{";
  AppendJsonString(prefix, key_);
  prefix += ": ";
  return prefix;
}

void ArgumentsWriter::Stream(std::string_view text) {
  if (text.empty()) {
    return;
  }
  std::string out;
  AppendJsonString(out, text);
  out.pop_back();
  if (shown_) {
    out.erase(0, 1);
  } else {
    out.insert(0, Prefix());
    shown_ = true;
    any_ = true;
  }
  sink_.Arguments(out);
}

void ArgumentsWriter::Append(std::string_view text) {
  if (duplicate_ || text.empty()) {
    return;
  }
  if (shown_) {
    Stream(text);
    return;
  }
  held_ += text;
  if (watch_) {
    watch_->Feed(text);
    if (watch_->only_string()) {
      Stream(held_);
      held_.clear();
    }
  }
}

void ArgumentsWriter::EndValue() {
  if (duplicate_) {
    return;
  }
  if (shown_) {
    sink_.CutArguments();
    sink_.Arguments("\"");
  } else {
    sink_.Arguments(Prefix() + TypedValue(held_, schema_, hint_));
    any_ = true;
  }
  sink_.CutArguments();
}

void ArgumentsWriter::AbandonValue() {
  if (!duplicate_ && shown_) {
    EndValue();
  }
}

void ArgumentsWriter::Close() {
  sink_.CutArguments();
  const std::string_view unread = TrimSpace(unread_);
  if (any_ || unread.empty()) {
    sink_.Arguments(any_ ? "}" : "{}");
  } else if (IsJsonObject(unread)) {
    sink_.Arguments(unread);
  } else {
    std::string quoted;
    AppendJsonString(quoted, unread);
    sink_.Arguments(quoted);
  }
}

}  // namespace mach::chat
