// mach.json: the journal of a conversion while `mach convert` runs, and what an engine checkpoint
// consists of when it is complete. Lists every file with size and checksum, and what it was made
// from. A value; any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mach::formats {

struct JournalFile {
  std::string name;  // "model.safetensors", "expert_sidecar/layer_0000.bin"
  uint64_t size_bytes = 0;
  std::string xxh3_128;  // 32 lower-case hex digits

  friend bool operator==(const JournalFile&, const JournalFile&) = default;
};

struct Journal {
  static constexpr const char* kFileName = "mach.json";
  static constexpr int64_t kFormatVersion = 1;

  std::string tool_version;
  // Of the model, absolute; of a synthetic checkpoint the `mach synth ...` that writes it.
  std::string source_path;
  std::string source_fingerprint;  // of the source's bytes and of the conversion options
  // Name and hash of each file of the source, so that one which has changed since can be named;
  // none for synthetic checkpoints. Not in every mach.json.
  std::map<std::string, std::string> source_files;
  std::string options;  // the conversion options: words, "name=value" or "name"
  std::vector<JournalFile> files;
  bool complete = false;

  // The journal of `dir`, or nothing if there is none. Throws kCorruptFile naming the field, kIo,
  // or kUnsupported for a newer format version, each with a cure.
  static std::optional<Journal> Find(const std::filesystem::path& dir);
  // As Find without looking further. Throws kCorruptFile or kUnsupported naming `file`.
  static Journal Parse(const std::string& text, const std::string& file);
  std::string ToJson() const;

  // Throws kCorruptFile if the journal itself is not complete, and naming the first file that is
  // missing or, unless it IsEditable, of another size or, unless it HoldsWeights, of another
  // checksum.
  void CheckFiles(const std::filesystem::path& dir) const;
  // What sets this output apart from `wanted`, whose fingerprint is another: "was made from ...",
  // as the end of a sentence for the user.
  std::string DifferenceFrom(const Journal& wanted) const;
  // What the user can do about a damaged output in `dir`: the command that makes it again, with the
  // options it was made with.
  std::string Cure(const std::filesystem::path& dir) const;
  // The same where the journal itself is gone.
  static std::string CureWithout(const std::filesystem::path& dir);

 private:
  bool IsSynthetic() const;
};

// Whether the user may edit a file of this name after the conversion: chat templates and default
// sampling parameters, on which no weight depends.
bool IsEditable(std::string_view name);

// Whether a file of this name is large: its contents are checked where they are read, and by
// `mach check --verify`.
bool HoldsWeights(std::string_view name);

// Not empty, no directories, no "..": safe to append to a directory's path.
bool IsPlainFileName(const std::string& name);

// XXH3-128 of a file's bytes, read in pieces; memory does not grow with the file. `visit` sees each
// piece in order; may be empty.
std::string FileChecksum(const std::filesystem::path& path,
                         const std::function<void(std::span<const std::byte>)>& visit);

}  // namespace mach::formats
