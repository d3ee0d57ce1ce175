// The one error type of the project.
//
// Thrown where work cannot go on; caught at the edges (a request, a thread's entry, main) and
// turned there into an OpenAI error object, a log line or an exit code. Ordinary absence is
// std::optional, a bug is MACH_CHECK (base/check.h). Bytes from disk or network never reach a
// MACH_CHECK.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace mach {

enum class ErrorCode {
  kInvalidArgument,  // the caller asked for something that makes no sense: flag, field, shape
  kNotFound,         // a file, model or tensor that should be there is not
  kCorruptFile,      // bytes on disk contradict their own format or checksum
  kUnsupported,      // well-formed, but not something this build can do
  kResourceLimit,    // a limit would be passed: memory, disk space, threads, a size of text or file
  kIo,               // the operating system refused a read, write, socket or mapping
  kCancelled,        // the one who asked is gone
  kUnavailable,      // not now: loading, shutting down, queue full
  kInternal,         // none of the above: a bug that was caught rather than ignored
};

// Lower-case name of a code, for logs: "corrupt_file".
std::string_view ErrorCodeName(ErrorCode code);

class Error : public std::runtime_error {
 public:
  // `message` names the file, field or value and what is wrong with it. `cure` says what the user
  // can do about it; may be empty.
  Error(ErrorCode code, const std::string& message, std::string cure = "");

  ErrorCode code() const { return code_; }
  const std::string& cure() const { return cure_; }

  // "message (cure)": one line for a terminal or a log.
  std::string Describe() const;

 private:
  ErrorCode code_;
  std::string cure_;
};

}  // namespace mach
