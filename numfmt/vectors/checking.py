"""A device's answers judged: every row computed again, mismatches counted by cause and class, the first explained."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from ..formats import FloatFormat, Format, Specials
from ..scheduler import thread_count
from . import files
from .functions import Function, Rules, evaluate, parse
from .pipeline import in_order
from .rows import Rows, VectorFileError
from .subjects import Subject, Verification, subject_of

Array = npt.NDArray[Any]
Source = str | os.PathLike[str] | BinaryIO

CLASSIFIED = 300  # mismatches whose cause is worked out, one by one


@dataclass(frozen=True)
class Example:
    """A mismatch, explained.

    Attributes:
        file, line: where; the row's number in an .npz file.
        function: whose row it is.
        cause: the likely one.
        lines: the explanation.
        operands, expected, got: codes; flags likewise, None where they are not compared.
    """

    file: str
    line: int
    function: str
    cause: str
    lines: tuple[str, ...]
    operands: tuple[Any, ...]
    expected: Any
    got: Any
    expected_flags: int | None
    got_flags: int | None


@dataclass
class Report:
    """What a check found.

    Attributes:
        files: their paths.
        functions: name of each function, and its rows.
        rows: rows compared.
        mismatches: rows that differ.
        causes: mismatches by likely cause, of the first `classified` ones.
        classes: mismatches by coverage class; a row may be in several.
        examples: the first mismatches, explained.
        common: the cause that explains most of them, in a sentence; "" where there is none.
        skipped: file, line number and reason of the first lines passed over; skips: how many, by reason.
    """

    files: list[str] = field(default_factory=list)
    functions: Counter[str] = field(default_factory=Counter)
    rules: list[Rules] = field(default_factory=list)
    rows: int = 0
    mismatches: int = 0
    classified: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    examples: list[Example] = field(default_factory=list)
    common: str = ""
    skipped: list[tuple[str, int, str]] = field(default_factory=list)
    skips: Counter[str] = field(default_factory=Counter)

    @property
    def passed(self) -> bool:
        """Whether rows were compared and none differs."""
        return self.rows > 0 and self.mismatches == 0


def check(
    paths: Source | Iterable[Source],
    function: str | Function | None = None,
    rules: Rules | None = None,
    *,
    syntax: str | None = None,
    manifest: str | os.PathLike[str] | None = None,
    nan: str = "class",
    flags: bool = True,
    errors: int = 20,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> Report:
    r"""Compare vector files with what the function gives.

    Function and rules come from the manifest (FILE.json, or `manifest`), from what the file says of itself, from a
    name like f16_add.near_even.txt, or from the arguments; where two of them differ, that is an error.

    Args:
        paths: a file, "-" for stdin, a binary stream, or several of them.
        function: a name or `Function`, where no file says it.
        rules: likewise; or the fields of `Rules` as further arguments.
        syntax: testfloat, readmemh, csv, jsonl, npz or fptest; by default by extension, else by content.
        manifest: its path; "none" looks for none. One that is not FILE.json is that of the vectors which a device has
            answered: count and operands must be the same.
        nan: "class": a NaN is as good as another; "bits": it is not.
        flags: whether flags are compared.
        errors: how many mismatches are explained; 0 is all of them.
        threads: at most so many.
        progress: called with the number of rows done.

    Returns:
        A `Report`.

    Raises:
        VectorFileError: a file that is not what it claims, an empty one, one that contradicts its manifest.
        ValueError: nobody says the function, or two say different ones.

    >>> import io
    >>> from numfmt import vectors
    >>> report = vectors.check(io.BytesIO(b"3C 3D 41 01\n3C 3D 42 01\n"), "e4m3fn_mul")
    >>> report.rows, report.mismatches, report.examples[0].line
    (2, 1, 1)
    """
    if nan not in ("class", "bits"):
        raise ValueError(f"nan={nan!r} is given; it is 'class' or 'bits'")
    given = given_rules(rules, options)
    named = None if function is None else parse(function)
    report = Report()
    judge = _Judge(report, nan == "bits", flags, errors, threads, progress)
    for path in sources(paths):
        with files.opened(path, syntax) as file:
            judge.file(file, subject_of(file, named, given, manifest))
    judge.finish()
    return report


def sources(paths: Source | Iterable[Source]) -> Iterable[Source]:
    """The files that are given: one, or several."""
    if isinstance(paths, str | os.PathLike) or hasattr(paths, "read"):
        return [paths]  # type: ignore[list-item]
    return paths


def given_rules(rules: Rules | None, options: dict[str, Any]) -> dict[str, Any]:
    """The fields of `Rules` that the caller says."""
    if rules is not None:
        if options:
            raise ValueError(f"rules and {next(iter(options))} are given; one of them is enough")
        return {key: value for key, value in vars(rules).items() if value != getattr(Rules(), key)}
    unknown_option = next((key for key in options if key not in Rules.__dataclass_fields__), None)
    if unknown_option is not None:
        raise TypeError(f"check() got an unexpected keyword argument {unknown_option!r}")
    Rules(**options)
    return {key: value for key, value in options.items() if value is not None}


class _Judged(NamedTuple):
    """A chunk that was compared: how many rows, and those that differ."""

    rows: Rows
    wrong: Rows | None
    expected: Array | None
    expected_flags: Array | None


class _Judge:
    """Compares the rows of files, and fills a report."""

    def __init__(
        self, report: Report, bits: bool, flags: bool, errors: int, threads: int | None,
        progress: Callable[[int], None] | None,
    ) -> None:  # fmt: skip
        self.report, self.bits, self.flags, self.errors = report, bits, flags, errors
        self.threads, self.progress = thread_count(threads, 1 << 30), progress
        self.found: list[Any] = []  # what `explain` said of the first mismatches

    def file(self, file: files.VectorFile, subject: Subject) -> None:
        """Compare a file."""
        report, verification = self.report, Verification(subject)
        report.files.append(file.path)
        before = report.rows
        chunks = file.rows(subject.function, subject.rules, flags=self.flags, prefix=subject.prefix)
        for judged in in_order(partial(self._compare, subject), chunks, self.threads):
            verification.update(judged.rows)
            self._take(file, subject, judged)
        verification.finish(file)
        for line, why in file.skipped:
            report.skipped.append((file.path, line, why))
        report.skips.update(file.skips)
        if report.rows == before:
            skipped = sum(file.skips.values())
            raise VectorFileError(file.path, None, f"its {skipped} cases are all skipped: nothing is checked")

    def _compare(self, subject: Subject, rows: Rows) -> _Judged:
        """Compute a chunk again; for any thread."""
        function, rules = rows.function or subject.function, rows.rules or subject.rules
        assert function is not None
        if rows.results is None:
            return _Judged(rows, None, None, None)
        expected, flags = evaluate(function, rows.operands, rules, rows.random, threads=1)
        wrong = differing(function, expected, rows.results, self.bits)
        compares = self.flags and flags is not None and rows.flags is not None
        if compares:
            assert rows.flags is not None
            wrong |= flags != rows.flags
        index = np.flatnonzero(wrong)
        if not index.size:
            return _Judged(rows, None, None, None)
        return _Judged(
            rows, rows.take(index), expected[index], flags[index] if compares and flags is not None else None
        )

    def _take(self, file: files.VectorFile, subject: Subject, judged: _Judged) -> None:
        """Add a chunk to the report."""
        report, rows = self.report, judged.rows
        function, rules = rows.function or subject.function, rows.rules or subject.rules
        assert function is not None
        if rows.results is None:
            raise ValueError(f"{file.path} holds operands alone, no results to check")
        report.rows += len(rows)
        report.functions[function.name] += len(rows)
        if rules not in report.rules:
            report.rules.append(rules)
        if judged.wrong is not None:
            self._wrong(file, function, rules, judged)
        if self.progress is not None:
            self.progress(report.rows)

    def _wrong(self, file: files.VectorFile, function: Function, rules: Rules, judged: _Judged) -> None:
        """Count and explain the mismatches of a chunk."""
        from . import coverage, explain

        report, wrong = self.report, judged.wrong
        assert wrong is not None
        assert wrong.results is not None
        assert judged.expected is not None
        report.mismatches += len(wrong)
        report.classes.update({name: n for name, n in coverage.count(function, wrong.operands, rules).items() if n})
        fits = self._units(function, rules, wrong)
        for i in range(len(wrong)):
            shown = self.errors == 0 or len(report.examples) < self.errors
            if not shown and report.classified >= CLASSIFIED:
                break
            operands = [column[i] for column in wrong.operands]
            expected_flags = None if judged.expected_flags is None else int(judged.expected_flags[i])
            got_flags = None if expected_flags is None or wrong.flags is None else int(wrong.flags[i])
            expected, got = judged.expected[i], wrong.results[i]
            random = None if wrong.random is None else wrong.random[i]
            found = explain.explain(
                function, operands, expected, got, expected_flags, got_flags, rules, random,
                None if fits is None else fits[i], shown,
            )  # fmt: skip
            report.classified += 1
            report.causes[found.cause] += 1
            if len(self.found) < CLASSIFIED:
                self.found.append(found)
            if shown:
                if random is not None:
                    found.lines.insert(0, f"random    {random.tolist()}, of {rules.random_bits} bits")
                line = 0 if wrong.lines is None else int(wrong.lines[i])
                report.examples.append(
                    Example(
                        file.path, line, function.name, found.cause, tuple(found.lines),
                        tuple(map(_plain, operands)), _plain(expected), _plain(got), expected_flags, got_flags,
                    )
                )  # fmt: skip

    def _units(self, function: Function, rules: Rules, wrong: Rows) -> list[list[str]] | None:
        """Of dots of units, for each of the rows that will be explained, the units that give the device's answer."""
        if function.unit is None:
            return None
        from . import explain_units

        count = len(wrong) if self.errors == 0 else max(CLASSIFIED, self.errors)
        some = wrong.take(slice(0, count))
        assert some.results is not None
        return explain_units.fitting(function, some.operands, some.results, rules, some.random)

    def finish(self) -> None:
        """What the mismatches have in common."""
        if not self.report.rows:
            raise ValueError("no file is given")
        if len(self.found) > 1:
            from . import explain

            self.report.common = str(explain.common_cause(self.found) or "")


