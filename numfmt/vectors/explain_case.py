"""One rounding that a device got wrong, as exact values and rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from ..carriers import floor_log2
from ..explain import round_exactly
from ..formats import CodebookFormat, Exact, FixedFormat, FloatFormat, Format
from ..plans import resolve
from ..platforms import get_platform
from ..rounding import Overflow, Rounding
from ..sources import quantum_exponent
from ..specials import Rules as Resolved
from . import explain_exact as real

if TYPE_CHECKING:
    from .functions import Function, Rules

INTEGER = FixedFormat(64)


@dataclass(frozen=True)
class Case:
    """One rounding that came out wrong.

    Attributes:
        operation: of `arithmetic.OPERATIONS`, "dot", or "convert" for an element of a block.
        values: of the operands; of a dot, of both rows one after the other.
        formats: of the operands.
        to: format of the result.
        rules: resolved.
        scales: of a dot in blocks, one a lane each.
        expected: the right code.
        random: the random number of a stochastic rounding; 0 where none is known.
    """

    operation: str
    values: tuple[Exact, ...]
    formats: tuple[Format, ...]
    to: Format
    rules: Resolved
    expected: int
    scales: tuple[tuple[Exact, ...], ...] = ()
    random: int = 0
    _rounded: dict[object, int | None] = field(default_factory=dict, init=False, compare=False, repr=False)

    def exact(self) -> Exact | None:
        """The exact result."""
        return self._exact

    @cached_property
    def _exact(self) -> Exact | None:
        down = self.rules.rounding is Rounding.TOWARD_NEGATIVE
        if self.operation == "dot":
            half = len(self.values) // 2
            return real.dot((self.values[:half], self.values[half:]), self.scales, down)
        return real.result(self.operation, self.values, down)

    def rounded(self, value: Exact | None, rules: Resolved | None = None) -> int | None:
        """The code of an exact result, by the library's own rounding."""
        if value is None:
            return None
        rules = self.rules if rules is None else rules
        key = (value, rules.rounding, rules.overflow)
        if key not in self._rounded:
            self._rounded[key] = self._code(value, rules)
        return self._rounded[key]

    def _code(self, value: Exact, rules: Resolved) -> int:
        if self.operation == "round_to_integral" and isinstance(value, Fraction) and abs(value) < 2**60:
            whole = INTEGER.exact(round_exactly(INTEGER, value, resolve(INTEGER, rules.rounding, None, None, None)))
            value = "-0" if value < 0 and whole == 0 else whole
        return round_exactly(self.to, value, rules, self.random if rules.rounding.is_stochastic else None)

    @cached_property
    def leaves_range(self) -> bool:
        """Whether the exact result lies beyond the largest finite value."""
        value = self.exact()
        if isinstance(value, Fraction):
            low, high = _range(self.to)
            return not low <= value <= high
        return value in ("inf", "-inf")

    @cached_property
    def is_held(self) -> bool:
        """Whether the format of the result holds the exact one, so that nothing is rounded."""
        value = self.exact()
        unit = self.unit(value)
        return not self.leaves_range and unit is not None and isinstance(value, Fraction) and value % unit == 0

    def unit(self, value: Exact | None) -> Fraction | None:
        """The distance of the neighbours of a result; None in codebooks, and of what is no number but zero."""
        if not isinstance(value, Fraction) or value == 0:
            return None
        return Fraction(1) if self.operation == "round_to_integral" else quantum(self.to, value)

    @property
    def limit(self) -> Fraction | None:
        """The smallest normal of the result's format."""
        return smallest_normal(self.to)


@lru_cache(maxsize=64)
def smallest_normal(fmt: Format) -> Fraction | None:
    """The smallest normal of a format with subnormals."""
    return fmt.min_normal if isinstance(fmt, FloatFormat) and fmt.has_subnormals else None


@lru_cache(maxsize=64)
def _range(fmt: Format) -> tuple[Fraction, Fraction]:
    return fmt.min, fmt.max


def case_of(
    function: Function, operands: Sequence[int], expected: int, rules: Rules, random: int = 0
) -> Case | None:
    """The case of a scalar row; None where nothing is rounded."""
    to = function.to
    if function.operation == "to_integer":
        integer = str(function.integer)
        to = FixedFormat(function.result_bits, signed=not integer.startswith("u"))
        rules = replace(rules, overflow=Overflow.SATURATE, platform=None)
    if to is None:
        return None
    values = tuple(real.value_of(code, fmt) for code, fmt in zip(operands, function.sources, strict=True))
    return Case(function.operation, values, function.sources, to, resolved(to, rules), int(expected), random=random)


def resolved(to: Format, rules: Rules) -> Resolved:
    """The rounding rules of a format."""
    platform = None if rules.platform is None else get_platform(rules.platform)
    overflow = rules.overflow
    return resolve(to, rules.rounding, overflow, platform, rules.random_bit_count or None)


def quantum(fmt: Format, value: Fraction) -> Fraction | None:
    """The distance of the neighbours of a value; None in codebooks, and of zero."""
    if isinstance(fmt, FixedFormat):
        return fmt.quantum
    if isinstance(fmt, CodebookFormat) or value == 0:
        return None
    return Fraction(2) ** quantum_exponent(fmt, floor_log2(abs(value)))
