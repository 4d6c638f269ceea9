"""A row written in bits: operands, the exact result with its guard and sticky digits, its neighbours, the answers."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from .._cli.fields import bits_of, class_of, formula_of
from .._cli.numbers import decimal_text, fraction_text, short_decimal
from .._cli.reasons import bracket_of, why
from ..formats import CodebookFormat, Exact, FixedFormat, FloatFormat, Format
from .explain_case import Case

if TYPE_CHECKING:
    from .functions import Function

FLAGS = ((16, "invalid"), (8, "division by zero"), (4, "overflow"), (2, "underflow"), (1, "inexact"))
DIGITS = 24  # dropped digits that are written out


def value_of(code: int, fmt: Format) -> Exact:
    """The value of a code; bits above the format's width are ignored."""
    return fmt.exact(code & (1 << fmt.bits) - 1)


def operand_lines(function: Function, operands: Sequence[Any]) -> list[str]:
    """The operands, decoded."""
    lines = []
    for name, fmt, codes in zip(function.operand_names, function.sources, operands, strict=True):
        every = np.atleast_1d(np.asarray(codes, object)).tolist()
        if np.ndim(codes) == 0:
            lines.append(f"{name:<9} {_decoded(int(every[0]), fmt)}")
        else:
            shown = [value_text(value_of(int(code), fmt)) for code in every[:8]]
            lines.append(f"{name:<9} {', '.join(shown)}{f', … {len(every)} of them' if len(every) > 8 else ''}")
    return lines


def _decoded(code: int, fmt: Format) -> str:
    """A code, its fields and its value."""
    fields, formula = " ".join(bits_of(fmt, code)), formula_of(fmt, code)
    value = value_of(code, fmt)
    kind = class_of(fmt, code)
    tail = f" ({kind})" if kind in ("subnormal", "unused") else ""
    middle = f" = {formula}" if formula and kind in ("normal", "subnormal") else ""
    return f"{_hex(code, fmt)} = {fields}{middle} = {value_text(value)}{tail}"


def _hex(code: int, fmt: Format) -> str:
    return f"{code & (1 << fmt.bits) - 1:#0{2 + -(-fmt.bits // 4)}x}"


def value_text(value: Exact) -> str:
    """A value for a line: a short decimal, or the word."""
    return value if isinstance(value, str) else short_decimal(value, 9)


def code_text(code: int, to: Format | None) -> str:
    """A code and its value; of comparisons true or false."""
    if to is None:
        return "true" if code else "false"
    return f"{_hex(code, to)} = {value_text(value_of(code, to))}"


def exact_lines(case: Case) -> list[str]:
    """The exact result in digits, and its neighbours."""
    value, to = case.exact(), case.to
    if value is None:
        return []
    if not isinstance(value, Fraction) or value == 0:
        return [f"exact     {fraction_text(value)}"]
    lines = [f"exact     {significand(case, value)}"]
    if isinstance(to, FloatFormat | FixedFormat) and case.operation != "round_to_integral":
        lines += _between(to, value)
    return lines


def significand(case: Case, value: Fraction) -> str:
    """Kept digits | guard | what follows, as a text."""
    unit, sign = case.unit(value), "-" if value < 0 else "+"
    if unit is None:
        return short_decimal(value, 9)
    kept, rest = divmod(abs(value), unit)
    guard, sticky = int(rest * 2 >= unit), int(rest * 2 not in (0, unit))
    digits, scale = _digits(int(kept), unit, None if case.operation == "round_to_integral" else case.to)
    dropped = ""
    tail = rest * 2 % unit
    while tail and len(dropped) < DIGITS:
        tail *= 2
        dropped += str(int(tail >= unit))
        tail %= unit
    text = f"{sign}{digits}|{guard}|{dropped or '0'}{'…' if tail else ''}{scale}"
    tie = ": a tie" if guard and not sticky else ""
    return f"{text} = {_short(value)}: guard {guard}, sticky {sticky}{tie}"


def _short(value: Fraction) -> str:
    return decimal_text(value, 12) if value.denominator.bit_length() < 60 else short_decimal(value, 12)


def _digits(kept: int, unit: Fraction, to: Format | None) -> tuple[str, str]:
    """The kept digits with their point, and the power of two behind them."""
    exponent = unit.numerator.bit_length() - unit.denominator.bit_length()
    if not isinstance(to, FloatFormat):
        return f"{kept:b}", f" × 2^{exponent}" if exponent else ""
    digits = f"{kept:0{to.precision}b}"
    places = len(digits) - 1
    return f"{digits[0]}.{digits[1:]}" if places else digits, f" × 2^{exponent + places}"


def _between(to: FloatFormat | FixedFormat, value: Fraction) -> list[str]:
    try:
        b = bracket_of(to, value)
    except (ValueError, ZeroDivisionError):
        return []
    if b.is_beyond:
        return [f"beyond    {short_decimal(to.max if value > 0 else to.min, 9)}, the end of the range"]
    if b.fraction == 0:
        return []
    far = f"{float(b.fraction):.6g}"
    inner, outer = short_decimal(b.near_value, 9), short_decimal(b.far_value, 9)
    return [f"between   {inner} and {outer}, {far} of the way"]


def reason(case: Case) -> str:
    """Why the right answer is right, in the words of `nfmt explain`."""
    value = case.exact()
    if not isinstance(value, Fraction) or case.rules.rounding.is_stochastic or case.operation == "round_to_integral":
        return ""
    found = value_of(case.expected, case.to)
    if found == value:
        return "exact"
    try:
        reason = why(case.to, bracket_of(case.to, value), case.rules, case.expected)
    except (ValueError, KeyError, ZeroDivisionError):
        return ""
    return "" if case.rounded(value) != case.expected else reason  # a platform has its own rules


def distance(to: Format | None, expected: int, got: int) -> str:
    """How far the answer is from the right one."""
    if to is None or expected == got:
        return ""
    apart = steps(to, expected, got)
    if not apart:
        return ""
    unit = "ulp" if isinstance(to, FloatFormat) else "step"
    return f", {abs(apart)} {unit}{'s' * (abs(apart) > 1)} {'above' if apart > 0 else 'below'}"


def flag_lines(expected: int | None, got: int | None) -> list[str]:
    """The flags, where they differ."""
    if expected is None or got is None:
        return []
    return [f"flags     {flag_names(expected)} expected, {flag_names(got)} given"] if expected != got else []


def flag_names(flags: int) -> str:
    """Exception flags by name: overflow+inexact.

    >>> flag_names(5), flag_names(0)
    ('05 (overflow, inexact)', '00 (none)')
    """
    return f"{flags:02x} ({', '.join(name for bit, name in FLAGS if flags & bit) or 'none'})"


def steps(to: Format, expected: int, got: int) -> int | None:
    """Codes from the right one to the answer, in order of value."""
    if isinstance(to, CodebookFormat):
        return None
    ranks = []
    for code in (expected, got):
        value = value_of(code, to)
        if value == "nan":
            return None
        if isinstance(to, FloatFormat):
            size = code & to.magnitude_mask
            ranks.append(-size if to.signed and code & to.sign_mask else size)
        else:
            ranks.append(int(Fraction(0 if isinstance(value, str) else value) / to.quantum))
    return ranks[1] - ranks[0]
