"""How blocks lie in an array: the canonical view that the engines work on.

Every block shape becomes one of an array (outer, rows, columns) in which a block is `a` rows by `g`
columns: blocks along the last axis are 1 × k, along any other axis k × 1, tiles a × g.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from .blocks import WHOLE_AXIS, BlockFormat

Array = npt.NDArray[Any]
Axis = int | tuple[int, ...] | None

PIECE = 1 << 14  # elements: blocks much longer than this are cut into pieces that share a scale


@dataclass(frozen=True)
class Task:
    """A part of a canonical array that holds whole blocks: ranges of outer, block rows and block columns."""

    outer: tuple[int, int]
    block_rows: tuple[int, int]
    block_columns: tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """Canonical view of an array of `shape`: (outer, rows, columns) in blocks of a × g."""

    shape: tuple[int, ...]
    axis: Axis  # as normalised: an int ≥ 0, two of them, or None for blocks over the flattened or whole array
    order: tuple[int, ...]  # of the axes, for the canonical view
    outer: int
    rows: int
    columns: int
    a: int
    g: int
    scales_shape: tuple[int, ...]

    @property
    def block_rows(self) -> int:
        """Blocks along the rows."""
        return -(-self.rows // self.a)

    @property
    def block_columns(self) -> int:
        """Blocks along the columns."""
        return -(-self.columns // self.g)

    def view(self, x: Any) -> Any:
        """The canonical view of an array of the layout's shape; a copy where strides do not allow a view."""
        return x.transpose(self.order).reshape(self.outer, self.rows, self.columns)

    def is_view(self, x: Array) -> bool:
        """Whether `view` shares the memory of x."""
        return self.order == tuple(range(len(self.shape))) and x.flags.c_contiguous

    def restore(self, canonical: Array, out: Array) -> None:
        """Copy a canonical array into one of the layout's shape."""
        moved = out.transpose(self.order)
        moved[...] = canonical.reshape(moved.shape)

    def scales_view(self, scales: Any) -> Any:
        """Canonical view (outer, block rows, block columns) of a scales array."""
        if len(self.order) == len(scales.shape):
            scales = scales.transpose(self.order)
        return scales.reshape(self.outer, self.block_rows, self.block_columns)

    def restore_scales(self, canonical: Array) -> Array:
        """A scales array from its canonical view."""
        if self.order == tuple(range(len(self.order))):
            return canonical.reshape(self.scales_shape)
        moved = canonical.reshape(tuple(self.scales_shape[i] for i in self.order))
        return np.ascontiguousarray(moved.transpose(np.argsort(self.order)))

    def refined(self) -> Layout:
        """This layout with blocks that span a long axis cut into pieces; itself where there are none."""
        if self.block_columns == 1 and self.g > 2 * PIECE:
            return replace(self, g=max(1, PIECE // self.a))
        if self.block_rows == 1 and self.a * self.columns > 2 * PIECE and self.a > 1:
            return replace(self, a=max(1, PIECE // self.columns))
        return self

    def coarse(self, amax: Array) -> Array:
        """The amax of whole blocks from that of the pieces of `refined`."""
        if self.block_rows < amax.shape[1]:
            amax = amax.max(axis=1, keepdims=True)
        return amax.max(axis=2, keepdims=True) if self.block_columns < amax.shape[2] else amax

    def tasks(self, elements: int) -> list[Task]:
        """Parts of about so many elements, of whole blocks."""
        return list(self._tasks(elements))

    def _tasks(self, elements: int) -> Iterator[Task]:
        nr, nc = self.block_rows, self.block_columns
        if not self.outer * self.rows * self.columns:
            return
        per_block_row = self.a * self.columns
        columns = nc if per_block_row <= 2 * elements else max(1, elements // (self.a * self.g))
        rows = max(1, elements // per_block_row) if columns == nc else 1
        outer = max(1, elements // (self.rows * self.columns)) if rows >= nr else 1
        for o in range(0, self.outer, outer):
            for r in range(0, nr, rows):
                for c in range(0, nc, columns):
                    yield Task(
                        (o, min(o + outer, self.outer)), (r, min(r + rows, nr)), (c, min(c + columns, nc))
                    )


def layout_of(shape: tuple[int, ...], fmt: BlockFormat, axis: Axis) -> Layout:
    """The layout of an array for a format and an axis; raises ValueError where they do not fit.

    Args:
        axis: for blocks along one axis an int (negative ones count from the end); for tiles a pair, or
            -1 for the last two; -1 or None for formats over the flattened or the whole array.
    """
    ndim, size = len(shape), prod(shape)
    if fmt.flat or fmt.block == ():
        if axis not in (-1, None):
            which = "flattened" if fmt.flat else "whole"
            raise ValueError(f"axis={axis!r} is given; {fmt} has blocks over the {which} array; leave the axis out")
        k = max(size, 1) if fmt.block in ((), (WHOLE_AXIS,)) else fmt.block[0]
        scales = (1,) * ndim if fmt.block == () else (-(-size // k),)
        return Layout(shape, None, tuple(range(ndim)), 1, 1, size, 1, k, scales)
    if ndim < len(fmt.block):
        raise ValueError(f"an array of shape {shape} is given; {fmt} needs {len(fmt.block)} axes or more")
    axes = _axes(shape, fmt, axis)
    sizes = [max(shape[i], 1) if k == WHOLE_AXIS else k for i, k in zip(axes, fmt.block, strict=True)]
    counts = {i: 1 if k == WHOLE_AXIS else -(-shape[i] // k) for i, k in zip(axes, fmt.block, strict=True)}
    scales = tuple(counts.get(i, n) for i, n in enumerate(shape))
    if len(axes) == 1 and axes[0] == ndim - 1:
        rows, columns = prod(shape[:-1]), shape[-1]
        if columns % sizes[0] == 0:  # no block is short: one long row
            rows, columns = min(rows, 1), rows * columns
        return Layout(shape, axes[0], tuple(range(ndim)), 1, rows, columns, 1, sizes[0], scales)
    if len(axes) == 1:
        i = axes[0]
        return Layout(
            shape, i, tuple(range(ndim)), prod(shape[:i]), shape[i], prod(shape[i + 1 :]), sizes[0], 1, scales
        )
    others = tuple(i for i in range(ndim) if i not in axes)
    a, g = sizes
    return Layout(
        shape, axes, (*others, *axes), prod(shape[i] for i in others), shape[axes[0]], shape[axes[1]], a, g, scales
    )


def _axes(shape: tuple[int, ...], fmt: BlockFormat, axis: Axis) -> tuple[int, ...]:
    """The block axes, as numbers ≥ 0."""
    ndim, wanted = len(shape), len(fmt.block)
    if wanted == 2 and axis in (-1, None):
        axis = (-2, -1)
    given = axis if isinstance(axis, tuple | list) else (axis,)
    if len(given) != wanted or not all(isinstance(i, int | np.integer) for i in given):
        kinds = {1: "one axis, an int", 2: "two axes, a pair of ints"}
        raise ValueError(f"axis={axis!r} is given; {fmt} has blocks along {kinds[wanted]}")
    for i in given:
        if not -ndim <= int(i) < ndim:  # type: ignore[arg-type]
            raise ValueError(f"axis {i} is given; an array of shape {shape} has axes {-ndim} to {ndim - 1}")
    axes = tuple(int(i) % ndim for i in given)  # type: ignore[arg-type]
    if len(set(axes)) != wanted:
        raise ValueError(f"axis={axis!r} is given; the two axes of a tile differ")
    return axes
