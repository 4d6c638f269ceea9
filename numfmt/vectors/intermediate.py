"""The exact intermediate results of whole columns of operands, in integers, before anything is rounded.

A number is (m + fraction) × 2^e with a fraction in (0, 1) where it is `sticky`, else 0. Columns are int64 where
significands have at most 26 digits, and Python integers in object arrays where they are wider; one code serves both.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..formats import CodebookFormat, FixedFormat, FloatFormat, Format, Specials, Subnormals

Array = npt.NDArray[Any]

ZERO, NUMBER, INFINITE, NAN = 0, 1, 2, 3
NARROW = 26  # digits of significands whose products and quotients int64 holds
WINDOW = 60  # digits that int64 keeps of a sum


class Column(NamedTuple):
    """Decoded operands.

    Attributes:
        kind: ZERO, NUMBER, INFINITE or NAN.
        negative: sign bit.
        m, e: magnitude m × 2^e; m is 0 but for numbers.
        subnormal, signaling: claims.
    """

    kind: Array
    negative: Array
    m: Array
    e: Array
    subnormal: Array
    signaling: Array

    @property
    def top(self) -> Array:
        """Exponent of the leading digit; far below everything for what is no number."""
        return np.where(self.kind == NUMBER, bit_length(self.m) - 1 + self.e, -(1 << 40))


class Exact(NamedTuple):
    """Exact results; `invalid` says that a NaN is a new one."""

    kind: Array
    negative: Array
    m: Array
    e: Array
    sticky: Array
    invalid: Array

    @property
    def top(self) -> Array:
        """Exponent of the leading digit; far below everything for what is no number."""
        return np.where(self.kind == NUMBER, bit_length(self.m) - 1 + self.e, -(1 << 40))


def digits(fmt: Format) -> int:
    """Significand digits of a format's values."""
    match fmt:
        case FloatFormat():
            return fmt.precision
        case FixedFormat():
            return fmt.bits
        case CodebookFormat():
            return 53
    raise ValueError(f"{fmt} is given; scalar functions take scalar formats")


def is_wide(multiplies: bool, *formats: Format) -> bool:
    """Whether columns of these formats are Python integers; products and quotients have twice the digits."""
    limit = NARROW if multiplies else WINDOW - 4
    return any(digits(fmt) > limit or fmt.bits > 64 for fmt in formats)


def integers(codes: Array, wide: bool) -> Array:
    """Codes as int64, or as Python integers."""
    if wide:
        return np.asarray(codes).astype(object)
    return np.asarray(codes).astype(np.int64)


_python_length = np.frompyfunc(int.bit_length, 1, 1)


def bit_length(m: Array) -> Array:
    """Number of digits of each non-negative integer, int64."""
    if m.dtype == object:
        return np.asarray(_python_length(m), np.int64) if m.size else np.zeros(m.shape, np.int64)
    length, rest = np.zeros(m.shape, np.int64), m
    for step in (32, 16, 8, 4, 2, 1):
        above = rest >> step
        taken = above > 0
        length += np.where(taken, step, 0)
        rest = np.where(taken, above, rest)
    return length + (rest > 0)


def left(m: Array, shift: Array) -> Array:
    """M × 2^shift; shifts below 0 count as 0."""
    if m.dtype == object:
        return m << np.maximum(shift, 0).astype(object)
    return m << np.clip(shift, 0, 62)


def right(m: Array, shift: Array) -> Array:
    """Floor(m / 2^shift); shifts below 0 count as 0."""
    if m.dtype == object:
        return m >> np.maximum(shift, 0).astype(object)
    return m >> np.clip(shift, 0, 62)


def zeros(like: Array) -> Array:
    """Of the same shape, all false."""
    return np.zeros(like.shape, bool)


# ---- operands --------------------------------------------------------------------------------------------------


def decode(codes: Array, fmt: Format, wide: bool) -> Column:
    """The values of codes."""
    match fmt:
        case FloatFormat() if not fmt.integer_bit:
            return _decode_float(integers(codes, wide), fmt)
        case FixedFormat():
            return _decode_fixed(integers(codes, wide), fmt)
        case _:
            return _decode_singly(np.asarray(codes), fmt, wide)


