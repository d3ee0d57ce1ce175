#include "formats/gguf_tokenizer.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string_view>
#include <tuple>
#include <unordered_map>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "formats/gguf.h"
#include "formats/text_config.h"

namespace mach::formats {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMaxTokens = 1 << 24;

// Values of tokenizer.ggml.token_type.
enum TokenType : int64_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

// Patterns are Oniguruma, as tokenizer.json holds them.
constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kGpt4oPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekkenPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
    R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kDeepseekV3Pattern =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|)"
    R"([^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
// U+4E00-U+9FA5, then U+3040-U+309F and U+30A0-U+30FF.
constexpr std::string_view kHanKana = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+";
// The ranges of the DeepSeek Coder tokenizer, as odd as they are.
constexpr std::string_view kCoderIdeographs = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+";

Json ByteLevel(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

Json Split(std::string_view pattern) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", std::string(pattern)}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

Json Sequence(std::vector<Json> steps) {
  return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

Json Digits() {
  return {{"type", "Digits"}, {"individual_digits", true}};
}

struct PreTokenizer {
  Json steps;
  bool ignore_merges = false;  // a piece that is a token is taken whole
  bool nfc = false;
  bool adds_bos = false;  // where the metadata does not say
};

// Models that split text as another one does have a name of their own all the same; llama.cpp's
// table says which are alike.
std::optional<PreTokenizer> FindPreTokenizer(std::string_view name) {
  const auto is = [&](std::initializer_list<std::string_view> names) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (is({"default", "gpt-2", "phi-2", "olmo", "mpt", "jais", "trillion", "gigachat", "a.x-4.0",
          "mellum", "exaone4", "granite-docling"})) {
    return PreTokenizer{ByteLevel(true)};
  }
  if (is({"smollm", "starcoder", "refact", "codeshell", "command-r", "exaone", "minerva-7b",
          "mellum2"})) {
    return PreTokenizer{Sequence({Digits(), ByteLevel(true)})};
  }
  if (is({"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0",
          "lfm2"})) {
    return PreTokenizer{Sequence({Split(kLlama3Pattern), ByteLevel(false)}), true, false, true};
  }
  if (is({"dbrx", "smaug-bpe", "glm4", "chatglm-bpe"})) {
    return PreTokenizer{Sequence({Split(kLlama3Pattern), ByteLevel(false)})};
  }
  if (is({"qwen2"})) {
    return PreTokenizer{Sequence({Split(kQwen2Pattern), ByteLevel(false)}), false, true};
  }
  if (is({"deepseek-r1-qwen", "stablelm2", "megrez", "kormo", "f2llmv2", "hunyuan", "solar-open",
          "grok-2"})) {
    return PreTokenizer{Sequence({Split(kQwen2Pattern), ByteLevel(false)})};
  }
  if (is({"gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"})) {
    return PreTokenizer{Sequence({Split(kGpt4oPattern), ByteLevel(false)})};
  }
  if (is({"tekken"})) {
    return PreTokenizer{Sequence({Split(kTekkenPattern), ByteLevel(false)}), true, false, true};
  }
  if (is({"deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"})) {
    return PreTokenizer{Sequence(
        {Split(R"(\p{N}{1,3})"), Split(kHanKana), Split(kDeepseekV3Pattern), ByteLevel(false)})};
  }
  if (is({"deepseek-coder"})) {
    return PreTokenizer{Sequence({Split(R"([\r\n])"), Split(R"(\s?\p{L}+)"), Split(R"(\s?\p{P}+)"),
                                  Split(kCoderIdeographs), Digits(), ByteLevel(false)})};
  }
  return std::nullopt;
}

class Builder {
 public:
  explicit Builder(const GgufFile& file) : file_(file) {}

  GgufTokenizer Build() {
    ReadTokens();
    ReadSpecialIds();
    const std::string_view model = file_.RequireString("tokenizer.ggml.model");
    Json root = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
    root["added_tokens"] = AddedTokens();
    if (model == "gpt2") {
      BuildByteLevel(root);
    } else if (model == "llama") {
      BuildSentencePiece(root);
    } else {
      throw Error(ErrorCode::kUnsupported,
                  file_.path() + ": tokenizer.ggml.model is \"" + Printable(model) +
                      "\"; known are gpt2 (byte-level BPE) and llama (SentencePiece BPE)",
                  "use the Hugging Face or MLX version of the model");
    }
    GgufTokenizer result;
    try {
      result.tokenizer_json = root.dump(1, ' ');
      result.tokenizer_config_json = Config().dump(2, ' ') + "\n";
    } catch (const nlohmann::json::exception& error) {
      throw Error(ErrorCode::kCorruptFile,
                  file_.path() + ": the vocabulary is not valid UTF-8: " + error.what(),
                  kFetchGgufAgain);
    }
    if (const auto chat_template = file_.String("tokenizer.chat_template")) {
      result.chat_template = std::string(*chat_template);
    }
    result.bos_token_id = bos_;
    result.pad_token_id = pad_;
    result.end_token_ids = EndIds();
    return result;
  }

 private:
  [[noreturn]] void Corrupt(const std::string& what) const {
    throw Error(ErrorCode::kCorruptFile, file_.path() + ": " + what, kFetchGgufAgain);
  }

  void ReadTokens() {
    const auto tokens = file_.Strings("tokenizer.ggml.tokens");
    if (!tokens || tokens->empty() || static_cast<int64_t>(tokens->size()) > kMaxTokens) {
      Corrupt("tokenizer.ggml.tokens is missing, empty or too long");
    }
    tokens_ = *tokens;
    types_ = file_.Ints("tokenizer.ggml.token_type")
                 .value_or(std::vector<int64_t>(tokens_.size(), kNormal));
    if (types_.size() != tokens_.size()) {
      Corrupt("tokenizer.ggml.token_type has " + std::to_string(types_.size()) +
              " entries, tokenizer.ggml.tokens has " + std::to_string(tokens_.size()));
    }
    for (size_t id = 0; id < tokens_.size(); ++id) {
      if (types_[id] != kUnused && !ids_.emplace(tokens_[id], static_cast<int32_t>(id)).second) {
        Corrupt("tokens " + std::to_string(ids_.at(tokens_[id])) + " and " + std::to_string(id) +
                " are the same text");
      }
    }
  }

  // As llama.cpp, an id past the tokens counts as not given.
  std::optional<int32_t> Id(std::string_view key) const {
    const auto id = file_.Int(key);
    if (!id || *id < 0) {
      return std::nullopt;
    }
    if (*id >= static_cast<int64_t>(tokens_.size())) {
      LogWarning("a special token that the vocabulary does not have is left out",
                 {{"file", file_.path()}, {"key", key}, {"id", *id}, {"tokens", tokens_.size()}});
      return std::nullopt;
    }
    return static_cast<int32_t>(*id);
  }

  std::string Text(int32_t id) const { return std::string(tokens_[static_cast<size_t>(id)]); }

  void ReadSpecialIds() {
    bos_ = Id("tokenizer.ggml.bos_token_id");
    eos_ = Id("tokenizer.ggml.eos_token_id");
    unknown_ = Id("tokenizer.ggml.unknown_token_id");
    pad_ = Id("tokenizer.ggml.padding_token_id");
  }

  bool IsSpecial(size_t id) const {
    const auto number = static_cast<int32_t>(id);
    return types_[id] == kControl || types_[id] == kUnknown || number == bos_ || number == eos_;
  }

  Json AddedTokens() const {
    Json added = Json::array();
    for (size_t id = 0; id < tokens_.size(); ++id) {
      if (types_[id] == kUserDefined || (IsSpecial(id) && types_[id] != kUnused)) {
        added.push_back({{"id", id},
                         {"content", std::string(tokens_[id])},
                         {"single_word", false},
                         {"lstrip", false},
                         {"rstrip", false},
                         {"normalized", false},
                         {"special", IsSpecial(id)}});
      }
    }
    return added;
  }

  Json Vocabulary() const {
    Json vocabulary = Json::object();
    auto& entries = vocabulary.get_ref<Json::object_t&>();
    entries.reserve(tokens_.size());
    for (size_t id = 0; id < tokens_.size(); ++id) {
      if (types_[id] != kUnused) {
        // Not operator[]: it would look for the key among all before it.
        entries.emplace_back(std::string(tokens_[id]), id);
      }
    }
    return vocabulary;
  }

  // BOS before and EOS after the text, where wanted.
  Json PostProcessor(bool bos, bool eos) const {
    bos = bos && bos_;
    eos = eos && eos_;
    if (!bos && !eos) {
      return nullptr;
    }
    const auto special = [&](int32_t id) {
      return Json{{"SpecialToken", {{"id", Text(id)}, {"type_id", 0}}}};
    };
    Json single = Json::array();
    Json pair = Json::array();
    Json tokens = Json::object();
    const auto describe = [&](int32_t id) {
      tokens[Text(id)] = {{"id", Text(id)}, {"ids", {id}}, {"tokens", {Text(id)}}};
    };
    for (const char* sequence : {"A", "B"}) {
      const int type = *sequence - 'A';
      Json part = Json::array();
      if (bos) {
        part.push_back(special(*bos_));
        part.back()["SpecialToken"]["type_id"] = type;
        describe(*bos_);
      }
      part.push_back({{"Sequence", {{"id", sequence}, {"type_id", type}}}});
      if (eos) {
        part.push_back(special(*eos_));
        part.back()["SpecialToken"]["type_id"] = type;
        describe(*eos_);
      }
      if (type == 0) {
        single = part;
      }
      pair.insert(pair.end(), part.begin(), part.end());
    }
    return {{"type", "TemplateProcessing"},
            {"single", single},
            {"pair", pair},
            {"special_tokens", tokens}};
  }

  void BuildByteLevel(Json& root) {
    const std::string pre(file_.String("tokenizer.ggml.pre").value_or("default"));
    const auto known = FindPreTokenizer(pre);
    if (!known) {
      throw Error(ErrorCode::kUnsupported,
                  file_.path() + ": tokenizer.ggml.pre is \"" + Printable(pre) +
                      "\", a pre-tokenizer that is not known here",
                  "use the Hugging Face or MLX version of the model");
    }
    add_bos_ = file_.Bool("tokenizer.ggml.add_bos_token").value_or(known->adds_bos);
    add_eos_ = file_.Bool("tokenizer.ggml.add_eos_token").value_or(false);
    root["normalizer"] = known->nfc ? Json{{"type", "NFC"}} : Json();
    root["pre_tokenizer"] = known->steps;
    root["post_processor"] = PostProcessor(add_bos_, add_eos_);
    root["decoder"] = {{"type", "ByteLevel"},
                       {"add_prefix_space", true},
                       {"trim_offsets", true},
                       {"use_regex", true}};
    root["model"] = {{"type", "BPE"},
                     {"dropout", nullptr},
                     {"unk_token", nullptr},
                     {"continuing_subword_prefix", nullptr},
                     {"end_of_word_suffix", nullptr},
                     {"fuse_unk", false},
                     {"byte_fallback", false},
                     {"ignore_merges", known->ignore_merges}};
    root["model"]["vocab"] = Vocabulary();
    root["model"]["merges"] = CheckedMerges();
  }

  Json CheckedMerges() const {
    const auto merges = file_.Strings("tokenizer.ggml.merges");
    if (!merges) {
      Corrupt("tokenizer.ggml.merges is missing, a gpt2 tokenizer needs it");
    }
    Json result = Json::array();
    result.get_ref<Json::array_t&>().reserve(merges->size());
    std::string merged;
    for (size_t i = 0; i < merges->size(); ++i) {
      const std::string_view merge = (*merges)[i];
      // The first character of either part may itself be a space in old files.
      const size_t space = merge.find(' ', 1);
      const bool split = space != std::string_view::npos && space + 1 < merge.size();
      merged.clear();
      if (split) {
        merged.append(merge.substr(0, space)).append(merge.substr(space + 1));
      }
      if (!split || ids_.count(merge.substr(0, space)) == 0 ||
          ids_.count(merge.substr(space + 1)) == 0 || ids_.count(merged) == 0) {
        Corrupt("merge " + std::to_string(i) + " does not join two tokens to a token");
      }
      result.push_back(std::string(merge));
    }
    return result;
  }

  void BuildSentencePiece(Json& root) {
    const bool prefix = file_.Bool("tokenizer.ggml.add_space_prefix").value_or(true);
    add_bos_ = file_.Bool("tokenizer.ggml.add_bos_token").value_or(true);
    add_eos_ = file_.Bool("tokenizer.ggml.add_eos_token").value_or(false);
    const std::string mark = "\u2581";
    const auto replace = [](const std::string& from, const std::string& to) {
      return Json{{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
    };
    std::vector<Json> normalizers;
    std::vector<Json> decoders = {
        replace(mark, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}};
    if (prefix) {
      normalizers.push_back({{"type", "Prepend"}, {"prepend", mark}});
      decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
    }
    normalizers.push_back(replace(" ", mark));
    root["normalizer"] = {{"type", "Sequence"}, {"normalizers", normalizers}};
    root["pre_tokenizer"] = nullptr;
    root["post_processor"] = PostProcessor(add_bos_, add_eos_);
    root["decoder"] = {{"type", "Sequence"}, {"decoders", decoders}};
    root["model"] = {{"type", "BPE"},
                     {"dropout", nullptr},
                     {"unk_token", unknown_ ? Json(Text(*unknown_)) : Json()},
                     {"continuing_subword_prefix", nullptr},
                     {"end_of_word_suffix", nullptr},
                     {"fuse_unk", true},
                     {"byte_fallback", true},
                     {"ignore_merges", false}};
    root["model"]["vocab"] = Vocabulary();
    root["model"]["merges"] = MergesFromScores();
  }

  // SentencePiece joins the neighbours whose union has the best score; as a merge list: every way
  // to split a token into two tokens, ordered by the token's score.
  Json MergesFromScores() const {
    const auto scores = file_.Floats("tokenizer.ggml.scores");
    if (!scores || scores->size() != tokens_.size()) {
      Corrupt("tokenizer.ggml.scores is missing or has not one entry for each token");
    }
    if (!std::all_of(scores->begin(), scores->end(), [](float s) { return std::isfinite(s); })) {
      Corrupt("tokenizer.ggml.scores holds a value that is not finite");
    }
    struct Merge {
      float score;
      int32_t left;
      int32_t right;
      int32_t token;
    };
    std::vector<Merge> merges;
    const auto plain = [&](std::string_view text) -> std::optional<int32_t> {
      const auto it = ids_.find(text);
      if (it == ids_.end() || types_[static_cast<size_t>(it->second)] != kNormal) {
        return std::nullopt;
      }
      return it->second;
    };
    for (size_t id = 0; id < tokens_.size(); ++id) {
      const std::string_view token = tokens_[id];
      if (types_[id] != kNormal) {
        continue;
      }
      for (size_t cut = 1; cut < token.size(); ++cut) {
        if ((static_cast<unsigned char>(token[cut]) & 0xc0U) == 0x80U) {
          continue;  // inside a character
        }
        const auto left = plain(token.substr(0, cut));
        const auto right = plain(token.substr(cut));
        if (left && right) {
          merges.push_back({(*scores)[id], *left, *right, static_cast<int32_t>(id)});
        }
      }
    }
    std::sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
      return std::tie(b.score, a.token, a.left, a.right) <
             std::tie(a.score, b.token, b.left, b.right);
    });
    Json result = Json::array();
    result.get_ref<Json::array_t&>().reserve(merges.size());
    for (const Merge& merge : merges) {
      result.push_back(Text(merge.left) + " " + Text(merge.right));
    }
    return result;
  }

  std::vector<int32_t> EndIds() const {
    std::vector<int32_t> ids;
    const auto add = [&](std::optional<int32_t> id) {
      if (id && std::find(ids.begin(), ids.end(), *id) == ids.end()) {
        ids.push_back(*id);
      }
    };
    add(eos_);
    add(Id("tokenizer.ggml.eot_token_id"));
    add(Id("tokenizer.ggml.eom_token_id"));
    for (const std::string_view name : TurnEndTokens()) {
      const auto it = ids_.find(name);
      if (it != ids_.end() && types_[static_cast<size_t>(it->second)] == kControl) {
        add(it->second);
      }
    }
    return ids;
  }

  Json Config() const {
    Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                   {"clean_up_tokenization_spaces", false},
                   {"add_bos_token", add_bos_},
                   {"add_eos_token", add_eos_}};
    const auto name = [&](const char* field, std::optional<int32_t> id) {
      if (id) {
        config[field] = Text(*id);
      }
    };
    name("bos_token", bos_);
    name("eos_token", eos_);
    name("unk_token", unknown_);
    name("pad_token", pad_);
    const std::string architecture(file_.String("general.architecture").value_or(""));
    if (const auto length = file_.Int(architecture + ".context_length")) {
      config["model_max_length"] = *length;
    }
    if (const auto chat_template = file_.String("tokenizer.chat_template")) {
      config["chat_template"] = std::string(*chat_template);
    }
    return config;
  }

  const GgufFile& file_;
  std::vector<std::string_view> tokens_;
  std::vector<int64_t> types_;
  std::unordered_map<std::string_view, int32_t> ids_;
  std::optional<int32_t> bos_;
  std::optional<int32_t> eos_;
  std::optional<int32_t> unknown_;
  std::optional<int32_t> pad_;
  bool add_bos_ = false;
  bool add_eos_ = false;
};

}  // namespace

GgufTokenizer BuildGgufTokenizer(const GgufFile& file) {
  return Builder(file).Build();
}

}  // namespace mach::formats
