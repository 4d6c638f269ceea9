"""Dot-product units: what a matrix unit makes of a[0] b[0] + a[1] b[1] + ... + c, stated on exact fractions.

    dot(unit, a, b, c) = the code of the accumulator after the last step

A unit is any object with the attributes of numfmt's DotUnit; formats and modes are read by their names. Operands are
codes. A step takes `length` products and the accumulator; `spec.unit_steps` says what each kind of unit makes of them.
All rounding to formats is done by `spec.oracle`; only the choice at the ends of the range is the unit's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import cache
from types import SimpleNamespace
from typing import Any, NamedTuple

from spec.arithmetic import integers, mul
from spec.binary32 import is_infinite, is_nan, is_negative, magnitude, with_sign
from spec.formats import FixedFormat, FloatFormat, Format, Value, floor_log2, power_of_two
from spec.names import float_format, get
from spec.nan_rules import Operand, quieted, read
from spec.oracle import encode, value
from spec.unit_steps import (
    KINDS,
    ZERO,
    Rounder,
    Term,
    aligned,
    aligned_term,
    digits_lost,
    exact_sum,
    flushed,
    number,
)


class Lane(NamedTuple):
    """The product of one a[k] and b[k], and that of their scales."""

    a: Operand
    b: Operand
    product: Term
    scale: Term


class Step(NamedTuple):
    """What a trace tells of one step."""

    accumulator: int
    exponent: int | None = None  # E of aligned sums, where there is one
    lost: tuple[int, ...] = ()  # digits that each term lost when it was aligned
    swamped: tuple[bool, ...] = ()  # whether it was not zero, and became zero


# ---- the unit, in the words of spec -------------------------------------------------------------------------------

FORMATS = ("accumulator", "addend_format", "product", "promoted")
MODES = ("kind", "order", "rounding", "overflow", "late_rounding", "product_rounding", "alignment")
OTHERS = (
    "length", "addend", "fraction", "zero_exponent", "late_fraction", "late_reach", "group", "scale_blocks",
    "scale_signs", "promote_every", "flush_inputs", "flush_results", "product_limit", "zero", "nan", "nan_rule",
)  # fmt: skip


@cache
def format_named(name: str) -> Format:
    """A named format, an integer, or e{E}m{M}: a float of that shape with IEEE 754's bias and specials."""
    try:
        return get(name)
    except ValueError:
        if re.fullmatch(r"u?int\d+", name):
            return integers(name)
        if found := re.fullmatch(r"e(\d+)m(\d+)", name):
            return float_format(int(found[1]), int(found[2]), name=name)
        raise


def format_of(fmt: Any) -> Format:
    return fmt if isinstance(fmt, Format) else format_named(str(fmt))


def unit_of(unit: Any) -> SimpleNamespace:
    """The parameters: formats as spec's, modes as words."""
    plain = {name: getattr(unit, name) for name in OTHERS}
    plain |= {name: _word(getattr(unit, name)) for name in MODES}
    plain |= {name: _format_or_none(getattr(unit, name)) for name in FORMATS}
    plain["inputs"] = [format_of(fmt) for fmt in unit.inputs]
    plain["scales"] = [format_of(fmt) for fmt in unit.scales]
    return SimpleNamespace(**plain)


def _word(mode: Any) -> str | None:
    return None if mode is None else str(getattr(mode, "value", mode))


def _format_or_none(fmt: Any) -> Format | None:
    return None if fmt is None else format_of(fmt)


# ---- operands -----------------------------------------------------------------------------------------------------


def least_exponent(fmt: Format) -> int:
    """The exponent of the smallest normal number; that of the quantum in fixed point."""
    if isinstance(fmt, FixedFormat):
        return floor_log2(fmt.quantum)
    assert isinstance(fmt, FloatFormat)
    return floor_log2(fmt.min_normal)


def nominal_exponent(x: Value, fmt: Format) -> int:
    """That of the code's exponent field: a subnormal has the least one, as has every fixed-point number."""
    if not isinstance(x, Fraction) or x == 0 or isinstance(fmt, FixedFormat):
        return least_exponent(fmt)
    return max(floor_log2(abs(x)), least_exponent(fmt))


