"""Vectors made: rows of operands in a style, their results and flags, and files of them with a manifest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..rounding import unknown
from ..scheduler import thread_count
from ..tensor_files import replacing
from . import files, manifest, operands
from .functions import Function, Rules, check_rules, evaluate, parse
from .pipeline import in_order
from .rows import Digest, Rows, fields_of

STYLES = ("directed", "exhaustive", "random")
CHUNK = 1 << 16
MAX_BITS = 32  # of the operands of exhaustive rows that nobody limited
RANDOM_COUNT = {1: 6133, 2: 1_000_000}  # rows of the random style by level
COUNTED = 1 << 18  # rows up to which the coverage goes into the manifest unasked


@dataclass(frozen=True)
class Job:
    """Rows to be made.

    Attributes:
        function: whose.
        rules: what decides results beside the operands.
        style: directed, exhaustive or random.
        level: 1 or 2, how thorough the directed style is, and how long the random one.
        seed: in [0, 2**32).
        count: of rows; None is the style's own, -1 is without end.

    Raises:
        ValueError: a style, a level or a count that cannot be.
    """

    function: Function
    rules: Rules = field(default_factory=Rules)
    style: str = "directed"
    level: int = 1
    seed: int = 1
    count: int | None = None

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise ValueError(unknown("style", self.style, list(STYLES)))
        if self.level not in (1, 2):
            raise ValueError(f"level {self.level} is given; it is 1 or 2")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed {self.seed} is given; it is an integer in [0, 2**32)")
        if self.count is not None and self.count < 1 and self.count != -1:
            raise ValueError(f"{self.count} rows are asked for; 1 is least")
        check_rules(self.function, self.rules)
        bits = operands.combinations(self.function, self.rules)
        if self.style == "exhaustive" and self.count is None and bits > MAX_BITS:
            raise ValueError(
                f"exhaustive {self.function} has 2**{bits} rows; say how many of them with a count (-n), or use the"
                " directed style, which aims at every corner"
            )

    @property
    def total(self) -> int | None:
        """Rows there will be, where that is known before they are made."""
        bits = operands.combinations(self.function, self.rules)
        if self.count == -1:
            return None
        if self.style == "exhaustive":
            return 2**bits if self.count is None else min(self.count, 2**bits)
        if self.style == "random" and self.count is None:
            return RANDOM_COUNT[self.level]
        return self.count

    # Operands

    def inputs(self, chunk: int = CHUNK) -> Iterator[Callable[[], Rows]]:
        """For each chunk a function, for any thread, that makes its operands and random numbers."""
        if self.style == "directed":
            yield from self._directed(chunk)
            return
        make = operands.exhaustive if self.style == "exhaustive" else self._random
        total = self.total
        start = 0
        while total is None or start < total:
            stop = start + chunk if total is None else min(start + chunk, total)
            yield partial(self._made, make, start, stop)
            start = stop

    def _made(self, make: Callable[..., Any], start: int, stop: int) -> Rows:
        columns, numbers = make(self.function, self.rules, start, stop)
        return Rows(columns, random=numbers)

    def _random(self, function: Function, rules: Rules, start: int, stop: int) -> Any:
        return operands.random(function, rules, self.seed, start, stop)

    def _directed(self, chunk: int) -> Iterator[Callable[[], Rows]]:
        """The directed cases; where more rows are asked for than there are, random ones follow."""
        from . import directed

        start, limit = 0, self.count
        found = directed.cases(self.function, self.rules, level=self.level, seed=self.seed)
        for number, columns in enumerate(found):
            numbers = None
            if self.rules.random_bits and self.function.rounds:
                numbers = directed.random_bits(self.function, columns, self.rules, (self.seed + number) % 2**32)
            rows = Rows(list(columns), random=numbers)
            n = len(rows) if limit is None or limit == -1 else min(len(rows), limit - start)
            for at in range(0, n, chunk):
                yield partial(rows.take, slice(at, min(at + chunk, n)))
            start += n
            if start == limit:
                return
        while limit == -1 or (limit is not None and start < limit):
            stop = start + chunk if limit == -1 else min(start + chunk, limit)
            yield partial(self._made, self._random, start, stop)
            start = stop

    # Rows

    def evaluated(self, rows: Rows, threads: int | None = 1) -> Rows:
        """Rows of operands with results and flags."""
        fields = [one for one in fields_of(self.function, self.rules) if one.role == "operand"]
        rows.operands = [
            np.asarray(column).reshape(one.shape(len(rows))).astype(one.dtype, copy=False)
            for column, one in zip(rows.operands, fields, strict=True)
        ]
        rows.results, rows.flags = evaluate(self.function, rows.operands, self.rules, rows.random, threads=threads)
        return rows


def job_of(function: str | Function, rules: Rules | None = None, **options: Any) -> Job:
    """The job that arguments describe; those that `Rules` takes are taken for it."""
    named = {key: options.pop(key) for key in list(options) if key in Rules.__dataclass_fields__}
    if named and rules is not None:
        raise ValueError(f"rules and {next(iter(named))} are given; one of them is enough")
    return Job(parse(function), rules or Rules(**named), **options)


def generate(
    function: str | Function,
    *,
    rules: Rules | None = None,
    style: str = "directed",
    level: int = 1,
    seed: int = 1,
    count: int | None = None,
    threads: int | None = None,
    **options: Any,
) -> Iterator[Rows]:
    """Chunks of rows of a function: operands, results, flags.

    Args:
        function: its name, such as "e4m3fn_mul", or `Function`.
        rules: `Rules`; or its fields as further arguments: rounding, overflow, platform, tininess, exact,
            random_bit_count.
        style: "directed" aims at the exact result, "exhaustive" takes all combinations, "random" mixes uniform and
            interesting codes.
        level: 1 or 2: how many directed or random rows.
        seed: of random operands and random numbers.
        count: of rows, where it is not the style's own; -1 is without end.
        threads: at most so many.

    Raises:
        ValueError: an unknown name, a rule that a format cannot express, more than 2**32 exhaustive rows.

    >>> from numfmt import vectors
    >>> rows = next(vectors.generate("e4m3fn_mul", style="exhaustive", rounding="toward_zero"))
    >>> len(rows), [int(column[0x3C3D]) for column in (*rows.operands, rows.results, rows.flags)]
    (65536, [60, 61, 65, 1])
    """
    job = job_of(function, rules, style=style, level=level, seed=seed, count=count, **options)
    return in_order(lambda make: job.evaluated(make()), job.inputs(), thread_count(threads, 1 << 30))


def write(
    path: str | os.PathLike[str] | BinaryIO,
    function: str | Function,
    *,
    syntax: str | None = None,
    manifest_path: str | os.PathLike[str] | None = None,
    coverage: bool | None = None,
    prefix: str | None = None,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Write a vector file and its manifest; both appear when they are complete, or not at all.

    Args:
        path: the file, or a binary stream, which gets no manifest unless `manifest_path` is given.
        function: as for `generate`.
        syntax: testfloat, readmemh, csv, jsonl or npz; by default the extension says it, else testfloat.
        manifest_path: instead of the path with .json behind it.
        coverage: whether to count coverage classes; by default of at most 262,144 rows.
        prefix: a first line, as TestFloat's -prefix.
        threads: at most so many.
        progress: called with the number of rows done.
        options: those of `generate`.

    Returns:
        The manifest.

    Raises:
        ValueError: as `generate`; a syntax that is only read.
        OSError: a file that cannot be written.

    >>> import io
    >>> from numfmt import vectors
    >>> text = io.BytesIO()
    >>> manifest = vectors.write(text, "e2m1_mul", style="exhaustive")
    >>> manifest["count"], text.getvalue().decode().splitlines()[:20:19]
    (256, ['0 0 0 00', '1 3 2 03'])
    """
    job = job_of(function, **options)
    with ExitStack() as stack:
        if not isinstance(path, str | os.PathLike):
            stream, name = path, None
            kind = syntax or "testfloat"
        else:
            kind = syntax or files.syntax_of(path) or "testfloat"
            name = Path(path).name
            manifest_path = os.fspath(path) + ".json" if manifest_path is None else manifest_path
            stream = stack.enter_context(_new(path))
        side = None if manifest_path is None else stack.enter_context(replacing(manifest_path))
        made = _Writing(job, kind, stream, name, coverage, prefix).run(threads, progress)
        if side is not None:
            side.write(manifest.text_of(made))
    return made


