"""Arithmetic on codes: operands as integer significands, exact results but for one sticky bit, rounded once.

    codes → read → Number → add, multiply, … → Outcome → deliver → code and flags

A significand has its leading bit at `carrier.trailing`, that of a carrier made for the purpose (`Frame`), which
leaves at least four bits below the last bit of any operand. What lies below the last bit of a result
is kept as one sticky bit: rounding to odd to p + 2 bits or more, which leaves every later rounding right.

References: IEEE 754-2019 §5.3, §5.4, §6.2, §6.3, §7; S. Boldo and G. Melquiond, "Emulation of FMA and correctly
rounded sums: proved algorithms using rounding to odd" (IEEE TC 57(4), 2008).
"""

from typing import NamedTuple

from . import fixed
from .float import ends, normalize, pick, refused, round_number, split
from .gapped import fill_gap
from .parameters import Carrier
from .rounding import round_away, round_away_random

INVALID, DIVISION_BY_ZERO, OVERFLOW, UNDERFLOW, INEXACT = 16, 8, 4, 2, 1
FAR = 1 << 40  # below every other exponent: that of zero


class Frame(NamedTuple):
    """The integers that an engine works with, and how many bits of a quotient and a root it makes at a time."""

    carrier: Carrier  # of `trailing` even and bias 0: exponents are fields
    spare: int  # low bits of every operand's significand that are zero
    digits: tuple[int, ...]  # widths of a quotient's digits after the first, `trailing` bits in all
    stride: int  # bits of a remainder's quotient at a time
    root: int  # bits of a square root


class Layout(NamedTuple):
    """How the codes of a float format read."""

    mask: int  # all bits of a code
    sign_shift: int  # where the sign is; beyond the code in unsigned formats
    magnitude_mask: int
    trailing: int
    bias: int
    largest: int  # magnitude code of the largest finite value
    infinity: int  # magnitude code of infinity, -1 where there is none
    quiet: int  # the bit that tells quiet NaNs from signalling ones; 0 where there is no such bit
    subnormal: int  # 1: field 0 holds subnormals
    shifted: int  # 1: subnormals lie one binade lower (CFloat)
    unused: int  # 1: field 0 holds nothing but zero; its other codes are NaN
    zero: int  # 1: code 0 is zero
    negative_zero: int  # what the sign alone is: 2 NaN, 1 -0, 0 zero without a sign


class Raised(NamedTuple):
    """What raises which flags in a result's format."""

    infinity: int  # an infinite result
    negative_infinity: int
    nan: int  # a NaN that no operation made
    refused: int  # a negative result of an unsigned format
    emax: int  # exponent of the largest finite value
    tiny_exponent: int  # of the smallest normal value
    tiny_significand: int  # its significand, in units of its last place
    after: int  # 1: tininess is found after rounding


class Number(NamedTuple):
    """Operands: ±m · 2**(exponent - carrier.trailing), m being 0 or normalised."""

    negative: int
    exponent: int
    m: int
    infinite: bool
    nan: bool
    signaling: bool


class Outcome(NamedTuple):
    """Results before they are rounded; flags are those that operations raise themselves."""

    negative: int
    exponent: int
    m: int
    infinite: bool
    nan: bool
    flags: int


def read(code, layout, frame, *, xp):
    """The `Number` that codes of a format name."""
    carrier = frame.carrier
    negative, magnitude, field, m, empty = split(code, carrier, layout, xp=xp)
    m, exponent = normalize(m, field - layout.bias, carrier, xp=xp)
    infinite = magnitude == layout.infinity
    zero = (magnitude == 0) & (layout.zero != 0)
    sign_alone = zero & (negative != 0)
    missing = sign_alone & (layout.negative_zero == 2)
    m = xp.where(zero, m * 0, m)
    m = xp.where(missing, m + carrier.hidden, m)  # no operation takes a NaN for a zero
    exponent = xp.where(m == 0, m - FAR, exponent)
    nan = missing | empty | ((magnitude > layout.largest) & (magnitude != layout.infinity))
    negative = xp.where(sign_alone & (layout.negative_zero == 0), negative * 0, negative)
    signaling = nan & (layout.quiet != 0) & ((magnitude & layout.quiet) == 0)
    return Number(negative, exponent, m, infinite, nan, signaling)


