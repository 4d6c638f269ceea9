"""Operands that a conversion can get wrong, as bit patterns: each exponent, each tie, all 16-bit codes.

Nothing here rounds: patterns are put together from integers, and ties are exact in binary64.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import numpy.typing as npt

from spec import oracle

Array = npt.NDArray[Any]


class Layout(NamedTuple):
    """Fields of an IEEE 754 interchange format, and the unsigned dtype of its patterns."""

    exponent_bits: int
    trailing_bits: int
    pattern: type[np.unsignedinteger[Any]]


LAYOUTS = {
    "float16": Layout(5, 10, np.uint16),
    "bfloat16": Layout(8, 7, np.uint16),
    "float32": Layout(8, 23, np.uint32),
    "float64": Layout(11, 52, np.uint64),
}
DTYPES = {name: np.dtype(getattr(ml_dtypes, name, name)) for name in LAYOUTS}
INTEGERS = {"int64": np.int64, "uint64": np.uint64}


def significands(bits: int, seed: int, random: int) -> list[int]:
    """Trailing significands: none, all, single bits, runs from either end, and a few random ones."""
    ones = 2**bits - 1
    low = [2**i - 1 for i in range(bits + 1)]
    picked = {0, 1, ones, ones - 1, *(1 << i for i in range(bits)), *low, *(ones - run for run in low)}
    return [*sorted(picked), *np.random.default_rng(seed).integers(0, ones, random, endpoint=True).tolist()]


@lru_cache
def stratified(source: str) -> Array:
    """Exponents of a source format with each of `significands`, both signs: NaN and infinity too.

    All exponents of float32; of float64 those that float32 has and every seventh of the others.
    """
    layout = LAYOUTS[source]
    top = 2**layout.exponent_bits - 1
    wide = layout.exponent_bits > 8
    fields = sorted({0, 1, top - 1, top, *range(870, 1160), *range(0, top, 7)}) if wide else range(top + 1)
    patterns = [
        field << layout.trailing_bits | significand
        for field in fields
        for significand in significands(layout.trailing_bits, seed=field, random=4 if wide else 32)
    ]
    return with_both_signs(np.array(patterns, layout.pattern), source)


def with_both_signs(magnitudes: Array, source: str) -> Array:
    layout = LAYOUTS[source]
    sign = layout.pattern(1 << (layout.exponent_bits + layout.trailing_bits))
    return np.concatenate([magnitudes, magnitudes | sign]).view(DTYPES[source])


def every_pattern(source: str) -> Array:
    """All 65536 patterns of a 16-bit source."""
    return np.arange(2**16, dtype=np.uint16).view(DTYPES[source])


@lru_cache
def sizes(name: str) -> Array:
    """Non-negative values of a format of at most 16 bits in ascending order, exact in float64."""
    fmt = oracle.get(name)
    values = (oracle.value(code, fmt) for code in range(2 ** (fmt.bits - fmt.signed)))
    return np.unique(np.array([float(v) for v in values if isinstance(v, Fraction)]))


@lru_cache
def middles(name: str) -> Array:
    """Midpoints between those values, between zero and the least, and beyond the largest."""
    values = sizes(name)
    lowest = [] if values[0] == 0 else [values[0] / 2]
    return np.array([*lowest, *(values[:-1] + values[1:]) / 2, values[-1] + (values[-1] - values[-2]) / 2])


@lru_cache
def ties(name: str, source: str) -> Array:
    """Values and midpoints of a format that a source holds, and their neighbours 1 ulp away, both signs."""
    largest = sizes(name)[-1]
    points = np.concatenate([sizes(name), middles(name), [2 * largest]])
    with np.errstate(over="ignore"):
        at = points.astype(DTYPES[source])
    at = bits(at[at.astype(np.float64) == points])
    one = at.dtype.type(1)
    return with_both_signs(np.unique(np.concatenate([at, at[at > 0] - one, at + one])), source)


@lru_cache
def integers(name: str, source: str) -> Array:
    """Integers at the midpoints of a format and beside them, and around powers of two."""
    whole = [int(m) for m in (*sizes(name), *middles(name)) if m == np.floor(m)]
    short = [s << e for e in range(64) for s in (1, 3, 5, 7, 127, 255, 511)]
    points = [*whole[:: max(1, len(whole) // 3000)], *short]
    limits = np.iinfo(INTEGERS[source])
    near = {sign * (p + step) for p in points for step in (-1, 0, 1) for sign in (1, -1)}
    return np.array(sorted(i for i in near if limits.min <= i <= limits.max), INTEGERS[source])


def operands(name: str, source: str) -> Array:
    """What a conversion from `source` to the format `name` is tried with."""
    if source in INTEGERS:
        return integers(name, source)
    if source in ("float16", "bfloat16"):
        return every_pattern(source)
    return np.concatenate([stratified(source), ties(name, source)])


def bits(array: Array) -> Array:
    """The patterns of a float array, as unsigned integers; integers are left alone."""
    return array if array.dtype.kind in "iu" else array.view(f"uint{8 * array.dtype.itemsize}")


def from_bits(pattern: int, source: str) -> Array:
    """One operand from its pattern (an integer source: from its value), as an array of one element."""
    if source in INTEGERS:
        return np.array([pattern], INTEGERS[source])
    return np.array([pattern], LAYOUTS[source].pattern).view(DTYPES[source])


def is_nan(array: Array) -> Array:
    """NaN, by the fields alone: no float comparison takes part."""
    name = next((name for name, dtype in DTYPES.items() if dtype == array.dtype), None)
    if name is None:
        return np.zeros(array.shape, bool)
    layout = LAYOUTS[name]
    infinity = (2**layout.exponent_bits - 1) << layout.trailing_bits
    magnitude = bits(array) & layout.pattern(2 ** (layout.exponent_bits + layout.trailing_bits) - 1)
    return magnitude > layout.pattern(infinity)
