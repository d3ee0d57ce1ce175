#include "formats/journal.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <set>
#include <sstream>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/hash.h"
#include "base/shell.h"
#include "formats/config.h"
#include "formats/json.h"
#include "platform/file.h"

namespace mach::formats {
namespace {

namespace fs = std::filesystem;

// A plain name, perhaps in one plain directory.
bool IsOutputName(const std::string& name) {
  const size_t slash = name.find('/');
  return slash == std::string::npos
             ? IsPlainFileName(name)
             : IsPlainFileName(name.substr(0, slash)) && IsPlainFileName(name.substr(slash + 1));
}

// The flags of `mach convert` for the options that DescribeOptions (convert_plan.h) has written.
std::string ConvertFlags(const std::string& options) {
  std::string flags;
  std::istringstream words(options);
  for (std::string word; words >> word;) {
    if (word.starts_with("bits=") && word != "bits=as-is") {
      flags += " --bits " + word.substr(word.find('=') + 1);
    } else if (word.starts_with("group_size=")) {
      flags += " --group-size " + word.substr(word.find('=') + 1);
    } else if (word == "requantise_all") {
      flags += " --requantise-all";
    }
  }
  return flags;
}

std::string OptionsInWords(const std::string& options) {
  const std::string flags = ConvertFlags(options);
  return flags.empty() ? "without --bits" : "with" + flags;
}

// Those that only one of them has, or that differ.
std::string ChangedFiles(const std::map<std::string, std::string>& before,
                         const std::map<std::string, std::string>& now) {
  std::set<std::pair<std::string, std::string>> differing;
  std::ranges::set_symmetric_difference(before, now, std::inserter(differing, differing.end()));
  std::set<std::string> names;
  for (const auto& file : differing) {
    names.insert(file.first);
  }
  std::string list;
  for (const std::string& name : names) {
    list += (list.empty() ? "" : ", ") + name;
  }
  return list;
}

bool SamePath(const std::string& a, const std::string& b) {
  return fs::path(a + "/.").lexically_normal() == fs::path(b + "/.").lexically_normal();
}

}  // namespace

std::optional<Journal> Journal::Find(const fs::path& dir) {
  std::error_code ignored;
  const fs::path path = dir / kFileName;
  if (!fs::exists(path, ignored)) {
    return std::nullopt;
  }
  try {
    return Parse(ReadWholeFile(path, 64ULL << 20), path.string());
  } catch (const Error& error) {
    throw Error(error.code(), error.what(), error.cure().empty() ? CureWithout(dir) : error.cure());
  }
}

Journal Journal::Parse(const std::string& text, const std::string& file) {
  const ConfigReader root = ConfigReader::Parse(text, file);
  const int64_t version = root.RequireInt("format_version", 1);
  if (version > kFormatVersion) {
    throw Error(ErrorCode::kUnsupported,
                file + ": format_version is " + std::to_string(version) + ", this build reads " +
                    std::to_string(kFormatVersion),
                "update mach");
  }
  Journal journal;
  journal.tool_version = root.RequireString("tool_version");
  const ConfigReader source = root.RequireObject("source");
  journal.source_path = source.RequireString("path");
  journal.source_fingerprint = source.RequireString("fingerprint");
  if (const auto files = source.OptionalObject("files")) {
    for (const std::string& name : files->Keys()) {
      journal.source_files[name] = files->RequireString(name);
    }
  }
  journal.options = root.OptionalString("options").value_or("");
  journal.complete = root.RequireBool("complete");
  for (const ConfigReader& entry : root.RequireObjects("files")) {
    JournalFile item;
    item.name = entry.RequireString("name");
    item.size_bytes = static_cast<uint64_t>(entry.RequireInt("size_bytes", 0));
    item.xxh3_128 = entry.RequireString("xxh3_128");
    if (!IsOutputName(item.name)) {
      entry.Fail("name", "a plain file name, perhaps in one directory");
    }
    journal.files.push_back(std::move(item));
  }
  return journal;
}

std::string Journal::ToJson() const {
  nlohmann::ordered_json root;
  root["format_version"] = kFormatVersion;
  root["tool_version"] = tool_version;
  root["source"] = {{"path", source_path}, {"fingerprint", source_fingerprint}};
  if (!source_files.empty()) {
    root["source"]["files"] = source_files;
  }
  root["options"] = options;
  root["files"] = nlohmann::ordered_json::array();
  for (const JournalFile& file : files) {
    root["files"].push_back(
        {{"name", file.name}, {"size_bytes", file.size_bytes}, {"xxh3_128", file.xxh3_128}});
  }
  root["complete"] = complete;
  return root.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

void Journal::CheckFiles(const fs::path& dir) const {
  const std::string where = (dir / kFileName).string();
  if (!complete) {
    throw Error(ErrorCode::kCorruptFile, where + " says the conversion did not finish", Cure(dir));
  }
  for (const JournalFile& file : files) {
    std::error_code error;
    const uint64_t size = fs::file_size(dir / file.name, error);
    if (error) {
      throw Error(ErrorCode::kCorruptFile,
                  (dir / file.name).string() + " is missing, but " + where + " lists it",
                  Cure(dir));
    }
    if (size != file.size_bytes && !IsEditable(file.name)) {
      throw Error(ErrorCode::kCorruptFile,
                  (dir / file.name).string() + " has " + std::to_string(size) + " bytes, " + where +
                      " says " + std::to_string(file.size_bytes),
                  Cure(dir));
    }
    if (IsEditable(file.name) || HoldsWeights(file.name)) {
      continue;
    }
    const std::string contents = ReadWholeFile(dir / file.name);
    const std::string found = HashHex128(std::as_bytes(std::span(contents)));
    if (found != file.xxh3_128) {
      throw Error(ErrorCode::kCorruptFile,
                  (dir / file.name).string() +
                      " was changed after the conversion: its checksum is " + found + ", " + where +
                      " says " + file.xxh3_128,
                  Cure(dir));
    }
  }
}

std::string Journal::DifferenceFrom(const Journal& wanted) const {
  if (IsSynthetic() && source_path != wanted.source_path) {
    return "was written by `" + source_path + "`";
  }
  std::string made = "was made from " + source_path + " " + OptionsInWords(options);
  if (!IsSynthetic() && !SamePath(source_path, wanted.source_path)) {
    return made;
  }
  if (ConvertFlags(options) != ConvertFlags(wanted.options)) {
    return made + ", not " + OptionsInWords(wanted.options);
  }
  if (IsSynthetic() || options != wanted.options) {
    return "was written by another version of mach, whose files differ from those of this one";
  }
  const std::string changed =
      source_files.empty() ? "" : ChangedFiles(source_files, wanted.source_files);
  return "was made from " + source_path + ", which has changed since" +
         (changed.empty() ? "" : ": " + changed);
}

bool Journal::IsSynthetic() const {
  return source_path.starts_with("mach synth ");
}

std::string Journal::Cure(const fs::path& dir) const {
  const std::string rest = " --out " + ShellWord(dir.string()) + " --force";
  if (IsSynthetic()) {
    return "write it again: " + source_path + rest;
  }
  return "convert it again: mach convert " + ShellWord(source_path) + ConvertFlags(options) + rest;
}

std::string Journal::CureWithout(const fs::path& dir) {
  return "convert it again: mach convert SRC --out " + ShellWord(dir.string()) + " --force";
}

bool IsEditable(std::string_view name) {
  constexpr std::array<std::string_view, 4> kNames = {"chat_template.jinja", "chat_template.json",
                                                      "generation_config.json",
                                                      "tokenizer_config.json"};
  return std::ranges::find(kNames, name) != kNames.end();
}

bool HoldsWeights(std::string_view name) {
  return name.ends_with(".safetensors") || name.ends_with(".bin");
}

bool IsPlainFileName(const std::string& name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
}

std::string FileChecksum(const fs::path& path,
                         const std::function<void(std::span<const std::byte>)>& visit) {
  Hasher128 hasher;
  ScanFile(path, [&](std::span<const std::byte> piece) {
    hasher.Update(piece);
    if (visit) {
      visit(piece);
    }
  });
  return hasher.Hex();
}

}  // namespace mach::formats
