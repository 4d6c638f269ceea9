"""Number formats as data: frozen, hashable, every other number derived exactly from their fields.

A format is a set of values with names (codes). `FloatFormat` and `FixedFormat` derive the values from
a few fields, `CodebookFormat` lists them. Codes are unsigned integers of `bits` bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from functools import cached_property
from typing import Literal

from .rounding import Overflow, Rounding

# What the widest carrier of operands, binary256 in Python integers, can round to.
MAX_PRECISION = 237
MAX_FIXED_BITS = 254

Exact = Fraction | Literal["nan", "inf", "-inf", "-0"]


class Specials(StrEnum):
    """Which codes of a float are not finite numbers; the names are the suffixes of ml_dtypes' names."""

    IEEE = "ieee"  # exponent field all ones: infinity, and NaNs
    FN = "fn"  # finite, NaN where exponent and significand are all ones
    FNUZ = "fnuz"  # finite, NaN in the place of -0
    UZ = "uz"  # infinity at the end of the range, NaN in the place of -0 (P3109 extended)
    FINITE = "f"  # every code is a finite number
    MERGED = "merged"  # all ones is one symbol for NaN and infinity (DLFloat)


class Subnormals(StrEnum):
    """What exponent field 0 means."""

    GRADUAL = "gradual"  # 0.f × 2**emin, as IEEE 754
    NONE = "none"  # zero; the other codes are unused
    NORMAL = "normal"  # one more normal binade; code 0 is zero only if the format has a zero
    SHIFTED = "shifted"  # 0.f × 2**(emin - 1) (Tesla CFloat)


