"""NVFP4 as it usually is: all numbers involved normal, so that float32 products are exactly IEEE 754's.

Whether an array is such is one number for all of it; `block_elements.py` has the code for every other array,
and both give the same bits.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from numfmt import BlockFormat, FloatFormat, Overflow, Rounding
from numfmt._core.block import quantize_nearest, quantize_saturating
from numfmt._core.parameters import BINARY32
from numfmt.kernels import Rules, quantize_plan, resolve

from .binary32 import Binary32
from .nearest import is_plain
from .quotients import apart, as_bits, as_float, reciprocal

Array = jax.Array
MAGNITUDE, INFINITY, TRAILING, SIGN = BINARY32.magnitude_mask, BINARY32.infinity, BINARY32.trailing, -(2**31)
ROUNDINGS = (Rounding.TIES_TO_EVEN, Rounding.STOCHASTIC, Rounding.STOCHASTIC_A)


def spread(blocks: Array) -> Array:
    """One entry a block, ready to meet the block's elements."""
    return blocks[:, :, None, :, None]


def suits(fmt: BlockFormat, rules: Rules) -> bool:
    """Whether this module has the format's rule: NVFP4's, whose scales take most of the time otherwise."""
    return fmt.rule == "transformer_engine" and rules.rounding in ROUNDINGS and is_plain(fmt.element, rules)


def is_usual(tensor: Array) -> Array:
    """Whether all that `usual_values` computes is normal, or as small as nothing: a bool of no axes.

    Args:
        tensor: the pattern of the array's amax.
    """
    field = tensor >> TRAILING
    return (field >= 80) & (field <= 180)


def usual_values(
    fmt: BlockFormat, rules: Rules, part: Array, amax: Array, tensor: Array, numbers: Array | None
) -> Array:
    """binary32 patterns of what elements become, where `is_usual`: `numfmt.named_rules`' transformer_engine.

    Args:
        part: int32 array, binary32 patterns (outer, block rows, a, block columns, g).
        amax: int32 array, patterns of the blocks' amaxes.
        numbers: int32 array of random numbers, or None.
    """
    element, scale = fmt.element, fmt.scale_value_format
    assert isinstance(element, FloatFormat)
    assert isinstance(scale, FloatFormat)
    of_scales = resolve(scale, None, Overflow.SATURATE, None, None)
    largest, most = np.float32(element.max), np.float32(element.max * scale.max)
    encode_scale = Binary32.of(most) / Binary32(tensor)
    met = as_float(amax) * as_float((encode_scale * (np.float32(1) / largest)).bits)
    scales = rounded_magnitudes(scale, of_scales, as_bits(met), None)
    divisor = as_bits(as_float(scales) * as_float((np.float32(1) / encode_scale).bits))
    inverse = jnp.where(scales == 0, INFINITY - 1, reciprocal(divisor))
    factor, scales = spread(apart(inverse)), spread(as_float(apart(scales)))
    magnitude = part & MAGNITUDE
    # What overflows here meets a scale of zero; what is lost below the normal numbers rounds to zero.
    met = as_bits(as_float(magnitude) * as_float(factor))
    values = as_float(rounded_magnitudes(element, rules, met, numbers)) * scales
    sign = jnp.where(magnitude > INFINITY, 0, part & SIGN)
    tensor_scale = (Binary32(tensor) / most).bits
    return as_bits(values * as_float(tensor_scale)) | sign


def rounded_magnitudes(fmt: FloatFormat, rules: Rules, magnitude: Array, numbers: Array | None) -> Array:
    """Patterns of magnitudes, NaN among them, rounded to a plain format; they saturate."""
    plan = quantize_plan(fmt, rules, BINARY32)
    assert plan is not None
    magnitude = jnp.minimum(magnitude, INFINITY)
    if numbers is None:
        return quantize_nearest(magnitude, BINARY32, plan.parameters, 0, plan.mode, xp=jnp)
    return quantize_saturating(magnitude, numbers, BINARY32, plan.parameters, 0, plan.mode, xp=jnp)
