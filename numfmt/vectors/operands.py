"""Operands of the styles exhaustive and random: row i depends on i, and on the seed, alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ..formats import FloatFormat, Format
from ..random import random_bits
from .functions import Function, Rules
from .rows import random_count

Array = npt.NDArray[Any]

# Folded into the seed, beside the numbers of the operands.
STREAMS = {"near": 999, "random": 1000, "base": 1001, "usual": 1100}


def combinations(function: Function, rules: Rules) -> int:
    """Bits of all operands, and random numbers, of a row together."""
    bits = sum(w * n for w, n in zip(function.operand_widths, function.operand_sizes, strict=True))
    return bits + (rules.random_bits * random_count(function) if function.rounds else 0)


def exhaustive(function: Function, rules: Rules, start: int, stop: int) -> tuple[list[Array], Array | None]:
    """Operands, and random numbers, of rows start … stop - 1 of all combinations; the last column runs fastest."""
    index = np.arange(start, stop, dtype=np.uint64)
    columns: list[Array] = []
    parts = list(zip(function.operand_widths, function.operand_sizes, strict=True))
    if rules.random_bits and function.rounds:
        parts.append((rules.random_bits, random_count(function)))
    low = sum(width * size for width, size in parts)
    for width, size in parts:
        codes = []
        for _ in range(size):
            low -= width
            shifted = index >> np.uint64(low) if low < 64 else np.zeros_like(index)
            codes.append(shifted & np.uint64(2**width - 1) if width < 64 else shifted)
        columns.append(codes[0] if size == 1 else np.stack(codes, axis=1))
    if rules.random_bits and function.rounds:
        return columns[:-1], columns[-1]
    return columns, None


def random(function: Function, rules: Rules, seed: int, start: int, stop: int) -> tuple[list[Array], Array | None]:
    """Operands, and random numbers, of rows start … stop - 1 of the random style.

    Half of the codes are uniform, half are interesting: exponents at the ends of the range, near that of 1 and across,
    significands of one run of ones or zeros, as TestFloat mixes them. One row in eight has operands near each other.
    """
    columns = [
        _column(fmt, size, (seed, number), start, stop)
        for number, (fmt, size) in enumerate(zip(function.sources, function.operand_sizes, strict=True))
    ]
    if function.operation == "encode_block":
        columns[0] = _gathered(columns[0].reshape(stop - start, -1), seed, start, stop).reshape(columns[0].shape)
    if function.operation == "unit_dot":
        columns = [
            _usual(column, fmt, (seed, STREAMS["usual"] + number), start, stop)
            for number, (fmt, column) in enumerate(zip(function.sources, columns, strict=True))
        ]
    if len(columns) > 1 and function.sources[0] == function.sources[1] and not function.is_long:
        columns[1] = _near(columns[0], columns[1], function.sources[0].bits, seed, start, stop)
    return columns, random_numbers(function, rules, seed, start, stop)


def random_numbers(function: Function, rules: Rules, seed: int, start: int, stop: int) -> Array | None:
    """Random numbers of stochastic rounding of rows start … stop - 1, or None."""
    if not rules.random_bits or not function.rounds:
        return None
    count = random_count(function)
    words = random_bits((seed, STREAMS["random"]), (stop - start) * count, offset=start * count) >> np.uint32(
        32 - rules.random_bits
    )
    return words if count == 1 else words.reshape(-1, count)


def _column(fmt: Format, size: int, seed: tuple[int, int], start: int, stop: int) -> Array:
    """Codes of an operand, n or (n, size)."""
    if fmt.bits > 64:
        return _wide(fmt, size, seed, start, stop)
    n, count = (stop - start) * size, 2 if fmt.bits <= 32 else 3
    words = random_bits(seed, (n, count), offset=start * size * count)
    choice, table = words[:, 0], _interesting(fmt)
    uniform: Array = words[:, 1] & np.uint32(2 ** min(fmt.bits, 32) - 1)
    if count == 3:
        uniform = uniform.astype(np.uint64) << np.uint64(fmt.bits - 32) | words[:, 2] >> np.uint32(64 - fmt.bits)
    codes = np.where(choice & 1 != 0, table[(choice >> np.uint32(1)) % np.uint32(len(table))], uniform)
    return codes if size == 1 else codes.reshape(-1, size)


@lru_cache(maxsize=64)
def _interesting(fmt: Format) -> Array:
    """Interesting codes of a format: few exponent fields and regular significands; integers near powers of two."""
    codes = _float_edges(fmt) if isinstance(fmt, FloatFormat) else _integer_edges(fmt.bits)
    return np.array(sorted({code % 2**fmt.bits for code in codes}), np.uint64 if fmt.bits > 32 else np.uint32)


def _float_edges(fmt: FloatFormat) -> Iterator[int]:
    """Exponent fields at the ends, around that of 1, and across the range; significands of few runs of ones."""
    t, top, one = fmt.trailing_bits, 2**fmt.exponent_bits - 1, fmt.bias
    fields = {0, 1, 2, top, top - 1, top - 2, *range(0, top, max(1, top // 64))}
    for near in (one, one - fmt.precision, one + fmt.precision, one + t, one // 2, one + one // 2):
        fields |= {near - 1, near, near + 1}
    ones = 2**t - 1
    runs = {2**i for i in range(t)} | {2**i - 1 for i in range(t + 1)} | {0, ones, ones - 1}
    for field in fields:
        for run in runs | {ones ^ run for run in runs}:
            if 0 <= field <= top:
                code = field << t | run & ones
                yield from {code, code | fmt.sign_mask}


def _integer_edges(bits: int) -> Iterator[int]:
    """Integers within 4 of zero and of powers of two, of both signs."""
    for base in [0, *(2**i for i in range(bits))]:
        for step in range(-4, 5):
            yield from (base + step, -base - step)


def _gathered(codes: Array, seed: int, start: int, stop: int) -> Array:
    """Binary32 codes of blocks, seven of eight brought within 16 binades below an exponent that the row has."""
    words = random_bits((seed, STREAMS["base"]), codes.shape, offset=start * codes.shape[1]).astype(np.uint64)
    base = np.where(words[:, :1] & 3 == 0, words[:, :1] >> 8 & 255, np.uint64(127) + (words[:, :1] >> 8 & 15))
    field = np.maximum(base.astype(np.int64) - (words >> 16 & 15).astype(np.int64), 0).astype(np.uint64)
    near = (codes & np.uint64(0x807FFFFF)) | np.minimum(field, np.uint64(254)) << np.uint64(23)
    return np.where(words >> 24 & 7 != 0, near, codes)


def _usual(codes: Array, fmt: Format, seed: tuple[int, int], start: int, stop: int) -> Array:
    """Operands of a unit: in seven rows of eight no specials, and within 16 binades about 1 where there are more."""
    if not isinstance(fmt, FloatFormat) or fmt.integer_bit:
        return codes
    flat = codes.reshape(stop - start, -1)
    words = random_bits(seed, (*flat.shape, 2), offset=start * flat.shape[1] * 2).astype(np.uint64)
    wide, t = flat.astype(np.uint64), np.uint64(fmt.trailing_bits)
    magnitude = wide & np.uint64(fmt.magnitude_mask)
    field = magnitude >> t
    if fmt.exponent_bits > 5:
        field = np.uint64(fmt.bias - 12) + (words[..., 0] & np.uint64(15))
    fraction = magnitude & np.uint64(2**fmt.trailing_bits - 1)
    sign = wide & np.uint64(fmt.sign_mask if fmt.signed else 0)
    made = np.minimum(field << t | fraction, np.uint64(fmt.max_code)) | sign
    row = np.arange(start, stop)[:, None]
    return np.where(row % 8 == 7, wide, made).astype(codes.dtype).reshape(codes.shape)


def _near(first: Array, second: Array, bits: int, seed: int, start: int, stop: int) -> Array:
    """The second operand, in one row of eight a code beside the first one's, of either sign."""
    if bits > 64:
        return second
    words = random_bits((seed, STREAMS["near"]), stop - start, offset=start)
    index = np.flatnonzero(words & 7 == 0)
    chosen = words[index].astype(np.uint64)
    beside = (first[index] + (chosen >> 8 & 3) - 1) ^ ((chosen >> 12 & 1) << np.uint64(bits - 1))
    second[index] = beside & np.uint64(2**bits - 1)
    return second


def _wide(fmt: Format, size: int, seed: tuple[int, int], start: int, stop: int) -> Array:
    """Uniform codes of more than 64 bits, as Python integers."""
    n, count = (stop - start) * size, -(-fmt.bits // 32)
    words = random_bits(seed, (n, count), offset=start * size * count).astype(object)
    codes = np.zeros(n, object)
    for i in range(count):
        codes = codes << 32 | words[:, i]
    codes &= 2**fmt.bits - 1
    return codes if size == 1 else codes.reshape(-1, size)
