"""Floats with a hole in their grid just below or around the smallest normal value.

    DLFloat        0 .................. 513 514 515 …   no subnormals, and zero in the place of 512
    CFloat         0 1 2 … 7 .............. 16 18 20 …  subnormals one binade too low
    no subnormals  0 ................ 8 9 10 …          {0} ∪ normals

Each is a regular format less some codes. Outside the hole that format's rounding holds; inside, the
operand lies between the two ends, which are `high - low` quanta apart.
"""

from .float import finish, round_regular
from .fraction import away_at_random
from .rounding import FRACTION_BITS, round_away, round_away_random


def _place(m, drop, carrier, gap, *, xp):
    """Where in the hole an operand lies: 1 below the middle, 2 on it, 3 above it, 0 on its lower end."""
    less = xp.minimum(xp.maximum(drop - 1, 0), carrier.reach)
    twice = xp.where(drop > 0, m >> less, m << 1)
    rest = m & ((1 << less) - 1)
    middle = gap.low + gap.high
    above = (twice > middle) | ((twice == middle) & (rest != 0))
    place = xp.where(above, m * 0 + 3, xp.where(twice == middle, m * 0 + 2, m * 0 + 1))
    return xp.where((twice == 2 * gap.low) & (rest == 0), m * 0, place)


def _fraction(m, drop, s, carrier, gap, *, xp):
    """The first FRACTION_BITS bits of the distance from the hole's lower end over its width, the last sticky."""
    bits = FRACTION_BITS - 1
    dropped = m & ((1 << xp.minimum(drop, carrier.reach)) - 1)
    right = xp.minimum(xp.maximum(drop - bits, 0), carrier.reach)
    part = xp.where(drop > bits, dropped >> right, dropped << xp.maximum(bits - drop, 0))
    distance = ((s - gap.low) << bits) + part
    width = gap.high - gap.low
    quotient = distance // width
    sticky = (quotient * width != distance) | ((dropped & ((1 << right) - 1)) != 0)
    return quotient * 2 + xp.where(sticky, m * 0 + 1, m * 0)


def encode(bits, random, carrier, target, gap, results, mode, *, xp):
    """Codes of a format whose grid has a hole, from carrier patterns, rounded once.

    Args:
        target: the grid without the hole, but for `largest`, which is the format's own.
        random: integer array of random numbers or None.
    """
    negative, magnitude, field, m, drop, code, _ = round_regular(bits, random, carrier, target, mode, True, xp=xp)
    code, _ = fill_gap(code, negative, field, m, drop, random, carrier, target, gap, mode, xp=xp)
    return finish(negative, magnitude, code, carrier, target, results, True, xp=xp)


def fill_gap(code, negative, field, m, drop, random, carrier, target, gap, mode, *, xp):
    """The codes of a regular grid as those of the format, and whether operands lie inside the hole, not on an end."""
    down = m >> xp.minimum(drop, carrier.reach)
    inside = (field <= target.emin) & (down >= gap.low) & (down < gap.high)
    if random is None:
        place = _place(m, drop, carrier, gap, xp=xp)
        away = round_away(place, m * 0 + 2, m * 0 + gap.low, negative, mode, carrier.reach, xp=xp)
    elif carrier.bits == 32:
        d = m - (gap.low << xp.minimum(drop, carrier.reach))
        away = away_at_random(d, m * 0 + (gap.high - gap.low), drop, random, mode, xp=xp)
    else:
        nu = _fraction(m, drop, xp.where(inside, down, m * 0 + gap.low), carrier, gap, xp=xp)
        away = round_away_random(nu, m * 0 + FRACTION_BITS, random, mode, carrier.reach, xp=xp)
    code = xp.where(inside, gap.low + away * (gap.high - gap.low), code)
    code = xp.where(code >= gap.high, code - gap.skipped, code)
    return code, inside & (down > gap.low)
