// The start-up signal lines (serving-contract.md section 2): what scripts and desktop apps read to
// learn how the process serves. Values come from the loaded model and the live configuration.
#pragma once

#include <string>
#include <vector>

#include "server/reports.h"

namespace mach::server {

// The four lines in their order, without newlines; the line "serving on …" follows them.
std::vector<std::string> StartupLines(const loading::ModelInfo& info, const ServingConfig& config);

std::string ServingLine(const std::string& host, int port);

}  // namespace mach::server
