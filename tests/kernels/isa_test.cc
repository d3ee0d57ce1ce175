// The tests of this folder run what SupportedIsas() lists. Here: that this is all that the machine
// should have, or a detection that fails would look like success.
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "platform/cpu.h"

namespace mach::kernels {
namespace {

// MACH_EXPECT_ISAS: names as IsaName has them, separated by commas; tests/suites/30-unit.sh sets it
// from what the operating system says.
TEST(InstructionSets, AreAllThatTheMachineShouldHave) {
  const char* expected = std::getenv("MACH_EXPECT_ISAS");
  if (expected == nullptr) {
    GTEST_SKIP() << "MACH_EXPECT_ISAS is not set";
  }
  std::vector<std::string> found;
  for (const Isa isa : SupportedIsas()) {
    found.emplace_back(IsaName(isa));
  }
  std::istringstream names(expected);
  for (std::string name; std::getline(names, name, ',');) {
    EXPECT_THAT(found, testing::Contains(name));
  }
}

}  // namespace
}  // namespace mach::kernels
