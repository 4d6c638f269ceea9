"""The engines that run the kernels: NumPy on whole arrays, and plain Python on integers of any width.

`compiled.py` adds Numba. All take flat integer arrays of carrier patterns and give flat integer
arrays; nothing here knows about dtypes of users or about formats.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from ._core import fixed, gapped, table
from ._core import float as floating
from ._core.fixed import Grid
from ._core.parameters import Carrier, Source
from ._core.threefry import word
from .plans import Plan

IntArray = npt.NDArray[np.signedinteger[Any]]


def _where(condition: Any, yes: Any, no: Any) -> Any:
    """`np.where` for integers, several times faster: it looks first, and blends bits instead of branching."""
    if condition is True or condition is False or isinstance(condition, np.bool_):
        return yes if condition else no
    if not condition.any():
        return no
    if condition.dtype != bool or not isinstance(no, np.ndarray) or no.dtype == bool:
        return np.where(condition, yes, no)
    mask = -condition.astype(no.dtype)
    return ((yes ^ no) & mask) ^ no


NUMPY = SimpleNamespace(
    where=_where,
    some=np.any,
    minimum=lambda a, b: np.minimum(a, b) if isinstance(a, np.ndarray) else min(a, b),
    maximum=lambda a, b: np.maximum(a, b) if isinstance(a, np.ndarray) else max(a, b),
)

PYTHON = SimpleNamespace(where=lambda condition, yes, no: yes if condition else no, some=bool, minimum=min, maximum=max)


def apply(plan: Plan, patterns: Any, random: Any, in_carrier: bool, xp: Any = NUMPY) -> Any:
    """Codes (or, `in_carrier`, carrier patterns) of the plan's format for carrier patterns.

    Args:
        patterns: signed integer array of the carrier's width; an int where `xp` is PYTHON.
        random: the same of random numbers, for stochastic plans; else None.
    """
    p, carrier, results, mode = plan.parameters, plan.carrier, plan.results, plan.mode
    match plan.kernel:
        case "float":
            kernel = floating.quantize if in_carrier else floating.encode
            return kernel(patterns, random, carrier, p, results, mode, plan.general, xp=xp)
        case "gapped":
            codes = gapped.encode(patterns, random, carrier, p, plan.gap, results, mode, xp=xp)
            return floating.decode(codes, carrier, plan.source, xp=xp) if in_carrier else codes
        case "fixed":
            codes = fixed.encode(patterns, random, carrier, p, results, mode, xp=xp)
            return fixed.decode(codes, carrier, p, xp=xp) if in_carrier else codes
        case _:
            return table.encode(patterns, random, carrier, p, results, mode, xp=xp)


def decode(codes: Any, carrier: Carrier, source: Source | Grid, xp: Any = NUMPY) -> Any:
    """Carrier patterns of codes of a float or fixed-point format."""
    if isinstance(source, Source):
        return floating.decode(codes, carrier, source, xp=xp)
    return fixed.decode(codes, carrier, source, xp=xp)


def apply_exactly(plan: Plan, patterns: Iterable[int], random: Sequence[int] | None, in_carrier: bool) -> list[int]:
    """`apply` on Python integers, one at a time: slow, and right for carriers of any width."""
    words: Iterable[int | None] = repeat(None) if random is None else random
    return [apply(plan, p, r, in_carrier, PYTHON) for p, r in zip(patterns, words, strict=False)]


def random_words(key: tuple[int, int], start: int, stop: int) -> npt.NDArray[np.uint32]:
    """Words start … stop - 1 of a key's stream, as uint32 (`_core.threefry.word`)."""
    index = np.arange(start, stop, dtype=np.uint64)
    high, low = (index >> np.uint64(32)).astype(np.uint32), index.astype(np.uint32)
    k0, k1 = np.full(1, key[0], np.uint32), np.full(1, key[1], np.uint32)
    return word(k0, k1, high, low)
