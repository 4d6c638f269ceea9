"""How published checkpoints lay out quantized tensors in safetensors files.

    gpt-oss             X_blocks uint8 [..., G, 16], X_scales uint8 [..., G]                      MXFP4
    compressed-tensors  X_packed uint8, X_scale (E4M3, or E8M0 as uint8), X_global_scale F32      NVFP4, MXFP4, MXFP6
                        X F8_E4M3, X_scale uint8                                                  MXFP8
    modelopt            X uint8, X_scale F8_E4M3, X_scale_2 F32                                   NVFP4

Two 4-bit codes share a byte, the one with the even index low; 6-bit codes are a little-endian stream.
`values` of a layout are those that its own loader gives, in its order of binary32 operations, which IEEE
754 defines to the bit.

References: transformers 5.23.0 integrations/mxfp4.py; compressed-tensors 0.20.0 compressors/;
TensorRT-Model-Optimizer quantization/qtensor/nvfp4_tensor.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from math import prod
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from .arrays import decode
from .block_arrays import BlockArray
from .block_layout import Axis, layout_of
from .blocks import BlockFormat
from .checkpoint_layouts import AnyFormat, Layout, Quantized, Stored, pack_codes, unpack_codes
from .formats import Format
from .named_blocks import get_format
from .safetensors_files import SafetensorsFile
from .tensor_files import Spec

Array = npt.NDArray[Any]
f32 = np.float32
BF16 = np.dtype(ml_dtypes.bfloat16)
BLOCKS = 1 << 15  # that are decoded at a time


# gpt-oss


class GptOss(Layout):
    """MXFP4 as gpt-oss has it: sixteen bytes a block, and E8M0 bytes.

    `values` are bfloat16, as of transformers (which then swaps the last two axes), exact but for the
    overflow to Inf; a scale byte of 255 counts as 2**128, not as NaN.
    """

    name = "gpt-oss"

    def check(self, fmt: AnyFormat, axis: Axis, shape: tuple[int, ...] | None) -> None:
        """Raise ValueError unless it is MXFP4 in whole blocks along the last axis."""
        _check(self.name, fmt, axis, shape, {"e2m1/e8m0/32": "mxfp4"})

    def specs(self, name: str, fmt: AnyFormat, axis: Axis, shape: tuple[int, ...]) -> dict[str, Spec]:
        """X_blocks and X_scales."""
        rows = (*shape[:-1], shape[-1] // 32)
        return {"blocks": Spec(f"{name}_blocks", "U8", (*rows, 16)), "scales": Spec(f"{name}_scales", "U8", rows)}

    def arrays(self, q: Quantized, fmt: AnyFormat) -> dict[str, Array]:
        """Packed codes and the scales' codes."""
        assert isinstance(q, BlockArray)
        return {"blocks": pack_codes(q.codes, 4), "scales": q.scales}

    def find(self, file: SafetensorsFile) -> Iterator[Stored]:
        """X_blocks with X_scales, or X.blocks with X.scales, as OpenAI published them first."""
        for name, info in file.infos.items():
            base, end = name[:-7], name[-7:]
            scales = file.infos.get(f"{base}{end[:1]}scales")
            if end not in ("_blocks", ".blocks") or scales is None or not base:
                continue
            if info.dtype == scales.dtype == "U8" and info.shape == (*scales.shape, 16) and scales.shape:
                shape = (*scales.shape[:-1], scales.shape[-1] * 32)
                parts = {"blocks": name, "scales": scales.name}
                yield Stored(base, self.name, get_format("mxfp4"), shape, len(shape) - 1, parts)

    def values(self, file: SafetensorsFile, stored: Stored, dtype: np.dtype[Any] | None) -> Array:
        """code × 2**(scale - 127): exact, but for overflow."""
        q = self.blocks(file, stored)
        return by_table(q.codes, q.scales, ldexp_table(q.format.element, BF16 if dtype is None else dtype))

    def blocks(self, file: SafetensorsFile, stored: Stored) -> BlockArray:
        """Codes and scales."""
        codes = unpack_codes(file.raw(stored.parts["blocks"]), 4, prod(stored.shape)).reshape(stored.shape)
        return _block_array(stored, codes, file.tensor(stored.parts["scales"]))


# compressed-tensors

_MX_OF_BITS = {4: "mxfp4", 6: "mxfp6_e2m3", 8: "mxfp8_e4m3"}


