"""`nfmt list` and `nfmt info`: what there is, and every derived fact of one format."""

from __future__ import annotations

import argparse
from fractions import Fraction
from typing import Any

from ..blocks import BlockFormat
from ..formats import CodebookFormat, Exact, FixedFormat, FloatFormat, Format
from ..named import NAMED, scalar_format, scalar_formats, source_of
from ..named_blocks import NAMED_BLOCKS, block_families, get_format, list_formats
from ..plans import resolve
from ..platforms import PLATFORMS
from ..rounding import Platform, Rounding
from ..specials import Rules, special_codes
from .blocks import block_facts, put_block_info, put_block_list
from .fields import check_size, layout_of, widths_of
from .numbers import decimal_text, fraction_text, hex_float, power_text, short_decimal
from .screen import OK, Paint, code_text, columns, put, put_json, wants_colour

HEADER = ("name", "bits", "layout", "bias", "max", "min normal", "min positive", "specials")


def run_list(args: argparse.Namespace) -> int:
    """The table of named formats."""
    names = [name for name in list_formats(args.family) if name not in NAMED_BLOCKS]
    summary = args.family is None and not args.json
    p3109 = set(scalar_formats("p3109"))
    shown = [n for n in names if n not in p3109 or not summary]
    order = list(dict.fromkeys(map(_family, shown)))
    shown.sort(key=lambda name: order.index(_family(name)))
    if args.json:
        blocks = [n for n, e in NAMED_BLOCKS.items() if args.family in (None, e.family)]
        put_json({"formats": [facts(get_format(name)) for name in (*shown, *blocks)]})
        return OK
    paint = Paint(wants_colour(args.color))
    if args.family in block_families():
        put_block_list(paint, args.family)
        return OK
    lines = columns([HEADER, *(_row(name) for name in shown)], "<>>>>>><")
    put(paint.bold("  " + lines[0]))
    family = ""
    for name, line in zip(shown, lines[1:], strict=True):
        if _family(name) != family:
            family = _family(name)
            put(paint.bold(family))
        put("  " + line)
    if summary:
        put(paint.bold("p3109"))
        put(f"  binary{{K}}p{{P}}{{s|u}}{{e|f}}: {len(p3109)} formats of 3 to 16 bits; nfmt list --family p3109")
        put(
            paint.dim("any other: e5m7, e4m3b11fnuz, q3.12, uint5, codebook(-1, 0, 1); nfmt info NAME tells all of one")
        )
        put("")
        put_block_list(paint, None)
        other = "block(e2m1, scale=e4m3, size=16), bfp(m=4, size=16x16); size may be axis or tensor too"
        put(paint.dim(f"any other: {other}"))
    return OK


def _family(name: str) -> str:
    return NAMED[name].family if name in NAMED else "p3109"


def _row(name: str) -> tuple[str, ...]:
    fmt = scalar_format(name)
    bias = str(fmt.bias) if isinstance(fmt, FloatFormat) else ""
    normal = _compact(fmt.min_normal) if isinstance(fmt, FloatFormat) else ""
    return (
        name,
        str(fmt.bits),
        layout_of(fmt),
        bias,
        short_decimal(fmt.max),
        normal,
        _compact(fmt.min_positive),
        _specials(fmt),
    )


def _compact(value: Fraction) -> str:
    text = power_text(value)
    return text if len(text) <= 10 else short_decimal(value)


def _specials(fmt: Format) -> str:
    claims = (("inf", fmt.has_infinity), ("nan", fmt.has_nan), ("-0", fmt.has_negative_zero))
    return " ".join(word for word, claim in claims if claim) or "none"


# One format


