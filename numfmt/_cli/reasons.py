"""Why a rounding mode goes where it goes, in words, by exact arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import floor

from ..formats import CodebookFormat, Exact, FloatFormat, Format
from ..rounding import Overflow, Rounding
from ..specials import Rules
from .ladder import ladder
from .numbers import fraction_text, power_text, short_decimal

NEAREST = tuple(mode for mode in Rounding if mode.value.startswith("ties_"))


@dataclass(frozen=True)
class Bracket:
    """A finite value between two neighbours of a format, one of which may lie beyond its range.

    Attributes:
        lower: rank of the lower neighbour.
        near, far: ranks of the neighbours toward zero and away from it.
        near_value, far_value, step: their values, and the distance between them.
        fraction: ν, the dropped part in steps, 0 < ν < 1; 1 and more if the value lies beyond.
        is_even_step: whether the step is a quantum, so that ν is made of the dropped bits.
        is_beyond: whether both neighbours lie outside the range.
        low, high: first and last rank of the range.
        near_is_odd: whether a tie to even avoids the near neighbour.
    """

    value: Fraction
    lower: int
    near: int
    far: int
    near_value: Fraction
    far_value: Fraction
    step: Fraction
    fraction: Fraction
    is_even_step: bool
    is_beyond: bool
    low: int
    high: int
    near_is_odd: bool

    @property
    def guard(self) -> int:
        """The first dropped bit."""
        return int(self.fraction >= Fraction(1, 2))

    @property
    def sticky(self) -> int:
        """Whether anything but zeros follows the guard bit."""
        return int(self.fraction not in (0, Fraction(1, 2)))

    def leaves_range(self, away: bool) -> bool:
        """Whether the neighbour chosen lies outside the format."""
        return self.is_beyond or not self.low <= (self.far if away else self.near) <= self.high

    def away_words(self, mode: Rounding, count: int) -> int:
        """For how many of the 2**count random words stochastic rounding goes away from zero (P3109 v4.0 §4.7.4)."""
        scaled = self.fraction * 2**count
        match mode:
            case Rounding.STOCHASTIC_B:
                return floor(scaled + Fraction(1, 2))
            case Rounding.STOCHASTIC_C:
                return round(scaled)
        return floor(scaled)


def open_ended(fmt: Format) -> bool:
    """Whether there is a next value beyond the range."""
    return not isinstance(fmt, CodebookFormat)


def bracket_of(fmt: Format, value: Fraction) -> Bracket:
    """The neighbours of a value that the format does not hold."""
    steps = ladder(fmt)
    open_ends = open_ended(fmt)
    lower = steps.floor(value)
    last = steps.high
    if isinstance(fmt, FloatFormat) and not fmt.zero and lower < steps.low:
        return _beyond(fmt, value, steps.low)
    if open_ends and lower == last and value >= steps.value(last + 1):
        return _beyond(fmt, value, last)
    if open_ends and lower < steps.low and value <= steps.value(steps.low - 1):
        return _beyond(fmt, value, steps.low)
    if not open_ends and not steps.low <= lower < last:
        return _beyond(fmt, value, min(max(lower, steps.low), last))
    near, far = (lower + 1, lower) if value < 0 else (lower, lower + 1)
    start, end = steps.value(near), steps.value(far)
    fraction = (value - start) / (end - start)
    even = steps.steps_evenly(near)
    odd = steps.is_odd(near)
    return Bracket(
        value, lower, near, far, start, end, abs(end - start), fraction, even, False, steps.low, steps.high, odd
    )


def _beyond(fmt: Format, value: Fraction, rank: int) -> Bracket:
    steps = ladder(fmt)
    end = steps.value(rank)
    outward = 1 if rank == steps.high else -1
    step = abs(end - steps.value(rank - outward))
    far = rank + outward
    lower = rank if value > end else rank - 1
    ratio = abs(value - end) / step
    return Bracket(
        value,
        lower,
        rank,
        far,
        end,
        steps.value(far) if open_ended(fmt) else end,
        step,
        ratio,
        False,
        True,
        steps.low,
        steps.high,
        steps.is_odd(rank),
    )


def goes_away(b: Bracket, mode: Rounding) -> bool:
    """Whether a deterministic mode takes the neighbour away from zero (IEEE 754-2019 §4.3)."""
    negative, half = b.value < 0, Fraction(1, 2)
    choices = {
        Rounding.TIES_TO_EVEN: b.near_is_odd,
        Rounding.TIES_TO_ODD: not b.near_is_odd,
        Rounding.TIES_TO_AWAY: True,
        Rounding.TIES_TO_ZERO: False,
        Rounding.TIES_TO_POSITIVE: not negative,
        Rounding.TIES_TO_NEGATIVE: negative,
        Rounding.AWAY_FROM_ZERO: True,
        Rounding.TOWARD_ZERO: False,
        Rounding.TOWARD_POSITIVE: not negative,
        Rounding.TOWARD_NEGATIVE: negative,
        Rounding.TO_ODD: not b.near_is_odd,
    }
    if mode in NEAREST and b.fraction != half:
        return b.fraction > half
    return choices[mode]


def why(fmt: Format, b: Bracket, rules: Rules, code: int) -> str:
    """One line for a deterministic mode: bits, tie, parity, sign, overflow."""
    mode = rules.rounding
    result = fmt.exact(code)
    if b.is_beyond:
        return f"beyond {_end(fmt, b)}{_overflow(fmt, rules, result)}"
    away = goes_away(b, mode)
    up = away != (b.value < 0)
    direction = ("up" if up else "down") if b.value > 0 else ("away from zero" if away else "toward zero")
    reason = f"{_reason(fmt, b, mode)}, so {direction}"
    if b.leaves_range(away):
        return f"{reason}, beyond {_end(fmt, b)}{_overflow(fmt, rules, result)}"
    expected = ladder(fmt).code(b.far if away else b.near)
    if result in (0, "-0") and fmt.exact(expected) == 0:
        expected = code  # a zero keeps the sign
    if expected != code:
        return _disagreement(rules, expected)
    return reason


def _disagreement(rules: Rules, expected: int) -> str:
    rule = rules.rule
    if rule.lowest_away or rule.absolute or rule.zero or rule.negative is not None:
        return "by the platform's own rule"
    return f"exact arithmetic says {expected:#x}: please report this"


def _reason(fmt: Format, b: Bracket, mode: Rounding) -> str:
    if mode in NEAREST:
        return _nearest_reason(fmt, b, mode)
    sign = "−" if b.value < 0 else "+"
    match mode:
        case Rounding.TOWARD_ZERO:
            return "the dropped bits are cut off" if b.is_even_step else "not representable"
        case Rounding.AWAY_FROM_ZERO:
            return "something is dropped"
        case Rounding.TO_ODD:
            return f"something is dropped and {_parity(fmt, b)}"
    return f"something is dropped and the sign is {sign}"


def _nearest_reason(fmt: Format, b: Bracket, mode: Rounding) -> str:
    half = Fraction(1, 2)
    sense = "a tie" if b.fraction == half else f"{'above' if b.fraction > half else 'below'} the midpoint"
    bits = f"guard {b.guard}, sticky {b.sticky}: " if b.is_even_step else ""
    middle = b.near_value + (b.step if b.value > 0 else -b.step) / 2
    if not bits and b.fraction != half:
        inward = "nearer to zero than" if b.fraction < half else "farther from zero than"
        sense = f"{inward} the midpoint {short_decimal(middle, 9)}"
    if b.fraction != half:
        return bits + sense
    match mode:
        case Rounding.TIES_TO_EVEN | Rounding.TIES_TO_ODD:
            return f"{bits}{sense}; {_parity(fmt, b)}"
        case Rounding.TIES_TO_POSITIVE | Rounding.TIES_TO_NEGATIVE:
            return f"{bits}{sense}; the sign is {'−' if b.value < 0 else '+'}"
    return bits + sense


def _parity(fmt: Format, b: Bracket) -> str:
    word, bit = ("odd", 1) if b.near_is_odd else ("even", 0)
    if isinstance(fmt, CodebookFormat):
        return f"the value nearer to zero has rank {b.near}, {word}"
    if isinstance(fmt, FloatFormat) and fmt.trailing_bits == 0:
        return f"the code nearer to zero ends in {bit} ({word})"
    return f"the last kept bit is {bit} ({word})"


def _end(fmt: Format, b: Bracket) -> str:
    """The end of the range that the value leaves."""
    return short_decimal(fmt.max if b.value > fmt.max else fmt.min, 9)


def _overflow(fmt: Format, rules: Rules, result: Exact) -> str:
    """What overflow made of it."""
    shown = result if isinstance(result, str) else power_text(result) if abs(result) > 2**64 else fraction_text(result)
    if isinstance(result, Fraction) and result in (fmt.max, fmt.min):
        outward = rules.overflow in (Overflow.INFINITY, Overflow.NAN) and (fmt.has_infinity or fmt.has_nan)
        if outward and isinstance(fmt, FloatFormat) and rules.rounding.stays_inside(result < 0):
            return f"; {rules.rounding.value.replace('_', ' ')} stops at the largest finite value"
    return f"; overflow={rules.overflow.value}: {shown}"


def threshold(fmt: Format, positive: bool, mode: Rounding) -> tuple[Fraction, bool] | None:
    """The midpoint beyond which a nearest mode leaves the range, and whether the midpoint itself does.

    None for other modes, and for codebooks, which end with their last value.
    """
    if isinstance(fmt, CodebookFormat) or mode not in NEAREST:
        return None
    steps = ladder(fmt)
    last, beyond = (steps.high, steps.high + 1) if positive else (steps.low, steps.low - 1)
    middle = (steps.value(last) + steps.value(beyond)) / 2
    return middle, goes_away(bracket_of(fmt, middle), mode)
