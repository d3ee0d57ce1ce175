// Reads tokenizer.json, the file format of Hugging Face `tokenizers` (version "1.0").
#include <algorithm>
#include <optional>
#include <unordered_map>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "text/bpe_tokenizer.h"
#include "text/json_fields.h"
#include "text/json_reader.h"
#include "text/unicode.h"

namespace mach::text {

namespace {

using nlohmann::json;

// Offsets into the file are kept in 32 bits in places, and no real file is near this.
constexpr size_t kMaxFileBytes = 1U << 30;

class Loader {
 public:
  Loader(std::string_view text, std::string_view source) : source_(source), reader_(text, source) {}

  std::unique_ptr<Tokenizer> Run() {
    bool has_model = false;
    bool first = true;
    std::string scratch;
    reader_.Expect('{');
    while (reader_.NextElement('}', &first)) {
      const std::string key(reader_.String(&scratch));
      reader_.Expect(':');
      if (key == "model") {
        if (has_model) {
          reader_.Fail("a second \"model\"");
        }
        has_model = true;
        ReadModel();
      } else if (key == "added_tokens" || key == "normalizer" || key == "pre_tokenizer" ||
                 key == "post_processor" || key == "decoder" || key == "version") {
        small_[key] = ParseSmall(reader_.RawValue());
      } else {
        // "truncation" and "padding" are for training; callers of `tokenizers` switch them off.
        reader_.RawValue();
      }
    }
    reader_.ExpectEnd();
    if (!has_model) {
      Fail("no field \"model\"");
    }
    if (const json& version = small_["version"]; !version.is_null() && version != "1.0") {
      throw Error(ErrorCode::kUnsupported,
                  std::string(source_) + ": version " + version.dump() + " instead of \"1.0\"");
    }
    return Assemble();
  }

 private:
  [[noreturn]] void Fail(const std::string& problem) const {
    throw Error(ErrorCode::kCorruptFile, std::string(source_) + ": " + problem);
  }
  [[noreturn]] void Refuse(const std::string& what) const {
    throw Error(ErrorCode::kUnsupported,
                std::string(source_) + ": " + what + " is not implemented");
  }

  json ParseSmall(std::string_view text) const {
    json value = json::parse(text, nullptr, false);
    if (value.is_discarded()) {
      reader_.Fail("a broken value before");
    }
    return value;
  }

  void ReadModel() {
    std::string_view merges;
    bool has_vocab = false;
    bool has_merges = false;
    bool first = true;
    std::string scratch;
    reader_.Expect('{');
    while (reader_.NextElement('}', &first)) {
      const std::string key(reader_.String(&scratch));
      reader_.Expect(':');
      if (key == "vocab") {
        if (has_vocab) {
          reader_.Fail("a second \"vocab\"");
        }
        if (reader_.Peek() != '{') {
          Refuse("a model whose vocab is not a table of ids (Unigram)");
        }
        has_vocab = true;
        ReadVocab();
      } else if (key == "merges") {
        has_merges = true;
        if (has_vocab) {
          ReadMerges(&reader_);
        } else {
          merges = reader_.RawValue();
        }
      } else {
        model_[key] = ParseSmall(reader_.RawValue());
      }
    }
    const json& type = model_["type"];
    if (type.is_string() && type != "BPE") {
      Refuse("model of type \"" + type.get<std::string>() + "\"");
    }
    if (!has_vocab || !has_merges) {
      Fail("model without \"vocab\" or \"merges\"");
    }
    if (merges.data() != nullptr) {
      JsonReader late(merges, source_);
      ReadMerges(&late);
    }
  }

  void ReadVocab() {
    bool first = true;
    std::string scratch;
    reader_.Expect('{');
    while (reader_.NextElement('}', &first)) {
      const std::string_view token = reader_.String(&scratch);
      reader_.Expect(':');
      const uint32_t id = reader_.Unsigned();
      if (id >= Vocab::kMaxIds) {
        reader_.Fail("id " + std::to_string(id) + " in model.vocab, above the limit of " +
                     std::to_string(Vocab::kMaxIds - 1));
      }
      vocab_.Add(token, static_cast<int32_t>(id));
    }
    vocab_.Finish();
    merges_ = MergeTable(vocab_.size());
  }

  void ReadMerges(JsonReader* reader) {
    bool first = true;
    uint32_t rank = 0;
    std::string left_scratch;
    std::string right_scratch;
    reader->Expect('[');
    while (reader->NextElement(']', &first)) {
      if (reader->TryConsume('[')) {
        const std::string_view left = reader->String(&left_scratch);
        reader->Expect(',');
        const std::string_view right = reader->String(&right_scratch);
        reader->Expect(']');
        AddMerge(*reader, left, right, rank++);
        continue;
      }
      const std::string_view line = reader->String(&left_scratch);
      if (line.starts_with("#version")) {
        continue;
      }
      const size_t space = line.find(' ');
      if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
        reader->Fail("merge " + std::to_string(rank) + " is not two tokens with a space between");
      }
      AddMerge(*reader, line.substr(0, space), line.substr(space + 1), rank++);
    }
  }

