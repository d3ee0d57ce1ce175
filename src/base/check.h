// Checks for bugs: MACH_CHECK always, MACH_DCHECK in builds with MACH_DCHECK=ON (dev, sanitizers).
// They abort. Never use them on bytes from disk or network: those get a mach::Error.
#pragma once

namespace mach {

[[noreturn]] void CheckFailed(const char* condition, const char* file, int line);

}  // namespace mach

#define MACH_CHECK(condition)                              \
  do {                                                     \
    if (!(condition)) [[unlikely]] {                       \
      ::mach::CheckFailed(#condition, __FILE__, __LINE__); \
    }                                                      \
  } while (false)

#ifdef MACH_ENABLE_DCHECK
#define MACH_DCHECK(condition) MACH_CHECK(condition)
#else
#define MACH_DCHECK(condition) \
  do {                         \
  } while (false)
#endif
