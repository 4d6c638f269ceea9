"""Reading arrays: .npy, .csv, .hex ($readmemh) and raw files, in flat chunks in C order."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..formats import Format
from ..sources import code_dtype, dtype_format
from .screen import BAD_INPUT, Failure

Array = npt.NDArray[Any]

CHUNK = 1 << 20  # elements
TEXT_CHUNK = 1 << 14  # elements that were text
EXTENSIONS = {".npy": "npy", ".csv": "csv", ".txt": "csv", ".hex": "hex", ".mem": "hex", ".bin": "raw", ".raw": "raw"}


@dataclass
class Input:
    """Elements of a file: `kind` says whether chunks are values (arrays), codes (arrays) or texts (lists).

    `shape` is None until the file has been read where only its end tells.
    """

    kind: str
    chunks: Iterator[Any]
    shape: tuple[int, ...] | None
    columns: int = 1
    dtype: np.dtype[Any] | None = None

    @property
    def total(self) -> int | None:
        """Number of elements, where it is known."""
        return None if self.shape is None else prod(self.shape)


def bad(path: str, why: str) -> Failure:
    """The error for a bad input file."""
    return Failure(f"{'stdin' if path == '-' else path}: {why}", BAD_INPUT)


def kind_of(path: str, given: str | None, default: str, role: str) -> str:
    """The file format of a path: as given, or by its extension."""
    if given:
        return given
    if path == "-":
        return default
    found = EXTENSIONS.get(Path(path).suffix.lower())
    if found is None:
        known = ", ".join(EXTENSIONS)
        raise Failure(f"{path} has none of the extensions {known}; say --{role}-format npy, csv, hex or raw")
    return found


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """The file, or standard input, as bytes."""
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = open(path, "rb")
    except OSError as error:
        raise bad(path, error.strerror or str(error)) from error
    with stream:
        yield stream


def _lines(path: str, stream: BinaryIO) -> Iterator[tuple[int, str]]:
    """Line numbers and lines of a text in UTF-8."""
    for number, line in enumerate(stream, 1):
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise bad(path, f"line {number}: no text in UTF-8 ({error.reason})") from None


# npy


def read_npy(path: str, stream: BinaryIO, source: Format | None) -> Input:
    """An .npy file, mapped into memory where it is one on disk; nothing is unpickled."""
    try:
        array = _load(path, stream)
    except (OSError, MemoryError) as error:
        raise bad(path, f"cannot be read: {error}") from error
    except Exception as error:  # NumPy raises whatever its header parser does
        raise bad(path, f"no .npy array: {error}") from error
    if not isinstance(array, np.ndarray):
        raise bad(path, "an archive of arrays (.npz); extract one .npy from it")
    array, kind = _interpreted(path, array, source)
    columns = array.shape[-1] if array.ndim > 1 else 1
    return Input(kind, _slices(array), array.shape, max(columns, 1), array.dtype)


def _load(path: str, stream: BinaryIO) -> Any:
    if path == "-":
        return np.load(io.BytesIO(stream.read()), allow_pickle=False)
    size = os.fstat(stream.fileno()).st_size
    if size and stream.read(6) == b"\x93NUMPY":
        stream.seek(0)
        version = np.lib.format.read_magic(stream)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = reader(stream)
        if dtype.hasobject:
            raise ValueError("it holds Python objects")
        if stream.tell() + prod(shape) * dtype.itemsize > size:
            raise ValueError(f"truncated: {size} bytes for an array of shape {shape} and dtype {dtype}")
        if prod(shape):
            return np.load(path, mmap_mode="r", allow_pickle=False)
    return np.load(path, allow_pickle=False)


def _interpreted(path: str, array: Array, source: Format | None) -> tuple[Array, str]:
    """The array as codes of `source` or as values, and which."""
    held = dtype_format(array.dtype.newbyteorder("="))
    if array.dtype.kind == "V" and array.dtype.names is None:
        size = array.dtype.itemsize
        if source is None:
            raise bad(path, f"its dtype is {array.dtype}, as NumPy saves ml_dtypes arrays; say --from FORMAT")
        if size not in (1, 2, 4, 8) or code_dtype(source).itemsize != size:
            raise bad(path, f"its elements have {size} bytes, which are no codes of {source}")
        return array.view(f"<u{size}"), "codes"
    if held is None:
        raise bad(path, f"its dtype is {array.dtype}; real numbers or codes are needed")
    if source is None or (array.dtype.kind == "f" and held == source):
        return array, "values"
    if array.dtype.kind not in "iu":
        raise bad(path, f"its dtype is {array.dtype}; codes of {source} are integers (leave --from out for values)")
    return array, "codes"


def _slices(array: Array) -> Iterator[Array]:
    """Flat parts in C order, whatever the strides."""
    flat: Any = array.reshape(-1) if array.flags.c_contiguous else array.flat
    for start in range(0, array.size, CHUNK):
        yield np.asarray(flat[start : start + CHUNK])


def sidecar_of(path: str) -> str | None:
    """The format that an .npy file's own .json says its codes have."""
    try:
        content = json.loads(Path(path + ".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if isinstance(content, dict) and content.get("holds") == "codes" and isinstance(content.get("format"), str):
        return str(content["format"])
    return None


# raw


def read_raw(path: str, stream: BinaryIO, source: Format) -> Input:
    """Little-endian codes, each in as many bytes as its format's dtype."""
    wide = source.bits > 64
    size = -(-source.bits // 8) if wide else code_dtype(source).itemsize
    shape = None
    if path != "-":
        length = os.fstat(stream.fileno()).st_size
        if length % size:
            raise bad(path, f"{length} bytes are no whole number of {size}-byte codes of {source}")
        shape = (length // size,)

    def chunks() -> Iterator[Array]:
        while data := stream.read(CHUNK * size):
            if len(data) % size:
                raise bad(path, f"its end is no whole {size}-byte code of {source}")
            if wide:
                codes = np.empty(len(data) // size, object)
                codes[:] = [int.from_bytes(data[i : i + size], "little") for i in range(0, len(data), size)]
                yield codes
            else:
                yield np.frombuffer(data, f"<u{size}")

    return Input("codes", chunks(), shape)


# hex


def read_hex(path: str, stream: BinaryIO, source: Format) -> Input:
    """Codes as $readmemh reads them: hexadecimal words, // and /* */ comments, @address.

    References: IEEE 1800-2017 §21.4.
    """

    def chunks() -> Iterator[Array]:
        codes: list[int] = []
        address: int | None = None  # of the next word; the first @ may give any
        for number, token in _hex_tokens(path, stream):
            word = _hex_word(path, number, token)
            if token.startswith("@"):
                if address is not None and word != address:
                    raise bad(path, f"line {number}: {token} after address {address - 1:x}; codes must be consecutive")
                address = word
                continue
            if word >> source.bits:
                raise bad(path, f"line {number}: {token} has more than the {source.bits} bits of {source}")
            codes.append(word)
            address = (address or 0) + 1
            if len(codes) == TEXT_CHUNK:
                yield np.array(codes, code_dtype(source))
                codes = []
        if codes:
            yield np.array(codes, code_dtype(source))

    return Input("codes", chunks(), None)


def _hex_tokens(path: str, stream: BinaryIO) -> Iterator[tuple[int, str]]:
    """Line number and text of each word, comments left out."""
    inside = False
    for number, line in _lines(path, stream):
        kept = ""
        while line:
            if inside:
                _, mark, line = line.partition("*/")
                inside = not mark
                continue
            starts = [i for i in (line.find("//"), line.find("/*")) if i >= 0]
            if not starts:
                kept += line
                break
            cut = min(starts)
            kept += line[:cut] + " "
            inside = line[cut : cut + 2] == "/*"
            line = line[cut + 2 :] if inside else ""
        yield from ((number, token) for token in kept.split())
    if inside:
        raise bad(path, "a /* comment does not end")


def _hex_word(path: str, number: int, token: str) -> int:
    digits = token.removeprefix("@").replace("_", "")
    if not digits or not set(digits.lower()) <= set("0123456789abcdef"):
        unknown = " (x and z are unknown bits)" if set(digits.lower()) & set("xz") else ""
        raise bad(path, f"line {number}: {token!r} is no hexadecimal code{unknown}")
    return int(digits, 16)


# csv


def read_csv(path: str, stream: BinaryIO, source: Format | None, *, header: bool) -> Input:
    """Rows of numbers between commas; # starts a comment. Texts, or codes (0x7e or 126) with a format."""
    rows = _csv_rows(path, stream)
    if header:
        next(rows, None)
    found = Input("texts" if source is None else "codes", iter(()), None)

    def chunks() -> Iterator[Any]:
        cells: list[tuple[int, str]] = []
        count, width = 0, 0
        for number, row in rows:
            if width and len(row) != width:
                raise bad(path, f"line {number}: {len(row)} numbers, the lines above have {width}")
            width = found.columns = len(row)
            count += 1
            cells += [(number, cell) for cell in row]
            if len(cells) >= TEXT_CHUNK:
                yield cells if source is None else _csv_codes(path, cells, source)
                cells = []
        found.shape = (count,) if width <= 1 else (count, width)
        if cells:
            yield cells if source is None else _csv_codes(path, cells, source)

    found.chunks = chunks()
    return found


def _csv_rows(path: str, stream: BinaryIO) -> Iterator[tuple[int, list[str]]]:
    for number, line in _lines(path, stream):
        content = line.partition("#")[0].strip()
        if content:
            yield number, [cell.strip().strip('"') for cell in content.split(",")]


def _csv_codes(path: str, cells: list[tuple[int, str]], source: Format) -> Array:
    codes = []
    for number, cell in cells:
        try:
            code = int(cell, 0)
        except ValueError:
            raise bad(path, f"line {number}: {cell!r} is no code; codes are written 126, 0x7e or 0b1111110") from None
        if not 0 <= code < 2**source.bits:
            raise bad(path, f"line {number}: {cell} is no code of {source}, which has {source.bits} bits")
        codes.append(code)
    return np.array(codes, code_dtype(source))
