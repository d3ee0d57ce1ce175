// Grammars of tool calls, in the format that a model was trained on.
#pragma once

#include <memory>
#include <span>
#include <string>

#include <nlohmann/json.hpp>

#include "chat/output_parser.h"
#include "grammar/grammar.h"

namespace mach::grammar {

using chat::CallFormat;  // kNone has no grammar

struct Tool {
  std::string name;
  nlohmann::ordered_json parameters;  // a JSON Schema; null: no parameters
};

enum class CallCount { kOne, kOneOrMore };

// Keywords of `parameters` that cannot be enforced are left out, and a schema that is none is that
// of any object: tools are never refused.

// Calls of these tools and nothing else (tool_choice "required", or a named one): of harmony with
// the reasoning before them, of all others behind it. Harmony ends with the first call in any case.
std::shared_ptr<const Grammar> CompileCalls(Compiler& compiler, CallFormat format,
                                            std::span<const Tool> tools, CallCount count);

// Any text, in which a call, once it opens, is one of these tools with arguments by its schema
// (tool_choice "auto"). Costs nothing while no call is open.
std::shared_ptr<const Grammar> CompileFreeText(Compiler& compiler, CallFormat format,
                                               std::span<const Tool> tools);

}  // namespace mach::grammar
