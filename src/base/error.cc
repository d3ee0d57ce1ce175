#include "base/error.h"

#include <utility>

namespace mach {

std::string_view ErrorCodeName(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return "invalid_argument";
    case ErrorCode::kNotFound:
      return "not_found";
    case ErrorCode::kCorruptFile:
      return "corrupt_file";
    case ErrorCode::kUnsupported:
      return "unsupported";
    case ErrorCode::kResourceLimit:
      return "resource_limit";
    case ErrorCode::kIo:
      return "io";
    case ErrorCode::kCancelled:
      return "cancelled";
    case ErrorCode::kUnavailable:
      return "unavailable";
    case ErrorCode::kInternal:
      return "internal";
  }
  return "unknown";
}

Error::Error(ErrorCode code, const std::string& message, std::string cure)
    : std::runtime_error(message), code_(code), cure_(std::move(cure)) {}

std::string Error::Describe() const {
  std::string text = what();
  if (!cure_.empty()) {
    text += " (" + cure_ + ")";
  }
  return text;
}

}  // namespace mach
