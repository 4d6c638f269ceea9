"""`nfmt explain`: an `Explanation` on the screen."""

from __future__ import annotations

import argparse
from fractions import Fraction
from typing import Any

from ..explain import Explanation, Outcome, explain
from ..formats import CodebookFormat, Exact, FloatFormat
from .fields import layout_of
from .listing import number
from .numbers import decimal_text, exact_decimal, fraction_text, hex_float, power_text, scientific, short_decimal
from .reasons import Bracket, threshold
from .screen import OK, Paint, code_text, columns, put, put_json, wants_colour


def run_explain(args: argparse.Namespace) -> int:
    """Explain one value or code."""
    found = explain(
        args.format, args.value, overflow=args.overflow, platform=args.platform, random_bit_count=args.random_bits
    )
    if args.json:
        put_json(as_json(found))
        return OK
    paint = Paint(wants_colour(args.color))
    for line in lines_of(found, args.value.strip(), paint):
        put(line)
    return OK


def lines_of(e: Explanation, text: str, paint: Paint) -> list[str]:
    """All lines of an explanation."""
    head = f"{text} in {e.format}" if not e.given_as_code else f"code {code_text(e.code, e.format.bits)} of {e.format}"
    lines = [f"{paint.bold(head)}   {paint.dim(f'{e.format.bits} bits, {layout_of(e.format)}')}", ""]
    lines += [*_fields(e, paint), "", *_values(e, paint), *_where(e, paint)]
    if e.outcomes:
        lines += ["", *_outcomes(e, e.outcomes, "rounding", paint)]
    if e.overflows:
        lines += ["", *_outcomes(e, e.overflows, "overflow", paint)]
    if not e.given_as_code and e.is_exact and not e.overflows:
        lines += ["", "The format holds this value: every rounding mode gives this code."]
    if e.notes:
        lines += ["", *(paint.dim(f"note: {note}") for note in e.notes)]
    return lines


def _fields(e: Explanation, paint: Paint) -> list[str]:
    r"""The bits, and a line from each field to what it says.

    0 0111 110
    │ │    └── significand  110   1.110 = 1 + 6/8
    │ └─────── exponent     0111  7 → 2^(7 − 7) = 2^0
    └───────── sign         0     positive
    """
    starts, column = [], 0
    for field in e.fields:
        starts.append(column)
        column += len(field.bits) + 1
    lines = ["  " + " ".join(paint.field(f.name, f.bits) for f in e.fields)]
    if column > 72:
        return lines + [f"  {paint.field(f.name, f.name)}: {f.meaning}" for f in e.fields]
    wide = max(len(f.name) for f in e.fields)
    digits = max(len(f.bits) for f in e.fields)
    for i in reversed(range(len(e.fields))):
        field = e.fields[i]
        bars = "".join("│".ljust(len(f.bits) + 1) for f in e.fields[:i])
        rule = "└" + "─" * (column - starts[i] - 1)
        name = paint.field(field.name, field.name) + " " * (wide - len(field.name))
        lines.append(f"  {bars}{rule} {name}  {field.bits.ljust(digits)}  {field.meaning}")
    return lines


def _values(e: Explanation, paint: Paint) -> list[str]:
    rows = [("code", f"{paint.bold(code_text(e.code, e.format.bits))}  {e.code}  {' '.join(f.bits for f in e.fields)}")]
    if e.code >= 2**64:
        rows = [("code", paint.bold(code_text(e.code, e.format.bits)))]
    texts = [power_text(e.value) if isinstance(e.value, Fraction) else e.value]
    if not isinstance(e.value, str):
        texts += [decimal_text(e.value), hex_float(e.value) or "", e.formula]
    others = [_equals(t) for t in dict.fromkeys(texts[1:]) if t and t != texts[0]]
    rows.append(("value", "  ".join([paint.bold(texts[0]), *others])))
    rows.append(("class", e.kind))
    if isinstance(e.given, Fraction) and e.bracket is not None and (not isinstance(e.value, str) or e.value == "-0"):
        rows.append(("error", _error_words(e, e.given)))
    return [f"  {label:<8} {text}" for label, text in rows]


def _equals(text: str) -> str:
    return text if text.startswith("≈") else f"= {text}"


def _error_words(e: Explanation, given: Fraction) -> str:
    error = (Fraction(0) if isinstance(e.value, str) else e.value) - given
    ulps = "" if e.ulp is None else f"  = {_signed(error / e.ulp)} ulp"
    return _signed(error) + ulps


def _signed(value: Fraction, digits: int = 4) -> str:
    """A decimal with its sign and, where it takes more digits, a ≈."""
    exact = exact_decimal(abs(value))
    sign = "-" if value < 0 else "+"
    if exact is not None and len(exact) <= digits + 4 and value.denominator < 10**6:
        return sign + exact
    ratio = scientific(abs(value), digits)
    return ("" if Fraction(ratio) == abs(value) else "≈") + sign + ratio


