// Commands that messages tell the user to type.
#pragma once

#include <string>
#include <string_view>

namespace mach {

// `word` as one word of a POSIX shell: as it is where that is safe, else in single quotes.
std::string ShellWord(std::string_view word);

}  // namespace mach
