"""npz: one array a field, written and read in one piece up to a stated size, read-only arrays in slices."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from . import manifest
from .rows import Field, Rows, Sink, VectorFileError, big_endian, columns_of, rows_of

Array = npt.NDArray[Any]

MAX_BYTES = 1 << 31  # of the arrays together
SLICE = 1 << 16
DESCRIPTION = "description"  # the array that holds the JSON text


def limit_text() -> str:
    """The limit, for messages."""
    return f"{MAX_BYTES >> 30} GiB"


class Archive:
    """An .npz file read into memory, one array at a time, each no larger than its header says."""

    def __init__(self, path: str, stream: BinaryIO, head: bytes) -> None:
        self.path = path
        data = head + stream.read(MAX_BYTES + 1 - len(head))
        self.size, self.sha256 = len(data), hashlib.sha256(data).hexdigest()
        if len(data) > MAX_BYTES:
            raise VectorFileError(path, None, f"more than {limit_text()}; npz is read in one piece, text streams")
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
            self._names = {name.removesuffix(".npy") for name in self._zip.namelist()}
        except (zipfile.BadZipFile, ValueError, NotImplementedError, UnicodeDecodeError) as error:
            raise VectorFileError(path, None, f"no .npz archive ({error}); is it cut short?") from None
        self.description = self._description()

    def _description(self) -> dict[str, Any] | None:
        if DESCRIPTION not in self._names:
            return None
        text = self._array(DESCRIPTION, manifest.MAX_BYTES)
        if text.dtype.kind != "U" or text.shape != ():
            raise VectorFileError(self.path, None, "the array description is no text")
        return manifest.checked(self.path, str(text).encode())

    def _array(self, name: str, limit: int) -> Array:
        """An array of the archive, nothing unpickled, nothing larger than the limit."""
        try:
            with self._zip.open(f"{name}.npy") as stream:
                version = np.lib.format.read_magic(stream)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(stream)
                if dtype.hasobject:
                    raise VectorFileError(self.path, None, f"the array {name} holds Python objects, which are not read")
                size = int(np.prod([int(n) for n in shape], dtype=object)) * dtype.itemsize
                if size > limit:
                    raise VectorFileError(self.path, None, f"the array {name} has {size} bytes; {limit} is the limit")
            with self._zip.open(f"{name}.npy") as stream:
                return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))
        except VectorFileError:
            raise
        except Exception as error:  # zlib, zipfile and NumPy's header parser raise whatever they do
            why = " ".join(str(error).split())[:200] or type(error).__name__
            raise VectorFileError(self.path, None, f"the array {name} cannot be read: {why}") from None

    def rows(self, fields: tuple[Field, ...], flags: bool) -> Iterator[Rows]:
        """Rows in slices."""
        if not flags and "flags" not in self._names:
            fields = tuple(one for one in fields if one.role != "flags")
        left, columns = MAX_BYTES, []
        for one in fields:
            if one.name not in self._names:
                has = ", ".join(sorted(self._names)[:10])
                raise VectorFileError(self.path, None, f"there is no array {one.name}; the file has {has or 'none'}")
            column = self._array(one.name, left)
            left -= column.nbytes
            columns.append(self._checked(column, one))
        n = len(columns[0])
        for one, column in zip(fields, columns, strict=True):
            if len(column) != n:
                raise VectorFileError(self.path, None, f"{one.name} has {len(column)} rows, {fields[0].name} has {n}")
        for start in range(0, n, SLICE):
            stop = min(start + SLICE, n)
            numbers = np.arange(start + 1, stop + 1, dtype=np.int64)
            yield rows_of([column[start:stop] for column in columns], fields, numbers)

    def _checked(self, column: Array, one: Field) -> Array:
        """A column of the field's dtype, every code within its width."""
        if one.bits > 64:
            return self._wide(column, one)
        if column.dtype.kind not in "iu" or column.ndim == 0 or column.shape != one.shape(len(column)):
            shape = f"(rows, {one.count})" if one.is_matrix else "(rows,)"
            given = f"shape {column.shape} and dtype {column.dtype}"
            raise VectorFileError(self.path, None, f"{one.name} has {given}; it holds integers of shape {shape}")
        bad = (column < 0) if column.dtype.kind == "i" else np.zeros(column.shape, bool)
        if one.bits < 64:
            bad |= column > column.dtype.type(min(2**one.bits - 1, np.iinfo(column.dtype).max))
        if bad.any():
            row = int(np.argwhere(bad)[0][0])
            raise VectorFileError(self.path, row + 1, f"{one.name} has a code of more than {one.bits} bits")
        return np.ascontiguousarray(column).astype(one.dtype, copy=False)

    def _wide(self, column: Array, one: Field) -> Array:
        """Codes of more than 64 bits from their bytes, the most significant first."""
        size = -(-one.bits // 8)
        if column.dtype != np.uint8 or column.ndim != 2 or column.shape[1] != size or one.count > 1:
            given = f"shape {column.shape} and dtype {column.dtype}"
            raise VectorFileError(self.path, None, f"{one.name} has {given}; it holds bytes of shape (rows, {size})")
        made = np.empty(len(column), object)
        made[:] = [int.from_bytes(row.tobytes(), "big") for row in column]
        if any(code >> one.bits for code in made.tolist()):
            raise VectorFileError(self.path, None, f"{one.name} has a code of more than {one.bits} bits")
        return made


class ArchiveWriter:
    """Collects rows and writes them as arrays at the end."""

    chunk = SLICE

    def __init__(self, stream: Sink, fields: tuple[Field, ...]) -> None:
        self._stream, self.fields = stream, fields
        self._parts: list[list[Array]] = [[] for _ in fields]
        self._bytes = 0
        self._description: dict[str, Any] = {}

    def start(self, description: dict[str, Any], prefix: str | None = None) -> None:
        """Take what the file says of itself."""
        self._description = description

    def render(self, rows: Rows) -> list[Array]:
        """The columns of a chunk."""
        columns = columns_of(rows, self.fields)
        return [
            big_endian(column, one) if one.bits > 64 else column
            for one, column in zip(self.fields, columns, strict=True)
        ]

    def write(self, made: list[Array]) -> None:
        """Keep what `render` gave; raises ValueError beyond the limit."""
        self._bytes += sum(column.nbytes for column in made)
        if self._bytes > MAX_BYTES:
            raise ValueError(f"the arrays have more than {limit_text()}; npz is written in one piece, text streams")
        for parts, column in zip(self._parts, made, strict=True):
            parts.append(column)

    def finish(self) -> None:
        """Write the archive: the same bytes for the same rows."""
        text = json.dumps(self._description, separators=(",", ":"))
        arrays = {DESCRIPTION: np.array(text)}
        for one, parts in zip(self.fields, self._parts, strict=True):
            arrays[one.name] = np.concatenate(parts) if parts else one.column(0)
        made = io.BytesIO()
        np.savez_compressed(made, allow_pickle=False, **arrays)
        self._stream.write(made.getbuffer())
