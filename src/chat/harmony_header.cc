#include "chat/harmony_header.h"

#include <algorithm>
#include <array>

namespace mach::chat {
namespace {

constexpr std::array<std::string_view, 3> kChannels = {"analysis", "commentary", "final"};
constexpr std::string_view kWhitespace = " \t\r\n";

std::string_view SkipSpace(std::string_view text) {
  return text.substr(std::min(text.find_first_not_of(kWhitespace), text.size()));
}

std::string_view FirstWord(std::string_view text) {
  return text.substr(0, std::min(text.find_first_of(kWhitespace), text.size()));
}

}  // namespace

void HarmonyHeader::Add(Part part, std::string_view stretch) {
  text += stretch;
  const size_t to = stretch.find("to=");
  if (to != std::string_view::npos) {
    recipient = FirstWord(stretch.substr(to + 3));
    stretch = stretch.substr(0, to);
  }
  if (part == Part::kChannel) {
    has_channel = true;
    channel = stretch;
  } else if (part == Part::kRole) {
    role = FirstWord(SkipSpace(stretch));
  }
}

std::string_view HarmonyHeader::KnownChannel() const {
  for (const std::string_view known : kChannels) {
    if (SkipSpace(channel).starts_with(known)) {
      return known;
    }
  }
  return "";
}

bool HarmonyHeader::ForBuiltIn() const {
  const std::string owner = recipient.substr(0, recipient.find('.'));
  return owner == "assistant" || owner == "browser" || owner == "python" || owner == "container";
}

bool HarmonyHeader::MayBecomeOne() const {
  const std::string_view written = SkipSpace(channel);
  return !has_channel || !recipient.empty() || !KnownChannel().empty() ||
         std::any_of(kChannels.begin(), kChannels.end(),
                     [&](std::string_view known) { return known.starts_with(written); });
}

}  // namespace mach::chat
