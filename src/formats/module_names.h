// Names of the modules of a language model. Exports put them below different prefixes, and a
// configuration may name a module below another one than its tensors have. Stateless; any thread.
#pragma once

#include <array>
#include <string_view>

namespace mach::formats {

// From nested to flat, so that "model.language_model." is not taken for "model.".
inline constexpr std::array<std::string_view, 3> kModelPrefixes = {
    "model.language_model.", "language_model.model.", "model."};

// What a module is called in every export: "layers.0.mlp.gate" of
// "language_model.model.layers.0.mlp.gate", "lm_head" of "language_model.lm_head". A view into
// `module`; names of other things come back with a prefix less or as they are.
constexpr std::string_view BelowPrefix(std::string_view module) {
  for (const std::string_view prefix : kModelPrefixes) {
    if (module.starts_with(prefix)) {
      return module.substr(prefix.size());
    }
  }
  constexpr std::string_view kOuter = "language_model.";
  return module.starts_with(kOuter) ? module.substr(kOuter.size()) : module;
}

}  // namespace mach::formats
