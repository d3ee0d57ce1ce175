#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/grammar/grammar_support.h"

namespace mach::grammar {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;

std::string Refusal(const std::string& schema) {
  try {
    ByteCompiler().Compile(Spec::JsonSchema(Json::parse(schema)));
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
}

// Every keyword of draft 2020-12, and older ones: enforced, refused by name, or without effect.
struct Enforced {
  const char* schema;
  std::vector<const char*> valid;
  std::vector<const char*> invalid;
};

const Enforced kEnforced[] = {
    {R"({"type":"integer"})", {"0", "-12", "1000000"}, {"1.5", "01", "\"1\"", "null", "+1"}},
    {R"({"type":["string","null"]})", {"\"a\"", "null"}, {"1", "true"}},
    {R"({"type":"number"})", {"1", "1.5", "-0.25", "1e5"}, {"1.", ".5", "NaN", "\"1\""}},
    {R"({"type":"boolean"})", {"true", "false"}, {"1", "True"}},
    {R"({"enum":["a",1,null,{"b":[2]}]})",
     {"\"a\"", "1", "null", R"({"b":[2]})"},
     {"\"b\"", "2", R"({"b":[3]})", "{}"}},
    {R"({"const":"x"})", {"\"x\""}, {"\"y\"", "1"}},
    {R"({"properties":{"a":{"type":"integer"}},"required":["a"]})",
     {R"({"a":1})", R"({"a":1,"z":[]})", "[]", "3"},
     {"{}", R"({"a":"1"})", R"({"z":1})"}},
    {R"({"type":"object","properties":{"a":true},"additionalProperties":false})",
     {"{}", R"({"a":7})"},
     {R"({"b":7})", R"({"a":7,"b":1})"}},
    {R"({"type":"object","patternProperties":{"^n_":{"type":"number"}},"additionalProperties":false})",
     {R"({"n_a":1})"},
     {R"({"n_a":"1"})", R"({"x":1})"}},
    {R"({"type":"object","additionalProperties":{"type":"integer"},"minProperties":1,"maxProperties":2})",
     {R"({"a":1})", R"({"a":1,"b":2})"},
     {"{}", R"({"a":1,"b":2,"c":3})"}},
    {R"({"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":2})",
     {"[1]", "[1,2]", "[1, 2]"},
     {"[]", "[1,2,3]", "[\"a\"]", "[1,]"}},
    {R"({"type":"array","prefixItems":[{"type":"integer"},{"type":"string"}],"items":false})",
     {"[]", "[1]", "[1,\"a\"]"},
     {"[\"a\"]", "[1,\"a\",2]"}},
    {R"({"type":"array","items":[{"type":"integer"}],"additionalItems":{"type":"null"}})",
     {"[1,null]"},
     {"[1,2]"}},
    {R"({"type":"string","minLength":2,"maxLength":3})",
     {"\"ab\"", "\"éé\"", "\"\\n\\\"\""},
     {"\"a\"", "\"abcd\""}},
    {R"({"type":"string","pattern":"b+"})", {"\"abc\""}, {"\"ac\""}},
    {R"({"type":"string","format":"date"})",
     {"\"2024-02-29\"", "\"2000-02-29\""},
     {"\"2024-13-01\"", "\"2023-02-29\"", "\"1900-02-29\"", "\"today\""}},
    {R"({"type":"string","format":"date-time","pattern":"^20"})",
     {"\"2024-02-29T23:59:59.5+01:00\""},
     {"\"1999-02-28T00:00:00Z\"", "\"2024-02-29\"", "\"2024-02-29T24:00:00Z\""}},
    {R"({"type":"string","format":"uuid"})",
     {"\"123e4567-e89b-12d3-a456-426614174000\""},
     {"\"123\""}},
    {R"({"type":"integer","minimum":3,"maximum":12})", {"3", "12"}, {"2", "13", "-3"}},
    {R"({"type":"number","exclusiveMinimum":0,"exclusiveMaximum":1})",
     {"0.5"},
     {"0", "1", "-0.5", "1.5"}},
    {R"({"type":"integer","multipleOf":5})", {"0", "10", "-15"}, {"3", "12"}},
    {R"({"anyOf":[{"type":"integer"},{"type":"string","maxLength":1}]})",
     {"1", "\"a\""},
     {"\"ab\"", "null"}},
    {R"({"allOf":[{"minimum":2},{"maximum":4}],"type":"integer"})", {"3"}, {"1", "5"}},
    {R"({"oneOf":[{"type":"integer"},{"type":"string"}]})", {"1", "\"a\""}, {"null"}},
    {R"({"oneOf":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/b"}],"$defs":{
         "a":{"type":"object","properties":{"kind":{"const":"a"}},"required":["kind"]},
         "b":{"type":"object","properties":{"kind":{"const":"b"},"n":{"type":"integer"}},
              "required":["kind","n"]}}})",
     {R"({"kind":"a"})", R"({"kind":"b","n":1})"},
     {R"({"kind":"b"})", R"({"kind":"c"})"}},
    {R"({"type":"object","properties":{"v":{"type":"integer"},"next":{"$ref":"#"}},
         "required":["v"],"additionalProperties":false})",
     {R"({"v":1})", R"({"v":1,"next":{"v":2,"next":{"v":3}}})"},
     {R"({"v":1,"next":{}})"}},
    {R"({"$ref":"#/definitions/a~1b%25","definitions":{"a/b%":{"type":"null"}}})", {"null"}, {"1"}},
    {R"({"type":"array","items":{"type":"integer"},"maxItems":1,"uniqueItems":true})",
     {"[1]"},
     {"[1,1]"}},
    {R"({"type":"object","properties":{"a":{"type":"null"}},"unevaluatedProperties":false})",
     {R"({"a":null})"},
     {R"({"b":1})"}},
    {R"({"type":"null","title":"t","description":"d","default":1,"examples":[2],"$comment":"c",
         "deprecated":true,"readOnly":true,"writeOnly":true,"$anchor":"x","contentEncoding":"base64",
         "contentMediaType":"text/plain","contentSchema":{},"if":{},"minContains":2,"x-other":3,
         "uniqueItems":false,"x-guidance":{"lenient":true},
         "$schema":"https://json-schema.org/draft/2020-12/schema","$id":"http://h/x"})",
     {"null"},
     {"1", "{}"}},
};

