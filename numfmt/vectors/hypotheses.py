"""What a faulty device may do: each hypothesis computes a row again, with one fault, and says what it would answer.

They stand in order from the specific to the general; the first that gives exactly the device's answer names the cause.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

from ..carriers import floor_log2
from ..explain import round_exactly
from ..formats import Exact, FixedFormat, FloatFormat, Format, Specials
from ..named import scalar_format
from ..plans import resolve
from ..rounding import Overflow, Rounding
from . import explain_exact as real
from .explain_case import Case, quantum, smallest_normal

FLUSHED, TIE, STICKY, DOUBLE = "flushed subnormal", "wrong tie", "missing sticky", "double rounding"
SATURATION, OVERFLOW, DIRECTION = "saturation", "overflow", "wrong rounding direction"
NEAREST = tuple(mode for mode in Rounding if mode.value.startswith("ties_"))
DIRECTED = (
    Rounding.TOWARD_ZERO, Rounding.AWAY_FROM_ZERO, Rounding.TOWARD_POSITIVE, Rounding.TOWARD_NEGATIVE, Rounding.TO_ODD,
)  # fmt: skip
FIXED_ONLY = (Rounding.TIES_TO_POSITIVE, Rounding.TIES_TO_NEGATIVE)


@dataclass(frozen=True)
class Hypothesis:
    """A fault: what it is, under which cause it is counted, and what it answers."""

    name: str
    cause: str
    answer: Callable[[Case], int | None]


# ---- subnormals ------------------------------------------------------------------------------------------------


def _flushed(value: Exact, fmt: Format, keep_sign: bool = True) -> Exact:
    """Zero for a subnormal."""
    limit = smallest_normal(fmt)
    if limit is not None and isinstance(value, Fraction) and 0 < abs(value) < limit:
        return "-0" if keep_sign and value < 0 else Fraction(0)
    return value


def _with_flushed_operands(case: Case) -> Case:
    formats = case.formats if len(case.formats) == len(case.values) else (case.formats[0],) * len(case.values)
    values = tuple(_flushed(v, f) for v, f in zip(case.values, formats, strict=True))
    return replace(case, values=values)


def _operands_flushed(case: Case) -> int | None:
    changed = _with_flushed_operands(case)
    return None if changed.values == case.values else changed.rounded(changed.exact())


def _result_flushed(case: Case, before: bool, keep_sign: bool = True) -> int | None:
    value, limit = case.exact(), case.limit
    if limit is None or not isinstance(value, Fraction):
        return None
    if abs(value) > limit:
        return None
    code = case.rounded(value)
    after = case.to.exact(code) if code is not None else "nan"
    tiny = 0 < abs(value) < limit if before else isinstance(after, Fraction) and 0 < abs(after) < limit
    return case.rounded("-0" if value < 0 and keep_sign else Fraction(0)) if tiny else None


def _both_flushed(case: Case) -> int | None:
    return _result_flushed(_with_flushed_operands(case), False)


def _to_smallest_normal(case: Case) -> int | None:
    value, limit = case.exact(), case.limit
    if limit is None or not isinstance(value, Fraction) or not 0 < abs(value) < limit:
        return None
    return case.rounded(-limit if value < 0 else limit)


# ---- digits ----------------------------------------------------------------------------------------------------


def _cut(value: Fraction, unit: Fraction) -> Fraction:
    """The value toward zero in whole units."""
    whole = abs(value) // unit * unit
    return -whole if value < 0 else whole


def _sticky_lost(case: Case, kept: int) -> int | None:
    """Only so many digits below the last one are kept, and nothing of the rest."""
    if case.is_held:
        return None
    value = case.exact()
    unit = case.unit(value)
    if unit is None or not isinstance(value, Fraction):
        return None
    return case.rounded(_cut(value, unit / 2**kept) or ("-0" if value < 0 else Fraction(0)))


def _alignment_cut(case: Case, kept: int) -> int | None:
    """The smaller term of a sum loses what lies so many digits below the last digit of the larger one."""
    if case.operation not in ("add", "sub", "fma") or not isinstance(case.to, FloatFormat):
        return None
    terms = list(case.values)
    if case.operation == "fma":
        terms = [real.multiply(terms[0], terms[1]), terms[2]]
    if case.operation == "sub":
        terms[1] = real.negated(terms[1])
    if not all(isinstance(t, Fraction) and t for t in terms):
        return None
    large, small = sorted((real.number(t) for t in terms), key=abs, reverse=True)
    unit = quantum(case.to, large)
    assert unit is not None
    return case.rounded(large + _cut(small, unit / 2**kept) or Fraction(0))


# ---- two roundings ---------------------------------------------------------------------------------------------


def _twice(case: Case, name: str) -> int | None:
    """First rounded to a wider format."""
    value, wide, to = case.exact(), scalar_format(name), case.to
    if case.is_held or not isinstance(value, Fraction) or not isinstance(to, FloatFormat):
        return None
    assert isinstance(wide, FloatFormat)
    if wide.precision <= to.precision or case.rules.rounding.is_stochastic or case.rules.rounding in FIXED_ONLY:
        return None
    return case.rounded(wide.exact(round_exactly(wide, value, resolve(wide, case.rules.rounding, None, None, None))))


def _twice_digits(case: Case, more: int) -> int | None:
    """First rounded to so many digits more than the result has, to nearest."""
    value, unit = case.exact(), case.unit(case.exact())
    if case.is_held or unit is None or not isinstance(value, Fraction) or case.rules.rounding not in NEAREST:
        return None
    first = round(value / unit * 2**more)
    if first % 2**more != 2 ** (more - 1) or first * unit == value * 2**more:
        return None  # the second rounding meets no tie that the first one made
    return case.rounded(first * unit / 2**more)


def _twice_subnormal(case: Case) -> int | None:
    """First rounded to p digits as if there were no least exponent, then to the subnormal's digits."""
    value, to = case.exact(), case.to
    if case.limit is None or not isinstance(value, Fraction) or not isinstance(to, FloatFormat) or value == 0:
        return None
    if abs(value) >= case.limit or case.rules.rounding.is_stochastic:
        return None
    wide = _unbounded(to)
    return case.rounded(wide.exact(round_exactly(wide, value, resolve(wide, case.rules.rounding, None, None, None))))


