"""GGUF's Q8_0, Q4_0, Q4_1, Q5_0 and Q5_1, as gguf 0.19.0 computes them: binary32 operations, binary16 scales.

Q8_0           d = amax / 127;             q = x * (1/d), rounded half away from zero
Q4_0, Q5_0     d = m / -8 or -16;          q = trunc(x * (1/d) + 8.5 or 16.5), at most 15 or 31
               where m is the first element of the largest magnitude, with its sign
Q4_1, Q5_1     d = (max - min) / 15 or 31; q = trunc((x - min) * (1/d) + 0.5), at most 15 or 31

1/d is 0 where d is 0. Elements see the binary32 d; d and min are rounded to binary16 only when they are stored.
A NaN or an infinity that reaches the conversion to an integer becomes 0, which is what x86 processors answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import floor

from spec.binary32 import add, divide, is_infinite, is_less, is_nan, is_negative, magnitude, multiply, nearest, subtract
from spec.block_rules import ZERO, EncodedBlock, largest_of
from spec.block_spec import BlockSpec
from spec.oracle import FixedFormat, Value, encode


def encode_gguf(values: Sequence[Value], spec: BlockSpec) -> EncodedBlock:
    operands = [nearest(v) for v in values]
    element = spec.element
    assert isinstance(element, FixedFormat)
    match spec.rule:
        case "q8_0":
            d = divide(largest_of([magnitude(x) for x in operands]), Fraction(127))
            steps = [_half_away(multiply(x, _inverse(d))) for x in operands]
            return EncodedBlock(encode(d, spec.scale), [element.code(step, step < 0) for step in steps])
        case "q4_0" | "q5_0":
            half = Fraction(spec.offset)
            d = divide(_first_largest(operands), -half)
            targets = [add(multiply(x, _inverse(d)), half + Fraction(1, 2)) for x in operands]
            return EncodedBlock(encode(d, spec.scale), [_truncated(target, element.high) for target in targets])
        case "q4_1" | "q5_1":
            low, high = _extremes(operands)
            d = divide(subtract(high, low), Fraction(element.high))
            targets = [add(multiply(subtract(x, low), _inverse(d)), Fraction(1, 2)) for x in operands]
            codes = [_truncated(target, element.high) for target in targets]
            return EncodedBlock(encode(d, spec.scale), codes, encode(low, spec.scale))
    raise ValueError(f"{spec.rule} is no rule of GGUF")


def _inverse(d: Value) -> Value:
    return ZERO if d in (0, "-0") else divide(Fraction(1), d)


def _first_largest(values: Sequence[Value]) -> Value:
    """numpy's argmax of the magnitudes: the first NaN, else the first of the largest."""
    best: Value = ZERO if not values else values[0]
    for x in values:
        if is_nan(best):
            break
        if is_nan(x) or is_less(magnitude(best), magnitude(x)):
            best = x
    return best


def _extremes(values: Sequence[Value]) -> tuple[Value, Value]:
    """The smallest and the largest element, the first of equal ones; NaN if there is one."""
    if any(is_nan(x) for x in values):
        return "nan", "nan"
    low, high = values[0], values[0]
    for x in values:
        low = x if is_less(x, low) else low
        high = x if is_less(high, x) else high
    return low, high


def _half_away(x: Value) -> int:
    if is_nan(x) or is_infinite(x):
        return 0
    size = magnitude(x)
    assert isinstance(size, Fraction)
    rounded = floor(size + Fraction(1, 2))
    return -rounded if is_negative(x) else rounded


def _truncated(x: Value, high: int) -> int:
    """Toward zero, at most `high`; what is sent here is never below -1 unless it is infinite."""
    if not isinstance(x, Fraction) or x < 0:
        return 0
    return min(floor(x), high)
