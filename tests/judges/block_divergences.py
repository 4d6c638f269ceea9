"""The table of what peers make of blocks otherwise than numfmt, and the comparison that allows nothing else.

A row of block_divergences.csv says, for one peer:

    format, mode   block formats (or patterns of names) and operations of the peer, space-separated; the example is of the first
    blocks         the class of blocks or elements, one of CLASSES
    example        the first elements of a block, zeros after them, as bits in hexadecimal (0*15 are 15 zeros); to decode: codes
                   of scale and elements
    theirs, ours   codes of the scales, then of as many elements; to decode: bits of values, "nan" for NaN; the name of an exception
    measured, why  the peer's version, and the reason or reference

It is not divergences.csv, because an example here is a block, and a class is told from whole blocks and from their scales.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

import numfmt as nf
from tests.judges.operands import Array, middles, sizes

TABLE = Path(__file__).with_name("block_divergences.csv")
RAISED = -1  # stands for everything of a block that a peer refuses
NAN = 0xFFFFFFFF  # stands for every NaN among decoded values


class Case(NamedTuple):
    """One operation of a peer on one format: blocks in, a row of integers out.

    `theirs` and `ours` take (n, K) operands and give (n, heads + K) int64: codes of the scales (and minimums) of a row,
    then of its elements. To decode, operands are codes (n, heads + K), and the results are bits of binary32 values (n, K).
    """

    peer: str
    mode: str
    format: str
    operands: Callable[[], Array]
    theirs: Callable[[Array], Array]
    ours: Callable[[Array], Array]
    decodes: bool = False

    def __str__(self) -> str:
        return f"{self.peer} {self.mode} {self.format}"


class Blocks:
    """What a class may look at: operands, the format, and what numfmt makes of them."""

    def __init__(self, case: Case, x: Array, ours: Array) -> None:
        """Operands and results of a case."""
        self.case, self.x, self.ours = case, x, ours
        self.format = nf.get_format(case.format)
        self.k = self.format.elements_per_block
        self.blocks = x.shape[1] // self.k
        self.heads = ours.shape[1] - x.shape[1]

    @property
    def reals(self) -> Array:
        with np.errstate(invalid="ignore"):  # signalling NaNs
            return self.x.astype(np.float64)

    @property
    def amax(self) -> Array:
        """Of each block, (n, blocks); NaN where there is one."""
        return np.abs(self.reals).reshape(len(self.x), self.blocks, self.k).max(axis=2)

    @property
    def scales(self) -> Array:
        """Codes of our scales, (n, blocks)."""
        return self.ours[:, : self.blocks]

    def blockwise(self, mask: Array) -> Array:
        """A claim about blocks, for their scales and their elements."""
        return np.concatenate([np.repeat(mask, self.heads // self.blocks, axis=1), self.among_elements(mask)[:, self.heads :]], axis=1)

    def among_elements(self, mask: Array) -> Array:
        """A claim about elements, or about all elements of blocks, not about scales."""
        wide = mask if mask.shape[1] == self.x.shape[1] else np.repeat(mask, self.k, axis=1)
        return np.concatenate([np.zeros((len(wide), self.heads), bool), wide], axis=1)

    def among_scales(self, mask: Array) -> Array:
        return np.concatenate([mask, np.zeros((len(mask), self.x.shape[1]), bool)], axis=1)

    @property
    def over_scale(self) -> Array:
        """Magnitudes of elements over the power of two that is their scale."""
        with np.errstate(over="ignore"):
            return np.ldexp(np.abs(self.reals), 127 - np.repeat(self.scales, self.k, axis=1))

    @property
    def element(self) -> str:
        return str(self.format.element)


def just_above_a_power(x: Array) -> Array:
    """Above a power of two by less than the binary32 logarithm can tell."""
    fraction = np.frexp(x)[0]
    return (fraction > 0.5) & (fraction <= 0.5 * (1 + 2.0**-17))


def just_below_a_power(x: Array) -> Array:
    return np.frexp(x)[0] >= 1 - 2.0**-18


def beside_a_middle(x: Array, fmt: str) -> Array:
    """Within a few roundings to binary32 of the middle between two neighbours of a format."""
    at = middles(fmt)
    x = np.where(np.isfinite(x), np.abs(x), 0)
    nearest = at[np.clip(np.searchsorted((at[:-1] + at[1:]) / 2, x), 0, len(at) - 1)]
    return np.abs(x - nearest) <= nearest * 2.0**-21


def quotients(b: Blocks) -> Array:
    """amax / max of blocks, over the float32 tensor scale: what NVFP4's scales are rounded from."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return b.amax / 6 / tensor_scale(b)


def tensor_scale(b: Blocks) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return (b.amax.max(axis=1, keepdims=True) / 2688).astype(np.float32).astype(np.float64)


def element_quotients(b: Blocks) -> Array:
    """Elements over their NVFP4 scales."""
    values = np.asarray(nf.decode(b.scales, "e4m3fn")).astype(np.float64) * tensor_scale(b)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.abs(b.reals) / np.repeat(values, b.k, axis=1)


def _ties_of_affine(b: Blocks) -> Array:
    scale = b.ours[:, :1].astype(np.uint32).view(np.float32).astype(np.float64)
    steps = np.abs(b.reals) / np.where(scale > 0, scale, 1)
    return b.among_elements((steps - np.floor(steps)) == 0.5)