def _unbounded(to: FloatFormat) -> FloatFormat:
    bias = (1 << 15) - 1 + (to.bias & 1 ^ 1)
    return FloatFormat(1 + 16 + to.trailing_bits, to.precision, bias, specials=Specials.FINITE)


def _product_rounded(case: Case) -> int | None:
    """A fused operation that is not: the product is rounded, then the sum."""
    if case.operation not in ("fma", "mac"):
        return None
    product = case.rounded(real.multiply(case.values[0], case.values[1]))
    if product is None:
        return None
    down = case.rules.rounding is Rounding.TOWARD_NEGATIVE
    return case.rounded(real.add(case.to.exact(product), case.values[2], down))


def _one_by_one(case: Case) -> int | None:
    """Terms of a dot product added in order, each sum rounded."""
    if case.operation != "dot" or case.rules.rounding.is_stochastic:
        return None
    half = len(case.values) // 2
    total: Exact = Fraction(0)
    for lane in range(half):
        term = real.multiply(case.values[lane], case.values[half + lane])
        for scale in case.scales:
            term = real.multiply(term, scale[lane])
        code = case.rounded(real.add(total, term))
        total = case.to.exact(code) if code is not None else "nan"
    return case.rounded(total)


# ---- modes -----------------------------------------------------------------------------------------------------


def _other_mode(case: Case, mode: Rounding) -> int | None:
    if case.is_held:
        return None
    if mode is case.rules.rounding or (mode in FIXED_ONLY and not isinstance(case.to, FixedFormat)):
        return _tie_by_sign(case, mode)
    return case.rounded(case.exact(), case.rules._replace(rounding=mode, random_bit_count=0))


def _tie_by_sign(case: Case, mode: Rounding) -> int | None:
    """Ties toward one sign, which floats do not name: away from zero on one side, toward it on the other."""
    value = case.exact()
    if mode is case.rules.rounding or not isinstance(value, Fraction):
        return None
    up = (value > 0) == (mode is Rounding.TIES_TO_POSITIVE)
    return _other_mode(case, Rounding.TIES_TO_AWAY if up else Rounding.TIES_TO_ZERO)


def _other_tie(case: Case, mode: Rounding) -> int | None:
    """Another rule for ties, of a tie alone."""
    value = case.exact()
    unit = case.unit(value)
    if unit is None or not isinstance(value, Fraction) or case.rules.rounding not in NEAREST:
        return None
    return _other_mode(case, mode) if value / unit % 1 == Fraction(1, 2) else None


def _other_overflow(case: Case, mode: Overflow) -> int | None:
    if mode is case.rules.overflow or not case.leaves_range:
        return None
    platform = case.rules.rule
    try:
        rules = resolve(case.to, case.rules.rounding, mode, None, case.rules.random_bit_count or None)
    except ValueError:
        return None
    return case.rounded(case.exact(), rules._replace(rule=replace(platform, overflow=None, infinity=None)))


def _infinite_overflow(case: Case) -> int | None:
    """Infinity whatever the rounding mode says."""
    return _end(case, True)


def _largest_overflow(case: Case) -> int | None:
    """The largest finite value in place of an infinity."""
    return _end(case, False)


def _nan_overflow(case: Case) -> int | None:
    """NaN, also where the format has an infinity."""
    code = case.to.nan_code if isinstance(case.to, FloatFormat) else None
    return None if code is None or _end(case, False) is None else code


