"""Elements of blocks as they usually are: all numbers involved normal, so that float32 arithmetic is exact IEEE 754.

Adding 2**23 quanta makes the hardware drop what lies below a quantum, ties to even, and subtracting them
again is exact. Whether an array is such is one number for all of it; `block_elements.py` has the code for
every other array, and both give the same bits.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from numfmt import BlockFormat, FloatFormat
from numfmt._core.block import quantize_saturating
from numfmt._core.parameters import BINARY32
from numfmt.kernels import Overflow, Plan, Rounding, Rule, Rules, Subnormals, pattern, quantize_plan, resolve

from .binary32 import Binary32
from .quotients import apart, as_bits, as_float

Array = jax.Array
MAGNITUDE, INFINITY, TRAILING, SIGN = BINARY32.magnitude_mask, BINARY32.infinity, BINARY32.trailing, -(2**31)
ROUNDINGS = (Rounding.TIES_TO_EVEN, Rounding.STOCHASTIC, Rounding.STOCHASTIC_A)


def spread(blocks: Array) -> Array:
    """One entry a block, ready to meet the block's elements."""
    return blocks[:, :, None, :, None]


class Grid(NamedTuple):
    """The element format in binary32."""

    plan: Plan
    trailing: int
    emin: int  # as an exponent field of binary32
    largest: int
    beyond: int  # the power of two above it
    largest_number: float


@lru_cache(maxsize=256)
def grid_of_scales(fmt: BlockFormat) -> Grid:
    """The grid of a format's scales."""
    scale = fmt.scale_value_format
    assert isinstance(scale, FloatFormat)
    return _grid(scale, resolve(scale, None, Overflow.SATURATE, None, None))


@lru_cache(maxsize=256)
def grid_of(fmt: BlockFormat, rules: Rules) -> Grid | None:
    """The grid of a format's elements where this module can round to it, else None."""
    element = fmt.element
    if not isinstance(element, FloatFormat) or rules.rounding not in ROUNDINGS or rules.rule != Rule():
        return None
    regular = element.signed and element.zero and element.subnormals is Subnormals.GRADUAL and element.has_negative_zero
    narrow = 1 <= element.trailing_bits <= 7 and element.max <= 2**20 and element.min_positive >= Fraction(1, 2**20)
    if not (regular and narrow and rules.overflow is Overflow.SATURATE):
        return None
    return _grid(element, rules)


def _grid(fmt: FloatFormat, rules: Rules) -> Grid:
    plan = quantize_plan(fmt, rules, BINARY32)
    assert plan is not None
    largest = pattern(fmt.max, BINARY32)
    beyond = ((largest >> TRAILING) + 1) << TRAILING
    return Grid(plan, fmt.trailing_bits, fmt.emin + BINARY32.bias, largest, beyond, float(fmt.max))


def suits(fmt: BlockFormat, rules: Rules) -> bool:
    """Whether this module has the format's rule: NVFP4's, whose scales take most of the time otherwise."""
    return fmt.rule == "transformer_engine" and grid_of(fmt, rules) is not None


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
    grid, of_scales = grid_of(fmt, rules), grid_of_scales(fmt)
    assert grid is not None
    most = of_scales.largest_number * float(fmt.element.max)
    encode_scale = Binary32.of(np.float32(most)) / Binary32(tensor)
    sixth = np.float32(1) / np.float32(float(fmt.element.max))
    met = as_float(amax) * as_float((encode_scale * sixth).bits)
    scales = _rounded(of_scales, as_bits(met), None)
    inverse = reciprocal(as_bits(as_float(scales) * as_float((np.float32(1) / encode_scale).bits)))
    inverse = apart(jnp.where(scales == 0, INFINITY - 1, inverse))
    scales = as_float(apart(scales))
    magnitude = part & MAGNITUDE
    # What overflows here meets a scale of zero; what is lost below the normal numbers rounds to zero.
    met = jnp.minimum(as_bits(as_float(magnitude) * as_float(spread(inverse))), grid.beyond)
    values = as_float(_rounded(grid, met, numbers)) * spread(scales)
    sign = jnp.where(magnitude > INFINITY, 0, part & SIGN)
    tensor_scale = (Binary32(tensor) / np.float32(most)).bits
    return as_bits(values * as_float(tensor_scale)) | sign


def _rounded(grid: Grid, magnitude: Array, numbers: Array | None = None) -> Array:
    """Patterns of magnitudes rounded to a grid, saturated."""
    if numbers is not None:
        target, mode = grid.plan.parameters, grid.plan.mode
        return quantize_saturating(magnitude, numbers, BINARY32, target, 0, mode, xp=jnp)
    magnitude = jnp.minimum(magnitude, grid.beyond)
    field = jnp.maximum(magnitude >> TRAILING, grid.emin)
    counter = as_float((field + (TRAILING - grid.trailing)) << TRAILING)
    return jnp.minimum(as_bits((as_float(magnitude) + counter) - counter), grid.largest)


def reciprocal(d: Array) -> Array:
    """Patterns of 1 / d, rounded once, of normal d whose reciprocal is normal.

    The hardware's quotient may be off by one; 2**47 less its product with the significand of d says so.
    """
    q = as_bits(jnp.float32(1) / as_float(d))
    m, n = ((v & (BINARY32.hidden - 1)) | BINARY32.hidden for v in (d, q))
    rest = -(m * n)  # its low 32 bits are those of 2**47 - m n
    off = (2 * rest > m).astype(jnp.int32) - (2 * rest < -m).astype(jnp.int32)
    return jnp.where(m == BINARY32.hidden, q, q + off)
