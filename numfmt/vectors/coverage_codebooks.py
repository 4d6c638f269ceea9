"""Coverage classes of conversions to a codebook: where a number lies between two values of a list."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np

from ..formats import CodebookFormat
from .coverage_scalar import Masks
from .intermediate import INFINITE, NAN, NUMBER, Array, Column


def conversion(x: Column, to: CodebookFormat) -> Masks:
    """Values, midpoints, their surroundings and what lies beyond both ends."""
    values = sorted(set(to.values))
    middles = [(a + b) / 2 for a, b in pairwise(values)]
    near = [(b - a) / 16 for a, b in pairwise(values)]
    distinct: dict[tuple[bool, int, int], int] = {}
    places = np.array([distinct.setdefault(key, len(distinct)) for key in _keys(x)], np.int64)
    exact = [(-m if s else m) * Fraction(2) ** e for s, m, e in distinct]
    number = x.kind != NAN
    number = number & (x.kind != INFINITE)

    def rows(claims: list[bool]) -> Array:
        return number & (np.array(claims, bool)[places] if claims else np.zeros(x.kind.shape, bool))

    between = [next((i for i, m in enumerate(middles) if abs(v - m) <= near[i]), -1) for v in exact]
    pairs = list(zip(exact, between, strict=True))
    return {
        "exact": rows([v in set(values) for v in exact]),
        "tie, even below": rows([i >= 0 and v == middles[i] and i % 2 == 0 for v, i in pairs]),
        "tie, odd below": rows([i >= 0 and v == middles[i] and i % 2 == 1 for v, i in pairs]),
        "just above a tie": rows([i >= 0 and v > middles[i] for v, i in pairs]),
        "just below a tie": rows([i >= 0 and v < middles[i] for v, i in pairs]),
        "beyond the upper end": rows([v > values[-1] for v in exact]),
        "beyond the lower end": rows([v < values[0] for v in exact]),
        "NaN": x.kind == NAN,
        "infinite": x.kind == INFINITE,
    }


def _keys(x: Column) -> list[tuple[bool, int, int]]:
    m = np.where(x.kind == NUMBER, x.m, 0 * x.m)
    e = np.where(x.kind == NUMBER, x.e, 0)
    return list(zip(x.negative.tolist(), m.tolist(), e.tolist(), strict=True))
