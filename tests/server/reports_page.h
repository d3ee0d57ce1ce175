// What docs/reports.md documents, for tests that compare it with what is reported.
#pragma once

#include <filesystem>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include <gtest/gtest.h>

#include "platform/file.h"

namespace mach::testing {

using Names = std::set<std::string>;

// What stands in backticks in the first cells of the tables below the heading.
inline Names Documented(const std::string& heading) {
  std::istringstream page(
      ReadWholeFile(std::filesystem::path(MACH_SOURCE_DIR) / "docs/reports.md"));
  const std::regex name("`([^`]+)`");
  Names names;
  bool inside = false;
  for (std::string line; std::getline(page, line);) {
    if (line.rfind("## ", 0) == 0) {
      inside = line == "## " + heading;
    }
    if (!inside || line.rfind("| `", 0) != 0) {
      continue;
    }
    const std::string cell = line.substr(0, line.find('|', 1));
    for (std::sregex_iterator it(cell.begin(), cell.end(), name), end; it != end; ++it) {
      EXPECT_TRUE(names.insert((*it)[1]).second) << (*it)[1] << " stands there twice";
    }
  }
  EXPECT_FALSE(names.empty()) << "no section " << heading;
  return names;
}

// The first groups of all matches.
inline Names Matches(const std::string& text, const char* pattern) {
  const std::regex regex(pattern);
  Names names;
  for (std::sregex_iterator it(text.begin(), text.end(), regex), end; it != end; ++it) {
    names.insert((*it)[1]);
  }
  return names;
}

}  // namespace mach::testing
