"""The named scale rules: what each does, and where it is from."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from math import expm1, log
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ._core.parameters import BINARY32
from .carriers import floor_log2, value_of
from .formats import CodebookFormat, FloatFormat
from .rounding import Rounding
from .scale_rules import Bound, NumPyFloats, ScaleRule, Scales, emax, fraction_bits_at_max, scale_code

if TYPE_CHECKING:
    from .blocks import BlockFormat

Array = npt.NDArray[Any]
f32 = np.float32
FLT_MAX = np.finfo(f32).max


# ---- step rules ------------------------------------------------------------------------------------------------


def bound_floor(fmt: BlockFormat, below: Fraction, scale: Fraction, rank: int) -> Bound:
    """2**X as soon as the amax is 2**(X + emax)."""
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
    return scale_code(fmt.scale_value_format, scale) % 2 == 0


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
    return _log2_reaches(floor_log2(scale) + emax(fmt.element)), True


def _log2_reaches(k: int) -> Fraction:
    """The real number from which on the binary32 logarithm, rounded to nearest, is k or more.

    log2(2**k (1 - δ)) = k + log2(1 - δ) rounds to k where that lies within half a quantum of k.
    """
    if k == 0:
        return Fraction(1)
    quantum = floor_log2(Fraction(abs(k))) - 23
    if k > 0 and k & (k - 1) == 0:
        quantum -= 1  # just below a power of two the quanta are half as wide
    delta = -expm1(-(2.0 ** (quantum - 1)) * log(2))
    return Fraction(2) ** k * (1 - Fraction(delta))


# ---- binary32 rules --------------------------------------------------------------------------------------------


def nvfp4_encode_scale(tensor: Any, fp: Any = NumPyFloats) -> Any:
    """S_enc of scaling.md 4.1: 448 × 6 over the tensor's amax, or 1."""
    scale = fp.minimum(f32(448) * f32(6) / tensor, FLT_MAX)
    return fp.where((tensor == 0) | (scale == 0), f32(1), scale)


def _transformer_engine(fmt: BlockFormat, amax: Any, tensor: Any, fp: Any = NumPyFloats) -> Scales:
    """scaling.md 4.1: every operation in binary32, in TransformerEngine's order."""
    scale = nvfp4_encode_scale(tensor, fp)
    codes = fp.to_scale(fmt, fp.minimum(amax * (scale * (f32(1) / f32(6))), FLT_MAX))
    inverse = fp.minimum(f32(1) / (fp.from_scale(fmt, codes) * (f32(1) / scale)), FLT_MAX)
    return Scales(codes, inverse, tensor / f32(2688))


def _torchao(fmt: BlockFormat, amax: Any, tensor: Any, fp: Any = NumPyFloats) -> Scales:
    per_tensor = tensor / f32(448 * 6)
    scaled = amax / f32(6) / per_tensor
    codes = fp.to_scale(fmt, fp.clip(scaled, f32(2.0**-6), f32(448)))
    return Scales(codes, (f32(1) / per_tensor) / fp.from_scale(fmt, codes), per_tensor)


def _torchao_one_level(fmt: BlockFormat, amax: Any, tensor: Any, fp: Any = NumPyFloats) -> Scales:
    codes = fp.to_scale(fmt, fp.clip(amax / f32(6), f32(2.0**-6), f32(448)))
    return Scales(codes, f32(1) / fp.from_scale(fmt, codes))


def _deepseek(fmt: BlockFormat, amax: Any, tensor: Any, fp: Any = NumPyFloats) -> Scales:
    scale = fp.maximum(amax, f32(1e-4)) / f32(float(fmt.element.max))
    return Scales(scale, scale, divides=True)


def _deepgemm_fp32(fmt: BlockFormat, amax: Any, tensor: Any, fp: Any = NumPyFloats) -> Scales:
    scale = fp.maximum(amax, f32(1e-4)) / f32(float(fmt.element.max))
    return Scales(scale, f32(1) / scale)


def _current_scaling(fmt: BlockFormat, amax: Any, tensor: Any, fp: Any = NumPyFloats) -> Scales:
    factor = fp.minimum(f32(float(fmt.element.max)) / amax, FLT_MAX)
    factor = fp.where((amax == 0) | ~fp.isfinite(amax), f32(1), factor)
    return Scales(f32(1) / factor, factor)


def _bitsandbytes(fmt: BlockFormat, amax: Any, tensor: Any, fp: Any = NumPyFloats) -> Scales:
    scale = fp.where(fp.isinf(amax), f32(np.nan), amax)
    return Scales(scale, f32(1) / scale)


def _modelopt(fmt: BlockFormat, amax: Any, tensor: Any, fp: Any = NumPyFloats) -> Scales:
    per_tensor = tensor / f32(6 * 448)
    scaled = amax / (f32(6) * per_tensor)
    codes = fp.to_scale(fmt, fp.clip(fp.where(scaled == 0, f32(1), scaled), f32(2.0**-9), f32(448)))
    return Scales(codes, fp.from_scale(fmt, codes) * per_tensor, per_tensor, divides=True)


