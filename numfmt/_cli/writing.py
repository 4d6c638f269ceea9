"""Writing arrays: .npy, .csv, .hex ($readmemh) and raw files, chunk by chunk."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..formats import Format
from .screen import Failure, code_text

Array = npt.NDArray[Any]


class Writer:
    """Takes chunks of codes (of `format`) or of values (`format` None), then the shape of the whole."""

    def __init__(self, stream: BinaryIO, format: Format | None, shape: tuple[int, ...] | None, heading: str) -> None:
        self.stream, self.format, self.shape, self.heading = stream, format, shape, heading

    def write(self, chunk: Array, columns: int) -> None:
        """Append a flat chunk; `columns` is the length of a row."""
        raise NotImplementedError

    def finish(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Complete the file."""


class NpyWriter(Writer):
    """Codes or values in .npy version 1.0; the header is written again where the shape was unknown."""

    header = b""

    def write(self, chunk: Array, columns: int) -> None:
        """Append a flat chunk."""
        if chunk.dtype.hasobject:
            raise Failure(f"codes of {self.format} do not fit .npy, which holds 64 bits; write hex or raw")
        if not self.header:
            shape = self.shape if self.shape is not None else (0,) if columns == 1 else (0, columns)
            self._put_header(shape, chunk.dtype)
        self.stream.write(np.ascontiguousarray(chunk).data)

    def finish(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Give the header the shape that the file turned out to have."""
        if not self.header:
            self._put_header(shape, dtype)
        elif self.shape is None:
            length = len(self.header)
            self.stream.seek(0)
            self._put_header(shape, dtype)
            assert len(self.header) == length  # NumPy pads for a first axis of 21 digits

    def _put_header(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        text = io.BytesIO()
        fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(text, fields)
        self.header = text.getvalue()
        self.stream.write(self.header)


class HexWriter(Writer):
    """One code a line, as $readmemh reads it, under a comment that says what it is."""

    started = False

    def write(self, chunk: Array, columns: int) -> None:
        """Append a flat chunk."""
        assert self.format is not None
        self._start()
        digits = -(-self.format.bits // 4)
        if self.format.bits <= 16:
            table = _hex_table(self.format.bits, digits)
            self.stream.write(table.take(chunk.astype(np.intp)).tobytes())
        else:
            self.stream.write("".join(f"{code:0{digits}x}\n" for code in chunk.tolist()).encode())

    def finish(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Complete the file."""
        self._start()

    def _start(self) -> None:
        if not self.started:
            self.stream.write(f"// {self.heading}\n".encode())
            self.started = True


@lru_cache(maxsize=4)
def _hex_table(bits: int, digits: int) -> Array:
    return np.array([f"{code:0{digits}x}\n".encode() for code in range(2**bits)])


class RawWriter(Writer):
    """Little-endian codes or values, nothing else."""

    def write(self, chunk: Array, columns: int) -> None:
        """Append a flat chunk."""
        if chunk.dtype.hasobject:
            assert self.format is not None
            size = -(-self.format.bits // 8)
            self.stream.write(b"".join(code.to_bytes(size, "little") for code in chunk.tolist()))
        else:
            self.stream.write(np.ascontiguousarray(chunk.astype(chunk.dtype.newbyteorder("<"), copy=False)).data)


class CsvWriter(Writer):
    """Rows of values, every one exact: a decimal, or a hex float where the short decimal is not; or of codes."""

    position = 0

    def write(self, chunk: Array, columns: int) -> None:
        """Append a flat chunk."""
        text = exact_text if self.format is None else self._code_text()
        parts = []
        for element in chunk.tolist():
            self.position += 1
            parts += [text(element), "\n" if self.position % columns == 0 else ","]
        self.stream.write("".join(parts).encode())

    def _code_text(self) -> Callable[[int], str]:
        assert self.format is not None
        bits = self.format.bits
        return lambda code: code_text(code, bits)


@lru_cache(maxsize=1 << 16)
def _exact_text(pattern: bytes) -> str:
    (value,) = struct.unpack("<d", pattern)
    text = repr(value)
    if value - value != 0 or Decimal(text) == Decimal(value):
        return text
    mantissa, exponent = value.hex().split("p")
    return f"{mantissa.rstrip('0').removesuffix('.') if '.' in mantissa else mantissa}p{exponent}"


def exact_text(value: float) -> str:
    """A text that names exactly this value: the shortest decimal if that does, else a hex float.

    >>> exact_text(0.1015625), exact_text(2.0**-100), exact_text(-0.0)
    ('0.1015625', '0x1p-100', '-0.0')
    """
    return _exact_text(struct.pack("<d", value))  # by bits, because -0.0 == 0.0


WRITERS: dict[str, type[Writer]] = {"npy": NpyWriter, "csv": CsvWriter, "hex": HexWriter, "raw": RawWriter}
