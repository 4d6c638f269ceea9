"""The kinds of formats: what a code of each means, in exact fractions. No shifts, no masks, no floats."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import floor
from typing import ClassVar

Value = Fraction | str  # a string is one of "nan", "inf", "-inf", "-0"

ENUMERABLE_BITS = 16  # up to here values are listed, above they are computed


@dataclass(frozen=True)
class Format:
    """A set of values with codes. The fields of each kind are explained at the top of formats.toml."""

    kind: ClassVar[str]

    name: str
    bits: int
    signed: bool = True
    default_rounding: str = "ties_to_even"
    default_overflow: str = "saturate"
    aliases: tuple[str, ...] = ()
    source: str = ""
    unverified: bool = False

    def value(self, code: int) -> Value:
        raise NotImplementedError


@dataclass(frozen=True)
class FloatFormat(Format):
    """Sign, exponent and significand. The *rank* of a magnitude counts E and T as one number, E * 2^t + T."""

    kind = "float"

    exponent_bits: int = 0
    trailing_bits: int = 0
    bias: int = 0
    infinity: str = "none"
    nan: str = "none"
    lowest_binade: str = "subnormal"
    zero: bool = True
    negative_zero: bool = True
    explicit_integer_bit: bool = False

    def __post_init__(self) -> None:
        allowed = {"none": "none ieee all_ones negative_zero", "ieee": "ieee", "merged": "merged"}
        allowed["top"] = "none all_ones negative_zero"
        claims = {
            "one exponent bit at least, no negative number of trailing bits": self.exponent_bits >= 1
            and self.trailing_bits >= 0,
            "bits is the sum of the fields": self.bits
            == self.signed + self.exponent_bits + self.explicit_integer_bit + self.trailing_bits,
            f"nan is one of {allowed.get(self.infinity)}": self.nan in allowed.get(self.infinity, "").split(),
            "infinity and NaN of one binade need trailing bits": self.infinity != "ieee" or self.trailing_bits > 0,
            "NaN in place of -0 needs a sign and a zero": self.nan != "negative_zero" or (self.signed and self.zero),
            "only unsigned formats, without subnormals, go without zero": self.zero
            or (not self.signed
            and self.lowest_binade == "normal"),
            "lowest_binade is subnormal, shifted, normal or unused": self.lowest_binade
            in ("subnormal", "shifted", "normal", "unused"),
            "an explicit integer bit goes with IEEE specials": not self.explicit_integer_bit or self.nan == "ieee",
            "some code is finite": self.max_rank >= self.zero,
        }
        for claim, holds in claims.items():
            if not holds:
                raise ValueError(f"{self.name}: {claim}; given {self}")

    @cached_property
    def steps(self) -> int:
        """How many significands one binade has."""
        return 2**self.trailing_bits

    @cached_property
    def top_binade(self) -> int:
        """Rank of the first code whose exponent field is all ones."""
        return (2**self.exponent_bits - 1) * self.steps

    @cached_property
    def max_rank(self) -> int:
        """Rank of the largest finite value."""
        if self.nan == "ieee":
            return self.top_binade - 1
        specials = (self.nan in ("all_ones", "merged")) + (self.infinity == "top")
        return self.top_binade + self.steps - 1 - specials

    @cached_property
    def infinity_rank(self) -> int | None:
        if self.infinity == "ieee":
            return self.top_binade
        return self.max_rank + 1 if self.infinity in ("top", "merged") else None

    @cached_property
    def nan_code(self) -> int | None:
        """The canonical NaN: quiet, no payload, sign 0."""
        match self.nan:
            case "ieee":
                return self.code(self.top_binade + self.steps // 2, False)
            case "all_ones" | "merged":
                return self.code(self.top_binade + self.steps - 1, False)
            case "negative_zero":
                return 2 ** (self.bits - 1)
        return None

    @cached_property
    def has_negative_zero(self) -> bool:
        return self.signed and self.zero and self.negative_zero and self.nan != "negative_zero"

    @cached_property
    def max(self) -> Fraction:
        return self.magnitude(self.max_rank)

    @cached_property
    def min_normal(self) -> Fraction:
        if self.lowest_binade == "normal":
            return self.magnitude(1 if self.zero else 0)
        return self.magnitude(self.steps)

    def magnitude(self, rank: int) -> Fraction:
        """The value that a rank stands for; ranks above max_rank continue as if there were no specials."""
        field, trailing = divmod(rank, self.steps)
        part = Fraction(trailing, self.steps)
        if rank == 0 and self.zero:
            return Fraction(0)
        if field > 0 or self.lowest_binade == "normal":
            return (1 + part) * power_of_two(field - self.bias)
        return part * power_of_two(-self.bias if self.lowest_binade == "shifted" else 1 - self.bias)

    def code(self, rank: int, negative: bool) -> int:
        if self.explicit_integer_bit and rank >= self.steps:
            field, trailing = divmod(rank, self.steps)
            rank = field * 2 * self.steps + self.steps + trailing
        if negative and (rank > 0 or self.has_negative_zero):
            return 2 ** (self.bits - 1) + rank
        return rank

    def value(self, code: int) -> Value:
        if self.nan == "negative_zero" and code == 2 ** (self.bits - 1):
            return "nan"
        negative, rank = divmod(code, 2 ** (self.bits - self.signed))
        if self.explicit_integer_bit:
            field, significand = divmod(rank, 2 * self.steps)
            integer, trailing = divmod(significand, self.steps)
            if field > 0 and integer == 0:
                return "nan"  # an unnormal: no value
            rank = max(field, integer) * self.steps + trailing  # E = 0 with integer bit 1 lies in the binade of E = 1
        if rank > self.max_rank:
            if rank != self.infinity_rank or self.infinity == "merged":
                return "nan"
            return "-inf" if negative else "inf"
        if self.lowest_binade == "unused" and 0 < rank < self.steps:
            return "nan"
        if rank == 0 and negative and self.zero:
            return "-0" if self.has_negative_zero else Fraction(0)
        return -self.magnitude(rank) if negative else self.magnitude(rank)

    @cached_property
    def ladder(self) -> tuple[list[Fraction], list[int]]:
        """All magnitudes in ascending order, and their ranks: by trying every code."""
        positive = ((self.value(code), code) for code in range(2 ** (self.bits - self.signed)))
        found = sorted((value, code) for value, code in positive if isinstance(value, Fraction))
        return [value for value, _ in found], [code for _, code in found]


@dataclass(frozen=True)
class FixedFormat(Format):
    """An integer times 2^-fraction_bits."""

    kind = "fixed"

    fraction_bits: int = 0
    encoding: str = "twos_complement"

    def __post_init__(self) -> None:
        if self.bits < 1 or self.encoding not in ("twos_complement", "sign_magnitude"):
            raise ValueError(f"{self.name}: one bit at least, encoding twos_complement or sign_magnitude; given {self}")
        if self.encoding == "sign_magnitude" and (not self.signed or self.bits < 2):
            raise ValueError(f"{self.name}: sign_magnitude needs a sign and a digit")

    @cached_property
    def high(self) -> int:
        return 2 ** (self.bits - self.signed) - 1

    @cached_property
    def low(self) -> int:
        if not self.signed:
            return 0
        return -self.high - (self.encoding == "twos_complement")

    @cached_property
    def quantum(self) -> Fraction:
        return power_of_two(-self.fraction_bits)

    def code(self, integer: int, negative: bool) -> int:
        if self.encoding == "sign_magnitude":
            return abs(integer) + (2 ** (self.bits - 1) if negative else 0)
        return integer % 2**self.bits

    def value(self, code: int) -> Value:
        if self.encoding == "sign_magnitude":
            negative, integer = divmod(code, 2 ** (self.bits - 1))
            if negative and integer == 0:
                return "-0"
            return (-integer if negative else integer) * self.quantum
        return (code if code <= self.high else code - 2**self.bits) * self.quantum


@dataclass(frozen=True)
class CodebookFormat(Format):
    """A list of values in code order. Codes beyond the list mean nothing."""

    kind = "codebook"

    values: tuple[Fraction, ...] = ()

    def __post_init__(self) -> None:
        if not 2 <= len(self.values) <= 2**self.bits:
            raise ValueError(f"{self.name}: two values at least, and as many as codes at most")

    def value(self, code: int) -> Value:
        return self.values[code] if code < len(self.values) else "nan"

    @cached_property
    def ladder(self) -> tuple[list[Fraction], list[int]]:
        """The different values in ascending order, and the lowest code of each."""
        ascending = sorted(set(self.values))
        return ascending, [self.values.index(value) for value in ascending]


def power_of_two(exponent: int) -> Fraction:
    return Fraction(2**exponent) if exponent >= 0 else Fraction(1, 2**-exponent)


def floor_log2(x: Fraction) -> int:
    """The exponent e with 2^e <= x < 2^(e+1), for x > 0."""
    exponent = x.numerator.bit_length() - x.denominator.bit_length()
    return exponent if power_of_two(exponent) <= x else exponent - 1


def floor_rank(x: Fraction, fmt: FloatFormat) -> int:
    """The largest rank whose magnitude is at most x, for x > 0, by arithmetic; it may exceed max_rank."""
    exponent = floor_log2(x)
    field = exponent + fmt.bias
    if field >= 1 or (field == 0 and fmt.lowest_binade == "normal"):
        return field * fmt.steps + floor((x / power_of_two(exponent) - 1) * fmt.steps)
    match fmt.lowest_binade:
        case "subnormal":
            return floor(x / power_of_two(1 - fmt.bias) * fmt.steps)
        case "shifted":
            return min(floor(x / power_of_two(-fmt.bias) * fmt.steps), fmt.steps - 1)
    return 0


def nearest_binary32(x: Fraction) -> Fraction:
    """The nearest value with 24 digits, for codebooks stated as decimals (never a tie, never subnormal)."""
    if x == 0:
        return x
    quantum = power_of_two(floor_log2(abs(x)) - 23)
    return round(x / quantum) * quantum
