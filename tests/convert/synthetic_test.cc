#include "convert/synthetic.h"

#include <cmath>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "convert/synthetic_weights.h"
#include "formats/checkpoint.h"
#include "formats/expert_sidecar.h"
#include "formats/journal.h"
#include "formats/text_config.h"
#include "platform/file.h"
#include "tensor/packed_linear.h"
#include "tests/formats/test_files.h"
#include "text/tokenizer.h"

namespace mach::convert {
namespace {

namespace fs = std::filesystem;

SyntheticOptions Tiny(const fs::path& out) {
  SyntheticOptions options;
  options.shape = NamedSyntheticShape("tiny");
  options.out = out;
  options.threads = 2;
  return options;
}

std::map<std::string, std::string> Contents(const fs::path& dir) {
  std::map<std::string, std::string> contents;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(dir)) {
    if (entry.is_regular_file()) {
      contents[fs::relative(entry.path(), dir).string()] = ReadWholeFile(entry.path());
    }
  }
  return contents;
}

struct Moments {
  double mean = 0;
  double deviation = 0;
};

Moments MomentsOf(const std::vector<float>& values) {
  double sum = 0;
  double squares = 0;
  for (const float value : values) {
    sum += value;
    squares += static_cast<double>(value) * value;
  }
  const auto count = static_cast<double>(values.size());
  const double mean = sum / count;
  return {mean, std::sqrt(squares / count - mean * mean)};
}

std::vector<float> Dequantised(const AffineMatrixView& matrix, int64_t rows) {
  std::vector<float> all;
  std::vector<float> row(static_cast<size_t>(matrix.in_features));
  for (int64_t r = 0; r < rows; ++r) {
    DequantizeAffineRow(matrix, r, row);
    all.insert(all.end(), row.begin(), row.end());
  }
  return all;
}

TEST(Synthetic, OpensWithEveryTensorOfTheFamily) {
  const formats::ScratchDir scratch;
  const SyntheticOptions options = Tiny(scratch.path() / "out");
  WriteSynthetic(options, {});
  const auto checkpoint = formats::Checkpoint::Open(options.out);
  EXPECT_EQ(checkpoint->model_type(), "qwen3_5_moe");
  EXPECT_EQ(checkpoint->config().RequireInt("num_experts"), 16);
  const std::string base = "language_model.model.layers.";
  EXPECT_TRUE(checkpoint->Linear("language_model.lm_head", 2048, 128).affine);
  EXPECT_TRUE(checkpoint->Linear(base + "3.self_attn.q_proj", 512, 128).affine);
  EXPECT_TRUE(checkpoint->Linear(base + "0.linear_attn.in_proj_qkv", 256, 128).affine);
  checkpoint->RequireFloat(base + "0.linear_attn.conv1d.weight", Shape{256, 4, 1});
  checkpoint->RequireFloat(base + "0.linear_attn.A_log", Shape{4});
  const formats::LinearSource router = checkpoint->Linear(base + "0.mlp.gate", 16, 128);
  ASSERT_TRUE(router.affine);
  EXPECT_EQ(router.affine->scheme, (AffineScheme{8, 64}));
  EXPECT_FALSE(checkpoint->Has(base + "3.linear_attn.A_log"));
  EXPECT_FALSE(checkpoint->Has(base + "0.self_attn.q_proj.weight"));
  EXPECT_TRUE(formats::ReadTokenizerConfig(options.out).chat_template);
  EXPECT_EQ(formats::ReadGenerationConfig(options.out).eos_token_ids.size(), 2U);
}

TEST(Synthetic, PlainFamilyHasNoDeltaNet) {
  const formats::ScratchDir scratch;
  SyntheticOptions options = Tiny(scratch.path() / "out");
  options.shape.family = formats::MoeFamily::kQwen3Moe;
  WriteSynthetic(options, {});
  const auto checkpoint = formats::Checkpoint::Open(options.out);
  EXPECT_EQ(checkpoint->model_type(), "qwen3_moe");
  EXPECT_TRUE(checkpoint->Linear("model.layers.0.self_attn.q_proj", 256, 128).affine);
  EXPECT_FALSE(checkpoint->Has("model.layers.0.mlp.shared_expert_gate.weight"));
}

TEST(Synthetic, HeadsOfTheDeltaNetMayHaveAnyShape) {
  const formats::ScratchDir scratch;
  SyntheticOptions options = Tiny(scratch.path() / "out");
  options.shape.linear_key_heads = 3;
  options.shape.linear_value_heads = 6;
  options.shape.linear_key_head_dim = 48;
  options.shape.linear_value_head_dim = 32;
  options.shape.conv_taps = 3;
  options.shape.full_attention_interval = 2;
  WriteSynthetic(options, {});
  const auto checkpoint = formats::Checkpoint::Open(options.out);
  const std::string base = "language_model.model.layers.2.linear_attn.";
  EXPECT_TRUE(checkpoint->Linear(base + "in_proj_qkv", 2 * 3 * 48 + 6 * 32, 128).affine);
  EXPECT_TRUE(checkpoint->Linear(base + "out_proj", 128, 6 * 32).affine);
  checkpoint->RequireFloat(base + "conv1d.weight", Shape{480, 3, 1});
  EXPECT_TRUE(checkpoint->Has("language_model.model.layers.1.self_attn.q_proj.weight"));
  EXPECT_EQ(checkpoint->config().RequireInt("linear_value_head_dim"), 32);
  EXPECT_EQ(checkpoint->config().RequireInt("linear_key_head_dim"), 48);
}

// The sizes that --help prints.
TEST(Synthetic, TheSizeIsKnownBefore) {
  const formats::ScratchDir scratch;
  const SyntheticOptions options = Tiny(scratch.path() / "out");
  const ConvertResult result = WriteSynthetic(options, {});
  uint64_t text = 0;
  for (const char* name : {"config.json", "generation_config.json", "tokenizer.json",
                           "tokenizer_config.json", "expert_sidecar/manifest.json"}) {
    text += fs::file_size(options.out / name);
  }
  const uint64_t weights = SyntheticBytes(options.shape, options.scheme);
  EXPECT_LT(weights, result.written_bytes - text);
  constexpr uint64_t kHeaderBytes = 32768;
  EXPECT_GT(weights + kHeaderBytes, result.written_bytes - text);
}

// What the tokenizer makes of its own file is what config.json and the head say.
TEST(Synthetic, EveryIdIsOneToken) {
  const formats::ScratchDir scratch;
  const SyntheticOptions options = Tiny(scratch.path() / "out");
  WriteSynthetic(options, {});
  testing::internal::CaptureStderr();
  const auto tokenizer =
      text::Tokenizer::FromJson(ReadWholeFile(options.out / "tokenizer.json"), "tokenizer.json");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  const auto vocab = static_cast<int32_t>(options.shape.vocab_size);
  EXPECT_EQ(tokenizer->vocab_size(), vocab);
  EXPECT_EQ(tokenizer->TokenToId("<|endoftext|>"), 256);
  EXPECT_EQ(tokenizer->TokenToId("<|im_start|>"), 257);
  EXPECT_EQ(tokenizer->TokenToId("<|im_end|>"), 258);
  for (const int32_t id : formats::ReadGenerationConfig(options.out).eos_token_ids) {
    EXPECT_TRUE(tokenizer->IsSpecial(id)) << id;
  }
  std::set<std::string> seen;
  for (int32_t id = 0; id < vocab; ++id) {
    const std::string bytes = tokenizer->TokenBytes(id);
    EXPECT_FALSE(bytes.empty()) << id;
    EXPECT_TRUE(seen.insert(bytes).second) << id;
    EXPECT_EQ(tokenizer->IsSpecial(id), id >= 256 && id <= 258) << id;
    if (id < 128 || id >= 256) {  // no part of a character
      EXPECT_EQ(tokenizer->Encode(bytes, false), std::vector<int32_t>{id});
      EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{id}, false), bytes);
    }
  }
}