  void AddMerge(const JsonReader& reader, std::string_view left, std::string_view right,
                uint32_t rank) {
    joined_.assign(left);
    joined_ += right;
    const int32_t left_id = vocab_.Find(left);
    const int32_t right_id = vocab_.Find(right);
    const int32_t new_id = vocab_.Find(joined_);
    if (left_id < 0 || right_id < 0 || new_id < 0) {
      reader.Fail("merge " + std::to_string(rank) + " (\"" + std::string(left) + "\", \"" +
                  std::string(right) + "\") has a token that is not in model.vocab");
    }
    merges_.Add(left_id, right_id, {rank, new_id});
  }

  BpeOptions ReadOptions() {
    const JsonFields fields(model_, source_, "model");
    for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (fields.Has(name) && !fields.String(name).empty()) {
        Refuse(std::string("model.") + name);
      }
    }
    if (fields.Has("dropout") && model_["dropout"] != 0.0) {
      Refuse("model.dropout");
    }
    BpeOptions options;
    if (fields.Has("unk_token")) {
      options.unk_token = fields.String("unk_token");
    }
    options.byte_fallback = fields.Bool("byte_fallback", false);
    options.fuse_unk = fields.Bool("fuse_unk", false);
    options.ignore_merges = fields.Bool("ignore_merges", false);
    return options;
  }

  // Ids are given as `tokenizers` gives them: the model's where it has the token, otherwise the
  // next one after the model's tokens; the file's own "id" is only a claim.
  std::vector<AddedToken> ReadAddedTokens(const Vocab& vocab, const Normalizer* normalizer) {
    std::vector<AddedToken> tokens;
    const json& list = small_["added_tokens"];
    if (list.is_null()) {
      return tokens;
    }
    if (!list.is_array()) {
      Fail("added_tokens is not a list");
    }
    std::unordered_map<std::string, size_t> known;
    auto next_id = static_cast<uint32_t>(vocab.size());
    for (const json& item : list) {
      const JsonFields fields(item, source_, "added_tokens");
      AddedToken token;
      token.content = fields.String("content");
      token.single_word = fields.Bool("single_word");
      token.lstrip = fields.Bool("lstrip");
      token.rstrip = fields.Bool("rstrip");
      token.normalized = fields.Bool("normalized");
      token.special = fields.Bool("special");
      const uint32_t claimed = fields.Unsigned("id");
      if (token.content.empty()) {
        continue;
      }
      token.normalized_content = token.content;
      if (token.normalized && normalizer != nullptr) {
        normalizer->Apply(&token.normalized_content);
      }
      const auto [place, is_new] = known.emplace(token.content, tokens.size());
      if (!is_new) {
        AddedToken& earlier = tokens[place->second];
        token.id = earlier.id;
        token.special = token.special || earlier.special;
        earlier = std::move(token);
        continue;
      }
      token.id = vocab.Find(token.content);
      if (token.id < 0) {
        if (next_id >= Vocab::kMaxIds) {
          Fail("more than " + std::to_string(Vocab::kMaxIds) + " tokens");
        }
        token.id = static_cast<int32_t>(next_id++);
      }
      if (static_cast<uint32_t>(token.id) != claimed) {
        LogWarning(
            "added token has another id than its tokenizer.json says",
            {{"file", source_}, {"token", token.content}, {"id", token.id}, {"claimed", claimed}});
      }
      tokens.push_back(std::move(token));
    }
    return tokens;
  }

  std::unique_ptr<Tokenizer> Assemble() {
    TokenizerParts parts;
    parts.bpe =
        std::make_unique<Bpe>(std::move(vocab_), std::move(merges_), ReadOptions(), source_);
    parts.normalizer = Normalizer::FromJson(small_["normalizer"], source_);
    parts.pre_tokenizers = PreTokenizerChain::FromJson(small_["pre_tokenizer"], source_,
                                                       parts.bpe->HasByteLevelAlphabet());
    parts.bpe->SetInput(parts.pre_tokenizers.words_are_bytes ? Bpe::Input::kByteLevel
                                                             : Bpe::Input::kText);
    parts.post_processor = PostProcessor::FromJson(small_["post_processor"], source_);
    parts.decoders = DecoderChain::FromJson(small_["decoder"], source_);
    parts.added_tokens = ReadAddedTokens(parts.bpe->vocab(), parts.normalizer.get());
    return std::make_unique<BpeTokenizer>(std::move(parts), source_);
  }

  std::string_view source_;
  JsonReader reader_;
  std::unordered_map<std::string, json> small_;
  json model_ = json::object();
  Vocab vocab_;
  MergeTable merges_;
  std::string joined_;
};

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::FromJson(std::string_view file, std::string_view source) {
  if (file.size() > kMaxFileBytes) {
    throw Error(ErrorCode::kCorruptFile, std::string(source) + ": " + std::to_string(file.size()) +
                                             " bytes are too many for a tokenizer.json");
  }
  if (ValidUtf8Prefix(file) != file.size()) {
    throw Error(ErrorCode::kCorruptFile, std::string(source) + ": no valid UTF-8 at byte " +
                                             std::to_string(ValidUtf8Prefix(file)));
  }
  return Loader(file, source).Run();
}

}  // namespace mach::text
