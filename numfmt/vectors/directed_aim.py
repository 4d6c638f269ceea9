"""What the constructions of operands share: numbers of given digits, and the results to aim at."""

from __future__ import annotations

from random import Random

from ..formats import FloatFormat
from .directed_codes import Dyadic, ends, exact_code


class Aim:
    """What the constructions of one function share: its format, how many rows to make, and numbers drawn."""

    def __init__(self, fmt: FloatFormat, level: int, random: Random) -> None:
        self.fmt, self.level, self.random = fmt, level, random
        self.p, self.t = fmt.precision, fmt.trailing_bits
        self.low, self.high = fmt.emin - self.t, fmt.emax - self.t  # exponents of units

    def number(self, digits: int | None = None) -> int:
        """A significand of so many digits, the first of them 1."""
        digits = self.p if digits is None else digits
        return 1 << (digits - 1) | (self.random.getrandbits(digits - 1) if digits > 1 else 0)

    def code(self, m: int, e: int) -> int | None:
        """The code of m × 2^e, where there is one."""
        return exact_code(self.fmt, (m, e))

    def unit(self) -> int:
        """Exponent of a unit somewhere in the middle of the range."""
        return self.random.randint(max(self.low, -self.t - 3), max(self.low, min(self.high, -self.t + 3)))

    def between(self, low: int, high: int) -> int:
        """An integer drawn from low to high; low where they cross."""
        return self.random.randint(low, max(low, high))

    def sign(self) -> int:
        """1 or -1."""
        return self.random.choice((1, -1)) if self.fmt.signed else 1


def tails(digits: int) -> list[int]:
    """Dropped digits that decide: half, next to half, next to zero and to one."""
    half = 1 << (digits - 1) if digits else 0
    found = {0, half, half + 1, half - 1, 1, (1 << digits) - 1, half + (half >> 3), half - (half >> 2)}
    return sorted(t for t in found if 0 <= t < 1 << digits)


def plain(aim: Aim, code: int) -> int:
    """The code, with its integer bit where the format has one."""
    return aim.fmt.join_integer_bit(code) if aim.fmt.integer_bit else code


def minus(aim: Aim, code: int | None) -> int | None:
    """The code with the other sign bit."""
    return None if code is None else code ^ (1 << (aim.fmt.bits - 1) if aim.fmt.signed else 0)


def targets(aim: Aim, beyond: bool = True) -> list[Dyadic]:
    """Results to aim at: the ends, and carries, ties and values in a few binades."""
    found = ends(aim.fmt) if beyond else []
    step = -aim.t - 3
    for m in (8 << aim.t, (16 << aim.t) - 8, 12 << aim.t, 8 * aim.number()):
        for eighths in range(8):
            for e in {0, 1, aim.fmt.emin - step - aim.t - 3, aim.fmt.emin + 1, aim.fmt.emax - 1}:
                found.append((m + eighths, step + e))
    for digits in range(1, aim.p):  # subnormal results of every length
        m = aim.number(digits)
        found += [(8 * m + j, aim.low - 3) for j in (0, 1, 3, 4, 5, 7)]
    return found
