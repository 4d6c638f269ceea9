"""How quantized tensors lie in safetensors files, and numfmt's own layout; `published_layouts.py` has the others.

    X.codes          codes in C order, each in its format's bits, the first one lowest in its byte
    X.scales         one a block: codes of the scale format, or floats
    X.tensor_scale   and X.tensor_amax, X.zero_points, X.micro.0, …: what the format needs

`__metadata__["numfmt"]` says of which format, axis and shape each tensor is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import decode
from .block_arrays import BlockArray
from .block_layout import Axis, layout_of
from .block_layout import Layout as Blocks
from .blocks import BlockFormat
from .formats import FixedFormat, Format
from .named_blocks import get_format
from .packing import pack, unpack
from .safetensors_files import NAMES, SafetensorsFile
from .scale_rules import scale_dtype
from .sources import FLOATS, code_dtype
from .tensor_files import Spec

Array = npt.NDArray[Any]
AnyFormat = Format | BlockFormat
Quantized = BlockArray | Array  # of a block format, or the codes of a scalar one
f32 = np.float32


@dataclass(frozen=True)
class Stored:
    """A tensor of a checkpoint: what it holds, and in which tensors of the file (by role) it lies."""

    name: str
    layout: str
    format: AnyFormat | None  # None: as it is, in a dtype of the file
    shape: tuple[int, ...]
    axis: Axis
    parts: Mapping[str, str]


# Packing of codes

WHOLE = (8, 16, 32, 64)  # bits of codes that are elements of an array as they are


def pack_codes(codes: Array, bits: int) -> Array:
    """Codes as bytes: each in `bits` bits, the first one lowest, C order, padded to a whole byte at the end."""
    flat = codes.reshape(-1)
    if bits in WHOLE:
        return np.ascontiguousarray(flat).view(np.uint8)
    return np.asarray(pack(flat, bits))


def unpack_codes(data: Array, bits: int, count: int) -> Array:
    """The inverse of `pack_codes`: flat codes in the smallest unsigned dtype."""
    if bits in WHOLE:
        dtype = np.dtype(f"<u{bits // 8}")
        return (data if data.ctypes.data % dtype.itemsize == 0 else data.copy()).view(dtype)
    return np.asarray(unpack(data, bits, count=count))


# Layouts


class Layout:
    """A way to write quantized tensors, and to find and read them."""

    name = ""

    def check(self, fmt: AnyFormat, axis: Axis, shape: tuple[int, ...] | None) -> None:
        """Raise ValueError where the layout cannot hold a format; with a shape, a tensor of it."""
        raise NotImplementedError

    def specs(self, name: str, fmt: AnyFormat, axis: Axis, shape: tuple[int, ...]) -> dict[str, Spec]:
        """What will be written for a tensor, by role."""
        raise NotImplementedError

    def arrays(self, q: Quantized, fmt: AnyFormat) -> dict[str, Array]:
        """The data for `specs`, by role."""
        raise NotImplementedError

    def find(self, file: SafetensorsFile) -> Iterator[Stored]:
        """The tensors of a file that lie in this layout."""
        raise NotImplementedError

    def values(self, file: SafetensorsFile, stored: Stored, dtype: np.dtype[Any] | None) -> Array:
        """The values that the layout's own loader gives."""
        raise NotImplementedError

    def blocks(self, file: SafetensorsFile, stored: Stored) -> Quantized:
        """The tensor as it is quantized."""
        raise NotImplementedError


# Our own

_OTHERS = ("tensor_scale", "tensor_amax", "zero_points")
_CODE_DTYPES = {str(fmt): NAMES[dtype] for dtype, fmt in FLOATS.items() if dtype in NAMES} | {
    "float4_e2m1fn": "F4", "float6_e2m3fn": "F6_E2M3", "float6_e3m2fn": "F6_E3M2",
}  # fmt: skip