TEST(Synthetic, SidecarVerifiesAndNamesADamagedRecord) {
  const formats::ScratchDir scratch;
  const SyntheticOptions options = Tiny(scratch.path() / "out");
  WriteSynthetic(options, {});
  const auto sidecar = formats::ExpertSidecar::Find(options.out);
  ASSERT_TRUE(sidecar);
  EXPECT_EQ(sidecar->moe_layers.size(), 4U);
  EXPECT_EQ(sidecar->experts, 16);
  sidecar->Verify({});
  EXPECT_TRUE(formats::Checkpoint::Open(options.out)->Verify({}));

  const fs::path file = sidecar->PathOf(sidecar->moe_layers[2]);
  std::string bytes = ReadWholeFile(file);
  bytes[static_cast<size_t>(sidecar->OffsetOf(5)) + 100] ^= 1;
  WriteFileAtomically(file, bytes);
  EXPECT_THROW(sidecar->Verify({}), Error);
}

// Records of 1.7 MB are written past the page cache, smaller ones through it.
TEST(Synthetic, LargeRecordsVerify) {
  const formats::ScratchDir scratch;
  SyntheticOptions options = Tiny(scratch.path() / "out");
  options.shape.layers = 1;
  options.shape.experts = 5;
  options.shape.hidden_size = 2048;
  options.shape.intermediate_size = 512;
  WriteSynthetic(options, {});
  EXPECT_GT(formats::ExpertSidecar::Find(options.out)->layout.record_bytes, 1U << 20);
  EXPECT_TRUE(formats::Checkpoint::Open(options.out)->Verify({}));
  formats::ExpertSidecar::Find(options.out)->Verify({});
}

