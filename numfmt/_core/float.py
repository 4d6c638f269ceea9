"""Floating-point formats: round a carrier's value to a format's grid, and read a format's codes."""

from .rounding import round_away, round_away_random


def pick(flag, yes, no):
    """`yes` where `flag` is 1, `no` where it is 0; both are plain integers, the result has flag's type."""
    return (-flag & (yes ^ no)) ^ no


def unpack(bits, carrier, *, xp):
    """Sign, magnitude code, exponent field and integer significand of carrier patterns.

    s eeee ffff  →  field eeee, significand 1ffff    (normal)
                    field 0001, significand 0ffff    (subnormal)
    """
    negative = (bits >> carrier.sign_shift) & 1
    magnitude = bits & carrier.magnitude_mask
    field = magnitude >> carrier.trailing
    fraction = magnitude & (carrier.hidden - 1)
    m = xp.where(field == 0, fraction, fraction | carrier.hidden)
    return negative, magnitude, xp.maximum(field, 1), m


def normalize(m, field, carrier, *, xp):
    """`m` shifted left until bit `carrier.trailing` leads, the exponent field lowered by as much."""
    for step in carrier.steps:
        short = m < (2 * carrier.hidden >> step)
        m = xp.where(short, m << step, m)
        field = xp.where(short, field - step, field)
    return m, field


def pack(m, field, carrier, *, xp):
    """Carrier magnitude of the exact value `m` in units of the last bit at exponent `field`.

    `m` lies below 2 * carrier.hidden; bits that the carrier's subnormals cannot hold must be zero.
    """
    m, field = normalize(m, field, carrier, xp=xp)
    lost = xp.minimum(xp.maximum(1 - field, 0), carrier.trailing + 1)
    return xp.where(field < 1, m >> lost, ((field - 1) << carrier.trailing) + m)


def special(result, negative, magnitude, carrier, results, *, xp):
    """`result`, but for operands that are infinite or NaN what those become."""
    infinity = pick(negative, results.negative_infinity, results.infinity)
    nan = pick(negative, results.negative_nan, results.nan)
    other = xp.where(magnitude > carrier.infinity, nan, infinity)
    return xp.where(magnitude >= carrier.infinity, other, result)


def locate(field, carrier, target, general, *, xp):
    """How many bits lie below the format's quantum, and the format's exponent field less one.

    Below the smallest normal one more bit is dropped a binade: that is all that subnormals need.
    """
    below = xp.maximum(target.emin - field, 0)
    drop = below + (carrier.trailing - target.trailing)
    return xp.maximum(drop, 0) if general else drop, field + below - target.emin


def round_regular(bits, random, carrier, target, mode, general, *, xp):
    """The rounding that all float kernels share.

    The last kept bit is the last bit of the packed code, so that "even" is an even code also where
    a format stores no significand at all.

    Returns:
        negative, magnitude, field, m: as `unpack`, normalised in the general case.
        drop: bits below the quantum, not clamped.
        code: magnitude code of the result, with an unbounded exponent.
        s: the result in quanta.
    """
    negative, magnitude, field, m = unpack(bits, carrier, xp=xp)
    if general:
        m, field = normalize(m, field, carrier, xp=xp)
        negative = negative & (1 - target.absolute)
    drop, code, s = round_number(negative, field, m, random, carrier, target, mode, general, xp=xp)
    return negative, magnitude, field, m, drop, code, s


def round_number(negative, field, m, random, carrier, target, mode, general, *, xp):
    """The same for significands and exponents: drop, code and s."""
    drop, own = locate(field, carrier, target, general, xp=xp)
    s = m >> xp.minimum(drop, carrier.reach)
    code = (own << target.trailing) + s
    if general:
        own = xp.where(m == 0, m, own)  # a normalised zero has no exponent
        code = (own << target.trailing) + s - target.offset
    if random is None:
        away = round_away(m, drop, code, negative, mode, carrier.reach, xp=xp)
    else:
        away = round_away_random(m, drop, random, mode, carrier.reach, xp=xp)
    if general:
        dropped = m & ((1 << xp.minimum(drop, carrier.reach)) - 1)
        forced = (field == target.emin) & (dropped != 0) & (target.lowest_away != 0)
        away = xp.where(forced, away * 0 + 1, away)
    return drop, code + away, s + away


def finish(negative, magnitude, packed, carrier, target, results, general, *, xp):
    """The packed magnitude with its sign, or what its special case becomes."""
    result = ends(negative, magnitude, packed, target, results, general, xp=xp)
    return special(result, negative, magnitude, carrier, results, xp=xp)


