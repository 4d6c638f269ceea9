"""Runs dot-product units in NumPy: any unit, all outputs of a chunk at once, one product after the other.

An operand is `Columns`: its numbers, K first, so that the k-th of every row lies together. An output is a pair of rows,
one of each operand, given by two arrays of indices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._core import arithmetic as core
from ._core import dot
from ._core.arithmetic import FAR, Frame, Number
from ._core.dot import Keep
from ._core.parameters import Results, Round
from .arithmetic_engine import patterns_of as patterns_of
from .arithmetic_plans import FRAMES, ResultPlan, frame_name, grid_of, layout_of, precision_of, result_plan
from .carriers import floor_log2, signed
from .engines import NUMPY
from .formats import FixedFormat, FloatFormat, Subnormals
from .plans import round_parameters
from .rounding import Overflow, Rounding, Rule
from .sources import code_dtype
from .specials import Rules
from .units import DotUnit, Kind, Order

Array = npt.NDArray[Any]
Fmt = FloatFormat | FixedFormat
Numbers = Any  # `Number` of arrays
Outcomes = Any  # `Outcome` of arrays
numbers_of: Callable[..., Numbers] = Number
Random = Callable[[int], Array] | None
SUM_BITS = 57  # of sums that settle without loss
LONGEST = 60  # bits of aligned sums, with a digit more below them
TABLE_BITS = 16  # of formats whose codes are looked up
FLOOR = round_parameters(Rules(Rounding.TOWARD_NEGATIVE, Overflow.SATURATE, Rule(), 0))


# ---- operands ----------------------------------------------------------------------------------------------------


class Table(NamedTuple):
    """Numbers, flat: normalised, and as the integers and exponents that units align.

    Attributes:
        number: `Number` of arrays.
        m: significands with `digits` digits after the point, not normalised.
        exponent: their exponents, no lower than the format's least; `-FAR` of zeros.
        special: where they are infinite or NaN.
    """

    number: Numbers
    m: Array
    exponent: Array
    digits: int
    special: Array


@dataclass(frozen=True)
class Columns:
    """The numbers of an operand, K first: where each is in a table."""

    table: Table
    index: Array

    @property
    def special(self) -> Array:
        """Of which rows a number is infinite or NaN."""
        return np.any(self.table.special[self.index], axis=0)

    def at(self, k: int, rows: Array) -> Numbers:
        """The k-th numbers of rows."""
        place = self.index[k][rows]
        return numbers_of(*(field[place] for field in self.table.number))

    def term(self, k: int, rows: Array) -> tuple[Array, Array, Array]:
        """Sign, significand and exponent of the k-th numbers of rows."""
        place = self.index[k][rows]
        return self.table.number.negative[place], self.table.m[place], self.table.exponent[place]


def least_exponent(fmt: Fmt) -> int:
    """The exponent of the smallest normal value; of the quantum, in fixed point."""
    return -fmt.fraction_bits if isinstance(fmt, FixedFormat) else floor_log2(fmt.min_normal)


def columns(codes: Array, fmt: Fmt, frame: Frame, flush: str | None = None) -> Columns:
    """The numbers of codes of shape (rows, K)."""
    turned = np.ascontiguousarray(codes.T)
    if fmt.bits > TABLE_BITS:
        return Columns(_read_table(turned.reshape(-1), fmt, frame, flush), np.arange(turned.size).reshape(turned.shape))
    return Columns(_table(fmt, frame, flush), turned & turned.dtype.type(2**fmt.bits - 1))


@lru_cache(maxsize=32)
def _table(fmt: Fmt, frame: Frame, flush: str | None) -> Table:
    """The numbers of all codes of a format."""
    return _read_table(np.arange(2**fmt.bits).astype(code_dtype(fmt)), fmt, frame, flush)


def _read_table(codes: Array, fmt: Fmt, frame: Frame, flush: str | None) -> Table:
    number = read(patterns_of(codes, fmt), fmt, frame)
    least = least_exponent(fmt)
    if flush and isinstance(fmt, FloatFormat):
        number = flushed(number, least, flush)
    digits = least - last_place(fmt)
    zero = number.m == 0
    exponent = np.where(zero, -FAR, np.maximum(number.exponent, least) if isinstance(fmt, FloatFormat) else least)
    down = frame.carrier.trailing - digits + np.where(zero, 0, exponent - number.exponent)
    special = number.infinite | number.nan
    return Table(number, number.m >> np.minimum(down, 62), exponent, digits, special)


def read(patterns: Array, fmt: Fmt, frame: Frame) -> Numbers:
    """The numbers that codes name, as arrays throughout."""
    if isinstance(fmt, FixedFormat):
        number: Numbers = core.read_fixed(patterns, grid_of(fmt, frame), frame, xp=NUMPY)
        number = number._replace(exponent=np.where(number.m == 0, -FAR, number.exponent))
    else:
        number = core.read(patterns, layout_of(fmt), frame, xp=NUMPY)
    return numbers_of(*(np.broadcast_to(field, patterns.shape) for field in number))


def flushed(number: Numbers, least: int, how: str) -> Numbers:
    """Numbers with zeros in the place of those below 2**least."""
    tiny = (number.exponent < least) & (number.m != 0) & ~number.infinite & ~number.nan
    negative = number.negative if how == "signed" else np.where(tiny, 0, number.negative)
    m, exponent = np.where(tiny, 0, number.m), np.where(tiny, -FAR, number.exponent)
    return number._replace(negative=negative, m=m, exponent=exponent)


def signs_of_zeros(signs: tuple[Array, Array], m: Array, negative: Array) -> tuple[Array, Array]:
    """Where every summand so far is -0, and +0, with one more."""
    return signs[0] & np.where(m == 0, negative, 0), signs[1] & np.where(m == 0, 1 - negative, 0)


# ---- rounded operations ------------------------------------------------------------------------------------------


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
            return number if self.fmt.infinity_code is not None else self._finite(number, self.kept)
        return read(self.code(out, random), self.fmt, self.frame)

    def _finite(self, number: Numbers, to: Keep) -> Numbers:
        """Numbers with the largest value in the place of infinities."""
        over = number.infinite & ~number.nan
        m, exponent = np.where(over, to.largest, number.m), np.where(over, to.emax, number.exponent)
        return number._replace(m=m, exponent=exponent, infinite=np.zeros_like(over))

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
    return Keep(fmt.precision, floor_log2(fmt.min_normal), emax, largest, *ends, flush)


# ---- plans -------------------------------------------------------------------------------------------------------


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
    round_bits: int


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
    return Plan(unit, fa, fb, frame, own, late, product, promoted, mode, random_bit_count)


def _check_group(unit: DotUnit, fa: Fmt, fb: Fmt) -> None:
    """Refuse formats whose exact sums, times their scales, 64-bit integers do not hold."""
    widest = max((2 * fmt.precision for fmt in unit.scales), default=0)
    bits = sum_bits(fa, fb, unit.group or 1) + widest
    if bits > SUM_BITS:
        raise ValueError(
            f"{fa} and {fb} are given to a unit that adds groups of {unit.group} exactly, which takes {bits} bits; "
            f"groups have up to {SUM_BITS}"
        )


def last_place(fmt: Fmt) -> int:
    """The exponent of a format's quantum at its least exponent."""
    if isinstance(fmt, FixedFormat):
        return least_exponent(fmt)
    return least_exponent(fmt) - fmt.trailing_bits - (fmt.subnormals is Subnormals.SHIFTED)


