// Flags that several commands have, so that they have one name, one text and one range everywhere.
#pragma once

#include <cstdint>
#include <string>

#include <CLI/CLI.hpp>

namespace mach::app {

// Each keeps a reference to its value.
CLI::Option* AddThreads(CLI::App& app, int& threads);
CLI::Option* AddMemoryGb(CLI::App& app, uint64_t& ceiling_bytes);
CLI::Option* AddMaxContext(CLI::App& app, int64_t& max_context);

// A flag in GB (1e9 bytes) for a value in bytes, to the nearest one.
CLI::Option* AddGigabytes(CLI::App& app, const char* flag, uint64_t& bytes, std::string help);

}  // namespace mach::app