def read_fixed(code, grid, frame, *, xp):
    """The same of fixed-point codes."""
    negative, m = fixed.split(code, grid, xp=xp)
    m, exponent = normalize(m, m * 0 + grid.field, frame.carrier, xp=xp)
    never = m != m
    return Number(negative, exponent, m, never, never, never)


def flag(condition, like, value, *, xp):
    """`value` where a condition holds, else 0, as integers of like's type."""
    return xp.where(condition, like * 0 + value, like * 0)


def _sticky(m, shift, *, xp):
    """m >> shift, the last bit set where anything is lost."""
    kept = m >> shift
    return kept | flag((kept << shift) != m, m, 1, xp=xp)


def _carried(m, exponent, frame, *, xp):
    """m below 4 · hidden made one below 2 · hidden."""
    long = m >> (frame.carrier.trailing + 1)
    return _sticky(m, long, xp=xp), exponent + long


def _outcome(negative, exponent, m, infinite, nan, invalid, *, xp):
    """An `Outcome` in which invalid operations are NaN."""
    return Outcome(negative, exponent, m, infinite, nan | invalid, flag(invalid, m, INVALID, xp=xp))


def _raising(out, condition, value, *, xp):
    """The same with one more flag."""
    flags = out.flags | flag(condition, out.m, value, xp=xp)
    return Outcome(out.negative, out.exponent, out.m, out.infinite, out.nan, flags)


# ---- operations --------------------------------------------------------------------------------------------------


def negated(x):
    """-x."""
    return Number(x.negative ^ 1, x.exponent, x.m, x.infinite, x.nan, x.signaling)


def add(a, b, frame, mode, *, xp):
    """a + b."""
    carrier = frame.carrier
    swap = (a.exponent < b.exponent) | ((a.exponent == b.exponent) & (a.m < b.m))
    exponent, m = xp.where(swap, b.exponent, a.exponent), xp.where(swap, b.m, a.m)
    least, n = xp.where(swap, a.exponent, b.exponent), xp.where(swap, a.m, b.m)
    opposite = a.negative ^ b.negative
    n = _sticky(n, xp.minimum(exponent - least, carrier.reach), xp=xp)
    total, exponent = _carried(m + xp.where(opposite != 0, -n, n), exponent, frame, xp=xp)
    total, exponent = normalize(total, exponent, carrier, xp=xp)
    negative = xp.where(swap, b.negative, a.negative)
    negative = _sign_of_sum(negative, opposite, total == 0, mode, xp=xp)
    negative = xp.where(a.infinite, a.negative, xp.where(b.infinite, b.negative, negative))
    invalid = (a.infinite & b.infinite & (opposite != 0)) | a.signaling | b.signaling
    return _outcome(negative, exponent, total, a.infinite | b.infinite, a.nan | b.nan, invalid, xp=xp)


def _sign_of_sum(negative, opposite, zero, mode, *, xp):
    """An exact zero of summands of opposite signs is +0, or -0 toward negative."""
    downward = mode.sign & (1 - mode.nearest) & (1 - mode.flip)
    return xp.where(zero & (opposite != 0), negative * 0 + downward, negative)


def _long_product(m, n, frame, *, xp):
    """m · n as two words, the low one of trailing + 2 bits; the product's leading bit is 2 · trailing or one more."""
    half = frame.carrier.trailing // 2 + 1
    ones = (1 << half) - 1
    low = (m & ones) * (n & ones)
    middle = (m >> half) * (n & ones) + (m & ones) * (n >> half) + (low >> half)
    return (m >> half) * (n >> half) + (middle >> half), ((middle & ones) << half) | (low & ones)


def multiply(a, b, frame, mode, *, xp):
    """a × b."""
    high, low = _long_product(a.m, b.m, frame, xp=xp)
    m = (high << 2) | flag(low != 0, low, 1, xp=xp)
    m, exponent = _carried(m, a.exponent + b.exponent, frame, xp=xp)
    infinite = a.infinite | b.infinite
    invalid = (infinite & (_is_zero(a) | _is_zero(b))) | a.signaling | b.signaling
    return _outcome(a.negative ^ b.negative, exponent, m, infinite, a.nan | b.nan, invalid, xp=xp)


