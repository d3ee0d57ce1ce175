#include "grammar/tool_grammar.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/grammar/grammar_support.h"

namespace mach::grammar {
namespace {

using Json = nlohmann::ordered_json;

std::vector<Tool> TwoTools() {
  return {{"write", Json::parse(R"({"type":"object","properties":{
             "path":{"type":"string"},"text":{"type":"string"},"lines":{"type":"integer"},
             "mode":{"enum":["new","add"]},"spans":{"type":"array","items":{"$ref":"#/$defs/s"}}},
             "required":["path","lines"],"additionalProperties":false,
             "$defs":{"s":{"type":"object","properties":{"at":{"type":"integer"}},
                           "required":["at"],"additionalProperties":false}}})")},
          {"now", nullptr}};
}

class ToolGrammarTest : public testing::Test {
 protected:
  ToolGrammarTest() : ToolGrammarTest(true) {}
  // Whether markers are special tokens or spelled by others.
  explicit ToolGrammarTest(bool special)
      : tokenizer_(Pieces(
            {}, special ? std::vector<std::string>{"<tool_call>", "</tool_call>", "<|channel|>",
                                                   "<|message|>", "<|start|>", "<|end|>",
                                                   "<|call|>", "<|constrain|>", "｜DSML｜",
                                                   "<|tool_call>", "<tool_call|>", "<|\"|>"}
                        : std::vector<std::string>())),
        compiler_(tokenizer_, {.end_tokens = {tokenizer_->vocab_size() - 1}}) {}

  bool Allows(const Grammar& grammar, const std::string& text) {
    const auto constraint = grammar.NewConstraint();
    const auto tokens = tokenizer_->Encode(text, false);
    const Walk walk = WalkThrough(*constraint, tokens, tokenizer_->vocab_size() - 1);
    reached_ = tokenizer_->Decode({tokens.data(), walk.allowed}, false);
    return walk.may_end;
  }
  std::shared_ptr<const Grammar> Calls(CallFormat format, CallCount count = CallCount::kOneOrMore) {
    return CompileCalls(compiler_, format, TwoTools(), count);
  }
  std::shared_ptr<const Grammar> FreeText(CallFormat format) {
    return CompileFreeText(compiler_, format, TwoTools());
  }

  // A call that is right, which is also two calls, and others that are not.
  void Expect(CallFormat format, const std::string& right, const std::string& between,
              const std::vector<std::string>& wrong) {
    const auto many = Calls(format);
    const auto one = Calls(format, CallCount::kOne);
    const auto free = FreeText(format);
    EXPECT_TRUE(Allows(*many, right)) << "up to " << reached_;
    EXPECT_TRUE(Allows(*many, "\n\n" + right)) << "up to " << reached_;
    EXPECT_TRUE(Allows(*one, right)) << "up to " << reached_;
    EXPECT_TRUE(Allows(*free, "I will. " + right)) << "up to " << reached_;
    EXPECT_TRUE(Allows(*free, right + between + right + " Done.")) << "up to " << reached_;
    EXPECT_TRUE(Allows(*free, "Nothing to do: 1 < 2"));
    EXPECT_FALSE(Allows(*many, ""));
    EXPECT_FALSE(Allows(*many, "I will. " + right));
    EXPECT_FALSE(Allows(*many, right + " Done."));
    EXPECT_FALSE(Allows(*one, right + between + right));
    if (!right.starts_with("<｜")) {  // of those, one block holds all calls
      EXPECT_TRUE(Allows(*many, right + between + right)) << "up to " << reached_;
    }
    for (const std::string& call : wrong) {
      EXPECT_FALSE(Allows(*many, call)) << call;
      EXPECT_FALSE(Allows(*free, "I will. " + call)) << call;
    }
  }

