"""Which dot-product units 32-bit integers can run, and what the kernels are told of a unit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

from numfmt import DotUnit
from numfmt._core.arithmetic import Frame
from numfmt._core.dot import Keep
from numfmt._core.parameters import BINARY32, Carrier, Round
from numfmt.kernels import (
    FixedFormat,
    FloatFormat,
    Format,
    Kind,
    Order,
    Overflow,
    Rounding,
    Rule,
    Rules,
    UnitPlan,
    holds,
    last_place,
    round_parameters,
    sum_bits,
    unit_plan,
)

Fmt = FloatFormat | FixedFormat
WORD = 31  # bits of an integer without its sign
TRAILING = 28  # where significands have their leading bits: even, and binary32 leaves four bits below
CARRIER = Carrier(
    bits=32, trailing=TRAILING, bias=0, sign_shift=31, magnitude_mask=2**31 - 1, infinity=0, hidden=1 << TRAILING,
    reach=30, steps=(16, 8, 4, 2, 1),
)  # fmt: skip
FRAME = Frame(CARRIER, TRAILING + 1 - 24, (), 0, 0)  # neither quotients nor roots
STAGES = 16  # bits of the low word of a sum that is cut twice
CUT = (Rounding.TOWARD_ZERO, Rounding.TOWARD_NEGATIVE)


@dataclass(frozen=True)
class To:
    """A format that sums are rounded to, and how.

    Attributes:
        positive: exact zeros are +0.
        downward: the sign of an exact zero of summands of both signs.
    """

    kept: Keep
    mode: Round
    positive: bool
    downward: int


@dataclass(frozen=True)
class Plan:
    """A unit for operands of two formats, in 32-bit integers.

    Attributes:
        own, late, product, promoted: roundings; None where the unit has none, or integers.
        alignment: how terms are rounded to their last bit, of integers how products are.
        digits: digits after the point of the product of two significands, and of scales that are no part of them.
        term_bits: bits of a term beside the largest one.
        specials: whether a product may be infinite or NaN.
        limited: whether a finite product may reach `product_limit`.
    """

    unit: DotUnit
    fa: Fmt
    fb: Fmt
    own: To | None
    late: To | None
    product: To | None
    promoted: To | None
    alignment: Round
    digits: int
    term_bits: int
    specials: bool
    limited: bool

    @property
    def start(self) -> Fmt:
        """The format of c."""
        return self.unit.promoted if self.unit.promote_every else self.unit.c_format

    def word(self, count: int) -> int:
        """Bits of the low word of a sum of so many terms; 0 where one word holds it."""
        return word_of(self.term_bits, count)


def word_of(bits: int, count: int) -> int:
    """Bits of the low word of a sum of `count` integers of so many bits; 0: one word is enough; -1: two are not."""
    more = count.bit_length()
    if bits + more <= WORD:
        return 0
    word = min(TRAILING + 1, WORD - more)
    return word if word >= 16 and bits + more - word <= WORD else -1


def trailing(fmt: Format) -> int:
    """Digits after the point of a significand; integers have none."""
    return fmt.trailing_bits if isinstance(fmt, FloatFormat) else 0


def digits(fmt: Format) -> int:
    """Bits of a significand."""
    return fmt.precision if isinstance(fmt, FloatFormat) else int(fmt.bits)


@lru_cache(maxsize=512)
def plan_of(unit: DotUnit, fa: Fmt, fb: Fmt, k: int | None = None) -> Plan:
    """How a unit works on operands of these formats, of length k where that is known.

    Raises:
        ValueError: what 32-bit integers do not hold.
    """
    _check_formats(unit, fa, fb)
    wide = unit_plan(unit, fa, fb)
    scaled = unit.scales and unit.group is None
    digits_, bits = trailing(fa) + trailing(fb), digits(fa) + digits(fb)
    if unit.group is not None:  # integers in units of the products' last place, and the scales' significands
        bits, digits_ = sum_bits(fa, fb, unit.group), -last_place(fa) - last_place(fb)
    if unit.scales:
        digits_, bits = digits_ + 2 * trailing(unit.scales[0]), bits + 2 * digits(unit.scales[0])
    alignment = unit.alignment if unit.kind is Kind.ALIGNED else unit.product_rounding
    mode = round_parameters(Rules(alignment, Overflow.SATURATE, Rule(), 0))
    both = (fa, fb)
    specials = any(isinstance(f, FloatFormat) and (f.has_nan or f.has_infinity) for f in (*both, *unit.scales))
    largest = max(fa.max, -fa.min) * max(fb.max, -fb.min)
    limited = unit.product_limit is not None and (bool(scaled) or largest >= 2**unit.product_limit)
    own, late, product, promoted = (_to(unit, wide, name) for name in ("own", "late", "product", "promoted"))
    term_bits = max(bits, bits + (unit.fraction or 0) - digits_)
    made = Plan(unit, fa, fb, own, late, product, promoted, mode, digits_, term_bits, specials, limited)
    _check(made, bits, k)
    return made


def _to(unit: DotUnit, wide: UnitPlan, name: str) -> To | None:
    """A rounding in 32-bit integers."""
    rounder = getattr(wide, name)
    if rounder is None:
        return None
    if rounder.kept is None:
        refuse(unit, f"its format {rounder.fmt} has no regular binades")
    kept = rounder.kept._replace(largest=rounder.kept.largest >> (wide.frame.carrier.trailing - TRAILING))
    return To(kept, rounder.mode, rounder.positive, rounder.downward)


def name_of(unit: DotUnit) -> str:
    """A unit in a few words."""
    from numfmt import get_unit, list_units

    found = next((name for name in list_units() if get_unit(name) == unit), None)
    return found or f"a unit of kind {unit.kind.value}"


def refuse(unit: DotUnit, why: str) -> NoReturn:
    """Raise ValueError: a unit is not for 32-bit integers."""
    raise ValueError(
        f"{name_of(unit)} is given; {why}, and numfmt_jax computes in two 32-bit integers: numfmt.matmul (NumPy) has it"
    )


def _check_formats(unit: DotUnit, fa: Fmt, fb: Fmt) -> None:
    if unit.is_stochastic:
        refuse(unit, f"it rounds {unit.rounding.value}, one random number a sum")
    every = [fa, fb, unit.c_format, unit.accumulator, unit.product, *unit.scales]
    every += [unit.promoted] if unit.promote_every else []
    for fmt in every:
        if isinstance(fmt, FloatFormat) and not holds(BINARY32, fmt):
            refuse(unit, f"binary32 does not hold all values of its {fmt}")
    for fmt in (fa, fb):
        if not holds(BINARY32, fmt):
            refuse(unit, f"binary32 does not hold all values of its {fmt}")


def _check(plan: Plan, bits: int, k: int | None) -> None:
    unit = plan.unit
    length = unit.length if unit.length is not None else k or 1
    length = min(length, k) if k else length
    match unit.kind:
        case Kind.ALIGNED:
            _check_aligned(plan, bits, -(-length // (unit.group or 1)) + 1)
        case Kind.EXACT:
            _check_exact(plan, length)
        case Kind.FIXED:
            _check_fixed(plan, length)


def _check_aligned(plan: Plan, bits: int, count: int) -> None:
    unit = plan.unit
    most = TRAILING + 2 if unit.alignment in CUT else TRAILING
    if bits > most:
        refuse(unit, f"a product of {plan.fa} and {plan.fb} takes {bits} bits of the {most} that it may have")
    if plan.word(count) < 0:
        refuse(unit, f"a sum of {count} terms of {plan.term_bits} bits takes more than 62 bits")
    two_sums = unit.order is Order.EVEN_ODD or unit.late_fraction is not None
    if two_sums and plan.word(count) > 0:
        refuse(unit, f"a sum of {count} terms of {plan.term_bits} bits, which is cut again, takes more than 31 bits")
    if unit.late_fraction is not None:
        common = max(unit.late_fraction, unit.fraction or 0)
        if plan.term_bits + count.bit_length() + common - (unit.fraction or 0) >= WORD + STAGES - 1:
            refuse(unit, f"a sum of {common} bits below the larger exponent takes more than {WORD + STAGES}")
    if unit.group is not None and plan.limited:
        refuse(unit, "it compares products in groups with a limit")


def _check_exact(plan: Plan, count: int) -> None:
    unit = plan.unit
    bits = sum_bits(plan.fa, plan.fb, count)
    if unit.scales:
        refuse(unit, "its scaled products are added without error")
    if bits > 2 * TRAILING:
        refuse(unit, f"a sum of {count} products of {plan.fa} and {plan.fb} without error takes {bits} bits")
    if unit.addend == "early":
        refuse(unit, "it adds products and accumulator without error")


def _check_fixed(plan: Plan, count: int) -> None:
    unit, fmt = plan.unit, plan.unit.accumulator
    assert isinstance(fmt, FixedFormat)
    low = last_place(plan.fa) + last_place(plan.fb)
    bits = sum_bits(plan.fa, plan.fb, count) + max(fmt.fraction_bits + low, 0)
    if unit.scales:
        refuse(unit, "its scaled products are integers of the accumulator's unit")
    if fmt.bits > 32 or (fmt.bits == 32 and not fmt.signed) or fmt.fraction_bits or bits > WORD:
        refuse(unit, f"a sum of {count} products of {bits} bits goes to {fmt}")