def _where(e: Explanation, paint: Paint) -> list[str]:
    """Neighbours, ulp, and the dropped bits."""
    rows = []
    for label, neighbour in (("below", e.below), ("above", e.above)):
        text = (
            "none" if neighbour is None else f"{code_text(neighbour.code, e.format.bits)}  {_short(e, neighbour.value)}"
        )
        if not isinstance(e.given, str) or e.given == "-0":
            rows.append((label, text))
    if e.ulp is not None:
        rows.append(("ulp", f"{power_text(e.ulp)}, to the next value away from zero"))
    b = e.bracket
    if b is not None and not b.is_beyond:
        rows.append(("between", f"{short_decimal(b.fraction, 9)} of the way from the neighbour nearer to zero"))
        rows += [("kept", _kept_words(e, b, paint))] if b.is_even_step else []
    if b is not None and (e.overflows or b.is_beyond) and (b.value > 0 or e.format.min < 0):
        limit = threshold(e.format, b.value > 0, _default(e))
        if limit is not None:
            stays = "from" if limit[1] else "beyond"
            rows.append(("limit", f"{_default(e).value} leaves the range {stays} {_short(e, limit[0])}"))
    return [f"  {label:<8} {text}" for label, text in rows]


def _default(e: Explanation) -> Any:
    return next((o.mode for o in e.outcomes if o.is_default), e.format.default_rounding)


def _kept_words(e: Explanation, b: Bracket, paint: Paint) -> str:
    """Kept, guard and further bits of the magnitude: 1.101|1 0011… × 2^0."""
    digits, rest = "", b.fraction
    while rest and len(digits) < 25:
        rest *= 2
        digits += str(int(rest))
        rest -= int(rest)
    tail = digits[1:] + ("…" if rest else "")
    places = e.format.trailing_bits if isinstance(e.format, FloatFormat) else 0
    kept = f"{int(abs(b.near_value) / b.step):0{places + 1}b}"
    whole, stored = kept[: len(kept) - places], kept[len(kept) - places :]
    shown = f"{whole}.{stored}" if places else whole
    if len(shown) > 40:
        shown = f"{shown[:8]}…{shown[-24:]}"
    exponent = b.step.numerator.bit_length() - b.step.denominator.bit_length() + places
    scale = f" × 2^{exponent}" if exponent else ""
    dropped = f"{digits[0]} {tail}".rstrip()
    return f"{shown}{paint.bold('|')}{dropped}{scale}   guard {b.guard}, sticky {b.sticky}"


def _short(e: Explanation, value: Exact) -> str:
    """A value for a table: a decimal, or in formats of many digits, whose neighbours would look alike, a hex float."""
    if isinstance(value, str):
        return value
    wide = isinstance(e.format, FloatFormat) and e.format.precision > 24
    return (hex_float(value) if wide else None) or short_decimal(value, 9)


def _outcomes(e: Explanation, outcomes: tuple[Outcome, ...], title: str, paint: Paint) -> list[str]:
    unit = "error" if isinstance(e.format, CodebookFormat) else "error/ulp"
    rows = [(title, "code", "value", unit, "why")]
    for o in outcomes:
        name = o.mode.value + (" *" if o.is_default else "")
        chance = "" if o.chance == 1 else f"{_percent(o.chance)}: "
        error = "" if o.error is None else _signed(o.error)
        rows.append((name, code_text(o.code, e.format.bits), _short(e, o.value), error, chance + o.why))
    lines = columns(rows, "<>>><")
    marked = [paint.bold(line) if " *" in line.split("  ")[0] else line for line in lines[1:]]
    return ["  " + line for line in [paint.bold(lines[0]), *marked]] + ["  " + paint.dim("* the default")]


def _percent(chance: Fraction) -> str:
    percent = float(chance * 100)
    return f"{percent:.4g} %" if 0.001 <= percent <= 99.999 else f"p = {scientific(chance, 3)}"


# JSON


def as_json(e: Explanation) -> dict[str, Any]:
    """The explanation as JSON takes it."""
    bits = e.format.bits

    def neighbour(n: Any) -> dict[str, Any] | None:
        return None if n is None else {"code": code_text(n.code, bits), "value": number(n.value)}

    def outcome(o: Outcome) -> dict[str, Any]:
        return {
            "mode": o.mode.value, "code": code_text(o.code, bits), "value": number(o.value),
            "error": None if o.error is None else decimal_text(o.error), "chance": fraction_text(o.chance),
            "why": o.why, "is_default": o.is_default,
        }  # fmt: skip

    b = e.bracket
    return {
        "format": str(e.format), "given": number(e.given), "given_as_code": e.given_as_code, "is_exact": e.is_exact,
        "code": code_text(e.code, bits), "value": number(e.value), "class": e.kind,
        "fields": [{"name": f.name, "bits": f.bits, "meaning": f.meaning} for f in e.fields],
        "below": neighbour(e.below), "above": neighbour(e.above), "ulp": number(e.ulp),
        "guard": b.guard if b is not None and b.is_even_step else None,
        "sticky": b.sticky if b is not None and b.is_even_step else None,
        "rounding": [outcome(o) for o in e.outcomes], "overflow": [outcome(o) for o in e.overflows],
        "notes": list(e.notes),
    }  # fmt: skip
