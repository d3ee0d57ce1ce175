#include "api/big_integers.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "api/json_text.h"

namespace mach::api {
namespace {

using Json = nlohmann::ordered_json;

bool IsInteger(std::string_view digits) {
  return std::all_of(digits.begin(), digits.end(),
                     [](char c) { return c == '-' || (c >= '0' && c <= '9'); });
}

// Builds the document; the parser has no such hook of its own.
class Builder : public nlohmann::json_sax<Json> {
 public:
  Json Take() { return std::move(root_); }

  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(number_integer_t value) override { return Add(value); }
  bool number_unsigned(number_unsigned_t value) override { return Add(value); }
  bool number_float(number_float_t value, const string_t& written) override {
    if (IsInteger(written)) {
      return Add(Json::binary({written.begin(), written.end()}));
    }
    return Add(value);
  }
  bool string(string_t& value) override { return Add(std::move(value)); }
  bool binary(binary_t& /*value*/) override { return false; }  // not of JSON
  bool start_object(size_t /*size*/) override { return Open(Json::object()); }
  bool key(string_t& name) override {
    key_ = std::move(name);
    return true;
  }
  bool end_object() override { return Close(); }
  bool start_array(size_t /*size*/) override { return Open(Json::array()); }
  bool end_array() override { return Close(); }
  bool parse_error(size_t /*at*/, const std::string& /*token*/,
                   const nlohmann::detail::exception& /*error*/) override {
    return false;
  }

 private:
  Json& Place(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return root_;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return parent.back();
    }
    return parent[key_] = std::move(value);
  }
  bool Add(Json value) {
    Place(std::move(value));
    return true;
  }
  bool Open(Json value) {
    open_.push_back(&Place(std::move(value)));
    return true;
  }
  bool Close() {
    open_.pop_back();
    return true;
  }

  Json root_;
  std::vector<Json*> open_;  // none of them moves while it is open: only the last one grows
  std::string key_;
};

}  // namespace

Json ParseKeepingBigIntegers(std::string_view text) {
  Json document = ParseJson(text);  // with its limits and its messages
  Builder builder;
  return Json::sax_parse(text, &builder) ? builder.Take() : document;
}

}  // namespace mach::api
