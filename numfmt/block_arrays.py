"""Arrays in block formats: `BlockArray`, and what encode, decode and quantize do for block formats."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from . import block_compiled
from ._core.parameters import BINARY32, BINARY64
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
from .block_run import Encoded, encode_blocks, for_each, with_quiet_nans
from .blocks import BlockFormat, precision
from .packed_codes import PackedCodes
from .plans import resolve
from .platforms import get_platform
from .random import Seed
from .rounding import Overflow, Platform, Rounding
from .scale_rules import from_scale, scales_part
from .scheduler import thread_count
from .sources import FLOATS, code_dtype, operand_of, pattern_dtype
from .specials import Rules

Array = npt.NDArray[Any]
f32 = np.float32


@dataclass(frozen=True, eq=False, repr=False)
class BlockArray:
    """An array in a block format: codes of elements, and the scales that blocks of them share.

    Attributes:
        codes: unsigned integers of the array's shape, codes of `format.element`; or `PackedCodes`.
        scales: one a block: uint8 codes of `format.scale`, or values where NumPy has that format
            (float16, float32); ceil(n / k) along each block axis, the array's length along the others.
        tensor_scale: float32 that scales the whole array, or None.
        format: the `BlockFormat`.
        axis: the block axis, two of them for tiles, None for blocks over the flattened or whole array.
        shape: of the array.
        tensor_amax: float32, the largest magnitude of the array, where the format has a tensor scale.
        zero_points: one a block, in affine formats (integers) and those with a minimum (float16).
        micro: second-level exponents, uint8, of shape scales.shape + (parts of a block,); one array a level.
        nested: the scales as a `BlockArray`, where the format quantizes them in turn.

    >>> import numpy as np, numfmt as nf
    >>> q = nf.encode(np.arange(64, dtype=np.float32).reshape(2, 32), "mxfp4")
    >>> q
    BlockArray(mxfp4, shape (2, 32), axis 1, 34 bytes: 32 of codes, 2 of scales)
    >>> q.scales.tolist()
    [[129], [130]]
    >>> np.asarray(q)[0, :8].tolist()
    [0.0, 0.0, 2.0, 4.0, 4.0, 4.0, 6.0, 8.0]
    """

    codes: Any
    scales: Array
    tensor_scale: np.float32 | None
    format: BlockFormat
    axis: Axis
    shape: tuple[int, ...]
    tensor_amax: np.float32 | None = None
    zero_points: Array | None = None
    micro: tuple[Array, ...] = ()
    nested: BlockArray | None = None

    def __post_init__(self) -> None:
        if tuple(self.codes.shape) != tuple(self.shape):
            raise ValueError(f"codes has shape {self.codes.shape}; the array has shape {self.shape}")
        expected = self.layout.scales_shape
        if tuple(self.scales.shape) != expected:
            raise ValueError(
                f"scales has shape {self.scales.shape}; {self.format} has {expected} for an array of shape {self.shape}"
            )

    @property
    def layout(self) -> Layout:
        """How the blocks lie in the array."""
        return layout_of(tuple(self.shape), self.format, self.axis)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(self.codes.size)

    @property
    def nbytes(self) -> int:
        """Bytes of a packed copy: elements, scales, zero points and micro-exponents, each rounded up to bytes."""
        return sum(self._parts().values())

    def _parts(self) -> dict[str, int]:
        fmt = self.format
        parts = {"codes": -(-self.size * fmt.element.bits // 8)}
        if self.nested is not None:
            parts["scales"] = self.nested.nbytes
        else:
            assert not isinstance(fmt.scale, BlockFormat)
            parts["scales"] = -(-self.scales.size * fmt.scale.bits // 8)
        if self.zero_points is not None:
            parts["zero points"] = -(-self.zero_points.size * fmt.scale_rule.zero_point_bits(fmt) // 8)
        for (_, bits), level in zip(fmt.micro, self.micro, strict=True):
            parts["micro-exponents"] = parts.get("micro-exponents", 0) + -(-level.size * bits // 8)
        if self.tensor_scale is not None:
            parts["tensor scale"] = 4
        return parts

    def __repr__(self) -> str:
        parts = ", ".join(f"{n:,} of {what}" for what, n in self._parts().items())
        axis = f"axis {self.axis}"
        if self.axis is None:
            axis = "flat blocks" if self.format.flat else "one block"
        return f"BlockArray({self.format}, shape {tuple(self.shape)}, {axis}, {self.nbytes:,} bytes: {parts})"

    def __len__(self) -> int:
        return len(self.codes)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("copy=False is given; the values of a BlockArray are made when they are asked for")
        return decode_array(self, dtype=dtype)

    def pack(self, layout: str = "low_first") -> BlockArray:
        """The same array with its codes packed along the last axis (`numfmt.pack`); decoding reads them as they are."""
        from .packing import pack

        bits = self.format.element.bits
        data = pack(np.asarray(self.codes), bits, layout=layout)
        return replace(self, codes=PackedCodes(data, bits, tuple(self.shape), layout))

    def unpack(self) -> BlockArray:
        """The same array with its codes one an element."""
        return replace(self, codes=np.asarray(self.codes)) if isinstance(self.codes, PackedCodes) else self

    def decode(self, **options: Any) -> Array:
        """The values, as `numfmt.decode`."""
        return decode_array(self, **options)

    def requantize(self, axis: Axis = None, format: str | BlockFormat | None = None, **options: Any) -> BlockArray:
        """The decoded values encoded again, along another axis or in another format.

        Without an axis it is this array's, or the last where the other format's blocks are of another kind.
        """
        from .named_blocks import get_format

        fmt = self.format if format is None else get_format(format)
        if not isinstance(fmt, BlockFormat):
            raise ValueError(f"{fmt} is given; requantize() takes block formats, decode() gives values for others")
        if axis is None:
            same = len(fmt.block) == len(self.format.block) and fmt.flat == self.format.flat
            axis = self.axis if same else -1
        return encode_array(decode_array(self), fmt, axis=axis, **options)

    @property
    def T(self) -> BlockArray:
        """The transposed array."""
        return self.transpose()

    def transpose(self, *axes: int) -> BlockArray:
        """The array with its axes permuted; no element changes.

        Raises:
            ValueError: the format's blocks run over the flattened array, or the axes are no permutation.
        """
        if self.format.flat:
            raise ValueError(f"{self.format} has blocks over the flattened array, which no transpose keeps")
        given: Any = axes[0] if len(axes) == 1 else axes
        given = given if isinstance(given, tuple | list) else axes
        order = tuple(i % self.ndim for i in given) if given else tuple(reversed(range(self.ndim)))
        if sorted(order) != list(range(self.ndim)):
            raise ValueError(f"axes {axes} are given; they must be a permutation of 0 to {self.ndim - 1}")
        axis = self.axis
        if isinstance(axis, tuple):
            axis = tuple(order.index(i) for i in axis)
        elif axis is not None:
            axis = order.index(axis)
        return replace(
            self, codes=np.asarray(self.codes).transpose(order), scales=self.scales.transpose(order), axis=axis,
            shape=tuple(self.shape[i] for i in order),
            zero_points=None if self.zero_points is None else self.zero_points.transpose(order),
            micro=tuple(level.transpose(*order, self.ndim) for level in self.micro),
        )  # fmt: skip

    def __getitem__(self, key: Any) -> BlockArray:
        """Slices whose borders along block axes are block borders.

        Raises:
            ValueError: a slice tears a block, or blocks run over the flattened array.
            IndexError: out of range, or an index other than integers, slices and an ellipsis.
        """
        if self.format.flat or self.format.block == ():
            raise ValueError(f"{self.format} has blocks over the whole array; slice the decoded values instead")
        if self.nested is not None:
            raise ValueError(f"{self.format} has quantized scales; slice the decoded values instead")
        keys = _full_key(key, self.ndim)
        layout, axes = self.layout, self.axis if isinstance(self.axis, tuple) else (self.axis,)
        sizes = dict(zip(axes, (layout.a, layout.g) if len(axes) == 2 else (max(layout.a, layout.g),), strict=True))
        scale_keys = [
            _scale_key(k, n, sizes[i], i) if i in sizes else k
            for i, (k, n) in enumerate(zip(keys, self.shape, strict=True))
        ]
        codes = np.asarray(self.codes)[tuple(keys)]
        kept = [i for i, k in enumerate(keys) if isinstance(k, slice)]
        axis = tuple(kept.index(i) for i in axes)  # type: ignore[arg-type]
        scales = self.scales[tuple(scale_keys)]
        return replace(
            self, codes=codes, scales=scales, axis=axis if len(axis) == 2 else axis[0], shape=codes.shape,
            zero_points=None if self.zero_points is None else self.zero_points[tuple(scale_keys)],
            micro=tuple(level[tuple(scale_keys)] for level in self.micro),
        )  # fmt: skip


def _full_key(key: Any, ndim: int) -> list[Any]:
    """One integer or slice for each axis."""
    keys = list(key) if isinstance(key, tuple) else [key]
    plain = [k for k in keys if k is not Ellipsis]
    if not all(isinstance(k, int | np.integer | slice) and not isinstance(k, bool) for k in plain):
        raise IndexError("a BlockArray takes integers, slices and one ... as indices")
    if len(keys) - len(plain) > 1:
        raise IndexError("two ... are given as indices; a BlockArray takes one")
    if Ellipsis in keys:
        at = keys.index(Ellipsis)
        keys[at : at + 1] = [slice(None)] * (ndim - len(keys) + 1)
    keys += [slice(None)] * (ndim - len(keys))
    if len(keys) != ndim:
        raise IndexError(f"{len(keys)} indices are given for {ndim} axes")
    return keys


def _scale_key(key: Any, n: int, size: int, axis: int) -> slice:
    """The slice of scales for a slice of elements along a block axis."""
    if not isinstance(key, slice):
        raise ValueError(f"an integer is given along block axis {axis}; a slice of whole blocks of {size} fits")
    start, stop, step = key.indices(n)
    stop = max(stop, start)
    if step != 1 or (start % size and start != n) or (stop % size and stop != n):
        raise ValueError(
            f"the slice {start}:{stop}:{step} is given along block axis {axis}; it must take whole blocks of {size}"
        )
    return slice(-(-start // size), -(-stop // size))


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


def _canonical(x: Any, layout: Layout) -> Operand3:
    """The operand's patterns in canonical form."""
    operand = operand_of(x)
    carrier = operand.carrier if operand.carrier in (BINARY32, BINARY64) else BINARY64
    if operand.carrier is not carrier:
        raise ValueError("x holds integers beyond 2**53; block formats take what binary64 holds")
    array = operand.array
    if array.dtype == (np.float32 if carrier is BINARY32 else np.float64):
        return Operand3(np.ascontiguousarray(layout.view(array)).view(pattern_dtype(carrier)), carrier)
    patterns = np.asarray(operand.patterns(np.ascontiguousarray(array).reshape(-1), carrier))
    return Operand3(np.ascontiguousarray(layout.view(patterns.reshape(array.shape))), carrier)


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
    array = operand_of(x).array
    layout = layout_of(array.shape, fmt, axis)
    operand = _canonical(x, layout)
    numbers = _numbers(plan.rules, layout, seed, random_bits, threads)
    codes = _codes_array(fmt, layout, out)
    direct = layout.is_view(codes)
    canonical = layout.view(codes) if direct else np.empty((layout.outer, layout.rows, layout.columns), codes.dtype)

    def sink(part: Layout, task: Task, made: Array, _: Array, __: Encoded) -> None:
        put_part(canonical, part, task, made)

    made = encode_blocks(plan, replace(operand, numbers=numbers), layout, sink, threads, canonical)
    if not direct:
        layout.restore(canonical, codes)
    if codes.size == 0:
        return _empty(plan, layout, codes)
    return _block_array(fmt, layout, codes, made, out)


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


