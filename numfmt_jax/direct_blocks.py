"""Rules that make the scales and the elements of a block together, in int32: affine, micro-exponents, vendors' own."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from numfmt import BlockFormat, FixedFormat
from numfmt._core import binary32
from numfmt._core.parameters import BINARY32
from numfmt.kernels import Rules, resolve, steps_of

from .binary32 import Binary32, IntegerFloats, decoded, encoded
from .block_elements import element_codes
from .block_scales import block_amax, step_scaling
from .quotients import HIGH, quotient, significand

Array = jax.Array
HIDDEN, MAGNITUDE, INFINITY, NAN = BINARY32.hidden, BINARY32.magnitude_mask, BINARY32.infinity, binary32.NAN


class Direct(NamedTuple):
    """What a direct rule makes: int32 arrays, canonical."""

    codes: Array  # (outer, block rows, a, block columns, g)
    scales: Array  # codes of the scale format, or patterns of float16 and float32
    zero_points: Array | None = None  # integers, or patterns of float16
    micro: tuple[Array, ...] = ()  # with the parts of a block as the last axis
    tensor_scale: Array | None = None


def rows_of(part: Array) -> Array:
    """Blocks as rows: (outer, block rows, block columns, elements)."""
    o, nr, a, nc, g = part.shape
    return part.transpose(0, 1, 3, 2, 4).reshape(o, nr, nc, a * g)


def of_rows(rows: Array, part: Array) -> Array:
    """Rows as the blocks that they were."""
    o, nr, a, nc, g = part.shape
    return rows.reshape(o, nr, nc, a, g).transpose(0, 1, 3, 2, 4)


def direct_codes(fmt: BlockFormat, rules: Rules, part: Array, inside: Array | None, tensor: Array | None) -> Direct:
    """Codes, scales and what else belongs to them.

    Args:
        part: int32 array, binary32 patterns (outer, block rows, a, block columns, g), zero in short blocks' padding.
        inside: bool array of that shape, False in the padding; None where there is none.
        tensor: the amax pattern of the array, for rules that have a tensor scale.
    """
    rows = rows_of(part)
    if fmt.rule == "affine":
        return _affine(fmt, part, rows)
    if fmt.rule == "micro":
        return _micro(fmt, rules, part, rows)
    if inside is not None and fmt.scale_rule.zero_point == "minimum":
        rows = jnp.where(rows_of(inside), rows, rows[..., :1])
    blocks = rows.shape[:-1]
    flat = Binary32(rows.reshape(-1, rows.shape[-1]))
    direct = fmt.scale_rule.direct
    assert direct is not None
    made: Any = direct(fmt, flat, rules, None if tensor is None else Binary32(tensor), IntegerFloats)
    points = None if made.zero_points is None else made.zero_points.reshape(blocks)
    micro = tuple(level.reshape(*blocks, -1) for level in made.micro)
    scale = None if made.tensor_scale is None else Binary32.of(made.tensor_scale).bits
    return Direct(of_rows(made.codes, part), made.scales.reshape(blocks), points, micro, scale)


# ---- shared micro-exponents ------------------------------------------------------------------------------------


def _micro(fmt: BlockFormat, rules: Rules, part: Array, rows: Array) -> Direct:
    """A part of a block is scaled down by one more binade where its exponents all lie below the block's."""
    ((size, _),) = fmt.micro
    steps = steps_of(fmt, BINARY32)
    assert steps is not None
    scaling = step_scaling(fmt, block_amax(part, MAGNITUDE), steps)
    top = scaling.values[..., None]
    largest = (rows & MAGNITUDE).reshape(*rows.shape[:-1], -1, size).max(axis=-1)
    shifts = ((largest < top) & (top <= INFINITY)).astype(jnp.int32)
    each = of_rows(jnp.repeat(shifts, size, axis=-1), part)
    codes = element_codes(fmt, rules, part, scaling, None, lower=each)
    return Direct(codes, scaling.codes, micro=(shifts,))


# ---- affine ----------------------------------------------------------------------------------------------------


