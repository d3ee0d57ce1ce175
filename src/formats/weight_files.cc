#include "formats/weight_files.h"

#include <algorithm>
#include <cstdio>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "formats/journal.h"
#include "formats/json.h"
#include "platform/file.h"

namespace mach::formats {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSuffix = ".safetensors";
constexpr uint64_t kMaxIndexBytes = 256ULL << 20;

// STEM-NUMBER-of-COUNT.safetensors, with five digits each.
struct ShardName {
  std::string stem;
  int number = 0;
  int count = 0;
};

std::string NameOf(const ShardName& shard) {
  char tail[32];
  std::snprintf(tail, sizeof(tail), "-%05d-of-%05d", shard.number, shard.count);
  return shard.stem + tail + std::string(kSuffix);
}

std::optional<ShardName> ParseShardName(std::string_view name) {
  constexpr std::string_view kPattern = "-#####-of-#####.safetensors";
  if (name.size() <= kPattern.size()) {
    return std::nullopt;
  }
  const std::string_view tail = name.substr(name.size() - kPattern.size());
  int values[2] = {0, 0};
  for (size_t i = 0; i < kPattern.size(); ++i) {
    const bool digit = tail[i] >= '0' && tail[i] <= '9';
    if (kPattern[i] == '#' ? !digit : tail[i] != kPattern[i]) {
      return std::nullopt;
    }
    if (kPattern[i] == '#') {
      int& value = values[i < 6 ? 0 : 1];
      value = value * 10 + (tail[i] - '0');
    }
  }
  return ShardName{std::string(name.substr(0, name.size() - kPattern.size())), values[0],
                   values[1]};
}

// What fine-tuning leaves in the directory of a model.
bool IsOfTraining(std::string_view name) {
  return name.find("adapter") != std::string_view::npos ||
         name.find("optimizer") != std::string_view::npos;
}

// The names for which `belongs` holds; all of them if it holds for none.
template <typename Predicate>
std::vector<std::string> PreferThose(std::vector<std::string> names, const Predicate& belongs) {
  if (std::ranges::any_of(names, belongs)) {
    std::erase_if(names, [&](const std::string& name) { return !belongs(name); });
  }
  return names;
}

}  // namespace

std::vector<fs::path> FindWeightFiles(const fs::path& dir) {
  std::error_code ignored;
  if (fs::exists(dir / kSingleWeightFile, ignored)) {
    return {dir / kSingleWeightFile};
  }
  std::vector<std::string> names;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(dir, error)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(kSuffix) && !IsOfTraining(name)) {
      names.push_back(name);
    }
  }
  if (error) {
    throw Error(ErrorCode::kIo, "cannot list " + dir.string() + ": " + error.message());
  }
  names = PreferThose(std::move(names),
                      [](const std::string& name) { return name.starts_with("model"); });
  names = PreferThose(std::move(names),
                      [](const std::string& name) { return ParseShardName(name).has_value(); });
  std::ranges::sort(names);
  if (names.empty()) {
    throw Error(ErrorCode::kNotFound, dir.string() + " holds no *.safetensors file with weights",
                "only safetensors checkpoints are served; convert others with `mach convert`");
  }
  if (const auto missing = MissingShards(names); !missing.empty()) {
    throw Error(
        ErrorCode::kNotFound,
        "shard " + (dir / missing.front()).string() + " is missing" +
            (missing.size() > 1 ? ", and " + std::to_string(missing.size() - 1) + " others" : ""),
        "the download is incomplete; fetch the model again");
  }
  std::vector<fs::path> files;
  files.reserve(names.size());
  for (const std::string& name : names) {
    files.push_back(dir / name);
  }
  return files;
}

std::vector<std::string> MissingShards(const std::vector<std::string>& names) {
  std::vector<std::string> missing;
  std::map<std::pair<std::string, int>, int> sets;  // how many shards of each set are there
  for (const std::string& name : names) {
    if (const auto shard = ParseShardName(name)) {
      ++sets[{shard->stem, shard->count}];
    }
  }
  for (const auto& [set, found] : sets) {
    const auto& [stem, count] = set;
    for (int number = 1; number <= count && found < count; ++number) {
      std::string name = NameOf({stem, number, count});
      if (std::ranges::find(names, name) == names.end()) {
        missing.push_back(std::move(name));
      }
    }
  }
  return missing;
}

std::vector<std::string> MissingOfIndex(const fs::path& index) {
  std::set<std::string> missing;
  for (const auto& [tensor, file] : ReadWeightMap(index)) {
    std::error_code ignored;
    if (!missing.contains(file) && !fs::exists(index.parent_path() / file, ignored)) {
      missing.insert(file);
    }
  }
  return {missing.begin(), missing.end()};
}

std::map<std::string, std::string> ReadWeightMap(const fs::path& index) {
  using nlohmann::json;
  const std::string where = index.string();
  const json root = ParseJsonObject(ReadWholeFile(index, kMaxIndexBytes), where);
  const auto map = root.find("weight_map");
  if (map == root.end() || !map->is_object() || map->empty()) {
    throw Error(ErrorCode::kCorruptFile, where + ": weight_map is missing, empty or no object");
  }
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string() || !IsPlainFileName(file.get_ref<const std::string&>())) {
      throw Error(ErrorCode::kCorruptFile, where + ": weight_map entry " + tensor +
                                               " is not a plain file name: " + BriefJson(file));
    }
    files.emplace(tensor, file.get<std::string>());
  }
  return files;
}

}  // namespace mach::formats
