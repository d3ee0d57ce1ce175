// A text in pieces of bounded size: it grows without what is there being copied, is joined to
// others without being copied, and is given up piece by piece while it is sent. For answers that
// may be hundreds of megabytes long. Not for random access. A value; one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mach {

class Pieces {
 public:
  // A piece that has as much is full; what is appended at once stays in one piece.
  static constexpr size_t kPieceBytes = 128 << 10;

  Pieces() = default;
  explicit Pieces(std::string text);
  Pieces(Pieces&& other) noexcept { Swap(other); }
  Pieces& operator=(Pieces&& other) noexcept {
    Pieces moved(std::move(other));
    Swap(moved);
    return *this;
  }
  Pieces(const Pieces&) = delete;
  Pieces& operator=(const Pieces&) = delete;
  ~Pieces() = default;

  // Where the text ends, to append to; good until the next call of a member.
  std::string& Tail();
  void Append(std::string_view text) { Tail() += text; }
  void Append(Pieces&& other);

  bool empty() const { return first_ == pieces_.size(); }
  uint64_t size_bytes() const;

  // The first piece, which is no longer in here. Not of an empty text.
  std::string TakeFront();
  // The whole text as one string, copied; for short ones.
  std::string Join() const;

 private:
  void Swap(Pieces& other) noexcept;
  void Seal();

  std::vector<std::string> pieces_;  // those before first_ are taken
  size_t first_ = 0;
  uint64_t before_tail_bytes_ = 0;  // of all that is left but the last piece
};

}  // namespace mach
