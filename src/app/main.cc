// mach: one binary, one subcommand for each job. Called as mach-serve it is `mach serve`.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "app/command.h"
#include "app/nearest_name.h"
#include "base/error.h"
#include "platform/file.h"

namespace mach::app {
namespace {

constexpr const char* kFooter =
    "Run `mach COMMAND --help` for the flags of one command.\n"
    "mach-serve, mach-convert and so on are the same binary under hyphenated names.\n"
    "Environment: MACH_ISA forces a kernel variant (scalar, avx2, avx512-vnni, amx-int8,\n"
    "neon-dotprod); HF_HUB_CACHE and HF_HOME say where hub models are.";

// "mach-serve ARGS" becomes "mach serve ARGS".
std::vector<std::string> Arguments(int argc, char** argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  const std::string name = std::filesystem::path(argv[0]).filename().string();
  constexpr std::string_view kPrefix = "mach-";
  if (name.starts_with(kPrefix)) {
    arguments.insert(arguments.begin(), name.substr(kPrefix.size()));
  }
  return arguments;
}

const CLI::App* Chosen(const CLI::App& root) {
  const auto chosen = root.get_subcommands();
  return chosen.empty() ? &root : chosen.front();
}

// CLI11 keeps arguments it could not place; the nearest flag or command is what the user meant.
int ReportUnexpected(const CLI::App& root) {
  const CLI::App* app = Chosen(root);
  std::vector<std::string> known;
  for (const CLI::Option* option : app->get_options()) {
    for (const std::string& name : option->get_lnames()) {
      known.push_back("--" + name);
    }
  }
  for (const CLI::App* command : app->get_subcommands({})) {
    known.push_back(command->get_name());
  }
  const std::string unexpected = root.remaining(true).front();
  const std::string bare = unexpected.substr(0, unexpected.find('='));
  const bool is_command = app == &root && !unexpected.starts_with('-');
  std::fprintf(stderr, "%s: unknown %s %s", app->get_name().c_str(),
               is_command ? "command" : "argument", unexpected.c_str());
  const std::string nearest = NearestName(bare, known);
  if (!nearest.empty()) {
    std::fprintf(stderr, "; did you mean %s?", nearest.c_str());
  } else {
    std::fprintf(stderr, "; see `%s --help`",
                 (app == &root ? "mach" : "mach " + app->get_name()).c_str());
  }
  std::fprintf(stderr, "\n");
  return kExitUsage;
}

int Main(int argc, char** argv) {
  CLI::App root("Inference engine and OpenAI-compatible server for models larger than RAM.",
                "mach");
  root.footer(kFooter);
  root.set_version_flag("--version", std::string("mach ") + MACH_VERSION);
  root.require_subcommand(1);
  const std::vector<Command> commands = {
      AddServe(root), AddConvert(root), AddCheck(root), AddGenerate(root), AddBench(root),
      AddSynth(root), AddModels(root),  AddArchs(root), AddParse(root),    AddGrammar(root)};
  std::vector<std::string> arguments = Arguments(argc, argv);
  try {
    std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them last first
    root.parse(arguments);
  } catch (const CLI::CallForHelp& help) {
    return root.exit(help);
  } catch (const CLI::ExtrasError&) {
    return ReportUnexpected(root);
  } catch (const CLI::Success& done) {
    return root.exit(done);
  } catch (const CLI::ParseError& error) {
    // A mistyped command is also a missing one, which CLI11 reports first.
    if (Chosen(root) == &root && root.remaining_size(true) > 0) {
      return ReportUnexpected(root);
    }
    root.exit(error);
    return kExitUsage;
  }
  for (const Command& command : commands) {
    if (command.app->parsed()) {
      return command.run();
    }
  }
  return kExitUsage;
}

}  // namespace
}  // namespace mach::app

int main(int argc, char** argv) {
  try {
    return mach::app::Main(argc, argv);
  } catch (const mach::Error& error) {
    std::fprintf(stderr, "mach: %s\n", error.Describe().c_str());
    switch (error.code()) {
      case mach::ErrorCode::kInvalidArgument:
        return mach::app::kExitUsage;
      case mach::ErrorCode::kCancelled:
        return mach::app::kExitInterrupted;
      default:
        return mach::app::kExitFailed;
    }
  } catch (const std::filesystem::filesystem_error& error) {
    std::fprintf(stderr, "mach: %s\n", mach::FileSystemReason(error).c_str());
    return mach::app::kExitFailed;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mach: %s\n", error.what());
    return mach::app::kExitFailed;
  }
}
