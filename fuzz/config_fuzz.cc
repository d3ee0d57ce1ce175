// Any bytes as config.json: an Error or typed values.
#include <cstdint>
#include <string>

#include "base/error.h"
#include "formats/config.h"
#include "formats/journal.h"

namespace {

void Read(const mach::formats::ConfigReader& config, int depth) {
  for (const std::string& key : config.Keys()) {
    const auto attempt = [](const auto& call) {
      try {
        (void)call();
      } catch (const mach::Error&) {
      }
    };
    attempt([&] { return config.OptionalInt(key, -5, 1000); });
    attempt([&] { return config.OptionalFloat(key, 0, 1); });
    attempt([&] { return config.OptionalBool(key); });
    attempt([&] { return config.OptionalString(key); });
    attempt([&] { return config.OptionalIntOrArray(key); });
    attempt([&] { return config.OptionalFloatArray(key); });
    attempt([&] { return config.OptionalStringArray(key); });
    try {
      if (const auto object = config.OptionalObject(key); object && depth < 8) {
        Read(*object, depth + 1);
      }
    } catch (const mach::Error&) {
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    Read(mach::formats::ConfigReader::Parse(text, "fuzz"), 0);
  } catch (const mach::Error&) {
  }
  try {
    (void)mach::formats::Journal::Parse(text, "fuzz");
  } catch (const mach::Error&) {
  }
  return 0;
}
