#include "jinja/analysis.h"

#include <initializer_list>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "jinja/lexer.h"

namespace mach::jinja {

namespace {

// How a scope gets a name's first value when it is entered.
enum class Load : uint8_t {
  kParameter,
  kUndefined,  // hidden until assigned
  kOuter,      // whatever is around the scope, or the context
};

// The names that one scope mentions. Jinja looks at the whole scope before it runs any of it.
struct Symbols {
  const Symbols* parent = nullptr;
  std::map<int, Load> loads;
  std::set<int> stores;

  bool Knows(int symbol) const {
    for (const Symbols* symbols = this; symbols != nullptr; symbols = symbols->parent) {
      if (symbols->loads.count(symbol) != 0) {
        return true;
      }
    }
    return false;
  }

  void Read(int symbol) {
    if (!Knows(symbol)) {
      loads[symbol] = Load::kOuter;
    }
  }

  void Write(int symbol) {
    stores.insert(symbol);
    if (loads.count(symbol) == 0) {
      loads[symbol] = parent != nullptr && parent->Knows(symbol) ? Load::kOuter : Load::kUndefined;
    }
  }

  void Declare(int symbol) {
    stores.insert(symbol);
    loads[symbol] = Load::kParameter;
  }

  // What only some branches assign keeps its outer value in the others.
  void Join(std::initializer_list<const Symbols*> branches) {
    std::set<int> assigned;
    for (const Symbols* branch : branches) {
      assigned.insert(branch->stores.begin(), branch->stores.end());
    }
    for (const int symbol : stores) {
      assigned.erase(symbol);
    }
    for (const Symbols* branch : branches) {
      for (const auto& [symbol, load] : branch->loads) {
        loads[symbol] = load;
      }
      stores.insert(branch->stores.begin(), branch->stores.end());
    }
    for (const int symbol : assigned) {
      loads[symbol] = Load::kOuter;
    }
  }

  Hidden HiddenNames() const {
    Hidden hidden;
    for (const auto& [symbol, load] : loads) {
      if (load == Load::kUndefined) {
        hidden.push_back(symbol);
      }
    }
    return hidden;
  }
};

class Analyzer {
 public:
  explicit Analyzer(Template* source) : template_(source) {}

  void Run() {
    Symbols symbols;
    template_->hidden = ScopeOf(&symbols, &template_->body);
  }

 private:
  // Finishes a scope whose parameters are declared already.
  Hidden ScopeOf(Symbols* symbols, Block* body) {
    VisitBlock(symbols, *body);
    Descend(*symbols, body, false);
    return symbols->HiddenNames();
  }

  Hidden NewScope(const Symbols& parent, Block* body) {
    Symbols symbols;
    symbols.parent = &parent;
    return ScopeOf(&symbols, body);
  }

  static void VisitArguments(Symbols* symbols, const ArgumentList& arguments) {
    for (const ExprPtr& argument : arguments.positional) {
      VisitExpr(symbols, argument.get());
    }
    for (const auto& [name, argument] : arguments.keyword) {
      VisitExpr(symbols, argument.get());
    }
    VisitExpr(symbols, arguments.star.get());
    VisitExpr(symbols, arguments.double_star.get());
  }

  static void VisitExpr(Symbols* symbols, const Expr* expr) {
    if (expr == nullptr) {
      return;
    }
    if (expr->kind == ExprKind::kName) {
      symbols->Read(expr->symbol);
    }
    for (const ExprPtr& child : expr->children) {
      VisitExpr(symbols, child.get());
    }
    if (expr->arguments) {
      VisitArguments(symbols, *expr->arguments);
    }
  }

  static void VisitTarget(Symbols* symbols, const Expr& target, bool parameter) {
    if (target.kind == ExprKind::kNamespaceRef) {
      symbols->Read(target.symbol);
    } else if (target.kind == ExprKind::kName) {
      if (parameter) {
        symbols->Declare(target.symbol);
      } else {
        symbols->Write(target.symbol);
      }
    }
    for (const ExprPtr& child : target.children) {
      VisitTarget(symbols, *child, parameter);
    }
  }

  static void VisitIf(Symbols* symbols, const Stmt& stmt) {
    VisitExpr(symbols, stmt.exprs[0].get());
    Symbols body = *symbols;
    VisitBlock(&body, stmt.branches[0]);
    Symbols elifs = *symbols;
    for (size_t i = 1; i < stmt.exprs.size(); ++i) {
      VisitExpr(&elifs, stmt.exprs[i].get());
      Symbols branch = elifs;
      VisitBlock(&branch, stmt.branches[i]);
      elifs.Join({&branch});
    }
    Symbols otherwise = *symbols;
    if (stmt.branches.size() > stmt.exprs.size()) {
      VisitBlock(&otherwise, stmt.branches.back());
    }
    symbols->Join({&body, &elifs, &otherwise});
  }

