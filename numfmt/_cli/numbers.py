"""Exact numbers as text, both ways: nothing here goes through a float."""

from __future__ import annotations

import re
from decimal import MAX_EMAX, MIN_EMIN, Context
from fractions import Fraction

from ..formats import Exact

_HEX_FLOAT = re.compile(r"([+-]?)0x([0-9a-f]*)(?:\.([0-9a-f]*))?(?:p([+-]?\d+))?", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(?=\.?\d)[\d_]*(?:\.[\d_]*)?(?:e([+-]?\d+))?", re.ASCII)
_RATIO = re.compile(r"[+-]?\d+/\d+", re.ASCII)
_CODE = re.compile(r"0x[0-9a-f_]+|0b[01_]+", re.ASCII)
_SPECIALS: dict[str, Exact] = {"nan": "nan", "inf": "inf", "infinity": "inf", "-inf": "-inf", "-infinity": "-inf"}

LARGEST_EXPONENT = 100_000  # of decimal and hex-float texts; binary256 ends at 1.6e78913
WIDEST = 40  # digits of a number that is written out
MAX_DIGITS = 2 * LARGEST_EXPONENT  # no operand has more: Decimal must not round them


def parse_value(text: str) -> Exact:
    """The exact value of a text: 1.7, -0x1.8p3, 1/3, 6.02e23, inf, nan, -0.

    Raises:
        ValueError: the text is no number.

    >>> parse_value("1.7"), parse_value("-0x1.8p3"), parse_value("-0")
    (Fraction(17, 10), Fraction(-12, 1), '-0')
    """
    plain = text.strip().lower()
    special = _SPECIALS.get(plain.removeprefix("+")) or ("nan" if plain == "-nan" else None)
    if special is not None:
        return special
    value = _finite(plain, text)
    return "-0" if value == 0 and plain.startswith("-") else value


def _finite(plain: str, text: str) -> Fraction:
    match = _HEX_FLOAT.fullmatch(plain)
    if match and (match[2] or match[3]):
        exponent = _checked_exponent(match[4], text)
        fraction = match[3] or ""
        digits = Fraction(int((match[2] or "0") + fraction, 16), 16 ** len(fraction))
        return (-digits if match[1] == "-" else digits) * Fraction(2) ** exponent
    match = _DECIMAL.fullmatch(plain)
    if match is None and not _RATIO.fullmatch(plain):
        raise ValueError(f"{text.strip()!r} is no number; numbers are written 1.7, -3e-5, 0x1.8p3, 1/3, inf or nan")
    _checked_exponent(match[1] if match else None, text)
    try:
        return Fraction(plain)
    except ZeroDivisionError:
        raise ValueError(f"{text.strip()!r} divides by zero") from None
    except ValueError:  # Python reads integers of at most 4300 digits
        raise ValueError(f"{text.strip()[:20]!r}… cannot be read: a stray '_', or more than 4300 digits") from None


def _checked_exponent(digits: str | None, text: str) -> int:
    if digits is None:
        return 0
    if len(digits) > 8 or abs(int(digits)) > LARGEST_EXPONENT:
        raise ValueError(f"{text.strip()!r} has an exponent beyond ±{LARGEST_EXPONENT}")
    return int(digits)


def is_code(text: str) -> bool:
    """Whether a text is a code: 0x7e, 0b0_1111_110.

    >>> is_code("0x7e"), is_code("0x7ep0"), is_code("0b0_1111_110"), is_code("12")
    (True, False, True, False)
    """
    return _CODE.fullmatch(text.strip().lower()) is not None


def parse_code(text: str, bits: int) -> int:
    """The code of a text; raises ValueError where it does not fit `bits` bits."""
    digits = text.strip().lower().replace("_", "")
    code = int(digits, 0)
    if code >> bits or (digits.startswith("0b") and len(digits) - 2 > bits):
        raise ValueError(f"code {text.strip()} is given; the format has {bits} bits, codes up to {2**bits - 1:#x}")
    return code


# To text


def odd_part(value: Fraction) -> tuple[int, int] | None:
    """(m, e) with value = m × 2**e and m odd or 0; None for what is not dyadic."""
    n, d = value.numerator, value.denominator
    if d & (d - 1):
        return None
    if n == 0:
        return 0, 0
    zeros = (n & -n).bit_length() - 1
    return n >> zeros, zeros - (d.bit_length() - 1)


def fraction_text(value: Exact) -> str:
    """Exact text of a value: a ratio of integers, m × 2^e where those are long, a name for specials.

    What is long and not dyadic is a decimal after a ≈.

    >>> fraction_text(Fraction(-7, 4)), fraction_text(Fraction(3, 2**200)), fraction_text("inf")
    ('-7/4', '3 × 2^-200', 'inf')
    """
    if isinstance(value, str):
        return value
    if max(value.numerator.bit_length(), value.denominator.bit_length()) <= 64:
        return str(value)
    parts = odd_part(value)
    if parts is None:
        return decimal_text(value)
    m, e = parts
    sign = "-" if m < 0 else ""
    if abs(m) == 1:
        return f"{sign}2^{e}"
    return f"{m if abs(m) < 10**20 else hex(m)} × 2^{e}"


def power_text(value: Fraction) -> str:
    """As `fraction_text`, powers of two below 1/8 and above 1024 written 2^e.

    >>> power_text(Fraction(1, 64)), power_text(Fraction(3, 8))
    ('2^-6', '3/8')
    """
    parts = odd_part(value)
    if parts is not None and parts[0] == 1 and not -3 <= parts[1] <= 10:
        return f"2^{parts[1]}"
    return fraction_text(value)


def decimal_text(value: Exact, digits: int = 17) -> str:
    """Decimal text: every digit where that takes at most 40, else `digits` of them after a ≈.

    >>> decimal_text(Fraction(1, 512)), decimal_text(Fraction(1, 3), 5), decimal_text(Fraction(2)**-149, 5)
    ('0.001953125', '≈0.33333', '≈1.4013e-45')
    """
    if isinstance(value, str):
        return value
    exact = exact_decimal(value)
    return exact if exact is not None else "≈" + scientific(value, digits)


def exact_decimal(value: Fraction) -> str | None:
    """All decimal digits of a value, or None where there are more than 40 or no end of them."""
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > 8 * WIDEST:
        return None
    rest, twos, fives = value.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    places = max(twos, fives)
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    if rest != 1 or len(digits) > WIDEST:
        return None
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[:-places]}.{digits[-places:]}" if places else sign + digits


