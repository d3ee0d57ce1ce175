#include "jinja/parser.h"

#include <algorithm>
#include <initializer_list>
#include <string>
#include <utility>

#include "jinja/analysis.h"
#include "jinja/expression_parser.h"
#include "jinja/lexer.h"

namespace mach::jinja {

namespace {

class Parser : private ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  void Run() { result_->body = ParseBlock({}); }

 private:
  using Names = std::initializer_list<std::string_view>;

  StmtPtr NewStmt(StmtKind kind) const {
    auto stmt = std::make_unique<Stmt>();
    stmt->kind = kind;
    stmt->line = Current().line;
    return stmt;
  }

  // Statements up to one of `ends`, which becomes the current token; up to the end of the template
  // if `ends` is empty.
  Block ParseBlock(Names ends) {
    const Nesting nesting(this);
    Block block;
    while (Current().type != TokenType::kEof) {
      switch (Current().type) {
        case TokenType::kData: {
          StmtPtr stmt = NewStmt(StmtKind::kData);
          stmt->text = Next().text;
          block.push_back(std::move(stmt));
          break;
        }
        case TokenType::kVariableBegin: {
          Next();
          StmtPtr stmt = NewStmt(StmtKind::kOutput);
          stmt->exprs.push_back(ParseTuple({}));
          Expect(TokenType::kVariableEnd, "end of print statement");
          block.push_back(std::move(stmt));
          break;
        }
        case TokenType::kBlockBegin:
          Next();
          for (const std::string_view end : ends) {
            if (AtName(end)) {
              return block;
            }
          }
          block.push_back(ParseStatement());
          Expect(TokenType::kBlockEnd, "end of statement block");
          break;
        default:
          Fail("unexpected token");
      }
    }
    if (ends.size() != 0) {
      Fail("Unexpected end of template. Looking for '" + std::string(*ends.begin()) + "'.");
    }
    return block;
  }

  // The body of a statement: from its closing %} up to one of `ends`.
  Block ParseBody(Names ends) {
    SkipOperator(":");
    Expect(TokenType::kBlockEnd, "end of statement block");
    return ParseBlock(ends);
  }

  Block ParseBodyAndDropEnd(std::string_view end) {
    Block block = ParseBody({end});
    Next();
    return block;
  }

  StmtPtr ParseStatement() {
    if (Current().type != TokenType::kName) {
      Fail("tag name expected");
    }
    const std::string tag = Current().text;
    if (tag == "if") {
      return ParseIf();
    }
    if (tag == "for") {
      return ParseFor();
    }
    if (tag == "set") {
      return ParseSet();
    }
    if (tag == "macro") {
      return ParseMacro();
    }
    if (tag == "call") {
      return ParseCallBlock();
    }
    if (tag == "filter") {
      return ParseFilterBlock();
    }
    if (tag == "with") {
      return ParseWith();
    }
    if (tag == "print") {
      return ParsePrint();
    }
    if (tag == "generation") {
      StmtPtr stmt = NewStmt(StmtKind::kScope);
      Next();
      return ParseScope(std::move(stmt), "endgeneration");
    }
    if (tag == "block") {
      return ParseNamedBlock();
    }
    if (tag == "break" || tag == "continue") {
      StmtPtr stmt = NewStmt(tag == "break" ? StmtKind::kBreak : StmtKind::kContinue);
      if (loops_ == 0) {
        Fail("'" + tag + "' outside loop");
      }
      Next();
      return stmt;
    }
    if (tag == "include" || tag == "import" || tag == "from" || tag == "extends") {
      return ParseUnsupported();
    }
    Fail("Encountered unknown tag '" + tag + "'.");
  }

  StmtPtr ParseIf() {
    StmtPtr stmt = NewStmt(StmtKind::kIf);
    ExpectName("if");
    while (true) {
      stmt->exprs.push_back(ParseTuple({.conditional = false}));
      stmt->branches.push_back(ParseBody({"elif", "else", "endif"}));
      const std::string end = Next().text;
      if (end == "elif") {
        continue;
      }
      if (end == "else") {
        stmt->branches.push_back(ParseBodyAndDropEnd("endif"));
      }
      return stmt;
    }
  }

  StmtPtr ParseFor() {
    StmtPtr stmt = NewStmt(StmtKind::kFor);
    ExpectName("for");
    ++fors_;
    stmt->targets.push_back(ParseAssignTarget(false, "in"));
    ExpectName("in");
    stmt->exprs.push_back(ParseTuple({.conditional = false, .end_name = "recursive"}));
    if (SkipName("if")) {
      stmt->test = ParseExpression();
    }
    stmt->recursive = SkipName("recursive");
    ++loops_;
    stmt->branches.push_back(ParseBody({"endfor", "else"}));
    --loops_;
    if (Next().text == "else") {
      stmt->branches.push_back(ParseBodyAndDropEnd("endfor"));
    }
    --fors_;
    return stmt;
  }

  StmtPtr ParseSet() {
    StmtPtr stmt = NewStmt(StmtKind::kSet);
    ExpectName("set");
    stmt->targets.push_back(ParseAssignTarget(true));
    if (SkipOperator("=")) {
      stmt->exprs.push_back(ParseTuple({}));
      return stmt;
    }
    stmt->kind = StmtKind::kSetBlock;
    stmt->exprs.push_back(ParseFilter(nullptr));
    stmt->branches.push_back(ParseBodyAndDropEnd("endset"));
    return stmt;
  }

