#include "formats/hub.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <set>

#include "base/error.h"
#include "formats/checkpoint.h"
#include "formats/expert_sidecar.h"
#include "formats/weight_files.h"
#include "platform/file.h"

namespace mach::formats {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kRepoPrefix = "models--";

std::optional<fs::path> EnvironmentPath(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') {
    return std::nullopt;
  }
  const std::string_view text(value);
  const char* home = std::getenv("HOME");
  if (home != nullptr && (text == "~" || text.substr(0, 2) == "~/")) {
    return fs::path(home) / fs::path(text.substr(std::min<size_t>(2, text.size())));
  }
  return fs::path(text);
}

bool IsDirectory(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

bool Exists(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

std::string Trim(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ')) {
    text.pop_back();
  }
  return text;
}

bool IsNamePart(std::string_view part) {
  return !part.empty() && part != "." && part != ".." &&
         std::all_of(part.begin(), part.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-';
         });
}

// "owner/name" with the characters that hub ids may have.
bool IsHubId(std::string_view id) {
  const size_t slash = id.find('/');
  return slash != std::string_view::npos && IsNamePart(id.substr(0, slash)) &&
         IsNamePart(id.substr(slash + 1));
}

std::string RepoFolder(const std::string& id) {
  std::string folder(kRepoPrefix);
  for (const char c : id) {
    folder += c == '/' ? std::string("--") : std::string(1, c);
  }
  return folder;
}

// "main", "refs/pr/1": names of git, as far as they are safe to append to a path.
bool IsRevision(std::string_view revision) {
  for (size_t slash = revision.find('/'); slash != std::string_view::npos;
       slash = revision.find('/')) {
    if (!IsNamePart(revision.substr(0, slash))) {
      return false;
    }
    revision.remove_prefix(slash + 1);
  }
  return IsNamePart(revision);
}

// The commits of a models--... folder that are there, in part at least. Sorted.
std::vector<std::string> Commits(const fs::path& repo) {
  std::vector<std::string> commits;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(repo / "snapshots", error)) {
    commits.push_back(entry.path().filename().string());
  }
  std::ranges::sort(commits);
  return commits;
}

// The snapshot that `revision` names in a models--... folder.
std::optional<fs::path> Snapshot(const fs::path& repo, const std::string& revision) {
  std::string commit = revision;
  if (Exists(repo / "refs" / revision)) {
    commit = Trim(ReadWholeFile(repo / "refs" / revision, 4096));
  } else {
    constexpr size_t kLeastDigits = 4;  // as git has it
    std::vector<std::string> found = Commits(repo);
    std::erase_if(found, [&](const std::string& name) { return !name.starts_with(commit); });
    if (found.size() == 1 && commit.size() >= kLeastDigits) {
      commit = found.front();
    }
  }
  if (!IsNamePart(commit) || !IsDirectory(repo / "snapshots" / commit)) {
    return std::nullopt;
  }
  return repo / "snapshots" / commit;
}

// What a download has not brought yet, as far as what is there tells. A file of a snapshot is a
// link, which may lead nowhere.
std::vector<std::string> MissingFiles(const fs::path& snapshot) {
  std::vector<std::string> missing;
  std::vector<std::string> weights;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(snapshot, error)) {
    const std::string name = entry.path().filename().string();
    if (!Exists(entry.path())) {
      missing.push_back(name);
    } else if (entry.path().extension() == ".gguf") {
      return {};  // a repository of another kind, for `mach convert`
    } else if (entry.path().extension() == ".safetensors") {
      weights.push_back(name);
    }
  }
  if (!Exists(snapshot / "config.json")) {
    missing.emplace_back("config.json");
  }
  std::vector<std::string> shards = MissingShards(weights);
  if (Exists(snapshot / kWeightIndexName) && !Exists(snapshot / kSingleWeightFile)) {
    shards = MissingOfIndex(snapshot / kWeightIndexName);
  } else if (weights.empty()) {
    missing.emplace_back("*.safetensors");
  }
  missing.insert(missing.end(), shards.begin(), shards.end());
  std::ranges::sort(missing);
  missing.erase(std::unique(missing.begin(), missing.end()), missing.end());
  return missing;
}