@dataclass(frozen=True)
class FloatFormat:
    """A binary floating-point format of sign, exponent and trailing significand fields.

    Args:
        bits: width of a code.
        precision: p, significand digits with the implicit one (IEEE 754-2019 §3.3).
        bias: exponent bias; field E ≥ 1 means 1.f × 2**(E - bias).
        signed: whether there is a sign bit.
        specials: `Specials`, which codes are infinities and NaNs.
        subnormals: `Subnormals`; True is GRADUAL, False is NONE: the value set {0} ∪ normals.
        zero: whether code 0 is zero; False only with Subnormals.NORMAL (E8M0).
        integer_bit: whether the leading significand bit is stored too (x87).
        default_rounding: mode used where none is given.
        default_overflow: likewise; `infinity` for formats with infinities, else `saturate`.

    Raises:
        ValueError: fields that describe no format.

    >>> f = FloatFormat(8, precision=4, bias=7, specials="fn")
    >>> str(f), f.max, f.min_subnormal
    ('float8_e4m3fn', Fraction(448, 1), Fraction(1, 512))
    """

    bits: int
    precision: int
    bias: int
    signed: bool = True
    specials: Specials = Specials.IEEE
    subnormals: Subnormals | bool = Subnormals.GRADUAL
    zero: bool = True
    integer_bit: bool = False
    default_rounding: Rounding = Rounding.TIES_TO_EVEN
    default_overflow: Overflow | None = None

    def __post_init__(self) -> None:
        def set_field(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        if self.precision == 1 and self.zero:  # field 0 holds nothing but zero, whatever is said of it
            set_field("subnormals", Subnormals.GRADUAL)
        elif isinstance(self.subnormals, bool):
            set_field("subnormals", Subnormals.GRADUAL if self.subnormals else Subnormals.NONE)
        else:
            set_field("subnormals", Subnormals(self.subnormals))
        set_field("specials", Specials(self.specials))
        set_field("default_rounding", Rounding.parse(self.default_rounding))
        self._check()
        default = Overflow.INFINITY if self.takes_infinity else Overflow.SATURATE
        set_field("default_overflow", Overflow.parse(self.default_overflow or default))

    def _check(self) -> None:
        if not 1 <= self.precision <= MAX_PRECISION:
            raise ValueError(f"precision {self.precision} is given; it must be 1 to {MAX_PRECISION}, that of binary256")
        if self.exponent_bits < 1:
            raise ValueError(
                f"{self.bits} bits with precision {self.precision} leave {self.exponent_bits} exponent bits; 1 is least"
            )
        if self.specials is Specials.IEEE and self.trailing_bits == 0:
            raise ValueError(
                "a format without trailing significand bits cannot have IEEE specials; use fn, fnuz, uz or f"
            )
        if not self.signed and self.specials is Specials.FNUZ:
            raise ValueError("an unsigned format has no -0 to hold a NaN; use fn or uz")
        if not self.zero and (self.subnormals is not Subnormals.NORMAL or self.signed):
            raise ValueError("a format without zero must be unsigned and have subnormals='normal' (E8M0)")
        if self.max_code < 1:
            raise ValueError(
                f"{self.bits} bits with specials {self.specials.value!r} leave no finite value beside zero"
            )

    @classmethod
    def from_fields(
        cls, exponent_bits: int, trailing_bits: int, bias: int | None = None, *, signed: bool = True, **fields: object
    ) -> FloatFormat:
        """Format of the given field widths; the bias defaults to IEEE 754's, one more for fnuz and uz."""
        specials = Specials(str(fields.get("specials", Specials.IEEE)))
        if bias is None:
            bias = 2 ** (exponent_bits - 1) - 1 + (specials in (Specials.FNUZ, Specials.UZ))
        return cls(int(signed) + exponent_bits + trailing_bits, trailing_bits + 1, bias, signed, **fields)  # type: ignore[arg-type]

    # Layout

    @property
    def trailing_bits(self) -> int:
        """t = p - 1, width of the stored fraction field."""
        return self.precision - 1

    @property
    def exponent_bits(self) -> int:
        """Width of the exponent field."""
        return self.bits - self.signed - self.trailing_bits - self.integer_bit

    @property
    def magnitude_mask(self) -> int:
        """All bits of a code but the sign (and, in x87, with the integer bit left out)."""
        return 2 ** (self.exponent_bits + self.trailing_bits) - 1

    @property
    def sign_mask(self) -> int:
        """The sign bit alone (in x87, of a code without its integer bit); 0 in unsigned formats."""
        return self.magnitude_mask + 1 if self.signed else 0

    # Codes of magnitudes (without sign)

    @property
    def max_code(self) -> int:
        """Code of the largest finite value."""
        top = self.magnitude_mask
        match self.specials:
            case Specials.IEEE:
                return top - 2**self.trailing_bits
            case Specials.FN | Specials.MERGED:
                return top - 1
            case Specials.UZ:
                return top - 1 if self.signed else top - 2
            case _:
                return top

    @property
    def infinity_code(self) -> int | None:
        """Code of +infinity, or None."""
        return self.max_code + 1 if self.has_infinity else None

    @property
    def nan_code(self) -> int | None:
        """Canonical NaN: quiet, without payload, sign 0; None where there is none."""
        match self.specials:
            case Specials.IEEE:
                return self.max_code + 1 + 2 ** (self.trailing_bits - 1)
            case Specials.FN | Specials.MERGED:
                return self.magnitude_mask
            case Specials.FNUZ:
                return self.magnitude_mask + 1
            case Specials.UZ:
                return self.magnitude_mask + self.signed
            case _:
                return None

    @property
    def quiet_bit(self) -> int:
        """The bit that tells quiet NaNs from signalling ones (IEEE 754-2019 §6.2.1); 0 where there is none."""
        return 2 ** (self.trailing_bits - 1) if self.specials is Specials.IEEE else 0

    @property
    def min_code(self) -> int:
        """Code of the least positive value."""
        if self.subnormals is Subnormals.NONE:
            return 2**self.trailing_bits
        return int(self.zero)

    # Claims

    @property
    def has_infinity(self) -> bool:
        """Whether some code is an infinity."""
        return self.specials in (Specials.IEEE, Specials.UZ)

    @property
    def takes_infinity(self) -> bool:
        """Whether some code stands for infinity, be it alone or for NaN too."""
        return self.has_infinity or self.specials is Specials.MERGED

    @property
    def has_nan(self) -> bool:
        """Whether some code is a NaN."""
        return self.nan_code is not None

    @property
    def has_negative_zero(self) -> bool:
        """Whether -0 is a value of its own."""
        return self.signed and self.specials in (Specials.IEEE, Specials.FN, Specials.FINITE)

    @property
    def has_subnormals(self) -> bool:
        """Whether some values lie below the smallest normal, other than zero."""
        return self.trailing_bits > 0 and self.subnormals in (Subnormals.GRADUAL, Subnormals.SHIFTED)

    # Values

    @property
    def emin(self) -> int:
        """Exponent of the smallest normal binade."""
        return -self.bias if self.subnormals is Subnormals.NORMAL else 1 - self.bias

    @property
    def emax(self) -> int:
        """Exponent of the largest finite value."""
        return (self.max_code >> self.trailing_bits) - self.bias

    @property
    def max(self) -> Fraction:
        """Largest finite value."""
        return self._magnitude(self.max_code)

    @property
    def min(self) -> Fraction:
        """Least finite value: -max, or 0 (the least positive value without zero) in unsigned formats."""
        return -self.max if self.signed else self._magnitude(0)

    @property
    def min_normal(self) -> Fraction:
        """Smallest positive normal value."""
        if self.subnormals is Subnormals.NORMAL:
            return self._magnitude(int(self.zero))
        return self._magnitude(2**self.trailing_bits)

    @property
    def min_subnormal(self) -> Fraction | None:
        """Smallest positive subnormal value, or None."""
        return self._magnitude(1) if self.has_subnormals else None

    @property
    def min_positive(self) -> Fraction:
        """Least positive value."""
        return self._magnitude(self.min_code)

    @property
    def epsilon(self) -> Fraction:
        """Distance from 1 to the next value, 2**(1 - p)."""
        return Fraction(1, 2**self.trailing_bits)

    def _magnitude(self, code: int) -> Fraction:
        """Value of a magnitude code, specials read as ordinary numbers."""
        field, fraction = divmod(code, 2**self.trailing_bits)
        if field == 0 and self.subnormals is not Subnormals.NORMAL:
            lowest = self.emin - (self.subnormals is Subnormals.SHIFTED)
            return fraction * Fraction(2) ** (lowest - self.trailing_bits)
        if code == 0 and self.zero:
            return Fraction(0)
        return (2**self.trailing_bits + fraction) * Fraction(2) ** (field - self.bias - self.trailing_bits)

    def exact(self, code: int) -> Exact:
        """Value of a code; bits above `bits` are ignored, unused codes are "nan"."""
        code &= 2**self.bits - 1
        negative = bool(self.signed and code >> (self.bits - 1))
        if self.integer_bit:
            pseudo, code = self.split_integer_bit(code)
            if pseudo is not None:
                return pseudo
        magnitude = code & self.magnitude_mask
        if magnitude > self.max_code:
            if magnitude == self.infinity_code:
                return "-inf" if negative else "inf"
            return "nan"
        if magnitude == 0 and negative:
            if self.has_negative_zero:
                return "-0"
            return Fraction(0) if self.specials is Specials.MERGED else "nan"
        unused = self.subnormals is Subnormals.NONE and 0 < magnitude < 2**self.trailing_bits
        value = self._magnitude(magnitude)
        return "nan" if unused else -value if negative else value

    def split_integer_bit(self, code: int) -> tuple[Exact | None, int]:
        """An x87 code without its integer bit; or the value of an encoding that is not canonical."""
        t = self.trailing_bits
        sign_and_field, significand = divmod(code, 2 ** (t + 1))
        integer, fraction = divmod(significand, 2**t)
        field = sign_and_field & (2**self.exponent_bits - 1)
        if field > 0 and integer == 0:
            return "nan", 0
        if field == 0 and integer == 1:  # pseudo-denormal: it counts as the lowest normal binade
            sign = -1 if sign_and_field >> self.exponent_bits else 1
            return sign * self._magnitude(2**t + fraction), 0
        return None, sign_and_field * 2**t + fraction

    def join_integer_bit(self, code: int) -> int:
        """The x87 code of a code without integer bit."""
        sign_and_field, fraction = divmod(code, 2**self.trailing_bits)
        integer = int(sign_and_field & (2**self.exponent_bits - 1) > 0)
        return (2 * sign_and_field + integer) * 2**self.trailing_bits + fraction

    def __str__(self) -> str:
        from .named import name_of

        return name_of(self)


@dataclass(frozen=True)
class FixedFormat:
    """Fixed point: integers of `bits` bits in units of 2**-fraction_bits.

    Args:
        bits: width of a code.
        fraction_bits: binary digits after the point; may be negative or exceed `bits`.
        signed: two's complement, or unsigned.
        sign_magnitude: signed formats only: a sign bit and a magnitude, with a -0.
        default_rounding, default_overflow: modes used where none is given.

    >>> f = FixedFormat(8, fraction_bits=4)
    >>> str(f), float(f.min), float(f.max)
    ('q3.4', -8.0, 7.9375)
    """

    bits: int
    fraction_bits: int = 0
    signed: bool = True
    sign_magnitude: bool = False
    default_rounding: Rounding = Rounding.TIES_TO_EVEN
    default_overflow: Overflow = Overflow.SATURATE

    def __post_init__(self) -> None:
        object.__setattr__(self, "default_rounding", Rounding.parse(self.default_rounding))
        object.__setattr__(self, "default_overflow", Overflow.parse(self.default_overflow))
        least = 2 if self.sign_magnitude else 1
        if not least <= self.bits <= MAX_FIXED_BITS:
            raise ValueError(f"{self.bits} bits are given; this fixed-point format needs {least} to {MAX_FIXED_BITS}")
        if self.sign_magnitude and not self.signed:
            raise ValueError("a sign-magnitude format is signed; use signed=True")

    @property
    def quantum(self) -> Fraction:
        """Distance of neighbouring values."""
        return Fraction(2) ** -self.fraction_bits

    @property
    def max_integer(self) -> int:
        """Largest value in quanta."""
        return int(2 ** (self.bits - self.signed) - 1)

    @property
    def min_integer(self) -> int:
        """Least value in quanta."""
        return (-self.max_integer - (not self.sign_magnitude)) if self.signed else 0

    @property
    def max(self) -> Fraction:
        """Largest value."""
        return self.max_integer * self.quantum

    @property
    def min(self) -> Fraction:
        """Least value."""
        return self.min_integer * self.quantum

    @property
    def min_positive(self) -> Fraction:
        """Least positive value."""
        return self.quantum

    @property
    def has_infinity(self) -> bool:
        """False: fixed point has no infinity."""
        return False

    @property
    def has_nan(self) -> bool:
        """False: fixed point has no NaN."""
        return False

    @property
    def has_negative_zero(self) -> bool:
        """Whether -0 is a code of its own."""
        return self.sign_magnitude

    def exact(self, code: int) -> Exact:
        """Value of a code; bits above `bits` are ignored."""
        code &= 2**self.bits - 1
        negative = self.signed and code >> (self.bits - 1)
        if self.sign_magnitude:
            magnitude = code & self.max_integer
            if negative:
                return -magnitude * self.quantum if magnitude else "-0"
            return magnitude * self.quantum
        return (code - 2**self.bits if negative else code) * self.quantum

    def __str__(self) -> str:
        from .named import name_of

        return name_of(self)


@dataclass(frozen=True)
class CodebookFormat:
    """A list of values in code order; codes beyond the list are unused.

    Args:
        values: real numbers, at least two distinct ones, each exact in binary64. Nearest is the
            arithmetic midpoint; a tie goes to the value of even rank in ascending order.
        default_rounding: mode used where none is given.

    >>> f = CodebookFormat((-1, 0, 1))
    >>> str(f), f.bits
    ('ternary', 2)
    """

    values: tuple[Fraction, ...]
    default_rounding: Rounding = Rounding.TIES_TO_EVEN

    def __init__(self, values: Iterable[object], default_rounding: Rounding | str = Rounding.TIES_TO_EVEN) -> None:
        exact = tuple(_dyadic(v) for v in values)
        if len(set(exact)) < 2:
            raise ValueError(f"{len(set(exact))} distinct values are given; a codebook needs at least 2")
        object.__setattr__(self, "values", exact)
        object.__setattr__(self, "default_rounding", Rounding.parse(default_rounding))

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.values, self.default_rounding))

    @property
    def default_overflow(self) -> Overflow:
        """`saturate`: values beyond the ends of the list become its ends."""
        return Overflow.SATURATE

    @property
    def bits(self) -> int:
        """Width of a code."""
        return (len(self.values) - 1).bit_length()

    @property
    def max(self) -> Fraction:
        """Largest value."""
        return max(self.values)

    @property
    def min(self) -> Fraction:
        """Least value."""
        return min(self.values)

    @property
    def min_positive(self) -> Fraction:
        """Least positive value; 0 where there is none."""
        return min((v for v in self.values if v > 0), default=Fraction(0))

    @property
    def has_infinity(self) -> bool:
        """False: codebooks hold real numbers."""
        return False

    @property
    def has_nan(self) -> bool:
        """False: codebooks hold real numbers."""
        return False

    @property
    def has_negative_zero(self) -> bool:
        """False: codebooks hold real numbers."""
        return False

    def exact(self, code: int) -> Exact:
        """Value of a code; bits above `bits` are ignored, unused codes are "nan"."""
        code &= 2**self.bits - 1
        return self.values[code] if code < len(self.values) else "nan"

    def __str__(self) -> str:
        from .named import name_of

        return name_of(self)


def _dyadic(value: object) -> Fraction:
    """The exact value of a real number that binary64 holds."""
    try:
        exact = Fraction(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        exact = None
    if exact is None or Fraction(float(exact)) != exact:
        raise ValueError(f"codebook value {value!r} is given; each must be a real number that binary64 holds exactly")
    return exact


Format = FloatFormat | FixedFormat | CodebookFormat
