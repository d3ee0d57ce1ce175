#include "formats/manifest.h"

#include <algorithm>

#include <nlohmann/json.hpp>
#include <xxhash.h>

#include "base/error.h"
#include "formats/config.h"
#include "formats/json.h"
#include "platform/file.h"

namespace mach::formats {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kConvertAgain = "remove the directory and convert the model again";

struct HashState {
  HashState() : state(XXH3_createState()) {}
  HashState(const HashState&) = delete;
  HashState& operator=(const HashState&) = delete;
  ~HashState() { XXH3_freeState(state); }
  XXH3_state_t* state;
};

bool IsPlainName(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && fs::path(name).filename().string() == name;
}

}  // namespace

std::optional<Manifest> Manifest::Find(const fs::path& dir) {
  std::error_code ignored;
  const fs::path path = dir / kFileName;
  if (!fs::exists(path, ignored)) {
    return std::nullopt;
  }
  return Parse(ReadWholeFile(path, 64ULL << 20), path.string());
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
  const json& files = root.Node().contains("files") ? root.Node().at("files") : json();
  if (!files.is_array()) {
    root.Fail("files", "an array");
  }
  for (const json& entry : files) {
    const ConfigReader reader = ConfigReader::Parse(entry.dump(-1, ' ', true), file + ": files");
    ManifestFile item;
    item.name = reader.RequireString("name");
    item.size_bytes = static_cast<uint64_t>(reader.RequireInt("size_bytes", 0));
    item.xxh3_128 = reader.RequireString("xxh3_128");
    if (!IsPlainName(item.name)) {
      reader.Fail("name", "a plain file name");
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
    throw Error(ErrorCode::kCorruptFile, where + " says the conversion did not finish",
                kConvertAgain);
  }
  for (const ManifestFile& file : files) {
    std::error_code error;
    const uint64_t size = fs::file_size(dir / file.name, error);
    if (error) {
      throw Error(ErrorCode::kCorruptFile,
                  (dir / file.name).string() + " is missing, but " + where + " lists it",
                  kConvertAgain);
    }
    if (size != file.size_bytes) {
      throw Error(ErrorCode::kCorruptFile,
                  (dir / file.name).string() + " has " + std::to_string(size) + " bytes, " + where +
                      " says " + std::to_string(file.size_bytes),
                  kConvertAgain);
    }
  }
}

void Manifest::CheckSums(const fs::path& dir,
                         const std::function<void(uint64_t, uint64_t)>& progress) const {
  CheckSizes(dir);
  uint64_t total = 0;
  for (const ManifestFile& file : files) {
    total += file.size_bytes;
  }
  uint64_t before = 0;
  for (const ManifestFile& file : files) {
    const std::string found = FileChecksum(dir / file.name, [&](uint64_t done) {
      if (progress) {
        progress(before + done, total);
      }
    });
    if (found != file.xxh3_128) {
      throw Error(ErrorCode::kCorruptFile,
                  (dir / file.name).string() + ": checksum is " + found + ", " +
                      (dir / kFileName).string() + " says " + file.xxh3_128,
                  kConvertAgain);
    }
    before += file.size_bytes;
  }
}

std::string FileChecksum(const fs::path& path, const std::function<void(uint64_t)>& progress) {
  constexpr uint64_t kPieceBytes = 8ULL << 20;
  const auto file = OpenMappedFile(path);
  const std::span<const std::byte> bytes = file->Mapped();
  const HashState hash;
  XXH3_128bits_reset(hash.state);
  for (uint64_t done = 0; done < bytes.size();) {
    const uint64_t piece = std::min<uint64_t>(kPieceBytes, bytes.size() - done);
    XXH3_128bits_update(hash.state, bytes.data() + done, piece);
    done += piece;
    if (progress) {
      progress(done);
    }
  }
  const XXH128_hash_t value = XXH3_128bits_digest(hash.state);
  char text[33];
  std::snprintf(text, sizeof(text), "%016llx%016llx", static_cast<unsigned long long>(value.high64),
                static_cast<unsigned long long>(value.low64));
  return text;
}

}  // namespace mach::formats
