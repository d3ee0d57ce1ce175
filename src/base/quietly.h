// For what only informs, a line in the log for one, where nothing may be thrown: on a thread of its
// own, in a destructor, while another error is dealt with.
#pragma once

#include <exception>

namespace mach {

// True if it ended without an exception; want of memory is the usual one.
template <typename Action>
bool Quietly(const Action& action) noexcept {
  try {
    action();
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

}  // namespace mach
