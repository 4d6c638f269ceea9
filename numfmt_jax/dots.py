"""dot_general and its like: products whose operands are rounded as a recipe says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import jax
from jax import lax

from .gemm import Axes, Bilinear, Sides, backward_operands, checked_key, floats, forward_operands, product_of
from .random import Key
from .recipe import Recipe, Roles, as_recipe

Array = jax.Array


def dot_general(
    lhs: Any,
    rhs: Any,
    dimension_numbers: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
    *,
    out_sharding: Any = None,
    recipe: Recipe | str | None = None,
    key: Key | None = None,
    weight: str = "rhs",
    tap: Array | None = None,
) -> Array:
    """lax.dot_general with operands rounded as a recipe says, in the product and in its two gradients.

    Args:
        lhs, rhs, dimension_numbers, precision, preferred_element_type, out_sharding: as for lax.dot_general.
        recipe: `Recipe`, its name, or None: then the call is lax's own.
        key: for recipes with stochastic rounding or random signs; each slot takes words of its own.
        weight: which operand is the recipe's weight, "rhs" or "lhs".
        tap: for `stats`: zeros, float32 (6, len(measures.NAMES)), whose cotangent is what rounding did.

    Returns:
        Array of the shape and dtype that lax gives. Rounded operands are accumulated in float32, or as the recipe says.

    Raises:
        ValueError: an unknown recipe, a random one without a key, a Hadamard transform that does not divide
            the contracted length.
        TypeError: operands that are not float16, bfloat16 or float32.

    >>> import jax.numpy as jnp
    >>> x, w = jnp.ones((4, 32)), jnp.full((32, 8), 0.3)
    >>> dot_general(x, w, (((1,), (0,)), ((), ())), recipe="mxfp8")[0, 0].tolist()
    10.0
    """
    chosen = as_recipe(recipe)
    keywords = {} if out_sharding is None else {"out_sharding": out_sharding}
    if chosen.is_identity:
        return lax.dot_general(lhs, rhs, dimension_numbers, precision, preferred_element_type, **keywords)
    lhs, rhs = floats(lhs), floats(rhs)
    product = bilinear(
        dimension_numbers, lhs.ndim, rhs.ndim, precision, preferred_element_type, Roles(chosen, weight),
        tuple(keywords.items()),
    )  # fmt: skip
    return product_of(product, lhs, rhs, checked_key(chosen, key), tap)


def operands(
    lhs: Any,
    rhs: Any,
    cotangent: Any,
    dimension_numbers: Any,
    *,
    recipe: Recipe | str,
    key: Key | None = None,
    weight: str = "rhs",
) -> dict[str, Array]:
    """The six rounded operands of `dot_general` and its two gradients, as the products take them.

    Args:
        cotangent: of the product; the rest as for `dot_general`.

    Returns:
        Arrays by slot: fprop.lhs, fprop.rhs, dgrad.grad, dgrad.rhs, wgrad.lhs, wgrad.grad. Each has its
        operand's shape; one with a Hadamard transform is transformed.

    >>> import jax.numpy as jnp
    >>> x, w, g = jnp.ones((4, 32)), jnp.full((32, 8), 0.3), jnp.ones((4, 8))
    >>> made = operands(x, w, g, (((1,), (0,)), ((), ())), recipe="mxfp8")
    >>> made["dgrad.rhs"][0, 0].tolist()
    0.3125
    """
    lhs, rhs, g = floats(lhs), floats(rhs), floats(cotangent)
    chosen = as_recipe(recipe)
    product = bilinear(dimension_numbers, lhs.ndim, rhs.ndim, None, None, Roles(chosen, weight))
    words = checked_key(chosen, key)
    (_, of_lhs), (_, of_rhs) = backward_operands(product, lhs, rhs, g, words)
    x, w = forward_operands(product, lhs, rhs, words)
    if weight == "lhs":
        (g_w, x_w), (w_d, g_d), (w, x) = of_lhs, of_rhs, (x, w)
    else:
        (g_d, w_d), (x_w, g_w) = of_lhs, of_rhs
    return dict(zip(chosen.slots(), (x, w, g_d, w_d, x_w, g_w), strict=True))


def bilinear(
    dimension_numbers: Any, lhs_ndim: int, rhs_ndim: int, precision: Any, dtype: Any, roles: Roles, keywords: Any = ()
) -> Bilinear:
    """A dot_general as a product with roles."""
    numbers = _normalized(dimension_numbers)
    function = partial(_dot, numbers, keywords)
    matrices = None if keywords else _of_matrices(numbers, lhs_ndim, rhs_ndim)
    return Bilinear(function, *_sides(numbers, lhs_ndim, rhs_ndim), precision, dtype, roles, numbers, matrices)


def _dot(numbers: Any, keywords: Any, lhs: Array, rhs: Array, **options: Any) -> Array:
    return lax.dot_general(lhs, rhs, numbers, **options, **dict(keywords))


def _of_matrices(numbers: Any, lhs_ndim: int, rhs_ndim: int) -> Callable[..., Array] | None:
    """The dot_general of operands merged to two axes each; None where one is batched, or axes would have to move.

    XLA's CPU backend transposes the operands of products over several axes, as the gradients of weights are, and does
    so within whatever computes them, across the rows of a cache. Of matrices it multiplies either orientation.
    """
    (lc, rc), batched = numbers
    pairs = sorted(zip(lc, rc, strict=True))
    contracted = [tuple(axes) for axes in zip(*pairs, strict=True)] or [(), ()]
    l_end, r_end = (_end(axes, ndim) for axes, ndim in zip(contracted, (lhs_ndim, rhs_ndim), strict=True))
    if any(batched) or l_end is None or r_end is None or lhs_ndim == rhs_ndim == 2:
        return None

    def product(lhs: Array, rhs: Array, **options: Any) -> Array:
        (a, rows), (b, columns) = _matrix(lhs, contracted[0], l_end), _matrix(rhs, contracted[1], r_end)
        return lax.dot_general(a, b, (((l_end,), (r_end,)), ((), ())), **options).reshape(rows + columns)

    return product


def _matrix(x: Array, axes: Axes, end: int) -> tuple[Array, Axes]:
    """The operand with `axes` merged into the axis `end`, and the shape of its others."""
    others = tuple(n for i, n in enumerate(x.shape) if i not in axes)
    sizes = prod(others), prod(x.shape[i] for i in axes)
    return x.reshape(sizes if end else sizes[::-1]), others


def _end(axes: Axes, ndim: int) -> int | None:
    """Of a matrix whose axes are `axes`, merged, and all others: the axis that is `axes`; None where none is."""
    places = [i for i in range(ndim) if i not in axes]
    if not axes or not places:
        return None
    return {axes + tuple(places): 0, tuple(places) + axes: 1}.get(tuple(range(ndim)))


def _normalized(dimension_numbers: Any) -> Any:
    (lc, rc), (lb, rb) = dimension_numbers
    return (tuple(lc), tuple(rc)), (tuple(lb), tuple(rb))


def _sides(numbers: Any, lhs_ndim: int, rhs_ndim: int) -> tuple[Sides, Sides, Sides, Sides, Sides, Sides]:
    (lc, rc), (lb, rb) = numbers
    pairs = sorted(zip(lc, rc, strict=True))  # both operands merge the contracted axes in one order, that of lhs
    lc, rc = tuple(i for i, _ in pairs), tuple(j for _, j in pairs)
    l_free = tuple(i for i in range(lhs_ndim) if i not in (*lc, *lb))
    r_free = tuple(i for i in range(rhs_ndim) if i not in (*rc, *rb))
    of_lhs = tuple(range(len(lb), len(lb) + len(l_free)))  # where the free axes are in the result
    of_rhs = tuple(range(len(lb) + len(l_free), len(lb) + len(l_free) + len(r_free)))
    return (
        Sides(lc, l_free), Sides(rc, r_free),
        Sides(of_rhs, of_lhs), Sides(r_free, rc),
        Sides(of_lhs, of_rhs), Sides(l_free, lc),
    )  # fmt: skip


@dataclass(frozen=True)
class _Bound:
    """A drop-in for lax.dot_general."""

    recipe: Recipe
    key: Any = None
    weight: str = "rhs"

    def __call__(self, lhs: Any, rhs: Any, dimension_numbers: Any, precision: Any = None, **options: Any) -> Array:
        return dot_general(
            lhs, rhs, dimension_numbers, precision, **options, recipe=self.recipe, key=self.key, weight=self.weight
        )


def bind(recipe: Recipe | str, *, key: Key | None = None, weight: str = "rhs") -> Callable[..., Array]:
    """`dot_general` with the recipe filled in, for `dot_general=` of flax layers.

    Layers that share a key share noise: fold a number of the layer's own into it, or use `emulate`, which does.

    >>> import jax.numpy as jnp
    >>> dot = bind("mxfp8")
    >>> dot(jnp.ones((2, 32)), jnp.ones((32, 3)), (((1,), (0,)), ((), ()))).shape
    (2, 3)
    """
    chosen = as_recipe(recipe)
    checked_key(chosen, key)
    return _Bound(chosen, key, weight)
