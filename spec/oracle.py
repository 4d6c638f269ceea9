"""Rounding, stated by comparing distances between exact values. This is the judge: slow, short, obvious.

    encode(x, format) = choose(bracket(x, format), format)

`bracket` finds the two neighbours of x in the format, `choose` applies one rounding and one overflow mode.
*Inner* is the neighbour nearer to zero, *outer* the other one: all modes are stated on magnitudes, as in IEEE 754.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from fractions import Fraction
from math import floor
from typing import NamedTuple

from spec.formats import (
    ENUMERABLE_BITS,
    CodebookFormat,
    FixedFormat,
    FloatFormat,
    Format,
    Value,
    floor_log2,
    floor_rank,
    power_of_two,
)
from spec.names import codebook, fixed, float_format, get, load_formats, p3109, resolve
from spec.values import from_float32_bits, from_float64_bits, midpoints, overflow_threshold, value, values

__all__ = [
    "DIVISION_BY_ZERO",
    "ENUMERABLE_BITS",
    "INEXACT",
    "INVALID",
    "OVERFLOW",
    "OVERFLOWS",
    "ROUNDINGS",
    "UNDERFLOW",
    "Bracket",
    "CodebookFormat",
    "FixedFormat",
    "FloatFormat",
    "Format",
    "Fraction",
    "Value",
    "bracket",
    "choose",
    "codebook",
    "convert",
    "encode",
    "encode_flags",
    "fixed",
    "float_format",
    "floor_log2",
    "floor_rank",
    "from_float32_bits",
    "from_float64_bits",
    "get",
    "load_formats",
    "midpoints",
    "overflow_threshold",
    "p3109",
    "power_of_two",
    "quantum_fraction",
    "value",
    "values",
]

INVALID, DIVISION_BY_ZERO, OVERFLOW, UNDERFLOW, INEXACT = 16, 8, 4, 2, 1  # TestFloat's order

HALF = Fraction(1, 2)


class Bracket(NamedTuple):
    """x between two neighbours: ranks (float), integer magnitudes (fixed) or places in value order (codebook)."""

    special: str | None  # "nan", "inf", or None for a number
    negative: bool
    exact: bool = True  # x is a value of the format (of its continuation beyond the largest)
    inner: int = 0
    outer: int = 0
    inner_is_even: bool = True
    fraction: Fraction = Fraction(0)  # the part of the way from inner to outer
    side: int = 0  # fraction compared with one half: -1, 0, 1
    size: Fraction = Fraction(0)  # |x|
    clamped: bool = False  # x lies beyond both ends of a codebook


# Is the outer neighbour chosen, where x is neither of the two?
DETERMINISTIC: dict[str, Callable[[Bracket], bool]] = {
    "toward_zero": lambda b: False,
    "away_from_zero": lambda b: True,
    "toward_positive": lambda b: not b.negative,
    "toward_negative": lambda b: b.negative,
    "to_odd": lambda b: b.inner_is_even,
    "ties_to_even": lambda b: b.side > 0 or (b.side == 0 and not b.inner_is_even),
    "ties_to_odd": lambda b: b.side > 0 or (b.side == 0 and b.inner_is_even),
    "ties_to_away": lambda b: b.side >= 0,
    "ties_to_zero": lambda b: b.side > 0,
    "ties_to_positive": lambda b: b.side > 0 or (b.side == 0 and not b.negative),
    "ties_to_negative": lambda b: b.side > 0 or (b.side == 0 and b.negative),
}
# The same for a fraction nu, with n random bits R: P3109 v4.0, 4.7.4. Python's round() takes ties to even.
STOCHASTIC: dict[str, Callable[[Fraction, int, int], bool]] = {
    "stochastic_a": lambda nu, n, r: floor(nu * 2**n) + r >= 2**n,
    "stochastic_b": lambda nu, n, r: floor(nu * 2 ** (n + 1)) + 2 * r + 1 >= 2 ** (n + 1),
    "stochastic_c": lambda nu, n, r: round(nu * 2**n) + r >= 2**n,
}
ROUNDINGS = [*DETERMINISTIC, "stochastic", *STOCHASTIC]
FIXED_ONLY = {"ties_to_positive", "ties_to_negative"}
OVERFLOWS = {
    "float": {"saturate", "propagate", "infinity", "nan"},
    "fixed": {"saturate", "propagate", "infinity", "wrap", "saturate_zero", "symmetric", "wrap_sign_magnitude"},
    "codebook": {"saturate", "propagate", "infinity"},
}
MODULAR = {"wrap", "wrap_sign_magnitude", "symmetric"}
SIGNED_ONLY = {"wrap_sign_magnitude", "symmetric"}


# ---- the two neighbours ----------------------------------------------------------------------------------------


def bracket(x: Value | int, fmt: Format | str) -> Bracket:
    """The neighbours of x (a Fraction, an int, or one of "nan", "-nan", "inf", "-inf", "-0")."""
    fmt = resolve(fmt)
    negative = False
    if isinstance(x, str):
        negative, word = x.startswith("-"), x.removeprefix("-")
        if word in ("nan", "inf"):
            return Bracket(word, negative)
        if x != "-0":
            raise ValueError(f"no such value: {x!r}")
        x = Fraction(0)
    elif isinstance(x, int):
        x = Fraction(x)
    elif not isinstance(x, Fraction):
        raise TypeError(f"an exact value is a Fraction, an int or a word; given {x!r}")
    negative = negative or x < 0
    match fmt:
        case FloatFormat():
            return _bracket_float(abs(x), negative, fmt)
        case FixedFormat():
            steps = abs(x) / fmt.quantum
            return _between(negative, abs(x), floor(steps), floor(steps) + 1, steps % 1, floor(steps) % 2 == 0)
        case CodebookFormat():
            return _bracket_codebook(x, negative, fmt)
    raise TypeError(f"no rounding is stated for {fmt}")


def _between(negative: bool, size: Fraction, inner: int, outer: int, fraction: Fraction,
             inner_is_even: bool) -> Bracket:
    if fraction == 0:
        return Bracket(None, negative, True, inner, inner, inner_is_even, size=size)
    side = (fraction > HALF) - (fraction < HALF)
    return Bracket(None, negative, False, inner, outer, inner_is_even, fraction, side, size)


def _bracket_float(size: Fraction, negative: bool, fmt: FloatFormat) -> Bracket:
    if not fmt.zero and size < fmt.min_normal:
        return Bracket(None, negative and size > 0, exact=False, size=size)  # nothing is smaller: rank 0, always
    if size == 0:
        return Bracket(None, negative)
    if fmt.bits <= ENUMERABLE_BITS and size <= fmt.max:
        sizes, ranks = fmt.ladder
        place = bisect_right(sizes, size) - 1
        inner, below = ranks[place], sizes[place]
    else:
        inner = floor_rank(size, fmt)
        below = fmt.magnitude(inner)
    outer = inner + 1
    if inner == 0 and fmt.lowest_binade == "unused":
        outer = fmt.steps
    fraction = Fraction(0) if below == size else (size - below) / (fmt.magnitude(outer) - below)
    return _between(negative, size, inner, outer, fraction, inner % 2 == 0)


def _bracket_codebook(x: Fraction, negative: bool, fmt: CodebookFormat) -> Bracket:
    ascending, _ = fmt.ladder
    if not ascending[0] <= x <= ascending[-1]:
        end = 0 if x < ascending[0] else len(ascending) - 1
        return Bracket(None, negative, False, end, end, size=abs(x), clamped=True)
    below = bisect_right(ascending, x) - 1
    if ascending[below] == x:
        return Bracket(None, negative, True, below, below, size=abs(x))
    inner, outer = (below + 1, below) if negative else (below, below + 1)
    fraction = abs(x - ascending[inner]) / (ascending[below + 1] - ascending[below])
    return _between(negative, abs(x), inner, outer, fraction, inner % 2 == 0)


def quantum_fraction(x: Value | int, fmt: Format | str) -> Fraction:
    """The discarded fraction nu in [0, 1) that stochastic rounding compares with its random bits."""
    return bracket(x, fmt).fraction


# ---- the choice ------------------------------------------------------------------------------------------------


def choose(b: Bracket, fmt: Format | str, rounding: str | None = "ties_to_even", overflow: str | None = None,
           random: int | None = None, n: int | None = None, wrap_bits: int = 0) -> int:
    """The code that x gets. None stands for the format's own rounding or overflow."""
    return _choose(b, fmt, rounding, overflow, random, n, wrap_bits)[0]


