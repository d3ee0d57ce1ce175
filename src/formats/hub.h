// Finding checkpoints on this machine: the local Hugging Face cache, and directories. Nothing here
// opens a network connection. Stateless; any thread.
// Source: huggingface_hub, "Understand caching" (layout and environment variables).
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace mach::formats {

// Cache directories in the order they are looked in: HF_HUB_CACHE, HF_HOME/hub,
// XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub; those whose variable is set.
std::vector<std::filesystem::path> HubCacheDirs();

// A path that exists is returned as it is. "owner/name", perhaps "owner/name@revision", is looked
// up in the caches (revision: a branch such as main, the default, or a commit, of which the first
// digits do). Throws kNotFound saying where it looked and what would list or fetch the model, which
// revisions are there if not the one asked for, or what the snapshot lacks if it was downloaded in
// part; kInvalidArgument for an empty reference.
std::filesystem::path ResolveModelPath(const std::string& reference);

struct LocalCheckpoint {
  std::string name;  // hub id, with @revision unless that is main, or the directory's name
  std::filesystem::path path;
  std::string model_type;
  std::string quantisation;    // "4-bit affine, group 64", "BF16"
  uint64_t size_bytes = 0;     // of the weights
  bool has_tokenizer = false;  // without one it cannot be served
  std::string problem;         // why it cannot be opened; the fields above may then be empty
};

// All checkpoints in the caches and in `directories` (each itself a checkpoint, or holding some one
// level down). Sorted by name. Reads headers only. What is wrong with one of them is its `problem`;
// throws kNotFound naming one of `directories` that is none.
std::vector<LocalCheckpoint> ListCheckpoints(std::span<const std::filesystem::path> directories);

}  // namespace mach::formats
