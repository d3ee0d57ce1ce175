// The normalizer of a tokenizer.json: text to text, before added tokens of the normalised kind are
// looked for. Immutable: any thread may call it.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace mach::text {

class Normalizer {
 public:
  // Null for a null field. Throws kUnsupported naming a type that is not implemented, kCorruptFile
  // for a field that is missing or of the wrong kind.
  static std::unique_ptr<Normalizer> FromJson(const nlohmann::json& json, std::string_view source);

  Normalizer() = default;
  Normalizer(const Normalizer&) = delete;
  Normalizer& operator=(const Normalizer&) = delete;
  virtual ~Normalizer() = default;

  // Rewrites *text (valid UTF-8) in place.
  virtual void Apply(std::string* text) const = 0;
  // May text be changed at its front by taking characters away? Metaspace asks.
  virtual bool RemovesLeading() const { return false; }
};

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

// Unicode normalisation as `tokenizers` has it, whose tables are of Unicode 9: younger characters
// stay as they are.
void NormalizeUnicode(NormalForm form, std::string* text);

}  // namespace mach::text
