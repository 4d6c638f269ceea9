"""The exact result of one row, as a fraction; what the explanations of mismatches compute with.

Irrational roots are cut far below every digit that matters, with one digit more that says that something follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import isqrt

from ..formats import Exact, FixedFormat, Format

PLACES = 600  # binary digits kept of roots


def number(value: Exact) -> Fraction:
    """A finite value as a fraction."""
    return value if isinstance(value, Fraction) else Fraction(0)


def is_negative(value: Exact) -> bool:
    """The sign."""
    return value.startswith("-") if isinstance(value, str) else value < 0


def is_zero(value: Exact) -> bool:
    """Whether it is a zero of either sign."""
    return value in (0, "-0")


def is_infinite(value: Exact) -> bool:
    """Whether it is an infinity."""
    return value in ("inf", "-inf")


def _infinity(negative: bool) -> Exact:
    return "-inf" if negative else "inf"


def _zero(negative: bool) -> Exact:
    return "-0" if negative else Fraction(0)


def negated(x: Exact) -> Exact:
    """-x."""
    if isinstance(x, Fraction):
        return -x if x else "-0"
    return {"-0": Fraction(0), "inf": "-inf", "-inf": "inf"}.get(x, x)  # type: ignore[return-value]


def multiply(x: Exact, y: Exact) -> Exact:
    """X × y."""
    negative = is_negative(x) != is_negative(y)
    if "nan" in (x, y) or (is_infinite(x) and is_zero(y)) or (is_zero(x) and is_infinite(y)):
        return "nan"
    if is_infinite(x) or is_infinite(y):
        return _infinity(negative)
    return number(x) * number(y) or _zero(negative)


def add(x: Exact, y: Exact, zero_negative: bool = False) -> Exact:
    """X + y; an exact zero of opposite signs has the sign that is given."""
    if "nan" in (x, y) or (is_infinite(x) and is_infinite(y) and x != y):
        return "nan"
    if is_infinite(x) or is_infinite(y):
        return x if is_infinite(x) else y
    if is_zero(x) and is_zero(y) and is_negative(x) == is_negative(y):
        return x
    return number(x) + number(y) or _zero(zero_negative)


def divide(x: Exact, y: Exact) -> Exact:
    """X ÷ y; infinite by zero."""
    negative = is_negative(x) != is_negative(y)
    if "nan" in (x, y) or (is_infinite(x) and is_infinite(y)) or (is_zero(x) and is_zero(y)):
        return "nan"
    if is_infinite(x) or is_zero(y):
        return _infinity(negative)
    return Fraction(0) if is_infinite(y) and not negative else "-0" if is_infinite(y) else _quotient(x, y, negative)


def _quotient(x: Exact, y: Exact, negative: bool) -> Exact:
    return number(x) / number(y) or _zero(negative)


def root(x: Exact) -> Exact:
    """√x, cut where it is irrational."""
    if x in ("nan", "-0", "inf") or is_zero(x):
        return x
    if is_negative(x):
        return "nan"
    value = number(x)
    places = PLACES + value.denominator.bit_length()
    square = value * 4**places
    floor = isqrt(square.numerator // square.denominator)
    return Fraction(2 * floor + (floor * floor != square), 2 ** (places + 1))


def remainder(x: Exact, y: Exact) -> Exact:
    """X - n × y, n the integer nearest to x ÷ y."""
    if "nan" in (x, y) or is_infinite(x) or is_zero(y):
        return "nan"
    if is_infinite(y) or is_zero(x):
        return x
    rest = number(x) - round(number(x) / number(y)) * number(y)
    return rest or _zero(is_negative(x))


def scaled(x: Exact, n: Exact) -> Exact:
    """X × 2^n."""
    if not isinstance(x, Fraction) or not x:
        return x
    return x * Fraction(2) ** max(-(10**6), min(10**6, int(number(n))))


def result(operation: str, values: Sequence[Exact], zero_negative: bool = False) -> Exact | None:
    """The exact result of an operation on values; None where its result is no rounded number.

    >>> result("fma", [Fraction(3), Fraction(1, 2), Fraction(-1)])
    Fraction(1, 2)
    """
    match operation:
        case "convert" | "from_integer" | "to_integer" | "round_to_integral":
            return values[0]
        case "add":
            return add(values[0], values[1], zero_negative)
        case "sub":
            return add(values[0], negated(values[1]), zero_negative)
        case "mul":
            return multiply(values[0], values[1])
        case "div":
            return divide(values[0], values[1])
        case "sqrt":
            return root(values[0])
        case "rem":
            return remainder(values[0], values[1])
        case "fma" | "mac":
            return add(multiply(values[0], values[1]), values[2], zero_negative)
        case "scale_b":
            return scaled(values[0], values[1])
    return None


def dot(values: Sequence[Sequence[Exact]], scales: Sequence[Sequence[Exact]], zero_negative: bool = False) -> Exact:
    """The sum of products, each times its scales."""
    total: Exact | None = None
    for lane, (x, y) in enumerate(zip(*values, strict=True)):
        term = multiply(x, y)
        for scale in scales:
            term = multiply(term, scale[lane])
        total = term if total is None else add(total, term, zero_negative)
    return total if total is not None else Fraction(0)


def value_of(code: int, fmt: Format) -> Exact:
    """The value of a code; of integers given with their sign too."""
    return fmt.exact(int(code) & (1 << fmt.bits) - 1) if isinstance(fmt, FixedFormat) else fmt.exact(int(code))
