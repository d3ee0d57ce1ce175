#include "app/nearest_name.h"

#include <algorithm>
#include <numeric>

namespace mach::app {
namespace {

size_t EditDistance(std::string_view a, std::string_view b) {  // Levenshtein, one row at a time
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string NearestName(std::string_view typed, const std::vector<std::string>& known) {
  std::string best;
  size_t best_distance = 0;
  for (const std::string& name : known) {
    const size_t distance = EditDistance(typed, name);
    if (distance <= name.size() / 3 && (best.empty() || distance < best_distance)) {
      best = name;
      best_distance = distance;
    }
  }
  return best;
}

}  // namespace mach::app
