"""Sums of products: terms as integers in units of a common last place, and their sum rounded.

    significands, exponents → align → integers → + → settle → Outcome → keep → Number

A term is m · 2**(exponent - digits), m being an integer that need not have a leading bit: matrix units do not normalise
what they multiply. Its exponent is the one that counts when the largest is sought.

References: M. Fasi, N. Higham, M. Mikaitis, S. Pranesh, "Numerical behavior of NVIDIA tensor cores" (PeerJ CS 7:e330).
"""

from typing import NamedTuple

from .arithmetic import Number, Outcome, _sticky, flag
from .float import normalize, pick
from .rounding import round_away, round_away_random

PRODUCT, ACCUMULATOR = 27, 29  # where the leading bits are in `accumulate`


class Keep(NamedTuple):
    """A binary float format that numbers are rounded to without being encoded; its subnormals are gradual."""

    precision: int
    emin: int
    emax: int
    largest: int  # significand of the largest finite value, its leading bit at `carrier.trailing`
    beyond: int  # what positive overflow becomes: 0 the largest value, 1 infinity, 2 NaN
    negative_beyond: int
    infinity: int  # what an infinite result becomes: 0 the largest value, 1 infinity
    flush: int  # subnormal results are zeros of their sign: 1 as they are rounded, 2 as if exponents had no end


