"""The bytes of GGUF blocks: codes, scales and minimums in, bytes out, and back.

    Q8_0    scale  32 codes
    Q4_0    scale  16 bytes                    codes of Q4 and Q5: the low 4 bits of code j in the low half of
    Q4_1    scale  minimum  16 bytes           byte j, of code j + 16 in its high half
    Q5_0    scale  4 bytes  16 bytes           the fifth bits of Q5: a little-endian word of 32 bits, bit j of code j
    Q5_1    scale  minimum  4 bytes  16 bytes
    MXFP4   1 byte  16 bytes                   scale float16, minimum float16; of MXFP4 e8m0, of NVFP4 four ue4m3,
    NVFP4   4 bytes  4 × 8 bytes               one for each 16 codes, of which byte j holds codes j and j + 8

Nothing is rounded or decoded here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .packing import pack, unpack
from .rounding import unknown

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class BlockBytes:
    """What the bytes of a block hold."""

    bits: int
    minimum: bool = False
    scale: str = "<f2"
    elements: int = 32
    group: int = 32  # codes that share a scale

    @property
    def scales(self) -> int:
        """Scales of a block."""
        return self.elements // self.group

    @property
    def parts(self) -> tuple[slice, slice, slice, slice]:
        """Where scales, minimums, fifth bits and codes are."""
        sizes = (
            self.scales * np.dtype(self.scale).itemsize,
            2 if self.minimum else 0,
            self.elements // 8 if self.bits == 5 else 0,
            self.elements * (8 if self.bits == 8 else 4) // 8,
        )
        ends = np.cumsum(sizes).tolist()
        a, b, c, d = (slice(end - size, end) for end, size in zip(ends, sizes, strict=True))
        return a, b, c, d

    @property
    def size(self) -> int:
        """Bytes of a block."""
        return int(self.parts[-1].stop)


TYPES = {  # ggml-common.h of ggml; gguf 0.19.0, GGML_QUANT_SIZES
    "q8_0": BlockBytes(8),
    "q4_0": BlockBytes(4),
    "q4_1": BlockBytes(4, minimum=True),
    "q5_0": BlockBytes(5),
    "q5_1": BlockBytes(5, minimum=True),
    "mxfp4": BlockBytes(4, scale="u1"),
    "nvfp4": BlockBytes(4, scale="u1", elements=64, group=16),
}


class Blocks(NamedTuple):
    """What `unpack_gguf` returns."""

    codes: Array  # uint8 (…, n)
    scales: Array  # float16, of MXFP4 and NVFP4 uint8, (…, n / 32), of NVFP4 (…, n / 16)
    minimums: Array | None  # float16 (…, n / 32)


def pack_gguf(
    codes: npt.ArrayLike, scales: npt.ArrayLike, type: str, *, minimums: npt.ArrayLike | None = None
) -> Array:
    """Bytes of GGUF blocks along the last axis.

    Args:
        codes: integers (…, n), n a multiple of the block, as they are stored: those of Q4_0 and Q5_0 are
            value + 8 and value + 16, those of Q8_0 two's complement, those of MXFP4 and NVFP4 codes of e2m1.
            Bits beyond the type's are ignored.
        scales: float16 (…, n / 32), or its bits as uint16; of MXFP4 uint8 codes of e8m0, of NVFP4 uint8 codes
            of ue4m3 (…, n / 16). As many in one axis are taken too.
        type: "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "mxfp4", "nvfp4", in any case.
        minimums: of Q4_1 and Q5_1, like scales.

    Returns:
        uint8 array (…, bytes): 34, 18, 20, 22, 24, 17 for 32 codes, and 36 for 64.

    Raises:
        ValueError: an unknown type, a wrong shape, minimums where there are none or the other way round.
        TypeError: codes are not integers; scales or minimums of another dtype.

    References: ggml src/ggml-common.h (block_q8_0, block_mxfp4, …); gguf 0.19.0, quants.py.

    >>> import numpy as np
    >>> data = pack_gguf(np.arange(32) % 16, np.float16([1.5]), "q4_0")
    >>> data.shape, bytes(data[:4]).hex()
    ((18,), '003e0011')
    """
    block = _block(type)
    array = np.asarray(codes)
    if array.dtype.kind not in "iu":
        raise TypeError(f"codes have dtype {array.dtype}; they must be integers, uint8 for choice")
    if not array.ndim or array.shape[-1] % block.elements:
        raise ValueError(
            f"codes have shape {array.shape}; {type} takes a last axis of a multiple of {block.elements} codes"
        )
    if (minimums is None) == block.minimum:
        given, which = ("not given", "with") if block.minimum else ("given", "without")
        raise ValueError(f"minimums are {given}; {type} is a type {which} them")
    outer, count = array.shape[:-1], array.shape[-1] // block.elements
    blocks = array.size // block.elements
    data = np.empty((blocks, block.size), np.uint8)
    scale_part, minimum_part, fifth_part, code_part = block.parts
    data[:, scale_part] = _bytes(scales, block.scale, (*outer, count * block.scales), "scales", type, blocks)
    if minimums is not None:
        data[:, minimum_part] = _bytes(minimums, block.scale, (*outer, count), "minimums", type, blocks)
    rows = array.reshape(blocks, block.elements).astype(np.uint8, copy=False)
    if block.bits == 8:
        data[:, code_part] = rows
    else:
        data[:, code_part] = pack(rows, 4, layout="split_halves", group=block.group)
    if block.bits == 5:
        data[:, fifth_part] = pack(rows >> np.uint8(4), 1)
    return data.reshape(*outer, count * block.size)


def unpack_gguf(data: npt.ArrayLike, type: str) -> Blocks:
    """Codes, scales and minimums of the bytes of GGUF blocks: undoes `pack_gguf`.

    Args:
        data: uint8 array (…, bytes), a multiple of the block's along the last axis.
        type: as for `pack_gguf`.

    Returns:
        `Blocks`: codes, scales and minimums (None where the type has none) as `pack_gguf` takes them.

    Raises:
        ValueError: an unknown type, bytes that are no whole number of blocks.
        TypeError: data is not uint8.

    >>> import numpy as np
    >>> blocks = unpack_gguf(np.uint8([0x00, 0x3E, *[0x10] * 16]), "q4_0")
    >>> blocks.scales, blocks.codes[14:18]
    (array([1.5], dtype=float16), array([0, 0, 1, 1], dtype=uint8))
    """
    block = _block(type)
    array = np.asarray(data)
    if array.dtype != np.uint8:
        raise TypeError(f"data has dtype {array.dtype}; it must be uint8, as data.view(np.uint8) is")
    if not array.ndim or array.shape[-1] % block.size:
        raise ValueError(f"data has shape {array.shape}; {type} takes a last axis of a multiple of {block.size} bytes")
    outer, count = array.shape[:-1], array.shape[-1] // block.size
    rows = array.reshape(array.size // block.size, block.size)
    scale_part, minimum_part, fifth_part, code_part = block.parts
    scales = np.ascontiguousarray(rows[:, scale_part]).view(block.scale).reshape(*outer, count * block.scales)
    minimums = None
    if block.minimum:
        minimums = np.ascontiguousarray(rows[:, minimum_part]).view(block.scale).reshape(*outer, count)
    if block.bits == 8:
        codes = rows[:, code_part].copy()
    else:
        codes = unpack(rows[:, code_part], 4, layout="split_halves", group=block.group)
    if block.bits == 5:
        codes |= unpack(rows[:, fifth_part], 1) << np.uint8(4)
    return Blocks(codes.reshape(*outer, count * block.elements), scales, minimums)


def _block(type: str) -> BlockBytes:
    block = TYPES.get(str(type).lower())
    if block is None:
        raise ValueError(unknown("GGUF type", str(type), list(TYPES)))
    return block


def _bytes(values: npt.ArrayLike, dtype: str, shape: tuple[int, ...], what: str, type: str, blocks: int) -> Array:
    """Scales or minimums as bytes, those of a block in a row."""
    array = np.asarray(values)
    allowed = (np.float16, np.uint16) if dtype == "<f2" else (np.uint8,)
    if array.dtype not in allowed:
        names = " or ".join(np.dtype(a).name for a in allowed)
        raise TypeError(f"{what} have dtype {array.dtype}; {type} stores them as {names}")
    if array.shape not in (shape, (int(np.prod(shape)),)):
        raise ValueError(f"{what} have shape {array.shape}; codes of {type} need shape {shape}")
    stored = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return stored.reshape(-1).view(np.uint8).reshape(blocks, -1) if blocks else np.empty((0, 1), np.uint8)
