"""NumPy's way to round large arrays to narrow formats: a table that the kernel has filled.

Where a format keeps t ≤ 7 fraction bits, all its values and midpoints have zeros below bit 22 - t of a
binary32 pattern. So the result depends on the bits from there up and on whether anything lies below:

    s eeeeeeee ffffffff|fffffffffffffff       t = 7: 18 bits, the last of them sticky
               └  index ┘└ or-ed into its last bit ┘

The table holds the kernel's own answers for all 2**18 (2**16 for t = 5) indices.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import engines
from ._core.parameters import BINARY32
from .plans import Plan

if TYPE_CHECKING:
    from .compiled import Engine
    from .scheduler import RandomSource

Array = npt.NDArray[Any]
WIDEST = 7  # trailing significand bits
CHUNK = 1 << 17  # elements; the index of a chunk takes 1 MiB, and threads meet at NumPy's lock less often


@lru_cache(maxsize=16)
def table_of(plan: Plan, in_carrier: bool, dtype: np.dtype[Any]) -> tuple[Array, int]:
    """The table of a plan's results, and how many low bits of a pattern the index leaves out."""
    dropped = BINARY32.trailing - plan.parameters.trailing - 2  # type: ignore[union-attr]
    patterns = (np.arange(2 ** (32 - dropped), dtype=np.uint32) << np.uint32(dropped)).view(np.int32)
    table = np.empty(patterns.size, np.int32 if in_carrier else dtype)
    for start in range(0, patterns.size, 1 << 15):
        part = slice(start, start + (1 << 15))
        np.copyto(table[part], engines.apply(plan, patterns[part], None, in_carrier), casting="unsafe")
    table.flags.writeable = False
    return table, dropped


def engine_for(plan: Plan, size: int, in_carrier: bool, dtype: np.dtype[Any]) -> Engine | None:
    """A function that fills a flat array through the table; None where there is no table or it does not pay."""
    if plan.kernel != "float" or plan.carrier is not BINARY32 or plan.general:
        return None
    trailing = plan.parameters.trailing  # type: ignore[union-attr]
    if trailing > WIDEST or size < 2 ** (12 + trailing):
        return None
    table, dropped = table_of(plan, in_carrier, dtype)
    low, shift = 2**dropped - 1, np.uint32(dropped)
    buffers = threading.local()  # of this call: fresh temporaries would cost more than the work

    def engine(_: Plan, patterns: Any, random: RandomSource | None, start: int, out: Array, in_carrier: bool) -> None:
        if getattr(buffers, "size", 0) < patterns.size:
            buffers.size = patterns.size
            buffers.sticky, buffers.index = np.empty(patterns.size, np.int32), np.empty(patterns.size, np.intp)
        sticky, index = buffers.sticky[: patterns.size], buffers.index[: patterns.size]
        np.bitwise_and(patterns, low, out=sticky)
        np.add(sticky, low, out=sticky)
        np.bitwise_or(sticky, patterns, out=sticky)
        words = sticky.view(np.uint32)
        np.right_shift(words, shift, out=words)
        np.copyto(index, words)
        # No index is out of range; the mode only keeps NumPy from checking for it.
        table.take(index, out=out.view(table.dtype), mode="wrap")

    return engine
