"""Named formats (formats.toml), the P3109 rule, and constructors for custom ones."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from spec.formats import CodebookFormat, FixedFormat, FloatFormat, Format, nearest_binary32, power_of_two


def float_format(exponent_bits: int, trailing_bits: int, *, bias: int | None = None, signed: bool = True,
                 infinity: str = "ieee", nan: str = "ieee", name: str = "float", default_overflow: str | None = None,
                 explicit_integer_bit: bool = False, **fields: Any) -> FloatFormat:
    """A custom float; the bias is IEEE's unless given."""
    if bias is None:
        bias = 2 ** (exponent_bits - 1) - 1
    if default_overflow is None:
        default_overflow = "saturate" if infinity == "none" else "infinity"
    bits = signed + exponent_bits + explicit_integer_bit + trailing_bits
    return FloatFormat(name, fields.pop("bits", bits), signed, default_overflow=default_overflow, bias=bias,
                       exponent_bits=exponent_bits, trailing_bits=trailing_bits, infinity=infinity, nan=nan,
                       explicit_integer_bit=explicit_integer_bit, **fields)


def fixed(bits: int, fraction_bits: int, signed: bool = True, encoding: str = "twos_complement", *,
          name: str = "fixed", **fields: Any) -> FixedFormat:
    return FixedFormat(name, bits, signed, fraction_bits=fraction_bits, encoding=encoding, **fields)


def codebook(values: Iterable[Fraction | int | str], *, bits: int | None = None, name: str = "codebook",
             rounded_to: str | None = None, **fields: Any) -> CodebookFormat:
    exact = [Fraction(value) for value in values]
    if rounded_to == "binary32":
        exact = [nearest_binary32(value) for value in exact]
    if bits is None:
        bits = max(1, (len(exact) - 1).bit_length())
    return CodebookFormat(name, bits, min(exact) < 0, values=tuple(exact), **fields)


def p3109(bits: int, precision: int, signed: bool, extended: bool) -> FloatFormat:
    """Binary{K, P, signedness, domain} of IEEE P3109 v4.0, 3.1 and 4.7.2."""
    if bits < 3 or not 0 < precision < bits + (not signed):
        raise ValueError(f"P3109 needs K > 2 and 0 < P < K, or P = K where unsigned; given K = {bits}, P = {precision}")
    return float_format(
        bits - precision + (not signed), precision - 1, bias=2 ** (bits - precision - signed), signed=signed,
        infinity="top" if extended else "none", nan="negative_zero" if signed else "all_ones",
        name=f"binary{bits}p{precision}{'s' if signed else 'u'}{'e' if extended else 'f'}",
        source="IEEE P3109 Interim Report v4.0, 3.1, 4.7.2 and 4.7.6",
    )


@cache
def load_formats() -> dict[str, Format]:
    """Every named format under its name and its aliases."""
    constructors: dict[str, Callable[..., Format]] = {"float": float_format, "fixed": fixed, "codebook": codebook}
    formats: dict[str, Format] = {}
    for name, fields in tomllib.loads(Path(__file__).with_name("formats.toml").read_text()).items():
        construct = constructors[fields.pop("kind")]
        stated_max = fields.pop("max", None)
        aliases = tuple(alias.lower() for alias in fields.pop("aliases"))
        fmt = construct(name=name, aliases=aliases, **fields)
        if isinstance(fmt, FloatFormat) and fmt.max != parse_exact(stated_max):
            raise ValueError(f"{name}: the fields give max {fmt.max}, the table says {stated_max}")
        for key in (name, *aliases):
            if key in formats:
                raise ValueError(f"two formats are called {key}")
            formats[key] = fmt
    return formats


@cache
def get(name: str) -> Format:
    """A named format; also binary{K}p{P}{s|u}{e|f}, and q{I}.{F} or uq{I}.{F} fixed point (a sign bit on top of I)."""
    name = name.lower()
    if name in load_formats():
        return load_formats()[name]
    if found := re.fullmatch(r"binary(\d+)p(\d+)([su])([ef])", name):
        bits, precision, signedness, domain = found.groups()
        return p3109(int(bits), int(precision), signedness == "s", domain == "e")
    if found := re.fullmatch(r"(u?)q(\d+)\.(\d+)", name):
        unsigned, integer_bits, fraction_bits = found.groups()
        bits = (not unsigned) + int(integer_bits) + int(fraction_bits)
        return fixed(bits, int(fraction_bits), not unsigned, name=name)
    raise ValueError(f"no format is called {name}")


def resolve(fmt: Format | str) -> Format:
    return get(fmt) if isinstance(fmt, str) else fmt


def parse_exact(text: str) -> Fraction:
    """A fraction written as 448, 2^-9, 255*2^120 or 513*2^-40."""
    factor, _, power = text.rpartition("*") if "^" in text else (text, "", "2^0")
    return Fraction(factor or 1) * power_of_two(int(power.removeprefix("2^")))
