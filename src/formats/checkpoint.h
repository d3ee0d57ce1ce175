// A checkpoint directory, opened for reading: config.json plus safetensors, as Hugging Face, MLX
// and `mach convert` write them. Finds tensors over all shards and resolves which linear layers are
// quantised and how. It knows no architecture: callers name modules and give the shapes they
// expect. Not here: tokenizer and generation settings (text_config.h), GGUF (gguf.h). Owns the
// mapped files; views are valid as long as the object lives. Immutable after Open: any thread may
// read. Source of the quantisation rules: mlx-lm, utils.py load_model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/config.h"
#include "formats/safetensors.h"
#include "tensor/quant.h"
#include "tensor/view.h"

namespace mach::formats {

// Where the weights of one linear layer (or embedding) are: `affine` or `weight`, never both.
struct LinearSource {
  std::string module;  // "model.layers.0.self_attn.q_proj"
  int64_t out_features = 0;
  int64_t in_features = 0;
  std::optional<AffineMatrixView> affine;
  std::optional<TensorView> weight;  // [out, in], F32, F16 or BF16
  std::optional<TensorView> bias;    // [out], F32, F16 or BF16
};

// Done and total bytes of a long operation.
using ByteProgress = std::function<void(uint64_t done_bytes, uint64_t total_bytes)>;

class Checkpoint {
 public:
  // Reads headers only, never weights. Throws kNotFound (no directory, config, shard),
  // kCorruptFile (config fields too), kUnsupported (quantisation method). With mach.json present,
  // the files it lists are checked (Journal::CheckFiles) and an incomplete conversion is refused.
  // An index that does not fit the files beside a model.safetensors is ignored, with a warning in
  // the log; without either, files that are not the model's weights are.
  static std::unique_ptr<Checkpoint> Open(const std::filesystem::path& dir);

  const std::filesystem::path& dir() const { return dir_; }
  // Top-level model_type of config.json.
  const std::string& model_type() const { return model_type_; }
  // The language model's fields: `text_config` where there is one, else the whole file.
  const ConfigReader& config() const { return text_; }
  const ConfigReader& root_config() const { return root_; }

  bool Has(std::string_view name) const { return tensors_.find(name) != tensors_.end(); }
  std::optional<TensorView> FindTensor(std::string_view name) const;
  // Throws kNotFound or kCorruptFile naming tensor, file, expected and found shape.
  TensorView RequireTensor(std::string_view name, const Shape& expected) const;
  // The same, and the elements must be F32, F16 or BF16 (FloatElement reads them).
  TensorView RequireFloat(std::string_view name, const Shape& expected) const;
  std::optional<TensorView> FindFloat(std::string_view name, const Shape& expected) const;

  // The layer P = `module` with P.weight, perhaps P.scales and P.biases, perhaps P.bias. Everything
  // is checked against out/in and the config's quantisation. Throws kNotFound, kCorruptFile or
  // kUnsupported (mode, bits) naming the module.
  LinearSource Linear(std::string_view module, int64_t out_features, int64_t in_features) const;

  // As Linear, for experts stacked in one tensor: P.weight is [experts, out, in] and so on; the
  // result is the slice of `expert`.
  LinearSource ExpertLinear(std::string_view module, int64_t experts, int64_t expert,
                            int64_t out_features, int64_t in_features) const;

  // Whether the output layer shares the embedding's weights. config.json decides; if the field is
  // absent (libraries differ in its default), whether `lm_head`.weight exists.
  bool TiesWordEmbeddings(std::string_view lm_head) const;

  // Throws kUnsupported naming the field if config.json says a quantisation, of any module, that
  // Linear would refuse.
  void RequireReadableQuantisation() const;

  std::vector<std::string> TensorNames() const;  // sorted
  // Whoever has packed or copied a tensor drops what it has read, so that memory does not hold the
  // model twice. `bytes` is (a part of) a view from this checkpoint; it stays valid, reading it
  // again is slower. Throws as RequireIntact. Any thread.
  void Drop(std::span<const std::byte> bytes) const;
  void Drop(const LinearSource& source) const;
  // Throws kIo naming the file if it shrank or its disk failed under a view that was read, which
  // gave zeros then: for who has read and does not drop.
  void RequireIntact() const;

  // Which shard a tensor is in; for messages. Empty if there is no such tensor.
  std::string FileOf(std::string_view name) const;
  const std::vector<std::unique_ptr<SafetensorsFile>>& files() const { return files_; }
  // Whether model.safetensors.index.json said which these are.
  bool has_index() const { return has_index_; }
  uint64_t FileBytes() const;  // of all shards

  // "4-bit affine, group 64", "BF16": for lists and logs.
  std::string QuantisationSummary() const;

  // Reads every file that mach.json lists, the expert sidecar's included, and compares checksums.
  // The names of those that may be edited and were; nothing if there is no mach.json to compare
  // with. Throws kCorruptFile naming the file, and expert and offset where it is a record. Blocks;
  // `progress` may be empty.
  std::optional<std::vector<std::string>> Verify(const ByteProgress& progress) const;

 private:
  struct QuantRule {
    bool quantised = true;
    int64_t bits = 0;
    int64_t group_size = 0;
    std::string mode = "affine";
    std::string field;  // where it was said: "quantization" or "quantization.MODULE"
  };

  Checkpoint() = default;
  void OpenShards();
  void AddFile(const std::filesystem::path& path);
  void OpenByIndex(const std::filesystem::path& index_path);
  void ReadQuantisation();
  QuantRule ReadRule(const ConfigReader& object, const std::string& field) const;
  void RequireReadable(const QuantRule& rule, const std::string& of) const;
  // Null: P is not quantised.
  const QuantRule* RuleFor(std::string_view module) const;
  LinearSource Resolve(std::string_view module, const std::vector<int64_t>& lead,
                       int64_t out_features, int64_t in_features) const;

  std::filesystem::path dir_;
  std::string model_type_;
  ConfigReader root_;
  ConfigReader text_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, const SafetensorsFile*, std::less<>> tensors_;
  bool has_index_ = false;
  std::optional<QuantRule> global_rule_;
  // By module as config.json names it, and the same without the prefix.
  std::map<std::string, QuantRule, std::less<>> overrides_;
  std::map<std::string_view, const QuantRule*> overrides_below_prefix_;
};

}  // namespace mach::formats
