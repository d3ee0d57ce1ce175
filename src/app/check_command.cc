// mach check: whether and how a checkpoint can be served on this machine, from its headers.
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "app/command.h"
#include "app/common_flags.h"
#include "app/progress_bar.h"
#include "base/gigabytes.h"
#include "formats/hub.h"
#include "loading/preflight.h"
#include "server/reports.h"

namespace mach::app {
namespace {

using Json = nlohmann::ordered_json;

struct CheckOptions {
  std::string checkpoint;
  loading::ModelOptions load;
  bool verify = false;
  bool json = false;
};

double Gb(uint64_t bytes) {
  return static_cast<double>(bytes) / 1e9;
}

Json PlanJson(const loading::MemoryPlan& plan) {
  Json bytes = Json::object();
  for (const auto& [owner, value] : plan.bytes) {
    bytes[owner] = value;
  }
  bytes["total"] = plan.total_bytes;
  return bytes;
}

Json PathJson(const loading::PathReport& path) {
  const loading::DecodePath decode = loading::DecodePathOf(path.path);
  Json out = {{"path", loading::ServingPathName(path.path)},
              {"runnable", path.runnable},
              {"reason", path.reason.empty() ? Json() : Json(path.reason)},
              {"missing", path.missing},
              {"decode_path", decode.configured},
              {"effective_decode_path", decode.effective},
              {"effective_decode_path_reason", decode.reason},
              {"verdict", path.runnable ? Json(loading::VerdictName(path.verdict)) : Json()}};
  if (path.runnable) {
    out["least_bytes"] = path.plan.least_bytes;
    out["predicted_bytes"] = PlanJson(path.plan);
    out["context_tokens"] = path.plan.context;
    out["max_context_tokens"] = path.plan.max_context();
    out["prefill_chunk_tokens"] = path.plan.prefill_chunk();
    out["expert_cache_bytes"] = path.plan.bank_bytes();
    out["advice"] = path.advice.empty()
                        ? Json()
                        : Json{{"command", path.advice},
                               {"verdict", loading::VerdictName(path.advised_verdict)},
                               {"total_bytes", path.advised.total_bytes}};
  }
  return out;
}

// With --expert-cache-gb the verdict is that of the streaming path, otherwise the best of all
// runnable paths.
std::optional<loading::Verdict> Judged(const CheckOptions& options,
                                       const loading::Preflight& report) {
  if (options.load.streaming.bank_bytes == 0) {
    return report.Best();
  }
  const loading::PathReport& streaming = report.Of(loading::ServingPath::kStreaming);
  return streaming.runnable ? std::optional(streaming.verdict) : std::nullopt;
}

void PrintJson(const CheckOptions& options, const loading::Preflight& report) {
  Json paths = Json::array();
  for (const loading::PathReport& path : report.paths) {
    paths.push_back(PathJson(path));
  }
  const auto verdict = Judged(options, report);
  const Json out = {{"checkpoint", options.load.checkpoint.string()},
                    {"error", report.error ? Json(report.error->Describe()) : Json()},
                    {"model_type", report.model_type},
                    {"arch", server::ArchJson(report.arch)},
                    {"weights", report.quantisation},
                    {"layers", report.layers},
                    {"experts", report.experts},
                    {"file_bytes", report.file_bytes},
                    {"left_out_tensors", report.left_out},
                    {"machine", Json{{"total_bytes", report.machine.total_bytes},
                                     {"available_bytes", report.machine.available_bytes}}},
                    {"memory_ceiling_bytes", options.load.ceiling_bytes},
                    {"verdict", verdict ? Json(loading::VerdictName(*verdict)) : Json()},
                    {"paths", std::move(paths)}};
  std::printf("%s\n", out.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
}

void PrintPath(const loading::PathReport& path) {
  const std::string name = loading::ServingPathName(path.path);
  if (!path.runnable) {
    std::printf("\n%-10s not runnable: %s\n", name.c_str(), path.reason.c_str());
    for (const std::string& file : path.missing) {
      std::printf("  missing: %s\n", file.c_str());
    }
    return;
  }
  const loading::MemoryPlan& plan = path.plan;
  const loading::DecodePath decode = loading::DecodePathOf(path.path);
  std::printf("\n%-10s %s: %.2f of %.2f GB; decode %s (%s)\n", name.c_str(),
              loading::VerdictName(path.verdict).c_str(), Gb(plan.total_bytes),
              Gb(plan.limit_bytes), decode.effective.c_str(), decode.reason.c_str());
  for (const auto& [owner, bytes] : plan.bytes) {
    std::printf("  %-14s %8.3f GB", owner.c_str(), Gb(bytes));
    if (owner == "kv") {
      std::printf("  for %lld tokens", static_cast<long long>(plan.context));
      if (plan.max_context() > plan.context) {
        std::printf("; requests may have up to %lld", static_cast<long long>(plan.max_context()));
      }
    } else if (owner == "activations") {
      std::printf("  for chunks of %lld tokens", static_cast<long long>(plan.prefill_chunk()));
    }
    std::printf("\n");
  }
  if (path.advice.empty()) {
    std::printf("  no flags make it fit: it needs at least %s\n",
                GigabytesText(path.advised.least_bytes).c_str());
  } else {
    std::printf("  %s%s\n",
                path.advised_verdict == path.verdict
                    ? ""
                    : ("smaller, " + loading::VerdictName(path.advised_verdict) + ": ").c_str(),
                path.advice.c_str());
  }
}

void PrintText(const CheckOptions& options, const loading::Preflight& report) {
  if (report.error) {
    std::printf("%s cannot be served: %s\n", options.load.checkpoint.c_str(),
                report.error->Describe().c_str());
    for (const std::string& file : report.Of(loading::ServingPath::kStreaming).missing) {
      std::printf("  missing: %s\n", file.c_str());
    }
    return;
  }
  std::printf("%s  %s%s  %s  %d layers", options.load.checkpoint.c_str(), report.model_type.c_str(),
              report.arch ? "" : " (not registered)", report.quantisation.c_str(), report.layers);
  if (report.experts > 0) {
    std::printf("  %d experts", report.experts);
  }
  std::printf("  %.2f GB of files\n", Gb(report.file_bytes));
  std::printf("machine: %.2f GB, %.2f GB available", Gb(report.machine.total_bytes),
              Gb(report.machine.available_bytes));
  if (options.load.ceiling_bytes > 0) {
    std::printf("; ceiling %.2f GB", Gb(options.load.ceiling_bytes));
  }
  std::printf("\n");
  for (const auto& [reason, tensors] : report.left_out) {
    std::printf("left out: %lld tensors (%s)\n", static_cast<long long>(tensors), reason.c_str());
  }
  for (const loading::PathReport& path : report.paths) {
    PrintPath(path);
  }
}

// Reads and checks every byte that a checksum covers.
void Verify(const std::filesystem::path& dir) {
  const auto checkpoint = formats::Checkpoint::Open(dir);
  std::optional<std::vector<std::string>> edited;
  {
    ProgressBar bar("verifying");
    edited = checkpoint->Verify([&](uint64_t done, uint64_t total) { bar.Update(done, total); });
  }
  if (!edited) {
    std::fprintf(stderr, "not verified: without mach.json the files have no checksums\n");
    return;
  }
  std::fprintf(stderr, "verified\n");
  for (const std::string& name : *edited) {
    std::fprintf(stderr, "note: %s was edited after the conversion, as it may be\n",
                 (dir / name).c_str());
  }
}

int RunCheck(CheckOptions& options) {
  options.load.checkpoint = formats::ResolveModelPath(options.checkpoint);
  options.load.serves = true;
  if (options.verify) {
    Verify(options.load.checkpoint);
  }
  const loading::Preflight report = loading::RunPreflight(options.load, ReadMachineMemory());
  if (options.json) {
    PrintJson(options, report);
  } else {
    PrintText(options, report);
  }
  const auto verdict = Judged(options, report);
  if (!verdict) {
    return kExitFailed;
  }
  return *verdict == loading::Verdict::kWontFit ? kExitWontFit : kExitOk;
}

}  // namespace

Command AddCheck(CLI::App& root) {
  auto options = std::make_shared<CheckOptions>();
  CLI::App* app = root.add_subcommand(
      "check", "Say how a checkpoint can be served here and what memory it takes");
  app->footer(
      "Reads headers only. For each path (streaming, resident, openai): whether it can run, its\n"
      "memory by owner, a verdict, and the command that serves it on this machine. Exit: 0 fits\n"
      "or is tight, 3 will not fit, 1 cannot be served at all; with --expert-cache-gb that is\n"
      "said of streaming alone.");
  app->add_option("checkpoint", options->checkpoint, "Checkpoint directory or cached hub id")
      ->required();
  AddGigabytes(*app, "--expert-cache-gb", options->load.streaming.bank_bytes,
               "Bank of streamed experts in GB (1e9 bytes); 0 = what memory has room for");
  app->add_flag("--allow-buffered-io", options->load.streaming.read.allow_buffered,
                "Count streaming as possible where direct reads are refused");
  AddMemoryGb(*app, options->load.ceiling_bytes)
      ->description("Ceiling of the process in GB (1e9 bytes); 0 = what is available");
  AddMaxContext(*app, options->load.engine.max_context)
      ->description("Tokens of prompt and answer together; 0 = the model's own limit, up to 32768");
  app->add_option("--prefill-chunk", options->load.engine.prefill_chunk,
                  "Tokens of one forward of prefill; 0 = chosen")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 20))
      ->capture_default_str();
  AddThreads(*app, options->load.cpu.threads);
  app->add_flag("--verify", options->verify, "Read everything and compare checksums first");
  app->add_flag("--json", options->json, "Print JSON");
  return {app, [options] { return RunCheck(*options); }};
}

}  // namespace mach::app
