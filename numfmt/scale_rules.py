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
from math import expm1, log
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import engines
from ._core.parameters import BINARY32, BINARY64, Carrier
from .carriers import magnitude_pattern, pattern, value_of
from .formats import CodebookFormat, FixedFormat, FloatFormat, Format
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
        bound: step rules: (format, value of the scale below, value of the scale) → the amax from which the latter is taken.
        binary32: vendor rules: (format, amax, amax of the tensor) → `Scales`.
        direct: rules that make elements and scales in one: (format, blocks of float32, one a row) → `Coded`.
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
        unverified: what no primary source confirms.
    """

    name: str
    source: str
    bound: Callable[[BlockFormat, Fraction, Fraction, int], Bound] | None = None
    binary32: Callable[[BlockFormat, Array, Any], Scales] | None = None
    direct: Callable[[BlockFormat, Array, Rules, Any], Coded] | None = None
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
    unverified: str = ""

    def check(self, fmt: BlockFormat) -> None:
        """Raise ValueError where the rule does not suit a format."""
        scale = fmt.scale_value_format
        if self.name == "even" and isinstance(fmt.element, CodebookFormat):
            raise ValueError(f"rule 'even' is given with {fmt.element}; it is for floats and fixed point; 'project' fits")
        if self.powers_of_two and isinstance(scale, FixedFormat):
            raise ValueError(f"rule {self.name!r} is given with scale {scale}; it needs a float, such as e8m0")
        if self.binary32 or self.direct:
            expected = _EXPECTED.get(self.name)
            if expected and str(scale) not in expected:
                raise ValueError(
                    f"rule {self.name!r} is given with scale {scale}; it is defined for {' and '.join(expected)}"
                )

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
    largest = fmt.max
    return largest.numerator.bit_length() - largest.denominator.bit_length() - (
        largest < Fraction(2) ** (largest.numerator.bit_length() - largest.denominator.bit_length())
    )


def fraction_bits_at_max(fmt: Format) -> int:
    """Fraction bits of the largest magnitude's binade."""
    if isinstance(fmt, FloatFormat):
        return fmt.trailing_bits
    assert isinstance(fmt, FixedFormat)
    return fmt.bits - fmt.signed - 1


# ---- step rules ------------------------------------------------------------------------------------------------


def bound_floor(fmt: BlockFormat, below: Fraction, scale: Fraction, rank: int) -> Bound:
    return scale * Fraction(2) ** emax(fmt.element), True


def _ceil(fmt: BlockFormat, below: Fraction, scale: Fraction, rank: int) -> Bound:
    return below * Fraction(2) ** emax(fmt.element), False


def _even(fmt: BlockFormat, below: Fraction, scale: Fraction, rank: int) -> Bound:
    last = 2 - Fraction(1, 2 ** (fraction_bits_at_max(fmt.element) + 1))
    return last * below * Fraction(2) ** emax(fmt.element), True


def _truncation_free(fmt: BlockFormat, below: Fraction, scale: Fraction, rank: int) -> Bound:
    return below * fmt.element.max, False


def _project(fmt: BlockFormat, below: Fraction, scale: Fraction, rank: int) -> Bound:
    return (below + scale) / 2 * fmt.element.max, _even_code(fmt, scale)


def _p3109(fmt: BlockFormat, below: Fraction, scale: Fraction, rank: int) -> Bound:
    return (below + scale) / 2, _even_code(fmt, scale)


def _even_code(fmt: BlockFormat, scale: Fraction) -> bool:
    return _scale_code(fmt.scale_value_format, scale) % 2 == 0


@lru_cache(maxsize=4096)
def _scale_code(fmt: Format, value: Fraction) -> int:
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
        for i, (below, value) in enumerate(zip(values, values[1:], strict=False))
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
    codes = [_scale_code(scale, v) for v in values]
    if rule.zero_scale_is_one and values[0] == 0:
        codes[0] = _scale_code(scale, Fraction(1))
    largest = codes[-1]
    nan = nan_scale(scale)
    codes += [largest if nan is None else nan] * (2**depth - len(codes))
    exponents = None
    if fmt.has_power_of_two_scales:
        powers = [emax_of(v) if v else 0 for v in values]
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


def emax_of(value: Fraction) -> int:
    """floor(log2(value))."""
    e = value.numerator.bit_length() - value.denominator.bit_length()
    return e - (value < Fraction(2) ** e)


def nan_scale(scale: Format) -> int | None:
    """The code of a scale format's NaN, None where there is none."""
    return scale.nan_code if isinstance(scale, FloatFormat) else None


@lru_cache(maxsize=256)
def _step_scales(fmt: BlockFormat) -> list[Fraction] | None:
    """The scales that a step rule may give, ascending; None where a quotient is encoded instead."""
    scale, rule = fmt.scale_value_format, fmt.scale_rule
    if rule.powers_of_two:
        least, most = emax_of(scale.min_positive), emax_of(scale.max)
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


# Step rules that are defined by binary32 operations: the bound is found by trying them.


