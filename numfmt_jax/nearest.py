"""Elements that are rounded to nearest: which kernel of `numfmt._core` serves, of sizes that have met their scale."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from numfmt import FixedFormat, FloatFormat, Overflow, Rounding, Subnormals
from numfmt._core.block import encode_nearest, quantize_nearest
from numfmt._core.parameters import BINARY32
from numfmt.kernels import Format, Rule, Rules, encode_plan, quantize_plan

from .bits import apply

Array = jax.Array
SIGN = -(2**31)
ROUNDINGS = (Rounding.TIES_TO_EVEN, Rounding.TIES_TO_AWAY, Rounding.TIES_TO_ZERO, Rounding.TIES_TO_ODD)


def is_plain(element: Format, rules: Rules) -> bool:
    """Whether a float is regular, with a sign, a significand and both zeros, and saturates by no vendor's rule."""
    return (
        isinstance(element, FloatFormat) and element.signed and element.zero and element.has_negative_zero
        and element.subnormals is Subnormals.GRADUAL and 1 <= element.trailing_bits <= 16 and element.bits <= 24
        and rules.overflow is Overflow.SATURATE and rules.rule == Rule()
    )  # fmt: skip


def suits_nearest(element: Format, rules: Rules) -> bool:
    """Whether the functions of this module round so."""
    if rules.rounding not in ROUNDINGS or rules.rule != Rule() or rules.wrap_bits:
        return False
    limits = (Overflow.SATURATE, Overflow.SYMMETRIC)
    fixed = isinstance(element, FixedFormat) and element.signed and element.bits <= 20 and rules.overflow in limits
    return fixed or is_plain(element, rules)


def nearest_codes(element: Format, rules: Rules, size: Array, bits: Array) -> Array:
    """Codes of the values next to ±size.

    Args:
        size: int32 array, binary32 patterns up to that of infinity, none of them subnormal.
        bits: int32 array, of which the sign is taken.
    """
    plan = encode_plan(element, rules, BINARY32)
    assert plan is not None
    operand = size | (bits & SIGN)
    if isinstance(element, FloatFormat):
        return encode_nearest(operand, BINARY32, plan.parameters, 0, plan.mode, xp=jnp)
    return apply(plan, operand, None, in_carrier=False)


def nearest_values(element: Format, rules: Rules, size: Array, bits: Array) -> Array:
    """binary32 patterns of the same values."""
    plan = quantize_plan(element, rules, BINARY32)
    assert plan is not None
    operand = size | (bits & SIGN)
    if isinstance(element, FloatFormat):
        return quantize_nearest(operand, BINARY32, plan.parameters, 0, plan.mode, xp=jnp)
    return apply(plan, operand, None, in_carrier=True)
