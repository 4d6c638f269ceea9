"""The table of what peers do differently from numfmt's defaults, and the comparison that allows nothing else.

A row of divergences.csv says, for one peer:

    source, format     dtypes and formats (or patterns of names), space-separated; the example is of the first ones
    rounding, overflow modes that both are given; empty: the defaults of each; *: any
    platform           the numfmt platform that gives the peer's answer; empty: none does
    operands           the class of operands, one of CLASSES
    example            one such operand: its bits in hexadecimal, or an integer
    theirs, ours       codes in hexadecimal; "nan" for any NaN code; the name of an exception
    measured, why      the peer's version, and the reason or reference
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import numfmt as nf
from spec import oracle
from tests.judges.operands import Array, bits, from_bits, is_nan, middles, sizes

TABLE = Path(__file__).with_name("divergences.csv")
TINY32 = 2.0**-126  # the smallest normal float32


def _reals(x: Array) -> Array:
    """Operands as float64; only int64 and uint64 are rounded by that, and no class looks so closely at those."""
    with np.errstate(invalid="ignore"):  # signalling NaNs
        return x.astype(np.float64)


def _not_float32(x: Array) -> Array:
    """Operands that float32 does not hold."""
    if x.dtype.kind in "iu":
        return np.array([int(np.float32(v)) != int(v) for v in x], bool)
    with np.errstate(all="ignore"):
        return (x.astype(np.float32).astype(np.float64) != x) & ~is_nan(x)


def _inexact(x: Array, fmt: str) -> Array:
    size = np.abs(_reals(x))
    return ~np.isin(size, sizes(fmt)) & np.isfinite(size)


CLASSES: dict[str, Callable[[Array, str], Array]] = {
    "nan": lambda x, fmt: is_nan(x),
    "negative nan": lambda x, fmt: is_nan(x) & np.signbit(x),
    "infinite": lambda x, fmt: np.isinf(_reals(x)),
    "-infinity": lambda x, fmt: _reals(x) == -np.inf,
    "beyond the largest": lambda x, fmt: (np.abs(_reals(x)) > sizes(fmt)[-1]) & np.isfinite(_reals(x)),
    "below minus the largest": lambda x, fmt: (_reals(x) < -sizes(fmt)[-1]) & np.isfinite(_reals(x)),
    "zero": lambda x, fmt: _reals(x) == 0,
    "negative": lambda x, fmt: _reals(x) < 0,
    "tie": lambda x, fmt: np.isin(np.abs(_reals(x)), middles(fmt)),
    "inexact": _inexact,
    "below 2^-126": lambda x, fmt: (np.abs(_reals(x)) < TINY32) & (_reals(x) != 0),
    "at most 2^-127": lambda x, fmt: (np.abs(_reals(x)) <= TINY32 / 2) & (_reals(x) != 0),
    "not a float32": lambda x, fmt: _not_float32(x),
}


class Row(NamedTuple):
    """One line of the table."""

    peer: str
    measured: str
    source: str
    format: str
    rounding: str
    overflow: str
    platform: str
    operands: str
    example: str
    theirs: str
    ours: str
    why: str

    def concerns(self, peer: str, source: str, fmt: str, rounding: str, overflow: str) -> bool:
        return (
            self.peer == peer
            and source in self.source.split()
            and any(fnmatchcase(fmt, pattern) for pattern in self.format.split())
            and self.rounding in ("*", rounding)
            and self.overflow in ("*", overflow)
        )

    def modes(self) -> tuple[str, str]:
        """Modes of the example: any is taken to be the default."""
        return self.rounding.replace("*", ""), self.overflow.replace("*", "")

    def operand(self) -> Array:
        return from_bits(int(self.example, 0), self.source.split()[0])

    def includes(self, x: Array, fmt: str) -> Array:
        return CLASSES[self.operands](x, fmt)


@lru_cache
def rows() -> tuple[Row, ...]:
    with TABLE.open(newline="", encoding="utf-8") as lines:
        reader = csv.reader(lines)
        assert tuple(next(reader)) == Row._fields
        return tuple(Row(*line) for line in reader)


def options(rounding: str = "", overflow: str = "", platform: str = "") -> dict[str, Any]:
    """Keyword arguments of `nf.encode`; what is empty is left out."""
    given = {"rounding": rounding, "overflow": overflow, "platform": platform}
    return {name: value for name, value in given.items() if value}


def nan_codes(codes: Array, fmt: str) -> Array:
    """Where codes are NaN, by the judge's reading of the format."""
    return np.array([oracle.value(int(code), fmt) == "nan" for code in codes], bool)


def unexplained(
    peer: str, source: str, fmt: str, x: Array, theirs: Array, ours: Array,
    rounding: str = "", overflow: str = "", platform: str = "",
) -> Array:  # fmt: skip
    """Places where two arrays of codes differ although no row allows it; with a platform, only rows without one do."""
    differs = ours != theirs
    allowed = np.zeros(x.shape, bool)
    for row in rows():
        if not row.concerns(peer, source, fmt, rounding, overflow) or (platform and row.platform):
            continue
        place = row.includes(x, fmt) & differs
        if row.theirs == "nan":  # any NaN will do, but nothing else
            place[place] = nan_codes(theirs[place], fmt) & nan_codes(ours[place], fmt)
        allowed |= place
    return np.flatnonzero(differs & ~allowed)


def accepted(peer: str, source: str, fmt: str, x: Array, rounding: str = "", overflow: str = "") -> Array:
    """Those operands for which the table does not say that the peer raises."""
    refused = np.zeros(x.shape, bool)
    for row in rows():
        if row.theirs.endswith("Error") and row.concerns(peer, source, fmt, rounding, overflow):
            refused |= row.includes(x, fmt)
    return x[~refused]


def assert_explained(
    peer: str, source: str, fmt: str, x: Array, theirs: Array,
    rounding: str = "", overflow: str = "", platform: str = "",
) -> None:  # fmt: skip
    """Fails, with the first operands, where numfmt's codes differ from a peer's and no row of the table says so."""
    ours = nf.encode(x, fmt, **options(rounding, overflow, platform))
    assert theirs.dtype == ours.dtype
    assert theirs.shape == ours.shape
    places = unexplained(peer, source, fmt, x, theirs, ours, rounding, overflow, platform)
    if places.size:
        shown = [f"{int(bits(x)[i]):#x} ({x[i]}): theirs {theirs[i]:#x}, ours {ours[i]:#x}" for i in places[:5]]
        modes = " ".join(m for m in (rounding, overflow, platform) if m)
        raise AssertionError(f"{peer} {source} → {fmt} {modes}: {places.size} of {x.size} differ: {'; '.join(shown)}")
