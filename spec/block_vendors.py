"""Scale rules with a tensor level, or with a vendor's own order of operations: the NVFP4 family, 4over6, HiF4.

Every operation named multiply, divide, add or subtract is rounded to binary32; operands are rounded to it first.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import floor
from typing import NamedTuple

from spec.binary32 import (
    FLT_MAX,
    add,
    at_least,
    at_most,
    divide,
    is_infinite,
    is_less,
    is_nan,
    is_negative,
    magnitude,
    minimum,
    multiply,
    nearest,
    subtract,
)
from spec.block_rules import ZERO, EncodedBlock, Rounder, block_amax, largest, largest_of
from spec.block_spec import FOUR_OVER_SIX, BlockSpec
from spec.oracle import Value, encode, power_of_two, value


class TensorLevel(NamedTuple):
    """What every block of a tensor needs to know."""

    amax: Value  # of the whole tensor, a binary32
    scale: Value  # what is kept beside the blocks, a binary32

    @property
    def amax_code(self) -> int:
        return encode(self.amax, "binary32")

    @property
    def scale_code(self) -> int:
        return encode(self.scale, "binary32")


def bound(spec: BlockSpec) -> Fraction:
    """The largest block scale times the largest element: 448 * 6 in NVFP4, 256 * 6 in some variants of 4over6."""
    return (Fraction(256) if spec.rule.endswith("_256") else largest(spec.scale)) * largest(spec.element)


def tensor_level(values: Sequence[Value], spec: BlockSpec) -> TensorLevel | None:
    """The amax of the tensor and the scale that is kept beside its blocks; None where the format has no such level."""
    if not spec.tensor_level:
        return None
    if spec.rule == "transformer_engine" or spec.rule in FOUR_OVER_SIX:
        amax = _amax_of_numbers(values)
        return TensorLevel(amax, divide(amax, bound(spec)))
    amax = largest_of([magnitude(nearest(v)) for v in values])
    if spec.rule == "compressed_tensors":  # the global scale divides; amax is at least the smallest normal binary32
        scale = divide(bound(spec), at_least(amax, power_of_two(-126)))
        return TensorLevel(amax, Fraction(1) if is_nan(scale) or is_infinite(scale) else scale)
    return TensorLevel(amax, divide(amax, bound(spec)))  # torchao, ModelOpt


def _amax_of_numbers(values: Sequence[Value]) -> Value:
    return largest_of([magnitude(nearest(v)) for v in values if not is_nan(v)])


def encode_with_tensor(values: Sequence[Value], spec: BlockSpec, tensor: TensorLevel, rounder: Rounder,
                       width: int) -> EncodedBlock:
    """A block of a format with a tensor level, by its rule."""
    operands = [nearest(v) for v in values]
    match spec.rule:
        case "transformer_engine":
            return _transformer_engine(operands, spec, tensor, rounder)
        case "torchao":
            return _torchao(operands, spec, tensor, rounder)
        case "modelopt":
            return _modelopt(operands, spec, tensor, rounder)
        case "compressed_tensors":
            return _compressed_tensors(operands, spec, tensor, rounder)
    return _four_over_six(operands, spec, tensor, rounder, width)


# ---- TransformerEngine (core_nvfp4.cuh, quantize_transpose_nvfp4.cuh) --------------------------------------------


def encode_scale(tensor: TensorLevel, spec: BlockSpec) -> Value:
    """S_enc: bound / amax, at most the largest binary32; 1 where amax is zero or infinite."""
    scale = minimum(divide(bound(spec), tensor.amax), FLT_MAX)
    return Fraction(1) if tensor.amax == 0 or scale == 0 else scale


def _inverse(s: Value, scale: Value) -> Value:
    """What elements are multiplied by: 1 / (block scale * S_dec), at most the largest binary32."""
    return minimum(divide(Fraction(1), multiply(s, divide(Fraction(1), scale))), FLT_MAX)


def _transformer_engine(values: Sequence[Value], spec: BlockSpec, tensor: TensorLevel,
                        rounder: Rounder) -> EncodedBlock:
    scale = encode_scale(tensor, spec)
    sixth = nearest(1 / largest(spec.element))
    target = minimum(multiply(_amax_of_numbers(values), multiply(scale, sixth)), FLT_MAX)
    code = encode(target, spec.scale, overflow="saturate")
    inverse = _inverse(value(code, spec.scale), scale)
    return EncodedBlock(code, rounder.codes([multiply(x, inverse) for x in values]))


def transformer_engine_decoded(block: EncodedBlock, spec: BlockSpec, tensor: TensorLevel) -> list[Value]:
    """dequantize_nvfp4.cuh: the scale of the block first, three products in binary32."""
    factor = multiply(multiply(value(block.scale, spec.scale), tensor.amax), nearest(1 / bound(spec)))
    return [multiply(value(code, spec.element), factor) for code in block.codes]


# ---- 4over6 (TransformerEngine quantize_4over6_nvfp4.cuh, arXiv 2512.02010) ----------------------------------------


def _four_over_six(values: Sequence[Value], spec: BlockSpec, tensor: TensorLevel, rounder: Rounder,
                   width: int) -> EncodedBlock:
    """Map the block maximum to 6, or to 4 under a scale 1.5 times as large: whichever errs less; 6 where both do."""
    scale = encode_scale(tensor, spec)
    base = multiply(divide(_amax_of_numbers(values), largest(spec.element)), scale)
    six, four = (_candidate(values, target, spec, scale, rounder) for target in (base, multiply(base, Fraction(3, 2))))
    errors = [_block_error(values, block, spec, tensor, width) for block in (six, four)]
    return four if is_less(errors[1], errors[0]) else six


def _candidate(values: Sequence[Value], target: Value, spec: BlockSpec, scale: Value,
               rounder: Rounder) -> EncodedBlock:
    code = encode(target, spec.scale, overflow="saturate")
    inverse = _inverse(value(code, spec.scale), scale)
    return EncodedBlock(code, rounder.codes([multiply(x, inverse) for x in values]))


def _block_error(values: Sequence[Value], block: EncodedBlock, spec: BlockSpec, tensor: TensorLevel,
                 width: int) -> Value:
    """The errors of each row added from left to right; the rows of a tile of 16 as a tree of distances 8, 4, 2, 1."""
    s = value(block.scale, spec.scale)
    rows: list[Value] = []
    for i, (x, code) in enumerate(zip(values, block.codes, strict=True)):
        decoded = divide(multiply(multiply(value(code, spec.element), s), tensor.amax), bound(spec))
        error = magnitude(subtract(decoded, x))
        if "mse" in spec.rule:
            error = multiply(error, error)
        if i % width == 0:
            rows.append(ZERO)
        rows[-1] = add(rows[-1], error)
    height = spec.size[0] if isinstance(spec.size, tuple) and len(spec.size) == 2 else 1
    rows += [ZERO] * (height - len(rows))
    while len(rows) > 1:
        half = len(rows) // 2
        rows = [add(rows[i], rows[i + half]) for i in range(half)] + rows[2 * half :]
    return rows[0] if rows else ZERO


# ---- torchao (nvfp4_tensor.py), ModelOpt (nvfp4_tensor.py), compressed-tensors (helpers.py) ------------------------


def _torchao(values: Sequence[Value], spec: BlockSpec, tensor: TensorLevel, rounder: Rounder) -> EncodedBlock:
    target = divide(divide(largest_of([magnitude(v) for v in values]), largest(spec.element)), tensor.scale)
    code = _torchao_code(target, spec)
    inverse = divide(divide(Fraction(1), tensor.scale), value(code, spec.scale))
    return EncodedBlock(code, rounder.codes([multiply(x, inverse) for x in values]))


def encode_torchao_1level(values: Sequence[Value], spec: BlockSpec, rounder: Rounder) -> EncodedBlock:
    operands = [nearest(v) for v in values]
    target = divide(largest_of([magnitude(v) for v in operands]), largest(spec.element))
    code = _torchao_code(target, spec)
    inverse = divide(Fraction(1), value(code, spec.scale))
    return EncodedBlock(code, rounder.codes([multiply(x, inverse) for x in operands]))


def _torchao_code(target: Value, spec: BlockSpec) -> int:
    """Between 2^-6, the smallest normal E4M3, and 448."""
    return encode(at_most(at_least(target, spec.scale.min_normal), largest(spec.scale)), spec.scale)


def _modelopt(values: Sequence[Value], spec: BlockSpec, tensor: TensorLevel, rounder: Rounder) -> EncodedBlock:
    """A scale of zero, before it is rounded, becomes 1; the others are clamped to E4M3's positive range."""
    target = divide(largest_of([magnitude(v) for v in values]), multiply(largest(spec.element), tensor.scale))
    clamped = at_most(at_least(Fraction(1) if target == 0 else target, Fraction(1, 2**9)), largest(spec.scale))
    code = encode(clamped, spec.scale, overflow="saturate")
    divisor = multiply(value(code, spec.scale), tensor.scale)
    return EncodedBlock(code, rounder.codes([divide(x, divisor) for x in values]))


