// Streams of events with names, taken apart: what tests of their encoders share.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace mach::testing {

using NamedEvents = std::vector<std::pair<std::string, nlohmann::ordered_json>>;

// Name and data of each event; that they agree is checked.
inline NamedEvents ReadNamedEvents(const std::string& text) {
  NamedEvents events;
  size_t at = 0;
  while (at < text.size()) {
    const size_t end = text.find("\n\n", at);
    const std::string event = text.substr(at, end - at);
    const size_t line = event.find('\n');
    EXPECT_EQ(event.substr(0, 7), "event: ") << event;
    EXPECT_EQ(event.substr(line + 1, 6), "data: ") << event;
    EXPECT_EQ(event.find('\n', line + 1), std::string::npos) << event;
    if (end == std::string::npos || line == std::string::npos) {
      ADD_FAILURE() << "cut off: " << event;
      return events;
    }
    events.emplace_back(event.substr(7, line - 7),
                        nlohmann::ordered_json::parse(event.substr(line + 7)));
    EXPECT_EQ(events.back().second["type"], events.back().first);
    at = end + 2;
  }
  return events;
}

// One line for each: the name and what is left of the data without `type` and `dropped`.
inline std::vector<std::string> Lines(const NamedEvents& events,
                                      const std::vector<std::string>& dropped = {}) {
  std::vector<std::string> lines;
  for (auto [name, data] : events) {
    data.erase("type");
    for (const std::string& key : dropped) {
      data.erase(key);
    }
    lines.push_back(name + " " + data.dump());
  }
  return lines;
}

}  // namespace mach::testing
