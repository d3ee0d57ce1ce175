#include "api/openai_encoder.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "base/json_string.h"

namespace mach::api {
namespace {

constexpr float kLogprobFloor = -9999.0F;

void AppendMeta(std::string& out, const AnswerSpec& spec, std::string_view object) {
  out += "{\"id\":";
  AppendJsonString(out, spec.id);
  out += ",\"object\":\"";
  out += object;
  out += "\",\"created\":";
  out += std::to_string(spec.created_unix_s);
  out += ",\"model\":";
  AppendJsonString(out, spec.model);
  out += ",\"choices\":[";
}

void AppendStopReason(std::string& out, const StopReason& reason) {
  if (const auto* text = std::get_if<std::string>(&reason)) {
    AppendJsonString(out, *text);
  } else if (const auto* token = std::get_if<int32_t>(&reason)) {
    out += std::to_string(*token);
  } else {
    out += "null";
  }
}

void AppendEnd(std::string& out, const ChoiceEnd& end) {
  out += ",\"finish_reason\":";
  AppendJsonString(out, end.finish_reason);
  out += ",\"stop_reason\":";
  AppendStopReason(out, end.stop_reason);
  out += '}';
}

class StreamEncoder : public AnswerEncoder {
 public:
  StreamEncoder(AnswerSpec spec, const OpenAiForm& form)
      : spec_(std::move(spec)), form_(form), prefix_("data: ") {
    AppendMeta(prefix_, spec_, form.chunk_object);
    for (int32_t choice = 0; spec_.logprobs && choice < spec_.choices; ++choice) {
      logprobs_.push_back(form.make_logprobs());
    }
  }

  void Begin(Pieces& out, const UsageReport& usage) override {
    for (int32_t choice = 0; form_.first_delta != nullptr && choice < spec_.choices; ++choice) {
      std::string& text = Open(out, choice);
      text += form_.first_delta;
      text += ",\"logprobs\":null,\"finish_reason\":null}";
      Close(text, Running(usage));
    }
  }

  // Each delta is a chunk of its own; the tokens are with the first one.
  void Delta(Pieces& out, const DeltaEvent& event, const UsageReport& usage) override {
    for (size_t i = 0; i < std::max<size_t>(event.deltas.size(), 1); ++i) {
      std::string& text = Open(out, event.choice);
      form_.append_delta(text, event.deltas.empty() ? nullptr : &event.deltas[i], spec_);
      text += ",\"logprobs\":";
      if (i > 0 || event.tokens.empty()) {
        text += "null";
      } else {
        AppendLogprobs(text, event);
      }
      text += ",\"finish_reason\":null}";
      Close(text, Running(usage));
    }
  }

  void EndChoice(Pieces& out, ChoiceEnd end, const UsageReport& usage) override {
    std::string& text = Open(out, end.choice);
    form_.append_delta(text, nullptr, spec_);
    text += ",\"logprobs\":null";
    AppendEnd(text, end);
    Close(text, Running(usage));
  }

  void End(Pieces& out, const UsageReport& usage) override {
    std::string& text = out.Tail();
    if (spec_.usage_at_end) {
      text += prefix_;
      Close(text, &usage);
    }
    text += "data: [DONE]\n\n";
  }

  void Fail(Pieces& out, const ErrorInfo& info) override {
    out.Append("data: " + ErrorBody(info) + "\n\ndata: [DONE]\n\n");
  }

  uint64_t held_bytes() const override { return 0; }

 private:
  const UsageReport* Running(const UsageReport& usage) const {
    return spec_.running_usage ? &usage : nullptr;
  }

  void AppendLogprobs(std::string& text, const DeltaEvent& event) {
    LogprobWriter& writer = *logprobs_[static_cast<size_t>(event.choice)];
    for (const TokenView& token : event.tokens) {
      writer.Add(token);
    }
    Pieces logprobs;
    writer.Take(logprobs);
    text += logprobs.Join();
  }

  std::string& Open(Pieces& out, int32_t choice) const {
    std::string& text = out.Tail();
    text += prefix_;
    text += "{\"index\":";
    text += std::to_string(choice);
    return text;
  }
  static void Close(std::string& text, const UsageReport* usage) {
    text += ']';
    if (usage != nullptr) {
      text += ",\"usage\":";
      AppendUsage(text, *usage);
    }
    text += "}\n\n";
  }

  const AnswerSpec spec_;
  const OpenAiForm& form_;
  std::string prefix_;  // from "data: {" to the opening of `choices`
  std::vector<std::unique_ptr<LogprobWriter>> logprobs_;  // of each choice, if there are any
};

class WholeEncoder : public AnswerEncoder {
 public:
  WholeEncoder(AnswerSpec spec, const OpenAiForm& form)
      : spec_(std::move(spec)), form_(form), choices_(static_cast<size_t>(spec_.choices)) {
    for (Choice& choice : choices_) {
      choice.logprobs = form.make_logprobs();
    }
  }

  void Begin(Pieces& /*out*/, const UsageReport& /*usage*/) override {}

  void Delta(Pieces& /*out*/, const DeltaEvent& event, const UsageReport& /*usage*/) override {
    Choice& choice = choices_[static_cast<size_t>(event.choice)];
    chat::AddDeltas(choice.message, event.deltas);
    for (const TokenView& token : event.tokens) {
      choice.logprobs->Add(token);
    }
  }

  void EndChoice(Pieces& /*out*/, ChoiceEnd end, const UsageReport& /*usage*/) override {
    AppendEnd(choices_[static_cast<size_t>(end.choice)].end, end);
  }

  void End(Pieces& out, const UsageReport& usage) override {
    AppendMeta(out.Tail(), spec_, form_.whole_object);
    for (size_t i = 0; i < choices_.size(); ++i) {
      Choice choice = std::move(choices_[i]);  // given up as soon as it is written
      std::string& text = out.Tail();
      text += i > 0 ? ",{\"index\":" : "{\"index\":";
      text += std::to_string(i);
      form_.append_message(text, choice.message, spec_);
      text += ",\"logprobs\":";
      if (spec_.logprobs) {
        choice.logprobs->Take(out);
      } else {
        text += "null";
      }
      out.Append(choice.end);
    }
    choices_.clear();
    std::string& text = out.Tail();
    text += "],\"usage\":";
    AppendUsage(text, usage);
    text += '}';
  }

  void Fail(Pieces& out, const ErrorInfo& info) override { out.Append(ErrorBody(info)); }

  uint64_t held_bytes() const override {
    uint64_t bytes = 0;
    for (const Choice& choice : choices_) {
      bytes += chat::HeldBytes(choice.message) + choice.logprobs->held_bytes();
    }
    return bytes;
  }

 private:
  struct Choice {
    chat::FinalMessage message;
    std::unique_ptr<LogprobWriter> logprobs;
    std::string end;  // finish_reason and stop_reason, as JSON
  };

  const AnswerSpec spec_;
  const OpenAiForm& form_;
  std::vector<Choice> choices_;
};

}  // namespace

std::unique_ptr<AnswerEncoder> MakeOpenAiEncoder(AnswerSpec spec, const OpenAiForm& form) {
  if (spec.stream) {
    return std::make_unique<StreamEncoder>(std::move(spec), form);
  }
  return std::make_unique<WholeEncoder>(std::move(spec), form);
}

void AppendLogprob(std::string& out, float logprob) {
  AppendJsonNumber(out, std::isnan(logprob) ? kLogprobFloor : std::max(logprob, kLogprobFloor));
}

}  // namespace mach::api
