// Makes small GGUF files for tests.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace mach::formats {

class GgufBuilder {
 public:
  GgufBuilder& Str(const std::string& key, const std::string& value) {
    Key(key, 8);
    Text(keys_, value);
    return *this;
  }
  GgufBuilder& U32(const std::string& key, uint32_t value) { return Scalar(key, 4, value); }
  GgufBuilder& F32(const std::string& key, float value) { return Scalar(key, 6, value); }
  GgufBuilder& Bool(const std::string& key, bool value) {
    return Scalar(key, 7, static_cast<uint8_t>(value));
  }
  GgufBuilder& Strs(const std::string& key, const std::vector<std::string>& values) {
    Array(key, 8, values.size());
    for (const std::string& value : values) {
      Text(keys_, value);
    }
    return *this;
  }
  GgufBuilder& F32s(const std::string& key, const std::vector<float>& values) {
    Array(key, 6, values.size());
    for (const float value : values) {
      Put(keys_, value);
    }
    return *this;
  }
  GgufBuilder& I32s(const std::string& key, const std::vector<int32_t>& values) {
    Array(key, 5, values.size());
    for (const int32_t value : values) {
      Put(keys_, value);
    }
    return *this;
  }
  // `dims` innermost first, as the file has them.
  GgufBuilder& Tensor(const std::string& name, uint32_t type, const std::vector<uint64_t>& dims,
                      const std::string& bytes) {
    while (data_.size() % 32 != 0) {
      data_ += '\0';
    }
    Text(infos_, name);
    Put(infos_, static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) {
      Put(infos_, dim);
    }
    Put(infos_, type);
    Put(infos_, static_cast<uint64_t>(data_.size()));
    data_ += bytes;
    ++tensors_;
    return *this;
  }
  std::string Build(uint32_t version = 3) const {
    std::string file = "GGUF";
    Put(file, version);
    Put(file, tensors_);
    Put(file, key_count_);
    file += keys_ + infos_;
    while (file.size() % 32 != 0) {
      file += '\0';
    }
    return file + data_;
  }

  template <typename T>
  static void Put(std::string& to, T value) {
    char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof(T));
    to.append(bytes, sizeof(T));
  }
  static void Text(std::string& to, const std::string& text) {
    Put(to, static_cast<uint64_t>(text.size()));
    to += text;
  }

 private:
  void Key(const std::string& key, uint32_t type) {
    Text(keys_, key);
    Put(keys_, type);
    ++key_count_;
  }
  template <typename T>
  GgufBuilder& Scalar(const std::string& key, uint32_t type, T value) {
    Key(key, type);
    Put(keys_, value);
    return *this;
  }
  void Array(const std::string& key, uint32_t type, size_t count) {
    Key(key, 9);
    Put(keys_, type);
    Put(keys_, static_cast<uint64_t>(count));
  }

  std::string keys_;
  std::string infos_;
  std::string data_;
  uint64_t tensors_ = 0;
  uint64_t key_count_ = 0;
};

}  // namespace mach::formats