def check_length(plan: Plan, k: int) -> None:
    """Refuse steps whose aligned sums 64-bit integers do not hold."""
    unit = plan.unit
    length, fraction = min(unit.length or k, k), unit.fraction or 0
    if unit.kind is Kind.ALIGNED and fraction + _term_bits(plan) + (length + 1).bit_length() > LONGEST:
        raise ValueError(
            f"a step of {length} products of {plan.fa} and {plan.fb} is given to a unit that keeps {fraction} bits "
            f"below the largest; its sum takes more than {LONGEST} bits"
        )


def _term_bits(plan: Plan) -> int:
    """Bits of a term above the place that its exponent names: two of a product of floats."""
    unit, pair = plan.unit, (plan.fa, plan.fb)
    scales = 2 if unit.scales else 0
    if unit.group is None:
        return scales + sum(fmt.bits if isinstance(fmt, FixedFormat) else 1 for fmt in pair)
    return scales + sum(floor_log2(max(fmt.max, -fmt.min)) + 1 for fmt in pair) + unit.group.bit_length()


def sum_bits(fa: Fmt, fb: Fmt, count: int) -> int:
    """Bits of integers that hold the sum of so many products."""
    top = sum(floor_log2(max(f.max, -f.min)) + 1 for f in (fa, fb))
    return top - last_place(fa) - last_place(fb) + max(count, 1).bit_length()


