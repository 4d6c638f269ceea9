"""Stochastic rounding where the dropped fraction is a ratio of integers: exact, in 32-bit integers."""


def _eleven(r, at):
    """Eleven bits of r from bit `at` on, which may lie below r's first."""
    return ((r >> max(at, 0)) << min(max(-at, 0), 11)) & 0x7FF


def _limb(d, left, *, xp):
    """22 bits of d * 2**left from the units on, rounded down; `left` is an integer array."""
    up, down = xp.minimum(xp.maximum(left, 0), 22), xp.minimum(xp.maximum(-left, 0), 31)
    return ((d << up) >> down) & 0x3FFFFF


def away_at_random(d, w, below, random, mode, *, xp):
    """1 where StochasticA, B or C rounds away from zero whose dropped fraction is ν = d / (w · 2**below), else 0.

    With N random bits R, and c = 0 in A and 1 in B and C, rounding ν to N bits and carrying with R is

        ν · 2**33 ≥ U,  U = 2**33 - (2 R + c) · 2**(32 - N)        (C: > where R is odd and the tie would go up)

    that is d · 2**(33 - below) ≥ U · w. U is cut into limbs of 11 bits and w into halves of 15, so that no
    product passes 2**26; sums are in limbs of 22 bits.

    Args:
        d: integer array in [0, 2**30).
        w: integer array in (0, 2**30).
        below: integer array ≥ 0.
        random: integer array; its low N bits are R.
        mode: `Round` of a stochastic mode.

    References: P3109 Interim Report v4.0 §4.7.4, StochasticA, StochasticB, StochasticC.
    """
    n, tie = mode.random_bits, mode.nearest
    spare = 32 - n
    r = random & (mode.high_ones * 2 + 1) if n < 32 else random
    v = [_eleven(r, 11 * i - 1 - spare) | _eleven(tie << spare, 11 * i) for i in range(3)]
    one = d * 0 + 1
    u0 = -v[0] & 0x7FF
    borrow = xp.where(v[0] != 0, one, d * 0)
    u1 = (-v[1] - borrow) & 0x7FF
    borrow = xp.where(v[1] + borrow != 0, one, d * 0)
    u2 = 0x800 - v[2] - borrow
    low, high = w & 0x7FFF, w >> 15
    a0, a1, a2, b0, b1, b2 = u0 * low, u1 * low, u2 * low, u0 * high, u1 * high, u2 * high
    # Σ a[i] 2**(11 i) + b[i] 2**(11 i + 15)
    p0 = a0 + ((a1 & 0x7FF) << 11) + ((b0 & 0x7F) << 15)
    p1 = (p0 >> 22) + a2 + (a1 >> 11) + (b0 >> 7) + ((b1 & 0x3FFFF) << 4) + ((b2 & 0x7F) << 15)
    p2 = (p1 >> 22) + (b1 >> 18) + (b2 >> 7)
    p0, p1 = p0 & 0x3FFFFF, p1 & 0x3FFFFF
    d0, d1, d2 = (_limb(d, 33 - 22 * i - below, xp=xp) for i in range(3))
    lost = d & ((1 << xp.minimum(xp.maximum(below - 33, 0), 30)) - 1)
    strict = (r & 1) * mode.lsb
    equal = (d2 == p2) & (d1 == p1) & (d0 == p0)
    more = (d2 > p2) | ((d2 == p2) & ((d1 > p1) | ((d1 == p1) & (d0 > p0))))
    return xp.where(more | (equal & ((strict == 0) | (lost != 0))), one, d * 0)
