// What the grammar of a call lets through, the parser of its format reads as that call.
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "chat/output_parser.h"
#include "grammar/tool_grammar.h"
#include "tests/grammar/grammar_support.h"

namespace mach::grammar {
namespace {

using Json = nlohmann::ordered_json;

const Json kParameters = Json::parse(R"({"type":"object","properties":{
    "path":{"type":"string"},"text":{"type":"string"},"lines":{"type":"integer"}},
    "required":["path","lines"],"additionalProperties":false})");

class AgreementTest : public testing::Test {
 protected:
  AgreementTest()
      : tokenizer_(Pieces({"<tool_call>", "</tool_call>"}, {})),
        compiler_(tokenizer_, {.end_tokens = {tokenizer_->vocab_size() - 1},
                               .markers = {*tokenizer_->TokenToId("<tool_call>"),
                                           *tokenizer_->TokenToId("</tool_call>")}}),
        call_(CompileCalls(compiler_, chat::CallFormat::kQwen3Coder,
                           std::vector<Tool>{{"write", kParameters}}, CallCount::kOne)) {}

  bool IsAllowed(std::vector<int32_t> tokens) const {
    tokens.push_back(tokenizer_->vocab_size() - 1);
    return call_->NewConstraint()->ValidPrefix(tokens) == tokens.size();
  }

  // The arguments of the one call there is; null if it is not so.
  Json Read(const std::vector<int32_t>& tokens) const {
    const Json tools = Json::array(
        {{{"type", "function"}, {"function", {{"name", "write"}, {"parameters", kParameters}}}}});
    const auto parser =
        chat::OutputParser::Make({.format = chat::CallFormat::kQwen3Coder,
                                  .tools = &tools,
                                  .special_tokens = {"<tool_call>", "</tool_call>"}});
    std::vector<chat::ChatDelta> deltas;
    for (const int32_t token : tokens) {
      const std::string text = tokenizer_->TokenBytes(token);
      parser->Push({.text = text, .is_token = token >= 256}, deltas);
    }
    parser->Finish(chat::EndReason::kStop, deltas);
    int calls = 0;
    std::string arguments;
    for (const chat::ChatDelta& delta : deltas) {
      calls += delta.kind == chat::ChatDelta::Kind::kCallStart ? 1 : 0;
      arguments += delta.kind == chat::ChatDelta::Kind::kCallArguments ? delta.text : "";
      if (delta.kind == chat::ChatDelta::Kind::kContent &&
          delta.text.find_first_not_of(" \n") != std::string::npos) {
        return nullptr;
      }
    }
    return calls == 1 ? Json::parse(arguments, nullptr, false) : Json(nullptr);
  }

  std::shared_ptr<const text::Tokenizer> tokenizer_;
  Compiler compiler_;
  std::shared_ptr<const Grammar> call_;
};

TEST_F(AgreementTest, Qwen3Xml) {
  const std::vector<std::string> parts = {
      "</parameter>", "\n",     "<parameter=", "path>", "text>\n", "</function>",
      "<function=",   "write>", "<",           "a",     " "};
  std::mt19937 random(11);
  int allowed = 0;
  for (int i = 0; i < 2'000; ++i) {
    std::string value;
    for (size_t count = random() % 7; count > 0; --count) {
      value += parts[random() % parts.size()];
    }
    const std::string lines = "<parameter=lines>\n3\n</parameter>\n";
    const std::string path =
        "<parameter=path>\n" + value + (random() % 4 == 0 ? "" : "\n</parameter>\n");
    const bool first = random() % 2 == 0;
    std::vector<int32_t> tokens = {*tokenizer_->TokenToId("<tool_call>")};
    for (const char c : "\n<function=write>\n" + (first ? path + lines : lines + path) +
                            (random() % 4 == 0 ? "" : "</function>\n")) {
      tokens.push_back(static_cast<unsigned char>(c));
    }
    tokens.push_back(*tokenizer_->TokenToId("</tool_call>"));
    if (!IsAllowed(tokens)) {
      continue;
    }
    ++allowed;
    const Json read = Read(tokens);
    ASSERT_TRUE(read.is_object() && read.contains("path") && read.value("lines", Json()) == 3)
        << "round " << i << " of seed 11: " << value << "\nread as " << read;
  }
  EXPECT_GT(allowed, 500);
}

}  // namespace
}  // namespace mach::grammar
