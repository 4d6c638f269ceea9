"""Numba loops over blocks; imported by block_compiled.py when a large array asks for them.

An operand is canonical (outer, rows, columns) binary32 patterns; a block is `a` rows by `g` columns. With
g = 1 the loops run along a row, each column with its own scale; else along the elements of a block.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from . import lanes
from ._core.parameters import BINARY32, BINARY64, Round
from .loops import KERNELS, inner, jit, unpackers

lane32, lane64, plain = lanes.lane32, lanes.lane64, lanes.plain
MAGNITUDE = BINARY32.magnitude_mask
NAN_SCALE, ZERO_SCALE = -(2**20), 2**20  # exponents that stand for scales without one

shift_target, shift_values = KERNELS["block.shifted_target"], KERNELS["block.shifted_values"]
shift_grid = KERNELS["block.shifted_grid"]
encode_float, quantize_float = KERNELS["float.encode"], KERNELS["float.quantize"]
encode_saturating, quantize_saturating = KERNELS["block.encode_saturating"], KERNELS["block.quantize_saturating"]
encode_fixed, decode_fixed = KERNELS["fixed.encode"], KERNELS["fixed.decode"]


_scale_rules, _scale_parameters = unpackers("float", lane32)


def make(kind: str, *options: Any) -> Any:
    """The loop of a kind and its options; compiled on first use, or loaded from disk."""
    makers: dict[str, Any] = {
        "amax": _amax_rows, "amax columns": _amax_columns, "steps": lambda: _steps,
        "tensor scales": lambda: _tensor_scales, "offset": _offset, "whole": _whole, "scaled": _scaled,
        "divided": _divided, "decode": _decode,
    }  # fmt: skip
    return jit(makers[kind](*options), "block", kind.replace(" ", "_"), *options)


# ---- amax ------------------------------------------------------------------------------------------------------

TILE = 1 << 14  # elements whose scales are found together; operand and result stay in the second-level cache
PIECE = 1 << 13  # elements whose exponents are spread at a time
SHORT_PIECE = 1 << 11  # the same for loops over several buffers: all of them stay in the first-level cache


def _amax_rows(g: int) -> Any:
    """Loops for blocks of g elements; of any length where g is 0."""
    largest: Any = lanes.block_maximum(g) if g else None

    def known(x, out, limit, a, size, o0, o1, r0, r1, c0, c1):
        for o in range(o0, o1):
            for r in range(r0, r1):
                source, row = x[o, r], out[o, r // a, c0:c1]
                if r % a == 0:
                    for b in range(row.size):
                        row[b] = largest(source, (c0 + b) * g, MAGNITUDE, limit)
                else:
                    for b in range(row.size):
                        row[b] = max(row[b], largest(source, (c0 + b) * g, MAGNITUDE, limit))

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


def _amax_columns() -> Any:
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


# ---- scales ----------------------------------------------------------------------------------------------------


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


steps_of_row = inner(_steps_of_row, "steps_of_row")


def _steps(amax, step, special, special_shifts, codes, shifts, o0, o1, r0, r1, c0, c1):
    for o in range(o0, o1):
        for r in range(r0, r1):
            steps_of_row(amax[o, r, c0:c1], step, special, special_shifts, codes[o, r, c0:c1], shifts[o, r, c0:c1])


def _tensor_scales(amax, by, inverse_by, p, table, codes, values, factors, o0, o1, r0, r1, c0, c1):
    """TransformerEngine's NVFP4 scales: scaling.md 4.1, each operation in binary32 (numfmt.scale_rules)."""
    mode, results = _scale_rules(p)
    target = _scale_parameters(p)
    largest, one = np.float32(3.4028234663852886e38), np.float32(1)
    for o in range(o0, o1):
        for r in range(r0, r1):
            source, code = amax[o, r, c0:c1], codes[o, r, c0:c1]
            value, factor = values[o, r, c0:c1], factors[o, r, c0:c1]
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


# ---- one number a block for every element ------------------------------------------------------------------------


