#include "formats/manifest.h"

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

}  // namespace

std::optional<Manifest> Manifest::Find(const fs::path& dir) {
  std::error_code ignored;
  const fs::path path = dir / kFileName;
  if (!fs::exists(path, ignored)) {
    return std::nullopt;
  }
  try {
    return Parse(ReadWholeFile(path, 64ULL << 20), path.string());
  } catch (const Error& error) {
    const bool malformed = error.code() == ErrorCode::kInvalidArgument;
    throw Error(malformed ? ErrorCode::kCorruptFile : error.code(), error.what(),
                error.cure().empty() ? CureWithout(dir) : error.cure());
  }
}

Manifest Manifest::Parse(const std::string& text, const std::string& file) {
  const ConfigReader root = ConfigReader::Parse(text, file);
  const int64_t version = root.RequireInt("format_version", 1);
  if (version > kFormatVersion) {
    throw Error(ErrorCode::kUnsupported,
                file + ": format_version is " + std::to_string(version) + ", this build reads " +
                    std::to_string(kFormatVersion),
                "update mach");
  }
  Manifest manifest;
  manifest.tool_version = root.RequireString("tool_version");
  const ConfigReader source = root.RequireObject("source");
  manifest.source_path = source.RequireString("path");
  manifest.source_fingerprint = source.RequireString("fingerprint");
  manifest.options = root.OptionalString("options").value_or("");
  manifest.complete = root.RequireBool("complete");
  for (const ConfigReader& entry : root.RequireObjects("files")) {
    ManifestFile item;
    item.name = entry.RequireString("name");
    item.size_bytes = static_cast<uint64_t>(entry.RequireInt("size_bytes", 0));
    item.xxh3_128 = entry.RequireString("xxh3_128");
    if (!IsOutputName(item.name)) {
      entry.Fail("name", "a plain file name, perhaps in one directory");
    }
    manifest.files.push_back(std::move(item));
  }
  return manifest;
}

std::string Manifest::ToJson() const {
  nlohmann::ordered_json root;
  root["format_version"] = kFormatVersion;
  root["tool_version"] = tool_version;
  root["source"] = {{"path", source_path}, {"fingerprint", source_fingerprint}};
  root["options"] = options;
  root["files"] = nlohmann::ordered_json::array();
  for (const ManifestFile& file : files) {
    root["files"].push_back(
        {{"name", file.name}, {"size_bytes", file.size_bytes}, {"xxh3_128", file.xxh3_128}});
  }
  root["complete"] = complete;
  return root.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

void Manifest::CheckSizes(const fs::path& dir) const {
  const std::string where = (dir / kFileName).string();
  if (!complete) {
    throw Error(ErrorCode::kCorruptFile, where + " says the conversion did not finish", Cure(dir));
  }
  for (const ManifestFile& file : files) {
    std::error_code error;
    const uint64_t size = fs::file_size(dir / file.name, error);
    if (error) {
      throw Error(ErrorCode::kCorruptFile,
                  (dir / file.name).string() + " is missing, but " + where + " lists it",
                  Cure(dir));
    }
    if (size != file.size_bytes) {
      throw Error(ErrorCode::kCorruptFile,
                  (dir / file.name).string() + " has " + std::to_string(size) + " bytes, " + where +
                      " says " + std::to_string(file.size_bytes),
                  Cure(dir));
    }
  }
}

void Manifest::CheckSum(const fs::path& dir, const ManifestFile& file,
                        const std::function<void(uint64_t)>& visit) const {
  const std::string found =
      FileChecksum(dir / file.name, [&](std::span<const std::byte> piece) { visit(piece.size()); });
  if (found != file.xxh3_128) {
    throw Error(ErrorCode::kCorruptFile,
                (dir / file.name).string() + ": checksum is " + found + ", " +
                    (dir / kFileName).string() + " says " + file.xxh3_128,
                Cure(dir));
  }
}

std::string Manifest::Cure(const fs::path& dir) const {
  const std::string rest = " --out " + ShellWord(dir.string()) + " --force";
  if (source_path.starts_with("mach synth ")) {
    return "write it again: " + source_path + rest;
  }
  return "convert it again: mach convert " + ShellWord(source_path) + ConvertFlags(options) + rest;
}

std::string Manifest::CureWithout(const fs::path& dir) {
  return "convert it again: mach convert SRC --out " + ShellWord(dir.string()) + " --force";
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
