"""Element codes in packed form, inside a `BlockArray`: read tile by tile, never unpacked as a whole."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .block_layout import Layout, Task

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False, repr=False)
class PackedCodes:
    """Codes of `bits` bits, packed along the last axis.

    Args:
        data: uint8 array: `shape`, but for its last axis, which counts the bytes of a row.
        bits: width of a code.
        shape: of the codes.
        layout: as of `numfmt.pack`: low_first, high_first, split_halves, or a name that stands for one.

    >>> import numpy as np
    >>> codes = PackedCodes(np.uint8([[0x21, 0x43]]), 4, (1, 4))
    >>> np.asarray(codes).tolist()
    [[1, 2, 3, 4]]
    """

    data: Array
    bits: int
    shape: tuple[int, ...]
    layout: str = "low_first"

    def __post_init__(self) -> None:
        row = -(-self.shape[-1] * self.bits // 8) if self.shape else 1
        expected = (*self.shape[:-1], row)
        if self.data.dtype != np.uint8 or tuple(self.data.shape) != expected:
            raise ValueError(
                f"data has dtype {self.data.dtype} and shape {self.data.shape}; packed codes of {self.bits} bits and "
                f"shape {tuple(self.shape)} are uint8 of shape {expected}"
            )

    @property
    def size(self) -> int:
        """Number of codes."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes of the packed codes."""
        return int(self.data.nbytes)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"PackedCodes({self.bits} bits, {self.layout}, shape {tuple(self.shape)}, {self.nbytes:,} bytes)"

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("copy=False is given; packed codes are unpacked into a new array")
        from .packing import unpack

        codes = np.asarray(unpack(self.data, self.bits, layout=self.layout, count=self.shape[-1]))
        return codes if dtype is None else codes.astype(dtype)


def nibbles(codes: PackedCodes, layout: Layout) -> Array | None:
    """The bytes of 4-bit codes as (1, rows, columns / 2), the low half of a byte first; None where that is no view."""
    from .packing import is_low_first

    along_rows = layout.a == 1 and layout.outer == 1 and layout.order == tuple(range(len(layout.shape)))
    if codes.bits != 4 or not is_low_first(codes.layout) or not along_rows or layout.columns % 2 or layout.g % 2:
        return None
    return codes.data.reshape(1, layout.rows, layout.columns // 2) if codes.data.flags.c_contiguous else None


def reader(codes: PackedCodes, layout: Layout) -> Callable[[Task], Array] | None:
    """A function of a task that gives its codes as (1, rows, columns), in a buffer of the thread.

    None where blocks and rows are not whole bytes, or blocks do not run along the last axis.
    """
    from .packing import unpack_chunk

    block_bits, row_bits = layout.g * codes.bits, layout.columns * codes.bits
    along_rows = layout.a == 1 and layout.outer == 1 and layout.order == tuple(range(len(layout.shape)))
    streams = codes.layout not in ("split_halves", "gguf") or (layout.g % 32 == 0 and layout.columns % layout.g == 0)
    if not along_rows or block_bits % 8 or row_bits % 8 or not streams or not codes.data.flags.c_contiguous:
        return None
    data = codes.data.reshape(layout.rows, row_bits // 8)
    buffers = threading.local()

    def read(task: Task) -> Array:
        (r0, r1), (c0, c1) = task.block_rows, task.block_columns
        start, stop = c0 * layout.g, min(c1 * layout.g, layout.columns)
        part = data[r0:r1, start * codes.bits // 8 : stop * codes.bits // 8].reshape(-1)
        size = (r1 - r0) * (stop - start)
        if getattr(buffers, "codes", None) is None or buffers.codes.size < size:
            dtype = np.uint8 if codes.bits <= 8 else np.uint16 if codes.bits <= 16 else np.uint32
            buffers.codes = np.empty(size, dtype)
        unpacked = buffers.codes[:size]
        unpack_chunk(part, unpacked, codes.bits, codes.layout, total=codes.size)
        return np.asarray(unpacked.reshape(1, r1 - r0, stop - start))

    return read
