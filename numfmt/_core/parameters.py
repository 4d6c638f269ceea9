"""The plain-integer parameters that kernels read: one tuple per concern, no arrays, no enums.

They are tuples of Python ints so that one compiled kernel serves every format, and so that JAX may
treat them as static or as traced values alike.
"""

from typing import NamedTuple


class Carrier(NamedTuple):
    """An IEEE 754 interchange format whose codes carry the values: binary32 or binary64."""

    bits: int
    trailing: int  # width of the trailing significand
    bias: int
    sign_shift: int  # bits - 1
    magnitude_mask: int
    infinity: int  # code of +infinity
    hidden: int  # 1 << trailing, the implicit leading bit
    reach: int  # largest useful shift: at trailing + 3 every significand is below a quarter of a quantum
    steps: tuple[int, ...]  # halving shifts that normalise any significand


def ieee_carrier(bits: int, trailing: int) -> Carrier:
    """Carrier of `bits` bits with `trailing` stored significand bits (IEEE 754-2019 §3.4)."""
    exponent_bits = bits - 1 - trailing
    return Carrier(
        bits=bits,
        trailing=trailing,
        bias=2 ** (exponent_bits - 1) - 1,
        sign_shift=bits - 1,
        magnitude_mask=2 ** (bits - 1) - 1,
        infinity=(2**exponent_bits - 1) << trailing,
        hidden=1 << trailing,
        reach=trailing + 3,
        steps=tuple(2**i for i in reversed(range(trailing.bit_length()))),
    )


BINARY32 = ieee_carrier(32, 23)
BINARY64 = ieee_carrier(64, 52)


class Round(NamedTuple):
    """A rounding mode as data; `increment` in rounding.py says what the four bits mean."""

    nearest: int  # 1: break ties; 0: directed or to odd
    lsb: int  # 1: the last kept bit takes part (even, odd)
    sign: int  # 1: the sign takes part (toward positive, toward negative)
    flip: int  # complements the choice
    random_bits: int  # N of StochasticA/B/C, 0 for the deterministic modes
    high_ones: int  # 2**(N-1) - 1, the mask of all random bits but the last


class Target(NamedTuple):
    """A format's grid relative to a carrier, and the codes (or carrier patterns) of its ends."""

    trailing: int  # t = precision - 1
    emin: int  # emin of the format, as an exponent field of the carrier
    smallest: int  # least positive value
    largest: int  # largest finite value
    sign: int  # the sign bit alone, as a signed integer of the carrier's width; 0 for unsigned formats
    # The rest is read in the general case only.
    offset: int = 0  # subtracted from a packed code: 1 << t where exponent field 0 is an ordinary binade
    zeroless: int = 0  # 1: what lies below the least value becomes the least value (E8M0)
    unsigned: int = 0  # 1: negative operands that do not round to zero become `negative`
    negative: int = 0
    absolute: int = 0  # 1: the sign of the operand is dropped first (a platform's rule)
    lowest_away: int = 0  # 1: the lowest binade rounds away from zero (a platform's rule)


class Gap(NamedTuple):
    """A hole in an otherwise regular grid, in magnitude codes of that grid."""

    low: int  # last code below the hole
    high: int  # first code above it
    skipped: int  # by how much the format's own codes above the hole are lower


class Source(NamedTuple):
    """How the codes of a format read: layout, and what its special codes become in the carrier."""

    mask: int  # all bits of a code
    sign_shift: int  # where the sign is; the format's width for unsigned formats
    magnitude_mask: int
    trailing: int
    rebias: int  # exponent field of the carrier minus that of the format
    largest: int  # magnitude code of the largest finite value
    infinity: int  # magnitude code of infinity, -1 where there is none
    negative_zero: int  # carrier pattern of the code with only the sign bit set: -0, or NaN
    nan: int  # carrier pattern
    subnormal: int  # 1: field 0 holds subnormals; 0: it is an ordinary binade
    unused: int  # 1: field 0 holds nothing but zero; its other codes are NaN
    zero: int  # carrier pattern of code 0
    shifted: int  # 1: subnormals lie one binade lower (CFloat)


class Results(NamedTuple):
    """What special operands become, for each sign: codes for encode, carrier patterns for quantize."""

    overflow: int
    negative_overflow: int
    infinity: int
    negative_infinity: int
    nan: int
    negative_nan: int
    zero: int
    negative_zero: int
