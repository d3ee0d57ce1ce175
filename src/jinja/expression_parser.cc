#include "jinja/expression_parser.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <utility>

#include "jinja/filters.h"
#include "jinja/tests.h"

namespace mach::jinja {

namespace {

constexpr int kMaxExprHeight = 400;

}  // namespace

int SymbolTable::Intern(const std::string& name) {
  const auto [it, inserted] = symbols_.try_emplace(name, static_cast<int>(names_.size()));
  if (inserted) {
    names_.push_back(name);
  }
  return it->second;
}

int SymbolTable::Find(const std::string& name) const {
  const auto it = symbols_.find(name);
  return it == symbols_.end() ? -1 : it->second;
}

ExpressionParser::ExpressionParser(std::vector<Token> tokens, std::string_view source_name,
                                   Template* result)
    : result_(result), tokens_(std::move(tokens)), source_name_(source_name) {}

ExpressionParser::Nesting::Nesting(ExpressionParser* parser) : parser_(parser) {
  // The destructor does not run when the constructor throws, so count only what passed.
  if (parser->nesting_ >= kMaxNesting) {
    FailLimit("chat template is nested more than " + std::to_string(kMaxNesting) + " levels deep");
  }
  ++parser->nesting_;
}

void ExpressionParser::Fail(const std::string& reason) const {
  FailSyntax(source_name_, Current().line, reason);
}

const Token& ExpressionParser::Look() const {
  return tokens_[std::min(position_ + 1, tokens_.size() - 1)];
}

Token ExpressionParser::Next() {
  Token token = Current();
  if (position_ + 1 < tokens_.size()) {
    ++position_;
  }
  return token;
}

bool ExpressionParser::AtName(std::string_view name) const {
  return Current().type == TokenType::kName && Current().text == name;
}

bool ExpressionParser::AtOperator(std::string_view op) const {
  return Current().type == TokenType::kOperator && Current().text == op;
}

bool ExpressionParser::SkipName(std::string_view name) {
  if (!AtName(name)) {
    return false;
  }
  ++position_;
  return true;
}

bool ExpressionParser::SkipOperator(std::string_view op) {
  if (!AtOperator(op)) {
    return false;
  }
  ++position_;
  return true;
}

void ExpressionParser::ExpectName(std::string_view name) {
  if (!SkipName(name)) {
    Fail("expected '" + std::string(name) + "', got '" + Current().text + "'");
  }
}

void ExpressionParser::ExpectOperator(std::string_view op) {
  if (!SkipOperator(op)) {
    Fail("expected '" + std::string(op) + "', got '" + Current().text + "'");
  }
}

std::string ExpressionParser::ExpectIdentifier() {
  if (Current().type != TokenType::kName) {
    Fail("expected a name, got '" + Current().text + "'");
  }
  return Next().text;
}

void ExpressionParser::Expect(TokenType type, const char* what) {
  if (Current().type != type) {
    Fail(std::string("expected ") + what + ", got '" + Current().text + "'");
  }
  Next();
}

ExprPtr ExpressionParser::NewExpr(ExprKind kind) const {
  auto expr = std::make_unique<Expr>();
  expr->kind = kind;
  expr->line = Current().line;
  return expr;
}

ExprPtr ExpressionParser::Finish(ExprPtr expr) const {
  int height = 0;
  const auto note = [&height](const ExprPtr& child) {
    if (child) {
      height = std::max(height, child->height);
    }
  };
  for (const ExprPtr& child : expr->children) {
    note(child);
  }
  if (expr->arguments) {
    for (const ExprPtr& argument : expr->arguments->positional) {
      note(argument);
    }
    for (const auto& [name, argument] : expr->arguments->keyword) {
      note(argument);
    }
    note(expr->arguments->star);
    note(expr->arguments->double_star);
  }
  expr->height = height + 1;
  if (expr->height > kMaxExprHeight) {
    FailLimit("chat template has an expression of more than " + std::to_string(kMaxExprHeight) +
              " levels");
  }
  return expr;
}

ExprPtr ExpressionParser::Binary(ExprKind kind, Op op, ExprPtr left, ExprPtr right) const {
  ExprPtr expr = NewExpr(kind);
  expr->op = op;
  expr->children.push_back(std::move(left));
  expr->children.push_back(std::move(right));
  return Finish(std::move(expr));
}

void ExpressionParser::NoteLoad(int symbol) {
  for (MacroDefinition* macro : macros_) {
    macro->uses_caller |= symbol == result_->caller_symbol;
    macro->uses_kwargs |= symbol == result_->kwargs_symbol;
    macro->uses_varargs |= symbol == result_->varargs_symbol;
  }
}

ExprPtr ExpressionParser::ParseExpression(bool conditional) {
  const Nesting nesting(this);
  return conditional ? ParseConditional() : ParseOr();
}

ExprPtr ExpressionParser::ParseConditional() {
  ExprPtr expr = ParseOr();
  while (SkipName("if")) {
    ExprPtr test = ParseOr();
    ExprPtr otherwise;
    if (SkipName("else")) {
      const Nesting nesting(this);
      otherwise = ParseConditional();
    }
    ExprPtr conditional = NewExpr(ExprKind::kConditional);
    conditional->children.push_back(std::move(test));
    conditional->children.push_back(std::move(expr));
    conditional->children.push_back(std::move(otherwise));
    expr = Finish(std::move(conditional));
  }
  return expr;
}

ExprPtr ExpressionParser::ParseOr() {
  ExprPtr left = ParseAnd();
  while (SkipName("or")) {
    left = Binary(ExprKind::kOr, Op::kAdd, std::move(left), ParseAnd());
  }
  return left;
}

ExprPtr ExpressionParser::ParseAnd() {
  ExprPtr left = ParseNot();
  while (SkipName("and")) {
    left = Binary(ExprKind::kAnd, Op::kAdd, std::move(left), ParseNot());
  }
  return left;
}

ExprPtr ExpressionParser::ParseNot() {
  if (!AtName("not")) {
    return ParseCompare();
  }
  const Nesting nesting(this);
  ExprPtr expr = NewExpr(ExprKind::kNot);
  Next();
  expr->children.push_back(ParseNot());
  return Finish(std::move(expr));
}

ExprPtr ExpressionParser::ParseCompare() {
  static constexpr std::pair<std::string_view, Op> kOperators[] = {
      {"==", Op::kEqual},     {"!=", Op::kNotEqual}, {"<", Op::kLess},
      {"<=", Op::kLessEqual}, {">", Op::kGreater},   {">=", Op::kGreaterEqual}};
  ExprPtr expr = ParseSum();
  ExprPtr compare;
  while (true) {
    Op op = Op::kAdd;
    bool found = false;
    if (Current().type == TokenType::kOperator) {
      for (const auto& [text, value] : kOperators) {
        if (Current().text == text) {
          op = value;
          found = true;
        }
      }
      if (found) {
        Next();
      }
    } else if (SkipName("in")) {
      op = Op::kIn;
      found = true;
    } else if (AtName("not") && Look().type == TokenType::kName && Look().text == "in") {
      Next();
      Next();
      op = Op::kNotIn;
      found = true;
    }
    if (!found) {
      break;
    }
    if (!compare) {
      compare = NewExpr(ExprKind::kCompare);
      compare->children.push_back(std::move(expr));
    }
    compare->ops.push_back(op);
    compare->children.push_back(ParseSum());
  }
  return compare ? Finish(std::move(compare)) : std::move(expr);
}

ExprPtr ExpressionParser::ParseSum() {
  ExprPtr left = ParseConcat();
  while (AtOperator("+") || AtOperator("-")) {
    const Op op = Next().text == "+" ? Op::kAdd : Op::kSubtract;
    left = Binary(ExprKind::kBinary, op, std::move(left), ParseConcat());
  }
  return left;
}

ExprPtr ExpressionParser::ParseConcat() {
  ExprPtr first = ParseProduct();
  if (!AtOperator("~")) {
    return first;
  }
  ExprPtr expr = NewExpr(ExprKind::kConcat);
  expr->children.push_back(std::move(first));
  while (SkipOperator("~")) {
    expr->children.push_back(ParseProduct());
  }
  return Finish(std::move(expr));
}

ExprPtr ExpressionParser::ParseProduct() {
  ExprPtr left = ParsePower();
  while (AtOperator("*") || AtOperator("/") || AtOperator("//") || AtOperator("%")) {
    const std::string text = Next().text;
    const Op op = text == "*"    ? Op::kMultiply
                  : text == "/"  ? Op::kDivide
                  : text == "//" ? Op::kFloorDivide
                                 : Op::kModulo;
    left = Binary(ExprKind::kBinary, op, std::move(left), ParsePower());
  }
  return left;
}

ExprPtr ExpressionParser::ParsePower() {
  // Left-associative, unlike Python's: Jinja parenthesises what it compiles.
  ExprPtr left = ParseUnary();
  while (SkipOperator("**")) {
    left = Binary(ExprKind::kBinary, Op::kPower, std::move(left), ParseUnary());
  }
  return left;
}

ExprPtr ExpressionParser::ParseUnary(bool with_filter) {
  ExprPtr expr;
  if (AtOperator("-") || AtOperator("+")) {
    const Nesting nesting(this);
    expr = NewExpr(AtOperator("-") ? ExprKind::kNegate : ExprKind::kPlus);
    Next();
    expr->children.push_back(ParseUnary(false));
    expr = Finish(std::move(expr));
  } else {
    expr = ParsePrimary();
  }
  expr = ParsePostfix(std::move(expr));
  return with_filter ? ParseFilterExpression(std::move(expr)) : std::move(expr);
}

ExprPtr ExpressionParser::ParsePrimary(bool allow_namespace) {
  switch (Current().type) {
    case TokenType::kName:
      return ParseName(allow_namespace);
    case TokenType::kString: {
      ExprPtr expr = NewExpr(ExprKind::kConst);
      std::string text;
      while (Current().type == TokenType::kString) {
        text += Next().text;
      }
      expr->constant = Value::String(std::move(text));
      return expr;
    }
    case TokenType::kInteger:
    case TokenType::kFloat:
      return ParseNumber();
    default:
      break;
  }
  if (SkipOperator("(")) {
    ExprPtr expr = ParseTuple({.explicit_parentheses = true});
    ExpectOperator(")");
    return expr;
  }
  if (AtOperator("[")) {
    return ParseList();
  }
  if (AtOperator("{")) {
    return ParseDict();
  }
  Fail("unexpected '" + Current().text + "'");
}

ExprPtr ExpressionParser::ParseName(bool allow_namespace) {
  ExprPtr expr = NewExpr(ExprKind::kName);
  std::string name = Next().text;
  if (name == "true" || name == "True" || name == "false" || name == "False") {
    expr->kind = ExprKind::kConst;
    expr->constant = Value::Bool(name == "true" || name == "True");
  } else if (name == "none" || name == "None") {
    expr->kind = ExprKind::kConst;
    expr->constant = Value::None();
  } else if (allow_namespace && SkipOperator(".")) {
    expr->kind = ExprKind::kNamespaceRef;
    expr->symbol = result_->symbols.Intern(name);
    expr->attribute = ExpectIdentifier();
    expr->text = std::move(name);
  } else {
    expr->symbol = result_->symbols.Intern(name);
    expr->text = std::move(name);
    NoteLoad(expr->symbol);
  }
  return expr;
}

ExprPtr ExpressionParser::ParseNumber() {
  ExprPtr expr = NewExpr(ExprKind::kConst);
  const Token token = Next();
  if (token.type == TokenType::kFloat) {
    expr->constant = Value::Float(std::strtod(token.text.c_str(), nullptr));
    return expr;
  }
  std::string_view digits = token.text;
  int radix = 10;
  if (digits.size() > 2 && digits[0] == '0') {
    const char base = digits[1];
    radix = base == 'x' || base == 'X'   ? 16
            : base == 'o' || base == 'O' ? 8
            : base == 'b' || base == 'B' ? 2
                                         : 10;
    if (radix != 10) {
      digits.remove_prefix(2);
    }
  }
  int64_t value = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, radix);
  if (error != std::errc() || end != digits.data() + digits.size()) {
    Fail("integer " + token.text + " does not fit 64 bits");
  }
  expr->constant = Value::Int(value);
  return expr;
}

