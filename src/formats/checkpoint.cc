#include "formats/checkpoint.h"

#include <algorithm>
#include <set>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "formats/expert_sidecar.h"
#include "formats/journal.h"
#include "formats/json.h"
#include "formats/module_names.h"
#include "formats/weight_files.h"

namespace mach::formats {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

bool IsReadableFloat(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

Shape Stacked(const std::vector<int64_t>& lead, std::initializer_list<int64_t> tail) {
  std::vector<int64_t> dims = lead;
  dims.insert(dims.end(), tail);
  return Shape(std::move(dims));
}

// Row `index` of the outermost dimension.
TensorView Slice(const TensorView& tensor, int64_t index) {
  std::vector<int64_t> dims(tensor.shape.dims().begin() + 1, tensor.shape.dims().end());
  TensorView slice{tensor.dtype, Shape(std::move(dims)), {}};
  const auto bytes = static_cast<size_t>(slice.shape.Elements()) * DTypeBytes(tensor.dtype);
  slice.bytes = tensor.bytes.subspan(static_cast<size_t>(index) * bytes, bytes);
  return slice;
}

}  // namespace

std::unique_ptr<Checkpoint> Checkpoint::Open(const fs::path& dir) {
  std::error_code ignored;
  if (!fs::is_directory(dir, ignored)) {
    throw Error(
        ErrorCode::kNotFound, dir.string() + " is not a directory",
        "give the directory that holds config.json; convert a .gguf file with `mach convert`");
  }
  if (!fs::exists(dir / "config.json", ignored)) {
    throw Error(ErrorCode::kNotFound, dir.string() + " holds no config.json",
                "is this a model directory, and was it downloaded completely?");
  }
  std::unique_ptr<Checkpoint> checkpoint(new Checkpoint());
  checkpoint->dir_ = dir;
  if (const auto journal = Journal::Find(dir)) {
    journal->CheckFiles(dir);
  }
  checkpoint->root_ = ConfigReader::Load(dir / "config.json");
  checkpoint->text_ = checkpoint->root_.OptionalObject("text_config").value_or(checkpoint->root_);
  checkpoint->model_type_ = checkpoint->root_.RequireString("model_type");
  checkpoint->ReadQuantisation();
  checkpoint->OpenShards();
  return checkpoint;
}

void Checkpoint::OpenShards() {
  const fs::path index = dir_ / kWeightIndexName;
  const fs::path single = dir_ / kSingleWeightFile;
  std::error_code ignored;
  if (fs::exists(index, ignored)) {
    try {
      OpenByIndex(index);
      has_index_ = true;
      return;
    } catch (const Error& error) {
      if (!fs::exists(single, ignored)) {
        throw;
      }
      // Left behind by whoever joined the shards. transformers looks at the single file first too.
      LogWarning("an index of weights that does not fit is ignored",
                 {{"file", index.string()}, {"reason", error.what()}, {"read", single.string()}});
      tensors_.clear();
      files_.clear();
    }
  }
  for (const fs::path& file : FindWeightFiles(dir_)) {
    AddFile(file);
  }
}

void Checkpoint::AddFile(const fs::path& path) {
  files_.push_back(SafetensorsFile::Open(path));
  const SafetensorsFile* file = files_.back().get();
  for (const std::string& name : file->names()) {
    const auto [it, inserted] = tensors_.emplace(name, file);
    if (!inserted) {
      throw Error(ErrorCode::kCorruptFile,
                  "tensor " + name + " is in both " + it->second->path() + " and " + file->path());
    }
  }
}

void Checkpoint::OpenByIndex(const fs::path& index_path) {
  const std::string where = index_path.string();
  std::map<std::string, const SafetensorsFile*> opened;
  for (const auto& [tensor, name] : ReadWeightMap(index_path)) {
    auto it = opened.find(name);
    if (it == opened.end()) {
      std::error_code ignored;
      if (!fs::exists(dir_ / name, ignored)) {
        throw Error(ErrorCode::kNotFound,
                    "shard " + (dir_ / name).string() + " is missing; " + where +
                        " says it holds tensor " + tensor,
                    "the download is incomplete; fetch the model again");
      }
      AddFile(dir_ / name);
      it = opened.emplace(name, files_.back().get()).first;
    }
    if (!it->second->Has(tensor)) {
      throw Error(ErrorCode::kCorruptFile,
                  where + ": tensor " + tensor + " should be in " + name + ", but is not there");
    }
  }
}

void Checkpoint::ReadQuantisation() {
  for (const ConfigReader* config : {&root_, &text_}) {
    auto object = config->OptionalObject("quantization");
    std::string field = "quantization";
    if (!object) {
      object = config->OptionalObject("quantization_config");
      field = "quantization_config";
      if (object) {
        if (const auto method = object->OptionalString("quant_method")) {
          throw Error(ErrorCode::kUnsupported,
                      object->Where("quant_method") + " is \"" + *method +
                          "\": weights of this method cannot be read",
                      "use an unquantised or an MLX version of the model");
        }
      }
    }
    if (!object) {
      continue;
    }
    global_rule_ = ReadRule(*object, field);
    for (const std::string& key : object->Keys()) {
      const json& value = object->Node().at(key);
      if (value.is_object()) {
        overrides_.emplace(key, ReadRule(object->RequireObject(key), field + "." + key));
      } else if (value.is_boolean() && key.find('.') != std::string::npos) {
        QuantRule rule = *global_rule_;
        rule.quantised = value.get<bool>();
        rule.field = field + "." + key;
        overrides_.emplace(key, rule);
      }
    }
    for (const auto& [key, rule] : overrides_) {
      overrides_below_prefix_.emplace(BelowPrefix(key), &rule);
    }
    return;
  }
}

Checkpoint::QuantRule Checkpoint::ReadRule(const ConfigReader& object,
                                           const std::string& field) const {
  QuantRule rule;
  rule.field = field;
  rule.mode = object.OptionalString("mode").value_or("affine");
  // MLX's own defaults where an entry leaves them out.
  rule.group_size = object.IntOr("group_size", rule.mode == "affine" ? 64 : 32, 1, 1 << 20);
  rule.bits = object.IntOr("bits", 4, 1, 32);
  return rule;
}

const Checkpoint::QuantRule* Checkpoint::RuleFor(std::string_view module) const {
  const std::string scales = std::string(module) + ".scales";
  const QuantRule* own = nullptr;
  if (const auto exact = overrides_.find(module); exact != overrides_.end()) {
    own = &exact->second;
  } else if (const auto below = overrides_below_prefix_.find(BelowPrefix(module));
             below != overrides_below_prefix_.end()) {
    own = below->second;
  }
  if (own != nullptr) {
    if (own->quantised && !Has(scales)) {
      throw Error(ErrorCode::kCorruptFile, root_.file() + ": " + own->field +
                                               " says this layer is quantised, but there is no "
                                               "tensor " +
                                               scales);
    }
    return own->quantised ? own : nullptr;
  }
  if (!Has(scales)) {
    return nullptr;
  }
  if (!global_rule_) {
    throw Error(ErrorCode::kCorruptFile, "tensor " + scales + " in " + FileOf(scales) +
                                             " belongs to a quantised layer, but " + root_.file() +
                                             " has no field quantization");
  }
  return &*global_rule_;
}

std::optional<TensorView> Checkpoint::FindTensor(std::string_view name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? std::nullopt : it->second->Find(name);
}

TensorView Checkpoint::RequireTensor(std::string_view name, const Shape& expected) const {
  const auto tensor = FindTensor(name);
  if (!tensor) {
    throw Error(ErrorCode::kNotFound, "tensor " + std::string(name) + " is missing in " +
                                          dir_.string() + "; a " + model_type_ +
                                          " model needs it with shape " + expected.ToString());
  }
  if (tensor->shape != expected) {
    throw Error(ErrorCode::kCorruptFile, FileOf(name) + ": tensor " + std::string(name) +
                                             " has shape " + tensor->shape.ToString() + ", but " +
                                             root_.file() + " implies " + expected.ToString());
  }
  return *tensor;
}

TensorView Checkpoint::RequireFloat(std::string_view name, const Shape& expected) const {
  TensorView tensor = RequireTensor(name, expected);
  if (!IsReadableFloat(tensor.dtype)) {
    throw Error(IsFloat(tensor.dtype) ? ErrorCode::kUnsupported : ErrorCode::kCorruptFile,
                FileOf(name) + ": tensor " + std::string(name) + " is " +
                    std::string(DTypeName(tensor.dtype)) + ", expected F32, F16 or BF16",
                IsFloat(tensor.dtype) ? "use a version of the model in BF16" : "");
  }
  return tensor;
}

std::optional<TensorView> Checkpoint::FindFloat(std::string_view name,
                                                const Shape& expected) const {
  return Has(name) ? std::optional(RequireFloat(name, expected)) : std::nullopt;
}

void Checkpoint::RequireReadable(const QuantRule& rule, const std::string& of) const {
  const std::string where = root_.file() + ": " + rule.field;
  if (rule.mode != "affine") {
    throw Error(ErrorCode::kUnsupported,
                where + " says mode \"" + rule.mode + "\"" + of +
                    "; only affine quantisation is implemented",
                "use an affine 4-bit or 8-bit version of the model");
  }
  if (!IsSupported({static_cast<int>(rule.bits), static_cast<int>(rule.group_size)})) {
    throw Error(ErrorCode::kUnsupported,
                where + " says " + std::to_string(rule.bits) + " bits in groups of " +
                    std::to_string(rule.group_size) + of +
                    "; supported are 2, 3, 4, 5, 6, 8 bits in groups of 32, 64, 128",
                "use an affine 4-bit or 8-bit version of the model");
  }
}

void Checkpoint::RequireReadableQuantisation() const {
  if (global_rule_) {
    RequireReadable(*global_rule_, "");
  }
  for (const auto& [module, rule] : overrides_) {
    if (rule.quantised) {
      RequireReadable(rule, "");
    }
  }
}

LinearSource Checkpoint::Resolve(std::string_view module, const std::vector<int64_t>& lead,
                                 int64_t out_features, int64_t in_features) const {
  LinearSource source;
  source.module = module;
  source.out_features = out_features;
  source.in_features = in_features;
  const std::string prefix = source.module + ".";
  source.bias = FindFloat(prefix + "bias", Stacked(lead, {out_features}));
  const QuantRule* rule = RuleFor(module);
  if (rule == nullptr) {
    source.weight = RequireFloat(prefix + "weight", Stacked(lead, {out_features, in_features}));
    return source;
  }
  const std::string where = root_.file() + ": " + rule->field;
  RequireReadable(*rule, " for " + source.module);
  AffineMatrixView affine;
  affine.scheme = {static_cast<int>(rule->bits), static_cast<int>(rule->group_size)};
  if (in_features % rule->group_size != 0) {
    throw Error(ErrorCode::kCorruptFile,
                where + " says groups of " + std::to_string(rule->group_size) + " for " +
                    source.module + ", but its " + std::to_string(in_features) +
                    " inputs are not a multiple of that");
  }
  const int64_t words = in_features * rule->bits / 32;
  const int64_t groups = in_features / rule->group_size;
  affine.out_features = out_features;
  affine.in_features = in_features;
  try {
    affine.codes = RequireTensor(prefix + "weight", Stacked(lead, {out_features, words}));
    affine.scales = RequireFloat(prefix + "scales", Stacked(lead, {out_features, groups}));
    affine.biases = RequireFloat(prefix + "biases", Stacked(lead, {out_features, groups}));
  } catch (const Error& error) {
    throw Error(error.code(),
                std::string(error.what()) + " (" + rule->field + ": " + std::to_string(rule->bits) +
                    " bits, groups of " + std::to_string(rule->group_size) + "; layer of " +
                    std::to_string(out_features) + " outputs, " + std::to_string(in_features) +
                    " inputs)",
                error.cure());
  }
  if (affine.codes.dtype != DType::kU32) {
    throw Error(ErrorCode::kCorruptFile, FileOf(prefix + "weight") + ": tensor " + prefix +
                                             "weight is " +
                                             std::string(DTypeName(affine.codes.dtype)) +
                                             ", expected U32 (" + rule->field + ")");
  }
  if (affine.scales.dtype != affine.biases.dtype) {
    throw Error(ErrorCode::kCorruptFile, FileOf(prefix + "scales") + ": " + prefix + "scales is " +
                                             std::string(DTypeName(affine.scales.dtype)) +
                                             ", but " + prefix + "biases is " +
                                             std::string(DTypeName(affine.biases.dtype)));
  }
  source.affine = affine;
  return source;
}

LinearSource Checkpoint::Linear(std::string_view module, int64_t out_features,
                                int64_t in_features) const {
  return Resolve(module, {}, out_features, in_features);
}

LinearSource Checkpoint::ExpertLinear(std::string_view module, int64_t experts, int64_t expert,
                                      int64_t out_features, int64_t in_features) const {
  if (expert < 0 || expert >= experts) {
    throw Error(ErrorCode::kInvalidArgument, std::string(module) + ": expert " +
                                                 std::to_string(expert) + " of " +
                                                 std::to_string(experts));
  }
  LinearSource source = Resolve(module, {experts}, out_features, in_features);
  if (source.affine) {
    source.affine->codes = Slice(source.affine->codes, expert);
    source.affine->scales = Slice(source.affine->scales, expert);
    source.affine->biases = Slice(source.affine->biases, expert);
  }
  if (source.weight) {
    source.weight = Slice(*source.weight, expert);
  }
  if (source.bias) {
    source.bias = Slice(*source.bias, expert);
  }
  return source;
}

void Checkpoint::Drop(std::span<const std::byte> bytes) const {
  for (const auto& file : files_) {
    if (file->Contains(bytes)) {
      file->Drop(bytes);
      return;
    }
  }
}

void Checkpoint::Drop(const LinearSource& source) const {
  for (const auto& tensor : {source.weight, source.bias}) {
    if (tensor) {
      Drop(tensor->bytes);
    }
  }
  if (source.affine) {
    Drop(source.affine->codes.bytes);
    Drop(source.affine->scales.bytes);
    Drop(source.affine->biases.bytes);
  }
}

void Checkpoint::RequireIntact() const {
  for (const auto& file : files_) {
    file->RequireIntact();
  }
}

bool Checkpoint::TiesWordEmbeddings(std::string_view lm_head) const {
  for (const ConfigReader* config : {&text_, &root_}) {
    if (const auto tied = config->OptionalBool("tie_word_embeddings")) {
      return *tied;
    }
  }
  return !Has(std::string(lm_head) + ".weight");
}

std::vector<std::string> Checkpoint::TensorNames() const {
  std::vector<std::string> names;
  names.reserve(tensors_.size());
  for (const auto& [name, file] : tensors_) {
    names.push_back(name);
  }
  return names;
}

std::string Checkpoint::FileOf(std::string_view name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? "" : it->second->path();
}

uint64_t Checkpoint::FileBytes() const {
  uint64_t bytes = 0;
  for (const auto& file : files_) {
    bytes += file->size_bytes();
  }
  return bytes;
}

std::string Checkpoint::QuantisationSummary() const {
  if (global_rule_) {
    return std::to_string(global_rule_->bits) + "-bit " + global_rule_->mode + ", group " +
           std::to_string(global_rule_->group_size);
  }
  // The type most bytes are in.
  std::map<std::string, uint64_t> bytes_by_type;
  for (const auto& [name, file] : tensors_) {
    if (const auto tensor = file->FindReadable(name)) {
      bytes_by_type[std::string(DTypeName(tensor->dtype))] += tensor->bytes.size();
    }
  }
  const auto most =
      std::max_element(bytes_by_type.begin(), bytes_by_type.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == bytes_by_type.end() ? "" : most->first;
}

std::optional<std::vector<std::string>> Checkpoint::Verify(const ByteProgress& progress) const {
  const auto journal = Journal::Find(dir_);
  if (!journal) {
    return std::nullopt;
  }
  journal->CheckFiles(dir_);
  const auto sidecar = ExpertSidecar::Find(dir_);
  // Records have checksums of their own, which name the expert: their files are read once.
  std::set<std::string> of_records;
  if (sidecar) {
    for (const SidecarLayer& layer : sidecar->moe_layers) {
      of_records.insert(std::string(ExpertSidecar::kDirName) + "/" + layer.file);
    }
  }
  uint64_t total = sidecar ? sidecar->TotalBytes() : 0;
  for (const JournalFile& file : journal->files) {
    if (IsEditable(file.name)) {
      std::error_code ignored;
      total += fs::file_size(dir_ / file.name, ignored);
    } else if (of_records.count(file.name) == 0) {
      total += file.size_bytes;
    }
  }
  uint64_t done = 0;
  const auto advance = [&](uint64_t bytes) {
    done += bytes;
    if (progress) {
      progress(done, total);
    }
  };
  std::vector<std::string> edited;
  for (const JournalFile& file : journal->files) {
    if (of_records.count(file.name) != 0) {
      continue;
    }
    const std::string found = FileChecksum(
        dir_ / file.name, [&advance](std::span<const std::byte> piece) { advance(piece.size()); });
    if (found == file.xxh3_128) {
      continue;
    }
    if (!IsEditable(file.name)) {
      throw Error(ErrorCode::kCorruptFile,
                  (dir_ / file.name).string() + ": checksum is " + found + ", " +
                      (dir_ / Journal::kFileName).string() + " says " + file.xxh3_128,
                  journal->Cure(dir_));
    }
    edited.push_back(file.name);
  }
  if (sidecar) {
    uint64_t before = 0;
    sidecar->Verify([&](uint64_t records_done, uint64_t) {
      advance(records_done - before);
      before = records_done;
    });
  }
  return edited;
}

}  // namespace mach::formats
