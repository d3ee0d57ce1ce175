// What a request, its sink or a worker throws ends there: the engine goes on.
#pragma once

#include <exception>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "base/log.h"

namespace mach::engine {

// The exception that is being handled.
inline Error CurrentError() {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::exception& error) {
    return {ErrorCode::kInternal, error.what()};
  } catch (...) {
    return {ErrorCode::kInternal, "an exception of an unknown type"};
  }
}

// What `body` throws; nothing if it ends.
template <typename Body>
std::optional<Error> Try(const Body& body) {
  try {
    body();
    return std::nullopt;
  } catch (...) {
    return CurrentError();
  }
}

// Runs `body`; what it throws is logged, as having happened while `doing`.
template <typename Body>
void Contain(std::string_view doing, const Body& body) {
  if (const auto error = Try(body)) {
    LogError("the engine goes on after an error", {{"doing", doing}, {"error", error->Describe()}});
  }
}

}  // namespace mach::engine
