"""Numba loops that read elements: values of codes under their scales, of blocks of any length."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from . import lanes
from .block_element_loops import SHORT_PIECE, spreader
from .loops import inner

lane32, plain = lanes.lane32, lanes.plain


def decode(regular: bool, g: int, columns: bool) -> Any:
    """value of code × scale (× or / the tensor scale), where the first product is exact or the last operation.

    Values come from a table; those of a `regular` float are put together, which is faster than gathering:
    subnormals are integers in units of the least, normal values have the fields of a binary32.
    """

    @njit(forceinline=True)
    def value_of(code, quantum, mask, smallest_normal, up, rebias, largest, infinity, sign):
        magnitude = code & mask
        subnormal = lanes.bits_of(np.float32(plain(magnitude)) * quantum)
        special = lanes.where(magnitude == infinity, lane32(0x7F800000), lane32(0x7FC00000))
        found = lanes.where(magnitude < smallest_normal, subnormal, (magnitude << up) + rebias)
        found = lanes.where(magnitude > largest, special, found)
        negative = ((code >> sign) & 1) << 31
        return lanes.float_of(lanes.where(found == 0x7FC00000, found, found | negative))

    @njit(forceinline=True)
    def read(codes, e, table, facts):
        if regular:
            return value_of(
                lane32(codes[e]), table[1], lane32(facts[1]), lane32(facts[2]), lane32(facts[3]), lane32(facts[4]),
                lane32(facts[5]), lane32(facts[6]), lane32(facts[7]),
            )  # fmt: skip
        return table[codes[e] & facts[0]]

    def decoded_piece(codes, out, scale, table, facts, tensor, how):
        if how == 1:
            for e in range(out.size):
                out[e] = read(codes, e, table, facts) * scale[e] * tensor
        elif how == 2:
            for e in range(out.size):
                out[e] = read(codes, e, table, facts) * scale[e] / tensor
        else:
            for e in range(out.size):
                out[e] = read(codes, e, table, facts) * scale[e]

    piece, spread = inner(decoded_piece), spreader(g)

    def along_columns(codes, out, scales, table, facts, tensor, how, a, size, o0, o1, r0, r1, c0, c1):
        for o in range(o0, o1):
            for r in range(r0, r1):
                piece(codes[o, r, c0:c1], out[o, r, c0:c1], scales[o, r // a, c0:c1], table, facts, tensor, how)

    def along_rows(codes, out, scales, table, facts, tensor, how, a, size, o0, o1, r0, r1, c0, c1):
        per = max(1, SHORT_PIECE // size)
        scale = np.empty(per * size, np.float32)
        for o in range(o0, o1):
            for r in range(r0, r1):
                row, result = codes[o, r], out[o, r]
                for b in range(c0, c1, per):
                    blocks = min(per, c1 - b)
                    start, stop = b * size, min((b + blocks) * size, row.size)
                    spread(scales[o, r // a, b : b + blocks], size, scale[: blocks * size])
                    piece(row[start:stop], result[start:stop], scale, table, facts, tensor, how)

    return along_columns if columns else along_rows
