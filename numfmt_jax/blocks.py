"""Block formats inside JAX programs: codes and values equal to numfmt's, in int32, under jit, vmap and scan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import numfmt
from numfmt import BlockFormat, Platform
from numfmt._core import binary32 as core
from numfmt._core.parameters import BINARY32
from numfmt.kernels import (
    FLOATS,
    Axis,
    Layout,
    Rules,
    code_dtype,
    dtype_format,
    layout_of,
    narrowest_carrier,
    precision,
    resolve,
    scalar_format,
)

from .binary32 import Binary32, add, decoded, encoded
from .bits import patterns_of, values_of
from .block_elements import element_codes, element_values, products
from .block_scales import Scaling, amax_limit, block_amax, loaded, scaling_of, stored
from .direct_blocks import direct_codes, direct_values
from .usual import is_usual, spread, suits, usual_values

Array = jax.Array
INFINITY, MAGNITUDE = BINARY32.infinity, BINARY32.magnitude_mask


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["codes", "scales", "tensor_scale", "tensor_amax", "zero_points", "micro", "nested"],
    meta_fields=["format", "axis"],
)
@dataclass(frozen=True, eq=False, repr=False)
class BlockArray:
    """An array in a block format, as a pytree: numfmt's `BlockArray` with JAX arrays.

    Attributes:
        codes: unsigned integers of the array's shape, codes of `format.element`.
        scales: one a block: codes of `format.scale`, or float16 and float32 numbers.
        tensor_scale, tensor_amax: float32 numbers of the whole array, or None.
        format: the `BlockFormat`; static.
        axis: the block axis, two of them for tiles, None for blocks over the flattened or whole array; static.
        zero_points, micro, nested: as in `numfmt.BlockArray`.

    >>> import jax.numpy as jnp, numfmt_jax as nfj
    >>> q = nfj.encode(jnp.arange(64, dtype=jnp.float32).reshape(2, 32), "mxfp4")
    >>> q
    BlockArray(mxfp4, shape (2, 32), axis 1)
    >>> q.decode()[0, :8].tolist()
    [0.0, 0.0, 2.0, 4.0, 4.0, 4.0, 6.0, 8.0]
    """

    codes: Array
    scales: Array
    tensor_scale: Array | None
    format: BlockFormat
    axis: Axis
    tensor_amax: Array | None = None
    zero_points: Array | None = None
    micro: tuple[Array, ...] = ()
    nested: BlockArray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return tuple(self.codes.shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(self.codes.size)

    @property
    def layout(self) -> Layout:
        """How the blocks lie in the array."""
        return layout_of(self.shape, self.format, self.axis)

    def __repr__(self) -> str:
        axis = f"axis {self.axis}"
        if self.axis is None:
            axis = "flat blocks" if self.format.flat else "one block"
        shape = getattr(self.codes, "shape", None)
        return f"BlockArray({self.format}, shape {shape}, {axis})"

    def __jax_array__(self) -> Array:
        return self.decode()

    def decode(self, dtype: Any = None, platform: Platform | str | None = None) -> Array:
        """The values, as `numfmt_jax.decode`."""
        return decode_blocks(self, dtype, platform)

    def to_numpy(self) -> numfmt.BlockArray:
        """The same as a `numfmt.BlockArray`."""

        def array(x: Any) -> Any:
            return None if x is None else np.asarray(x)

        def number(x: Any) -> Any:
            return None if x is None else np.float32(np.asarray(x))

        return numfmt.BlockArray(
            np.asarray(self.codes), np.asarray(self.scales), number(self.tensor_scale), self.format, self.axis,
            self.shape, number(self.tensor_amax), array(self.zero_points), tuple(np.asarray(m) for m in self.micro),
            None if self.nested is None else self.nested.to_numpy(),
        )  # fmt: skip

    @classmethod
    def from_numpy(cls, q: numfmt.BlockArray) -> BlockArray:
        """A `numfmt.BlockArray` with JAX arrays; packed codes are unpacked."""

        def array(x: Any) -> Any:
            return None if x is None else jnp.asarray(x)

        return cls(
            jnp.asarray(np.asarray(q.codes)), jnp.asarray(q.scales), array(q.tensor_scale), q.format, q.axis,
            array(q.tensor_amax), array(q.zero_points), tuple(jnp.asarray(m) for m in q.micro),
            None if q.nested is None else cls.from_numpy(q.nested),
        )  # fmt: skip


# ---- layout ----------------------------------------------------------------------------------------------------


def blocked(x: Array, layout: Layout, padding: int = 0) -> Array:
    """Elements as (outer, block rows, a, block columns, g), `padding` in short blocks."""
    canonical = layout.view(x)
    a, g, nr, nc = layout.a, layout.g, layout.block_rows, layout.block_columns
    short = ((0, 0), (0, nr * a - layout.rows), (0, nc * g - layout.columns))
    if short[1][1] or short[2][1]:
        canonical = jnp.pad(canonical, short, constant_values=padding)
    return canonical.reshape(layout.outer, nr, a, nc, g)


def unblocked(part: Array, layout: Layout) -> Array:
    """The array of the layout's shape from its elements in blocks."""
    nr, nc = layout.block_rows, layout.block_columns
    canonical = part.reshape(layout.outer, nr * layout.a, nc * layout.g)[:, : layout.rows, : layout.columns]
    moved = canonical.reshape(tuple(layout.shape[i] for i in layout.order))
    return moved.transpose(np.argsort(layout.order)) if layout.order != tuple(range(len(layout.shape))) else moved