std::string Join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    text += (text.empty() ? "" : ", ") + word;
  }
  return text;
}

uint64_t WeightBytes(const fs::path& dir) {
  uint64_t bytes = 0;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(dir, error)) {
    if (entry.path().extension() == ".safetensors") {
      const uint64_t size = fs::file_size(entry.path(), error);
      bytes += error ? 0 : size;
    }
  }
  return bytes;
}

LocalCheckpoint Describe(const std::string& name, const fs::path& path) {
  LocalCheckpoint entry;
  entry.name = name;
  entry.path = path;
  entry.size_bytes = WeightBytes(path);
  entry.has_tokenizer = Exists(path / "tokenizer.json");
  try {
    const auto checkpoint = Checkpoint::Open(path);
    entry.model_type = checkpoint->model_type();
    entry.quantisation = checkpoint->QuantisationSummary();
    entry.size_bytes = checkpoint->FileBytes();
    if (const auto sidecar = ExpertSidecar::Find(path)) {
      entry.size_bytes += sidecar->TotalBytes();
    }
  } catch (const Error& error) {
    entry.problem = error.what();
  }
  return entry;
}

bool LooksLikeCheckpoint(const fs::path& dir) {
  return IsDirectory(dir) && Exists(dir / "config.json");
}

// As LooksLikeCheckpoint, also where config.json is still to come.
bool LooksLikeDownload(const fs::path& snapshot) {
  return LooksLikeCheckpoint(snapshot) || Exists(snapshot / kWeightIndexName) ||
         WeightBytes(snapshot) > 0;
}

LocalCheckpoint DescribeSnapshot(const std::string& name, const fs::path& path) {
  const std::vector<std::string> missing = MissingFiles(path);
  LocalCheckpoint entry = Describe(name, path);
  if (!missing.empty()) {
    entry.problem = "downloaded in part; missing: " + Join(missing);
  }
  return entry;
}

// The snapshots of a models--... folder by the names that find them: the main one, else all others.
std::vector<std::pair<std::string, fs::path>> NamedSnapshots(const std::string& id,
                                                             const fs::path& repo) {
  constexpr size_t kShownDigits = 12;
  if (const auto main = Snapshot(repo, "main")) {
    return {{id, *main}};
  }
  std::vector<std::pair<std::string, fs::path>> named;
  for (const std::string& commit : Commits(repo)) {
    named.emplace_back(id + "@" + commit.substr(0, kShownDigits), repo / "snapshots" / commit);
  }
  return named;
}

}  // namespace

std::vector<fs::path> HubCacheDirs() {
  std::vector<fs::path> dirs;
  const auto add = [&](const char* variable, const char* below) {
    if (const auto base = EnvironmentPath(variable)) {
      const fs::path dir = (*below == '\0' ? *base : *base / below).lexically_normal();
      if (std::find(dirs.begin(), dirs.end(), dir) == dirs.end()) {
        dirs.push_back(dir);
      }
    }
  };
  add("HF_HUB_CACHE", "");
  add("HF_HOME", "hub");
  add("XDG_CACHE_HOME", "huggingface/hub");
  add("HOME", ".cache/huggingface/hub");
  return dirs;
}

