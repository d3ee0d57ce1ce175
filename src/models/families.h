// The builders of the registered families, one source file each.
#pragma once

#include <memory>

#include "models/loader.h"
#include "models/model.h"

namespace mach::models {

std::unique_ptr<Model> BuildLlama(const LoadContext& context);
std::unique_ptr<Model> BuildQwen2(const LoadContext& context);
std::unique_ptr<Model> BuildQwen3(const LoadContext& context);

}  // namespace mach::models
