"""Exact quotients in int32: floats may propose a digit, integers decide it.

A quotient that is still to be rounded to few bits is a pattern of HIGH, the upper word of a binary64, with
21 significant bits of which the last is sticky: rounding to at most 19 bits from there is that of the exact
quotient. Stochastic rounding takes the exact remainder instead.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from numfmt._core.binary32 import Digits
from numfmt._core.parameters import BINARY32, ieee_carrier

Array = jax.Array
HIGH = ieee_carrier(32, 20)
ONE = 0x3F800000
HIDDEN, MAGNITUDE, INFINITY = BINARY32.hidden, BINARY32.magnitude_mask, BINARY32.infinity


def as_float(patterns: Array) -> Array:
    """The float32 numbers of patterns."""
    return lax.bitcast_convert_type(patterns, jnp.float32)


def as_bits(values: Array) -> Array:
    """The patterns, int32, of float32 numbers."""
    return lax.bitcast_convert_type(values, jnp.int32)


def apart(patterns: Array) -> Array:
    """The same integers, made once: XLA may not fuse what leads to them into what reads them.

    It would repeat the whole arithmetic of a block's scale for every element of the block. A reduction is
    where it stops; this one is over the integer and the least of all integers.
    """
    least = jnp.full((*patterns.shape, 1), -(2**31), jnp.int32)
    return lax.concatenate([patterns[..., None], least], patterns.ndim).max(axis=-1)


def counted(x: Array) -> Array:
    """The nearest integers of numbers in [0, 2**22]; XLA's own conversion takes several times as long."""
    return as_bits(x + jnp.float32(2.0**23)) - (150 << BINARY32.trailing)


def significand(magnitude: Array) -> tuple[Array, Array]:
    """Exponent field, below 1 for subnormals, and significand with bit 23 leading; of 0 the significand is 0.

    The conversion of an integer below 2**23 to float32 is exact and normal: its exponent counts the bits.
    """
    low = as_bits(magnitude.astype(jnp.float32)) - (149 << BINARY32.trailing)
    extended = jnp.where(magnitude < HIDDEN, low, magnitude)
    m = (extended & (HIDDEN - 1)) | HIDDEN
    return extended >> BINARY32.trailing, jnp.where(magnitude == 0, 0, m)


class Quotient(NamedTuple):
    """|x| / d = (q + rest / divisor) · 2**(exponent - 20), 2**20 ≤ q < 2**21; of x = 0 all but the divisor is 0."""

    q: Array
    exponent: Array
    numerator: Array  # (q · divisor + rest) / 2**20: the significand of x, doubled where it is the smaller
    rest: Array
    divisor: Array  # significand of d


def digits(m: Array, n: Array, width: int) -> tuple[Array, Array]:
    """floor(m · 2**width / n) and the remainder, for integers 0 ≤ m < 2 n, 2**23 ≤ n < 2**24 and width ≤ 20.

    m and n are exact in float32; the reciprocal and the product are off by 2**-23 of themselves each at
    most, which is less than one: the remainder says by which of -1, 0 and 1 the digit is to be corrected.
    """
    by = jnp.float32(2.0**width) / n.astype(jnp.float32)
    q = counted(m.astype(jnp.float32) * by)
    rest = (m << width) - q * n  # the low 32 bits of a small difference
    off = jnp.where(rest < 0, -1, (rest >= n).astype(jnp.int32))
    return q + off, rest - off * n


def reciprocal(d: Array) -> Array:
    """Patterns of 1 / d, as `numfmt._core.binary32.divide` has them, of normal d > 0 whose reciprocal is normal.

    The hardware's quotient may be off by one; 2**47 less its product with the significand of d says so.
    """
    return mended_reciprocal(d, as_bits(jnp.float32(1) / as_float(d)))


def mended_reciprocal(d: Array, q: Array) -> Array:
    """1 / d from what is at most one away from it."""
    m, n = ((v & (HIDDEN - 1)) | HIDDEN for v in (d, q))
    rest = -(m * n)  # its low 32 bits are those of 2**47 - m n
    off = (2 * rest > m).astype(jnp.int32) - (2 * rest < -m).astype(jnp.int32)
    return jnp.where(m == HIDDEN, q, q + off)


