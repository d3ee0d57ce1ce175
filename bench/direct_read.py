#!/usr/bin/env python3
"""Random direct reads of a file or of all layer files of an expert sidecar: GB/s at a depth.

    bench/direct_read.py PATH [--block-bytes N] [--depth 4] [--seconds 3]

The yardstick for streamed experts: blocks of one record at random multiples of the block size, past
the page cache, `depth` of them in flight. PATH is a file or a checkpoint directory; for a
checkpoint the block is its record. As a module: measure(...).
"""
import argparse
import json
import mmap
import os
import pathlib
import random
import threading
import time

HUGE_PAGE_BYTES = 2 << 20


def sidecar(checkpoint):
    """(layer files, record bytes) of a checkpoint."""
    directory = pathlib.Path(checkpoint) / "expert_sidecar"
    manifest = json.loads((directory / "manifest.json").read_text())
    return sorted(directory.glob("layer_*.bin")), manifest["record"]["size_bytes"]


def measure(paths, block_bytes, depth, seconds, seed=None, in_order=False):
    """Bytes per second. Threads, each with one read in flight: the interpreter lets go of its lock
    during a read, and a block is large enough for the rest not to matter. `in_order`: as prefill
    reads, every block of every file once, ascending; `seconds` is then the most it may take."""
    files = [os.open(path, os.O_RDONLY | os.O_DIRECT) for path in paths]
    blocks = [os.fstat(fd).st_size // block_bytes for fd in files]
    places = [(fd, block) for fd, count in zip(files, blocks) for block in range(count)]
    if not in_order:
        random.Random(seed).shuffle(places)
    position = 0
    done = [0] * depth
    lock = threading.Lock()
    deadline = time.perf_counter() + seconds

    def work(worker):
        nonlocal position
        # Huge pages, as the bank has them: a block is then a few segments, not hundreds. Private,
        # as shared memory has none unless the system is set up for it.
        buffer = mmap.mmap(-1, (2 + block_bytes // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES,
                           flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        buffer.madvise(mmap.MADV_HUGEPAGE)
        target = memoryview(buffer)[:block_bytes]
        while time.perf_counter() < deadline:
            with lock:
                if in_order and position == len(places):
                    return
                fd, block = places[position % len(places)]
                position += 1
            done[worker] += os.preadv(fd, [target], block * block_bytes)

    start = time.perf_counter()
    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(depth)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - start
    for fd in files:
        os.close(fd)
    return sum(done) / elapsed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=pathlib.Path)
    parser.add_argument("--block-bytes", type=int)
    parser.add_argument("--depth", type=int, nargs="*", default=[1, 4, 8, 16])
    parser.add_argument("--seconds", type=float, default=3)
    args = parser.parse_args()
    paths, record = sidecar(args.path) if args.path.is_dir() else ([args.path], None)
    block = args.block_bytes or record
    if not block:
        parser.error("--block-bytes is needed for a plain file")
    for depth in args.depth:
        rate = measure(paths, block, depth, args.seconds)
        print(f"blocks of {block} bytes, {depth:3} in flight: {rate / 1e9:.2f} GB/s")


if __name__ == "__main__":
    main()
