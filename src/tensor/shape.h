// Dimensions of a tensor, outermost first.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace mach {

class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : dims_(dims) {}
  explicit Shape(std::vector<int64_t> dims) : dims_(std::move(dims)) {}

  int rank() const { return static_cast<int>(dims_.size()); }
  int64_t operator[](int axis) const { return dims_[static_cast<size_t>(axis)]; }
  const std::vector<int64_t>& dims() const { return dims_; }

  // Product of the dimensions; 1 for a scalar. Overflow is the reader's to rule out: formats/
  // validates every shape it takes from a file against the file's size.
  int64_t Elements() const {
    int64_t count = 1;
    for (const int64_t dim : dims_) {
      count *= dim;
    }
    return count;
  }

  std::string ToString() const {  // "[49152, 576]"
    std::string text = "[";
    for (size_t i = 0; i < dims_.size(); ++i) {
      text += (i == 0 ? "" : ", ") + std::to_string(dims_[i]);
    }
    return text + "]";
  }

  friend bool operator==(const Shape&, const Shape&) = default;

 private:
  std::vector<int64_t> dims_;
};

}  // namespace mach
