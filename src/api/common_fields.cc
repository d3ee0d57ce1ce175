#include "api/common_fields.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace mach::api {
namespace {

constexpr size_t kMaxStopBytes = 4096;
constexpr int64_t kMaxTokenId = INT32_MAX;

// Fields of OpenAI or of other servers that change the answer and that this server does not
// implement, with the one value that asks for nothing.
void RefuseUnsupported(const Fields& fields) {
  struct Row {
    const char* key;
    Json harmless;
  };
  static const Row kRows[] = {
      {"functions", nullptr},
      {"function_call", nullptr},
      {"audio", nullptr},
      {"best_of", 1},
      {"use_beam_search", false},
      {"echo", false},
      {"prompt_logprobs", nullptr},
      {"suffix", ""},
      {"modalities", Json::array({"text"})},
      {"web_search_options", nullptr},
      {"length_penalty", 1.0},
      {"bad_words", Json::array()},
      {"allowed_token_ids", nullptr},
      {"truncate_prompt_tokens", nullptr},
      {"guided_json", nullptr},
      {"guided_regex", nullptr},
      {"guided_choice", nullptr},
      {"guided_grammar", nullptr},
      {"structured_outputs", nullptr},
      {"grammar", nullptr},
      {"json_schema", nullptr},
      {"regex", nullptr},
      {"ebnf", nullptr},
      {"structural_tag", nullptr},
      {"chat_template", nullptr},
      {"continue_final_message", false},
      {"add_generation_prompt", true},
      {"documents", nullptr},
  };
  for (const Row& row : kRows) {
    fields.RefuseUnless(row.key, row.harmless);
  }
}

void ParseSpeculation(const Fields& fields) {
  const Json* value = fields.Find("speculation");
  std::string path = fields.Path("speculation");
  if (value != nullptr && value->is_object()) {
    const auto preset = value->find("preset");
    path += ".preset";
    value = preset == value->end() ? nullptr : &*preset;
    if (value == nullptr) {
      Reject("'" + path + "' is required. Supported presets: \"none\".", path);
    }
  }
  if (value != nullptr && *value != "none") {
    Reject("'" + path + "' is not a preset of this server. Supported presets: \"none\".", path);
  }
}

void ParseStop(const Fields& fields, const RequestLimits& limits, StopFields& stop) {
  stop.strings = ParseStopStrings(fields, "stop", limits);
  if (const Json* ids = fields.Array("stop_token_ids")) {
    if (ids->size() > static_cast<size_t>(limits.max_stop_token_ids)) {
      Reject("'stop_token_ids' has " + std::to_string(ids->size()) + " ids; the maximum is " +
                 std::to_string(limits.max_stop_token_ids) + ".",
             "stop_token_ids");
    }
    for (size_t i = 0; i < ids->size(); ++i) {
      const Json& id = (*ids)[i];
      const std::string path = "stop_token_ids[" + std::to_string(i) + "]";
      if (!id.is_number_unsigned() || id.get<uint64_t>() > static_cast<uint64_t>(kMaxTokenId)) {
        Reject("'" + path + "' must be a token id.", path);
      }
      stop.token_ids.push_back(id.get<int32_t>());
    }
  }
  const auto old_limit = fields.Integer("max_tokens", 1, INT64_MAX);
  const auto new_limit = fields.Integer("max_completion_tokens", 1, INT64_MAX);
  stop.max_tokens = new_limit ? new_limit : old_limit;
  stop.min_tokens = fields.Integer("min_tokens", 0, INT64_MAX).value_or(0);
  if (stop.max_tokens && stop.min_tokens > *stop.max_tokens) {
    Reject("'min_tokens' must not be greater than 'max_tokens'.", "min_tokens");
  }
  stop.include_stop_string = fields.Bool("include_stop_str_in_output").value_or(false);
  stop.ignore_eos = fields.Bool("ignore_eos").value_or(false);
}

void ParseLogitBias(const Fields& fields, SamplingFields& sampling) {
  const Json* biases = fields.Object("logit_bias");
  if (biases == nullptr) {
    return;
  }
  for (const auto& [key, value] : biases->items()) {
    // The key is the client's text: it is quoted only where it is known to be short.
    const std::string path = key.size() <= 20 ? "logit_bias." + key : "logit_bias";
    int32_t id = -1;
    const auto parsed = std::from_chars(key.data(), key.data() + key.size(), id);
    if (parsed.ec != std::errc() || parsed.ptr != key.data() + key.size() || id < 0) {
      Reject("The keys of 'logit_bias' must be token ids.", path);
    }
    if (!value.is_number() || !(std::abs(value.get<double>()) <= 100)) {
      Reject("'" + path + "' must be a number from -100 to 100.", path);
    }
    sampling.logit_bias.emplace_back(id, value.get<float>());
  }
}

void ParseSampling(const Fields& fields, SamplingFields& sampling) {
  constexpr double kUnbounded = std::numeric_limits<double>::infinity();
  sampling.temperature = fields.Number("temperature", 0, kUnbounded);
  sampling.top_p = fields.Number("top_p", 0, 1, /*exclusive_min=*/true);
  sampling.min_p = fields.Number("min_p", 0, 1);
  if (const auto top_k = fields.Integer("top_k", -1, INT32_MAX)) {
    sampling.top_k = static_cast<int32_t>(std::max<int64_t>(*top_k, 0));
  }
  sampling.presence_penalty = fields.Number("presence_penalty", -2, 2);
  sampling.frequency_penalty = fields.Number("frequency_penalty", -2, 2);
  sampling.repetition_penalty =
      fields.Number("repetition_penalty", 0, kUnbounded, /*exclusive_min=*/true);
  sampling.seed = fields.Integer("seed", INT64_MIN, INT64_MAX);
  ParseLogitBias(fields, sampling);
}

void ParseStreaming(const Fields& fields, CommonFields& common) {
  common.stream = fields.Bool("stream").value_or(false);
  const Json* options = fields.Object("stream_options");
  if (options == nullptr) {
    return;
  }
  if (!common.stream) {
    Reject("'stream_options' is only allowed when 'stream' is true.", "stream_options");
  }
  const Fields nested(*options, "stream_options.");
  common.include_usage = nested.Bool("include_usage").value_or(false);
  common.continuous_usage = nested.Bool("continuous_usage_stats").value_or(false);
}

}  // namespace