def _compressed_tensors(values: Sequence[Value], spec: BlockSpec, tensor: TensorLevel,
                        rounder: Rounder) -> EncodedBlock:
    """The effective scale is the block scale divided by the global one. A scale that rounds to zero becomes 1/8."""
    target = multiply(tensor.scale, divide(largest_of([magnitude(v) for v in values]), largest(spec.element)))
    code = encode(target, spec.scale, overflow="saturate")
    if value(code, spec.scale) == 0:
        code = encode(Fraction(1, 8), spec.scale)
    divisor = divide(value(code, spec.scale), tensor.scale)
    return EncodedBlock(code, rounder.codes([divide(x, divisor) for x in values]))


# ---- HiF4 (hif4_gpu hifx.py, the Python path) ----------------------------------------------------------------------


def encode_hif4(values: Sequence[Value], spec: BlockSpec, rounder: Rounder, own_rounding: bool) -> EncodedBlock:
    """One E6M2 scale per 64 elements, one bit per 8, one per 4. Subscales: the bits of the eights, then the fours."""
    operands = [nearest(v) for v in values]
    amax = block_amax(operands, spec)
    seventh = nearest(Fraction(1, 7), "bfloat16")
    eights = [operands[i : i + 8] for i in range(0, len(operands), 8)]
    fours = [operands[i : i + 4] for i in range(0, len(operands), 4)]
    if is_nan(amax) or (is_infinite(amax) and spec.nonfinite != "saturate_inf"):
        bits = (0,) * (len(eights) + len(fours))
        return EncodedBlock(encode("nan", spec.scale), rounder.all("nan", len(values)), subscales=bits)
    target = nearest(multiply(amax, seventh), "bfloat16")
    code = encode(target, spec.scale, "ties_to_even", "saturate")
    inverse = nearest(divide(Fraction(1), value(code, spec.scale)), "bfloat16")
    level2 = [int(not is_less(multiply(_finite_amax(part), inverse), Fraction(4))) for part in eights]
    level3 = []
    for i, part in enumerate(fours):
        share = divide(multiply(_finite_amax(part), inverse), Fraction(2 ** level2[i // 2]))
        level3.append(int(not is_less(share, Fraction(2))))
    targets = []
    for i, x in enumerate(operands):
        unit = divide(divide(x, Fraction(2 ** level2[i // 8])), Fraction(2 ** level3[i // 4]))
        targets.append(_half_up(multiply(unit, inverse)) if own_rounding else multiply(unit, inverse))
    return EncodedBlock(code, rounder.codes(targets), subscales=(*level2, *level3))


def _finite_amax(values: Sequence[Value]) -> Value:
    """Infinity counts: it sets the bits of its eight and of its four; NaN does not."""
    return largest_of([magnitude(v) for v in values if not is_nan(v)])


def _half_up(x: Value) -> Value:
    """The magnitude to quarters, as floor(4 |x| + 0.5) / 4 with a sum in binary32."""
    size = magnitude(x)
    if not isinstance(size, Fraction):
        return x
    steps = add(4 * size, Fraction(1, 2))
    rounded = Fraction(floor(steps), 4) if isinstance(steps, Fraction) else size
    if rounded == 0:
        return "-0" if is_negative(x) else ZERO
    return -rounded if is_negative(x) else rounded
