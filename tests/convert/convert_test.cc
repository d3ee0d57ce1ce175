#include "convert/convert.h"

#include <cmath>
#include <cstdlib>
#include <iostream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "convert/convert_plan.h"
#include "formats/checkpoint.h"
#include "formats/gguf.h"
#include "formats/gguf_model.h"
#include "formats/journal.h"
#include "formats/text_config.h"
#include "tests/convert/child.h"
#include "tests/convert/compare_gguf.h"
#include "tests/convert/dense_sources.h"
#include "tests/convert/gguf_model_files.h"
#include "tests/support/memory_file.h"

namespace mach::convert {
namespace {

using testing_support::OpenMemoryFile;

namespace fs = std::filesystem;
using testing::HasSubstr;

TEST(ConvertDirectory, CopiesAndVerifies) {
  const formats::ScratchDir dir;
  const fs::path source = WriteHfModel(dir, "hf");
  uint64_t last = 0;
  uint64_t total = 0;
  const ConvertResult result =
      Convert(OptionsFor(source, dir.path() / "out/"), [&](const ConvertProgress& progress) {
        EXPECT_GE(progress.done_bytes, last);
        last = progress.done_bytes;
        total = progress.total_bytes;
      });
  EXPECT_EQ(last, total);
  EXPECT_GT(total, 0U);
  EXPECT_THAT(result.skipped, testing::ElementsAre("notes.md"));
  for (const char* name : {"model.safetensors", "config.json", "tokenizer.json"}) {
    EXPECT_EQ(ReadWholeFile(source / name), ReadWholeFile(dir.path() / "out" / name));
  }
  EXPECT_TRUE(formats::Checkpoint::Open(dir.path() / "out")->Verify({}));
  EXPECT_FALSE(formats::Checkpoint::Open(source)->Verify({}));
}

TEST(ConvertDirectory, QuantisesAsMlxLmDoes) {
  const formats::ScratchDir dir;
  const fs::path source = WriteHfModel(dir, "hf");
  ConvertOptions options = OptionsFor(source, dir.path() / "out");
  options.bits = 4;
  const ConvertResult result = Convert(options, {});
  EXPECT_THAT(result.requantised, testing::ElementsAre("model.embed_tokens.weight",
                                                       "model.layers.0.mlp.up_proj.weight"));
  const auto checkpoint = formats::Checkpoint::Open(dir.path() / "out");
  EXPECT_FALSE(checkpoint->Has("lm_head.weight"));
  EXPECT_EQ(checkpoint->FindTensor("model.norm.weight")->dtype, DType::kBF16);
  EXPECT_EQ(checkpoint->FindTensor("odd.weight")->dtype, DType::kBF16);
  const formats::LinearSource layer = checkpoint->Linear("model.layers.0.mlp.up_proj", 64, 128);
  EXPECT_EQ(layer.affine->scheme, (AffineScheme{4, 64}));
  EXPECT_EQ(layer.affine->scales.dtype, DType::kBF16);
  EXPECT_EQ(checkpoint->config().RequireInt("hidden_size"), 128);

  ConvertOptions again = OptionsFor(dir.path() / "out", dir.path() / "out2");
  again.bits = 8;
  EXPECT_THAT(formats::ErrorOf([&] { Convert(again, {}); }),
              HasSubstr("already quantised (4-bit affine"));
}

TEST(ConvertDirectory, RefusesWhatCannotBeServed) {
  const formats::ScratchDir dir;
  const fs::path source = WriteHfModel(dir, "hf");
  const auto error = [&](const std::string& config, int bits) {
    dir.Write("hf/config.json", config);
    ConvertOptions options = OptionsFor(source, dir.path() / "out");
    if (bits > 0) {
      options.bits = bits;
    }
    std::string text = formats::ErrorOf([&] { Convert(options, {}); });
    EXPECT_FALSE(fs::exists(dir.path() / "out"));
    return text;
  };
  for (const int bits : {0, 4}) {
    EXPECT_THAT(error(R"({"model_type":"gemma3"})", bits),
                testing::AllOf(HasSubstr("config.json: model_type is \"gemma3\""),
                               HasSubstr("llama, qwen2, qwen3, qwen3_moe and qwen3_5_moe")));
  }
  EXPECT_THAT(error(R"({"model_type":"llama","quantization":{"mode":"mxfp4","bits":4}})", 0),
              HasSubstr("quantization says mode \"mxfp4\""));
  EXPECT_THAT(error(R"({"model_type":"llama","quantization":{"bits":4,"group_size":64,
                        "model.layers.0.mlp.up_proj":{"mode":"nvfp4"}}})",
                    0),
              HasSubstr("quantization.model.layers.0.mlp.up_proj says mode \"nvfp4\""));
  EXPECT_THAT(error(R"({"model_type":"llama","quantization":{"bits":7,"group_size":64}})", 0),
              HasSubstr("7 bits in groups of 64"));
}

