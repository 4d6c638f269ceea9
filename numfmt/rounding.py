"""Rounding modes, overflow modes, and platforms: what one vendor's conversion does with both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from types import MappingProxyType
from typing import Self


class _Named(StrEnum):
    """An enum whose members the public functions also accept by name, in any case."""

    @classmethod
    def _aliases(cls) -> Mapping[str, str]:
        return {}

    @classmethod
    def parse(cls, name: str | Self) -> Self:
        """The member called `name`; raises ValueError with the nearest names."""
        text = cls._aliases().get(str(name).upper(), str(name).lower())
        try:
            return cls(text)
        except ValueError:
            raise ValueError(unknown(f"{cls.__name__.lower()} mode", str(name), [m.value for m in cls])) from None


def unknown(kind: str, name: str, known: list[str]) -> str:
    """One sentence for an unknown name, with the nearest known ones."""
    near = get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    hint = (
        f"nearest: {', '.join(near)}" if near else f"known: {', '.join(known[:20])}{', …' if len(known) > 20 else ''}"
    )
    return f"unknown {kind} {name!r}; {hint}"


class Rounding(_Named):
    """Rounding-direction attributes (IEEE 754-2019 §4.3; P3109 v4.0 §4.7.4; AMD UG1399 for fixed point).

    >>> Rounding.parse("RNE")
    <Rounding.TIES_TO_EVEN: 'ties_to_even'>
    """

    TIES_TO_EVEN = "ties_to_even"
    TIES_TO_AWAY = "ties_to_away"
    TIES_TO_ZERO = "ties_to_zero"
    TIES_TO_ODD = "ties_to_odd"
    TIES_TO_POSITIVE = "ties_to_positive"
    TIES_TO_NEGATIVE = "ties_to_negative"
    TOWARD_ZERO = "toward_zero"
    TOWARD_POSITIVE = "toward_positive"
    TOWARD_NEGATIVE = "toward_negative"
    AWAY_FROM_ZERO = "away_from_zero"
    TO_ODD = "to_odd"
    STOCHASTIC = "stochastic"  # StochasticA with 32 random bits
    STOCHASTIC_A = "stochastic_a"
    STOCHASTIC_B = "stochastic_b"
    STOCHASTIC_C = "stochastic_c"

    @classmethod
    def _aliases(cls) -> Mapping[str, str]:
        return {
            "RNE": "ties_to_even",
            "RNA": "ties_to_away",
            "RTZ": "toward_zero",
            "RUP": "toward_positive",
            "RDN": "toward_negative",
            "RTO": "to_odd",
        }

    @property
    def is_stochastic(self) -> bool:
        """True for the modes that consume random bits."""
        return self.value.startswith("stochastic")

    def stays_inside(self, negative: bool) -> bool:
        """True where a finite value beyond the range rounds to the largest finite value, as IEEE 754 §7.4 says."""
        toward_finite = Rounding.TOWARD_POSITIVE if negative else Rounding.TOWARD_NEGATIVE
        return self in (Rounding.TOWARD_ZERO, Rounding.TO_ODD, toward_finite)


class Overflow(_Named):
    """What becomes of values beyond the range (P3109 v4.0 §4.7.5; AMD UG1399 for fixed point).

    `saturate` is SatFinite, `propagate` SatPropagate, `infinity` SatNone; `nan` is OCP's
    non-saturating mode of formats without infinity.
    """

    SATURATE = "saturate"
    PROPAGATE = "propagate"
    INFINITY = "infinity"
    NAN = "nan"
    WRAP = "wrap"
    SATURATE_ZERO = "saturate_zero"
    SYMMETRIC = "symmetric"
    WRAP_SIGN_MAGNITUDE = "wrap_sign_magnitude"


@dataclass(frozen=True)
class Rule:
    """How a platform converts to one format, where that differs from the defaults.

    Codes are given for both signs of the operand; None leaves the default. A NaN that stands for
    overflow has the code of a NaN operand of that sign.
    """

    rounding: Rounding | None = None
    overflow: Overflow | None = None
    nan: tuple[int, int] | None = None
    infinity: tuple[int, int] | None = None
    zero: tuple[int, int] | None = None
    negative: int | None = None  # code of every negative operand (unsigned formats)
    absolute: bool = False  # the operand's sign is dropped first
    lowest_away: bool = False  # inexact values of the lowest binade round away from zero
    odd_overflows: bool = False  # to-odd reaches infinity where the format is signed and has one
    # Codebooks, nearest modes: between neighbouring values, ascending, what replaces their midpoint, and
    # whether an operand that equals it gets the upper value.
    thresholds: tuple[tuple[float, bool], ...] | None = None


@dataclass(frozen=True)
class ArithmeticRule:
    """What a platform's arithmetic does with NaNs, subnormals and integers out of range.

    Attributes:
        nan: of NaN operands, which one the result is, quieted: "canonical": none, the result is the canonical NaN;
            "first": the first one; "signaling_first": the first signalling one, else the first.
        negative_nan: the NaN of invalid operations has its sign bit set.
        quiet_fma: infinity times zero plus a quiet NaN is that NaN, and not invalid.
        all_ones: the canonical NaN has all significand bits set.
        flushes: subnormal operands and results count as zeros of their sign.
        integers: what becomes of numbers out of an integer's range: "riscv", "x86" or "arm".
        rounding: the only mode that there is; None where every mode is.
    """

    nan: str = "canonical"
    negative_nan: bool = False
    quiet_fma: bool = False
    all_ones: bool = False
    flushes: bool = False
    integers: str = "riscv"
    rounding: Rounding | None = None

    @property
    def converts(self) -> bool:
        """Whether conversions differ too: NaNs keep their payload, or subnormals are flushed."""
        return self.nan != "canonical" or self.flushes


@dataclass(frozen=True)
class Platform:
    """The conversion rules of one vendor, library or standard, as data.

    `rules` maps canonical format names to a `Rule`; `default` serves every other format.
    `source` says where the rules come from, `arithmetic` what its operations do. Explicit `rounding=` and
    `overflow=` arguments override those of the platform.

    >>> import numfmt as nf
    >>> hex(nf.encode(float("inf"), "e4m3fn", platform="nvidia"))
    '0x7e'
    >>> hex(nf.encode(float("inf"), "e4m3fn", platform="ml_dtypes"))
    '0x7f'
    """

    name: str
    source: str
    rules: Mapping[str, Rule] = field(default_factory=dict)
    default: Rule = Rule()
    arithmetic: ArithmeticRule = ArithmeticRule()

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", MappingProxyType(dict(self.rules)))

    def __hash__(self) -> int:
        return hash((self.name, tuple(self.rules.items()), self.default, self.arithmetic))

    def rule(self, format_name: str) -> Rule:
        """The rule for a format, by its canonical name."""
        return self.rules.get(format_name, self.default)

    def __str__(self) -> str:
        return self.name
