// Runs our tokeniser for tests/parity/tokenizer_parity.py and bench/tokenizer_speed.py, which
// compare it with Hugging Face `tokenizers`.
//   tokenizer_driver encode TOKENIZER_JSON < texts > results
//   tokenizer_driver decode TOKENIZER_JSON < id lists > results
//   tokenizer_driver time TOKENIZER_JSON < texts      (commands "run" on lines of stdin after them)
// All numbers are 32-bit little endian. A text is its length and its bytes; an id list is its
// length and the ids. encode answers each text with two id lists (without and with special tokens);
// decode answers each id list with three texts: all tokens, without special ones, and the latter
// again through StreamDecoder; it fails if a streamed piece is not whole characters.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

namespace {

using mach::text::Tokenizer;

// Processor time of this process: other processes on the machine do not count.
double NowMs() {
  return 1e3 * static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

std::string ReadAll(std::istream& in) {
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

class Records {
 public:
  explicit Records(std::string data) : data_(std::move(data)) {}
  bool AtEnd() const { return at_ == data_.size(); }
  uint32_t Number() {
    uint32_t value = 0;
    std::memcpy(&value, Bytes(sizeof(value)).data(), sizeof(value));
    return value;
  }
  std::string_view Bytes(size_t size) {
    if (data_.size() - at_ < size) {
      throw mach::Error(mach::ErrorCode::kInvalidArgument, "the input ends inside a record");
    }
    at_ += size;
    return std::string_view(data_).substr(at_ - size, size);
  }

 private:
  std::string data_;
  size_t at_ = 0;
};

void WriteNumber(uint32_t value) {
  std::fwrite(&value, sizeof(value), 1, stdout);
}

void WriteIds(std::span<const int32_t> ids) {
  WriteNumber(static_cast<uint32_t>(ids.size()));
  std::fwrite(ids.data(), sizeof(int32_t), ids.size(), stdout);
}

void WriteText(std::string_view text) {
  WriteNumber(static_cast<uint32_t>(text.size()));
  std::fwrite(text.data(), 1, text.size(), stdout);
}

void EncodeAll(const Tokenizer& tokenizer, Records* records) {
  while (!records->AtEnd()) {
    const std::string_view text = records->Bytes(records->Number());
    WriteIds(tokenizer.Encode(text, false));
    WriteIds(tokenizer.Encode(text, true));
  }
}

void DecodeAll(const Tokenizer& tokenizer, Records* records) {
  while (!records->AtEnd()) {
    std::vector<int32_t> ids(records->Number());
    for (int32_t& id : ids) {
      id = static_cast<int32_t>(records->Number());
    }
    WriteText(tokenizer.Decode(ids, false));
    WriteText(tokenizer.Decode(ids, true));
    mach::text::StreamDecoder stream(tokenizer, true);
    std::string joined;
    const auto add = [&](const std::string& piece) {
      if (mach::text::ValidUtf8Prefix(piece) != piece.size()) {
        throw mach::Error(mach::ErrorCode::kInternal, "a streamed piece is not whole characters");
      }
      joined += piece;
    };
    for (const int32_t id : ids) {
      add(stream.Push(id));
    }
    add(stream.Finish());
    WriteText(joined);
  }
}

// Encodes all texts once for every line on stdin and prints milliseconds and the sum of lengths.
void TimeAll(const Tokenizer& tokenizer, const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  Records records(ReadAll(in));
  std::vector<std::string> texts;
  while (!records.AtEnd()) {
    texts.emplace_back(records.Bytes(records.Number()));
  }
  std::string line;
  while (std::getline(std::cin, line)) {
    size_t tokens = 0;
    const double begin = NowMs();
    for (const std::string& text : texts) {
      tokens += tokenizer.Encode(text, false).size();
    }
    std::printf("%.3f %zu\n", NowMs() - begin, tokens);
    std::fflush(stdout);
  }
}

int Run(const std::vector<std::string>& args) {
  if (args.size() < 3) {
    std::fprintf(stderr, "usage: tokenizer_driver encode|decode|time TOKENIZER_JSON [TEXTS]\n");
    return 2;
  }
  std::ifstream in(args[2], std::ios::binary);
  const std::string json = ReadAll(in);
  const double begin = NowMs();
  const auto tokenizer = Tokenizer::FromJson(json, args[2]);
  std::fprintf(stderr, "load_ms %.1f\n", NowMs() - begin);
  if (args[1] == "time" && args.size() > 3) {
    TimeAll(*tokenizer, args[3]);
    return 0;
  }
  Records records(ReadAll(std::cin));
  if (args[1] == "encode") {
    EncodeAll(*tokenizer, &records);
  } else {
    DecodeAll(*tokenizer, &records);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return Run({argv, argv + argc});
  } catch (const mach::Error& error) {
    std::fprintf(stderr, "tokenizer_driver: %s\n", error.Describe().c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tokenizer_driver: %s\n", error.what());
  }
  return 1;
}
