"""Records of a run, one a line of JSON, that no interrupt leaves in pieces."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

Record = dict[str, Any]


class Log:
    """Takes records; where a path is given each becomes one line of that file, written whole before the next one.

    A line that cannot be written whole (an interrupt, a full disk) is taken back. Numbers that are not finite
    are null. The file is replaced.

    >>> log = Log()
    >>> log.write({"record": "step", "loss": float("nan")})
    >>> log.records
    [{'record': 'step', 'loss': None}]
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.records: list[Record] = []
        self._file = None if path is None else open(path, "wb", buffering=0)

    def write(self, record: Record) -> None:
        """Append a record."""
        plain = {name: _finite(value) for name, value in record.items()}
        if self._file is not None:
            self._append(json.dumps(plain, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        self.records.append(plain)

    def _append(self, line: bytes) -> None:
        assert self._file is not None
        start = self._file.tell() if self._file.seekable() else None
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[self._file.write(rest) :]
        except BaseException:
            if start is not None:
                with suppress(OSError):
                    self._file.truncate(start)
                    self._file.seek(start)
            raise

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()


def read(path: str | Path) -> list[Record]:
    """The records of a log."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
