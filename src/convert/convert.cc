#include "convert/convert.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/clock.h"
#include "base/error.h"
#include "convert/convert_plan.h"
#include "formats/checkpoint.h"
#include "formats/expert_sidecar.h"
#include "formats/gguf.h"
#include "formats/journal.h"
#include "platform/cpu.h"
#include "platform/file.h"

namespace mach::convert {
namespace {

namespace fs = std::filesystem;

// In a directory that has been replaced and is about to be removed.
constexpr const char* kReplacedMark = ".replaced-by-mach";

bool Exists(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

// Where an output is written before it gets its name.
fs::path PartialOf(const fs::path& out) {
  return out.string() + ".partial";
}

// "dir/" and "dir" are the same output; the partial directory must be beside it, not inside.
fs::path CleanOut(const fs::path& out) {
  fs::path clean = fs::absolute(out).lexically_normal();
  if (!clean.has_filename()) {
    clean = clean.parent_path();
  }
  return clean;
}

// NAME-of-NNNNN of a part that llama.cpp calls NAME-NNNNN-of-NNNNN.gguf; empty for other names.
std::string SplitName(const fs::path& file) {
  constexpr std::string_view kPattern = "-#####-of-#####";
  const std::string stem = file.stem().string();
  if (stem.size() <= kPattern.size()) {
    return "";
  }
  const size_t start = stem.size() - kPattern.size();
  for (size_t i = 0; i < kPattern.size(); ++i) {
    const char c = stem[start + i];
    if (kPattern[i] == '#' ? c < '0' || c > '9' : c != kPattern[i]) {
      return "";
    }
  }
  return stem.substr(0, start) + stem.substr(stem.rfind("-of-"));
}

// A .gguf file, or a checkpoint directory; a directory without config.json but with one .gguf file
// stands for that file.
fs::path FindSource(const fs::path& source) {
  if (!Exists(source)) {
    throw Error(ErrorCode::kNotFound, "there is no file or directory " + source.string());
  }
  if (!fs::is_directory(source) || Exists(source / "config.json")) {
    return source;
  }
  std::vector<fs::path> found;
  for (const fs::directory_entry& entry : fs::directory_iterator(source)) {
    if (entry.path().extension() == ".gguf") {
      found.push_back(entry.path());
    }
  }
  const bool one_model = std::all_of(found.begin(), found.end(), [&](const fs::path& file) {
    return !SplitName(file).empty() && SplitName(file) == SplitName(found.front());
  });
  if (found.size() > 1 && one_model) {
    throw Error(ErrorCode::kUnsupported,
                source.string() + " holds " + std::to_string(found.size()) +
                    " .gguf files that are parts of one model",
                formats::kMergeGgufParts);
  }
  if (found.size() > 1) {
    throw Error(ErrorCode::kInvalidArgument,
                source.string() + " holds " + std::to_string(found.size()) + " .gguf files",
                "name one of them");
  }
  return found.empty() ? source : found.front();
}

// Both canonical.
bool IsBelow(const fs::path& path, const fs::path& dir) {
  return std::mismatch(dir.begin(), dir.end(), path.begin(), path.end()).first == dir.end();
}

// A conversion deletes unknown files in the output and in OUT.partial, so neither may contain the
// source.
void RequireApart(const fs::path& source, const fs::path& written) {
  const fs::path from = fs::weakly_canonical(source);
  const fs::path to = fs::weakly_canonical(written);
  if (from == to) {
    throw Error(ErrorCode::kInvalidArgument, "source and output are both " + written.string(),
                "choose another --out");
  }
  if (IsBelow(from, to)) {
    throw Error(ErrorCode::kInvalidArgument,
                "the source " + source.string() + " is inside the output " + written.string() +
                    ", which it would replace",
                "choose another --out");
  }
}

void CheckOptions(const ConvertOptions& options) {
  if (options.out.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "no output directory given", "add --out DIR");
  }
  if (options.bits && !IsSupported({*options.bits, options.group_size})) {
    throw Error(ErrorCode::kInvalidArgument,
                "cannot quantise to " + std::to_string(*options.bits) + " bits in groups of " +
                    std::to_string(options.group_size),
                "bits: 2, 3, 4, 5, 6, 8; group size: 32, 64, 128");
  }
  if (options.requantise_all && !options.bits) {
    throw Error(ErrorCode::kInvalidArgument, "requantising everything needs a number of bits",
                "add --bits 4 or --bits 8");
  }
}

class Conversion {
 public:
  Conversion(const ConvertOptions& options, ConversionPlan plan,
             const std::function<void(const ConvertProgress&)>& report)
      : options_(options),
        plan_(std::move(plan)),
        report_(report),
        out_(CleanOut(options.out)),
        partial_(PartialOf(out_)) {
    journal_.tool_version = options.tool_version;
    journal_.source_path = options.source.string();
    journal_.source_fingerprint = plan_.fingerprint;
    journal_.source_files = plan_.source_files;
    journal_.options = DescribeOptions(options);
  }

