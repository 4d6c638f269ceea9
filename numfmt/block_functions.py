"""What encode, decode and quantize do for block formats."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from . import block_compiled
from ._core.parameters import BINARY32, BINARY64
from .block_arrays import BlockArray
from .block_decode import Reading, decode_function
from .block_engine import (
    CHUNK,
    BlockPlan,
    Combine,
    Operand3,
    combine_compressed_tensors,
    combine_exactly,
    combine_modelopt,
    combine_transformer_engine,
    decoded,
    part_of,
    put_part,
)
from .block_layout import Axis, Layout, Task, layout_of
from .block_run import Encoded, encode_blocks, encode_packed, for_each, with_quiet_nans
from .blocks import BlockFormat, precision
from .packed_codes import PackedCodes, nibbles
from .plans import resolve
from .platforms import get_platform
from .random import Seed
from .rounding import Overflow, Platform, Rounding
from .scale_rules import from_scale, scales_part
from .scheduler import thread_count
from .sources import FLOATS, Operand, code_dtype, operand_of, pattern_dtype
from .specials import Rules

Array = npt.NDArray[Any]
f32 = np.float32

# ---- encode ----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _block_plan(
    fmt: BlockFormat, rounding: str | None, overflow: str | None, platform: str | Platform | None, count: int | None
) -> BlockPlan:
    rounding = rounding or fmt.scale_rule.rounding
    overflow = overflow or fmt.default_overflow
    if fmt.scale_rule.direct is not None and rounding and Rounding.parse(rounding) is not fmt.default_rounding:
        raise ValueError(f"rounding {rounding!r} is given; rule {fmt.rule!r} fixes the rounding of its elements")
    chosen = None if platform is None or platform in _DECODERS else get_platform(platform)
    return BlockPlan(fmt, resolve(fmt.element, rounding, overflow, chosen, count, 0))


def _canonical(operand: Operand, layout: Layout, numbers: Array | None) -> Operand3:
    """The operand's patterns, and the random numbers for them, in canonical form."""
    carrier = operand.carrier if operand.carrier in (BINARY32, BINARY64) else BINARY64
    if operand.carrier is not carrier:
        raise ValueError("x holds integers beyond 2**53; block formats take what binary64 holds")
    array = operand.array
    if array.dtype == (np.float32 if carrier is BINARY32 else np.float64):
        return Operand3(np.ascontiguousarray(layout.view(array)).view(pattern_dtype(carrier)), carrier, numbers)
    patterns = np.asarray(operand.patterns(np.ascontiguousarray(array).reshape(-1), carrier))
    return Operand3(np.ascontiguousarray(layout.view(patterns.reshape(array.shape))), carrier, numbers)


def _numbers(
    rules: Rules, layout: Layout, seed: Seed | None, random_bits: npt.ArrayLike | None, threads: int | None
) -> Array | None:
    """Random numbers of the elements in canonical form; their index is that of the array as it was given."""
    from .arrays import random_source

    source = random_source(layout.shape, rules, seed, random_bits)
    if source is None:
        return None
    flat = source.every(layout.outer * layout.rows * layout.columns, threads)
    return np.ascontiguousarray(layout.view(flat.reshape(layout.shape)))


def encode_array(
    x: Any,
    fmt: BlockFormat,
    *,
    axis: Axis = -1,
    rounding: Rounding | str | None = None,
    overflow: Overflow | str | None = None,
    platform: Platform | str | None = None,
    seed: Seed | None = None,
    random_bits: npt.ArrayLike | None = None,
    random_bit_count: int | None = None,
    out: BlockArray | None = None,
    threads: int | None = None,
) -> BlockArray:
    """The `BlockArray` of an array; `numfmt.encode` describes the arguments."""
    plan = _block_plan(fmt, rounding, overflow, platform, random_bit_count)
    given = operand_of(x)
    layout = layout_of(given.array.shape, fmt, axis)
    operand = _canonical(given, layout, _numbers(plan.rules, layout, seed, random_bits, threads))
    codes = _codes_array(fmt, layout, out)
    if given.array.size == 0:
        return _filled(_empty(plan, layout, codes), out)
    made = _encode_packed if isinstance(codes, PackedCodes) else _encode_codes
    return _filled(_block_array(fmt, layout, codes, made(plan, operand, layout, codes, threads)), out)