TEST(ConvertDirectory, WeightsThatAreNotFiniteAreNamed) {
  const formats::ScratchDir dir;
  const fs::path source = WriteHfModel(dir, "hf");
  std::string bytes = ReadWholeFile(source / "model.safetensors");
  {
    const auto checkpoint = formats::Checkpoint::Open(source);
    const std::byte* file = checkpoint->files().front()->HeaderBytes().data();
    const auto tensor = checkpoint->FindTensor("model.layers.0.mlp.up_proj.weight");
    bytes.replace(static_cast<size_t>(tensor->bytes.data() - file), 2, "\x80\x7f");
  }
  dir.Write("hf/model.safetensors", bytes);
  ConvertOptions options = OptionsFor(source, dir.path() / "out");
  options.bits = 4;
  EXPECT_THAT(formats::ErrorOf([&] { Convert(options, {}); }),
              testing::AllOf(HasSubstr("hf/model.safetensors: tensor model.layers.0.mlp.up_proj."
                                       "weight: row 0 holds a value that is not finite"),
                             HasSubstr("fetch it again")));
}

TEST(Convert, ContinuesWhereItStopped) {
  const formats::ScratchDir dir;
  const fs::path source = dir.Write("m.gguf", TinyGguf({}).Build());
  ConvertOptions options = OptionsFor(source, dir.path() / "out");
  options.max_shard_bytes = 100'000;
  // Stop at every progress report in turn: a stopped conversion never leaves a directory that
  // loads, and the next one ends with the same bytes.
  Convert(OptionsFor(source, dir.path() / "unused"), {});
  options.out = dir.path() / "whole";
  const ConvertResult whole = Convert(options, {});
  EXPECT_GT(whole.files.size(), 8U);
  options.out = dir.path() / "out";
  int resumed = 0;
  int stops = 0;
  for (int stop_at = 1;; stop_at += 5) {
    int reports = 0;
    try {
      const ConvertResult result = Convert(options, [&](const ConvertProgress&) {
        if (++reports == stop_at) {
          throw Error(ErrorCode::kCancelled, "stopped");
        }
      });
      resumed += result.resumed_files;
      break;
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), ErrorCode::kCancelled);
      ++stops;
      EXPECT_FALSE(fs::exists(options.out));
      EXPECT_THROW(formats::Checkpoint::Open(dir.path() / "out.partial"), Error);
    }
  }
  EXPECT_GT(stops, 3);
  EXPECT_GT(resumed, 0);
  for (const std::string& name : whole.files) {
    EXPECT_EQ(ReadWholeFile(dir.path() / "whole" / name), ReadWholeFile(options.out / name))
        << name;
  }
}