def encode(x: Value | int, fmt: Format | str, rounding: str | None = "ties_to_even", overflow: str | None = None,
           random: int | None = None, random_bit_count: int | None = None, wrap_bits: int = 0) -> int:
    """The code of x rounded to the format."""
    return _choose(bracket(x, fmt), fmt, rounding, overflow, random, random_bit_count, wrap_bits)[0]


def encode_flags(x: Value | int, fmt: Format | str, rounding: str | None = "ties_to_even", overflow: str | None = None,
                 random: int | None = None, random_bit_count: int | None = None, wrap_bits: int = 0, *,
                 tininess: str = "after", signaling: bool = False) -> tuple[int, int]:
    """The code of x and the IEEE flags that the conversion raises; `signaling` says that a NaN was a signaling one."""
    fmt, b = resolve(fmt), bracket(x, fmt)
    code, flags = _choose(b, fmt, rounding, overflow, random, random_bit_count, wrap_bits)
    if b.special == "nan" and signaling:
        flags = INVALID
    if isinstance(fmt, FloatFormat) and flags == INEXACT:
        flags += UNDERFLOW * _is_tiny(b, fmt, rounding, random, random_bit_count, tininess)
    return code, flags


def convert(code: int, source: Format | str, target: Format | str, rounding: str | None = "ties_to_even",
            overflow: str | None = None, random: int | None = None, random_bit_count: int | None = None,
            wrap_bits: int = 0) -> int:
    """The code in `target` of the value of a code in `source`."""
    return encode(value(code, source), target, rounding, overflow, random, random_bit_count, wrap_bits)


