"""Runs a block format over an array: amax of each block, its scale, its elements.

This is the NumPy engine, and the one path of control for both engines; `block_loops.py` has the compiled
loops for what is common: binary32 operands and deterministic modes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from . import engines
from ._core.block import quotient
from ._core.parameters import BINARY32, BINARY64, Carrier
from .block_layout import Layout, Task
from .blocks import BlockFormat
from .plans import Plan, encode_plan
from .scale_rules import (
    Params,
    Scales,
    from_scale,
    nan_scale,
    scale_array,
    scale_dtype,
    step_params,
    steps_of,
    to_scale,
)
from .sources import decode_table
from .specials import Rules

Array = npt.NDArray[Any]
f32 = np.float32

CHUNK = 1 << 15  # elements of a task in NumPy: an int64 temporary of it takes 256 KiB

# How element values (float64, exact) and scales (float32) become values that one cast to float32 rounds.
Combine = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Operand3:
    """The canonical operand: carrier patterns (outer, rows, columns), and random numbers of that shape."""

    patterns: Array  # int32 or int64
    carrier: Carrier
    numbers: Array | None = None  # uint32


@dataclass(frozen=True)
class BlockPlan:
    """A block format with the rounding rules of its elements."""

    format: BlockFormat
    rules: Rules

    @property
    def amax_limit(self) -> str:
        """Which elements an amax leaves out: "none", "nan" or "nonfinite"."""
        rule = self.format.scale_rule
        if rule.ignores_infinity or self.format.nonfinite == "propagate_elements":
            return "nonfinite"
        return "nan" if rule.ignores_nan else "none"


def limit_of(plan: BlockPlan, carrier: Carrier) -> int:
    """The largest magnitude code that counts in an amax."""
    return {
        "none": carrier.magnitude_mask,
        "nan": carrier.infinity,
        "nonfinite": carrier.infinity - 1,
    }[plan.amax_limit]


# ---- stage 1: amax ---------------------------------------------------------------------------------------------


def part_of(canonical: Array, layout: Layout, task: Task, padding: int = 0) -> Array:
    """A task's elements as (outer, block rows, a, block columns, g), `padding` beyond the array's ends."""
    (o0, o1), (r0, r1), (c0, c1) = task.outer, task.block_rows, task.block_columns
    a, g = layout.a, layout.g
    part = canonical[o0:o1, r0 * a : r1 * a, c0 * g : c1 * g]
    whole = (o1 - o0, (r1 - r0) * a, (c1 - c0) * g)
    if part.shape != whole:
        padded = np.full(whole, padding, part.dtype)
        padded[:, : part.shape[1], : part.shape[2]] = part
        part = padded
    return part.reshape(o1 - o0, r1 - r0, a, c1 - c0, g)


def put_part(canonical: Array, layout: Layout, task: Task, values: Array) -> None:
    """Write a task's elements back, less the padding."""
    (o0, o1), (r0, r1), (c0, c1) = task.outer, task.block_rows, task.block_columns
    a, g = layout.a, layout.g
    target = canonical[o0:o1, r0 * a : r1 * a, c0 * g : c1 * g]
    source = values.reshape(o1 - o0, (r1 - r0) * a, (c1 - c0) * g)
    np.copyto(target, source[:, : target.shape[1], : target.shape[2]], casting="unsafe")


def amax_of(part: Array, carrier: Carrier, limit: int) -> Array:
    """Largest magnitude codes, of those up to `limit`, of blocks (outer, block rows, a, block columns, g)."""
    magnitude = part & carrier.magnitude_mask
    if limit == carrier.magnitude_mask:
        return magnitude.max(axis=(2, 4))
    return np.where(magnitude > limit, 0, magnitude).max(axis=(2, 4))


def finite_amax_of(part: Array, carrier: Carrier) -> Array:
    """P3109's MaxAbsFinite: the largest finite magnitude; infinity, or else NaN, where nothing is finite.

    The padding of short blocks is NaN here.
    """
    magnitude = part & carrier.magnitude_mask
    finite, number = magnitude < carrier.infinity, magnitude <= carrier.infinity
    amax = np.where(finite, magnitude, 0).max(axis=(2, 4))
    nothing = np.where(number.any(axis=(2, 4)), carrier.infinity, carrier.magnitude_mask)
    return np.where(finite.any(axis=(2, 4)), amax, nothing)


# ---- stage 2: scales -------------------------------------------------------------------------------------------