  void ExpectHermes() {
    const auto call = [](const std::string& body) {
      return "<tool_call>\n" + body + "\n</tool_call>";
    };
    Expect(
        CallFormat::kHermes,
        call(
            R"({"name": "write", "arguments": {"path": "a\n", "lines": 3, "spans": [{"at": 1}]}})"),
        "\n",
        {call(R"({"name": "write", "arguments": {"path": "a"}})"),
         call(R"({"name": "write", "arguments": {"path": "a", "lines": "3"}})"),
         call(R"({"name": "write", "arguments": {"path": "a", "lines": 3, "spans": [{}]}})"),
         call(R"({"name": "read", "arguments": {}})"), call(R"({"name": "now"})"),
         call(R"({"name": "now", "arguments": {"x": 1}})"), call("hello")});
    EXPECT_TRUE(Allows(*Calls(CallFormat::kHermes),
                       "<tool_call>{\"name\":\"now\",\"arguments\":{}}</tool_call>"));
  }

  void ExpectQwen3Xml() {
    const auto call = [](const std::string& body) {
      return "<tool_call>\n<function=" + body + "</function>\n</tool_call>";
    };
    const std::string path = "<parameter=path>\na b\n</parameter>\n";
    const std::string lines = "<parameter=lines>\n3\n</parameter>\n";
    const std::string text =
        "<parameter=text>\nif a < b:\n</parameter> and </function> <tag>\n\n</parameter>\n";
    Expect(CallFormat::kQwen3Coder, call("write>\n" + path + lines), "\n",
           {call("write>\n" + path), call("write>\n" + path + lines + lines),
            call("write>\n" + path + "<parameter=lines>\nmany\n</parameter>\n"),
            call("write>\n" + path + lines + "<parameter=mode>\nother\n</parameter>\n"),
            call("write>\n" + path + lines + "<parameter=other>\n1\n</parameter>\n"),
            call("read>\n"), call("now>\n" + path), "<tool_call>\nhello\n</tool_call>"});
    for (const std::string& body :
         {"write>\n" + lines + path, "write>\n" + lines + text + path,
          "write>\n" + text + lines + path, "write>\n" + path + text + lines,
          "write>\n" + path + lines + text,
          "write>\n" + path + lines + "<parameter=text>\nits own closing tag is missing\n",
          "write>\n" + lines + "<parameter=path>\na\n</parameter> \n\n\n",
          "write>\n" + path + lines + "<parameter=mode>\nadd\n</parameter>\n",
          "write>\n<parameter=spans>\n[{\"at\": 1}]\n</parameter>\n" + path + lines,
          std::string("now>\n")}) {
      EXPECT_TRUE(Allows(*Calls(CallFormat::kQwen3Coder), call(body)))
          << body << "\nup to " << reached_;
    }
    // While arguments are missing, the end cannot even begin: it would become part of a value.
    for (const std::string& body : {"write>\n" + path, "write>\n" + path + text}) {
      const std::string whole = call(body);
      EXPECT_FALSE(Allows(*Calls(CallFormat::kQwen3Coder), whole));
      EXPECT_EQ(reached_, whole.substr(0, whole.rfind("</function>") + 1));
    }
  }

  void ExpectDsml(CallFormat format, const std::string& wrapper, const std::string& space) {
    const std::string open = "<｜DSML｜" + space;
    const std::string close = "</｜DSML｜" + space;
    const auto parameter = [&](const std::string& name, bool text, const std::string& value) {
      return open + "parameter name=\"" + name + "\" string=\"" + (text ? "true" : "false") +
             "\">" + value + close + "parameter>\n";
    };
    const auto call = [&](const std::string& name, const std::string& body) {
      return open + wrapper + ">\n" + open + "invoke name=\"" + name + "\">\n" + body + close +
             "invoke>\n" + close + wrapper + ">";
    };
    const std::string path = parameter("path", true, "a </b> \n<c>");
    const std::string lines = parameter("lines", false, "3");
    Expect(format, call("write", path + lines), "\n",
           {call("write", path), call("write", path + path + lines),
            call("write", path + parameter("lines", false, "many")),
            call("write", path + lines + parameter("mode", true, "other")), call("read", ""),
            call("now", path), open + wrapper + ">\nhello"});
    const std::string two = open + wrapper + ">\n" + open + "invoke name=\"now\">\n" + close +
                            "invoke>\n" + open + "invoke name=\"write\">\n" + lines + path +
                            parameter("spans", false, "[{\"at\": 2}]") + close + "invoke>\n" +
                            close + wrapper + ">";
    EXPECT_TRUE(Allows(*Calls(format), two)) << "up to " << reached_;
    EXPECT_FALSE(Allows(*Calls(format, CallCount::kOne), two));
  }

