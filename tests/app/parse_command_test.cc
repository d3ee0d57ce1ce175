// `mach parse` as a program: flags, JSON on stdout, exit codes.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using Json = nlohmann::ordered_json;

class ParseCommand : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = std::filesystem::temp_directory_path() /
                 ("mach_parse_command_" + std::to_string(::getpid()));
    std::filesystem::create_directories(directory_);
    Write("tools.json", R"([{"type":"function","function":{"name":"run","parameters":{
        "type":"object","properties":{"cmd":{"type":"string"},"n":{"type":"integer"}}}}}])");
    Write("call.txt",
          "<think>ü?</think>\n<tool_call>\n<function=run>\n<parameter=cmd>\nls\n</parameter>\n"
          "<parameter=n>\n3\n</parameter>\n</function>\n</tool_call><|im_end|>");
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(directory_ / name, std::ios::binary) << text;
  }

  // Runs `mach parse FLAGS < input`; {} if it failed.
  Json Run(const std::string& flags, const std::string& input = "call.txt") {
    const std::string command = std::string(MACH_BINARY) + " parse " + flags + " < " +
                                (directory_ / input).string() + " 2> /dev/null";
    // The command line is this test's own.
    FILE* pipe = ::popen(command.c_str(), "r");  // NOLINT(bugprone-command-processor,cert-env33-c)
    std::string out;
    char buffer[4096];
    while (const size_t bytes = std::fread(buffer, 1, sizeof(buffer), pipe)) {
      out.append(buffer, bytes);
    }
    const int status = ::pclose(pipe);
    exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return exit_code_ == 0 ? Json::parse(out) : Json();
  }

  std::string Tools() const { return "--tools " + (directory_ / "tools.json").string() + " "; }

  std::filesystem::path directory_;
  int exit_code_ = 0;
};

TEST_F(ParseCommand, PrintsDeltasMessageAndFinishReason) {
  const Json result = Run("--format qwen3_coder --reasoning qwen3 " + Tools());
  ASSERT_EQ(exit_code_, 0);
  const Json& message = result.at("message");
  EXPECT_EQ(message.at("role"), "assistant");
  EXPECT_TRUE(message.at("content").is_null());
  EXPECT_EQ(message.at("reasoning_content"), "ü?");
  const Json& call = message.at("tool_calls").at(0);
  EXPECT_TRUE(call.at("id").get<std::string>().starts_with("call_"));
  EXPECT_EQ(call.at("function").at("arguments"), R"({"cmd": "ls", "n": 3})");
  EXPECT_EQ(result.at("finish_reason"), "tool_calls");
  EXPECT_EQ(result.at("deltas").size(), 6U);
  EXPECT_EQ(result.at("deltas").at(0).dump(), R"({"reasoning_content":"ü?"})");
  EXPECT_EQ(result.at("deltas").at(2).dump(),
            R"({"tool_calls":[{"index":0,"function":{"arguments":"{\"cmd\": \"ls"}}]})");
}

TEST_F(ParseCommand, SplitsGiveTheSameMessage) {
  const Json whole = Run("--format qwen3_xml --reasoning qwen3 " + Tools()).at("message");
  for (const char* split : {"line", "byte", "char", "3"}) {
    EXPECT_EQ(
        Run("--format qwen3_xml --reasoning qwen3 " + Tools() + "--split " + split).at("message"),
        whole);
  }
}

TEST_F(ParseCommand, Options) {
  EXPECT_EQ(Run("--format qwen3_coder --ended length " + Tools()).at("finish_reason"), "length");
  EXPECT_EQ(Run("--format none --reasoning qwen3 --starts-in reasoning").at("finish_reason"),
            "stop");
  Write("two.txt",
        "<tool_call>{\"name\":\"a\"}</tool_call><tool_call>{\"name\":\"b\"}</tool_call>");
  EXPECT_EQ(Run("--format hermes", "two.txt").at("message").at("tool_calls").size(), 2U);
  EXPECT_EQ(Run("--format hermes --parallel-tool-calls false", "two.txt")
                .at("message")
                .at("tool_calls")
                .size(),
            1U);
  Write("empty.txt", "");
  EXPECT_EQ(Run("--format harmony --split byte", "empty.txt").dump(),
            R"({"deltas":[],"message":{"role":"assistant","content":""},"finish_reason":"stop"})");
}

TEST_F(ParseCommand, WrongUsage) {
  for (const char* flags :
       {"", "--format klingon", "--format none --split 0", "--format none --split often",
        "--format none --ended maybe", "--format none --parallel-tool-calls perhaps"}) {
    Run(flags);
    EXPECT_EQ(exit_code_, 2) << flags;
  }
  Write("bad.json", "{}");
  Run("--format none --tools " + (directory_ / "bad.json").string());
  EXPECT_EQ(exit_code_, 2);
  Run("--format none --tools " + (directory_ / "missing.json").string());
  EXPECT_NE(exit_code_, 0);
}

}  // namespace