TEST(Schema, KeywordsAreEnforced) {
  for (const Enforced& row : kEnforced) {
    ASSERT_EQ(Refusal(row.schema), "") << row.schema;
    for (const char* text : row.valid) {
      EXPECT_TRUE(Allows(Json::parse(row.schema), text)) << row.schema << " " << text;
    }
    for (const char* text : row.invalid) {
      EXPECT_FALSE(Allows(Json::parse(row.schema), text)) << row.schema << " " << text;
    }
  }
}

std::string Text(const std::string& value) {
  return Json(value).dump();
}

TEST(Schema, FormatsAreEnforcedToTheirLengths) {
  const std::string long_label(63, 'a');
  const std::string long_name =
      long_label + "." + long_label + "." + long_label + "." + std::string(61, 'a');
  const Enforced rows[] = {
      {"hostname",
       {"a", "a1", "a-b", "a-bc", "ab-c", "a--b", "3com.example", "x-1.y"},
       {"", "-a", "a-", "a.", ".a", "a..b", "ab--cd", "ab--c", "a_b", "x.ab--cd.y"}},
      {"email",
       {"a@b", "a.b+c@d-e.f", "!#$%&'*+-/=?^_`{|}~@h", "a@[127.0.0.1]"},
       {"a", "@b", "a@", "a..b@c", ".a@b", "a.@b", "a@b@c", "a@ab--cd", "a@[256.0.0.1]"}},
      {"ipv4", {"0.0.0.0", "255.249.199.9"}, {"256.0.0.0", "01.0.0.0", "1.2.3", "1.2.3.4.5"}},
      {"ipv6",
       {"::", "::1", "1::", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1::8",
        "::ffff:1.2.3.4", "1:2:3:4:5:6:1.2.3.4", "1:2::7:8"},
       {"1", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3", ":::", "12345::", "::1.2.3"}},
      {"uri",
       {"a:", "http://h", "http://u:p@h:80/a/b?c=d#e", "http://[::1]/", "urn:a:b", "file:///a"},
       {"", "a", "//h", "/a", "1a:b", "http://[::1", "a:b c", "a:%4", "a:#b#c", "http://h\\a"}},
      {"uri-reference",
       {"", "a", "a/b:c", "//h/p", "/a", "#x", "?y", "http://h", "./a:b"},
       {":a", "a b", "%zz", "#a#b", "//[::1"}},
      {"json-pointer", {"", "/", "/a~0b/~1", "//"}, {"a", "/~", "/~2"}},
      {"relative-json-pointer", {"0", "1#", "12/a", "0/"}, {"", "#", "01", "1a", "/a"}},
      {"duration", {"P1D", "PT1H", "P2W"}, {"P", "1D", "PT"}},
  };
  for (const Enforced& row : rows) {
    const Json schema = {{"type", "string"}, {"format", row.schema}};
    for (const char* text : row.valid) {
      EXPECT_TRUE(Allows(schema, Text(text))) << row.schema << " " << text;
    }
    for (const char* text : row.invalid) {
      EXPECT_FALSE(Allows(schema, Text(text))) << row.schema << " " << text;
    }
  }
  const Json host = {{"format", "hostname"}};
  EXPECT_TRUE(Allows(host, Text(long_label)));
  EXPECT_TRUE(Allows(host, Text(long_name)));
  EXPECT_FALSE(Allows(host, Text(long_label + "a")));
  EXPECT_FALSE(Allows(host, Text(long_name + "a")));
  const Json mail = {{"format", "email"}};
  EXPECT_TRUE(Allows(mail, Text(long_label + "a@b")));
  EXPECT_FALSE(Allows(mail, Text(long_label + "aa@b")));
  EXPECT_FALSE(Allows(mail, Text(long_label + ".a@b")));
  EXPECT_FALSE(Allows(mail, Text("a@" + long_label + "a")));
  EXPECT_FALSE(Allows(mail, Text("a@" + long_name + "a")));
}

TEST(Schema, FormatsOfNoDraftMeanNothing) {
  for (const char* format : {"int32", "int64", "byte", "binary", "password", "AWS::EC2::VPC.Id"}) {
    EXPECT_TRUE(Allows({{"format", format}, {"maxLength", 2}}, "\"ab\"")) << format;
    EXPECT_FALSE(Allows({{"format", format}, {"maxLength", 2}}, "\"abc\"")) << format;
  }
}

// By other keywords that say the same.
const Enforced kRewritten[] = {
    {R"({"not":{"type":["string","null"]}})", {"1", "true", "[]", "{}"}, {"\"a\"", "null"}},
    {R"({"not":{"const":null}})", {"1", "\"null\"", "[]", "false"}, {"null"}},
    {R"({"not":{"const":true}})", {"1", "null", "false"}, {"true"}},
    {R"({"not":{"const":"ab"}})",
     {"\"\"", "\"a\"", "\"abc\"", "\"b\"", "\"aé\"", "1", "null", "[\"ab\"]"},
     {"\"ab\""}},
    {R"({"not":{"enum":["é.","a","ab",true,null]}})",
     {"\"\"", "\"é\"", "\"éa\"", "\"abc\"", "false", "0"},
     {"\"é.\"", "\"a\"", "\"ab\"", "true", "null"}},
    {R"({"not":{"required":["a","b"]}})",
     {"{}", R"({"a":1})", R"({"b":1,"c":2})"},
     {R"({"a":1,"b":2})", "1", "[]"}},
    {R"({"not":{"properties":{"k":{"const":"x"}}}})",
     {R"({"k":"y"})", R"({"k":1,"l":2})"},
     {R"({"k":"x"})", "{}", "[]"}},
    {R"({"type":"object","not":{"anyOf":[{"required":["a"]},{"required":["b"]}]}})",
     {"{}", R"({"c":1})"},
     {R"({"a":1})", R"({"b":1})", R"({"c":1,"a":1})"}},
    {R"({"type":["string","integer"],"not":{"allOf":[{"type":"string"},{"not":{"const":"a"}}]}})",
     {"1", "\"a\""},
     {"\"b\"", "null"}},
    {R"({"not":{"$ref":"#/$defs/x"},"$defs":{"x":{"type":"object","title":"t"}}})", {"1"}, {"{}"}},
    {R"({"type":"array","items":{"not":{}}})", {"[]"}, {"[1]", "[{}]"}},
    {R"({"type":"object","properties":{"k":{"type":"string"},"v":{}},"required":["k"],
         "additionalProperties":false,"if":{"properties":{"k":{"const":"n"}}},
         "then":{"properties":{"v":{"type":"integer"}},"required":["v"]},
         "else":{"properties":{"v":false}}})",
     {R"({"k":"n","v":1})", R"({"k":"x"})"},
     {R"({"k":"n"})", R"({"k":"n","v":"a"})", R"({"k":"x","v":1})", "{}"}},
    {R"({"if":{"type":"string"},"then":{"maxLength":1}})", {"\"a\"", "1", "[]"}, {"\"ab\""}},
    {R"({"if":{"type":"string"},"else":{"type":"null"}})", {"\"ab\"", "null"}, {"1"}},
    {R"({"if":false,"then":false})", {"1"}, {}},
    {R"({"dependentRequired":{"a":["b","c"]}})",
     {"{}", R"({"b":1})", R"({"a":1,"b":1,"c":1})", "[]", "1"},
     {R"({"a":1})", R"({"a":1,"c":1})"}},
    {R"({"dependentSchemas":{"a":{"properties":{"b":{"type":"null"}}},"z":false}})",
     {R"({"b":1})", R"({"a":1})", R"({"b":null,"a":1})"},
     {R"({"a":1,"b":1})", R"({"z":1})"}},
    {R"({"dependencies":{"a":["b"],"b":{"maxProperties":2}}})",
     {"{}", R"({"a":1,"b":1})"},
     {R"({"a":1})", R"({"a":1,"b":1,"c":1})"}},
    {R"({"propertyNames":{"type":"string","pattern":"^a"},"additionalProperties":{"type":"null"}})",
     {"{}", R"({"a":null,"ab":null})", "1"},
     {R"({"b":null})", R"({"a":1})"}},
    {R"({"propertyNames":{"minLength":2,"maxLength":3},"properties":{"é":{},"éé":{}}})",
     {"{}", R"({"éé":1,"abc":1})"},
     {R"({"é":1})", R"({"abcd":1})", R"({"":1})"}},
    {R"({"propertyNames":{"enum":["a.b","c"]}})",
     {R"({"a.b":1})", R"({"c":1})"},
     {R"({"axb":1})", R"({"":1})"}},
    {R"({"propertyNames":{"not":{"const":"ab"}}})",
     {R"({"a":1})", R"({"abc":1})"},
     {R"({"ab":1})", R"({"a":1,"ab":1})"}},
    {R"({"propertyNames":false})", {"{}", "1"}, {R"({"a":1})"}},
    {R"({"oneOf":[{"type":["string","null"]},{"type":["integer","null"]}]})",
     {"\"a\"", "1"},
     {"null", "1.5", "true"}},
    {R"({"properties":{"a":{"type":"null"}},"oneOf":[{"required":["a"]},{"required":["b","c"]}]})",
     {R"({"a":null})", R"({"a":null,"b":1})", R"({"b":1,"c":1})"},
     {"{}", R"({"a":null,"b":1,"c":1})", R"({"b":1})", R"({"a":1})", "1"}},
    {R"({"$schema":"http://json-schema.org/draft-07/schema#","$id":"http://h/s",
         "properties":{"a":{"$id":"#/properties/a","$ref":"#/definitions/n"},
                       "b":{"$id":"#b","type":"null"}},
         "definitions":{"n":{"$id":"#n","type":"null"}}})",
     {R"({"a":null,"b":null})"},
     {R"({"a":1})", R"({"b":1})"}},
    {R"({"$schema":"http://json-schema.org/draft-04/schema#","id":"http://h/s",
         "properties":{"id":{"$ref":"http://h/s#/definitions/n"}},"definitions":{"n":{"type":"null"}}})",
     {R"({"id":null})"},
     {R"({"id":1})"}},
};