def scientific(value: Fraction, digits: int) -> str:
    """`digits` significant decimal digits, rounded half to even."""
    context = Context(prec=digits, Emax=MAX_EMAX, Emin=MIN_EMIN)
    wide = Context(prec=MAX_DIGITS, Emax=MAX_EMAX, Emin=MIN_EMIN)
    quotient = context.divide(wide.create_decimal(value.numerator), wide.create_decimal(value.denominator))
    return f"{quotient.normalize(context):g}".lower().replace("e+", "e")


def short_decimal(value: Fraction, digits: int = 5) -> str:
    """A decimal for tables: exact where that is short, else a few digits after a ≈.

    >>> short_decimal(Fraction(448)), short_decimal(Fraction(2)**127)
    ('448', '≈1.7014e38')
    """
    exact = exact_decimal(value)
    return exact if exact is not None and len(exact.lstrip("-")) <= digits + 5 else "≈" + scientific(value, digits)


def hex_float(value: Exact) -> str | None:
    """A C99 hex float, normalised, without trailing zeros; None for what is not dyadic.

    >>> hex_float(Fraction(448)), hex_float(Fraction(-1, 512)), hex_float("-0")
    ('0x1.cp+8', '-0x1p-9', '-0x0p+0')
    """
    if isinstance(value, str):
        return "-0x0p+0" if value == "-0" else value
    parts = odd_part(value)
    if parts is None:
        return None
    m, e = parts
    if m == 0:
        return "0x0p+0"
    width = abs(m).bit_length() - 1
    fraction = abs(m) - (1 << width)
    digits = -(-width // 4)
    tail = f".{fraction << (4 * digits - width):0{digits}x}" if width else ""
    return f"{'-' if m < 0 else ''}0x1{tail}p{e + width:+d}"