def far_below(carrier):
    """How far below every other exponent that of zero is; `arithmetic.FAR` in 64 bits."""
    return 1 << (carrier.bits // 2 + 8)


def align(m, negative, place, mode, reach, *, xp):
    """±m · 2**place, rounded to an integer.

    Args:
        m: integer array, below 2**(reach - 2).
        negative: integer array of 0 or 1.
        place: integer array; where it is positive, m · 2**place lies below 2**(reach - 2).
        mode: `Round`.
    """
    raised = m << xp.maximum(place, 0)
    drop = xp.minimum(xp.maximum(-place, 0), reach)
    kept = raised >> drop
    t = kept + round_away(raised, drop, kept, negative, mode, reach, xp=xp)
    return xp.where(negative != 0, -t, t)


def cut(n, drop, floors, carrier, *, xp):
    """n · 2**-drop as an integer, floored or cut toward zero; drop ≥ 0."""
    drop = xp.minimum(drop, carrier.bits - 1)
    if floors:
        return n >> drop
    sign = n >> (carrier.bits - 1)
    return ((((n ^ sign) - sign) >> drop) ^ sign) - sign


def settle(total, exponent, zero_negative, carrier, *, xp):
    """total · 2**exponent as an `Outcome`; the sign of zero is given."""
    negative = xp.where(total == 0, zero_negative, flag(total < 0, total, 1, xp=xp))
    size = xp.where(total < 0, -total, total)
    long = flag(size >= 2 * carrier.hidden, size, carrier.bits - 2 - carrier.trailing, xp=xp)
    m, top = normalize(_sticky(size, long, xp=xp), exponent + long + carrier.trailing, carrier, xp=xp)
    never = size != size
    return Outcome(negative, top, m, never, never, size * 0)


def lifted(t, place, word, *, xp):
    """t · 2**place as high · 2**word + low with low in [0, 2**word).

    Args:
        place: integer array ≥ 0 such that high fits its word.
        word: up to carrier.bits - 2.
    """
    near = xp.minimum(place, word)
    low = (t & ((1 << (word - near)) - 1)) << near
    return (t >> (word - near)) << (place - near), low


def settle_long(high, low, word, exponent, zero_negative, carrier, *, xp):
    """(high · 2**word + low) · 2**exponent as an `Outcome`, low being any integer; the sign of zero is given.

    Args:
        word: up to carrier.trailing + 1, and no less than the first of carrier.steps.
    """
    ones = (1 << word) - 1
    high = high + (low >> word)
    low = low & ones
    negative = flag(high < 0, high, 1, xp=xp)
    low = xp.where(negative != 0, -low & ones, low)
    high = xp.where(negative != 0, -high - flag(low != 0, high, 1, xp=xp), high)
    over = carrier.bits - 2 - carrier.trailing
    long = flag(high >= 2 * carrier.hidden, high, over, xp=xp)
    lost = low & ((1 << long) - 1)
    low = (low >> long) | ((high & ((1 << long) - 1)) << (word - long)) | flag(lost != 0, low, 1, xp=xp)
    high, exponent = high >> long, exponent + word + long
    empty = high == 0
    high, low = xp.where(empty, low, high), xp.where(empty, low * 0, low)
    exponent = xp.where(empty, exponent - word, exponent)
    for step in carrier.steps:
        short = high < (2 * carrier.hidden >> step)
        high = xp.where(short, (high << step) | (low >> (word - step)), high)
        low = xp.where(short, (low & (ones >> step)) << step, low)
        exponent = xp.where(short, exponent - step, exponent)
    m = high | flag(low != 0, low, 1, xp=xp)
    never = m != m
    return Outcome(xp.where(m == 0, zero_negative, negative), exponent + carrier.trailing, m, never, never, m * 0)


def accumulate(m, exponent, product, place, shift, sticky, *, xp):
    """An accumulator and an exact product, added and rounded to nearest, ties to even, in 32 bits.

    The accumulator is m · 2**(exponent - ACCUMULATOR), normalised, of p digits; the product, of w ≤ PRODUCT - p digits,
    is product · 2**(place - PRODUCT), between 2**place and 4 · 2**place, or zero. No sum is subnormal: the caller sees
    to that.

    The smaller one loses bits at the end of the word only where it is less than the half of a last place of the other
    that decides, and that one is p digits already: the sum is the other whatever is lost. The accumulator needs a bit
    that stands for what it loses, `sticky`, where 2 · p > PRODUCT, or where w > p so that it may decide a tie.

    Args:
        shift: ACCUMULATOR + 1 - p, bits below the last place.
    """
    high = xp.maximum(exponent, place)
    down = xp.minimum(high - exponent + (ACCUMULATOR - PRODUCT), 31)
    total = (_sticky(m, down, xp=xp) if sticky else m >> down) + (product >> xp.minimum(high - place, 31))
    up = xp.leading_zeros(xp.magnitude(total)) - (31 - ACCUMULATOR)
    total = total << up
    kept = total + ((1 << (shift - 1)) - 1) + ((total >> shift) & 1)
    return (kept >> shift) << shift, xp.where(total == 0, total - (1 << 24), high + (ACCUMULATOR - PRODUCT) - up)


def _is_tiny(out, carrier, to, mode, *, xp):
    """Whether a result, rounded to a format's digits with any exponent, lies below the least normal value."""
    drop = out.m * 0 + (carrier.trailing + 1 - to.precision)
    kept = out.m >> drop
    kept = kept + round_away(out.m, drop, kept, out.negative, mode, carrier.reach, xp=xp)
    return out.exponent + (kept >> to.precision) < to.emin


def keep(out, random, carrier, to, mode, *, xp):
    """Exact results rounded to a format, as numbers."""
    m, exponent, negative = out.m, out.exponent, out.negative
    drop = carrier.trailing + 1 - to.precision + xp.maximum(to.emin - exponent, 0)
    near = xp.minimum(drop, carrier.reach)
    kept = m >> near
    if random is None:
        away = round_away(m, drop, kept, negative, mode, carrier.reach, xp=xp)
    else:
        away = round_away_random(m, drop, random, mode, carrier.reach, xp=xp)
    kept = kept + away
    far = drop > carrier.trailing + 1  # nothing is kept but the unit that was added
    m = xp.where(far, kept << carrier.trailing, kept << xp.minimum(drop, carrier.trailing + 1))
    exponent = xp.where(far, exponent + drop - carrier.trailing, exponent)
    carry = m >> (carrier.trailing + 1)
    m, exponent = m >> carry, exponent + carry
    small = exponent < to.emin
    if random is None:
        small = xp.where(to.flush == 2, _is_tiny(out, carrier, to, mode, xp=xp), small)
    m = xp.where(small & (to.flush != 0), m * 0, m)
    over = (m != 0) & ((exponent > to.emax) | ((exponent == to.emax) & (m > to.largest)))
    becomes = pick(negative, to.negative_beyond, to.beyond)
    ends = over | out.infinite
    m = xp.where(ends, m * 0 + to.largest, m)
    exponent = xp.where(ends, m * 0 + to.emax, exponent)
    infinite = (out.infinite & (to.infinity != 0)) | (over & (becomes == 1))
    nan = out.nan | (over & (becomes == 2))
    return Number(negative, xp.where(m == 0, m - far_below(carrier), exponent), m, infinite, nan, m != m)
