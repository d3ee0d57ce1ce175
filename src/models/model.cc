#include "models/model.h"

namespace mach::models {

backend::Tensor Model::Forward(const StepSpec& spec) {
  const std::unique_ptr<StepRun> run = Begin(spec);
  while (run->RunLayer()) {
  }
  return run->Finish();
}

}  // namespace mach::models
