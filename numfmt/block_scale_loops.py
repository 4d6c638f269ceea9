"""Numba loops that find the largest magnitudes of blocks and the scales that these give."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from . import lanes, simd
from ._core.parameters import BINARY32
from .loops import KERNELS, inner, unpackers

lane32, plain = lanes.lane32, lanes.plain
MAGNITUDE = BINARY32.magnitude_mask

encode_float = KERNELS["float.encode"]
scale_rules, scale_parameters = unpackers("float", lane32)


def amax_rows(g: int) -> Any:
    """Loops for blocks of g elements; of any length where g is 0."""
    load = simd.loader(simd.LENGTH)

    @njit(forceinline=True)
    def largest(source, start, limit):
        most = lane32(0)
        for i in range(start, start + g, simd.LENGTH):
            m = load(source, i) & MAGNITUDE
            most = simd.maximum(most, simd.where(m > limit, 0, m))
        return plain(simd.largest(most))

    def known(x, out, limit, a, size, o0, o1, r0, r1, c0, c1):
        for o in range(o0, o1):
            for r in range(r0, r1):
                source, row = x[o, r], out[o, r // a, c0:c1]
                for b in range(row.size):
                    most = largest(source, (c0 + b) * g, limit)
                    row[b] = most if r % a == 0 else max(row[b], most)

    def any_size(x, out, limit, a, size, o0, o1, r0, r1, c0, c1):
        for o in range(o0, o1):
            for r in range(r0, r1):
                row = out[o, r // a]
                for b in range(c0, c1):
                    block = x[o, r, b * size : (b + 1) * size]
                    most = lane32(0)
                    for e in range(block.size):
                        m = lane32(block[e]) & MAGNITUDE
                        most = lanes.maximum(most, lanes.where(m > limit, lane32(0), m))
                    row[b] = plain(most) if r % a == 0 else max(row[b], plain(most))

    return known if g else any_size


def amax_columns() -> Any:
    """A loop for blocks along columns."""

    def columns(x, out, limit, a, size, o0, o1, r0, r1, c0, c1):
        for o in range(o0, o1):
            for r in range(r0, r1):
                source = x[o, r, c0:c1]
                row = out[o, r // a, c0:c1]
                if r % a == 0:
                    for j in range(source.size):
                        m = lane32(source[j]) & MAGNITUDE
                        row[j] = plain(lanes.where(m > limit, lane32(0), m))
                else:
                    for j in range(source.size):
                        m = lane32(source[j]) & MAGNITUDE
                        row[j] = plain(lanes.maximum(lane32(row[j]), lanes.where(m > limit, lane32(0), m)))

    return columns


def _steps_of_row(row, step, special, special_shifts, code, shift):
    up, base, first = lane32(step[0]), lane32(step[1]), lane32(step[2])
    least, top, exponent = lane32(step[3]), lane32(step[4]), lane32(step[5])
    for b in range(row.size):
        m = lane32(row[b])
        rank = lanes.maximum(((m + up) >> 23) - base, least)
        rank = lanes.where(m < first, lane32(0), lanes.minimum(rank, top))
        code[b] = plain(rank)
        shift[b] = plain(rank + exponent)
    for b in range(row.size):
        if row[b] >= 0x7F800000:
            code[b] = special[0] if row[b] > 0x7F800000 else special[1]
            shift[b] = special_shifts[0] if row[b] > 0x7F800000 else special_shifts[1]


steps_of_row = inner(_steps_of_row)


def steps(amax, step, special, special_shifts, codes, shifts, o0, o1, r0, r1, c0, c1):
    """Codes and exponents of scales that are step functions of the amax (block_compiled.closed_form)."""
    for o in range(o0, o1):
        for r in range(r0, r1):
            steps_of_row(amax[o, r, c0:c1], step, special, special_shifts, codes[o, r, c0:c1], shifts[o, r, c0:c1])


def _tensor_scales_of_row(source, by, inverse_by, p, table, code, value, factor):
    mode, results = scale_rules(p)
    target = scale_parameters(p)
    largest, one = np.float32(3.4028234663852886e38), np.float32(1)
    for b in range(factor.size):
        scaled = source[b] * by
        factor[b] = scaled if scaled < largest else largest
    bits = factor.view(np.int32)
    for b in range(code.size):
        code[b] = plain(encode_float(lane32(bits[b]), None, BINARY32, target, results, mode, False, lanes))
    for b in range(factor.size):
        value[b] = table[code[b]]
        inverse = one / (value[b] * inverse_by)
        factor[b] = inverse if inverse < largest else largest


tensor_scales_of_row = inner(_tensor_scales_of_row)


def tensor_scales(amax, by, inverse_by, p, table, codes, values, factors, o0, o1, r0, r1, c0, c1):
    """TransformerEngine's NVFP4 scales: scaling.md 4.1, each operation in binary32 (numfmt.scale_rules)."""
    for o in range(o0, o1):
        for r in range(r0, r1):
            tensor_scales_of_row(
                amax[o, r, c0:c1], by, inverse_by, p, table, codes[o, r, c0:c1], values[o, r, c0:c1],
                factors[o, r, c0:c1],
            )  # fmt: skip
