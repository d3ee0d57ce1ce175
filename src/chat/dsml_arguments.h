// The arguments of a DSML call: an ArgumentsWriter that takes a lone parameter which is not
// declared and holds all of them for the arguments. For use inside chat/ only.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "chat/arguments_writer.h"

namespace mach::chat {

class DsmlArguments {
 public:
  explicit DsmlArguments(DeltaSink& sink) : writer_(sink) {}

  void Open(const ToolSchema* tool);  // null = not declared
  void BeginValue(std::string_view key, ValueHint hint);
  void Append(std::string_view text);
  void EndValue();
  void AbandonValue();
  void Unread(std::string_view text) { writer_.Unread(text); }
  void Close();

 private:
  // The first parameter, as long as it may hold all arguments.
  struct Envelope {
    std::string key;
    std::string value;
    ValueHint hint = ValueHint::kNone;
    bool closed = false;
  };

  void KeepEnvelope();

  ArgumentsWriter writer_;
  const ToolSchema* tool_ = nullptr;
  bool any_ = false;
  std::optional<Envelope> envelope_;
};

}  // namespace mach::chat
