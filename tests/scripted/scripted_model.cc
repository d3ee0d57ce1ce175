#include "tests/scripted/scripted_model.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "tests/scripted/reply_tokens.h"

namespace mach::testing {
namespace {

// What is being said to the prompt before `begin`.
struct Turn {
  std::shared_ptr<const ReplyTokens> reply;
  double token_s = 0;
  double prefill_s = 0;
  size_t begin = 0;
  std::vector<size_t> said = {0};  // bytes of the reply, after each token behind `begin`
};

// In place of keys and values: the tokens themselves.
class Transcript final : public backend::KvStore {
 public:
  explicit Transcript(const backend::KvShape& shape) : shape_(shape) {}

  const backend::KvShape& shape() const override { return shape_; }
  void Reserve(int64_t /*first*/, int64_t /*end*/) override {}
  void Truncate(int64_t count) override {
    const auto length = static_cast<size_t>(count);
    tokens.resize(std::min(tokens.size(), length));
    if (turn && length < turn->begin) {
      turn.reset();
    } else if (turn) {
      turn->said.resize(std::min(turn->said.size(), length - turn->begin + 1));
    }
  }
  std::unique_ptr<KvStore> Fork(int64_t count) override {
    auto fork = std::make_unique<Transcript>(*this);
    fork->Truncate(count);
    return fork;
  }
  uint64_t bytes() const override { return tokens.size() * sizeof(int32_t); }
  uint64_t unshared_bytes() const override { return bytes(); }

  std::vector<int32_t> tokens;
  std::optional<Turn> turn;

 private:
  backend::KvShape shape_;
};

Transcript& TranscriptOf(const models::SequenceRows& rows) {
  return static_cast<Transcript&>(rows.state->kv());
}

class ScriptedModel final : public models::Model {
 public:
  ScriptedModel(Script& script, const text::Tokenizer& tokenizer,
                std::shared_ptr<backend::Backend> backend, const ScriptedModelOptions& options)
      : script_(script),
        tokenizer_(tokenizer),
        table_(tokenizer),
        options_(options),
        backend_(std::move(backend)) {
    shape_.layers = 1;
    shape_.hidden_size = 1;
    shape_.vocab_size = table_.size();
    shape_.max_context = options.max_context;
    shape_.kv = {.layers = 1, .kv_heads = 1, .head_dim = 1};
    const std::vector<float> zeros(static_cast<size_t>(table_.size()));
    zeros_ = backend_->LoadLinear({.out_features = 1,
                                   .in_features = table_.size(),
                                   .dense = TensorView{DType::kF32, Shape{1, table_.size()},
                                                       std::as_bytes(std::span(zeros))}},
                                  "weights");
  }

  const models::ModelShape& shape() const override { return shape_; }
  backend::Backend& backend() override { return *backend_; }
  std::unique_ptr<state::SequenceState> NewSequence() override {
    return std::make_unique<state::SequenceState>(std::make_unique<Transcript>(shape_.kv), nullptr);
  }
  std::unique_ptr<models::StepRun> Begin(const models::StepSpec& spec) override;
  uint64_t ActiveWeightBytes() const override { return zeros_->bytes(); }

 private:
  class Run;

  Turn NewTurn(std::span<const int32_t> prompt);

  Script& script_;
  const text::Tokenizer& tokenizer_;
  const TokenTable table_;
  const ScriptedModelOptions options_;
  const std::shared_ptr<backend::Backend> backend_;
  models::ModelShape shape_;
  std::unique_ptr<backend::LinearWeight> zeros_;  // [1, vocab]: logits to be filled in
};

class ScriptedModel::Run final : public models::StepRun {
 public:
  Run(ScriptedModel& model, const models::StepSpec& spec) : model_(model), cancel_(spec.cancel) {
    for (const models::SequenceRows& rows : spec.batch) {
      Part part{.state = rows.state, .logit_rows = rows.logit_rows, .after = TranscriptOf(rows)};
      Transcript& after = part.after;
      after.tokens.insert(after.tokens.end(), rows.tokens.begin(), rows.tokens.end());
      if (std::ranges::find(rows.tokens, model.options_.message_token) != rows.tokens.end()) {
        after.turn.reset();
      }
      if (after.turn) {
        Turn& turn = *after.turn;
        for (const int32_t token : rows.tokens) {
          turn.said.push_back(turn.reply->After(turn.said.back(), token));
        }
        wait_s_ = std::max(wait_s_, turn.token_s);
      } else if (rows.logit_rows > 0) {
        after.turn = model.NewTurn(after.tokens);
        wait_s_ = std::max(wait_s_, after.turn->prefill_s);
      }
      parts_.push_back(std::move(part));
    }
  }