ExprPtr ExpressionParser::ParseTuple(const TupleOptions& options) {
  const Nesting nesting(this);
  ExprPtr tuple = NewExpr(ExprKind::kTuple);
  bool is_tuple = false;
  while (true) {
    if (!tuple->children.empty()) {
      ExpectOperator(",");
    }
    const TokenType type = Current().type;
    if (type == TokenType::kVariableEnd || type == TokenType::kBlockEnd || AtOperator(")") ||
        (!options.end_name.empty() && AtName(options.end_name))) {
      break;
    }
    tuple->children.push_back(options.simplified ? ParsePrimary(options.allow_namespace)
                                                 : ParseExpression(options.conditional));
    if (!AtOperator(",")) {
      break;
    }
    is_tuple = true;
  }
  if (!is_tuple) {
    if (!tuple->children.empty()) {
      return std::move(tuple->children[0]);
    }
    if (!options.explicit_parentheses) {
      Fail("Expected an expression, got '" + Current().text + "'");
    }
  }
  return Finish(std::move(tuple));
}

ExprPtr ExpressionParser::ParseList() {
  ExprPtr expr = NewExpr(ExprKind::kList);
  ExpectOperator("[");
  while (!AtOperator("]")) {
    if (!expr->children.empty()) {
      ExpectOperator(",");
      if (AtOperator("]")) {
        break;
      }
    }
    expr->children.push_back(ParseExpression());
  }
  ExpectOperator("]");
  return Finish(std::move(expr));
}

