#include "grammar/matcher.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include <llguidance.h>

#include "base/check.h"
#include "base/error.h"
#include "grammar/grammar.h"
#include "grammar/text_until.h"

namespace mach::grammar {
namespace {

// Before the bytes of tokens that no text spells.
constexpr char kSpecialMark = '\xff';
constexpr size_t kMostForced = 256;
// Sets of tokens that llguidance allows or not as one, where a terminal repeats what holds them
// all: white space and insides of strings, as it has them itself, and plain text.
constexpr const char* kTokenSets[] = {R"([\x20\x0A\x0D\x09]+)",
                                      R"([^"\\\x00-\x1F\x7F]{1,10})",
                                      R"([^"\\\x00-\x1F\x7F]{1,30})",
                                      R"([^"\\\x00-\x1F\x7F]+)",
                                      kPlainText,
                                      nullptr};
// A thousand tools with a thousand parameters have some thousands.
constexpr size_t kMostItemsInRow = 20000;

extern "C" size_t MachTokenize(const void* tokenizer, const uint8_t* bytes, size_t length,
                               uint32_t* out, size_t out_length) {
  const std::string_view text(reinterpret_cast<const char*>(bytes), length);
  const std::vector<int32_t> ids =
      static_cast<const text::Tokenizer*>(tokenizer)->Encode(text, false);
  for (size_t i = 0; i < std::min(ids.size(), out_length); ++i) {
    out[i] = static_cast<uint32_t>(ids[i]);
  }
  return ids.size();
}

// What llguidance says, without its place in our text and what it knows of its state.
std::string Reason(const char* error) {
  std::string_view text = error != nullptr ? error : "unknown reason";
  if (text.find("oneOf constraints are not supported") != std::string_view::npos) {
    return "'oneOf' cannot be enforced where its alternatives do not exclude each other by their "
           "types or by the value of a required property";
  }
  for (const std::string_view end :
       {"\n<state>", "\n<backtrace>", "\n<non-verbose/>", "\n   1 | start"}) {
    text = text.substr(0, text.find(end));
  }
  constexpr std::string_view kPlace = "failed to compile JSON schema: ";
  if (const size_t at = text.find(kPlace); at != std::string_view::npos) {
    text.remove_prefix(at + kPlace.size());
  }
  return std::string(text.substr(0, 1000));
}

}  // namespace

TokenEnvironment::TokenEnvironment(std::shared_ptr<const text::Tokenizer> tokenizer,
                                   std::span<const int32_t> end_tokens,
                                   std::vector<int32_t> markers)
    : tokenizer_(std::move(tokenizer)), markers_(std::move(markers)) {
  const int32_t size = tokenizer_->vocab_size();
  std::vector<uint32_t> lengths;
  std::string bytes;
  for (int32_t id = 0; id < size; ++id) {
    const size_t begin = bytes.size();
    const std::string token = tokenizer_->TokenBytes(id);
    if (StandsApart(id) && !token.empty()) {
      bytes += kSpecialMark;
    }
    bytes += token;
    lengths.push_back(static_cast<uint32_t>(bytes.size() - begin));
  }
  std::vector<uint32_t> ends;
  for (const int32_t end : end_tokens) {
    if (end >= 0 && end < size) {
      ends.push_back(static_cast<uint32_t>(end));
    }
  }
  if (ends.empty()) {
    throw Error(ErrorCode::kUnsupported,
                "constrained output needs an end token, and this model's "
                "vocabulary has none of those that its files name");
  }
  LlgTokenizerInitV2 init = {};
  init.struct_size = sizeof(init);
  init.vocab_size = static_cast<uint32_t>(size);
  init.tok_eos = ends.front();
  init.tok_eos_extra = ends.data() + 1;
  init.tok_eos_extra_count = static_cast<uint32_t>(ends.size() - 1);
  init.token_lens = lengths.data();
  init.token_bytes = reinterpret_cast<const uint8_t*>(bytes.data());
  init.slices = kTokenSets;
  init.tokenize_assumes_string = true;
  init.tokenize_fn = MachTokenize;
  init.tokenize_user_data = tokenizer_.get();
  std::array<char, 1024> error = {};
  handle_ = llg_new_tokenizer_v2(&init, error.data(), error.size());
  if (handle_ == nullptr) {
    throw Error(ErrorCode::kUnsupported,
                "the vocabulary does not suit constrained output: " + Reason(error.data()));
  }
}

bool TokenEnvironment::StandsApart(int32_t token) const {
  return tokenizer_->IsSpecial(token) ||
         std::find(markers_.begin(), markers_.end(), token) != markers_.end();
}

TokenEnvironment::~TokenEnvironment() {
  llg_free_tokenizer(handle_);
}

Matcher::Matcher(std::shared_ptr<const TokenEnvironment> environment, const std::string& lark)
    : environment_(std::move(environment)) {
  LlgConstraintInit init;
  llg_constraint_init_set_defaults(&init, environment_->handle());
  init.log_stderr_level = 0;
  init.limits.verbose_errors = false;
  init.limits.max_items_in_row = kMostItemsInRow;
  if (lark.find('\0') != std::string::npos) {
    throw Error(ErrorCode::kInvalidArgument, "a grammar may hold no NUL");
  }
  handle_ = llg_new_matcher(&init, "lark", lark.c_str());
  if (const char* error = llg_matcher_get_error(handle_)) {
    const std::string reason = Reason(error);
    llg_free_matcher(handle_);
    throw Error(ErrorCode::kInvalidArgument, "no grammar can be made of it: " + reason);
  }
}

Matcher::~Matcher() {
  llg_free_matcher(handle_);
}

std::unique_ptr<Matcher> Matcher::Clone() const {
  return std::unique_ptr<Matcher>(new Matcher(environment_, llg_clone_matcher(handle_)));
}

void Matcher::Fail() const {
  throw Error(ErrorCode::kResourceLimit,
              "the output cannot be held to its grammar any longer: " +
                  Reason(llg_matcher_get_error(handle_)),
              "ask for a simpler schema");
}

bool Matcher::FillMask(decode::TokenMask& mask) {
  mask.resize(llg_matcher_get_mask_byte_size(handle_) / sizeof(uint32_t));
  if (llg_matcher_compute_mask_into(handle_, mask.data(), mask.size() * sizeof(uint32_t)) != 0) {
    Fail();
  }
  return true;
}

void Matcher::Accept(int32_t token) {
  if (llg_matcher_is_stopped(handle_) && !llg_matcher_is_error(handle_)) {
    return;  // an end token
  }
  if (llg_matcher_consume_token(handle_, static_cast<uint32_t>(token)) != 0) {
    Fail();
  }
}

size_t Matcher::ValidPrefix(std::span<const int32_t> tokens) {
  std::vector<uint32_t> ids(tokens.begin(), tokens.end());
  const int32_t valid = llg_matcher_validate_tokens(handle_, ids.data(), ids.size());
  if (valid < 0) {
    Fail();
  }
  return static_cast<size_t>(valid);
}

std::vector<int32_t> Matcher::Forced() {
  std::array<uint32_t, kMostForced> tokens;
  const int32_t count = llg_matcher_compute_ff_tokens(handle_, tokens.data(), tokens.size());
  if (count < 0) {
    Fail();
  }
  return {tokens.begin(), tokens.begin() + count};
}

bool Matcher::Done() {
  return llg_matcher_is_stopped(handle_);
}

}  // namespace mach::grammar
