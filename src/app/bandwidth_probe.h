// How fast this machine reads memory, so that decode speed can be given as a share of it.
#pragma once

namespace mach::app {

// GB/s (1e9) that `threads` threads read together from 512 MiB of memory each pass; the best of a
// few passes, because a shared machine only ever makes it slower.
double ProbeReadBandwidth(int threads);

}  // namespace mach::app
