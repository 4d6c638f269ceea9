"""The finite values of a format in ascending order, each by an integer rank: plain exact arithmetic, no kernels."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache

from ..formats import CodebookFormat, Exact, FixedFormat, FloatFormat, Format, Subnormals


@dataclass(frozen=True)
class Ladder:
    """Ranks low … high of a format's distinct finite values.

    Floats count away from zero, which has rank 0; fixed point counts quanta; codebooks count from
    their least value. Floats and fixed point also have a value one rank beyond either end: what
    rounding without a largest exponent would give.
    """

    format: Format

    @cached_property
    def sorted(self) -> list[Fraction]:
        """Distinct values of a codebook in ascending order."""
        assert isinstance(self.format, CodebookFormat)
        return sorted(set(self.format.values))

    @cached_property
    def skipped(self) -> int:
        """Codes between zero and the least positive value that name nothing."""
        fmt = self.format
        return 2**fmt.trailing_bits - 1 if isinstance(fmt, FloatFormat) and fmt.subnormals is Subnormals.NONE else 0

    @property
    def high(self) -> int:
        """Rank of the largest value."""
        match self.format:
            case FloatFormat():
                return self.format.max_code - self.skipped
            case FixedFormat():
                return self.format.max_integer
        return len(self.sorted) - 1

    @property
    def low(self) -> int:
        """Rank of the least value."""
        match self.format:
            case FloatFormat():
                return -self.high if self.format.signed else 0
            case FixedFormat():
                return self.format.min_integer
        return 0

    def value(self, rank: int) -> Fraction:
        """The value of a rank."""
        match self.format:
            case FloatFormat():
                magnitude = self.format._magnitude(abs(rank) + (self.skipped if rank else 0))
                return -magnitude if rank < 0 else magnitude
            case FixedFormat():
                return rank * self.format.quantum
        return self.sorted[rank]

    def code(self, rank: int) -> int:
        """The code of a rank."""
        match self.format:
            case FloatFormat():
                fmt = self.format
                magnitude = abs(rank) + (self.skipped if rank else 0)
                code = fmt.join_integer_bit(magnitude) if fmt.integer_bit else magnitude
                return code | (2 ** (fmt.bits - 1) if rank < 0 else 0)
            case FixedFormat():
                if self.format.sign_magnitude and rank < 0:
                    return int(2 ** (self.format.bits - 1)) - rank
                return int(rank % 2**self.format.bits)
        return self.format.values.index(self.sorted[rank])

    def is_odd(self, rank: int) -> bool:
        """Whether ties to even avoid a rank: the last bit of its code, of the rank itself in codebooks."""
        if isinstance(self.format, FloatFormat):
            return (abs(rank) + (self.skipped if rank else 0)) % 2 == 1
        return rank % 2 == 1

    def floor(self, value: Fraction) -> int:
        """Rank of the largest value that is at most `value`; low - 1 where there is none."""
        below, above = self.low - 1, self.high + 1
        while above - below > 1:
            middle = (below + above) // 2
            if self.value(middle) <= value:
                below = middle
            else:
                above = middle
        return below

    def find(self, value: Exact) -> int | None:
        """Rank of a value that the format holds, -0 as 0, or None."""
        number = Fraction(0) if value == "-0" else value
        if isinstance(number, str):
            return None
        rank = self.floor(number)
        return rank if rank >= self.low and self.value(rank) == number else None

    def steps_evenly(self, rank: int) -> bool:
        """Whether the step from a rank's magnitude to the next is a power of two that divides the magnitude."""
        if isinstance(self.format, CodebookFormat):
            return False
        near, far = abs(self.value(rank)), abs(self.value(rank + 1 if rank >= 0 else rank - 1))
        step = far - near
        power = step.numerator & (step.numerator - 1) == 0 and step.denominator & (step.denominator - 1) == 0
        return power and near % step == 0


@lru_cache(maxsize=64)
def ladder(fmt: Format) -> Ladder:
    """The ladder of a format."""
    return Ladder(fmt)
