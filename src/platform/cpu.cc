#include "platform/cpu.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <set>
#include <string>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__linux__) && defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "base/error.h"
#include "platform/control_group.h"

namespace mach {
namespace {

#if defined(__x86_64__)
// clang 14's __builtin_cpu_supports does not know "f16c".
bool HasF16c() {
  unsigned a = 1;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  return ((c >> 29) & 1U) != 0;
}

bool HasAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && HasF16c();
}

bool HasAvx512Vnni() {
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}

bool HasAmxInt8() {
#if defined(__linux__)
  if (!HasAvx512Vnni()) {
    return false;
  }
  unsigned a = 7;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  const bool tile = (d >> 24) & 1U;
  const bool int8 = (d >> 25) & 1U;
  if (!tile || !int8) {
    return false;
  }
  // arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA): Linux grants tile state per process.
  constexpr int kRequestPermission = 0x1023;
  constexpr int kTileData = 18;
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
#endif

std::vector<Isa> Detect() {
  std::vector<Isa> found = {Isa::kScalar};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (HasAvx2()) {
    found.push_back(Isa::kAvx2);
  }
  if (HasAvx512Vnni()) {
    found.push_back(Isa::kAvx512Vnni);
  }
  if (HasAmxInt8()) {
    found.push_back(Isa::kAmxInt8);
  }
#elif defined(__aarch64__) && defined(__linux__)
  if ((::getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0) {
    found.push_back(Isa::kNeonDot);
  }
#elif defined(__aarch64__)
  found.push_back(Isa::kNeonDot);  // every Apple Silicon core has it
#endif
  return found;
}

}  // namespace

std::string_view IsaName(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512Vnni:
      return "avx512-vnni";
    case Isa::kAmxInt8:
      return "amx-int8";
    case Isa::kNeonDot:
      return "neon-dotprod";
  }
  return "unknown";
}

const std::vector<Isa>& SupportedIsas() {
  static const std::vector<Isa> kFound = Detect();
  return kFound;
}

Isa BestIsa() {
  const char* wanted = std::getenv("MACH_ISA");
  if (wanted == nullptr || *wanted == '\0') {
    return SupportedIsas().back();
  }
  std::string names;
  for (const Isa isa : SupportedIsas()) {
    if (IsaName(isa) == wanted) {
      return isa;
    }
    names += (names.empty() ? "" : ", ") + std::string(IsaName(isa));
  }
  throw Error(ErrorCode::kInvalidArgument,
              "MACH_ISA=" + std::string(wanted) + " is not supported on this processor",
              "use one of: " + names);
}

namespace {

// In the affinity mask, hyperthreads counted once.
int CoresInMask() {
#if defined(__linux__)
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (::sched_getaffinity(0, sizeof(mask), &mask) == 0) {
    std::set<std::string> cores;
    int logical = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &mask)) {
        continue;
      }
      ++logical;
      std::ifstream siblings("/sys/devices/system/cpu/cpu" + std::to_string(cpu) +
                             "/topology/thread_siblings_list");
      std::string line;
      cores.insert(std::getline(siblings, line) ? line : std::to_string(cpu));
    }
    if (logical > 0) {
      return static_cast<int>(cores.size());
    }
  }
#endif
  const unsigned count = std::thread::hardware_concurrency();
  return count == 0 ? 1 : static_cast<int>(count);
}

}  // namespace

int PhysicalCores() {
  const int cores = CoresInMask();
  const auto quota = ControlGroupProcessors(ControlGroupMembership(), kControlGroupRoot);
  return std::min(cores, quota.value_or(cores));
}

}  // namespace mach