# ---- a chunk of outputs ------------------------------------------------------------------------------------------


class Scales(NamedTuple):
    """Scales of both operands: (K / block, rows) columns, and elements of a block."""

    a: Columns
    b: Columns
    block_a: int
    block_b: int


class Chunk:
    """Outputs that are computed together: pairs of rows, and what a unit does with them."""

    def __init__(
        self,
        plan: Plan,
        a: Columns,
        b: Columns,
        rows: tuple[Array, Array],
        scales: Scales | None,
        random: Random,
        watch: Any,
    ) -> None:
        self.plan, self.unit, self.frame = plan, plan.unit, plan.frame
        self.own, self.late, self.carrier = plan.own, plan.late, plan.frame.carrier
        self.fraction: int = plan.unit.fraction or 0
        self.a, self.b, self.scales = a, b, scales
        self.ia, self.ib = rows
        self.random, self.drawn, self.watch = random, 0, watch
        self.special = bool(a.special.any() or b.special.any()) or plan.unit.product_limit is not None
        self.length = len(a.index)

    def draw(self, rounder: Rounder) -> Array | None:
        """The next random numbers, if the rounding takes any."""
        if self.random is None or not rounder.mode.random_bits:
            return None
        self.drawn += 1
        return self.random(self.drawn - 1)

    def zeros(self) -> Array:
        """An integer 0 for every output."""
        return np.zeros(self.ia.shape, np.int64)

    def zero(self) -> Numbers:
        """+0 for every output."""
        none = np.zeros(self.ia.shape, bool)
        return numbers_of(self.zeros(), self.zeros() - FAR, self.zeros(), none, none, none)

    def steps(self, start: int, stop: int) -> list[range]:
        """The products of each step between two k."""
        length = self.unit.length or max(stop - start, 1)
        return [range(k, min(k + length, stop)) for k in range(start, stop, length)] or [range(start, start)]

    # ---- terms ---------------------------------------------------------------------------------------------------

    def pair(self, k: int) -> tuple[Numbers, Numbers]:
        """The k-th operands."""
        return self.a.at(k, self.ia), self.b.at(k, self.ib)

    def scale(self, k: int) -> tuple[Array, Array, Array, int]:
        """Sign, significand, exponent and digits of the product of the scales of the k-th operands."""
        s = self.scales
        if s is None:
            return self.zeros(), self.zeros() + 1, self.zeros(), 0
        negative, m, exponent = s.a.term(k // s.block_a, self.ia)
        other, n, more = s.b.term(k // s.block_b, self.ib)
        flip = negative ^ other if self.unit.scale_signs else self.zeros()
        return flip, m * n, exponent + more, s.a.table.digits + s.b.table.digits

    def term(self, k: int) -> tuple[Array, Array, Array, int]:
        """Sign, significand, exponent and digits of the k-th product."""
        negative, m, exponent = self.a.term(k, self.ia)
        other, n, more = self.b.term(k, self.ib)
        negative, m, exponent = negative ^ other, m * n, exponent + more
        digits = self.a.table.digits + self.b.table.digits
        if self.scales is not None and self.unit.group is None:
            flip, factor, shift, places = self.scale(k)
            negative, m, exponent, digits = negative ^ flip, m * factor, exponent + shift, digits + places
        return negative, m, np.where(m == 0, -FAR, exponent), digits

    def group(self, ks: range) -> tuple[Array, Array, Array, int]:
        """The same of a group of products, added exactly and scaled."""
        least = least_exponent(self.plan.fa) + least_exponent(self.plan.fb)
        total, negative_zero = self.zeros(), self.zeros() + 1
        for k in ks:
            negative, m, exponent, digits = self.term(k)
            p = m << np.maximum(exponent - least, 0)
            total += np.where(negative != 0, -p, p)
            negative_zero &= negative
        flip, factor, exponent, places = self.scale(ks[0])
        negative = np.where(total == 0, negative_zero, total < 0) ^ flip
        m = np.abs(total) * factor
        return negative, m, np.where(m == 0, -FAR, exponent), digits - least + places

    def terms(self, ks: range) -> list[Callable[[], tuple[Array, Array, Array, int]]]:
        """What a step adds, each made when it is asked for."""
        size = self.unit.group
        if size is None:
            return [lambda k=k: self.term(k) for k in ks]  # type: ignore[misc]
        return [lambda s=ks[i : i + size]: self.group(s) for i in range(0, len(ks), size)]  # type: ignore[misc]

    def specials(self, ks: range) -> tuple[Array, Array, Array]:
        """Where a step's products hold a NaN, +infinity, -infinity."""
        nan, plus, minus = (np.zeros(self.ia.shape, bool) for _ in range(3))
        for k in ks:
            a, b = self.pair(k)
            infinite = a.infinite | b.infinite
            nan |= a.nan | b.nan | (infinite & (((a.m == 0) & ~a.infinite) | ((b.m == 0) & ~b.infinite)))
            negative = a.negative ^ b.negative
            if self.unit.product_limit is not None:
                _, m, exponent, digits = self.term(k)
                past = np.minimum(np.maximum(self.unit.product_limit + digits - exponent, 0), 62)
                infinite = infinite | ((m >> past) != 0) & (m != 0)
            if self.scales is not None:
                negative = negative ^ self.scale(k)[0]
            plus |= infinite & (negative == 0)
            minus |= infinite & (negative != 0)
        if self.scales is not None:
            for columns_, block, rows in (
                (self.scales.a, self.scales.block_a, self.ia),
                (self.scales.b, self.scales.block_b, self.ib),
            ):
                for place in sorted({k // block for k in ks}):
                    nan |= columns_.at(place, rows).nan
        return nan, plus, minus

    # ---- kinds ---------------------------------------------------------------------------------------------------

    def aligned(self, acc: Numbers, ks: range) -> Numbers:
        """One step of an aligned sum."""
        unit = self.unit
        late = unit.addend == "late"
        if unit.order is Order.EVEN_ODD:
            total, top, signs = self._two_sums(ks)
        else:
            total, top, signs = self._aligned_sum(ks, None if late else acc)
        low = top - self.fraction
        if not late:
            out = dot.settle(total, low, self.zero_sign(signs), self.carrier, xp=NUMPY)
            return self.own.rounded(self.with_specials(out, acc, ks, True), self.draw(self.own))
        if unit.late_fraction is None:
            out = dot.settle(total, low, self.zero_sign(signs), self.carrier, xp=NUMPY)
            part = self.own.rounded(self.with_specials(out, acc, ks, False), self.draw(self.own))
            return self.late.add(part, acc, self.draw(self.late))
        return self._two_stages(total, top, signs, acc, ks)

    def _aligned_sum(self, ks: range, acc: Numbers | None) -> tuple[Array, Array, tuple[Array, Array]]:
        """The sum in units of 2**(E - F), E, and where every summand is -0, and +0."""
        unit, mode = self.unit, self.plan.alignment
        terms = self.terms(ks)
        top = self.zeros() + (-FAR if unit.zero_exponent is None else unit.zero_exponent)
        for each in terms:
            top = np.maximum(top, each()[2])
        if acc is not None:
            least = least_exponent(unit.c_format)
            top = np.maximum(top, np.where(acc.m == 0, -FAR, np.maximum(acc.exponent, least)))
        total, minus, plus = self.zeros(), self.zeros() + 1, self.zeros() + 1
        for each in terms:
            negative, m, exponent, digits = each()
            part = dot.align(m, negative, self.fraction - digits - (top - exponent), mode, self.carrier.reach, xp=NUMPY)
            if self.watch is not None:
                self.watch.term(m, self.fraction - digits - (top - exponent), part)
            total, (minus, plus) = total + part, signs_of_zeros((minus, plus), m, negative)
        if acc is not None:
            place = self.fraction - self.carrier.trailing - (top - acc.exponent)
            total = total + dot.align(acc.m, acc.negative, place, mode, self.carrier.reach, xp=NUMPY)
            minus, plus = signs_of_zeros((minus, plus), acc.m, acc.negative)
        if self.watch is not None:
            self.watch.exponent(np.where(top <= -FAR, 0, top))
        return total, np.where(top <= -FAR, 0, top), (minus, plus)

    def _two_sums(self, ks: range) -> tuple[Array, Array, tuple[Array, Array]]:
        """The same of products of even and of odd index, each aligned alone, then floored to the larger unit."""
        even, e0, (minus, plus) = self._aligned_sum(ks[::2], None)
        odd, e1, (more, most) = self._aligned_sum(ks[1::2], None)
        none, nothing = self._empty(ks[::2]), self._empty(ks[1::2])
        top = np.where(none, e1, np.where(nothing, e0, np.maximum(e0, e1)))
        far = [np.minimum(np.where(empty, 0, top - e), 62) for empty, e in ((none, e0), (nothing, e1))]
        return (even >> far[0]) + (odd >> far[1]), top, (minus & more, plus & most)

    def _empty(self, ks: range) -> Array:
        """Where every product is zero."""
        empty = np.ones(self.ia.shape, bool)
        for k in ks:
            empty &= self.term(k)[1] == 0
        return empty

    def _two_stages(self, total: Array, top: Array, signs: tuple[Array, Array], acc: Numbers, ks: range) -> Numbers:
        """The sum floored to `late_fraction` bits, the accumulator to `fraction`, and one rounding."""
        unit = self.unit
        trailing = self.carrier.trailing
        own = np.maximum(acc.exponent, least_exponent(unit.c_format))
        own = np.where(acc.m == 0, -FAR, own)
        high = np.maximum(np.where(self._empty(ks), -FAR, top), own)
        high = np.where(high <= -FAR, 0, high)
        finer, common = unit.late_fraction or 0, max(unit.late_fraction or 0, self.fraction)
        size, negative = np.abs(total), (total < 0).astype(np.int64)
        first = dot.align(size, negative, finer - self.fraction - (high - top), FLOOR, self.carrier.reach, xp=NUMPY)
        second = dot.align(
            acc.m, acc.negative, self.fraction - trailing - (high - acc.exponent), FLOOR, self.carrier.reach, xp=NUMPY
        )
        if unit.late_reach is not None:
            second = np.where(own < high - unit.late_reach, 0, second)
        total = (first << (common - finer)) + (second << (common - self.fraction))
        signs = signs_of_zeros(signs, acc.m, acc.negative)
        out = dot.settle(total, high - common, self.zero_sign(signs), self.carrier, xp=NUMPY)
        return self.own.rounded(self.with_specials(out, acc, ks, True), self.draw(self.own))

    def zero_sign(self, signs: tuple[Array, Array]) -> Array:
        """The sign of an exact zero, from where every summand is -0, and +0."""
        minus, plus = signs
        return np.where(minus != 0, 1, np.where(plus != 0, 0, self.own.downward))

    def with_specials(self, out: Outcomes, acc: Numbers, ks: range, with_acc: bool) -> Outcomes:
        """A sum, infinite or NaN where what is added is."""
        nan = plus = minus = np.zeros(self.ia.shape, bool)
        if self.special or (self.scales is not None):
            nan, plus, minus = self.specials(ks)
        if with_acc:
            nan = nan | acc.nan
            plus, minus = plus | (acc.infinite & (acc.negative == 0)), minus | (acc.infinite & (acc.negative != 0))
        infinite = plus | minus
        negative = np.where(infinite, minus.astype(np.int64), out.negative)
        return out._replace(negative=negative, infinite=infinite, nan=nan | (plus & minus))

    def chain(self, acc: Numbers, ks: range) -> Numbers:
        """One step of rounded additions."""
        unit, own, late = self.unit, self.own, self.late
        if unit.order is Order.EVEN_ODD:
            even, odd = self._chain(self.zero(), ks[::2]), self._chain(self.zero(), ks[1::2])
            return late.add(acc, own.add(even, odd, self.draw(own)), self.draw(late))
        order = [*ks]
        if unit.order is Order.ODD_FIRST:
            order = [k for i in range(0, len(ks), 2) for k in reversed(ks[i : i + 2])]
        if unit.addend == "late":
            return late.add(acc, self._chain(self.zero(), order), self.draw(late))
        return self._chain(acc, order)

    def _chain(self, acc: Numbers, ks: Any) -> Numbers:
        own = self.own
        for k in ks:
            a, b = self.pair(k)
            if self.plan.product is None:
                acc = own.fma(a, b, acc, self.draw(own))
            else:
                acc = own.add(self.plan.product.multiply(a, b), acc, self.draw(own))
        return acc

    def tree(self, acc: Numbers, ks: range) -> Numbers:
        """One step of additions in pairs."""
        own, late = self.own, self.late
        level = [self.plan.product.multiply(*self.pair(k)) for k in ks]
        if not level:
            return acc
        while len(level) > 1:
            pairs = [own.add(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
            level = pairs + level[len(level) - len(level) % 2 :]
        return late.add(acc, level[0])

    def kahan(self, acc: Numbers, stretch: range) -> Numbers:
        """All of the products, with the error of each addition taken from the next."""
        own = self.own
        compensation = self.zero()
        for k in stretch:
            y = own.add(own.multiply(*self.pair(k)), core.negated(compensation))
            t = own.add(acc, y)
            compensation = own.add(own.add(t, core.negated(acc)), core.negated(y))
            acc = t
        return acc

    def neumaier(self, acc: Numbers, stretch: range) -> Numbers:
        """All of the products, with the error of each addition added at the end."""
        own = self.own
        compensation = self.zero()
        for k in stretch:
            p = own.multiply(*self.pair(k))
            t = own.add(acc, p)
            larger = (acc.exponent > p.exponent) | ((acc.exponent == p.exponent) & (acc.m >= p.m)) | acc.infinite
            big = numbers_of(*(np.where(larger, x, y) for x, y in zip(acc, p, strict=True)))
            small = numbers_of(*(np.where(larger, y, x) for x, y in zip(acc, p, strict=True)))
            error = own.add(own.add(big, core.negated(t)), small)
            compensation, acc = own.add(compensation, error), t
        return own.add(acc, compensation)

    # ---- a dot ---------------------------------------------------------------------------------------------------

    def floats(self, acc: Numbers, stretch: range) -> Numbers:
        """The dot of a stretch of products, from an accumulator on."""
        unit = self.unit
        if unit.kind is Kind.KAHAN:
            return self.kahan(acc, stretch)
        if unit.kind is Kind.NEUMAIER:
            return self.neumaier(acc, stretch)
        for ks in self.steps(stretch.start, stretch.stop):
            match unit.kind:
                case Kind.ALIGNED:
                    acc = self.aligned(acc, ks)
                case Kind.CHAIN:
                    acc = self.chain(acc, ks)
                case Kind.TREE:
                    acc = self.tree(acc, ks)
                case _:
                    acc = self.exact(acc, ks)
            if self.watch is not None:
                self.watch.accumulator(acc)
        return acc

    def run(self, c: Numbers) -> Array:
        """Codes of the results, in the unit's result format."""
        unit, promoted, own = self.unit, self.plan.promoted, self.own
        whole = range(self.length)
        if promoted is None or unit.promote_every is None:
            found, fmt = self.floats(c, whole), own
        else:
            for start in range(0, self.length, unit.promote_every):
                stretch = whole[start : start + unit.promote_every]
                c = promoted.add(c, self.floats(self.zero(), stretch))
            found, fmt = c, promoted
        return fmt.code(core.itself(found._replace(signaling=np.zeros_like(found.nan)), self.frame, fmt.mode, xp=NUMPY))

    def exact(self, acc: Numbers, ks: range) -> Numbers:
        """One step of a sum without error."""
        from . import unit_exact

        return unit_exact.step(self, acc, ks)