@contextmanager
def _new(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write, under its name when it is complete; devices and pipes are written as they are."""
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        with open(path, "wb") as device:
            yield device
        return
    with replacing(path) as stream:
        yield stream


class _Counted:
    """A stream that counts and hashes what is written to it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.size, self.hash = stream, 0, hashlib.sha256()

    def write(self, data: bytes | memoryview, /) -> int:
        view = memoryview(data)
        self._stream.write(view)
        self.size += view.nbytes
        self.hash.update(view)
        return view.nbytes


class _Writing:
    """One file being written."""

    def __init__(
        self, job: Job, syntax: str, stream: BinaryIO, name: str | None, coverage: bool | None, prefix: str | None
    ) -> None:
        if prefix is not None and (syntax != "testfloat" or "\n" in prefix or "\r" in prefix):
            raise ValueError(f"prefix {prefix!r} is given; it is one line before the rows of TestFloat's syntax")
        if job.function.operation == "operands" and job.style == "directed" and job.count is None:
            raise ValueError(f"{job.function} is given, operands alone; say how many rows (-n), or style random")
        self.job, self.syntax, self.name, self.prefix = job, syntax, name, prefix
        self.fields = fields_of(job.function, job.rules)
        self.stream = _Counted(stream)
        self.writer = files.writer_of(self.stream, syntax, self.fields)
        total = job.total
        counts = job.function.has_flags or job.function.is_long
        wanted = (total is None and job.count is None) or (total is not None and total <= COUNTED)
        self.counts = counts and (wanted if coverage is None else coverage)
        self.coverage: dict[str, int] = {}

    def run(self, threads: int | None, progress: Callable[[int], None] | None) -> dict[str, Any]:
        """Write all rows; the manifest."""
        job = self.job
        facts = {"syntax": self.syntax, "style": job.style, "level": job.level, "seed": job.seed}
        description = manifest.describe(job.function, job.rules, **facts)
        self.writer.start(description, self.prefix)
        digest, done = Digest(self.fields), 0
        for rows, text, found in in_order(self._chunk, job.inputs(self.writer.chunk), thread_count(threads, 1 << 30)):
            self.writer.write(text)
            digest.update(rows)
            for name, n in found.items():
                self.coverage[name] = self.coverage.get(name, 0) + n
            done += len(rows)
            if progress is not None:
                progress(done)
        self.writer.finish()
        about = {"name": self.name, "bytes": self.stream.size, "sha256": self.stream.hash.hexdigest()}
        prefix = {} if self.prefix is None else {"prefix": self.prefix}
        coverage = self._coverage() if self.counts else None
        return description | prefix | {
            "count": done, "inputs_sha256": digest.hexdigest(), "coverage": coverage, "file": about,
        }  # fmt: skip

    def _chunk(self, make: Callable[[], Rows]) -> tuple[Rows, Any, dict[str, int]]:
        """Rows of a chunk, how they are written, and their coverage."""
        rows = self.job.evaluated(make())
        found: dict[str, int] = {}
        if self.counts:
            from . import coverage

            found = coverage.count(self.job.function, rows.operands, self.job.rules)
        return rows, self.writer.render(rows), found

    def _coverage(self) -> dict[str, Any]:
        reached = {name: n for name, n in self.coverage.items() if n}
        return {"reached": reached, "missed": [name for name, n in self.coverage.items() if not n]}
