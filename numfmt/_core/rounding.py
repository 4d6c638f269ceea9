"""The one place where anything is rounded: how much to add before low bits are dropped."""

# Bits of a dropped fraction that stochastic rounding is given where the fraction is a quotient: 32
# that are compared, one to round them by, and one that is set where anything lies below.
FRACTION_BITS = 34


def increment(mask, lsb, negative, mode, *, xp):
    """Integer added to a significand before its low bits are dropped, so that truncation rounds.

        m = …LLLL L RTTT…T      lsb = L, the last kept bit;  mask = 0…01111…1, one per dropped bit
                    └ mask ┘

    A mode is four bits. `up` says where a tie goes (nearest modes) or whether anything that is
    dropped rounds up (the others); it is the last kept bit, the sign, or a constant:

        mode                 nearest  lsb  sign  flip     up
        ties to even            1      1    0     0       lsb
        ties to odd             1      1    0     1       not lsb
        ties to away            1      0    0     1       1
        ties to zero            1      0    0     0       0
        ties to positive        1      0    1     1       not negative
        ties to negative        1      0    1     0       negative
        toward zero             0      0    0     0       0
        away from zero          0      0    0     1       1
        toward positive         0      0    1     1       not negative
        toward negative         0      0    1     0       negative
        to odd                  0      1    0     1       not lsb

    Args:
        mask: integer array, 2**d - 1 where d bits are dropped (0 where none are).
        lsb: integer array whose last bit is the last kept one.
        negative: integer array of 0 or 1, sign of the operand.
        mode: `Round`.

    Returns:
        Integer array in [0, mask].

    References:
        IEEE 754-2019 §4.3; P3109 Interim Report v4.0 §4.7.4; the identity half - 1 = mask >> 1.
    """
    up = (lsb & mode.lsb) ^ (negative & mode.sign) ^ mode.flip
    return xp.where(mode.nearest != 0, (mask >> 1) + up, -up) & mask


def round_away(m, drop, lsb, negative, mode, reach, *, xp):
    """1 where dropping the `drop` low bits of `m` rounds the magnitude up, else 0.

    Args:
        m: integer array, significands below 2**(reach - 2).
        drop: integer array ≥ 0, bits to drop; more than `reach` counts as `reach`, where every
            significand is below a quarter of a quantum.
        lsb, negative, mode: as for `increment`.
    """
    drop = xp.minimum(drop, reach)
    mask = (1 << drop) - 1
    return ((m & mask) + increment(mask, lsb, negative, mode, xp=xp)) >> drop


def round_away_random(m, drop, random, mode, reach, *, xp):
    """1 where StochasticA, B or C rounds the magnitude up, else 0.

    The dropped fraction ν is rounded to N bits — down in A, half up in B, half to even in C — and
    carries out of 2**N together with the random number R of N bits. Both are compared without their
    last bit first, so that 32 random bits fit a signed 32-bit carrier:

        ν = .fff…f f      R = rrr…r r      away ⇔ high(ν) + high(R) + (last(ν) & last(R)) ≥ 2**(N-1)
             high  └ last      high └ last

    Args:
        m: integer array, significands below 2**(reach - 2).
        drop: integer array ≥ 0, bits to drop, not clamped.
        random: integer array; its low N bits are R.
        mode: `Round` of the rounding of ν to N bits, with N = mode.random_bits in [1, 32].

    References:
        P3109 Interim Report v4.0 §4.7.4, StochasticA, StochasticB, StochasticC.
    """
    n = mode.random_bits
    fraction = m & ((1 << xp.minimum(drop, reach)) - 1)
    excess = xp.minimum(xp.maximum(drop - n, 0), reach)  # bits of ν below the N that are compared
    lsb = fraction >> excess
    kept = (fraction + increment((1 << excess) - 1, lsb, lsb * 0, mode, xp=xp)) >> excess
    short = n - drop > 0
    high = xp.where(short, fraction << xp.maximum(n - 1 - drop, 0), kept >> 1)
    last = xp.where(short, kept * 0, kept & random & 1)
    bound = (mode.high_ones - ((random >> 1) & mode.high_ones)) - last
    return xp.where(high > bound, kept * 0 + 1, kept * 0)
