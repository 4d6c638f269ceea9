"""Counter-based random bits: those of jax.random, without JAX, equal on every engine."""

from __future__ import annotations

import operator
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from ._core.threefry import threefry

Seed = int | tuple[int, ...]


def key_of(seed: Seed) -> tuple[int, int]:
    """Both words of the key of a seed: key(s), or fold_in(fold_in(key(s), a), …) of a tuple (s, a, …).

    Raises:
        ValueError: a number outside [0, 2**32).

    >>> [hex(w) for w in key_of((7, 5))]
    ['0xd5917e25', '0x7415e54e']
    """
    numbers = [operator.index(n) for n in (seed if isinstance(seed, tuple) else (seed,))]
    if not numbers or not all(0 <= n < 2**32 for n in numbers):
        raise ValueError(f"seed {seed!r} is given; it must be an integer in [0, 2**32) or a tuple of such integers")
    key = (0, numbers[0])
    for number in numbers[1:]:
        key = threefry(*key, 0, number)
    return key


def random_bits(
    seed: Seed, shape: int | tuple[int, ...], *, offset: int = 0, out: npt.NDArray[np.uint32] | None = None
) -> npt.NDArray[np.uint32]:
    """Random words of a seed: element i, in C order, depends on the seed and on i alone.

    Equal to `jax.random.bits(key, shape, "uint32")` with threefry, `key` being jax.random.key(s) for
    an int and fold_in(… fold_in(key(s), a), …) for a tuple (s, a, …).

    Args:
        seed: int in [0, 2**32), or a tuple of such ints.
        shape: shape of the result.
        offset: index of the first element, for a part of a longer array.
        out: uint32 array to fill.

    Returns:
        uint32 array of `shape`.

    References: Salmon et al., SC 2011 (Threefry-2x32, 20 rounds).

    >>> [hex(w) for w in random_bits(7, 3)]
    ['0xac91290b', '0xf9807e00', '0x4d8729aa']
    """
    from .scheduler import fill_random

    key = key_of(seed)
    size: tuple[int, ...] = tuple(shape) if isinstance(shape, tuple | list) else (operator.index(shape),)
    if out is None:
        out = np.empty(size, np.uint32)
    elif out.shape != size or out.dtype != np.uint32 or not out.flags.c_contiguous:
        raise ValueError(
            f"out has shape {out.shape} and dtype {out.dtype}; it must be a contiguous uint32 array of shape {size}"
        )
    if not 0 <= offset <= 2**64 - prod(size, start=1):
        raise ValueError(f"offset {offset} is given; the last index must stay below 2**64")
    fill_random(key, offset, out.reshape(-1))
    return out


def aligned(words: Any, count: int) -> Any:
    """The random number of `count` bits that a generated word stands for: its top bits."""
    return words >> (32 - count)
