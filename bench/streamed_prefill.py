#!/usr/bin/env python3
"""Prefill with experts streamed from disk against the larger of its two floors.

    bench/streamed_prefill.py CHECKPOINT [--mach build/release/bin/mach] [--tokens 2048]
                              [--cache-gb 0.5] [--rounds 5] [--depth 8]

Each round, in turns: direct reads of all records in order (direct_read.py), prefill with all experts
resident, prefill with a small bank. The floor is max(resident seconds, bytes read / bandwidth).
"""
import argparse
import json
import statistics
import subprocess
import sys

import direct_read


def bench(args, *flags):
    command = [args.mach, "bench", args.checkpoint, "--json", "--no-probe", "--repeat", "1",
               "--generate-tokens", "0", "--prompt-tokens", str(args.tokens), "--prefill-chunk",
               str(args.tokens), *map(str, flags)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    result = json.loads(done.stdout)
    return args.tokens / result["prefill_tok_s"]["median"], result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--mach", default="build/release/bin/mach")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--cache-gb", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--depth", type=int, default=8)
    args = parser.parse_args()
    files, record = direct_read.sidecar(args.checkpoint)
    ratios = []
    for _ in range(args.rounds):
        disk = direct_read.measure(files, record, args.depth, 60, in_order=True)
        resident_s, _ = bench(args, "--no-streaming")
        streamed_s, result = bench(args, "--streaming", "--expert-cache-gb", args.cache_gb)
        read_s = result["prefill_experts"]["bytes_read_per_token"] * args.tokens / disk
        ratios.append(streamed_s / max(resident_s, read_s))
        print(f"disk {disk / 1e9:.2f} GB/s, reading {read_s:.2f} s, resident {resident_s:.2f} s, "
              f"streamed {streamed_s:.2f} s, ratio {ratios[-1]:.3f}", flush=True)
    print(f"streamed / larger floor: {statistics.median(ratios):.3f} "
          f"({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
