// Which files of a checkpoint directory hold its weights, and which of them are not there. Opens
// none of them. Stateless; any thread.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace mach::formats {

inline constexpr const char* kWeightIndexName = "model.safetensors.index.json";
inline constexpr const char* kSingleWeightFile = "model.safetensors";

// Where no index says so. model.safetensors alone where it is; else the numbered shards, else files
// called model*, else all
// *.safetensors but adapters and optimiser states. Sorted. Throws kNotFound if there are none, or
// naming numbered ones that are missing; kIo if the directory cannot be read.
std::vector<std::filesystem::path> FindWeightFiles(const std::filesystem::path& dir);

// Files that the names of the others promise: of model-00002-of-00003.safetensors the first and the
// third. `names` and the result are plain names, sorted.
std::vector<std::string> MissingShards(const std::vector<std::string>& names);

// Files beside an index that it names and that are not there. Sorted. Throws kCorruptFile if it is
// no index.
std::vector<std::string> MissingOfIndex(const std::filesystem::path& index);

// The object "weight_map" of an index: a file's name for each tensor. Throws kCorruptFile, naming
// the tensor, unless each is a plain file name: an index must not lead out of its directory.
std::map<std::string, std::string> ReadWeightMap(const std::filesystem::path& index);

}  // namespace mach::formats
