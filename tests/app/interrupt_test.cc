#include "app/interrupt.h"

#include <csignal>
#include <cstdlib>

#include <gtest/gtest.h>

namespace mach::app {
namespace {

// Each statement runs in a child process.
class InterruptDeathTest : public testing::Test {
 protected:
  InterruptDeathTest() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(InterruptDeathTest, TheFirstIsRemembered) {
  EXPECT_EXIT(
      {
        CatchInterrupts();
        const bool before = Interrupted();
        std::raise(SIGINT);
        std::exit(!before && Interrupted() ? 7 : 1);
      },
      testing::ExitedWithCode(7), "");
}

TEST_F(InterruptDeathTest, TheSecondEndsTheProcess) {
  EXPECT_EXIT(
      {
        CatchInterrupts();
        std::raise(SIGINT);
        std::raise(SIGINT);
        std::exit(0);
      },
      testing::KilledBySignal(SIGINT), "");
}

}  // namespace
}  // namespace mach::app
