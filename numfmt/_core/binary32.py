"""binary32 arithmetic on codes: the operations of IEEE 754, rounded to nearest even, in 32-bit integers.

Vendors define scales by binary32 operations in an order of their own. Engines that flush subnormals or
divide by reciprocals give other bits; these give the standard's. A NaN result is the quiet NaN of sign 0.
"""

from typing import Any, NamedTuple

from .float import normalize, unpack
from .parameters import BINARY32, Round
from .rounding import round_away

NAN = 0x7FC00000
INFINITY = BINARY32.infinity
MAGNITUDE = BINARY32.magnitude_mask
NEAREST = Round(1, 1, 0, 0, 0, 0)
GUARD = 3  # bits below the last place that a significand carries into `round_pack`, the last one sticky
_REACH = 30


def round_pack(negative, field, m, *, xp):
    """The code of ±m · 2**(field - 153), rounded once.

        m = 1fff ffff ffff ffff ffff ffff ggs      27 bits: guard bits gg, and s, set where anything lies below

    Args:
        field: integer array, the exponent field of a normal result; any integer within ±2**20.
        m: integer array in [2**26, 2**27).
    """
    drop = xp.minimum(xp.maximum(1 - field, 0) + GUARD, _REACH)
    s = (m >> drop) + round_away(m, drop, m >> drop, negative, NEAREST, _REACH, xp=xp)
    packed = ((xp.minimum(xp.maximum(field, 1), 254) - 1) << BINARY32.trailing) + s
    return xp.where(field > 254, s * 0 + INFINITY, packed) | _sign(negative)


def _sign(negative):
    """The sign bit alone."""
    return -negative << BINARY32.sign_shift


def _sticky(m, shift, *, xp):
    """m >> shift with the last bit set where anything is lost; shifts up to 31."""
    kept = m >> shift
    return kept | xp.where((kept << shift) != m, kept * 0 + 1, kept * 0)


# ---- products and quotients of significands --------------------------------------------------------------------


def parts(bits, *, xp):
    """Sign, magnitude code, exponent field (1 and below for subnormals) and significand with bit 23 leading, or 0."""
    negative, magnitude, field, m = unpack(bits, BINARY32, xp=xp)
    m, field = normalize(m, field, BINARY32, xp=xp)
    return negative, magnitude, field, m


def long_product(m, n, *, xp):
    """m · n / 2**20 in [2**26, 2**28), with the last bit set where it is not exact, of significands m and n.

    The product has 48 bits, made of four products of 12-bit halves:

        h·h·2**24 + (h·l + l·h)·2**12 + l·l
    """
    low = (m & 0xFFF) * (n & 0xFFF)
    middle = (m >> 12) * (n & 0xFFF) + (m & 0xFFF) * (n >> 12) + (low >> 12)
    high = (m >> 12) * (n >> 12) + (middle >> 12)  # the product's bits from 24 on
    low = ((middle & 0xFFF) << 12) | (low & 0xFFF)
    return (high << 4) | (low >> 20) | xp.where((low & 0xFFFFF) != 0, low * 0 + 1, low * 0)


def long_quotient(m, n, *, xp):
    """m · 2**26 / n, with the last bit set where it is not exact, for 0 < n ≤ m < 2 n < 2**25."""
    rest = m - n  # the first digit is 1
    q = rest * 0 + 1
    for width in (7, 7, 7, 5):
        digit = (rest << width) // n
        rest = (rest << width) - digit * n
        q = (q << width) | digit
    return q | xp.where(rest != 0, q * 0 + 1, q * 0)


class Digits(NamedTuple):
    """How an engine takes significands apart, and multiplies and divides them: `parts` and the two functions above.

    Where integers alone decide each bit an engine may replace them by what is faster there.
    """

    parts: Any = parts
    product: Any = long_product
    quotient: Any = long_quotient


LONG = Digits()


# ---- operations ------------------------------------------------------------------------------------------------


def multiply(a, b, *, xp, digits=LONG):
    """Codes of a × b."""
    negative_a, magnitude_a, field_a, m = digits.parts(a, xp=xp)
    negative_b, magnitude_b, field_b, n = digits.parts(b, xp=xp)
    negative = negative_a ^ negative_b
    zero = (m == 0) | (n == 0)
    significand = digits.product(m | BINARY32.hidden, n | BINARY32.hidden, xp=xp)
    long = significand >> 27
    result = round_pack(negative, field_a + field_b - 127 + long, _sticky(significand, long, xp=xp), xp=xp)
    result = xp.where(zero, _sign(negative), result)
    infinite = (magnitude_a == INFINITY) | (magnitude_b == INFINITY)
    result = xp.where(infinite, _sign(negative) | INFINITY, result)
    invalid = (magnitude_a > INFINITY) | (magnitude_b > INFINITY) | (infinite & zero)
    return xp.where(invalid, result * 0 + NAN, result)


