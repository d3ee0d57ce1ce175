#include "jinja/interpreter.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "jinja/builtins.h"
#include "jinja/repr.h"
#include "jinja/unicode.h"

namespace mach::jinja {

namespace {

// A namespace or macro lives until the end of the rendering, so it costs more than its size.
constexpr int64_t kKeptObjectSteps = 200;
constexpr int kMaxJsonDepth = 250;

Value FromJson(const nlohmann::ordered_json& json, int depth) {
  if (depth > kMaxJsonDepth) {
    FailLimit("chat template: variables are nested more than " + std::to_string(kMaxJsonDepth) +
              " levels deep");
  }
  using Type = nlohmann::ordered_json::value_t;
  switch (json.type()) {
    case Type::boolean:
      return Value::Bool(json.get<bool>());
    case Type::number_integer:
      return Value::Int(json.get<int64_t>());
    case Type::number_unsigned: {
      const auto value = json.get<uint64_t>();
      return value <= INT64_MAX ? Value::Int(static_cast<int64_t>(value))
                                : Value::BigInt(std::to_string(value));
    }
    case Type::binary: {  // the digits of a larger integer
      const auto& digits = json.get_binary();
      return Value::BigInt(std::string(digits.begin(), digits.end()));
    }
    case Type::number_float:
      return Value::Float(json.get<double>());
    case Type::string: {
      const auto& text = json.get_ref<const std::string&>();
      return Value::String(IsValidUtf8(text) ? text : ToValidUtf8(text));
    }
    case Type::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const auto& item : json) {
        items.push_back(FromJson(item, depth + 1));
      }
      return Value::List(std::move(items));
    }
    case Type::object: {
      const auto dict = NewDict();
      for (const auto& [key, value] : json.items()) {
        dict->Set(IsValidUtf8(key) ? key : ToValidUtf8(key), FromJson(value, depth + 1));
      }
      return DictValue(dict);
    }
    default:
      return Value::None();
  }
}

// transformers hands a message's reasoning to the template under every name that templates read.
Value WithReasoningNames(const Value& messages) {
  if (!messages.Is(Kind::kList)) {
    return messages;
  }
  std::vector<Value> result;
  result.reserve(messages.Items().size());
  for (const Value& message : messages.Items()) {
    const Value* reasoning = nullptr;
    for (const std::string_view name : {"reasoning_content", "thinking", "reasoning"}) {
      const Value* found = message.Is(Kind::kDict) ? message.Dict().Find(name) : nullptr;
      if (reasoning == nullptr && found != nullptr && !found->IsNone()) {
        reasoning = found;
      }
    }
    if (reasoning == nullptr) {
      result.push_back(message);
      continue;
    }
    const auto dict = NewDict();
    dict->Set("thinking", *reasoning);
    for (const auto& [key, value] : message.Dict().entries) {
      dict->Set(key, value);
    }
    dict->Set("reasoning_content", *reasoning);
    result.push_back(DictValue(dict));
  }
  return Value::List(std::move(result));
}

}  // namespace

Value* Scope::Find(int symbol) {
  for (auto& [name, value] : variables) {
    if (name == symbol) {
      return &value;
    }
  }
  return nullptr;
}

void Scope::Set(int symbol, Value value) {
  if (Value* existing = Find(symbol)) {
    *existing = std::move(value);
  } else {
    variables.emplace_back(symbol, std::move(value));
  }
}

// Makes a new scope current until it goes out of C++ scope.
struct Interpreter::ScopeGuard {
  ScopeGuard(Interpreter* interpreter_in, std::shared_ptr<Scope> parent)
      : interpreter(interpreter_in), saved(interpreter_in->scope_) {
    interpreter->scope_ = std::make_shared<Scope>();
    interpreter->scope_->parent = std::move(parent);
  }
  explicit ScopeGuard(Interpreter* interpreter_in)
      : ScopeGuard(interpreter_in, interpreter_in->scope_) {}
  ~ScopeGuard() { interpreter->scope_ = std::move(saved); }
  ScopeGuard(const ScopeGuard&) = delete;
  ScopeGuard& operator=(const ScopeGuard&) = delete;

