"""pack, unpack: codes narrower than a byte in memory; and the order of scales that matrix units read.

A layout says which bits of which byte a code takes:

    low_first     the little-endian stream: code i takes bits i·bits … of it, low bits first
    high_first    the big-endian stream: the first code takes the high bits of the first byte
    split_halves  of a group of 4-bit codes the first half takes the low, the second the high halves of bytes

Names of checkpoints and libraries stand for these, at the widths that they pack so.
"""

from __future__ import annotations

import math
import operator
import sys
import threading
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from . import compiled, packing_loops
from .arrays import checked_out
from .packing_loops import Halves, Loop, Stream
from .rounding import unknown
from .scheduler import LONG_CHUNK, over_chunks, thread_count

Array = npt.NDArray[Any]

LAYOUTS = {"low_first": range(1, 33), "high_first": range(1, 33), "split_halves": (4,)}  # and their widths
ALIASES = {  # a name, what it means, and the widths that it is known for
    "stream": ("low_first", range(1, 33)),
    "gpt_oss": ("low_first", (4,)),  # transformers 5.23.0, integrations/mxfp4.py: *_blocks
    "compressed_tensors": ("low_first", (4, 6)),  # 0.20.0: nvfp4-pack-, mxfp4-pack-, mxfp6-pack-quantized
    "modelopt": ("low_first", (4,)),  # NVFP4 weights
    "bitsandbytes": ("high_first", (4,)),  # 0.50.2: NF4 and FP4
    "gguf": ("split_halves", (4,)),  # ggml-quants.c: Q4_0, Q4_1, MXFP4; NVFP4 with group=16
}
GROUP = 32
NUMPY_CHUNK = 1 << 17  # codes: 128 KiB for a temporary, one or four bytes a code


def pack(
    codes: npt.ArrayLike,
    bits: int,
    *,
    layout: str = "low_first",
    group: int | None = None,
    axis: int = -1,
    out: Array | None = None,
    threads: int | None = None,
) -> Any:
    """Bytes that hold the low `bits` bits of codes, without gaps along an axis.

        4 bits, low_first    bbbbaaaa ddddcccc            codes a, b, c, d; bytes from left to right,
        4 bits, high_first   aaaabbbb ccccdddd            their high bits left
        6 bits, low_first    bbaaaaaa ccccbbbb ddddddcc

    Args:
        codes: integers of any shape; bits above `bits` are ignored, negative ones are two's complement.
        bits: width of a code, 1 to 32.
        layout: "low_first", "high_first", "split_halves" (4 bits), or a name that stands for one of them:
            "stream", "gpt_oss", "compressed_tensors", "modelopt", "bitsandbytes", "gguf".
        group: for split_halves: codes in a group, even; 32 if not given (GGUF's NVFP4 has 16).
        axis: the axis along which codes become bytes.
        out: uint8 array of the result's shape to fill.
        threads: at most so many; NUMFMT_THREADS, then all cores, by default.

    Returns:
        uint8 array of codes' shape but along `axis`, where n codes take ceil(n·bits / 8) bytes
        (split_halves: group / 2 bytes for each group begun). What codes do not fill is zero.

    Raises:
        ValueError: a width, layout, group or axis that there is not, a width that the layout does not take.
        TypeError: codes are not integers.

    References: the sources beside `ALIASES`; for 3 and 6 bits the stream is what "8 codes in 3 bytes" and
    "4 codes in 3 bytes" mean.

    >>> import numpy as np
    >>> [f"{byte:02x}" for byte in pack([1, 2, 3, 4, 5], 4)]
    ['21', '43', '05']
    >>> [f"{byte:02x}" for byte in pack([1, 2, 3, 4, 5], 4, layout="bitsandbytes")]
    ['12', '34', '50']
    >>> pack(np.zeros((2, 32), np.uint8), 6).shape
    (2, 24)
    """
    fields = _layout(layout, bits, group)
    array = np.asarray(codes)
    if array.dtype.kind not in "iu":
        raise TypeError(f"codes have dtype {array.dtype}; they must be integers, {fields.code} for choice")
    axis = _axis(axis, array, "codes")
    shape = _with_length(array.shape, axis, fields.packed_size(array.shape[axis]))
    packed = checked_out(out, shape, np.dtype(np.uint8))
    if out is not None and np.may_share_memory(out, array):
        array = array.copy()
    target = _rows(packed, axis)
    _over_blocks(fields, _rows(array, axis), target, True, threads)
    return _stored(target, packed, axis)