TEST(Synthetic, AllRecordsDiffer) {
  const formats::ScratchDir scratch;
  const SyntheticOptions options = Tiny(scratch.path() / "out");
  WriteSynthetic(options, {});
  const auto sidecar = formats::ExpertSidecar::Find(options.out);
  std::set<std::string> sums;
  for (const formats::SidecarLayer& layer : sidecar->moe_layers) {
    sums.insert(layer.xxh3_128.begin(), layer.xxh3_128.end());
  }
  EXPECT_EQ(sums.size(), 4U * 16U);
}

TEST(Synthetic, BytesDependOnSeedAndNotOnThreads) {
  const formats::ScratchDir scratch;
  SyntheticOptions options = Tiny(scratch.path() / "first");
  options.threads = 1;
  WriteSynthetic(options, {});
  const auto first = Contents(options.out);
  options.out = scratch.path() / "second";
  options.threads = 3;
  WriteSynthetic(options, {});
  EXPECT_EQ(Contents(options.out), first);
  options.out = scratch.path() / "third";
  options.seed = 2;
  WriteSynthetic(options, {});
  const auto third = Contents(options.out);
  EXPECT_NE(third.at("model.safetensors"), first.at("model.safetensors"));
  EXPECT_NE(third.at("expert_sidecar/layer_0000.bin"), first.at("expert_sidecar/layer_0000.bin"));
}

TEST(Synthetic, TheSameCheckpointIsNotWrittenTwice) {
  const formats::ScratchDir scratch;
  SyntheticOptions options = Tiny(scratch.path() / "out");
  EXPECT_FALSE(WriteSynthetic(options, {}).already_done);
  EXPECT_TRUE(WriteSynthetic(options, {}).already_done);
  options.seed = 7;
  EXPECT_THAT(formats::ErrorOf([&] { WriteSynthetic(options, {}); }),
              testing::HasSubstr("exists and was written by `mach synth --shape tiny --bits 4 "
                                 "--group-size 64 --seed 1` (choose another --out, or add "
                                 "--force"));
  // As an earlier version, which wrote other bytes, left it.
  options.seed = 1;
  formats::Journal earlier = *formats::Journal::Find(options.out);
  earlier.source_fingerprint = std::string(32, '0');
  WriteFileAtomically(options.out / "mach.json", earlier.ToJson());
  EXPECT_THAT(formats::ErrorOf([&] { WriteSynthetic(options, {}); }),
              testing::HasSubstr("was written by another version of mach"));
  options.force = true;
  EXPECT_FALSE(WriteSynthetic(options, {}).already_done);
}