  ConvertResult Run() {
    result_.skipped = plan_.skipped;
    result_.skipped_tensors = plan_.skipped_tensors;
    result_.requantised = plan_.requantised;
    const bool replace = Exists(out_);
    if (replace && IsSameConversion()) {
      RemoveReplaced();
      result_.already_done = true;
      return result_;
    }
    fs::create_directories(partial_);
    const DirectoryLock lock(partial_);
    if (Exists(out_) != replace) {
      std::error_code ignored;
      fs::remove(partial_, ignored);  // made in vain, unless there is something in it
      throw Error(ErrorCode::kUnavailable,
                  out_.string() + " was written by another conversion meanwhile");
    }
    RequireOwnPartial();
    ReadJournal();
    WriteJournal();  // before all else: it says whose the directory is
    RemoveLeftovers();
    for (const OutputJob& job : plan_.jobs) {
      fs::create_directories((partial_ / job.name).parent_path());
    }
    CheckSpace();
    for (const OutputJob& job : plan_.jobs) {
      progress_.total_bytes += 2 * job.size_bytes;
    }
    for (const OutputJob& job : plan_.jobs) {
      Do(job);
    }
    for (const SmallFile& file : plan_.small_files) {
      const std::string contents = file.contents();
      WriteFileAtomically(partial_ / file.name, contents);
      journal_.files.push_back(
          {file.name, contents.size(), formats::FileChecksum(partial_ / file.name, {})});
      result_.written_bytes += contents.size();
    }
    SyncDirectories();
    journal_.complete = true;
    WriteJournal();
    CheckOutput();
    Publish(replace);
    for (const formats::JournalFile& file : journal_.files) {
      result_.files.push_back(file.name);
    }
    result_.elapsed_s = watch_.ElapsedSeconds();
    return result_;
  }

 private:
  // Throws if the output exists and may not be replaced.
  bool IsSameConversion() {
    const bool directory = fs::is_directory(out_);
    std::optional<formats::Journal> existing;
    try {
      existing = directory ? formats::Journal::Find(out_) : std::nullopt;
    } catch (const Error&) {
      if (options_.force) {
        return false;  // ours, by its name; that it is damaged is why it is being replaced
      }
      throw;
    }
    if (existing && existing->complete && !options_.force &&
        existing->source_fingerprint == plan_.fingerprint) {
      existing->CheckFiles(out_);
      for (const formats::JournalFile& file : existing->files) {
        result_.files.push_back(file.name);
      }
      return true;
    }
    const bool lost_journal =
        !existing && directory && fs::is_directory(out_ / formats::ExpertSidecar::kDirName);
    if (lost_journal && !options_.force) {
      throw Error(ErrorCode::kInvalidArgument,
                  out_.string() + " exists and has an " + formats::ExpertSidecar::kDirName +
                      "/ but no " + formats::Journal::kFileName,
                  "choose another --out, or add --force to replace it");
    }
    if (!existing && !lost_journal && !(directory && fs::is_empty(out_))) {
      throw Error(ErrorCode::kInvalidArgument,
                  out_.string() + " exists and is not an engine checkpoint (no mach.json)",
                  "choose another --out, or remove it yourself");
    }
    if (existing && !options_.force) {
      throw Error(ErrorCode::kInvalidArgument,
                  out_.string() + " exists and " + existing->DifferenceFrom(journal_),
                  "choose another --out, or add --force to write it again");
    }
    return false;
  }

  // What a conversion did not write would be removed as a leftover: a directory of this name that
  // none has begun is somebody else's and stays. A journal tells, readable or not.
  void RequireOwnPartial() const {
    if (Exists(partial_ / formats::Journal::kFileName)) {
      return;
    }
    for (const fs::directory_entry& entry : fs::directory_iterator(partial_)) {
      // All that is there if the first journal was interrupted.
      const std::string unfinished = std::string(formats::Journal::kFileName) + ".tmp-";
      if (!entry.path().filename().string().starts_with(unfinished)) {
        throw Error(ErrorCode::kInvalidArgument,
                    partial_.string() + " exists and was not begun by a conversion (it holds " +
                        entry.path().filename().string() + ", but no " +
                        formats::Journal::kFileName + ")",
                    "choose another --out, or remove it yourself");
      }
    }
  }