def _spreader(g: int, *name: Any) -> Any:
    """A function that repeats each of some numbers for the elements of its block."""
    fill: Any = lanes.block_fill(g) if g else None

    def known(numbers, size, out):
        for b in range(numbers.size):
            fill(out, b * g, numbers[b])

    def any_size(numbers, size, out):
        for b in range(numbers.size):
            out[b * size : (b + 1) * size] = numbers[b]

    return inner(known if g else any_size, "spread", g, *name)


# ---- elements --------------------------------------------------------------------------------------------------


def _offset_rounders(kind: str, in_carrier: bool, saturating: bool) -> tuple[Any, Any]:
    """One element under a scale of 2**shift: where all of that is normal in the carrier, and anywhere (codes only)."""

    @njit(forceinline=True)
    def fast_codes(bits, random, shift, target, results, mode, finite):
        return encode_float(bits, random, BINARY32, shift_target(target, shift), results, mode, False, lanes)

    @njit(forceinline=True)
    def fast_values(bits, random, shift, target, results, mode, finite):
        moved, ends = shift_values(target, results, shift, BINARY32, finite[0], finite[1])
        return quantize_float(bits, random, BINARY32, moved, ends, mode, False, lanes)

    @njit(forceinline=True)
    def saturated_codes(bits, random, shift, target, results, mode, finite):
        return encode_saturating(bits, random, BINARY32, target, shift, mode, lanes)

    @njit(forceinline=True)
    def saturated_values(bits, random, shift, target, results, mode, finite):
        return quantize_saturating(bits, random, BINARY32, target, shift, mode, lanes)

    @njit(forceinline=True)
    def slow_codes(bits, random, shift, target, results, mode):
        return encode_float(bits, random, BINARY32, shift_target(target, shift), results, mode, True, lanes)

    @njit(forceinline=True)
    def fixed_codes(bits, random, shift, grid, results, mode, finite):
        return encode_fixed(bits, random, BINARY32, shift_grid(grid, shift), results, mode, lanes)

    @njit(forceinline=True)
    def fixed_values(bits, random, shift, grid, results, mode, finite):
        moved = shift_grid(grid, shift)
        return decode_fixed(encode_fixed(bits, random, BINARY32, moved, results, mode, lanes), BINARY32, moved, lanes)

    @njit(forceinline=True)
    def slow_fixed(bits, random, shift, grid, results, mode):
        return encode_fixed(bits, random, BINARY32, shift_grid(grid, shift), results, mode, lanes)

    if kind == "float" and saturating:
        return (saturated_values if in_carrier else saturated_codes), slow_codes
    if kind == "float":
        return (fast_values if in_carrier else fast_codes), slow_codes
    return (fixed_values if in_carrier else fixed_codes), slow_fixed


EVEN = Round(nearest=1, lsb=1, sign=0, flip=0, random_bits=0, high_ones=0)


def _offset_pieces(kind: str, in_carrier: bool, way: str, randomly: bool) -> tuple[Any, Any]:
    """Functions that write a stretch of elements under an exponent for each: quickly, and whatever the exponents.

    Args:
        way: "general", "saturating", or "even": saturating, and ties go to even.
    """
    rules, parameters = unpackers(kind, lane32)
    fast, slow = _offset_rounders(kind, in_carrier, way != "general")

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
            rounding = EVEN if way == "even" else mode
            result[j] = plain(
                fast(lane32(x[j]), number(numbers, j), lane32(shift[j]), target, results, rounding, ends)
            )

    name = ("offset", kind, in_carrier, way, randomly)
    return inner(quick_elements, "quickly", *name), inner(careful_elements, "carefully", *name)


def _offset_blocks(kind: str, in_carrier: bool, way: str, g: int, randomly: bool) -> Any:
    """A function that writes some blocks of a row, in pieces as long as all their exponents allow."""
    quickly, carefully = _offset_pieces(kind, in_carrier, way, randomly)
    spread = _spreader(g, "int32")

    def blocks(row, result, words, b, shift, every, p, q, finite, low, high, table, mask, size):
        start, stop = b * size, min((b + shift.size) * size, row.size)
        least, most = shift[0], shift[0]
        for j in range(shift.size):
            least, most = min(least, shift[j]), max(most, shift[j])
        spread(shift, size, every[: shift.size * size])
        if low <= least and most <= high:
            quickly(row[start:stop], result[start:stop], words[start:stop], every[: stop - start], p, finite)
            return
        for j in range(shift.size):
            start, stop = (b + j) * size, min((b + j + 1) * size, row.size)
            part = every[j * size : j * size + stop - start]
            if low <= shift[j] <= high:
                quickly(row[start:stop], result[start:stop], words[start:stop], part, p, finite)
            else:
                carefully(row[start:stop], result[start:stop], words[start:stop], part, q, table, mask)

    return inner(blocks, "blocks", kind, in_carrier, way, g, randomly)


