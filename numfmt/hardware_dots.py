"""The dot products of the processor at hand: operands for them, and what the named units say of these.

An operand of an instruction is a word of 32 bits that holds several elements, the first one lowest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .named_units import get_unit
from .rounding import Rounding
from .sums import dot as unit_dot

if TYPE_CHECKING:
    from .hardware import Instruction, Machine

Array = npt.NDArray[Any]

# Zeros, subnormals, the least normal, ones, the largest, infinities, NaNs of every kind with payloads; both signs.
BFLOAT16_CORNERS = (0, 1, 0x007F, 0x0080, 0x3F80, 0x3F81, 0x7F7F, 0x7F80, 0x7F81, 0x7FA5, 0x7FC0, 0x7FC1, 0x7FFF)
FLOAT32_CORNERS = (0, 1, 0x7FFFFF, 0x800000, 0x3F800000, 0x3F800001, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FA12345,
                   0x7FC00000, 0x7FC00001, 0x7FFFFFFF)  # fmt: skip
BYTE_CORNERS = (0, 1, 2, 126, 127, 128, 129, 254, 255)
INT32_CORNERS = (0, 0x7FFFFFFF, 0x80000000)


def element_dtype(instruction: Instruction) -> np.dtype[Any]:
    """Of the elements of both operands."""
    return np.dtype(np.uint16 if instruction.source == "bfloat16" else np.uint8)


def words(codes: Array) -> Array:
    """Codes of elements, of shape (…, elements of a word), as words."""
    return np.ascontiguousarray(codes).view("<u4")[..., 0]


def operands(instruction: Instruction, count: int) -> list[Array]:
    """Columns a, b, c of `count` words: corners with each other, bits at random, and sums that are near a limit."""
    rng = np.random.default_rng(2019)
    a, b, c = _floats(rng, count) if instruction.source == "bfloat16" else _integers(rng, count)
    return [words(a), words(b), c]


def _floats(rng: np.random.Generator, count: int) -> tuple[Array, Array, Array]:
    """Pairs of bfloat16, and float32 addends."""
    kind = np.arange(count) % 7
    shape = (count, 2)
    a, b = (rng.integers(0, 2**16, shape, np.uint16) for _ in range(2))
    c = rng.integers(0, 2**32, count, np.uint32)
    # Products and addends of like size: near 1, near the least normal number, near the largest.
    near = np.select([kind == 1, kind == 2, kind == 3], [127, 1, 254], 127)
    fields = rng.integers(-7, 8, (3, *shape)) * (kind > 0)[:, None]
    first = np.where(kind[:, None] == 1, 120 + fields[0], rng.integers(0, 255, shape))
    second = np.clip(near[:, None] + 127 - first + fields[1], 0, 254)
    placed = (kind >= 1) & (kind <= 3)
    a = np.where(placed[:, None], a & 0x807F | np.clip(first, 0, 254) << 7, a)
    b = np.where(placed[:, None], b & 0x807F | second << 7, b)
    c = np.where(placed, c & 0x807FFFFF | (np.clip(near + fields[2][:, 0], 0, 254) << 23).astype(np.uint32), c)
    # The least normal number and a few units more, less products of about half a unit: sums that nearly are subnormal.
    edge = kind == 6
    c = np.where(edge, c & 0x80000000 | 0x800000 + (rng.random(count) < 0.3) * rng.integers(0, 4, count), c)
    second = np.clip(104 - first + fields[1] // 2, 0, 254)
    a = np.where(edge[:, None], a & 0x807F | np.clip(first, 0, 254) << 7, a)
    b = np.where(edge[:, None], b & 0x807F | second << 7, b)
    short = rng.random(count) < 0.3  # few significand bits, so that sums tie and cancel
    a, b, c = (np.where(short.reshape(-1, *[1] * (x.ndim - 1)), x & mask, x)
               for x, mask in ((a, 0xFFE0), (b, 0xFFE0), (c, np.where(edge, -1, 0xFFF00000))))  # fmt: skip
    corner = ((kind == 4) | (kind == 5))[:, None] & (rng.random(shape) < 0.6)
    a = np.where(corner, _signed(rng, BFLOAT16_CORNERS, shape, 15), a)
    b = np.where(corner[:, ::-1], _signed(rng, BFLOAT16_CORNERS, shape, 15), b)
    c = np.where((kind == 5) | (kind == 4) & corner[:, 0], _signed(rng, FLOAT32_CORNERS, (count,), 31), c)
    return a.astype(np.uint16), b.astype(np.uint16), c.astype(np.uint32)


def _signed(rng: np.random.Generator, corners: Sequence[int], shape: tuple[int, ...], sign: int) -> Array:
    return rng.choice(np.array(corners, np.int64), shape) | rng.integers(0, 2, shape) << sign


def _integers(rng: np.random.Generator, count: int) -> tuple[Array, Array, Array]:
    """Fours of bytes, and int32 addends, of which half are so near an end that a sum reaches it."""
    shape = (count, 4)
    a, b = (rng.integers(0, 256, shape, np.uint8) for _ in range(2))
    corner = rng.random(count) < 0.5
    a, b = (np.where(corner[:, None], rng.choice(np.array(BYTE_CORNERS, np.uint8), shape), x) for x in (a, b))
    c = rng.integers(0, 2**32, count, np.int64)
    ends = rng.choice(np.array(INT32_CORNERS), count) + rng.integers(-50_000, 50_000, count)
    return a, b, (np.where(np.arange(count) % 2, ends, c) & 0xFFFFFFFF).astype(np.uint32)


def expected(instruction: Instruction, columns: Sequence[Array]) -> Array:
    """Codes of c + a·b, by the named unit, for columns of words."""
    dtype = element_dtype(instruction)
    a, b = (np.ascontiguousarray(x, "<u4")[..., None].view(dtype) for x in columns[:2])
    return unit_codes(instruction, a, b, columns[2])


def unit_codes(instruction: Instruction, a: Array, b: Array, c: Array) -> Array:
    """Codes of c + a·b over the last axis, by the named unit, for codes of elements and 32-bit codes of c."""
    unit = get_unit(instruction.platform)
    formats = (str(unit.inputs[0]), str(unit.inputs[-1]))
    start = c.view(np.float32 if instruction.source == "bfloat16" else np.int32)
    return np.asarray(unit_dot(a, b, start, unit=unit, formats=formats)).view(np.uint32)


def dot(here: Machine, instruction: Instruction, a: Array, b: Array, c: Array, *, control: int = 0) -> Array:
    """Codes of c + a·b over the last axis by the instruction, one after the other; K is whole words.

    Args:
        a, b: codes of elements, of shape (n, K).
        c: 32-bit codes, of shape (n,).

    Raises:
        Unavailable: the processor has no such instruction.
    """
    size = 4 // element_dtype(instruction).itemsize
    for k in range(0, a.shape[-1], size):
        part = [words(x[..., k : k + size]) for x in (a, b)]
        c, _ = here.run(instruction, [*part, c], Rounding.TIES_TO_EVEN, control=control)
    return c
