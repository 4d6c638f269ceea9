"""What the bit fields of one code say."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ..formats import CodebookFormat, Exact, FixedFormat, FloatFormat, Format, Subnormals
from .numbers import fraction_text, power_text

LARGEST_EXPONENT_BITS = 20


@dataclass(frozen=True)
class Field:
    """A run of bits of a code, its name, and what it means there."""

    name: str  # sign, exponent, integer bit, significand, integer, fraction, index
    bits: str
    meaning: str


def check_size(fmt: Format) -> None:
    """Raises ValueError for floats whose exact values are too long to write (2**(2**20) and beyond)."""
    if not isinstance(fmt, FloatFormat):
        return
    if fmt.exponent_bits > LARGEST_EXPONENT_BITS or abs(fmt.bias) > 2**LARGEST_EXPONENT_BITS:
        raise ValueError(
            f"the format has {fmt.exponent_bits} exponent bits and bias {fmt.bias}; exact values are written"
            f" for at most {LARGEST_EXPONENT_BITS}, and a bias within ±2^{LARGEST_EXPONENT_BITS}"
        )


def class_of(fmt: Format, code: int) -> str:
    """Class of a code: normal, subnormal, zero, inf, nan; value for codebooks and fixed point; unused."""
    value = fmt.exact(code)
    if value in ("inf", "-inf"):
        return "inf"
    if value == "nan":
        return "unused" if _is_unused(fmt, code) else "nan"
    if value in (0, "-0"):
        return "zero"
    if not isinstance(fmt, FloatFormat):
        return "value"
    assert not isinstance(value, str)
    return "normal" if abs(value) >= fmt.min_normal else "subnormal"


def _is_unused(fmt: Format, code: int) -> bool:
    if not isinstance(fmt, FloatFormat):
        return True
    code &= 2**fmt.bits - 1
    if fmt.integer_bit and fmt.split_integer_bit(code)[0] == "nan":
        return True
    return fmt.subnormals is Subnormals.NONE and 0 < code & fmt.magnitude_mask < 2**fmt.trailing_bits


def widths_of(fmt: Format) -> list[tuple[str, int]]:
    """Names and widths of the fields, most significant first."""
    match fmt:
        case FloatFormat():
            widths = [
                ("sign", int(fmt.signed)),
                ("exponent", fmt.exponent_bits),
                ("integer bit", int(fmt.integer_bit)),
                ("significand", fmt.trailing_bits),
            ]
        case FixedFormat():
            fraction = min(max(fmt.fraction_bits, 0), fmt.bits - fmt.signed)
            widths = [("sign", int(fmt.signed)), ("integer", fmt.bits - fmt.signed - fraction), ("fraction", fraction)]
        case CodebookFormat():
            widths = [("index", fmt.bits)]
    return [(name, width) for name, width in widths if width]


def layout_of(fmt: Format) -> str:
    """Field widths as text: 1/4/3 for sign, exponent, trailing significand.

    >>> from numfmt.named import scalar_format
    >>> layout_of(scalar_format("e4m3fn")), layout_of(scalar_format("q3.4")), layout_of(scalar_format("nf4"))
    ('1/4/3', '1+3.4', '16 values')
    """
    match fmt:
        case FloatFormat():
            middle = f"{fmt.exponent_bits}/1/" if fmt.integer_bit else f"{fmt.exponent_bits}/"
            return f"{int(fmt.signed)}/{middle}{fmt.trailing_bits}"
        case FixedFormat():
            return f"{int(fmt.signed)}+{fmt.bits - fmt.signed - fmt.fraction_bits}.{fmt.fraction_bits}"
    return f"{len(fmt.values)} values"


def bits_of(fmt: Format, code: int) -> list[str]:
    """Binary digits of each field."""
    digits = f"{code & 2**fmt.bits - 1:0{fmt.bits}b}"
    parts, start = [], 0
    for _, width in widths_of(fmt):
        parts.append(digits[start : start + width])
        start += width
    return parts


def fields_of(fmt: Format, code: int) -> tuple[Field, ...]:
    """The fields of a code with their meanings."""
    named = [(name, bits) for (name, _), bits in zip(widths_of(fmt), bits_of(fmt, code), strict=True)]
    match fmt:
        case FloatFormat():
            meanings = _float_meanings(fmt, code, dict(named))
        case FixedFormat():
            meanings = _fixed_meanings(fmt, dict(named))
        case CodebookFormat():
            index = code & 2**fmt.bits - 1
            meanings = {
                "index": f"entry {index} of {len(fmt.values)}" if index < len(fmt.values) else "beyond the list"
            }
    return tuple(Field(name, bits, meanings[name]) for name, bits in named)


def _float_meanings(fmt: FloatFormat, code: int, bits: dict[str, str]) -> dict[str, str]:
    value, kind, t = fmt.exact(code), class_of(fmt, code), fmt.trailing_bits
    field = int(bits["exponent"], 2)
    fraction = int(bits["significand"], 2) if t else 0
    leading = int(kind == "normal") if "integer bit" not in bits else int(bits["integer bit"])
    meanings = {
        "sign": "negative" if bits.get("sign") == "1" else "positive",
        "integer bit": "the leading digit of the significand, stored",
        "exponent": f"{field}",
        "significand": f"{fraction}",
    }
    if isinstance(value, str) and value != "-0":
        what = "unused" if kind == "unused" else value
        return meanings | {"exponent": f"{field}, with the bits below: {what}", "significand": f"{fraction}: {what}"}
    digits = f"{leading}.{bits.get('significand', '')}"
    tail = f"{digits} = {leading} + {fraction}/{2**t}" if t <= 24 else f"{digits}₂"
    if kind == "normal":
        meanings["exponent"] = f"{field} → 2^({field} − {fmt.bias}) = 2^{field - fmt.bias}"
    else:
        lowest = fmt.emin - (fmt.subnormals is Subnormals.SHIFTED)
        meanings["exponent"] = f"{field}: zero and subnormals, 2^{lowest}" if fmt.has_subnormals else f"{field}: zero"
    meanings["significand"] = tail
    return meanings


def _fixed_meanings(fmt: FixedFormat, bits: dict[str, str]) -> dict[str, str]:
    negative = bits.get("sign") == "1"
    if fmt.sign_magnitude:
        sign = "negative" if negative else "positive"
    else:
        sign = f"−{power_text((fmt.max_integer + 1) * fmt.quantum)}, two's complement" if negative else "not negative"
    integer, fraction = (int(bits.get(name, "0"), 2) for name in ("integer", "fraction"))
    lowest = len(bits.get("fraction", "")) - fmt.fraction_bits  # exponent of the integer field's last bit
    return {
        "sign": sign,
        "integer": f"{integer}" if lowest == 0 else f"{integer} × 2^{lowest}",
        "fraction": f"{fraction} × 2^{-fmt.fraction_bits}",
    }


def formula_of(fmt: Format, code: int) -> str:
    """How the fields multiply to the value; empty for what is no product."""
    value = fmt.exact(code)
    if isinstance(value, str):
        return ""
    match fmt:
        case FloatFormat():
            return _float_formula(fmt, code, value)
        case FixedFormat():
            return f"{value / fmt.quantum} × 2^{-fmt.fraction_bits}" if fmt.fraction_bits else ""
    return ""


def _float_formula(fmt: FloatFormat, code: int, value: Exact) -> str:
    assert not isinstance(value, str)
    if value == 0:
        return ""
    field = int(dict(zip((n for n, _ in widths_of(fmt)), bits_of(fmt, code), strict=True))["exponent"], 2)
    exponent = field - fmt.bias
    if class_of(fmt, code) == "subnormal":
        exponent = fmt.emin - (fmt.subnormals is Subnormals.SHIFTED)
    elif fmt.integer_bit and field == 0:
        exponent = fmt.emin
    scaled = abs(value) / Fraction(2) ** exponent
    if scaled.numerator.bit_length() > 24:
        return ""
    return f"{'−' if value < 0 else ''}{fraction_text(scaled)} × 2^{exponent}"
