// A RandomAccessFile that lives in memory, for tests and fuzzers of what parses one.
#pragma once

#include <memory>
#include <string>

#include "platform/file.h"

namespace mach::testing_support {

std::unique_ptr<RandomAccessFile> OpenMemoryFile(std::string name, std::string contents);

}  // namespace mach::testing_support