  Interpreter* interpreter;
  std::shared_ptr<Scope> saved;
};

// Redirects output into a string.
struct Interpreter::Capture {
  explicit Capture(Interpreter* interpreter_in)
      : interpreter(interpreter_in), saved(interpreter_in->out_) {
    interpreter->out_ = &text;
  }
  ~Capture() { interpreter->out_ = saved; }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  Interpreter* interpreter;
  std::string* saved;
  std::string text;
};

Interpreter::Interpreter(const Template& source, int64_t now_unix_s)
    : template_(source), now_unix_s_(now_unix_s) {}

Interpreter::~Interpreter() {
  scope_.reset();
  context_.clear();
  for (const auto& macro : macros_) {
    macro->scope.reset();
  }
  for (const auto& object : namespaces_) {
    object->attributes.entries.clear();
  }
}

void Interpreter::FailSteps() {
  FailLimit("chat template ran for more than " + std::to_string(kMaxSteps) + " steps");
}

void Interpreter::ChargeFor(const Value& value) {
  switch (value.kind()) {
    case Kind::kString:
      if (static_cast<int64_t>(value.Text().size()) > kMaxStringBytes) {
        FailLimit("chat template made a text of more than " + std::to_string(kMaxStringBytes) +
                  " bytes");
      }
      Charge(static_cast<int64_t>(value.Text().size() / 8));
      return;
    case Kind::kList:
    case Kind::kTuple:
      Charge(4 * static_cast<int64_t>(value.Items().size()));
      return;
    case Kind::kDict:
      Charge(8 * static_cast<int64_t>(value.Dict().entries.size()));
      return;
    default:
      return;
  }
}

Value Interpreter::NewNamespace() {
  Charge(kKeptObjectSteps);
  auto object = std::make_shared<NamespaceObject>();
  namespaces_.push_back(object);
  return Value::FromObject(Kind::kNamespace, std::move(object));
}

Value Interpreter::NewMacro(const MacroDefinition& definition) {
  Charge(kKeptObjectSteps);
  auto object = std::make_shared<MacroObject>();
  object->definition = &definition;
  object->scope = scope_;
  macros_.push_back(object);
  return Value::FromObject(Kind::kCallable, std::move(object));
}

void Interpreter::Raise(const std::string& message) {
  raised_ = true;
  Fail(message);
}

std::string Interpreter::Render(const nlohmann::ordered_json& variables) {
  if (!variables.is_object()) {
    Fail("chat template variables must be an object");
  }
  std::string out;
  out_ = &out;
  try {
    context_.resize(template_.symbols.size());
    const auto preset = [this](const char* name, const Value& value) {
      const int symbol = template_.symbols.Find(name);
      if (symbol >= 0) {
        context_[symbol] = value;
      }
    };
    preset("tools", Value::None());
    preset("documents", Value::None());
    preset("add_generation_prompt", Value::Bool(false));
    for (const auto& [key, value] : variables.items()) {
      const int symbol = template_.symbols.Find(key);
      if (symbol >= 0) {
        const Value converted = FromJson(value, 0);
        context_[symbol] = key == "messages" ? WithReasoningNames(converted) : converted;
      }
    }
    scope_ = std::make_shared<Scope>();
    Hide(template_.hidden);
    ExecBlock(template_.body);
  } catch (const Error& error) {
    if (raised_ || error.code() != ErrorCode::kInvalidArgument) {
      throw;
    }
    throw Error(error.code(), "chat template, line " + std::to_string(line_) + ": " + error.what());
  }
  return out;
}

void Interpreter::Emit(std::string_view text) {
  if (static_cast<int64_t>(out_->size() + text.size()) > kMaxStringBytes) {
    FailLimit("chat template wrote more than " + std::to_string(kMaxStringBytes) + " bytes");
  }
  Charge(static_cast<int64_t>(text.size() / 64));
  out_->append(text);
}

void Interpreter::Hide(const Hidden& hidden) {
  for (const int symbol : hidden) {
    scope_->Set(symbol, Value());
  }
}