class Numfmt(Layout):
    """Any format: packed codes, and the scales beside them. `__metadata__["numfmt"]` names format, axis and shape."""

    name = "numfmt"

    def check(self, fmt: AnyFormat, axis: Axis, shape: tuple[int, ...] | None) -> None:
        """Raise ValueError where format, axis and shape do not fit."""
        bits = fmt.element.bits if isinstance(fmt, BlockFormat) else fmt.bits
        if bits > 32 and bits != 64:
            raise ValueError(f"codes of {fmt} have {bits} bits; layout numfmt holds 1 to 32, and 64")
        if shape is not None and isinstance(fmt, BlockFormat):
            layout_of(shape, fmt, axis)

    def specs(self, name: str, fmt: AnyFormat, axis: Axis, shape: tuple[int, ...]) -> dict[str, Spec]:
        """Codes, scales, …: flat where a dtype of safetensors does not hold them."""
        if not isinstance(fmt, BlockFormat):
            return {"codes": _packed(f"{name}.codes", fmt, shape)}
        layout = layout_of(shape, fmt, axis)
        made = {"codes": _packed(f"{name}.codes", fmt.element, shape)}
        if isinstance(fmt.scale, BlockFormat):
            inner = self.specs(f"{name}.scales", fmt.scale, -1, layout.scales_shape)
            made |= {f"scales.{role}": spec for role, spec in inner.items()}
        elif scale_dtype(fmt).kind == "f":
            made["scales"] = Spec(f"{name}.scales", NAMES[scale_dtype(fmt)], layout.scales_shape)
        else:
            made["scales"] = _packed(f"{name}.scales", fmt.scale, layout.scales_shape)
        if fmt.has_tensor_scale:
            made |= {role: Spec(f"{name}.{role}", "F32", ()) for role in ("tensor_scale", "tensor_amax")}
        if fmt.scale_rule.zero_point:
            dtype = "I32" if fmt.scale_rule.zero_point == "integer" else "F16"
            made["zero_points"] = Spec(f"{name}.zero_points", dtype, layout.scales_shape)
        for i, (_, bits) in enumerate(fmt.micro):
            count = prod(_micro_shape(fmt, layout, i))
            made[f"micro.{i}"] = Spec(f"{name}.micro.{i}", "U8", (-(-count * bits // 8),))
        return made

    def arrays(self, q: Quantized, fmt: AnyFormat) -> dict[str, Array]:
        """The data for `specs`, by role."""
        if not isinstance(fmt, BlockFormat):
            return {"codes": pack_codes(np.asarray(q), fmt.bits)}
        assert isinstance(q, BlockArray)
        made = {"codes": pack_codes(q.codes, fmt.element.bits)}
        if isinstance(fmt.scale, BlockFormat):
            assert q.nested is not None
            made |= {f"scales.{role}": data for role, data in self.arrays(q.nested, fmt.scale).items()}
        elif q.scales.dtype.kind == "f":
            made["scales"] = q.scales
        else:
            made["scales"] = pack_codes(q.scales, fmt.scale.bits)
        made |= {role: np.asarray(getattr(q, role)) for role in _OTHERS if getattr(q, role) is not None}
        return made | {f"micro.{i}": pack_codes(q.micro[i], bits) for i, (_, bits) in enumerate(fmt.micro)}

    def find(self, file: SafetensorsFile) -> Iterator[Stored]:
        """The tensors that the metadata names."""
        for name, (fmt, axis, shape) in described(file).items():
            try:
                self.check(fmt, axis, shape)
                specs = self.specs(name, fmt, axis, shape)
            except ValueError as error:
                raise file.error(name, str(error)) from None
            for spec in specs.values():
                found = file.info(spec.name)
                if (found.dtype, found.shape) != (spec.dtype, spec.shape):
                    says = f"{found.dtype} of shape {list(found.shape)}"
                    raise file.error(spec.name, f"is {says}; {fmt} of {name} needs {spec.dtype} {list(spec.shape)}")
            yield Stored(name, self.name, fmt, shape, axis, {role: spec.name for role, spec in specs.items()})

    def values(self, file: SafetensorsFile, stored: Stored, dtype: np.dtype[Any] | None) -> Array:
        """Decoded: the exact products rounded once."""
        q = self.blocks(file, stored)
        if isinstance(stored.format, BlockFormat):
            return np.asarray(decode(q, dtype=dtype))
        assert stored.format is not None
        return np.asarray(decode(q, stored.format, dtype=dtype))

    def blocks(self, file: SafetensorsFile, stored: Stored) -> Quantized:
        """Codes and scales."""
        assert stored.format is not None
        return self._blocks(file, dict(stored.parts), stored.format, stored.axis, stored.shape)

    def _blocks(
        self, file: SafetensorsFile, parts: dict[str, str], fmt: AnyFormat, axis: Axis, shape: tuple[int, ...]
    ) -> Quantized:
        element = fmt.element if isinstance(fmt, BlockFormat) else fmt
        codes = _unpacked(file.raw(parts["codes"]), element, shape)
        if not isinstance(fmt, BlockFormat):
            return codes
        layout = layout_of(shape, fmt, axis)
        nested: BlockArray | None = None
        if isinstance(fmt.scale, BlockFormat):
            inner = {role.removeprefix("scales."): part for role, part in parts.items() if role.startswith("scales.")}
            made = self._blocks(file, inner, fmt.scale, -1, layout.scales_shape)
            assert isinstance(made, BlockArray)
            nested, scales = made, np.asarray(made)
        elif scale_dtype(fmt).kind == "f":
            scales = file.tensor(parts["scales"])
        else:
            scales = _unpacked(file.raw(parts["scales"]), fmt.scale, layout.scales_shape)
        tensor = {role: f32(file.tensor(parts[role])) for role in _OTHERS[:2] if role in parts}
        points = file.tensor(parts["zero_points"]) if "zero_points" in parts else None
        micro = tuple(
            unpack_codes(file.raw(parts[f"micro.{i}"]), bits, prod(_micro_shape(fmt, layout, i)))
            .reshape(_micro_shape(fmt, layout, i))
            for i, (_, bits) in enumerate(fmt.micro)
        )  # fmt: skip
        return BlockArray(
            codes, scales, tensor.get("tensor_scale"), fmt, layout.axis, shape,
            tensor.get("tensor_amax"), points, micro, nested,
        )  # fmt: skip


def _micro_shape(fmt: BlockFormat, layout: Blocks, level: int) -> tuple[int, ...]:
    return (*layout.scales_shape, -(-layout.a * layout.g // fmt.micro[level][0]))


def _packed(name: str, fmt: Format, shape: tuple[int, ...]) -> Spec:
    """Codes in the dtype that safetensors has for their format, or as bytes."""
    count = prod(shape)
    dtype = _CODE_DTYPES.get(str(fmt))
    if dtype is not None and count * fmt.bits % 8 == 0:
        return Spec(name, dtype, shape)
    if fmt.bits in WHOLE:
        signed = isinstance(fmt, FixedFormat) and fmt.signed and not fmt.sign_magnitude
        return Spec(name, f"{'I' if signed else 'U'}{fmt.bits}", shape)
    return Spec(name, "U8", (-(-count * fmt.bits // 8),))


def _unpacked(data: Array, fmt: Format, shape: tuple[int, ...]) -> Array:
    codes = unpack_codes(data, fmt.bits, prod(shape)).astype(code_dtype(fmt), copy=False)
    return codes.reshape(shape)


def description(tensors: Mapping[str, tuple[AnyFormat, Axis, tuple[int, ...]]], before: str | None = None) -> str:
    """The text for `__metadata__["numfmt"]`; `before` is one that is to stay true, of tensors that are copied."""
    entries = json.loads(before)["tensors"] if before else {}
    entries |= {
        name: {"format": str(fmt), "axis": list(axis) if isinstance(axis, tuple) else axis, "shape": list(shape)}
        for name, (fmt, axis, shape) in tensors.items()
    }
    return json.dumps({"schema": 1, "tensors": entries}, ensure_ascii=False)


def described(file: SafetensorsFile) -> dict[str, tuple[AnyFormat, Axis, tuple[int, ...]]]:
    """What a file's metadata say that its tensors are; nothing where numfmt has not written it."""
    text = file.metadata.get("numfmt")
    if text is None:
        return {}
    try:
        content = json.loads(text)
        schema, entries = content["schema"], content["tensors"].items()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise file.error("__metadata__", f"its numfmt entry is not what numfmt writes: {error}") from None
    if schema != 1:
        raise file.error("__metadata__", f"its numfmt entry has schema {schema!r}; this numfmt reads schema 1")
    return {name: _described(file, name, entry) for name, entry in entries}


def _described(file: SafetensorsFile, name: str, entry: Any) -> tuple[AnyFormat, Axis, tuple[int, ...]]:
    try:
        fmt, axis, shape = entry["format"], entry["axis"], entry["shape"]
        if isinstance(axis, list):
            axis = tuple(axis)
        shape = tuple(shape)
        if not isinstance(fmt, str) or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError("format must be a name and shape a list of integers, none negative")
        return get_format(fmt), axis, shape
    except KeyError as error:
        raise file.error(name, f"its numfmt entry lacks {error}") from None
    except (ValueError, TypeError) as error:
        raise file.error(name, str(error)) from None