def unpack(
    packed: npt.ArrayLike,
    bits: int,
    *,
    layout: str = "low_first",
    group: int | None = None,
    count: int | None = None,
    axis: int = -1,
    out: Array | None = None,
    threads: int | None = None,
) -> Any:
    """Codes that bytes hold: undoes `pack`.

    Args:
        packed: uint8 array of any shape.
        bits, layout, group, axis, threads: as for `pack`.
        count: codes along `axis`; all that fit if not given, which may be more than were packed.
        out: array of the result's shape and dtype to fill.

    Returns:
        Array of packed's shape but with `count` along `axis`; uint8 up to 8 bits, uint16 up to 16, else uint32.

    Raises:
        ValueError: as `pack`; count is more than the bytes hold; split_halves, and not whole groups.
        TypeError: packed is not uint8.

    >>> import numpy as np
    >>> unpack(np.uint8([0x21, 0x43, 0x05]), 4, count=5)
    array([1, 2, 3, 4, 5], dtype=uint8)
    """
    fields = _layout(layout, bits, group)
    array = np.asarray(packed)
    if array.dtype != np.uint8:
        raise TypeError(f"packed has dtype {array.dtype}; it must be uint8, as packed.view(np.uint8) is")
    axis = _axis(axis, array, "packed")
    count = _count(fields, array.shape[axis], count)
    codes = checked_out(out, _with_length(array.shape, axis, count), fields.code)
    if out is not None and np.may_share_memory(out, array):
        array = array.copy()
    target = _rows(codes, axis)
    _over_blocks(fields, target, _rows(array, axis)[:, : fields.packed_size(count)], False, threads)
    return _stored(target, codes, axis)


def pack_chunk(codes: Array, out: Array, bits: int = 4, layout: str = "low_first", total: int = 0) -> None:
    """Fill `out` with packed codes; for callers that go through a large array in pieces that fit the cache.

    Nothing is checked, and one thread works.

    Args:
        codes: contiguous 1-D array of the dtype that `unpack` returns.
        out: contiguous uint8 array of the packed size.
        bits, layout: as for `pack`.
        total: codes in all pieces, if more than these; decides whether Numba is loaded.

    >>> import numpy as np
    >>> out = np.empty(2, np.uint8)
    >>> pack_chunk(np.uint8([1, 2, 3, 4]), out)
    >>> out.tolist() == [0x21, 0x43]
    True
    """
    fields = _layout(layout, bits, None)
    fields.pack(codes, out, _loop(fields.loops[0], max(total, codes.size)))


def unpack_chunk(packed: Array, out: Array, bits: int = 4, layout: str = "low_first", total: int = 0) -> None:
    """Fill `out` with the codes of packed bytes, as many as it takes; otherwise as `pack_chunk`.

    >>> import numpy as np
    >>> out = np.empty(4, np.uint8)
    >>> unpack_chunk(np.uint8([0x21, 0x43]), out)
    >>> out
    array([1, 2, 3, 4], dtype=uint8)
    """
    fields = _layout(layout, bits, None)
    fields.unpack(packed, out, _loop(fields.loops[1], max(total, out.size)))


# Arguments


@lru_cache(maxsize=1024)
def _known_layout(layout: str, bits: int, group: int | None) -> Stream | Halves:
    if layout not in LAYOUTS and layout not in ALIASES:
        raise ValueError(unknown("layout", layout, [*LAYOUTS, *ALIASES]))
    name, widths = ALIASES[layout] if layout in ALIASES else (layout, LAYOUTS[layout])
    if not 1 <= bits <= 32:
        raise ValueError(f"bits={bits} is given; codes have 1 to 32, and {min(max(bits, 1), 32)} is the nearest")
    if bits not in widths:
        other = "high_first" if name == "high_first" else "low_first"
        known = " or ".join(map(str, widths))
        raise ValueError(f"bits={bits} is given; layout {layout!r} packs {known} bits, {other!r} any width")
    if name != "split_halves":
        if group is not None:
            raise ValueError(f"group={group} is given; layout {layout!r} has no groups, 'split_halves' has")
        return Stream(bits, name == "high_first")
    group = GROUP if group is None else group
    if group < 2 or group % 2:
        raise ValueError(
            f"group={group} is given; it must be even and positive, and {max(2, group + 1)} is the nearest"
        )
    return Halves(group)


def _layout(layout: str, bits: int, group: int | None) -> Stream | Halves:
    """The layout of a name at a width."""
    if isinstance(bits, bool | np.bool):
        raise TypeError(f"bits={bits} is given; it must be an integer from 1 to 32")
    try:
        width, size = operator.index(bits), None if group is None else operator.index(group)
    except TypeError:
        raise TypeError(f"bits={bits!r} and group={group!r} are given; they must be integers") from None
    if not isinstance(layout, str):
        raise TypeError(f"layout={layout!r} is given; it must be a name, as 'low_first'")
    return _known_layout(layout.lower(), width, size)


