"""Encoding a large tensor a few rows at a time, to the same codes as at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from math import gcd, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import encode
from ..block_arrays import BlockArray
from ..block_layout import Axis, layout_of
from ..blocks import BlockFormat
from ..checkpoint_layouts import WHOLE, AnyFormat, Quantized

Array = npt.NDArray[Any]

CHUNK = 1 << 22  # elements that are read, encoded and written at a time


def pieces(shape: tuple[int, ...], fmt: AnyFormat, axis: Axis) -> list[tuple[int, int]]:
    """Ranges of the first axis that are whole blocks and whole bytes; all of it where a block spans that axis.

    >>> from numfmt import get_format
    >>> pieces((1 << 16, 128), get_format("mxfp4"), -1)
    [(0, 32768), (32768, 65536)]
    >>> pieces((1 << 16, 128), get_format("int8_axis"), 0)
    [(0, 65536)]
    """
    if not shape or not prod(shape):
        return [(0, shape[0] if shape else 1)]
    unit = _unit(shape, fmt, axis)
    if unit is None:
        return [(0, shape[0])]
    step = max(unit, CHUNK // prod(shape[1:]) // unit * unit)
    return [(start, min(start + step, shape[0])) for start in range(0, shape[0], step)]


def _unit(shape: tuple[int, ...], fmt: AnyFormat, axis: Axis) -> int | None:
    """Rows that hold whole blocks, whose parts are whole bytes."""
    row = prod(shape[1:])
    if not isinstance(fmt, BlockFormat):
        return 8 // gcd(8, row * fmt.bits)
    scale = fmt.scale.element if isinstance(fmt.scale, BlockFormat) else fmt.scale
    whole = row * fmt.element.bits % 8 == 0 and scale.bits in WHOLE and not fmt.micro
    if fmt.flat:
        size = fmt.block[0] * (fmt.scale.block[0] if isinstance(fmt.scale, BlockFormat) else 1)
        return (1 if whole else 8) * (size // gcd(size, row)) if size > 0 else None
    size = _block_rows(shape, fmt, axis)
    return None if size < 0 else (1 if whole else 8) * size


def _block_rows(shape: tuple[int, ...], fmt: BlockFormat, axis: Axis) -> int:
    """Rows of the first axis that a block has; -1 for all."""
    if fmt.block == ():
        return 1
    found = layout_of(shape, fmt, axis).axis
    axes = found if isinstance(found, tuple) else (found,)
    return fmt.block[axes.index(0)] if 0 in axes else 1


class PieceEncoder:
    """Encodes the pieces of one tensor.

    Where a scale belongs to the whole tensor, every piece gets a few rows in front that hold the tensor's
    extreme elements; they are cut off again.

    Args:
        shape: of the tensor.
        fmt, axis: what it is encoded to.
        parts: a function that gives the pieces of the tensor, for a first look at them where that is needed.
    """

    def __init__(
        self, shape: tuple[int, ...], fmt: AnyFormat, axis: Axis, parts: Callable[[], Iterable[Array]]
    ) -> None:
        self.format, self.axis = fmt, axis
        self.extremes: Array | None = None
        several = len(pieces(shape, fmt, axis)) > 1
        if several and isinstance(fmt, BlockFormat) and (fmt.has_tensor_scale or fmt.block == ()):
            self.extremes = _extremes(parts())
            self.rows = _block_rows(shape, fmt, axis)

    def encode(self, x: Array, **options: Any) -> Quantized:
        """A piece, quantized as a part of the whole; options are those of `numfmt.encode`."""
        if self.extremes is None:
            return encode(x, self.format, axis=self.axis, **options)
        row = x.size // len(x)
        count = self.rows * -(-self.extremes.size // (self.rows * row))
        front = np.zeros((count, *x.shape[1:]), x.dtype)
        front.reshape(-1)[: self.extremes.size] = self.extremes
        if options.get("random_bits") is not None:
            numbers = options["random_bits"]
            options["random_bits"] = np.concatenate([np.zeros(front.shape, numbers.dtype), numbers])
        q = encode(np.concatenate([front, x]), self.format, axis=self.axis, **options)
        assert isinstance(q, BlockArray)
        if q.format.block == ():
            return replace(q, codes=q.codes[count:], shape=x.shape)
        return q[count:]


def _extremes(parts: Iterable[Array]) -> Array:
    """The least and the greatest of the finite elements, and of the others one of each kind."""
    found: list[Array] = []
    for x in parts:
        finite = np.isfinite(x)
        inside = x if finite.all() else x[finite]
        if inside.size:
            found += [inside.min().reshape(1), inside.max().reshape(1)]
        if inside is not x:
            found += [x[kind(x)].reshape(-1)[:1] for kind in (np.isnan, np.isposinf, np.isneginf)]
    every = np.concatenate(found)
    finite = every[np.isfinite(every)]
    ends = [finite.min().reshape(1), finite.max().reshape(1)] if finite.size else []
    return np.concatenate([*ends, *(every[kind(every)][:1] for kind in (np.isnan, np.isposinf, np.isneginf))])
