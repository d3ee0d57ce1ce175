// Free text in which what opens a call begins a grammar, again and again. For use inside grammar/
// only.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "grammar/grammar.h"

namespace mach::grammar {

// What opens a call. The grammar describes what follows, to the call's end.
struct CallOpeners {
  std::vector<int32_t> tokens;     // each by itself
  std::vector<std::string> texts;  // spelled by any tokens, special ones as their text
  // Texts count between one of the former tokens, or the beginning, and one of the latter; if there
  // are none, everywhere.
  std::vector<int32_t> within;
  std::vector<int32_t> without;
};

// `call` must end with something that nothing can follow. The tokenizer outlives the constraints.
std::shared_ptr<const Grammar> WatchForCalls(std::shared_ptr<const text::Tokenizer> tokenizer,
                                             CallOpeners openers,
                                             std::shared_ptr<const Grammar> call);

}  // namespace mach::grammar