def scales_restored(blocks: Array, layout: Layout) -> Array:
    """A scales array from its canonical form (outer, block rows, block columns)."""
    if layout.order == tuple(range(len(layout.order))):
        return blocks.reshape(layout.scales_shape)
    moved = blocks.reshape(tuple(layout.scales_shape[i] for i in layout.order))
    return moved.transpose(np.argsort(layout.order))


# ---- amax ------------------------------------------------------------------------------------------------------


def finite_amax(part: Array) -> Array:
    """P3109's MaxAbsFinite: infinity, or else NaN, where nothing is finite. The padding of short blocks is NaN here."""
    magnitude = part & MAGNITUDE
    finite = jnp.where(magnitude < INFINITY, magnitude, -1).max(axis=(2, 4))
    numbers = (magnitude <= INFINITY).any(axis=(2, 4))
    return jnp.where(finite >= 0, finite, jnp.where(numbers, INFINITY, jnp.int32(MAGNITUDE)))


# ---- encode ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Encoded:
    """Canonical results of an encoding: int32 arrays, those of scales (outer, block rows, block columns)."""

    fmt: BlockFormat
    layout: Layout
    codes: Array | None  # of the elements, (outer, block rows, a, block columns, g); None where they are not made
    part: Array  # the operand's patterns, likewise
    scales: Array  # as they are stored: codes, or patterns of float16 and float32
    values: Array  # binary32 patterns of the scales
    tensor_scale: Array | None
    tensor_amax: Array | None
    scaling: Scaling | None = None  # how elements meet their scale, where the rule says it
    zero_points: Array | None = None
    micro: tuple[Array, ...] = ()
    nested: BlockArray | None = None


def _scaled(x: Array, fmt: BlockFormat, axis: Axis, amax_of: Array | None = None) -> Encoded:
    """The operand in blocks and its scales, under a rule that makes them before the elements."""
    layout = layout_of(tuple(x.shape), fmt, axis)
    p3109 = fmt.scale_rule.name == "p3109"
    part = blocked(patterns_of(x), layout, MAGNITUDE if p3109 else 0)
    source = part if amax_of is None else blocked(patterns_of(amax_of), layout, MAGNITUDE if p3109 else 0)
    amax = finite_amax(source) if p3109 else block_amax(source, amax_limit(fmt))
    tensor = amax.max() if fmt.has_tensor_scale else None
    scaling = scaling_of(fmt, amax, tensor)
    nested = None
    if isinstance(fmt.scale, BlockFormat):
        values = values_of(scaling.values, jnp.float32)
        nested = encode_blocks(values, fmt.scale, axis=-1 if fmt.scale.flat else None)
        scales = patterns_of(decode_blocks(nested))
        scaling = scaling.of_values(scales, scales)
    return Encoded(
        fmt, layout, None, part, scaling.codes, scaling.values, scaling.tensor_scale, tensor, scaling, nested=nested
    )


