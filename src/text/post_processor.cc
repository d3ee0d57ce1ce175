#include "text/post_processor.h"

#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "text/json_fields.h"

namespace mach::text {

using nlohmann::json;

namespace {

int32_t IdFrom(const json& value, const JsonFields& fields) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() > INT32_MAX) {
    fields.Fail("a special token's id is not a whole number of 0 to 2^31-1");
  }
  return value.get<int32_t>();
}

// ["</s>", 2]
int32_t PairId(const JsonFields& fields, const char* name) {
  const json& pair = fields.Array(name);
  if (pair.size() != 2) {
    fields.Fail("\"" + std::string(name) + "\" is not a pair of token and id");
  }
  return IdFrom(pair[1], fields);
}

}  // namespace

PostProcessor PostProcessor::FromJson(const json& field, std::string_view source) {
  PostProcessor result;
  result.Add(field, source);
  return result;
}

void PostProcessor::Add(const json& field, std::string_view source) {
  if (field.is_null()) {
    return;
  }
  const JsonFields fields(field, source, "post_processor");
  const std::string type = fields.String("type");
  if (type == "Sequence") {
    for (const json& part : fields.Array("processors")) {
      Add(part, source);
    }
  } else if (type == "TemplateProcessing") {
    Template result;
    const json& special_tokens = fields.Object("special_tokens");
    for (const json& piece : fields.Array("single")) {
      if (piece.is_object() && piece.contains("Sequence")) {
        const JsonFields sequence(piece["Sequence"], source, "post_processor.single");
        if (sequence.String("id") != "A") {
          sequence.Fail("sequence \"" + sequence.String("id") +
                        "\" in the template of one sequence");
        }
        result.parts.push_back({true, {}});
        continue;
      }
      const JsonFields part(piece, source, "post_processor.single");
      const std::string id =
          JsonFields(part.Object("SpecialToken"), source, "post_processor.single").String("id");
      const auto token = special_tokens.find(id);
      if (token == special_tokens.end()) {
        part.Fail("special token \"" + id + "\" is not in special_tokens");
      }
      const JsonFields token_fields(*token, source, "post_processor.special_tokens");
      Part special{false, {}};
      for (const json& value : token_fields.Array("ids")) {
        special.ids.push_back(IdFrom(value, token_fields));
      }
      result.parts.push_back(std::move(special));
    }
    templates_.push_back(std::move(result));
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    templates_.push_back(
        {{{false, {PairId(fields, "cls")}}, {true, {}}, {false, {PairId(fields, "sep")}}}});
  } else if (type != "ByteLevel") {  // which only moves offsets
    fields.UnsupportedType(type);
  }
}

void PostProcessor::Apply(bool add_special_tokens, std::vector<int32_t>* ids) const {
  for (const Template& pattern : templates_) {
    std::vector<int32_t> out;
    for (const Part& part : pattern.parts) {
      if (part.is_sequence) {
        if (out.empty() && &part == &pattern.parts.back()) {
          out.swap(*ids);
        } else {
          out.insert(out.end(), ids->begin(), ids->end());
        }
      } else if (add_special_tokens) {
        out.insert(out.end(), part.ids.begin(), part.ids.end());
      }
    }
    ids->swap(out);
  }
}

}  // namespace mach::text