TEST(Convert, DamagedPartialFilesAreMadeAnew) {
  const formats::ScratchDir dir;
  const fs::path source = dir.Write("m.gguf", TinyGguf({}).Build());
  ConvertOptions options = OptionsFor(source, dir.path() / "out");
  options.max_shard_bytes = 100'000;
  uint64_t half = 0;
  EXPECT_THROW(Convert(options,
                       [&](const ConvertProgress& progress) {
                         if (progress.done_bytes > progress.total_bytes / 2) {
                           half = progress.done_bytes;
                           throw Error(ErrorCode::kCancelled, "stopped");
                         }
                       }),
               Error);
  ASSERT_GT(half, 0U);
  fs::path first;
  for (const auto& entry : fs::directory_iterator(dir.path() / "out.partial")) {
    if (entry.path().filename().string().find("model-00001") == 0) {
      first = entry.path();
    }
  }
  std::string bytes = ReadWholeFile(first);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  std::ofstream(first, std::ios::binary) << bytes;
  std::ofstream(dir.path() / "out.partial" / "leftover.safetensors") << "x";
  Convert(options, {});
  const auto checkpoint = formats::Checkpoint::Open(dir.path() / "out");
  EXPECT_TRUE(checkpoint->Verify({}));
  int64_t compared = 0;
  EXPECT_EQ(Differences(*formats::GgufFile::Open(source), *checkpoint, &compared), 0);
  EXPECT_FALSE(fs::exists(dir.path() / "out" / "leftover.safetensors"));
}

TEST(Convert, ExistingOutput) {
  const formats::ScratchDir dir;
  const fs::path source = dir.Write("m.gguf", TinyGguf({}).Build());
  ConvertOptions options = OptionsFor(source, dir.path() / "out");
  Convert(options, {});
  EXPECT_TRUE(Convert(options, {}).already_done);
  options.max_shard_bytes = 100'000;
  EXPECT_THAT(formats::ErrorOf([&] { Convert(options, {}); }),
              testing::AllOf(HasSubstr("out exists and was written"), HasSubstr("--force")));
  options.force = true;
  EXPECT_FALSE(Convert(options, {}).already_done);
  EXPECT_TRUE(fs::exists(dir.path() / "out" / "model.safetensors.index.json"));
  EXPECT_FALSE(fs::exists(dir.path() / "out.replaced"));

  dir.Write("precious/thesis.txt", "x");
  options.out = dir.path() / "precious";
  EXPECT_THAT(formats::ErrorOf([&] { Convert(options, {}); }),
              HasSubstr("not an engine checkpoint"));
  EXPECT_TRUE(fs::exists(dir.path() / "precious/thesis.txt"));
  options.out = source;
  EXPECT_THAT(formats::ErrorOf([&] { Convert(options, {}); }), HasSubstr("source and output"));
  options.out = dir.path();
  EXPECT_THAT(formats::ErrorOf([&] { Convert(options, {}); }), HasSubstr("is inside the output"));
}

TEST(Convert, SaysWhatAnExistingOutputIs) {
  const formats::ScratchDir dir;
  const fs::path source = WriteHfModel(dir, "hf");
  ConvertOptions options = OptionsFor(source, dir.path() / "out");
  options.bits = 4;
  Convert(options, {});
  const auto error = [&] { return formats::ErrorOf([&] { Convert(options, {}); }); };
  const std::string made = "out exists and was made from " + source.string();
  options.bits = 8;
  options.group_size = 32;
  EXPECT_THAT(error(),
              testing::AllOf(HasSubstr(made + " with --bits 4 --group-size 64, not with --bits 8 "
                                              "--group-size 32 (choose another --out, or add "
                                              "--force"),
                             testing::Not(HasSubstr("writer"))));
  options.bits.reset();
  EXPECT_THAT(error(), HasSubstr(made + " with --bits 4 --group-size 64, not without --bits"));
  options.bits = 4;
  options.group_size = 64;
  options.max_shard_bytes = 10'000;
  EXPECT_THAT(error(), HasSubstr("was written by another version of mach"));
  options.max_shard_bytes = ConvertOptions().max_shard_bytes;
  options.source = WriteHfModel(dir, "other");
  EXPECT_THAT(error(), HasSubstr(made + " with --bits 4 --group-size 64 (choose"));
  options.source = source / "";
  EXPECT_TRUE(Convert(options, {}).already_done);

  dir.Write("hf/tokenizer.json", "{ }");
  dir.Write("hf/added_tokens.json", "{}");
  EXPECT_THAT(error(), HasSubstr(made + ", which has changed since: added_tokens.json, "
                                        "tokenizer.json (choose"));
  // Of a mach.json without the files of the source.
  formats::Journal journal = *formats::Journal::Find(options.out);
  journal.source_files.clear();
  WriteFileAtomically(options.out / "mach.json", journal.ToJson());
  EXPECT_THAT(error(), HasSubstr(made + ", which has changed since (choose"));
  options.force = true;
  EXPECT_FALSE(Convert(options, {}).already_done);
}

