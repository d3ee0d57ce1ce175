// Renders a parsed template. One Interpreter per rendering, used by one thread.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "jinja/ast.h"
#include "jinja/value.h"

namespace mach::jinja {

// Ceilings of one rendering. A conversation of a million tokens stays far below them.
constexpr int64_t kMaxSteps = 50'000'000;
constexpr int64_t kMaxStringBytes = 64LL << 20;
constexpr int64_t kMaxListItems = 1'000'000;
constexpr int kMaxEvalDepth = 1000;

// Variables of one block. Shared only because macros keep the scope they were defined in.
struct Scope {
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<int, Value>> variables;

  Value* Find(int symbol);
  void Set(int symbol, Value value);
};

struct MacroObject final : CallableObject {
  const MacroDefinition* definition = nullptr;
  std::shared_ptr<Scope> scope;

  Value Call(Interpreter& interpreter, CallArgs& args) override;
  std::string Repr() const override;
  std::optional<Value> Attribute(std::string_view name) const override;
};

// The `loop` variable; also drives the loop.
struct LoopObject final : CallableObject {
  LoopObject(Value items, int depth0_value);

  Value iterable;
  Iterator iterator;
  std::deque<Value> ahead;  // items taken from the iterator before their turn
  int64_t index0 = -1;
  int depth0 = 0;
  std::optional<int64_t> length;
  std::optional<Value> current;
  std::optional<Value> before;
  std::optional<Value> last_changed;
  const Stmt* recursive = nullptr;  // while a recursive loop runs
  std::shared_ptr<Scope> scope;     // likewise: what its body is nested in

  bool Advance();
  bool PeekNext();
  int64_t TotalLength();
  Value Call(Interpreter& interpreter, CallArgs& args) override;
  std::string Repr() const override;
  std::optional<Value> LoopAttribute(std::string_view name);
  int depth() const override { return Depth(iterable) + 1; }
};

class Interpreter {
 public:
  Interpreter(const Template& source, int64_t now_unix_s);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  // Throws mach::Error as ChatTemplate::Render says.
  std::string Render(const nlohmann::ordered_json& variables);

  // What filters, tests and builtins need.
  int64_t now_unix_s() const { return now_unix_s_; }
  // Counts work; fails once there was too much of it.
  void Charge(int64_t steps) {
    steps_ += steps;
    if (steps_ > kMaxSteps) {
      FailSteps();
    }
  }
  // Charges for a value that was just made.
  void ChargeFor(const Value& value);
  Value Attribute(const Value& object, std::string_view name);
  Value Item(const Value& object, const Value& key);
  Value Call(const Value& callee, CallArgs& args);
  Value CallMacro(const MacroObject& macro, CallArgs& args);
  std::string CallLoop(LoopObject* loop, const Value& iterable);
  Value NewNamespace();
  // The words of raise_exception, passed on as they are.
  [[noreturn]] void Raise(const std::string& message);

 private:
  enum class Flow : uint8_t { kNormal, kBreak, kContinue };
  // Bounds how deep evaluation nests, and with it the stack.
  struct DepthGuard {
    explicit DepthGuard(Interpreter* interpreter_in) : interpreter(interpreter_in) {
      if (++interpreter->depth_ > kMaxEvalDepth) {
        FailLimit("chat template evaluates too deeply");
      }
    }
    ~DepthGuard() { --interpreter->depth_; }
    DepthGuard(const DepthGuard&) = delete;
    DepthGuard& operator=(const DepthGuard&) = delete;

    Interpreter* interpreter;
  };
  struct ScopeGuard;
  struct Capture;

  [[noreturn]] static void FailSteps();
  void Emit(std::string_view text);

  Flow ExecBlock(const Block& block);
  Flow Exec(const Stmt& stmt);
  Flow ExecIf(const Stmt& stmt);
  Flow ExecFor(const Stmt& stmt);
  Flow RunLoop(const Stmt& stmt, const Value& iterable, int depth0);
  Flow ExecScope(const Stmt& stmt, const Hidden& hidden);
  Flow ExecFilterBlock(const Stmt& stmt);
  void ExecSet(const Stmt& stmt);
  void ExecSetBlock(const Stmt& stmt);
  void ExecCallBlock(const Stmt& stmt);
  Flow ExecWith(const Stmt& stmt);
  Value NewMacro(const MacroDefinition& definition);
  Value FilteredItems(const Stmt& stmt, const Value& iterable);
  void Assign(const Expr& target, Value value);
  void Hide(const Hidden& hidden);

  Value Lookup(int symbol);
  Value Eval(const Expr& expr);
  Value EvalInner(const Expr& expr);
  Value EvalTuple(const Expr& expr, bool list);
  Value EvalDict(const Expr& expr);
  Value EvalGetitem(const Expr& expr);
  Value EvalSlice(const Value& object, const Expr& slice);
  Value EvalCall(const Expr& expr);
  Value EvalCallWith(const Expr& expr, const Value* caller);
  // A filter chain; `text` is what stands in for the missing input of a block's filter.
  Value EvalFilter(const Expr& expr, const Value* text);
  bool EvalTest(const Expr& expr);
  Value EvalCompare(const Expr& expr);
  Value EvalConcat(const Expr& expr);
  Value EvalUnary(const Expr& expr);
  CallArgs EvalArguments(const ArgumentList* arguments);
  void UnpackArguments(const ArgumentList& arguments, CallArgs* args);

  const Template& template_;
  int64_t now_unix_s_;
  int64_t steps_ = 0;
  int depth_ = 0;
  int line_ = 0;
  bool raised_ = false;
  std::string* out_ = nullptr;
  std::shared_ptr<Scope> scope_;
  std::vector<Value> context_;  // by symbol
  // May hold themselves through their own variables, so they are taken apart at the end.
  std::vector<std::shared_ptr<NamespaceObject>> namespaces_;
  std::vector<std::shared_ptr<MacroObject>> macros_;
};

}  // namespace mach::jinja