def _encode_codes(plan: BlockPlan, operand: Operand3, layout: Layout, codes: Array, threads: int | None) -> Encoded:
    """Fill an array with the codes of elements."""
    direct = layout.is_view(codes)
    canonical = layout.view(codes) if direct else np.empty((layout.outer, layout.rows, layout.columns), codes.dtype)

    def sink(part: Layout, task: Task, made: Array, _: Array, __: Encoded) -> None:
        put_part(canonical, part, task, made)

    made = encode_blocks(plan, operand, layout, sink, threads, canonical)
    if not direct:
        layout.restore(canonical, codes)
    return made


def _encode_packed(
    plan: BlockPlan, operand: Operand3, layout: Layout, packed: PackedCodes, threads: int | None
) -> Encoded:
    """Fill packed codes, where no loop packs what it makes from an array of codes."""
    from .packing import pack

    rows = nibbles(packed, layout)
    made = None if rows is None else encode_packed(plan, operand, layout, threads, rows)
    if made is None:
        codes = np.empty(layout.shape, code_dtype(plan.format.element))
        made = _encode_codes(plan, operand, layout, codes, threads)
        pack(codes, packed.bits, layout=packed.layout, out=packed.data, threads=threads)
    return made


def _empty(plan: BlockPlan, layout: Layout, codes: Array) -> BlockArray:
    """An array without elements; a block that spans an axis or the array has a scale all the same, that of zero."""
    fmt = plan.format
    one = encode_array(np.zeros((1,) * max(1, len(fmt.block)), f32), fmt)
    scales = np.broadcast_to(one.scales.reshape(()), layout.scales_shape).copy()
    nested = None
    if isinstance(fmt.scale, BlockFormat):
        nested = encode_array(scales.astype(f32), fmt.scale)
    points = None
    if one.zero_points is not None:
        points = np.broadcast_to(one.zero_points.reshape(()), layout.scales_shape).copy()
    size = max(layout.a * layout.g, 1)
    parts = tuple(np.zeros((*layout.scales_shape, -(-size // part)), np.uint8) for part, _ in fmt.micro)
    return BlockArray(
        codes, scales, one.tensor_scale, fmt, layout.axis, layout.shape, one.tensor_amax, points, parts, nested
    )


def _codes_array(fmt: BlockFormat, layout: Layout, out: BlockArray | None) -> Any:
    """Where the codes go: an array, or the packed codes of `out`."""
    if out is None:
        return np.empty(layout.shape, code_dtype(fmt.element))
    if isinstance(out, BlockArray) and out.format == fmt and out.layout == layout:
        codes = out.codes
        if (codes.data if isinstance(codes, PackedCodes) else codes).flags.writeable:
            return codes
    raise ValueError(
        f"out is {out!r}; it must be a BlockArray of {fmt}, shape {layout.shape}, axis {layout.axis}, and writable"
    )


def _block_array(fmt: BlockFormat, layout: Layout, codes: Any, made: Encoded) -> BlockArray:
    return BlockArray(
        codes, layout.restore_scales(made.scales), made.tensor_scale, fmt, layout.axis, layout.shape, made.tensor_amax,
        None if made.zero_points is None else layout.restore_scales(made.zero_points),
        tuple(_restore_micro(layout, level) for level in made.micro), made.nested,
    )  # fmt: skip


def _filled(result: BlockArray, out: BlockArray | None) -> BlockArray:
    """The result, or `out`, which is this array from now on; it keeps its own codes and scales."""
    if out is None:
        return result
    np.copyto(out.scales, result.scales)
    for name, value in vars(replace(result, scales=out.scales)).items():
        object.__setattr__(out, name, value)
    return out


def _restore_micro(layout: Layout, level: Array) -> Array:
    parts = [layout.restore_scales(level[..., i]) for i in range(level.shape[-1])]
    return np.stack(parts, axis=-1) if parts else level


# ---- decode ----------------------------------------------------------------------------------------------------

_DECODERS = ("transformer_engine", "compressed_tensors", "modelopt")


def _combine(q: BlockArray, platform: Platform | str | None) -> Combine | None:
    """How a platform decodes; None for the exact product."""
    if platform is None or str(platform) not in _DECODERS:
        return None
    if not q.format.has_tensor_scale or q.tensor_scale is None:
        raise ValueError(f"platform {str(platform)!r} decodes formats with a tensor scale; {q.format} has none")
    return combiner(str(platform), q.tensor_scale, q.tensor_amax)


def combiner(platform: str, tensor_scale: np.float32, tensor_amax: np.float32 | None) -> Combine:
    """A vendor's order of binary32 operations in decoding."""
    if platform == "modelopt":
        return combine_modelopt(tensor_scale)
    if platform == "compressed_tensors":
        return combine_compressed_tensors(tensor_scale)
    if tensor_amax is None:
        raise ValueError(f"platform {platform!r} decodes from the tensor's amax; this BlockArray has no tensor_amax")
    return combine_transformer_engine(tensor_amax)


def decode_array(
    q: BlockArray,
    *,
    dtype: npt.DTypeLike | None = None,
    out: Array | None = None,
    platform: Platform | str | None = None,
    threads: int | None = None,
) -> Array:
    """The values of a `BlockArray`, float32 or `dtype`."""
    from .arrays import checked_out, encode

    wanted = np.dtype(f32 if dtype is None else dtype)
    if wanted not in FLOATS:
        raise TypeError(f"dtype {wanted} is given; float16, float32, float64 and ml_dtypes floats are taken")
    layout = q.layout
    combine = _combine(q, platform)
    values = checked_out(out if wanted == f32 else None, layout.shape, np.dtype(f32))
    if values.size == 0:
        return values if wanted == f32 else values.astype(wanted)
    direct = layout.is_view(values)
    target = layout.view(values) if direct else np.empty((layout.outer, layout.rows, layout.columns), f32)
    if combine is not None or not _decode_in_loops(q, layout, target, thread_count(threads, values.size)):
        exactly = combine_exactly(q.format, q.tensor_scale)
        _decode_in_numpy(q, layout, target, combine or exactly, thread_count(threads, values.size))
    if not direct:
        layout.restore(target, values)
    if wanted == f32:
        return values
    if wanted == np.float64:
        result = values.astype(np.float64)
    else:
        result = encode(values, FLOATS[wanted], threads=threads).view(wanted)
    if out is None:
        return result
    checked_out(out, layout.shape, wanted)[...] = result
    return out


def _decode_in_loops(q: BlockArray, layout: Layout, target: Array, threads: int) -> bool:
    """Fill a canonical array with the values; False, and nothing done, where NumPy is to do it."""
    if layout.refined() is not layout:
        return False
    packed = isinstance(q.codes, PackedCodes)
    codes = q.codes if packed else layout.view(np.asarray(q.codes))
    stored = layout.scales_view(q.scales if q.nested is None else scale_values(q))
    fast = decode_function(Reading(q.format, layout, codes, stored, target, q.tensor_scale))
    if fast is None:
        return False
    for_each(fast, layout.tasks(block_compiled.CHUNK), threads)
    tensor_is_finite = q.tensor_scale is None or np.isfinite(q.tensor_scale)
    if stored.dtype.kind == "f" or q.format.scale_value_format.has_infinity or not tensor_is_finite:
        with_quiet_nans(target, from_scale(q.format, stored), q.tensor_scale)
    return True


def _decode_in_numpy(q: BlockArray, layout: Layout, target: Array, combine: Combine, threads: int) -> None:
    """Fill a canonical array with the values."""
    codes, scales = layout.view(np.asarray(q.codes)), layout.scales_view(scale_values(q))
    points = None if q.zero_points is None else layout.scales_view(q.zero_points)
    micro = tuple(
        np.stack([layout.scales_view(level[..., i]) for i in range(level.shape[-1])], -1) for level in q.micro
    )

    def work(task: Task) -> None:
        part = decoded(
            q.format, part_of(codes, layout, task), scales_part(scales, task),
            None if points is None else scales_part(points, task),
            tuple(scales_part(level, task) for level in micro), combine,
        )  # fmt: skip
        put_part(target, layout, task, part)

    for_each(work, layout.tasks(CHUNK), threads)


def scale_values(q: BlockArray) -> Array:
    """float32 values of an array's scales."""
    if q.nested is not None:
        return decode_array(q.nested).reshape(q.scales.shape)
    return from_scale(q.format, q.scales)


# ---- quantize --------------------------------------------------------------------------------------------------


def quantize_array(
    x: Any,
    fmt: BlockFormat,
    *,
    axis: Axis = -1,
    out: Array | None = None,
    platform: Platform | str | None = None,
    threads: int | None = None,
    **options: Any,
) -> Array:
    """decode(encode(x)); `numfmt.quantize` describes the arguments."""
    from .arrays import checked_out

    operand = operand_of(x)
    array = operand.array
    dtype = quantized_dtype(array.dtype, fmt)
    values = checked_out(out, array.shape, dtype)
    layout = layout_of(array.shape, fmt, axis)
    if values.size == 0:
        return values
    if isinstance(fmt.scale, BlockFormat) or platform in _DECODERS or fmt.scale_rule.direct is not None:
        encoded = encode_array(x, fmt, axis=axis, platform=platform, threads=threads, **options)
        values[...] = decode_array(encoded, platform=platform, threads=threads)
        return values[()] if operand.is_scalar else values
    direct = dtype == f32 and layout.is_view(values)
    canonical = layout.view(values) if direct else np.empty((layout.outer, layout.rows, layout.columns), f32)
    _quantize(canonical, operand, fmt, layout, platform, threads, **options)
    if not direct:
        layout.restore(canonical, values)
    return values[()] if operand.is_scalar else values


def _quantize(
    canonical: Array,
    operand: Operand,
    fmt: BlockFormat,
    layout: Layout,
    platform: Platform | str | None,
    threads: int | None,
    rounding: Rounding | str | None = None,
    overflow: Overflow | str | None = None,
    seed: Seed | None = None,
    random_bits: npt.ArrayLike | None = None,
    random_bit_count: int | None = None,
) -> None:
    """Fill a canonical array with quantized values, task by task."""
    plan = _block_plan(fmt, rounding, overflow, platform, random_bit_count)
    numbers = _numbers(plan.rules, layout, seed, random_bits, threads)

    def sink(part: Layout, task: Task, codes: Array, scales: Array, made: Encoded) -> None:
        put_part(canonical, part, task, decoded(fmt, codes, scales, None, (), combine_exactly(fmt, made.tensor_scale)))

    encode_blocks(plan, _canonical(operand, layout, numbers), layout, sink, threads, canonical, True)


@lru_cache(maxsize=1024)
def quantized_dtype(dtype: np.dtype[Any], fmt: BlockFormat) -> np.dtype[Any]:
    """Dtype of `quantize`: the operand's where every result is exact in it, else float32."""
    if dtype == np.float64 or (dtype in FLOATS and dtype.name == "bfloat16" and _exact_in_bfloat16(fmt)):
        return dtype
    return np.dtype(f32)


def _exact_in_bfloat16(fmt: BlockFormat) -> bool:
    """Powers of two move elements of up to 8 significant bits within bfloat16's range, which is binary32's."""
    return fmt.has_power_of_two_scales and not fmt.micro and precision(fmt.element) <= 8