def _plain(code: Any) -> Any:
    """A code, or a row of them, as Python integers."""
    return [int(each) for each in code] if np.ndim(code) else int(code)


def differing(function: Function, expected: Array, got: Array, bits: bool) -> npt.NDArray[np.bool_]:
    """Which rows differ; where not `bits`, any NaN equals any other."""
    wrong: npt.NDArray[np.bool_] = np.asarray(expected != got, bool)
    if wrong.any() and not bits:
        at = 0
        for _, fmt, _, count in function.result_parts:
            part: Any = np.s_[:, at : at + count] if wrong.ndim == 2 else np.s_[:]
            if fmt is not None:
                wrong[part] &= ~(is_nan(expected[part], fmt) & is_nan(got[part], fmt))
            at += count
    return np.asarray(wrong.any(axis=1) if wrong.ndim == 2 else wrong)


def is_nan(codes: Array, fmt: Format) -> npt.NDArray[np.bool_]:
    """Which codes are NaNs.

    >>> import numfmt as nf
    >>> is_nan(np.array([0x7C, 0x7D, 0xFF]), nf.get_format("e5m2")).tolist()
    [False, True, True]
    """
    if not isinstance(fmt, FloatFormat) or fmt.nan_code is None:
        return np.zeros(codes.shape, bool)
    wide = codes if codes.dtype == object else codes.astype(np.uint64)
    if fmt.specials is Specials.IEEE or fmt.specials is Specials.MERGED or (fmt.specials is Specials.FN):
        last = fmt.max_code if fmt.infinity_code is None else fmt.infinity_code
        mask = fmt.magnitude_mask
        return np.asarray((wide & (mask if codes.dtype == object else np.uint64(mask))) > last, bool)
    return np.asarray(wide == fmt.nan_code, bool)