def as_float32(amax: Array, carrier: Carrier) -> Array:
    """Amax patterns as float32, rounded to nearest where the operand is wider."""
    if carrier is BINARY32:
        return amax.view(f32) if amax.flags.c_contiguous else np.ascontiguousarray(amax).view(f32)
    return np.ascontiguousarray(amax).view(np.float64).astype(f32)


def scales_of(plan: BlockPlan, amax: Array, carrier: Carrier, tensor: np.float32 | None) -> Params:
    """The scales of blocks from their amax patterns."""
    fmt = plan.format
    rule = fmt.scale_rule
    if rule.binary32 is not None:
        made: Scales = rule.binary32(fmt, as_float32(amax, carrier), tensor)
        values = from_scale(fmt, made.codes)
        return Params(made.codes, values, **{"divisor32" if made.divides else "factor32": made.operand})
    if rule.binary32_amax and carrier is not BINARY32:
        amax, carrier = as_float32(amax, carrier).view(np.int32), BINARY32
    steps = steps_of(fmt, carrier)
    if steps is None:
        return _quotient_scales(fmt, amax, carrier)
    return step_params(fmt, amax, carrier, steps)


def _quotient_scales(fmt: BlockFormat, amax: Array, carrier: Carrier) -> Params:
    """amax / max rounded once into a wide scale format."""
    wide = np.ascontiguousarray(amax).view(f32).astype(np.float64).view(np.int64) if carrier is BINARY32 else amax
    largest = np.float64(fmt.element.max).view(np.int64)
    ratio = quotient(wide, np.full(wide.shape, largest), BINARY64, xp=engines.NUMPY)
    codes = to_scale(fmt, ratio.view(np.float64))
    nan = nan_scale(fmt.scale_value_format)
    if nan is not None:
        infinite = nan if fmt.nonfinite != "saturate_inf" else codes
        codes = np.where(amax > carrier.infinity, nan, np.where(amax == carrier.infinity, infinite, codes))
    values = from_scale(fmt, codes)
    return Params(scale_array(fmt, codes.astype(scale_dtype(fmt, as_codes=True))), values, divisor=values)


# ---- stage 3: elements -----------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def element_plan(plan: BlockPlan, carrier: Carrier) -> Plan:
    """How elements that have met their scale are encoded."""
    made = encode_plan(plan.format.element, plan.rules, carrier)
    if made is None:
        mode = plan.rules.rounding.value
        raise ValueError(f"rounding {mode!r} of {plan.format.element} needs a wider carrier than blocks have")
    return made


def scaled(part: Array, carrier: Carrier, params: Params) -> tuple[Array, Carrier]:
    """Patterns of x / scale — exact, or rounded to odd, or a vendor's binary32 product — and their carrier."""
    spread = (slice(None), slice(None), None, slice(None), None)
    if params.factor32 is not None or params.divisor32 is not None:
        x = part.view(f32) if carrier is BINARY32 else as_float32_values(part)
        if params.factor32 is not None:
            return (x * params.factor32[spread]).view(np.int32), BINARY32
        assert params.divisor32 is not None
        return (x / params.divisor32[spread]).view(np.int32), BINARY32
    wide = part.view(f32).astype(np.float64) if carrier is BINARY32 else part.view(np.float64)
    if params.exponents is not None:
        y = np.ldexp(wide, -params.exponents[spread])
        lost = (y == 0) & (wide != 0)
        y = np.where(lost, np.copysign(5e-324, wide), y) if lost.any() else y
        result = y.view(np.int64)
    else:
        assert params.divisor is not None
        divisor = np.where(params.divisor > 0, params.divisor, f32(1)).astype(np.float64).view(np.int64)
        shape = np.broadcast_shapes(wide.shape, divisor[spread].shape)
        divisor = np.broadcast_to(divisor[spread], shape)
        result = quotient(wide.view(np.int64), divisor, BINARY64, xp=engines.NUMPY)
    return result, BINARY64


def as_float32_values(part: Array) -> Array:
    """binary64 patterns as float32 values."""
    return part.view(np.float64).astype(f32)


