#!/usr/bin/env python3
"""How diverse the routing of a run was, from the trace that `--expert-trace FILE` records.

    bench/routing_stats.py TRACE

For each layer over all decode steps, and the mean over layers:

  distinct   experts that were used at least once
  effective  exp(entropy) of the experts' shares: as many, equally popular, would be as diverse
  top        share of the steps that used the most popular expert
  repeat     share of a step's experts that the step before had used too
  exponent   of popularity against rank, fitted to the experts that were used (0 = even)

A speed with streamed experts says little without these: random weights can route every token to
the same few experts. File format: src/experts/trace.h.
"""
import argparse
import collections
import json
import math
import pathlib
import struct
import sys

MAGIC = b"MACHTRC1"
FIELDS = ("distinct", "effective", "top", "repeat", "exponent")


def read(path):
    """(experts, [layer][step] -> tuple of ids)."""
    data = pathlib.Path(path).read_bytes()
    if not data.startswith(MAGIC):
        sys.exit(f"{path} is not a routing trace")
    layers, experts = struct.unpack_from("<ii", data, len(MAGIC))
    steps = [[] for _ in range(layers)]
    at = len(MAGIC) + 8
    while at + 8 <= len(data):
        _, layer, count = struct.unpack_from("<IHH", data, at)
        at += 8
        if at + 2 * count > len(data):
            break  # the writer was killed
        steps[layer].append(struct.unpack_from(f"<{count}H", data, at))
        at += 2 * count
    return experts, steps


def exponent(counts):
    """Slope of log popularity over log rank, by least squares."""
    points = [(math.log(rank), math.log(count))
              for rank, count in enumerate(sorted(counts, reverse=True), 1)]
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return -sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def layer_stats(steps):
    counts = collections.Counter(expert for ids in steps for expert in ids)
    total = sum(counts.values())
    repeated = sum(len(set(ids) & set(before)) for before, ids in zip(steps, steps[1:]))
    chosen = sum(len(ids) for ids in steps[1:])
    return {
        "distinct": len(counts),
        "effective": math.exp(-sum(c / total * math.log(c / total) for c in counts.values())),
        "top": max(counts.values()) / len(steps),
        "repeat": repeated / chosen if chosen else 0.0,
        "exponent": exponent(counts.values()),
    }


def summary(path):
    """Means over the layers, and what they were taken of."""
    experts, steps = read(path)
    layers = [layer_stats(layer) for layer in steps if layer]
    if not layers:
        sys.exit(f"{path} holds no step")
    means = {field: sum(layer[field] for layer in layers) / len(layers) for field in FIELDS}
    return {"experts": experts, "layers": len(layers), "steps": len(steps[0]), **means}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trace")
    parser.add_argument("--json", action="store_true", help="means only")
    args = parser.parse_args()
    if args.json:
        print(json.dumps(summary(args.trace)))
        return
    experts, steps = read(args.trace)
    print(f"{len(steps[0])} steps, {experts} experts\n| layer | " + " | ".join(FIELDS) +
          " |\n|---|" + "---|" * len(FIELDS))
    rows = [(str(number), layer_stats(layer)) for number, layer in enumerate(steps) if layer]
    rows.append(("mean", summary(args.trace)))
    for name, row in rows:
        print(f"| {name} | " + " | ".join(f"{row[field]:.3g}" for field in FIELDS) + " |")


if __name__ == "__main__":
    main()