def _affine(fmt: BlockFormat, part: Array, rows: Array) -> Direct:
    """scale = (hi - lo) / (qmax - qmin), zero point = qmin - round(lo / scale), 0 being a value always."""
    element = fmt.element
    assert isinstance(element, FixedFormat)
    least, most = element.min_integer, element.max_integer
    finite = ((rows & MAGNITUDE) < INFINITY).all(axis=-1)
    x = jnp.where(finite[..., None], rows, 0)
    low = jnp.where(x < 0, x & MAGNITUDE, 0).max(axis=-1)  # of -lo
    high = jnp.maximum(x, 0).max(axis=-1)
    scale = _mean_step(high, low, most - least)
    some = scale > 0
    divisor = jnp.where(some, scale, 0x3F800000)
    nearest = least + _integers(low, divisor)
    zero = jnp.where(some, jnp.clip(nearest, least, most), min(max(0, least), most))
    q = jnp.clip(_integers(x, divisor[..., None]) + zero[..., None], least, most)
    q = jnp.where(some[..., None], q, zero[..., None])
    return Direct(of_rows(q & (2**element.bits - 1), part), jnp.where(finite, scale, NAN), zero)


def _integers(x: Array, divisor: Array) -> Array:
    """The nearest integers of x / divisor within 2**20, ties to even."""
    integers = FixedFormat(21)
    codes = encoded(integers, resolve(integers, None, None, None, None), quotient(x, divisor), HIGH)
    return (codes << 11) >> 11


def _mean_step(high: Array, low: Array, steps: int) -> Array:
    """Patterns of (high + low) / steps, rounded once, for patterns of numbers ≥ 0 and up to 2**16 steps.

    The larger summand times 2**24 and the smaller one aligned to it make a sum of 49 bits, the last one
    sticky; long division with digits of 12 bits leaves at least 31.
    """
    larger, smaller = jnp.maximum(high, low), jnp.minimum(high, low)
    field, m = significand(larger)
    field_small, n = significand(smaller)
    apart = jnp.where(n == 0, 48, jnp.minimum(field - field_small, 48))
    upper = m + (n >> jnp.minimum(apart, 31))
    within = jnp.minimum(apart, 24)
    lower = jnp.where(apart > 24, n >> jnp.clip(apart - 24, 0, 31), (n & ((1 << within) - 1)) << (24 - within))
    back = jnp.clip(apart - 24, 0, 31)
    lost = (n & ((1 << jnp.minimum(back, 24)) - 1)) != 0
    first, rest = upper // steps, upper % steps
    rest = (rest << 12) | (lower >> 12)
    second, rest = rest // steps, rest % steps
    rest = (rest << 12) | (lower & 0xFFF)
    third, rest = rest // steps, rest % steps
    below = (second << 12) | third  # the quotient is first · 2**24 + below
    length = 32 - jax.lax.clz(first)
    up = 27 - length
    significant = (first << up) | (below >> (24 - up))
    sticky = lost | (rest != 0) | ((below & ((1 << (24 - up)) - 1)) != 0)
    significant = significant | sticky.astype(jnp.int32)
    scale = binary32.round_pack(jnp.zeros_like(field), field - 24 + length, significant, xp=jnp)
    return jnp.where(larger == 0, 0, jnp.minimum(scale, INFINITY - 1))


# ---- decoding --------------------------------------------------------------------------------------------------


def direct_values(fmt: BlockFormat, codes: Array, zero_points: Array | None, micro: tuple[Array, ...]) -> Array:
    """binary32 patterns of elements before their scale: less zero points, moved by micro-exponents.

    Args:
        codes: int32 array (outer, block rows, a, block columns, g).
        zero_points: int32 array, one a block, integers; None in other formats.
    """
    if zero_points is not None:
        assert isinstance(fmt.element, FixedFormat)
        spare = 32 - fmt.element.bits
        signed = (codes << spare) >> spare if fmt.element.signed else codes
        return binary32.from_integer(signed - zero_points[:, :, None, :, None], xp=jnp)
    values = decoded(fmt.element, codes)
    for (size, _), shifts in zip(fmt.micro, micro, strict=True):
        moved = of_rows(jnp.repeat(shifts, size, axis=-1)[..., : codes.shape[2] * codes.shape[4]], codes)
        up = moved if fmt.scale_rule.micro_up else -moved
        values = jnp.where((values & MAGNITUDE) == 0, values, values + (up << BINARY32.trailing))
    return values