def _offset(kind: str, in_carrier: bool, way: str, g: int, columns: bool, randomly: bool) -> Any:
    """Elements under power-of-two scales.

    p are the parameters of the fast rounding, for exponents from low to high; q those of the slow one,
    which gives codes, and values by a table.
    """
    quickly, carefully = _offset_pieces(kind, in_carrier, way, randomly)
    blocks = _offset_blocks(kind, in_carrier, way, g, randomly)

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
                    blocks(
                        x[o, r], out[o, r], numbers[o, r], b, shift, every, p, q, finite, low, high, table, mask, size
                    )

    return along_columns if columns else along_rows


def _whole(kind: str, in_carrier: bool, way: str, g: int, randomly: bool) -> Any:
    """`amax`, `steps` and `offset` of blocks in a row, tile by tile."""
    blocks, largest = _offset_blocks(kind, in_carrier, way, g, randomly), lanes.block_maximum(g)

    def amaxes(row, start, limit, most):
        for b in range(most.size):
            most[b] = largest(row, start + b * g, MAGNITUDE, limit)

    amaxes = inner(amaxes, "amaxes", g)

    def along_rows(
        x, out, numbers, limit, step, special, special_shifts, codes, p, q, finite, low, high, table, mask, a, size,
        o0, o1, r0, r1, c0, c1,
    ):  # fmt: skip
        tile, per = TILE // g, PIECE // g
        every, most, shifts = np.empty(per * g, np.int32), np.empty(tile, np.int32), np.empty(tile, np.int32)
        for o in range(o0, o1):
            for r in range(r0, r1):
                row, result, words = x[o, r], out[o, r], numbers[o, r]
                for b in range(c0, c1, tile):
                    n = min(tile, c1 - b)
                    amaxes(row, b * g, limit, most[:n])
                    steps_of_row(most[:n], step, special, special_shifts, codes[o, r, b : b + n], shifts[:n])
                    for j in range(0, n, per):
                        shift = shifts[j : min(j + per, n)]
                        blocks(row, result, words, b + j, shift, every, p, q, finite, low, high, table, mask, g)

    return along_rows


def _scaled(in_carrier: bool, divides: bool, even: bool, g: int, columns: bool) -> Any:
    """Float elements multiplied or divided in binary32 before they are rounded; values are (v s) t, or (v s) / t.

    `how` says how the tensor scale t takes part: 0 not, 1 multiplied, 2 divided by. `even` is for formats
    without NaN and infinity under ties to even and saturation, where a NaN becomes the largest value.
    """
    rules, parameters = unpackers("float", lane32)
    kernel = quantize_float if in_carrier else encode_float
    saturating = quantize_saturating if in_carrier else encode_saturating

    @njit(forceinline=True)
    def one(bits, target, results, mode):
        if even:
            nan = (bits & MAGNITUDE) > 0x7F800000
            number = lanes.where(nan, lane32(0x7F800000), bits)
            return saturating(number, None, BINARY32, target, lane32(0), EVEN, lanes)
        return kernel(bits, None, BINARY32, target, results, mode, False, lanes)

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

    piece, spread = inner(scaled_piece, "scaled", in_carrier, divides, even), _spreader(g, "float32")

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


def _divided(kind: str, in_carrier: bool, general: bool, g: int, columns: bool) -> Any:
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

    piece, spread = inner(divided_piece, "divided", kind, in_carrier, general), _spreader(g, "float32")

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


# ---- decoding --------------------------------------------------------------------------------------------------


def _decode(regular: bool, g: int, columns: bool) -> Any:
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

    piece, spread = inner(decoded_piece, "decoded", regular), _spreader(g, "float32")

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