std::vector<std::string> ParseStopStrings(const Fields& fields, const char* key,
                                          const RequestLimits& limits) {
  std::vector<std::string> strings;
  const Json* value = fields.Find(key);
  if (value == nullptr) {
    return strings;
  }
  const std::string name = fields.Path(key);
  const bool list = value->is_array();
  if (!list && !value->is_string()) {
    Reject("'" + name + "' must be a string or an array of strings, not " +
               std::string(JsonTypeName(*value)) + ".",
           name);
  }
  if (list && value->size() > static_cast<size_t>(limits.max_stop_strings)) {
    Reject("'" + name + "' has " + std::to_string(value->size()) + " strings; the maximum is " +
               std::to_string(limits.max_stop_strings) + ".",
           name);
  }
  const size_t count = list ? value->size() : 1;
  for (size_t i = 0; i < count; ++i) {
    const Json& item = list ? (*value)[i] : *value;
    const std::string path = list ? name + "[" + std::to_string(i) + "]" : name;
    if (!item.is_string()) {
      Reject("'" + path + "' must be a string, not " + std::string(JsonTypeName(item)) + ".", path);
    }
    const auto& text = item.get_ref<const std::string&>();
    if (text.empty() || text.size() > kMaxStopBytes) {
      Reject("'" + path + "' must have 1 to " + std::to_string(kMaxStopBytes) + " bytes.", path);
    }
    strings.push_back(text);
  }
  return strings;
}

void ApplyEffort(const std::string& effort, const std::string& path, Json& variables) {
  constexpr std::array<std::string_view, 7> kEfforts = {"none", "minimal", "low", "medium",
                                                        "high", "xhigh",   "max"};
  if (std::find(kEfforts.begin(), kEfforts.end(), effort) == kEfforts.end()) {
    Reject("'" + path + "' must be one of none, minimal, low, medium, high, xhigh, max.", path);
  }
  if (!variables.contains("enable_thinking")) {
    variables["enable_thinking"] = effort != "none";
  }
  if (!variables.contains("reasoning_effort")) {
    variables["reasoning_effort"] = effort;
  }
}

CommonFields ParseCommonFields(const Fields& fields, const RequestLimits& limits) {
  CommonFields common;
  RefuseUnsupported(fields);
  ParseSpeculation(fields);
  common.model = fields.String("model").value_or("");
  ParseStreaming(fields, common);
  common.n = static_cast<int32_t>(fields.Integer("n", 1, limits.max_choices).value_or(1));
  ParseSampling(fields, common.sampling);
  ParseStop(fields, limits, common.stop);
  common.receipt = fields.Bool("receipt").value_or(false);
  common.skip_special_tokens = fields.Bool("skip_special_tokens").value_or(true);
  return common;
}

}  // namespace mach::api
