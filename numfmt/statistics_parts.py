"""The parts of an array that statistics are counted in: in NumPy, or by the loop of statistics_loops.py."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import gcd
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._core.parameters import BINARY64
from .arrays import decode
from .block_layout import Layout, Task
from .carriers import holds
from .formats import FixedFormat, Format
from .rounding import Overflow
from .scale_rules import scales_part
from .sources import decode_table

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]

SMALL = 1 << 16  # below so many elements NumPy works until a larger array has loaded the loop
TABLE_BITS = 16  # values of wider codes are computed, not looked up

A_BLOCK = ("scales", "zero_points", "minima", "low", "high")


class Part(NamedTuple):
    """A part of an array in canonical form: x and codes (outer, rows, columns), and one entry for a × g elements.

    An element stands for (value of its code - zero point) × scale × (or ÷) tensor + minimum, rounded to
    binary32 if `narrow`; low and high are the reals that the ends of the element format stand for, infinite
    where a block has no range.
    """

    x: Array
    codes: Array
    element: Format
    scales: Doubles
    zero_points: Doubles
    minima: Doubles
    low: Doubles
    high: Doubles
    tensor: float
    divides: bool
    narrow: bool
    a: int
    g: int


# Fills counts (int64, 6: NaN, infinite, results that are not finite, beyond, at an end, to zero) and sums (float64, 3:
# x², x·q, (q - x)²); gives the largest |x| and the largest |q - x| of a × g elements.
Counter = Callable[[Part, Array, Array], tuple[Doubles, Doubles]]


@dataclass(frozen=True)
class Subject:
    """An array and what it became, as `Part` has it; micro-exponents by (elements, one entry for each)."""

    x: Array
    codes: Array
    layout: Layout
    element: Format
    scales: Doubles
    zero_points: Doubles
    minima: Doubles
    low: Doubles
    high: Doubles
    tensor: float = 1.0
    divides: bool = False
    narrow: bool = True
    micro: tuple[tuple[int, Array], ...] = ()
    micro_up: bool = False

    def refined(self) -> Subject:
        """The same with long blocks cut into pieces."""
        fine = self.layout.refined()
        if fine is self.layout or self.micro:
            return self
        blocks = (fine.outer, fine.block_rows, fine.block_columns)
        spread: dict[str, Any] = {name: np.broadcast_to(getattr(self, name), blocks) for name in A_BLOCK}
        return replace(self, layout=fine, **spread)

    def part(self, task: Task) -> Part:
        """A task's part."""
        layout = self.layout
        (o0, o1), (r0, r1), (c0, c1) = task.outer, task.block_rows, task.block_columns
        at = (slice(o0, o1), slice(r0 * layout.a, r1 * layout.a), slice(c0 * layout.g, c1 * layout.g))
        x, blocks = self.x[at], {name: scales_part(getattr(self, name), task) for name in A_BLOCK}
        a, g = self._steps()
        if self.micro:
            factors, size = self._factors(task), (-(-x.shape[1] // a), -(-x.shape[2] // g))
            blocks = {name: self._fine(values)[:, : size[0], : size[1]] for name, values in blocks.items()}
            blocks |= {name: blocks[name] * factors[:, : size[0], : size[1]] for name in ("scales", "low", "high")}
        return Part(
            x,
            self.codes[at],
            self.element,
            **blocks,
            tensor=self.tensor,
            divides=self.divides,
            narrow=self.narrow,
            a=a,
            g=g,
        )

    def _steps(self) -> tuple[int, int]:
        """Rows and columns that have one scale, micro-exponents included."""
        layout = self.layout
        if not self.micro:
            return layout.a, layout.g
        part = min(size for size, _ in self.micro)
        return (part, 1) if layout.g == 1 else (1, gcd(part, layout.g))

    def _fine(self, values: Array) -> Array:
        """One entry a block as one for what `_steps` says."""
        a, g = self._steps()
        return values.repeat(self.layout.a // a, axis=1).repeat(self.layout.g // g, axis=2)

    def _factors(self, task: Task) -> Doubles:
        """Powers of two of all micro-exponents, one for what `_steps` says."""
        a, g = self._steps()
        rows, columns = self.layout.a // a, self.layout.g // g
        levels = (
            scales_part(level, task).astype(np.int32).repeat(size // (a * g), axis=-1) for size, level in self.micro
        )
        exponents = np.sum([level[..., : rows * columns] for level in levels], axis=0)
        o, nr, nc = exponents.shape[:3]
        tiles = exponents.reshape(o, nr, nc, rows, columns).transpose(0, 1, 3, 2, 4)
        return np.ldexp(1.0, tiles if self.micro_up else -tiles).reshape(o, nr * rows, nc * columns)

    def by_block(self, largest: Doubles, task: Task) -> Doubles:
        """The largest of each block from those of what `_steps` says."""
        if not self.micro:
            return largest
        (a, g), layout = self._steps(), self.layout
        (r0, r1), (c0, c1) = task.block_rows, task.block_columns
        rows, columns = layout.a // a, layout.g // g
        padded = np.zeros((largest.shape[0], (r1 - r0) * rows, (c1 - c0) * columns))
        padded[:, : largest.shape[1], : largest.shape[2]] = largest
        return np.asarray(padded.reshape(-1, r1 - r0, rows, c1 - c0, columns).max(axis=(2, 4)))


# ---- facts of elements -----------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def element_range(element: Format, overflow: Overflow | None) -> tuple[float, float]:
    """min and max of an element format; ±max where overflow is symmetric."""
    low, high = _float(element.min), _float(element.max)
    if isinstance(element, FixedFormat) and overflow is Overflow.SYMMETRIC:
        low = -high
    return low, high


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


@lru_cache(maxsize=256)
def _has_table(element: Format) -> bool:
    return element.bits <= TABLE_BITS and holds(BINARY64, element)


@lru_cache(maxsize=64)
def _tables(element: Format) -> tuple[Doubles, npt.NDArray[np.bool_]]:
    """Of every code its value, and whether it is an end of the format."""
    values = decode_table(element, BINARY64).view(np.float64)
    return values, _at_end(element, values)


def _at_end(element: Format, values: Doubles) -> npt.NDArray[np.bool_]:
    low, high = element_range(element, element.default_overflow)
    return np.asarray((values == high) | ((values == low) & (low < 0)))


# ---- counting --------------------------------------------------------------------------------------------------


def counter_for(element: Format, size: int) -> Counter:
    """The function that counts a part: compiled where that is worth it, else NumPy's."""
    if not _has_table(element) or (size < SMALL and not _module.cache_info().currsize):
        return count_part
    module = _module()
    return count_part if module is None else _compiled(module.loop())


@lru_cache(maxsize=1)
def _module() -> ModuleType | None:
    """The module that holds Numba code, or None where Numba cannot be had."""
    if importlib.util.find_spec("numba") is None:
        return None
    try:
        from . import statistics_loops
    except ImportError:  # an interpreter or a NumPy that Numba does not support yet
        return None
    return statistics_loops


def _compiled(loop: Any) -> Counter:
    def count(part: Part, counts: Array, sums: Array) -> tuple[Doubles, Doubles]:
        x = np.ascontiguousarray(part.x, np.float32 if part.x.dtype == np.float32 else np.float64)
        blocks = [np.ascontiguousarray(getattr(part, name)) for name in A_BLOCK]
        amax, error = np.zeros((2, *part.scales.shape))
        loop(
            x, np.ascontiguousarray(part.codes), *_tables(part.element), *blocks, part.tensor, part.divides,
            part.narrow, part.a, part.g, counts, sums, amax, error,
        )  # fmt: skip
        return amax, error

    return count


def count_part(part: Part, counts: Array, sums: Array) -> tuple[Doubles, Doubles]:
    """`Counter` in NumPy; the loop in statistics_loops.py does the same, in the same order."""
    x = part.x.astype(np.float64)

    def spread(values: Doubles) -> Array:
        return values.repeat(part.a, axis=1).repeat(part.g, axis=2)[:, : x.shape[1], : x.shape[2]]

    values, ends = _values(part)
    scales, zero_points, minima, low, high = (spread(getattr(part, name)) for name in A_BLOCK)
    q = (values - zero_points) * scales
    q = (q / part.tensor if part.divides else q * part.tensor) + minima
    if part.narrow:
        q = q.astype(np.float32).astype(np.float64)
    finite = np.isfinite(x)
    kept = finite & np.isfinite(q)
    counts[:] = [
        np.count_nonzero(np.isnan(x)), np.count_nonzero(np.isinf(x)), np.count_nonzero(finite & ~kept),
        np.count_nonzero(finite & ((x < low) | (x > high))),
        np.count_nonzero(finite & ends & (np.isfinite(low) | (not part.narrow))),
        np.count_nonzero(kept & (x != 0) & (q == 0)),
    ]  # fmt: skip
    lost, known, result = (np.where(kept, v, 0.0) for v in (q - x, x, q))
    sums[:] = [_in_order(known * known), _in_order(known * result), _in_order(lost * lost)]
    return _largest(np.where(finite, np.abs(x), 0.0), part), _largest(np.abs(lost), part)


def _values(part: Part) -> tuple[Doubles, npt.NDArray[np.bool_]]:
    """Values of a part's codes, and whether they are ends of the element format."""
    if _has_table(part.element):
        codes = part.codes.astype(np.intp) & (2**part.element.bits - 1)
        table, ends = _tables(part.element)
        return table[codes], ends[codes]
    values = np.asarray(decode(np.ascontiguousarray(part.codes), part.element, dtype=np.float64, threads=1))
    return values, _at_end(part.element, values)


def _in_order(values: Doubles) -> float:
    """Their sum from the first to the last (np.sum pairs them)."""
    return float(np.cumsum(values.reshape(-1))[-1]) if values.size else 0.0


def _largest(values: Doubles, part: Part) -> Doubles:
    """The largest of a × g elements each."""
    o, nr, nc = part.scales.shape
    padded = np.zeros((o, nr * part.a, nc * part.g))
    padded[:, : values.shape[1], : values.shape[2]] = values
    return np.asarray(padded.reshape(o, nr, part.a, nc, part.g).max(axis=(2, 4)))