  // A body that Jinja compiles to a function of its own: a loop around it is out of reach.
  Block ParseFunctionBody(MacroDefinition* macro, std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    macros_.push_back(macro);
    Block body = ParseBodyAndDropEnd(end);
    macros_.pop_back();
    loops_ = loops;
    const auto& names = macro->parameter_names;
    const auto caller = std::find(names.begin(), names.end(), "caller");
    if (macro->uses_caller && caller != names.end() &&
        names.end() - caller > static_cast<std::ptrdiff_t>(macro->defaults.size())) {
      Fail("the special \"caller\" argument must be omitted or be given a default");
    }
    return body;
  }

  void ParseSignature(MacroDefinition* macro) {
    ExpectOperator("(");
    while (!AtOperator(")")) {
      if (!macro->parameters.empty()) {
        ExpectOperator(",");
      }
      const int symbol = NameTarget();
      if (std::find(macro->parameters.begin(), macro->parameters.end(), symbol) !=
          macro->parameters.end()) {
        Fail("duplicate argument '" + result_->symbols.Name(symbol) + "'");
      }
      macro->parameters.push_back(symbol);
      macro->parameter_names.push_back(result_->symbols.Name(symbol));
      if (SkipOperator("=")) {
        macro->defaults.push_back(ParseExpression());
      } else if (!macro->defaults.empty()) {
        Fail("non-default argument follows default argument");
      }
    }
    ExpectOperator(")");
  }

  StmtPtr ParseMacro() {
    StmtPtr stmt = NewStmt(StmtKind::kMacro);
    ExpectName("macro");
    stmt->macro = std::make_unique<MacroDefinition>();
    stmt->macro->symbol = NameTarget();
    stmt->macro->name = result_->symbols.Name(stmt->macro->symbol);
    ParseSignature(stmt->macro.get());
    stmt->macro->body = ParseFunctionBody(stmt->macro.get(), "endmacro");
    return stmt;
  }

  StmtPtr ParseCallBlock() {
    StmtPtr stmt = NewStmt(StmtKind::kCallBlock);
    ExpectName("call");
    stmt->macro = std::make_unique<MacroDefinition>();
    stmt->macro->name = "caller";
    if (AtOperator("(")) {
      ParseSignature(stmt->macro.get());
    }
    stmt->exprs.push_back(ParseExpression());
    if (stmt->exprs[0]->kind != ExprKind::kCall) {
      Fail("expected call");
    }
    stmt->macro->body = ParseFunctionBody(stmt->macro.get(), "endcall");
    return stmt;
  }

  StmtPtr ParseFilterBlock() {
    StmtPtr stmt = NewStmt(StmtKind::kFilterBlock);
    ExpectName("filter");
    stmt->exprs.push_back(ParseFilter(nullptr, true));
    return ParseScope(std::move(stmt), "endfilter");
  }

  StmtPtr ParseScope(StmtPtr stmt, std::string_view end) {
    stmt->branches.push_back(ParseBodyAndDropEnd(end));
    return stmt;
  }

  StmtPtr ParseWith() {
    StmtPtr stmt = NewStmt(StmtKind::kWith);
    ExpectName("with");
    while (Current().type != TokenType::kBlockEnd) {
      if (!stmt->targets.empty()) {
        ExpectOperator(",");
      }
      stmt->targets.push_back(ParseAssignTarget(false));
      ExpectOperator("=");
      stmt->exprs.push_back(ParseExpression());
    }
    return ParseScope(std::move(stmt), "endwith");
  }

  StmtPtr ParsePrint() {
    StmtPtr stmt = NewStmt(StmtKind::kOutput);
    ExpectName("print");
    while (Current().type != TokenType::kBlockEnd) {
      if (!stmt->exprs.empty()) {
        ExpectOperator(",");
      }
      stmt->exprs.push_back(ParseExpression());
    }
    return stmt;
  }

  StmtPtr ParseNamedBlock() {
    StmtPtr stmt = NewStmt(StmtKind::kScope);
    ExpectName("block");
    const std::string name = ExpectIdentifier();
    SkipName("scoped");
    SkipName("required");
    const int loops = std::exchange(loops_, 0);
    stmt = ParseScope(std::move(stmt), "endblock");
    loops_ = loops;
    SkipName(name);
    return stmt;
  }

  // Accepted where it is never reached, as Jinja does.
  StmtPtr ParseUnsupported() {
    StmtPtr stmt = NewStmt(StmtKind::kUnsupported);
    stmt->text = Next().text;
    while (Current().type != TokenType::kBlockEnd && Current().type != TokenType::kEof) {
      Next();
    }
    return stmt;
  }

  int loops_ = 0;
};

}  // namespace

std::unique_ptr<Template> ParseTemplate(std::string_view source, std::string_view source_name) {
  auto result = std::make_unique<Template>();
  result->name = source_name;
  result->loop_symbol = result->symbols.Intern("loop");
  result->caller_symbol = result->symbols.Intern("caller");
  result->kwargs_symbol = result->symbols.Intern("kwargs");
  result->varargs_symbol = result->symbols.Intern("varargs");
  Parser(Tokenize(source, source_name), source_name, result.get()).Run();
  Analyze(result.get());
  return result;
}

}  // namespace mach::jinja
