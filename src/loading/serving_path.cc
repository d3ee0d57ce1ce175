#include "loading/serving_path.h"

#include "base/check.h"

namespace mach::loading {

std::string ServingPathName(ServingPath path) {
  switch (path) {
    case ServingPath::kStreaming:
      return "streaming";
    case ServingPath::kResident:
      return "resident";
    case ServingPath::kOpenAi:
      break;
  }
  return "openai";
}

ServingPath PathOf(Residency residency) {
  MACH_CHECK(residency != Residency::kFitting);
  switch (residency) {
    case Residency::kStreaming:
      return ServingPath::kStreaming;
    case Residency::kResident:
      return ServingPath::kResident;
    default:
      return ServingPath::kOpenAi;
  }
}

DecodePath DecodePathOf(ServingPath path) {
  DecodePath decode;
  decode.reason = path == ServingPath::kOpenAi
                      ? "the openai backend decodes without a draft model"
                      : "no draft model: this build decodes with the target";
  return decode;
}

}  // namespace mach::loading
