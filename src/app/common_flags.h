// Flags that several commands have, with one text for all of them.
#pragma once

#include <cstdint>

#include <CLI/CLI.hpp>

namespace mach::app {

// Each keeps a reference to its value.
CLI::Option* AddThreads(CLI::App& app, int& threads);
CLI::Option* AddMemoryGb(CLI::App& app, uint64_t& ceiling_bytes);
CLI::Option* AddMaxContext(CLI::App& app, int64_t& max_context);

// What flags in GB (1e9 bytes) may say, and the same in bytes, to the nearest one.
CLI::Range GigabytesRange();
uint64_t GigabytesToBytes(double gigabytes);

}  // namespace mach::app
