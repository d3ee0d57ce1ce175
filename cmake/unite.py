#!/usr/bin/env python3
"""Writes files that each include several sources of a target, for cmake/MachModule.cmake, so that
headers are read and templates instantiated once for all of them.

What a source keeps to itself (an unnamed namespace, a macro) would be seen by those after it, so a
source that uses such a name in any sense goes into another file: nobody has to think of this when
naming things. Names are found by layout, not by parsing: clang-format writes what stands in a
namespace at the first column.

The files hold paths relative to the repository, so that the compiler cache finds them again in
another checkout; they are touched only when they change. Prints their paths, `;` between them.

usage: unite.py OUT_PREFIX MAX_SOURCES_EACH SOURCE ...     (sources relative to the repository)
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
MACRO = re.compile(r"#\s*define (\w+)")
# These may be repeated as they are.
ALIAS = re.compile(r"(?:using|namespace|class|struct) (?:[\w:]*::)?(\w+)(?: = .*)?;")
DEFINITION = [re.compile(pattern) for pattern in (
    r"(?:class|struct|union|enum class|enum) (\w+)",
    r"(?!TEST|INSTANTIATE_)(?:\w[^(=]*?[\s*&>])?(\w+)\(",  # a function
    r"\w[^=;{]*?(\w+)(?:\[[^\]]*\])*(?: =|\{|;)",  # a variable
)]


class Source:
    def __init__(self, path):
        text = (ROOT / path).read_text(encoding="utf-8")
        self.path = path
        self.words = set(re.findall(r"\w+", text))
        self.own = {}  # name -> its line where others may repeat it, else None
        unnamed = False
        for line in text.splitlines():
            if line == "namespace {":
                unnamed = True
            elif line == "}  // namespace":
                unnamed = False
            elif match := ALIAS.match(line):
                self.own[match.group(1)] = line
            elif match := MACRO.match(line):
                self.own[match.group(1)] = None
            elif unnamed:
                for pattern in DEFINITION:
                    if match := pattern.match(line):
                        self.own[match.group(1)] = None
                        break

    def sees(self, other):
        """Whether a name that `other` keeps to itself could mean something here."""
        return any(name in self.words and (line is None or line != self.own.get(name))
                   for name, line in other.own.items())


def unite(sources, most):
    """Lists of sources that can be compiled as one, in the order given."""
    units = []
    for source in sources:
        for unit in units:
            if len(unit) < most and not any(source.sees(other) or other.sees(source)
                                            for other in unit):
                unit.append(source)
                break
        else:
            units.append([source])
    return units


def main():
    prefix, most = sys.argv[1], int(sys.argv[2])
    paths = []
    for number, unit in enumerate(unite([Source(path) for path in sys.argv[3:]], most), 1):
        path = pathlib.Path(f"{prefix}_{number}.cc")
        text = "".join(f'#include "{source.path}"\n' for source in unit)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
        paths.append(str(path))
    print(";".join(paths), end="")


if __name__ == "__main__":
    main()
