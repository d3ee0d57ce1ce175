#include "experts/trace.h"

#include <bit>
#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/log.h"
#include "platform/file.h"

namespace mach::experts {
namespace {

constexpr std::string_view kMagic = "MACHTRC1";
static_assert(std::endian::native == std::endian::little);

class Cursor {
 public:
  explicit Cursor(std::string_view bytes) : bytes_(bytes) {}

  template <typename T>
  bool Read(T& value) {
    if (bytes_.size() - at_ < sizeof(T)) {
      return false;
    }
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return true;
  }
  size_t at() const { return at_; }

 private:
  std::string_view bytes_;
  size_t at_ = 0;
};

}  // namespace

RoutingTrace RoutingTrace::Load(const std::filesystem::path& path) {
  const std::string contents = ReadWholeFile(path, 4ULL << 30);
  const auto corrupt = [&path](size_t offset, const std::string& what) {
    return Error(ErrorCode::kCorruptFile,
                 path.string() + ": " + what + " at offset " + std::to_string(offset));
  };
  if (!contents.starts_with(kMagic)) {
    throw corrupt(0, "no routing trace");
  }
  constexpr int32_t kMaxLayers = 4096;
  constexpr int32_t kMaxExperts = 65536;
  Cursor cursor(std::string_view(contents).substr(kMagic.size()));
  RoutingTrace trace;
  if (!cursor.Read(trace.shape.layers) || !cursor.Read(trace.shape.experts) ||
      trace.shape.layers < 1 || trace.shape.layers > kMaxLayers || trace.shape.experts < 1 ||
      trace.shape.experts > kMaxExperts) {
    throw corrupt(kMagic.size(), "no sensible shape");
  }
  for (;;) {
    const size_t offset = kMagic.size() + cursor.at();
    RoutingEvent event;
    uint16_t layer = 0;
    uint16_t count = 0;
    if (!cursor.Read(event.step) || !cursor.Read(layer) || !cursor.Read(count)) {
      return trace;
    }
    event.layer = layer;
    if (event.layer >= trace.shape.layers || count > trace.shape.experts) {
      throw corrupt(offset, "an event outside of the shape");
    }
    for (int i = 0; i < count; ++i) {
      uint16_t id = 0;
      if (!cursor.Read(id)) {
        return trace;
      }
      if (id >= trace.shape.experts || (!event.ids.empty() && id <= event.ids.back())) {
        throw corrupt(offset, "experts that are not ascending");
      }
      event.ids.push_back(id);
    }
    trace.events.push_back(std::move(event));
  }
}

TraceWriter::TraceWriter(const std::filesystem::path& path, const CacheShape& shape)
    : file_(std::fopen(path.c_str(), "wbe")) {
  if (file_ == nullptr) {
    throw Error(ErrorCode::kIo, "cannot create " + path.string() + ": " + std::strerror(errno));
  }
  Write(kMagic.data(), kMagic.size());
  Write(&shape.layers, sizeof(shape.layers));
  Write(&shape.experts, sizeof(shape.experts));
}

void TraceWriter::Close::operator()(std::FILE* file) const {
  if (std::fclose(file) != 0) {
    LogWarning("routing trace is cut short", {{"reason", std::strerror(errno)}});
  }
}

void TraceWriter::Append(int32_t layer, std::span<const int32_t> ids) {
  step_ += layer <= last_layer_ ? 1 : 0;
  last_layer_ = layer;
  const auto layer16 = static_cast<uint16_t>(layer);
  const auto count16 = static_cast<uint16_t>(ids.size());
  Write(&step_, sizeof(step_));
  Write(&layer16, sizeof(layer16));
  Write(&count16, sizeof(count16));
  for (const int32_t id : ids) {
    const auto id16 = static_cast<uint16_t>(id);
    Write(&id16, sizeof(id16));
  }
}

void TraceWriter::Write(const void* bytes, size_t size) {
  if (file_ != nullptr && std::fwrite(bytes, 1, size, file_.get()) != size) {
    LogWarning("routing trace ended", {{"reason", std::strerror(errno)}});
    file_.reset();
  }
}

}  // namespace mach::experts
