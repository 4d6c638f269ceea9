"""Operands of dot-product units: arrays, codes and `BlockArray`s as codes of formats that a unit takes, with K last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .arithmetic_engine import patterns_of
from .arrays import decode, encode
from .block_arrays import BlockArray
from .formats import CodebookFormat, FixedFormat, FloatFormat, Format
from .named import scalar_format
from .sources import FLOATS, code_dtype, dtype_format
from .unit_exact import wrapped
from .units import DotUnit

Array = npt.NDArray[Any]
Formats = str | Format | tuple[str | Format, str | Format]
_WIDE = {dtype for dtype in FLOATS if dtype.itemsize >= 4}  # their values may be those of narrower formats


@dataclass(frozen=True)
class Operand:
    """An operand as codes, K last, with its format, and with its scales where it has some."""

    codes: Array
    format: FloatFormat | FixedFormat
    scales: Array | None = None
    scale_format: FloatFormat | None = None
    block: int = 0
    tensor_scale: np.float32 | None = None


def operands(
    a: Any, b: Any, unit: DotUnit, formats: Formats | None, scales: Any, axes: tuple[int, int]
) -> tuple[Operand, Operand]:
    """Both operands of a unit, checked; the axes are those of K."""
    pair = (formats, formats) if formats is None or isinstance(formats, str | Format) else tuple(formats)
    if len(pair) != 2:
        raise ValueError(f"{len(pair)} formats are given; one is given for both operands, or two")
    given = (None, None) if scales is None else tuple(scales)
    if len(given) != 2:
        raise ValueError(f"{len(given)} arrays of scales are given; a and b have one each")
    if any(each is not None for each in given) and not unit.scales:
        raise ValueError("scales are given; the unit takes none")
    made = [
        _operand(name, x, unit, fmt, scale, axis)
        for name, x, fmt, scale, axis in zip("ab", (a, b), pair, given, axes, strict=True)
    ]
    return made[0], made[1]


def _operand(name: str, x: Any, unit: DotUnit, fmt: str | Format | None, scales: Any, axis: int) -> Operand:
    """An operand of a unit, checked; K where the caller has it."""
    if isinstance(x, BlockArray):
        return _blocks(name, x, unit, axis)
    array = np.asarray(x)
    own = scalar_format(fmt) if fmt is not None else None
    if own is None:
        dtyped = dtype_format(array.dtype) if array.dtype not in _WIDE else None
        own = dtyped if dtyped in unit.inputs else unit.inputs[_position(name, unit)]
    if own not in unit.inputs:
        raise ValueError(f"{name} has format {own}; the unit takes {_names(unit.inputs)}")
    assert isinstance(own, FloatFormat | FixedFormat)
    is_codes = fmt is not None and array.dtype.kind == "u"
    codes = array.astype(code_dtype(own)) if is_codes else _encoded(name, array, own, unit)
    if scales is None:
        if unit.scales:
            raise ValueError(
                f"{name} has no scales; the unit takes block scales of {_names(unit.scales)}: "
                "give a BlockArray, or scales="
            )
        return Operand(codes, own)
    return _scaled(name, codes, own, np.asarray(scales), unit.scales[0], unit, axis)


def _position(name: str, unit: DotUnit) -> int:
    """Which input format an operand without one has: units of fixed-point formats name those of a and b."""
    return 1 if name == "b" and isinstance(unit.inputs[0], FixedFormat) and len(unit.inputs) > 1 else 0


def _names(formats: tuple[Any, ...]) -> str:
    return ", ".join(map(str, formats))


def _encoded(name: str, array: Array, fmt: FloatFormat | FixedFormat, unit: DotUnit) -> Array:
    """Codes of values that a format has."""
    if array.dtype.kind not in "fiub" and dtype_format(array.dtype) is None:
        raise ValueError(f"{name} has dtype {array.dtype}; it holds numbers, or codes with formats=")
    if array.dtype.kind == "b":
        array = array.astype(np.uint8)
    if array.dtype.kind in "iu" and isinstance(fmt, FixedFormat):
        low, high = fmt.min_integer, fmt.max_integer
        if array.size and (int(array.min()) < low or int(array.max()) > high):
            raise ValueError(f"{name} holds integers outside {low} to {high}, those of {fmt}, which the unit takes")
        return (array.astype(np.int64) & (2**fmt.bits - 1)).astype(code_dtype(fmt))
    if unit.input_rounding is not None:
        return np.asarray(
            encode(array.astype(np.float32), fmt, rounding=unit.input_rounding.value, overflow="infinity")
        )
    return _exactly(name, array, fmt, f"quantize it first: numfmt.quantize({name}, {str(fmt)!r})")


def _blocks(name: str, x: BlockArray, unit: DotUnit, axis: int) -> Operand:
    fmt = x.format
    if fmt.element not in unit.inputs:
        raise ValueError(f"{name} has elements of {fmt.element}; the unit takes {_names(unit.inputs)}")
    if not unit.scales or fmt.scale not in unit.scales:
        takes = f"scales of {_names(unit.scales)}" if unit.scales else "no scales"
        raise ValueError(f"{name} has scales of {fmt.scale}; the unit takes {takes}")
    if x.axis is None or isinstance(x.axis, tuple) or x.axis % x.ndim != axis % x.ndim:
        raise ValueError(
            f"{name} has blocks along axis {x.axis}; the unit sums along axis {axis % max(x.ndim, 1)}: "
            f"encode it with axis={axis}"
        )
    if x.micro or x.zero_points is not None or x.nested is not None:
        raise ValueError(f"{name} has format {fmt}; the unit takes one scale a block and nothing else")
    assert isinstance(fmt.scale, FloatFormat)
    assert not isinstance(fmt.element, CodebookFormat)
    made = _scaled(name, np.asarray(x.codes), fmt.element, np.asarray(x.scales), fmt.scale, unit, axis, fmt.block[0])
    return Operand(made.codes, made.format, made.scales, made.scale_format, made.block, x.tensor_scale)


def _scaled(
    name: str,
    codes: Array,
    fmt: Any,
    scales: Array,
    scale_format: FloatFormat,
    unit: DotUnit,
    axis: int,
    block: int | None = None,
) -> Operand:
    """Codes with their scales, where the blocks are such that the unit takes."""
    k, parts = codes.shape[axis], scales.shape[axis]
    found = block or next((size for size in unit.scale_blocks if -(-k // size) == parts), None)
    if found not in unit.scale_blocks or -(-k // found) != parts:
        sizes = " or ".join(map(str, unit.scale_blocks))
        raise ValueError(f"{name} has {parts} scales for K = {k}; the unit takes one for {sizes} elements")
    if k % found:
        raise ValueError(f"{name} has K = {k}, which {found} does not divide; the unit takes whole blocks of {found}")
    return Operand(codes, fmt, scales.astype(code_dtype(scale_format)), scale_format, found)


def expanded(x: Operand, axis: int) -> Operand:
    """An operand with one more axis."""
    scales = None if x.scales is None else np.expand_dims(x.scales, axis)
    return Operand(np.expand_dims(x.codes, axis), x.format, scales, x.scale_format, x.block, x.tensor_scale)


def transposed(x: Operand) -> Operand:
    """An operand with its last axes swapped."""
    scales = None if x.scales is None else np.swapaxes(x.scales, -1, -2)
    return Operand(np.swapaxes(x.codes, -1, -2), x.format, scales, x.scale_format, x.block, x.tensor_scale)


def addend(c: Any, unit: DotUnit, shape: tuple[int, ...], *operands: Operand) -> Array:
    """The accumulators at the start: patterns, or integers of fixed-point ones, flat."""
    size = int(np.prod(shape, dtype=np.int64))
    fmt = unit.promoted if unit.promote_every else unit.c_format
    if c is None:
        return np.zeros(size, np.int64)
    if any(x.tensor_scale is not None for x in operands):
        raise ValueError("c is given beside a tensor scale, which applies to the unit's result: add c afterwards")
    array = np.asarray(c)
    try:
        whole = np.broadcast_to(array, shape).reshape(-1)
    except ValueError:
        raise ValueError(f"c has shape {array.shape}; it broadcasts to the result's shape {shape}") from None
    if isinstance(fmt, FixedFormat):
        codes = _encoded("c", whole, fmt, unit)
        return wrapped(codes.astype(np.int64), fmt)
    return patterns_of(_exactly("c", whole, fmt, f"the unit's accumulator is {fmt}"), fmt)


def _exactly(name: str, array: Array, fmt: FloatFormat | FixedFormat, hint: str) -> Array:
    """Codes of values that a format has; NaNs keep their bits where dtype and format are one."""
    if FLOATS.get(array.dtype) == fmt:
        return np.ascontiguousarray(array).view(code_dtype(fmt))
    codes = np.asarray(encode(array, fmt))
    back = np.asarray(decode(codes, fmt)).astype(array.dtype if array.dtype.kind == "f" else np.float64)
    wrong = (back != array) & ~(np.isnan(back) & np.isnan(np.asarray(array, back.dtype)))
    if np.any(wrong):
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"{name} holds {array[at]} at {at}, which {fmt} does not have; {hint}")
    return codes
