#include "formats/hub.h"

#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/formats/test_files.h"

namespace mach::formats {
namespace {

using testing::HasSubstr;

// Sets variables for one test and puts them back.
class Environment {
 public:
  explicit Environment(const std::filesystem::path& home) {
    for (const char* name : {"HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"}) {
      const char* value = std::getenv(name);
      saved_.emplace_back(name, value == nullptr ? std::optional<std::string>() : value);
      ::unsetenv(name);
    }
    ::setenv("HOME", home.c_str(), 1);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment() {
    for (const auto& [name, value] : saved_) {
      if (value) {
        ::setenv(name.c_str(), value->c_str(), 1);
      } else {
        ::unsetenv(name.c_str());
      }
    }
  }

 private:
  std::vector<std::pair<std::string, std::optional<std::string>>> saved_;
};

void WriteModel(const ScratchDir& dir, const std::string& at) {
  dir.Write(at + "/config.json", R"({"model_type":"llama"})");
  dir.Write(at + "/model.safetensors", MakeSafetensors({{"w", "BF16", {2}, "abcd"}}));
}

TEST(Hub, ExistingPathsAreReturned) {
  const ScratchDir dir;
  EXPECT_EQ(ResolveModelPath(dir.path().string()), dir.path());
  EXPECT_THROW(ResolveModelPath(""), Error);
}

TEST(Hub, ResolvesIdsInTheCaches) {
  const ScratchDir dir;
  const Environment environment(dir.path());
  const std::string cache = ".cache/huggingface/hub/models--org--Tiny-4bit";
  WriteModel(dir, cache + "/snapshots/abc123");
  dir.Write(cache + "/refs/main", "abc123\n");
  const std::filesystem::path snapshot = dir.path() / cache / "snapshots/abc123";
  EXPECT_EQ(ResolveModelPath("org/Tiny-4bit"), snapshot);
  EXPECT_EQ(ResolveModelPath("org/Tiny-4bit@abc123"), snapshot);

  const ScratchDir other;
  WriteModel(other, "models--org--Tiny-4bit/snapshots/def");
  other.Write("models--org--Tiny-4bit/refs/main", "def");
  ::setenv("HF_HUB_CACHE", other.path().c_str(), 1);
  EXPECT_EQ(ResolveModelPath("org/Tiny-4bit"),
            other.path() / "models--org--Tiny-4bit/snapshots/def");
}

TEST(Hub, AbsentModelsSayWhereAndHow) {
  const ScratchDir dir;
  const Environment environment(dir.path());
  try {
    ResolveModelPath("org/Missing");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFound);
    EXPECT_THAT(error.what(),
                HasSubstr((dir.path() / ".cache/huggingface/hub/models--org--Missing").string()));
    EXPECT_THAT(error.cure(), HasSubstr("hf download org/Missing"));
  }
  for (const char* reference : {"nowhere", "../x", "a/b/c", "a/..", "a/b@../c", "a b/c"}) {
    EXPECT_THROW(ResolveModelPath(reference), Error) << reference;
  }
}

TEST(Hub, AMistypedPathIsNotFetched) {
  const ScratchDir dir;
  const Environment environment(dir.path());
  const std::filesystem::path before = std::filesystem::current_path();
  dir.Write("models/mine/config.json", "{}");
  std::filesystem::current_path(dir.path());
  const auto error = [](const char* reference) {
    return ErrorOf([&] { (void)ResolveModelPath(reference); });
  };
  EXPECT_THAT(error("models/mnie"),
              testing::AllOf(testing::StartsWith("there is no directory models/mnie, nor a model"),
                             HasSubstr("hub cache"), HasSubstr("`mach models models` lists"),
                             testing::Not(HasSubstr("hf download"))));
  EXPECT_THAT(error("org/Model"), HasSubstr("hf download org/Model"));
  EXPECT_THAT(error("org/model.gguf"),
              testing::StartsWith("there is no file or directory org/model.gguf"));
  std::filesystem::current_path(before);
}

TEST(Hub, WithoutAMainRevisionSnapshotsAreFoundByTheirOwn) {
  const ScratchDir dir;
  const Environment environment(dir.path());
  const std::string cache = ".cache/huggingface/hub/models--org--Tiny";
  const std::string commit = "0123456789abcdef0123456789abcdef01234567";
  WriteModel(dir, cache + "/snapshots/" + commit);
  const std::filesystem::path snapshot = dir.path() / cache / "snapshots" / commit;
  for (const std::string& revision : {commit, commit.substr(0, 12)}) {
    EXPECT_EQ(ResolveModelPath("org/Tiny@" + revision), snapshot);
  }
  EXPECT_THAT(ErrorOf([] { (void)ResolveModelPath("org/Tiny"); }),
              testing::AllOf(HasSubstr("no revision main of org/Tiny, but " + commit),
                             HasSubstr("org/Tiny@" + commit)));
  auto found = ListCheckpoints({});
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].name, "org/Tiny@0123456789ab");
  EXPECT_EQ(ResolveModelPath(found[0].name), snapshot);

