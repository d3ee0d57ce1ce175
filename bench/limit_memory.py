#!/usr/bin/env python3
"""Runs a command under a memory limit, page cache included, in a control group of its own.

    bench/limit_memory.py --gb 3.76 [--drop-caches] COMMAND [ARG ...]

Needs root, and the memory controller of cgroup v1 or v2. Swap is off for the group, so what does
not fit is re-read or killed, never paged out. The group is removed afterwards, also after an error.
The exit code is the command's; the peak of the group goes to stderr.

As a module: `with MemoryLimit(gigabytes) as limit: limit.run([...])`.
"""
import argparse
import os
import pathlib
import subprocess
import sys
import time

V1_ROOT = pathlib.Path("/sys/fs/cgroup/memory")
V2_ROOT = pathlib.Path("/sys/fs/cgroup")


def drop_caches():
    """Empties the page cache of the machine: the next read of every file comes from the disk."""
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n")


class MemoryLimit:
    """A control group with a limit in GB (1e9 bytes). None: no group, commands run as they are."""

    def __init__(self, gigabytes):
        self.gigabytes = gigabytes
        self.group = None
        self.v1 = (V1_ROOT / "memory.limit_in_bytes").exists()

    def __enter__(self):
        if self.gigabytes is None:
            return self
        root = V1_ROOT if self.v1 else V2_ROOT
        if not self.v1:
            control = root / "cgroup.subtree_control"
            if not control.exists():
                sys.exit(f"no memory control group: neither {V1_ROOT} nor {control} exists")
            if "memory" not in control.read_text().split():
                control.write_text("+memory")
        self.group = root / f"mach-bench-{os.getpid()}"
        self.group.mkdir()
        limit = str(round(self.gigabytes * 1e9))
        try:
            if self.v1:
                self._write("memory.limit_in_bytes", limit)
                self._write("memory.memsw.limit_in_bytes", limit, optional=True)
            else:
                self._write("memory.max", limit)
                self._write("memory.swap.max", "0", optional=True)
        except OSError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.group is None:
            return
        for _ in range(100):  # the kernel frees the last pages a moment after the last process
            try:
                if self.v1:
                    self._write("memory.force_empty", "0", optional=True)
                self.group.rmdir()
                return
            except OSError:
                time.sleep(0.1)
        print(f"could not remove {self.group}", file=sys.stderr)

    def _write(self, name, text, optional=False):
        path = self.group / name
        if optional and not path.exists():
            return
        path.write_text(text + "\n")

    def run(self, command, **options):
        """subprocess.run, inside the group."""
        return subprocess.run([str(part) for part in command], preexec_fn=self._enter, **options)

    def popen(self, command, **options):
        return subprocess.Popen([str(part) for part in command], preexec_fn=self._enter, **options)

    def _enter(self):
        if self.group is not None:
            self._write("cgroup.procs", str(os.getpid()))

    def peak_bytes(self):
        """The most that the group has held, page cache included; None where it is not counted."""
        for name in ("memory.max_usage_in_bytes", "memory.peak"):
            if self.group is not None and (self.group / name).exists():
                return int((self.group / name).read_text())
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gb", type=float, required=True, help="limit in GB (1e9 bytes)")
    parser.add_argument("--drop-caches", action="store_true", help="empty the page cache before")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    if not args.command:
        parser.error("no command given")
    if args.drop_caches:
        drop_caches()
    with MemoryLimit(args.gb) as limit:
        code = limit.run(args.command).returncode
        peak = limit.peak_bytes()
    if peak is not None:
        print(f"[peak of the group: {peak / 1e9:.3f} of {args.gb} GB]", file=sys.stderr)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