def _compressed_tensors(fmt: BlockFormat, amax: Any, tensor: Any, fp: Any = NumPyFloats) -> Scales:
    global_scale = f32(448 * 6) / fp.maximum(tensor, f32(2.0**-126))
    global_scale = fp.where(fp.isfinite(global_scale), global_scale, f32(1))
    codes = fp.to_scale(fmt, global_scale * (amax / f32(6)))
    codes = fp.where(codes == 0, codes.dtype.type(0x20), codes)  # E4M3's epsilon, 1/8, stands in for a zero scale
    return Scales(codes, fp.from_scale(fmt, codes) / global_scale, global_scale, divides=True)


# ---- the rules ----------------------------------------------------------------------------------------------------


def _suits_even(fmt: BlockFormat) -> str:
    return "codebooks have no significand; 'project' fits" if isinstance(fmt.element, CodebookFormat) else ""


def _suits_float(fmt: BlockFormat) -> str:
    narrow = isinstance(fmt.element, FloatFormat) and fmt.element.bits <= 16
    return "" if narrow else "it is for floats of at most 16 bits"


def _suits_codebook(fmt: BlockFormat) -> str:
    return "" if isinstance(fmt.element, CodebookFormat) else "it is for codebooks, such as nf4"


def _rule(name: str, source: str, bound: Callable[..., Bound] | None = None, **fields: Any) -> ScaleRule:
    return ScaleRule(name, source, bound, **fields)


def _powers(name: str, source: str, bound: Callable[..., Bound], **fields: Any) -> ScaleRule:
    """A rule that gives powers of two."""
    return ScaleRule(name, source, bound, powers_of_two=True, **fields)


def _nvfp4(name: str, source: str, function: Callable[..., Scales], **fields: Any) -> ScaleRule:
    """A rule for E2M1 elements under E4M3 scales."""
    return ScaleRule(name, source, binary32=function, scales=("float8_e4m3fn",), elements=("float4_e2m1fn",), **fields)


def _step_rules() -> list[ScaleRule]:
    return [
        _rule("project", "P3109 v4.0 §5; amax / max projected into the scale format", _project),
        _rule("absmax", "the usual name of `project` where the scale is a real number", _project),
        _rule("p3109", "P3109 v4.0 §5 MaxAbsFinite", _p3109, infinite="largest", ignores_nan=True, ignores_infinity=True),
        _powers("floor", "OCP MX v1.0 §6.3", bound_floor),
        _powers("ceil", "torchao ScaleCalculationMode.CEIL", _ceil),
        _powers("even", "torchao ScaleCalculationMode.EVEN; compressed-tensors mxfp4", _even, suits=_suits_even),
        _powers("truncation_free", "TetraJet, arXiv 2502.20853; microxcaling forks: bump", _truncation_free),
        _powers(
            "power_of_two", "TransformerEngine Float8BlockScaling, power-of-two scales", _truncation_free,
            zero_scale_is_one=True,
        ),
        _powers(
            "rceil", "NVIDIA cuBLAS, TransformerEngine; PTX cvt.rp.satfinite.ue8m0x2", _rceil, infinite="largest",
            beyond="largest", binary32_amax=True,
        ),
        _powers(
            "deepgemm", "DeepGEMM utils/math.py ceil_to_ue8m0", _deepgemm, infinite="largest", nan="largest",
            beyond="largest", least_rank=1, binary32_amax=True,
        ),
        _powers(
            "microxcaling", "microxcaling mx/mx_ops.py (python path): floor of the binary32 log2", _microxcaling,
            rounding=Rounding.TIES_TO_AWAY, zero_amax=2.0**-126, binary32_amax=True,
        ),
    ]  # fmt: skip


def _binary32_rules() -> list[ScaleRule]:
    order = "the order of operations"
    return [
        _nvfp4(
            "transformer_engine", "TransformerEngine core_nvfp4.cuh", _transformer_engine, tensor_scale=True,
            ignores_nan=True,
        ),
        _nvfp4("torchao", "torchao nvfp4_tensor.py, two levels", _torchao, tensor_scale=True),
        _nvfp4("torchao_1level", "torchao nvfp4_tensor.py, one level", _torchao_one_level),
        _nvfp4("modelopt", "NVIDIA ModelOpt NVFP4QTensor", _modelopt, tensor_scale=True, unverified=order),
        _nvfp4(
            "compressed_tensors", "compressed-tensors nvfp4-pack-quantized", _compressed_tensors, tensor_scale=True,
            tensor_divides=True, unverified=order,
        ),
        _rule(
            "deepseek", "DeepSeek-V3 inference/kernel.py act_quant: x / s", binary32=_deepseek, scales=("float32",),
            suits=_suits_float,
        ),
        _rule(
            "deepgemm_fp32", "DeepGEMM per_token_cast_to_fp8: x × fl(1 / s)", binary32=_deepgemm_fp32,
            scales=("float32",), suits=_suits_float,
        ),
        _rule(
            "current_scaling", "TransformerEngine recipe_common.cuh compute_scale_from_amax: x × fl(max / amax)",
            binary32=_current_scaling, scales=("float32",), suits=_suits_float,
        ),
        _rule(
            "bitsandbytes", "bitsandbytes csrc/kernels, blockwise absmax", binary32=_bitsandbytes,
            scales=("float32",), suits=_suits_codebook,
        ),
    ]  # fmt: skip


@lru_cache(maxsize=1)
def rules() -> dict[str, ScaleRule]:
    """Every scale rule by name."""
    from .direct_rules import direct_rules

    return {rule.name: rule for rule in (*_step_rules(), *_binary32_rules(), *direct_rules())}