def _quotient(m: Array, n: Array, *, xp: Any) -> Array:
    """`numfmt._core.binary32.long_quotient` in two digits."""
    first, rest = digits(m, n, 13)
    second, rest = digits(rest, n, 13)
    return (first << 13) | second | (rest != 0).astype(jnp.int32)


def _product(m: Array, n: Array, *, xp: Any) -> Array:
    """`numfmt._core.binary32.long_product`, but that what lies below the last bit is -1, 0 or 1 in it.

    float32 rounds the product of two numbers in [1, 2) to 24 bits; what it is off by is a difference of less
    than 2**24, which the low 32 bits give.
    """
    near = as_bits(as_float(m ^ (HIDDEN ^ ONE)) * as_float(n ^ (HIDDEN ^ ONE))) - ONE
    long = near >> 23
    kept = (near & (HIDDEN - 1)) | HIDDEN
    off = m * n - (kept << (23 + long))
    return (kept << (3 + long)) + (off > 0).astype(jnp.int32) - (off < 0).astype(jnp.int32)


def long_quotient(magnitude: Array, divisor: Array) -> tuple[Array, Array]:
    """|x| / d rounded to odd: 29 bits, or 0, and the exponent of the first of them."""
    field, m = significand(magnitude)
    field_d, d = significand(divisor)
    small = m < d
    first, rest = digits(jnp.where(small, m << 1, m), d, 14)
    second, rest = digits(rest, d, 14)
    q = (first << 14) | second | (rest != 0).astype(jnp.int32)
    return jnp.where(m == 0, 0, q), field - field_d - small.astype(jnp.int32)


def _parts(bits: Array, *, xp: Any) -> tuple[Array, Array, Array, Array]:
    magnitude = bits & MAGNITUDE
    return ((bits >> 31) & 1, magnitude, *significand(magnitude))


FLOATS = Digits(_parts, _product, _quotient)


def divided(magnitude: Array, divisor: Array) -> Quotient:
    """The quotient of finite magnitudes by positive finite divisors; both are binary32 patterns."""
    field, m = significand(magnitude)
    field_d, d = significand(divisor)
    small = m < d
    numerator = jnp.where(small, m << 1, m)
    q, rest = digits(numerator, d, 20)
    zero = m == 0
    exponent = field - field_d - small.astype(jnp.int32)
    return Quotient(
        jnp.where(zero, 0, q), jnp.where(zero, 0, exponent), jnp.where(zero, 0, numerator), jnp.where(zero, 0, rest), d
    )


def quotient(bits: Array, divisor: Array) -> Array:
    """HIGH patterns of x / d, rounded to odd. Infinite x and NaN stay what they are."""
    magnitude = bits & MAGNITUDE
    made = divided(jnp.minimum(magnitude, INFINITY - 1), divisor)
    sticky = made.q | (made.rest != 0).astype(jnp.int32)
    packed = ((made.exponent + HIGH.bias - 1) << HIGH.trailing) + sticky
    packed = jnp.where(made.q == 0, 0, packed)
    special = jnp.where(magnitude > INFINITY, jnp.int32(HIGH.infinity | HIGH.hidden >> 1), HIGH.infinity)
    packed = jnp.where(magnitude >= INFINITY, special, packed)
    return packed | (bits & ~MAGNITUDE)


def quotient32(magnitude: Array, divisor: Array) -> tuple[Array, Array]:
    """|x| / d rounded to binary32 with an exponent without bounds: the significand, 24 bits or 0, and the exponent.

    The significand may be 2**24, which moves the pattern that it is added to into the next binade.
    """
    field, m = significand(magnitude)
    field_d, d = significand(divisor)
    small = m < d
    q = _quotient(jnp.where(small, m << 1, m), d, xp=jnp)
    kept = (q + 3 + ((q >> 3) & 1)) >> 3
    return jnp.where(m == 0, 0, kept), field - field_d - small.astype(jnp.int32)
