"""How a dot-product unit works on operands of two formats: its roundings, and what it cannot hold."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._core import arithmetic as core
from ._core import dot
from ._core.arithmetic import Frame
from ._core.dot import Keep
from ._core.parameters import Results, Round
from .arithmetic_plans import FRAMES, ResultPlan, frame_name, precision_of, result_plan
from .carriers import floor_log2, signed
from .engines import NUMPY
from .formats import FixedFormat, FloatFormat, Subnormals
from .plans import round_parameters
from .rounding import Overflow, Rounding, Rule
from .specials import Rules
from .unit_numbers import Fmt, Numbers, read, sum_bits
from .units import DotUnit, Kind

Array = npt.NDArray[Any]
Outcomes = Any  # `Outcome` of arrays
SUM_BITS = 57  # of sums that settle without loss
LONGEST = 60  # bits of aligned sums, with a digit more below them


@dataclass(frozen=True)
class Rounder:
    """Exact results rounded to a float format, as numbers again.

    Attributes:
        kept: the format as `keep` takes it; None where only its codes tell what its values are.
        positive: exact zeros are +0.
    """

    fmt: FloatFormat
    frame: Frame
    plan: ResultPlan
    kept: Keep | None
    flush: bool
    positive: bool

    @property
    def mode(self) -> Round:
        """The rounding as data."""
        return self.plan.mode

    @property
    def downward(self) -> int:
        """The sign of an exact zero of summands of both signs."""
        return self.mode.sign & (1 - self.mode.nearest) & (1 - self.mode.flip)

    def rounded(self, out: Outcomes, random: Array | None = None) -> Numbers:
        """Exact results as numbers of the format."""
        if self.positive:
            zero = (out.m == 0) & ~out.infinite & ~out.nan
            out = out._replace(negative=np.where(zero, 0, out.negative))
        if self.kept is not None:
            number: Numbers = dot.keep(out, random, self.frame.carrier, self.kept, self.mode, xp=NUMPY)
            return number
        return read(self.code(out, random), self.fmt, self.frame)

    def code(self, out: Outcomes, random: Array | None = None) -> Array:
        """Codes of exact results."""
        p = self.plan
        code, _ = core.deliver(
            out, random, self.frame, p.target, p.gap, p.results, p.mode, p.raised, p.general, xp=NUMPY
        )
        if self.flush:
            magnitude = code & self.fmt.magnitude_mask
            code = np.where(magnitude < 1 << self.fmt.trailing_bits, code ^ magnitude, code)
        return np.asarray(code)

    def add(self, a: Numbers, b: Numbers, random: Array | None = None) -> Numbers:
        """a + b."""
        return self.rounded(core.add(a, b, self.frame, self.mode, xp=NUMPY), random)

    def multiply(self, a: Numbers, b: Numbers, random: Array | None = None) -> Numbers:
        """a × b."""
        return self.rounded(core.multiply(a, b, self.frame, self.mode, xp=NUMPY), random)

    def fma(self, a: Numbers, b: Numbers, c: Numbers, random: Array | None = None) -> Numbers:
        """a × b + c."""
        return self.rounded(core.fma(a, b, c, self.frame, self.mode, xp=NUMPY), random)

    def itself(self, a: Numbers) -> Numbers:
        """a in this format."""
        return self.rounded(core.itself(a, self.frame, self.mode, xp=NUMPY))


def rounder(
    fmt: FloatFormat, rounding: Rounding, overflow: Overflow | None, frame: Frame, unit: DotUnit, bits: int
) -> Rounder:
    """How a unit rounds to a format."""
    rules = Rules(rounding, overflow or _default(fmt), Rule(), bits if rounding.is_stochastic else 0)
    plan = result_plan(fmt, rules, frame, True)
    if overflow is not None and fmt.infinity_code is not None:
        infinity = (signed(fmt.infinity_code, 64), signed(fmt.infinity_code | fmt.sign_mask, 64))
        beyond = infinity if overflow is Overflow.INFINITY else (plan.results.overflow, plan.results.negative_overflow)
        results = Results(*beyond, *infinity, *plan.results[4:])
        plan = ResultPlan(frame, plan.target, plan.gap, results, plan.mode, plan.raised, plan.general)
    return Rounder(fmt, frame, plan, kept(fmt, plan, unit), bool(unit.flush_results), unit.zero == "positive")


def _default(fmt: FloatFormat) -> Overflow:
    assert fmt.default_overflow is not None
    return fmt.default_overflow


def kept(fmt: FloatFormat, plan: ResultPlan, unit: DotUnit) -> Keep | None:
    """A format of regular binades as `keep` takes it."""
    if not fmt.signed or fmt.subnormals is not Subnormals.GRADUAL or plan.gap is not None or not fmt.has_negative_zero:
        return None
    mask, nan = 2**fmt.bits - 1, fmt.nan_code

    def beyond(code: int) -> int:
        magnitude = code & mask & fmt.magnitude_mask
        return 0 if magnitude <= fmt.max_code else 1 if magnitude == fmt.infinity_code else 2

    emax = floor_log2(fmt.max)
    largest = int(fmt.max / Fraction(2) ** (emax - plan.frame.carrier.trailing))
    ends = beyond(plan.results.overflow), beyond(plan.results.negative_overflow)
    assert nan is not None or 2 not in ends
    flush = 2 if unit.flush_results == "tiny" else int(unit.flush_results)
    return Keep(
        fmt.precision, floor_log2(fmt.min_normal), emax, largest, *ends, int(fmt.infinity_code is not None), flush
    )


class Plan(NamedTuple):
    """A unit for operands of two formats."""

    unit: DotUnit
    fa: Fmt
    fb: Fmt
    frame: Frame
    own: Any  # `Rounder` of the accumulator; None of a fixed-point one
    late: Any  # of the late sum
    product: Any
    promoted: Any
    alignment: Round


@lru_cache(maxsize=512)
def plan_of(unit: DotUnit, fa: Fmt, fb: Fmt, random_bit_count: int = 32) -> Plan:
    """How a unit works on operands of these formats."""
    every = [
        fa,
        fb,
        unit.c_format,
        unit.accumulator,
        unit.promoted,
        *([unit.product] if unit.product else []),
        *unit.scales,
    ]
    name = frame_name(tuple(every), unit.promoted)
    if name is None:
        widest = max(every, key=lambda f: f.bits)
        raise ValueError(f"{widest} is given to a unit; units take formats of up to 55 digits and 64 bits")
    frame = FRAMES[name]
    if unit.kind in (Kind.ALIGNED, Kind.EXACT, Kind.FIXED) and precision_of(fa) + precision_of(fb) > SUM_BITS:
        raise ValueError(
            f"{fa} and {fb} are given to a unit of kind {unit.kind.value!r}, whose products have up to {SUM_BITS} "
            "digits; kind 'chain' takes them"
        )

    def to(fmt: FloatFormat, rounding: Rounding, overflow: Overflow | None) -> Rounder:
        return rounder(fmt, rounding, overflow, frame, unit, random_bit_count)

    acc = unit.accumulator
    own = late = product = promoted = None
    if isinstance(acc, FloatFormat):
        own = to(acc, unit.rounding, unit.overflow)
        late = to(acc, unit.late_rounding or unit.rounding, unit.overflow)
        if unit.product is not None:
            product = to(unit.product, unit.product_rounding, unit.overflow)
        if unit.promote_every:
            promoted = to(unit.promoted, Rounding.TIES_TO_EVEN, None)
    if unit.group is not None:
        _check_group(unit, fa, fb)
    mode = round_parameters(Rules(unit.alignment, Overflow.SATURATE, Rule(), 0))
    return Plan(unit, fa, fb, frame, own, late, product, promoted, mode)


def _check_group(unit: DotUnit, fa: Fmt, fb: Fmt) -> None:
    """Refuse formats whose exact sums, times their scales, 64-bit integers do not hold."""
    widest = max((2 * fmt.precision for fmt in unit.scales), default=0)
    bits = sum_bits(fa, fb, unit.group or 1) + widest
    if bits > SUM_BITS:
        raise ValueError(
            f"{fa} and {fb} are given to a unit that adds groups of {unit.group} exactly, which takes {bits} bits; "
            f"groups have up to {SUM_BITS}"
        )


def check_length(plan: Plan, k: int) -> None:
    """Refuse steps whose aligned sums 64-bit integers do not hold."""
    unit = plan.unit
    length, fraction = min(unit.length or k, k), unit.fraction or 0
    if unit.kind is Kind.ALIGNED and fraction + term_bits(plan) + (length + 1).bit_length() > LONGEST:
        raise ValueError(
            f"a step of {length} products of {plan.fa} and {plan.fb} is given to a unit that keeps {fraction} bits "
            f"below the largest; its sum takes more than {LONGEST} bits"
        )


def term_bits(plan: Plan) -> int:
    """Bits of a term above the place that its exponent names: two of a product of floats."""
    unit, pair = plan.unit, (plan.fa, plan.fb)
    scales = 2 if any(fmt.precision > 1 for fmt in unit.scales) else 0
    if unit.group is None:
        return scales + sum(fmt.bits if isinstance(fmt, FixedFormat) else 1 for fmt in pair)
    return scales + sum(floor_log2(max(fmt.max, -fmt.min)) + 1 for fmt in pair) + unit.group.bit_length()
