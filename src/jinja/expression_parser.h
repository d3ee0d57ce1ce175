// The expression half of the parser: a token cursor and recursive descent over Jinja's grammar.
// Used by parser.cc only.
#pragma once

#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "jinja/ast.h"
#include "jinja/lexer.h"

namespace mach::jinja {

class ExpressionParser {
 public:
  ExpressionParser(std::vector<Token> tokens, std::string_view source_name, Template* result);

 protected:
  struct TupleOptions {
    bool simplified = false;  // names and literals only: assignment targets
    bool conditional = true;  // `a if b` allowed
    bool explicit_parentheses = false;
    bool allow_namespace = false;
    std::string_view end_name = {};  // a name that ends the tuple: "in"
  };

  [[noreturn]] void Fail(const std::string& reason) const;
  const Token& Current() const { return tokens_[position_]; }
  const Token& Look() const;
  Token Next();
  bool AtName(std::string_view name) const;
  bool AtOperator(std::string_view op) const;
  bool SkipName(std::string_view name);
  bool SkipOperator(std::string_view op);
  void ExpectName(std::string_view name);
  void ExpectOperator(std::string_view op);
  std::string ExpectIdentifier();
  void Expect(TokenType type, const char* what);

  ExprPtr ParseExpression(bool conditional = true);
  ExprPtr ParseTuple(const TupleOptions& options);
  // A filter chain applied to `input` (null: to the text of a block). `inline_start`: the first
  // filter has no pipe before it.
  ExprPtr ParseFilter(ExprPtr input, bool inline_start = false);
  ExprPtr ParseAssignTarget(bool allow_namespace, std::string_view end_name = {});
  ExprPtr NewExpr(ExprKind kind) const;
  // Sets the height of a finished node and refuses trees that are too tall.
  ExprPtr Finish(ExprPtr expr) const;
  int NameTarget();
  // Remembers that the macros being parsed mention caller, kwargs or varargs.
  void NoteLoad(int symbol);

  Template* result_;
  int fors_ = 0;  // for statements around the current token, macros in between or not
  std::vector<MacroDefinition*> macros_;

  static constexpr int kMaxNesting = 150;
  struct Nesting {
    explicit Nesting(ExpressionParser* parser);
    ~Nesting() { --parser_->nesting_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    ExpressionParser* parser_;
  };

 private:
  ExprPtr ParseConditional();
  ExprPtr ParseOr();
  ExprPtr ParseAnd();
  ExprPtr ParseNot();
  ExprPtr ParseCompare();
  ExprPtr ParseSum();
  ExprPtr ParseConcat();
  ExprPtr ParseProduct();
  ExprPtr ParsePower();
  ExprPtr ParseUnary(bool with_filter = true);
  ExprPtr ParsePrimary(bool allow_namespace = false);
  ExprPtr ParseName(bool allow_namespace);
  ExprPtr ParseNumber();
  ExprPtr ParseList();
  ExprPtr ParseDict();
  ExprPtr ParsePostfix(ExprPtr expr);
  ExprPtr ParseFilterExpression(ExprPtr expr);
  ExprPtr ParseSubscript(ExprPtr expr);
  ExprPtr ParseSubscribed();
  ExprPtr ParseCall(ExprPtr callee);
  ExprPtr ParseTest(ExprPtr expr);
  std::unique_ptr<ArgumentList> ParseArguments();
  std::string ParseDottedName();
  ExprPtr Binary(ExprKind kind, Op op, ExprPtr left, ExprPtr right) const;
  void CheckAssignable(const Expr& target) const;

  std::vector<Token> tokens_;
  std::string_view source_name_;
  size_t position_ = 0;
  int nesting_ = 0;
};

}  // namespace mach::jinja
