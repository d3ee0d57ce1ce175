#!/usr/bin/env python3
"""Checks that a module of src/ includes only the modules it may use, and that no file is too long.

The table below is the module table of docs/ARCHITECTURE.md. Exit 1 with one line per violation.
"""
import pathlib
import re
import sys

# A module may include itself and everything in its row, transitively.
DIRECT = {
    "base": [],
    "platform": ["base"],
    "tensor": ["platform"],
    "formats": ["tensor"],
    "convert": ["formats"],
    "kernels": ["tensor"],
    "backend": ["kernels"],
    "experts": ["backend", "formats"],
    "state": ["backend"],
    "models": ["backend", "experts", "state", "formats"],
    "text": ["base"],
    "jinja": ["base"],
    "chat": ["base"],
    "decode": ["models", "state", "text"],
    "grammar": ["chat", "decode"],
    "engine": ["decode"],
    "loading": ["engine", "jinja", "grammar"],
    "api": ["text", "chat"],
    "http": ["platform"],
    "server": ["loading", "api", "http"],
    "app": ["server", "convert"],
}
MAX_LINES = {".cc": 800, ".h": 300}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')


def allowed(module, seen=None):
    seen = seen if seen is not None else set()
    if module not in seen:
        seen.add(module)
        for dep in DIRECT[module]:
            allowed(dep, seen)
    return seen


def main():
    root = pathlib.Path(__file__).resolve().parent.parent / "src"
    problems = []
    for path in sorted(root.rglob("*")):
        if path.suffix not in MAX_LINES:
            continue
        where = path.relative_to(root)
        module = where.parts[0]
        if module not in DIRECT:
            problems.append(f"src/{where}: folder {module} is not in the module table")
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        if len(lines) > MAX_LINES[path.suffix]:
            problems.append(f"src/{where}: {len(lines)} lines, more than {MAX_LINES[path.suffix]}")
        for number, line in enumerate(lines, 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            target = match.group(1).split("/")[0]
            if "/" not in match.group(1) or target not in DIRECT:
                problems.append(f"src/{where}:{number}: include by module path, not {match.group(1)}")
            elif target not in allowed(module):
                problems.append(f"src/{where}:{number}: {module} may not include {target}")
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