class CompressedTensors(Layout):
    """nvfp4-pack-quantized, mxfp4-pack-quantized, mxfp6-pack-quantized and mxfp8-quantized.

    `values` are bfloat16. MX: the product of a bfloat16 code and a bfloat16 power of two (byte 255: Inf,
    so that 0 becomes NaN). NVFP4: code × (scale / global scale), both operations in binary32.
    """

    name = "compressed-tensors"

    def check(self, fmt: AnyFormat, axis: Axis, shape: tuple[int, ...] | None) -> None:
        """Raise ValueError unless it is NVFP4, MXFP4, MXFP6 E2M3 or MXFP8 E4M3 in whole blocks along the last axis."""
        known = {
            "e2m1/e4m3fn/16/tensor": "nvfp4",
            "e2m1/e8m0/32": "mxfp4",
            "e2m3/e8m0/32": "mxfp6",
            "e4m3fn/e8m0/32": "mxfp8",
        }
        _check(self.name, fmt, axis, shape, known)

    def specs(self, name: str, fmt: AnyFormat, axis: Axis, shape: tuple[int, ...]) -> dict[str, Spec]:
        """X_packed (or X), X_scale, X_global_scale."""
        assert isinstance(fmt, BlockFormat)
        scales = (*shape[:-1], shape[-1] // fmt.block[0])
        made = {"scales": Spec(f"{name}_scale", "F8_E4M3" if fmt.has_tensor_scale else "U8", scales)}
        if fmt.element.bits == 8:
            return made | {"codes": Spec(name, "F8_E4M3", shape)}
        made["codes"] = Spec(f"{name}_packed", "U8", (*shape[:-1], shape[-1] * fmt.element.bits // 8))
        if fmt.has_tensor_scale:
            made["global"] = Spec(f"{name}_global_scale", "F32", (1,))
        return made

    def arrays(self, q: Quantized, fmt: AnyFormat) -> dict[str, Array]:
        """Packed codes, the scales' codes, and 2688 / amax."""
        assert isinstance(q, BlockArray)
        made = {"codes": pack_codes(q.codes, q.format.element.bits), "scales": q.scales}
        if q.tensor_scale is not None:
            made["global"] = np.atleast_1d(_divisor(q))
        return made

    def find(self, file: SafetensorsFile) -> Iterator[Stored]:
        """X_packed with X_scale, and F8_E4M3 tensors X with a uint8 X_scale."""
        for name, info in file.infos.items():
            base = name.removesuffix("_packed")
            scale = file.infos.get(f"{base}_scale")
            if scale is None or not info.shape or not scale.shape or info.shape[:-1] != scale.shape[:-1]:
                continue
            groups, size = scale.shape[-1], info.shape[-1]
            parts = {"codes": name, "scales": scale.name}
            shape: tuple[int, ...] = (*info.shape[:-1], groups * 32)
            if base != name and (info.dtype, scale.dtype) == ("U8", "F8_E4M3") and size == groups * 8:
                fmt = "nvfp4_compressed_tensors"
                shape = (*info.shape[:-1], groups * 16)
                if f"{base}_global_scale" in file.infos:
                    parts["global"] = f"{base}_global_scale"
            elif base != name and info.dtype == scale.dtype == "U8" and size in (groups * 16, groups * 24):
                fmt = _MX_OF_BITS[size // (groups * 4)] if groups else "mxfp4"
            elif base == name and (info.dtype, scale.dtype) == ("F8_E4M3", "U8") and size == groups * 32:
                fmt = "mxfp8_e4m3"
            else:
                continue
            yield Stored(base, self.name, get_format(fmt), shape, len(shape) - 1, parts)

    def values(self, file: SafetensorsFile, stored: Stored, dtype: np.dtype[Any] | None) -> Array:
        """In the order of NVFP4PackedCompressor.decompress and of its heirs."""
        q = self.blocks(file, stored)
        dtype = BF16 if dtype is None else dtype
        if not q.format.has_tensor_scale:
            return by_table(q.codes, q.scales, product_table(q.format.element, dtype))
        scale = q.scales.view(ml_dtypes.float8_e4m3fn).astype(f32)
        if "global" in stored.parts:
            with np.errstate(all="ignore"):
                scale = scale / _one_float(file, stored.parts["global"])
        return _by_factor(q.codes, scale, dtype)

    def blocks(self, file: SafetensorsFile, stored: Stored) -> BlockArray:
        """Codes and scales; the tensor scale is the global scale, which divides."""
        assert isinstance(stored.format, BlockFormat)
        bits = stored.format.element.bits
        codes = unpack_codes(file.raw(stored.parts["codes"]), bits, prod(stored.shape)).reshape(stored.shape)
        scales = file.raw(stored.parts["scales"]).reshape(file.info(stored.parts["scales"]).shape)
        if not stored.format.has_tensor_scale:
            return _block_array(stored, codes, scales)
        by = _one_float(file, stored.parts["global"]) if "global" in stored.parts else f32(1)
        with np.errstate(all="ignore"):
            return _block_array(stored, codes, scales, by, f32(2688) / by)


def _divisor(q: BlockArray) -> np.float32:
    """2688 / amax: what compressed-tensors divides by; 1 for a tensor of zeros."""
    assert q.tensor_scale is not None
    if q.format.scale_rule.tensor_divides:
        return q.tensor_scale
    with np.errstate(all="ignore"):
        by = f32(1) / q.tensor_scale if q.tensor_amax is None else f32(2688) / q.tensor_amax
    return by if np.isfinite(by) else f32(1)


# ModelOpt


class ModelOpt(Layout):
    """NVFP4 as NVIDIA ModelOpt exports it.

    `values` are float32 unless another dtype is asked for (its loader takes the model's): code × (scale ×
    scale_2), both operations in binary32.
    """

    name = "modelopt"

    def check(self, fmt: AnyFormat, axis: Axis, shape: tuple[int, ...] | None) -> None:
        """Raise ValueError unless it is NVFP4 in whole blocks along the last axis."""
        _check(self.name, fmt, axis, shape, {"e2m1/e4m3fn/16/tensor": "nvfp4"})

    def specs(self, name: str, fmt: AnyFormat, axis: Axis, shape: tuple[int, ...]) -> dict[str, Spec]:
        """X, X_scale, X_scale_2."""
        rows = shape[:-1]
        return {
            "codes": Spec(name, "U8", (*rows, shape[-1] // 2)),
            "scales": Spec(f"{name}_scale", "F8_E4M3", (*rows, shape[-1] // 16)),
            "scale_2": Spec(f"{name}_scale_2", "F32", ()),
        }

    def arrays(self, q: Quantized, fmt: AnyFormat) -> dict[str, Array]:
        """Packed codes, the scales' codes, and what they are multiplied by."""
        assert isinstance(q, BlockArray)
        assert q.tensor_scale is not None
        second = f32(1) / q.tensor_scale if q.format.scale_rule.tensor_divides else q.tensor_scale
        return {"codes": pack_codes(q.codes, 4), "scales": q.scales, "scale_2": np.asarray(second)}

    def find(self, file: SafetensorsFile) -> Iterator[Stored]:
        """uint8 tensors X with X_scale and X_scale_2."""
        for name, info in file.infos.items():
            scale, second = file.infos.get(f"{name}_scale"), file.infos.get(f"{name}_scale_2")
            if scale is None or second is None or not info.shape or not scale.shape:
                continue
            whole = info.shape == (*scale.shape[:-1], scale.shape[-1] * 8)
            if whole and (info.dtype, scale.dtype, second.dtype) == ("U8", "F8_E4M3", "F32"):
                shape = (*scale.shape[:-1], scale.shape[-1] * 16)
                parts = {"codes": name, "scales": scale.name, "scale_2": second.name}
                yield Stored(name, self.name, get_format("nvfp4_modelopt"), shape, len(shape) - 1, parts)

    def values(self, file: SafetensorsFile, stored: Stored, dtype: np.dtype[Any] | None) -> Array:
        """In the order of NVFP4QTensor.dequantize."""
        q = self.blocks(file, stored)
        with np.errstate(all="ignore"):
            scale = q.scales.view(ml_dtypes.float8_e4m3fn).astype(f32) * q.tensor_scale
        return _by_factor(q.codes, scale, np.dtype(f32) if dtype is None else dtype)

    def blocks(self, file: SafetensorsFile, stored: Stored) -> BlockArray:
        """Codes and scales."""
        codes = unpack_codes(file.raw(stored.parts["codes"]), 4, prod(stored.shape)).reshape(stored.shape)
        scales = file.raw(stored.parts["scales"]).reshape(file.info(stored.parts["scales"]).shape)
        scale = _one_float(file, stored.parts["scale_2"])
        with np.errstate(over="ignore"):
            return _block_array(stored, codes, scales, scale, scale * f32(2688))


# What the published layouts share


def _check(layout: str, fmt: AnyFormat, axis: Axis, shape: tuple[int, ...] | None, known: Mapping[str, str]) -> None:
    kinds = " and ".join([", ".join(list(known.values())[:-1])] * (len(known) > 1) + [list(known.values())[-1]])
    if _kind(fmt) not in known:
        raise ValueError(f"layout {layout} holds {kinds}, not {fmt}; layouts numfmt and dequantized hold any format")
    assert isinstance(fmt, BlockFormat)
    if shape is None:
        if axis not in (-1, None) and not (isinstance(axis, int) and axis > 0):
            raise ValueError(f"axis {axis} is given; layout {layout} has blocks along the last axis, -1")
        return
    if layout_of(shape, fmt, axis).axis != len(shape) - 1:
        raise ValueError(f"axis {axis} of shape {list(shape)} is given; layout {layout} has blocks along the last axis")
    if shape[-1] % fmt.block[0]:
        raise ValueError(f"its last axis has {shape[-1]} elements; layout {layout} takes multiples of {fmt.block[0]}")


def _kind(fmt: AnyFormat) -> str:
    """Element, scale and block of a format along one axis: what decides how it is stored."""
    if not isinstance(fmt, BlockFormat) or fmt.flat or fmt.micro or len(fmt.block) != 1 or fmt.scale_rule.zero_point:
        return ""
    short = {"float4_e2m1fn": "e2m1", "float6_e2m3fn": "e2m3", "float8_e4m3fn": "e4m3fn", "float8_e8m0fnu": "e8m0"}
    element, scale = (short.get(str(f), "") for f in (fmt.element, fmt.scale))
    return f"{element}/{scale}/{fmt.block[0]}" + "/tensor" * fmt.has_tensor_scale


def _block_array(stored: Stored, codes: Array, scales: Array, *tensor: np.float32) -> BlockArray:
    """Codes and scales of a stored tensor, with its tensor scale and amax where it has them."""
    assert isinstance(stored.format, BlockFormat)
    scale, amax = tensor or (None, None)
    return BlockArray(codes, scales, scale, stored.format, stored.axis, stored.shape, amax)


def _one_float(file: SafetensorsFile, name: str) -> np.float32:
    found = file.tensor(name)
    if found.dtype != f32 or found.size != 1:
        raise file.error(name, f"is {file.info(name).dtype} of shape {list(found.shape)}; one F32 is needed")
    return f32(found.reshape(-1)[0])


def _by_factor(codes: Array, factors: Array, dtype: np.dtype[Any]) -> Array:
    """E2M1 codes times float32 factors, one for each block of the last axis; then rounded to `dtype`."""
    blocks = np.asarray(decode(np.arange(16), "e2m1")).take(codes.reshape(*factors.shape, -1))
    with np.errstate(all="ignore"):
        np.multiply(blocks, factors[..., None], out=blocks)
        return blocks.reshape(codes.shape).astype(dtype, copy=False)


def by_table(codes: Array, scales: Array, table: Array) -> Array:
    """Values of codes from a table of every scale byte (rows) and code; each scale serves as many codes as it can."""
    values = np.empty(codes.shape, table.dtype)
    if not codes.size:
        return values
    rows, blocks, out = (array.reshape(scales.size, -1) for array in (codes, scales, values))
    for start in range(0, scales.size, BLOCKS):
        part = slice(start, start + BLOCKS)
        index = rows[part] + blocks[part] * np.uint32(table.shape[1])
        out[part] = table.reshape(-1).take(index)
    return values


@lru_cache(maxsize=16)
def ldexp_table(element: Format, dtype: np.dtype[Any]) -> Array:
    """ldexp(code, byte - 127), every byte a power of two: 256 × codes."""
    codes = np.asarray(decode(np.arange(2**element.bits), element, dtype=np.float64))
    with np.errstate(over="ignore"):
        return np.ldexp(codes, np.arange(256)[:, None] - 127).astype(f32).astype(dtype)


@lru_cache(maxsize=16)
def product_table(element: Format, dtype: np.dtype[Any]) -> Array:
    """code × 2**(byte - 127) in binary32, the power of two infinite for byte 255: 256 × codes."""
    codes = np.asarray(decode(np.arange(2**element.bits), element, dtype=f32))
    with np.errstate(all="ignore"):
        powers = np.ldexp(1.0, np.arange(256) - 127).astype(f32)
        return (codes * powers[:, None]).astype(dtype)


PUBLISHED: tuple[Layout, ...] = (GptOss(), CompressedTensors(), ModelOpt())
