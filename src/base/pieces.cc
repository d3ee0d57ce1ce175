#include "base/pieces.h"

#include <utility>

namespace mach {
namespace {

// As little as this is copied rather than made a piece of its own.
constexpr uint64_t kShortBytes = 4 << 10;

}  // namespace

Pieces::Pieces(std::string text) {
  if (!text.empty()) {
    pieces_.push_back(std::move(text));
  }
}

std::string& Pieces::Tail() {
  if (empty() || pieces_.back().size() >= kPieceBytes) {
    Seal();
    pieces_.emplace_back();
  }
  return pieces_.back();
}

void Pieces::Append(Pieces&& other) {
  if (other.size_bytes() <= kShortBytes) {
    std::string& tail = Tail();
    for (size_t i = other.first_; i < other.pieces_.size(); ++i) {
      tail += other.pieces_[i];
    }
    other = Pieces();
    return;
  }
  while (!other.empty()) {
    Seal();
    pieces_.push_back(other.TakeFront());
  }
}

uint64_t Pieces::size_bytes() const {
  return empty() ? 0 : before_tail_bytes_ + pieces_.back().size();
}

std::string Pieces::TakeFront() {
  std::string piece = std::move(pieces_[first_]);
  ++first_;
  if (empty()) {
    pieces_.clear();
    first_ = 0;
    before_tail_bytes_ = 0;
  } else {
    before_tail_bytes_ -= piece.size();
  }
  return piece;
}

std::string Pieces::Join() const {
  std::string text;
  text.reserve(size_bytes());
  for (size_t i = first_; i < pieces_.size(); ++i) {
    text += pieces_[i];
  }
  return text;
}

// The last piece grows no more: it gives back what it had reserved for that.
void Pieces::Seal() {
  if (!empty()) {
    pieces_.back().shrink_to_fit();
    before_tail_bytes_ += pieces_.back().size();
  }
}

void Pieces::Swap(Pieces& other) noexcept {
  std::swap(pieces_, other.pieces_);
  std::swap(first_, other.first_);
  std::swap(before_tail_bytes_, other.before_tail_bytes_);
}

}  // namespace mach
