"""What the pictures show: bit fields, classes of codes, sorted values, numbers as text. No matplotlib here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from ..arrays import value_table
from ..carriers import floor_log2
from ..formats import CodebookFormat, Exact, FixedFormat, FloatFormat, Format, Subnormals
from ..named import scalar_format


class Field(NamedTuple):
    """A run of neighbouring bits of a code."""

    name: str
    kind: str  # a key of FIELD_COLORS
    width: int


def fields(format: str | Format) -> list[Field]:
    """The fields of a code, most significant first.

    >>> [f"{field.name} {field.width}" for field in fields("e4m3fn")]
    ['sign 1', 'exponent 4', 'trailing significand 3']
    """
    fmt = scalar_format(format)
    match fmt:
        case FloatFormat(signed=False, zero=False, precision=1):  # powers of two and nothing else: E8M0
            found = [Field("scale exponent", "scale", fmt.bits)]
        case FloatFormat():
            found = [
                Field("sign", "sign", int(fmt.signed)),
                Field("exponent", "exponent", fmt.exponent_bits),
                Field("integer bit", "significand", int(fmt.integer_bit)),
                Field("trailing significand", "significand", fmt.trailing_bits),
            ]
        case FixedFormat():
            rest = fmt.bits - fmt.signed
            fraction = min(max(fmt.fraction_bits, 0), rest)
            found = [
                Field("sign", "sign", int(fmt.signed)),
                Field("integer", "significand", rest - fraction),
                Field("fraction", "significand", fraction),
            ]
        case CodebookFormat():
            found = [Field("index", "index", fmt.bits)]
    return [field for field in found if field.width]


def class_of(fmt: Format, code: int) -> str:
    """A key of CLASS_COLORS: zero, subnormal, normal, infinity, nan or unused."""
    value = fmt.exact(code)
    match value:
        case "-0":
            return "zero"
        case "inf" | "-inf":
            return "infinity"
        case "nan":
            return "unused" if not fmt.has_nan or _is_left_out(fmt, code) else "nan"
        case _:
            if value == 0:
                return "zero"
            return "subnormal" if is_subnormal(fmt, Fraction(value)) else "normal"


def _is_left_out(fmt: Format, code: int) -> bool:
    """Whether a code would be a subnormal in a format that has none."""
    if not isinstance(fmt, FloatFormat) or fmt.subnormals is not Subnormals.NONE:
        return False
    return 0 < code & fmt.magnitude_mask < 2**fmt.trailing_bits


def classes(format: str | Format) -> list[str]:
    """The class of every code of a format of at most 16 bits, in code order: keys of CLASS_COLORS.

    >>> classes("e2m1")
    ['zero', 'subnormal', 'normal', 'normal', 'normal', 'normal', 'normal', 'normal', 'zero', 'subnormal', \
'normal', 'normal', 'normal', 'normal', 'normal', 'normal']
    """
    fmt = scalar_format(format)
    return [class_of(fmt, code) for code in range(len(value_table(fmt)))]


def is_subnormal(fmt: Format, value: Fraction) -> bool:
    """Whether a value of a format lies below its normal ones."""
    return isinstance(fmt, FloatFormat) and fmt.has_subnormals and 0 < abs(value) < fmt.min_normal


def finite_values(fmt: Format) -> list[Fraction]:
    """All numbers of a format of at most 16 bits, ascending, each once."""
    return sorted({Fraction(0) if v == "-0" else v for v in value_table(fmt) if isinstance(v, Fraction) or v == "-0"})


def as_formats(formats: str | Format | Sequence[str | Format]) -> list[tuple[str, Format]]:
    """Labels and formats: names as they were given, canonical names of format objects."""
    given: Sequence[str | Format] = formats if isinstance(formats, list | tuple) else [formats]  # type: ignore[list-item]
    if not given:
        raise ValueError("no format is given; at least one is needed")
    return [(f if isinstance(f, str) else str(f), scalar_format(f)) for f in given]


def log2(value: Fraction) -> float:
    """Binary logarithm of a positive number that no float may hold."""
    return math.log2(value.numerator) - math.log2(value.denominator)


def number_text(value: Exact, digits: int = 7) -> str:
    """A value in at most `digits` digits, after ≈ where there are more; far from 1 as TeX with a power of two."""
    match value:
        case "nan":
            return "NaN"
        case "inf" | "-inf":
            return "−∞" if value == "-inf" else "∞"
        case "-0":
            return "−0"
    number = Fraction(value)
    if number == 0:
        return "0"
    magnitude = abs(number)
    power = 0 if Fraction(1, 10**4) <= magnitude < 10**7 else floor_log2(magnitude)
    leading = f"{float(magnitude / Fraction(2) ** power):.{digits if power == 0 else 4}g}"
    relation = "" if Fraction(leading) * Fraction(2) ** power == magnitude else "≈ "
    if power and leading == "2":
        leading, power = "1", power + 1
    factors = [leading] if power == 0 else [power_text(power)] if leading == "1" else [leading, power_text(power)]
    return relation + ("−" if number < 0 else "") + " × ".join(factors)


def power_text(power: float) -> str:
    """TeX of a power of two."""
    return f"$2^{{{power:.0f}}}$".replace("-", "−")