TEST(Convert, TextsMayBeEdited) {
  const formats::ScratchDir dir;
  WriteHfModel(dir, "hf");
  for (const char* name : {"tokenizer_config.json", "generation_config.json"}) {
    dir.Write(std::string("hf/") + name, "{}");
  }
  dir.Write("hf/chat_template.jinja", "{{ messages }}");
  const ConvertOptions options = OptionsFor(dir.path() / "hf", dir.path() / "out");
  Convert(options, {});
  EXPECT_THAT(formats::Checkpoint::Open(options.out)->Verify({}),
              testing::Optional(testing::IsEmpty()));
  dir.Write("out/chat_template.jinja", "{{ messages[0].content }}");
  dir.Write("out/generation_config.json", R"({"temperature":0.5})");
  uint64_t last = 0;
  uint64_t total = 0;
  EXPECT_THAT(formats::Checkpoint::Open(options.out)->Verify([&](uint64_t done, uint64_t all) {
    last = done;
    total = all;
  }),
              testing::Optional(
                  testing::UnorderedElementsAre("chat_template.jinja", "generation_config.json")));
  EXPECT_EQ(last, total);
  EXPECT_TRUE(Convert(options, {}).already_done);
  for (const char* name : {"tokenizer.json", "config.json"}) {
    const std::string text = ReadWholeFile(options.out / name);
    dir.Write(std::string("out/") + name, text + " ");
    EXPECT_THAT(formats::ErrorOf([&] { formats::Checkpoint::Open(options.out); }),
                testing::AllOf(HasSubstr(name), HasSubstr("bytes, ")));
    dir.Write(std::string("out/") + name, text);
  }
  fs::remove(options.out / "generation_config.json");
  EXPECT_THAT(formats::ErrorOf([&] { formats::Checkpoint::Open(options.out); }),
              HasSubstr("is missing"));
}

TEST(Convert, AnEditThatKeepsTheLengthIsSeen) {
  const formats::ScratchDir dir;
  const ConvertOptions options = OptionsFor(WriteHfModel(dir, "hf"), dir.path() / "out");
  Convert(options, {});
  for (const char* name : {"tokenizer.json", "config.json"}) {
    const std::string text = ReadWholeFile(options.out / name);
    std::string edited = text;
    edited.back() = edited.back() == ' ' ? '\n' : ' ';
    dir.Write(std::string("out/") + name, edited);
    EXPECT_THAT(formats::ErrorOf([&] { formats::Checkpoint::Open(options.out); }),
                testing::AllOf(HasSubstr(name), HasSubstr("was changed after the conversion"),
                               HasSubstr("mach convert")));
    dir.Write(std::string("out/") + name, text);
    EXPECT_EQ(formats::ErrorOf([&] { formats::Checkpoint::Open(options.out); }), "no error");
  }
}

TEST(Convert, AnIndexThatDoesNotFitIsLeftBehind) {
  const formats::ScratchDir dir;
  const fs::path source = WriteHfModel(dir, "hf");
  dir.Write("hf/model.safetensors.index.json", R"({"weight_map":{"a":"b.safetensors"}})");
  const ConvertResult result = Convert(OptionsFor(source, dir.path() / "out"), {});
  EXPECT_THAT(result.skipped, testing::ElementsAre("model.safetensors.index.json", "notes.md"));
  EXPECT_FALSE(fs::exists(dir.path() / "out/model.safetensors.index.json"));
}