def _end(case: Case, infinite: bool) -> int | None:
    value, to = case.exact(), case.to
    if not isinstance(to, FloatFormat) or not isinstance(value, Fraction) or abs(value) <= to.max:
        return None
    code = to.infinity_code if to.infinity_code is not None else to.nan_code
    if infinite and code is None:
        return None
    sign = to.sign_mask if value < 0 else 0
    return (code or 0) | sign if infinite else to.max_code | sign


def _carry_lost(case: Case) -> int | None:
    """Rounding carries out of the significand, and the exponent stays."""
    value, to = case.exact(), case.to
    if not isinstance(to, FloatFormat) or not isinstance(value, Fraction) or not to.trailing_bits or to.integer_bit:
        return None
    expected = case.rounded(value)
    found = to.exact(expected) if expected is not None else "nan"
    if not isinstance(found, Fraction) or not found or abs(value) < to.min_normal:
        return None
    if floor_log2(abs(found)) == floor_log2(abs(value)):
        return None
    assert expected is not None
    return expected - (1 << to.trailing_bits)


def _mode_name(mode: Rounding | Overflow) -> str:
    return mode.value.replace("_", " ")


def _hypotheses() -> Iterator[Hypothesis]:
    yield Hypothesis("subnormal operands are read as zero", FLUSHED, _operands_flushed)
    yield Hypothesis("subnormal results become zero, after rounding", FLUSHED, partial(_result_flushed, before=False))
    yield Hypothesis("subnormal results become zero, before rounding", FLUSHED, partial(_result_flushed, before=True))
    yield Hypothesis("subnormal results become +0", FLUSHED, partial(_result_flushed, before=False, keep_sign=False))
    yield Hypothesis("subnormal operands and results become zero", FLUSHED, _both_flushed)
    yield Hypothesis("subnormal results become the smallest normal", FLUSHED, _to_smallest_normal)
    for tie in NEAREST:
        yield Hypothesis(_mode_name(tie), TIE, partial(_other_tie, mode=tie))
    yield Hypothesis("rounded twice: the product is rounded before the addition", DOUBLE, _product_rounded)
    yield Hypothesis("rounded after each addition", DOUBLE, _one_by_one)
    for kept, text in ((1, "the guard digit alone"), (2, "guard and one more digit"), (3, "guard and two more digits")):
        yield Hypothesis(f"sticky lost: {text} is kept", STICKY, partial(_sticky_lost, kept=kept))
    for kept in (3, 2, 1, 0):
        yield Hypothesis(
            f"sticky lost: the smaller term is cut {kept} digits below the larger one's last", STICKY,
            partial(_alignment_cut, kept=kept),
        )  # fmt: skip
    for name in ("float64", "float32", "bfloat16", "float16"):
        yield Hypothesis(f"rounded twice, by way of {name}", DOUBLE, partial(_twice, name=name))
    for more in range(16, 0, -1):  # the more digits, the fewer rows it changes
        yield Hypothesis(
            f"rounded twice: to {more} digit{'s' * (more > 1)} more than the result has, then to its own", DOUBLE,
            partial(_twice_digits, more=more),
        )  # fmt: skip
    yield Hypothesis("rounded twice: to p digits, then to those of a subnormal", DOUBLE, _twice_subnormal)
    for limit in (Overflow.SATURATE, Overflow.PROPAGATE):
        yield Hypothesis(f"overflow: {_mode_name(limit)}", SATURATION, partial(_other_overflow, mode=limit))
    yield Hypothesis("overflow stays at the largest finite value", SATURATION, _largest_overflow)
    for limit in (Overflow.INFINITY, Overflow.NAN, Overflow.WRAP):
        yield Hypothesis(f"overflow: {_mode_name(limit)}", OVERFLOW, partial(_other_overflow, mode=limit))
    yield Hypothesis("overflow leaves the finite range", OVERFLOW, _infinite_overflow)
    yield Hypothesis("overflow becomes NaN", OVERFLOW, _nan_overflow)
    yield Hypothesis("the carry of the rounding does not reach the exponent", "other", _carry_lost)
    for mode in (*DIRECTED, *NEAREST):
        yield Hypothesis(f"rounds {_mode_name(mode)}", DIRECTION, partial(_other_mode, mode=mode))


ALL = tuple(_hypotheses())
"""Every hypothesis, from the specific to the general."""


def fitting(case: Case, got: int) -> list[Hypothesis]:
    """The hypotheses that give exactly the answer, where no fault at all does not."""
    if _answer(NO_FAULT, case) == got:
        return []
    return [h for h in ALL if _answer(h, case) == got]


NO_FAULT = Hypothesis("none", "", lambda case: case.rounded(case.exact()))


def _answer(hypothesis: Hypothesis, case: Case) -> int | None:
    try:
        return hypothesis.answer(case)
    except (ValueError, OverflowError):  # a rule that this format does not have
        return None
