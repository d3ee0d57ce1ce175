// From the source of a template to its tree (ast.h): statements here, expressions in
// expression_parser.h, tokens from lexer.h. Stateless; any thread.
#pragma once

#include <memory>
#include <string_view>

#include "jinja/ast.h"

namespace mach::jinja {

// Throws mach::Error: kCorruptFile with the line on malformed source, kResourceLimit where it is
// nested too deeply.
std::unique_ptr<Template> ParseTemplate(std::string_view source, std::string_view source_name);

}  // namespace mach::jinja
