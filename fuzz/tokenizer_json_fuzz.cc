// Any bytes as a tokenizer.json: an Error or a tokeniser that can encode and decode.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr std::string_view kTexts[] = {
      "Hello, world! it's 12345  \n\t<s> \xE2\x96\x81x",
      "\xE4\xBD\xA0\xE5\xA5\xBD e\xCC\x81 \xF0\x9F\x91\x8D",
      "\xFF\xED\xA0\x80 "
      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
  try {
    const auto tokenizer =
        mach::text::Tokenizer::FromJson({reinterpret_cast<const char*>(data), size}, "fuzz");
    for (const std::string_view text : kTexts) {
      std::vector<int32_t> ids = tokenizer->Encode(text, true);
      ids.push_back(-1);
      ids.push_back(tokenizer->vocab_size());
      const std::string whole = tokenizer->Decode(ids, true);
      mach::text::StreamDecoder stream(*tokenizer, true);
      std::string joined;
      for (const int32_t id : ids) {
        joined += stream.Push(id);
        tokenizer->TokenBytes(id);
        if (mach::text::ValidUtf8Prefix(joined) != joined.size()) {
          std::abort();
        }
      }
      joined += stream.Finish();
      if (joined != whole) {
        std::abort();
      }
    }
  } catch (const mach::Error&) {
  }
  return 0;
}