def _decode_float(code: Array, fmt: FloatFormat) -> Column:
    t, lowest = fmt.trailing_bits, fmt.emin
    magnitude = code & fmt.magnitude_mask
    negative = np.asarray(code >> (fmt.bits - 1) & 1 != 0, bool) if fmt.signed else zeros(code)
    field = np.asarray(magnitude >> t, np.int64)
    fraction = magnitude & ((1 << t) - 1)
    m, e = fraction + (1 << t), field - (fmt.bias + t)
    low = field == 0
    if fmt.subnormals is not Subnormals.NORMAL:
        lowest -= fmt.subnormals is Subnormals.SHIFTED
        m, e = np.where(low, fraction, m), np.where(low, lowest - t, e)
    zero = np.asarray(magnitude == 0, bool) & fmt.zero
    special = np.asarray(magnitude > fmt.max_code, bool)
    infinite = np.asarray(magnitude == fmt.infinity_code, bool) if fmt.has_infinity else zeros(code)
    nan = special & ~infinite
    if fmt.subnormals is Subnormals.NONE:
        nan = nan | (low & ~zero)
    if not fmt.has_negative_zero and fmt.specials is not Specials.MERGED:
        nan = nan | (zero & negative)
    kind = np.where(nan, NAN, np.where(infinite, INFINITE, np.where(zero, ZERO, NUMBER)))
    signaling = zeros(code)
    if fmt.specials is Specials.IEEE:
        signaling = nan & np.asarray(magnitude & (1 << (t - 1)) == 0, bool)
    subnormal = low & (kind == NUMBER) & fmt.has_subnormals
    if not fmt.has_negative_zero:
        negative = negative & (kind != ZERO)
    return Column(kind, negative, np.where(kind == NUMBER, m, 0 * m), e, subnormal, signaling)


def _decode_fixed(code: Array, fmt: FixedFormat) -> Column:
    negative = (code >> (fmt.bits - 1) != 0) if fmt.signed else zeros(code)
    negative = np.asarray(negative, bool)
    if fmt.sign_magnitude:
        m = code & fmt.max_integer
    else:
        m = np.where(negative, -(code - (1 << fmt.bits)) if fmt.bits < 64 or code.dtype == object else -code, code)
    kind = np.where(np.asarray(m == 0, bool), ZERO, NUMBER)
    return Column(kind, negative, m, np.full(code.shape, -fmt.fraction_bits), zeros(code), zeros(code))


def _decode_singly(codes: Array, fmt: Format, wide: bool) -> Column:
    """By `exact`, one distinct code after the other."""
    distinct, places = np.unique(codes, return_inverse=True)
    rows: list[tuple[int, bool, int, int]] = []
    for code in distinct.tolist():
        value = fmt.exact(code)
        if isinstance(value, str):
            rows.append(({"nan": NAN, "-0": ZERO}.get(value, INFINITE), value.startswith("-"), 0, 0))
        else:
            e = 1 - value.denominator.bit_length()
            rows.append((NUMBER if value else ZERO, value < 0, abs(value.numerator), e))
    kind, negative, m, exponent = (np.array([row[i] for row in rows], object) for i in range(4))
    places = places.reshape(codes.shape)
    number = np.asarray(kind, np.int64)[places]
    significand = integers(m, wide)[places]
    no = zeros(codes)
    sign, e_of = np.asarray(negative, bool)[places], np.asarray(exponent, np.int64)[places]
    return Column(number, sign, significand, e_of, no, no)


def from_integers(n: Array, signed: bool, bits: int, wide: bool) -> Column:
    """Integer operands, given as the low `bits` bits."""
    return _decode_fixed(integers(n, wide), FixedFormat(bits, 0, signed))


# ---- exact results ---------------------------------------------------------------------------------------------


