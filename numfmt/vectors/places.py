"""Where exact results lie between two values of a format: guard, sticky, last digit, and both ends."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..formats import FixedFormat, FloatFormat, Format, Subnormals
from .intermediate import NUMBER, Array, Exact, bit_length, left, right, zeros


class Place(NamedTuple):
    """Where exact numbers lie between two values of a format.

    Attributes:
        number: whether it is a number at all; the rest means nothing otherwise.
        top: exponent of the leading digit.
        kept: digits down to the quantum.
        odd: whether the neighbour nearer to zero is odd.
        eighths: the first three dropped digits.
        rest: whether anything but zeros follows them.
        lone: whether exactly one non-zero digit follows the guard digit, or a sticky one alone.
        low: whether the number lies below the smallest normal.
    """

    number: Array
    top: Array
    kept: Array
    odd: Array
    eighths: Array
    rest: Array
    lone: Array
    low: Array

    @property
    def exact(self) -> Array:
        """Whether nothing is dropped."""
        return self.number & (self.eighths == 0) & ~self.rest

    @property
    def tie(self) -> Array:
        """Whether the dropped part is one half."""
        return self.number & (self.eighths == 4) & ~self.rest

    @property
    def above_tie(self) -> Array:
        """Whether it is above one half by at most 1/8."""
        return self.number & ((self.eighths == 4) & self.rest | (self.eighths == 5) & ~self.rest)

    @property
    def below_tie(self) -> Array:
        """Whether it is below one half by at most 1/8."""
        return self.number & (self.eighths == 3)

    @property
    def above_value(self) -> Array:
        """Whether it is at most 1/8, and something."""
        return self.number & ((self.eighths == 0) & self.rest | (self.eighths == 1) & ~self.rest)

    @property
    def below_value(self) -> Array:
        """Whether it is at least 7/8."""
        return self.number & (self.eighths == 7)

    @property
    def upper_half(self) -> Array:
        """Whether it is at least one half."""
        return self.number & (self.eighths >= 4)


def quantum(fmt: Format, top: Array) -> Array:
    """Exponent of the distance of neighbouring values where the leading digit has exponent `top`."""
    if isinstance(fmt, FixedFormat):
        return np.full(np.shape(top), -fmt.fraction_bits)
    assert isinstance(fmt, FloatFormat)
    t = fmt.trailing_bits
    if fmt.subnormals in (Subnormals.NONE, Subnormals.NORMAL):
        lowest = fmt.emin
    else:
        lowest = fmt.emin - t - (fmt.subnormals is Subnormals.SHIFTED)
    return np.where(top >= fmt.emin, top - t, lowest)


def place(exact: Exact, fmt: Format) -> Place:
    """Where exact results lie in a float or fixed-point format."""
    number = exact.kind == NUMBER
    top = exact.top
    low = number & (top < fmt.emin) if isinstance(fmt, FloatFormat) else zeros(number)
    shift = np.where(number, quantum(fmt, top) - exact.e, 0)
    return _dropped(exact, number, top, shift, low, fmt)


def integral_place(exact: Exact) -> Place:
    """Where exact results lie between two integers."""
    number = exact.kind == NUMBER
    return _dropped(exact, number, exact.top, np.where(number, -exact.e, 0), zeros(number), FixedFormat(64))


def _dropped(exact: Exact, number: Array, top: Array, shift: Array, low: Array, fmt: Format) -> Place:
    m = exact.m
    far = shift > bit_length(m) + 3
    shift = np.where(far, 0, shift)
    kept = np.where(shift > 0, right(m, shift), left(m, -shift))
    if m.dtype != object:  # beyond every end
        kept = np.where(bit_length(m) - np.minimum(shift, 0) > 62, np.int64(1 << 62), kept)
    tail = np.where(shift > 0, m - left(right(m, shift), shift), 0 * m)
    eighths = np.where(shift >= 3, right(tail, shift - 3), left(tail, 3 - shift))
    below = np.asarray(np.where(shift > 3, left(eighths, shift - 3) != tail, False), bool)
    eighths = np.asarray(np.where(shift > 0, eighths, 0 * m), np.int64)
    half = np.where(shift > 0, left(1 + 0 * m, shift - 1), 0 * m)
    after = np.where(eighths >= 4, tail - half, 0 * m)
    single = np.asarray(after & (after - 1) == 0, bool) & np.asarray(after != 0, bool) & ~exact.sticky
    lone = (eighths == 4) & (single | np.asarray(after == 0, bool) & exact.sticky)
    kept = np.where(far, 0 * m, kept)
    odd = np.asarray(kept & 1 == 1, bool)
    if isinstance(fmt, FloatFormat) and fmt.trailing_bits == 0:
        odd = (top + fmt.bias) & 1 == 1
    eighths, rest = np.where(far, 0, eighths), below | exact.sticky | far
    return Place(number, top, kept, odd & number, eighths, rest, lone & ~far, low)


def threshold(exact: Exact, to: Format, n: int) -> Array:
    """2^N less the first N dropped binary digits as an integer: from that random number on, a result goes away."""
    number = exact.kind == NUMBER
    shift = np.where(number, quantum(to, exact.top) - exact.e, 0)
    m = exact.m.astype(object)
    tail = np.where(shift > 0, m - left(right(m, shift), shift), 0)
    first = np.where(shift > n, right(tail, shift - n), left(tail, n - shift))
    return (2**n - np.where(number, first, 0)).astype(np.uint64)
