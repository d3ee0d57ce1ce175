#!/usr/bin/env python3
"""Makes tests/convert/data/affine_vectors.bin: weights and what mx.quantize makes of them on a CPU
(PyPI mlx[cpu] 0.32.4).

Layout, little-endian, for each case: u32 bits, u32 group_size, u32 type (0 F32, 1 F16, 2 BF16),
u32 rows, u32 columns; weights in that type; packed codes; scales; biases in that type.
"""
import pathlib
import struct

import mlx.core as mx
import numpy as np

TYPES = [mx.float32, mx.float16, mx.bfloat16]


def raw(array):
    size = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32}[array.itemsize]
    return np.array(array.view(size)).tobytes()


def main():
    mx.set_default_device(mx.cpu)
    rng = np.random.default_rng(20260730)
    base = (rng.normal(size=(8, 128)) * 0.05).astype(np.float32)
    base[1] = np.abs(base[1])
    base[2] = -np.abs(base[2])
    base[3, :64] = 0
    base[3, 64:] = 0.25
    base[4] *= 1e-6
    base[5, 7] = 40
    base[6] = rng.integers(-7, 9, size=128) * 0.125
    out = bytearray()
    cases = [(b, g, 0) for b in (2, 3, 4, 5, 6, 8) for g in (32, 64, 128)]
    cases += [(b, 64, t) for b in (4, 8) for t in (1, 2)]
    for bits, group, kind in cases:
        w = mx.array(base).astype(TYPES[kind])
        codes, scales, biases = mx.quantize(w, group_size=group, bits=bits)
        assert codes.dtype == mx.uint32 and scales.dtype == TYPES[kind]
        out += struct.pack("<5I", bits, group, kind, *base.shape)
        out += raw(w) + raw(codes) + raw(scales) + raw(biases)
    path = pathlib.Path(__file__).resolve().parent.parent / "data" / "affine_vectors.bin"
    path.write_bytes(out)


if __name__ == "__main__":
    main()