fs::path ResolveModelPath(const std::string& reference) {
  if (reference.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "the model path is empty");
  }
  if (Exists(reference)) {
    return reference;
  }
  const size_t at = reference.find('@');
  const std::string id = reference.substr(0, at);
  const std::string revision = at == std::string::npos ? "main" : reference.substr(at + 1);
  if (!IsHubId(id) || !IsRevision(revision) || fs::path(id).extension() == ".gguf") {
    throw Error(ErrorCode::kNotFound, "there is no file or directory " + reference,
                "give a path, or a hub id of the form owner/name that is in the local cache");
  }
  const std::string fetch =
      "`hf download " + id + (at == std::string::npos ? "" : " --revision " + revision) + "`";
  std::vector<std::string> looked;
  std::vector<std::string> commits;
  for (const fs::path& cache : HubCacheDirs()) {
    const fs::path repo = cache / RepoFolder(id);
    if (const auto snapshot = Snapshot(repo, revision)) {
      const std::vector<std::string> missing = MissingFiles(*snapshot);
      if (!missing.empty()) {
        throw Error(ErrorCode::kNotFound,
                    snapshot->string() + " was downloaded in part; missing: " + Join(missing),
                    fetch + " fetches the rest");
      }
      return *snapshot;
    }
    looked.push_back(repo.string());
    const std::vector<std::string> here = Commits(repo);
    commits.insert(commits.end(), here.begin(), here.end());
  }
  if (!commits.empty()) {
    throw Error(
        ErrorCode::kNotFound,
        "the hub cache has no revision " + revision + " of " + id + ", but " + Join(commits),
        "name one, " + id + "@" + commits.front() + ", or fetch the other with " + fetch);
  }
  // What begins with a directory that exists is a mistyped path, not a model to fetch.
  const std::string owner = id.substr(0, id.find('/'));
  throw Error(ErrorCode::kNotFound,
              "there is no directory " + reference +
                  ", nor a model of that name in the hub cache; looked in " +
                  (looked.empty() ? "no directory (HOME is not set)" : Join(looked)),
              IsDirectory(owner) ? "`mach models " + owner + "` lists what is there"
                                 : "give a directory, or fetch the model with " + fetch);
}

std::vector<LocalCheckpoint> ListCheckpoints(std::span<const fs::path> directories) {
  std::vector<LocalCheckpoint> found;
  std::set<fs::path> seen;
  const auto is_new = [&](const fs::path& path) {
    std::error_code error;
    const fs::path real = fs::canonical(path, error);
    return !error && seen.insert(real).second;
  };
  const auto add = [&](const std::string& name, const fs::path& path) {
    if (is_new(path)) {
      found.push_back(Describe(name, path));
    }
  };
  for (const fs::path& directory : directories) {
    if (!IsDirectory(directory)) {
      throw Error(ErrorCode::kNotFound, directory.string() + " is not a directory",
                  "give checkpoints or directories that hold some; convert a .gguf file with `mach "
                  "convert`");
    }
  }
  std::error_code error;
  for (const fs::path& cache : HubCacheDirs()) {
    for (const fs::directory_entry& entry : fs::directory_iterator(cache, error)) {
      const std::string folder = entry.path().filename().string();
      if (folder.compare(0, kRepoPrefix.size(), kRepoPrefix) != 0) {
        continue;
      }
      std::string id = folder.substr(kRepoPrefix.size());
      const size_t split = id.find("--");
      if (split != std::string::npos) {
        id.replace(split, 2, "/");
      }
      try {
        for (const auto& [name, snapshot] : NamedSnapshots(id, entry.path())) {
          if (LooksLikeDownload(snapshot) && is_new(snapshot)) {
            found.push_back(DescribeSnapshot(name, snapshot));
          }
        }
      } catch (const Error& unreadable) {
        LocalCheckpoint broken;
        broken.name = id;
        broken.path = entry.path();
        broken.problem = unreadable.what();
        found.push_back(std::move(broken));
      }
    }
  }
  for (const fs::path& directory : directories) {
    if (LooksLikeCheckpoint(directory)) {
      add(directory.lexically_normal().filename().string(), directory);
      continue;
    }
    for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
      if (LooksLikeCheckpoint(entry.path())) {
        add(entry.path().filename().string(), entry.path());
      }
    }
  }
  std::sort(found.begin(), found.end(),
            [](const LocalCheckpoint& a, const LocalCheckpoint& b) { return a.name < b.name; });
  return found;
}

}  // namespace mach::formats
