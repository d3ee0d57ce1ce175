#include "text/pattern.h"

#include "base/error.h"
#include "text/known_patterns.h"
#include "text/unicode.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace mach::text {

namespace {

// Enough for any pre-splitting expression on any text that is not meant to harm.
constexpr uint32_t kMatchLimit = 50'000'000;
constexpr uint32_t kHeapLimitKib = 256 * 1024;

class LiteralPattern : public Pattern {
 public:
  explicit LiteralPattern(std::string_view text) : literal_(text) {}

  void FindAll(std::string_view text, std::vector<Piece>* pieces) const override {
    size_t at = 0;
    while (at < text.size()) {
      const size_t found = text.find(literal_, at);
      const size_t end = found == std::string_view::npos ? text.size() : found;
      if (end > at) {
        pieces->push_back({static_cast<uint32_t>(at), static_cast<uint32_t>(end), false});
      }
      if (found == std::string_view::npos) {
        break;
      }
      at = found + literal_.size();
      pieces->push_back({static_cast<uint32_t>(found), static_cast<uint32_t>(at), true});
    }
  }

 private:
  std::string literal_;
};

class KnownPattern : public Pattern {
 public:
  explicit KnownPattern(KnownMatcher matcher) : matcher_(matcher) {}

  void FindAll(std::string_view text, std::vector<Piece>* pieces) const override {
    const UnicodeTable& table = UnicodeTable::Get();
    const char* begin = text.data();
    const char* end = begin + text.size();
    const char* gap = begin;
    const auto push = [&](const char* from, const char* to, bool is_match) {
      pieces->push_back(
          {static_cast<uint32_t>(from - begin), static_cast<uint32_t>(to - begin), is_match});
    };
    for (const char* at = begin; at < end;) {
      const char* stop = matcher_(at, end, table);
      if (stop == at) {
        at += DecodeAt(at).size;
        continue;
      }
      if (gap < at) {
        push(gap, at, false);
      }
      push(at, stop, true);
      at = stop;
      gap = stop;
    }
    if (gap < end) {
      push(gap, end, false);
    }
  }

 private:
  KnownMatcher matcher_;
};

struct FreeCode {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct FreeMatchData {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
struct FreeMatchContext {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};

class Pcre2Pattern : public Pattern {
 public:
  Pcre2Pattern(std::string_view expression, std::string_view where) : where_(where) {
    const std::string translated = TranslateRegex(expression, where);
    int code = 0;
    PCRE2_SIZE offset = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                              PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                              &code, &offset, nullptr));
    if (code_ == nullptr) {
      PCRE2_UCHAR message[256] = {};
      pcre2_get_error_message(code, message, sizeof(message));
      throw Error(ErrorCode::kCorruptFile, where_ + ": no regular expression: \"" +
                                               std::string(expression) +
                                               "\": " + reinterpret_cast<const char*>(message));
    }
    // Without JIT (not every machine has it) the interpreter gives the same matches.
    pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);
    context_.reset(pcre2_match_context_create(nullptr));
    if (context_ == nullptr) {
      throw std::bad_alloc();
    }
    pcre2_set_match_limit(context_.get(), kMatchLimit);
    pcre2_set_heap_limit(context_.get(), kHeapLimitKib);
  }

  void FindAll(std::string_view text, std::vector<Piece>* pieces) const override {
    const std::unique_ptr<pcre2_match_data, FreeMatchData> data(
        pcre2_match_data_create(1, nullptr));
    if (data == nullptr) {
      throw std::bad_alloc();
    }
    const PCRE2_SIZE* found = pcre2_get_ovector_pointer(data.get());
    size_t from = 0;
    size_t covered = 0;
    bool any = false;
    size_t last_match_end = 0;
    while (from <= text.size() && Search(text, from, data.get())) {
      const size_t begin = found[0];
      const size_t end = found[1];
      // An empty match right behind another match does not count (as in the onig crate's
      // FindMatches).
      if (begin == end && any && last_match_end == end) {
        from += from < text.size() ? DecodeAt(text.data() + from).size : 1;
        continue;
      }
      from = end;
      last_match_end = end;
      any = true;
      if (covered != begin) {
        pieces->push_back({static_cast<uint32_t>(covered), static_cast<uint32_t>(begin), false});
      }
      pieces->push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(end), true});
      covered = end;
    }
    if (covered != text.size()) {
      pieces->push_back(
          {static_cast<uint32_t>(covered), static_cast<uint32_t>(text.size()), false});
    }
  }

 private:
  bool Search(std::string_view text, size_t from, pcre2_match_data* data) const {
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    int result = pcre2_match(code_.get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK, data,
                             context_.get());
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) {
      result = pcre2_match(code_.get(), subject, text.size(), from,
                           PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data, context_.get());
    }
    if (result == PCRE2_ERROR_NOMATCH) {
      return false;
    }
    if (result < 0) {
      throw Error(ErrorCode::kResourceLimit,
                  where_ + ": the regular expression gave up on a text of " +
                      std::to_string(text.size()) + " bytes (PCRE2 error " +
                      std::to_string(result) + ")");
    }
    return true;
  }

  std::string where_;
  std::unique_ptr<pcre2_code, FreeCode> code_;
  std::unique_ptr<pcre2_match_context, FreeMatchContext> context_;
};

}  // namespace

std::unique_ptr<Pattern> Pattern::Literal(std::string_view text) {
  if (text.empty()) {
    // Matches between all characters; the general machinery knows how.
    return std::make_unique<Pcre2Pattern>("", "literal");
  }
  return std::make_unique<LiteralPattern>(text);
}

std::unique_ptr<Pattern> Pattern::Regex(std::string_view expression, std::string_view where) {
  if (const KnownMatcher matcher = FindKnownMatcher(expression)) {
    return std::make_unique<KnownPattern>(matcher);
  }
  return GeneralRegex(expression, where);
}

std::unique_ptr<Pattern> Pattern::GeneralRegex(std::string_view expression,
                                               std::string_view where) {
  return std::make_unique<Pcre2Pattern>(expression, where);
}

}  // namespace mach::text
