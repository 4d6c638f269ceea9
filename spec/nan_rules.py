"""Which NaN an operation gives: the canonical one, or an operand's that is carried on. The platforms differ."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import floor
from typing import NamedTuple

from spec.formats import FloatFormat, Format, Value
from spec.values import value

PLATFORMS = ("riscv", "x86.sse", "arm", "nvidia")
HALF = Fraction(1, 2)


class Operand(NamedTuple):
    """A code with its meaning."""

    code: int
    format: Format
    value: Value
    signaling: bool  # a NaN of a format with IEEE 754's specials whose first trailing digit is 0


def read(code: int, fmt: Format) -> Operand:
    code %= 2**fmt.bits  # bits above the format do not count
    found = value(code, fmt)
    ieee = isinstance(fmt, FloatFormat) and fmt.nan == "ieee"
    signaling = ieee and found == "nan" and code % fmt.steps < fmt.steps // 2
    return Operand(code, fmt, found, signaling)


def nan_code(operands: Sequence[Operand], to: FloatFormat, platform: str | None) -> int:
    """The NaN that an operation on these gives, in a format that has one.

    Where all formats have IEEE 754's specials x86 and Arm carry an operand's NaN on, else the canonical one serves.
    """
    if platform in (None, "riscv") or to.nan != "ieee":
        return to.nan_code
    if platform == "nvidia":  # 0x7FFF, 0x7FFFFFFF; no source says what arithmetic in 8 bits would give
        return to.code(to.top_binade + to.steps - 1, False) if to.bits > 8 else to.nan_code
    nans = [operand for operand in operands if operand.value == "nan"]
    if platform == "arm":
        nans.sort(key=lambda operand: not operand.signaling)  # stable: the order of equals stays
    if nans and all(operand.format.nan == "ieee" for operand in operands):
        return quieted(nans[0], to)
    return to.nan_code + (2 ** (to.bits - 1) if platform == "x86.sse" else 0)


def quieted(operand: Operand, to: FloatFormat) -> int:
    """An operand's NaN as one of `to`: its sign, the first digits of its payload, quiet."""
    source = operand.format
    payload = Fraction(operand.code % source.steps, source.steps)
    payload = payload if payload >= HALF else payload + HALF
    negative = operand.code >= 2 ** (source.bits - 1)
    return to.code(to.top_binade + floor(payload * to.steps), negative)