def _reached(fmt: BlockFormat, scale: Fraction, computed: Callable[[Array], Array], strict: bool) -> Bound:
    """The least binary32 amax for which `computed` passes (or reaches) the value of a scale."""
    goal = f32(float(scale))
    low, high = 0, BINARY32.infinity
    while low < high:
        middle = (low + high) // 2
        got = computed(np.array([middle], np.int32).view(f32))[0]
        if (got > goal) if strict else (got >= goal):
            high = middle
        else:
            low = middle + 1
    return (value_of(low, BINARY32), True) if low < BINARY32.infinity else (Fraction(2) ** 128, True)


def _rceil(fmt: BlockFormat, below: Fraction, scale: Fraction, rank: int) -> Bound:
    reciprocal = f32(1) / f32(float(fmt.element.max))
    return _reached(fmt, below, lambda amax: amax * reciprocal, strict=True)


def _deepgemm(fmt: BlockFormat, below: Fraction, scale: Fraction, rank: int) -> Bound:
    largest = f32(float(fmt.element.max))
    return _reached(fmt, below, lambda amax: np.maximum(amax, f32(1e-4)) / largest, strict=True)


def _microxcaling(fmt: BlockFormat, below: Fraction, scale: Fraction, rank: int) -> Bound:
    return _log2_reaches(emax_of(scale) + emax(fmt.element)), True


def _log2_reaches(k: int) -> Fraction:
    """The real number from which on the binary32 logarithm, rounded to nearest, is k or more.

    log2(2**k (1 - δ)) = k + log2(1 - δ) rounds to k where that lies within half a quantum of k.
    """
    if k == 0:
        return Fraction(1)
    quantum = emax_of(Fraction(abs(k))) - 23
    if k > 0 and k & (k - 1) == 0:
        quantum -= 1  # just below a power of two the quanta are half as wide
    delta = -expm1(-(2.0 ** (quantum - 1)) * log(2))
    return Fraction(2) ** k * (1 - Fraction(delta))


# ---- binary32 rules --------------------------------------------------------------------------------------------


def to_scale(fmt: BlockFormat, values: Array, overflow: Overflow = Overflow.SATURATE) -> Array:
    """Codes of the scale format for float32 or float64 values, ties to even."""
    from .arrays import encode

    return np.asarray(encode(values, fmt.scale_value_format, overflow=overflow, threads=1))


def from_scale(fmt: BlockFormat, codes: Array) -> Array:
    """float32 values of scales as they are stored: codes, or floats of the scale format's own dtype."""
    if codes.dtype.kind == "f":
        return codes.astype(f32, copy=False)
    from .arrays import decode

    return np.asarray(decode(codes, fmt.scale_value_format, dtype=f32, threads=1))


def nvfp4_encode_scale(tensor: Any) -> np.float32:
    """S_enc of scaling.md 4.1: 448 × 6 over the tensor's amax, or 1."""
    scale = np.minimum(f32(448) * f32(6) / tensor, FLT_MAX)
    return f32(1) if tensor == 0 or scale == 0 else f32(scale)


def _transformer_engine(fmt: BlockFormat, amax: Array, tensor: Any) -> Scales:
    """scaling.md 4.1: every operation in binary32, in TransformerEngine's order."""
    scale = nvfp4_encode_scale(tensor)
    codes = to_scale(fmt, np.minimum(amax * (scale * (f32(1) / f32(6))), FLT_MAX))
    inverse = np.minimum(f32(1) / (from_scale(fmt, codes) * (f32(1) / scale)), FLT_MAX)
    return Scales(codes, inverse, tensor / f32(2688))


def _torchao(fmt: BlockFormat, amax: Array, tensor: Any) -> Scales:
    per_tensor = f32(tensor) / f32(448 * 6)
    scaled = amax / f32(6) / per_tensor
    codes = to_scale(fmt, np.clip(scaled, f32(2.0**-6), f32(448)))
    return Scales(codes, (f32(1) / per_tensor) / from_scale(fmt, codes), per_tensor)


def _torchao_one_level(fmt: BlockFormat, amax: Array, tensor: Any) -> Scales:
    codes = to_scale(fmt, np.clip(amax / f32(6), f32(2.0**-6), f32(448)))
    return Scales(codes, f32(1) / from_scale(fmt, codes))


def _deepseek(fmt: BlockFormat, amax: Array, tensor: Any) -> Scales:
    scale = np.maximum(amax, f32(1e-4)) / f32(float(fmt.element.max))
    return Scales(scale, scale, divides=True)


def _deepgemm_fp32(fmt: BlockFormat, amax: Array, tensor: Any) -> Scales:
    scale = np.maximum(amax, f32(1e-4)) / f32(float(fmt.element.max))
    return Scales(scale, f32(1) / scale)


def _bitsandbytes(fmt: BlockFormat, amax: Array, tensor: Any) -> Scales:
    scale = np.where(np.isinf(amax), f32(np.nan), amax)
    return Scales(scale, f32(1) / scale)


