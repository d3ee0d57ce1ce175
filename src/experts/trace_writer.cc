#include "experts/trace_writer.h"

#include <bit>
#include <cerrno>
#include <cstring>
#include <string>

#include "base/error.h"
#include "base/log.h"
#include "base/quietly.h"

namespace mach::experts {

static_assert(std::endian::native == std::endian::little);

TraceWriter::TraceWriter(const std::filesystem::path& path, const CacheShape& shape)
    : file_(std::fopen(path.c_str(), "wbe")) {
  if (file_ == nullptr) {
    throw Error(ErrorCode::kIo, "cannot create " + path.string() + ": " + std::strerror(errno));
  }
  Write(kTraceMagic.data(), kTraceMagic.size());
  Write(&shape.layers, sizeof(shape.layers));
  Write(&shape.experts, sizeof(shape.experts));
}

void TraceWriter::Close::operator()(std::FILE* file) const {
  if (std::fclose(file) != 0) {
    Quietly([] { LogWarning("routing trace is cut short", {{"reason", std::strerror(errno)}}); });
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
