// mach grammar: what a JSON Schema allows, without a model.
#include <cstdio>
#include <exception>
#include <iostream>
#include <memory>
#include <string>

#include <nlohmann/json.hpp>

#include "api/errors.h"
#include "api/json_text.h"
#include "app/command.h"
#include "base/error.h"
#include "grammar/byte_tokenizer.h"
#include "grammar/grammar.h"
#include "grammar/walk.h"
#include "platform/file.h"

namespace mach::app {
namespace {

struct GrammarOptions {
  std::string schema_path;
  bool relax = false;
};

nlohmann::ordered_json ReadSchema(const std::string& path) {
  try {
    return api::ParseJson(ReadWholeFile(path));
  } catch (const api::RequestError& error) {
    throw Error(ErrorCode::kInvalidArgument, path + ": " + error.info().message);
  }
}

int RunGrammar(const GrammarOptions& options) {
  const auto tokenizer = std::make_shared<const grammar::ByteTokenizer>();
  grammar::Compiler compiler(tokenizer, {.end_tokens = {grammar::ByteTokenizer::kEnd}});
  const auto allowed = compiler.Compile(grammar::Spec::JsonSchema(
      ReadSchema(options.schema_path),
      options.relax ? grammar::Keywords::kRelax : grammar::Keywords::kRefuse));
  for (std::string line; std::getline(std::cin, line);) {
    const auto tokens = tokenizer->Encode(line, false);
    const auto constraint = allowed->NewConstraint();
    const grammar::Walk walk =
        grammar::WalkThrough(*constraint, tokens, grammar::ByteTokenizer::kEnd);
    if (walk.may_end) {
      std::printf("accepted\n");
    } else {
      std::printf("refused at byte %zu of %zu\n", walk.allowed, line.size());
    }
  }
  return kExitOk;
}

}  // namespace

Command AddGrammar(CLI::App& root) {
  auto options = std::make_shared<GrammarOptions>();
  CLI::App* app = root.add_subcommand(
      "grammar",
      "Check what a JSON Schema allows as response format: JSON texts on stdin, a line each");
  app->add_option("--schema", options->schema_path, "File with the schema")->required();
  app->add_flag("--relax", options->relax,
                "Leave out keywords that cannot be enforced, as for tools' parameters");
  app->footer(
      "Prints `accepted` or `refused at byte N of M` for each line. A schema with a keyword that\n"
      "cannot be enforced fails with its name. Members of objects come in the schema's order.");
  return {app, [options] { return RunGrammar(*options); }};
}

}  // namespace mach::app
