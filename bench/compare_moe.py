#!/usr/bin/env python3
"""mach against llama.cpp on a Mixture-of-Experts model of one shape: resident, and larger than RAM.

    bench/compare_moe.py --llama-bin DIR --gguf MODEL.gguf --checkpoint DIR
                         [--mach build/release/bin/mach] [--threads 2] [--rounds 5]
                         [--limits 4.83 3.76 2.68] [--only resident|limited]

Both models have random weights of the same shape (`mach synth`, and a GGUF file made likewise): the
speeds compare, the texts do not. Each round runs both programs one after the other; a round's ratio
compares neighbours in time, and the median over rounds is what to quote.

resident   prefill of 512 and decode of 128 tokens, everything in memory.
limited    decode of 64 tokens after a prompt of 16 in a control group of LIMIT GB (1e9 bytes), page
           cache included, from a cold page cache: mach streams its experts (`--streaming --memory-gb`
           somewhat below the limit), llama.cpp maps the file (`--no-repack`, without which it needs
           a second copy). Needs root.

Prints one JSON object for each run and a table at the end.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys

from limit_memory import MemoryLimit, drop_caches

# What the kernel and the program's own pages take of a group's limit.
HEADROOM = 0.94


def run(limit, command):
    done = limit.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def last_json_line(text):
    return json.loads([line for line in text.splitlines() if line.startswith("{")][-1])


class Comparison:
    def __init__(self, args):
        self.args = args
        self.llama = pathlib.Path(args.llama_bin)

    def mach(self, limit, prompt, generate, repeat, extra):
        return json.loads(run(limit, [
            self.args.mach, "bench", self.args.checkpoint, "--json", "--repeat", repeat,
            "--threads", self.args.threads, "--prompt-tokens", prompt, "--generate-tokens",
            generate, *extra]))

    def resident(self):
        free = MemoryLimit(None)
        ours = self.mach(free, self.args.prompt, self.args.generate, 3, ["--no-streaming"])
        peer = json.loads(run(free, [
            self.llama / "llama-bench", "-m", self.args.gguf, "-t", self.args.threads, "-p",
            self.args.prompt, "-n", self.args.generate, "-r", 3, "-o", "json"]))
        return {
            "prefill": (ours["prefill_tok_s"]["median"],
                        next(r["avg_ts"] for r in peer if r["n_prompt"])),
            "decode": (ours["decode_tok_s"]["median"],
                       next(r["avg_ts"] for r in peer if r["n_gen"])),
            "share of memory bandwidth": ours["bandwidth_share"],
        }

    def limited(self, gigabytes):
        drop_caches()
        with MemoryLimit(gigabytes) as limit:
            ours = self.mach(limit, 16, 64, 1, ["--streaming", "--memory-gb",
                                                f"{gigabytes * HEADROOM:.3f}", "--no-probe"])
        drop_caches()
        with MemoryLimit(gigabytes) as limit:
            peer = last_json_line(run(limit, [
                self.llama / "llama-batched-bench", "-m", self.args.gguf, "-t", self.args.threads,
                "-c", 1024, "--no-repack", "-npp", 16, "-ntg", 64, "-npl", 1, "--output-format",
                "jsonl"]))
        experts = ours["decode_experts"]
        return {
            "decode": (ours["decode_tok_s"]["median"], peer["speed_tg"]),
            "hit rate": experts["hit_rate"],
            "MB read per token": experts["bytes_read_per_token"] / 1e6,
            "stall share": experts["stall_share"],
            "bank GB": ours["expert_cache_bytes"] / 1e9,
        }


def table_row(name, rounds):
    lines = []
    for kind in (key for key in rounds[0] if isinstance(rounds[0][key], tuple)):
        ratios = [r[kind][0] / r[kind][1] for r in rounds]
        lines.append(f"| {name} | {kind} | {statistics.median(r[kind][0] for r in rounds):.2f} | "
                     f"{statistics.median(r[kind][1] for r in rounds):.2f} | "
                     f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llama-bin", required=True, help="directory of llama-bench and its kind")
    parser.add_argument("--gguf", required=True)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--mach", default="build/release/bin/mach")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, default=128)
    parser.add_argument("--limits", type=float, nargs="*", default=[4.83, 3.76, 2.68],
                        help="GB (1e9 bytes)")
    parser.add_argument("--only", choices=["resident", "limited"])
    args = parser.parse_args()

    comparison = Comparison(args)
    cases = []
    if args.only != "limited":
        cases.append(("resident", comparison.resident))
    if args.only != "resident":
        cases += [(f"{gb} GB", lambda gb=gb: comparison.limited(gb)) for gb in args.limits]
    results = {name: [] for name, _ in cases}
    for _ in range(args.rounds):
        for name, measure in cases:
            results[name].append(measure())
            print(json.dumps({"case": name, **results[name][-1]}), flush=True)
    print("\n| memory | test | mach, tok/s | llama.cpp, tok/s | ratio, median (range) |\n"
          "|---|---|---|---|---|")
    for name, rounds in results.items():
        print("\n".join(table_row(name, rounds)))


if __name__ == "__main__":
    try:
        main()
    except (RuntimeError, subprocess.SubprocessError) as error:
        sys.exit(f"compare_moe: {error}")