TEST(Synthetic, TheCureWritesTheSameBytes) {
  const formats::ScratchDir scratch;
  SyntheticOptions options = Tiny(scratch.path() / "out");
  options.shape.layers = 2;
  options.shape.top_k = 3;
  options.scheme = {8, 32};
  options.router_skew = 0.1;
  options.seed = 5;
  WriteSynthetic(options, {});
  EXPECT_EQ(formats::Journal::Find(options.out)->Cure(options.out),
            "write it again: mach synth --shape tiny --layers 2 --top-k 3 --bits 8 "
            "--group-size 32 --router-skew 0.10000000000000001 --seed 5 --out " +
                options.out.string() + " --force");
  fs::resize_file(options.out / "expert_sidecar/layer_0001.bin", 100);
  try {
    (void)formats::ExpertSidecar::Find(options.out);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(error.cure().find("mach synth --shape tiny"), std::string::npos) << error.cure();
  }
}

TEST(Synthetic, EveryShapeIsACommand) {
  SyntheticShape shape = NamedSyntheticShape("tiny");
  EXPECT_EQ(SyntheticShapeFlags(shape), "--shape tiny");
  shape.conv_taps = 3;
  EXPECT_EQ(SyntheticShapeFlags(shape), "--shape tiny --conv-taps 3");
  shape.family = formats::MoeFamily::kQwen3Moe;  // which has no convolution
  EXPECT_EQ(SyntheticShapeFlags(shape), "--shape tiny --family qwen3_moe");
  shape = NamedSyntheticShape("qwen35moe-12l");
  shape.layers = 40;
  EXPECT_EQ(SyntheticShapeFlags(shape), "--shape qwen35moe-12l --layers 40");
}

TEST(Synthetic, CancelledAndContinued) {
  const formats::ScratchDir scratch;
  SyntheticOptions options = Tiny(scratch.path() / "whole");
  WriteSynthetic(options, {});
  const auto whole = Contents(options.out);
  options.out = scratch.path() / "resumed";
  EXPECT_THROW(WriteSynthetic(options,
                              [](const ConvertProgress& progress) {
                                if (progress.done_bytes > progress.total_bytes / 2) {
                                  throw Error(ErrorCode::kCancelled, "enough");
                                }
                              }),
               Error);
  EXPECT_FALSE(fs::exists(options.out));
  EXPECT_GT(WriteSynthetic(options, {}).resumed_files, 0);
  EXPECT_EQ(Contents(options.out), whole);
}

// The gains are what keeps activations and logits of a deep model in range.
TEST(Synthetic, WeightsHaveTheDeviationTheyShould) {
  const formats::ScratchDir scratch;
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    SyntheticOptions options = Tiny(scratch.path() / std::to_string(bits));
    options.scheme.bits = bits;
    WriteSynthetic(options, {});
    const auto checkpoint = formats::Checkpoint::Open(options.out);
    const auto weights = Dequantised(
        *checkpoint->Linear("language_model.model.layers.3.self_attn.q_proj", 512, 128).affine,
        512);
    const Moments moments = MomentsOf(weights);
    const double expected = 1 / std::sqrt(128.0);
    EXPECT_NEAR(moments.deviation, expected, 0.05 * expected) << bits << " bits";
    EXPECT_NEAR(moments.mean, 0, 0.02 * expected) << bits << " bits";
  }
}

