// docs/reports.md against what is reported: the same names, no more and no less.
#include "server/reports.h"

#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "api/usage.h"
#include "server/metrics.h"
#include "server/startup.h"
#include "tests/server/fake_engine.h"
#include "tests/server/reports_page.h"

namespace mach::server {
namespace {

using Json = nlohmann::ordered_json;
using mach::testing::Documented;
using mach::testing::Matches;
using mach::testing::Names;

// The paths of an object's values: "a.b", and "a[].b" for the objects of an array.
void AddNames(const Json& value, const std::string& path, Names& names) {
  if (value.is_object() && path != "process.accounted_bytes") {
    for (const auto& [key, inner] : value.items()) {
      AddNames(inner, path.empty() ? key : path + "." + key, names);
    }
  } else if (value.is_array() && !value.empty()) {
    AddNames(value[0], path + "[]", names);
  } else {
    names.insert(path);
  }
}

Names NamesOf(const std::string& json) {
  Names names;
  AddNames(Json::parse(json), "", names);
  return names;
}

class ReportsPage : public ::testing::Test {
 protected:
  const std::unique_ptr<loading::ServedModel> model_ =
      mach::testing::MakeFakeModel({.streaming = true});
  const engine::EngineStats stats_ = model_->engine->Snapshot();
};

TEST_F(ReportsPage, HasTheReceipt) {
  api::UsageReport usage;
  usage.receipt.emplace();
  std::string json;
  api::AppendUsage(json, usage);
  EXPECT_EQ(NamesOf(Json::parse(json)["mach"].dump()), Documented("usage.mach"));
}

TEST_F(ReportsPage, HasTheCacheStatistics) {
  EXPECT_EQ(NamesOf(CacheStatsJson(stats_, model_->engine->ExpertMap())),
            Documented("/v1/cache/stats"));
}

TEST_F(ReportsPage, HasTheStatistics) {
  EXPECT_EQ(NamesOf(StatsJson(stats_, model_->info)), Documented("/v1/stats"));
}

TEST_F(ReportsPage, HasTheMetrics) {
  EXPECT_EQ(Matches(Metrics().PrometheusText(&stats_, 0), "# TYPE ([a-z_]+) "),
            Documented("/metrics"));
}

TEST_F(ReportsPage, HasTheStartUpLines) {
  std::string lines;
  for (const std::string& line : StartupLines(model_->info)) {
    lines += line + "\n";
  }
  EXPECT_EQ(Matches(lines, " ([a-z_]+)="), Documented("Start-up lines"));
}

}  // namespace
}  // namespace mach::server
