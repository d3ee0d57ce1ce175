#include "formats/expert_sidecar.h"

#include <algorithm>
#include <set>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/hash.h"
#include "formats/config.h"
#include "formats/journal.h"
#include "platform/file.h"

namespace mach::formats {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr uint64_t kMaxManifestBytes = 256ULL << 20;
// Bounds on what a manifest may claim, far beyond any model; with them no size overflows 64 bits.
constexpr int64_t kMaxLayers = 1 << 12;
constexpr int64_t kMaxExperts = 1 << 16;
constexpr int64_t kMaxFeatures = 1 << 20;
constexpr int64_t kMaxRecordBytes = int64_t{1} << 34;
constexpr size_t kSumDigits = 32;

constexpr const char* kLayoutName = "strips-16";
// As it stands in the text: the checksum is over the text with zeros in place of its digits.
constexpr std::string_view kSumField = "\"manifest_xxh3_128\": \"";

[[noreturn]] void FailCorrupt(const std::string& what) {
  throw Error(ErrorCode::kCorruptFile, what);
}

bool IsSum(const std::string& text) {
  return text.size() == kSumDigits &&
         text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

std::string SumOf(const std::string& blanked) {
  return HashHex128(std::as_bytes(std::span(blanked)));
}

void CheckOwnSum(std::string text, const std::string& claimed, const std::string& file) {
  const size_t field = text.rfind(kSumField);
  const size_t digits = field + kSumField.size();
  if (field == std::string::npos || text.compare(digits, kSumDigits, claimed) != 0) {
    FailCorrupt(file + ": manifest_xxh3_128 is not where `mach convert` writes it");
  }
  text.replace(digits, kSumDigits, kSumDigits, '0');
  const std::string found = SumOf(text);
  if (found != claimed) {
    FailCorrupt(file + " was changed after it was written: its checksum is " + found +
                ", it says " + claimed);
  }
}

Json PartJson(const char* name, const ExpertPart& part) {
  const PackedSpec& spec = part.spec;
  Json json = {{"name", name},
               {"offset_bytes", part.offset_bytes},
               {"size_bytes", spec.bytes()},
               {"out_features", spec.out_features},
               {"in_features", spec.in_features},
               {"encoding", spec.is_affine ? "affine" : "float"}};
  if (spec.is_affine) {
    json["bits"] = spec.scheme.bits;
    json["group_size"] = spec.scheme.group_size;
  }
  json["dtype"] = std::string(DTypeName(spec.dtype));
  return json;
}

ExpertPart ReadPart(const ConfigReader& reader, const char* name, uint64_t record_bytes) {
  if (reader.RequireString("name") != name) {
    reader.Fail("name", std::string("\"") + name + "\"");
  }
  ExpertPart part;
  PackedSpec& spec = part.spec;
  spec.out_features = reader.RequireInt("out_features", 1, kMaxFeatures);
  spec.in_features = reader.RequireInt("in_features", 1, kMaxFeatures);
  const std::string dtype = reader.RequireString("dtype");
  const std::vector<DType> known = {DType::kF32, DType::kF16, DType::kBF16};
  const auto found = std::find_if(known.begin(), known.end(),
                                  [&](DType type) { return DTypeName(type) == dtype; });
  if (found == known.end()) {
    reader.Fail("dtype", "F32, F16 or BF16");
  }
  spec.dtype = *found;
  const std::string encoding = reader.RequireString("encoding");
  if (encoding == "affine") {
    spec.is_affine = true;
    spec.scheme.bits = static_cast<int>(reader.RequireInt("bits", 1, 8));
    spec.scheme.group_size = static_cast<int>(reader.RequireInt("group_size", 1, 1024));
    if (!IsSupported(spec.scheme)) {
      throw Error(ErrorCode::kUnsupported,
                  reader.Where("bits") + " is " + std::to_string(spec.scheme.bits) +
                      " with groups of " + std::to_string(spec.scheme.group_size) +
                      "; supported are 2, 3, 4, 5, 6, 8 bits in groups of 32, 64, 128");
    }
    if (spec.in_features % spec.scheme.group_size != 0) {
      reader.Fail("in_features",
                  "a multiple of group_size " + std::to_string(spec.scheme.group_size));
    }
  } else if (encoding != "float") {
    reader.Fail("encoding", "\"affine\" or \"float\"");
  }
  const auto size = static_cast<uint64_t>(reader.RequireInt("size_bytes", 1, kMaxRecordBytes));
  if (size != spec.bytes()) {
    reader.Fail("size_bytes", std::to_string(spec.bytes()) + " for this shape and encoding");
  }
  part.offset_bytes = static_cast<uint64_t>(reader.RequireInt("offset_bytes", 0, kMaxRecordBytes));
  if (part.offset_bytes % 64 != 0) {
    reader.Fail("offset_bytes", "a multiple of 64");
  }
  if (part.offset_bytes > record_bytes || size > record_bytes - part.offset_bytes) {
    reader.Fail("offset_bytes", "that " + std::to_string(size) +
                                    " bytes end inside the record of " +
                                    std::to_string(record_bytes));
  }
  return part;
}

ExpertLayout ReadLayout(const ConfigReader& record) {
  const std::string layout_name = record.RequireString("layout");
  if (layout_name != kLayoutName) {
    throw Error(ErrorCode::kUnsupported, record.Where("layout") + " is \"" + layout_name +
                                             "\", this build reads \"" + kLayoutName + "\"");
  }
  ExpertLayout layout;
  layout.record_bytes = static_cast<uint64_t>(record.RequireInt("size_bytes", 1, kMaxRecordBytes));
  if (layout.record_bytes % ExpertLayout::kRecordAlignment != 0) {
    record.Fail("size_bytes", "a multiple of " + std::to_string(ExpertLayout::kRecordAlignment));
  }
  const std::vector<ConfigReader> parts = record.RequireObjects("parts");
  if (parts.size() != 3) {
    record.Fail("parts", "the three parts gate, up and down");
  }
  layout.gate = ReadPart(parts[0], "gate", layout.record_bytes);
  layout.up = ReadPart(parts[1], "up", layout.record_bytes);
  layout.down = ReadPart(parts[2], "down", layout.record_bytes);
  if (layout.gate.offset_bytes + layout.gate.spec.bytes() > layout.up.offset_bytes ||
      layout.up.offset_bytes + layout.up.spec.bytes() > layout.down.offset_bytes) {
    record.Fail("parts", "parts in this order that do not overlap");
  }
  const PackedSpec& gate = layout.gate.spec;
  const PackedSpec& up = layout.up.spec;
  const PackedSpec& down = layout.down.spec;
  if (up.out_features != gate.out_features || up.in_features != gate.in_features ||
      down.out_features != gate.in_features || down.in_features != gate.out_features) {
    record.Fail("parts", "gate and up [intermediate, hidden], down [hidden, intermediate]");
  }
  return layout;
}

std::vector<SidecarLayer> ReadLayers(const ConfigReader& root, const ExpertSidecar& sidecar) {
  std::vector<SidecarLayer> layers;
  std::set<std::string> names;
  for (const ConfigReader& entry : root.RequireObjects("moe_layers")) {
    SidecarLayer layer;
    layer.layer = static_cast<int32_t>(entry.RequireInt("layer", 0, sidecar.layers - 1));
    if (!layers.empty() && layer.layer <= layers.back().layer) {
      entry.Fail("layer", "layers in ascending order, each once");
    }
    layer.file = entry.RequireString("file");
    if (!IsPlainFileName(layer.file) || !names.insert(layer.file).second) {
      entry.Fail("file", "a plain file name that no other layer has");
    }
    layer.xxh3_128 = entry.OptionalStringArray("xxh3_128").value_or(std::vector<std::string>());
    if (layer.xxh3_128.size() != static_cast<size_t>(sidecar.experts) ||
        !std::all_of(layer.xxh3_128.begin(), layer.xxh3_128.end(), IsSum)) {
      entry.Fail("xxh3_128", "checksums of 32 hex digits for each of " +
                                 std::to_string(sidecar.experts) + " experts");
    }
    layers.push_back(std::move(layer));
  }
  if (layers.empty()) {
    root.Fail("moe_layers", "at least one layer");
  }
  return layers;
}

void CheckFile(const ExpertSidecar& sidecar, const SidecarLayer& layer) {
  const fs::path path = sidecar.PathOf(layer);
  std::error_code error;
  const uint64_t size = fs::is_regular_file(path, error) ? fs::file_size(path, error) : 0;
  const std::string expected = std::to_string(sidecar.FileBytes()) + " bytes (" +
                               std::to_string(sidecar.experts) + " records of " +
                               std::to_string(sidecar.layout.record_bytes) + ")";
  if (error || !fs::is_regular_file(path, error)) {
    FailCorrupt(path.string() + " is missing or unreadable, expected " + expected);
  }
  if (size != sidecar.FileBytes()) {
    FailCorrupt(path.string() + " has " + std::to_string(size) + " bytes, expected " + expected);
  }
}

}  // namespace

std::optional<ExpertSidecar> ExpertSidecar::Find(const fs::path& checkpoint_dir) {
  const fs::path dir = checkpoint_dir / kDirName;
  std::error_code ignored;
  if (!fs::exists(fs::symlink_status(dir, ignored))) {
    return std::nullopt;
  }
  std::optional<Journal> journal;
  try {
    journal = Journal::Find(checkpoint_dir);
    if (!journal) {
      throw Error(ErrorCode::kNotFound, (checkpoint_dir / Journal::kFileName).string() +
                                            " is missing, but there is " + dir.string());
    }
    if (!journal->complete) {
      FailCorrupt((checkpoint_dir / Journal::kFileName).string() +
                  " says the conversion did not finish");
    }
    const fs::path path = dir / kManifestName;
    ExpertSidecar sidecar = Parse(ReadWholeFile(path, kMaxManifestBytes), path.string());
    sidecar.dir = dir;
    sidecar.cure = journal->Cure(checkpoint_dir);
    if (sidecar.source_fingerprint != journal->source_fingerprint) {
      FailCorrupt(path.string() + " belongs to another conversion: source_fingerprint is " +
                  sidecar.source_fingerprint + ", " +
                  (checkpoint_dir / Journal::kFileName).string() + " has " +
                  journal->source_fingerprint);
    }
    for (const SidecarLayer& layer : sidecar.moe_layers) {
      CheckFile(sidecar, layer);
    }
    return sidecar;
  } catch (const Error& error) {
    const std::string cure =
        journal ? journal->Cure(checkpoint_dir) : Journal::CureWithout(checkpoint_dir);
    throw Error(error.code(), error.what(), error.cure().empty() ? cure : error.cure());
  }
}

ExpertSidecar ExpertSidecar::Parse(const std::string& text, const std::string& file) {
  const ConfigReader root = ConfigReader::Parse(text, file);
  const int64_t version = root.RequireInt("format_version", 1);
  if (version != kFormatVersion) {
    throw Error(ErrorCode::kUnsupported,
                file + ": format_version is " + std::to_string(version) + ", this build reads " +
                    std::to_string(kFormatVersion),
                "update mach, or convert the model again with this version");
  }
  CheckOwnSum(text, root.RequireString("manifest_xxh3_128"), file);
  ExpertSidecar sidecar;
  sidecar.model_type = root.RequireString("model_type");
  sidecar.source_fingerprint = root.RequireString("source_fingerprint");
  sidecar.layers = static_cast<int32_t>(root.RequireInt("layers", 1, kMaxLayers));
  sidecar.experts = static_cast<int32_t>(root.RequireInt("experts", 1, kMaxExperts));
  sidecar.layout = ReadLayout(root.RequireObject("record"));
  sidecar.moe_layers = ReadLayers(root, sidecar);
  return sidecar;
}

std::string ExpertSidecar::ToJson() const {
  Json root;
  root["format_version"] = kFormatVersion;
  root["model_type"] = model_type;
  root["source_fingerprint"] = source_fingerprint;
  root["layers"] = layers;
  root["experts"] = experts;
  root["record"] = {{"size_bytes", layout.record_bytes},
                    {"layout", kLayoutName},
                    {"parts", Json::array({PartJson("gate", layout.gate), PartJson("up", layout.up),
                                           PartJson("down", layout.down)})}};
  root["moe_layers"] = Json::array();
  for (const SidecarLayer& layer : moe_layers) {
    root["moe_layers"].push_back(
        {{"layer", layer.layer}, {"file", layer.file}, {"xxh3_128", layer.xxh3_128}});
  }
  root["manifest_xxh3_128"] = std::string(kSumDigits, '0');
  std::string text = root.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
  const std::string sum = SumOf(text);
  text.replace(text.rfind(kSumField) + kSumField.size(), kSumDigits, sum);
  return text;
}

void ExpertSidecar::Verify(const std::function<void(uint64_t, uint64_t)>& progress) const {
  uint64_t done = 0;
  const auto check = [&](const SidecarLayer& layer, int32_t expert, const std::string& found) {
    const std::string& expected = layer.xxh3_128[static_cast<size_t>(expert)];
    if (found != expected) {
      FailCorrupt(PathOf(layer).string() + ": expert " + std::to_string(expert) + " of layer " +
                  std::to_string(layer.layer) + ", " + std::to_string(layout.record_bytes) +
                  " bytes at offset " + std::to_string(OffsetOf(expert)) + ", has checksum " +
                  found + ", expected " + expected);
    }
    done += layout.record_bytes;
    if (progress) {
      progress(done, TotalBytes());
    }
  };
  try {
    for (const SidecarLayer& layer : moe_layers) {
      CheckFile(*this, layer);
      Hasher128 hasher;
      uint64_t left = layout.record_bytes;  // of the record that the hasher is in
      int32_t expert = 0;
      ScanFile(PathOf(layer), [&](std::span<const std::byte> piece) {
        while (!piece.empty() && expert < experts) {
          const size_t part = std::min<uint64_t>(left, piece.size());
          hasher.Update(piece.first(part));
          piece = piece.subspan(part);
          left -= part;
          if (left == 0) {
            check(layer, expert++, hasher.Hex());
            hasher.Reset();
            left = layout.record_bytes;
          }
        }
      });
    }
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kCancelled) {
      throw;
    }
    throw Error(error.code(), error.what(), error.cure().empty() ? cure : error.cure());
  }
}

}  // namespace mach::formats