TEST(Synthetic, PackedExpertsHaveTheDeviationTheyShould) {
  const formats::ScratchDir scratch;
  const SyntheticOptions options = Tiny(scratch.path() / "out");
  WriteSynthetic(options, {});
  const auto sidecar = formats::ExpertSidecar::Find(options.out);
  std::string file = ReadWholeFile(sidecar->PathOf(sidecar->moe_layers[1]));
  const auto deviation = [&](const ExpertPart& part) {
    std::vector<std::byte> aligned(part.spec.bytes() + 64);
    void* data = aligned.data();
    size_t space = aligned.size();
    std::align(64, part.spec.bytes(), data, space);
    std::memcpy(data, file.data() + sidecar->OffsetOf(3) + part.offset_bytes, part.spec.bytes());
    const PackedView view(part.spec, static_cast<const std::byte*>(data));
    std::vector<float> all;
    std::vector<float> row(static_cast<size_t>(part.spec.in_features));
    for (int64_t r = 0; r < part.spec.out_features; ++r) {
      view.UnpackRow(r, row);
      all.insert(all.end(), row.begin(), row.end());
    }
    return MomentsOf(all).deviation;
  };
  EXPECT_NEAR(deviation(sidecar->layout.gate), 1 / std::sqrt(128.0), 0.005);
  EXPECT_NEAR(deviation(sidecar->layout.down), 1 / std::sqrt(64.0), 0.007);
}

TEST(Synthetic, HeadNeverChoosesBytesOrSpecialTokens) {
  const formats::ScratchDir scratch;
  const SyntheticOptions options = Tiny(scratch.path() / "out");
  WriteSynthetic(options, {});
  const auto checkpoint = formats::Checkpoint::Open(options.out);
  const formats::LinearSource head = checkpoint->Linear("language_model.lm_head", 2048, 128);
  for (const float weight : Dequantised(*head.affine, 259)) {
    ASSERT_EQ(weight, 0.0F);
  }
  EXPECT_NEAR(MomentsOf(Dequantised(*head.affine, 2048)).deviation, 2 / std::sqrt(128.0), 0.02);
}

// What a skewed router holds on to: the first group of each embedding is the same for all tokens,
// and the router's weights on it order the experts, differently in each layer.
TEST(Synthetic, SkewRaisesOtherExpertsInEachLayer) {
  const formats::ScratchDir scratch;
  SyntheticOptions options = Tiny(scratch.path() / "out");
  options.router_skew = 1;
  WriteSynthetic(options, {});
  const auto checkpoint = formats::Checkpoint::Open(options.out);
  const std::string base = "language_model.model.";
  std::vector<float> row(128);
  const AffineMatrixView embedding = *checkpoint->Linear(base + "embed_tokens", 2048, 128).affine;
  DequantizeAffineRow(embedding, 300, row);
  const float constant = row[0];
  EXPECT_GT(constant, 0.0F);
  for (const int64_t token : {0, 300, 2047}) {
    DequantizeAffineRow(embedding, token, row);
    EXPECT_EQ(row[0], constant);
    EXPECT_EQ(row[63], constant);
  }
  std::set<int64_t> favourites;
  for (int layer = 0; layer < 4; ++layer) {
    const std::string module = base + "layers." + std::to_string(layer) + ".mlp.gate";
    const AffineMatrixView router = *checkpoint->Linear(module, 16, 128).affine;
    int64_t best = 0;
    float raised = -INFINITY;
    for (int64_t expert = 0; expert < 16; ++expert) {
      DequantizeAffineRow(router, expert, row);
      if (row[0] > raised) {
        raised = row[0];
        best = expert;
      }
    }
    EXPECT_GT(raised, 0.0F);
    favourites.insert(best);
  }
  EXPECT_GT(favourites.size(), 1U);
}