  static void VisitBlock(Symbols* symbols, const Block& block) {
    for (const StmtPtr& stmt : block) {
      switch (stmt->kind) {
        case StmtKind::kIf:
          VisitIf(symbols, *stmt);
          break;
        case StmtKind::kMacro:
          symbols->Write(stmt->macro->symbol);
          break;
        case StmtKind::kSetBlock:
          VisitTarget(symbols, *stmt->targets[0], false);
          break;
        default:
          for (const ExprPtr& expr : stmt->exprs) {
            VisitExpr(symbols, expr.get());
          }
          if (stmt->kind == StmtKind::kSet) {
            VisitTarget(symbols, *stmt->targets[0], false);
          }
      }
    }
  }

  void DescendMacro(const Symbols& parent, MacroDefinition* macro) {
    Symbols symbols;
    symbols.parent = &parent;
    for (const int parameter : macro->parameters) {
      symbols.Declare(parameter);
    }
    for (const ExprPtr& expr : macro->defaults) {
      VisitExpr(&symbols, expr.get());
      CheckNames(expr.get(), false);
    }
    if (macro->uses_caller) {
      symbols.Declare(template_->caller_symbol);
    }
    if (macro->uses_kwargs) {
      symbols.Declare(template_->kwargs_symbol);
    }
    if (macro->uses_varargs) {
      symbols.Declare(template_->varargs_symbol);
    }
    macro->hidden = ScopeOf(&symbols, &macro->body);
  }

  void DescendFor(const Symbols& parent, Stmt* stmt) {
    Symbols symbols;
    symbols.parent = &parent;
    symbols.Declare(template_->loop_symbol);
    VisitTarget(&symbols, *stmt->targets[0], true);
    CheckNames(stmt->test.get(), false);
    stmt->hidden.push_back(ScopeOf(&symbols, &stmt->branches[0]));
    if (stmt->branches.size() > 1) {
      stmt->hidden.push_back(NewScope(parent, &stmt->branches[1]));
    }
  }

  // The scopes inside `block`. `soft`: inside an if, where unknown filters fail only when reached.
  void Descend(const Symbols& symbols, Block* block, bool soft) {
    for (const StmtPtr& stmt : *block) {
      const bool soft_exprs = stmt->kind == StmtKind::kIf || soft;
      const bool inner_exprs =
          stmt->kind == StmtKind::kFilterBlock || stmt->kind == StmtKind::kSetBlock;
      for (const ExprPtr& expr : stmt->exprs) {
        CheckNames(expr.get(), soft_exprs && !inner_exprs);
      }
      switch (stmt->kind) {
        case StmtKind::kIf:
          for (Block& branch : stmt->branches) {
            Descend(symbols, &branch, true);
          }
          break;
        case StmtKind::kFor:
          DescendFor(symbols, stmt.get());
          break;
        case StmtKind::kMacro:
        case StmtKind::kCallBlock:
          DescendMacro(symbols, stmt->macro.get());
          break;
        case StmtKind::kWith: {
          Symbols inner;
          inner.parent = &symbols;
          for (const ExprPtr& target : stmt->targets) {
            VisitTarget(&inner, *target, true);
          }
          stmt->hidden.push_back(ScopeOf(&inner, &stmt->branches[0]));
          break;
        }
        case StmtKind::kFilterBlock:
        case StmtKind::kSetBlock:
        case StmtKind::kScope:
          stmt->hidden.push_back(NewScope(symbols, &stmt->branches[0]));
          break;
        default:
          break;
      }
    }
  }

  void CheckNames(const Expr* expr, bool soft) const {
    if (expr == nullptr) {
      return;
    }
    if (!soft && expr->kind == ExprKind::kFilter && expr->filter == nullptr) {
      FailSyntax(template_->name, expr->line, "No filter named '" + expr->text + "'.");
    }
    if (!soft && expr->kind == ExprKind::kTest && expr->test == nullptr) {
      FailSyntax(template_->name, expr->line, "No test named '" + expr->text + "'.");
    }
    soft |= expr->kind == ExprKind::kConditional;
    for (const ExprPtr& child : expr->children) {
      CheckNames(child.get(), soft);
    }
    if (!expr->arguments) {
      return;
    }
    for (const ExprPtr& argument : expr->arguments->positional) {
      CheckNames(argument.get(), soft);
    }
    for (const auto& [name, argument] : expr->arguments->keyword) {
      CheckNames(argument.get(), soft);
    }
    CheckNames(expr->arguments->star.get(), soft);
    CheckNames(expr->arguments->double_star.get(), soft);
  }

  Template* template_;
};

}  // namespace

void Analyze(Template* result) {
  Analyzer(result).Run();
}

}  // namespace mach::jinja