  void ReadJournal() {
    std::optional<formats::Journal> earlier;
    try {
      earlier = formats::Journal::Find(partial_);
    } catch (const Error&) {
      return;  // a damaged journal vouches for nothing
    }
    if (earlier && earlier->source_fingerprint == plan_.fingerprint) {
      for (const formats::JournalFile& file : earlier->files) {
        finished_[file.name] = file;
      }
    } else if (earlier && earlier->complete) {
      throw Error(ErrorCode::kInvalidArgument,
                  partial_.string() + " exists and is a complete checkpoint, which " +
                      earlier->DifferenceFrom(journal_),
                  "choose another --out, or rename or remove it yourself");
    }
  }

  // Until the end mach.json is the journal: not complete, and naming the files that are finished,
  // those of an earlier attempt included.
  void WriteJournal() const {
    formats::Journal written = journal_;
    if (!written.complete) {
      for (const auto& entry : finished_) {
        const bool listed =
            std::any_of(written.files.begin(), written.files.end(),
                        [&](const formats::JournalFile& have) { return have.name == entry.first; });
        if (!listed) {
          written.files.push_back(entry.second);
        }
      }
    }
    WriteFileAtomically(partial_ / formats::Journal::kFileName, written.ToJson());
  }

  void CheckSpace() const {
    uint64_t wanted = 0;
    for (const OutputJob& job : plan_.jobs) {
      wanted += finished_.count(job.name) == 0 ? job.size_bytes : 0;
    }
    const uint64_t available = fs::space(partial_).available;
    if (wanted > available) {
      throw Error(ErrorCode::kResourceLimit,
                  out_.string() + " needs " + std::to_string((wanted >> 20) + 1) +
                      " MiB, its disk has " + std::to_string(available >> 20) + " MiB free",
                  "free some space or choose another --out");
    }
  }

  void Advance(uint64_t bytes) {
    progress_.done_bytes += bytes;
    if (!report_) {
      return;
    }
    progress_.elapsed_s = watch_.ElapsedSeconds();
    const uint64_t fresh = progress_.done_bytes - resumed_bytes_;
    if (fresh > 0 && progress_.elapsed_s > 0.5) {
      const auto left = static_cast<double>(progress_.total_bytes - progress_.done_bytes);
      progress_.eta_s = progress_.elapsed_s * left / static_cast<double>(fresh);
    }
    report_(progress_);
  }

  // A file's checksum, with the bytes read counted as progress.
  std::string ReadBack(const OutputJob& job) {
    uint64_t offset = 0;
    return formats::FileChecksum(partial_ / job.name, [&](std::span<const std::byte> piece) {
      if (job.read_back) {
        job.read_back(offset, piece);
      }
      offset += piece.size();
      Advance(piece.size());
    });
  }

  bool Keep(const OutputJob& job) {
    const auto it = finished_.find(job.name);
    const fs::path path = partial_ / job.name;
    std::error_code error;
    if (it == finished_.end() || it->second.size_bytes != job.size_bytes ||
        fs::file_size(path, error) != job.size_bytes || error) {
      return false;
    }
    const uint64_t before = progress_.done_bytes;
    if (ReadBack(job) != it->second.xxh3_128) {
      progress_.done_bytes = before;
      return false;
    }
    resumed_bytes_ += job.size_bytes;
    Advance(job.size_bytes);
    ++result_.resumed_files;
    return true;
  }

  void Do(const OutputJob& job) {
    progress_.file = job.name;
    const fs::path path = partial_ / job.name;
    if (Keep(job)) {
      journal_.files.push_back(finished_.at(job.name));
      WriteJournal();
      return;
    }
    finished_.erase(job.name);
    std::string expected;
    {
      OutputFile file(path);
      expected = job.write(file, [&](uint64_t bytes) { Advance(bytes); });
      file.Sync();
    }
    const uint64_t size = fs::file_size(path);
    const std::string found = ReadBack(job);
    if (size != job.size_bytes || (!expected.empty() && found != expected)) {
      throw Error(ErrorCode::kIo,
                  path.string() + ": what was read back differs from what was written (" +
                      std::to_string(size) + " bytes of " + std::to_string(job.size_bytes) + ")",
                  "did the source change during the conversion? Otherwise check the disk");
    }
    result_.written_bytes += size;
    journal_.files.push_back({job.name, size, found});
    WriteJournal();
  }