  void ExpectHarmony() {
    const std::string open = "<|channel|>commentary to=functions.";
    const std::string arguments = R"({"path": "a", "lines": 3})";
    const auto calls = Calls(CallFormat::kHarmony);
    const auto free = FreeText(CallFormat::kHarmony);
    const std::string again = "<|start|>assistant";
    for (const std::string& call :
         {open + "write <|constrain|>json<|message|>" + arguments + "<|call|>",
          open + "write json<|message|>" + arguments + "<|call|>",
          open + "write<|message|>" + arguments + "<|call|>",
          " to=functions.write<|channel|>commentary <|constrain|>json<|message|>" + arguments +
              "<|call|>"}) {
      EXPECT_TRUE(Allows(*calls, call)) << call << " up to " << reached_;
      EXPECT_TRUE(Allows(*calls, "<|channel|>analysis<|message|>Hm to=x.<|end|>" + again + call))
          << "up to " << reached_;
      EXPECT_TRUE(Allows(*free, "<|channel|>analysis<|message|>Hm to=x.<|end|>" + again + call))
          << "up to " << reached_;
    }
    EXPECT_TRUE(Allows(*free, "<|channel|>final<|message|>I went to=home."));
    for (const std::string& call :
         {open + "read<|message|>{}<|call|>", open + "write<|message|>{}<|call|>",
          open + "now<|message|>{\"a\":1}<|call|>",
          open + "write<|message|>" + arguments + " and<|call|>"}) {
      EXPECT_FALSE(Allows(*calls, call)) << call;
      EXPECT_FALSE(Allows(*free, call)) << call;
    }
    EXPECT_FALSE(Allows(*calls, "<|channel|>final<|message|>No."));
  }

  void ExpectGemma4() {
    const auto call = [](const std::string& body) {
      return "<|tool_call>call:" + body + "<tool_call|>";
    };
    const std::string path = "path:<|\"|>a, \"b\" {c}<|\"|>";
    Expect(CallFormat::kGemma4, call("write{" + path + ",lines:3}"), "",
           {call("write{" + path + "}"), call("write{" + path + ",lines:many}"),
            call("write{lines:3," + path + ",lines:3}"), call("write{path:a,lines:3}"),
            call("read{}"), call("now{a:1}"), "<|tool_call>hello"});
    for (const char* rest : {"lines:3,mode:<|\"|>add<|\"|>,", "lines:3,spans:[{at:1},{at:2}],",
                             "lines:-1,text:<|\"|><|\"|>,"}) {
      EXPECT_TRUE(
          Allows(*Calls(CallFormat::kGemma4), call("write{" + std::string(rest) + path + "}")))
          << rest << " up to " << reached_;
    }
    EXPECT_TRUE(Allows(*Calls(CallFormat::kGemma4), call("now{}"))) << "up to " << reached_;
  }

