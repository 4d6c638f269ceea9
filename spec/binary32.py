"""Arithmetic on exact values, and the operations of a machine: the exact result, rounded once to a float format.

Values are Fractions and the words "nan", "inf", "-inf", "-0"; a plain 0 is +0. Vendor rules that are defined by float
operations are stated with multiply, divide, add and subtract; the exact ones are product, quotient and total.
"""

from __future__ import annotations

from decimal import Context, Decimal
from fractions import Fraction
from math import floor

from spec.oracle import Value, encode, power_of_two, value

FLT_MAX = (2 - power_of_two(-23)) * power_of_two(127)


def nearest(x: Value, fmt: str = "binary32") -> Value:
    """The value of the format nearest to x, ties to even, infinity beyond the largest: one IEEE 754 rounding."""
    return value(encode(x, fmt, "ties_to_even", "infinity"), fmt)


# ---- exact -----------------------------------------------------------------------------------------------------


def is_nan(x: Value) -> bool:
    return x in ("nan", "-nan")


def is_infinite(x: Value) -> bool:
    return x in ("inf", "-inf")


def is_negative(x: Value) -> bool:
    return x.startswith("-") if isinstance(x, str) else x < 0


def magnitude(x: Value) -> Value:
    """Without its sign: a Fraction, "inf" or "nan"."""
    if isinstance(x, str):
        return Fraction(0) if x == "-0" else x.removeprefix("-")
    return abs(x)


def with_sign(size: Value, negative: bool) -> Value:
    if size == "nan" or not negative:
        return size
    if size == "inf":
        return "-inf"
    return -size if size else "-0"


def product(*factors: Value) -> Value:
    """The exact product, with the sign that IEEE 754 gives to zeros; 0 times infinity is NaN."""
    sizes = [magnitude(factor) for factor in factors]
    if "nan" in sizes or ("inf" in sizes and 0 in sizes):
        return "nan"
    negative = sum(is_negative(factor) for factor in factors) % 2 == 1
    result = Fraction(1)
    for size in sizes:
        if size == "inf":
            return with_sign("inf", negative)
        result *= size
    return with_sign(result, negative)


def quotient(x: Value, y: Value) -> Value:
    """The exact quotient; x / 0 is infinity, 0 / 0 and inf / inf are NaN."""
    over = magnitude(y)
    inverse = "nan" if over == "nan" else "inf" if over == 0 else Fraction(0) if over == "inf" else 1 / over
    return product(x, with_sign(inverse, is_negative(y)))


def total(x: Value, y: Value) -> Value:
    """The exact sum; it is -0 only where both are."""
    if is_nan(x) or is_nan(y) or (is_infinite(x) and is_infinite(y) and x != y):
        return "nan"
    if is_infinite(x) or is_infinite(y):
        return x if is_infinite(x) else y
    if x == y == "-0":
        return "-0"
    return sum((Fraction(0) if term == "-0" else term for term in (x, y)), Fraction(0))


def is_less(x: Value, y: Value) -> bool:
    """x < y; never with a NaN."""
    if is_nan(x) or is_nan(y):
        return False
    return _order(x) < _order(y)


def _order(x: Value) -> tuple[int, Fraction]:
    if is_infinite(x):
        return (-1 if is_negative(x) else 1), Fraction(0)
    return 0, Fraction(0) if isinstance(x, str) else x


# ---- rounded once ----------------------------------------------------------------------------------------------


def multiply(x: Value, y: Value) -> Value:
    return nearest(product(x, y))


def divide(x: Value, y: Value) -> Value:
    return nearest(quotient(x, y))


def add(x: Value, y: Value) -> Value:
    return nearest(total(x, y))


def subtract(x: Value, y: Value) -> Value:
    return add(x, with_sign(magnitude(y), not is_negative(y)))


def minimum(x: Value, y: Value) -> Value:
    """C's fminf: a NaN loses to a number."""
    if is_nan(x):
        return y
    return y if is_less(y, x) else x


def at_least(x: Value, low: Value) -> Value:
    """torch.clamp(min=): a NaN stays."""
    return low if is_less(x, low) else x


def at_most(x: Value, high: Value) -> Value:
    """torch.clamp(max=): a NaN stays."""
    return high if is_less(high, x) else x


def floor_of_log2(x: Fraction) -> int:
    """The largest integer that is at most the binary32 nearest to log2(x), which is not always floor(log2(x)).

    The logarithm is computed to 60 digits. That decides the rounding: log2 of a binary32 is an integer or irrational,
    and none lies within 1e-50 of a midpoint of two binary32.
    """
    context = Context(prec=60)
    decimal = context.divide(Decimal(x.numerator), Decimal(x.denominator))
    logarithm = Fraction(context.divide(context.ln(decimal), context.ln(Decimal(2))))
    rounded = nearest(logarithm)
    assert isinstance(rounded, Fraction)
    return floor(rounded)
