// mach.json: what `mach convert` writes beside an engine checkpoint. Lists every file with size and
// checksum, and what it was made from. A value; any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace mach::formats {

struct ManifestFile {
  std::string name;
  uint64_t size_bytes = 0;
  std::string xxh3_128;  // 32 lower-case hex digits

  friend bool operator==(const ManifestFile&, const ManifestFile&) = default;
};

struct Manifest {
  static constexpr const char* kFileName = "mach.json";
  static constexpr int64_t kFormatVersion = 1;

  std::string tool_version;
  std::string source_path;
  std::string source_fingerprint;  // of the source's bytes and of the conversion options
  std::string options;             // the conversion options, for people to read
  std::vector<ManifestFile> files;
  bool complete = false;

  // The manifest of `dir`, or nothing if there is none. Throws kCorruptFile or kInvalidArgument
  // naming the field, kUnsupported for a newer format version.
  static std::optional<Manifest> Find(const std::filesystem::path& dir);
  static Manifest Parse(const std::string& text, const std::string& file);
  std::string ToJson() const;

  // Throws kCorruptFile naming the first file that is missing, of another size or of another
  // checksum, and if the manifest itself is not complete. CheckSums reads every byte.
  void CheckSizes(const std::filesystem::path& dir) const;
  void CheckSums(const std::filesystem::path& dir,
                 const std::function<void(uint64_t, uint64_t)>& progress) const;
};

// XXH3-128 of a file's bytes, read in pieces; `progress` gets the bytes done so far.
std::string FileChecksum(const std::filesystem::path& path,
                         const std::function<void(uint64_t)>& progress);

}  // namespace mach::formats
