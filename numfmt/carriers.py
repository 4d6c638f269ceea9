"""Exact values as patterns of the carriers that hold them: exact Python arithmetic."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

from ._core.parameters import Carrier, ieee_carrier
from .formats import CodebookFormat, Exact, FixedFormat, FloatFormat, Format

BINARY256 = ieee_carrier(256, 236)  # holds every operand exactly; runs on Python integers


def pattern(value: Exact, carrier: Carrier) -> int:
    """Carrier code of an exact value; values beyond the carrier become its nearest finite end, NaN is quiet."""
    sign = 1 << carrier.sign_shift
    match value:
        case "nan":
            return carrier.infinity | carrier.hidden >> 1
        case "inf":
            return carrier.infinity
        case "-inf":
            return carrier.infinity | sign
        case "-0":
            return sign
        case Fraction():
            return magnitude_pattern(abs(value), carrier) | (sign if value < 0 else 0)
    raise TypeError(value)


def floor_log2(value: Fraction) -> int:
    """The exponent of a positive number: that of its leading binary digit."""
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    return exponent - (value < Fraction(2) ** exponent)


def magnitude_pattern(value: Fraction, carrier: Carrier) -> int:
    """Largest finite carrier code whose value is at most `value` ≥ 0."""
    if value == 0:
        return 0
    field = max(floor_log2(value) + carrier.bias, 1)
    quantum = Fraction(2) ** (field - carrier.bias - carrier.trailing)
    return min(((field - 1) << carrier.trailing) + value // quantum, carrier.infinity - 1)


def exact_in(value: Exact, carrier: Carrier) -> bool:
    """Whether the carrier holds the value."""
    return not isinstance(value, Fraction) or value_of(pattern(value, carrier), carrier) == value


def value_of(bits: int, carrier: Carrier) -> Fraction:
    """Value of a finite carrier code."""
    magnitude = bits & carrier.magnitude_mask
    field = max(magnitude >> carrier.trailing, 1)
    m = magnitude - ((field - 1) << carrier.trailing)
    value = m * Fraction(2) ** (field - carrier.bias - carrier.trailing)
    return -value if bits >> carrier.sign_shift & 1 else value


def signed(code: int, bits: int) -> int:
    """The two's complement reading of a pattern, which signed carriers hold; exact carriers keep patterns."""
    return code - 2**bits if bits <= 64 and code >= 2 ** (bits - 1) else code


@lru_cache(maxsize=4096)
def holds(carrier: Carrier, fmt: Format) -> bool:
    """Whether a carrier holds every value of a format."""
    match fmt:
        case FloatFormat():
            return all(exact_in(v, carrier) for v in (fmt.max, fmt.min_positive, fmt.min_normal * (2 - fmt.epsilon)))
        case FixedFormat():
            return all(exact_in(v, carrier) for v in (fmt.max, fmt.min, fmt.quantum))
        case CodebookFormat():
            return all(exact_in(v, carrier) for v in fmt.values)