TEST(Convert, WhatCannotBeLoadedIsNotPublished) {
  const formats::ScratchDir dir;
  ConvertOptions options = OptionsFor(WriteHfModel(dir, "hf"), dir.path() / "out");
  const fs::path partial = dir.path() / "out.partial";
  options.check_output = [&](const fs::path& out) {
    EXPECT_EQ(out, partial);
    EXPECT_EQ(formats::ErrorOf([&] { (void)formats::Checkpoint::Open(out); }), "no error");
    throw Error(ErrorCode::kUnsupported, "no model has this shape");
  };
  EXPECT_THAT(formats::ErrorOf([&] { Convert(options, {}); }),
              testing::AllOf(HasSubstr("hf cannot be loaded: no model has this shape")));
  EXPECT_FALSE(fs::exists(options.out));
  EXPECT_THAT(formats::ErrorOf([&] { (void)formats::Checkpoint::Open(partial); }),
              HasSubstr("did not finish"));
  // What was written counts as far as it goes.
  options.check_output = [](const fs::path&) {};
  EXPECT_GT(Convert(options, {}).resumed_files, 0);
  EXPECT_EQ(formats::ErrorOf([&] { (void)formats::Checkpoint::Open(options.out); }), "no error");
}

TEST(Convert, ASourceThatShrinksIsNamed) {
  for (const bool gguf : {false, true}) {
    for (const int bits : {0, 8}) {
      if (!gguf && bits == 0) {
        continue;  // a copy, which has the small file read before it tells of any progress
      }
      const formats::ScratchDir dir;
      const fs::path source = gguf ? dir.Write("m.gguf", TinyGguf({.linear_type = 8}).Build())
                                   : WriteHfModel(dir, "hf");
      const fs::path weights = gguf ? source : source / "model.safetensors";
      ConvertOptions options = OptionsFor(source, dir.path() / "out");
      if (bits > 0) {
        options.bits = bits;
        options.requantise_all = gguf;
      }
      const std::string error = formats::ErrorOf([&] {
        Convert(options, [&](const ConvertProgress&) { fs::resize_file(weights, 100); });
      });
      EXPECT_THAT(error, HasSubstr(weights.string())) << gguf << bits;
      EXPECT_FALSE(fs::exists(options.out));
    }
  }
}

TEST(Convert, TwoConversionsDoNotShareAnOutput) {
  const formats::ScratchDir dir;
  const ConvertOptions options = OptionsFor(WriteHfModel(dir, "hf"), dir.path() / "out");
  ConvertOptions first = options;
  std::string second;
  first.check_output = [&](const fs::path&) {
    second = formats::ErrorOf([&] { Convert(options, {}); });
  };
  Convert(first, {});
  EXPECT_THAT(second, HasSubstr("out.partial is being written by another conversion"));
  // One that was let in just when the other gave the directory its final name.
  const fs::path partial = dir.path() / "out.partial";
  fs::create_directory(partial);
  {
    const DirectoryLock lock(partial);
    EXPECT_THAT(formats::ErrorOf([&] { const DirectoryLock other(partial); }),
                HasSubstr("another"));
  }
  EXPECT_EQ(formats::ErrorOf([&] { const DirectoryLock other(partial); }), "no error");
}

TEST(Convert, WarnsOfASourceWithoutTokenizer) {
  const formats::ScratchDir dir;
  const ConvertOptions options = OptionsFor(WriteHfModel(dir, "hf"), dir.path() / "out");
  fs::remove(dir.path() / "hf/tokenizer.json");
  testing::internal::CaptureStderr();
  Convert(options, {});
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              testing::AllOf(HasSubstr("no tokenizer.json"), HasSubstr("hf/tokenizer.json")));
}

TEST(Convert, AnOutputThatCannotBeMadeIsNamed) {
  const formats::ScratchDir dir;
  const fs::path source = WriteHfModel(dir, "hf");
  const fs::path out = dir.Write("file", "x") / "out";
  EXPECT_EQ(formats::ErrorOf([&] { Convert(OptionsFor(source, out), {}); }),
            "cannot write " + out.string() + ": " + out.string() +
                ".partial: Not a directory (choose another --out)");
}

