"""Coverage classes that no operands of a unit reach, and why: facts of its formats, bounds of its sums, its order."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from ..carriers import floor_log2
from ..formats import FixedFormat, FloatFormat
from ..rounding import Overflow, Rounding
from ..unit_numbers import last_place, least_exponent
from ..units import Kind, Order
from .coverage_units import kept_bits, step_of
from .unit_functions import operand_formats
from .unit_reasons import INWARD, bounds_of, never_overflows

if TYPE_CHECKING:
    from .functions import Function

SAME_SUM = "a step's sum is the same in every order"


@lru_cache(maxsize=256)
def unreachable(function: Function) -> dict[str, str]:
    """Classes of `coverage_units.dot` that a function cannot reach, each with its reason.

    >>> from numfmt.vectors import parse
    >>> unreachable(parse("h100.e4m3_dot48"))["neighbours exchanged, another result"]
    "a step's sum is the same in every order"
    """
    return dict([*_ranges(function), *_orders(function), *_zeros(function), *_spans(function)])


def _ranges(function: Function) -> Iterator[tuple[str, str]]:
    """Results beyond the largest value, and below the least."""
    unit, bounds = function.unit, bounds_of(function)
    assert unit is not None
    if unit.product_limit is not None and bounds.product < 2**unit.product_limit:
        yield "a product at its limit", f"no product reaches 2^{floor_log2(bounds.product) + 1}"
    if isinstance(unit.accumulator, FixedFormat):
        return
    shallow = (unit.fraction or 0) < unit.accumulator.precision - 1 and unit.addend == "early"
    if unit.kind is Kind.ALIGNED and shallow and not unit.promote_every and never_overflows(function):
        yield (
            "result the largest finite",
            f"c keeps {unit.fraction} bits below its first one, fewer than that value has",
        )
    finite = _always_finite(function)
    if finite:
        yield "result infinite, of finite operands", finite
        yield "result NaN, of finite operands", finite
    elif unit.addend == "early" and unit.product is None and unit.kind in (Kind.ALIGNED, Kind.EXACT, Kind.CHAIN):
        if unit.promote_every is None and unit.product_limit is None:
            yield "result NaN, of finite operands", "beside an infinite sum there are only finite products"
    if unit.flush_results and not unit.promote_every:
        yield "result subnormal", "subnormal results are flushed"


def _always_finite(function: Function) -> str:
    """Why finite operands give finite results."""
    unit = function.unit
    assert unit is not None
    if unit.overflow is Overflow.SATURATE and not unit.promote_every and unit.product_limit is None:
        return "sums saturate"
    limited = unit.product_limit is not None and bounds_of(function).product >= 2**unit.product_limit
    used = {unit.rounding, unit.late_rounding or unit.rounding, unit.product_rounding}
    if not limited and used <= set(INWARD) and never_overflows(function):
        return "the products of a row come to less than half a last place of the largest value"
    return ""


def _orders(function: Function) -> Iterator[tuple[str, str]]:
    unit, step = function.unit, step_of(function)
    assert unit is not None
    free = unit.kind in (Kind.ALIGNED, Kind.EXACT, Kind.FIXED) and unit.order is Order.SEQUENTIAL
    scaled = unit.scale_blocks[0] if unit.scales else function.size
    together = min(scaled, unit.group or function.size)
    if free and (step <= together or not (unit.group or unit.scales)):
        yield "products of a step exchanged, another result", SAME_SUM
    if free and together > 1:
        yield "neighbours exchanged, another result", SAME_SUM
    if unit.kind is Kind.TREE:
        yield "neighbours exchanged, another result", "the sum of two neighbours is the same in both orders"
        if step == 2:
            yield "products of a step exchanged, another result", "the sum of two is the same in both orders"
    if unit.kind is Kind.FIXED and unit.overflow is Overflow.WRAP:
        yield "products of two steps exchanged, another result", "integers modulo a power of two have no order"
    bits = (unit.fraction or 0) + 2 + (step + 1).bit_length()
    if unit.kind is Kind.ALIGNED and unit.group is None and bits <= 24:
        yield "rounded by way of binary32, another result", f"sums have at most {bits} digits, which binary32 holds"


def _zeros(function: Function) -> Iterator[tuple[str, str]]:
    """Results of -0."""
    unit, bounds = function.unit, bounds_of(function)
    assert unit is not None
    acc = unit.accumulator
    if isinstance(acc, FixedFormat):
        return
    downward = Rounding.TOWARD_NEGATIVE in (unit.rounding, unit.late_rounding)
    if unit.kind is Kind.NEUMAIER and not downward and not unit.flush_results:
        yield "result -0", "the compensation starts at +0 and never becomes -0"
    fresh = unit.kind is Kind.CHAIN and unit.addend == "late" and not downward
    settled = function.size > step_of(function) if unit.flush_results else True
    if fresh and settled and bounds.place >= (least_exponent(acc) if unit.flush_results else last_place(acc)):
        yield "result -0", "a step's sum of products is never -0, and adding it to an accumulator of -0 gives +0"
    several = function.size > step_of(function)  # then the last step's accumulator is of its own format, not of c's
    c = acc if several else unit.c_format
    place = bounds.place if unit.promote_every else min(bounds.place, last_place(c))
    if unit.kind is Kind.ALIGNED:
        lowest = bounds.exponent if unit.promote_every else min(bounds.exponent, least_exponent(c))
        lowest = lowest if unit.zero_exponent is None else max(lowest, unit.zero_exponent)
        place = max(place, lowest - (unit.fraction or 0))
    if unit.zero == "positive" and not unit.flush_results and place >= last_place(acc):
        yield "result -0", f"sums are +0, or at least 2^{place}, which the accumulator has"


def _spans(function: Function) -> Iterator[tuple[str, str]]:
    """Products of a step that lie too close together."""
    unit = function.unit
    assert unit is not None
    block = unit.scale_blocks[0] if unit.scales else function.size
    if any(isinstance(fmt, FixedFormat) for fmt in operand_formats(function)):
        if all(isinstance(fmt, FixedFormat) for fmt in operand_formats(function)):
            yield "every other product lost", "integers have one exponent, and all of their products are the largest"
        return
    if step_of(function) > block:
        return
    low = high = 0
    for fmt in operand_formats(function):
        assert isinstance(fmt, FloatFormat)
        low, high = low + floor_log2(fmt.min_positive), high + floor_log2(fmt.max)
    if high - low <= kept_bits(unit):
        yield "every other product lost", f"products of a step are at most 2^{high - low} apart"
