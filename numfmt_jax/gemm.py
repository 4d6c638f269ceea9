"""Matrix products whose operands are rounded as a recipe says, each of six slots on its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from numfmt import BlockFormat, DotUnit
from numfmt.kernels import Format

from .measures import NAMES, measured
from .quantize import numbers_for, rounds_of, straight_through
from .random import Key, fold, key_words
from .recipe import Gemm, Operand, Recipe, Roles
from .transforms import hadamard, signs_of

Array = jax.Array
Axes = tuple[int, ...]


@dataclass(frozen=True)
class Sides:
    """The axes of an operand: those that are contracted, and the others that blocks may cover."""

    contracting: Axes
    free: Axes


@dataclass(frozen=True)
class Bilinear:
    """A product of lax, with the axes of its operands in each of its three passes."""

    function: Callable[..., Array]  # (lhs, rhs, preferred_element_type=, precision=) → out
    lhs: Sides  # forward
    rhs: Sides
    grad_for_lhs: Sides  # of the cotangent, in the product that gives the cotangent of lhs
    rhs_for_lhs: Sides
    grad_for_rhs: Sides
    lhs_for_rhs: Sides
    precision: Any
    preferred_element_type: Any
    roles: Roles
    numbers: Any = None  # the dimension numbers of a `dot_general`
    of_matrices: Callable[..., Array] | None = None  # `function` of operands that were merged to matrices

    def __call__(self, lhs: Array, rhs: Array) -> Array:
        """The product as lax has it."""
        return self.function(lhs, rhs, precision=self.precision, preferred_element_type=self.preferred_element_type)

    @property
    def of_rounded(self) -> Callable[..., Array]:
        """`function` for rounded operands, which need not be added in the order of lax's own product."""
        return self.of_matrices or self.function

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe."""
        return self.roles.recipe


# ---- operands --------------------------------------------------------------------------------------------------


def arranged(x: Array, *groups: Axes) -> tuple[Array, tuple[int, ...], Callable[[Array], Array]]:
    """`x` with each group of axes merged into one, in the order given, where those merged axes are, and the way back.

    Nothing moves where the axes of a group are neighbours in ascending order.
    """
    order = tuple(range(x.ndim))
    if any(group != tuple(range(group[0], group[0] + len(group))) for group in groups if group):
        moved = {i for group in groups for i in group}
        order = (*(i for i in order if i not in moved), *(i for group in groups for i in group))
    where = {i: order.index(i) for i in order}
    heads = {where[group[0]]: len(group) for group in groups if group}
    shape: list[int] = []
    places: dict[int, int] = {}
    at = 0
    moved_shape = tuple(x.shape[i] for i in order)
    while at < x.ndim:
        width = heads.get(at, 1)
        places[at] = len(shape)
        shape.append(int(np.prod(moved_shape[at : at + width], dtype=np.int64)))
        at += width
    for group in groups:
        if not group:  # nothing to merge: an axis of length one at the end stands for it
            shape.append(1)
    extra = iter(range(len(shape) - sum(not group for group in groups), len(shape)))
    merged = tuple(places[where[group[0]]] if group else next(extra) for group in groups)
    back = tuple(np.argsort(order))

    def restore(y: Array) -> Array:
        return y.reshape(moved_shape).transpose(back)

    return x.transpose(order).reshape(shape), merged, restore


def operand_values(
    slot: Operand | None,
    x: Array,
    sides: Sides,
    key: Array | None,
    signs: Any,
    forward: Array | None,
    seen: dict[str, Array] | None = None,
    name: str = "",
) -> Array:
    """What a slot makes of its operand: values of x's shape, float32 where x's dtype does not hold them.

    `seen` takes what rounding did to it, under `name`.
    """
    if slot is None:
        return x
    if slot.source == "forward" and forward is not None:
        x = forward
    elif slot.source == "bf16":
        x = straight_through(rounds_of("bfloat16"), False, x, None, None)
    rounds = slot.rounds
    numbers = None if rounds is None else numbers_for(rounds, x.shape, key, None)  # of the operand as it was given
    contracting = sides.contracting[-1:] if slot.axis == "last_contracting" else sides.contracting
    if slot.transform is not None:
        merged, (at,), restore = arranged(x, contracting)
        x = restore(hadamard(merged, slot.transform, at, signs))
    if rounds is None:
        return x
    amax_of = None
    if slot.scale != 1:
        amax_of, x = x, x.astype(jnp.float32) * np.float32(slot.scale)
    groups = _groups(rounds.format, sides.free, contracting)
    merged, axes, restore = arranged(x, *groups)
    numbers, amax_of = (v if v is None else arranged(v, *groups)[0] for v in (numbers, amax_of))
    if axes:
        rounds = replace(rounds, axis=axes[0] if len(axes) == 1 else axes)
    values = straight_through(rounds, False, merged, numbers, amax_of)  # second derivatives pass it
    if seen is not None:
        seen[name] = measured(rounds, merged, values, numbers, amax_of)
    return restore(values)


def _groups(fmt: Format | BlockFormat, free: Axes, contracting: Axes) -> tuple[Axes, ...]:
    """The axes that blocks run along, each taken as one."""
    if not isinstance(fmt, BlockFormat) or fmt.flat or fmt.block == ():
        return ()
    return (contracting,) if len(fmt.block) == 1 else (free, contracting)


def _operands_of(
    gemm: Gemm,
    which: str,
    operands: Sequence[tuple[str, Array, Sides, Array | None]],
    key: Any,
    seen: dict[str, Array] | None = None,
) -> tuple[Array, Array]:
    """Both operands of one of the three products, rounded."""
    own = None if key is None else fold(key, which)
    transform = next((s.transform for s in (gemm.lhs, gemm.rhs) if s is not None), None)
    signs = None if transform is None else signs_of(transform, own)
    values = []
    for slot, (name, x, sides, forward) in zip((gemm.lhs, gemm.rhs), operands, strict=True):
        slot_key = None if own is None or slot is None else fold(own, name)
        values.append(operand_values(slot, x, sides, slot_key, signs, forward, seen, f"{which}.{name}"))
    return values[0], values[1]


def multiply(
    product: Bilinear,
    gemm: Gemm,
    lhs: Array,
    rhs: Array,
    out_dtype: Any,
    function: Callable[..., Array],
    position: int | None = None,
) -> Array:
    """The product of rounded operands: accumulated as the recipe says, then the scales of the slots divided out.

    Args:
        position: of the operand whose cotangent it is; None for the forward product.
    """
    if isinstance(gemm.accumulate, DotUnit):
        from .units import accumulated

        return _unscaled(gemm, accumulated(product, gemm, lhs, rhs, position), jnp.float32).astype(out_dtype)
    dtype = jnp.promote_types(lhs.dtype, rhs.dtype)
    accumulate = jnp.dtype(gemm.accumulate or "float32")
    if out_dtype == jnp.float64:
        accumulate = jnp.dtype(out_dtype)
    y = function(
        lhs.astype(dtype), rhs.astype(dtype), precision=product.precision or lax.Precision.HIGHEST,
        preferred_element_type=accumulate,
    )  # fmt: skip
    return _unscaled(gemm, y, accumulate).astype(out_dtype)


def _unscaled(gemm: Gemm, y: Array, dtype: Any) -> Array:
    """A product without the scales of its slots."""
    scale = prod(Fraction(slot.scale) for slot in (gemm.lhs, gemm.rhs) if slot is not None)
    return y if scale == 1 else y * np.asarray(float(1 / scale), dtype)


# ---- the product and its gradients -----------------------------------------------------------------------------


def forward_operands(
    product: Bilinear, lhs: Array, rhs: Array, key: Any, seen: dict[str, Array] | None = None
) -> tuple[Array, Array]:
    """Both operands of the forward product, rounded; `seen` takes what rounding did to them."""
    operands = [("lhs", lhs, product.lhs, None), ("rhs", rhs, product.rhs, None)]
    return _operands_of(product.roles.forward, "fprop", operands, key, seen)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def product_of(product: Bilinear, lhs: Array, rhs: Array, key: Array | None, tap: Array | None = None) -> Array:
    """The product of rounded operands, whose gradients are products of rounded operands too.

    The cotangent of `tap`, where one is given, is what rounding did to the six operands (`measures.NAMES`):
    so it comes out of the backward pass, and adds up over the iterations of a loop.
    """
    gemm = product.roles.forward
    if gemm.is_identity:
        return product(lhs, rhs)
    out = jax.eval_shape(product, lhs, rhs)
    ql, qr = forward_operands(product, lhs, rhs, key)
    return multiply(product, gemm, ql, qr, out.dtype, product.of_rounded)


def _product_forward(product: Bilinear, lhs: Array, rhs: Array, key: Array | None, tap: Array | None) -> Any:
    return product_of(product, lhs, rhs, key), (lhs, rhs, key, tap)


def _product_backward(product: Bilinear, residuals: Any, g: Array) -> Any:
    lhs, rhs, key, tap = residuals
    seen: dict[str, Array] | None = None if tap is None else {}
    (of_lhs, operands_of_lhs), (of_rhs, operands_of_rhs) = backward_operands(product, lhs, rhs, g, key, seen)
    d_lhs = _cotangent(product, of_lhs, operands_of_lhs, lhs, 0)
    d_rhs = _cotangent(product, of_rhs, operands_of_rhs, rhs, 1)
    if seen is None:
        return d_lhs, d_rhs, None, None
    forward_operands(product, lhs, rhs, key, seen)
    nothing = jnp.zeros(len(NAMES), jnp.float32)
    return d_lhs, d_rhs, None, jnp.stack([seen.get(name, nothing) for name in product.roles.slot_names])


product_of.defvjp(_product_forward, _product_backward)


def backward_operands(
    product: Bilinear, lhs: Array, rhs: Array, g: Array, key: Any, seen: dict[str, Array] | None = None
) -> Any:
    """For the cotangents of lhs and of rhs: the product's recipe and both rounded operands, left and right."""
    roles = product.roles
    ql = qr = None
    if _uses_forward(roles):
        ql, qr = forward_operands(product, lhs, rhs, key)
    gemm, which = roles.of_lhs
    operands = [("grad", g, product.grad_for_lhs, None), ("rhs", rhs, product.rhs_for_lhs, qr)]
    of_lhs = gemm, _operands_of(gemm, which, operands, key, seen)
    gemm, which = roles.of_rhs
    operands = [("lhs", lhs, product.lhs_for_rhs, ql), ("grad", g, product.grad_for_rhs, None)]
    return of_lhs, (gemm, _operands_of(gemm, which, operands, key, seen))


