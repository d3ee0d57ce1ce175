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


def sidecar(checkpoint):
    """(layer files, record bytes) of a checkpoint."""
    directory = pathlib.Path(checkpoint) / "expert_sidecar"
    manifest = json.loads((directory / "manifest.json").read_text())
    return sorted(directory.glob("layer_*.bin")), find_record_bytes(manifest)


def find_record_bytes(node):
    if isinstance(node, dict):
        if "record_bytes" in node:
            return node["record_bytes"]
        node = list(node.values())
    for value in node if isinstance(node, list) else []:
        found = find_record_bytes(value)
        if found:
            return found
    return None


def measure(paths, block_bytes, depth, seconds, seed=None):
    """Bytes per second. Threads, each with one read in flight: the interpreter lets go of its lock
    during a read, and a block is large enough for the rest not to matter."""
    files = [os.open(path, os.O_RDONLY | os.O_DIRECT) for path in paths]
    blocks = [os.fstat(fd).st_size // block_bytes for fd in files]
    places = [(fd, block) for fd, count in zip(files, blocks) for block in range(count)]
    random.Random(seed).shuffle(places)
    position = 0
    done = [0] * depth
    lock = threading.Lock()
    deadline = time.perf_counter() + seconds

    def work(worker):
        nonlocal position
        buffer = mmap.mmap(-1, block_bytes)  # aligned to pages, as direct reads want it
        while time.perf_counter() < deadline:
            with lock:
                fd, block = places[position % len(places)]
                position += 1
            done[worker] += os.preadv(fd, [buffer], block * block_bytes)

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
