"""Speed of vector files: rows a second made, written, read and checked.

    python benchmarks/vectors.py                    every syntax, medians of 5 rounds
    python benchmarks/vectors.py --rounds 9 --only testfloat --rows 21

Every task is run in turn, once a round, so that a slow spell of the machine meets all of them; medians of the rounds are
shown. Writing is operands, results, flags and text; checking is reading the text, computing the rows again and comparing.
Files go to memory and come from it, so that no disk is measured.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from numfmt import vectors
from numfmt.arithmetic import compute

MODES = ("ties_to_even", "ties_to_away", "toward_zero", "toward_positive", "toward_negative", "to_odd")
SYNTAXES = ("testfloat", "readmemh", "csv", "jsonl", "npz")


@dataclass
class Task:
    """Something that is timed, and the rows that it makes or checks."""

    name: str
    run: Callable[[], object]
    rows: int


def tasks(size: int, threads: int | None, only: str) -> list[Task]:
    """All tasks; a small run of each before it is timed compiles what it needs."""
    made: list[Task] = []
    kinds = [syntax for syntax in SYNTAXES if only in syntax]
    for syntax in kinds:
        made += _pair(f"f16_add, random, {syntax}", "f16_add", syntax, threads, [None], style="random", count=1 << size)
    made.append(_computed(threads))
    first = kinds[0] if kinds else "testfloat"
    made += _pair(f"e4m3fn_mul, exhaustive × {len(MODES)} modes, {first}", "e4m3fn_mul", first, threads, list(MODES),
                  style="exhaustive")  # fmt: skip
    for function, count in (("f32_to_e4m3fn", 1 << size), ("f32_mulAdd", 1 << (size - 2)), ("f64_mul", 1 << (size - 3)),
                            ("mxfp4_encode32", 1 << (size - 7)), ("e4m3fn_dot32", 1 << (size - 7))):  # fmt: skip
        made += _pair(f"{function}, random, {first}", function, first, threads, [None], style="random", count=count)
    return made


def _computed(threads: int | None) -> Task:
    """All products of an 8-bit format in every mode, with flags: no file."""
    a, b = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))

    def run() -> None:
        for mode in MODES:
            compute("mul", [a, b], "e4m3fn", rounding=mode, threads=threads)

    run()
    return Task(f"e4m3fn_mul, exhaustive × {len(MODES)} modes: computed, with flags", run, len(MODES) * a.size)


def _pair(
    name: str, function: str, syntax: str, threads: int | None, modes: list[str | None], **options: object
) -> list[Task]:
    """Writing and checking of the same rows."""

    def write(mode: str | None) -> bytes:
        stream = io.BytesIO()
        vectors.write(stream, function, syntax=syntax, rounding=mode, coverage=False, threads=threads, **options)
        return stream.getvalue()

    files = {mode: write(mode) for mode in modes}

    def check() -> int:
        reports = [
            vectors.check(io.BytesIO(data), function, syntax=syntax, rounding=mode, threads=threads)
            for mode, data in files.items()
        ]
        assert all(report.passed for report in reports)
        return sum(report.rows for report in reports)

    rows = check()
    return [
        Task(f"{name}: written", lambda: [write(mode) for mode in modes], rows),
        Task(f"{name}: checked", check, rows),
    ]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=21, help="log2 of the rows of most tasks")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="default: one a core")
    parser.add_argument("--only", default="", help="part of the name of a syntax")
    args = parser.parse_args()
    timed = tasks(args.rows, args.threads, args.only)
    seconds: dict[str, list[float]] = {task.name: [] for task in timed}
    for _ in range(args.rounds):
        for task in timed:
            start = time.perf_counter()
            task.run()
            seconds[task.name].append(time.perf_counter() - start)
    print(f"{os.cpu_count()} cores, {args.threads or 'all'} threads, medians of {args.rounds} rounds")
    print(f"{'':<62}{'million rows a second':>22}")
    for task in timed:
        print(f"{task.name:<62}{task.rows / statistics.median(seconds[task.name]) / 1e6:>22.2f}")


if __name__ == "__main__":
    main()