def divide(a, b, *, xp, digits=LONG):
    """Codes of a ÷ b."""
    negative_a, magnitude_a, field_a, m = digits.parts(a, xp=xp)
    negative_b, magnitude_b, field_b, n = digits.parts(b, xp=xp)
    negative = negative_a ^ negative_b
    zero, endless = (m == 0) | (magnitude_b == INFINITY), (n == 0) | (magnitude_a == INFINITY)
    m, n = m | BINARY32.hidden, n | BINARY32.hidden
    short = xp.where(m < n, m * 0 + 1, m * 0)
    q = digits.quotient(m << short, n, xp=xp)
    result = round_pack(negative, field_a - field_b + 127 - short, q, xp=xp)
    result = xp.where(zero, _sign(negative), result)
    result = xp.where(endless, _sign(negative) | INFINITY, result)
    invalid = (magnitude_a > INFINITY) | (magnitude_b > INFINITY) | (endless & zero)
    return xp.where(invalid, result * 0 + NAN, result)


def add(a, b, *, xp):
    """Codes of a + b; an exact zero is +0 unless both are -0."""
    swap = (a & MAGNITUDE) < (b & MAGNITUDE)
    a, b = xp.where(swap, b, a), xp.where(swap, a, b)
    negative, magnitude, field, m = unpack(a, BINARY32, xp=xp)
    negative_b, magnitude_b, field_b, n = unpack(b, BINARY32, xp=xp)
    n = _sticky(n << GUARD, xp.minimum(field - field_b, 27), xp=xp)
    opposite = negative ^ negative_b
    total = (m << GUARD) + xp.where(opposite != 0, -n, n)
    long = total >> 27
    total = _sticky(total, long, xp=xp)
    field = field + long
    for step in (16, 8, 4, 2, 1):
        small = total < (1 << (27 - step))
        total = xp.where(small, total << step, total)
        field = xp.where(small, field - step, field)
    result = round_pack(negative, field, total, xp=xp)
    both = _sign(negative & negative_b)
    result = xp.where(total == 0, both, result)
    result = xp.where(magnitude == INFINITY, a, result)
    invalid = (magnitude > INFINITY) | ((magnitude_b == INFINITY) & (opposite != 0))
    return xp.where(invalid, result * 0 + NAN, result)


def key(bits, *, xp):
    """Integers that order codes as the numbers they name, and the zeros as equal; NaNs lie beyond both ends."""
    negative = bits >> 31
    return ((bits & MAGNITUDE) ^ negative) - negative


def is_nan(bits):
    """Whether codes name no number."""
    return (bits & MAGNITUDE) > INFINITY


def minimum(a, b, *, xp):
    """Codes of the smaller operand; NaN where either is NaN."""
    smaller = xp.where(key(b, xp=xp) < key(a, xp=xp), b, a)
    return xp.where(is_nan(a) | is_nan(b), smaller * 0 + NAN, smaller)


def maximum(a, b, *, xp):
    """Codes of the larger operand; NaN where either is NaN."""
    larger = xp.where(key(b, xp=xp) > key(a, xp=xp), b, a)
    return xp.where(is_nan(a) | is_nan(b), larger * 0 + NAN, larger)


def truncate(bits, *, xp):
    """Codes of the integers toward zero; infinities and NaNs stay what they are."""
    drop = xp.minimum(xp.maximum(150 - ((bits & MAGNITUDE) >> BINARY32.trailing), 0), 24)
    whole = xp.where(drop == 24, bits * 0, (bits & MAGNITUDE) >> drop << drop)
    return whole | (bits & ~MAGNITUDE)


def to_integer(bits, *, xp):
    """Integers toward zero; what lies beyond ±2**30, and NaN, becomes ±2**30."""
    negative, magnitude, field, m = unpack(bits, BINARY32, xp=xp)
    size = (m >> xp.minimum(xp.maximum(150 - field, 0), 31)) << xp.minimum(xp.maximum(field - 150, 0), 6)
    size = xp.where(magnitude >= 157 << BINARY32.trailing, size * 0 + 2**30, size)
    return xp.where(negative != 0, -size, size)


def from_integer(n, *, xp):
    """Codes of integers within ±2**24."""
    negative = (n >> 31) & 1
    m = xp.where(negative != 0, -n, n)
    large = m >> 24
    exact, field = normalize(m >> large, large + 150, BINARY32, xp=xp)
    return xp.where(m == 0, m, ((field - 1) << BINARY32.trailing) + exact) | _sign(negative)
