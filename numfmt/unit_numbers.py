"""Operands of dot-product units as numbers: normalised, and as the integers and exponents that units align."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._core import arithmetic as core
from ._core.arithmetic import FAR, Frame, Number
from .arithmetic_engine import patterns_of
from .arithmetic_plans import grid_of, layout_of
from .carriers import floor_log2
from .engines import NUMPY
from .formats import FixedFormat, FloatFormat, Subnormals
from .sources import code_dtype

Array = npt.NDArray[Any]
Fmt = FloatFormat | FixedFormat
Numbers = Any  # `Number` of arrays
numbers_of: Callable[..., Numbers] = Number
TABLE_BITS = 16  # of formats whose codes are looked up


class Table(NamedTuple):
    """Numbers, flat: normalised, and as the integers and exponents that units align.

    Attributes:
        number: `Number` of arrays.
        m: significands with `digits` digits after the point, not normalised.
        exponent: their exponents, no lower than the format's least; `-FAR` of zeros.
        special: where they are infinite or NaN.
    """

    number: Numbers
    m: Array
    exponent: Array
    digits: int
    special: Array


@dataclass(frozen=True)
class Columns:
    """The numbers of an operand, K first: where each is in a table."""

    table: Table
    index: Array

    @property
    def special(self) -> Array:
        """Of which rows a number is infinite or NaN."""
        return np.any(self.table.special[self.index], axis=0)

    def at(self, k: int, rows: Array) -> Numbers:
        """The k-th numbers of rows."""
        place = self.index[k][rows]
        return numbers_of(*(field[place] for field in self.table.number))

    def term(self, k: int, rows: Array) -> tuple[Array, Array, Array]:
        """Sign, significand and exponent of the k-th numbers of rows."""
        place = self.index[k][rows]
        return self.table.number.negative[place], self.table.m[place], self.table.exponent[place]


def least_exponent(fmt: Fmt) -> int:
    """The exponent of the smallest normal value; of the quantum, in fixed point."""
    return -fmt.fraction_bits if isinstance(fmt, FixedFormat) else floor_log2(fmt.min_normal)


def last_place(fmt: Fmt) -> int:
    """The exponent of a format's quantum at its least exponent."""
    if isinstance(fmt, FixedFormat):
        return least_exponent(fmt)
    return least_exponent(fmt) - fmt.trailing_bits - (fmt.subnormals is Subnormals.SHIFTED)


def sum_bits(fa: Fmt, fb: Fmt, count: int) -> int:
    """Bits of integers that hold the sum of so many products."""
    top = sum(floor_log2(max(f.max, -f.min)) + 1 for f in (fa, fb))
    return top - last_place(fa) - last_place(fb) + max(count, 1).bit_length()


def columns(codes: Array, fmt: Fmt, frame: Frame, flush: str | None = None) -> Columns:
    """The numbers of codes of shape (rows, K)."""
    turned = np.ascontiguousarray(codes.T)
    if fmt.bits > TABLE_BITS:
        return Columns(_read_table(turned.reshape(-1), fmt, frame, flush), np.arange(turned.size).reshape(turned.shape))
    return Columns(_table(fmt, frame, flush), turned & turned.dtype.type(2**fmt.bits - 1))


@lru_cache(maxsize=32)
def _table(fmt: Fmt, frame: Frame, flush: str | None) -> Table:
    """The numbers of all codes of a format."""
    return _read_table(np.arange(2**fmt.bits).astype(code_dtype(fmt)), fmt, frame, flush)


def _read_table(codes: Array, fmt: Fmt, frame: Frame, flush: str | None) -> Table:
    number = read(patterns_of(codes, fmt), fmt, frame)
    least = least_exponent(fmt)
    if flush and isinstance(fmt, FloatFormat):
        number = flushed(number, least, flush)
    digits = least - last_place(fmt)
    zero = number.m == 0
    exponent = np.where(zero, -FAR, np.maximum(number.exponent, least) if isinstance(fmt, FloatFormat) else least)
    down = frame.carrier.trailing - digits + np.where(zero, 0, exponent - number.exponent)
    special = number.infinite | number.nan
    return Table(number, number.m >> np.minimum(down, 62), exponent, digits, special)


def read(patterns: Array, fmt: Fmt, frame: Frame) -> Numbers:
    """The numbers that codes name, as arrays throughout."""
    if isinstance(fmt, FixedFormat):
        number: Numbers = core.read_fixed(patterns, grid_of(fmt, frame), frame, xp=NUMPY)
        number = number._replace(exponent=np.where(number.m == 0, -FAR, number.exponent))
    else:
        number = core.read(patterns, layout_of(fmt), frame, xp=NUMPY)
    return numbers_of(*(np.broadcast_to(field, patterns.shape) for field in number))


def flushed(number: Numbers, least: int, how: str) -> Numbers:
    """Numbers with zeros in the place of those below 2**least."""
    tiny = (number.exponent < least) & (number.m != 0) & ~number.infinite & ~number.nan
    negative = number.negative if how == "signed" else np.where(tiny, 0, number.negative)
    m, exponent = np.where(tiny, 0, number.m), np.where(tiny, -FAR, number.exponent)
    return number._replace(negative=negative, m=m, exponent=exponent)


def signs_of_zeros(signs: tuple[Array, Array], m: Array, negative: Array) -> tuple[Array, Array]:
    """Where every summand so far is -0, and +0, with one more."""
    return signs[0] & np.where(m == 0, negative, 0), signs[1] & np.where(m == 0, 1 - negative, 0)
