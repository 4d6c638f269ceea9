"""Convolutions whose operands are rounded as a recipe says."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
from jax import lax

from numfmt import DotUnit

from .gemm import Bilinear, Sides, checked_key, floats, product_of
from .random import Key
from .recipe import Recipe, Roles, as_recipe

Array = jax.Array


def conv_general_dilated(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: Any,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    *,
    recipe: Recipe | str | None = None,
    key: Key | None = None,
    weight: str = "rhs",
    tap: Array | None = None,
) -> Array:
    """lax.conv_general_dilated with operands rounded as a recipe says, in the product and in its two gradients.

    Blocks run along the features that are summed: the input's features forward, the output's in dgrad, and
    along the batch in wgrad, as in microxcaling mx/convolution.py. Tiles cover the other axes, taken as one.

    Args:
        lhs … preferred_element_type: as for lax.conv_general_dilated.
        recipe, key, weight, tap: as for `dot_general`.

    Raises:
        ValueError, TypeError: as `dot_general`.

    >>> import jax.numpy as jnp
    >>> x, w = jnp.ones((2, 32, 5, 5)), jnp.full((8, 32, 3, 3), 0.3)
    >>> conv_general_dilated(x, w, (1, 1), "SAME", recipe="mxfp8").shape
    (2, 8, 5, 5)
    """
    chosen = as_recipe(recipe)
    options = (
        tuple(window_strides), padding if isinstance(padding, str) else tuple(map(tuple, padding)),
        _tuple(lhs_dilation), _tuple(rhs_dilation), dimension_numbers, feature_group_count, batch_group_count,
    )  # fmt: skip
    if chosen.is_identity:
        return lax.conv_general_dilated(lhs, rhs, *options, precision, preferred_element_type)
    if any(isinstance(gemm.accumulate, DotUnit) for gemm in (chosen.fprop, chosen.dgrad, chosen.wgrad)):
        raise ValueError("a recipe that accumulates in a unit is given for a convolution; only dot_general takes it")
    lhs, rhs = floats(lhs), floats(rhs)
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    options = (*options[:4], numbers, *options[5:])
    of_lhs, of_rhs, of_out = (tuple(spec) for spec in (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec))

    def sides(spec: tuple[int, ...], which: int) -> Sides:
        """`which` is the place of the contracted axis in a spec (batch or output, features, …)."""
        return Sides((spec[which],), tuple(sorted(i for i in spec if i != spec[which])))

    product = Bilinear(
        partial(_conv, options),
        sides(of_lhs, 1), sides(of_rhs, 1),
        sides(of_out, 1), sides(of_rhs, 0),
        sides(of_out, 0), sides(of_lhs, 0),
        precision, preferred_element_type, Roles(chosen, weight),
    )  # fmt: skip
    return product_of(product, lhs, rhs, checked_key(chosen, key), tap)


def _tuple(given: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if given is None else tuple(given)


def _conv(options: Any, lhs: Array, rhs: Array, *, precision: Any, preferred_element_type: Any) -> Array:
    everything = (lhs, rhs, *options, precision, preferred_element_type)
    return lax.conv_general_dilated(*everything)
