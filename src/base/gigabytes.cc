#include "base/gigabytes.h"

namespace mach {

std::string GigabytesText(uint64_t bytes) {
  uint64_t unit = 1;
  while (bytes / unit >= 1000) {
    unit *= 10;
  }
  return GigabytesExact((bytes + unit - 1) / unit * unit) + " GB";
}

std::string GigabytesExact(uint64_t bytes) {
  constexpr uint64_t kGigabyte = 1'000'000'000;
  std::string decimals = std::to_string(kGigabyte + bytes % kGigabyte).substr(1);
  decimals.erase(decimals.find_last_not_of('0') + 1);
  return std::to_string(bytes / kGigabyte) + (decimals.empty() ? "" : "." + decimals);
}

}  // namespace mach