def _choose(b: Bracket, fmt: Format | str, rounding: str | None, overflow: str | None, random: int | None,
            n: int | None, wrap_bits: int) -> tuple[int, int]:
    fmt = resolve(fmt)
    rounding = rounding or fmt.default_rounding
    overflow = overflow or fmt.default_overflow
    _check_modes(fmt, rounding, overflow, wrap_bits)
    outward = _goes_outward(b, rounding, random, n)
    chosen = b.outer if outward else b.inner
    match fmt:
        case FloatFormat():
            return _float_result(b, fmt, chosen, rounding, overflow)
        case FixedFormat():
            return _fixed_result(b, fmt, chosen, overflow, wrap_bits)
        case CodebookFormat() if b.special == "nan":  # the code that zero gets
            return _choose(bracket(0, fmt), fmt, rounding, overflow, random, n, 0)[0], INVALID
        case CodebookFormat():
            return _codebook_result(b, fmt, chosen)
    raise TypeError(f"no rounding is stated for {fmt}")


def _check_modes(fmt: Format, rounding: str, overflow: str, wrap_bits: int) -> None:
    if rounding in FIXED_ONLY and fmt.kind != "fixed":
        raise ValueError(f"{rounding} is for fixed point; {fmt.name} is a {fmt.kind}")
    if overflow not in OVERFLOWS[fmt.kind]:
        raise ValueError(f"{overflow} is no overflow mode of {fmt.name}, a {fmt.kind}")
    if overflow == "nan" and isinstance(fmt, FloatFormat) and fmt.nan == fmt.infinity == "none":
        raise ValueError(f"{fmt.name} has neither NaN nor infinity")
    sign_magnitude = isinstance(fmt, FixedFormat) and fmt.encoding == "sign_magnitude"
    if (overflow in MODULAR and sign_magnitude) or (overflow in SIGNED_ONLY and not fmt.signed):
        raise ValueError(f"{overflow} does not suit {fmt.name}: it is for {'signed ' * (overflow in SIGNED_ONLY)}"
                         "two's complement")
    if wrap_bits and (overflow != "wrap" or not 0 <= wrap_bits <= fmt.bits):
        raise ValueError(f"wrap_bits goes with wrap and lies in 0..{fmt.bits}; given {wrap_bits} with {overflow}")


def _goes_outward(b: Bracket, rounding: str, random: int | None, n: int | None) -> bool:
    if rounding in DETERMINISTIC:
        return not b.exact and DETERMINISTIC[rounding](b)
    if rounding == "stochastic":
        rounding, n = "stochastic_a", 32
    if rounding not in STOCHASTIC:
        raise ValueError(f"no such rounding: {rounding}")
    if random is None or n is None or not 1 <= n <= 32:
        raise ValueError(f"{rounding} needs random bits, 1 to 32 of them")
    return not b.exact and STOCHASTIC[rounding](b.fraction, n, random % 2**n)


def _float_result(b: Bracket, fmt: FloatFormat, rank: int, rounding: str, overflow: str) -> tuple[int, int]:
    if b.special == "nan":
        return (fmt.code(fmt.max_rank, False), INVALID) if fmt.nan_code is None else (fmt.nan_code, 0)
    if b.negative and not fmt.signed and (b.special or rank > 0 or not fmt.zero):
        return _negative_into_unsigned(b, fmt, rounding, overflow)
    if b.special == "inf":
        return _infinity_result(b.negative, fmt, overflow)
    if rank > fmt.max_rank:
        return _overflow_result(b.negative, fmt, rounding, overflow), OVERFLOW + INEXACT
    return fmt.code(rank, b.negative), 0 if b.exact else INEXACT


def _overflow_symbol(negative: bool, fmt: FloatFormat, overflow: str) -> int:
    """The code that says *too large*: an infinity, a NaN, or the largest finite value where the mode knows no other."""
    if fmt.infinity_rank is not None and fmt.infinity != "merged":
        return fmt.code(fmt.infinity_rank, negative)
    if fmt.nan_code is not None and (overflow == "nan" or fmt.infinity == "merged"):
        return fmt.nan_code
    return fmt.code(fmt.max_rank, negative)


