"""Coverage classes of sums, products, quotients, roots, fused operations and remainders."""

from __future__ import annotations

import numpy as np

from ..formats import FixedFormat, FloatFormat, Format
from .coverage_scalar import Masks, max_top, pair, results, rounded, signs, window
from .intermediate import INFINITE, NAN, NUMBER, ZERO, Column, digits, product, quotient, remainder, root, total
from .places import place


def addition(x: Column, y: Column, fmt: Format, to: Format) -> Masks:
    """Exponent differences, carries and cancellation of x + y."""
    exact = total(x, y, window(x, fmt))
    both = (x.kind == NUMBER) & (y.kind == NUMBER)
    apart = np.where(both, np.abs(x.top - y.top), -1)
    opposite = both & (x.negative != y.negative)
    high = np.maximum(x.top, y.top)
    lost = np.where(opposite & (exact.kind == NUMBER), high - exact.top, 0)
    found: Masks = {}
    if isinstance(fmt, FloatFormat):
        p = fmt.precision
        found |= {
            "exponents apart: 0": apart == 0,
            "exponents apart: 1": apart == 1,
            "exponents apart: 2 to p - 1": (apart >= 2) & (apart < p),
            "exponents apart: p": apart == p,
            "exponents apart: p + 1": apart == p + 1,
            "exponents apart: p + 2": apart == p + 2,
            "exponents apart: p + 3 or more": apart >= p + 3,
            "only sticky is left of the smaller": apart >= p + 1,
        }
        ulp = max_top(high, fmt) - (p - 1)
        single = np.asarray(exact.m & (exact.m - 1) == 0, bool)
        found["cancellation to one ulp"] = opposite & (exact.kind == NUMBER) & single & (exact.top == ulp)
    found |= {
        "carry out": both & ~opposite & (exact.top > high),
        "cancellation to zero": opposite & (exact.kind == ZERO),
        "cancellation by one digit": opposite & (lost == 1),
        "massive cancellation": opposite & (exact.kind == NUMBER) & (lost >= max(2, digits(fmt) // 2)),
        "number plus zero": ((x.kind == ZERO) & (y.kind == NUMBER)) | ((x.kind == NUMBER) & (y.kind == ZERO)),
        "zeros of one sign": (x.kind == ZERO) & (y.kind == ZERO) & (x.negative == y.negative),
        "zeros of opposite signs": (x.kind == ZERO) & (y.kind == ZERO) & (x.negative != y.negative),
    }
    if isinstance(fmt, FloatFormat) and fmt.has_subnormals:
        found["cancellation to a subnormal"] = (
            opposite & ~x.subnormal & ~y.subnormal & (exact.kind == NUMBER) & (exact.top < fmt.emin)
        )
    if fmt.has_infinity:
        infinite = (x.kind == INFINITE) & (y.kind == INFINITE)
        found["infinities of one sign"] = infinite & (x.negative == y.negative)
        found["infinities of opposite signs"] = infinite & (x.negative != y.negative)
    return found | rounded(exact, to, fmt)


def multiplication(x: Column, y: Column, fmt: Format, to: Format) -> Masks:
    """Normalisation, subnormals and the sign table of x × y."""
    exact = product(x, y)
    found = signs(x, y)
    number = exact.kind == NUMBER
    if isinstance(fmt, FloatFormat):
        carry = exact.top - (x.top + y.top)
        p = place(exact, to)
        ones = (1 << fmt.precision) - 1
        found |= {
            "product in [1, 2)": number & (carry == 0),
            "product in [2, 4)": number & (carry == 1),
            "rounding carries to 2": number & (carry == 0) & p.upper_half & ~p.low & np.asarray(p.kept == ones, bool),
        }
        if fmt.has_subnormals:
            mixed = x.subnormal ^ y.subnormal
            found["subnormal times normal"] = number & mixed
            found["subnormal times subnormal"] = number & x.subnormal & y.subnormal
    if fmt.has_infinity:
        found["zero times infinity"] = pair(x, y, ZERO, INFINITE)
        found["infinity times number"] = pair(x, y, INFINITE, NUMBER)
    found["zero times number"] = pair(x, y, ZERO, NUMBER)
    return found | rounded(exact, to, fmt)


def division(x: Column, y: Column, fmt: FloatFormat, to: Format) -> Masks:
    """Quotients, exact and near ties, and what has no quotient."""
    exact = quotient(x, y, fmt.precision)
    both = (x.kind == NUMBER) & (y.kind == NUMBER)
    power = both & np.asarray(y.m & (y.m - 1) == 0, bool)
    found = signs(x, y) | {
        "significand of x below that of y": both & (exact.top < x.top - y.top),
        "significand of x not below that of y": both & (exact.top == x.top - y.top),
        "divided by a power of two": power,
        "exact quotient": both & ~power & place(exact, to).exact,
        "number by zero": (x.kind == NUMBER) & (y.kind == ZERO),
        "zero by zero": (x.kind == ZERO) & (y.kind == ZERO),
        "zero by number": (x.kind == ZERO) & (y.kind == NUMBER),
    }
    if fmt.has_infinity:
        found |= {
            "infinity by infinity": (x.kind == INFINITE) & (y.kind == INFINITE),
            "infinity by number": (x.kind == INFINITE) & (y.kind == NUMBER),
            "infinity by zero": (x.kind == INFINITE) & (y.kind == ZERO),
            "number by infinity": (x.kind == NUMBER) & (y.kind == INFINITE),
        }
    return found | rounded(exact, to, fmt)


def square_root(x: Column, fmt: FloatFormat, to: Format) -> Masks:
    """Roots: exact, near ties, of even and odd exponents."""
    exact = root(x, fmt.precision)
    number = (x.kind == NUMBER) & ~x.negative
    found = {
        "even exponent": number & (x.top & 1 == 0),
        "odd exponent": number & (x.top & 1 == 1),
        "exact root": number & place(exact, to).exact,
    }
    if fmt.signed:
        found["negative number"] = (x.kind == NUMBER) & x.negative
        if fmt.has_infinity:
            found["negative infinity"] = (x.kind == INFINITE) & x.negative
    return found | rounded(exact, to, fmt)


def accumulated(x: Column, y: Column, z: Column, fmt: FixedFormat, to: Format) -> Masks:
    """x × y + z in fixed point."""
    xy = product(x, y)
    exact = total(xy, z, window(x, fmt))
    both = (xy.kind == NUMBER) & (z.kind == NUMBER)
    opposite = both & (xy.negative != z.negative)
    found = signs(x, y) | {
        "cancellation to zero": opposite & (exact.kind == ZERO),
        "addend zero": (xy.kind == NUMBER) & (z.kind == ZERO),
        "product zero": (xy.kind == ZERO) & (z.kind == NUMBER),
        "addend above the product": both & (z.top > xy.top),
        "addend below the product": both & (z.top < xy.top),
        "product overflows, the sum does not": both
        & np.asarray(place(xy, fmt).kept > fmt.max_integer, bool)
        & np.asarray(place(exact, fmt).kept <= fmt.max_integer, bool),
    }
    return found | rounded(exact, to, fmt)


def fused(x: Column, y: Column, z: Column, fmt: FloatFormat, to: Format) -> Masks:
    """Alignment and cancellation of x × y + z, and where two roundings would differ from one."""
    p, big = fmt.precision, window(x, fmt)
    xy = product(x, y)
    exact = total(xy, z, big)
    both = (xy.kind == NUMBER) & (z.kind == NUMBER)
    apart = np.where(both, z.top - xy.top, 0)
    opposite = both & (xy.negative != z.negative)
    lost = np.where(opposite & (exact.kind == NUMBER), np.maximum(z.top, xy.top) - exact.top, 0)
    inside = xy.top <= fmt.emax
    found = {
        "addend far above the product": both & (apart > p + 1),
        "addend above, overlapping": both & (apart > 0) & (apart <= p + 1),
        "addend level with the product": both & (apart == 0),
        "addend below, overlapping": both & (apart < 0) & (apart >= -2 * p),
        "addend far below the product": both & (apart < -2 * p),
        "addend only sticky": both & (apart < -p - 1),
        "cancellation to zero": opposite & (exact.kind == ZERO),
        "massive cancellation": opposite & (exact.kind == NUMBER) & (lost >= max(2, digits(fmt) // 2)),
        "cancellation leaves the low digits of the product": opposite & (exact.kind == NUMBER) & (lost >= p),
        "addend zero": (xy.kind == NUMBER) & (z.kind == ZERO),
        "product zero": (xy.kind == ZERO) & (z.kind == NUMBER),
        "product and addend zero, one sign": (xy.kind == ZERO) & (z.kind == ZERO) & (xy.negative == z.negative),
        "product and addend zero, opposite signs": (xy.kind == ZERO) & (z.kind == ZERO) & (xy.negative != z.negative),
        "product overflows, the sum does not": both & ~inside & (exact.top <= fmt.emax),
    }
    if fmt.has_subnormals:
        found["product below the least value"] = both & (xy.top < fmt.emin - fmt.trailing_bits)
        found["product and addend subnormal"] = both & (xy.top < fmt.emin) & z.subnormal
    if fmt.has_infinity:
        no_number = pair(x, y, ZERO, INFINITE)
        found |= {
            "zero times infinity plus number": no_number & (z.kind != NAN),
            "zero times infinity plus NaN": no_number & (z.kind == NAN),
            "infinite product, infinite addend, opposite signs": (xy.kind == INFINITE)
            & (z.kind == INFINITE)
            & (xy.negative != z.negative),
            "infinite product, finite addend": (xy.kind == INFINITE) & (z.kind <= NUMBER),
            "infinite addend, finite product": (xy.kind <= NUMBER) & (z.kind == INFINITE),
        }
    return found | rounded(exact, to, fmt)


def remaindering(x: Column, y: Column, fmt: FloatFormat, to: Format) -> Masks:
    """Remainders by their integer quotient n."""
    found = remainder(x, y)
    usual = (x.kind == NUMBER) & (y.kind == NUMBER)
    masks = {
        "n + 1/2, n even": (found.place == 0) & ~found.odd,
        "n + 1/2, n odd": (found.place == 0) & found.odd,
        "rounded down": found.place == -1,
        "rounded up": found.place == 1,
        "n exact, x positive": (found.place == 2) & ~x.negative,
        "x smaller than y / 2": found.small,
        "exponents apart: more than p": usual & (x.top - y.top > fmt.precision),
        "number by zero": (x.kind == NUMBER) & (y.kind == ZERO),
        "zero by number": (x.kind == ZERO) & (y.kind == NUMBER),
    }
    if fmt.signed:
        masks["n exact, x negative"] = (found.place == 2) & x.negative
    if fmt.has_infinity:
        masks["infinity by number"] = (x.kind == INFINITE) & (y.kind == NUMBER)
        masks["number by infinity"] = (x.kind == NUMBER) & (y.kind == INFINITE)
    return masks | results(found.result, to, fmt)