def _is_zero(x):
    """Whether a number is zero; NaNs and infinities have a significand."""
    return x.m == 0


def fma(a, b, c, frame, mode, *, xp):
    """a × b + c, rounded once: two words hold the exact product, of which a shift loses nothing that counts."""
    top, word = frame.carrier.trailing, frame.carrier.trailing + 2
    ones = (1 << word) - 1
    negative = a.negative ^ b.negative
    opposite = negative ^ c.negative
    high, low = _long_product(a.m, b.m, frame, xp=xp)
    long = high >> (top - 1)  # 1 where the product is 2 or more; its last bits are zeros
    low = (low >> long) | ((high & long) << (word - 1))
    high = high >> long
    exponent = a.exponent + b.exponent + long
    other_high, other_low = c.m >> 2, low * 0  # the last bits of operands are zeros
    swap = (exponent < c.exponent) | ((exponent == c.exponent) & (high < other_high))
    difference = xp.where(swap, c.exponent - exponent, exponent - c.exponent)
    exponent = xp.where(swap, c.exponent, exponent)
    high, other_high = xp.where(swap, other_high, high), xp.where(swap, high, other_high)
    low, other_low = xp.where(swap, other_low, low), xp.where(swap, low, other_low)

    whole = difference >= word
    other_low = xp.where(whole, other_high, other_low)  # not zero, which is sticky enough
    other_high = xp.where(whole, other_high * 0, other_high)
    shift = xp.minimum(difference - xp.where(whole, low * 0 + word, low * 0), low * 0 + word)
    back = word - shift
    lost = other_low & ((1 << shift) - 1)
    other_low = (other_low >> shift) | ((other_high & ((1 << shift) - 1)) << back)
    other_high = other_high >> shift
    other_low = other_low | flag(lost != 0, low, 1, xp=xp)

    low = low + xp.where(opposite != 0, -other_low, other_low)
    high = high + xp.where(opposite != 0, -other_high, other_high) + (low >> word)
    low = low & ones
    exponent = exponent + 2
    empty = high == 0
    high, low = xp.where(empty, low, high), xp.where(empty, low * 0, low)
    exponent = xp.where(empty, exponent - word, exponent)
    for step in frame.carrier.steps:
        short = high < (2 * frame.carrier.hidden >> step)
        high = xp.where(short, (high << step) | (low >> (word - step)), high)
        low = xp.where(short, (low & (ones >> step)) << step, low)
        exponent = xp.where(short, exponent - step, exponent)
    m, exponent = _carried(high, exponent, frame, xp=xp)
    m = m | flag(low != 0, low, 1, xp=xp)

    negative = xp.where(swap, c.negative, negative)
    negative = _sign_of_sum(negative, opposite, m == 0, mode, xp=xp)
    infinite = a.infinite | b.infinite
    negative = xp.where(infinite, a.negative ^ b.negative, xp.where(c.infinite, c.negative, negative))
    indefinite = infinite & (_is_zero(a) | _is_zero(b))
    against = infinite & c.infinite & (opposite != 0) & ((a.nan | b.nan) == 0)
    invalid = indefinite | against | a.signaling | b.signaling | c.signaling
    return _outcome(negative, exponent, m, infinite | c.infinite, a.nan | b.nan | c.nan, invalid, xp=xp)


