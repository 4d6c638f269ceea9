"""All 2^32 float32 patterns to one format, against an independent cast.

    python tests/judges/all_patterns.py [format …]

Two judges. `Intervals` needs nothing but the oracle's values: rounding to nearest is monotone, so each code belongs to
one interval of patterns, whose ends are the midpoints of neighbouring values, a tie belonging to the even code. A
library (PyTorch, ml_dtypes) is the other. Prints the seconds that each took and the number of differences.
"""

from __future__ import annotations

import sys
import time
from functools import lru_cache
from pathlib import Path

import numpy as np

if __name__ == "__main__":  # run as a script, from anywhere
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numfmt as nf
from spec import oracle
from tests.judges.operands import Array, middles

CHUNK = 1 << 22
ALL = 1 << 32
SIGN, INFINITY = 1 << 31, 0x7F800000  # of float32


class Intervals:
    """Codes under ties to even of the format's own rules (no platform), from where each code begins.

    Serves signed formats of at most 16 bits with a zero, whose midpoints float32 holds.
    """

    name = "intervals between the oracle's midpoints"
    platform = None

    def __init__(self, fmt: str) -> None:
        judge = oracle.get(fmt)
        self.dtype = np.uint8 if judge.bits <= 8 else np.uint16
        assert judge.value(0) == 0
        assert np.array_equal(middles(fmt).astype(np.float32), middles(fmt))
        ends = middles(fmt).astype(np.float32).view(np.uint32).astype(np.int64)
        # Code c + 1 begins at the midpoint itself if c is odd, else at the next pattern. The last end is overflow.
        starts = np.array([0, *(ends + (np.arange(ends.size) % 2 == 0)), INFINITY, INFINITY + 1])
        huge = 2 * oracle.overflow_threshold(judge)
        values = [*map(judge.value, range(ends.size)), huge, "inf", "nan"]
        codes = [oracle.encode(v, judge, overflow=None) for v in (*values, *map(negated, values))]
        self.starts = np.concatenate([starts, starts + SIGN])
        self.codes = np.array(codes, self.dtype)

    def __call__(self, x: Array) -> Array:
        """Codes of a run of consecutive patterns."""
        first = int(x.view(np.uint32)[0])
        here = np.searchsorted(self.starts, [first, first + x.size - 1], side="right") - 1
        edges = np.clip(self.starts[here[0] : here[1] + 1] - first, 0, None)
        return np.repeat(self.codes[here[0] : here[1] + 1], np.diff(np.append(edges, x.size)))


def negated(value: oracle.Value) -> oracle.Value:
    if isinstance(value, str):
        return "-" + value
    return -value if value else "-0"


class Torch:
    """PyTorch's CPU cast."""

    name = "torch"
    platform = "torch"

    def __init__(self, fmt: str) -> None:
        import torch

        torch.set_num_threads(1)
        self.target, self.torch = getattr(torch, fmt), torch
        self.out = torch.empty(CHUNK, dtype=self.target)
        self.bits = self.out.view(torch.uint16 if self.target.itemsize == 2 else torch.uint8).numpy()

    def __call__(self, x: Array) -> Array:
        self.out.copy_(self.torch.from_numpy(x))
        return self.bits


class MlDtypes:
    """The cast of ml_dtypes."""

    name = "ml_dtypes"
    platform = "ml_dtypes"

    def __init__(self, fmt: str) -> None:
        import ml_dtypes

        self.dtype = np.dtype(getattr(ml_dtypes, fmt))

    def __call__(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            return x.astype(self.dtype).view(f"uint{8 * self.dtype.itemsize}")


class Report:
    """What a sweep found."""

    def __init__(self) -> None:
        self.patterns = self.differences = 0
        self.numfmt_seconds = self.judge_seconds = self.seconds = 0.0
        self.first = ""


def is_nan_code(codes: Array, fmt: str) -> Array:
    return _nan_table(fmt)[codes]


@lru_cache
def _nan_table(fmt: str) -> Array:
    return np.array([oracle.value(code, fmt) == "nan" for code in range(2 ** oracle.get(fmt).bits)])


def sweep(
    fmt: str, judge: Intervals | Torch | MlDtypes, *, nan_by_class: bool = False, show_progress: bool = True
) -> Report:
    """Compare numfmt's codes of all 2^32 float32 patterns with a judge's."""
    report = Report()
    start = time.perf_counter()
    base = np.arange(CHUNK, dtype=np.uint32)
    patterns = np.empty_like(base)
    codes = np.empty(CHUNK, np.uint8 if oracle.get(fmt).bits <= 8 else np.uint16)
    for first in range(0, ALL, CHUNK):
        np.add(base, np.uint32(first), out=patterns)
        x = patterns.view(np.float32)
        clock = time.perf_counter()
        nf.encode(x, fmt, platform=judge.platform, out=codes)
        report.numfmt_seconds += time.perf_counter() - clock
        clock = time.perf_counter()
        theirs = judge(x)
        report.judge_seconds += time.perf_counter() - clock
        report.patterns += x.size
        if not np.array_equal(codes, theirs):
            differs = np.flatnonzero(codes != theirs)
            if nan_by_class:
                differs = differs[~(is_nan_code(codes[differs], fmt) & is_nan_code(theirs[differs], fmt))]
            if differs.size and not report.first:
                i = differs[0]
                report.first = f", first {patterns[i]:#010x}: {codes[i]:#x} instead of {theirs[i]:#x}"
            report.differences += differs.size
        if show_progress and (first // CHUNK) % 64 == 63:
            print(f"\r{fmt} against {judge.name}: {(first + CHUNK) / ALL:4.0%}", end="", file=sys.stderr, flush=True)
    if show_progress:
        print(file=sys.stderr)
    report.seconds = time.perf_counter() - start
    return report


def main(formats: list[str]) -> int:
    from importlib.util import find_spec

    worst = 0
    for fmt in formats or ["float8_e4m3fn"]:
        for make in (Intervals, *([Torch] if find_spec("torch") else [])):
            # NaN bits of torch's bfloat16 and float16 depend on the path that it takes.
            report = sweep(fmt, make(fmt), nan_by_class=make is Torch and oracle.get(fmt).bits > 8)
            print(
                f"{fmt}: {report.patterns} patterns against {make.name}: "
                f"{report.differences} differences{report.first}, "
                f"{report.seconds:.1f} s (numfmt {report.numfmt_seconds:.1f} s, the judge {report.judge_seconds:.1f} s)"
            )
            worst = max(worst, report.differences)
    return int(worst > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
