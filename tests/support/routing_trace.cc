#include "tests/support/routing_trace.h"

#include <bit>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "experts/trace_writer.h"
#include "platform/file.h"

namespace mach::testing_support {
namespace {

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
  if (!contents.starts_with(experts::kTraceMagic)) {
    throw corrupt(0, "no routing trace");
  }
  constexpr int32_t kMaxLayers = 4096;
  constexpr int32_t kMaxExperts = 65536;
  Cursor cursor(std::string_view(contents).substr(experts::kTraceMagic.size()));
  RoutingTrace trace;
  if (!cursor.Read(trace.shape.layers) || !cursor.Read(trace.shape.experts) ||
      trace.shape.layers < 1 || trace.shape.layers > kMaxLayers || trace.shape.experts < 1 ||
      trace.shape.experts > kMaxExperts) {
    throw corrupt(experts::kTraceMagic.size(), "no sensible shape");
  }
  for (;;) {
    const size_t offset = experts::kTraceMagic.size() + cursor.at();
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

}  // namespace mach::testing_support
