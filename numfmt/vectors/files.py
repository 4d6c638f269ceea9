"""Vector files opened, whatever their syntax: what they say of themselves, and their rows in chunks."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from . import archives, fptest, manifest
from .functions import Function, Rules, parse
from .hexrows import Template
from .lines import LONGEST, LineSource
from .rows import Field, Rows, Sink, VectorFileError, columns_of, fields_of, rows_of
from .texts import MARK, SYNTAXES, Csv, JsonLines, Readmemh, Syntax, codes_in

Array = npt.NDArray[Any]
SYNTAX_NAMES = (*SYNTAXES, "npz", "fptest")
CHUNK = 1 << 16  # rows of a chunk that is read
UNIT_END = re.compile(r"_dot\d+$")
START = (b"", b"@0", b"@00000000")  # lines before the first row of $readmemh
FEW = 64  # lines that are read with care before the fast way is tried again

# TestFloat's names of rounding modes, in options and in names of files.
TESTFLOAT_ROUNDINGS = {
    "near_even": "ties_to_even", "near_maxMag": "ties_to_away", "minMag": "toward_zero", "min": "toward_negative",
    "max": "toward_positive", "odd": "to_odd",
}  # fmt: skip


def syntax_of(path: str | os.PathLike[str], given: str | None = None) -> str | None:
    """The syntax of a path by its extension, None for an extension that says nothing."""
    if given is not None:
        return given
    suffix = Path(path).suffix.lower()
    if suffix in (".npz", ".fptest"):
        return suffix[1:]
    return next((name for name, made in SYNTAXES.items() if suffix in made.extensions), None)


def sniffed(head: bytes) -> str:
    """The syntax of a text by its first bytes."""
    start = head.lstrip()
    first = start.split(b"\n", 1)[0]
    if head.startswith(b"PK\x03\x04"):
        return "npz"
    if start.startswith(b"{"):
        return "jsonl"
    if start.startswith((b"//", b"@")) or (b"_" in first and b"," not in first):
        return "readmemh"
    if b"," in first:
        return "csv"
    return "fptest" if fptest.looks_so(start) else "testfloat"


def named_function(path: str | os.PathLike[str]) -> tuple[Function, Rules] | None:
    """What a name such as f16_add.near_even.every37.txt says; None where it names no function.

    >>> function, rules = named_function("f16_add.minMag.every37.txt")
    >>> function.name, rules.rounding.value
    ('f16_add', 'toward_zero')
    """
    parts = Path(path).name.split(".")
    unit = next((i for i, part in enumerate(parts) if UNIT_END.search(part)), 0)  # names of units have points
    try:
        function = parse(".".join(parts[: unit + 1]))
    except ValueError:
        return None
    if function.operation == "operands":
        return None
    rounding = next((TESTFLOAT_ROUNDINGS[part] for part in parts[unit + 1 :] if part in TESTFLOAT_ROUNDINGS), None)
    return function, Rules(rounding)  # type: ignore[arg-type]


class VectorFile:
    """An open vector file.

    Attributes:
        path: for messages; "-" is stdin.
        syntax: a name in `SYNTAX_NAMES`.
        description: what the file says of itself, or None.
        prefix: the line before the first row, where the file has one.
    """

    def __init__(self, path: str, stream: BinaryIO, syntax: str | None) -> None:
        self.path, self._stream = path, stream
        head = b""
        if syntax is None:
            head = stream.read(4096)
            syntax = sniffed(head)
        self.syntax = syntax
        self.description: dict[str, Any] | None = None
        self.archive: archives.Archive | None = None
        self._source = LineSource(path, stream, head)
        if syntax == "npz":
            self.archive = archives.Archive(path, stream, head)
            self.description = self.archive.description
        elif syntax != "fptest":
            self._text = SYNTAXES[syntax]()
            self._read_description()

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes read so far."""
        return self._source.sha256 if self.archive is None else self.archive.sha256

    @property
    def size(self) -> int:
        """Bytes read so far."""
        return self._source.size if self.archive is None else self.archive.size

    # Text

    def _read_description(self) -> None:
        source = self._source
        if isinstance(self._text, Readmemh):
            while (line := source.peek()) is not None and (line.startswith(b"//") or line.strip() in START):
                number, comment = source.line, line.strip()[2:].strip()
                source.next_line()
                if comment.startswith(MARK.encode()):
                    self.description = manifest.checked(self.path, comment[len(MARK) :], number)
        elif isinstance(self._text, JsonLines) and (line := source.peek()) is not None and b'"schema"' in line:
            self.description = manifest.checked(self.path, line, source.line)
            source.next_line()

    def rows(
        self, function: Function | None, rules: Rules, *, flags: bool = True, prefix: str | None = None
    ) -> Iterator[Rows]:
        """The rows in chunks.

        Args:
            function: whose rows these are; None for .fptest, whose lines say it.
            rules: for the width of random numbers.
            flags: whether a row must have flags; if not, a file without them is read too.
            prefix: a line before the first row, which must be there.

        Raises:
            VectorFileError: a line that is no row, an empty file.
        """
        if self.syntax == "fptest":
            yield from fptest.rows(self._source, rules)
            return
        assert function is not None
        fields = fields_of(function, rules)
        found = self.archive.rows(fields, flags) if self.archive is not None else self._text_rows(fields, flags, prefix)
        count = 0
        for chunk in found:
            count += len(chunk)
            yield chunk
        if count == 0:
            raise VectorFileError(self.path, None, "no rows: the file is empty")

    @property
    def skipped(self) -> list[tuple[int, str]]:
        """Line numbers of the first .fptest lines that say nothing here, and why."""
        return self._source.skipped

    @property
    def skips(self) -> dict[str, int]:
        """How many such lines there are, by reason."""
        return dict(self._source.skips)

    def _text_rows(self, fields: tuple[Field, ...], flags: bool, prefix: str | None) -> Iterator[Rows]:
        source, text = self._source, self._text
        self._read_first(fields, prefix)
        if not flags:
            fields = self._without_flags(fields)
        template = text.template(fields)
        templates = [template, Template(fields, template.before, template.end[:-1] + b"\r\n")]
        source.longest = max(LONGEST, 8 * template.width)
        fast = not (isinstance(text, Csv) and text.order is not None)
        for block in source.blocks():
            yield from self._block(block, fields, templates if fast else [])

    def _read_first(self, fields: tuple[Field, ...], prefix: str | None) -> None:
        """The lines before the first row that depend on what the rows are."""
        source = self._source
        if prefix is not None:
            number, line = source.line, source.next_line()
            if line is None or line.decode("utf-8", "replace").rstrip("\r\n") != prefix:
                raise VectorFileError(self.path, number, f"the prefix {prefix!r} that the manifest states is not there")
        if isinstance(self._text, Csv):
            number, line = source.line, source.next_line()
            if line is not None:
                try:
                    self._text.read_header(line.decode("utf-8-sig"), fields)
                except UnicodeDecodeError:
                    raise VectorFileError(self.path, number, "no text in UTF-8") from None
                except ValueError as error:
                    raise VectorFileError(self.path, number, str(error)) from None

    def _without_flags(self, fields: tuple[Field, ...]) -> tuple[Field, ...]:
        """The fields, without flags where the first row has none."""
        line = self._source.peek()
        bare = tuple(one for one in fields if one.role != "flags")
        if line is None or bare == fields:
            return fields
        try:
            return bare if self._text.parse(line.decode("ascii"), bare) is not None else fields
        except ValueError:
            return fields

    def _block(self, block: bytes, fields: tuple[Field, ...], templates: list[Template]) -> Iterator[Rows]:
        """Rows of a block of lines: many at a time where they are written as ours are, else one by one."""
        source, at, few, data = self._source, 0, FEW, memoryview(block)
        while at < len(block):
            for template in templates:
                columns, good = template.scan(data[at:])
                if good:
                    at += good * template.width
                    yield rows_of(columns, fields, np.arange(source.line, source.line + good, dtype=np.int64))
                    source.line += good
                    few = FEW
                    break
            if at < len(block):
                rows, at = self._carefully(block, at, fields, few)
                few *= 2
                if rows is not None:
                    yield rows

    def _carefully(self, block: bytes, at: int, fields: tuple[Field, ...], limit: int) -> tuple[Rows | None, int]:
        """Rows of at most `limit` lines from an offset on, one line at a time, and the offset behind them."""
        source, found, numbers = self._source, [], []
        while at < len(block) and limit:
            end = block.find(b"\n", at) + 1 or len(block)
            if end - at > source.longest:
                source.too_long(source.line)
            try:
                codes = self._text.parse(block[at:end].decode("ascii"), fields)
            except UnicodeDecodeError:
                raise VectorFileError(self.path, source.line, "bytes that are no ASCII text") from None
            except ValueError as error:
                last = "; the file ends in the middle of it" if end == len(block) and block[-1:] != b"\n" else ""
                raise VectorFileError(self.path, source.line, f"{error}{last}") from None
            if codes is not None:
                found.append(codes)
                numbers.append(source.line)
            source.line += 1
            at, limit = end, limit - 1
        if not found:
            return None, at
        return rows_of(_columns(found, fields), fields, np.array(numbers, np.int64)), at