def _codes_array(fmt: BlockFormat, layout: Layout, out: BlockArray | None) -> Array:
    dtype = code_dtype(fmt.element)
    if out is None:
        return np.empty(layout.shape, dtype)
    if isinstance(out, BlockArray) and out.format == fmt and out.layout == layout:
        codes = out.codes
        if isinstance(codes, np.ndarray) and codes.flags.writeable:
            return codes
    wanted = f"BlockArray of {fmt}, shape {layout.shape}, axis {layout.axis}"
    raise ValueError(f"out is {out!r}; it must be a {wanted}, writable and not packed")


def _block_array(fmt: BlockFormat, layout: Layout, codes: Array, made: Encoded, out: BlockArray | None) -> BlockArray:
    scales = layout.restore_scales(made.scales)
    if out is not None:
        np.copyto(out.scales, scales)
        scales = out.scales
    result = BlockArray(
        codes, scales, made.tensor_scale, fmt, layout.axis, layout.shape, made.tensor_amax,
        None if made.zero_points is None else layout.restore_scales(made.zero_points),
        tuple(_restore_micro(layout, level) for level in made.micro), made.nested,
    )  # fmt: skip
    if out is None:
        return result
    for name, value in vars(result).items():  # `out` is this array from now on
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
    scales = layout.scales_view(scale_values(q))
    packed = isinstance(q.codes, PackedCodes)
    codes: Any = q.codes if packed else layout.view(np.asarray(q.codes))
    points = None if q.zero_points is None else layout.scales_view(q.zero_points)
    micro = tuple(
        np.stack([layout.scales_view(level[..., i]) for i in range(level.shape[-1])], -1) for level in q.micro
    )

    fast = None
    if combine is None:
        combine = combine_exactly(q.format, q.tensor_scale)
        fast = block_compiled.decode_function(q.format, layout, codes, scales, target, q.tensor_scale)

    def work(task: Task) -> None:
        part = decoded(
            q.format, part_of(codes, layout, task), scales_part(scales, task),
            None if points is None else scales_part(points, task),
            tuple(scales_part(level, task) for level in micro), combine,
        )  # fmt: skip
        put_part(target, layout, task, part)

    cut = layout.refined()
    if packed and (fast is None or cut is not layout):
        codes = layout.view(np.asarray(q.codes))
    if fast is not None and cut is layout:
        for_each(fast, layout.tasks(block_compiled.CHUNK), thread_count(threads, values.size))
        with_quiet_nans(target, scales, q.tensor_scale)
    else:
        for_each(work, layout.tasks(CHUNK), thread_count(threads, values.size))
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
    _quantize(canonical, x, fmt, layout, platform, threads, **options)
    if not direct:
        layout.restore(canonical, values)
    return values[()] if operand.is_scalar else values


def _quantize(
    canonical: Array,
    x: Any,
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

    encode_blocks(plan, replace(_canonical(x, layout), numbers=numbers), layout, sink, threads, canonical, True)


@lru_cache(maxsize=1024)
def quantized_dtype(dtype: np.dtype[Any], fmt: BlockFormat) -> np.dtype[Any]:
    """Dtype of `quantize`: the operand's where every result is exact in it, else float32."""
    if dtype == np.float64 or (dtype in FLOATS and dtype.name == "bfloat16" and _exact_in_bfloat16(fmt)):
        return dtype
    return np.dtype(f32)


def _exact_in_bfloat16(fmt: BlockFormat) -> bool:
    """Powers of two move elements of up to 8 significant bits within bfloat16's range, which is binary32's."""
    return fmt.has_power_of_two_scales and not fmt.micro and precision(fmt.element) <= 8