def divide(a, b, frame, mode, *, xp):
    """a ÷ b."""
    m, n = a.m >> frame.spare, _divisor(b, frame, xp=xp)
    short = flag(m < n, m, 1, xp=xp)
    rest = (m << short) - n  # the first digit is 1
    q = rest * 0 + 1
    for width in frame.digits:
        digit = (rest << width) // n
        rest = (rest << width) - digit * n
        q = (q << width) | digit
    q = q | flag(rest != 0, q, 1, xp=xp)
    q = xp.where(a.m == 0, a.m, q)
    negative = a.negative ^ b.negative
    invalid = (_is_zero(a) & _is_zero(b)) | (a.infinite & b.infinite) | a.signaling | b.signaling
    m = xp.where(b.infinite, q * 0, q)
    endless = _is_zero(b) | a.infinite
    out = _outcome(negative, a.exponent - b.exponent - short, m, endless, a.nan | b.nan, invalid, xp=xp)
    by_zero = _is_zero(b) & ((_is_zero(a) | a.infinite | a.nan) == 0)
    return _raising(out, by_zero, DIVISION_BY_ZERO, xp=xp)


def square_root(a, frame, mode, *, xp):
    """√a, one bit at a time."""
    top = frame.carrier.trailing
    odd = a.exponent & 1
    m = a.m << odd
    root, rest = m * 0, m * 0
    for i in range(frame.root):
        rest = (rest << 2) | ((m >> (top - 2 * i)) & 3 if 2 * i <= top else m * 0)
        fits = rest > 2 * (2 * root)
        rest = xp.where(fits, rest - (2 * (2 * root) + 1), rest)
        root = 2 * root + flag(fits, root, 1, xp=xp)
    root = (root << (top + 1 - frame.root)) | flag(rest != 0, root, 1, xp=xp)
    below = (a.negative != 0) & (a.m != 0) & (a.nan == 0)
    return _outcome(a.negative, a.exponent >> 1, root, a.infinite, a.nan, below | a.signaling, xp=xp)


def remainder(a, b, frame, mode, *, xp):
    """a - b · n, n being the integer nearest to a / b, the even one of two."""
    n = _divisor(b, frame, xp=xp)
    some = (b.m != 0) & (b.infinite == 0)
    left = xp.where(some, a.exponent - b.exponent, a.m * 0 - 2)
    within = left < -1  # |a| < |b| / 2
    half = left == -1
    m = a.m >> frame.spare
    n = xp.where(half, n << 1, n)
    exponent = xp.where(half | within, a.exponent, b.exponent)
    q = m // n
    rest = m - q * n
    while xp.some(left > 0):
        width = xp.maximum(xp.minimum(left, frame.stride), left * 0)
        more = rest << width
        digit = more // n
        q = xp.where(left > 0, digit, q)
        rest = more - digit * n
        left = left - width
    up = ((2 * rest > n) | ((2 * rest == n) & (q & 1 != 0))) & (within == 0)
    size = xp.where(up, n - rest, xp.where(within, m, rest))
    size, exponent = normalize(size << frame.spare, exponent, frame.carrier, xp=xp)
    invalid = ((a.infinite | _is_zero(b)) & ((a.nan | b.nan) == 0)) | a.signaling | b.signaling
    negative = a.negative ^ flag(up, m, 1, xp=xp)
    return _outcome(negative, exponent, size, size != size, a.nan | b.nan, invalid, xp=xp)


def _divisor(b, frame, *, xp):
    """The significand of a divisor; that of zero may be any."""
    return xp.where(b.m == 0, b.m + frame.carrier.hidden, b.m) >> frame.spare


def itself(a, frame, mode, *, xp):
    """a, on its way to another format."""
    return _outcome(a.negative, a.exponent, a.m, a.infinite, a.nan, a.signaling, xp=xp)


def integral(a, frame, mode, *, xp):
    """a rounded to an integer, and whether that changed it."""
    carrier = frame.carrier
    drop = xp.minimum(xp.maximum(carrier.trailing - a.exponent, 0), carrier.reach)
    kept = a.m >> drop
    whole = kept + round_away(a.m, drop, kept, a.negative, mode, carrier.reach, xp=xp)
    # An integer below 2**(trailing + 1 - drop) in units of 2**0, or more where nothing was dropped.
    exponent = xp.where(drop == 0, a.exponent, drop * 0 + carrier.trailing)
    changed = ((kept << drop) != a.m) & (a.infinite == 0) & (a.nan == 0)
    m, exponent = normalize(whole, exponent, carrier, xp=xp)
    return _outcome(a.negative, exponent, m, a.infinite, a.nan, a.signaling, xp=xp), changed