def _uses_forward(roles: Roles) -> bool:
    slots = (roles.of_lhs[0].rhs, roles.of_rhs[0].lhs)
    return any(slot is not None and slot.source == "forward" for slot in slots)


def _cotangent(product: Bilinear, gemm: Gemm, operands: tuple[Array, Array], primal: Array, position: int) -> Array:
    """The cotangent of the operand at `position`: lax's transpose of the product, of rounded operands."""
    if gemm.is_identity:
        g, other = operands if position == 0 else operands[::-1]
        return _transposed(product, position, primal, other)(g)

    def function(a: Array, b: Array, *, precision: Any, preferred_element_type: Any) -> Array:
        dtype = preferred_element_type
        g, other = (x.astype(dtype) for x in ((a, b) if position == 0 else (b, a)))
        linear = partial(product.of_rounded, precision=precision, preferred_element_type=dtype)
        called = (lambda p: linear(p, other)) if position == 0 else (lambda p: linear(other, p))
        (d,) = jax.linear_transpose(called, jax.typeof(primal).update(dtype=jnp.dtype(dtype)))(g)
        return d

    return multiply(product, gemm, *operands, primal.dtype, function, position)


def _transposed(product: Bilinear, position: int, primal: Array, other: Array) -> Callable[[Array], Array]:
    called = (lambda p: product(p, other)) if position == 0 else (lambda p: product(other, p))
    transpose = jax.linear_transpose(called, jax.typeof(primal))
    return lambda g: transpose(g)[0]


def checked_key(recipe: Recipe, key: Key | None) -> Array | None:
    """The words of a key where a recipe needs one; raises ValueError where it is missing."""
    if not recipe.needs_key:
        return None
    if key is None:
        which = next(name for name, slot in recipe.slots().items() if slot is not None and slot.needs_key)
        raise ValueError(
            f"recipe {recipe} is given without a key; its slot {which} is random: give key= (jax.random.key)"
        )
    return key_words(key)


def cotangents(product: Bilinear, lhs: Array, rhs: Array, g: Array, key: Array | None) -> tuple[Array, Array]:
    """The cotangents of both operands, as the product's recipe has them."""
    d_lhs, d_rhs, _, _ = _product_backward(product, (lhs, rhs, key, None), g)
    return d_lhs, d_rhs


def floats(x: Any) -> Array:
    """An operand as an array; raises TypeError for dtypes that recipes do not take."""
    array = jnp.asarray(x)
    if array.dtype not in (jnp.float32, jnp.float16, jnp.bfloat16):
        raise TypeError(f"an operand of dtype {array.dtype} is given; recipes take float16, bfloat16 and float32")
    return array