def facts(fmt: Format | BlockFormat) -> dict[str, Any]:
    """Every derived fact, as JSON takes it: exact numbers are texts."""
    if isinstance(fmt, BlockFormat):
        return block_facts(fmt)
    check_size(fmt)
    source, unverified = source_of(fmt)
    canonical = str(fmt)
    entry = NAMED.get(canonical)
    found: dict[str, Any] = {
        "name": canonical,
        "aliases": list(entry.aliases) if entry else [],
        "family": entry.family if entry else _family(canonical) if canonical in scalar_formats("p3109") else "custom",
        "kind": {FloatFormat: "float", FixedFormat: "fixed", CodebookFormat: "codebook"}[type(fmt)],
        "bits": fmt.bits,
        "layout": layout_of(fmt),
    }
    found |= _shape(fmt)
    found |= {"max": number(fmt.max), "min": number(fmt.min), "min_positive": number(fmt.min_positive)}
    if isinstance(fmt, FloatFormat):
        found |= {
            "min_normal": number(fmt.min_normal),
            "min_subnormal": number(fmt.min_subnormal),
            "epsilon": number(fmt.epsilon),
        }
    found["codes"] = {word: code_text(code, fmt.bits) for word, code in special_table(fmt)}
    found |= {"has_infinity": fmt.has_infinity, "has_nan": fmt.has_nan, "has_negative_zero": fmt.has_negative_zero}
    default = resolve(fmt, None, None, None, None)
    found |= {"default_rounding": default.rounding.value, "default_overflow": default.overflow.value}
    found["platforms"] = differences(fmt)
    found |= {"source": source, "unverified": unverified}
    return found


def _shape(fmt: Format) -> dict[str, Any]:
    match fmt:
        case FloatFormat():
            return {
                "signed": fmt.signed, "exponent_bits": fmt.exponent_bits, "trailing_bits": fmt.trailing_bits,
                "precision": fmt.precision, "bias": fmt.bias, "emin": fmt.emin, "emax": fmt.emax,
                "specials": fmt.specials.value, "subnormals": str(fmt.subnormals), "has_subnormals": fmt.has_subnormals,
            }  # fmt: skip
        case FixedFormat():
            return {
                "signed": fmt.signed, "fraction_bits": fmt.fraction_bits, "sign_magnitude": fmt.sign_magnitude,
                "quantum": number(fmt.quantum),
            }  # fmt: skip
    return {"values": [fraction_text(v) for v in fmt.values]}


def number(value: Exact | None) -> dict[str, str | None] | None:
    """An exact value for JSON, as three texts."""
    if value is None:
        return None
    return {"exact": fraction_text(value), "decimal": decimal_text(value), "hex": hex_float(value)}


def special_table(fmt: Format) -> list[tuple[str, int]]:
    """Codes worth knowing by heart."""
    sign = 2 ** (fmt.bits - 1)
    match fmt:
        case FloatFormat():
            rows = [("zero", 0 if fmt.zero else None), ("-0", sign if fmt.has_negative_zero else None)]
            rows += [("least positive", fmt.min_code), ("largest", fmt.max_code), ("infinity", fmt.infinity_code)]
            if fmt.signed:
                rows += [
                    ("-largest", fmt.max_code | sign),
                    ("-infinity", None if not fmt.has_infinity else fmt.max_code + 1 | sign),
                ]
            rows += [("nan", fmt.nan_code)]
        case FixedFormat():
            lowest = fmt.max_integer | sign if fmt.sign_magnitude else fmt.min_integer % (2 * sign)
            rows = [("zero", 0), ("least positive", 1), ("largest", fmt.max_integer), ("least", lowest)]
            rows += [("-0", sign if fmt.sign_magnitude else None)]
        case CodebookFormat():
            rows = [("least", fmt.values.index(fmt.min)), ("largest", fmt.values.index(fmt.max))]
            rows += [("zero", fmt.values.index(Fraction(0)) if 0 in fmt.values else None)]
    if isinstance(fmt, FloatFormat) and fmt.integer_bit:
        rows = [(word, None if c is None else fmt.join_integer_bit(c & sign - 1) | c & sign) for word, c in rows]
    return [(word, code) for word, code in rows if code is not None]


def differences(fmt: Format) -> dict[str, str]:
    """For each platform that rounds to this format in a way of its own: what is different."""
    plain = resolve(fmt, None, None, None, None)
    found = {}
    for name, platform in PLATFORMS.items():
        words = _difference(fmt, plain, platform)
        if words:
            found[name] = words
    return found


