#include "grammar/call_watch.h"

#include <algorithm>
#include <utility>

namespace mach::grammar {
namespace {

bool Has(const std::vector<int32_t>& tokens, int32_t token) {
  return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
}

// What all constraints of a grammar share.
struct Watched {
  std::shared_ptr<const text::Tokenizer> tokenizer;
  CallOpeners openers;
  std::shared_ptr<const Grammar> call;
  size_t longest = 0;
  // Tokens that spell the end of an opener and more: for each opener's text that is open so far.
  struct Crossing {
    std::string tail;  // of the text before: the opener without its end
    int32_t token;
  };
  std::vector<Crossing> crossings;
};

class CallWatch final : public decode::Constraint {
 public:
  explicit CallWatch(std::shared_ptr<const Watched> watched) : watched_(std::move(watched)) {}

  bool FillMask(decode::TokenMask& mask) override {
    if (call_) {
      return call_->FillMask(mask);
    }
    // A token that would go on behind an opener cannot be held to the grammar: others spell the
    // same.
    bool any = false;
    for (const Watched::Crossing& crossing : watched_->crossings) {
      if (state_.within && state_.tail.ends_with(crossing.tail)) {
        if (!any) {
          const auto size = static_cast<size_t>(watched_->tokenizer->vocab_size());
          mask.assign(decode::MaskWords(size) + kMoreWords, 0xFFFFFFFF);
          any = true;
        }
        const auto at = static_cast<size_t>(crossing.token);
        mask[at / 32] &= ~(1U << (at % 32));
      }
    }
    return any;
  }

  void Accept(int32_t token) override {
    if (call_) {
      call_->Accept(token);
      if (call_->Done()) {
        call_.reset();
        state_ = {};
      }
    } else if (Opens(state_, token)) {
      call_ = watched_->call->NewConstraint();
    }
  }

  size_t ValidPrefix(std::span<const int32_t> tokens) override {
    if (call_) {
      return call_->ValidPrefix(tokens);  // what follows the call's end is not looked at
    }
    State state = state_;
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (Opens(state, tokens[i])) {
        return i + 1 + watched_->call->NewConstraint()->ValidPrefix(tokens.subspan(i + 1));
      }
    }
    return tokens.size();
  }

  std::vector<int32_t> Forced() override {
    return call_ ? call_->Forced() : std::vector<int32_t>();
  }

  bool Done() override { return false; }

 private:
  static constexpr size_t kMoreWords = 64;  // models have more logits than tokens, for round sizes

  struct State {
    std::string tail;  // the end of the text
    bool within = true;
  };

  bool Opens(State& state, int32_t token) const {
    const CallOpeners& openers = watched_->openers;
    if (Has(openers.tokens, token)) {
      return true;
    }
    if (Has(openers.within, token)) {
      state = {};
    } else if (Has(openers.without, token)) {
      state = {.tail = "", .within = false};
    }
    if (!state.within || openers.texts.empty()) {
      return false;
    }
    state.tail += watched_->tokenizer->TokenBytes(token);
    for (const std::string& text : openers.texts) {
      if (state.tail.ends_with(text)) {
        return true;
      }
    }
    if (state.tail.size() >= watched_->longest) {
      state.tail.erase(0, state.tail.size() - watched_->longest + 1);
    }
    return false;
  }

  const std::shared_ptr<const Watched> watched_;
  State state_;
  std::unique_ptr<decode::Constraint> call_;
};

class WatchGrammar final : public Grammar {
 public:
  explicit WatchGrammar(std::shared_ptr<const Watched> watched) : watched_(std::move(watched)) {}

  std::unique_ptr<decode::Constraint> NewConstraint() const override {
    return std::make_unique<CallWatch>(watched_);
  }

 private:
  const std::shared_ptr<const Watched> watched_;
};

}  // namespace

std::shared_ptr<const Grammar> WatchForCalls(std::shared_ptr<const text::Tokenizer> tokenizer,
                                             CallOpeners openers,
                                             std::shared_ptr<const Grammar> call) {
  auto watched = std::make_shared<Watched>();
  for (const std::string& text : openers.texts) {
    watched->longest = std::max(watched->longest, text.size());
  }
  const int32_t tokens = openers.texts.empty() ? 0 : tokenizer->vocab_size();
  for (int32_t token = 0; token < tokens; ++token) {
    const std::string bytes = tokenizer->TokenBytes(token);
    for (const std::string& text : openers.texts) {
      for (size_t split = 0; split < text.size(); ++split) {
        const std::string_view end = std::string_view(text).substr(split);
        if (bytes.size() > end.size() && bytes.starts_with(end)) {
          watched->crossings.push_back({text.substr(0, split), token});
        }
      }
      // A token that holds an opener somewhere inside.
      if (const size_t at = bytes.find(text, 1);
          at != std::string::npos && at + text.size() < bytes.size()) {
        watched->crossings.push_back({"", token});
      }
    }
  }
  watched->tokenizer = std::move(tokenizer);
  watched->openers = std::move(openers);
  watched->call = std::move(call);
  return std::make_shared<const WatchGrammar>(std::move(watched));
}

}  // namespace mach::grammar