def is_low_first(layout: str, bits: int = 4) -> bool:
    """Whether a layout's name stands for the little-endian stream at a width."""
    return _layout(layout, bits, None) == Stream(bits, high=False)


def _axis(axis: int, array: Array, what: str) -> int:
    if not -array.ndim <= axis < array.ndim:
        allowed = f"{-array.ndim} to {array.ndim - 1} are allowed" if array.ndim else "a scalar has none, give [code]"
        raise ValueError(f"axis={axis} is given; {what} has shape {array.shape}, and {allowed}")
    return axis % array.ndim


def _count(fields: Stream | Halves, size: int, count: int | None) -> int:
    """How many codes to take from `size` bytes."""
    if isinstance(fields, Halves) and size % (fields.group // 2):
        raise ValueError(
            f"packed has {size} bytes along the axis; a group of {fields.group} codes takes {fields.group // 2} bytes"
        )
    room = fields.capacity(size)
    if count is None:
        return room
    if isinstance(count, bool | np.bool) or not hasattr(count, "__index__"):
        raise TypeError(f"count={count!r} is given; it must be an integer, at most {room}")
    count = operator.index(count)
    if not 0 <= count <= room:
        raise ValueError(f"count={count} is given; {size} bytes hold at most {room} codes of {fields.bits} bits")
    return count


def _with_length(shape: tuple[int, ...], axis: int, length: int) -> tuple[int, ...]:
    return (*shape[:axis], length, *shape[axis + 1 :])


# The work: blocks of rows that fit the cache


def _rows(array: Array, axis: int) -> Array:
    """The array with its axis last and the others as one: a view where there is one, else a copy."""
    moved = np.moveaxis(array, axis, -1)
    return moved.reshape(math.prod(moved.shape[:-1]), moved.shape[-1])


def _stored(rows: Array, result: Array, axis: int) -> Array:
    """The result, which gets the rows if they are a copy."""
    if not np.may_share_memory(rows, result):
        moved = np.moveaxis(result, axis, -1)
        moved[...] = rows.reshape(moved.shape)
    return result


_lock = threading.RLock()
_loops: dict[tuple[Any, ...], Any] = {}


def _loop(name: tuple[Any, ...], size: int) -> Loop:
    """The compiled loop called `name`; None where there is none, Numba is absent or the array too small to load it."""
    loop = _loops.get(name)
    if loop is None and name and size >= compiled.SMALL and sys.byteorder == "little":
        with _lock:
            if compiled._module() is not None:
                loop = _loops[name] = packing_loops.make(*name)
    return loop


def _over_blocks(fields: Stream | Halves, codes: Array, packed: Array, packing: bool, threads: int | None) -> None:
    """Pack rows of codes into rows of bytes, or unpack these."""
    if codes.flags.c_contiguous and packed.flags.c_contiguous and codes.shape[1] % fields.period == 0:
        codes, packed = codes.reshape(1, codes.size), packed.reshape(1, packed.size)
    rows, length = codes.shape
    if not codes.size:
        return
    loop = _loop(fields.loops[0 if packing else 1], codes.size)
    chunk = LONG_CHUNK if fields.is_copy or loop is not None else NUMPY_CHUNK
    step = -(-chunk // (8 * fields.period)) * 8 * fields.period  # words of 8 codes stay aligned
    across, down = -(-length // step), max(1, step // length)

    def work(start: int, stop: int) -> None:
        for piece in range(start, stop):
            row, column = piece // across * down, piece % across * step
            part = slice(column, min(column + step, length))
            data = slice(fields.packed_size(column), fields.packed_size(part.stop))
            block = _pack_block if packing else _unpack_block
            block(fields, codes[row : row + down, part], packed[row : row + down, data], loop)

    pieces = -(-rows // down) * across
    over_chunks(work, pieces, 1, thread_count(threads, codes.size))


def _pack_block(fields: Stream | Halves, codes: Array, packed: Array, loop: Loop) -> None:
    """Pack a block of rows; through contiguous copies, each row of whole bytes, where it is not so already."""
    missing = -codes.shape[1] % fields.period if len(codes) > 1 else 0
    if missing:
        padded = np.zeros((len(codes), codes.shape[1] + missing), fields.code)
        np.copyto(padded[:, : codes.shape[1]], codes, casting="unsafe")
        codes = padded
    codes = np.ascontiguousarray(codes)
    if codes.dtype.itemsize == fields.code.itemsize and codes.dtype.isnative:
        codes = codes.view(fields.code)
    flat = codes.reshape(-1).astype(fields.code, copy=False)
    if packed.flags.c_contiguous and not missing:
        fields.pack(flat, packed.reshape(-1), loop)
        return
    room = np.empty((len(codes), fields.packed_size(codes.shape[1])), np.uint8)
    fields.pack(flat, room.reshape(-1), loop)
    packed[...] = room[:, : packed.shape[1]]


def _unpack_block(fields: Stream | Halves, codes: Array, packed: Array, loop: Loop) -> None:
    """Unpack a block of rows; likewise."""
    missing = -codes.shape[1] % fields.period if len(codes) > 1 else 0
    length = codes.shape[1] + missing
    if missing and packed.shape[1] < fields.packed_size(length):
        padded = np.zeros((len(codes), fields.packed_size(length)), np.uint8)
        padded[:, : packed.shape[1]] = packed
        packed = padded
    flat = np.ascontiguousarray(packed).reshape(-1)
    if codes.flags.c_contiguous and not missing:
        fields.unpack(flat, codes.reshape(-1), loop)
        return
    room = np.empty((len(codes), length), fields.code)
    fields.unpack(flat, room.reshape(-1), loop)
    codes[...] = room[:, : codes.shape[1]]


# Scales as matrix units read them


def swizzle_scales(scales: npt.ArrayLike) -> Array:
    """Scales of a block-scaled matrix in the order in which NVIDIA's matrix units read them.

    Tiles of 128 rows and 4 columns lie one after the other, those of a row of tiles first; in a tile the
    scale of row r and column c is at (r % 32)·16 + (r // 32)·4 + c. What is missing in a tile is zero.

    Args:
        scales: array (…, rows, columns), a row for each row of the matrix, a column for each of its blocks
            along the contraction axis; of any dtype, uint8 codes of e8m0 or e4m3fn as a rule.

    Returns:
        Array (…, 512·tiles) of scales' dtype.

    Raises:
        ValueError: scales has fewer than two axes.

    References: cuBLAS documentation, "1D Block Scaling Factors Layout" (its offset of a tile,
    (sf_inner + sf_outer·sf_inner_dim)·128, is read with sf_outer counting rows of tiles, as nvmath-python's
    `get_block_scale_offset` and torchao's `to_blocked` do).

    >>> import numpy as np
    >>> order = swizzle_scales(np.arange(512, dtype=np.uint16).reshape(128, 4))
    >>> order[:20].tolist()
    [0, 1, 2, 3, 128, 129, 130, 131, 256, 257, 258, 259, 384, 385, 386, 387, 4, 5, 6, 7]
    """
    array = np.asarray(scales)
    if array.ndim < 2:
        raise ValueError(f"scales has shape {array.shape}; it must have rows and columns, as scales.reshape(1, -1) has")
    *outer, rows, columns = array.shape
    down, across = -(-rows // 128), -(-columns // 4)
    padded = array
    if (128 * down, 4 * across) != (rows, columns):
        padded = np.zeros((*outer, 128 * down, 4 * across), array.dtype)
        padded[..., :rows, :columns] = array
    tiles = padded.reshape(*outer, down, 4, 32, across, 4)
    return np.moveaxis(tiles, (-2, -3, -4), (-4, -3, -2)).reshape(*outer, 512 * down * across)


def unswizzle_scales(data: npt.ArrayLike, rows: int, columns: int) -> Array:
    """Scales of a block-scaled matrix, row by row, from the order of `swizzle_scales`.

    Args:
        data: array (…, 512·tiles), or (…, 128·k, 4·m) of as many elements, as some libraries shape it.
        rows, columns: of the scales.

    Returns:
        Array (…, rows, columns) of data's dtype.

    Raises:
        ValueError: data has another size than tiles for so many rows and columns.

    >>> import numpy as np
    >>> scales = np.arange(260, dtype=np.uint16).reshape(130, 2)
    >>> bool((unswizzle_scales(swizzle_scales(scales), 130, 2) == scales).all())
    True
    """
    array = np.asarray(data)
    if rows < 0 or columns < 0:
        raise ValueError(f"rows={rows} and columns={columns} are given; neither may be negative")
    down, across = -(-rows // 128), -(-columns // 4)
    size = 512 * down * across
    if array.shape[-2:] == (128 * down, 4 * across):
        array = array.reshape(*array.shape[:-2], size)
    if array.shape[-1:] != (size,):
        raise ValueError(
            f"data has shape {array.shape}; {rows} × {columns} scales take {size} elements, as in shape "
            f"({size},) or ({128 * down}, {4 * across})"
        )
    outer = array.shape[:-1]
    tiles = array.reshape(*outer, down, across, 32, 4, 4)
    padded = np.moveaxis(tiles, (-4, -3, -2), (-2, -3, -4)).reshape(*outer, 128 * down, 4 * across)
    return padded[..., :rows, :columns].copy()
