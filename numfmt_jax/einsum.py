"""einsum whose matrix products are rounded as a recipe says."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from .emulate import emulate
from .policy import Policy
from .random import Key
from .recipe import Recipe, as_recipe

Array = jax.Array


def einsum(
    subscripts: str,
    *operands: Any,
    recipe: Recipe | str | None = None,
    key: Key | None = None,
    weights: int | tuple[int, ...] = -1,
    **options: Any,
) -> Array:
    """jnp.einsum with the operands of its matrix products rounded as a recipe says, and those of the gradients.

    Args:
        subscripts, operands, options: as for jnp.einsum.
        recipe: `Recipe`, its name, or None: then the call is jnp's own.
        key: for recipes with stochastic rounding or random signs.
        weights: which operands are weights; by default the last.

    Raises:
        ValueError: an unknown recipe, a random one without a key, subscripts without a matrix product.

    >>> import jax.numpy as jnp
    >>> x, w = jnp.ones((2, 4, 32)), jnp.full((32, 8), 0.3)
    >>> einsum("btd,df->btf", x, w, recipe="mxfp8").shape
    (2, 4, 8)
    """
    chosen = as_recipe(recipe)
    function = partial(jnp.einsum, subscripts, **options)
    if chosen.is_identity:
        return function(*operands)
    given = (weights,) if isinstance(weights, int) else weights
    where = tuple(i % len(operands) for i in given)
    return emulate(lambda *arrays: function(*arrays), Policy({"*": chosen}), key=key, weights=where)(*operands)
