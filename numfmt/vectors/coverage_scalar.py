"""Coverage classes of scalar operations: which rows of a chunk lie in which class, by their exact intermediate result.

The classes follow IBM's FPgen and Berkeley's TestFloat: what matters is where the infinitely precise result lies, not
what the operands look like (Aharoni, Asaf, Fournier, Koifman, Nagel, FPgen, HLDVT 2003; ARITH-17 2005).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..formats import CodebookFormat, FixedFormat, FloatFormat, Format, Specials, Subnormals
from .intermediate import (
    INFINITE,
    NAN,
    NUMBER,
    WINDOW,
    ZERO,
    Array,
    Column,
    Exact,
    digits,
)
from .places import Place, place

Masks = dict[str, Array]


# ---- operands --------------------------------------------------------------------------------------------------


def operands(columns: Sequence[Column], formats: Sequence[Format], codes: Sequence[Array]) -> Masks:
    """What kinds of operands there are."""

    def some(claims: Sequence[Array]) -> Array:
        return np.logical_or.reduce(claims)

    found = {"zero operand": some([c.kind == ZERO for c in columns])}
    floats = [(c, f, k) for c, f, k in zip(columns, formats, codes, strict=True) if isinstance(f, FloatFormat)]
    if any(f.has_negative_zero for f in formats):
        found["negative zero operand"] = some([(c.kind == ZERO) & c.negative for c in columns])
    if any(isinstance(f, FixedFormat | CodebookFormat) or f.signed for f in formats):
        found["negative operand"] = some([(c.kind == NUMBER) & c.negative for c in columns])
    if any(f.has_subnormals for _, f, _ in floats):
        found["subnormal operand"] = some([c.subnormal for c, _, _ in floats])
        if len(floats) > 1:
            found["all operands subnormal"] = np.logical_and.reduce([c.subnormal for c in columns])
    if any(f.has_infinity for f in formats):
        found["infinite operand"] = some([c.kind == INFINITE for c in columns])
    if any(f.has_nan for _, f, _ in floats):
        found["quiet NaN operand"] = some([(c.kind == NAN) & ~c.signaling for c, _, _ in floats])
    if any(f.specials is Specials.IEEE and f.trailing_bits > 1 for _, f, _ in floats):
        found["signaling NaN operand"] = some([c.signaling for c, _, _ in floats])
    if floats:
        found["largest finite operand"] = some([magnitude(k, f) == f.max_code for _, f, k in floats])
        found["smallest normal operand"] = some([magnitude(k, f) == _smallest_normal(f) for _, f, k in floats])
    return found


def _smallest_normal(fmt: FloatFormat) -> int:
    return int(fmt.zero) if fmt.subnormals is Subnormals.NORMAL else 1 << fmt.trailing_bits


def magnitude(code: Array, fmt: FloatFormat) -> Array:
    """Codes without their sign."""
    mask = fmt.magnitude_mask
    return np.asarray(code & (mask if code.dtype == object else code.dtype.type(mask)))


# ---- rounding --------------------------------------------------------------------------------------------------


def rounding(p: Place, fmt: Format | None = None) -> Masks:
    """Guard, sticky and last digit of what is rounded."""
    even = ~p.odd
    found = {
        "exact": p.exact,
        "tie, even below": p.tie & even,
        "tie, odd below": p.tie & p.odd,
        "just above a tie, even below": p.above_tie & even,
        "just above a tie, odd below": p.above_tie & p.odd,
        "just below a tie, even below": p.below_tie & even,
        "just below a tie, odd below": p.below_tie & p.odd,
        "just above a value": p.above_value,
        "just below a value": p.below_value,
        "sticky only": p.number & p.lone,
    }
    if isinstance(fmt, FloatFormat):
        ones = (1 << fmt.precision) - 1
        found["carry to the next binade"] = p.upper_half & ~p.low & np.asarray(p.kept == ones, bool)
    return found


def sides(p: Place, x: Exact) -> Masks:
    """Both signs of what is rounded: directed modes tell them apart."""
    inexact = p.number & ~p.exact
    return {"rounded, positive": inexact & ~x.negative, "rounded, negative": inexact & x.negative}


def _fixed_ends(p: Place, fmt: FixedFormat, x: Exact) -> Masks:
    """The neighbourhoods of both ends of a fixed-point format."""
    found: Masks = {}
    for word, limit, side in (("upper", fmt.max_integer, ~x.negative), ("lower", -fmt.min_integer, x.negative)):
        here = p.number & side
        at = here & np.asarray(p.kept == limit, bool)
        found |= {
            f"{word} end": at & p.exact,
            f"{word} end and a fraction": at & ~p.exact,
            f"just outside the {word} end": here & np.asarray(p.kept == limit + 1, bool),
            f"beyond the {word} end": here & np.asarray(p.kept > limit, bool),
        }
    return found


def ends(p: Place, fmt: Format, x: Exact) -> Masks:
    """The neighbourhoods of overflow and underflow."""
    if isinstance(fmt, FixedFormat):
        return _fixed_ends(p, fmt, x)
    assert isinstance(fmt, FloatFormat)
    ones = (1 << fmt.trailing_bits) - 1
    largest = (fmt.max_code & ones) + (1 << fmt.trailing_bits)
    last = p.number & (p.top == fmt.emax) & np.asarray(p.kept == largest, bool)
    beyond = p.number & (p.top == fmt.emax) & np.asarray(p.kept > largest, bool) | p.number & (p.top > fmt.emax)
    found = {
        "largest finite value": last & p.exact,
        "beyond the largest value, below the threshold": last & ~p.exact & ~p.upper_half,
        "just below the overflow threshold": last & p.below_tie,
        "overflow threshold": last & p.tie,
        "just above the overflow threshold": last & p.above_tie,
        "overflow": beyond | last & p.upper_half,
        "far overflow": p.number & (p.top > fmt.emax + 1),
    }
    low, none = p.low, p.low & np.asarray(p.kept == 0, bool)
    smallest = p.number & (p.top == fmt.emin) & np.asarray(p.kept == ones + 1, bool) & p.exact
    found["smallest normal"] = smallest
    if fmt.has_subnormals:
        under = low & np.asarray(p.kept == ones, bool)
        found |= {
            "largest subnormal": under & p.exact,
            "rounds up to the smallest normal": under & p.upper_half,
            "a quarter below the smallest normal, where tininess is decided": under & (p.eighths >= 6),
            "underflow: exact subnormal": low & p.exact,
            "underflow: inexact subnormal": low & ~p.exact & ~none,
            "underflow: tie": low & p.tie & ~none,
        }
    if fmt.zero:
        found |= {
            "just below half the least value": none & p.below_tie,
            "half the least value": none & p.tie,
            "just above half the least value": none & p.above_tie,
            "far below the least value": none & (p.eighths == 0),
        }
    return found


def results(x: Exact, to: Format, source: Format) -> Masks:
    """Zeros, infinities and NaNs."""
    found = {"result +0": (x.kind == ZERO) & ~x.negative}
    if source.has_negative_zero or (isinstance(source, FloatFormat) and source.signed):
        found["result -0"] = (x.kind == ZERO) & x.negative
    if isinstance(source, FloatFormat):
        found["result infinite"] = x.kind == INFINITE
        found["invalid operation"] = (x.kind == NAN) & x.invalid
    if source.has_nan:
        found["NaN kept"] = (x.kind == NAN) & ~x.invalid
    return found


def rounded(x: Exact, to: Format, source: Format) -> Masks:
    """All that concerns the rounding of exact results."""
    p = place(x, to)
    return rounding(p, to) | sides(p, x) | ends(p, to, x) | results(x, to, source)


# ---- operations ------------------------------------------------------------------------------------------------


def signs(x: Column, y: Column) -> Masks:
    """The sign table."""
    usual = (x.kind != NAN) & (y.kind != NAN)
    return {
        f"signs {a} {b}": usual & (x.negative == (a == "-")) & (y.negative == (b == "-")) for a in "+-" for b in "+-"
    }


def max_top(top: Array, fmt: FloatFormat) -> Array:
    """Exponents, those of subnormals raised to emin."""
    return np.maximum(top, fmt.emin)


def window(x: Column, fmt: Format) -> int:
    """Digits of a sum that decide."""
    return 4 * digits(fmt) + 16 if x.m.dtype == object else WINDOW


def pair(x: Column, y: Column, one: int, other: int) -> Array:
    """Whether one operand is of one kind and the other of the other."""
    return (x.kind == one) & (y.kind == other) | (x.kind == other) & (y.kind == one)
