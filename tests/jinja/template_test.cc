// The language, spot by spot. tests/parity compares far more of it with jinja2 itself; what is
// expected here was printed by jinja2 3.1.6 as transformers sets it up.
#include <cstdlib>
#include <ctime>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "jinja/chat_template.h"

namespace mach::jinja {
namespace {

using Json = nlohmann::ordered_json;

std::string Render(const std::string& source, const Json& variables = Json::object(),
                   int64_t now_unix_s = 0) {
  return ChatTemplate::Parse(source, "test")->Render(variables, now_unix_s);
}

// Code and words of the error that `source` ends in.
std::pair<ErrorCode, std::string> RenderError(const std::string& source,
                                              const Json& variables = Json::object()) {
  try {
    const std::string text = Render(source, variables);
    ADD_FAILURE() << "no error, but: " << text;
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  return {ErrorCode::kInternal, ""};
}

Json Conversation() {
  return Json::parse(R"({
    "messages": [
      {"role": "system", "content": "Be kind."},
      {"role": "user", "content": "Grüße"},
      {"role": "assistant", "content": null,
       "tool_calls": [{"type": "function",
                       "function": {"name": "f", "arguments": {"b": 1, "a": [1.5, true, null]}}}]},
      {"role": "tool", "content": "ok"}
    ],
    "add_generation_prompt": true, "bos_token": "<s>"
  })");
}

TEST(ChatTemplate, RendersAConversation) {
  const std::string source =
      "{{- bos_token }}\n"
      "{%- for message in messages %}\n"
      "    {%- if message.content is string %}\n"
      "        {{- '<|' + message['role'] + '|>' + message.content }}\n"
      "    {%- endif %}\n"
      "    {%- for call in message.tool_calls or [] %}\n"
      "        {{- '<call>' + call.function.arguments | tojson + '</call>' }}\n"
      "    {%- endfor %}\n"
      "{%- endfor %}\n"
      "{%- if add_generation_prompt %}\n"
      "    {{- '<|assistant|>' }}\n"
      "{%- endif %}\n";
  EXPECT_EQ(Render(source, Conversation()),
            "<s><|system|>Be kind.<|user|>Grüße<call>{\"b\": 1, \"a\": [1.5, true, null]}</call>"
            "<|tool|>ok<|assistant|>");
}

TEST(ChatTemplate, PresetsWhatTransformersPasses) {
  EXPECT_EQ(Render("{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}"),
            "TrueTrueFalse");
  EXPECT_EQ(Render("{{ messages is defined }}"), "False");
}

TEST(ChatTemplate, ReasoningIsSeenUnderBothNames) {
  for (const char* name : {"reasoning_content", "thinking", "reasoning"}) {
    Json variables;
    variables["messages"] = Json::array({{{"role", "assistant"}, {name, "why"}}});
    EXPECT_EQ(Render("{{ messages[0].reasoning_content }} {{ messages[0].thinking }}", variables),
              "why why")
        << name;
  }
}

TEST(ChatTemplate, RaiseExceptionKeepsItsWords) {
  const auto [code, words] = RenderError("{{ raise_exception('Only ' ~ 2 ~ ' roles!') }}");
  EXPECT_EQ(code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(words, "Only 2 roles!");
}

TEST(ChatTemplate, OtherErrorsNameTemplateAndLine) {
  const auto [code, words] = RenderError("\n\n{{ missing.attribute }}");
  EXPECT_EQ(code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(words, "chat template, line 3: 'missing' is undefined");
  EXPECT_EQ(RenderError("{{ {}.a.b }}").second,
            "chat template, line 1: 'dict object' has no attribute 'a'");
}

TEST(ChatTemplate, SyntaxErrorsNameTheLine) {
  for (const char* source :
       {"\n{% if %}{% endif %}", "\n{{ 1 + }}", "\n{% nope %}", "\n{{ 'open }}", "\n{# open",
        "\n{% for i in x %}", "\n{{ (1 }}", "\n{{ x | nosuchfilter }}", "\n{{ 1 is nosuchtest }}",
        "\n{% break %}", "\n{% set 1 = 2 %}", "\n{% raw %}", "\n{{ 9223372036854775808 }}"}) {
    try {
      ChatTemplate::Parse(source, "syntax");
      ADD_FAILURE() << "parsed: " << source;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCorruptFile) << source;
      EXPECT_NE(std::string(error.what()).find("syntax, line 2"), std::string::npos)
          << error.what();
    }
  }
}

TEST(ChatTemplate, RejectsInvalidUtf8InSource) {
  EXPECT_EQ(RenderError("a\xFF").first, ErrorCode::kCorruptFile);
}

TEST(ChatTemplate, ReplacesInvalidUtf8InVariables) {
  EXPECT_EQ(Render("{{ x | length }}{{ x }}", {{"x", "a\xC3"}}), "2a\xEF\xBF\xBD");
}

TEST(ChatTemplate, Whitespace) {
  EXPECT_EQ(Render("  {% if true %}\n  yes\n  {% endif %}\n  end\n"), "  yes\n  end");
  EXPECT_EQ(Render("a\n  {%- if true -%}\n  yes\n  {%- endif -%}\n  end\n\n"), "ayesend\n");
  EXPECT_EQ(Render("a\n  {%+ if true %}x{% endif +%}\nb"), "a\n  x\nb");
  EXPECT_EQ(Render("  {# gone #}\n  {{ 1 }}\n{{- 2 -}}\n 3"), "  123");
}

TEST(ChatTemplate, Scopes) {
  EXPECT_EQ(Render("{% set x = 0 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}"
                   "{{ x }}"),
            "120");
  EXPECT_EQ(Render("{% set ns = namespace(x=0) %}{% for i in [1, 2] %}"
                   "{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}"),
            "3");
  // A name that the template assigns later hides the variable of the same name from loops before.
  EXPECT_EQ(Render("{% for i in [1] %}{{ x }}{% endfor %}{% set x = 1 %}{{ x }}", {{"x", 7}}), "1");
  EXPECT_EQ(Render("{% if false %}{% set x = 1 %}{% endif %}{{ x }}", {{"x", 7}}), "7");
}

TEST(ChatTemplate, Loops) {
  EXPECT_EQ(Render("{% for k, v in d.items() %}{{ loop.index }}{{ k }}{{ v }}"
                   "{{ ',' if not loop.last }}{% endfor %}",
                   {{"d", {{"a", 1}, {"b", 2}}}}),
            "1a1,2b2");
  EXPECT_EQ(Render("{% for i in range(9) if i % 2 %}{% if i > 5 %}{% break %}{% endif %}{{ i }}"
                   "{% else %}none{% endfor %}"),
            "135");
  EXPECT_EQ(Render("{% for i in [] %}x{% else %}none{% endfor %}"), "none");
}

TEST(ChatTemplate, MacrosAndCallBlocks) {
  EXPECT_EQ(Render("{% macro f(a, b=2) %}{{ a }}{{ b }}{{ kwargs }}{{ varargs }}{% endmacro %}"
                   "{{ f(1) }}|{{ f(1, 3, 4, x=5) }}"),
            "12{}()|13{'x': 5}(4,)");
  EXPECT_EQ(Render("{% macro f() %}<{{ caller(1) }}>{% endmacro %}"
                   "{% call(x) f() %}{{ x }}!{% endcall %}"),
            "<1!>");
}

TEST(ChatTemplate, PythonText) {
  EXPECT_EQ(Render("{{ [1.0, 1e16, 0.1, true, none, \"it's\", (1,)] }}"),
            "[1.0, 1e+16, 0.1, True, None, \"it's\", (1,)]");
  EXPECT_EQ(Render("{{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 3 ** 2 }}"), "-4 2 3.5 64");
  EXPECT_EQ(Render("{{ 'Grüße 😀'[::-1] }} {{ 'ß'.upper() }} {{ '😀é' | length }}"), "😀 eßürG SS 2");
}

TEST(ChatTemplate, GeneratorsAreWalkedOnce) {
  EXPECT_EQ(Render("{% set g = [1, 0, 2] | select %}{{ g | list }}{{ g | list }}"), "[1, 2][]");
  EXPECT_EQ(RenderError("{{ [1] | select | length }}").first, ErrorCode::kInvalidArgument);
}

TEST(ChatTemplate, SandboxRefusesChanges) {
  for (const char* source : {"{{ [].append(1) }}", "{{ {}.update({}) }}", "{{ {}.pop('a') }}",
                             "{{ ''.__class__.__mro__ }}", "{% set x = {} %}{% set x.a = 1 %}"}) {
    EXPECT_EQ(RenderError(source).first, ErrorCode::kInvalidArgument) << source;
  }
}

TEST(ChatTemplate, IncludesAreRefusedWhereReached) {
  EXPECT_EQ(RenderError("{% include 'x' %}").first, ErrorCode::kInvalidArgument);
  EXPECT_EQ(Render("{% if false %}{% include 'x' %}{% endif %}ok"), "ok");
}

TEST(ChatTemplate, StrftimeNowIsLocalTime) {
  setenv("TZ", "UTC-2", 1);
  tzset();
  EXPECT_EQ(Render("{{ strftime_now('%d %b %Y %H:%M %Z%%') }}", Json::object(), 1764000000),
            "24 Nov 2025 18:00 %");
  unsetenv("TZ");
  tzset();
}

TEST(ChatTemplate, LargeUnsignedNumbersSurvive) {
  EXPECT_EQ(Render("{{ x | tojson }}", {{"x", Json::parse("[18446744073709551615, 1.0]")}}),
            "[18446744073709551615, 1.0]");
  const std::string digits = "-123456789012345678901234567890";
  const Json big = Json::binary({digits.begin(), digits.end()});
  EXPECT_EQ(Render("{{ x | tojson }} {{ x }}", {{"x", big}}), digits + " " + digits);
}

TEST(ChatTemplate, ThreadsShareATemplate) {
  const auto shared = ChatTemplate::Parse(
      "{% set c = 'const' %}{% for m in messages %}{{ c ~ m.role ~ loop.index }}{% endfor %}",
      "shared");
  const Json variables = Conversation();
  const std::string expected = shared->Render(variables, 0);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        wrong[t] += shared->Render(variables, 0) == expected ? 0 : 1;
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
  EXPECT_EQ(expected, "constsystem1constuser2constassistant3consttool4");
}

}  // namespace
}  // namespace mach::jinja
