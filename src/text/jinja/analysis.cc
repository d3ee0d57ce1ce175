#include "text/jinja/analysis.h"

namespace mach::text::jinja {

void Analyze(Template* result) {
  static_cast<void>(result);
}

}  // namespace mach::text::jinja
