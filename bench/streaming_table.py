#!/usr/bin/env python3
"""Decode with experts streamed from disk: speed against bank size and router skew, as a table.

    bench/streaming_table.py CHECKPOINT [CHECKPOINT ...] [--mach build/release/bin/mach]
                             [--cache-gb 1 2 4 8] [--threads 2] [--repeat 5] [--generate 64]
                             [--depth 4] [--flag=--expert-prefetch ...]

One checkpoint for each router skew (`mach synth --router-skew`). Each cell is one `mach bench
--json --streaming --expert-cache-gb N`; its medians are printed. Beside the speed:

  hits, MB/token, stall  what the run itself counted during decode
  of floor               speed over what it were if memory and disk were used without a gap: at the
                         same time, 1 / max(weights / memory bandwidth, bytes read / disk
                         bandwidth), and one after the other, 1 / their sum. The memory bandwidth is
                         what the run's threads reach (mach bench measures it), the disk bandwidth
                         that of random direct reads of one record, `depth` in flight, measured just
                         after (direct_read.py)
  RSS/plan               peak resident memory over what was predicted (as `mach check` prints it)
  routing                distinct experts of a layer, share of the steps that used the most popular
                         one, share of a step's experts that the step before used too
"""
import argparse
import json
import pathlib
import subprocess
import sys

import direct_read


def run_json(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)


def skew_of(checkpoint):
    """From the command in mach.json; None for a checkpoint that is not synthetic."""
    words = json.loads((pathlib.Path(checkpoint) / "mach.json").read_text())["source"]["path"].split()
    if words[:2] != ["mach", "synth"]:
        return None
    return float(words[words.index("--router-skew") + 1]) if "--router-skew" in words else 0.0


def measure(args, checkpoint, cache_gb):
    flags = ["--streaming", "--expert-cache-gb", cache_gb, "--threads", args.threads, *args.flag]
    bench = run_json(args.mach, "bench", checkpoint, "--json", "--repeat", args.repeat,
                     "--prompt-tokens", args.prompt, "--generate-tokens", args.generate, *flags)
    # After the run: the first reads of a file that lay idle may be several times slower than later
    # ones, and the run has those behind it.
    files, record = direct_read.sidecar(checkpoint)
    disk = direct_read.measure(files, record, args.depth, 3)
    experts = bench["decode_experts"]
    memory_s = bench["weight_bytes_per_token"] / (bench["probe_gb_s"] * 1e9)
    disk_s = experts["bytes_read_per_token"] / disk
    tok_s = bench["decode_tok_s"]["median"]
    return {
        "checkpoint": str(checkpoint),
        "skew": skew_of(checkpoint),
        "cache_gb": cache_gb,
        "tok_s": tok_s,
        "min": bench["decode_tok_s"]["min"],
        "max": bench["decode_tok_s"]["max"],
        "hit_rate": experts["hit_rate"],
        "mb_per_token": experts["bytes_read_per_token"] / 1e6,
        "stall_share": experts["stall_share"],
        "memory_gb_s": bench["probe_gb_s"],
        "disk_gb_s": disk / 1e9,
        "floor_tok_s": 1 / max(memory_s, disk_s),
        "share_of_floor": tok_s * max(memory_s, disk_s),
        "share_of_serial_floor": tok_s * (memory_s + disk_s),
        "peak_rss_bytes": bench["peak_rss_bytes"],
        "predicted_bytes": bench["predicted_bytes"],
        "rss_over_prediction": bench["peak_rss_bytes"] / bench["predicted_bytes"],
        "routing": bench["decode_routing"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="+", type=pathlib.Path)
    parser.add_argument("--mach", default="build/release/bin/mach")
    parser.add_argument("--cache-gb", type=float, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--generate", type=int, default=64)
    parser.add_argument("--depth", type=int, default=4, help="direct reads in flight, yardstick")
    parser.add_argument("--flag", action="append", default=[], help="more flags of mach bench")
    args = parser.parse_args()

    rows = []
    for checkpoint in args.checkpoints:
        for cache_gb in args.cache_gb:
            rows.append(measure(args, checkpoint, cache_gb))
            print(json.dumps(rows[-1]), flush=True)
    print("\n| skew | bank, GB | tok/s (range) | hits | MB/token | stall | memory, disk GB/s | "
          "of floor, serial | peak RSS, GB | RSS/plan | routing |\n|" + "---|" * 11)
    for row in rows:
        print(f"| {row['skew']} | {row['cache_gb']:g} | {row['tok_s']:.2f} "
              f"({row['min']:.2f} to {row['max']:.2f}) | {row['hit_rate']:.3f} | "
              f"{row['mb_per_token']:.1f} | {row['stall_share']:.2f} | {row['memory_gb_s']:.1f}, "
              f"{row['disk_gb_s']:.2f} | {row['share_of_floor']:.2f}, "
              f"{row['share_of_serial_floor']:.2f} | "
              f"{row['peak_rss_bytes'] / 1e9:.2f} | {row['rss_over_prediction']:.3f} | "
              f"{row['routing']['distinct']:.0f}, {row['routing']['top']:.2f}, "
              f"{row['routing']['repeated']:.2f} |")


if __name__ == "__main__":
    main()
