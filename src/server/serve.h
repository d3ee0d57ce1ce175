// `mach serve` from flags to exit code: listens, loads the model, prints the start-up signals,
// serves until a signal, shuts down in order. Call once, from main's thread, before other threads
// start.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "http/server.h"
#include "loading/served_model.h"
#include "server/app.h"

namespace mach::server {

struct ServeOptions {
  std::filesystem::path checkpoint;  // what clients may call the model, beside its id
  // Loads the model, or a test's; called once, on a thread of its own.
  std::function<std::unique_ptr<loading::ServedModel>(loading::LoadProgress*)> loader;
  // The socket side: host, port, limits, timeouts. Its callbacks are filled in by Serve.
  http::ServerOptions http;
  // api_key, cors_origins, request limits, what the process says about itself.
  AppOptions app;
  // For running requests after the first SIGTERM or SIGINT. One that comes at least a second later
  // ends them, as the end of this time does: their clients are told so, and some five seconds later
  // the process ends in any case, with exit code 1 if something would not end by itself.
  double grace_s = 30;
};

// 0 after a shutdown by signal; 1 with one line on stderr if the port cannot be opened or the model
// cannot be loaded. Start-up signals go to stdout.
int Serve(ServeOptions options);

}  // namespace mach::server
