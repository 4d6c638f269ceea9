"""`nfmt selftest`: what can be checked in seconds on the machine at hand, exhaustively for formats up to 8 bits."""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import numpy.typing as npt

from .. import __version__, engines
from .._core.parameters import BINARY32
from ..arrays import decode, encode, value_table
from ..carriers import BINARY256, pattern
from ..formats import CodebookFormat, Exact, Format
from ..named import scalar_format, scalar_formats
from ..plans import encode_plan, resolve
from ..rounding import Rounding
from .reasons import NEAREST
from .screen import MISMATCH, OK, Paint, columns, put, put_json, wants_colour

Array = npt.NDArray[Any]
DETERMINISTIC = tuple(mode for mode in Rounding if not mode.is_stochastic)
Check = Callable[[], Iterator[str]]


class Result(NamedTuple):
    """What one check found."""

    name: str
    says: str
    faults: list[str]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether it found nothing."""
        return not self.faults


def small_formats() -> dict[str, Format]:
    """Every named format of at most 8 bits."""
    return {name: fmt for name in scalar_formats() if (fmt := scalar_format(name)).bits <= 8}


def operands(fmt: Format) -> Array:
    """Ascending float64: every finite value, every midpoint, both neighbours of each, and points beyond the range."""
    values = sorted({v for v in value_table(fmt) if isinstance(v, Fraction)})
    middles = [(a + b) / 2 for a, b in pairwise(values)]
    ends = [2 * values[0] - values[1], 2 * values[-1] - values[-2], 3 * values[0], 3 * values[-1]]
    points = np.unique(np.array([float(v) for v in (*values, *middles, *ends)]))
    return np.unique(np.concatenate([points, np.nextafter(points, np.inf), np.nextafter(points, -np.inf)]))


def check_codes() -> Iterator[str]:
    """Every code decodes to its exact value, and encodes back to itself or to the lowest code of that value."""
    for name, fmt in small_formats().items():
        table = value_table(fmt)
        codes = np.arange(len(table), dtype=np.uint8)
        values = decode(codes, fmt, dtype=np.float64)
        first: dict[Exact, int] = {}
        for code, value in enumerate(table):
            first.setdefault(value, code)
        nan = None if not fmt.has_nan else int(encode(np.nan, fmt))
        wanted = np.array([first[v] if v != "nan" else nan if nan is not None else -1 for v in table])
        read = [_exact(v) for v in values.tolist()]
        if read != table:
            yield f"{name}: {sum(a != b for a, b in zip(read, table, strict=True))} codes decode to another value"
        wrong = np.count_nonzero((encode(values, fmt) != wanted) & (wanted >= 0))
        if wrong:
            yield f"{name}: {wrong} codes do not encode back"


def _exact(value: float) -> Exact:
    if value != value:
        return "nan"
    if value in (float("inf"), float("-inf")):
        return "inf" if value > 0 else "-inf"
    return "-0" if value == 0 and str(value)[0] == "-" else Fraction(value)


def check_monotone() -> Iterator[str]:
    """In every deterministic mode a larger operand never gives a smaller value."""
    for name, fmt in small_formats().items():
        points = operands(fmt)
        points = points[points >= min(float(fmt.min), 0)]  # a negative operand of E8M0 is NaN
        if fmt.min < 0 and not any(value == 0 for value in value_table(fmt)):
            continue  # {-1, 1}: toward zero, 0.5 goes to -1 and -0.5 to 1
        for mode in DETERMINISTIC:
            rounded = decode(encode(points, fmt, rounding=mode, overflow="saturate"), fmt, dtype=np.float64)
            falls = np.count_nonzero(~(np.diff(rounded) >= 0))
            if falls:
                yield f"{name}, {mode.value}: {falls} steps down"


def check_rounding() -> Iterator[str]:
    """In every deterministic mode operands go where comparing them with values and midpoints says."""
    for name, fmt in small_formats().items():
        table = value_table(fmt)
        codes = {v: code for code, v in reversed([*enumerate(table)]) if isinstance(v, Fraction)}
        exact = sorted(codes)
        odd = np.array([i % 2 if isinstance(fmt, CodebookFormat) else codes[v] % 2 for i, v in enumerate(exact)], bool)
        values = np.array([float(v) for v in exact])
        points = operands(fmt)
        points = points[(points > values[0]) & (points < values[-1]) & ~np.isin(points, values)]
        rank = np.searchsorted(values, points) - 1
        for mode in DETERMINISTIC:
            up = _goes_up(mode, points, values[rank], values[rank + 1], odd[rank], odd[rank + 1])
            rounded = decode(encode(points, fmt, rounding=mode), fmt, dtype=np.float64)
            wrong = np.count_nonzero(rounded != values[rank + up])
            if wrong:
                yield f"{name}, {mode.value}: {wrong} of {points.size} operands"


def _goes_up(mode: Rounding, x: Array, low: Array, high: Array, low_is_odd: Array, high_is_odd: Array) -> Array:
    """Whether each x between two values takes the higher one, in float64, which holds them and their midpoints."""
    negative = x < 0
    near_is_odd = np.where(negative, high_is_odd, low_is_odd)
    nothing, everything = np.zeros(x.shape, bool), np.ones(x.shape, bool)
    away = {
        Rounding.TIES_TO_EVEN: near_is_odd,
        Rounding.TIES_TO_ODD: ~near_is_odd,
        Rounding.TIES_TO_AWAY: everything,
        Rounding.TIES_TO_ZERO: nothing,
        Rounding.TIES_TO_POSITIVE: ~negative,
        Rounding.TIES_TO_NEGATIVE: negative,
        Rounding.AWAY_FROM_ZERO: everything,
        Rounding.TOWARD_ZERO: nothing,
        Rounding.TOWARD_POSITIVE: ~negative,
        Rounding.TOWARD_NEGATIVE: negative,
        Rounding.TO_ODD: ~near_is_odd,
    }[mode]
    middle = low + (high - low) / 2
    chosen: Array = away != negative
    return np.where(x == middle, chosen, x > middle) if mode in NEAREST else chosen


def check_engines() -> Iterator[str]:
    """NumPy, exact Python integers and, where Numba is, the compiled engine give the same codes."""
    for name in ("float8_e4m3fn", "float8_e5m2", "float4_e2m1fn", "float8_e8m0fnu", "bfloat16", "int8", "nf4"):
        fmt = scalar_format(name)
        points = _float32_points()
        for mode in DETERMINISTIC:
            rules = resolve(fmt, mode, None, None, None)
            plan, exact = encode_plan(fmt, rules, BINARY32), encode_plan(fmt, rules, BINARY256)
            assert plan is not None
            assert exact is not None
            mask = 2**fmt.bits - 1
            ours = engines.apply(plan, points.view(np.int32), None, False).astype(np.int64) & mask
            large = encode(points, fmt, rounding=mode)  # of a size that the compiled engine takes, where it is
            if (large != ours).any():
                count = np.count_nonzero(large != ours)
                yield f"{name}, {mode.value}: the compiled engine differs for {count} operands"
            some = slice(None, None, 509)
            wide = [pattern(_exact(v), BINARY256) for v in points[some].tolist()]
            slow = np.array([code & mask for code in engines.apply_exactly(exact, wide, None, False)])
            if (slow != ours[some]).any():
                count = np.count_nonzero(slow != ours[some])
                yield f"{name}, {mode.value}: exact integers differ for {count} operands"


def _float32_points() -> Array:
    """Float32 operands: every exponent with characteristic and with mixed significands, both signs."""
    fields = np.arange(256, dtype=np.uint32) << 23
    ends = np.array([0, 1, 2, 0x7FFFFF, 0x7FFFFE, 0x400000, 0x3FFFFF, 0x400001, 0x555555], np.uint32)
    mixed = (np.arange(1, 140, dtype=np.uint32) * np.uint32(0x9E3779B1)) >> 9
    magnitudes = (fields[:, None] | np.concatenate([ends, mixed])).reshape(-1)
    return np.concatenate([magnitudes, magnitudes | np.uint32(1 << 31)]).view(np.float32)


def check_ml_dtypes() -> Iterator[str]:
    """Every code of the formats that ml_dtypes has decodes to the same value there."""
    for name, fmt in small_formats().items():
        scalar = getattr(ml_dtypes, name, None)
        if scalar is None or name.startswith(("int", "uint")):
            continue
        codes = np.arange(2**fmt.bits, dtype=np.uint8)
        theirs = codes.view(scalar).astype(np.float32)
        ours = decode(codes, fmt)
        same = (theirs.view(np.uint32) == ours.view(np.uint32)) | np.isnan(theirs) & np.isnan(ours)
        if not same.all():
            yield f"{name}: {np.count_nonzero(~same)} codes"


CHECKS: dict[str, Check] = {
    "codes": check_codes,
    "monotone": check_monotone,
    "rounding": check_rounding,
    "engines": check_engines,
    "ml_dtypes": check_ml_dtypes,
}


def versions() -> dict[str, str]:
    """Versions of what takes part."""
    found = {"numfmt": __version__, "python": platform.python_version(), "machine": platform.machine()}
    for name in ("numpy", "ml_dtypes", "numba"):
        try:
            found[name] = version(name) if find_spec(name) else "not installed"
        except (PackageNotFoundError, ValueError):
            found[name] = "not installed"
    return found


def run_selftest(args: argparse.Namespace) -> int:
    """Run every check; 0 if all pass, 1 otherwise."""
    if args.hardware:
        from .hardware import run_hardware

        return run_hardware(args)
    results = []
    for name, check in CHECKS.items():
        start = time.perf_counter()
        faults = list(check())
        results.append(Result(name, " ".join((check.__doc__ or "").split()), faults, time.perf_counter() - start))
    passed = all(r.passed for r in results)
    if args.json:
        checks = [
            {"check": r.name, "says": r.says, "passed": r.passed, "faults": r.faults, "seconds": round(r.seconds, 3)}
            for r in results
        ]
        put_json({"versions": versions(), "formats": len(small_formats()), "passed": passed, "checks": checks})
        return OK if passed else MISMATCH
    paint = Paint(wants_colour(args.color))
    put(", ".join(f"{name} {text}" for name, text in versions().items()))
    put(f"{len(small_formats())} named formats of at most 8 bits")
    rows = [("PASS" if r.passed else "FAIL", r.name, f"{r.seconds:.2f} s", r.says) for r in results]
    for line in columns(rows, "<<><"):
        put(line)
    for r in results:
        for fault in r.faults[:10]:
            put(f"  {r.name}: {fault}")
    put(paint.bold("PASS" if passed else "FAIL"))
    return OK if passed else MISMATCH