def _exact(kind: Array, negative: Array, m: Array, e: Array, sticky: Array, invalid: Array) -> Exact:
    number = kind == NUMBER
    return Exact(kind, negative, np.where(number, m, 0 * m), e, sticky & number, invalid & (kind == NAN))


def same(x: Column) -> Exact:
    """The operand itself."""
    return _exact(x.kind, x.negative, x.m, x.e, zeros(x.m), x.signaling)


def product(x: Column, y: Column) -> Exact:
    """X × y."""
    nan = (x.kind == NAN) | (y.kind == NAN)
    no_number = ((x.kind == ZERO) & (y.kind == INFINITE)) | ((x.kind == INFINITE) & (y.kind == ZERO))
    kind = np.maximum(np.where((x.kind == ZERO) | (y.kind == ZERO), ZERO, np.maximum(x.kind, y.kind)), 0)
    kind = np.where(nan | no_number, NAN, kind)
    invalid = no_number & ~nan | x.signaling | y.signaling
    return _exact(kind, x.negative ^ y.negative, x.m * y.m, x.e + y.e, zeros(x.m), invalid)


def total(x: Column | Exact, y: Column | Exact, window: int = WINDOW) -> Exact:
    """X + y of exact numbers; an exact zero of opposite signs is +0 here."""
    nan = (x.kind == NAN) | (y.kind == NAN)
    clash = (x.kind == INFINITE) & (y.kind == INFINITE) & (x.negative != y.negative)
    ex, ey = np.where(x.kind == NUMBER, x.e, y.e), np.where(y.kind == NUMBER, y.e, x.e)
    tops = np.maximum(bit_length(x.m) + ex, bit_length(y.m) + ey)
    low = np.maximum(np.minimum(ex, ey), tops - window)
    (mx, sx), (my, sy) = _aligned(x.m, ex, low), _aligned(y.m, ey, low)
    opposite = x.negative != y.negative
    # In a difference the part that was cut off is borrowed: big - (small + f) = (big - small - 1) + (1 - f).
    difference = mx - my
    swap = np.asarray(difference < 0, bool)
    size = np.where(swap, -difference, difference) - (opposite & (sx | sy))
    m = np.where(opposite, size, mx + my)
    sticky = sx | sy
    negative = np.where(opposite & swap, y.negative, x.negative)
    zero = np.asarray(m == 0, bool) & ~sticky
    kind = np.where((x.kind == INFINITE) | (y.kind == INFINITE), INFINITE, np.where(zero, ZERO, NUMBER))
    negative = np.where(zero & opposite, False, negative)
    negative = np.where(kind == INFINITE, np.where(x.kind == INFINITE, x.negative, y.negative), negative)
    kind = np.where(nan | clash, NAN, kind)
    invalid = clash | _new_nan(x) | _new_nan(y)
    return _exact(kind, negative, m, low, sticky, invalid)


def _new_nan(x: Column | Exact) -> Array:
    return x.signaling if isinstance(x, Column) else x.invalid


def _aligned(m: Array, e: Array, low: Array) -> tuple[Array, Array]:
    """The significand in units of 2^low, and whether something was cut off."""
    shift = low - e
    kept = np.where(shift > 0, right(m, shift), left(m, -shift))
    return kept, (shift > 0) & np.asarray(left(kept, shift) != m, bool)


def negated(x: Column) -> Column:
    """The operand with the other sign."""
    return x._replace(negative=~x.negative)


def quotient(x: Column, y: Column, result_digits: int) -> Exact:
    """X ÷ y, with at least three digits more than the result has."""
    nan = (x.kind == NAN) | (y.kind == NAN)
    no_number = (x.kind == y.kind) & ((x.kind == ZERO) | (x.kind == INFINITE))
    kind = np.where((x.kind == ZERO) | (y.kind == INFINITE), ZERO, NUMBER)
    kind = np.where((x.kind == INFINITE) | (y.kind == ZERO), INFINITE, kind)
    kind = np.where(nan | no_number, NAN, kind)
    divisor = np.where(y.kind == NUMBER, y.m, 1 + 0 * y.m)
    shift = result_digits + 4 + bit_length(divisor) - bit_length(x.m)
    dividend = left(x.m, shift)
    m = dividend // divisor
    sticky = np.asarray(m * divisor != dividend, bool)
    invalid = no_number & ~nan | x.signaling | y.signaling
    return _exact(kind, x.negative ^ y.negative, m, x.e - y.e - np.maximum(shift, 0), sticky, invalid)


