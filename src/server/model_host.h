// The served model and how far its loading is. Written once by the loading thread, read by anyone.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "grammar/grammar.h"
#include "loading/served_model.h"
#include "server/request_memory.h"

namespace mach::server {

class ModelHost {
 public:
  // `alias` is a second name under which clients may ask for the model: the checkpoint
  // directory's own. May be empty.
  explicit ModelHost(std::string alias) : alias_(std::move(alias)) {}

  loading::LoadProgress& progress() { return progress_; }
  const loading::LoadProgress& progress() const { return progress_; }

  void SetReady(std::unique_ptr<loading::ServedModel> model);

  // Null while loading. The model lives as long as the host.
  const loading::ServedModel* ready() const { return ready_.load(std::memory_order_acquire); }

  // Of a host that is ready.
  RequestMemory& request_memory() const { return *request_memory_; }

  // What compiles the grammars of requests; made on first use, which takes about a second where the
  // vocabulary is large.
  grammar::Compiler& grammars() const;

  // Whether a request that names `name` means the loaded model. An empty name does, and so does a
  // hub id without its @revision.
  bool Answers(std::string_view name) const;

  // An upper bound of the bytes that one token of the vocabulary stands for; found once, on first
  // use.
  size_t LongestTokenBytes() const;

 private:
  std::string alias_;
  loading::LoadProgress progress_;
  std::unique_ptr<loading::ServedModel> model_;
  std::unique_ptr<RequestMemory> request_memory_;
  std::atomic<const loading::ServedModel*> ready_{nullptr};
  mutable std::atomic<size_t> longest_token_bytes_{0};
  mutable std::once_flag grammars_made_;
  mutable std::unique_ptr<grammar::Compiler> grammars_;
};

}  // namespace mach::server
