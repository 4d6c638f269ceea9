"""Coverage classes of dots of units: where the largest term is, what is kept and lost beside it, orders, specials.

E is the largest exponent of the first step, F the bits that the unit keeps below it: the digits of its accumulator but
one, where it aligns nothing. A class is found from operands, a few from what the unit gives for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..formats import FixedFormat, FloatFormat
from ..named import scalar_format
from ..rounding import Rounding
from ..unit_numbers import least_exponent
from ..units import DotUnit, Kind
from .checking import is_nan
from .coverage_scalar import Masks
from .intermediate import INFINITE, NAN, NUMBER, ZERO, Array, Column, bit_length, decode
from .unit_functions import Operands, codes_of, operand_formats, shaped

if TYPE_CHECKING:
    from .functions import Function

FAR = 1 << 40
DOWN = -FAR


class Factors(NamedTuple):
    """Operands of the lanes.

    Attributes:
        a, b, c: decoded.
        scales: of both operands, a lane each; () without.
    """

    a: Column
    b: Column
    c: Column
    scales: tuple[Column, ...]


class Terms(NamedTuple):
    """Products, with their scales.

    Attributes:
        kind, negative: of each.
        exponent: the nominal one, `DOWN` of what is no number.
        top, last: of the leading and the last digit.
        single: whether one digit is all.
        value: as float64, near enough to compare magnitudes of equal products.
    """

    kind: Array
    negative: Array
    exponent: Array
    top: Array
    last: Array
    single: Array
    value: Array


def dot(function: Function, columns: Sequence[Array]) -> Masks:
    """Classes of dots of a unit; those that its formats exclude are left out."""
    unit = function.unit
    assert unit is not None
    factors = _factors(function, columns)
    terms = _terms(function, factors)
    results = _Results(function, columns)
    found = _lanes(function, factors, terms) | _cancelling(function, factors, terms)
    found |= _specials(function, factors, terms)
    integers = isinstance(operand_formats(function)[0], FixedFormat)
    found |= {} if unit.kind is Kind.FIXED else _largest(function, factors, terms, results)
    found |= results.classes() | results.orders(columns)
    if unit.scales:
        found |= _scales(function, columns, factors)
    if isinstance(unit.accumulator, FixedFormat) and integers:
        found |= _integers(unit.accumulator, factors, terms)
    return {name: np.asarray(rows, bool) for name, rows in found.items()}


# ---- operands --------------------------------------------------------------------------------------------------


def _factors(function: Function, columns: Sequence[Array]) -> Factors:
    unit = function.unit
    assert unit is not None
    made = [decode(column, fmt, False) for column, fmt in zip(shaped(function, columns), function.sources, strict=True)]
    c = Column(*(field[:, 0] for field in made[-1]))
    if not unit.scales:
        return Factors(made[0], made[1], c, ())
    spread = [Column(*(np.repeat(field, unit.scale_blocks[0], axis=1) for field in made[i])) for i in (1, 3)]
    return Factors(made[0], made[2], c, tuple(spread))


def _terms(function: Function, factors: Factors) -> Terms:
    unit = function.unit
    assert unit is not None
    parts = (factors.a, factors.b, *factors.scales)
    formats = (*operand_formats(function), *unit.scales * 2)
    nan = np.logical_or.reduce([p.kind == NAN for p in parts])
    zero = np.logical_or.reduce([p.kind == ZERO for p in parts])
    infinite = np.logical_or.reduce([p.kind == INFINITE for p in parts])
    kind = np.where(nan | (zero & infinite), NAN, np.where(infinite, INFINITE, np.where(zero, ZERO, NUMBER)))
    number = kind == NUMBER
    signed = parts if unit.scale_signs else parts[:2]
    negative = np.logical_xor.reduce([p.negative for p in signed])
    counted = list(zip(parts, formats, strict=True))[2 if unit.group is not None else 0 :]
    exponent = sum((_nominal(p, fmt) for p, fmt in counted), np.zeros(kind.shape, np.int64))
    significand = np.ones(kind.shape)
    top, last, single = np.zeros(kind.shape, np.int64), np.zeros(kind.shape, np.int64), number
    for p in parts:
        m = np.where(number, p.m, 1)
        length = bit_length(m)
        significand = significand * np.ldexp(m.astype(np.float64), -(length - 1).astype(np.int32))
        top = top + length - 1 + np.where(number, p.e, 0)
        last = last + bit_length(m & -m) - 1 + np.where(number, p.e, 0)
        single = single & (m & (m - 1) == 0)
    value = np.ldexp(significand, np.clip(top, -1000, 1000).astype(np.int32))
    top = top + np.floor(np.log2(significand)).astype(np.int64)
    return Terms(
        kind, negative, np.where(number, exponent, DOWN), np.where(number, top, DOWN), np.where(number, last, FAR),
        single, np.where(number, value, 0.0),
    )  # fmt: skip


def _nominal(x: Column, fmt: Any) -> Array:
    """Exponents no lower than that of the least normal value."""
    least = least_exponent(fmt)
    return np.where(x.kind == NUMBER, least if isinstance(fmt, FixedFormat) else np.maximum(x.top, least), 0)


def step_of(function: Function) -> int:
    """Products of the first step."""
    assert function.unit is not None
    return min(function.unit.length or function.size, function.size)


def kept_bits(unit: DotUnit) -> int:
    """F: bits below the largest exponent that a sum keeps."""
    if unit.fraction is not None:
        return unit.fraction
    acc = unit.accumulator
    return acc.precision - 1 if isinstance(acc, FloatFormat) else acc.bits - 1


def _lanes(function: Function, factors: Factors, terms: Terms) -> Masks:
    """Where products are that are no zeros, and subnormal operands."""
    usual = (terms.kind <= NUMBER).all(axis=1)
    number = terms.kind == NUMBER
    count, c_zero = number.sum(axis=1), factors.c.kind == ZERO
    alone, step, size = usual & (count == 1), step_of(function), function.size
    found = {
        "products zero in every lane": usual & (count == 0),
        "products zero in every lane, and c": usual & (count == 0) & c_zero,
        "c alone": usual & (count == 0) & (factors.c.kind == NUMBER),
        "first lane alone": alone & number[:, 0],
        "last lane alone": alone & number[:, -1],
        "every lane the largest product": _all_largest(function, factors),
    }
    if size > 1:
        found["products zero in some lanes"] = usual & (count > 0) & (count < size)
    if size > step > 1:
        found["last lane of a step alone"] = alone & number[:, step - 1]
        found["first lane of the second step alone"] = alone & number[:, step]
    for name, fmt, x in (("a", function.sources[0], factors.a), ("b", operand_formats(function)[1], factors.b)):
        if isinstance(fmt, FloatFormat) and fmt.has_subnormals:
            found[f"subnormal {name}"] = x.subnormal.any(axis=1)
            top = np.where(x.kind == NUMBER, x.top, DOWN)
            other = factors.b if name == "a" else factors.a
            found[f"zero times the largest exponent of {name}"] = (
                (top == top.max(initial=DOWN)) & (x.kind == NUMBER) & (other.kind == ZERO) & (top >= fmt.emax)
            ).any(axis=1)
    if isinstance(function.sources[-1], FloatFormat):
        found["subnormal c"] = factors.c.subnormal
    return found


def _all_largest(function: Function, factors: Factors) -> Array:
    """Both operands at the end of their range in every lane, products of one sign."""
    found = np.ones(len(factors.c.kind), bool)
    for x, fmt in zip((factors.a, factors.b), operand_formats(function), strict=True):
        largest = decode(np.array([_largest_code(fmt)]), fmt, False)
        ends = (x.kind == NUMBER) & (x.m == largest.m[0]) & (x.e == largest.e[0])
        found &= ends.all(axis=1)
    negative = factors.a.negative ^ factors.b.negative
    return found & (negative == negative[:, :1]).all(axis=1)


def _largest_code(fmt: Any) -> int:
    return int(fmt.max_code if isinstance(fmt, FloatFormat) else fmt.max_integer)


# ---- what is kept and lost -------------------------------------------------------------------------------------


def _largest(function: Function, factors: Factors, terms: Terms, results: _Results) -> Masks:
    """Where the largest exponent of the first step is, and what lies at the last bit that it keeps."""
    unit, step = function.unit, step_of(function)
    assert unit is not None
    c, kept = factors.c, kept_bits(unit)
    first = Terms(*(field[:, :step] for field in terms))
    own = _nominal(c, unit.c_format)
    own = np.where(c.kind == NUMBER, own, DOWN)
    products = first.exponent.max(axis=1, initial=DOWN)
    E = np.maximum(products, own)
    usual = (terms.kind <= NUMBER).all(axis=1) & (c.kind <= NUMBER) & (E > DOWN)
    some = products > DOWN
    number = first.kind == NUMBER
    biggest = number & (first.exponent == E[:, None])
    over = first.top > first.exponent
    place = (E - kept)[:, None]
    lost = usual & (number & (first.last < place)).any(axis=1)
    found = {
        "largest exponent in a product": usual & (products > own),
        "largest exponent in c": usual & some & (own > products),
        "largest exponents of c and of a product equal": usual & (own == products),
        "a term in the last kept place": usual & (first.single & (first.top == place)).any(axis=1),
        "a term in the first lost place": usual & (first.single & (first.top == place - 1)).any(axis=1),
        "digits lost, result positive": lost & results.positive,
        "digits lost, result negative": lost & results.negative,
        "every product lost beside c": usual & some & (own > products) & (~number | (first.top < place)).all(axis=1),
        "largest product in [2, 4)": usual & (biggest & over).any(axis=1),
        "largest product in [1, 2)": usual & (biggest & ~over).any(axis=1),
        "the result beyond the largest term's binade": usual & results.beyond(E + 1),
    }  # fmt: skip
    if step > 1:
        others = (~number | biggest | (first.top < place)).all(axis=1)
        found["every other product lost"] = usual & others & (biggest.sum(axis=1) == 1) & (number.sum(axis=1) > 1)
    return found


def _cancelling(function: Function, factors: Factors, terms: Terms) -> Masks:
    """A largest product and its negative, in one step, in two, across a promotion; c and its negative."""
    unit, size, step = function.unit, function.size, step_of(function)
    assert unit is not None
    usual = (terms.kind <= NUMBER).all(axis=1) & (factors.c.kind <= NUMBER)
    number = terms.kind == NUMBER
    largest = terms.value.max(axis=1, initial=0.0)
    masks = number & (terms.value == largest[:, None])
    small = (number & ~masks).any(axis=1)
    plus, minus = masks & ~terms.negative, masks & terms.negative

    def across(length: int) -> tuple[Array, Array]:
        starts = np.arange(0, size, length)
        up, down = (np.logical_or.reduceat(x, starts, axis=1) for x in (plus, minus))
        together = np.asarray((up & down).any(axis=1))
        return together, np.asarray(plus.any(axis=1) & minus.any(axis=1) & ~together)

    one, two = across(step)
    found: Masks = {}
    if step > 2:
        found["M, -M and a small term, masks in one step"] = usual & one & small
    if size > step and size > 2:
        found["M, -M and a small term, masks in two steps"] = usual & two & small
    if unit.promote_every is not None and unit.promote_every < size:
        found["M and -M on both sides of a promotion"] = usual & across(unit.promote_every)[1]
    c = np.ldexp(factors.c.m.astype(np.float64), np.clip(factors.c.e, -1000, 900).astype(np.int32))
    opposite = (masks & (terms.negative != factors.c.negative[:, None])).any(axis=1)
    found["c cancels a product"] = usual & (factors.c.kind == NUMBER) & (c == largest) & opposite
    if unit.product_limit is not None:
        found["a product at its limit"] = usual & (terms.top >= unit.product_limit).any(axis=1)
    return found


# ---- specials, scales, integers --------------------------------------------------------------------------------


def _specials(function: Function, factors: Factors, terms: Terms) -> Masks:
    fa, fb = operand_formats(function)
    found: Masks = {}
    nans = (factors.a.kind == NAN) | (factors.b.kind == NAN)
    infinities = (factors.a.kind == INFINITE) | (factors.b.kind == INFINITE)
    if fa.has_nan or fb.has_nan:
        found["NaN in a lane"] = nans.any(axis=1)
        found["NaN in the last lane alone"] = nans[:, -1] & (nans.sum(axis=1) == 1)
    c = function.sources[-1]
    if c.has_nan:
        found["c NaN"] = factors.c.kind == NAN
    infinite_products = terms.kind == INFINITE
    if _has_infinity(fa) or _has_infinity(fb):
        zero = (factors.a.kind == ZERO) | (factors.b.kind == ZERO)
        found["infinity in a lane"] = infinities.any(axis=1)
        found["infinity in the last lane alone"] = infinities[:, -1] & (infinities.sum(axis=1) == 1)
        found["zero times infinity"] = (infinities & zero).any(axis=1)
        if function.size > 1:
            plus, minus = infinite_products & ~terms.negative, infinite_products & terms.negative
            found["infinities of opposite signs in lanes"] = plus.any(axis=1) & minus.any(axis=1)
    if _has_infinity(c):
        infinite = factors.c.kind == INFINITE
        found["c infinite"] = infinite
        if _has_infinity(fa) or _has_infinity(fb):
            against = infinite_products & (terms.negative != factors.c.negative[:, None])
            found["c and a product infinite, of opposite signs"] = infinite & against.any(axis=1)
    return found


def _has_infinity(fmt: Any) -> bool:
    return isinstance(fmt, FloatFormat) and fmt.infinity_code is not None


def _scales(function: Function, columns: Sequence[Array], factors: Factors) -> Masks:
    unit = function.unit
    assert unit is not None
    fmt, codes = unit.scales[0], shaped(function, columns)[1:4:2]
    magnitudes = [np.asarray(x).astype(np.int64) & fmt.magnitude_mask for x in codes]
    both = np.concatenate(magnitudes, axis=1)
    kinds = np.concatenate([x.kind for x in factors.scales], axis=1)
    usual = (kinds <= NUMBER).all(axis=1)
    found = {
        "least scale": usual & (both == fmt.min_code).any(axis=1),
        "largest scale": usual & (both == fmt.max_code).any(axis=1),
    }
    if fmt.nan_code is not None:
        found["NaN scale"] = (kinds == NAN).any(axis=1)
    if fmt.signed:
        found["scale with a sign"] = np.logical_or.reduce([x.negative for x in factors.scales]).any(axis=1)
    if codes[0].shape[1] > 1:
        found["scales of blocks differ"] = np.logical_or.reduce([(x != x[:, :1]).any(axis=1) for x in magnitudes])
    return found


def _integers(acc: FixedFormat, factors: Factors, terms: Terms) -> Masks:
    """Sums of integers against the ends of the accumulator."""
    products = factors.a.m * factors.b.m
    c = np.where(factors.c.negative, -factors.c.m, factors.c.m)
    running = c[:, None] + np.cumsum(np.where(terms.negative, -products, products), axis=1)
    total, low, high = running[:, -1], acc.min_integer, acc.max_integer
    left = ((running > high) | (running < low)).any(axis=1)
    return {
        "the upper end": total == high, "just beyond the upper end": total == high + 1,
        "beyond the upper end": total > high, "the lower end": total == low,
        "just beyond the lower end": total == low - 1, "beyond the lower end": total < low,
        "beyond an end and back": left & (total <= high) & (total >= low),
    }  # fmt: skip


# ---- results ---------------------------------------------------------------------------------------------------


class _Results:
    """What the unit gives, and what it gives with operands moved."""

    def __init__(self, function: Function, columns: Sequence[Array]) -> None:
        from .functions import Rules

        assert function.unit is not None
        unit = function.unit
        if unit.is_stochastic:  # random numbers decide no class
            unit = replace(unit, rounding=Rounding.TIES_TO_EVEN, late_rounding=None)
        self.function, self.unit, self.to = function, unit, function.to
        self.rules = Rules()
        self.codes = self._of(columns)
        self.column = decode(self.codes, self.to, False) if self.to is not None else None
        assert self.column is not None
        shown = self.column.kind == NUMBER
        self.positive, self.negative = shown & ~self.column.negative, shown & self.column.negative
        finite = np.ones(len(self.codes), bool)
        for column, fmt in zip(shaped(function, columns), function.sources, strict=True):
            finite &= (decode(column, fmt, False).kind <= NUMBER).all(axis=1)
        self.finite = finite

    def _of(self, columns: Sequence[Array], unit: DotUnit | None = None) -> Array:
        return Operands(self.function, columns, self.rules, None).results(unit or self.unit)

    def beyond(self, exponent: Array) -> Array:
        """Whether a result lies above the binade of an exponent."""
        assert self.column is not None
        return (self.column.kind == NUMBER) & (self.column.top > exponent)

    def classes(self) -> Masks:
        """Results that are zeros, subnormal, infinite, NaN."""
        column, to = self.column, self.to
        assert column is not None
        zero = column.kind == ZERO
        found = {"result zero": zero & ~column.negative}
        if not isinstance(to, FloatFormat):
            return found
        found["result -0"] = zero & column.negative
        found["result subnormal"] = column.subnormal
        end = int(codes_of(np.array([float(self.unit.result_format.max)]), to)[0])
        found["result the largest finite"] = (self.codes & np.asarray(to.magnitude_mask, self.codes.dtype)) == end
        if to.infinity_code is not None:
            found["result infinite, of finite operands"] = (column.kind == INFINITE) & self.finite
        if to.has_nan:
            found["result NaN, of finite operands"] = (column.kind == NAN) & self.finite
        return found

    def orders(self, columns: Sequence[Array]) -> Masks:
        """Results that change with the place of a product, and with a second rounding."""
        function, unit, step = self.function, self.unit, step_of(self.function)
        found: Masks = {}
        if step > 1:
            found["products of a step exchanged, another result"] = self._differs(columns, 0, step - 1)
            if step > 2:
                found["neighbours exchanged, another result"] = self._differs(columns, 0, 1)
        if function.size > step:
            found["products of two steps exchanged, another result"] = self._differs(columns, step - 1, step)
        narrow = str(self.to) == "float16" and unit.kind in (Kind.ALIGNED, Kind.EXACT)
        if narrow and unit.rounding is Rounding.TIES_TO_EVEN and unit.addend == "early":
            found["rounded by way of binary32, another result"] = self._twice(columns)
        return found

    def _differs(self, columns: Sequence[Array], i: int, j: int) -> Array:
        """Whether two lanes exchanged give another result; NaNs are equal."""
        size = self.function.size
        lanes = np.arange(size)
        lanes[[i, j]] = lanes[[j, i]]
        moved = [np.asarray(x)[:, lanes] if np.ndim(x) == 2 and np.shape(x)[1] == size else x for x in columns]
        return self._other(self._of(moved))

    def _other(self, codes: Array) -> Array:
        assert self.to is not None
        return (codes != self.codes) & ~(is_nan(codes, self.to) & is_nan(self.codes, self.to))

    def _twice(self, columns: Sequence[Array]) -> Array:
        """Whether a binary32 accumulator, rounded to the result's format at the end, gives another one in one step."""
        assert self.to is not None
        wide: Any = scalar_format("float32")
        unit = replace(self.unit, accumulator=wide, addend_format=self.unit.c_format, nan=None)
        operands = Operands(self.function, columns, self.rules, None)
        operands.keep(step_of(self.function))
        once, twice = operands.results(self.unit), operands.results(unit)
        return (once != twice) & ~(is_nan(once, self.to) & is_nan(twice, self.to))
