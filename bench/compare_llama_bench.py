#!/usr/bin/env python3
"""mach bench against llama.cpp's llama-bench on the same weights, in turns; prints ratios.

    bench/compare_llama_bench.py --llama-bench PATH --gguf MODEL.gguf --checkpoint DIR
                                 [--mach build/release/bin/mach] [--threads 2] [--rounds 5]
                                 [--prompt 512] [--generate 128]

Each round runs both programs; a round's ratio compares neighbours in time, and the median over
rounds is what to quote. The bandwidth share is mach bench's own (weights read in decode against
what the same threads read from memory in the same run).
"""
import argparse
import json
import statistics
import subprocess


def run(*args):
    return json.loads(subprocess.run([str(a) for a in args], check=True, capture_output=True,
                                     text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llama-bench", required=True)
    parser.add_argument("--gguf", required=True)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--mach", default="build/release/bin/mach")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, default=128)
    args = parser.parse_args()

    rounds = []
    for _ in range(args.rounds):
        ours = run(args.mach, "bench", args.checkpoint, "--json", "--repeat", 3, "--threads",
                   args.threads, "--prompt-tokens", args.prompt, "--generate-tokens", args.generate)
        peer = run(args.llama_bench, "-m", args.gguf, "-t", args.threads, "-p", args.prompt, "-n",
                   args.generate, "-r", 3, "-o", "json")
        rounds.append({
            "prefill": (ours["prefill_tok_s"]["median"],
                        next(r["avg_ts"] for r in peer if r["n_prompt"])),
            "decode": (ours["decode_tok_s"]["median"],
                       next(r["avg_ts"] for r in peer if r["n_gen"])),
            "share": ours["bandwidth_share"],
        })
        print(json.dumps(rounds[-1]), flush=True)
    for kind in ("prefill", "decode"):
        ratios = [r[kind][0] / r[kind][1] for r in rounds]
        print(f"{kind:8} mach {statistics.median(r[kind][0] for r in rounds):8.1f} tok/s   "
              f"llama.cpp {statistics.median(r[kind][1] for r in rounds):8.1f} tok/s   "
              f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"share of memory bandwidth in decode, median: "
          f"{statistics.median(r['share'] for r in rounds):.2f}")


if __name__ == "__main__":
    main()
