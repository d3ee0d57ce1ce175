// What every subcommand of `mach` has in common: it registers its flags with the command line, and
// main calls its function, which returns an exit code, if it was the one chosen.
#pragma once

#include <functional>

#include <CLI/CLI.hpp>

namespace mach::app {

// Exit codes: 0 done, 1 failed (the reason is on stderr), 2 wrong usage, 3 will not fit,
// 130 interrupted by Ctrl-C.
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitWontFit = 3;
inline constexpr int kExitInterrupted = 130;

// Registers a subcommand; `run` is what main calls if it was chosen.
using RunFunction = std::function<int()>;

struct Command {
  CLI::App* app = nullptr;
  RunFunction run;
};

Command AddServe(CLI::App& root);
Command AddConvert(CLI::App& root);
Command AddCheck(CLI::App& root);
Command AddArchs(CLI::App& root);
Command AddModels(CLI::App& root);
Command AddGenerate(CLI::App& root);
Command AddBench(CLI::App& root);
Command AddSynth(CLI::App& root);
Command AddParse(CLI::App& root);
Command AddGrammar(CLI::App& root);

}  // namespace mach::app