def _difference(fmt: Format, plain: Rules, platform: Platform) -> str:
    rules = resolve(fmt, None, None, platform, None)
    words = []
    if rules.rounding is not plain.rounding:
        words.append(rules.rounding.value)
    if rules.overflow is not plain.overflow:
        words.append(f"overflow {rules.overflow.value}")
    theirs, ours = special_codes(fmt, rules), special_codes(fmt, plain)
    for label, pair, own in (
        ("nan", theirs.nan, ours.nan),
        ("inf", theirs.infinity, ours.infinity),
        ("zero", theirs.zero, ours.zero),
    ):
        if pair != own:
            words.append(f"{label} → {' and '.join(dict.fromkeys(code_text(c, fmt.bits) for c in pair))}")
    if rules.rule.absolute:
        words.append("the sign is dropped first")
    elif theirs.negative != ours.negative:
        words.append(f"negative → {code_text(theirs.negative, fmt.bits)}")
    if rules.rule.lowest_away:
        words.append("inexact values of the lowest binade round away from zero")
    if special_codes(fmt, resolve(fmt, Rounding.TO_ODD, None, platform, None)).overflow != (
        special_codes(fmt, resolve(fmt, Rounding.TO_ODD, rules.overflow, None, None)).overflow
    ):
        words.append("to odd overflows to infinity")
    return ", ".join(words)


def run_info(args: argparse.Namespace) -> int:
    """All of one format."""
    fmt = get_format(args.format)
    found = facts(fmt)
    if args.json:
        put_json(found)
        return OK
    paint = Paint(wants_colour(args.color))
    if isinstance(fmt, BlockFormat):
        put_block_info(paint, fmt, found)
        return OK
    put(paint.bold(found["name"]))
    for line in columns(_info_rows(fmt, found), "<<"):
        put("  " + line)
    put(paint.bold("codes"))
    for line in columns([(word, code) for word, code in found["codes"].items()], "<>"):
        put("  " + line)
    if isinstance(fmt, CodebookFormat):
        put(paint.bold("values"))
        for line in columns([(code_text(i, fmt.bits), decimal_text(v, 9)) for i, v in enumerate(fmt.values)], "<<"):
            put("  " + line)
    if found["platforms"]:
        put(paint.bold("platforms with rules of their own"))
        for line in columns(list(found["platforms"].items()), "<<"):
            put("  " + line)
    return OK


def _info_rows(fmt: Format, found: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("aliases", ", ".join(found["aliases"])), ("family", found["family"]), ("bits", _bits_words(fmt))]
    match fmt:
        case FloatFormat():
            rows += [
                ("precision", f"{fmt.precision} digits, {fmt.trailing_bits} of them stored"),
                ("exponents", f"bias {fmt.bias}; emin {fmt.emin}, emax {fmt.emax}"),
                ("specials", f"{fmt.specials.value}: {_specials(fmt)}"),
                ("subnormals", str(fmt.subnormals)),
            ]
        case FixedFormat():
            rows += [("quantum", _value_words(fmt.quantum))]
        case CodebookFormat():
            rows += [("values", str(len(fmt.values)))]
    rows += [
        ("max", _value_words(fmt.max)),
        ("min", _value_words(fmt.min)),
        ("least positive", _value_words(fmt.min_positive)),
    ]
    if isinstance(fmt, FloatFormat):
        rows += [("min normal", _value_words(fmt.min_normal)), ("epsilon", _value_words(fmt.epsilon))]
    rows += [("rounding", found["default_rounding"]), ("overflow", found["default_overflow"])]
    rows += [("source", found["source"]), ("unverified", found["unverified"])]
    return [(label, text) for label, text in rows if text]


def _bits_words(fmt: Format) -> str:
    match fmt:
        case FloatFormat():
            return f"{fmt.bits}: {', '.join(f'{name} {width}' for name, width in widths_of(fmt))}"
        case FixedFormat():
            kind = "sign and magnitude" if fmt.sign_magnitude else "two's complement" if fmt.signed else "unsigned"
            return f"{fmt.bits}: {kind}, {fmt.fraction_bits} after the point"
    return f"{fmt.bits}: index into a list"


def _value_words(value: Fraction) -> str:
    exact, decimal, hexadecimal = power_text(value), decimal_text(value), hex_float(value)
    return "  =  ".join(dict.fromkeys(t for t in (exact, decimal, hexadecimal) if t is not None)).replace("=  ≈", "≈  ")