ExprPtr ExpressionParser::ParseDict() {
  ExprPtr expr = NewExpr(ExprKind::kDict);
  ExpectOperator("{");
  while (!AtOperator("}")) {
    if (!expr->children.empty()) {
      ExpectOperator(",");
      if (AtOperator("}")) {
        break;
      }
    }
    expr->children.push_back(ParseExpression());
    ExpectOperator(":");
    expr->children.push_back(ParseExpression());
  }
  ExpectOperator("}");
  return Finish(std::move(expr));
}

ExprPtr ExpressionParser::ParsePostfix(ExprPtr expr) {
  while (true) {
    if (AtOperator(".") || AtOperator("[")) {
      expr = ParseSubscript(std::move(expr));
    } else if (AtOperator("(")) {
      expr = ParseCall(std::move(expr));
    } else {
      return expr;
    }
  }
}

ExprPtr ExpressionParser::ParseFilterExpression(ExprPtr expr) {
  while (true) {
    if (AtOperator("|")) {
      expr = ParseFilter(std::move(expr));
    } else if (AtName("is")) {
      expr = ParseTest(std::move(expr));
    } else if (AtOperator("(")) {
      expr = ParseCall(std::move(expr));
    } else {
      return expr;
    }
  }
}

ExprPtr ExpressionParser::ParseSubscript(ExprPtr object) {
  ExprPtr expr = NewExpr(ExprKind::kGetitem);
  if (SkipOperator(".")) {
    if (Current().type == TokenType::kName) {
      expr->kind = ExprKind::kGetattr;
      expr->text = Next().text;
      expr->children.push_back(std::move(object));
      return Finish(std::move(expr));
    }
    if (Current().type != TokenType::kInteger) {
      Fail("expected name or number");
    }
    expr->children.push_back(std::move(object));
    expr->children.push_back(ParseNumber());
    return Finish(std::move(expr));
  }
  ExpectOperator("[");
  std::vector<ExprPtr> subscripts;
  while (!AtOperator("]")) {
    if (!subscripts.empty()) {
      ExpectOperator(",");
    }
    subscripts.push_back(ParseSubscribed());
  }
  ExpectOperator("]");
  expr->children.push_back(std::move(object));
  if (subscripts.size() == 1) {
    expr->children.push_back(std::move(subscripts[0]));
  } else {
    ExprPtr tuple = NewExpr(ExprKind::kTuple);
    tuple->children = std::move(subscripts);
    expr->children.push_back(Finish(std::move(tuple)));
  }
  return Finish(std::move(expr));
}