  // Leftovers of an earlier attempt: what it did not finish, or wrote with other options.
  void RemoveLeftovers() const {
    std::set<fs::path> known = {partial_ / formats::Journal::kFileName};
    for (const OutputJob& job : plan_.jobs) {
      known.insert((partial_ / job.name).parent_path());
      if (finished_.count(job.name) != 0) {
        known.insert(partial_ / job.name);
      }
    }
    std::vector<fs::path> leftovers;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(partial_)) {
      if (known.count(entry.path()) == 0) {
        leftovers.push_back(entry.path());
      }
    }
    for (const fs::path& path : leftovers) {
      fs::remove_all(path);
    }
  }

  // The files are synced; so must be the directories that name them.
  void SyncDirectories() const {
    std::set<fs::path> directories = {partial_};
    for (const formats::JournalFile& file : journal_.files) {
      directories.insert((partial_ / file.name).parent_path());
    }
    for (const fs::path& directory : directories) {
      SyncDirectory(directory);
    }
  }

  // The last check before the name is given: it must open as any user would open it. What does not
  // counts as unfinished again, under either name.
  void CheckOutput() {
    try {
      (void)formats::Checkpoint::Open(partial_);
      (void)formats::ExpertSidecar::Find(partial_);
      if (options_.check_output) {
        options_.check_output(partial_);
      }
    } catch (const Error& error) {
      journal_.complete = false;
      WriteJournal();
      throw Error(
          error.code(),
          "what was made of " + options_.source.string() + " cannot be loaded: " + error.what(),
          "do config.json and the weights of the source belong together? Fetch it again");
    }
  }

  // The n-th name that an output about to be replaced may get; whoever gives one leaves a mark in
  // it, so that nothing else is ever removed.
  fs::path Replaced(int n) const {
    return out_.string() + ".replaced" + (n == 0 ? "" : "-" + std::to_string(n));
  }

  void Publish(bool replace) const {
    if (replace) {
      RemoveReplaced();
      int n = 0;
      while (Exists(Replaced(n))) {
        ++n;
      }
      WriteFileAtomically(out_ / kReplacedMark, "");
      fs::rename(out_, Replaced(n));
    }
    fs::rename(partial_, out_);
    SyncDirectory(out_.parent_path());
    RemoveReplaced();
  }

  // What --force replaced, also by a conversion that was killed before or while it did this: the
  // mark goes last.
  void RemoveReplaced() const {
    for (int n = 0; Exists(Replaced(n)); ++n) {
      if (fs::is_directory(Replaced(n)) && fs::is_empty(Replaced(n))) {
        fs::remove(Replaced(n));  // what a kill after the mark's removal leaves
        continue;
      }
      const fs::path mark = Replaced(n) / kReplacedMark;
      if (!Exists(mark)) {
        continue;
      }
      std::vector<fs::path> others;
      for (const fs::directory_entry& entry : fs::directory_iterator(Replaced(n))) {
        if (entry.path() != mark) {
          others.push_back(entry.path());
        }
      }
      for (const fs::path& path : others) {
        fs::remove_all(path);
      }
      fs::remove(mark);
      fs::remove(Replaced(n));
    }
  }

  const ConvertOptions& options_;
  ConversionPlan plan_;
  const std::function<void(const ConvertProgress&)>& report_;
  fs::path out_;
  fs::path partial_;
  formats::Journal journal_;
  std::map<std::string, formats::JournalFile> finished_;
  ConvertProgress progress_;
  ConvertResult result_;
  uint64_t resumed_bytes_ = 0;
  Stopwatch watch_;
};

}  // namespace

ConvertResult WriteCheckpoint(const ConvertOptions& options, ConversionPlan plan,
                              const std::function<void(const ConvertProgress&)>& progress) {
  try {
    return Conversion(options, std::move(plan), progress).Run();
  } catch (const fs::filesystem_error& error) {
    throw Error(ErrorCode::kIo,
                "cannot write " + options.out.string() + ": " + FileSystemReason(error),
                "choose another --out");
  }
}

ConvertResult Convert(const ConvertOptions& options,
                      const std::function<void(const ConvertProgress&)>& progress) {
  CheckOptions(options);
  try {
    const fs::path source = FindSource(options.source);
    const fs::path out = CleanOut(options.out);
    RequireApart(source, out);
    RequireApart(source, PartialOf(out));
    ThreadPool pool(options.threads > 0 ? options.threads : PhysicalCores());
    const ConversionContext context{options, pool};
    ConversionPlan plan =
        fs::is_directory(source) ? PlanDirectory(context, source) : PlanGguf(context, source);
    return WriteCheckpoint(options, std::move(plan), progress);
  } catch (const fs::filesystem_error& error) {
    throw Error(ErrorCode::kIo,
                "cannot convert " + options.source.string() + ": " + FileSystemReason(error));
  }
}

}  // namespace mach::convert
