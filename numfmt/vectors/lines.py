"""Complete lines of a stream in blocks of bounded size, counted and hashed as they pass."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

from .rows import VectorFileError

BLOCK = 1 << 20  # bytes read at a time
LONGEST = 1 << 16  # bytes of a line, where the row itself needs no more
NOTED = 1000  # lines passed over whose numbers are kept


class LineSource:
    """Lines of a binary stream. Memory is bounded by a block and the longest line.

    Attributes:
        line: number of the next line, from 1.
        size: bytes read so far.
        skipped: line number and reason of the first lines that were passed over.
        skips: how many were, by reason.
    """

    def __init__(self, path: str, stream: BinaryIO, head: bytes = b"", longest: int = LONGEST) -> None:
        self.path, self.line, self.size, self.longest = path, 1, 0, longest
        self.skipped: list[tuple[int, str]] = []
        self.skips: Counter[str] = Counter()
        self._stream = stream
        self._rest = b""  # of a block, beyond its last newline
        self._hash = hashlib.sha256()
        self._ended = False
        self._take(head)

    def _take(self, data: bytes) -> None:
        self._hash.update(data)
        self.size += len(data)
        self._rest += data

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes read so far."""
        return self._hash.hexdigest()

    def skip(self, why: str) -> None:
        """Note that the present line is passed over."""
        self.skips[why] += 1
        if len(self.skipped) < NOTED:
            self.skipped.append((self.line, why))

    def _fill(self) -> None:
        """Read a block."""
        data = self._stream.read(BLOCK)
        if not data:
            self._ended = True
        self._take(data)

    def next_line(self) -> bytes | None:
        """The next line with its newline; None at the end. For headers; `blocks` has the others."""
        while (end := self._rest.find(b"\n")) < 0 and not self._ended:
            self._check_length(len(self._rest))
            self._fill()
        end = len(self._rest) if end < 0 else end + 1
        self._check_length(end)
        line, self._rest = self._rest[:end], self._rest[end:]
        self.line += bool(line)
        return line or None

    def peek(self) -> bytes | None:
        """The next line, which stays the next."""
        line = self.next_line()
        if line is not None:
            self._rest = line + self._rest
            self.line -= 1
        return line

    def blocks(self) -> Iterator[bytes]:
        """All other lines, in blocks that end with a newline but for the last; `line` is the caller's to advance."""
        while True:
            end = self._rest.rfind(b"\n") + 1
            if end:
                block, self._rest = self._rest[:end], self._rest[end:]
                yield block
            self._check_length(len(self._rest), behind=end > 0)
            if self._ended:
                break
            self._fill()
        if self._rest:
            block, self._rest = self._rest, b""
            yield block

    def _check_length(self, length: int, behind: bool = False) -> None:
        if length > self.longest:
            self.too_long(self.line)

    def too_long(self, line: int) -> None:
        """Refuse a line for its length."""
        raise VectorFileError(self.path, line, f"longer than {self.longest} bytes, which no row here is")
