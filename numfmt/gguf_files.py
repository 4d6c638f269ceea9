"""GGUF files: the tensors and the metadata of llama.cpp's format, version 3 (2 is read too).

    "GGUF"  version  tensors  keys   key, type, value …   name, axes, type, offset …   padding   data
            4 bytes  8 bytes  8 bytes

All little-endian; axes are written with the fastest first, `TensorInfo.shape` has NumPy's order. What
the bytes of a block mean is the matter of `numfmt.checkpoints`.

References: github.com/ggml-org/ggml, docs/gguf.md and src/gguf.cpp; gguf 0.19.0, constants.py.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from .tensor_files import MAX_BYTES, Spec, TensorFile, TensorInfo, TensorWriter, replacing, shown

MAGIC = b"GGUF"
VERSION = 3
ALIGNMENT = 32
MAX_AXES = 4
NAME_LIMIT = 63  # bytes; GGML_MAX_NAME is 64 with the final zero


class Type(NamedTuple):
    """A tensor type of ggml: its number, elements in a block, bytes of a block."""

    number: int
    elements: int
    nbytes: int


TYPES = {
    "F32": Type(0, 1, 4), "F16": Type(1, 1, 2), "Q4_0": Type(2, 32, 18), "Q4_1": Type(3, 32, 20),
    "Q5_0": Type(6, 32, 22), "Q5_1": Type(7, 32, 24), "Q8_0": Type(8, 32, 34), "Q2_K": Type(10, 256, 84),
    "Q3_K": Type(11, 256, 110), "Q4_K": Type(12, 256, 144), "Q5_K": Type(13, 256, 176), "Q6_K": Type(14, 256, 210),
    "IQ2_XXS": Type(16, 256, 66), "IQ2_XS": Type(17, 256, 74), "IQ3_XXS": Type(18, 256, 98), "IQ1_S": Type(19, 256, 50),
    "IQ4_NL": Type(20, 32, 18), "IQ3_S": Type(21, 256, 110), "IQ2_S": Type(22, 256, 82), "IQ4_XS": Type(23, 256, 136),
    "I8": Type(24, 1, 1), "I16": Type(25, 1, 2), "I32": Type(26, 1, 4), "I64": Type(27, 1, 8), "F64": Type(28, 1, 8),
    "IQ1_M": Type(29, 256, 56), "BF16": Type(30, 1, 2), "TQ1_0": Type(34, 256, 54), "TQ2_0": Type(35, 256, 66),
    "MXFP4": Type(39, 32, 17), "NVFP4": Type(40, 64, 36), "Q1_0": Type(41, 128, 18),
}  # fmt: skip
_BY_NUMBER = {found.number: name for name, found in TYPES.items()}

_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


def byte_count(type_name: str, shape: Sequence[int]) -> int:
    """Bytes of a tensor.

    Raises:
        ValueError: its rows are no whole number of blocks.

    >>> byte_count("Q8_0", (2, 64)), byte_count("F16", (3,))
    (136, 6)
    """
    found = TYPES[type_name]
    row = shape[-1] if shape else 1
    if row % found.elements:
        raise ValueError(
            f"rows of {row} elements are no whole number of {type_name} blocks, which have {found.elements}"
        )
    return prod(shape) // found.elements * found.nbytes


# Reading


class _Header:
    """The bytes of a header, read one after the other; beyond their end is an error of the file."""

    def __init__(self, file: TensorFile, data: mmap.mmap) -> None:
        self._file, self._data, self.at = file, data, 0

    def bytes(self, count: int, what: str) -> bytes:
        if count > len(self._data) - self.at:
            raise self._file.error(None, f"{what} at byte {self.at} would take {count} bytes; the file is truncated")
        self.at += count
        return self._data[self.at - count : self.at]

    def number(self, form: str, what: str) -> Any:
        return struct.unpack(f"<{form}", self.bytes(struct.calcsize(f"<{form}"), what))[0]

    def text(self, what: str, errors: str = "strict") -> str:
        content = self.bytes(self.number("Q", what), what)
        try:
            return content.decode("utf-8", errors)
        except UnicodeDecodeError as error:
            raise self._file.error(
                None, f"{what} at byte {self.at - len(content)} is not UTF-8: {error.reason}"
            ) from None

    def value(self, kind: int, key: str, depth: int = 0) -> Any:
        """A value of metadata; arrays of numbers come as NumPy arrays."""
        what = f"the value of {shown(key)}"
        if kind == _STRING:
            return self.text(what, "replace")
        if kind in _SCALARS:
            return self.number(_SCALARS[kind], what)
        if kind != _ARRAY or depth > 4:
            raise self._file.error(None, f"{what} has type {kind}; known are 0 to 12")
        inner, count = self.number("I", what), self.number("Q", what)
        if inner in _SCALARS:
            form = _SCALARS[inner]
            return np.frombuffer(self.bytes(count * struct.calcsize(f"<{form}"), what), np.dtype(f"<{form}"))
        self._room(count * 8, what)
        return [self.value(inner, key, depth + 1) for _ in range(count)]

    def _room(self, count: int, what: str) -> None:
        """Refuses a count that the file cannot hold before a loop counts to it."""
        self.bytes(count, what)
        self.at -= count

    def entries(self, count: int, size: int, what: str) -> range:
        self._room(count * size, what)
        return range(count)


class GgufFile(TensorFile):
    """A GGUF file.

    Attributes:
        infos: `TensorInfo` by name; `dtype` is a key of TYPES, `shape` in elements, slowest axis first.
        metadata: values by key: str, int, float, bool, arrays of numbers, lists of the others.

    Raises:
        TensorFileError: the file breaks a rule of the format.
        OSError: it cannot be read.
    """

    metadata: dict[str, Any]

    def _read_header(self, stream: BinaryIO) -> None:
        if self.nbytes < 24 or stream.read(4) != MAGIC:
            raise self.error(None, "is no GGUF file, which begins with GGUF and two counts")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            header = _Header(self, data)
            tensors, keys = self._counts(header)
            self.metadata = {}
            for _ in header.entries(keys, 12, f"{keys} keys of metadata"):
                key = header.text("a key of metadata")
                if key in self.metadata:
                    raise self.error(None, f"the key {shown(key)} is twice in the metadata")
                self.metadata[key] = header.value(header.number("I", f"the type of {shown(key)}"), key)
            infos = [self._info(header) for _ in header.entries(tensors, 24, f"{tensors} tensors")]
            self._place(infos, header.at)

    def _counts(self, header: _Header) -> tuple[int, int]:
        header.bytes(4, "magic")
        version = header.number("I", "the version")
        if version not in (2, 3):
            why = "is big-endian" if version and version & 0xFFFF == 0 else f"has version {version}"
            raise self.error(None, f"{why}; little-endian GGUF of versions 2 and 3 is read")
        return header.number("Q", "the number of tensors"), header.number("Q", "the number of keys")

    def _info(self, header: _Header) -> TensorInfo:
        """One tensor; `start` counts from the beginning of the data."""
        name = header.text("the name of a tensor")
        axes = header.number("I", "the number of axes")
        if axes > MAX_AXES:
            raise self.error(name, f"has {axes} axes, {MAX_AXES} are allowed")
        shape = tuple(header.number("Q", "an axis") for _ in range(axes))[::-1]
        number, offset = header.number("I", "a type"), header.number("Q", "an offset")
        if number not in _BY_NUMBER:
            raise self.error(name, f"type {number} is unknown; known are {', '.join(TYPES)}")
        dtype = _BY_NUMBER[number]
        if max(prod(max(n, 1) for n in shape) * TYPES[dtype].nbytes, offset) > MAX_BYTES:
            raise self.error(name, f"shape {shape} at offset {offset} is too large")
        try:
            return TensorInfo(name, dtype, shape, offset, byte_count(dtype, shape))
        except ValueError as error:
            raise self.error(name, str(error)) from None

    def _place(self, infos: list[TensorInfo], end: int) -> None:
        """Checks where the tensors lie, and turns their offsets into those of the file."""
        alignment = self.metadata.get("general.alignment", ALIGNMENT)
        if type(alignment) is not int or not 0 < alignment <= 2**30 or alignment & (alignment - 1):
            raise self.error(None, f"general.alignment is {alignment!r}; it must be a power of two")
        data = end + -end % alignment
        last, before = 0, ""
        for info in sorted(infos, key=lambda info: (info.start, info.nbytes)):
            if info.name in self.infos:
                raise self.error(info.name, "is twice in the file; names must differ")
            if info.start % alignment:
                raise self.error(info.name, f"begins at offset {info.start}, no multiple of the alignment {alignment}")
            if info.start < last:
                raise self.error(info.name, f"overlaps {shown(before)}")
            start = data + info.start
            if info.nbytes and start + info.nbytes > self.nbytes:
                raise self.error(info.name, f"ends at byte {start + info.nbytes}, the file at {self.nbytes}")
            self.infos[info.name] = TensorInfo(info.name, info.dtype, info.shape, start, info.nbytes)
            last, before = info.start + info.nbytes, info.name


# Writing


@contextmanager
def write_gguf(
    path: str | os.PathLike[str], specs: Iterable[Spec], metadata: Mapping[str, str | int | float | bool] | None = None
) -> Iterator[TensorWriter]:
    """A GGUF file, version 3, whose tensors are written one after the other; as `write_safetensors`.

    Args:
        path: the file.
        specs: every tensor that will be written, dtype a key of TYPES.
        metadata: strings, integers (uint32 where they fit), floats (float32) and booleans. llama.cpp
            wants general.architecture.

    Raises:
        ValueError: a tensor that the format cannot hold, or one that was not written completely.
    """
    header, infos, end = layout(specs, metadata or {})
    with replacing(path) as stream:
        stream.write(header)
        writer = TensorWriter(stream, infos)
        yield writer
        writer.finish()
        stream.truncate(end)


def layout(
    specs: Iterable[Spec], metadata: Mapping[str, str | int | float | bool]
) -> tuple[bytes, list[TensorInfo], int]:
    """The header of a GGUF file, where its tensors go, and its length."""
    specs = list(specs)
    offset, offsets, parts, seen = 0, [], [], set()
    for spec in specs:
        try:
            check_spec(spec)
        except ValueError as error:
            raise ValueError(f"{shown(spec.name)}: {error}") from None
        if spec.name in seen:
            raise ValueError(f"{shown(spec.name)}: the name is taken")
        seen.add(spec.name)
        axes = len(spec.shape)
        parts.append(_text(spec.name.encode()) + struct.pack(f"<I{axes}Q", axes, *spec.shape[::-1]))
        parts.append(struct.pack("<IQ", TYPES[spec.dtype].number, offset))
        offsets.append(offset)
        offset += _aligned(byte_count(spec.dtype, spec.shape))
    keys = [_text(key.encode()) + _value(key, value) for key, value in metadata.items()]
    header = MAGIC + struct.pack("<IQQ", VERSION, len(specs), len(keys)) + b"".join(keys + parts)
    header += bytes(-len(header) % ALIGNMENT)
    infos = [
        TensorInfo(spec.name, spec.dtype, spec.shape, len(header) + start, byte_count(spec.dtype, spec.shape))
        for spec, start in zip(specs, offsets, strict=True)
    ]
    return header, infos, len(header) + offset


def check_spec(spec: Spec) -> None:
    """Raise ValueError where GGUF cannot hold a tensor."""
    length = len(spec.name.encode())
    if length > NAME_LIMIT:
        raise ValueError(f"its name has {length} bytes, GGUF allows {NAME_LIMIT}")
    if spec.dtype not in TYPES:
        raise ValueError(f"type {spec.dtype} is unknown; known are {', '.join(TYPES)}")
    if len(spec.shape) > MAX_AXES or any(n < 0 for n in spec.shape):
        raise ValueError(f"{spec.shape} is no shape of at most {MAX_AXES} axes")
    byte_count(spec.dtype, spec.shape)


def _aligned(count: int) -> int:
    return count + -count % ALIGNMENT


def _text(encoded: bytes) -> bytes:
    return struct.pack("<Q", len(encoded)) + encoded


def _value(key: str, value: str | int | float | bool) -> bytes:
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case str():
            return struct.pack("<I", _STRING) + _text(value.encode())
        case int():
            kind = 4 if 0 <= value < 2**32 else 11
            return struct.pack(f"<I{_SCALARS[kind]}", kind, value)
        case float():
            return struct.pack("<If", 6, value)
    raise ValueError(f"the value of {key} is a {type(value).__name__}; str, int, float and bool can be written")
