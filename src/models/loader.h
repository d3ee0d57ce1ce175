// Builds the model of an open checkpoint: looks its family up, checks names and shapes, and loads
// its weights into a backend. Experts are not loaded here but handed in (experts/). Whoever loads
// calls it, before any step; the model then belongs to the inference thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "backend/backend.h"
#include "formats/checkpoint.h"
#include "models/model.h"
#include "tensor/dtype.h"

namespace mach::models {

struct LoadContext {
  const formats::Checkpoint& checkpoint;
  std::shared_ptr<backend::Backend> backend;
  // Of Mixture-of-Experts models; must outlive the model. Null for dense ones.
  backend::ExpertSource* experts = nullptr;
  DType kv_dtype = DType::kBF16;
  std::function<void(uint64_t)>
      on_bytes;  // called with the bytes of each loaded tensor; may be empty
};

// The shape alone, from config.json and tensor names; reads no weights. Keys and values as the
// default kv_dtype. Throws as BuildModel does.
ModelShape ReadModelShape(const formats::Checkpoint& checkpoint);

// Throws kUnsupported, listing what is registered, if the checkpoint's model_type is not; otherwise
// mach::Error naming the file, tensor or field that is wrong: kIo if a file shrinks meanwhile or
// its disk fails.
std::unique_ptr<Model> BuildModel(const LoadContext& context);

}  // namespace mach::models