def element_codes(plan: BlockPlan, part: Array, carrier: Carrier, params: Params, numbers: Array | None) -> Array:
    """Codes of a task's elements, (outer, block rows, a, block columns, g)."""
    patterns, own = scaled(part, carrier, params)
    if numbers is not None and own is BINARY32:
        patterns, own = patterns.view(f32).astype(np.float64).view(np.int64), BINARY64
    made = element_plan(plan, own)
    words = None if numbers is None else numbers.reshape(-1).astype(np.int64)
    codes = engines.apply(made, patterns.reshape(-1), words, False).reshape(part.shape)
    odd = ~(params.values > 0)  # NaN and zero scales; negative ones are a rule's own matter
    if odd.any() and (params.exponents is not None or params.divisor is not None):
        spread = (slice(None), slice(None), None, slice(None), None)
        codes = np.where(np.isnan(params.values)[spread], made.results.nan, codes)
        codes = np.where((params.values == 0)[spread], zero_code(plan), codes)
    return codes


def zero_code(plan: BlockPlan) -> int:
    """The code of +0, or of what zero rounds to."""
    made = element_plan(plan, BINARY64)
    zero = np.zeros(1, np.int64)
    return int(engines.apply(made, zero, zero if made.mode.random_bits else None, False)[0])


# ---- decoding --------------------------------------------------------------------------------------------------


def element_values(fmt: BlockFormat, codes: Array) -> Array:
    """float64 values of element codes; exact."""
    if fmt.element.bits <= 16:
        table = decode_table(fmt.element, BINARY64).view(np.float64)
        return table.take(codes.astype(np.intp) & (2**fmt.element.bits - 1), mode="wrap")
    from .arrays import decode

    return np.asarray(decode(codes, fmt.element, dtype=np.float64, threads=1))


def decoded(
    fmt: BlockFormat,
    codes: Array,
    scales: Array,
    zero_points: Array | None,
    micro: tuple[Array, ...],
    combine: Combine,
) -> Array:
    """float32 values of a task: codes (outer, block rows, a, block columns, g), the rest one a block."""
    spread = (slice(None), slice(None), None, slice(None), None)
    values = element_values(fmt, codes)
    if zero_points is not None and fmt.scale_rule.zero_point == "integer":
        values = values - zero_points[spread].astype(np.float64)
    for (part, _), shifts in zip(fmt.micro, micro, strict=True):
        values = values * _micro_factors(fmt, shifts, part, codes.shape)
    result = combine(values, scales[spread])
    if zero_points is not None and fmt.scale_rule.zero_point == "minimum":
        result = result.astype(np.float64) + zero_points[spread].astype(np.float64)
    result = result.astype(f32, copy=False)
    nan = np.isnan(result)
    if nan.any():
        result[nan] = np.nan
    return result


def _micro_factors(fmt: BlockFormat, shifts: Array, part: int, shape: tuple[int, ...]) -> Array:
    """Powers of two of a level of micro-exponents, for every element of a task."""
    o, nr, a, nc, g = shape
    up = 1 if fmt.scale_rule.micro_up else -1
    factors = np.repeat(np.ldexp(1.0, up * shifts.astype(np.int32)), part, axis=-1)[..., : a * g]
    return factors.reshape(o, nr, nc, a, g).transpose(0, 1, 3, 2, 4)



def combine_exactly(fmt: BlockFormat, tensor_scale: np.float32 | None) -> Combine:
    """The exact product of code, scale and tensor scale, rounded once to binary32."""

    def combine(values: Array, scales: Array) -> Array:
        product = values * scales.astype(np.float64)  # at most 48 bits
        if tensor_scale is None:
            return product
        if fmt.scale_rule.tensor_divides:
            return product / np.float64(tensor_scale)  # near no midpoint of binary32 but on it
        return product * np.float64(tensor_scale)  # at most 53 bits (BlockFormat checks it)

    return combine


def combine_transformer_engine(tensor_amax: np.float32) -> Combine:
    """dequantize_nvfp4.cuh: float32 operations in its order."""

    def combine(values: Array, scales: Array) -> Array:
        return values.astype(f32) * ((scales * f32(tensor_amax)) * (f32(1) / f32(2688)))

    return combine


def combine_compressed_tensors(global_scale: np.float32) -> Combine:
    """The effective scale is weight_scale / weight_global_scale, in binary32."""

    def combine(values: Array, scales: Array) -> Array:
        return values.astype(f32) * (scales / f32(global_scale))

    return combine


def combine_modelopt(tensor_scale: np.float32) -> Combine:
    """The effective scale is weight_scale × weight_scale_2, in binary32."""

    def combine(values: Array, scales: Array) -> Array:
        return values.astype(f32) * (scales * f32(tensor_scale))

    return combine
