#include "kernels/kernels.h"

#include <algorithm>
#include <array>

#include "kernels/linear.h"
#include "kernels/vector.h"

namespace mach::kernels {
namespace {

constexpr std::array kIsas = {Isa::kScalar, Isa::kAvx2, Isa::kAvx512Vnni, Isa::kAmxInt8,
                              Isa::kNeonDot};

std::array<KernelTable, kIsas.size()> BuildTables() {
  std::array<KernelTable, kIsas.size()> tables = {};
  for (const Isa isa : kIsas) {
    KernelTable& table = tables[static_cast<size_t>(isa)];
    table.isa = isa;
    FillLinearEntries(isa, table);
    FillVectorEntries(isa, table);
  }
  return tables;
}

}  // namespace

const KernelTable& Kernels(Isa isa) {
  static const std::array<KernelTable, kIsas.size()> kTables = BuildTables();
  return kTables[static_cast<size_t>(isa)];
}

}  // namespace mach::kernels
