"""Block scaling: which scale a block gets, and how its elements meet it, in integers.

A scale that is a power of two is an offset on exponents: elements are rounded by the kernels of their
own format, on a grid that lies `shift` binades higher. Any other scale divides.
"""

from .fixed import Grid
from .float import normalize, pack, round_regular, unpack
from .parameters import Results, Target
from .rounding import increment, round_away, round_away_random


def shifted_target(target, shift):
    """The grid of a float format times 2**shift, for encoding: its codes stay what they are."""
    return Target(
        target.trailing, target.emin + shift, target.smallest, target.largest, target.sign, target.offset,
        target.zeroless, target.unsigned, target.negative, target.absolute, target.lowest_away,
    )  # fmt: skip


def shifted_values(target, results, shift, carrier, finite_overflow, finite_infinity):
    """Target and results for quantizing to a float format times 2**shift, where all of it is normal in the carrier.

    Args:
        finite_overflow, finite_infinity: 1 where what overflow (an infinity) becomes is a finite value.
    """
    moved = shift << carrier.trailing
    overflow, infinity = moved & -finite_overflow, moved & -finite_infinity
    return (
        Target(
            target.trailing, target.emin + shift, target.smallest + moved, target.largest + moved, target.sign,
            target.offset, target.zeroless, target.unsigned, target.negative, target.absolute, target.lowest_away,
        ),
        Results(
            results.overflow + overflow, results.negative_overflow + overflow, results.infinity + infinity,
            results.negative_infinity + infinity, results.nan, results.negative_nan, results.zero,
            results.negative_zero,
        ),
    )  # fmt: skip


def encode_saturating(bits, random, carrier, target, shift, mode, *, xp):
    """`float.encode` on the grid of a format times 2**shift, for what blocks mostly hold.

    The operands are numbers or infinite, the format has a sign and a -0, and what overflows saturates.
    """
    moved = shifted_target(target, shift)
    _, _, _, _, _, code, _ = round_regular(bits, random, carrier, moved, mode, False, xp=xp)
    return xp.minimum(code, target.largest) | ((bits >> carrier.sign_shift) & target.sign)


def quantize_saturating(bits, random, carrier, target, shift, mode, *, xp):
    """`float.quantize` in the same circumstances, where all of the shifted format is normal in the carrier.

    The format stores a significand (t ≥ 1), so that the last kept bit is that of the quotient.
    """
    lifted = shift << carrier.trailing
    negative, _, field, m = unpack(bits, carrier, xp=xp)
    drop = xp.maximum(target.emin + shift - field, 0) + (carrier.trailing - target.trailing)
    s = m >> xp.minimum(drop, carrier.reach)
    if random is None:
        s = s + round_away(m, drop, s, negative, mode, carrier.reach, xp=xp)
    else:
        s = s + round_away_random(m, drop, random, mode, carrier.reach, xp=xp)
    packed = ((field - 1) << carrier.trailing) + (s << xp.minimum(drop, carrier.reach))
    packed = xp.where(drop > carrier.trailing + 1, lifted + target.smallest, packed)
    packed = xp.minimum(xp.where(s == 0, s, packed), lifted + target.largest)
    return packed | (bits & ~carrier.magnitude_mask)


def nearest_in_place(bits, carrier, target, shift, mode, *, xp):
    """What kernels to nearest share; the scaled format's least value is twice the carrier's least normal one, or more.

        m = 1LLLLRTTT      mask = 000001111      the last kept bit is that of the quotient: t ≥ 1

    Then every subnormal of the carrier is less than half of the least value, whose neighbour is zero: the hidden
    bit that they are given here does not matter.

    Returns:
        magnitude, m: of the operand; mask, drop: of the bits that are dropped, and how many they are; above: how many
        binades the operand lies above the format's first one; s: m with what rounding adds to it, nothing dropped yet.
    """
    magnitude = bits & carrier.magnitude_mask
    field = magnitude >> carrier.trailing
    m = (magnitude & (carrier.hidden - 1)) | carrier.hidden
    regular = carrier.trailing - target.trailing
    above = field - (target.emin + shift)
    drop = xp.minimum(xp.maximum(regular - above, regular), carrier.reach)
    mask = (1 << drop) - 1
    return magnitude, m, mask, drop, above, m + increment(mask, m >> drop, 0, mode, xp=xp)


def encode_nearest(bits, carrier, target, shift, mode, *, xp):
    """`encode_saturating` for modes to nearest that do not look at the sign."""
    _, _, _, drop, above, s = nearest_in_place(bits, carrier, target, shift, mode, xp=xp)
    code = (xp.maximum(above, 0) << target.trailing) + (s >> drop)
    return xp.minimum(code, target.largest) | ((bits >> carrier.sign_shift) & target.sign)


def quantize_nearest(bits, carrier, target, shift, mode, *, xp):
    """`quantize_saturating` for modes to nearest that do not look at the sign; a carry flows into the exponent."""
    magnitude, m, mask, _, _, s = nearest_in_place(bits, carrier, target, shift, mode, xp=xp)
    s = s & ~mask
    packed = xp.minimum(xp.where(s == 0, s, (magnitude - m) + s), (shift << carrier.trailing) + target.largest)
    return packed | (bits & ~carrier.magnitude_mask)


def shifted_grid(grid, shift):
    """A fixed-point format times 2**shift."""
    return Grid(
        grid.width, grid.field + shift, grid.low, grid.high, grid.mask, grid.sign_magnitude, grid.signed, grid.wrap,
        grid.keep, grid.top, grid.negative_top,
    )  # fmt: skip


def quotient(bits, divisor, carrier, *, xp):
    """Carrier patterns of x / d with 51 or 52 significant bits, the last one sticky: rounded to odd.

    Every later rounding to at most 49 bits is that of the exact quotient (IEEE 754-2019 §4.3 defines
    each by the exact value, and a sticky last bit keeps what they look at). x / 0 and x / Inf are left
    to the caller, as are NaN and infinite x, which stay what they are.

    Args:
        bits: integer array of patterns of a 64-bit carrier.
        divisor: integer array of patterns of positive normal values of at most 24 significant bits.
    """
    _, magnitude, field, m = unpack(bits, carrier, xp=xp)
    m, field = normalize(m, field, carrier, xp=xp)
    d = ((divisor & (carrier.hidden - 1)) | carrier.hidden) >> (carrier.trailing - 23)
    first = (m << 10) // d  # 63 bits by 24: 39 or 40 bits
    rest = (m << 10) - first * d
    second = (rest << 12) // d
    sticky = xp.where((rest << 12) != second * d, m * 0 + 1, m * 0)
    q = (first << 12) | second | sticky
    field = field - (divisor >> carrier.trailing) + carrier.bias + 1  # q is (m << 22) / d
    # Beyond the carrier every format that a block may have for elements is at its end already.
    packed = pack(q, xp.minimum(field, 2 * carrier.bias), carrier, xp=xp)
    packed = xp.maximum(packed, 1)
    packed = xp.where(m == 0, m, packed)
    packed = xp.where(magnitude >= carrier.infinity, magnitude, packed)
    return packed | (bits & ~carrier.magnitude_mask)
