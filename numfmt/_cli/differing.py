"""`nfmt diff`: where two platforms convert differently."""

from __future__ import annotations

import argparse
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import encode, value_table
from ..formats import Format
from ..named import scalar_format
from ..platforms import get_platform
from .numbers import decimal_text, hex_float, parse_value
from .screen import MISMATCH, OK, Failure, Paint, code_text, columns, put, put_json, wants_colour

SHOWN = 40


def operands(fmt: Format) -> npt.NDArray[np.float32]:
    """Float32 operands: values, midpoints, their neighbours, points beyond the range, zeros, infinities, NaNs."""
    values = sorted({v for v in value_table(fmt) if isinstance(v, Fraction)})
    middles = [(a + b) / 2 for a, b in pairwise(values)]
    reals = [float(v) for v in (*values, *middles, 2 * values[-1] - values[-2], 4 * fmt.max, fmt.min_positive / 2)]
    with np.errstate(over="ignore"):
        points = np.array([*reals, *(-v for v in reals)], np.float64).astype(np.float32)
    up, down = np.nextafter(points, np.float32(np.inf)), np.nextafter(points, np.float32(-np.inf))
    points = np.unique(np.concatenate([points, up, down]))
    points = points[np.isfinite(points) & (points != 0)]
    specials = np.array([0x0, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00000], np.uint32).view(np.float32)
    return np.concatenate([points, specials])


def run_diff(args: argparse.Namespace) -> int:
    """List the operands whose codes differ."""
    fmt = scalar_format(args.format)
    first, second = get_platform(args.first), get_platform(args.second)
    if fmt.bits > 16:
        raise Failure(f"{fmt} has {fmt.bits} bits; platforms are compared on formats of at most 16")
    points = operands(fmt)
    codes = [encode(points, fmt, platform=p).tolist() for p in (first, second)]
    rows = [(_name(x), a, b) for x, a, b in zip(points, *codes, strict=True) if a != b]
    if args.json:
        put_json(_as_json(fmt, first.name, second.name, len(points), rows))
        return MISMATCH if rows else OK
    put(f"{fmt}: {len(rows)} of {len(points)} operands differ")
    if rows:
        paint = Paint(wants_colour(args.color))
        shown = rows if len(rows) <= SHOWN else rows[: SHOWN - 8] + rows[-8:]
        lines = columns(
            [("float32 operand", "", first.name, second.name), *(_texts(fmt, *row) for row in shown)], ">>>>"
        )
        for line in [paint.bold(lines[0]), *lines[1:]]:
            put(line)
        if len(shown) < len(rows):
            put(f"{len(rows) - len(shown)} rows between are left out; --json has them all")
    return MISMATCH if rows else OK


def _name(x: np.float32) -> str:
    if np.isnan(x):
        return "-nan" if np.signbit(x) else "nan"
    return float(x).hex() if np.isfinite(x) else str(float(x))


def _texts(fmt: Format, name: str, a: int, b: int) -> tuple[str, ...]:
    value = parse_value(name)
    decimal = name if name.endswith("nan") else decimal_text(value, 9)
    exact = "" if isinstance(value, str) else hex_float(value) or ""
    return decimal, exact, code_text(a, fmt.bits), code_text(b, fmt.bits)


def _as_json(fmt: Format, first: str, second: str, count: int, rows: list[tuple[str, int, int]]) -> dict[str, Any]:
    return {
        "format": str(fmt), "platforms": [first, second], "operands": count,
        "differences": [
            {"operand": x, first: code_text(a, fmt.bits), second: code_text(b, fmt.bits)} for x, a, b in rows
        ],
    }  # fmt: skip
