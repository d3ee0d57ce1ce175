// A schema within the text of a grammar. For use inside grammar/ only.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "grammar/grammar.h"

namespace mach::grammar {

// What stands behind %json: a schema of Admit with the settings that we use. White space between
// its parts is bounded.
std::string SchemaText(nlohmann::ordered_json admitted, Keywords keywords);

// Of a larger whole number the digits may not be those that were meant.
inline constexpr double kMaxExact = 9007199254740991.0;

// Why a value cannot be asked for, empty if it can.
std::string Unwritable(const nlohmann::ordered_json& value);

}  // namespace mach::grammar