def _encoded(
    x: Array, fmt: BlockFormat, rules: Rules, axis: Axis, numbers: Array | None, amax_of: Array | None = None
) -> Encoded:
    """Elements and scales."""
    if fmt.scale_rule.direct is None:
        made = _scaled(x, fmt, axis, amax_of)
        assert made.scaling is not None
        random = None
        if numbers is not None:
            random = blocked(lax.bitcast_convert_type(numbers, jnp.int32), made.layout)
        return replace(made, codes=element_codes(fmt, rules, made.part, made.scaling, random))
    if amax_of is not None:
        raise ValueError(f"{fmt} makes scales and elements together; scale= of a slot is for the other rules")
    layout = layout_of(tuple(x.shape), fmt, axis)
    part = blocked(patterns_of(x), layout)
    tensor = block_amax(part, amax_limit(fmt)).max() if fmt.has_tensor_scale else None
    whole = part.size == x.size
    inside = None if whole else blocked(jnp.ones(x.shape, bool), layout)
    direct = direct_codes(fmt, rules, part, inside, tensor)
    values = decoded(fmt.scale_value_format, direct.scales)
    return Encoded(
        fmt, layout, direct.codes, part, direct.scales, values, direct.tensor_scale, tensor, None,
        direct.zero_points, direct.micro,
    )  # fmt: skip


def encode_blocks(
    x: Array,
    fmt: BlockFormat,
    rules: Rules | None = None,
    axis: Axis = -1,
    numbers: Array | None = None,
    amax_of: Array | None = None,
) -> BlockArray:
    """The `BlockArray` of an array of numbers, as `numfmt.encode` makes it.

    Args:
        x: float16, bfloat16, float32 or integers that float32 holds, of any shape.
        rules: rounding rules of the elements (`numfmt.kernels.resolve`); None takes the format's own.
        axis: as for `numfmt.encode`.
        numbers: int32 or uint32 array of x's shape, the random numbers of stochastic modes, or None.
        amax_of: array of x's shape that scales are chosen for instead of x, for rules that look at blocks alone.

    Raises:
        ValueError: a format or mode that needs more than 32-bit integers; an axis that does not fit.
        TypeError: x holds what float32 does not.
    """
    _check(x)
    if x.size == 0:
        return BlockArray.from_numpy(numfmt.encode(np.zeros(x.shape, np.float32), fmt, axis=axis))
    made = _encoded(x, fmt, default_rules(fmt) if rules is None else rules, axis, numbers, amax_of)
    layout = made.layout
    assert made.codes is not None
    points = None
    if made.zero_points is not None:
        points = scales_restored(made.zero_points, layout)
        if fmt.scale_rule.zero_point == "minimum":
            points = lax.bitcast_convert_type(points.astype(jnp.uint16), jnp.float16)
    return BlockArray(
        unblocked(made.codes, layout).astype(code_dtype(fmt.element)),
        scales_restored(stored(fmt, made.scales), layout), _number(made.tensor_scale), fmt, layout.axis,
        _number(made.tensor_amax), points, tuple(_micro_restored(level, layout) for level in made.micro), made.nested,
    )  # fmt: skip


def _check(x: Array) -> None:
    fmt = dtype_format(np.dtype(x.dtype))
    if fmt is None or narrowest_carrier(fmt) is not BINARY32:
        raise TypeError(
            f"x has dtype {x.dtype}; block formats take float16, bfloat16, float32 and integers that float32 holds: "
            "cast it, or use numfmt (NumPy)"
        )


def _number(bits: Array | None) -> Array | None:
    return None if bits is None else values_of(bits, jnp.float32)


def _micro_restored(level: Array, layout: Layout) -> Array:
    parts = [scales_restored(level[..., i], layout) for i in range(level.shape[-1])]
    return jnp.stack(parts, axis=-1).astype(jnp.uint8)


