"""Numba loops over blocks of a known length in rows, in vectors: amax, scale and elements stay in registers.

Results that no cache will hold are streamed: `far` says so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from . import lanes, simd
from .block_element_loops import MAGNITUDE, offset_pieces, offset_rounders, scaled_rounder
from .block_scale_loops import steps_of_row, tensor_scales_of_row
from .loops import inner, unpackers

lane32, plain = lanes.lane32, lanes.plain
LENGTH = simd.LENGTH
TILE = 1 << 10  # elements whose scales are found together; the next tile is fetched meanwhile


@njit(forceinline=True)
def put(out, start, elements, far):
    """Store a vector in an array, past the caches if it is far."""
    if far:
        simd.stream(out, start, elements)
    else:
        simd.store(out, start, elements)


@njit(forceinline=True)
def put_nibbles(out, start, codes, far):
    """Store codes of four bits."""
    simd.store_nibbles(out, start // 2, codes)


def _amaxes(g: int, limited: bool) -> Any:
    """A function that fills an array with the largest magnitudes of blocks: of those up to a limit, if limited."""
    load = simd.loader(LENGTH)

    def amaxes(row, first, limit, most):
        for b in range(most.size):
            found = lane32(0)
            for i in range((first + b) * g, (first + b + 1) * g, LENGTH):
                m = load(row, i) & MAGNITUDE
                found = simd.maximum(found, simd.where(m > limit, 0, m) if limited else m)
            most[b] = plain(simd.largest(found))

    return inner(amaxes)


def _offset_block(kind: str, in_carrier: bool, way: str, g: int, randomly: bool, packed: bool) -> Any:
    """A function that writes a block under a power of two for which the fast rounding is not enough."""
    _, carefully = offset_pieces(kind, in_carrier, way, randomly)

    def block(x, out, words, start, shift, q, table, mask):
        shifts = np.full(g, shift, np.int32)
        if not packed:
            carefully(x, out[start : start + g], words, shifts, q, table, mask)
            return
        codes = np.empty(g, np.uint8)
        carefully(x, codes, words, shifts, q, table, mask)
        for i in range(0, g, 2):
            out[(start + i) // 2] = codes[i] | codes[i + 1] << 4

    return inner(block)


def whole(kind: str, in_carrier: bool, way: str, g: int, randomly: bool, limited: bool, packed: bool) -> Any:
    """`amax`, `steps` and `offset` of blocks in a row; codes of four bits are packed, two in a byte, if asked for."""
    rules, parameters = unpackers(kind, lane32)
    fast, _ = offset_rounders(kind, in_carrier, way, simd)
    amaxes, carefully = _amaxes(g, limited), _offset_block(kind, in_carrier, way, g, randomly, packed)
    load, likely, store = simd.loader(LENGTH), lanes.likely, put_nibbles if packed else put

    def along_rows(
        x, out, numbers, limit, step, special, special_shifts, codes, p, q, finite, low, high, table, mask, far,
        a, size, o0, o1, r0, r1, c0, c1,
    ):  # fmt: skip
        mode, results = rules(p)
        target = parameters(p)
        ends = lane32(finite[0]), lane32(finite[1])
        far = far and simd.can_stream(out)
        most, shifts = np.empty(TILE // g, np.int32), np.empty(TILE // g, np.int32)
        for o in range(o0, o1):
            for r in range(r0, r1):
                row, result, words, code = x[o, r], out[o, r], numbers[o, r], codes[o, r]
                for first in range(c0, c1, TILE // g):
                    n = min(TILE // g, c1 - first)
                    amaxes(row, first, limit, most[:n])
                    steps_of_row(most[:n], step, special, special_shifts, code[first : first + n], shifts[:n])
                    for b in range(n):
                        start, stop = (first + b) * g, (first + b + 1) * g
                        if likely(low <= shifts[b] <= high):
                            for i in range(start, stop, LENGTH):
                                simd.fetch(row, i + TILE)
                                number = load(words, i) if randomly else None
                                made = fast(load(row, i), number, lane32(shifts[b]), target, results, mode, ends)
                                store(result, i, made, far)
                        else:
                            carefully(row[start:stop], result, words[start:stop], start, shifts[b], q, table, mask)
        if far:
            simd.finish_streams()

    return along_rows


def _meeting(how: int) -> Any:
    """A function of values and the tensor scale: 0 leaves them, 1 multiplies, 2 divides."""

    @njit(forceinline=True)
    def meet(values, tensor):
        if how == 1:
            return simd.product(values, tensor)
        if how == 2:
            return simd.quotient(values, tensor)
        return values

    return meet


def _scaled_block(in_carrier: bool, divides: bool, even: bool, g: int, how: int, packed: bool) -> Any:
    """A function that writes a block whose elements meet their scale in binary32."""
    one, meet, load = scaled_rounder(in_carrier, even, simd), _meeting(how), simd.loader(LENGTH)
    store = put_nibbles if packed else put

    @njit(forceinline=True)
    def block(row, out, start, operand, scale, tensor, target, results, mode, far):
        for i in range(start, start + g, LENGTH):
            simd.fetch(row, i + TILE)
            met = load(row, i)
            made = simd.quotient(met, operand) if divides else simd.product(met, operand)
            made = one(made, target, results, mode)
            if in_carrier:
                made = meet(simd.product(made, scale), tensor)
            store(out, i, made, far)

    return block


def scaled(in_carrier: bool, divides: bool, even: bool, g: int, how: int) -> Any:
    """As `block_element_loops.scaled`."""
    rules, parameters = unpackers("float", lane32)
    block = _scaled_block(in_carrier, divides, even, g, how, packed=False)

    def along_rows(x, out, operands, scales, tensor, p, far, a, size, o0, o1, r0, r1, c0, c1):
        mode, results = rules(p)
        target = parameters(p)
        far = far and simd.can_stream(out)
        for o in range(o0, o1):
            for r in range(r0, r1):
                row, result, operand, scale = x[o, r], out[o, r], operands[o, r // a], scales[o, r // a]
                for b in range(c0, c1):
                    block(row, result, b * g, operand[b], scale[b], tensor, target, results, mode, far)
        if far:
            simd.finish_streams()

    return along_rows


def tensor_scaled(in_carrier: bool, even: bool, g: int, how: int, packed: bool) -> Any:
    """`tensor_scales` and `scaled` of blocks in a row, tile by tile."""
    rules, parameters = unpackers("float", lane32)
    block = _scaled_block(in_carrier, False, even, g, how, packed)

    def along_rows(
        x, out, amax, by, inverse_by, scale_p, table, codes, tensor, p, far, a, size, o0, o1, r0, r1, c0, c1
    ):  # fmt: skip
        mode, results = rules(p)
        target = parameters(p)
        far = far and simd.can_stream(out)
        values, factors = np.empty(TILE // g, np.float32), np.empty(TILE // g, np.float32)
        for o in range(o0, o1):
            for r in range(r0, r1):
                row, result, most, code = x[o, r], out[o, r], amax[o, r], codes[o, r]
                for first in range(c0, c1, TILE // g):
                    n = min(TILE // g, c1 - first)
                    tensor_scales_of_row(
                        most[first : first + n], by, inverse_by, scale_p, table, code[first : first + n], values[:n],
                        factors[:n],
                    )  # fmt: skip
                    for b in range(n):
                        start = (first + b) * g
                        block(row, result, start, factors[b], values[b], tensor, target, results, mode, far)
        if far:
            simd.finish_streams()

    return along_rows


# ---- decoding --------------------------------------------------------------------------------------------------


def decode(g: int, packed: bool, finite: bool, coded: bool, how: int) -> Any:
    """As `block_decode_loops.decode`, for regular floats, whose values are put together from fields.

    Args:
        packed: codes are of four bits, two in a byte, the low half first.
        finite: no code stands for NaN or infinity.
        coded: scales are codes, whose values are in a table.
    """
    load = simd.nibble_loader(LENGTH) if packed else simd.loader(LENGTH)
    meet, per_byte = _meeting(how), 2 if packed else 1

    @njit(forceinline=True)
    def value_of(code, quantum, mask, smallest_normal, up, rebias, largest, infinity, sign):
        magnitude = code & mask
        found = simd.where(
            magnitude < smallest_normal, simd.multiples(magnitude, quantum), (magnitude << up) + rebias
        )
        negative = ((code >> sign) & 1) << 31
        if finite:
            return found | negative
        special = simd.where(magnitude == infinity, lane32(0x7F800000), lane32(0x7FC00000))
        found = simd.where(magnitude > largest, special, found)
        return simd.where(found == 0x7FC00000, found, found | negative)

    def along_rows(codes, out, scales, values, quantum, facts, tensor, far, a, size, o0, o1, r0, r1, c0, c1):
        mask, smallest_normal, up, rebias = lane32(facts[1]), lane32(facts[2]), lane32(facts[3]), lane32(facts[4])
        largest, infinity, sign = lane32(facts[5]), lane32(facts[6]), lane32(facts[7])
        far = far and simd.can_stream(out)
        for o in range(o0, o1):
            for r in range(r0, r1):
                row, result, scale = codes[o, r], out[o, r], scales[o, r // a]
                for b in range(c0, c1):
                    factor = values[scale[b]] if coded else scale[b]
                    for i in range(b * g, (b + 1) * g, LENGTH):
                        code = load(row, i // per_byte)
                        value = value_of(code, quantum, mask, smallest_normal, up, rebias, largest, infinity, sign)
                        put(result, i, meet(simd.product(value, factor), tensor), far)
        if far:
            simd.finish_streams()

    return along_rows
