// Writes the arguments of one call, parameter by parameter, as one JSON object: values that can
// only be strings as they are generated, all others once they are complete and typed. For formats
// whose parameters are markup (Qwen3 XML, DSML). For use inside chat/ only.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "chat/delta_sink.h"
#include "chat/tool_schemas.h"
#include "chat/value_typing.h"

namespace mach::chat {

class ArgumentsWriter {
 public:
  explicit ArgumentsWriter(DeltaSink& sink) : sink_(sink) {}

  void Open();  // a new call
  // A key that the call has already is read and dropped: JSON with two of them means neither.
  void BeginValue(std::string_view key, SchemaRef schema, ValueHint hint);
  void Append(std::string_view text);
  void EndValue();
  // The output ended inside a value: what was shown of it is closed, otherwise there is none.
  void AbandonValue();
  // Text of the call that is no value.
  void Unread(std::string_view text) { unread_ += text; }
  // Arguments as a whole, instead of values.
  void Whole(std::string_view json) { sink_.Arguments(json); }
  // The closing brace. A call without a value whose text could not be read has that text for
  // arguments: an object as it is, other text as one JSON string.
  void Close();

  bool Seen(std::string_view key) const { return seen_.find(key) != seen_.end(); }

 private:
  void Stream(std::string_view text);
  std::string Prefix() const;  // `{"key": ` or `, "key": `

  DeltaSink& sink_;
  std::set<std::string, std::less<>> seen_;
  bool any_ = false;
  bool duplicate_ = false;
  bool shown_ = false;  // the value's opening quote is out
  std::string key_;
  SchemaRef schema_;
  ValueHint hint_ = ValueHint::kNone;
  std::optional<StringWatch> watch_;
  std::string held_;
  std::string unread_;
};

}  // namespace mach::chat