Interpreter::Flow Interpreter::ExecBlock(const Block& block) {
  const DepthGuard guard(this);
  for (const StmtPtr& stmt : block) {
    const Flow flow = Exec(*stmt);
    if (flow != Flow::kNormal) {
      return flow;
    }
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::Exec(const Stmt& stmt) {
  Charge(1);
  line_ = stmt.line;
  switch (stmt.kind) {
    case StmtKind::kData:
      Emit(stmt.text);
      return Flow::kNormal;
    case StmtKind::kOutput:
      for (const ExprPtr& expr : stmt.exprs) {
        const Value value = Eval(*expr);
        if (value.IsString()) {
          Emit(value.Text());
        } else {
          Emit(Str(value));
        }
      }
      return Flow::kNormal;
    case StmtKind::kIf:
      return ExecIf(stmt);
    case StmtKind::kFor:
      return ExecFor(stmt);
    case StmtKind::kSet:
      ExecSet(stmt);
      return Flow::kNormal;
    case StmtKind::kSetBlock:
      ExecSetBlock(stmt);
      return Flow::kNormal;
    case StmtKind::kMacro:
      scope_->Set(stmt.macro->symbol, NewMacro(*stmt.macro));
      return Flow::kNormal;
    case StmtKind::kCallBlock:
      ExecCallBlock(stmt);
      return Flow::kNormal;
    case StmtKind::kFilterBlock:
      return ExecFilterBlock(stmt);
    case StmtKind::kWith:
      return ExecWith(stmt);
    case StmtKind::kScope:
      return ExecScope(stmt, stmt.hidden.empty() ? Hidden() : stmt.hidden[0]);
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
    case StmtKind::kUnsupported:
      Fail("'" + stmt.text + "' is not possible in a chat template");
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::ExecIf(const Stmt& stmt) {
  for (size_t i = 0; i < stmt.exprs.size(); ++i) {
    if (Truthy(Eval(*stmt.exprs[i]))) {
      return ExecBlock(stmt.branches[i]);
    }
  }
  return stmt.branches.size() > stmt.exprs.size() ? ExecBlock(stmt.branches.back()) : Flow::kNormal;
}

Interpreter::Flow Interpreter::ExecScope(const Stmt& stmt, const Hidden& hidden) {
  const ScopeGuard guard(this);
  Hide(hidden);
  return ExecBlock(stmt.branches[0]);
}

Interpreter::Flow Interpreter::ExecFilterBlock(const Stmt& stmt) {
  Value text;
  {
    Capture capture(this);
    const Flow flow = ExecScope(stmt, stmt.hidden.empty() ? Hidden() : stmt.hidden[0]);
    if (flow != Flow::kNormal) {
      return flow;
    }
    text = Value::String(std::move(capture.text));
  }
  Emit(Str(EvalFilter(*stmt.exprs[0], &text)));
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::ExecWith(const Stmt& stmt) {
  std::vector<Value> values;
  for (const ExprPtr& expr : stmt.exprs) {
    values.push_back(Eval(*expr));
  }
  const ScopeGuard guard(this);
  if (!stmt.hidden.empty()) {
    Hide(stmt.hidden[0]);
  }
  for (size_t i = 0; i < values.size(); ++i) {
    Assign(*stmt.targets[i], std::move(values[i]));
  }
  return ExecBlock(stmt.branches[0]);
}

void Interpreter::ExecSet(const Stmt& stmt) {
  Assign(*stmt.targets[0], Eval(*stmt.exprs[0]));
}

void Interpreter::ExecSetBlock(const Stmt& stmt) {
  Value text;
  {
    Capture capture(this);
    ExecScope(stmt, stmt.hidden.empty() ? Hidden() : stmt.hidden[0]);
    text = Value::String(std::move(capture.text));
  }
  if (stmt.exprs[0]) {
    text = EvalFilter(*stmt.exprs[0], &text);
  }
  Assign(*stmt.targets[0], std::move(text));
}

void Interpreter::ExecCallBlock(const Stmt& stmt) {
  const Value caller = NewMacro(*stmt.macro);
  Emit(Str(EvalCallWith(*stmt.exprs[0], &caller)));
}

void Interpreter::Assign(const Expr& target, Value value) {
  if (target.kind == ExprKind::kName) {
    scope_->Set(target.symbol, std::move(value));
    return;
  }
  if (target.kind == ExprKind::kNamespaceRef) {
    const Value object = Lookup(target.symbol);
    if (!object.Is(Kind::kNamespace)) {
      Fail("cannot assign attribute on non-namespace object");
    }
    if (target.attribute[0] == '_') {
      Fail("Chat templates cannot store underscore-prefixed attributes on a namespace, but got '" +
           target.attribute + "'. Please rename the attribute.");
    }
    object.Get<NamespaceObject>().attributes.Set(target.attribute, value);
    return;
  }
  std::vector<Value> items = ToVector(value);
  if (items.size() != target.children.size()) {
    Fail((items.size() > target.children.size() ? "too many values to unpack (expected "
                                                : "not enough values to unpack (expected ") +
         std::to_string(target.children.size()) + ")");
  }
  for (size_t i = 0; i < items.size(); ++i) {
    Assign(*target.children[i], std::move(items[i]));
  }
}

Value Interpreter::FilteredItems(const Stmt& stmt, const Value& iterable) {
  auto iterator = std::make_shared<Iterator>(iterable);
  // The test sees what is around the loop, not what the previous round assigned.
  return GeneratorValue("generator", DepthAbove(iterable),
                        [this, &stmt, iterator, outer = scope_]() -> std::optional<Value> {
                          while (std::optional<Value> item = iterator->Next()) {
                            Charge(1);
                            const ScopeGuard guard(this, outer);
                            Assign(*stmt.targets[0], *item);
                            if (Truthy(Eval(*stmt.test))) {
                              return item;
                            }
                          }
                          return std::nullopt;
                        });
}

Interpreter::Flow Interpreter::ExecFor(const Stmt& stmt) {
  const Value iterable = Eval(*stmt.exprs[0]);
  if (stmt.recursive) {
    std::string text;
    {
      Capture capture(this);
      RunLoop(stmt, iterable, 0);
      text = std::move(capture.text);
    }
    Emit(text);
    return Flow::kNormal;
  }
  return RunLoop(stmt, iterable, 0);
}

Interpreter::Flow Interpreter::RunLoop(const Stmt& stmt, const Value& iterable, int depth0) {
  if (!IsIterable(iterable)) {
    Fail(std::string("'") + TypeName(iterable) + "' object is not iterable");
  }
  const auto loop =
      std::make_shared<LoopObject>(stmt.test ? FilteredItems(stmt, iterable) : iterable, depth0);
  if (stmt.recursive) {
    loop->recursive = &stmt;
    loop->scope = scope_;
  }
  const Value loop_value = Value::FromObject(Kind::kLoop, loop);
  // What the loop remembers may hold the loop itself.
  struct Forget {
    explicit Forget(LoopObject* loop_in) : loop(loop_in) {}
    Forget(const Forget&) = delete;
    Forget& operator=(const Forget&) = delete;
    ~Forget() {
      loop->recursive = nullptr;
      loop->scope.reset();
      loop->last_changed.reset();
    }
    LoopObject* loop;
  } const forget(loop.get());
  // Jinja runs the else branch unless some round came to the end of the body.
  bool completed = false;
  {
    const ScopeGuard guard(this);
    const std::shared_ptr<Scope> parent = scope_->parent;
    while (loop->Advance()) {
      Charge(1);
      if (scope_.use_count() > 1) {
        scope_ = std::make_shared<Scope>();
        scope_->parent = parent;
      } else {
        scope_->variables.clear();
      }
      if (!stmt.hidden.empty()) {
        Hide(stmt.hidden[0]);
      }
      scope_->Set(template_.loop_symbol, loop_value);
      Assign(*stmt.targets[0], *loop->current);
      const Flow flow = ExecBlock(stmt.branches[0]);
      if (flow == Flow::kBreak) {
        break;
      }
      completed |= flow == Flow::kNormal;
    }
  }
  if (!completed && stmt.branches.size() > 1) {
    const ScopeGuard guard(this);
    if (stmt.hidden.size() > 1) {
      Hide(stmt.hidden[1]);
    }
    return ExecBlock(stmt.branches[1]);
  }
  return Flow::kNormal;
}

std::string Interpreter::CallLoop(LoopObject* loop, const Value& iterable) {
  if (loop->recursive == nullptr) {
    Fail("The loop must have the 'recursive' marker to be called recursively.");
  }
  if (depth_ > kMaxEvalDepth / 4) {
    FailLimit("chat template recurses too deeply");
  }
  const int depth = depth_;
  depth_ += 10;
  Capture capture(this);
  const std::shared_ptr<Scope> saved = scope_;
  scope_ = loop->scope;
  try {
    RunLoop(*loop->recursive, iterable, loop->depth0 + 1);
  } catch (...) {
    scope_ = saved;
    throw;
  }
  scope_ = saved;
  depth_ = depth;
  return std::move(capture.text);
}

Value Interpreter::CallMacro(const MacroObject& macro, CallArgs& args) {
  const MacroDefinition& definition = *macro.definition;
  if (depth_ > kMaxEvalDepth / 2) {
    FailLimit("chat template calls macros too deeply");
  }
  const int depth = depth_;
  depth_ += 10;
  const int line = line_;
  const ScopeGuard guard(this, macro.scope);
  Hide(definition.hidden);
  const size_t count = definition.parameters.size();
  const auto take_keyword = [&args](const std::string& name) -> std::optional<Value> {
    for (auto it = args.keyword.begin(); it != args.keyword.end(); ++it) {
      if (it->first == name) {
        Value value = std::move(it->second);
        args.keyword.erase(it);
        return value;
      }
    }
    return std::nullopt;
  };
  bool explicit_caller = false;
  std::vector<size_t> missing;
  for (size_t i = 0; i < count; ++i) {
    const std::string& name = definition.parameter_names[i];
    explicit_caller |= name == "caller";
    std::optional<Value> value;
    if (i < args.positional.size()) {
      value = args.positional[i];
    } else {
      value = take_keyword(name);
    }
    if (value) {
      scope_->Set(definition.parameters[i], std::move(*value));
    } else {
      scope_->Set(definition.parameters[i], Value());
      missing.push_back(i);
    }
  }
  if (definition.uses_caller && !explicit_caller) {
    std::optional<Value> caller = take_keyword("caller");
    scope_->Set(template_.caller_symbol,
                caller ? std::move(*caller) : Value::UndefinedHint("No caller defined"));
  }
  if (definition.uses_kwargs) {
    const auto dict = NewDict();
    for (const auto& [name, value] : args.keyword) {
      dict->Set(name, value);
    }
    scope_->Set(template_.kwargs_symbol, DictValue(dict));
  } else if (!args.keyword.empty()) {
    Fail("macro '" + definition.name + "' takes no keyword argument '" + args.keyword[0].first +
         "'");
  }
  if (definition.uses_varargs) {
    const size_t used = std::min(count, args.positional.size());
    scope_->Set(template_.varargs_symbol,
                Value::Tuple({args.positional.begin() + static_cast<std::ptrdiff_t>(used),
                              args.positional.end()}));
  } else if (args.positional.size() > count) {
    Fail("macro '" + definition.name + "' takes not more than " + std::to_string(count) +
         " argument(s)");
  }
  const size_t first_default = count - definition.defaults.size();
  for (const size_t i : missing) {
    scope_->Set(definition.parameters[i],
                i >= first_default
                    ? Eval(*definition.defaults[i - first_default])
                    : Value::UndefinedHint("parameter '" + definition.parameter_names[i] +
                                           "' was not provided"));
  }
  Capture capture(this);
  ExecBlock(definition.body);
  line_ = line;
  depth_ = depth;
  Value result = Value::String(std::move(capture.text));
  ChargeFor(result);
  return result;
}

}  // namespace mach::jinja
