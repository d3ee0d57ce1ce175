// The lines on stdout that say how a model is served, once it is: scripts and desktop applications
// read them, so their keys and order stay. Every key is explained in docs/reports.md.
#pragma once

#include <string>
#include <vector>

#include "server/reports.h"

namespace mach::server {

// The four lines in their order, without newlines; the line "serving on …" follows them.
std::vector<std::string> StartupLines(const loading::ModelInfo& info);

std::string ServingLine(const std::string& host, int port);

}  // namespace mach::server
