// The parsed template. Immutable after parsing and shared by all renderings.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "jinja/value.h"

namespace mach::jinja {

// Names are numbered, so that scopes compare integers.
class SymbolTable {
 public:
  int Intern(const std::string& name);
  // -1 if the template never mentions `name`.
  int Find(const std::string& name) const;
  const std::string& Name(int symbol) const { return names_[symbol]; }
  int size() const { return static_cast<int>(names_.size()); }

 private:
  std::unordered_map<std::string, int> symbols_;
  std::vector<std::string> names_;
};

enum class ExprKind : uint8_t {
  kConst,
  kName,
  kTuple,
  kList,
  kDict,     // children: key, value, key, value...
  kGetattr,  // children[0].text
  kGetitem,  // children[0][children[1]]
  kSlice,    // children: start, stop, step, each may be null
  kCall,     // children[0](...)
  kFilter,   // children[0] | text(...); children[0] is null inside filter blocks
  kTest,     // children[0] is text(...)
  kNot,
  kNegate,
  kPlus,
  kAnd,
  kOr,
  kCompare,       // children[0] ops[0] children[1] ops[1] children[2]...
  kBinary,        // children[0] op children[1]
  kConcat,        // ~
  kConditional,   // children: test, then, else (may be null)
  kNamespaceRef,  // assignment target text.attribute
};

enum class Op : uint8_t {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn,
};

struct FilterEntry;
struct TestEntry;
struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

// The written arguments of a call, filter or test.
struct ArgumentList {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> keyword;
  ExprPtr star;         // *expr
  ExprPtr double_star;  // **expr
};

struct Expr {
  ExprKind kind = ExprKind::kConst;
  Op op = Op::kAdd;
  int line = 0;
  int height = 1;  // bounds the recursion of evaluation and destruction
  int symbol = -1;
  std::string text;
  std::string attribute;
  Value constant;
  std::vector<ExprPtr> children;
  std::vector<Op> ops;
  std::unique_ptr<ArgumentList> arguments;
  const FilterEntry* filter = nullptr;  // null: no such filter, an error once evaluated
  const TestEntry* test = nullptr;
};

enum class StmtKind : uint8_t {
  kData,    // text
  kOutput,  // {{ exprs[0] }}
  kIf,      // exprs[i] guards branches[i]; one branch more than exprs is the else
  kFor,
  kSet,       // target = exprs[0]
  kSetBlock,  // target = body | exprs[0] (a filter chain, may be null)
  kMacro,
  kCallBlock,    // exprs[0] is the call, macro the caller
  kFilterBlock,  // exprs[0] is the filter chain
  kWith,         // targets and exprs
  kScope,        // {% block %}, {% generation %}: body in a scope of its own
  kBreak,
  kContinue,
  kUnsupported,  // include, import, extends: fails when reached
};

struct Stmt;
using StmtPtr = std::unique_ptr<Stmt>;
using Block = std::vector<StmtPtr>;

// What a scope has to hide when it is entered: locals whose first mention is an assignment.
using Hidden = std::vector<int>;

struct MacroDefinition {
  int symbol = -1;
  std::string name;
  std::vector<std::string> parameter_names;
  std::vector<int> parameters;
  std::vector<ExprPtr> defaults;  // of the last parameters
  bool uses_caller = false;
  bool uses_kwargs = false;
  bool uses_varargs = false;
  Block body;
  Hidden hidden;
};

struct Stmt {
  StmtKind kind = StmtKind::kData;
  int line = 0;
  std::string text;
  std::vector<ExprPtr> exprs;
  std::vector<Block> branches;  // kIf; kFor: body and else; others: body
  std::vector<Hidden> hidden;   // parallel to branches where they are scopes
  std::vector<ExprPtr> targets;
  ExprPtr test;  // kFor: the `if`
  bool recursive = false;
  std::unique_ptr<MacroDefinition> macro;
};

struct Template {
  std::string name;
  SymbolTable symbols;
  Block body;
  Hidden hidden;
  // Names that the interpreter itself looks for.
  int loop_symbol = -1;
  int caller_symbol = -1;
  int kwargs_symbol = -1;
  int varargs_symbol = -1;
};

}  // namespace mach::jinja
