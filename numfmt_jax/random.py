"""Random words as fused integer code: those of jax.random.bits, made inside the graph that uses them."""

from __future__ import annotations

import zlib
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from numfmt._core.threefry import WORD, threefry, word

Array = jax.Array
_MASK = np.uint32(WORD)
Key = Any  # a key of jax.random.key, or the uint32[2] of jax.random.PRNGKey


def key_words(key: Key) -> Array:
    """Both words of a threefry key, uint32[..., 2].

    Raises:
        TypeError: `key` is no key.
        ValueError: its generator is not threefry, whose words depend on the backend.
    """
    array = jnp.asarray(key)
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        name = str(jax.random.key_impl(array))
        if name not in ("threefry2x32", "fry"):
            raise ValueError(
                f"a key of {name!r} is given, whose words differ between backends; "
                "jax.random.key(seed, impl='threefry2x32') fits"
            )
        return jax.random.key_data(array)
    if array.dtype != jnp.uint32:
        raise TypeError(f"an array of {array.dtype} is given as key; jax.random.key(seed) makes one")
    if array.shape[-1:] != (2,):
        raise ValueError(f"a key of shape {array.shape} is given; threefry keys have two words: jax.random.key(seed)")
    return array


def fold(key: Key, name: int | str | Array) -> Array:
    """The two words of fold_in(key, name); a string stands for the CRC-32 of its UTF-8 bytes.

    >>> import jax
    >>> [hex(w) for w in fold(jax.random.key(7), 5)]
    ['0xd5917e25', '0x7415e54e']
    """
    words = key_words(key)
    data = zlib.crc32(name.encode()) if isinstance(name, str) else name
    x1 = jnp.asarray(data).astype(jnp.uint32) if not isinstance(data, int) else jnp.uint32(data & WORD)
    y0, y1 = threefry(words[..., 0], words[..., 1], jnp.zeros_like(x1), x1, _MASK)
    return jnp.stack([y0, y1], axis=-1)


def random_bits(
    key: Key,
    shape: int | tuple[int, ...],
    *,
    offset: tuple[Any, ...] | None = None,
    global_shape: tuple[int, ...] | None = None,
) -> Array:
    """Random words of a key: element i, in C order, depends on the key and on i alone.

    Equal to jax.random.bits(key, shape, "uint32") with threefry, at a fraction of its time inside a graph.

    Args:
        key: key of jax.random.key, or uint32[2].
        shape: of the result.
        offset, global_shape: for a part of a larger array (inside shard_map): where the part begins along
            each axis, as ints or traced integers, and the shape of the whole.

    Returns:
        uint32 array of `shape`: the words of the global array's elements.

    Raises:
        ValueError: a key of another generator, or a part that cannot lie in the whole.

    References: Salmon et al., SC 2011 (Threefry-2x32, 20 rounds).

    >>> import jax
    >>> [hex(w) for w in random_bits(jax.random.key(7), 3)]
    ['0xac91290b', '0xf9807e00', '0x4d8729aa']
    """
    words = key_words(key)
    if words.ndim != 1:
        raise ValueError(f"keys of shape {words.shape[:-1]} are given; vmap over them")
    part = (shape,) if isinstance(shape, int) else tuple(shape)
    whole = part if global_shape is None else tuple(global_shape)
    starts = (0,) * len(part) if offset is None else tuple(offset)
    if len(whole) != len(part) or len(starts) != len(part) or any(p > w for p, w in zip(part, whole, strict=True)):
        raise ValueError(f"a part of shape {part} at offset {starts} is given of an array of shape {whole}")
    high, low = _index(part, starts, whole)
    return word(words[0], words[1], high, low, _MASK)


def _index(part: tuple[int, ...], starts: tuple[Any, ...], whole: tuple[int, ...]) -> tuple[Array, Array]:
    """Both words of each element's index in the whole array, in C order."""
    strides = [prod(whole[axis + 1 :]) for axis in range(len(whole))]
    first = sum(start * stride for start, stride in zip(starts, strides, strict=True) if isinstance(start, int))
    low = jnp.full(part, np.uint32(first & WORD))
    high = jnp.full(part, np.uint32(first >> 32))
    for axis, (start, stride) in enumerate(zip(starts, strides, strict=True)):
        at = lax.broadcasted_iota(jnp.uint32, part, axis)
        if not isinstance(start, int):
            at = at + jnp.asarray(start).astype(jnp.uint32)
        elif part[axis] == 1:
            continue
        above, below = _product(at, stride)
        low = low + below
        if prod(whole) > 2**32:
            high = high + above + (low < below).astype(jnp.uint32)
    return high, low


def _product(at: Array, stride: int) -> tuple[Array, Array]:
    """Both words of at × stride."""
    low = at * np.uint32(stride & WORD)
    halves = [(stride >> 16 * i) & 0xFFFF for i in range(4)]
    a0, a1 = at & 0xFFFF, at >> 16
    middle = a0 * np.uint32(halves[0]) >> 16
    cross = a1 * np.uint32(halves[0]) + middle
    cross2 = a0 * np.uint32(halves[1]) + (cross & 0xFFFF)
    high = a1 * np.uint32(halves[1]) + (cross >> 16) + (cross2 >> 16)
    return high + at * np.uint32(stride >> 32 & WORD), low


def numbers_of(words: Array, count: int) -> Array:
    """The random numbers of `count` bits, int32, that generated words stand for: their top bits."""
    return lax.bitcast_convert_type(words >> np.uint32(32 - count), jnp.int32)