  dir.Write(cache + "/refs/refs/pr/1", commit);
  EXPECT_EQ(ResolveModelPath("org/Tiny@refs/pr/1"), snapshot);
  WriteModel(dir, cache + "/snapshots/0123ffff");
  EXPECT_THROW(ResolveModelPath("org/Tiny@0123"), Error);  // which of the two?
  EXPECT_EQ(ListCheckpoints({}).size(), 2U);
}

TEST(Hub, APartOfADownloadSaysWhatIsMissing) {
  const ScratchDir dir;
  const Environment environment(dir.path());
  const std::string cache = ".cache/huggingface/hub/models--org--Tiny";
  const std::string snapshot = cache + "/snapshots/abc123";
  dir.Write(cache + "/refs/main", "abc123");
  const auto error = [] { return ErrorOf([] { (void)ResolveModelPath("org/Tiny"); }); };
  dir.Write(snapshot + "/model-00002-of-00003.safetensors",
            MakeSafetensors({{"w", "BF16", {2}, "abcd"}}));
  EXPECT_THAT(error(), testing::AllOf(HasSubstr("missing: config.json, "
                                                "model-00001-of-00003.safetensors, "
                                                "model-00003-of-00003.safetensors"),
                                      HasSubstr("hf download org/Tiny")));
  dir.Write(snapshot + "/config.json", R"({"model_type":"llama"})");
  dir.Write(snapshot + "/model.safetensors.index.json",
            R"({"weight_map":{"w":"model-00002-of-00003.safetensors","x":"b.safetensors"}})");
  std::filesystem::create_symlink("../../blobs/none", dir.path() / snapshot / "tokenizer.json");
  EXPECT_THAT(error(), HasSubstr("missing: b.safetensors, tokenizer.json"));
  const auto found = ListCheckpoints({});
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].name, "org/Tiny");
  EXPECT_EQ(found[0].problem, "downloaded in part; missing: b.safetensors, tokenizer.json");
  // A repository of GGUF files is complete without any of these.
  dir.Write(snapshot + "/model.gguf", "GGUF");
  EXPECT_EQ(ResolveModelPath("org/Tiny"), dir.path() / snapshot);
}

TEST(Hub, RefsMustNotLeadOutOfTheCache) {
  const ScratchDir dir;
  const Environment environment(dir.path());
  const std::string cache = ".cache/huggingface/hub/models--org--Bad";
  WriteModel(dir, cache + "/elsewhere");
  dir.Write(cache + "/snapshots/x/y", "");
  dir.Write(cache + "/refs/main", "../elsewhere");
  EXPECT_THROW(ResolveModelPath("org/Bad"), Error);
}

TEST(Hub, ListsCheckpoints) {
  const ScratchDir dir;
  const Environment environment(dir.path());
  WriteModel(dir, ".cache/huggingface/hub/models--org--Tiny/snapshots/abc");
  dir.Write(".cache/huggingface/hub/models--org--Tiny/refs/main", "abc");
  WriteModel(dir, "mine/a");
  dir.Write("mine/a/tokenizer.json", "{}");
  dir.Write("mine/broken/config.json", R"({"model_type":"llama"})");
  dir.Write("mine/not-a-model/readme", "x");
  const std::vector<std::filesystem::path> directories = {dir.path() / "mine",
                                                          dir.path() / "mine/a"};
  const auto found = ListCheckpoints(directories);
  ASSERT_EQ(found.size(), 3U);
  EXPECT_EQ(found[0].name, "a");
  EXPECT_EQ(found[0].model_type, "llama");
  EXPECT_EQ(found[0].quantisation, "BF16");
  EXPECT_GT(found[0].size_bytes, 4U);
  EXPECT_TRUE(found[0].has_tokenizer);
  EXPECT_EQ(found[1].name, "broken");
  EXPECT_THAT(found[1].problem, HasSubstr("no *.safetensors"));
  EXPECT_EQ(found[2].name, "org/Tiny");
  EXPECT_FALSE(found[2].has_tokenizer);
}

TEST(Hub, OneUnreadableEntryDoesNotHideTheOthers) {
  const ScratchDir dir;
  const Environment environment(dir.path());
  const std::string hub = ".cache/huggingface/hub/models--";
  WriteModel(dir, hub + "org--Tiny/snapshots/abc");
  dir.Write(hub + "org--Tiny/refs/main", "abc");
  dir.Write(hub + "org--Bad/refs/main", std::string(100'000, 'x'));
  const auto found = ListCheckpoints({});
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].name, "org/Bad");
  EXPECT_THAT(found[0].problem, HasSubstr("refs/main"));
  EXPECT_EQ(found[1].name, "org/Tiny");
  EXPECT_EQ(found[1].problem, "");
}

TEST(Hub, ListsOnlyDirectories) {
  const ScratchDir dir;
  const Environment environment(dir.path());
  const std::vector<std::filesystem::path> wrong = {dir.path() / "mistyped",
                                                    dir.Write("model.gguf", "GGUF")};
  for (const std::filesystem::path& path : wrong) {
    const std::vector<std::filesystem::path> directories = {path};
    try {
      (void)ListCheckpoints(directories);
      FAIL() << path;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kNotFound);
      EXPECT_THAT(error.what(), HasSubstr(path.string() + " is not a directory"));
      EXPECT_THAT(error.cure(), HasSubstr("mach convert"));
    }
  }
}

}  // namespace
}  // namespace mach::formats
