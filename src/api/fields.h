// Typed access to the fields of a request object. Each reader returns nullopt where the field is
// absent or null, and throws RequestError (400, `param` = the field's path) where it has the wrong
// type or lies outside its range. For use inside api only; one thread.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "api/errors.h"

namespace mach::api {

using Json = nlohmann::ordered_json;

[[noreturn]] void Reject(std::string message, std::string param);

// A request's body as JSON; it is given up once it is read. Throws RequestError as ParseJson does,
// and for what is no object.
Json ParseObject(std::string body);

// "a boolean", "a string"… for messages.
std::string_view JsonTypeName(const Json& value);

class Fields {
 public:
  // `object` must be a JSON object and outlive this. `prefix` is the path before its keys, as
  // "stream_options."; empty at the top.
  Fields(const Json& object, std::string prefix) : object_(object), prefix_(std::move(prefix)) {}

  std::string Path(std::string_view key) const { return prefix_ + std::string(key); }

  const Json* Find(std::string_view key) const;  // null if absent or JSON null

  std::optional<bool> Bool(std::string_view key) const;
  std::optional<std::string> String(std::string_view key) const;
  // A number without a fraction, such as 3.0, is an integer too.
  std::optional<int64_t> Integer(std::string_view key, int64_t min, int64_t max) const;
  // A finite number in [min, max]; with `exclusive_min`, in (min, max].
  std::optional<float> Number(std::string_view key, double min, double max,
                              bool exclusive_min = false) const;
  const Json* Object(std::string_view key) const;
  const Json* Array(std::string_view key) const;

  // For fields that would change the answer and are not implemented: absent, null, or equal to
  // `harmless` pass, everything else is refused by name.
  void RefuseUnless(std::string_view key, const Json& harmless) const;

 private:
  [[noreturn]] void WrongType(std::string_view key, std::string_view expected,
                              const Json& value) const;

  const Json& object_;
  std::string prefix_;
};

}  // namespace mach::api
