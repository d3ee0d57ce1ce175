#include "formats/pack_expert.h"

#include "base/error.h"

namespace mach::formats {
namespace {

PackedSpec SpecOf(const LinearSource& source) {
  if (source.bias) {
    throw Error(ErrorCode::kUnsupported, source.module + ": experts with a bias are not supported");
  }
  return source.affine ? CheckAffine(*source.affine, source.module)
                       : CheckFloat(*source.weight, source.module);
}

void PackPart(const LinearSource& source, const ExpertPart& part, std::span<std::byte> record,
              ThreadPool& pool) {
  if (SpecOf(source) != part.spec) {
    throw Error(ErrorCode::kUnsupported,
                source.module +
                    " has another shape, type or quantisation than the first expert of the model; "
                    "all experts of a sidecar are alike",
                "convert from the unquantised model with --bits");
  }
  const auto out = record.subspan(part.offset_bytes, part.spec.bytes());
  if (source.affine) {
    PackAffine(*source.affine, source.module, out, pool);
  } else {
    PackFloat(*source.weight, source.module, out, pool);
  }
}

}  // namespace

ExpertLayout LayoutOf(const ExpertMatrices& source) {
  return ExpertLayout::Make(SpecOf(source.gate), SpecOf(source.up), SpecOf(source.down));
}

void PackExpert(const ExpertMatrices& source, const ExpertLayout& layout,
                std::span<std::byte> record, ThreadPool& pool) {
  PackPart(source.gate, layout.gate, record, pool);
  PackPart(source.up, layout.up, record, pool);
  PackPart(source.down, layout.down, record, pool);
}

}  // namespace mach::formats
