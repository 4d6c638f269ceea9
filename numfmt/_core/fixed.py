"""Fixed-point formats: integers in units of 2**-fraction_bits, two's complement or sign-magnitude."""

from typing import NamedTuple

from .float import normalize, pack, pick, special, unpack
from .rounding import round_away, round_away_random


class Grid(NamedTuple):
    """A fixed-point format relative to a carrier, and its overflow rule as data."""

    width: int
    field: int  # exponent field of a carrier value whose significand counts in units of the format
    low: int  # integers outside [low, high] overflow
    high: int
    mask: int  # 2**width - 1
    sign_magnitude: int
    signed: int
    # Wrap-around: 0 none, 1 keeps the low bits, 2 as 1 but inverts them where the sign would flip.
    wrap: int = 0
    keep: int = 0  # mask of the bits that survive
    top: int = 0  # bits set above them where a positive (negative) value overflows
    negative_top: int = 0


def encode(bits, random, carrier, grid, results, mode, *, xp):
    """Codes of a fixed-point format from carrier patterns, rounded once.

    Args:
        bits: integer array of carrier patterns.
        random: integer array of random numbers, or None unless `mode` is stochastic.

    References: AMD UG1399 ap_fixed (quantization and overflow modes); SystemC IEEE 1666 sc_fixed.
    """
    negative, magnitude, field, m = unpack(bits, carrier, xp=xp)
    m, field = normalize(m, field, carrier, xp=xp)
    code, _, _ = round_number(negative, field, m, random, carrier, grid, results, mode, xp=xp)
    return special(code, negative, magnitude, carrier, results, xp=xp)


def round_number(negative, field, m, random, carrier, grid, results, mode, *, xp):
    """The same for significands and exponents: the code, whether bits were dropped, whether it is out of range."""
    drop = grid.field - field
    lower = xp.maximum(drop, 0)
    raised = xp.minimum(xp.maximum(-drop, 0), carrier.bits - 1)
    s = m >> xp.minimum(lower, carrier.reach)
    if random is None:
        away = round_away(m, lower, s, negative, mode, carrier.reach, xp=xp)
    else:
        away = round_away_random(m, lower, random, mode, carrier.reach, xp=xp)
    s = (s + away) << raised
    headroom = carrier.bits - 3 - carrier.trailing
    huge = (raised > headroom) & (m != 0)
    value = xp.where(negative != 0, -s, s)
    overflow = (value < grid.low) | (value > grid.high) | huge
    code = xp.where(grid.sign_magnitude != 0, s | (negative << (grid.width - 1)), value & grid.mask)
    kept = (value & grid.keep) | pick(negative, grid.negative_top, grid.top)
    flipped = ((value >> grid.width) ^ (value >> (grid.width - 1))) & 1
    kept = xp.where(grid.wrap == 2, kept ^ (-flipped & grid.mask), kept)
    limit = pick(negative, results.negative_overflow, results.overflow)
    code = xp.where(overflow, xp.where(grid.wrap != 0, kept, limit), code)
    dropped = (m & ((1 << xp.minimum(lower, carrier.reach)) - 1)) != 0
    return code, dropped, overflow


def decode(code, carrier, grid, *, xp):
    """Carrier patterns of a fixed-point format's codes, exactly; magnitudes fit the carrier's significand."""
    negative, m = split(code, grid, xp=xp)
    packed = xp.where(m == 0, m, pack(m, m * 0 + grid.field, carrier, xp=xp))
    return packed | (-negative << carrier.sign_shift)


def split(code, grid, *, xp):
    """Sign and magnitude, in units of the format, of its codes."""
    code = code & grid.mask
    negative = (code >> (grid.width - 1)) & grid.signed
    complement = xp.where(negative != 0, -(code | ~grid.mask), code)
    return negative, xp.where(grid.sign_magnitude != 0, code & (grid.mask >> 1), complement)
