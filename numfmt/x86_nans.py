"""Which NaN VDPBF16PS returns: of a pair the even element's before the odd one's, a's before b's, then the sum's."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
DEFAULT = 0xFFC00000  # of invalid operations


def propagate(results: Array, a: Array, b: Array, c: Array, rows: tuple[Array, Array]) -> None:
    """Give results that are NaN the NaN that the instruction returns, in place.

    Args:
        results: flat array of float32.
        a, b: codes of bfloat16, (rows, K).
        c: patterns of the first sums, flat.
    """
    patterns = results.view(np.uint32)
    for i in np.flatnonzero(np.isnan(results)):
        patterns[i] = _chosen(a[rows[0][i]].tolist(), b[rows[1][i]].tolist(), int(c[i]) & 0xFFFFFFFF)


def _chosen(a: list[int], b: list[int], total: int) -> int:
    found = _quieted(total) if _is_nan(total) else None
    for k in range(0, len(a), 2):
        pair = [x << 16 for x in (a[k], b[k], *a[k + 1 : k + 2], *b[k + 1 : k + 2])]
        found = next((_quieted(x) for x in pair if _is_nan(x)), found)
    return DEFAULT if found is None else found


def _is_nan(x: int) -> bool:
    return x & 0x7FFFFFFF > 0x7F800000


def _quieted(x: int) -> int:
    return x | 0x400000
