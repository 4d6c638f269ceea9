"""Scale rules as named data: which scale a block gets from its amax, and how its elements meet the scale.

Three families. *Step* rules give the k-th scale from a threshold of amax on: they are tables of carrier
patterns, computed exactly. *Quotient* rules round amax / max into a wide scale format. *Binary32* rules
are what a vendor computes in binary32, operation by operation in its own order: each is a function of
NumPy float32 arrays, because IEEE 754 fixes every bit of +, -, ×, ÷.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import ml_dtypes
import numpy as np
import numpy.typing as npt

from . import engines
from ._core.parameters import BINARY64, Carrier
from .carriers import floor_log2, magnitude_pattern, pattern, value_of
from .formats import FixedFormat, FloatFormat, Format
from .plans import encode_plan, resolve
from .rounding import Overflow, Rounding
from .sources import code_dtype
from .specials import Rules

if TYPE_CHECKING:
    from .block_layout import Layout, Task
    from .blocks import BlockFormat

Array = npt.NDArray[Any]

# What a step rule says of amax = bound exactly: whether it has reached the next scale.
Bound = tuple[Fraction, bool]

f32 = np.float32
FLT_MAX = np.finfo(f32).max


@dataclass(frozen=True)
class ScaleRule:
    """A scale rule.

    Args:
        name, source: what it is called, and where it is defined.
        bound: step rules: (format, scale below, scale, its rank) → the amax from which that scale is taken.
        binary32: vendor rules: (format, amax, amax of the tensor, arithmetic = NumPyFloats) → `Scales`.
        direct: rules that make elements and scales in one: (format, blocks of float32, one a row, rules, amax of
            the tensor, arithmetic = NumPyFloats) → `Coded`.
        tensor_scale: whether the array has a binary32 scale of its own.
        rounding: of the elements, where it is not that of their format.
        zero_point: None, "integer" (affine) or "minimum" (GGUF's Q4_1, Q5_1).
        powers_of_two: whether it gives powers of two whatever the scale format.
        infinite, nan: "nan" or "largest": the scale of a block whose amax is infinite, is NaN.
        least_rank: the lowest scale that is given, as a rank.
        beyond: "nan" or "largest": the scale of an amax beyond the last step.
        binary32_amax: whether a step rule sees the amax of wider operands rounded to binary32.
        zero_scale_is_one: whether a block of zeros gets the scale 1 where the scale format has a zero.
        ignores_nan, ignores_infinity: whether such elements leave the amax alone.
        zero_amax: what stands in for the amax of a block of zeros.
        tensor_divides: whether values are divided by the tensor scale.
        micro_up: whether micro-exponents raise the scale (HiF4) or lower it (MX9).
        scales, elements: names of the formats that it is defined for; () is any.
        suits: what else it asks of a format: "" or what is wrong.
        unverified: what no primary source confirms.
    """

    name: str
    source: str
    bound: Callable[[BlockFormat, Fraction, Fraction, int], Bound] | None = None
    binary32: Callable[..., Scales] | None = None
    direct: Callable[..., Coded] | None = None
    tensor_scale: bool = False
    rounding: Rounding | None = None
    zero_point: str | None = None
    powers_of_two: bool = False
    infinite: str = "nan"
    nan: str = "nan"
    beyond: str = "nan"
    least_rank: int = 0
    binary32_amax: bool = False
    zero_scale_is_one: bool = False
    ignores_infinity: bool = False
    ignores_nan: bool = False
    zero_amax: float = 0.0
    tensor_divides: bool = False
    micro_up: bool = False
    scales: tuple[str, ...] = ()
    elements: tuple[str, ...] = ()
    suits: Callable[[BlockFormat], str] = lambda fmt: ""
    unverified: str = ""

    def check(self, fmt: BlockFormat) -> None:
        """Raise ValueError where the rule does not suit a format."""
        scale = fmt.scale_value_format
        if self.powers_of_two and not isinstance(scale, FloatFormat):
            raise ValueError(f"rule {self.name!r} is given with scale {scale}; it needs a float, such as e8m0")
        for what, given, defined in (("scale", scale, self.scales), ("elements", fmt.element, self.elements)):
            if defined and str(given) not in defined:
                raise ValueError(f"rule {self.name!r} is given with {what} {given}; it is for {' and '.join(defined)}")
        why = self.suits(fmt)
        if why:
            raise ValueError(f"rule {self.name!r} is given with {fmt.element} in blocks of {fmt.block}; {why}")

    def zero_point_bits(self, fmt: BlockFormat) -> int:
        """Bits of a block's zero point or minimum."""
        return {None: 0, "integer": fmt.element.bits, "minimum": 16}[self.zero_point]


class Scales(NamedTuple):
    """What a vendor's rule makes of the amaxes: scales, and the float32 that elements are multiplied or divided by."""

    codes: Array  # of the scale format's code dtype, or floats of its own
    operand: Array  # float32
    tensor_scale: np.float32 | None = None
    divides: bool = False


class Coded(NamedTuple):
    """What a rule makes of blocks, one a row: scale codes, element codes, and zero points where it has some."""

    scales: Array
    codes: Array
    zero_points: Array | None = None
    micro: tuple[Array, ...] = ()
    tensor_scale: np.float32 | None = None


# ---- facts of elements -----------------------------------------------------------------------------------------


def emax(fmt: Format) -> int:
    """Exponent of the largest magnitude: floor(log2(max))."""
    return floor_log2(fmt.max)


def fraction_bits_at_max(fmt: Format) -> int:
    """Fraction bits of the largest magnitude's binade."""
    if isinstance(fmt, FloatFormat):
        return fmt.trailing_bits
    assert isinstance(fmt, FixedFormat)
    return fmt.bits - fmt.signed - 1


# ---- step rules as tables -------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def scale_code(fmt: Format, value: Fraction) -> int:
    """The code of a value of a format."""
    plan = encode_plan(fmt, resolve(fmt, None, Overflow.SATURATE, None, None), BINARY64)
    assert plan is not None
    return int(engines.apply(plan, np.array([pattern(value, BINARY64)], np.int64), None, False)[0])


class Steps(NamedTuple):
    """A step rule for one format and carrier."""

    depth: int
    thresholds: Array  # 2**depth patterns; entry i is the least amax of rank i
    codes: Array  # scale code of each rank
    exponents: Array | None  # exponent of each rank's scale, where it is a power of two; 0 for a zero scale
    zeros: Array  # whether the scale of each rank is zero
    nan: int  # scale code of a block with a NaN amax
    infinite: int  # of an infinite one


@lru_cache(maxsize=256)
def steps_of(fmt: BlockFormat, carrier: Carrier) -> Steps | None:
    """The thresholds of a step rule; None where scales are wider, or computed in binary32."""
    rule, scale = fmt.scale_rule, fmt.scale_value_format
    values = _step_scales(fmt)
    if rule.bound is None or values is None:
        return None
    bounds = [
        (Fraction(0), False) if below == 0 and not _projects(rule) else rule.bound(fmt, below, value, i)
        for i, (below, value) in enumerate(pairwise(values))
    ]
    if rule.beyond == "nan" and rule.powers_of_two and nan_scale(scale) is not None:
        bounds.append(rule.bound(fmt, values[-1], 2 * values[-1], len(values)))
    at = [_least(bound, carrier) for bound in bounds]
    if rule.least_rank:
        at[: rule.least_rank] = [0] * rule.least_rank
    depth = max(1, len(at).bit_length())
    never = carrier.magnitude_mask
    thresholds = np.full(2**depth, never, np.int32 if carrier.bits == 32 else np.int64)
    thresholds[1 : len(at) + 1] = at
    codes = [scale_code(scale, v) for v in values]
    if rule.zero_scale_is_one and values[0] == 0:
        codes[0] = scale_code(scale, Fraction(1))
    largest = codes[-1]
    nan = nan_scale(scale)
    codes += [largest if nan is None else nan] * (2**depth - len(codes))
    exponents = None
    if fmt.has_power_of_two_scales:
        powers = [floor_log2(v) if v else 0 for v in values]
        exponents = np.array(powers + [powers[-1]] * (2**depth - len(powers)), np.int32)
    return Steps(
        depth, thresholds, np.array(codes, np.int64), exponents,
        np.arange(2**depth) < (values[0] == 0 and not rule.zero_scale_is_one),
        largest if nan is None or rule.nan == "largest" else nan,
        largest if nan is None or _infinite(fmt) == "largest" else nan,
    )  # fmt: skip


def _infinite(fmt: BlockFormat) -> str:
    return "largest" if fmt.nonfinite == "saturate_inf" else fmt.scale_rule.infinite


def _projects(rule: ScaleRule) -> bool:
    return rule.name in ("project", "absmax", "p3109")


def nan_scale(scale: Format) -> int | None:
    """The code of a scale format's NaN, None where there is none."""
    return scale.nan_code if isinstance(scale, FloatFormat) else None


@lru_cache(maxsize=256)
def _step_scales(fmt: BlockFormat) -> list[Fraction] | None:
    """The scales that a step rule may give, ascending; None where a quotient is encoded instead."""
    scale, rule = fmt.scale_value_format, fmt.scale_rule
    if rule.powers_of_two:
        least, most = floor_log2(scale.min_positive), floor_log2(scale.max)
        return [Fraction(0)] * _has_zero(scale) + [Fraction(2) ** k for k in range(least, most + 1)]
    if scale.bits > 9:
        return None
    every = {scale.exact(code) for code in range(2**scale.bits)}
    return sorted(v for v in every if isinstance(v, Fraction) and v >= 0)


def _has_zero(scale: Format) -> bool:
    return not isinstance(scale, FloatFormat) or scale.zero


def _least(bound: Bound, carrier: Carrier) -> int:
    """Least magnitude pattern that reaches a bound (inclusive) or passes it."""
    value, inclusive = bound
    at = magnitude_pattern(value, carrier)
    return at + (not inclusive or value_of(at, carrier) != value)


def to_scale(fmt: BlockFormat, values: Array, rounding: Rounding | None = None) -> Array:
    """Codes of the scale format for float32 or float64 values, saturating, rounded as the format is."""
    from .arrays import encode

    return np.asarray(encode(values, fmt.scale_value_format, rounding=rounding, overflow="saturate", threads=1))


def from_scale(fmt: BlockFormat, codes: Array) -> Array:
    """float32 values of scales as they are stored: codes, or floats of the scale format's own dtype."""
    if codes.dtype.kind == "f":
        return codes.astype(f32, copy=False)
    from .arrays import decode

    return np.asarray(decode(codes, fmt.scale_value_format, dtype=f32, threads=1))


class NumPyFloats:
    """The binary32 arithmetic that vendors' rules are written in: NumPy's. numfmt_jax has the same in integers.

    Rows are the last axis. Operators and `abs` are those of the arrays; constants are np.float32.
    """

    minimum, maximum, where = staticmethod(np.minimum), staticmethod(np.maximum), staticmethod(np.where)
    isinf, isfinite, negative = staticmethod(np.isinf), staticmethod(np.isfinite), staticmethod(np.signbit)
    clip, floor = staticmethod(np.clip), staticmethod(np.floor)
    to_scale, from_scale = staticmethod(to_scale), staticmethod(from_scale)

    @staticmethod
    def largest(rows: Array) -> Any:
        """The largest number of each row; NaN where it holds one."""
        return rows.max(axis=-1)

    @staticmethod
    def least(rows: Array) -> Any:
        """The least number of each row, -0 before +0 (NumPy's own depends on the processor); NaN where it holds one."""
        least = rows.min(axis=-1)
        return np.where((least == 0) & np.signbit(rows).any(axis=-1), f32(-0.0), least)

    @staticmethod
    def largest_number(rows: Array) -> Any:
        """The largest number of each row of magnitudes, NaNs left out."""
        return np.fmax.reduce(rows, axis=-1, initial=f32(0))

    @staticmethod
    def extreme(rows: Array) -> Any:
        """The first element of largest magnitude of each row."""
        return rows[np.arange(len(rows)), np.abs(rows).argmax(axis=1)]

    @staticmethod
    def total(rows: Array) -> Array:
        """The sum of each row, one number after the other."""
        total = rows[..., 0]
        for i in range(1, rows.shape[-1]):
            total = total + rows[..., i]
        return total

    @staticmethod
    def pair(a: Array, b: Array) -> Array:
        """Two arrays as one, along a new first axis."""
        return np.stack([a, b])

    @staticmethod
    def integers(x: Array) -> Array:
        """Numbers without a fraction as integers; 0 for NaN."""
        return np.where(np.isnan(x), f32(0), x).astype(np.int32)

    @staticmethod
    def numbers(n: Array) -> Array:
        """Small integers as numbers."""
        return n.astype(f32)

    @staticmethod
    def repeat(n: Array, times: int) -> Array:
        """Each entry of rows so many times."""
        return np.repeat(n, times, axis=-1)

    @staticmethod
    def bfloat16(x: Any) -> Any:
        """Numbers rounded to bfloat16."""
        return x.astype(ml_dtypes.bfloat16).astype(f32)

    @staticmethod
    def half(x: Array) -> Array:
        """Numbers rounded to float16, as they are stored."""
        return x.astype(np.float16)

    @staticmethod
    def elements(fmt: BlockFormat, x: Array, rules: Rules) -> Array:
        """Codes of elements that have met their scale."""
        from .arrays import encode

        return np.asarray(encode(x, fmt.element, rounding=rules.rounding, overflow=rules.overflow, threads=1))

    @staticmethod
    def values(fmt: BlockFormat, codes: Array) -> Array:
        """What element codes name."""
        from .arrays import decode

        return np.asarray(decode(codes, fmt.element, threads=1))


# ---- from amaxes to scales ------------------------------------------------------------------------------------------


def scales_part(canonical: Array, task: Task) -> Array:
    """A task's part of an array with one entry a block."""
    (o0, o1), (r0, r1), (c0, c1) = task.outer, task.block_rows, task.block_columns
    return canonical[o0:o1, r0:r1, c0:c1]


@dataclass(frozen=True)
class Params:
    """Scales of blocks: codes, and what their elements need.

    Exactly one of the last four is given: elements are offset by an exponent, divided exactly, or
    multiplied or divided in binary32.
    """

    codes: Array
    values: Array  # float32 values of the scales
    exponents: Array | None = None
    divisor: Array | None = None
    factor32: Array | None = None
    divisor32: Array | None = None

    @property
    def kind(self) -> str:
        """How elements meet their scale: "offset", "divisor", "factor32" or "divisor32"."""
        if self.exponents is not None:
            return "offset"
        return "divisor" if self.divisor is not None else "factor32" if self.factor32 is not None else "divisor32"

    def operands(self) -> tuple[Array, Array]:
        """What the compiled loops take: exponents or numbers, and the values of the scales."""
        from .block_compiled import shifts_of

        if self.exponents is not None:
            return shifts_of(self), self.values
        return next(a for a in (self.divisor, self.factor32, self.divisor32) if a is not None), self.values

    def part(self, task: Task) -> Params:
        """Those of a task."""
        return self._map(lambda array: scales_part(array, task))

    def spread_over(self, fine: Layout, coarse: Layout) -> Params:
        """Those of the pieces that long blocks are cut into."""
        if fine is coarse:
            return self
        blocks = (fine.outer, fine.block_rows, fine.block_columns)
        return self._map(lambda array: np.broadcast_to(array, blocks))

    def _map(self, function: Callable[[Array], Array]) -> Params:
        arrays = {name: array for name, array in vars(self).items() if array is not None}
        return replace(self, **{name: function(array) for name, array in arrays.items()})


def step_params(fmt: BlockFormat, amax: Array, carrier: Carrier, steps: Steps) -> Params:
    """The scales of a step rule."""
    if fmt.scale_rule.zero_amax:
        amax = np.where(amax == 0, pattern(Fraction(fmt.scale_rule.zero_amax), carrier), amax)
    rank = np.searchsorted(steps.thresholds[1:], amax, side="right")
    codes = steps.codes[rank]
    nonfinite = amax >= carrier.infinity
    if nonfinite.any():
        codes = np.where(nonfinite, np.where(amax > carrier.infinity, steps.nan, steps.infinite), codes)
    codes = codes.astype(scale_dtype(fmt, as_codes=True))
    values = from_scale(fmt, codes)
    if steps.exponents is None:
        return Params(scale_array(fmt, codes), values, divisor=values)
    exponents = np.where(nonfinite, _exponents(values), steps.exponents[rank])
    return Params(scale_array(fmt, codes), values, exponents=exponents)


def _exponents(values: Array) -> Array:
    """Exponents of powers of two; 0 for NaN and zero, which are dealt with apart."""
    return np.where(np.isfinite(values) & (values != 0), np.frexp(values)[1] - 1, 0).astype(np.int32)


def scale_dtype(fmt: BlockFormat, as_codes: bool = False) -> np.dtype[Any]:
    """Dtype of a format's scales: that of NumPy where it has the format, else of codes."""
    native = {"float16": np.float16, "float32": np.float32}.get(str(fmt.scale_value_format))
    return np.dtype(native) if native and not as_codes else code_dtype(fmt.scale_value_format)


def scale_array(fmt: BlockFormat, codes: Array) -> Array:
    """Scale codes as they are stored."""
    return codes.view(scale_dtype(fmt)) if codes.dtype.kind == "u" else codes