def _modelopt(fmt: BlockFormat, amax: Array, tensor: Any) -> Scales:
    per_tensor = tensor / f32(6 * 448)
    scaled = amax / (f32(6) * per_tensor)
    codes = to_scale(fmt, np.where(scaled == 0, f32(1), scaled))
    return Scales(codes, from_scale(fmt, codes) * per_tensor, per_tensor, divides=True)


def _compressed_tensors(fmt: BlockFormat, amax: Array, tensor: Any) -> Scales:
    global_scale = f32(448 * 6) / np.maximum(tensor, f32(2.0**-126))
    if not np.isfinite(global_scale):
        global_scale = f32(1)
    codes = to_scale(fmt, global_scale * (amax / f32(6)))
    codes = np.where(codes == 0, codes.dtype.type(0x20), codes)  # E4M3's epsilon, 1/8, stands in for a zero scale
    return Scales(codes, from_scale(fmt, codes) / global_scale, global_scale, divides=True)


# ---- from amaxes to scales --------------------------------------------------------------------------------------------


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
        operand = self.divisor if self.divisor is not None else self.factor32 if self.factor32 is not None else self.divisor32
        assert operand is not None
        return operand, self.values

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


# ---- the rules --------------------------------------------------------------------------------------------------------

_EXPECTED = {
    **dict.fromkeys(("transformer_engine", "torchao", "torchao_1level", "modelopt", "compressed_tensors"), ("float8_e4m3fn",)),
    **dict.fromkeys(("4over6", "4over6_mse", "4over6_256", "4over6_mse_256"), ("float8_e4m3fn",)),
    **dict.fromkeys(("deepseek", "deepgemm_fp32", "bitsandbytes", "affine"), ("float32",)),
    **dict.fromkeys(("q8_0", "q4_0", "q4_1", "q5_0", "q5_1"), ("float16",)),
    "hif4": ("hif4_scale_e6m2",),
}  # fmt: skip


@lru_cache(maxsize=1)
def rules() -> dict[str, ScaleRule]:
    """Every scale rule by name."""
    from .direct_rules import DIRECT

    step = dict(powers_of_two=True)
    computed = dict(powers_of_two=True, binary32_amax=True)
    nvfp4 = dict(tensor_scale=True)
    made = [
        ScaleRule("project", "P3109 v4.0 §5; DESIGN: amax / max projected into the scale format", _project),
        ScaleRule("absmax", "the usual name of `project` where the scale is a real number", _project),
        ScaleRule("floor", "OCP MX v1.0 §6.3", bound_floor, **step),
        ScaleRule("ceil", "torchao ScaleCalculationMode.CEIL", _ceil, **step),
        ScaleRule("even", "torchao ScaleCalculationMode.EVEN; compressed-tensors mxfp4", _even, **step),
        ScaleRule("truncation_free", "TetraJet, arXiv 2502.20853; the microxcaling fork's bump", _truncation_free, **step),
        ScaleRule(
            "rceil", "NVIDIA cuBLAS, TransformerEngine; PTX cvt.rp.satfinite.ue8m0x2", _rceil, infinite="largest",
            beyond="largest", **computed,
        ),
        ScaleRule(
            "deepgemm", "DeepGEMM utils/math.py ceil_to_ue8m0", _deepgemm, infinite="largest", nan="largest", beyond="largest",
            least_rank=1, **computed,
        ),
        ScaleRule(
            "microxcaling", "microxcaling mx/mx_ops.py (python path): floor of the binary32 log2", _microxcaling,
            rounding=Rounding.TIES_TO_AWAY, zero_amax=2.0**-126, **computed,
        ),
        ScaleRule(
            "power_of_two", "TransformerEngine Float8BlockScaling, power-of-two scales", _truncation_free,
            zero_scale_is_one=True, **step,
        ),
        ScaleRule("p3109", "P3109 v4.0 §5 MaxAbsFinite", _p3109, infinite="largest", ignores_nan=True, ignores_infinity=True),
        ScaleRule("transformer_engine", "TransformerEngine core_nvfp4.cuh", binary32=_transformer_engine, ignores_nan=True, **nvfp4),
        ScaleRule("torchao", "torchao nvfp4_tensor.py, two levels", binary32=_torchao, **nvfp4),
        ScaleRule("torchao_1level", "torchao nvfp4_tensor.py, one level", binary32=_torchao_one_level),
        ScaleRule(
            "modelopt", "NVIDIA ModelOpt NVFP4QTensor", binary32=_modelopt, unverified="the order of operations", **nvfp4
        ),
        ScaleRule(
            "compressed_tensors", "compressed-tensors nvfp4-pack-quantized", binary32=_compressed_tensors,
            tensor_divides=True, unverified="the order of operations", **nvfp4,
        ),
        ScaleRule("deepseek", "DeepSeek-V3 inference/kernel.py act_quant: x / s", binary32=_deepseek),
        ScaleRule("deepgemm_fp32", "DeepGEMM per_token_cast_to_fp8: x × fl(1 / s)", binary32=_deepgemm_fp32),
        ScaleRule("bitsandbytes", "bitsandbytes csrc/kernels, blockwise absmax", binary32=_bitsandbytes),
        *DIRECT,
    ]  # fmt: skip
    return {rule.name: rule for rule in made}
