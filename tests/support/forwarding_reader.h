// A DirectReader that does what another one does: the base of those that differ in something.
#pragma once

#include <memory>
#include <span>
#include <utility>

#include "platform/direct_reader.h"

namespace mach::testing_support {

class ForwardingReader : public DirectReader {
 public:
  explicit ForwardingReader(std::unique_ptr<DirectReader> reader) : reader_(std::move(reader)) {}

  void Submit(std::span<const ReadRequest> requests) override { reader_->Submit(requests); }
  void Promote(uint64_t tag, ReadPriority priority) override { reader_->Promote(tag, priority); }
  bool Cancel(uint64_t tag) override { return reader_->Cancel(tag); }
  std::span<const ReadResult> Wait() override { return reader_->Wait(); }
  void Interrupt() override { reader_->Interrupt(); }
  const char* engine() const override { return reader_->engine(); }
  bool direct() const override { return reader_->direct(); }

 private:
  const std::unique_ptr<DirectReader> reader_;
};

}  // namespace mach::testing_support
