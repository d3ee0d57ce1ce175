// A scripted engine, tokenizer and template for tests of the server without a model.
//
// The tokenizer maps each byte to its own id and has a few special tokens above them. The engine
// recites a fixed text, one byte a token, one request after another, and honours stop conditions,
// choices and logprobs. The template writes the names of tools before the messages, and calls as
// JSON. Words in the prompt change its behaviour:
//   [[slow]]     20 ms a token        [[prefill]]  prefill takes a minute
//   [[fail]]     an engine error after 3 tokens
//   [[disk]]     a record that cannot be read, after 3 tokens
//   [[memory]]   no room for more context, after 3 tokens
//   [[giveup]]   the tokenizer gives up
//   [[foreign]]  the tokenizer makes a token that the model does not have
//   [[long]]     does not end before max_tokens
//   [[stuck]]    prefill takes a minute and cannot be cancelled
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "loading/served_model.h"

namespace mach::testing {

constexpr int32_t kBosToken = 256;
constexpr int32_t kEosToken = 257;
constexpr char kEndText[] = "<|end|>";  // the EOS token's name
constexpr int32_t kVocabSize = 260;

struct FakeOptions {
  double step_s = 0.001;  // between tokens
  int eos_after_tokens = 60;
  int64_t max_context = 4096;
  int max_queue = 256;
  double load_s = 0;  // how long loading takes
  bool with_template = true;
  bool streaming = false;      // a Mixture-of-Experts model whose experts are on disk
  bool buffered = false;       // and come through the page cache
  uint64_t request_bytes = 0;  // that requests may take beside the model; 0 = any
  // Sends as many tokens as possible: step_s is ignored and no time is taken.
  bool flood = false;
  std::string says;       // in place of the recital, up to its end
  chat::Formats formats;  // how what it says is read
};

class FakeEngine : public engine::Engine {
 public:
  explicit FakeEngine(const FakeOptions& options);
  ~FakeEngine() override;

  engine::GenerationHandles SubmitAll(std::vector<engine::Submission> submissions) override;
  engine::EngineStats Snapshot() const override;
  std::vector<std::string> ExpertMap() const override { return {"0f30"}; }
  void Shutdown(double grace_s) override;

  // Total time between the tokens of finished requests, and their count, as the engine thread saw
  // it: what HTTP adds is measured against this.
  double decode_s() const;
  int64_t decode_tokens() const;
  // Prompt and parameters of the last request submitted.
  engine::GenerationRequest last_request() const;

 private:
  struct Job;
  class Handle;

  void Loop();
  void Run(Job& job);
  void DropCancelled();  // from the queue

  const FakeOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Job>> queue_;
  std::shared_ptr<Job> active_;
  bool stopping_ = false;
  bool quit_ = false;
  engine::EngineStats stats_;
  engine::GenerationRequest last_request_;
  std::thread thread_;
};

std::unique_ptr<loading::ServedModel> MakeFakeModel(const FakeOptions& options);

}  // namespace mach::testing
