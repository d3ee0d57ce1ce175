#include "jinja/chat_template.h"

#include <utility>

#include <nlohmann/json.hpp>

#include "jinja/interpreter.h"
#include "jinja/parser.h"

namespace mach::jinja {

namespace {

class JinjaChatTemplate final : public ChatTemplate {
 public:
  explicit JinjaChatTemplate(std::unique_ptr<Template> parsed) : parsed_(std::move(parsed)) {}

  std::string_view source_name() const override { return parsed_->name; }

  std::string Render(const nlohmann::ordered_json& variables, int64_t now_unix_s) const override {
    return Interpreter(*parsed_, now_unix_s).Render(variables);
  }

 private:
  std::unique_ptr<const Template> parsed_;
};

}  // namespace

std::unique_ptr<ChatTemplate> ChatTemplate::Parse(std::string_view source,
                                                  std::string_view source_name) {
  return std::make_unique<JinjaChatTemplate>(ParseTemplate(source, source_name));
}

}  // namespace mach::jinja