def _columns(rows: list[list[int]], fields: tuple[Field, ...]) -> list[Array]:
    """Columns of rows of codes."""
    at, made = 0, []
    for one in fields:
        column = one.column(len(rows))
        values = [row[at : at + one.count] if one.is_matrix else row[at] for row in rows]
        column[...] = np.array(values, one.dtype)
        made.append(column)
        at += one.count
    return made


@contextmanager
def opened(path: str | os.PathLike[str] | BinaryIO, syntax: str | None = None) -> Iterator[VectorFile]:
    """A vector file by path ("-" is stdin) or as a binary stream.

    Raises:
        VectorFileError: a file that is not there, or does not begin as its syntax does.
    """
    if not isinstance(path, str | os.PathLike):
        yield VectorFile(str(getattr(path, "name", "stream")), path, syntax)
        return
    name = os.fspath(path)
    if name == "-":
        yield VectorFile("-", sys.stdin.buffer, syntax)
        return
    try:
        stream = open(name, "rb")
        if stat.S_ISDIR(os.fstat(stream.fileno()).st_mode):
            raise IsADirectoryError(21, "it is a directory")
    except OSError as error:
        raise VectorFileError(name, None, error.strerror or str(error)) from error
    with stream:
        try:
            yield VectorFile(name, cast(BinaryIO, stream), syntax_of(name, syntax))
        except OSError as error:
            if error.filename is None and not isinstance(error, BrokenPipeError):
                raise VectorFileError(name, None, error.strerror or str(error)) from error
            raise


