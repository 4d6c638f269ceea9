"""What one value or one code is in a format, and what each rounding mode makes of it, and why.

Results come from the library's own kernels, run on exact Python integers; the reasons are worked
out beside them in `fractions.Fraction`, and say so where the two disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np

from . import engines
from ._cli.fields import Field, check_size, class_of, fields_of, formula_of
from ._cli.ladder import ladder
from ._cli.numbers import fraction_text, is_code, parse_code, parse_value, power_text, scientific
from ._cli.reasons import Bracket, bracket_of, goes_away, why
from ._core.parameters import BINARY64, Carrier, ieee_carrier
from .carriers import BINARY256, exact_in, pattern
from .formats import CodebookFormat, Exact, FixedFormat, FloatFormat, Format
from .named import scalar_format
from .plans import Plan, encode_plan, resolve
from .platforms import get_platform
from .rounding import Overflow, Platform, Rounding
from .specials import Rules

FIXED_ONLY = (Rounding.TIES_TO_POSITIVE, Rounding.TIES_TO_NEGATIVE)
COUNTED = (Rounding.STOCHASTIC_A, Rounding.STOCHASTIC_B, Rounding.STOCHASTIC_C)


@dataclass(frozen=True)
class Neighbour:
    """A code beside the one asked about, and its value."""

    code: int
    value: Fraction


@dataclass(frozen=True)
class Outcome:
    """What one mode gives.

    `error` is result - value, in ulps (the result's own unit in codebooks), None for results that
    are not finite. `chance` is below 1 where random bits decide.
    """

    mode: Rounding | Overflow
    code: int
    value: Exact
    error: Fraction | None
    chance: Fraction
    why: str
    is_default: bool


@dataclass(frozen=True)
class Explanation:
    """All that `explain` finds out; `nfmt explain` prints it."""

    format: Format
    given: Exact  # the value asked about: that of the code, where a code was given
    given_as_code: bool
    code: int  # the code given, or what the value rounds to by default
    value: Exact  # of that code
    kind: str  # class of that code
    fields: tuple[Field, ...]
    formula: str
    below: Neighbour | None
    above: Neighbour | None
    ulp: Fraction | None  # distance to the next value away from zero; None outside the range and in codebooks
    bracket: Bracket | None  # where a finite value lies between two values of the format
    outcomes: tuple[Outcome, ...]
    overflows: tuple[Outcome, ...]
    notes: tuple[str, ...]

    @property
    def is_exact(self) -> bool:
        """Whether the format holds the value asked about."""
        return self.value == self.given


def explain(
    format: str | Format,
    value: str | float | Fraction,
    *,
    overflow: Overflow | str | None = None,
    platform: Platform | str | None = None,
    random_bit_count: int | None = None,
) -> Explanation:
    """Everything about one value or one code of a format.

    Args:
        format: a format or its name.
        value: a text is a code (0x7e, 0b0_1111_110) or an exact value (1.7, -0x1.8p3, 1/3, inf, nan,
            -0); numbers are values. Decimal texts are read exactly, not by way of a float.
        overflow, platform: rules of the rounding, as for `encode`.
        random_bit_count: N; adds stochastic_a, _b and _c with N random bits.

    Raises:
        ValueError: an unknown name, a text that is no number, a code that is too wide.

    >>> e = explain("e4m3fn", "1.7")
    >>> hex(e.code), e.value, e.outcomes[0].why
    ('0x3e', Fraction(7, 4), 'guard 1, sticky 1: above the midpoint, so up')
    """
    fmt = scalar_format(format)
    check_size(fmt)
    place = None if platform is None else get_platform(platform)
    rules = resolve(fmt, None, overflow, place, None)
    as_code = isinstance(value, str) and is_code(value)
    if as_code:
        code = parse_code(str(value), fmt.bits)
        given: Exact = fmt.exact(code)
    else:
        given = _exact_value(value)
        code = round_exactly(fmt, given, rules)
    result = fmt.exact(code)
    bracket = bracket_of(fmt, given) if isinstance(given, Fraction) and result != given else None
    below, above = _neighbours(fmt, given, bracket)
    outcomes = _outcomes(fmt, given, bracket, overflow, place, rules, random_bit_count) if bracket else ()
    overflows = () if as_code else _overflows(fmt, given, bracket, place, rules)
    return Explanation(
        fmt, given, as_code, code, result, class_of(fmt, code), fields_of(fmt, code), formula_of(fmt, code),
        below, above, _ulp(fmt, given, bracket), bracket, outcomes, overflows, _notes(fmt, given, code, as_code, place),
    )  # fmt: skip


def _exact_value(value: str | float | Fraction) -> Exact:
    if isinstance(value, str):
        return parse_value(value)
    if isinstance(value, float) and not value - value == 0:
        return "nan" if value != value else "inf" if value > 0 else "-inf"
    return "-0" if isinstance(value, float) and str(value) == "-0.0" else Fraction(value)


# Rounding on exact integers


def _carriers(fmt: Format) -> tuple[Carrier, ...]:
    """Carriers to try, in order: with at least 36 bits and two exponent bits more than the format."""
    if isinstance(fmt, CodebookFormat):
        return BINARY64, BINARY256
    precision = fmt.precision if isinstance(fmt, FloatFormat) else fmt.bits
    reach = max(abs(p.numerator.bit_length() - p.denominator.bit_length()) for p in (fmt.max, fmt.min_positive))
    if precision <= 200 and reach < 2**17:
        return (BINARY256,)
    trailing = precision + 64
    return (ieee_carrier(trailing + (reach + trailing).bit_length() + 4, trailing),)


@lru_cache(maxsize=1024)
def _plan(fmt: Format, rules: Rules) -> Plan:
    plan = next((p for p in (encode_plan(fmt, rules, carrier) for carrier in _carriers(fmt)) if p is not None), None)
    if plan is None:
        raise ValueError(f"{fmt} is too wide to explain")
    return plan


def round_exactly(fmt: Format, value: Exact, rules: Rules, random: int | None = None) -> int:
    """The code that an exact value rounds to, by the library's kernels on integers of any width.

    A value that the carrier does not hold is rounded to odd into it: with two bits more than the
    target and its midpoints have, a second rounding then gives what one would (Boldo and Melquiond,
    IEEE Transactions on Computers 57(4), 2008).
    """
    plan = _plan(fmt, rules)
    bits = pattern(value, plan.carrier)
    if not exact_in(value, plan.carrier):
        bits |= 1
    if plan.carrier is BINARY64:
        word = None if random is None else np.array([random], np.int64)
        code = int(engines.apply(plan, np.array([bits], np.uint64).view(np.int64), word, False)[0])
    else:
        code = engines.apply_exactly(plan, [bits], None if random is None else [random], False)[0]
    if isinstance(fmt, FloatFormat) and fmt.integer_bit:
        code = fmt.join_integer_bit(code)
    return int(code & 2**fmt.bits - 1)


# Where the value lies


def _neighbours(fmt: Format, given: Exact, bracket: Bracket | None) -> tuple[Neighbour | None, Neighbour | None]:
    steps = ladder(fmt)
    rank = steps.find(given)
    if bracket is not None:
        ranks = (bracket.lower, bracket.lower + 1)
    elif rank is not None:
        ranks = (rank - 1, rank + 1)
    else:
        return None, None

    def at(rank: int) -> Neighbour | None:
        return Neighbour(steps.code(rank), steps.value(rank)) if steps.low <= rank <= steps.high else None

    return at(ranks[0]), at(ranks[1])


def _ulp(fmt: Format, given: Exact, bracket: Bracket | None) -> Fraction | None:
    if isinstance(fmt, CodebookFormat) or (isinstance(given, str) and given != "-0"):
        return None
    if bracket is not None:
        return None if bracket.is_beyond else bracket.step
    steps = ladder(fmt)
    rank = steps.find(given)
    return None if rank is None else abs(steps.value(rank + 1 if rank >= 0 else rank - 1) - steps.value(rank))


# What the modes give


def _outcomes(
    fmt: Format, given: Exact, bracket: Bracket, overflow: Overflow | str | None, place: Platform | None,
    default: Rules, random_bit_count: int | None,
) -> tuple[Outcome, ...]:  # fmt: skip
    assert isinstance(given, Fraction)
    modes = [m for m in Rounding if not m.is_stochastic and (isinstance(fmt, FixedFormat) or m not in FIXED_ONLY)]
    modes.append(Rounding.STOCHASTIC)
    modes += COUNTED if random_bit_count is not None else ()
    rows: list[Outcome] = []
    for mode in modes:
        count = random_bit_count if mode in COUNTED else None
        rules = resolve(fmt, mode, overflow, place, count)
        if mode is default.rounding:
            rules = default
        if mode.is_stochastic:
            rows += _random_outcomes(fmt, given, bracket, rules)
        else:
            code = round_exactly(fmt, given, rules)
            reason = why(fmt, bracket, rules, code)
            rows.append(_outcome(fmt, given, bracket, mode, code, Fraction(1), reason, mode is default.rounding))
    return tuple(rows)


def _outcome(
    fmt: Format, given: Fraction, bracket: Bracket, mode: Rounding | Overflow, code: int, chance: Fraction,
    reason: str, is_default: bool,
) -> Outcome:  # fmt: skip
    value = fmt.exact(code)
    number = Fraction(0) if value == "-0" else value
    unit = Fraction(1) if isinstance(fmt, CodebookFormat) else bracket.step
    error = None if isinstance(number, str) else (number - given) / unit
    return Outcome(mode, code, value, error, chance, reason, is_default)


def _random_outcomes(fmt: Format, given: Fraction, bracket: Bracket, rules: Rules) -> list[Outcome]:
    """Both results of a stochastic mode, from the kernel with R all zeros and all ones."""
    n = rules.random_bit_count
    words = 2**n
    up = bracket.away_words(rules.rounding, n)
    near, far = (round_exactly(fmt, given, rules, random) for random in (0, words - 1))
    if bracket.is_beyond or near == far:
        chances = {near: (Fraction(1), "every word gives the same")}
    else:
        chances = {
            near: (Fraction(words - up, words), f"{words - up} of 2^{n} words leave it"),
            far: (Fraction(up, words), f"{up} of 2^{n} words carry away from zero"),
        }
    is_default = rules.rounding is fmt.default_rounding
    return [
        _outcome(fmt, given, bracket, rules.rounding, code, chance, reason, is_default)
        for code, (chance, reason) in chances.items()
        if chance
    ]


def _overflows(
    fmt: Format, given: Exact, bracket: Bracket | None, place: Platform | None, default: Rules
) -> tuple[Outcome, ...]:
    """What each overflow mode gives, where the value leaves the range under the default rounding."""
    beyond = bracket is not None and bracket.leaves_range(goes_away(bracket, default.rounding))
    if default.rounding.is_stochastic or not (beyond or given in ("inf", "-inf")):
        return ()
    rows = []
    for mode in Overflow:
        try:
            rules = resolve(fmt, None, mode, place, None)
        except ValueError:
            continue
        code = round_exactly(fmt, given, rules)
        words, is_default = _end_words(fmt, mode, code), mode is default.overflow
        if isinstance(given, Fraction) and bracket is not None:
            rows.append(_outcome(fmt, given, bracket, mode, code, Fraction(1), words, is_default))
        else:
            rows.append(Outcome(mode, code, fmt.exact(code), None, Fraction(1), words, is_default))
    return tuple(rows)


def _end_words(fmt: Format, mode: Overflow, code: int) -> str:
    """What an overflow mode gave, in words."""
    value = fmt.exact(code)
    if mode in (Overflow.WRAP, Overflow.WRAP_SIGN_MAGNITUDE):
        return "the low bits of the integer"
    if isinstance(value, str):
        return {"nan": "NaN", "-0": "zero"}.get(value, "infinity")
    if value in (fmt.max, fmt.min):
        return "the end of the range"
    return "zero" if value == 0 else "the symmetric end, -max"


def _notes(fmt: Format, given: Exact, code: int, as_code: bool, place: Platform | None) -> tuple[str, ...]:
    notes = []
    value = fmt.exact(code)
    if as_code:
        return _code_notes(fmt, code)
    if given == "nan" and value != "nan":
        notes.append(f"{fmt} has no NaN: NaN becomes {fraction_text(value)}")
    if given in ("inf", "-inf") and not fmt.has_infinity:
        notes.append(f"{fmt} has no infinity")
    if given == "-0" and value != "-0":
        notes.append(f"{fmt} has no −0: it becomes {power_text(value) if isinstance(value, Fraction) else value}")
    if isinstance(given, Fraction):
        if given < 0 <= fmt.min:
            notes.append(f"{fmt} is unsigned: what becomes of negative values is decided after rounding")
        if Fraction(0) not in (given, value) and given == 0:
            notes.append(f"{fmt} has no zero")
        if not exact_in(given, BINARY64):
            error = _binary64_error(given)
            notes.append(f"read exactly, as {fraction_text(given)}: the nearest binary64 is off by {error}")
    if place is not None:
        notes.append(f"rules of {place.name}: {place.source}")
    return tuple(notes)


def _binary64_error(value: Fraction) -> str:
    double = scalar_format("float64")
    nearest = double.exact(round_exactly(double, value, resolve(double, None, None, None, None)))
    if isinstance(nearest, str):
        return "its whole size" if nearest == "-0" else "more than its range"
    return f"≈{scientific(nearest - value, 2)}"


def _code_notes(fmt: Format, code: int) -> tuple[str, ...]:
    """What encoding the code's value gives, where that is another code."""
    back = round_exactly(fmt, fmt.exact(code), resolve(fmt, None, None, None, None))
    width = -(-fmt.bits // 4)
    return () if back == code else (f"another code of this value; encode gives {back:#0{width + 2}x}",)
