// How long grammars take with a real vocabulary: the environment once, compiling a schema, and the
// masks along documents that it allows.
//
// usage: grammar_times TOKENIZER_JSON END_TOKEN
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "grammar/grammar.h"
#include "grammar/tool_grammar.h"
#include "platform/file.h"
#include "platform/process_memory.h"

namespace mach {
namespace {

// Processor time of this thread: other work on the machine does not count.
struct Clock {
  using duration = std::chrono::nanoseconds;
  using time_point = std::chrono::time_point<Clock, duration>;
  static time_point now() {
    timespec time = {};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time_point(std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec));
  }
};
using Json = nlohmann::ordered_json;

double MillisSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// What agents write most: a file as an argument.
std::string SourceFile() {
  std::string file = "#include <vector>\n#include <string>\n";
  for (int i = 0; i < 40; ++i) {
    const std::string n = std::to_string(i);
    file += "\n// Returns the sum of the values below limit_" + n + ".\nint Sum" + n +
            "(const std::vector<int>& values) {\n  int sum = 0;\n  for (size_t i = 0; i < "
            "values.size(); ++i) {\n    if (values[i] < " +
            n +
            " && values[i] != \"x\"[0]) {\n      sum += values[i];\n    }\n  }\n  return sum;\n}\n";
  }
  return file;
}

void Follow(const char* name, const grammar::Grammar& grammar, const text::Tokenizer& tokenizer,
            const std::string& text) {
  std::vector<double> masks;
  std::vector<double> accepts;
  std::vector<double> clones;
  decode::TokenMask mask;
  const std::vector<int32_t> tokens = tokenizer.Encode(text, false);
  for (int round = 0; round < 5; ++round) {
    auto start = Clock::now();
    const auto constraint = grammar.NewConstraint();
    clones.push_back(MillisSince(start));
    for (const int32_t token : tokens) {
      start = Clock::now();
      const bool masked = constraint->FillMask(mask);
      masks.push_back(MillisSince(start));
      if (masked && !decode::InMask(mask, token)) {
        std::printf("%-14s does not allow %s\n", name, tokenizer.TokenBytes(token).c_str());
        return;
      }
      start = Clock::now();
      constraint->Accept(token);
      accepts.push_back(MillisSince(start));
    }
  }
  const auto at = [](std::vector<double>& values, double share) {
    std::sort(values.begin(), values.end());
    return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
  };
  std::printf(
      "%-14s %4zu tokens; mask median %.3f, p99 %.3f, most %.3f; accept median %.3f, most "
      "%.3f; new constraint %.3f (ms)\n",
      name, tokens.size(), at(masks, 0.5), at(masks, 0.99), at(masks, 1), at(accepts, 0.5),
      at(accepts, 1), at(clones, 0.5));
}

int Run(const std::string& path, const std::string& end) {
  const std::shared_ptr<const text::Tokenizer> tokenizer =
      text::Tokenizer::FromJson(ReadWholeFile(path), path);
  const auto end_token = tokenizer->TokenToId(end);
  if (!end_token) {
    throw Error(ErrorCode::kInvalidArgument, "the vocabulary has no " + end);
  }
  auto start = Clock::now();
  uint64_t resident = ReadProcessMemory().rss_bytes;
  const auto grown_mib = [&resident] {
    const uint64_t before = std::exchange(resident, ReadProcessMemory().rss_bytes);
    return static_cast<double>(resident - std::min(before, resident)) / (1 << 20);
  };
  grammar::Compiler compiler(tokenizer, {.end_tokens = {*end_token}});
  std::printf("%d tokens; environment %.0f ms, %.1f MiB\n", tokenizer->vocab_size(),
              MillisSince(start), grown_mib());

  const Json person = Json::parse(R"({"type":"object","properties":{
    "name":{"type":"string"},"age":{"type":"integer","minimum":0,"maximum":150},
    "email":{"type":"string","format":"email"},
    "tags":{"type":"array","items":{"type":"string","maxLength":20},"maxItems":5},
    "address":{"type":"object","properties":{"street":{"type":"string"},
      "country":{"enum":["Germany","France","Iceland"]},"zip":{"type":"string","pattern":"^[0-9]{5}$"}},
      "required":["street","country"],"additionalProperties":false}},
    "required":["name","age","tags","address"],"additionalProperties":false})");
  const std::string text =
      R"({"name": "Jürgen \"Jay\" Müller", "age": 42, "email": "jay@example.com", "tags": ["sailing", "long walks", "日本語"], "address": {"street": "Am Hang 7, beside the old mill", "country": "Iceland", "zip": "12345"}})";
  std::vector<grammar::Tool> many;
  for (int i = 0; i < 20; ++i) {
    many.push_back({"tool_" + std::to_string(i), person});
  }
  const std::string qwen =
      "<tool_call>\n<function=tool_7>\n<parameter=name>\n" + SourceFile() +
      "\n</parameter>\n"
      "<parameter=age>\n42\n</parameter>\n<parameter=tags>\n[\"a\", \"b\"]\n</parameter>\n"
      "<parameter=address>\n{\"street\": \"Am Hang\", \"country\": \"France\"}\n</parameter>\n"
      "</function>\n</tool_call>";
  const auto time = [&](const char* name, const auto& compile, const std::string& document) {
    const auto begin = Clock::now();
    const auto made = compile();
    std::printf("%-14s compiled in %.1f ms, %.1f MiB\n", name, MillisSince(begin), grown_mib());
    Follow(name, *made, *tokenizer, document);
    std::printf("%-14s takes %.1f MiB more after that\n", name, grown_mib());
  };
  time(
      "object", [&] { return compiler.Compile(grammar::Spec::JsonObject()); }, text);
  time(
      "schema", [&] { return compiler.Compile(grammar::Spec::JsonSchema(person)); }, text);
  time(
      "hermes",
      [&] {
        return grammar::CompileCalls(compiler, grammar::CallFormat::kHermes, many,
                                     grammar::CallCount::kOne);
      },
      "<tool_call>\n{\"name\": \"tool_7\", \"arguments\": " + text + "}\n</tool_call>");
  time(
      "qwen3_xml",
      [&] {
        return grammar::CompileCalls(compiler, grammar::CallFormat::kQwen3Coder, many,
                                     grammar::CallCount::kOne);
      },
      qwen);
  time(
      "free text",
      [&] { return grammar::CompileFreeText(compiler, grammar::CallFormat::kQwen3Coder, many); },
      "I shall look at that now, step by step.\n" + qwen + "\nDone.");
  return 0;
}

}  // namespace
}  // namespace mach

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: grammar_times TOKENIZER_JSON END_TOKEN\n");
    return 2;
  }
  try {
    return mach::Run(argv[1], argv[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "grammar_times: %s\n", error.what());
    return 1;
  }
}
