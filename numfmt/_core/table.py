"""Formats given by a list of values.

Values are compared as keys: integers that order carrier patterns as the reals they name.
"""

from typing import Any, NamedTuple

from .float import normalize, special, unpack
from .fraction import away_at_random
from .rounding import FRACTION_BITS, round_away, round_away_random


class Table(NamedTuple):
    """Sorted distinct values v[0] < v[1] < … of a format, as arrays of the carrier's integer type.

    x ≥ v[i] is key(x) >= at[i], and x > v[i] is key(x) >= above[i]; likewise `middle_at` and
    `middle_above` for the midpoint of v[i] and v[i + 1]. `at` is padded to 2**depth entries that no
    key reaches.
    """

    depth: int
    length: int
    at: Any
    above: Any
    middle_at: Any
    middle_above: Any
    result: Any  # code or carrier pattern of v[i]
    # Stochastic rounding: v[i], v[i + 1] and their difference, in units of the last place that
    # both need, which at carrier exponent `field[i]` is a significand's last bit.
    lower: Any
    upper: Any
    width: Any
    field: Any
    reach: Any  # largest useful left shift of an operand's significand


def _rank(key, table, *, xp):
    """Index of the largest value ≤ x, or -1, by bisection."""
    rank = key * 0 - 1
    for level in range(table.depth):
        step = 1 << (table.depth - 1 - level)
        rank = xp.where(key >= table.at[rank + step], rank + step, rank)
    return rank


def _fraction(magnitude, negative, i, carrier, table, *, xp):
    """The FRACTION_BITS first bits of ν, the last one sticky: distance from the neighbour toward zero / gap."""
    _, _, field, m = unpack(magnitude, carrier, xp=xp)
    m, field = normalize(m, field, carrier, xp=xp)
    shift = field - table.field[i] + (FRACTION_BITS - 1)
    right = xp.minimum(xp.maximum(-shift, 0), carrier.reach)
    scaled = (m << xp.minimum(xp.maximum(shift, 0), table.reach)) >> right
    origin = xp.where(negative != 0, -table.upper[i], table.lower[i])
    distance = scaled - (origin << (FRACTION_BITS - 1))
    quotient = distance // table.width[i]
    sticky = (quotient * table.width[i] != distance) | ((m & ((1 << right) - 1)) != 0)
    return quotient * 2 + xp.where(sticky, quotient * 0 + 1, quotient * 0)


def _away_narrowly(magnitude, negative, i, random, carrier, table, mode, *, xp):
    """1 where stochastic rounding goes to the neighbour away from zero, without numbers beyond 32 bits.

    The distance from the neighbour toward zero is d · 2**-below units: an operand that is finer than the
    unit lies below 2**24 of its own, and so does that neighbour.
    """
    _, _, field, m = unpack(magnitude, carrier, xp=xp)
    shift = field - table.field[i]
    up, below = xp.minimum(xp.maximum(shift, 0), carrier.reach), xp.maximum(-shift, 0)
    origin = xp.where(negative != 0, -table.upper[i], table.lower[i])
    d = (m << up) - (origin << xp.minimum(below, carrier.reach))
    return away_at_random(d, table.width[i], below, random, mode, xp=xp)


def _choose(bits, random, carrier, table, mode, *, xp):
    """Index of the value that each carrier pattern rounds to.

    The operand's place between its neighbours is put into a significand of its own (0 exact, 01
    below the midpoint, 10 on it, 11 above), so that the rounding modes are those of every format.
    """
    negative = (bits >> carrier.sign_shift) & 1
    magnitude = bits & carrier.magnitude_mask
    key = (magnitude ^ -negative) + negative
    rank = _rank(key, table, xp=xp)
    i = xp.minimum(xp.maximum(rank, 0), table.length - 2)
    exact = (rank >= 0) & (key < table.above[xp.maximum(rank, 0)])
    outside = (rank < 0) | (rank > table.length - 2)
    toward_zero = i + negative
    if random is None:
        below, above = key < table.middle_at[i], key >= table.middle_above[i]
        beyond = xp.where(negative != 0, below, above)
        place = xp.where(beyond, key * 0 + 3, xp.where(below | above, key * 0 + 1, key * 0 + 2))
        away = round_away(place, key * 0 + 2, toward_zero, negative, mode, carrier.reach, xp=xp)
    elif carrier.bits == 32:
        away = _away_narrowly(magnitude, negative, i, random, carrier, table, mode, xp=xp)
    else:
        nu = _fraction(magnitude, negative, i, carrier, table, xp=xp)
        away = round_away_random(nu, key * 0 + FRACTION_BITS, random, mode, carrier.reach, xp=xp)
    between = toward_zero + xp.where(negative != 0, -away, away)
    return xp.where(exact | outside, xp.maximum(rank, 0), between)


def encode(bits, random, carrier, table, results, mode, *, xp):
    """Entries of `table.result` for carrier patterns, rounded once; outside the list, its ends.

    Args:
        bits: integer array of carrier patterns.
        random: integer array of random numbers, or None unless `mode` is stochastic.
    """
    nan = (bits & carrier.magnitude_mask) > carrier.infinity
    bits = xp.where(nan, bits * 0, bits)  # the value next to zero stands for NaN
    negative = (bits >> carrier.sign_shift) & 1
    magnitude = bits & carrier.magnitude_mask
    result = table.result[_choose(bits, random, carrier, table, mode, xp=xp)]
    below_zero = (negative != 0) & (magnitude != 0) & (result == results.zero)
    result = xp.where(below_zero, result * 0 + results.negative_zero, result)
    return special(result, negative, magnitude, carrier, results, xp=xp)
