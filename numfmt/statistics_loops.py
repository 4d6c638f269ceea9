"""The loop of statistics_parts.py in Numba; imported there when a large array asks for it."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit

from .disk_cache import enable


@lru_cache(maxsize=1)
def loop() -> Any:
    """`_count`, compiled on first use, or loaded from disk."""
    return enable(njit(nogil=True, error_model="numpy")(_count), "statistics")


def _count(
    x: Any, codes: Any, table: Any, ends: Any, scales: Any, zero_points: Any, minima: Any, low: Any, high: Any,
    tensor: Any, divides: Any, narrow: Any, a: Any, g: Any, counts: Any, sums: Any, amax: Any, error: Any,
) -> None:  # fmt: skip
    """Count a part, as `count_part` does in NumPy: the same counts, the same sums in the same order.

    Args:
        x, codes: (outer, rows, columns).
        table, ends: value of each code, and whether it is an end of the element format.
        scales, zero_points, minima, low, high: one a block of a × g elements.
        tensor, divides: the tensor scale, and whether values are divided by it.
        narrow: whether values are rounded to binary32.
        counts, sums, amax, error: what is filled.
    """
    mask = table.size - 1
    nan = infinite = nonfinite = beyond = at_end = to_zero = 0
    xx = xq = ee = 0.0
    for o in range(x.shape[0]):
        for r in range(x.shape[1]):
            for block in range(scales.shape[2]):
                at = (o, r // a, block)
                scale, zero, minimum, least, most = scales[at], zero_points[at], minima[at], low[at], high[at]
                has_scale = not narrow or abs(least) < math.inf
                largest, worst = amax[at], error[at]
                for c in range(block * g, min(block * g + g, x.shape[2])):
                    value = np.float64(x[o, r, c])
                    if not abs(value) < math.inf:
                        nan += value != value
                        infinite += value == value
                        continue
                    code = codes[o, r, c] & mask
                    q = (table[code] - zero) * scale
                    q = (q / tensor if divides else q * tensor) + minimum
                    if narrow:
                        q = np.float64(np.float32(q))
                    largest = max(largest, abs(value))
                    beyond += (value < least) | (value > most)
                    at_end += has_scale & ends[code]
                    if not abs(q) < math.inf:
                        nonfinite += 1
                        continue
                    to_zero += (q == 0) & (value != 0)
                    lost = q - value
                    worst = max(worst, abs(lost))
                    xx += value * value
                    xq += value * q
                    ee += lost * lost
                amax[at], error[at] = largest, worst
    counts[0], counts[1], counts[2], counts[3], counts[4], counts[5] = nan, infinite, nonfinite, beyond, at_end, to_zero
    sums[0], sums[1], sums[2] = xx, xq, ee
