// Templates that run away, and bytes that are no templates.
#include <random>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "jinja/chat_template.h"

namespace mach::jinja {
namespace {

using Json = nlohmann::ordered_json;

ErrorCode CodeOf(const std::string& source, const Json& variables = Json::object()) {
  try {
    ChatTemplate::Parse(source, "limits")->Render(variables, 0);
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "no error: " << source.substr(0, 200);
  return ErrorCode::kInternal;
}

std::string Repeat(const std::string& text, int times) {
  std::string result;
  for (int i = 0; i < times; ++i) {
    result += text;
  }
  return result;
}

TEST(TemplateLimits, Steps) {
  EXPECT_EQ(
      CodeOf("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
      ErrorCode::kResourceLimit);
}

TEST(TemplateLimits, Output) {
  EXPECT_EQ(CodeOf("{% for a in range(99999) %}{{ 'x' * 100000 }}{% endfor %}"),
            ErrorCode::kResourceLimit);
}

TEST(TemplateLimits, Text) {
  EXPECT_EQ(CodeOf("{{ 'x' * 999999999999 }}"), ErrorCode::kResourceLimit);
  EXPECT_EQ(CodeOf("{% set ns = namespace(x='xxxxxxxx') %}{% for i in range(99) %}"
                   "{% set ns.x = ns.x ~ ns.x %}{% endfor %}"),
            ErrorCode::kResourceLimit);
  EXPECT_EQ(CodeOf("{{ ('x' * 9999).replace('x', 'y' * 99999) }}"), ErrorCode::kResourceLimit);
  EXPECT_EQ(CodeOf("{{ 'x' | indent(999999999999) }}"), ErrorCode::kResourceLimit);
  EXPECT_EQ(CodeOf("{{ [1] * 999999999 }}"), ErrorCode::kResourceLimit);
}

TEST(TemplateLimits, Recursion) {
  EXPECT_EQ(CodeOf("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), ErrorCode::kResourceLimit);
  EXPECT_EQ(CodeOf("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}"),
            ErrorCode::kResourceLimit);
}

TEST(TemplateLimits, RecursionThroughNestedStatements) {
  for (const auto& [open, close] : {std::pair{"{% if 1 %}", "{% endif %}"},
                                    {"{% for i in [1] %}", "{% endfor %}"},
                                    {"{% filter upper %}", "{% endfilter %}"},
                                    {"{% with %}", "{% endwith %}"},
                                    {"{% set x %}", "{% endset %}"}}) {
    const std::string source = "{% macro f() %}" + Repeat(open, 140) + "{{ 1 + (f() | upper) }}" +
                               Repeat(close, 140) + "{% endmacro %}{{ f() }}";
    EXPECT_EQ(CodeOf(source), ErrorCode::kResourceLimit) << open;
  }
  EXPECT_EQ(CodeOf("{% macro f() %}{% for x in [1] if " + Repeat("(", 100) + "f()" +
                   Repeat(")", 100) + " %}{% endfor %}{% endmacro %}{{ f() }}"),
            ErrorCode::kResourceLimit);
  EXPECT_EQ(CodeOf("{% macro f() %}{{ ['x'] | map('upper') | map('d', f()) | list }}{% endmacro %}"
                   "{{ f() }}"),
            ErrorCode::kResourceLimit);
}

TEST(TemplateLimits, NestedValues) {
  EXPECT_EQ(CodeOf("{% set ns = namespace(x=1) %}{% for i in range(9999) %}"
                   "{% set ns.x = [ns.x] %}{% endfor %}"),
            ErrorCode::kResourceLimit);
  EXPECT_EQ(CodeOf("{% set ns = namespace(x=[]) %}{% for i in range(9999) %}"
                   "{% set ns.x = ns.x | select %}{% endfor %}{{ ns.x | list }}"),
            ErrorCode::kResourceLimit);
  Json nested = 1;
  for (int i = 0; i < 1000; ++i) {
    nested = Json::array({std::move(nested)});
  }
  EXPECT_EQ(CodeOf("{{ x }}", {{"x", nested}}), ErrorCode::kResourceLimit);
}

TEST(TemplateLimits, NestedSource) {
  for (const auto& [open, close] : {std::pair{"(", ")"},
                                    {"[", "]"},
                                    {"{1:", "}"},
                                    {"not ", ""},
                                    {"-", ""},
                                    {"x(", ")"},
                                    {"x[", "]"},
                                    {"1 if 1 else ", ""},
                                    {"1|d(", ")"}}) {
    const std::string source = "{{ " + Repeat(open, 5000) + "1" + Repeat(close, 5000) + " }}";
    EXPECT_EQ(CodeOf(source), ErrorCode::kResourceLimit) << open;
  }
  for (const char* chain : {" + 1", " ~ 1 + 1", ".a", "|d", "[0]", "()", " and 1", " if 1"}) {
    EXPECT_EQ(CodeOf("{{ 1" + Repeat(chain, 5000) + " }}"), ErrorCode::kResourceLimit) << chain;
  }
  EXPECT_EQ(CodeOf(Repeat("{% if 1 %}", 5000)), ErrorCode::kResourceLimit);
  EXPECT_EQ(CodeOf(Repeat("{% for i in [1] %}", 5000)), ErrorCode::kResourceLimit);
}

TEST(TemplateLimits, ValuesThatHoldThemselvesAreFreed) {
  // Checked by the leak detector of the asan build.
  const std::string source =
      "{% set ns = namespace() %}{% set ns.self = ns %}{% set ns.list = [ns] %}"
      "{% macro f() %}{{ ns }}{% endmacro %}{% set ns.f = f %}"
      "{% for i in [1, 2] %}{{ loop.changed(loop) }}{% set ns.loop = loop %}{% endfor %}ok";
  EXPECT_EQ(ChatTemplate::Parse(source, "cycle")->Render(Json::object(), 0), "TrueFalseok");
}

// Mutations of valid templates and token soup: any error is fine, a crash is not.
TEST(TemplateLimits, RandomTemplates) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const std::vector<std::string> pieces = {
      "{% ",        " %}",      "{{ ",       " }}",    "{# ",    " #}",  "-",    "if ",
      "else",       "endif",    "for ",      "in ",    "endfor", "set ", "x",    "messages",
      "loop",       ".",        "[",         "]",      "(",      ")",    "|",    "tojson",
      "map",        "'role'",   "\"a",       "macro ", "f(",     "is ",  "not ", "~",
      "=",          ",",        "{",         "}",      "1",      "-1",   "0.5",  "**",
      "//",         "%",        "namespace", "raw",    "endraw", "\n",   "é",    "\xFF",
      "recursive ", "range(9)", "endmacro",  "caller", "::",     "*"};
  const Json variables = {{"messages", Json::array({{{"role", "user"}, {"content", "hi"}}})},
                          {"x", 3}};
  int parsed = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string source = "{{ ";
    const int count = static_cast<int>(random() % 12);
    for (int k = 0; k < count; ++k) {
      source += pieces[random() % pieces.size()];
      source += random() % 3 == 0 ? " " : "";
    }
    source += random() % 2 == 0 ? " }}" : " %}";
    try {
      const auto chat_template = ChatTemplate::Parse(source, "random");
      ++parsed;
      chat_template->Render(variables, 0);
    } catch (const Error& error) {
      ASSERT_NE(error.code(), ErrorCode::kInternal) << source;
    }
  }
  EXPECT_GT(parsed, 20);
}

}  // namespace
}  // namespace mach::jinja