CLASSES: dict[str, Callable[[Blocks], Array]] = {
    # blocks
    "nan": lambda b: b.blockwise(np.isnan(b.amax)),
    "infinite": lambda b: b.blockwise(np.isinf(b.amax)),
    "nan elements of tensor": lambda b: np.repeat(np.isnan(b.amax).any(axis=1)[:, None], b.ours.shape[1], axis=1),
    "infinite elements of tensor": lambda b: np.repeat(np.isinf(b.amax).any(axis=1)[:, None], b.ours.shape[1], axis=1),
    "just below a power of two": lambda b: b.blockwise(just_below_a_power(b.amax)),
    "quotient just above a power of two": lambda b: b.blockwise(
        just_above_a_power(b.amax.astype(np.float32) / np.float32(sizes(b.element)[-1]))
    ),
    "below 2^-125": lambda b: b.blockwise((b.amax < 2.0**-125) & (b.amax > 0)),
    "scale beyond 2^127": lambda b: b.blockwise((b.scales == 255) & np.isfinite(b.amax)),
    "zeros": lambda b: b.blockwise(b.amax == 0),
    "scale quotient beside a midpoint": lambda b: b.blockwise(beside_a_middle(quotients(b), "float8_e4m3fn")),
    "scale quotient below 2^-9": lambda b: b.blockwise((quotients(b) < 2.0**-9) & (b.amax > 0)),
    "tensor of zeros": lambda b: np.repeat((b.amax.max(axis=1) == 0)[:, None], b.ours.shape[1], axis=1),
    "tensor below 2^-116": lambda b: np.repeat((b.amax.max(axis=1) < 2.0**-116)[:, None], b.ours.shape[1], axis=1),
    "tensor below 2^-138": lambda b: np.repeat((b.amax.max(axis=1) < 1344 * 2.0**-149)[:, None], b.ours.shape[1], axis=1),
    # elements
    "-0": lambda b: b.among_elements((b.x == 0) & np.signbit(b.x)),
    "rounds to -0": lambda b: b.among_elements(np.signbit(b.x) & (b.over_scale <= sizes(b.element)[1] / 2)),
    "tie": lambda b: b.among_elements(np.isin(b.over_scale, middles(b.element))),
    "just below the least tie": lambda b: b.among_elements(b.over_scale == np.nextafter(sizes(b.element)[1] / 2, 0)),
    "tie of x over scale": _ties_of_affine,
    "scale 2^-127": lambda b: b.among_elements(b.scales == 0),
    "zero scale": lambda b: b.among_elements(b.scales == 0),
    "quotient beside a midpoint": lambda b: b.among_elements(beside_a_middle(element_quotients(b), b.element)),
    "negative underflow": lambda b: b.among_elements((b.x < 0) & (element_quotients(b) < 2.0**-149)),
    # codes to decode
    "NaN scale": lambda b: np.repeat(b.x[:, :1] == 255, b.ours.shape[1], axis=1),
    "code of -0": lambda b: b.x[:, -b.ours.shape[1] :] == 1 << (b.format.element.bits - 1),
}


class Row(NamedTuple):
    """One line of the table."""

    peer: str
    measured: str
    format: str
    mode: str
    blocks: str
    example: str
    theirs: str
    ours: str
    why: str

    def concerns(self, case: Case) -> bool:
        return (
            self.peer == case.peer
            and any(fnmatchcase(case.format, pattern) for pattern in self.format.split())
            and any(fnmatchcase(case.mode, pattern) for pattern in self.mode.split())
        )

    def given(self) -> list[int]:
        """The elements of the example."""
        runs = [token.split("*") for token in self.example.split()]
        return [int(value, 16) for value, *times in runs for _ in range(int(times[0]) if times else 1)]

    def includes(self, blocks: Blocks) -> Array:
        return CLASSES[self.blocks](blocks)


@lru_cache
def rows() -> tuple[Row, ...]:
    with TABLE.open(newline="", encoding="utf-8") as lines:
        reader = csv.reader(lines)
        assert tuple(next(reader)) == Row._fields
        return tuple(Row(*line) for line in reader)


def example_of(row: Row, case: Case) -> Array:
    """The block that a row shows, as operands of its case: (1, K)."""
    like = case.operands()[:1]
    given = row.given()
    filled = np.zeros(like.shape, like.dtype if case.decodes else f"uint{8 * like.dtype.itemsize}")
    filled[0, : len(given)] = given
    return filled.view(like.dtype)


def notation(row: Row, case: Case, result: Array, error: str = "") -> str:
    """A result in the table's words, cut to the elements that the example gives."""
    if (result == RAISED).any():
        return error
    length = len(row.given()) + result.shape[1] - case.operands().shape[1]
    return " ".join("nan" if case.decodes and v == NAN else f"{v:x}" for v in result[0, :length].tolist())


def assert_explained(case: Case) -> int:
    """Fails where numfmt and a peer differ and no row says so, or where a row that concerns the case is idle.

    Returns:
        How many results were compared.
    """
    x = case.operands()
    theirs, ours = case.theirs(x), case.ours(x)
    assert theirs.shape == ours.shape, case
    blocks = Blocks(case, x, ours)
    differs = theirs != ours
    masks = {row.blocks: row.includes(blocks) for row in rows() if row.concerns(case)}
    left = differs & ~np.logical_or.reduce([np.zeros(differs.shape, bool), *masks.values()])
    if left.any():
        i = int(np.flatnonzero(left.any(axis=1))[0])
        j = int(np.flatnonzero(left[i])[0])
        raise AssertionError(
            f"{case}: {left.sum()} of {left.size} differ in {left.any(axis=1).sum()} rows without a reason; row {i}, result {j}: "
            f"theirs {theirs[i, j]:#x}, ours {ours[i, j]:#x}; heads {theirs[i, :blocks.heads]} and {ours[i, :blocks.heads]}, "
            f"operands {x[i].tolist()}"
        )
    idle = [name for name, mask in masks.items() if not (differs & mask).any()]
    assert not idle, f"{case}: no difference in {idle}"
    return int(differs.size)
