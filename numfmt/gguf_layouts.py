"""GGUF tensors as quantized arrays: which type holds which format, and the values that ggml gives them.

References: ggml src/ggml-quants.c; gguf 0.19.0 quants.py, whose order of binary32 operations `values` has.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from .arrays import decode
from .block_arrays import BlockArray
from .block_layout import Axis, layout_of
from .blocks import BlockFormat
from .checkpoint_layouts import AnyFormat, Quantized, Stored
from .formats import Format
from .gguf_blocks import Blocks, pack_gguf, unpack_gguf
from .gguf_files import TYPES, GgufFile
from .named_blocks import get_format
from .published_layouts import by_table, ldexp_table
from .tensor_files import Spec

Array = npt.NDArray[Any]
f32 = np.float32

PLAIN = {
    "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(ml_dtypes.bfloat16), "F64": np.dtype("<f8"),
    "I8": np.dtype("i1"), "I16": np.dtype("<i2"), "I32": np.dtype("<i4"), "I64": np.dtype("<i8"),
}  # fmt: skip
FORMATS = {"q8_0": "Q8_0", "q4_0": "Q4_0", "q4_1": "Q4_1", "q5_0": "Q5_0", "q5_1": "Q5_1", "mxfp4": "MXFP4"}
_BY_TYPE = {kind: name for name, kind in FORMATS.items()} | {"NVFP4": "block(e2m1, scale=ue4m3, size=16)"}
_ALONG_ROWS = ("MXFP4", "NVFP4")  # types whose formats have blocks along the last axis; the others' are flat
_SCALARS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64"}


class Gguf:
    """Quantized tensors in GGUF files."""

    name = "gguf"

    def type_of(self, fmt: AnyFormat) -> str | None:
        """The tensor type for a format."""
        if not isinstance(fmt, BlockFormat):
            return _SCALARS.get(str(fmt))
        mxfp4 = get_format("mxfp4")
        assert isinstance(mxfp4, BlockFormat)
        alike = (fmt.element, fmt.scale, fmt.block, fmt.flat, fmt.micro)
        if alike == (mxfp4.element, mxfp4.scale, mxfp4.block, mxfp4.flat, mxfp4.micro):
            return "MXFP4"
        return FORMATS.get(str(fmt))

    def check(self, fmt: AnyFormat, axis: Axis, shape: tuple[int, ...] | None) -> None:
        """Raise ValueError where GGUF has no type for a format, or a tensor is no whole number of blocks."""
        found = self.type_of(fmt)
        if found is None:
            known = ", ".join([*FORMATS, *_SCALARS])
            raise ValueError(f"layout gguf holds {known}, not {fmt}; layouts numfmt and dequantized hold any format")
        if not isinstance(fmt, BlockFormat):
            return
        if shape is None:
            if axis not in (-1, None) and not (isinstance(axis, int) and axis > 0):
                raise ValueError(f"axis {axis} is given; layout gguf has blocks along the last axis, -1")
            return
        if not fmt.flat and layout_of(shape, fmt, axis).axis != len(shape) - 1:
            raise ValueError(f"axis {axis} of shape {list(shape)} is given; layout gguf has blocks along the last axis")
        if not shape or shape[-1] % TYPES[found].elements:
            size = shape[-1] if shape else 1
            raise ValueError(f"its last axis has {size} elements; {found} takes multiples of {TYPES[found].elements}")

    def specs(self, name: str, fmt: AnyFormat, axis: Axis, shape: tuple[int, ...]) -> dict[str, Spec]:
        """The tensor itself."""
        found = self.type_of(fmt)
        assert found is not None
        return {"data": Spec(name, found, shape)}

    def arrays(self, q: Quantized, fmt: AnyFormat) -> dict[str, Array]:
        """Its blocks, as bytes."""
        if not isinstance(q, BlockArray):
            return {"data": q}
        kind = self.type_of(fmt)
        assert kind is not None
        return {"data": pack_gguf(q.codes, q.scales.reshape(-1), kind, minimums=_flat(q.zero_points))}

    def find(self, file: GgufFile) -> list[Stored]:
        """Every tensor; where numfmt does not decode its type, reading its values says so."""
        made = []
        for name, info in file.infos.items():
            fmt = get_format(_BY_TYPE[info.dtype]) if info.dtype in _BY_TYPE else None
            axis = len(info.shape) - 1 if info.dtype in _ALONG_ROWS else None
            layout = "plain" if info.dtype in PLAIN else self.name
            made.append(Stored(name, layout, fmt, info.shape, axis, {"data": name}))
        return made

    def values(self, file: GgufFile, stored: Stored, dtype: np.dtype[Any] | None) -> Array:
        """float32, as gguf.quants.dequantize gives them, or those rounded to `dtype`."""
        kind = file.info(stored.name).dtype
        if kind in PLAIN:
            data = file.raw(stored.name)
            aligned = data if data.ctypes.data % PLAIN[kind].itemsize == 0 else data.copy()
            values = aligned.view(PLAIN[kind]).reshape(stored.shape)
            return values if dtype is None else values.astype(dtype, copy=False)
        wanted = np.dtype(f32 if dtype is None else dtype)
        found = self._blocks(file, stored)
        if kind in _ALONG_ROWS:
            return by_table(found.codes, found.scales, (mxfp4_table if kind == "MXFP4" else nvfp4_table)(wanted))
        result = np.asarray(decode(found.codes, _format(stored).element, dtype=f32)).reshape(*found.scales.shape, 32)
        with np.errstate(all="ignore"):
            np.multiply(result, found.scales.astype(f32)[..., None], out=result)
            if found.minimums is not None:
                np.add(result, found.minimums.astype(f32)[..., None], out=result)
        return result.reshape(stored.shape).astype(wanted, copy=False)

    def blocks(self, file: GgufFile, stored: Stored) -> BlockArray:
        """Codes, scales and minima."""
        fmt, found = _format(stored), self._blocks(file, stored)
        shape = layout_of(stored.shape, fmt, -1 if stored.axis is None else stored.axis).scales_shape
        points = None if found.minimums is None else found.minimums.reshape(shape)
        return BlockArray(found.codes, found.scales.reshape(shape), None, fmt, stored.axis, stored.shape, None, points)

    def _blocks(self, file: GgufFile, stored: Stored) -> Blocks:
        """Codes of the tensor's shape, and one scale and minimum a block of its rows."""
        kind = file.info(stored.name).dtype
        if kind not in _BY_TYPE:
            known = ", ".join([*PLAIN, *_BY_TYPE])
            raise file.error(stored.name, f"tensors of type {kind} are not decoded; {known} are")
        row = stored.shape[-1] // TYPES[kind].elements * TYPES[kind].nbytes
        return unpack_gguf(file.raw(stored.name).reshape(*stored.shape[:-1], row), kind)


def _flat(array: Array | None) -> Array | None:
    return None if array is None else array.reshape(-1)


@lru_cache(maxsize=4)
def mxfp4_table(dtype: np.dtype[Any]) -> Array:
    """Values of every scale byte and code; code 8 is +0, as ggml has no other zero."""
    e2m1 = get_format("e2m1")
    assert isinstance(e2m1, Format)
    table = ldexp_table(e2m1, dtype).copy()
    table[:, 8] = 0
    return table


@lru_cache(maxsize=4)
def nvfp4_table(dtype: np.dtype[Any]) -> Array:
    """Likewise; scales are E4M3 without its sign and NaN: byte 0x7F counts as 0, 0xFF as 480."""
    scales = np.asarray(decode(np.arange(256), "ue4m3", dtype=f32)).copy()
    scales[0x7F], scales[0xFF] = 0, 480
    table = scales[:, None] * np.asarray(decode(np.arange(16), "e2m1"))
    table[:, 8] = 0
    return np.asarray(table.astype(dtype))


def _format(stored: Stored) -> BlockFormat:
    assert isinstance(stored.format, BlockFormat)
    return stored.format