ExprPtr ExpressionParser::ParseSubscribed() {
  ExprPtr slice = NewExpr(ExprKind::kSlice);
  slice->children.resize(3);
  if (!AtOperator(":")) {
    ExprPtr expr = ParseExpression();
    if (!AtOperator(":")) {
      return expr;
    }
    slice->children[0] = std::move(expr);
  }
  ExpectOperator(":");
  if (!AtOperator(":") && !AtOperator("]") && !AtOperator(",")) {
    slice->children[1] = ParseExpression();
  }
  if (SkipOperator(":") && !AtOperator("]") && !AtOperator(",")) {
    slice->children[2] = ParseExpression();
  }
  return Finish(std::move(slice));
}

std::unique_ptr<ArgumentList> ExpressionParser::ParseArguments() {
  auto arguments = std::make_unique<ArgumentList>();
  const auto ensure = [this](bool condition) {
    if (!condition) {
      Fail("invalid syntax for function call expression");
    }
  };
  ExpectOperator("(");
  bool require_comma = false;
  while (!AtOperator(")")) {
    if (require_comma) {
      ExpectOperator(",");
      if (AtOperator(")")) {
        break;
      }
    }
    if (SkipOperator("*")) {
      ensure(!arguments->star && !arguments->double_star);
      arguments->star = ParseExpression();
    } else if (SkipOperator("**")) {
      ensure(!arguments->double_star);
      arguments->double_star = ParseExpression();
    } else if (Current().type == TokenType::kName && Look().type == TokenType::kOperator &&
               Look().text == "=") {
      ensure(!arguments->double_star);
      std::string name = Next().text;
      Next();
      for (const auto& [existing, value] : arguments->keyword) {
        if (existing == name) {
          Fail("keyword argument repeated: " + name);
        }
      }
      arguments->keyword.emplace_back(std::move(name), ParseExpression());
    } else {
      ensure(!arguments->star && !arguments->double_star && arguments->keyword.empty());
      arguments->positional.push_back(ParseExpression());
    }
    require_comma = true;
  }
  ExpectOperator(")");
  return arguments;
}

