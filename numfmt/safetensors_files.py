"""safetensors files: our own reader and writer, without pickle.

    8 bytes           N bytes                            the rest
    N, little-endian  {"name": {"dtype": "F32",          elements, little-endian, C order,
                       "shape": [2, 3],                  without gaps between tensors
                       "data_offsets": [0, 24]}, ...}

Whatever is wrong with a file is a `TensorFileError`, raised before any tensor is touched.

References: github.com/huggingface/safetensors, README.md "Format", and safetensors/src/tensor.rs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np
import numpy.typing as npt

from .tensor_files import (
    MAX_BYTES,
    MAX_DIMENSIONS,
    Spec,
    TensorFile,
    TensorFileError,
    TensorInfo,
    TensorWriter,
    replacing,
    shown,
)

Array = npt.NDArray[Any]

HEADER_LIMIT = 100_000_000  # bytes, as in tensor.rs


class Dtype(NamedTuple):
    """An element type: its width, and the NumPy dtype of its elements (None: packed, in bytes)."""

    bits: int
    numpy: np.dtype[Any] | None


def _dtype(bits: int, numpy: Any = None) -> Dtype:
    return Dtype(bits, None if numpy is None else np.dtype(numpy))


DTYPES = {
    "BOOL": _dtype(8, bool),
    "F4": _dtype(4), "F6_E2M3": _dtype(6), "F6_E3M2": _dtype(6),
    "U8": _dtype(8, "u1"), "I8": _dtype(8, "i1"),
    "F8_E5M2": _dtype(8, ml_dtypes.float8_e5m2), "F8_E4M3": _dtype(8, ml_dtypes.float8_e4m3fn),
    "F8_E8M0": _dtype(8, ml_dtypes.float8_e8m0fnu),
    "F8_E4M3FNUZ": _dtype(8, ml_dtypes.float8_e4m3fnuz), "F8_E5M2FNUZ": _dtype(8, ml_dtypes.float8_e5m2fnuz),
    "I16": _dtype(16, "<i2"), "U16": _dtype(16, "<u2"), "F16": _dtype(16, "<f2"),
    "BF16": _dtype(16, ml_dtypes.bfloat16),
    "I32": _dtype(32, "<i4"), "U32": _dtype(32, "<u4"), "F32": _dtype(32, "<f4"),
    "C64": _dtype(64, "<c8"), "F64": _dtype(64, "<f8"), "I64": _dtype(64, "<i8"), "U64": _dtype(64, "<u8"),
}  # fmt: skip
NAMES = {dtype.numpy: name for name, dtype in DTYPES.items() if dtype.numpy is not None}


def byte_count(dtype: str, shape: Sequence[int]) -> int:
    """Bytes of a tensor.

    Raises:
        ValueError: its bits do not fill its last byte.

    >>> byte_count("F4", (3, 4)), byte_count("F32", ())
    (6, 4)
    """
    bits = DTYPES[dtype].bits * prod(shape)
    if bits % 8:
        raise ValueError(f"{prod(shape)} elements of {dtype} are {bits} bits, which fill no whole number of bytes")
    return bits // 8


# Reading


class SafetensorsFile(TensorFile):
    """A safetensors file.

    Attributes:
        infos: `TensorInfo` by name, in the order of the data.
        metadata: the strings of `__metadata__`.

    Raises:
        TensorFileError: the file breaks a rule of the format.
        OSError: it cannot be read.
    """

    metadata: dict[str, str]

    def _read_header(self, stream: BinaryIO) -> None:
        text, data = self._header_text(stream)
        header = self._parse(text)
        self.metadata = self._metadata_of(header.pop("__metadata__", {}))
        infos = [self._info_of(name, entry, data) for name, entry in header.items()]
        infos.sort(key=lambda info: (info.start, info.nbytes))
        end, before = data, ""
        for info in infos:
            if info.start + info.nbytes > self.nbytes:
                raise self.error(info.name, f"ends at byte {info.start + info.nbytes}, the file at {self.nbytes}")
            if info.start != end:
                raise self.error(info.name, self._gap(info.start - end, before))
            end += info.nbytes
            before = info.name
        if end != self.nbytes:
            raise self.error(None, f"{self.nbytes - end} bytes after the last tensor belong to none")
        self.infos = {info.name: info for info in infos}

    @staticmethod
    def _gap(bytes_left: int, before: str) -> str:
        found = f"overlaps {shown(before)}" if bytes_left < 0 else f"follows {bytes_left} bytes of no tensor"
        return f"{found}; data_offsets must leave neither overlaps nor gaps"

    def _header_text(self, stream: BinaryIO) -> tuple[str, int]:
        """The header and the offset of the data."""
        prefix = stream.read(8)
        if len(prefix) < 8:
            raise self.error(None, f"has {len(prefix)} bytes; a safetensors file has 8 and a header at least")
        length = int.from_bytes(prefix, "little")
        if length > HEADER_LIMIT:
            raise self.error(None, f"its header would have {length} bytes, {HEADER_LIMIT} are allowed")
        if 8 + length > self.nbytes:
            raise self.error(None, f"its header ends at byte {8 + length}, the file at {self.nbytes}")
        content = stream.read(length)
        if not content.startswith(b"{"):
            raise self.error(None, "its header does not begin with {")
        try:
            return content.decode("utf-8"), 8 + length
        except UnicodeDecodeError as error:
            raise self.error(None, f"its header is not UTF-8: {error.reason} at byte {error.start}") from None

    def _parse(self, text: str) -> dict[str, Any]:
        def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
            made: dict[str, Any] = {}
            for key, value in found:
                if key in made:
                    raise self.error(key, "is twice in the header; names must differ")
                made[key] = value
            return made

        def constant(word: str) -> Any:
            raise self.error(None, f"its header is not JSON: {word}")

        try:
            header = json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
        except TensorFileError:
            raise
        except (ValueError, RecursionError) as error:
            raise self.error(None, f"its header is not JSON: {error}") from None
        if not isinstance(header, dict):
            raise self.error(None, "its header is no JSON object")
        return header

    def _metadata_of(self, found: Any) -> dict[str, str]:
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise self.error("__metadata__", "must be an object of strings")
        return found

    def _info_of(self, name: str, entry: Any, data: int) -> TensorInfo:
        """A tensor's entry, its own fields checked."""
        try:
            name.encode()
        except UnicodeEncodeError:
            raise self.error(name, "its name is no Unicode text") from None
        if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
            raise self.error(name, "must be an object of dtype, shape and data_offsets")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise self.error(name, f"dtype {_brief(dtype)} is unknown; known are {', '.join(DTYPES)}")
        if not _naturals(shape):
            raise self.error(name, f"shape {_brief(shape)} must be a list of integers, none negative")
        if not _naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
            raise self.error(name, f"data_offsets {_brief(offsets)} must be [begin, end] with 0 <= begin <= end")
        if len(shape) > MAX_DIMENSIONS:
            raise self.error(name, f"has {len(shape)} dimensions, {MAX_DIMENSIONS} are allowed")
        if prod(max(n, 1) for n in shape) * DTYPES[dtype].bits > MAX_BYTES or offsets[1] > MAX_BYTES:
            raise self.error(name, f"shape {_brief(shape)} with data_offsets {_brief(offsets)} is too large")
        try:
            needed = byte_count(dtype, shape)
        except ValueError as error:
            raise self.error(name, str(error)) from None
        if offsets[1] - offsets[0] != needed:
            held = f"data_offsets {_brief(offsets)} hold {offsets[1] - offsets[0]}"
            raise self.error(name, f"{dtype} of shape {_brief(shape)} takes {needed} bytes, {held}")
        return TensorInfo(name, dtype, tuple(shape), data + offsets[0], needed)

    def tensor(self, name: str) -> Array:
        """A tensor, mapped from the file and read-only.

        Returns:
            Array of the tensor's shape; bfloat16 and 8-bit floats are ml_dtypes arrays. Elements of 4
            and 6 bits (F4, F6_E2M3, F6_E3M2) come packed, as flat uint8; `info` has their shape.
        """
        info = self.info(name)
        return self._array(info, self.raw(name), info.shape)

    def rows(self, name: str, start: int, stop: int) -> Array:
        """Rows start … stop - 1 of a tensor's first axis, as `tensor` gives them."""
        info = self.info(name)
        size = info.nbytes // max(info.shape[0], 1)
        return self._array(info, self.raw(name, start * size, stop * size), (stop - start, *info.shape[1:]))

    def _array(self, info: TensorInfo, raw: Array, shape: tuple[int, ...]) -> Array:
        dtype = DTYPES[info.dtype].numpy
        if dtype is None:
            return raw
        if info.dtype == "BOOL" and raw.size and raw.max() > 1:
            raise self.error(info.name, f"byte {int(raw.max())} is no BOOL, which is 0 or 1")
        if raw.ctypes.data % dtype.itemsize:
            raw = raw.copy()
        return raw.view(dtype).reshape(shape)


