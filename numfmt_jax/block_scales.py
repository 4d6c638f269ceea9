"""From the amaxes of blocks to their scales, in int32: step rules, quotients, and vendors' binary32 operations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from numfmt import BlockFormat, Overflow
from numfmt._core.parameters import BINARY32
from numfmt.kernels import (
    Steps,
    closed_form,
    encode_plan,
    nan_scale,
    pattern,
    precision,
    resolve,
    scale_dtype,
    steps_of,
)

from .binary32 import Binary32, IntegerFloats, decoded, encoded
from .quotients import HIGH, apart, quotient

Array = jax.Array
INFINITY, MAGNITUDE = BINARY32.infinity, BINARY32.magnitude_mask


@dataclass(frozen=True)
class Scaling:
    """Scales of blocks, int32 arrays with one entry a block, and how their elements meet them.

    Attributes:
        codes: as they are stored: codes of the scale format; of float16 and float32 these are their patterns.
        values: binary32 patterns of the scales.
        kind: "offset": x / 2**operand; "divisor": x / operand, exactly; "factor32", "divisor32": x × or ÷
            operand, rounded to binary32.
        operand: exponents, or binary32 patterns.
        tensor_scale: the binary32 pattern of the array's own scale, or None.
    """

    codes: Array
    values: Array
    kind: str
    operand: Array
    tensor_scale: Array | None = None

    def apart(self) -> Scaling:
        """The same, made once for all the elements that read it."""
        tensor_scale = None if self.tensor_scale is None else apart(self.tensor_scale)
        return replace(
            self, codes=apart(self.codes), values=apart(self.values), operand=apart(self.operand),
            tensor_scale=tensor_scale,
        )  # fmt: skip

    def of_values(self, codes: Array, values: Array) -> Scaling:
        """The same with scales that were quantized in turn; those that divide exactly divide by the new values."""
        return replace(self, codes=codes, values=values, operand=values if self.kind == "divisor" else self.operand)


def amax_limit(fmt: BlockFormat) -> int:
    """The largest magnitude code that counts in an amax."""
    rule = fmt.scale_rule
    if rule.ignores_infinity or fmt.nonfinite == "propagate_elements":
        return INFINITY - 1
    return INFINITY if rule.ignores_nan else MAGNITUDE


def block_amax(part: Array, limit: int) -> Array:
    """Largest magnitude codes, of those up to `limit`, of blocks."""
    magnitude = part & MAGNITUDE
    if limit != MAGNITUDE:
        magnitude = jnp.where(magnitude > limit, 0, magnitude)
    return largest(magnitude)


def largest(magnitude: Array) -> Array:
    """The largest entry of each block (outer, block rows, a, block columns, g).

    Blocks along the last axis are folded to eights first: XLA's loops over whole vectors are ten times as fast.
    """
    *front, g = magnitude.shape
    if g % 8 or g == 8:
        return magnitude.max(axis=(2, 4))
    folded = magnitude.reshape(*front, g // 8, 8).max(axis=(2, 4))
    for half in (4, 2, 1):
        folded = jnp.maximum(folded[..., :half], folded[..., half:])
    return folded[..., 0]


def scaling_of(fmt: BlockFormat, amax: Array, tensor: Array | None) -> Scaling:
    """The scales of blocks.

    Args:
        amax: int32 array, the magnitude code of each block's amax.
        tensor: the same of the whole array, for rules that have a tensor scale.
    """
    rule = fmt.scale_rule
    if rule.binary32 is not None:
        made: Any = rule.binary32(fmt, Binary32(amax), None if tensor is None else Binary32(tensor), IntegerFloats)
        codes = made.codes.bits if isinstance(made.codes, Binary32) else made.codes
        values = codes if isinstance(made.codes, Binary32) else decoded(fmt.scale_value_format, codes)
        kind = "divisor32" if made.divides else "factor32"
        tensor_scale = None if made.tensor_scale is None else Binary32.of(made.tensor_scale).bits
        return Scaling(codes, values, kind, jnp.broadcast_to(made.operand.bits, amax.shape), tensor_scale).apart()
    steps = steps_of(fmt, BINARY32)
    return (quotient_scaling(fmt, amax) if steps is None else step_scaling(fmt, amax, steps)).apart()


# ---- step rules ------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _form(fmt: BlockFormat) -> tuple[int, ...] | None:
    """The closed form of a step rule, where it has one."""
    steps = steps_of(fmt, BINARY32)
    assert steps is not None
    if nan_scale(fmt.scale_value_format) is None:
        return None
    form = closed_form(steps)
    return None if form is None else tuple(int(v) for v in form)


def step_scaling(fmt: BlockFormat, amax: Array, steps: Steps) -> Scaling:
    """The scales of a step rule: by arithmetic on the amax's pattern where it gives ranks, else from the table."""
    if fmt.scale_rule.zero_amax:
        from fractions import Fraction

        amax = jnp.where(amax == 0, pattern(Fraction(fmt.scale_rule.zero_amax), BINARY32), amax)
    form = _form(fmt)
    if form is None:
        return _looked_up(fmt, amax, steps)
    up, base, first, least, top, exponent = form
    rank = jnp.clip(((jnp.minimum(amax, INFINITY) + up) >> BINARY32.trailing) - base, least, top)
    rank = jnp.where(amax < first, 0, rank)
    rank = jnp.where(amax >= INFINITY, steps.infinite, rank)
    codes = jnp.where(amax > INFINITY, steps.nan, rank)
    exponents = codes + exponent
    nan = nan_scale(fmt.scale_value_format)
    values = jnp.where(codes == nan, 0x7FC00000, power_of_two(exponents))
    return Scaling(codes, values, "offset", jnp.where(codes == nan, 0, exponents))