# ---- writing ---------------------------------------------------------------------------------------------------


class TextWriter:
    """Writes rows as text: `render` may run in any thread, `write` in one."""

    def __init__(self, stream: Sink, syntax: str, fields: tuple[Field, ...]) -> None:
        self._stream, self.fields = stream, fields
        self._text: Syntax = SYNTAXES[syntax]()
        self._template = self._text.template(fields)

    def start(self, description: dict[str, Any], prefix: str | None = None) -> None:
        """What comes before the first row."""
        if prefix is not None:
            self._stream.write(prefix.encode() + b"\n")
        self._stream.write(self._text.header(description, self.fields))

    def render(self, rows: Rows) -> bytes:
        """The text of a chunk."""
        return self._template.render(columns_of(rows, self.fields))

    def write(self, made: Any) -> None:
        """Write what `render` gave."""
        self._stream.write(made)

    def finish(self) -> None:
        """Nothing is left to write."""

    @property
    def chunk(self) -> int:
        """Rows of a chunk that is worth a call."""
        return max(1, min(CHUNK, (1 << 22) // max(1, codes_in(self.fields))))


def writer_of(stream: Sink, syntax: str, fields: tuple[Field, ...]) -> TextWriter | archives.ArchiveWriter:
    """The writer of a syntax.

    Raises:
        ValueError: a syntax that is only read.
    """
    if syntax == "fptest":
        raise ValueError("fptest is given; it is read only: write testfloat, readmemh, csv, jsonl or npz")
    if syntax == "npz":
        return archives.ArchiveWriter(stream, fields)
    return TextWriter(stream, syntax, fields)
