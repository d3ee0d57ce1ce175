#!/usr/bin/env python3
"""Runs a check over the sources of a configured build, on all processors, and remembers what passed.

  tidy   clang-tidy without its slow static analyzer, over build/tidy
  apple  parses for macOS on Arm with Apple's headers and clang's own C++ library, both of which come
         in the Python package ziglang, over build/arm64

What passed is not checked again while its text after preprocessing, its flags, the tool and the rules
are the same. Remembered are empty files, named by a hash of all that, in a folder of the compiler
cache, so that this lasts as long as compiled files do.

usage: check_sources.py tidy|apple
"""
import concurrent.futures
import hashlib
import importlib.util
import json
import os
import pathlib
import shlex
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
KEPT_DAYS = 30
# Foreign headers that are the same on all systems; nothing else of /usr/include may be seen.
FOREIGN = ("boost", "CLI", "fmt", "nlohmann", "spdlog", "pcre2.h", "utf8proc.h", "xxhash.h")


def output_of(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Tidy:
    build = ROOT / "build/tidy"
    # Generated files include sources, which is what that check is about.
    command = ["clang-tidy-14", "-quiet", "-p", str(build),
               "-checks=-clang-analyzer-*,-bugprone-suspicious-include",
               "-extra-arg=-Wno-unknown-warning-option"]

    def __init__(self):
        self.identity = output_of("clang-tidy-14", "--version") + (ROOT / ".clang-tidy").read_text()

    def preprocess(self, flags, file):
        return ["clang++-14", "-Wno-unknown-warning-option", *flags, "-E", "-P", "-C", file]

    def check(self, flags, file):
        return [*self.command, file]


class Apple:
    build = ROOT / "build/arm64"

    def __init__(self):
        zig = pathlib.Path(importlib.util.find_spec("ziglang").origin).parent
        headers = self.build / "foreign-headers"
        headers.mkdir(exist_ok=True)
        for name in FOREIGN:
            link = headers / name
            if not link.is_symlink():
                link.symlink_to(f"/usr/include/{name}")
        defines = ("ABI_NAMESPACE=__1", "ABI_VERSION=1",
                   "HARDENING_MODE=_LIBCPP_HARDENING_MODE_NONE", "HAS_FILESYSTEM=1",
                   "HAS_LOCALIZATION=1", "HAS_MONOTONIC_CLOCK=1", "HAS_MUSL_LIBC=0",
                   "HAS_RANDOM_DEVICE=1", "HAS_THREADS=1", "HAS_UNICODE=1",
                   "HAS_VENDOR_AVAILABILITY_ANNOTATIONS=0", "HAS_WIDE_CHARACTERS=1",
                   "PSTL_BACKEND_SERIAL")
        folders = [zig / "lib" / name for name in (
            "libcxx/include", "libcxxabi/include", "include", "libc/include/any-macos-any")]
        self.clang = [str(zig / "zig"), "clang", "-x", "c++", "-target", "arm64-apple-macos14", "-w",
                      "-nostdinc++", "-nostdlibinc", *(f"-D_LIBCPP_{define}" for define in defines),
                      *(f"-isystem{folder}" for folder in [*folders, headers])]
        self.identity = output_of(str(zig / "zig"), "version")

    def preprocess(self, flags, file):
        return [*self.clang, *flags, "-E", "-P", file]

    def check(self, flags, file):
        return [*self.clang, *flags, "-fsyntax-only", file]


def sources(build):
    """(file, flags) of what the build compiles from src/."""
    for entry in json.loads((build / "compile_commands.json").read_text()):
        flags = shlex.split(entry["command"])[1:]
        output = flags.index("-o")
        del flags[output:output + 2]
        del flags[flags.index("-c"):]
        file = pathlib.Path(entry["file"])
        if file.is_relative_to(ROOT / "src") or file.is_relative_to(build / "src"):
            yield entry["file"], flags


def main():
    tool = {"tidy": Tidy, "apple": Apple}[sys.argv[1]]()
    memory = pathlib.Path(output_of("ccache", "-k", "cache_dir").strip()) / "mach-checks"
    memory.mkdir(parents=True, exist_ok=True)
    for mark in memory.iterdir():
        if time.time() - mark.stat().st_mtime > KEPT_DAYS * 86400:
            mark.unlink(missing_ok=True)

    def check(job):
        file, flags = job
        name = os.path.relpath(file, ROOT)
        text = subprocess.run(tool.preprocess(flags, file), cwd=tool.build, capture_output=True)
        if text.returncode != 0:
            return name, False, text.stderr.decode(errors="replace")
        hashed = hashlib.sha256(text.stdout)
        rules = [tool.identity, *tool.check(flags, name)]
        hashed.update("\0".join(rules).replace(str(ROOT), ".").encode())
        mark = memory / hashed.hexdigest()
        if mark.exists():
            mark.touch()
            return name, True, None
        done = subprocess.run(tool.check(flags, file), cwd=tool.build, capture_output=True, text=True)
        if done.returncode != 0:
            return name, False, done.stdout + done.stderr
        mark.touch()
        return name, True, ""

    remembered = failed = 0
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        jobs = list(sources(tool.build))
        for name, passed, text in pool.map(check, jobs):
            remembered += text is None
            failed += not passed
            if not passed:
                print(f"FAILED {name}\n{text}", flush=True)
    print(f"{len(jobs)} sources, {remembered} of them known to pass, {failed} failed")
    return 1 if failed or not jobs else 0


if __name__ == "__main__":
    sys.exit(main())
