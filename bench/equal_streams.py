#!/usr/bin/env python3
"""Streamed answers against resident ones, token for token and log probability for log probability.

    bench/equal_streams.py CHECKPOINT [--mach build/release/bin/mach] [--prompts 20] [--tokens 256]
                           [--cache-gb 0.1 0.5 ...] [--seed 1]

The reference is `mach serve --no-streaming`. Against it: `--streaming` at several bank sizes (one
layer's top-k up to everything, unless --cache-gb names others), each with prefetch on and off, and
each again after a restart with a warm bank. The checkpoint's heat.bin, from which a start is warm, is
restored at the end. Every other prompt is sampled with a seed, the others are greedy. Exits with 1
at the first difference, naming prompt and token.
"""
import argparse
import contextlib
import json
import pathlib
import random
import sys
import tempfile

import direct_read
from serving import Server

WORDS = ("river stone light paper window garden number music winter letter bridge market silver "
         "shadow engine forest kitchen pocket thunder village").split()


def prompts(count, seed):
    """[(text, sampling seed or None)], of very different lengths."""
    chance = random.Random(seed)
    return [(" ".join(chance.choices(WORDS, k=chance.randint(1, 60))), None if i % 2 else i + 1)
            for i in range(count)]


def bank_sizes(checkpoint):
    """From one layer's top-k to all experts, in GB."""
    files, record = direct_read.sidecar(checkpoint)
    config = json.loads((checkpoint / "config.json").read_text())
    config = config.get("text_config", config)
    total = sum(path.stat().st_size for path in files)
    least = config["num_experts_per_tok"] * record
    sizes = [least, max(least, total // 20), max(least, total // 4), max(least, total // 2), total]
    # A little more than asked: the bank may round down to whole records.
    return [size * 1.001 / 1e9 for size in sizes]


def answers(args, flags, log):
    with Server(args.mach, args.checkpoint, flags, log) as server:
        if not server.wait_ready():
            sys.exit(f"mach serve {' '.join(map(str, flags))} did not start:\n{server.log_text()}")
        texts = [server.answer(text, args.tokens, seed)
                 for text, seed in prompts(args.prompts, args.seed)]
        summary = server.get("/v1/cache/stats").get("streaming_summary") or {}
        code = server.stop()
    if code != 0:
        sys.exit(f"mach serve {' '.join(map(str, flags))} ended with {code}:\n{server.log_text()}")
    return texts, summary


@contextlib.contextmanager
def heat_restored(heat):
    """Puts the file back as it was, or away if there was none."""
    before = heat.read_bytes() if heat.exists() else None
    try:
        yield
    finally:
        if before is None:
            heat.unlink(missing_ok=True)
        else:
            heat.write_bytes(before)


def first_difference(found, expected):
    for prompt, (ours, wanted) in enumerate(zip(found, expected)):
        if ours == wanted:
            continue
        at = next((i for i, pair in enumerate(zip(ours, wanted)) if pair[0] != pair[1]),
                  min(len(ours), len(wanted)))
        return f"prompt {prompt}, token {at}: {ours[at:at + 1]} instead of {wanted[at:at + 1]}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("--mach", default="build/release/bin/mach")
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--cache-gb", type=float, nargs="*")
    parser.add_argument("--seed", type=int, default=1, help="of the prompts")
    args = parser.parse_args()

    heat = args.checkpoint / "expert_sidecar" / "heat.bin"
    with tempfile.TemporaryDirectory() as scratch, heat_restored(heat):
        log = pathlib.Path(scratch) / "serve.log"
        expected, _ = answers(args, ["--no-streaming"], log)
        distinct = len({token for answer in expected for token, _ in answer})
        print(f"resident: {len(expected)} answers, {sum(map(len, expected))} tokens, {distinct} "
              f"different ones", flush=True)
        for cache_gb in args.cache_gb or bank_sizes(args.checkpoint):
            for prefetch in ("--no-expert-prefetch", "--expert-prefetch"):
                # What a server before has learnt would make the first start a restart.
                heat.unlink(missing_ok=True)
                for start in ("first start", "restarted"):
                    flags = ["--streaming", "--expert-cache-gb", f"{cache_gb:.6f}", prefetch]
                    found, summary = answers(args, flags, log)
                    difference = first_difference(found, expected)
                    print(f"{' '.join(flags)}, {start}: {difference or 'equal'}; hit rate "
                          f"{summary.get('hit_rate', 0):.3f}, {summary.get('capacity')} slots",
                          flush=True)
                    if difference:
                        sys.exit(1)


if __name__ == "__main__":
    main()
