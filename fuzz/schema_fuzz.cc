// Any JSON as the schema of an answer or of a tool's parameters: it is refused, or what its grammar
// lets through is JSON. The first two bytes steer which way is taken.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/error.h"
#include "grammar/byte_tokenizer.h"
#include "grammar/grammar.h"
#include "grammar/tool_grammar.h"

namespace {

using mach::Error;
using mach::ErrorCode;
using mach::grammar::ByteTokenizer;
using mach::grammar::Compiler;
using mach::grammar::Grammar;
using mach::grammar::Spec;

constexpr int kMostBytes = 300;  // of a walk

Compiler& TheCompiler() {
  static Compiler compiler(std::make_shared<const ByteTokenizer>(),
                           {.end_tokens = {ByteTokenizer::kEnd}, .cached_bytes = 0});
  return compiler;
}

// A text that the grammar lets through; empty if the way that was taken had no end in time.
std::string Walk(const Grammar& grammar, uint32_t steer) {
  const auto constraint = grammar.NewConstraint();
  std::string text;
  mach::decode::TokenMask mask;
  for (int i = 0; i < kMostBytes; ++i) {
    MACH_CHECK(constraint->FillMask(mask));
    if (mach::decode::InMask(mask, ByteTokenizer::kEnd)) {
      return text;
    }
    std::vector<int32_t> allowed;
    for (int32_t byte = 0; byte < 256; ++byte) {
      if (mach::decode::InMask(mask, byte)) {
        allowed.push_back(byte);
      }
    }
    MACH_CHECK(!allowed.empty());
    // An exponent makes numbers that are JSON and that the parser which judges takes for infinite.
    if (!text.empty() && text.back() >= '0' && text.back() <= '9' && allowed.size() > 2) {
      std::erase_if(allowed, [](int32_t byte) { return byte == 'e' || byte == 'E'; });
    }
    steer = steer * 1664525U + 1013904223U;
    int32_t byte = allowed[(steer >> 16) % allowed.size()];
    for (const char close : {'"', '}', ']'}) {  // or texts never end
      if (steer >> 31 == 0 && mach::decode::InMask(mask, close)) {
        byte = close;
      }
    }
    constraint->Accept(byte);
    text += static_cast<char>(byte);
  }
  return "";
}

template <typename F>
void Attempt(F attempt) {
  try {
    attempt();
  } catch (const Error& error) {
    MACH_CHECK(error.code() == ErrorCode::kInvalidArgument ||
               error.code() == ErrorCode::kResourceLimit);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) {
    return 0;
  }
  const auto schema = nlohmann::ordered_json::parse(
      std::string_view(reinterpret_cast<const char*>(data + 2), size - 2), nullptr, false);
  if (schema.is_discarded()) {
    return 0;
  }
  Attempt([&] {
    const auto grammar = TheCompiler().Compile(Spec::JsonSchema(schema));
    const std::string text = Walk(*grammar, data[0]);
    MACH_CHECK(text.empty() || nlohmann::json::accept(text));
  });
  if (data[1] % 4 == 0) {
    const auto format = static_cast<mach::chat::CallFormat>(1 + data[1] / 4 % 7);
    Attempt([&] {
      const std::vector<mach::grammar::Tool> tools = {{"run", schema}};
      Walk(*mach::grammar::CompileCalls(TheCompiler(), format, tools,
                                        mach::grammar::CallCount::kOne),
           data[0]);
    });
  }
  return 0;
}
