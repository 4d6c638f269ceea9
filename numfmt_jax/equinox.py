"""Equinox: names for its layers, which know their classes alone."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax

from .naming import named_class


def named(model: Any) -> Any:
    """A copy of an equinox model, each of whose layers calls itself under the name that it has in the model.

    Its arrays are the same; each module's class becomes a subclass that differs in `__call__` alone.
    Paths compose with equinox's own names: "layers/0/eqx.nn.Linear/dot_general".

    >>> import equinox as eqx, jax, jax.numpy as jnp, numfmt_jax
    >>> model = named(eqx.nn.Sequential([eqx.nn.Linear(4, 8, key=jax.random.key(0))]))
    >>> numfmt_jax.paths(lambda model, x: model(x), model, jnp.ones(4))
    ('eqx.nn.Sequential/layers/0/eqx.nn.Linear/dot_general',)
    """
    return _named(model, "")


def _named(module: Any, name: str) -> Any:
    """The module under `name`, and what it holds under names of their own."""
    below = jax.tree_util.tree_flatten_with_path(module, is_leaf=lambda x: x is not module and _is_module(x))
    leaves, structure = below
    prefix = "" if callable(module) or not name else f"{name}/"
    renamed = [_named(leaf, prefix + _path(path)) if _is_module(leaf) else leaf for path, leaf in leaves]
    copy = jax.tree.unflatten(structure, renamed)
    cls: Any = type(copy)
    return _of_class(copy, named_class(cls, name)) if name and callable(copy) else copy


def _is_module(x: Any) -> bool:
    return isinstance(x, eqx.Module)


def _path(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _of_class(module: Any, cls: Any) -> Any:
    copy = object.__new__(cls)
    for field, value in vars(module).items():
        object.__setattr__(copy, field, value)
    return copy