def _overflow_result(negative: bool, fmt: FloatFormat, rounding: str, overflow: str) -> int:
    finite_side = ("toward_zero", "to_odd", "toward_positive" if negative else "toward_negative")
    if overflow in ("saturate", "propagate") or rounding in finite_side:
        return fmt.code(fmt.max_rank, negative)
    return _overflow_symbol(negative, fmt, overflow)


def _infinity_result(negative: bool, fmt: FloatFormat, overflow: str) -> tuple[int, int]:
    if fmt.infinity == "none":
        code = _overflow_symbol(negative, fmt, overflow) if overflow == "nan" else fmt.code(fmt.max_rank, negative)
        return code, INVALID
    if overflow == "saturate":
        return fmt.code(fmt.max_rank, negative), OVERFLOW + INEXACT
    return _overflow_symbol(negative, fmt, overflow), 0


def _negative_into_unsigned(b: Bracket, fmt: FloatFormat, rounding: str, overflow: str) -> tuple[int, int]:
    """x is below zero and does not round to zero (or there is no zero): NaN or zero."""
    becomes_nan = overflow in ("infinity", "nan") and (b.special or rounding not in ("toward_zero", "toward_positive"))
    if fmt.nan_code is not None and (becomes_nan or not fmt.zero):
        return fmt.nan_code, INVALID
    return 0, INVALID if b.special else OVERFLOW + INEXACT


def _fixed_result(b: Bracket, fmt: FixedFormat, size: int, overflow: str, wrap_bits: int) -> tuple[int, int]:
    low = -fmt.high if overflow == "symmetric" else fmt.low
    end = low if b.negative else fmt.high
    if b.special:
        to_zero = b.special == "nan" or overflow == "saturate_zero"
        return (fmt.code(0, False) if to_zero else fmt.code(end, b.negative)), INVALID
    integer = -size if b.negative else size
    if low <= integer <= fmt.high:
        return fmt.code(integer, b.negative), 0 if b.exact else INEXACT
    match overflow:
        case "saturate_zero":
            return fmt.code(0, False), INVALID
        case "wrap":
            return _wrap(integer, fmt, wrap_bits), INVALID
        case "wrap_sign_magnitude":
            return _wrap_sign_magnitude(integer, fmt), INVALID
    return fmt.code(end, b.negative), INVALID


def _wrap(integer: int, fmt: FixedFormat, kept: int) -> int:
    """The low digits; of the top `kept` ones the first is the sign and the rest its opposite (unsigned: all ones)."""
    low: int = integer % 2 ** (fmt.bits - kept)
    if kept == 0:
        return low
    if not fmt.signed:
        top: int = 2**kept - 1
    else:
        top = 2 ** (kept - 1) if integer < 0 else 2 ** (kept - 1) - 1
    return top * 2 ** (fmt.bits - kept) + low


def _wrap_sign_magnitude(integer: int, fmt: FixedFormat) -> int:
    """The low digits, all inverted where the lowest digit cut off differs from the new sign."""
    low: int = integer % 2**fmt.bits
    cut_off, sign = integer // 2**fmt.bits % 2, low // 2 ** (fmt.bits - 1)
    inverted: int = 2**fmt.bits - 1 - low
    return low if cut_off == sign else inverted


def _codebook_result(b: Bracket, fmt: CodebookFormat, place: int) -> tuple[int, int]:
    _, codes = fmt.ladder
    if b.special == "inf":
        return codes[0 if b.negative else -1], INVALID
    return codes[place], OVERFLOW + INEXACT if b.clamped else 0 if b.exact else INEXACT


def _is_tiny(b: Bracket, fmt: FloatFormat, rounding: str | None, random: int | None, n: int | None,
             tininess: str) -> bool:
    """Is x, before rounding or after rounding without a limit on the exponent, below the smallest normal value?"""
    if tininess not in ("before", "after"):
        raise ValueError(f"tininess is before or after; given {tininess}")
    if b.size == 0 or b.size >= fmt.min_normal:
        return False
    if tininess == "before":
        return True
    exponent = floor_log2(b.size)
    quantum = power_of_two(exponent - fmt.trailing_bits)
    digits = floor(b.size / quantum)
    even = digits % 2 == 0 if fmt.trailing_bits else (exponent + fmt.bias) % 2 == 0
    free = _between(b.negative, b.size, digits, digits + 1, b.size / quantum % 1, even)
    outward = _goes_outward(free, rounding or fmt.default_rounding, random, n)
    return (free.outer if outward else free.inner) * quantum < fmt.min_normal
