#include "text/byte_level.h"

#include "text/unicode.h"

namespace mach::text {

namespace {

// Bytes that are printable in Latin-1 stand for themselves, the others for U+0100 and up.
bool StandsForItself(uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr char32_t kEnd = 0x144;

struct Tables {
  std::array<char32_t, 256> chars{};
  std::array<int16_t, kEnd> bytes{};

  Tables() {
    bytes.fill(-1);
    char32_t next = 0x100;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      chars[byte] = StandsForItself(byte) ? byte : next++;
      bytes[chars[byte]] = static_cast<int16_t>(byte);
    }
  }
};

const Tables& GetTables() {
  static const Tables kTables;
  return kTables;
}

}  // namespace

const std::array<char32_t, 256>& ByteLevelChars() {
  return GetTables().chars;
}

int ByteOfByteLevelChar(char32_t code) {
  return code < kEnd ? GetTables().bytes[code] : -1;
}

void AppendByteLevel(std::string_view bytes, std::string* out) {
  const auto& chars = ByteLevelChars();
  for (const char byte : bytes) {
    AppendUtf8(chars[static_cast<uint8_t>(byte)], out);
  }
}

}  // namespace mach::text