def power_of_two(exponents: Array) -> Array:
    """binary32 patterns of 2**e, for e from -149 to 127."""
    normal = jnp.maximum(exponents + BINARY32.bias, 0) << BINARY32.trailing
    return jnp.where(exponents < -126, 1 << jnp.clip(exponents + 149, 0, 22), normal)


def _looked_up(fmt: BlockFormat, amax: Array, steps: Steps) -> Scaling:
    """The same from the table of thresholds, by bisection."""
    thresholds = jnp.asarray(steps.thresholds.astype(np.int32))
    rank = jnp.zeros_like(amax)
    for level in range(steps.depth):
        step = 1 << (steps.depth - 1 - level)
        rank = jnp.where(amax >= thresholds[rank + step], rank + step, rank)
    codes = jnp.asarray(steps.codes.astype(np.int32))[rank]
    codes = jnp.where(amax >= INFINITY, jnp.where(amax > INFINITY, steps.nan, jnp.int32(steps.infinite)), codes)
    values = decoded(fmt.scale_value_format, codes)
    if steps.exponents is None:
        return Scaling(codes, values, "divisor", values)
    magnitude = values & MAGNITUDE
    low = 31 - 149 - jax.lax.clz(magnitude)
    exponents = jnp.where(magnitude < BINARY32.hidden, low, (magnitude >> BINARY32.trailing) - BINARY32.bias)
    number = (magnitude > 0) & (magnitude < INFINITY)
    return Scaling(codes, values, "offset", jnp.where(number, exponents, 0))


# ---- quotient rules --------------------------------------------------------------------------------------------


def quotient_scaling(fmt: BlockFormat, amax: Array) -> Scaling:
    """amax / max rounded once into a wide scale format."""
    scale = fmt.scale_value_format
    largest = jnp.full_like(amax, pattern(fmt.element.max, BINARY32))
    if str(scale) == "float32":
        codes = (Binary32(amax) / Binary32(largest)).bits
        codes = jnp.where(amax == INFINITY, INFINITY - 1, codes)
    else:
        _refuse_scales(fmt)
        codes = encoded(scale, resolve(scale, None, Overflow.SATURATE, None, None), quotient(amax, largest), HIGH)
    nan = nan_scale(scale)
    if nan is not None:
        codes = jnp.where(amax > INFINITY, nan, codes)
        if fmt.nonfinite != "saturate_inf":
            codes = jnp.where(amax == INFINITY, nan, codes)
    values = decoded(scale, codes)
    return Scaling(codes, values, "divisor", values)


def _refuse_scales(fmt: BlockFormat) -> None:
    """Raise ValueError for scale formats whose projection needs more than 32-bit integers."""
    scale = fmt.scale_value_format
    plan = encode_plan(scale, resolve(scale, None, Overflow.SATURATE, None, None), HIGH)
    if plan is None or precision(scale) > HIGH.trailing - 1:
        raise ValueError(
            f"{fmt} is given; its scales need more than 32-bit integers: scale=float32, or a format of at most 19 "
            "significant bits, works, and numfmt (NumPy) has it"
        )


def stored(fmt: BlockFormat, codes: Array) -> Array:
    """Scales as a `BlockArray` holds them: unsigned codes, or float16 and float32 numbers."""
    dtype: Any = scale_dtype(fmt)
    if dtype.kind == "f":
        return jax.lax.bitcast_convert_type(codes.astype(f"uint{8 * dtype.itemsize}"), dtype)
    return codes.astype(dtype)


def loaded(fmt: BlockFormat, scales: Array) -> Array:
    """Codes, int32, of scales that a `BlockArray` holds."""
    if jnp.issubdtype(scales.dtype, jnp.floating):
        scales = jax.lax.bitcast_convert_type(scales, f"uint{8 * scales.dtype.itemsize}")
    return jax.lax.bitcast_convert_type(scales.astype(jnp.uint32), jnp.int32)
