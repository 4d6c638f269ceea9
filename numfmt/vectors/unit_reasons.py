"""Why a change of a unit cannot matter for operands of given formats and so many products: proofs from exact bounds.

A reason is given only where one is proved, by one of these facts about every row that a function can have:

- A parameter is not read there: steps of chains from an early accumulator, roundings of integers, scales without sign.
- Two spellings mean one thing: a late rounding that is the unit's own, overflow to infinity of roundings to nearest.
- Every nonzero term has an exponent of at least so much: a lower bound of the alignment exponent decides nothing.
- Sums of products stay below half a last place of the largest value, so that nothing overflows.
- Products are exact in a format, or multiples of its least value, so that rounding or flushing them changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..carriers import floor_log2
from ..formats import FixedFormat, FloatFormat
from ..rounding import Overflow, Rounding
from ..unit_numbers import last_place, least_exponent
from ..units import DotUnit, Kind, Order
from .unit_functions import operand_formats

if TYPE_CHECKING:
    from .functions import Function
    from .unit_mutants import Mutant

TWO = Fraction(2)
NEAREST = (Rounding.TIES_TO_EVEN, Rounding.TIES_TO_AWAY, Rounding.TIES_TO_ZERO, Rounding.TIES_TO_ODD)
OUTWARD = (*NEAREST, Rounding.AWAY_FROM_ZERO)  # roundings whose overflow is infinite, of both signs
INWARD = (*NEAREST, Rounding.TOWARD_ZERO)  # those that no part of less than half a last place takes outward


@dataclass(frozen=True)
class Bounds:
    """What holds of every row.

    Attributes:
        exponent: least nominal exponent of a nonzero term.
        place: every product, with its scales, is a multiple of 2**place.
        product: largest magnitude of a product, with its scales.
        digits: significant digits that a product may have.
        total: largest magnitude of a sum of products.
    """

    exponent: int
    place: int
    product: Fraction
    digits: int
    total: Fraction


@lru_cache(maxsize=256)
def bounds_of(function: Function) -> Bounds:
    """The bounds of a function's rows.

    >>> from numfmt.vectors import parse
    >>> found = bounds_of(parse("h100.e4m3_dot48"))
    >>> found.exponent, found.place, int(found.product), found.digits
    (-12, -18, 200704, 8)
    """
    unit = function.unit
    assert unit is not None
    formats = operand_formats(function)
    scales = unit.scales * 2
    exponent = sum(map(least_exponent, scales if unit.group is not None else (*formats, *scales)))
    place = sum(map(last_place, (*formats, *scales)))
    product = Fraction(1)
    for fmt in (*formats, *scales):
        product *= max(fmt.max, -fmt.min)
    digits = sum(fmt.precision if isinstance(fmt, FloatFormat) else fmt.bits for fmt in (*formats, *scales))
    return Bounds(exponent, place, product, digits, product * function.size)


def reason(function: Function, mutant: Mutant) -> str:
    """Why a mutant gives what the unit gives, whatever the operands; "" where that is not proved.

    >>> from numfmt.vectors import parse
    >>> from numfmt.vectors.unit_mutants import mutants
    >>> f = parse("h100.e4m3_dot48")
    >>> next(reason(f, m) for m in mutants(f) if m.parameter == "zero_exponent")
    'no term has an exponent below -126, and E is never lower'
    """
    assert function.unit is not None
    rule = RULES.get(mutant.parameter)
    return "" if rule is None else rule(function, function.unit, mutant.unit)


# ---- steps and order -------------------------------------------------------------------------------------------


def _length(function: Function, unit: DotUnit, other: DotUnit) -> str:
    if min(unit.length or function.size, function.size) == min(other.length or function.size, function.size):
        return f"a step of all {function.size} products is one of more"
    in_order = unit.kind is Kind.CHAIN and unit.addend == "early"
    if in_order and unit.order is Order.SEQUENTIAL:
        return "a chain from the accumulator takes one product after the other, whatever the step"
    if in_order and not ((unit.length or 2) % 2 or (other.length or 2) % 2):
        return "steps of an even number of products leave the pairs of the order as they are"
    if unit.kind is Kind.FIXED and unit.overflow is Overflow.WRAP:
        return "integers modulo a power of two are the same sum however they are grouped"
    return ""


def _order(function: Function, unit: DotUnit, other: DotUnit) -> str:
    return "a step of one product has no order" if unit.length == 1 or function.size == 1 else ""


def _promotion(function: Function, unit: DotUnit, other: DotUnit) -> str:
    both = [each.promote_every or function.size for each in (unit, other)]
    none = unit.promote_every is None or other.promote_every is None
    return f"{function.size} products are one stretch" if min(both) >= function.size and not none else ""


# ---- exponents -------------------------------------------------------------------------------------------------


def _zero_exponent(function: Function, unit: DotUnit, other: DotUnit) -> str:
    least = bounds_of(function).exponent
    acc = min(least_exponent(unit.c_format), least_exponent(unit.accumulator))
    if unit.addend == "early" or unit.late_fraction is not None:
        least = min(least, acc)
    highest = max(e for e in (unit.zero_exponent, other.zero_exponent) if e is not None)
    if highest <= least:
        return f"no term has an exponent below {least}, and E is never lower"
    place = bounds_of(function).place
    if unit.addend == "early":
        place = min(place, last_place(unit.c_format), last_place(unit.accumulator))
    last = highest - (unit.fraction or 0)
    if unit.late_fraction is None and last <= place:
        return f"every term is a multiple of 2^{place}, and the lowest E in question keeps all down to 2^{last}"
    return ""


def _product_limit(function: Function, unit: DotUnit, other: DotUnit) -> str:
    largest = bounds_of(function).product
    limits = [n for n in (unit.product_limit, other.product_limit) if n is not None]
    return f"no product reaches 2^{floor_log2(largest) + 1}" if largest < TWO ** min(limits) else ""


# ---- roundings -------------------------------------------------------------------------------------------------


def _rounding(function: Function, unit: DotUnit, other: DotUnit) -> str:
    return "sums of integers are exact: nothing is rounded" if unit.kind is Kind.FIXED else ""


def _late_rounding(function: Function, unit: DotUnit, other: DotUnit) -> str:
    same = (unit.late_rounding or unit.rounding) is (other.late_rounding or other.rounding)
    return "it is the unit's own rounding, which late sums have anyway" if same else ""


def _product_rounding(function: Function, unit: DotUnit, other: DotUnit) -> str:
    bounds, to = bounds_of(function), unit.product
    if isinstance(unit.accumulator, FixedFormat):
        exact = bounds.place >= last_place(unit.accumulator)
        return "products are multiples of the accumulator's unit: nothing is rounded" if exact else ""
    if to is None:
        return ""
    if products_are_exact(bounds, to):
        return f"every product is exact in {to}"
    outward = unit.overflow is not None or {unit.product_rounding, other.product_rounding} <= set(OUTWARD)
    if unit.flush_results and bounds.digits < to.precision and outward and to.has_infinity:
        return f"normal products are exact in {to}, smaller ones are flushed, larger ones overflow alike"
    return ""


def products_are_exact(bounds: Bounds, fmt: FloatFormat) -> bool:
    """Whether a format has every finite product."""
    return bounds.digits <= fmt.precision and bounds.place >= last_place(fmt) and bounds.product <= fmt.max


def _product(function: Function, unit: DotUnit, other: DotUnit) -> str:
    bounds = bounds_of(function)
    rounded = [fmt for fmt in (unit.product, other.product) if fmt is not None]
    if all(products_are_exact(bounds, fmt) for fmt in rounded):
        return f"every product is exact in {' and '.join(dict.fromkeys(map(str, rounded)))}, fused or not"
    return ""


# ---- the ends of the range -------------------------------------------------------------------------------------


def _overflow(function: Function, unit: DotUnit, other: DotUnit) -> str:
    acc = unit.accumulator
    used = [unit.rounding, unit.late_rounding or unit.rounding]
    used += [unit.product_rounding] if unit.product is not None else []
    if isinstance(acc, FloatFormat) and acc.has_infinity:
        two = {unit.overflow, other.overflow} == {None, Overflow.INFINITY}
        products = unit.product is None or unit.product.has_infinity
        if two and products and set(used) <= set(OUTWARD):
            return f"overflow is infinite with {' and '.join(dict.fromkeys(m.value for m in used))} anyway"
    if isinstance(acc, FixedFormat):
        same = {unit.overflow, other.overflow} == {None, Overflow.SATURATE}
        return "integers saturate where nothing else is said" if same else ""
    if not set(used) <= set(INWARD):
        return ""
    if never_overflows(function):
        return "the products of a row come to less than half a last place of the largest value: nothing overflows"
    return ""


def never_overflows(function: Function) -> bool:
    """Whether sums stay in range: what is added to an accumulator is less than half a last place of its largest value.

    Roundings to nearest and toward zero then leave the largest value as it is. Partial sums that are rounded on their
    way count twice. A floor of aligned terms adds a unit of the last bit that it keeps.
    """
    unit = function.unit
    assert unit is not None
    acc = unit.accumulator
    if not isinstance(acc, FloatFormat):
        return False
    top, total = floor_log2(acc.max), 2 * bounds_of(function).total
    half = TWO ** (top - acc.precision)
    if unit.late_fraction is not None:
        total += TWO ** (top - unit.late_fraction)
    if unit.late_fraction is not None and (unit.fraction or 0) < acc.precision - 1:
        return False
    if unit.kind is Kind.ALIGNED and unit.alignment is not Rounding.TOWARD_ZERO:
        return False
    fitting = unit.product is None or bounds_of(function).product <= unit.product.max
    return total < half and fitting and unit.c_format.max <= max(acc.max, _extended(unit))


def _extended(unit: DotUnit) -> Fraction:
    """The largest c that an early aligned sum takes without leaving the accumulator's range: truncated, it fits."""
    acc, c = unit.accumulator, unit.c_format
    assert isinstance(acc, FloatFormat)
    same = isinstance(c, FloatFormat) and floor_log2(c.max) == floor_log2(acc.max)
    fits = unit.rounding is Rounding.TOWARD_ZERO or (unit.fraction or 0) < acc.precision
    early = unit.kind is Kind.ALIGNED and unit.addend == "early" and fits
    return c.max if same and early else acc.max


