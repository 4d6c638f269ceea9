"""Hadamard transforms of operands: float32 additions in one written order, equal on every engine of IEEE arithmetic."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .random import Key, fold, random_bits
from .recipe import Hadamard

Array = jax.Array
RADIX = 16  # of the stages of a fast transform


def signs_of(transform: Hadamard, key: Key | None) -> Any:
    """The ±1 of a transform, float32 of its size; None where it has none."""
    if transform.signs == "none":
        return None
    if not transform.is_random:
        return np.array(transform.signs, np.float32)
    assert key is not None
    top = random_bits(fold(key, "signs"), (transform.size,)) >> np.uint32(31)
    return 1 - 2 * top.astype(jnp.float32)


def hadamard(x: Array, transform: Hadamard, axis: int, signs: Any) -> Array:
    """x · diag(signs) · H / sqrt(size) along an axis, group by group of `size`; float32.

    The sums are those of the fast transform: pairs at distance 1, 2, 4, …, each one float32 addition.

    Raises:
        ValueError: the axis is no multiple of the transform's size.
    """
    n, size = x.shape[axis], transform.size
    if n % size:
        raise ValueError(
            f"an operand of shape {x.shape} meets a Hadamard transform of size {size} along axis {axis}; "
            f"{n} is no multiple of {size}"
        )
    tail = (1,) * (x.ndim - axis - 1)
    values = x.astype(jnp.float32).reshape(*x.shape[:axis], n // size, size, *x.shape[axis + 1 :])
    if signs is not None:
        values = values * jnp.asarray(signs).reshape(size, *tail)
    step = 1
    while step < size:
        radix = min(RADIX, size // step)
        if step > 1:  # XLA would fuse the stages, and each sum of the second would repeat those of the first
            values = lax.optimization_barrier(values)
        values = _stage(values, axis + 1, step, radix)
        step *= radix
    return (values * np.float32(size**-0.5)).reshape(x.shape)


def _stage(values: Array, axis: int, step: int, radix: int) -> Array:
    """Sums and differences at distances step, 2 step, … below radix × step."""
    shape = values.shape
    grouped = values.reshape(*shape[:axis], shape[axis] // (radix * step), radix, step, *shape[axis + 1 :])
    planes = [lax.index_in_dim(grouped, i, axis + 1, keepdims=False) for i in range(radix)]
    distance = 1
    while distance < radix:
        for i in range(radix):
            if not i & distance:
                a, b = planes[i], planes[i + distance]
                planes[i], planes[i + distance] = a + b, a - b
        distance *= 2
    return jnp.stack(planes, axis + 1).reshape(shape)