  bool RunLayer() override {
    constexpr double kSliceSeconds = 0.002;
    const double end_s = NowSeconds() + wait_s_;
    double left_s = wait_s_;
    while (left_s > 0) {
      if (cancel_ != nullptr && cancel_->load()) {
        throw Error(ErrorCode::kCancelled, "the step was cancelled");
      }
      std::this_thread::sleep_for(std::chrono::duration<double>(std::min(kSliceSeconds, left_s)));
      left_s = end_s - NowSeconds();
    }
    wait_s_ = 0;
    return !std::exchange(ran_, true);
  }

  backend::Tensor Finish() override {
    int64_t rows = 0;
    for (const Part& part : parts_) {
      rows += part.logit_rows;
    }
    const std::vector<int32_t> ids(static_cast<size_t>(rows), 0);
    const backend::Tensor logits = model_.backend_->Embed(*model_.zeros_, ids);
    // Fresh zeros of the backend's own memory, which nobody else has.
    const std::span<const float> zeros = model_.backend_->Read(logits);
    std::span<float> out(const_cast<float*>(zeros.data()), zeros.size());
    for (Part& part : parts_) {
      for (int64_t row = 0; row < part.logit_rows; ++row) {
        const Turn& turn = *part.after.turn;
        const auto from_end = static_cast<size_t>(part.logit_rows - row);
        turn.reply->Score(turn.said.at(turn.said.size() - from_end),
                          out.first(static_cast<size_t>(logits.cols)));
        out = out.subspan(static_cast<size_t>(logits.cols));
      }
      static_cast<Transcript&>(part.state->kv()) = std::move(part.after);
      part.state->Commit();
    }
    return logits;
  }

 private:
  struct Part {
    state::SequenceState* state;
    int64_t logit_rows;
    Transcript after;  // the step
  };

  ScriptedModel& model_;
  const std::atomic<bool>* cancel_;
  std::vector<Part> parts_;
  double wait_s_ = 0;
  bool ran_ = false;
};

std::unique_ptr<models::StepRun> ScriptedModel::Begin(const models::StepSpec& spec) {
  return std::make_unique<Run>(*this, spec);
}

// A conversation ends with the head of the answer; the message before that is the last one.
Turn ScriptedModel::NewTurn(std::span<const int32_t> prompt) {
  const std::string all = tokenizer_.Decode(prompt, /*skip_special_tokens=*/false);
  const std::string mark = tokenizer_.TokenBytes(options_.message_token);
  std::string_view last = all;
  std::string_view head;
  if (const size_t answer = all.rfind(mark); answer != std::string::npos) {
    head = std::string_view(all).substr(answer);
    last = last.substr(0, answer);
    const size_t message = last.rfind(mark);
    last = message == std::string_view::npos ? "" : last.substr(message + mark.size());
  }
  const bool after_tool = last.starts_with("user\n<tool_response>");
  const Reply reply = script_.Choose({.all = all, .last = last, .after_tool = after_tool});
  std::string text = reply.text;
  if (head.ends_with("<think>\n")) {
    text = reply.reasoning + (reply.reasoning.empty() ? "" : "\n") + "</think>\n\n" + text;
  }
  const std::vector<int32_t> tokens = tokenizer_.Encode(text, /*add_special_tokens=*/false);
  return {.reply = std::make_shared<ReplyTokens>(table_, tokens, options_.end_token),
          .token_s = reply.token_s,
          .prefill_s = reply.prefill_s,
          .begin = prompt.size()};
}

}  // namespace

std::unique_ptr<models::Model> MakeScriptedModel(Script& script, const text::Tokenizer& tokenizer,
                                                 std::shared_ptr<backend::Backend> backend,
                                                 const ScriptedModelOptions& options) {
  return std::make_unique<ScriptedModel>(script, tokenizer, std::move(backend), options);
}

}  // namespace mach::testing