def _flush_results(function: Function, unit: DotUnit, other: DotUnit) -> str:
    acc, bounds = unit.accumulator, bounds_of(function)
    if not isinstance(acc, FloatFormat):
        return ""
    if {unit.flush_results, other.flush_results} == {True, "tiny"}:
        exact = unit.product is not None and bounds.digits < unit.product.precision
        if bounds.place >= last_place(acc) or (exact and last_place(unit.product or acc) >= last_place(acc)):
            return "subnormal results are exact, so that tininess is the same before and after rounding"
    # A sum t of products is a multiple of 2^place, and c is normal: below |t| / 2 it leaves t / 2, above it has a last
    # place of its own that both are multiples of.
    far = bounds.place - 1 - (acc.precision - 1) > least_exponent(acc)
    rounded = unit.product is None or products_are_exact(bounds, unit.product)
    if unit.flush_inputs and far and rounded and not unit.scales:
        return "subnormal accumulators are flushed, and sums of such products and normal ones are never so small"
    return ""


def _flush_inputs(function: Function, unit: DotUnit, other: DotUnit) -> str:
    formats = (*operand_formats(function), unit.c_format)
    has = [fmt for fmt in formats if isinstance(fmt, FloatFormat) and fmt.has_subnormals]
    return "" if has else "no operand has subnormals"