def _naturals(found: Any) -> bool:
    return isinstance(found, list) and all(type(n) is int and n >= 0 for n in found)


def _brief(found: Any) -> str:
    """A piece of JSON in an error message."""
    text = json.dumps(found)
    return text if len(text) <= 80 else text[:76] + " ..."


# Writing


@contextmanager
def write_safetensors(
    path: str | os.PathLike[str], specs: Iterable[Spec], metadata: Mapping[str, str] | None = None
) -> Iterator[TensorWriter]:
    """A safetensors file whose tensors are written one after the other.

    The file appears under its name, complete and on disk, when the block ends; if it fails, there is
    nothing, or the file that was there before. The data lie by falling width, so that every element
    is aligned, then by name.

    Args:
        path: the file.
        specs: every tensor that will be written.
        metadata: strings for `__metadata__`.

    Raises:
        ValueError: a tensor that the format cannot hold, or one that was not written completely.
    """
    header, infos = layout(specs, metadata)
    with replacing(path) as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        writer = TensorWriter(stream, infos)
        yield writer
        writer.finish()


def layout(specs: Iterable[Spec], metadata: Mapping[str, str] | None = None) -> tuple[bytes, list[TensorInfo]]:
    """The header of a safetensors file, and where its tensors go."""
    if not all(isinstance(text, str) for pair in (metadata or {}).items() for text in pair):
        raise ValueError("metadata must map strings to strings")
    ordered = sorted(specs, key=lambda spec: (-_checked(spec).bits, spec.name))
    entries: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    offset = 0
    for spec in ordered:
        if spec.name in entries or spec.name == "__metadata__":
            raise ValueError(f"{shown(spec.name)}: the name is taken")
        stop = offset + byte_count(spec.dtype, spec.shape)
        entries[spec.name] = {"dtype": spec.dtype, "shape": list(spec.shape), "data_offsets": [offset, stop]}
        offset = stop
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > HEADER_LIMIT:
        raise ValueError(f"the header takes {len(text)} bytes, {HEADER_LIMIT} are allowed")
    infos, start = [], 8 + len(text)
    for spec in ordered:
        begin, end = entries[spec.name]["data_offsets"]
        infos.append(TensorInfo(spec.name, spec.dtype, spec.shape, start + begin, end - begin))
    return text, infos


