// The post_processor of a tokenizer.json, reduced to what it does to the ids of one sequence.
// Immutable: any thread may call it.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace mach::text {

class PostProcessor {
 public:
  // Throws kUnsupported naming a type that is not implemented, kCorruptFile for broken fields.
  static PostProcessor FromJson(const nlohmann::json& json, std::string_view source);

  // Rewrites *ids; without `add_special_tokens` only the sequences of the template remain.
  void Apply(bool add_special_tokens, std::vector<int32_t>* ids) const;

 private:
  // A piece of a template: special ids, or, if there are none, the sequence itself.
  struct Part {
    bool is_sequence;
    std::vector<int32_t> ids;
  };
  struct Template {
    std::vector<Part> parts;
  };

  void Add(const nlohmann::json& json, std::string_view source);

  std::vector<Template> templates_;  // applied one after the other
};

}  // namespace mach::text
