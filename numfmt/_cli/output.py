"""Files that appear whole or not at all, and progress on the terminal."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from ..tensor_files import replacing
from .screen import Failure, put


def is_stdout(path: str | None) -> bool:
    """Whether an output path means standard output."""
    return path is None or path == "-"


@contextmanager
def atomic(path: str) -> Iterator[BinaryIO]:
    """A file to write: it takes `path`'s place when the block ends, and vanishes if it fails.

    Devices and pipes are written as they are.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        if target.is_dir():
            raise Failure(f"cannot write {path}: it is a directory")
        with open(target, "wb") as device:
            yield device
        return
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(replacing(target))
        except OSError as error:
            raise Failure(str(error)) from error
        yield stream


@contextmanager
def stdout_file() -> Iterator[BinaryIO]:
    """A temporary file whose content goes to standard output when the block ends well."""
    with tempfile.TemporaryFile() as stream:
        yield cast(BinaryIO, stream)
        stream.seek(0)
        shutil.copyfileobj(stream, binary_stdout())


def binary_stdout() -> BinaryIO:
    """Standard output as a stream of bytes."""
    sys.stdout.flush()
    return cast(BinaryIO, sys.stdout.buffer)


def write_text(path: str | None, text: str) -> None:
    """Write a text to a file, whole or not at all, or to standard output."""
    if path is None or path == "-":
        put(text.removesuffix("\n"))
        return
    with atomic(path) as stream:
        stream.write(text.encode())


class Progress:
    """A line on stderr that says how far a long run is: after a second, on a terminal or if asked for."""

    def __init__(self, total: int | None, *, forced: bool) -> None:
        self.total = total
        self.on = forced or sys.stderr.isatty()
        self.wait = 0.0 if forced else 1.0
        self.start = self.last = time.monotonic()
        self.shown = False

    def at(self, done: int) -> None:
        """Say that `done` elements are done, at most five times a second."""
        now = time.monotonic()
        if not self.on or now - self.start < self.wait or (now - self.last < 0.2 and done != self.total):
            return
        self.last, self.shown = now, True
        share = f"{100 * done // self.total} % of {self.total}" if self.total else f"{done}"
        sys.stderr.write(f"\rnfmt: {share} elements, {done / max(now - self.start, 1e-9) / 1e6:.1f} million a second ")
        sys.stderr.flush()

    def end(self) -> None:
        """Leave the line."""
        if self.shown:
            sys.stderr.write("\n")
