// Quoting for the commands that messages tell the user to type. Nothing here runs a command.
#pragma once

#include <string>
#include <string_view>

namespace mach {

// `word` as one word of a POSIX shell: as it is where that is safe, else in single quotes.
std::string ShellWord(std::string_view word);

}  // namespace mach