def ends(negative, magnitude, packed, target, results, general, *, xp):
    """The packed magnitude with its sign, or what zero, overflow and a sign that is refused become.

    Args:
        magnitude: integer array, 0 where the operand is zero.
    """
    result = packed | (-negative & target.sign)
    zero = xp.where(target.zeroless != 0, magnitude, packed) if general else packed
    result = xp.where(zero == 0, pick(negative, results.negative_zero, results.zero), result)
    result = xp.where(packed > target.largest, pick(negative, results.negative_overflow, results.overflow), result)
    if general:
        result = xp.where(refused(negative, zero, target), packed * 0 + target.negative, result)
    return result


def refused(negative, result, target):
    """Where a result, 0 if it rounds to zero, has a sign that its format lacks."""
    return ((negative & target.unsigned) != 0) & (result != 0)


def encode(bits, random, carrier, target, results, mode, general, *, xp):
    """Codes of a format from carrier patterns, rounded once.

    Args:
        bits: integer array of carrier patterns.
        random: integer array of random numbers, or None unless `mode` is stochastic.
        general: bool, not an array. False is enough, and faster, where the format's exponents start
            no lower than the carrier's, its binades are regular and it has a sign and a zero.

    Returns:
        Integer array of `bits`' dtype.

    References: IEEE 754-2019 §4.3 and §7.4; P3109 Interim Report v4.0 §4.7.
    """
    negative, magnitude, _, _, _, code, _ = round_regular(bits, random, carrier, target, mode, general, xp=xp)
    if general:
        code = xp.maximum(code, 0)
    return finish(negative, magnitude, code, carrier, target, results, general, xp=xp)


def quantize(bits, random, carrier, target, results, mode, general, *, xp):
    """Carrier patterns of the values that `encode` names: the same rounding, packed into the carrier.

    The result keeps the operand's exponent, and a carry flows into it; where the quantum lies beyond
    the operand's binade the only other result than zero is the format's least value.
    """
    negative, magnitude, field, _, drop, _, s = round_regular(bits, random, carrier, target, mode, general, xp=xp)
    m = s << xp.minimum(drop, carrier.trailing + 1)
    packed = ((field - 1) << carrier.trailing) + m
    if general:
        lost = xp.minimum(xp.maximum(1 - field, 0), carrier.trailing + 1)
        packed = xp.where(field < 1, m >> lost, packed)
    packed = xp.where(drop > carrier.trailing + 1, packed * 0 + target.smallest, packed)
    packed = xp.where(s == 0, s, packed)
    if general:
        packed = xp.maximum(packed, packed * 0 + target.zeroless * target.smallest)
    return finish(negative, magnitude, packed, carrier, target, results, general, xp=xp)


def decode(code, carrier, source, *, xp):
    """Carrier patterns of a format's codes, exactly; every value of the format must fit the carrier.

    References: IEEE 754-2019 §3.4; P3109 Interim Report v4.0 §4.7.2.
    """
    negative, magnitude, field, m, empty = split(code, carrier, source, xp=xp)
    packed = pack(m, field + source.rebias, carrier, xp=xp) | (-negative << carrier.sign_shift)
    packed = xp.where(magnitude == 0, pick(negative, source.negative_zero, source.zero), packed)
    if_infinite = carrier.infinity | (-negative << carrier.sign_shift)
    other = xp.where(magnitude == source.infinity, if_infinite, magnitude * 0 + source.nan)
    return xp.where((magnitude > source.largest) | empty, other, packed)


def split(code, carrier, source, *, xp):
    """Codes of a format taken apart: sign, magnitude code, exponent field, significand, whether a code is unused.

    Args:
        source: how the codes read: a tuple with the fields of `Source` up to `trailing`, and its claims about field 0.
    """
    code = code & source.mask
    negative = (code >> source.sign_shift) & 1
    magnitude = code & source.magnitude_mask
    field = magnitude >> source.trailing
    fraction = magnitude & ((1 << source.trailing) - 1)
    subnormal = (field == 0) & (source.subnormal != 0)
    m = xp.where(subnormal, fraction, fraction + (1 << source.trailing)) << (carrier.trailing - source.trailing)
    empty = (field == 0) & (fraction != 0) & (source.unused != 0)
    return negative, magnitude, xp.where(subnormal, magnitude * 0 + (1 - source.shifted), field), m, empty