def _checked(spec: Spec) -> Dtype:
    if spec.dtype not in DTYPES:
        raise ValueError(f"{shown(spec.name)}: dtype {spec.dtype} is unknown; known are {', '.join(DTYPES)}")
    if len(spec.shape) > MAX_DIMENSIONS or any(n < 0 for n in spec.shape):
        raise ValueError(f"{shown(spec.name)}: {spec.shape} is no shape")
    return DTYPES[spec.dtype]


def dtype_name(dtype: npt.DTypeLike) -> str:
    """The safetensors name of a NumPy or ml_dtypes dtype.

    Raises:
        TypeError: safetensors has none.

    >>> dtype_name("float32"), dtype_name(ml_dtypes.float8_e4m3fn)
    ('F32', 'F8_E4M3')
    """
    found = np.dtype(dtype)
    name = NAMES.get(found.newbyteorder("<") if found.byteorder in "=<>" else found)
    if name is None:
        raise TypeError(f"dtype {found} has no place in safetensors; it takes {', '.join(map(str, NAMES))}")
    return name


def save_safetensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays to a safetensors file, whole or not at all.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_safetensors(f"{folder}/x.safetensors", {"x": np.float32([1, 2])})
    ...     with SafetensorsFile(f"{folder}/x.safetensors") as file:
    ...         file.tensor("x").tolist()
    [1.0, 2.0]
    """
    arrays = {name: np.asarray(array) for name, array in tensors.items()}
    specs = [Spec(name, dtype_name(array.dtype), array.shape) for name, array in arrays.items()]
    with write_safetensors(path, specs, metadata) as writer:
        for spec in specs:
            dtype = DTYPES[spec.dtype].numpy
            assert dtype is not None
            writer.write(spec.name, arrays[spec.name].astype(dtype, copy=False))
