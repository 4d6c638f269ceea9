"""What rounding did to an array, counted inside a graph: the sums that `stats` adds up."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import numfmt
from numfmt import BlockFormat
from numfmt._core.parameters import BINARY32
from numfmt.kernels import Format, magnitude_pattern

from .bits import patterns_of
from .block_scales import largest
from .blocks import BlockArray, blocked
from .quantize import Rounds, beyond, encoded

Array = jax.Array

NAMES = (
    "elements", "blocks", "nan", "infinite", "beyond", "at_end", "to_zero", "low_scales", "high_scales",
    "xx", "xq", "ee",
)  # fmt: skip
UNIT = np.float32(2.0**24)  # sums are of numbers times this, so that small gradients have squares


@partial(jax.jit, static_argnums=0, inline=True)
def measured(rounds: Rounds, x: Array, q: Array, numbers: Array | None, amax_of: Array | None = None) -> Array:
    """The entries of `NAMES`, float32, for an array and the values that it was rounded to.

    Counts are exact up to 2**24; the sums of x², x·q and (q - x)² are float32 sums, in units of 2**-48.
    """
    magnitude = patterns_of(x) & BINARY32.magnitude_mask
    finite = magnitude < BINARY32.infinity
    made = encoded(rounds, x, numbers, amax_of)
    codes = made.codes if isinstance(made, BlockArray) else made
    fmt = rounds.format.element if isinstance(rounds.format, BlockFormat) else rounds.format
    at_end = jnp.zeros(x.shape, bool)
    for code in _end_codes(fmt):
        at_end |= codes == code
    to_zero = (magnitude != 0) & (patterns_of(q) & BINARY32.magnitude_mask == 0)
    blocks, low, high = _scale_counts(made, x) if isinstance(made, BlockArray) else (0, 0, 0)
    some = finite & jnp.isfinite(q)
    a, b = (jnp.where(some, v.astype(jnp.float32) * UNIT, 0) for v in (x, q))
    counts = [
        x.size, blocks, (magnitude > BINARY32.infinity).sum(), (magnitude == BINARY32.infinity).sum(),
        (beyond(rounds, x, amax_of) & finite).sum(), (at_end & finite).sum(), (to_zero & finite).sum(), low, high,
        (a * a).sum(), (a * b).sum(), jnp.square(b - a).sum(),
    ]  # fmt: skip
    return jnp.stack([jnp.asarray(c, jnp.float32) for c in counts])


def _end_codes(fmt: Format) -> list[int]:
    """Codes of the format's largest value, and of its least where that is negative."""
    ends = [fmt.max, *([fmt.min] if fmt.min < 0 else [])]
    return [int(numfmt.encode(float(v), fmt, overflow="saturate")) for v in ends]


def _scale_counts(q: BlockArray, x: Array) -> tuple[Any, Any, Any]:
    """Blocks; those that hold a number and have the least scale, or zero; those that have the largest."""
    scale = q.format.scale_value_format
    size = q.scales.size
    if isinstance(q.format.scale, BlockFormat) or not jnp.issubdtype(q.scales.dtype, jnp.unsignedinteger):
        return size, 0, 0  # real scales have no ends to speak of
    some = largest(blocked(patterns_of(x) & BINARY32.magnitude_mask, q.layout)) > 0
    table = jnp.asarray(numfmt.decode(np.arange(2**scale.bits), scale))
    values = q.layout.scales_view(patterns_of(table)[q.scales])
    low = (values <= magnitude_pattern(scale.min_positive, BINARY32)) & some
    return size, low.sum(), (values == magnitude_pattern(scale.max, BINARY32)).sum()
