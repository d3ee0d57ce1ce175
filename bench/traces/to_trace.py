#!/usr/bin/env python3
"""Turns a routing trace of numpy (uint8 [tokens, layers, top_k]) into what cache_policy_sim reads.

    bench/traces/to_trace.py bench/traces/prose.npy 64 /tmp/prose.trace

64 is the number of experts in a layer. The format is that of src/experts/trace_writer.h.
"""
import struct
import sys

import numpy as np


def main():
    source, experts, target = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    trace = np.sort(np.load(source), axis=2)
    tokens, layers, top_k = trace.shape
    with open(target, "wb") as out:
        out.write(b"MACHTRC1" + struct.pack("<ii", layers, experts))
        for token in range(tokens):
            for layer in range(layers):
                out.write(struct.pack(f"<IHH{top_k}H", token, layer, top_k,
                                      *trace[token, layer].tolist()))


if __name__ == "__main__":
    main()