TEST(Convert, ForceMendsADamagedManifest) {
  const formats::ScratchDir dir;
  const fs::path source = dir.Write("m.gguf", TinyGguf({}).Build());
  ConvertOptions options = OptionsFor(source, dir.path() / "out");
  Convert(options, {});
  for (const char* damaged : {"{", "{}", ""}) {
    std::ofstream(options.out / "mach.json") << damaged;
    options.force = false;
    for (const std::string& error :
         {formats::ErrorOf([&] { Convert(options, {}); }),
          formats::ErrorOf([&] { (void)formats::Checkpoint::Open(options.out); })}) {
      EXPECT_THAT(error, testing::AllOf(HasSubstr("mach.json"),
                                        HasSubstr("--out " + options.out.string() + " --force")));
    }
    options.force = true;
    EXPECT_FALSE(Convert(options, {}).already_done);
    EXPECT_TRUE(formats::Checkpoint::Open(options.out)->Verify({}));
  }
}

TEST(Convert, ReplacesNothingOfOthers) {
  const formats::ScratchDir dir;
  const fs::path source = dir.Write("m.gguf", TinyGguf({}).Build());
  ConvertOptions options = OptionsFor(source, dir.path() / "out");
  Convert(options, {});
  // Somebody's copy, which has the name that what is replaced would get first.
  fs::copy(options.out, dir.path() / "out.replaced", fs::copy_options::recursive);
  options.force = true;
  EXPECT_FALSE(Convert(options, {}).already_done);
  EXPECT_TRUE(formats::Checkpoint::Open(dir.path() / "out.replaced")->Verify({}));
  EXPECT_FALSE(fs::exists(dir.path() / "out.replaced-1"));
}

// A removal that was killed between the mark and the directory.
TEST(Convert, AnEmptyReplacedDirectoryGoes) {
  const formats::ScratchDir dir;
  const ConvertOptions options = OptionsFor(WriteHfModel(dir, "hf"), dir.path() / "out");
  for (const bool already_done : {false, true}) {
    fs::create_directory(dir.path() / "out.replaced");
    EXPECT_EQ(Convert(options, {}).already_done, already_done);
    EXPECT_FALSE(fs::exists(dir.path() / "out.replaced"));
  }
}

TEST(Convert, APartialDirectoryOfOthersStays) {
  const formats::ScratchDir dir;
  const fs::path source = dir.Write("m.gguf", TinyGguf({}).Build());
  const ConvertOptions options = OptionsFor(source, dir.path() / "out");
  const fs::path thesis = dir.Write("out.partial/thesis/1.txt", "x");
  EXPECT_THAT(formats::ErrorOf([&] { Convert(options, {}); }),
              testing::AllOf(HasSubstr("out.partial exists and was not begun by a conversion"),
                             HasSubstr("thesis"), HasSubstr("another --out")));
  EXPECT_TRUE(fs::exists(thesis));
  EXPECT_FALSE(fs::exists(dir.path() / "out.partial/mach.json"));
  // A journal that cannot be read is a journal.
  dir.Write("out.partial/mach.json", "{");
  Convert(options, {});
  EXPECT_FALSE(fs::exists(dir.path() / "out/thesis"));
  // What a kill leaves that came while the first journal was written.
  dir.Write("other.partial/mach.json.tmp-123", "{");
  Convert(OptionsFor(source, dir.path() / "other"), {});
  EXPECT_FALSE(fs::exists(dir.path() / "other/mach.json.tmp-123"));
}

TEST(Convert, ACompleteCheckpointCalledPartialStays) {
  const formats::ScratchDir dir;
  const fs::path source = dir.Write("m.gguf", TinyGguf({}).Build());
  Convert(OptionsFor(WriteHfModel(dir, "hf"), dir.path() / "out.partial"), {});
  EXPECT_THAT(formats::ErrorOf([&] { Convert(OptionsFor(source, dir.path() / "out"), {}); }),
              testing::AllOf(HasSubstr("out.partial exists and is a complete checkpoint"),
                             HasSubstr("another --out")));
  EXPECT_TRUE(formats::Checkpoint::Open(dir.path() / "out.partial")->Verify({}));
}

