#include "base/pieces.h"

#include <random>
#include <string>
#include <utility>

#include <gtest/gtest.h>

namespace mach {
namespace {

TEST(Pieces, AreTheTextThatWasAppended) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 20; ++round) {
    Pieces pieces;
    std::string text;
    std::string taken;
    for (int step = 0; step < 60; ++step) {
      const std::string more(random() % (random() % 4 == 0 ? 300'000 : 300),
                             static_cast<char>('a' + step % 26));
      switch (random() % 4) {
        case 0: {
          Pieces other;
          for (int i = 0; i < 3; ++i) {
            other.Append(more);
            text += more;
          }
          pieces.Append(std::move(other));
          break;
        }
        case 1:
          if (!pieces.empty()) {
            taken += pieces.TakeFront();
          }
          break;
        default:
          pieces.Append(more);
          text += more;
      }
      ASSERT_EQ(pieces.size_bytes(), text.size() - taken.size());
    }
    EXPECT_EQ(taken + pieces.Join(), text);
  }
}

TEST(Pieces, GrowWithoutReservingMuchMore) {
  Pieces pieces;
  constexpr size_t kSteps = 10'000;
  const std::string step(100, 'x');
  for (size_t i = 0; i < kSteps; ++i) {
    pieces.Append(step);
  }
  ASSERT_EQ(pieces.size_bytes(), kSteps * step.size());
  while (!pieces.empty()) {
    const std::string piece = pieces.TakeFront();
    if (!pieces.empty()) {
      EXPECT_GE(piece.size(), Pieces::kPieceBytes);
      EXPECT_LT(piece.capacity(), piece.size() + step.size());
    }
  }
}

TEST(Pieces, MovingEmptiesThem) {
  Pieces from(std::string("abc"));
  Pieces to = std::move(from);
  EXPECT_TRUE(from.empty());  // NOLINT(bugprone-use-after-move): that is what is tested
  EXPECT_EQ(to.Join(), "abc");
  EXPECT_TRUE(Pieces(std::string()).empty());
}

}  // namespace
}  // namespace mach
