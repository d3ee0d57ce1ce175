#!/usr/bin/env python3
"""Lists GoogleTest cases that assert nothing, neither themselves nor through a function of tests/.

Such a test can only fail by a crash or under a sanitizer, and says nothing of what it was meant to
show. Reads text, not C++: a helper is a function whose name begins with a capital, and code is as
clang-format leaves it. Exit 1 with one line for each.
"""
import pathlib
import re
import sys

ASSERTION = re.compile(r"\b(EXPECT|ASSERT)_\w+\(|\bADD_FAILURE\(|\bFAIL\(")
CASE = re.compile(r"^TEST(?:_F|_P)?\((\w+),\s*(\w+)\)", re.M)
FUNCTION = re.compile(r"\b([A-Z]\w+)\s*\([^;{}]*\)\s*(?:const\s*)?(?:override\s*)?\{")
CALL = re.compile(r"\b([A-Z]\w+)\s*[(<]")


def body(text, match):
    """What follows `match` up to the brace that closes it: formatted code has that at the end of the
    same line, or at the beginning of one that is as far in as the line where `match` begins."""
    rest = text[match.end():text.index("\n", match.end())]
    if rest.endswith("}"):
        return rest
    line = text.rfind("\n", 0, match.start()) + 1
    indent = re.match(" *", text[line:])[0]
    end = text.find(f"\n{indent}}}", match.end())
    return text[match.end():end if end >= 0 else len(text)]


def helpers(texts):
    """Names of functions that assert, or call one that does."""
    functions = {}
    for text in texts.values():
        for match in FUNCTION.finditer(text):
            if not match[1].startswith("TEST"):
                functions.setdefault(match[1], []).append(body(text, match))
    asserting = {name for name, bodies in functions.items()
                 if any(ASSERTION.search(text) for text in bodies)}
    while True:
        more = {name for name, bodies in functions.items()
                if any(asserting & set(CALL.findall(text)) for text in bodies)} - asserting
        if not more:
            return asserting
        asserting |= more


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    texts = {path: path.read_text(encoding="utf-8")
             for path in sorted((root / "tests").rglob("*")) if path.suffix in (".cc", ".h")}
    bare = []
    for path, text in texts.items():
        asserting = helpers({other: code for other, code in texts.items()
                             if other == path or other.suffix == ".h"})
        for match in CASE.finditer(text):
            case = body(text, match)
            if not ASSERTION.search(case) and not asserting & set(CALL.findall(case)):
                bare.append(f"{path.relative_to(root)}: {match[1]}.{match[2]} asserts nothing")
    for line in bare:
        print(line)
    return 1 if bare else 0


if __name__ == "__main__":
    sys.exit(main())
