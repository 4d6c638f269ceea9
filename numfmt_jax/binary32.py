"""binary32 numbers as codes in int32 arrays, with the operators of IEEE 754: what vendors' rules compute with.

XLA's own float32 flushes subnormals and divides by reciprocals; these operators give the bits of the standard.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from numfmt import BlockFormat, Overflow, Rounding
from numfmt._core import binary32 as core
from numfmt._core.parameters import BINARY32, Carrier
from numfmt.kernels import (
    CodebookFormat,
    Format,
    Rules,
    decode_patterns,
    decode_table,
    encode_plan,
    resolve,
    scalar_format,
)

from .bits import apply
from .quotients import FLOATS, apart

Array = jax.Array


@dataclass(frozen=True, eq=False)
class Binary32:
    """An array of binary32 numbers: `bits` are their codes, int32.

    >>> import jax.numpy as jnp
    >>> x = Binary32.of(np.float32([1, 3]))
    >>> hex((x / np.float32(3)).bits[0])
    '0x3eaaaaab'
    """

    bits: Array
    __array_ufunc__ = None  # NumPy's float32 leaves operators to this class

    @staticmethod
    def of(value: Any) -> Binary32:
        """A number or NumPy array of float32 as it is; a Binary32 itself."""
        if isinstance(value, Binary32):
            return value
        return Binary32(jnp.asarray(np.asarray(value, np.float32).view(np.int32)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.bits.shape

    def __add__(self, other: Any) -> Binary32:
        return Binary32(add(*_both(self, other)))

    def __sub__(self, other: Any) -> Binary32:
        return self + -Binary32.of(other)

    def __rsub__(self, other: Any) -> Binary32:
        return Binary32.of(other) + -self

    def __mul__(self, other: Any) -> Binary32:
        return Binary32(apart(multiply(*_both(self, other))))

    def __truediv__(self, other: Any) -> Binary32:
        return Binary32(apart(divide(*_both(self, other))))

    def __rtruediv__(self, other: Any) -> Binary32:
        return Binary32.of(other) / self

    def __neg__(self) -> Binary32:
        return Binary32(self.bits ^ -(2**31))

    def __abs__(self) -> Binary32:
        return Binary32(self.bits & core.MAGNITUDE)

    __radd__, __rmul__ = __add__, __mul__

    def __lt__(self, other: Any) -> Array:
        a, b = _both(self, other)
        return (core.key(a, xp=jnp) < core.key(b, xp=jnp)) & ~(core.is_nan(a) | core.is_nan(b))

    def __gt__(self, other: Any) -> Array:
        return Binary32.of(other) < self

    def __le__(self, other: Any) -> Array:
        return (self < other) | (self == other)

    def __ge__(self, other: Any) -> Array:
        return Binary32.of(other) <= self

    def __eq__(self, other: object) -> Any:
        a, b = _both(self, other)
        return (core.key(a, xp=jnp) == core.key(b, xp=jnp)) & ~core.is_nan(a)

    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self, key: Any) -> Binary32:
        return Binary32(self.bits[key])

    def __len__(self) -> int:
        return len(self.bits)

    def reshape(self, *shape: int) -> Binary32:
        """The same numbers in another shape."""
        return Binary32(self.bits.reshape(*shape))


def multiply(a: Array, b: Array) -> Array:
    """Patterns of a × b, of binary32 patterns."""
    return core.multiply(*jnp.broadcast_arrays(a, b), xp=jnp, digits=FLOATS)


def divide(a: Array, b: Array) -> Array:
    """Patterns of a ÷ b, of binary32 patterns."""
    return core.divide(*jnp.broadcast_arrays(a, b), xp=jnp, digits=FLOATS)


def add(a: Array, b: Array) -> Array:
    """Patterns of a + b, of binary32 patterns."""
    return core.add(*jnp.broadcast_arrays(a, b), xp=jnp)


def _both(a: Any, b: Any) -> tuple[Array, Array]:
    one, other = Binary32.of(a).bits, Binary32.of(b).bits
    one, other = jnp.broadcast_arrays(one, other)
    return one, other


class IntegerFloats:
    """The arithmetic that `numfmt.scale_rules` writes vendors' rules in, on `Binary32`: numfmt's `NumPyFloats`."""

    @staticmethod
    def minimum(a: Any, b: Any) -> Binary32:
        """The smaller number; NaN where either is."""
        return Binary32(core.minimum(*_both(a, b), xp=jnp))

    @staticmethod
    def maximum(a: Any, b: Any) -> Binary32:
        """The larger number; NaN where either is."""
        return Binary32(core.maximum(*_both(a, b), xp=jnp))

    @staticmethod
    def clip(x: Any, low: Any, high: Any) -> Binary32:
        """x within [low, high]; NaN stays."""
        return IntegerFloats.minimum(IntegerFloats.maximum(x, low), high)

    @staticmethod
    def where(condition: Array, yes: Any, no: Any) -> Any:
        """`yes` or `no`: numbers, or integers."""
        if isinstance(yes, Binary32 | np.floating) or isinstance(no, Binary32 | np.floating):
            return Binary32(jnp.where(condition, *_both(yes, no)))
        return jnp.where(condition, yes, no)

    @staticmethod
    def isinf(x: Binary32) -> Array:
        """Whether a number is infinite."""
        return abs(x).bits == core.INFINITY

    @staticmethod
    def isfinite(x: Binary32) -> Array:
        """Whether a number is finite."""
        return abs(x).bits < core.INFINITY

    @staticmethod
    def negative(x: Binary32) -> Array:
        """Whether the sign bit is set."""
        return x.bits < 0

    @staticmethod
    def floor(x: Binary32) -> Binary32:
        """The integers at or below numbers ≥ 0."""
        return Binary32(core.truncate(x.bits, xp=jnp))

    @staticmethod
    def largest(rows: Binary32) -> Binary32:
        """The largest number of each row; NaN where it holds one."""
        return _reduced(rows, jnp.max)

    @staticmethod
    def least(rows: Binary32) -> Binary32:
        """The least number of each row; NaN where it holds one."""
        return _reduced(rows, jnp.min)

    @staticmethod
    def largest_number(rows: Binary32) -> Binary32:
        """The largest number of each row of magnitudes, NaNs left out."""
        return Binary32(jnp.where(core.is_nan(rows.bits), 0, rows.bits).max(axis=-1))

    @staticmethod
    def extreme(rows: Binary32) -> Binary32:
        """The first element of largest magnitude of each row."""
        at = abs(rows).bits.argmax(axis=-1)
        return Binary32(jnp.take_along_axis(rows.bits, at[..., None], axis=-1)[..., 0])

    @staticmethod
    def total(rows: Binary32) -> Binary32:
        """The sum of each row, one number after the other."""
        others = jnp.moveaxis(rows.bits[..., 1:], -1, 0)
        return Binary32(lax.scan(lambda sum, each: (add(sum, each), None), rows.bits[..., 0], others)[0])

    @staticmethod
    def pair(a: Binary32, b: Binary32) -> Binary32:
        """Two arrays as one, along a new first axis."""
        return Binary32(jnp.stack([a.bits, b.bits]))

    @staticmethod
    def integers(x: Binary32) -> Array:
        """Numbers without a fraction as integers, int32; 0 for NaN."""
        return jnp.where(core.is_nan(x.bits), 0, core.to_integer(x.bits, xp=jnp))

    @staticmethod
    def numbers(n: Array) -> Binary32:
        """Small integers as numbers."""
        return Binary32(core.from_integer(n, xp=jnp))

    @staticmethod
    def repeat(n: Array, times: int) -> Array:
        """Each entry of rows so many times."""
        return jnp.repeat(n, times, axis=-1)

    @staticmethod
    def bfloat16(x: Any) -> Binary32:
        """Numbers rounded to bfloat16."""
        return Binary32(_cast("bfloat16", x) << 16)

    @staticmethod
    def half(x: Binary32) -> Array:
        """Codes, int32, of numbers rounded to float16."""
        return _cast("float16", x)

    @staticmethod
    def elements(fmt: BlockFormat, x: Binary32, rules: Rules) -> Array:
        """Codes of elements that have met their scale."""
        return encoded(fmt.element, rules, x.bits)

    @staticmethod
    def values(fmt: BlockFormat, codes: Array) -> Binary32:
        """What element codes name."""
        return Binary32(decoded(fmt.element, codes))

    @staticmethod
    def to_scale(fmt: BlockFormat, x: Any, rounding: Rounding | None = None) -> Array:
        """Codes, int32, of the scale format for numbers, saturating, rounded as the format is."""
        scale = fmt.scale_value_format
        return encoded(scale, resolve(scale, rounding, Overflow.SATURATE, None, None), Binary32.of(x).bits)

    @staticmethod
    def from_scale(fmt: BlockFormat, codes: Array) -> Binary32:
        """The numbers that codes of the scale format name."""
        return Binary32(decoded(fmt.scale_value_format, codes))


def _reduced(rows: Binary32, reduction: Any) -> Binary32:
    """The largest or least number of each row, of integers that order codes and -0 before +0; NaN if there is one."""
    ordered = rows.bits ^ ((rows.bits >> 31) & core.MAGNITUDE)
    found = reduction(ordered, axis=-1)
    found = found ^ ((found >> 31) & core.MAGNITUDE)
    return Binary32(jnp.where(core.is_nan(rows.bits).any(axis=-1), core.NAN, found))


def _cast(name: str, x: Any) -> Array:
    fmt = scalar_format(name)
    return encoded(fmt, resolve(fmt, None, None, None, None), Binary32.of(x).bits)


def encoded(fmt: Format, rules: Rules, patterns: Array, carrier: Carrier = BINARY32) -> Array:
    """Codes, int32, of carrier patterns in a scalar format."""
    plan = encode_plan(fmt, rules, carrier)
    if plan is None:
        raise ValueError(
            f"rounding {rules.rounding.value!r} to {fmt} in blocks is given; 32-bit integers are too narrow for it, "
            "numfmt (NumPy) has it"
        )
    return apply(plan, patterns, None, in_carrier=False)


def decoded(fmt: Format, codes: Array) -> Array:
    """binary32 patterns of the codes of a format that binary32 holds."""
    if isinstance(fmt, CodebookFormat):
        return jnp.asarray(decode_table(fmt, BINARY32))[codes & (2**fmt.bits - 1)]
    return decode_patterns(codes, fmt, BINARY32, xp=jnp)