TEST(Synthetic, ShiftsFollowThePowerLaw) {
  const std::vector<double> shifts = PopularityShifts(256, 8, 0.7);
  ASSERT_EQ(shifts.size(), 256U);
  double sum = 0;
  std::vector<double> probability;
  for (const double shift : shifts) {
    probability.push_back(std::erfc(-shift / std::sqrt(2.0)) / 2);
    sum += probability.back();
  }
  EXPECT_NEAR(sum, 8, 1e-6);
  EXPECT_NEAR(probability[0] / probability[15], std::pow(16.0, 0.7), 1e-6);
  EXPECT_NEAR(probability[9] / probability[99], std::pow(10.0, 0.7), 1e-6);
  for (const double shift : PopularityShifts(16, 16, 0)) {
    EXPECT_TRUE(std::isfinite(shift));
  }
}

TEST(Synthetic, RefusesShapesThatCannotBeStored) {
  const formats::ScratchDir scratch;
  const auto expect_refusal = [&](const std::string& field, auto change) {
    SyntheticOptions options = Tiny(scratch.path() / "out");
    change(options);
    try {
      WriteSynthetic(options, {});
      FAIL() << field;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_NE(std::string(error.what()).find(field), std::string::npos) << error.what();
    }
  };
  expect_refusal("--hidden is 100", [](SyntheticOptions& o) { o.shape.hidden_size = 100; });
  expect_refusal("--intermediate is 32, expected a multiple of --group-size, 64",
                 [](SyntheticOptions& o) { o.shape.intermediate_size = 32; });
  expect_refusal("--top-k is 17", [](SyntheticOptions& o) { o.shape.top_k = 17; });
  expect_refusal("--vocab", [](SyntheticOptions& o) { o.shape.vocab_size = 200; });
  expect_refusal("--layers is 0, expected 1 to 1000",
                 [](SyntheticOptions& o) { o.shape.layers = 0; });
  expect_refusal("--router-skew", [](SyntheticOptions& o) { o.router_skew = -1; });
  expect_refusal("--head-dim is 8, expected a multiple of 16", [](SyntheticOptions& o) {
    o.shape.heads = 8;
    o.shape.head_dim = 8;
  });
  expect_refusal("--linear-key-head-dim is 24",
                 [](SyntheticOptions& o) { o.shape.linear_key_head_dim = 24; });
  expect_refusal("--linear-value-head-dim is 24",
                 [](SyntheticOptions& o) { o.shape.linear_value_head_dim = 24; });
  expect_refusal("--linear-value-heads times --linear-value-head-dim is 32",
                 [](SyntheticOptions& o) {
                   o.shape.linear_value_heads = 2;
                   o.shape.linear_value_head_dim = 16;
                 });
  expect_refusal("--linear-value-heads is 3, expected a multiple of --linear-key-heads, 2",
                 [](SyntheticOptions& o) { o.shape.linear_value_heads = 3; });
  expect_refusal("--full-attention-interval is 1",
                 [](SyntheticOptions& o) { o.shape.full_attention_interval = 1; });
  expect_refusal("--conv-taps is 17", [](SyntheticOptions& o) { o.shape.conv_taps = 17; });
  // No overflow before the refusal.
  for (const SyntheticFlag& flag : SyntheticFlags()) {
    expect_refusal(std::string(flag.flag) + " is 1099511627776",
                   [&](SyntheticOptions& o) { o.shape.*flag.field = int64_t{1} << 40; });
  }
  expect_refusal("all experts together", [](SyntheticOptions& o) {
    o.shape.layers = 1000;
    o.shape.experts = 65536;
    o.shape.hidden_size = o.shape.intermediate_size = int64_t{1} << 20;
  });
  expect_refusal("groups of 48", [](SyntheticOptions& o) { o.scheme.group_size = 48; });
  EXPECT_THROW(NamedSyntheticShape("huge"), Error);
  EXPECT_FALSE(fs::exists(scratch.path() / "out"));
}

}  // namespace
}  // namespace mach::convert