# ---- coverage --------------------------------------------------------------------------------------------------


def cover(
    paths: Source | Iterable[Source],
    function: str | Function | None = None,
    rules: Rules | None = None,
    *,
    syntax: str | None = None,
    manifest: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> dict[str, dict[str, int]]:
    r"""Coverage classes that vector files reach.

    Arguments as for `check`.

    Returns:
        For each function, by name, the rows in each of its classes; 0 where a class is missed.

    >>> import io
    >>> from numfmt import vectors
    >>> vectors.cover(io.BytesIO(b"3C 39 40 01\n"), "e4m3fn_mul")["e4m3fn_mul"]["tie, odd below"]
    1
    """
    from . import coverage

    given = given_rules(rules, options)
    named = None if function is None else parse(function)
    found: dict[str, dict[str, int]] = {}
    done = 0

    def count(subject: Subject, rows: Rows) -> tuple[Rows, Function, dict[str, int]]:
        one = rows.function or subject.function
        assert one is not None
        return rows, one, coverage.count(one, rows.operands, rows.rules or subject.rules)

    for path in sources(paths):
        with files.opened(path, syntax) as file:
            subject = subject_of(file, named, given, manifest)
            verification = Verification(subject)
            chunks: Iterator[Rows] = file.rows(subject.function, subject.rules, flags=False, prefix=subject.prefix)
            for rows, one, counts in in_order(partial(count, subject), chunks, thread_count(threads, 1 << 30)):
                verification.update(rows)
                total = found.setdefault(one.name, {})
                for name, n in counts.items():
                    total[name] = total.get(name, 0) + n
                done += len(rows)
                if progress is not None:
                    progress(done)
            verification.finish(file)
    return found