  std::shared_ptr<const text::Tokenizer> tokenizer_;
  Compiler compiler_;
  std::string reached_;
};

class SpelledToolGrammarTest : public ToolGrammarTest {
 protected:
  SpelledToolGrammarTest() : ToolGrammarTest(false) {}
};

TEST_F(ToolGrammarTest, Hermes) {
  ExpectHermes();
}
TEST_F(ToolGrammarTest, Qwen3Xml) {
  ExpectQwen3Xml();
}
TEST_F(ToolGrammarTest, Harmony) {
  ExpectHarmony();
}
TEST_F(ToolGrammarTest, DsmlV32) {
  ExpectDsml(CallFormat::kDeepseekV32, "function_calls", "");
}
TEST_F(ToolGrammarTest, DsmlV4) {
  ExpectDsml(CallFormat::kDeepseekV4, "tool_calls", "");
}
TEST_F(ToolGrammarTest, DsmlV41) {
  ExpectDsml(CallFormat::kDeepseekV41, "calls", " ");
}
TEST_F(ToolGrammarTest, Gemma4) {
  ExpectGemma4();
}
TEST_F(SpelledToolGrammarTest, Hermes) {
  ExpectHermes();
}
TEST_F(SpelledToolGrammarTest, Qwen3Xml) {
  ExpectQwen3Xml();
}
TEST_F(SpelledToolGrammarTest, DsmlV4) {
  ExpectDsml(CallFormat::kDeepseekV4, "tool_calls", "");
}
TEST_F(SpelledToolGrammarTest, DsmlV41) {
  ExpectDsml(CallFormat::kDeepseekV41, "calls", " ");
}
TEST_F(SpelledToolGrammarTest, Gemma4) {
  ExpectGemma4();
}

// Whoever reads the output takes the token for the end of the call, wherever it stands.
TEST(ToolGrammarMarkers, AreNoTextInsideOfStrings) {
  const auto tokenizer = Pieces({"<tool_call>", "</tool_call>"}, {});
  const int32_t open = *tokenizer->TokenToId("<tool_call>");
  const int32_t close = *tokenizer->TokenToId("</tool_call>");
  const auto reaches = [&](std::vector<int32_t> markers, bool spelled) {
    Compiler compiler(tokenizer, {.end_tokens = {tokenizer->vocab_size() - 1}, .markers = markers});
    const auto grammar = CompileCalls(compiler, CallFormat::kHermes, TwoTools(), CallCount::kOne);
    std::vector<int32_t> tokens = {open};
    const auto add = [&](const std::string& text) {
      for (const char c : text) {
        tokens.push_back(static_cast<unsigned char>(c));
      }
    };
    add(R"({"name": "write", "arguments": {"path": "a )");
    if (spelled) {
      add("</tool_call>");
    } else {
      tokens.push_back(close);
    }
    add(R"( b", "lines": 3}})");
    tokens.push_back(close);
    return WalkThrough(*grammar->NewConstraint(), tokens, tokenizer->vocab_size() - 1).may_end;
  };
  EXPECT_TRUE(reaches({open, close}, true));
  EXPECT_FALSE(reaches({open, close}, false));
  EXPECT_TRUE(reaches({}, false));
}

