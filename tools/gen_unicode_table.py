#!/usr/bin/env python3
"""Writes src/text/unicode_table.cc: what Hugging Face `tokenizers` knows about each code point.

The answers are asked of the pinned `tokenizers` itself, because its parts use different Unicode
versions (Oniguruma 16, the `regex` crate, its normalisation tables 9). Usage:
  python3 tools/gen_unicode_table.py > src/text/unicode_table.cc
"""
import sys
import unicodedata

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

CATEGORIES = (
    "Cn Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Cs Co"
).split()
SPACE, WORD, NUMERIC, PUNCTUATION, NEW, COMPOSES, HAN = (1 << bit for bit in range(5, 12))
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]


def removed_by(pre_tokenizer):
    return {c for c in CODE_POINTS if not pre_tokenizer.pre_tokenize_str(chr(c))}


def oniguruma(pattern):
    return removed_by(pre_tokenizers.Split(Regex(pattern), "removed", False))


def word_characters():
    # Whitespace keeps "\w+|[^\w\s]+": a word character joins an "a" before it, others do not.
    split = pre_tokenizers.Whitespace()
    return {c for c in CODE_POINTS if len(split.pre_tokenize_str("a" + chr(c))) == 1 and
            split.pre_tokenize_str("a" + chr(c))[0][0] != "a"}


def isolated_by(pre_tokenizer):
    # Between two letters a delimiter makes three pieces.
    return {c for c in CODE_POINTS if len(pre_tokenizer.pre_tokenize_str("a" + chr(c) + "a")) == 3}


def composing():
    # Code points that canonical composition may touch: not NFC_Quick_Check=Yes, or a combining class.
    result = set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))
    for c in CODE_POINTS:
        char = chr(c)
        if unicodedata.combining(char) or unicodedata.normalize("NFC", char) != char:
            result.add(c)
        parts = unicodedata.decomposition(char).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            result.add(int(parts[1], 16))
    return result


def unknown_to_normalizers():
    # Code points younger than the normalisation tables of `tokenizers`: class 0, no decomposition.
    nfc, nfkd = normalizers.NFC(), normalizers.NFKD()
    result = set()
    for c in CODE_POINTS:
        char = chr(c)
        if unicodedata.category(char) == "Cn":
            result.add(c)
        elif unicodedata.combining(char) or unicodedata.normalize("NFKD", char) != char:
            # U+0334 has class 1 and U+0345 class 240: whatever has a class moves around one of them.
            moves = (nfkd.normalize_str(char + "\u0334") != char + "\u0334" or
                     nfkd.normalize_str("\u0345" + char) != "\u0345" + char)
            if not moves:
                result.add(c)
        parts = unicodedata.decomposition(char).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            pair = "".join(chr(int(part, 16)) for part in parts)
            if unicodedata.normalize("NFC", pair) == char and nfc.normalize_str(pair) != char:
                result.add(int(parts[1], 16))
    return result


def main():
    values = [0] * 0x110000
    for code, category in enumerate(CATEGORIES):
        if category not in ("Cn", "Cs"):
            for c in oniguruma(r"\p{%s}" % category):
                values[c] = code
    for c in range(0xD800, 0xE000):
        values[c] = CATEGORIES.index("Cs")
    inert = unknown_to_normalizers()
    flags = {
        SPACE: oniguruma(r"\s"),
        WORD: word_characters(),
        NUMERIC: isolated_by(pre_tokenizers.Digits(individual_digits=True)),
        PUNCTUATION: isolated_by(pre_tokenizers.Punctuation()),
        NEW: inert,
        COMPOSES: composing() - inert,
        HAN: oniguruma(r"\p{Han}"),
    }
    for flag, members in flags.items():
        for c in members:
            values[c] |= flag
    runs = []
    for value in values:
        if runs and runs[-1][1] == value:
            runs[-1][0] += 1
        else:
            runs.append([1, value])
    print("// Written by tools/gen_unicode_table.py from tokenizers " + tokenizers.__version__ +
          ". Do not edit.")
    print('#include "text/unicode.h"\n\nnamespace mach::text {\n\nnamespace {\n')
    print("// Pairs of run length and value, from U+0000 up; the value's bits are in text/unicode.h.")
    print("// clang-format off\nconstexpr uint32_t kRuns[] = {")
    line = "   "
    for length, value in runs:
        item = f" {length},{value},"
        if len(line) + len(item) > 100:
            print(line)
            line = "   "
        line += item
    print(line)
    print("};\n// clang-format on")
    print("\n}  // namespace\n\nstd::span<const uint32_t> UnicodeRuns() { return kRuns; }")
    print("\n}  // namespace mach::text")
    print({f: len(m) for f, m in flags.items()}, len(runs), file=sys.stderr)


if __name__ == "__main__":
    main()
