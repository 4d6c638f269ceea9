"""matmul(a, b, unit=…): products of matrices as a matrix unit computes them, inside JAX programs, with gradients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from numfmt import BlockFormat, DotUnit, get_unit
from numfmt.kernels import FLOATS, FixedFormat, FloatFormat, Format, Kind, dtype_format, scalar_format

from .binary32 import Binary32
from .bits import operand, patterns_of, values_of
from .blocks import BlockArray
from .dots import bilinear
from .gemm import Bilinear, cotangents
from .quantize import decode, rounded, rounds_of
from .random import Key, key_words
from .recipe import Gemm, Operand, Recipe, Roles, as_recipe
from .unit_plans import Fmt, Plan, plan_of
from .unit_sums import integers, patterns_of_sums, sums
from .unit_terms import read, side

Array = jax.Array
Formats = str | Format | tuple[str | Format, str | Format]
MATRICES = (((2,), (1,)), ((0,), (0,)))  # dimension numbers of (batch, M, K) and (batch, K, N)
NAN = 0x7FC00000
X86_NAN = 0xFFC00000 - 2**32


@dataclass(frozen=True)
class _Call:
    """What a product is told: static data."""

    unit: DotUnit
    fa: Fmt
    fb: Fmt
    blocks: tuple[int, int] | None
    recipe: Recipe


# ---- the product ---------------------------------------------------------------------------------------------------


@partial(jax.jit, static_argnums=0)
def _computed(call: _Call, a: Array, b: Array, c: Array | None, scales: Any) -> Array:
    """Products of matrices, (batch, M, K) and (batch, K, N), of the unit's dtype."""
    plan = plan_of(call.unit, call.fa, call.fb, a.shape[-1])
    x, y = _patterns(a, call.fa, call.unit), jnp.swapaxes(_patterns(b, call.fb, call.unit), -1, -2)
    if scales is not None:
        k, sizes = a.shape[-1], call.blocks or (1, 1)
        scales = tuple(_scale_patterns(s, call.unit, size, k) for s, size in zip(scales, sizes, strict=True))
    x, y, scales = jax.tree.map(partial(_padded, plan), (x, y, scales))
    shape = (*a.shape[:-1], b.shape[-1])
    start = None if c is None else jnp.broadcast_to(_start(c, plan), shape)
    if isinstance(call.unit.accumulator, FixedFormat):
        start = jnp.zeros(shape, jnp.int32) if start is None else start
    function = partial(_matrix, plan)
    if shape[0] == 1:
        first = jax.tree.map(lambda v: v[0], (x, y, start, scales))
        return function(*first)[None]
    return jax.vmap(function)(x, y, start, scales)


def _padded(plan: Plan, patterns: Array) -> Array:
    """Zeros up to the end of the last step, where they change nothing: then all steps are one loop."""
    unit, k = plan.unit, patterns.shape[-1]
    if unit.kind is not Kind.ALIGNED or unit.zero != "positive" or unit.length is None or k < unit.length:
        return patterns
    return jnp.pad(patterns, [(0, 0)] * (patterns.ndim - 1) + [(0, -k % unit.length)])


def _matrix(plan: Plan, x: Array, y: Array, c: Array | None, scales: Any) -> Array:
    """One matrix, of binary32 patterns (M, K) and (N, K)."""
    unit = plan.unit
    sides = []
    for at, (patterns, fmt) in enumerate(((x, plan.fa), (y, plan.fb))):
        own = None if scales is None else (read(scales[at].T, unit.scales[0], None), unit.scales[0])
        sides.append(side(read(patterns.T, fmt, unit.flush_inputs), fmt, own, plan))
    if isinstance(unit.accumulator, FixedFormat):
        assert c is not None
        fmt = unit.accumulator
        width = next(bits for bits in (8, 16, 32) if fmt.bits <= bits)
        return integers(plan, c, *sides).astype(f"{'int' if fmt.signed else 'uint'}{width}")
    given = jnp.zeros((x.shape[0], y.shape[0]), jnp.int32) if c is None else c
    start = read(given, plan.start, None if unit.promote_every else unit.flush_inputs)
    number = sums(plan, start, *sides)
    dtype = jnp.float16 if unit.result_format == FLOATS[np.dtype(np.float16)] else jnp.float32
    nan = unit.nan
    if dtype == jnp.float32:
        found = patterns_of_sums(number, NAN if nan is None else nan - (nan >> 31 << 32))
        if unit.nan_rule == "x86.vdpbf16ps":
            found = jnp.where(number.nan, _x86_nans(x, y, given), found)
        return lax.bitcast_convert_type(found, dtype)
    found = values_of(patterns_of_sums(number, NAN), dtype)
    bits = lax.bitcast_convert_type(found, jnp.uint16)
    return found if nan is None else lax.bitcast_convert_type(jnp.where(number.nan, jnp.uint16(nan), bits), dtype)