# ---- zeros, scales, NaNs ---------------------------------------------------------------------------------------


def _zero(function: Function, unit: DotUnit, other: DotUnit) -> str:
    acc = unit.accumulator
    if isinstance(acc, FixedFormat):
        return "integers have one zero"
    downward = Rounding.TOWARD_NEGATIVE in (unit.rounding, unit.late_rounding)
    if unit.kind is Kind.NEUMAIER and not downward and not unit.flush_results:
        return "the compensation starts at +0 and never becomes -0, so that the last addition gives no -0"
    fresh = unit.promote_every is not None or (unit.kind is Kind.CHAIN and unit.addend == "late")
    place = bounds_of(function).place
    if unit.kind is Kind.ALIGNED:
        place = min(place, bounds_of(function).exponent - (unit.fraction or 0))
    keeps = place >= (least_exponent(acc) if unit.flush_results else last_place(acc))
    if fresh and keeps and not downward:
        return "sums of products start at +0 and never round to zero, so that none is -0"
    return ""


def _scale_signs(function: Function, unit: DotUnit, other: DotUnit) -> str:
    return "" if unit.scales[0].signed else f"{unit.scales[0]} has no sign"


def _nan(function: Function, unit: DotUnit, other: DotUnit) -> str:
    return "" if unit.nan_rule == "canonical" else f"nan_rule={unit.nan_rule} chooses the bits of every NaN"


RULES: dict[str, Any] = {
    "length": _length, "order": _order, "promote_every": _promotion, "zero_exponent": _zero_exponent,
    "product_limit": _product_limit, "rounding": _rounding, "late_rounding": _late_rounding,
    "product_rounding": _product_rounding, "product": _product, "overflow": _overflow,
    "flush_results": _flush_results, "flush_inputs": _flush_inputs, "zero": _zero, "scale_signs": _scale_signs,
    "nan": _nan,
}  # fmt: skip