def default_rules(fmt: BlockFormat) -> Rules:
    """The rounding rules of a format's elements where none are given."""
    return resolve(fmt.element, fmt.scale_rule.rounding, fmt.default_overflow, None, None)


# ---- quantize --------------------------------------------------------------------------------------------------


def quantized_dtype(dtype: Any, fmt: BlockFormat) -> Any:
    """Dtype of `quantize_blocks`: bfloat16 where powers of two move elements of up to 8 bits in it, else float32."""
    stays = fmt.has_power_of_two_scales and not fmt.micro and precision(fmt.element) <= 8
    return jnp.dtype(jnp.bfloat16 if dtype == jnp.bfloat16 and stays else jnp.float32)


def quantize_blocks(
    x: Array,
    fmt: BlockFormat,
    rules: Rules | None = None,
    axis: Axis = -1,
    numbers: Array | None = None,
    amax_of: Array | None = None,
) -> Array:
    """The values that x rounds to in a block format, those of `numfmt.quantize`; arguments as for `encode_blocks`."""
    _check(x)
    rules = default_rules(fmt) if rules is None else rules
    dtype = quantized_dtype(x.dtype, fmt)
    if x.size == 0:
        return jnp.zeros(x.shape, dtype)
    if fmt.scale_rule.direct is not None:
        made = _encoded(x, fmt, rules, axis, numbers, amax_of)
        assert made.codes is not None
        return values_of(unblocked(_worth(made, made.codes), made.layout), dtype)
    layout = layout_of(tuple(x.shape), fmt, axis)
    random = None if numbers is None else blocked(lax.bitcast_convert_type(numbers, jnp.int32), layout)

    def any_array() -> Array:
        made = _scaled(x, fmt, axis, amax_of)
        assert made.scaling is not None
        values = element_values(fmt, rules, made.part, made.scaling, random)
        if values is None:
            values = _worth(made, element_codes(fmt, rules, made.part, made.scaling, random))
        return values_of(unblocked(values, layout), dtype)

    if not suits(fmt, rules) or amax_of is not None:
        return any_array()
    part = blocked(patterns_of(x), layout)
    amax = block_amax(part, amax_limit(fmt))
    tensor = amax.max()

    def usual_array() -> Array:
        return values_of(unblocked(usual_values(fmt, rules, part, amax, tensor, random), layout), dtype)

    return lax.cond(is_usual(tensor), usual_array, any_array)


def _worth(made: Encoded, codes: Array) -> Array:
    """binary32 patterns of what codes of elements stand for: the exact product, rounded once."""
    fmt = made.fmt
    minimum = fmt.scale_rule.zero_point == "minimum"
    values = direct_values(fmt, codes, None if minimum else made.zero_points, made.micro)
    result = products(fmt, values, spread(made.values), made.tensor_scale)
    if minimum and made.zero_points is not None:
        result = add(result, spread(decoded(scalar_format("float16"), made.zero_points)))
    return result


# ---- decode ----------------------------------------------------------------------------------------------------


def decode_blocks(q: BlockArray, dtype: Any = None, platform: Platform | str | None = None) -> Array:
    """The values of a `BlockArray`, float32, or rounded once more to `dtype`.

    Args:
        platform: "transformer_engine", "compressed_tensors" or "modelopt": their order of binary32 operations,
            for formats with a tensor scale.
    """
    wanted = jnp.dtype(jnp.float32 if dtype is None else dtype)
    if wanted not in FLOATS or wanted == jnp.float64:
        raise TypeError(f"dtype {wanted} is given; float16, bfloat16, float32 and 8-bit floats are taken")
    if q.size == 0:
        return jnp.zeros(q.shape, wanted)
    made = _canonical(q)
    assert made.codes is not None
    if platform is not None and str(platform) in _DECODERS:
        values = _vendors(made, str(platform))
    else:
        values = _worth(made, made.codes)
    bits = unblocked(values, made.layout)
    if wanted in (jnp.float32, jnp.float64):
        return values_of(bits, wanted)
    fmt = FLOATS[np.dtype(wanted)]
    codes = encoded(fmt, resolve(fmt, None, None, None, None), bits)
    return lax.bitcast_convert_type(codes.astype(f"uint{8 * wanted.itemsize}"), wanted)