TEST(Convert, TheSourceIsNotThePartialDirectory) {
  const formats::ScratchDir dir;
  const fs::path hf = WriteHfModel(dir, "hf.partial");
  dir.Write("hf.partial/mach.json", "{}");
  const fs::path gguf = dir.Write("hf.partial/below/m.gguf", TinyGguf({}).Build());
  const fs::path out = dir.path() / "hf";
  EXPECT_THAT(formats::ErrorOf([&] { Convert(OptionsFor(hf, out), {}); }),
              HasSubstr("source and output"));
  EXPECT_THAT(formats::ErrorOf([&] { Convert(OptionsFor(gguf, out), {}); }),
              HasSubstr("is inside the output"));
  fs::create_directory_symlink(hf, dir.path() / "link.partial");
  EXPECT_THAT(formats::ErrorOf([&] { Convert(OptionsFor(gguf, dir.path() / "link"), {}); }),
              HasSubstr("is inside the output"));
  EXPECT_TRUE(fs::exists(hf / "model.safetensors"));
  EXPECT_TRUE(fs::exists(gguf));
}

TEST(Journal, TheCureHasTheOptions) {
  formats::Journal journal;
  journal.source_path = "/my models/m";
  ConvertOptions options;
  journal.options = DescribeOptions(options);
  EXPECT_EQ(journal.Cure("/o"), "convert it again: mach convert '/my models/m' --out /o --force");
  options.bits = 8;
  options.group_size = 32;
  options.requantise_all = true;
  journal.options = DescribeOptions(options);
  EXPECT_EQ(journal.Cure("/o"),
            "convert it again: mach convert '/my models/m' --bits 8 --group-size 32 "
            "--requantise-all --out /o --force");
}

TEST(Convert, ManifestCatchesDamage) {
  const formats::ScratchDir dir;
  const fs::path source = dir.Write("m.gguf", TinyGguf({}).Build());
  Convert(OptionsFor(source, dir.path() / "out"), {});
  const fs::path weights = dir.path() / "out" / "model.safetensors";
  std::string bytes = ReadWholeFile(weights);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 4);
  std::ofstream(weights, std::ios::binary) << bytes;
  EXPECT_THAT(formats::ErrorOf([&] { formats::Checkpoint::Open(dir.path() / "out")->Verify({}); }),
              testing::AllOf(HasSubstr("model.safetensors: checksum is"), HasSubstr("says")));
  std::ofstream(weights, std::ios::binary) << bytes.substr(0, bytes.size() - 1);
  EXPECT_THAT(formats::ErrorOf([&] { formats::Checkpoint::Open(dir.path() / "out"); }),
              HasSubstr("bytes,"));
  fs::remove(weights);
  EXPECT_THAT(formats::ErrorOf([&] { formats::Checkpoint::Open(dir.path() / "out"); }),
              HasSubstr("is missing"));
}

TEST(Convert, BadOptions) {
  const formats::ScratchDir dir;
  ConvertOptions options = OptionsFor(dir.path() / "none", dir.path() / "out");
  EXPECT_THAT(formats::ErrorOf([&] { Convert(options, {}); }), HasSubstr("no file or directory"));
  options.bits = 7;
  EXPECT_THAT(formats::ErrorOf([&] { Convert(options, {}); }),
              HasSubstr("cannot quantise to 7 bits"));
  options.bits.reset();
  options.requantise_all = true;
  EXPECT_THAT(formats::ErrorOf([&] { Convert(options, {}); }), HasSubstr("needs a number of bits"));
  options = OptionsFor(dir.path(), "");
  EXPECT_THAT(formats::ErrorOf([&] { Convert(options, {}); }), HasSubstr("--out"));
}

}  // namespace
}  // namespace mach::convert
