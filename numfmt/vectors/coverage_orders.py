"""Coverage classes of comparisons, minima and maxima, and of operations of one operand."""

from __future__ import annotations

import numpy as np

from ..formats import FloatFormat, Format
from .coverage_scalar import Masks, magnitude, max_top, pair, results, rounded, rounding, sides, window
from .intermediate import INFINITE, NAN, NUMBER, ZERO, Array, Column, same, total
from .places import integral_place, place


def comparison(x: Column, y: Column, fmt: Format) -> Masks:
    """Orders: neighbours, zeros, NaNs."""
    number = (x.kind != NAN) & (y.kind != NAN)
    difference = total(x, y._replace(negative=~y.negative), window(x, fmt))
    infinite = (x.kind == INFINITE) & (y.kind == INFINITE)
    equal = number & (difference.kind == ZERO) | infinite & (x.negative == y.negative)
    below = number & ~equal & np.where(difference.kind == NAN, x.negative, difference.negative)
    found = {
        "equal": equal & (x.kind != ZERO),
        "less": below,
        "greater": number & ~equal & ~below,
        "equal magnitudes, opposite signs": number
        & (x.kind == NUMBER)
        & (total(x, y, window(x, fmt)).kind == ZERO)
        & (y.kind == NUMBER),
        "zero and number": pair(x, y, ZERO, NUMBER),
        "both negative": number & x.negative & y.negative & (x.kind == NUMBER) & (y.kind == NUMBER) & ~equal,
    }
    if fmt.has_negative_zero:
        zeros = (x.kind == ZERO) & (y.kind == ZERO)
        found["-0 and +0"] = zeros & x.negative & ~y.negative
        found["+0 and -0"] = zeros & ~x.negative & y.negative
    if isinstance(fmt, FloatFormat):
        ulp = max_top(np.maximum(x.top, y.top), fmt) - fmt.trailing_bits
        lone = np.asarray(difference.m & (difference.m - 1) == 0, bool) & (difference.kind == NUMBER)
        found["one ulp apart"] = number & lone & (difference.top == ulp)
    if fmt.has_nan:
        one = (x.kind == NAN) ^ (y.kind == NAN)
        found["NaN and number"] = one
        found["number and NaN"] = one & (y.kind == NAN)
        found["two NaNs"] = (x.kind == NAN) & (y.kind == NAN)
    if fmt.has_infinity:
        found["infinity and number"] = pair(x, y, INFINITE, NUMBER)
        found["infinities of opposite signs"] = infinite & (x.negative != y.negative)
    return found


def integral(x: Column, low: int | None, high: int | None) -> Masks:
    """Rounding to an integer; `low` and `high` are the ends of an integer type."""
    exact = same(x)
    p = integral_place(exact)
    found = rounding(p) | sides(p, exact)
    found |= {
        "below one half": p.number & (p.top < -1),
        "one half": p.number & (p.top == -1) & p.tie,
        "between one half and one": p.number & (p.top == -1) & ~p.tie,
        "integral already, above 2^p": p.number & (x.e > 0),
    }
    if low is None or high is None:
        return found
    kept = np.where(p.number, p.kept, 0 * p.kept)
    for end, limit, side in (("upper", high, ~x.negative), ("lower", -low, x.negative)):
        here = p.number & side
        at = here & np.asarray(kept == limit, bool)
        found |= {
            f"{end} end": at & p.exact,
            f"{end} end and a fraction": at & ~p.exact,
            f"just inside the {end} end": here & np.asarray(kept == limit - 1, bool) & (limit > 0),
            f"just outside the {end} end": here & np.asarray(kept == limit + 1, bool),
            f"beyond the {end} end": here & np.asarray(kept > limit, bool),
        }
    return found


def stepping(x: Column, code: Array, fmt: FloatFormat) -> Masks:
    """nextUp and nextDown: the codes where something but the last digit changes."""
    size = magnitude(code, fmt)
    ones = (1 << fmt.trailing_bits) - 1
    plus, minus = (x.kind == NUMBER) & ~x.negative, (x.kind == NUMBER) & x.negative
    found: Masks = {}
    for sign, side in (("+", plus), ("-", minus)):
        if sign == "-" and not fmt.signed:
            continue
        found |= {
            f"{sign}, largest": side & (size == fmt.max_code),
            f"{sign}, least": side & (size == fmt.min_code),
            f"{sign}, smallest normal": side & (x.top == fmt.emin) & (size & ones == 0),
            f"{sign}, end of a binade": side & (size & ones == ones),
            f"{sign}, start of a binade": side & (size & ones == 0),
        }
        if fmt.has_subnormals:
            found[f"{sign}, largest subnormal"] = side & (size == ones)
        if fmt.has_infinity:
            found[f"{sign}, infinity"] = (x.kind == INFINITE) & (x.negative == (sign == "-"))
    return found


def scaling(x: Column, n: Array, fmt: FloatFormat, to: Format) -> Masks:
    """x × 2^n: also far beyond both ends."""
    exact = same(x)
    reach = fmt.emax - fmt.emin + 2 * fmt.precision
    moved = exact._replace(e=exact.e + np.clip(n, -(1 << 30), 1 << 30))
    found = {"n = 0": n == 0, "n beyond the range, up": n > reach, "n beyond the range, down": n < -reach}
    found["subnormal to normal"] = x.subnormal & (moved.top >= fmt.emin)
    found["normal to subnormal"] = ~x.subnormal & place(moved, to).low
    return found | rounded(moved, to, fmt)


def exponent(x: Column, fmt: FloatFormat) -> Masks:
    """logB: the exponent of a number."""
    number = x.kind == NUMBER
    single = np.asarray(x.m & (x.m - 1) == 0, bool)
    return {
        "power of two": number & single,
        "between powers of two": number & ~single,
        "exponent 0": number & (x.top == 0),
        "negative exponent": number & (x.top < 0),
        "largest exponent": number & (x.top == fmt.emax),
        "smallest normal exponent": number & (x.top == fmt.emin) & ~x.subnormal,
    } | results(same(x), fmt, fmt)
