r"""Lines of fixed width: hexadecimal columns between constant text, written and read as two-dimensional byte arrays.

A line is

    86E3 86E30000 00\n        digits of a field, two or four at a time from a table; the text between them is the
    └──┘ └──────┘ └┘         same in every line
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .rows import Field

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

BAD = 0x100  # in the tables of digits read: no hexadecimal digits


@lru_cache(maxsize=1)
def _pairs() -> npt.NDArray[np.uint16]:
    """Two digits, as they lie in memory, for each byte."""
    digits = b"".join(b"%02X" % code for code in range(256))
    return np.frombuffer(digits, np.uint16)


@lru_cache(maxsize=1)
def _quads() -> npt.NDArray[np.uint32]:
    """Four digits, as they lie in memory, for each 16-bit number."""
    codes = np.arange(65536)
    quads = np.empty((65536, 2), np.uint16)
    quads[:, 0], quads[:, 1] = _pairs()[codes >> 8], _pairs()[codes & 255]
    return quads.view(np.uint32).reshape(-1)


@lru_cache(maxsize=1)
def _read_one() -> npt.NDArray[np.uint16]:
    """The value of a character, or BAD."""
    table = np.full(256, BAD, np.uint16)
    for value, pair in enumerate(zip("0123456789ABCDEF", "0123456789abcdef", strict=True)):
        for character in pair:
            table[ord(character)] = value
    return table


@lru_cache(maxsize=1)
def _read_two() -> npt.NDArray[np.uint16]:
    """The value of two characters, as they lie in memory, or something with the bit BAD."""
    both = np.arange(65536, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
    high, low = _read_one()[both[:, 0]], _read_one()[both[:, 1]]
    return np.where((high | low) & BAD != 0, np.uint16(BAD), high * np.uint16(16) + low).astype(np.uint16)


@dataclass(frozen=True)
class Template:
    """How a row is written: the text before each code, the fields, the text at the end.

    Attributes:
        fields: the fields of a row.
        before: text before each code, in the order of the codes.
        end: text after the last code, with the newline.
    """

    fields: tuple[Field, ...]
    before: tuple[bytes, ...]
    end: bytes

    @cached_property
    def places(self) -> tuple[tuple[int, ...], ...]:
        """Offset in a line of each code of each field."""
        at, texts = 0, iter(self.before)
        made = []
        for one in self.fields:
            offsets = []
            for _ in range(one.count):
                at += len(next(texts))
                offsets.append(at)
                at += one.digits
            made.append(tuple(offsets))
        return tuple(made)

    @cached_property
    def width(self) -> int:
        """Bytes of a line."""
        codes = sum(one.digits * one.count for one in self.fields)
        return codes + sum(map(len, self.before)) + len(self.end)

    @cached_property
    def line(self) -> Bytes:
        """A line whose digits are all 0."""
        digits = [b"0" * one.digits for one in self.fields for _ in range(one.count)]
        text = b"".join(a + b for a, b in zip(self.before, digits, strict=True)) + self.end
        return np.frombuffer(text, np.uint8)

    @cached_property
    def _constants(self) -> tuple[tuple[int, int], ...]:
        """Offset and value of every byte that no digit takes."""
        taken = set()
        for one, offsets in zip(self.fields, self.places, strict=True):
            taken |= {at + i for at in offsets for i in range(one.digits)}
        return tuple((at, int(byte)) for at, byte in enumerate(self.line) if at not in taken)

    # Writing

    def render(self, columns: Sequence[Array]) -> bytes:
        """Lines of rows; one column a field, as `rows.columns_of` gives them."""
        n = len(columns[0])
        lines = np.empty((n, self.width), np.uint8)
        lines[:] = self.line
        for one, offsets, column in zip(self.fields, self.places, columns, strict=True):
            for i, at in enumerate(offsets):
                _put(lines, at, one.digits, column[:, i] if column.ndim == 2 else column)
        return lines.tobytes()

    # Reading

    def scan(self, data: bytes | memoryview) -> tuple[list[Array], int]:
        """Columns of as many rows as `data` begins with that are written in this way, and their number."""
        n = len(data) // self.width
        if n > 1 and not self.scan(data[: self.width])[1]:
            n = 0
        lines = np.frombuffer(data, np.uint8, n * self.width).reshape(n, self.width)
        wrong = np.zeros(n, bool)
        for at, byte in self._constants:
            wrong |= lines[:, at] != byte
        columns = []
        for one, offsets in zip(self.fields, self.places, strict=True):
            column = one.column(n)
            for i, at in enumerate(offsets):
                part = column[:, i] if column.ndim == 2 else column
                _get(lines, at, one, part, wrong)
            columns.append(column)
        good = int(wrong.argmax()) if wrong.any() else n
        return ([column[:good] for column in columns] if good < n else columns), good


def _words(lines: Bytes, at: int, dtype: str) -> Array:
    """A strided view of the bytes from `at` on as one unsigned integer a row."""
    n, width = lines.shape
    flat = lines.reshape(-1)
    if n == 0:
        return np.empty(0, dtype)
    return np.ndarray((n,), dtype, flat.data, at, (width,))


def _put(lines: Bytes, at: int, digits: int, codes: Array) -> None:
    """Write the digits of a column."""
    if codes.dtype.hasobject:
        text = "".join(f"{int(code):0{digits}X}" for code in codes.tolist())
        lines[:, at : at + digits] = np.frombuffer(text.encode(), np.uint8).reshape(len(codes), digits)
        return
    left = digits
    while left:
        step = 4 if left >= 4 else 2 if left >= 2 else 1
        left -= step
        part = codes >> codes.dtype.type(4 * left) if left else codes
        if step == 4:
            _words(lines, at, "=u4")[:] = _quads().take(part.astype(np.uint16, copy=False))
        elif step == 2:
            _words(lines, at, "=u2")[:] = _pairs().take(part.astype(np.uint8, copy=False))
        else:
            lines[:, at] = _pairs().view(np.uint8)[1::2].take(part.astype(np.uint8, copy=False) & np.uint8(15))
        at += step


def _get(lines: Bytes, at: int, one: Field, out: Array, wrong: npt.NDArray[np.bool_]) -> None:
    """Fill a column from its digits; rows with something else, or a code that is too wide, become wrong."""
    if one.dtype.hasobject:
        _get_wide(lines, at, one, out, wrong)
        return
    bad = np.zeros(len(lines), np.uint16)
    left = one.digits
    value: Array | None = None
    while left:
        step = 2 if left % 2 == 0 else 1
        table = _read_two() if step == 2 else _read_one()
        part = table.take(_words(lines, at, "=u2") if step == 2 else lines[:, at])
        bad |= part
        part = part.astype(one.dtype, copy=False) if one.dtype.itemsize > 1 else part
        value = part if value is None else (value << value.dtype.type(4 * step)) | part
        left -= step
        at += step
    assert value is not None
    wrong |= bad >= BAD
    if one.bits % 4 or 4 * one.digits > one.bits:
        wrong |= value >> value.dtype.type(one.bits) != 0
    out[:] = value


def _get_wide(lines: Bytes, at: int, one: Field, out: Array, wrong: npt.NDArray[np.bool_]) -> None:
    text = lines[:, at : at + one.digits].tobytes()
    for i in range(len(lines)):
        digits = text[i * one.digits : (i + 1) * one.digits]
        try:
            out[i] = int(digits, 16) if digits.isalnum() else -1
        except ValueError:
            out[i] = -1
        wrong[i] |= not 0 <= out[i] < 1 << one.bits
