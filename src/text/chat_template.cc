#include "text/chat_template.h"

#include <utility>

#include <nlohmann/json.hpp>

#include "text/jinja/interpreter.h"
#include "text/jinja/parser.h"

namespace mach::text {

namespace {

class JinjaChatTemplate final : public ChatTemplate {
 public:
  explicit JinjaChatTemplate(std::unique_ptr<jinja::Template> parsed)
      : parsed_(std::move(parsed)) {}

  std::string_view source_name() const override { return parsed_->name; }

  std::string Render(const nlohmann::ordered_json& variables, int64_t now_unix_s) const override {
    return jinja::Interpreter(*parsed_, now_unix_s).Render(variables);
  }

 private:
  std::unique_ptr<const jinja::Template> parsed_;
};

}  // namespace

std::unique_ptr<ChatTemplate> ChatTemplate::Parse(std::string_view source,
                                                  std::string_view source_name) {
  return std::make_unique<JinjaChatTemplate>(jinja::ParseTemplate(source, source_name));
}

}  // namespace mach::text