def logarithm(a, frame, *, xp):
    """The exponent of a; that of 0 is -infinity, that of ±infinity is infinity."""
    zero = _is_zero(a)
    below = a.exponent < 0
    size = xp.where(below, -a.exponent, a.exponent)
    m, place = normalize(size, a.m * 0 + frame.carrier.trailing, frame.carrier, xp=xp)
    negative = flag(below & (a.infinite == 0), a.m, 1, xp=xp)
    out = _outcome(negative, place, m, a.infinite | zero, a.nan, a.signaling, xp=xp)
    return _raising(out, zero, DIVISION_BY_ZERO, xp=xp)


# ---- results -----------------------------------------------------------------------------------------------------


def deliver(outcome, random, frame, target, gap, results, mode, raised, general, *, xp):
    """Codes of a format, and flags, for exact results.

    Args:
        gap: `Gap` of formats with a hole in their grid, else None.
        general: as in `float.encode`.
    """
    carrier = frame.carrier
    negative, m = outcome.negative, outcome.m
    if general:
        negative = negative & (1 - target.absolute)
    beyond = (outcome.exponent > raised.emax) & (m != 0)
    m = xp.where(beyond, m * 0 + carrier.hidden, m)
    field = xp.where(m == 0, m * 0 + target.emin, xp.minimum(outcome.exponent, raised.emax + 1))
    drop, code, _ = round_number(negative, field, m, random, carrier, target, mode, general, xp=xp)
    inexact = (m & ((1 << xp.minimum(drop, carrier.reach)) - 1)) != 0
    if gap is not None:
        code, between = fill_gap(code, negative, field, m, drop, random, carrier, target, gap, mode, xp=xp)
        inexact = inexact | between
    if general:
        inexact = inexact | (code < 0)  # below the least value of a format without zero
        code = xp.maximum(code, 0)
    result = ends(negative, m, code, target, results, general, xp=xp)
    over = code > target.largest
    tiny = _is_tiny(negative, field, m, random, frame, target, mode, raised, xp=xp)
    flags = flag(inexact, m, INEXACT, xp=xp) | flag(inexact & tiny, m, UNDERFLOW, xp=xp)
    flags = xp.where(over, m * 0 + (OVERFLOW | INEXACT), flags)
    if general:
        zero = xp.where(target.zeroless != 0, m, code)
        flags = xp.where(refused(negative, zero, target), m * 0 + raised.refused, flags)

    result = xp.where(outcome.infinite, pick(negative, results.negative_infinity, results.infinity), result)
    flags = xp.where(outcome.infinite, pick(negative, raised.negative_infinity, raised.infinity), flags)
    result = xp.where(outcome.nan, pick(negative, results.negative_nan, results.nan), result)
    flags = xp.where(outcome.nan, m * 0 + raised.nan, flags)
    return result, flags | outcome.flags


def _is_tiny(negative, field, m, random, frame, target, mode, raised, *, xp):
    """Whether a result, rounded as if there were no least exponent or not rounded, lies below the smallest normal."""
    carrier = frame.carrier
    near = xp.maximum(field, raised.tiny_exponent - 2) - raised.tiny_exponent
    drop = m * 0 + (carrier.trailing - target.trailing)
    s = m >> drop
    if random is None:
        code = ((near + raised.tiny_exponent - target.emin) << target.trailing) + s - target.offset  # even as codes are
        away = round_away(m, drop, code, negative, mode, carrier.reach, xp=xp)
    else:
        away = round_away_random(m, drop, random, mode, carrier.reach, xp=xp)
    rounded = (near << target.trailing) + s + away * raised.after
    return (m != 0) & (rounded < raised.tiny_significand)


def deliver_fixed(outcome, random, frame, grid, results, mode, *, xp):
    """Codes of a fixed-point format, and flags, for exact results."""
    code, dropped, over = fixed.round_number(
        outcome.negative, outcome.exponent, outcome.m, random, frame.carrier, grid, results, mode, xp=xp
    )
    return code, xp.where(over, code * 0 + INVALID, flag(dropped, code, INEXACT, xp=xp))
