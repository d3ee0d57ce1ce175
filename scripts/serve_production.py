#!/usr/bin/env python3
"""Compatibility alias: replaces itself with `mach serve` and passes all arguments on.

The binary is $MACH_BIN, or the one of this checkout's release build, or `mach` in PATH.
"""
import os
import pathlib
import shutil
import sys


def main():
    built = pathlib.Path(__file__).resolve().parents[1] / "build" / "release" / "bin" / "mach"
    mach = os.environ.get("MACH_BIN") or (str(built) if built.exists() else shutil.which("mach"))
    if not mach:
        sys.exit(f"serve_production.py: no mach binary: set MACH_BIN or build {built} "
                 "(./dev build release)")
    os.execv(mach, [mach, "serve", *sys.argv[1:]])


if __name__ == "__main__":
    main()
