// Ctrl-C in commands that end in an orderly way of their own. (A server waits for signals instead:
// server/signals.h.)
#pragma once

namespace mach::app {

// From here on the first SIGINT does not end the process but is remembered; the second ends it.
void CatchInterrupts();
bool Interrupted();

// For work that the same command continues. Throws kCancelled.
void ThrowIfInterrupted();

}  // namespace mach::app