TEST(Schema, KeywordsAreRewritten) {
  for (const Enforced& row : kRewritten) {
    ASSERT_EQ(Refusal(row.schema), "") << row.schema;
    for (const char* text : row.valid) {
      EXPECT_TRUE(Allows(Json::parse(row.schema), text)) << row.schema << " " << text;
    }
    for (const char* text : row.invalid) {
      EXPECT_FALSE(Allows(Json::parse(row.schema), text)) << row.schema << " " << text;
    }
  }
}

TEST(Schema, KeywordsThatAreNotEnforcedAreNamed) {
  const std::pair<const char*, const char*> kRows[] = {
      {R"({"not":{"pattern":"a"}})", "'not'"},
      {R"({"not":{"type":"integer"}})", "'not'"},
      {R"({"not":{"const":1}})", "'not'"},
      {R"({"not":{"const":[]}})", "'not'"},
      {R"({"not":{"const":{"a":"b"}}})", "'not'"},
      {R"({"not":{"type":"string","minLength":2}})", "'not'"},
      {R"({"contains":true})", "'contains'"},
      {R"({"uniqueItems":true})", "'uniqueItems'"},
      {R"({"propertyNames":{"maxLength":2,"pattern":"a"}})", "'propertyNames'"},
      {R"({"propertyNames":{"format":"uri"}})", "'propertyNames'"},
      {R"({"dependencies":{"a":3}})", "'dependencies'"},
      {R"({"unevaluatedItems":false})", "'unevaluatedItems'"},
      {R"({"anyOf":[{}],"unevaluatedProperties":false})", "'unevaluatedProperties'"},
      {R"({"if":{"minimum":2},"then":{"type":"null"}})", "'if'"},
      {R"({"$dynamicRef":"#x"})", "'$dynamicRef'"},
      {R"({"$recursiveRef":"#"})", "'$recursiveRef'"},
      {R"({"$ref":"http://example.com/x"})", "'$ref'"},
      {R"({"$ref":"#/nowhere"})", "'$ref'"},
      {R"({"properties":{"a":{"$id":"x"}}})", "'$id'"},
      {R"({"properties":{"a":{"$id":"#x"}}})", "'$id'"},
      {R"({"$schema":"http://json-schema.org/draft-04/schema#","items":{"id":"x"}})", "'$id'"},
      {R"({"format":"regex"})", "'format'"},
      {R"({"format":"idn-hostname"})", "'format'"},
      {R"({"format":"iri-reference"})", "'format'"},
      {R"x({"pattern":"(?=a)"})x", "'pattern'"},
      {R"({"minProperties":2})", "'minProperties'"},
      {R"({"maximum":1e300})", "'maximum'"},
      {R"({"const":"\u0000"})", "'const'"},
      {R"({"oneOf":[{"type":"integer"},{"minimum":2}]})", "'oneOf'"},
      {R"({"oneOf":[{"type":"integer"},{"type":"number"}]})", "'oneOf'"},
      {R"({"items":{"properties":{"a":{"contains":{}}}}})", "at /items/properties/a"},
  };
  for (const auto& [schema, name] : kRows) {
    EXPECT_THAT(Refusal(schema), HasSubstr(name)) << schema;
  }
}

TEST(Schema, WhatIsNoSchemaIsRefused) {
  for (const char* schema :
       {"3", "[]", R"({"type":"text"})", R"({"type":[]})", R"({"properties":[]})",
        R"({"required":"a"})", R"({"minLength":-1})", R"({"minItems":1.5})", R"({"pattern":1})",
        R"({"allOf":[]})", R"({"enum":1})", R"({"minimum":"1"})", "false", R"({"enum":[]})",
        R"({"type":"string","minLength":3,"maxLength":2})", R"({"$ref":"#"})"}) {
    EXPECT_NE(Refusal(schema), "") << schema;
  }
  for (const size_t size : {70, 90}) {  // a longer text is too much for a pattern
    const Json schema = {{"not", {{"const", std::string(size, 'a')}}}};
    EXPECT_EQ(Refusal(schema.dump()).find("'not'") != std::string::npos, size > 80);
  }
  std::string deep = "{}";
  for (int i = 0; i < 200; ++i) {
    deep = R"({"items":)" + deep + "}";
  }
  EXPECT_THAT(Refusal(deep), HasSubstr("deep"));
  std::string text;
  for (int i = 0; i < 1000; ++i) {
    text += "ü";
  }
  for (const std::string& schema :
       {R"({"type":")" + text + R"("})", R"({"$ref":"#/)" + text + R"("})",
        R"x({"pattern":"(?=)x" + text + R"x()"})x", R"({"properties":{")" + text + R"(":3}})"}) {
    EXPECT_THAT(Refusal(schema), HasSubstr("ü…"));
    EXPECT_LT(Refusal(schema).size(), 700U);
  }
}

TEST(Schema, RelaxedIsNeverStricterThanTheRestOfIt) {
  const auto allows = [](const char* schema, const char* text) {
    return Allows(*ByteCompiler().Compile(Spec::JsonSchema(Json::parse(schema), Keywords::kRelax)),
                  text);
  };
  EXPECT_TRUE(allows(R"({"type":"integer","not":{"const":1}})", "1"));
  EXPECT_FALSE(allows(R"({"type":"integer","not":{"const":1}})", "\"1\""));
  EXPECT_TRUE(allows(R"({"oneOf":[{"type":"integer"},{"minimum":2}]})", "3"));
  EXPECT_TRUE(allows(R"x({"type":"string","format":"regex","pattern":"(?=a)"})x", "\"b\""));
}

TEST(Schema, NoNameOfAMemberHasASecondSpelling) {
  const Json schema = Json::parse(R"({"type":"object","properties":{"a":{"type":"integer"}}})");
  EXPECT_FALSE(Allows(schema, R"({"\u0061":"x"})"));
  EXPECT_FALSE(Allows(schema, R"({"a":1,"a":"x"})"));
  EXPECT_FALSE(Allows(schema, R"({"a":1,"\u0061":"x"})"));
  EXPECT_TRUE(Allows(schema, R"({"a":1,"b\n":"x"})"));
}

TEST(Schema, WhiteSpaceIsBounded) {
  const Json schema = {{"type", "object"}};
  EXPECT_TRUE(Allows(schema, "{\n  \"a\": [\n    1,\n    2\n  ],\n\n\t\"b\": {}\n}"));
  EXPECT_TRUE(Allows(schema, "\n\n{}"));
  EXPECT_FALSE(Allows(schema, "\n\n\n{}"));
  EXPECT_FALSE(Allows(schema, "{  \"a\":1}"));
  EXPECT_FALSE(Allows(schema, "{\n\n\n\"a\":1}"));
  EXPECT_FALSE(Allows(schema, "{\n" + std::string(81, ' ') + "}"));
  EXPECT_FALSE(Allows(schema, "{} "));
}

TEST(Schema, MembersComeInTheOrderOfTheProperties) {
  const Json schema = Json::parse(
      R"({"type":"object","required":["b"],"properties":{"b":{},"a":{}},"additionalProperties":{}})");
  EXPECT_TRUE(Allows(schema, R"({"b":1,"a":2,"z":3,"c":4})"));
  EXPECT_FALSE(Allows(schema, R"({"a":2,"b":1})"));
}

TEST(Schema, AnyObject) {
  const auto grammar = ByteCompiler().Compile(Spec::JsonObject());
  EXPECT_TRUE(Allows(*grammar, R"({"a":[1,{"b":null}],"c":"\"}"})"));
  EXPECT_FALSE(Allows(*grammar, "[]"));
  EXPECT_FALSE(Allows(*grammar, "{\"a\":1"));
}

}  // namespace
}  // namespace mach::grammar
