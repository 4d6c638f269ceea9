"""Counter-based random words: Threefry-2x32 with 20 rounds, as jax.random uses it."""

WORD = 0xFFFFFFFF
PARITY = 0x1BD11BDA


def _rotate(x, r, mask):
    return ((x << r) | (x >> (32 - r))) & mask


def threefry(k0, k1, x0, x1, mask=WORD):
    """Both words of the Threefry-2x32-20 block of counter (x0, x1) under key (k0, k1).

    All are unsigned 32-bit values in any unsigned type or in a wider signed one; `mask` is WORD in
    that type, for engines that do not take it as a plain integer.

    References: Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011.
    """
    k2 = k0 ^ k1 ^ PARITY
    x0, x1 = (x0 + k0) & mask, (x1 + k1) & mask
    x0, x1 = _four_rounds(x0, x1, 13, 15, 26, 6, k1, k2 + 1, mask)
    x0, x1 = _four_rounds(x0, x1, 17, 29, 16, 24, k2, k0 + 2, mask)
    x0, x1 = _four_rounds(x0, x1, 13, 15, 26, 6, k0, k1 + 3, mask)
    x0, x1 = _four_rounds(x0, x1, 17, 29, 16, 24, k1, k2 + 4, mask)
    return _four_rounds(x0, x1, 13, 15, 26, 6, k2, k0 + 5, mask)


def _four_rounds(x0, x1, r0, r1, r2, r3, key0, key1, mask):
    """Four mixing rounds and the key injection after them."""
    x0 = (x0 + x1) & mask
    x1 = _rotate(x1, r0, mask) ^ x0
    x0 = (x0 + x1) & mask
    x1 = _rotate(x1, r1, mask) ^ x0
    x0 = (x0 + x1) & mask
    x1 = _rotate(x1, r2, mask) ^ x0
    x0 = (x0 + x1) & mask
    x1 = _rotate(x1, r3, mask) ^ x0
    return (x0 + key0) & mask, (x1 + key1) & mask


def word(k0, k1, high, low, mask=WORD):
    """Random word of the element whose 64-bit index is (high, low): jax.random.bits(key, S).ravel()[index]."""
    y0, y1 = threefry(k0, k1, high, low, mask)
    return y0 ^ y1
