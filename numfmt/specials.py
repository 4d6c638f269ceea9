"""What overflow, infinities, NaN, zeros and refused signs become: codes, for operands of both signs."""

from __future__ import annotations

from typing import NamedTuple

from .formats import CodebookFormat, FixedFormat, FloatFormat, Format, Specials
from .rounding import Overflow, Rounding, Rule


class Rules(NamedTuple):
    """Rounding rules after names, defaults and the platform are resolved."""

    rounding: Rounding
    overflow: Overflow
    rule: Rule
    random_bit_count: int  # 0 for the deterministic modes
    wrap_bits: int = 0


class SpecialCodes(NamedTuple):
    """Codes of the special results, for operands of both signs."""

    overflow: tuple[int, int]
    infinity: tuple[int, int]
    nan: tuple[int, int]
    zero: tuple[int, int]
    negative: int  # a negative operand in an unsigned format, unless it rounds to zero


def special_codes(fmt: Format, rules: Rules) -> SpecialCodes:
    """What special operands become under `rules` (DESIGN section 6)."""
    match fmt:
        case FloatFormat():
            return _float_specials(fmt, rules)
        case FixedFormat():
            return _fixed_specials(fmt, rules)
        case CodebookFormat():
            low, high = fmt.values.index(fmt.min), fmt.values.index(fmt.max)
            zero = nearest_to_zero(fmt)
            return SpecialCodes((high, low), (high, low), (zero, zero), rules.rule.zero or (zero, zero), low)


def nearest_to_zero(fmt: CodebookFormat) -> int:
    """Code of the value next to zero; of two, the one of even rank in ascending order."""
    ranks = sorted(set(fmt.values))
    least = min(abs(v) for v in ranks)
    best = [v for v in ranks if abs(v) == least]
    return fmt.values.index(next((v for v in best if ranks.index(v) % 2 == 0), best[0]))


def _float_specials(fmt: FloatFormat, rules: Rules) -> SpecialCodes:
    rule, overflow = rules.rule, rules.overflow
    sign = fmt.sign_mask
    largest = (fmt.max_code, fmt.max_code | sign)
    nan = rule.nan or ((fmt.max_code,) * 2 if fmt.nan_code is None else (fmt.nan_code,) * 2)
    symbol = largest
    if fmt.infinity_code is not None:
        symbol = (fmt.infinity_code, fmt.infinity_code | sign)
    elif overflow is Overflow.NAN or fmt.specials is Specials.MERGED:
        symbol = nan
    outward = symbol if overflow in (Overflow.INFINITY, Overflow.NAN) else largest

    def beyond(negative: bool) -> int:
        inside = rules.rounding.stays_inside(negative)
        if rules.rounding is Rounding.TO_ODD and rule.odd_overflows and fmt.signed:
            inside = False
        return (largest if inside else outward)[negative]

    infinity = rule.infinity or (largest if overflow is Overflow.SATURATE else symbol)
    zero = rule.zero or (0, sign if fmt.has_negative_zero else 0)
    if fmt.signed:
        return SpecialCodes((beyond(False), beyond(True)), infinity, nan, zero, 0)
    clamps = overflow in (Overflow.SATURATE, Overflow.PROPAGATE) or fmt.nan_code is None
    invalid = 0 if clamps and (fmt.zero or fmt.nan_code is None) else nan[1]
    clipped = rules.rounding in (Rounding.TOWARD_ZERO, Rounding.TOWARD_POSITIVE) and fmt.zero
    negative = 0 if clipped else invalid
    if rule.negative is not None:
        negative = rule.negative
    minus_infinity = invalid if rule.infinity is None else rule.infinity[1]
    return SpecialCodes((beyond(False), negative), (infinity[0], minus_infinity), nan, zero, negative)


def _fixed_specials(fmt: FixedFormat, rules: Rules) -> SpecialCodes:
    sign = 2 ** (fmt.bits - 1)
    lowest = fmt.max_integer | sign if fmt.sign_magnitude else fmt.min_integer % 2**fmt.bits
    ends = (fmt.max_integer, lowest)
    if rules.overflow is Overflow.SYMMETRIC:
        ends = (fmt.max_integer, -fmt.max_integer % 2**fmt.bits)
    elif rules.overflow is Overflow.SATURATE_ZERO:
        ends = (0, 0)
    rule = rules.rule
    zero = (0, sign if fmt.sign_magnitude else 0)
    return SpecialCodes(ends, rule.infinity or ends, rule.nan or (0, 0), zero, 0)
