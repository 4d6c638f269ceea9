"""Values of codes, midpoints, and the values of binary32 and binary64 bit patterns."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from spec.formats import ENUMERABLE_BITS, FloatFormat, Format, Value, power_of_two
from spec.names import resolve


def value(code: int, fmt: Format | str) -> Value:
    """The exact value of a code; bits above the format's width are ignored, codes that mean nothing are "nan"."""
    fmt = resolve(fmt)
    return fmt.value(code % 2**fmt.bits)


def values(fmt: Format | str) -> list[Value]:
    """The value of every code, in code order."""
    fmt = resolve(fmt)
    if fmt.bits > ENUMERABLE_BITS:
        raise ValueError(f"{fmt.name} has too many codes to list")
    return [fmt.value(code) for code in range(2**fmt.bits)]


def midpoints(fmt: Format | str) -> list[Fraction]:
    """The exact midpoints of all adjacent finite values, ascending."""
    exact = (Fraction(0) if v == "-0" else v for v in values(fmt))
    finite = sorted({v for v in exact if isinstance(v, Fraction)})
    return [(below + above) / 2 for below, above in pairwise(finite)]


def overflow_threshold(fmt: Format | str) -> Fraction:
    """The midpoint of the largest finite value and the one that would follow it: from here nearest overflows.

    The point itself overflows or not as the tie rule says.
    """
    fmt = resolve(fmt)
    if not isinstance(fmt, FloatFormat):
        raise ValueError(f"{fmt.name} is no float")
    return (fmt.max + fmt.magnitude(fmt.max_rank + 1)) / 2


def from_float32_bits(bits: int) -> Value:
    """The exact value of a binary32 code."""
    return _from_ieee_bits(bits, 8, 23)


def from_float64_bits(bits: int) -> Value:
    """The exact value of a binary64 code."""
    return _from_ieee_bits(bits, 11, 52)


def _from_ieee_bits(bits: int, exponent_bits: int, trailing_bits: int) -> Value:
    negative, magnitude = divmod(bits, 2 ** (exponent_bits + trailing_bits))
    field, trailing = divmod(magnitude, 2**trailing_bits)
    emax = 2 ** (exponent_bits - 1) - 1
    if field == 2 * emax + 1:
        return "nan" if trailing else "-inf" if negative else "inf"
    if magnitude == 0:
        return "-0" if negative else Fraction(0)
    digits = trailing if field == 0 else trailing + 2**trailing_bits
    return (-digits if negative else digits) * power_of_two(max(field, 1) - emax - trailing_bits)
