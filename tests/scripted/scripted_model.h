// A model that says what a script tells it to: real token ids in, real logits out. All that stands
// around a model runs as it does in production: engine, sampler, constraints, detokeniser, output
// parsers.
//
// The scripted token is far likelier than all others, at any temperature up to 2. Where it is
// masked the model stays as near to its script as it may: next likely are tokens that begin what
// remains of it, then tokens from further on in it, then the end. What does not belong to the
// script leaves its place in it as it is; so where a grammar is to skip something, what it goes on
// with begins with a token of its own (as behind a newline). Where something keeps the model from
// ending it starts again.
#pragma once

#include <cstdint>
#include <memory>

#include "backend/backend.h"
#include "models/model.h"
#include "tests/scripted/script.h"
#include "text/tokenizer.h"

namespace mach::testing {

struct ScriptedModelOptions {
  int64_t max_context = 0;
  int32_t end_token = 0;
  // Messages begin with it. The reply answers the prompt behind the last one.
  int32_t message_token = 0;
};

// The tokenizer and the script outlive the model.
std::unique_ptr<models::Model> MakeScriptedModel(Script& script, const text::Tokenizer& tokenizer,
                                                 std::shared_ptr<backend::Backend> backend,
                                                 const ScriptedModelOptions& options);

}  // namespace mach::testing
