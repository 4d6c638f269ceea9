"""Scale rules that make the elements and the scales of a block together, in NumPy.

Each takes blocks of float32, one a row, padded with zeros, and gives `Coded`. Affine and micro-exponent
rules are exact; the others repeat a vendor's binary32 operations in the vendor's order.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from . import engines
from ._core.block import quotient
from ._core.parameters import BINARY32, BINARY64
from .blocks import BlockFormat
from .formats import CodebookFormat, FixedFormat
from .named_rules import bound_floor
from .rounding import Rounding
from .scale_rules import Coded, NumPyFloats, ScaleRule, nan_scale, step_params, steps_of
from .specials import Rules

Array = npt.NDArray[Any]
f32 = np.float32
FLT_MAX = np.finfo(f32).max


def _divided(x: Array, divisor: Array) -> Array:
    """x / divisor rounded to odd: float64; divisors are positive and of at most 24 significant bits."""
    shape = np.broadcast_shapes(x.shape, divisor.shape)
    x, divisor = (np.ascontiguousarray(np.broadcast_to(v, shape), np.float64).view(np.int64) for v in (x, divisor))
    return np.asarray(quotient(x, divisor, BINARY64, xp=engines.NUMPY)).view(np.float64)


def _elements(fmt: BlockFormat, values: Array, rules: Rules) -> Array:
    """Codes of values that have met their scale."""
    from .arrays import encode

    return np.asarray(encode(values, fmt.element, rounding=rules.rounding, overflow=rules.overflow, threads=1))


def _integers(values: Array) -> Array:
    """The nearest integers of float64 values within 2**19, ties to even: float64."""
    from .arrays import quantize

    return np.asarray(quantize(values, FixedFormat(21), threads=1))


# ---- affine ----------------------------------------------------------------------------------------------------


def _affine(fmt: BlockFormat, rows: Array, rules: Rules, tensor: Any) -> Coded:
    """scale = (hi - lo) / (qmax - qmin), zero point = qmin - round(lo / scale), 0 being a value always."""
    element = fmt.element
    assert isinstance(element, FixedFormat)
    least, most = element.min_integer, element.max_integer
    finite = np.asarray(np.isfinite(rows).all(axis=1))
    x = np.where(finite[:, None], rows, f32(0)).astype(np.float64)
    low, high = np.minimum(x.min(axis=1), 0), np.maximum(x.max(axis=1), 0)
    scale = _divided(_odd_sum(high, -low), np.full(1, most - least, np.float64)).astype(f32)
    scale = np.minimum(scale, FLT_MAX)
    divisor = np.where(scale > 0, scale, f32(1)).astype(np.float64)
    zero = np.clip(least - _integers(_divided(low, divisor)), least, most)
    zero = np.where(scale > 0, zero, np.clip(0, least, most))
    q = np.clip(_integers(_divided(x, divisor[:, None])) + zero[:, None], least, most)
    some = np.asarray(scale > 0)
    q = np.where(some[:, None], q, zero[:, None]).astype(np.int64)
    codes = (q & (2**element.bits - 1)).astype(np.uint16 if element.bits > 8 else np.uint8)
    return Coded(np.where(finite, scale, f32(np.nan)), codes, zero.astype(np.int32))


def _odd_sum(a: Array, b: Array) -> Array:
    """a + b rounded to odd, for float64 arrays ≥ 0 (Knuth's two-sum finds what the sum lost)."""
    s = a + b
    bb = s - a
    lost = (a - (s - bb)) + (b - bb)
    bits = s.view(np.int64)
    return np.where(lost < 0, (bits - 1) | 1, np.where(lost > 0, bits | 1, bits)).view(np.float64)


# ---- shared micro-exponents ------------------------------------------------------------------------------------


def _micro(fmt: BlockFormat, rows: Array, rules: Rules, tensor: Any) -> Coded:
    """A part of a block is scaled down by one more binade where its exponents all lie below the block's."""
    ((part, _),) = fmt.micro
    steps = steps_of(fmt, BINARY32)
    assert steps is not None
    amax = (rows.view(np.int32) & BINARY32.magnitude_mask).max(axis=1)
    params = step_params(fmt, amax, BINARY32, steps)
    top = params.values.astype(np.float64)
    parts = np.abs(rows).reshape(len(rows), -1, part).max(axis=2)
    shifts = (parts < top[:, None]).astype(np.uint8)
    scale = top[:, None] * np.where(np.repeat(shifts, part, axis=1) == 1, 0.5, 1.0)
    codes = _elements(fmt, rows.astype(np.float64) / scale, rules)
    return Coded(params.codes, codes, micro=(shifts,))


# ---- GGUF ------------------------------------------------------------------------------------------------------


def _q8_0(fmt: BlockFormat, rows: Any, rules: Rules, tensor: Any, fp: Any = NumPyFloats) -> Coded:
    d = fp.largest(abs(rows)) / f32(127)
    y = rows * _reciprocal(d, fp)[:, None]
    # gguf's own steps: half away from zero; where d is zero or so small that 1 / d overflows there is no number.
    whole = fp.floor(abs(y))
    q = fp.integers(whole + fp.floor(f32(2) * (abs(y) - whole)))
    return Coded(fp.half(d), fp.where(fp.negative(y), -q, q) & 0xFF)


def _reciprocal(d: Any, fp: Any) -> Any:
    return fp.where(d == 0, f32(0), f32(1) / d)


def _signed_maximum(fmt: BlockFormat, rows: Any, rules: Rules, tensor: Any, fp: Any = NumPyFloats) -> Coded:
    """Q4_0, Q5_0: the element of largest magnitude becomes the least integer."""
    half = 2 ** (fmt.element.bits - 1)
    d = fp.extreme(rows) / f32(-half)
    y = rows * _reciprocal(d, fp)[:, None] + f32(half + 0.5)
    return Coded(fp.half(d), _truncated(y, 2 * half - 1, fp))


def _minimum(fmt: BlockFormat, rows: Any, rules: Rules, tensor: Any, fp: Any = NumPyFloats) -> Coded:
    """Q4_1, Q5_1: integers from the block's minimum upward."""
    top = 2**fmt.element.bits - 1
    least = fp.least(rows)
    d = (fp.largest(rows) - least) / f32(top)
    y = (rows - least[:, None]) * _reciprocal(d, fp)[:, None] + f32(0.5)
    return Coded(fp.half(d), _truncated(y, top, fp), fp.half(least))


def _truncated(y: Any, top: int, fp: Any) -> Any:
    """Integers 0 … top; 0 for what is no number, as in gguf on x86, where the cast of such is not defined."""
    return fp.integers(fp.clip(fp.where(fp.isfinite(y), y, f32(0)), f32(0), f32(top)))


# ---- Four Over Six ---------------------------------------------------------------------------------------------


def _four_over_six(
    fmt: BlockFormat, rows: Any, rules: Rules, tensor: Any, fp: Any = NumPyFloats, *, scale_max: int, squared: bool
) -> Coded:
    """The block's amax becomes 6 or 4, whichever leaves the smaller error; 6 where they tie."""
    tensor = f32(0) if tensor is None else tensor
    encode_scale = fp.minimum(f32(scale_max * 6) / tensor, FLT_MAX)
    encode_scale = fp.where((tensor == 0) | (encode_scale == 0), f32(1), encode_scale)
    base = fp.largest_number(abs(rows)) / f32(6) * encode_scale
    scales = fp.to_scale(fmt, fp.minimum(fp.pair(base, base * f32(1.5)), f32(448)))  # (2, blocks): 6, and 4
    s = fp.from_scale(fmt, scales)[:, :, None]
    inverse = fp.minimum(f32(1) / (s * (f32(1) / encode_scale)), FLT_MAX)
    codes = fp.elements(fmt, rows[None] * inverse, rules)
    difference = fp.values(fmt, codes) * s * tensor / f32(scale_max * 6) - rows[None]
    error = _summed(difference * difference if squared else abs(difference), fmt.block[-1], fp)
    better = error[1] < error[0]
    return Coded(
        fp.where(better, scales[1], scales[0]), fp.where(better[:, None], codes[1], codes[0]),
        tensor_scale=tensor / f32(scale_max * 6),
    )  # fmt: skip


def _summed(each: Any, length: int, fp: Any) -> Any:
    """Sums of rows, in order, in binary32; of 16 × 16 tiles the sums of lines meet as a tree."""
    sums = fp.total(each.reshape(*each.shape[:2], -1, length))
    while sums.shape[-1] > 1 and sums.shape[-1] % 2 == 0:
        half = sums.shape[-1] // 2
        sums = sums[..., :half] + sums[..., half:]
    return fp.total(sums)


# ---- HiFloat4 --------------------------------------------------------------------------------------------------


def _hif4(fmt: BlockFormat, rows: Any, rules: Rules, tensor: Any, fp: Any = NumPyFloats) -> Coded:
    """A scale of 64 elements from bfloat16 arithmetic, doubled for eights and again for fours that would overflow."""
    magnitude = abs(rows)
    amax = fp.largest(magnitude)
    scale = fp.bfloat16(amax * fp.bfloat16(f32(1) / f32(7)))
    codes = fp.to_scale(fmt, fp.clip(scale, f32(2.0**-48), f32(49152)), Rounding.TIES_TO_EVEN)
    reciprocal = fp.bfloat16(f32(1) / fp.from_scale(fmt, codes))[:, None]
    eights = fp.largest(magnitude.reshape(len(rows), -1, 8))
    fours = fp.largest(magnitude.reshape(len(rows), -1, 4))
    two = fp.where(eights * reciprocal >= f32(4), codes[:, None] * 0 + 1, codes[:, None] * 0)
    by_eight = fp.repeat(two, 2)
    three = fours * reciprocal / fp.numbers(1 + by_eight) >= f32(2)
    three = fp.where(three, codes[:, None] * 0 + 1, codes[:, None] * 0)
    factor = fp.numbers(fp.repeat((1 + by_eight) * (1 + three), 4))
    steps = fp.floor(magnitude / factor * reciprocal * f32(4) + f32(0.5))
    steps = fp.clip(fp.where(steps == steps, steps, f32(0)), f32(0), f32(7))
    sign = fp.where(fp.negative(rows), codes[:, None] * 0 + 8, codes[:, None] * 0)
    finite = fp.isfinite(amax)
    nan = codes.dtype.type(nan_scale(fmt.scale_value_format) or 0)
    elements = fp.where(finite[:, None], fp.integers(steps) | sign, codes[:, None] * 0 + 7)
    return Coded(fp.where(finite, codes, nan), elements, micro=(two, three))


def _suits_affine(fmt: BlockFormat) -> str:
    element = fmt.element
    integers = isinstance(element, FixedFormat) and element.fraction_bits == 0 and not element.sign_magnitude
    return "" if integers and element.bits <= 16 else "it is for integers of at most 16 bits"


def _suits_micro(fmt: BlockFormat) -> str:
    if not (isinstance(fmt.element, FixedFormat) and fmt.element.sign_magnitude):
        return "it is for sign-magnitude integers, as those of mx9"
    if len(fmt.micro) != 1 or fmt.micro[0][1] != 1 or not fmt.elements_per_block:
        return "it takes blocks of a known size and one level of 1-bit shifts, as in micro=2:1"
    return ""


def _suits_four_over_six(fmt: BlockFormat) -> str:
    return "" if fmt.elements_per_block else "its blocks have a known size, such as 16 or 16x16"


def _suits_hif4(fmt: BlockFormat) -> str:
    return "" if (fmt.block, fmt.micro) == ((64,), ((8, 1), (4, 1))) else "it is for blocks of 64 with micro=8:1+4:1"


def _gguf(name: str, function: Any, element: str, **fields: Any) -> ScaleRule:
    return ScaleRule(name, "gguf 0.19.0 quants.py", direct=function, scales=("float16",), elements=(element,), **fields)


def direct_rules() -> list[ScaleRule]:
    """The rules of this module."""
    source = "TransformerEngine quantize_4over6_nvfp4.cuh; Cook et al., Four Over Six, arXiv 2512.02010"
    nvfp4 = ("float8_e4m3fn",), ("float4_e2m1fn",)
    four_over_six = [
        ScaleRule(
            f"4over6{'_mse' * squared}{'_256' * (scale_max == 256)}", source, tensor_scale=True, ignores_nan=True,
            direct=partial(_four_over_six, scale_max=scale_max, squared=squared), scales=nvfp4[0], elements=nvfp4[1],
            suits=_suits_four_over_six,
        )
        for squared in (False, True) for scale_max in (448, 256)
    ]  # fmt: skip
    return [
        ScaleRule(
            "affine", "Jacob et al., arXiv 1712.05877 §2.1", direct=_affine, zero_point="integer",
            scales=("float32",), suits=_suits_affine,
        ),
        ScaleRule("micro", "arXiv 2302.08007", bound_floor, direct=_micro, powers_of_two=True, suits=_suits_micro),
        _gguf("q8_0", _q8_0, "int8", rounding=Rounding.TIES_TO_AWAY),
        _gguf("q4_0", _signed_maximum, str(CodebookFormat(range(-8, 8)))),
        _gguf("q5_0", _signed_maximum, str(CodebookFormat(range(-16, 16)))),
        _gguf("q4_1", _minimum, "uint4", zero_point="minimum"),
        _gguf("q5_1", _minimum, "uint5", zero_point="minimum"),
        *four_over_six,
        ScaleRule(
            "hif4", "HiFloat4/hif4_gpu; CANN opbase hifloat4.h", direct=_hif4, rounding=Rounding.TIES_TO_AWAY,
            micro_up=True, scales=("hif4_scale_e6m2",), elements=("float4_e1m2",), suits=_suits_hif4,
            unverified="the rounding of the scale: to even as in the Python path; the format table says away",
        ),
    ]  # fmt: skip
