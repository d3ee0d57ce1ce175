#include "text/tokenizer.h"
#include "text/unicode.h"

namespace mach::text {

namespace {

// Joins TokenBytes and replaces what is broken, as the byte-level decoder does.
class BytesDecoding : public Tokenizer::Decoding {
 public:
  BytesDecoding(const Tokenizer& tokenizer, bool skip_special_tokens)
      : tokenizer_(tokenizer), skip_special_tokens_(skip_special_tokens) {}

  void Push(int32_t id, std::string* out) override {
    if (skip_special_tokens_ && tokenizer_.IsSpecial(id)) {
      return;
    }
    bytes_ += tokenizer_.TokenBytes(id);
    std::string_view rest = bytes_;
    while (!rest.empty()) {
      const size_t valid = ValidUtf8Prefix(rest);
      out->append(rest.substr(0, valid));
      rest.remove_prefix(valid);
      if (rest.empty()) {
        break;
      }
      const BrokenUtf8 broken = ClassifyBrokenUtf8(rest);
      if (broken.incomplete) {
        break;
      }
      AppendUtf8(kReplacementChar, out);
      rest.remove_prefix(broken.size);
    }
    bytes_.erase(0, bytes_.size() - rest.size());
  }

  void Finish(std::string* out) override {
    AppendReplacingBroken(bytes_, out);
    bytes_.clear();
  }

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_tokens_;
  std::string bytes_;
};

}  // namespace

std::unique_ptr<Tokenizer::Decoding> Tokenizer::StartDecoding(bool skip_special_tokens) const {
  return std::make_unique<BytesDecoding>(*this, skip_special_tokens);
}

struct StreamDecoder::State {
  std::unique_ptr<Tokenizer::Decoding> decoding;
};

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens)
    : state_(std::make_unique<State>()) {
  state_->decoding = tokenizer.StartDecoding(skip_special_tokens);
}

StreamDecoder::~StreamDecoder() = default;

std::string StreamDecoder::Push(int32_t id) {
  std::string out;
  state_->decoding->Push(id, &out);
  return out;
}

std::string StreamDecoder::Finish() {
  std::string out;
  state_->decoding->Finish(&out);
  return out;
}

}  // namespace mach::text