def _canonical(q: BlockArray) -> Encoded:
    """A `BlockArray` as it was made."""
    layout, fmt = q.layout, q.format
    scales = loaded(fmt, q.scales)
    values = decoded(fmt.scale_value_format, scales)
    if q.nested is not None:
        values = patterns_of(decode_blocks(q.nested)).reshape(q.scales.shape)
    points = None
    if q.zero_points is not None:
        points = q.zero_points
        if jnp.issubdtype(points.dtype, jnp.floating):
            points = lax.bitcast_convert_type(points, jnp.uint16)
        points = layout.scales_view(points.astype(jnp.int32))
    micro = tuple(
        jnp.stack([layout.scales_view(level[..., i]) for i in range(level.shape[-1])], -1).astype(jnp.int32)
        for level in q.micro
    )
    codes = blocked(lax.bitcast_convert_type(q.codes.astype(jnp.uint32), jnp.int32), layout)
    tensor_scale, tensor_amax = (None if n is None else patterns_of(n) for n in (q.tensor_scale, q.tensor_amax))
    return Encoded(
        fmt, layout, codes, codes, layout.scales_view(scales), layout.scales_view(values), tensor_scale, tensor_amax,
        None, points, micro,
    )  # fmt: skip


_DECODERS = ("transformer_engine", "compressed_tensors", "modelopt")


def _vendors(made: Encoded, platform: str) -> Array:
    """A vendor's order of binary32 operations in decoding."""
    if not made.fmt.has_tensor_scale or made.tensor_scale is None:
        raise ValueError(f"platform {platform!r} decodes formats with a tensor scale; {made.fmt} has none")
    assert made.codes is not None
    values = Binary32(direct_values(made.fmt, made.codes, None, made.micro))
    scales, tensor = Binary32(spread(made.values)), Binary32(made.tensor_scale)
    match platform:
        case "modelopt":
            by = scales * tensor
        case "compressed_tensors":
            by = scales / tensor
        case _:
            if made.tensor_amax is None:
                raise ValueError(
                    f"platform {platform!r} decodes from the tensor's amax; this BlockArray has no tensor_amax"
                )
            by = (scales * Binary32(made.tensor_amax)) * (np.float32(1) / np.float32(2688))
    return (values * by).bits


# ---- clipping --------------------------------------------------------------------------------------------------


def clipped_mask(
    x: Array, fmt: BlockFormat, rules: Rules | None = None, axis: Axis = -1, amax_of: Array | None = None
) -> Array:
    """Where x lies beyond the largest or the least value that its block expresses; False for NaN.

    >>> import jax.numpy as jnp, numfmt
    >>> fmt = numfmt.get_format("mxfp4")  # 7 has the scale 1, and elements reach 6
    >>> clipped_mask(jnp.float32([0.5, -6, 7]), fmt).tolist()
    [False, False, True]
    """
    _check(x)
    if x.size == 0:
        return jnp.zeros(x.shape, bool)
    rules = default_rules(fmt) if rules is None else rules
    made = _scaled(x, fmt, axis, amax_of) if fmt.scale_rule.direct is None else _encoded(x, fmt, rules, axis, None)
    shape = made.part.shape if made.micro else (*made.part.shape[:2], 1, made.part.shape[3], 1)
    one, other = (_worth(made, jnp.full(shape, code, jnp.int32)) for code in _ends(fmt))
    ends = core.key(one, xp=jnp), core.key(other, xp=jnp)
    at = core.key(made.part, xp=jnp)
    beyond = (at > jnp.maximum(*ends)) | (at < jnp.minimum(*ends))
    return unblocked(beyond & ~(core.is_nan(made.part) | core.is_nan(one) | core.is_nan(other)), made.layout)


@lru_cache(maxsize=256)
def _ends(fmt: BlockFormat) -> tuple[int, int]:
    """Codes of the element format's least and largest value."""
    low, high = (
        numfmt.encode(float(value), fmt.element, overflow="saturate") for value in (fmt.element.min, fmt.element.max)
    )
    return int(low), int(high)
