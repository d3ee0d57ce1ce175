#!/usr/bin/env python3
"""Makes tests/formats/data/ggml_vectors.bin: random blocks of each ggml type and what the `gguf`
package (PyPI, 0.19.0) decodes them to.

Layout, little-endian: for each type: u32 type id, u32 bytes, u32 elements, blocks, fp32 values.
"""
import pathlib
import struct

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize

BLOCKS = {T.F16: 64, T.BF16: 64, T.Q4_0: 8, T.Q4_1: 8, T.Q8_0: 8, T.Q4_K: 4, T.Q6_K: 4,
          T.Q5_0: 8, T.Q5_1: 8, T.Q5_K: 4}
# Where the fp16 scales of a block are: random bytes there would be NaN now and then.
HALVES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q8_0: [0], T.Q4_K: [0, 2], T.Q6_K: [208],
          T.Q5_0: [0], T.Q5_1: [0, 2], T.Q5_K: [0, 2]}


def main():
    rng = np.random.default_rng(20260729)
    out = bytearray()
    for kind, blocks in BLOCKS.items():
        elements, size = GGML_QUANT_SIZES[kind]
        if kind in (T.F16, T.BF16):
            values = rng.normal(size=blocks).astype(np.float32)
            bits = values.astype(np.float16).view(np.uint16) if kind == T.F16 else (
                values.view(np.uint32) >> 16).astype(np.uint16)
            raw = bits.view(np.uint8).reshape(blocks, 2)
        else:
            raw = rng.integers(0, 256, size=(blocks, size), dtype=np.uint8)
            for at in HALVES[kind]:
                half = (rng.normal(size=blocks) * 0.1).astype(np.float16)
                raw[:, at:at + 2] = half.view(np.uint8).reshape(blocks, 2)
        decoded = dequantize(raw.reshape(1, -1), kind).astype(np.float32).reshape(-1)
        assert decoded.size == blocks * elements
        out += struct.pack("<III", int(kind), raw.size, decoded.size)
        out += raw.tobytes() + decoded.tobytes()
    path = pathlib.Path(__file__).resolve().parent.parent / "data" / "ggml_vectors.bin"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(out)


if __name__ == "__main__":
    main()
