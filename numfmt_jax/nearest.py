"""Ties to even with saturation, the commonest rounding of block elements, in few operations.

Where a float format is normal the bits to be dropped are as many for every operand, and adding to the
pattern rounds. Below, and in fixed point, the quantum q is one number: adding 2**23 q, a power of two, makes
the hardware drop what lies below q, ties to even, and the sum's pattern counts quanta. That is one float32
addition of normal numbers, or of a subnormal one that is far below q: it is exact IEEE 754 on every engine.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp

from numfmt import FixedFormat, FloatFormat, Overflow, Rounding, Subnormals
from numfmt._core.parameters import BINARY32
from numfmt.kernels import Format, Rule, Rules, pattern

from .quotients import as_bits, as_float

Array = jax.Array
MAGNITUDE, TRAILING, SIGN = BINARY32.magnitude_mask, BINARY32.trailing, -(2**31)


def suits_nearest(element: Format, rules: Rules) -> bool:
    """Whether the functions of this module round so."""
    if rules.rounding is not Rounding.TIES_TO_EVEN or rules.rule != Rule() or rules.wrap_bits:
        return False
    match element:
        case FloatFormat():
            regular = element.signed and element.zero and element.subnormals is Subnormals.GRADUAL
            narrow = 1 <= element.trailing_bits <= 16 and element.bits <= 24
            return regular and narrow and element.has_negative_zero and rules.overflow is Overflow.SATURATE
        case FixedFormat():
            return element.signed and element.bits <= 20 and rules.overflow in (Overflow.SATURATE, Overflow.SYMMETRIC)
        case _:
            return False


class _Quanta(NamedTuple):
    """Patterns of a quantum and of the power of two that makes sums count it."""

    quantum: int
    counter: int


@lru_cache(maxsize=256)
def _quanta(element: FloatFormat | FixedFormat) -> _Quanta:
    if isinstance(element, FixedFormat):
        exponent = -element.fraction_bits
    else:
        exponent = element.emin - element.trailing_bits
    return _Quanta(pattern(Fraction(2) ** exponent, BINARY32), pattern(Fraction(2) ** (exponent + TRAILING), BINARY32))


def _count(magnitude: Array, quanta: _Quanta) -> Array:
    """|x| in quanta, rounded to even; beyond 2**22 quanta something larger than that."""
    counter = jnp.float32(float(_number(quanta.counter)))
    return as_bits(as_float(magnitude) + counter) - quanta.counter


def _number(bits: int) -> Fraction:
    from numfmt.kernels import value_of

    return value_of(bits, BINARY32)


def _worth(count: Array, quanta: _Quanta) -> Array:
    """Patterns of so many quanta."""
    return as_bits(count.astype(jnp.float32) * jnp.float32(float(_number(quanta.quantum))))


def _limited(element: FixedFormat, rules: Rules, magnitude: Array, bits: Array) -> Array:
    """Magnitudes in quanta, rounded and saturated."""
    count = _count(magnitude, _quanta(element))
    most = element.max_integer
    least = most if rules.overflow is Overflow.SYMMETRIC else -element.min_integer
    return jnp.minimum(count, most if least == most else jnp.where(bits < 0, least, jnp.int32(most)))


def nearest_magnitudes(element: Format, rules: Rules, magnitude: Array, bits: Array) -> Array:
    """binary32 patterns of the values next to positive ones.

    Args:
        magnitude: int32 array, patterns up to that of infinity; what is subnormal counts as zero.
        bits: int32 array, of which the sign is read: two's complement reaches further below zero.
    """
    assert isinstance(element, FloatFormat | FixedFormat)
    quanta = _quanta(element)
    if isinstance(element, FixedFormat):
        return _worth(_limited(element, rules, magnitude, bits), quanta)
    drop = TRAILING - element.trailing_bits
    normal = _bumped(magnitude, drop) & -(1 << drop)
    low = _worth(_count(magnitude, quanta), quanta)
    value = jnp.where(magnitude < pattern(element.min_normal, BINARY32), low, normal)
    return jnp.minimum(value, pattern(element.max, BINARY32))


def sign_of(element: Format, value: Array, bits: Array) -> Array:
    """The sign bits of values that have lost their sign; two's complement has no -0."""
    sign = bits & SIGN
    if isinstance(element, FixedFormat) and not element.sign_magnitude:
        return jnp.where(value == 0, 0, sign)
    return sign


def nearest_codes(element: Format, rules: Rules, magnitude: Array, bits: Array) -> Array:
    """Codes of the same values, with the sign of `bits`."""
    assert isinstance(element, FloatFormat | FixedFormat)
    if isinstance(element, FixedFormat):
        count = _limited(element, rules, magnitude, bits)
        if element.sign_magnitude:
            return count | ((bits >> 31) & (1 << (element.bits - 1)))
        return jnp.where(bits < 0, -count, count) & (2**element.bits - 1)
    drop = TRAILING - element.trailing_bits
    rebias = (element.emin + BINARY32.bias - 1) << element.trailing_bits
    normal = (_bumped(magnitude, drop) >> drop) - rebias
    low = _count(magnitude, _quanta(element))
    code = jnp.where(magnitude < pattern(element.min_normal, BINARY32), low, normal)
    return jnp.minimum(code, element.max_code) | ((bits >> 31) & element.sign_mask)


def _bumped(magnitude: Array, drop: int) -> Array:
    """Patterns that truncation of their last `drop` bits rounds to even."""
    return magnitude + ((1 << (drop - 1)) - 1) + ((magnitude >> drop) & 1)