TEST_F(ToolGrammarTest, ToolsAreNeverRefused) {
  const std::vector<Tool> tools = {
      {"a", Json::parse(R"({"type":"object","properties":{"x":{"type":"integer","not":{}}}})")},
      {"b", Json::parse(R"({"type":"object","properties":3})")},
      {"c", Json::parse(R"({"type":"object","properties":{"x":{"$ref":"http://h/"}}})")},
      {"d", Json::parse(R"({"type":"object","required":["x"],"properties":{"x":false}})")}};
  const auto grammar = CompileCalls(compiler_, CallFormat::kHermes, tools, CallCount::kOne);
  const auto call = [](const std::string& name, const std::string& arguments) {
    return "<tool_call>{\"name\":\"" + name + "\",\"arguments\":" + arguments + "}</tool_call>";
  };
  EXPECT_TRUE(Allows(*grammar, call("a", "{\"x\":1}")));
  EXPECT_FALSE(Allows(*grammar, call("a", "{\"x\":\"1\"}")));
  EXPECT_TRUE(Allows(*grammar, call("b", "{\"anything\":[1]}"))) << "up to " << reached_;
  EXPECT_TRUE(Allows(*grammar, call("c", "{\"x\":1}")));
  EXPECT_TRUE(Allows(*grammar, call("d", "{\"x\":1}")));
  EXPECT_THROW(CompileCalls(compiler_, CallFormat::kHermes, {}, CallCount::kOne), Error);
}

// Formats that write arguments one by one have grammars of their own for what JSON allows.
TEST_F(ToolGrammarTest, ToolsAreRefusedInNoFormat) {
  const std::vector<Tool> tools = {
      {"a", Json::parse(R"({"type":"object","properties":{"x":{"enum":[]},"y":{"type":"integer"}},
                            "required":["y"]})")},
      {"b", Json::parse("{\"type\":\"object\",\"properties\":{\"\\u0000\\r\":{},"
                        "\"k\\u007f/(\":{\"type\":\"string\"},\"\":{}}}")},
      {"c", Json::parse(R"({"type":"object","properties":{"p":{"type":"integer"}}})")}};
  for (const CallFormat format :
       {CallFormat::kHermes, CallFormat::kQwen3Coder, CallFormat::kHarmony,
        CallFormat::kDeepseekV32, CallFormat::kDeepseekV4, CallFormat::kDeepseekV41,
        CallFormat::kGemma4}) {
    EXPECT_NO_THROW(CompileCalls(compiler_, format, tools, CallCount::kOneOrMore));
    EXPECT_NO_THROW(CompileFreeText(compiler_, format, tools));
  }
  const auto grammar = CompileCalls(compiler_, CallFormat::kQwen3Coder, tools, CallCount::kOne);
  const auto call = [](const std::string& name, const std::string& key, const std::string& value) {
    return "<tool_call>\n<function=" + name + ">\n<parameter=" + key + ">\n" + value +
           "\n</parameter>\n</function>\n</tool_call>";
  };
  EXPECT_TRUE(Allows(*grammar, call("a", "y", "any"))) << "up to " << reached_;
  EXPECT_FALSE(Allows(*grammar, call("a", "z", "1")));
  EXPECT_TRUE(Allows(*grammar, call("b", "k\x7f/(", "v"))) << "up to " << reached_;
  EXPECT_TRUE(Allows(*grammar, call("b", std::string("\0\r", 2), "v"))) << "up to " << reached_;
  EXPECT_TRUE(Allows(*grammar, call("c", "p", "1"))) << "up to " << reached_;
  EXPECT_FALSE(Allows(*grammar, call("c", "p", "one"))) << "its own schema is good";
}

TEST_F(ToolGrammarTest, ListsMayBeLong) {
  std::vector<Tool> tools;
  Json many = {{"type", "object"}, {"properties", {{"x", {{"enum", Json::array({""})}}}}}};
  Json wide = {{"type", "object"}, {"properties", Json::object()}};
  for (int i = 0; i < 3000; ++i) {
    many["properties"]["x"]["enum"].push_back("value " + std::to_string(i));
  }
  for (int i = 0; i < 100; ++i) {
    wide["properties"]["p" + std::to_string(i)] = Json::object();
  }
  for (int i = 0; i < 500; ++i) {
    tools.push_back({"t" + std::to_string(i), nullptr});
  }
  tools.push_back({"many", many});
  tools.push_back({"wide", wide});
  const auto xml = CompileCalls(compiler_, CallFormat::kQwen3Coder, tools, CallCount::kOne);
  const auto tag = [](const std::string& name, const std::string& body) {
    return "<tool_call>\n<function=" + name + ">\n" + body + "</function>\n</tool_call>";
  };
  for (const char* value : {"value 7", "value 2999", ""}) {
    const std::string parameter = std::string("<parameter=x>\n") + value + "\n</parameter>\n";
    EXPECT_TRUE(Allows(*xml, tag("many", parameter))) << value << " up to " << reached_;
  }
  EXPECT_FALSE(Allows(*xml, tag("many", "<parameter=x>\nvalue 3000\n</parameter>\n")));
  EXPECT_TRUE(Allows(*xml, tag("wide", "<parameter=p99>\nv\n</parameter>\n"))) << reached_;
  EXPECT_TRUE(Allows(*xml, tag("t499", ""))) << "up to " << reached_;
  const auto dsml = CompileCalls(compiler_, CallFormat::kDeepseekV4, tools, CallCount::kOne);
  EXPECT_TRUE(
      Allows(*dsml,
             "<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"many\">\n"
             "<｜DSML｜parameter name=\"x\" string=\"true\">value 2999</｜DSML｜parameter>\n"
             "</｜DSML｜invoke>\n</｜DSML｜tool_calls>"))
      << "up to " << reached_;
}

}  // namespace
}  // namespace mach::grammar