def _x86_nans(a: Array, b: Array, c: Array) -> Array:
    """The NaN that VDPBF16PS returns: the last pair's, even before odd and a before b; else c's; else its own."""

    def last(x: Array, first: int) -> tuple[Array, Array]:
        k = jnp.arange(x.shape[-1], dtype=jnp.int32)
        order = jnp.where(_is_nan(x), k // 2 * 4 + jnp.where(k % 2 == 0, 2, 0) + first, -1)
        at = jnp.argmax(order, axis=-1)[:, None]
        return jnp.take_along_axis(order, at, 1)[:, 0], jnp.take_along_axis(x, at, 1)[:, 0]

    (of_a, x), (of_b, y) = last(a, 1), last(b, 0)
    left = of_a[:, None] > of_b
    found = jnp.where(left, x[:, None], y)
    none = jnp.maximum(of_a[:, None], of_b) < 0
    quiet = jnp.where(none, jnp.where(_is_nan(c), c, X86_NAN), found)
    return quiet | 0x400000


def _is_nan(patterns: Array) -> Array:
    return (patterns & 0x7FFFFFFF) > 0x7F800000


# ---- operands ------------------------------------------------------------------------------------------------------


def _patterns(x: Array, fmt: Fmt, unit: DotUnit) -> Array:
    """binary32 patterns of values of a format, rounded to it where x's dtype is not the format's own."""
    if dtype_format(np.dtype(x.dtype)) == fmt:
        return patterns_of(x)
    if unit.input_rounding is not None:
        return patterns_of(rounded(rounds_of(fmt, unit.input_rounding, "infinity"), x, None).astype(jnp.float32))
    return patterns_of(rounded(rounds_of(fmt), x, None))


def _start(c: Array, plan: Plan) -> Array:
    """c as binary32 patterns, or as integers."""
    fmt = plan.start
    if isinstance(fmt, FixedFormat):
        return c.astype(jnp.int32)
    return _patterns(c, fmt, plan.unit) if plan.unit.input_rounding is None else _rounded_start(c, fmt)


def _rounded_start(c: Array, fmt: Fmt) -> Array:
    return patterns_of(c if dtype_format(np.dtype(c.dtype)) == fmt else rounded(rounds_of(fmt), c, None))


def _scale_patterns(codes: Array, unit: DotUnit, block: int, k: int) -> Array:
    """binary32 patterns of the scales of each of K elements, K last."""
    return jnp.repeat(patterns_of(decode(codes, unit.scales[0])), block, axis=-1)[..., :k]


def format_for(x: Array, unit: DotUnit, position: int) -> Fmt:
    """The format of an operand that does not say its own: that of its dtype, or the unit's first."""
    dtype = np.dtype(x.dtype)
    own = dtype_format(dtype) if dtype.itemsize < 4 else None
    if own in unit.inputs:
        assert isinstance(own, FloatFormat | FixedFormat)
        return own
    found = unit.inputs[position if isinstance(unit.inputs[0], FixedFormat) and len(unit.inputs) > 1 else 0]
    assert isinstance(found, FloatFormat | FixedFormat)
    return found


def _formats(a: Array, b: Array, unit: DotUnit, formats: Any) -> tuple[Fmt, Fmt]:
    pair = formats if isinstance(formats, tuple | list) else (formats, formats)
    if len(pair) != 2:
        raise ValueError(f"{len(pair)} formats are given; one is given for both operands, or two")
    found: list[Any] = []
    for position, (name, x, fmt) in enumerate(zip("ab", (a, b), pair, strict=True)):
        own = format_for(x, unit, position) if fmt is None else scalar_format(fmt)
        if own not in unit.inputs:
            raise ValueError(f"{name} has format {own}; the unit takes {', '.join(map(str, unit.inputs))}")
        found.append(own)
    return found[0], found[1]


# ---- gradients -----------------------------------------------------------------------------------------------------


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(call: _Call, a: Array, b: Array, c: Array | None, scales: Any, key: Array | None) -> Array:
    return _computed(call, a, b, c, scales)


def _forward(call: _Call, a: Array, b: Array, c: Array | None, scales: Any, key: Array | None) -> Any:
    return _product(call, a, b, c, scales, key), (a, b, c, scales, key)


def _backward(call: _Call, residuals: Any, g: Array) -> Any:
    a, b, c, scales, key = residuals
    product = bilinear(MATRICES, 3, 3, lax.Precision.HIGHEST, None, Roles(call.recipe))
    x, y = a.astype(jnp.float32), b.astype(jnp.float32)
    if scales is not None:
        sizes = call.blocks or (1, 1)
        by_a, by_b = (
            lax.bitcast_convert_type(_scale_patterns(s, call.unit, size, a.shape[-1]), jnp.float32)
            for s, size in zip(scales, sizes, strict=True)
        )
        by_b = jnp.swapaxes(by_b, -1, -2)
        x, y = x * by_a, y * by_b
    dx, dy = cotangents(product, x, y, g.astype(jnp.float32), key)
    if scales is not None:
        dx, dy = dx * by_a, dy * by_b
    found = [d.astype(v.dtype) if jnp.issubdtype(v.dtype, jnp.floating) else None for d, v in ((dx, a), (dy, b))]
    return *found, None if c is None else g.astype(c.dtype), None, None


_product.defvjp(_forward, _backward)


def _gradient_recipe(gradient: Any) -> Recipe:
    if gradient == "straight_through":
        return Recipe()
    if isinstance(gradient, DotUnit):
        gemm = Gemm(accumulate=gradient)
        return Recipe(dgrad=gemm, wgrad=gemm)
    return as_recipe(gradient)


# ---- matmul --------------------------------------------------------------------------------------------------------


def matmul(
    a: Any,
    b: Any,
    c: Any = None,
    *,
    unit: str | DotUnit,
    formats: Formats | None = None,
    scales: tuple[Any, Any] | None = None,
    gradient: str | Recipe | DotUnit = "straight_through",
    key: Key | None = None,
) -> Array:
    """a @ b + c as a matrix unit computes it: the bits of `numfmt.matmul`, with gradients, in 32-bit integers.

    Args:
        a, b: arrays of shapes (…, M, K) and (…, K, N), or 1-D, as `jnp.matmul` takes them: float16, bfloat16, float32,
            narrow floats, or integers of units of integers. Values that the input format does not have are rounded to
            it first: to nearest, ties to even, or as the unit's `input_rounding` says (`numfmt.matmul` refuses them).
            Or `BlockArray`s whose blocks lie along K; these have no gradient.
        c: array that broadcasts to the result, of values of the unit's accumulator; None is +0. Not beside the tensor
            scales of `BlockArray`s, which multiply the result.
        unit: name (`numfmt.list_units()`) or `DotUnit`.
        formats: of both operands, or of each: of the unit's inputs. By default that of the dtype, or the unit's first.
        scales: codes of block scales, of shapes (…, M, K / block) and (…, K / block, N); for units that take them.
        gradient: "straight_through": cotangents are g @ b.T and a.T @ g in float32, and c's is g; a `Recipe` or its
            name: its dgrad and wgrad products; a `DotUnit`: that unit's products of g, b and a.
        key: for recipes that draw random numbers.

    Returns:
        Array of jnp.matmul's shape: float16 of units with a binary16 accumulator, integers of those with an integer
        one, else float32.

    Raises:
        ValueError: a unit that two 32-bit integers do not hold (float64, sums without error of wide formats, stochastic
            rounding), shapes that do not meet, formats or scales that the unit does not take.
        TypeError: dtypes that float32 does not hold.

    References: `numfmt.get_unit(name).evidence`.

    >>> import jax, jax.numpy as jnp
    >>> x, w = jnp.ones((2, 40)), jnp.full((40, 3), 0.5)
    >>> matmul(x, w, unit="h100.e4m3").tolist()
    [[20.0, 20.0, 20.0], [20.0, 20.0, 20.0]]
    >>> jax.grad(lambda w: matmul(x, w, unit="h100.e4m3").sum())(w)[0].tolist()
    [2.0, 2.0, 2.0]
    """
    unit = get_unit(unit)
    recipe = _gradient_recipe(gradient)
    words = key_words(key) if key is not None and recipe.needs_key else None
    if recipe.needs_key and words is None:
        raise ValueError(f"gradient={recipe} is given without a key; it is random: give key= (jax.random.key)")
    left, of_a, block_a, factor_a, fmt_a = _opened("a", a, unit, -1)
    right, of_b, block_b, factor_b, fmt_b = _opened("b", b, unit, -2)
    if fmt_a is not None or fmt_b is not None:
        formats = (fmt_a or _formats(left, right, unit, formats)[0], fmt_b or _formats(left, right, unit, formats)[1])
    fa, fb = _formats(left, right, unit, formats)
    if left.ndim == 0 or right.ndim == 0:
        raise ValueError(f"a has shape {left.shape} and b has shape {right.shape}; matmul takes no scalars")
    k = left.shape[-1]
    plan_of(unit, fa, fb, k or None)
    if k != right.shape[max(right.ndim - 2, 0)]:
        raise ValueError(f"a has shape {left.shape} and b has shape {right.shape}: K = {k} does not meet")
    if k == 0:
        raise ValueError("a and b have K = 0; the unit adds at least one product")
    given = scales or (None, None)
    codes = tuple(x if x is not None else y for x, y in zip((of_a, of_b), given, strict=True))
    blocks = _checked_scales(unit, codes, (block_a, block_b), k)
    factors = [factor for factor in (factor_a, factor_b) if factor is not None]
    if factors and c is not None:
        raise ValueError("c is given beside a tensor scale, which applies to the unit's result: add c afterwards")
    call = _Call(unit, fa, fb, blocks, recipe)
    found = _shaped(call, left, right, c, None if blocks is None else codes, words)
    for factor in factors:
        scaled = (Binary32(patterns_of(found)) * Binary32(patterns_of(factor))).bits
        if unit.nan is not None:
            scaled = jnp.where((scaled & 0x7FFFFFFF) > 0x7F800000, jnp.int32(unit.nan), scaled)
        found = values_of(scaled, jnp.float32)
    return found


def _opened(name: str, x: Any, unit: DotUnit, axis: int) -> tuple[Array, Any, int, Any, Any]:
    """An operand's values, codes of scales, block, tensor scale and format."""
    if not isinstance(x, BlockArray):
        return operand(x), None, 0, None, None
    fmt = x.format
    check_blocks(name, fmt, unit)
    if not isinstance(x.axis, int) or x.axis % x.ndim != axis % x.ndim:
        raise ValueError(f"{name} has blocks along axis {x.axis}; the unit sums along axis {axis}: encode it so")
    values = decode(x.codes, fmt.element)
    return values, x.scales, fmt.block[0], x.tensor_scale, fmt.element


def check_blocks(name: str, fmt: BlockFormat, unit: DotUnit) -> None:
    """Refuse a block format that a unit does not take."""
    if fmt.element not in unit.inputs or fmt.scale not in unit.scales:
        takes = f"elements of {', '.join(map(str, unit.inputs))} and scales of {', '.join(map(str, unit.scales))}"
        raise ValueError(f"{name} has format {fmt}; the unit takes {takes if unit.scales else 'no scales'}")
    if len(fmt.block) != 1 or fmt.block[0] not in unit.scale_blocks:
        sizes = " or ".join(map(str, unit.scale_blocks))
        raise ValueError(f"{name} has blocks of {fmt.block}; the unit takes one scale for {sizes} elements along K")


def _checked_scales(unit: DotUnit, codes: Any, blocks: tuple[int, int], k: int) -> tuple[int, int] | None:
    """Elements of a block of each operand, or None where the unit takes no scales."""
    if not unit.scales:
        if any(s is not None for s in codes):
            raise ValueError("scales are given; the unit takes none")
        return None
    found = []
    for name, s, block, axis in zip("ab", codes, blocks, (-1, -2), strict=True):
        if s is None:
            raise ValueError(
                f"{name} has no scales; the unit takes block scales of {', '.join(map(str, unit.scales))}: "
                "give a BlockArray, or scales="
            )
        parts = s.shape[axis] if s.ndim > 1 else s.shape[0]
        size = block or next((n for n in unit.scale_blocks if n * parts == k), 0)
        if size * parts != k:
            sizes = " or ".join(map(str, unit.scale_blocks))
            raise ValueError(f"{name} has {parts} scales for K = {k}; the unit takes one for {sizes} elements")
        found.append(size)
    return found[0], found[1]


def _shaped(call: _Call, a: Array, b: Array, c: Any, scales: Any, key: Array | None) -> Array:
    """`_product` of arrays of jnp.matmul's shapes."""
    flat_a, flat_b = a.ndim == 1, b.ndim == 1
    s = tuple(jnp.asarray(v) for v in scales) if scales is not None else (None, None)
    a, b = a[None] if flat_a else a, b[:, None] if flat_b else b
    s_a = s[0][None] if flat_a and s[0] is not None else s[0]
    s_b = s[1][:, None] if flat_b and s[1] is not None else s[1]
    try:
        lead = jnp.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise ValueError(
            f"a has shape {a.shape} and b has shape {b.shape}; all axes but the last two broadcast"
        ) from None
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    if b.ndim == 2:  # one matrix for all rows
        batch, rows = (1,), int(np.prod(lead, dtype=np.int64)) * m
    else:
        batch, rows = (int(np.prod(lead, dtype=np.int64)),), m

    def together(x: Any, one: bool, shape: tuple[int, ...]) -> Any:
        if x is None:
            return None
        whole = x if one else jnp.broadcast_to(x, (*lead, *x.shape[-2:]))
        return whole.reshape(*batch, *shape)

    shape = (*lead, *(() if flat_a else (m,)), *(() if flat_b else (n,)))
    start = None
    if c is not None:
        given = operand(c)
        try:
            start = jnp.broadcast_to(given, shape).reshape(*batch, rows, n)
        except ValueError:
            raise ValueError(f"c has shape {given.shape}; it broadcasts to the result's shape {shape}") from None
    one = b.ndim == 2
    x, y = together(a, False, (rows, k)), together(b, one, (k, n))
    of_x = together(s_a, False, (rows, -1))
    of_y = together(None if s_b is None else s_b, one, (-1, n))
    together_scales = None if scales is None else (of_x, jnp.swapaxes(of_y, -1, -2))
    return _product(call, x, y, start, together_scales, key).reshape(shape)


# ---- products of recipes -------------------------------------------------------------------------------------------


def accumulated(product: Bilinear, gemm: Gemm, lhs: Array, rhs: Array, position: int | None) -> Array:
    """The product of rounded operands that a recipe's unit computes; at `position` the cotangent of that operand."""
    unit, forward = gemm.accumulate, product.roles.forward
    assert isinstance(unit, DotUnit)
    slots = [gemm.lhs, gemm.rhs]
    if position is not None:  # the other operand may be the one that forward used
        other = 1 - position
        slots[other] = _as_forward(slots[other], (forward.lhs, forward.rhs)[other])
    formats = tuple(None if slot is None else slot.format for slot in slots)
    numbers, axes = _numbers(product, lhs, rhs, position)
    (contracted, batches) = numbers
    free = [
        tuple(i for i in range(x.ndim) if i not in (*contracted[at], *batches[at])) for at, x in enumerate((lhs, rhs))
    ]

    def matrices(x: Array, *groups: tuple[int, ...]) -> Array:
        sizes = [int(np.prod([x.shape[i] for i in group], dtype=np.int64)) for group in groups]
        return x.transpose([i for group in groups for i in group]).reshape(sizes)

    a = matrices(lhs, batches[0], free[0], contracted[0])
    b = matrices(rhs, batches[1], contracted[1], free[1])
    y = _product(_Call(unit, *_formats(a, b, unit, formats), None, Recipe()), a, b, None, None, None)
    shape = [lhs.shape[i] for i in (*batches[0], *free[0])] + [rhs.shape[i] for i in free[1]]
    y = y.reshape(shape)
    return y if axes is None else y.transpose(np.argsort(axes))


def _as_forward(slot: Operand | None, forward: Operand | None) -> Operand | None:
    return forward if slot is not None and slot.format is None else slot


def _numbers(product: Bilinear, lhs: Array, rhs: Array, position: int | None) -> tuple[Any, Any]:
    """Dimension numbers of a product or of a cotangent, and of which axis of the operand each of its axes is."""
    (lc, rc), (lb, rb) = product.numbers
    pairs = sorted(zip(lc, rc, strict=True))
    lc, rc = tuple(i for i, _ in pairs), tuple(j for _, j in pairs)
    if position is None:
        return ((lc, rc), (lb, rb)), None
    batch = tuple(range(len(lb)))
    if position == 0:
        order = sorted(range(len(rc)), key=rc.__getitem__)
        numbers = (product.grad_for_lhs.contracting, product.rhs_for_lhs.contracting), (batch, rb)
        return numbers, (*lb, *product.lhs.free, *(lc[i] for i in order))
    order = sorted(range(len(lc)), key=lc.__getitem__)
    numbers = (product.lhs_for_rhs.contracting, product.grad_for_rhs.contracting), (lb, batch)
    return numbers, (*rb, *(rc[i] for i in order), *product.rhs.free)