def root(x: Column, result_digits: int) -> Exact:
    """√x, with at least three digits more than the result has."""
    shift = np.maximum(2 * (result_digits + 4) - bit_length(x.m), 0)
    shift += (x.e - shift) & 1
    square = left(x.m, shift)
    m = _integer_root(square)
    sticky = np.asarray(m * m != square, bool)
    refused = x.negative & (x.kind != ZERO) & (x.kind != NAN)
    kind = np.where(refused, NAN, x.kind)
    return _exact(kind, x.negative, m, (x.e - shift) >> 1, sticky, refused | x.signaling)


def _integer_root(square: Array) -> Array:
    """Floor of the square root, digit by digit."""
    if square.dtype == object:
        from math import isqrt

        return np.asarray(np.frompyfunc(isqrt, 1, 1)(square), object)
    found = np.zeros_like(square)
    for place in range(30, -1, -1):
        trial = found | (1 << place)
        found = np.where(trial * trial <= square, trial, found)
    return found


class Remainder(NamedTuple):
    """x - n × y with n the integer nearest to x ÷ y, ties to even.

    Attributes:
        result: the remainder.
        place: 2 × |x ÷ y - floor| compared with 1: -1, 0, 1; and 2 where x ÷ y is an integer.
        odd: whether floor(|x ÷ y|) is odd.
        small: whether |x| < |y| / 2.
    """

    result: Exact
    place: Array
    odd: Array
    small: Array


def remainder(x: Column, y: Column) -> Remainder:
    """IEEE 754-2019 §5.3.1 remainder, by Python integers."""
    nan = (x.kind == NAN) | (y.kind == NAN)
    refused = ((x.kind == INFINITE) | (y.kind == ZERO)) & ~nan
    usual = (x.kind == NUMBER) & (y.kind == NUMBER)
    count = x.m.size
    m, e = np.zeros(count, object), np.array(x.e)
    place, odd, small = np.zeros(count, np.int64), np.zeros(count, bool), np.zeros(count, bool)
    negative = np.array(x.negative)
    m[~usual] = x.m[~usual]
    columns = (np.flatnonzero(usual), x.m[usual], x.e[usual], y.m[usual], y.e[usual])
    for i, mx, ex, my, ey in zip(*(c.tolist() for c in columns), strict=True):
        low = min(ex, ey)
        divisor = my << (ey - low)
        rest, parity = _residue(mx, ex - low, divisor)
        place[i] = 2 if rest == 0 else (2 * rest > divisor) - (2 * rest < divisor)
        lower = mx.bit_length() + ex <= my.bit_length() + ey
        odd[i], small[i] = parity == 1, lower and (mx << (ex - low)) * 2 < divisor
        up = place[i] == 1 or (place[i] == 0 and parity == 1)
        m[i], e[i], negative[i] = (divisor - rest if up else rest), low, x.negative[i] ^ up
    kind = np.where(x.kind == ZERO, ZERO, np.where(np.asarray(m == 0, bool), ZERO, NUMBER))
    kind = np.where(nan | refused, NAN, kind)
    result = _exact(kind, negative, m, e, np.zeros(count, bool), refused | x.signaling | y.signaling)
    return Remainder(result, np.where(usual, place, 3), odd & usual, small & usual)


def _residue(m: int, shift: int, divisor: int) -> tuple[int, int]:
    """(m × 2^shift) mod divisor, and the parity of the quotient."""
    rest = m % (2 * divisor) * pow(2, shift, 2 * divisor) % (2 * divisor)
    return rest % divisor, rest // divisor