ExprPtr ExpressionParser::ParseCall(ExprPtr callee) {
  ExprPtr expr = NewExpr(ExprKind::kCall);
  expr->children.push_back(std::move(callee));
  expr->arguments = ParseArguments();
  return Finish(std::move(expr));
}

std::string ExpressionParser::ParseDottedName() {
  std::string name = ExpectIdentifier();
  while (SkipOperator(".")) {
    name += "." + ExpectIdentifier();
  }
  return name;
}

ExprPtr ExpressionParser::ParseFilter(ExprPtr input, bool inline_start) {
  while (inline_start || AtOperator("|")) {
    if (!inline_start) {
      Next();
    }
    inline_start = false;
    ExprPtr expr = NewExpr(ExprKind::kFilter);
    expr->text = ParseDottedName();
    expr->filter = FindFilter(expr->text);
    expr->children.push_back(std::move(input));
    if (AtOperator("(")) {
      expr->arguments = ParseArguments();
    }
    input = Finish(std::move(expr));
  }
  return input;
}

ExprPtr ExpressionParser::ParseTest(ExprPtr object) {
  ExprPtr expr = NewExpr(ExprKind::kTest);
  ExpectName("is");
  const bool negated = SkipName("not");
  expr->text = ParseDottedName();
  expr->test = FindTest(expr->text);
  expr->children.push_back(std::move(object));
  const TokenType type = Current().type;
  if (AtOperator("(")) {
    expr->arguments = ParseArguments();
  } else if ((type == TokenType::kName || type == TokenType::kString ||
              type == TokenType::kInteger || type == TokenType::kFloat || AtOperator("[") ||
              AtOperator("{")) &&
             !AtName("else") && !AtName("or") && !AtName("and")) {
    if (AtName("is")) {
      Fail("You cannot chain multiple tests with is");
    }
    const Nesting nesting(this);
    expr->arguments = std::make_unique<ArgumentList>();
    expr->arguments->positional.push_back(ParsePostfix(ParsePrimary()));
  }
  expr = Finish(std::move(expr));
  if (negated) {
    ExprPtr negation = NewExpr(ExprKind::kNot);
    negation->children.push_back(std::move(expr));
    return Finish(std::move(negation));
  }
  return expr;
}

void ExpressionParser::CheckAssignable(const Expr& target) const {
  if (target.kind == ExprKind::kTuple) {
    for (const ExprPtr& child : target.children) {
      CheckAssignable(*child);
    }
  } else if (target.kind == ExprKind::kName && fors_ > 0 && target.text == "loop") {
    Fail("Can't assign to special loop variable in for-loop target");
  } else if (target.kind != ExprKind::kName && target.kind != ExprKind::kNamespaceRef) {
    Fail("can't assign to this expression");
  }
}

ExprPtr ExpressionParser::ParseAssignTarget(bool allow_namespace, std::string_view end_name) {
  // Names in targets are stores, not loads: they must not mark a macro as using its caller.
  std::vector<MacroDefinition*> macros;
  macros.swap(macros_);
  ExprPtr target =
      ParseTuple({.simplified = true, .allow_namespace = allow_namespace, .end_name = end_name});
  macros.swap(macros_);
  CheckAssignable(*target);
  return target;
}

int ExpressionParser::NameTarget() {
  const std::string name = ExpectIdentifier();
  return result_->symbols.Intern(name);
}

}  // namespace mach::jinja
