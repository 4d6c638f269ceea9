"""Files of tensors, whatever their format: mapped one tensor at a time, written whole or not at all."""

from __future__ import annotations

import mmap
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self, cast

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MAX_BYTES = 2**63 - 1
MAX_DIMENSIONS = 64  # of a NumPy array


class TensorFileError(ValueError):
    """A file that is not what it claims: one line that names the file, the tensor and what is wrong."""

    def __init__(self, path: str | os.PathLike[str], tensor: str | None, why: str) -> None:
        where = [os.fspath(path)] + ([] if tensor is None else [shown(tensor)])
        super().__init__(": ".join([*where, " ".join(why.split())]))
        self.path, self.tensor, self.why = os.fspath(path), tensor, why


def shown(name: str) -> str:
    """A tensor's name as a message may show it: on one line, without control characters, not endless.

    >>> print(shown("a.weight"), shown("a b "))
    a.weight 'a b '
    """
    text = name if name.isprintable() and name.strip() == name and name else repr(name)
    return text if len(text) <= 200 else text[:100] + "..." + text[-60:]


class Spec(NamedTuple):
    """A tensor that is going to be written: its name, dtype as its file format calls it, shape in elements."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies: `start` is the offset of its first byte in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    nbytes: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)


# Reading


class TensorFile:
    """An open file of tensors. Each call maps one tensor; its memory is given back with the array."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.infos: dict[str, TensorInfo] = {}
        self._stream: BinaryIO = open(self.path, "rb")
        try:
            if not stat.S_ISREG(os.fstat(self._stream.fileno()).st_mode):
                raise self.error(None, "is no regular file, which reading tensor by tensor needs")
            self.nbytes = os.fstat(self._stream.fileno()).st_size
            self._read_header(self._stream)
        except BaseException:
            self._stream.close()
            raise

    def _read_header(self, stream: BinaryIO) -> None:
        """Fill `infos`, every tensor checked."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; arrays that were read stay valid."""
        self._stream.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r}: {len(self.infos)} tensors, {self.nbytes} bytes)"

    def error(self, tensor: str | None, why: str) -> TensorFileError:
        """The exception for something wrong with this file."""
        return TensorFileError(self.path, tensor, why)

    def info(self, name: str) -> TensorInfo:
        """What the header says of a tensor."""
        try:
            return self.infos[name]
        except KeyError:
            raise self.error(name, "there is no tensor of this name") from None

    def raw(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Bytes start … stop - 1 of a tensor, a read-only uint8 array mapped from the file."""
        info = self.info(name)
        stop = info.nbytes if stop is None else stop
        if stop <= start:
            return np.empty(0, np.uint8)
        first = info.start + start
        aligned = first - first % mmap.ALLOCATIONGRANULARITY
        end = info.start + stop
        if os.fstat(self._stream.fileno()).st_size < end:
            raise self.error(name, "the file has become shorter since it was opened")
        mapped = mmap.mmap(self._stream.fileno(), end - aligned, access=mmap.ACCESS_READ, offset=aligned)
        return np.frombuffer(mapped, np.uint8, stop - start, first - aligned)


# Writing


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new file: on disk and under its name when the block ends, gone if it fails.

    The name changes hands in one step, so that nobody ever sees half a file.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise OSError(f"cannot write {os.fspath(path)}: it is no regular file")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise OSError(f"cannot write {os.fspath(path)}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "w+b") as stream:
            yield cast(BinaryIO, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, _mode(target))
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _mode(target: Path) -> int:
    """Permissions of the file that is replaced, or those of a new one."""
    if target.exists():
        return stat.S_IMODE(target.stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


class TensorWriter:
    """Takes the bytes of the tensors that a header has announced, in any order and in pieces."""

    def __init__(self, stream: BinaryIO, infos: Iterable[TensorInfo]) -> None:
        self._stream = stream
        self._places = {info.name: info for info in infos}
        self._written = dict.fromkeys(self._places, 0)

    def write(self, name: str, data: Array | bytes) -> None:
        """Append bytes (an array's, in C order) to a tensor."""
        view = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else _bytes_of(data)
        place, done = self._places[name], self._written[name]
        if done + view.size > place.nbytes:
            raise ValueError(f"{shown(name)}: {done + view.size} bytes are written, {place.nbytes} were announced")
        self._stream.seek(place.start + done)
        self._stream.write(view.data)
        self._written[name] = done + view.size

    def is_complete(self, name: str) -> bool:
        """Whether all bytes of a tensor are written."""
        return self._written[name] == self._places[name].nbytes

    def finish(self) -> None:
        """Check that every announced byte was written."""
        for name, place in self._places.items():
            done = self._written[name]
            if done != place.nbytes:
                raise ValueError(f"{shown(name)}: {done} bytes are written, {place.nbytes} were announced")


def _bytes_of(array: Array) -> Array:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