def term(x: Value, fmt: Format) -> Term:
    return Term(x, nominal_exponent(x, fmt))


def limited(x: Value, limit: int | None) -> Value:
    """A product, or infinity from 2^limit on."""
    if limit is None or magnitude(x) == "nan" or is_infinite(x) or magnitude(x) < power_of_two(limit):
        return x
    return with_sign("inf", is_negative(x))


def lane(u: SimpleNamespace, a: Operand, b: Operand, scale: Term) -> Lane:
    x, y = (flushed(operand.value, operand.format, u.flush_inputs) for operand in (a, b))
    exponent = nominal_exponent(x, a.format) + nominal_exponent(y, b.format)
    return Lane(a, b, Term(limited(mul(x, y), u.product_limit), exponent), scale)


def scale_terms(u: SimpleNamespace, count: int, scales: Any, formats: Sequence[Format]) -> list[Term]:
    """For each k the product of the two scales of its block; 1 in units without scales."""
    if scales is None:
        return [Term(Fraction(1), 0)] * count
    block = next(size for size in u.scale_blocks if -(-count // size) == len(scales[0]) == len(scales[1]))
    both = [[_scale(u, code, fmt) for code in codes] for codes, fmt in zip(scales, formats, strict=True)]
    blocks = [Term(mul(x.value, y.value), x.exponent + y.exponent) for x, y in zip(*both, strict=True)]
    return [blocks[k // block] for k in range(count)]


def _scale(u: SimpleNamespace, code: int, fmt: Format) -> Term:
    x = value(code, fmt)
    return term(x if u.scale_signs else magnitude(x), fmt)


def lanes_of(u: SimpleNamespace, a: Sequence[int], b: Sequence[int], formats: Any, scales: Any) -> list[Lane]:
    """`formats`: of a and b, and of their scales where these are not the first of the unit's."""
    given = [format_of(fmt) for fmt in formats or (u.inputs[0], u.inputs[0])]
    scale_formats = given[2:] or u.scales[:1] * 2
    if len(a) != len(b):
        raise ValueError(f"a and b are of one length; given {len(a)} and {len(b)}")
    both = zip(a, b, scale_terms(u, len(a), scales, scale_formats), strict=True)
    return [lane(u, read(x, given[0]), read(y, given[1]), scale) for x, y, scale in both]


def terms_of(u: SimpleNamespace, lanes: Sequence[Lane]) -> list[Term]:
    """The summands of a step: scaled products, or scaled exact sums of groups, whose exponent is that of the scales."""
    if u.group is None:
        return [Term(mul(p.value, scale.value), p.exponent + scale.exponent) for _, _, p, scale in lanes]
    groups = [lanes[k : k + u.group] for k in range(0, len(lanes), u.group)]
    sums = [exact_sum([each.product.value for each in group], u.rounding, u.zero) for group in groups]
    return [Term(mul(p, g[0].scale.value), g[0].scale.exponent) for p, g in zip(sums, groups, strict=True)]


# ---- NaN ----------------------------------------------------------------------------------------------------------


def canonical_nan(u: SimpleNamespace, fmt: Format) -> int:
    """The unit's pattern, which may be one of a wider format than the accumulator's, or the format's canonical NaN."""
    return encode("nan", fmt) if u.nan is None else u.nan


def x86_nan(u: SimpleNamespace, lanes: Sequence[Lane], acc: Operand) -> int:
    """Of VDPBF16PS: the first NaN operand, quieted, of the even pair, the odd pair and the accumulator, a before b.

    Where there is none, the default NaN, whose sign is set.
    """
    fmt = u.accumulator
    for operand in [*(x for each in lanes for x in (each.a, each.b)), acc]:
        if operand.value == "nan":
            return quieted(operand, fmt)
    return fmt.nan_code + 2 ** (fmt.bits - 1) if u.nan is None else u.nan


# ---- steps, stretches, dots ---------------------------------------------------------------------------------------


def step_lengths(u: SimpleNamespace, count: int) -> list[int]:
    """How many products each step takes; without products there is one step of none."""
    length = count if u.length is None or u.kind in ("kahan", "neumaier") else u.length  # these carry more than a sum
    if count == 0:
        return [0]
    return [min(length, count - start) for start in range(0, count, length)]


def stretch(u: SimpleNamespace, round_: Rounder, lanes: list[Lane], acc: Operand,
            trace: list[Step] | None) -> Operand:
    """The accumulator after all steps."""
    start = 0
    for length in step_lengths(u, len(lanes)):
        taken, exponent, start = lanes[start : start + length], None, start + length
        terms = terms_of(u, taken)
        if u.kind == "aligned":
            total, exponent = aligned(u, round_, terms, term(acc.value, acc.format))
        else:
            total = KINDS[u.kind](u, round_, [t.value for t in terms], acc.value)
        acc = accumulator_of(u, total, taken, acc)
        if trace is not None:
            trace.append(traced(u, acc.code, terms, exponent))
    return acc


def traced(u: SimpleNamespace, code: int, terms: list[Term], exponent: int | None) -> Step:
    """Even and odd products that are aligned apart have exponents of their own: only the larger one is told."""
    if u.kind != "aligned" or u.order == "even_odd":
        return Step(code, exponent)
    if exponent is None:
        return Step(code, None, (0,) * len(terms), (False,) * len(terms))
    lost = tuple(digits_lost(t.value, exponent - u.fraction) for t in terms)
    swamped = tuple(bool(number(t.value)) and aligned_term(u, t.value, exponent) == 0 for t in terms)
    return Step(code, exponent, lost, swamped)


def accumulator_of(u: SimpleNamespace, total: Value, lanes: Sequence[Lane], before: Operand) -> Operand:
    """The accumulator that a sum is, with the pattern of its NaN."""
    fmt = u.accumulator
    if not is_nan(total):
        return Operand(encode(total, fmt), fmt, total, False)
    code = x86_nan(u, lanes, before) if u.nan_rule == "x86.vdpbf16ps" else canonical_nan(u, fmt)
    return Operand(code, fmt, "nan", False)


def promoted(u: SimpleNamespace, round_: Rounder, lanes: list[Lane], c: Value, trace: list[Step] | None) -> int:
    """The dots of stretches, each from zero, added in the wider format."""
    fmt, found, zero = u.promoted, c, Operand(0, u.accumulator, ZERO, False)
    for start in range(0, len(lanes), u.promote_every):
        part = stretch(u, round_, lanes[start : start + u.promote_every], zero, trace).value
        found = value(encode(exact_sum([found, part], "ties_to_even", "ieee"), fmt, "ties_to_even", None), fmt)
        found = flushed(found, fmt, "signed" if u.flush_results else None)
    return canonical_nan(u, fmt) if is_nan(found) else encode(found, fmt)


def dot(unit: Any, a: Sequence[int], b: Sequence[int], c: int | None = None, formats: Any = None, scales: Any = None,
        random: Iterable[int] | None = None, trace: list[Step] | None = None, random_bit_count: int = 32) -> int:
    """The code of the unit's result, or the pattern of its NaN.

    a, b, c and both lists of `scales` are codes; `formats` those of a and b (and of their scales), without which they
    are the unit's first. Of the numbers in `random` every stochastic rounding takes the next, in the order of the
    operations: where even and odd products have sums of their own, those of the even ones come first. A list given as
    `trace` gets a Step for each step.
    """
    u = unit_of(unit)
    lanes, round_ = lanes_of(u, a, b, formats, scales), Rounder(u, random, random_bit_count)
    c_format = u.promoted if u.promote_every else u.addend_format or u.accumulator
    acc = Operand(0, c_format, ZERO, False) if c is None else read(c, c_format)
    if u.promote_every:
        return promoted(u, round_, lanes, acc.value, trace)
    acc = acc._replace(value=flushed(acc.value, u.accumulator, u.flush_inputs))
    return stretch(u, round_, lanes, acc, trace).code
