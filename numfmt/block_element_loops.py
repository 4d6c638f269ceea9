"""Numba loops that write elements: codes, or values in the carrier, of blocks of any length."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from . import lanes, simd
from ._core.parameters import BINARY32, BINARY64, Round
from .loops import KERNELS, inner, unpackers

lane32, lane64, plain = lanes.lane32, lanes.lane64, lanes.plain
MAGNITUDE = BINARY32.magnitude_mask
NAN_SCALE, ZERO_SCALE = -(2**20), 2**20  # exponents that stand for scales without one
EVEN = Round(nearest=1, lsb=1, sign=0, flip=0, random_bits=0, high_ones=0)
PIECE = 1 << 13  # elements whose exponents are spread at a time
SHORT_PIECE = 1 << 11  # the same for loops over several buffers: all of them stay in the first-level cache

shift_target, shift_values = KERNELS["block.shifted_target"], KERNELS["block.shifted_values"]
shift_grid = KERNELS["block.shifted_grid"]
encode_float, quantize_float = KERNELS["float.encode"], KERNELS["float.quantize"]
encode_saturating, quantize_saturating = KERNELS["block.encode_saturating"], KERNELS["block.quantize_saturating"]
encode_nearest, quantize_nearest = KERNELS["block.encode_nearest"], KERNELS["block.quantize_nearest"]
encode_fixed, decode_fixed = KERNELS["fixed.encode"], KERNELS["fixed.decode"]


# ---- one number a block for every element ------------------------------------------------------------------------


def spreader(g: int) -> Any:
    """A function that repeats each of some numbers for the elements of its block."""
    fill: Any = simd.filler(g) if g else None

    def known(numbers, size, out):
        for b in range(numbers.size):
            fill(out, b * g, numbers[b])

    def any_size(numbers, size, out):
        for b in range(numbers.size):
            out[b * size : (b + 1) * size] = numbers[b]

    return inner(known if g else any_size)


# ---- elements under powers of two --------------------------------------------------------------------------------


def offset_rounders(kind: str, in_carrier: bool, way: str, xp: Any = lanes) -> tuple[Any, Any]:
    """One element under a scale of 2**shift: where all of that is normal in the carrier, and anywhere (codes only)."""

    @njit(forceinline=True)
    def fast_codes(bits, random, shift, target, results, mode, finite):
        return encode_float(bits, random, BINARY32, shift_target(target, shift), results, mode, False, xp)

    @njit(forceinline=True)
    def fast_values(bits, random, shift, target, results, mode, finite):
        moved, ends = shift_values(target, results, shift, BINARY32, finite[0], finite[1])
        return quantize_float(bits, random, BINARY32, moved, ends, mode, False, xp)

    @njit(forceinline=True)
    def saturated_codes(bits, random, shift, target, results, mode, finite):
        return encode_saturating(bits, random, BINARY32, target, shift, mode, xp)

    @njit(forceinline=True)
    def saturated_values(bits, random, shift, target, results, mode, finite):
        return quantize_saturating(bits, random, BINARY32, target, shift, mode, xp)

    @njit(forceinline=True)
    def even_codes(bits, random, shift, target, results, mode, finite):
        return encode_nearest(bits, BINARY32, target, shift, EVEN, xp)

    @njit(forceinline=True)
    def even_values(bits, random, shift, target, results, mode, finite):
        return quantize_nearest(bits, BINARY32, target, shift, EVEN, xp)

    @njit(forceinline=True)
    def slow_codes(bits, random, shift, target, results, mode):
        return encode_float(bits, random, BINARY32, shift_target(target, shift), results, mode, True, xp)

    @njit(forceinline=True)
    def fixed_codes(bits, random, shift, grid, results, mode, finite):
        return encode_fixed(bits, random, BINARY32, shift_grid(grid, shift), results, mode, xp)

    @njit(forceinline=True)
    def fixed_values(bits, random, shift, grid, results, mode, finite):
        moved = shift_grid(grid, shift)
        return decode_fixed(encode_fixed(bits, random, BINARY32, moved, results, mode, xp), BINARY32, moved, xp)

    @njit(forceinline=True)
    def slow_fixed(bits, random, shift, grid, results, mode):
        return encode_fixed(bits, random, BINARY32, shift_grid(grid, shift), results, mode, xp)

    if kind == "float" and way == "even":
        return (even_values if in_carrier else even_codes), slow_codes
    if kind == "float" and way == "saturating":
        return (saturated_values if in_carrier else saturated_codes), slow_codes
    if kind == "float":
        return (fast_values if in_carrier else fast_codes), slow_codes
    return (fixed_values if in_carrier else fixed_codes), slow_fixed


def offset_pieces(kind: str, in_carrier: bool, way: str, randomly: bool) -> tuple[Any, Any]:
    """Functions that write a stretch of elements under an exponent for each: quickly, and whatever the exponents.

    Args:
        way: "general", "saturating", or "even": saturating, and ties go to even.
    """
    rules, parameters = unpackers(kind, lane32)
    fast, slow = offset_rounders(kind, in_carrier, way)

    @njit(forceinline=True)
    def number(numbers, i):
        return lane32(numbers[i]) if randomly else None

    def careful_elements(x, out, numbers, shift, q, table, mask):
        mode, results = rules(q)
        target = parameters(q)
        for e in range(x.size):
            own = shift[e]
            if own == NAN_SCALE:
                code = plain(results.nan)
            elif own == ZERO_SCALE:
                code = plain(slow(lane32(0), number(numbers, e), lane32(0), target, results, mode))
            else:
                code = plain(slow(lane32(x[e]), number(numbers, e), lane32(own), target, results, mode))
            if in_carrier:
                scale = np.nan if own == NAN_SCALE else 0.0 if own == ZERO_SCALE else 2.0**own
                out[e] = np.float32(table[code & mask] * scale)
            else:
                out[e] = code

    def quick_elements(x, out, numbers, shift, p, finite):
        mode, results = rules(p)
        target = parameters(p)
        ends = lane32(finite[0]), lane32(finite[1])
        result = out.view(np.int32) if in_carrier else out
        for j in range(x.size):
            result[j] = plain(fast(lane32(x[j]), number(numbers, j), lane32(shift[j]), target, results, mode, ends))

    return inner(quick_elements), inner(careful_elements)


def offset_blocks(kind: str, in_carrier: bool, way: str, g: int, randomly: bool) -> Any:
    """A function that writes some blocks of a row, in pieces as long as all their exponents allow."""
    quickly, carefully = offset_pieces(kind, in_carrier, way, randomly)
    spread = spreader(g)

    def blocks(x, out, words, shift, every, p, q, finite, low, high, table, mask, size):
        least, most = shift[0], shift[0]
        for j in range(shift.size):
            least, most = min(least, shift[j]), max(most, shift[j])
        spread(shift, size, every[: shift.size * size])
        if low <= least and most <= high:
            quickly(x, out, words, every[: x.size], p, finite)
            return
        for j in range(shift.size):
            start, stop = j * size, min((j + 1) * size, x.size)
            if low <= shift[j] <= high:
                quickly(x[start:stop], out[start:stop], words[start:stop], every[start:stop], p, finite)
            else:
                carefully(x[start:stop], out[start:stop], words[start:stop], every[start:stop], q, table, mask)

    return inner(blocks)


def offset(kind: str, in_carrier: bool, way: str, g: int, columns: bool, randomly: bool) -> Any:
    """Elements under power-of-two scales.

    p are the parameters of the fast rounding, for exponents from low to high; q those of the slow one,
    which gives codes, and values by a table.
    """
    quickly, carefully = offset_pieces(kind, in_carrier, way, randomly)
    blocks = offset_blocks(kind, in_carrier, way, g, randomly)

    def along_columns(x, out, numbers, shifts, p, q, finite, low, high, table, mask, a, size, o0, o1, r0, r1, c0, c1):
        for o in range(o0, o1):
            for r in range(r0, r1):
                shift = shifts[o, r // a, c0:c1]
                least, most = shift[0], shift[0]
                for j in range(shift.size):
                    least, most = min(least, shift[j]), max(most, shift[j])
                source, target = x[o, r, c0:c1], out[o, r, c0:c1]
                words = numbers[o, r, c0:c1]
                if low <= least and most <= high:
                    quickly(source, target, words, shift, p, finite)
                else:
                    carefully(source, target, words, shift, q, table, mask)

    def along_rows(x, out, numbers, shifts, p, q, finite, low, high, table, mask, a, size, o0, o1, r0, r1, c0, c1):
        per = max(1, PIECE // size)
        every = np.empty(per * size, np.int32)
        for o in range(o0, o1):
            for r in range(r0, r1):
                for b in range(c0, c1, per):
                    shift = shifts[o, r // a, b : min(b + per, c1)]
                    start, stop = b * size, min((b + shift.size) * size, x.shape[2])
                    blocks(
                        x[o, r, start:stop], out[o, r, start:stop], numbers[o, r, start:stop], shift, every, p, q,
                        finite, low, high, table, mask, size,
                    )  # fmt: skip

    return along_columns if columns else along_rows


# ---- elements under any scale --------------------------------------------------------------------------------------


def scaled_rounder(in_carrier: bool, even: bool, xp: Any) -> Any:
    """One element that has met its scale in binary32.

    Args:
        even: the format has no NaN and no infinity, ties go to even and overflow saturates; a NaN becomes the
            largest value.
    """
    general = quantize_float if in_carrier else encode_float
    nearest = quantize_nearest if in_carrier else encode_nearest

    @njit(forceinline=True)
    def one(bits, target, results, mode):
        if even:
            nan = (bits & MAGNITUDE) > 0x7F800000
            number = xp.where(nan, lane32(0x7F800000), bits)
            return nearest(number, BINARY32, target, lane32(0), EVEN, xp)
        return general(bits, None, BINARY32, target, results, mode, False, xp)

    return one


def scaled(in_carrier: bool, divides: bool, even: bool, columns: bool) -> Any:
    """Float elements multiplied or divided in binary32 before they are rounded; values are (v s) t, or (v s) / t.

    `how` says how the tensor scale t takes part: 0 not, 1 multiplied, 2 divided by.
    """
    rules, parameters = unpackers("float", lane32)
    one = scaled_rounder(in_carrier, even, lanes)

    def scaled_piece(x, out, operand, scale, tensor, how, p):
        mode, results = rules(p)
        target = parameters(p)
        if not in_carrier:
            for e in range(out.size):
                met = x[e] / operand[e] if divides else x[e] * operand[e]
                out[e] = plain(one(lanes.bits_of(met), target, results, mode))
        elif how == 1:
            for e in range(out.size):
                met = x[e] / operand[e] if divides else x[e] * operand[e]
                out[e] = lanes.float_of(one(lanes.bits_of(met), target, results, mode)) * scale[e] * tensor
        elif how == 2:
            for e in range(out.size):
                met = x[e] / operand[e] if divides else x[e] * operand[e]
                out[e] = lanes.float_of(one(lanes.bits_of(met), target, results, mode)) * scale[e] / tensor
        else:
            for e in range(out.size):
                met = x[e] / operand[e] if divides else x[e] * operand[e]
                out[e] = lanes.float_of(one(lanes.bits_of(met), target, results, mode)) * scale[e]

    piece, spread = inner(scaled_piece), spreader(0)

    def along_columns(x, out, operands, scales, tensor, how, p, a, size, o0, o1, r0, r1, c0, c1):
        for o in range(o0, o1):
            for r in range(r0, r1):
                operand, scale = operands[o, r // a, c0:c1], scales[o, r // a, c0:c1]
                piece(x[o, r, c0:c1], out[o, r, c0:c1], operand, scale, tensor, how, p)

    def along_rows(x, out, operands, scales, tensor, how, p, a, size, o0, o1, r0, r1, c0, c1):
        per = max(1, SHORT_PIECE // size)
        operand, scale = np.empty(per * size, np.float32), np.empty(per * size, np.float32)
        for o in range(o0, o1):
            for r in range(r0, r1):
                row, result = x[o, r], out[o, r]
                for b in range(c0, c1, per):
                    blocks = min(per, c1 - b)
                    start, stop = b * size, min((b + blocks) * size, row.size)
                    spread(operands[o, r // a, b : b + blocks], size, operand[: blocks * size])
                    spread(scales[o, r // a, b : b + blocks], size, scale[: blocks * size])
                    piece(row[start:stop], result[start:stop], operand, scale, tensor, how, p)

    return along_columns if columns else along_rows


def divided(kind: str, in_carrier: bool, general: bool, g: int, columns: bool) -> Any:
    """Elements divided by their scale in binary64.

    A binary64 quotient of binary32 numbers rounds as the exact one does to every format of at most 24
    significant bits: between x / s and a boundary b of such a format lie 2**-50 of it, or nothing.
    """
    rules, parameters = unpackers(kind, lane64)
    quantize = quantize_float if in_carrier else encode_float

    @njit(forceinline=True)
    def one(bits, target, results, mode):
        if kind == "float":
            return quantize(bits, None, BINARY64, target, results, mode, general, lanes)
        codes = encode_fixed(bits, None, BINARY64, target, results, mode, lanes)
        return decode_fixed(codes, BINARY64, target, lanes) if in_carrier else codes

    def divided_piece(x, out, scale, p, nan, met, rounded):
        mode, results = rules(p)
        target = parameters(p)
        for e in range(met.size):
            s = scale[e]
            met[e] = np.float64(x[e]) / np.float64(s if s > 0 else np.float32(1))
        bits = met.view(np.int64)
        patterns = rounded.view(np.int64)
        for e in range(patterns.size):
            patterns[e] = plain(one(lane64(bits[e]), target, results, mode))
        for e in range(rounded.size):
            s = scale[e]
            if in_carrier:
                value = np.float32(rounded[e] * np.float64(s))
                out[e] = value if s > 0 else np.float32(0) if s == 0 else np.float32(np.nan)
            else:
                out[e] = patterns[e] if s > 0 else 0 if s == 0 else nan

    piece, spread = inner(divided_piece), spreader(g)

    def along_columns(x, out, scales, p, nan, a, size, o0, o1, r0, r1, c0, c1):
        met, rounded = np.empty(c1 - c0, np.float64), np.empty(c1 - c0, np.float64)
        for o in range(o0, o1):
            for r in range(r0, r1):
                piece(x[o, r, c0:c1], out[o, r, c0:c1], scales[o, r // a, c0:c1], p, nan, met, rounded)

    def along_rows(x, out, scales, p, nan, a, size, o0, o1, r0, r1, c0, c1):
        per = max(1, PIECE // size)
        width = per * size
        met, rounded, scale = np.empty(width, np.float64), np.empty(width, np.float64), np.empty(width, np.float32)
        for o in range(o0, o1):
            for r in range(r0, r1):
                row, result = x[o, r], out[o, r]
                for b in range(c0, c1, per):
                    blocks = min(per, c1 - b)
                    start, stop = b * size, min((b + blocks) * size, row.size)
                    n = stop - start
                    spread(scales[o, r // a, b : b + blocks], size, scale[: blocks * size])
                    piece(row[start:stop], result[start:stop], scale, p, nan, met[:n], rounded[:n])

    return along_columns if columns else along_rows
