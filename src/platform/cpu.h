// What the processor can do, and which kernel variant to use on it.
#pragma once

#include <string_view>
#include <vector>

namespace mach {

// Kernel variants, each a superset in speed of the one before on its architecture. All give the
// same bits (docs/ARCHITECTURE.md, "One answer").
enum class Isa {
  kScalar,      // portable C++, the reference
  kAvx2,        // AVX2 + FMA + F16C
  kAvx512Vnni,  // AVX-512 F/BW/DQ/VL + VNNI
  kAmxInt8,     // the above plus AMX tiles with int8
  kNeonDot,     // 64-bit Arm with the dot-product extension
};

std::string_view IsaName(Isa isa);  // "scalar", "avx2", "avx512-vnni", "amx-int8", "neon-dotprod"

// Variants that this processor and operating system can run, slowest first; kScalar always is
// one. AMX needs a permission from the Linux kernel, which the first call requests.
const std::vector<Isa>& SupportedIsas();

// The fastest supported one, or the one named by the environment variable MACH_ISA. Throws
// kInvalidArgument if that is not supported here.
Isa BestIsa();

// Physical cores that this process can keep busy: those in its affinity mask, hyperthreads counted
// once, and no more than its control groups give it time for.
int PhysicalCores();

}  // namespace mach
