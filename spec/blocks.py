"""Block formats, stated slowly: how one block of exact values is encoded and decoded, and an array block by block.

    encode_block(values, spec)  = the code of the scale, the codes of the elements
    decode_block(block, spec)   = the exact product of both (and of what else there is), rounded once to binary32

Values are Fractions and the words of spec.oracle. Everything that other files need is imported from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from spec.binary32 import product, quotient, total
from spec.block_gguf import encode_gguf
from spec.block_rules import EncodedBlock, Rounder, encode_affine, encode_plain
from spec.block_spec import (
    FOUR_OVER_SIX,
    GGUF_RULES,
    RULES,
    Axis,
    BlockSpec,
    blocks_of,
    get_block,
    load_block_formats,
    scales_shape,
    tile_width,
    with_options,
)
from spec.block_vendors import (
    TensorLevel,
    encode_hif4,
    encode_torchao_1level,
    encode_with_tensor,
    tensor_level,
    transformer_engine_decoded,
)
from spec.oracle import Value, encode, from_float32_bits, value

__all__ = [
    "RULES",
    "Axis",
    "BlockSpec",
    "EncodedArray",
    "EncodedBlock",
    "TensorLevel",
    "blocks_of",
    "decode_array",
    "decode_block",
    "encode_array",
    "encode_block",
    "encode_whole",
    "get_block",
    "load_block_formats",
    "scales_shape",
    "tensor_level",
    "with_options",
]


# ---- one block -------------------------------------------------------------------------------------------------


def encode_block(values: Sequence[Value | int], spec: BlockSpec | str, tensor: TensorLevel | None = None,
                 rounding: str | None = None, randoms: Sequence[int] | None = None, n: int | None = None,
                 overflow: str | None = None, width: int | None = None) -> EncodedBlock:
    """The codes of one block. `tensor` is what tensor_level said of the array, `width` the row length of a 2-D tile.

    None stands for the rounding and overflow that the rule names: ties to even, saturating, but for a few.
    """
    spec = get_block(spec) if isinstance(spec, str) else spec
    exact = [Fraction(v) if isinstance(v, int) else v for v in values]
    rounder = _rounder(spec, rounding, overflow, randoms, n)
    if spec.tensor_level:
        level = tensor or tensor_level(exact, spec)
        assert level is not None
        return encode_with_tensor(exact, spec, level, rounder, width or len(exact) or 1)
    if spec.rule in GGUF_RULES:
        return encode_gguf(exact, spec)
    match spec.rule:
        case "affine":
            return encode_affine(exact, spec, rounder)
        case "torchao_1level":
            return encode_torchao_1level(exact, spec, rounder)
        case "hif4":
            return encode_hif4(exact, spec, rounder, own_rounding=rounding is None)
    return encode_plain(exact, spec, rounder)


def _rounder(spec: BlockSpec, rounding: str | None, overflow: str | None, randoms: Sequence[int] | None,
             n: int | None) -> Rounder:
    if spec.rule in GGUF_RULES and (rounding or overflow):
        raise ValueError(f"{spec.name}: how GGUF rounds is part of its rule; given {rounding}, {overflow}")
    if spec.rule in FOUR_OVER_SIX and rounding and rounding.startswith("stochastic"):
        raise ValueError(f"{spec.name}: 4over6 compares errors and has no stochastic rounding")
    if rounding is None:
        rounding = "ties_to_away" if spec.rule == "microxcaling" else "ties_to_even"
    if overflow is None and spec.symmetric:
        overflow = "symmetric"
    if overflow is None:
        overflow = "propagate" if spec.nonfinite == "propagate_elements" else "saturate"
    return Rounder(spec.element, rounding, overflow, randoms, n)


def decode_block(block: EncodedBlock, spec: BlockSpec | str, tensor: TensorLevel | None = None,
                 platform: str | None = None, scale: Value | None = None) -> list[int]:
    """The binary32 codes of the values: the exact product, rounded once, or a platform's own operations.

    `scale` stands in for the value of the block's scale where scales are themselves stored in a block format.
    """
    spec = get_block(spec) if isinstance(spec, str) else spec
    if platform == "transformer_engine" and (spec.rule == "transformer_engine" or spec.rule in FOUR_OVER_SIX):
        if tensor is None:
            raise ValueError("TransformerEngine decodes with the amax of the tensor")
        return [encode(v, "binary32") for v in transformer_engine_decoded(block, spec, tensor)]
    if platform is not None:
        raise ValueError(f"{spec.name} has no decoding of a platform {platform}")
    s = value(block.scale, spec.scale) if scale is None else scale
    steps = [_step(i, code, block, spec) for i, code in enumerate(block.codes)]
    exact = [product(step, s) for step in steps]
    if spec.zero_point == "minimum":
        assert block.zero_point is not None
        exact = [total(v, value(block.zero_point, spec.scale)) for v in exact]
    if spec.tensor_level:
        if tensor is None:
            raise ValueError(f"{spec.name} decodes with a scale of the tensor")
        combine = quotient if spec.rule == "compressed_tensors" else product
        exact = [combine(v, tensor.scale) for v in exact]
    return [encode(v, "binary32", overflow="infinity") for v in exact]


def _step(i: int, code: int, block: EncodedBlock, spec: BlockSpec) -> Value:
    """The value of element i as a multiple of the block's scale."""
    v = value(code, spec.element)
    if spec.zero_point == "integer":
        return total(v, Fraction(-(block.zero_point or 0)))
    if spec.offset:
        return total(v, Fraction(-spec.offset))
    if spec.pair:
        return product(v, Fraction(1, 2 ** block.subscales[i // spec.pair]))
    if spec.rule == "hif4":
        eights = -(-len(block.codes) // 8)
        return product(v, Fraction(2 ** (block.subscales[i // 8] + block.subscales[eights + i // 4])))
    return v


# ---- an array --------------------------------------------------------------------------------------------------


class EncodedArray(NamedTuple):
    """An array block by block: codes in C order of the array, all else in C order of the blocks."""

    codes: list[int]
    scales: list[int]
    tensor: TensorLevel | None
    blocks: list[EncodedBlock]
    scale_array: EncodedArray | None = None  # the scales in a block format of their own, and `scales` as it decodes


def encode_whole(values: Sequence[Value | int], shape: Sequence[int], spec: BlockSpec | str, axis: Axis = None,
                 rounding: str | None = None, randoms: Sequence[int] | None = None, n: int | None = None,
                 overflow: str | None = None) -> EncodedArray:
    """An array given in C order, block by block; `randoms` in C order too."""
    spec = get_block(spec) if isinstance(spec, str) else spec
    exact = [Fraction(v) if isinstance(v, int) else v for v in values]
    tensor = tensor_level(exact, spec)
    codes, blocks = [0] * len(exact), []
    for indices in blocks_of(shape, spec, axis):
        drawn = None if randoms is None else [randoms[i] for i in indices]
        width = tile_width(shape, spec, axis, indices)
        block = encode_block([exact[i] for i in indices], spec, tensor, rounding, drawn, n, overflow, width)
        blocks.append(block)
        for i, code in zip(indices, block.codes, strict=True):
            codes[i] = code
    scales = [block.scale for block in blocks]
    if spec.double is None:
        return EncodedArray(codes, scales, tensor, blocks)
    scale_array = encode_whole([value(scale, spec.scale) for scale in scales], (len(scales),), spec.double)
    decoded = decode_array(scale_array, (len(scales),), spec.double)
    return EncodedArray(codes, decoded, tensor, blocks, scale_array)


def encode_array(values: Sequence[Value | int], shape: Sequence[int], spec: BlockSpec | str, axis: Axis = None,
                 rounding: str | None = None, randoms: Sequence[int] | None = None,
                 n: int | None = None) -> tuple[list[int], list[int], TensorLevel | None]:
    """The codes and scales of encode_whole, and the tensor level."""
    return encode_whole(values, shape, spec, axis, rounding, randoms, n)[:3]


def decode_array(array: EncodedArray, shape: Sequence[int], spec: BlockSpec | str, axis: Axis = None,
                 platform: str | None = None) -> list[int]:
    """The binary32 codes of the array's values, in C order."""
    spec = get_block(spec) if isinstance(spec, str) else spec
    result = [0] * len(array.codes)
    for indices, block, scale in zip(blocks_of(shape, spec, axis), array.blocks, array.scales, strict=True):
        stored = from_float32_bits(scale) if spec.double else None
        decoded = decode_block(block, spec, array.tensor, platform, stored)
        for i, code in zip(indices, decoded, strict=True):
            result[i] = code
    return result
