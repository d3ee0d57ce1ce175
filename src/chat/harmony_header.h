// The header of a harmony message: who speaks, on which channel, to whom. A value; for use inside
// chat/ only.
#pragma once

#include <string>
#include <string_view>

namespace mach::chat {

struct HarmonyHeader {
  // What the marker before a stretch of text says of it.
  enum class Part { kRole, kChannel, kOther };

  void Add(Part part, std::string_view stretch);

  // "analysis", "commentary" or "final", with which the channel's text begins; empty = none of
  // them.
  std::string_view KnownChannel() const;
  // The recipient is a tool of the model's maker, which nobody offers.
  bool ForBuiltIn() const;
  // Of a header that was cut off.
  bool MayBecomeOne() const;

  std::string role = "assistant";
  std::string channel;    // text of the last channel
  std::string recipient;  // empty = none
  std::string text;       // everything but markers
  bool has_channel = false;
};

}  // namespace mach::chat
