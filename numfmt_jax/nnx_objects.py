"""Flax nnx objects as arguments of emulated functions: arrays in, arrays out, and what a call changes is given back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx


@jax.tree_util.register_pytree_node_class
class Opened:
    """The variables of an nnx object as a pytree, with what makes it an object again."""

    def __init__(self, state: Any, index: int, graph: Any) -> None:
        self.state, self.index, self.graph = state, index, graph

    def tree_flatten(self) -> tuple[tuple[Any], tuple[int, Any]]:
        """Children and the rest, for JAX."""
        return (self.state,), (self.index, self.graph)

    @classmethod
    def tree_unflatten(cls, rest: Any, children: Any) -> Opened:
        """The inverse of `tree_flatten`."""
        return cls(children[0], *rest)


def _is_object(x: Any) -> bool:
    return isinstance(x, (nnx.Pytree, nnx.Variable))


def _stops(x: Any) -> bool:
    return _is_object(x) or isinstance(x, nnx.State)  # what a State holds is an ordinary pytree


def _is_opened(x: Any) -> bool:
    return isinstance(x, Opened)


def objects_in(tree: Any) -> tuple[Any, ...]:
    """The nnx objects of a tree."""
    return tuple(leaf for leaf in jax.tree.leaves(tree, is_leaf=_stops) if _is_object(leaf))


def opened(tree: Any) -> Any:
    """The tree with its nnx objects as `Opened`: what they share stays shared."""
    graph, state = nnx.split(objects_in(tree))
    parts = iter([Opened(state.get(i), i, graph) for i in range(len(objects_in(tree)))])
    return jax.tree.map(lambda x: next(parts) if _is_object(x) else x, tree, is_leaf=_stops)


def closed(tree: Any) -> tuple[Any, tuple[Any, ...]]:
    """The inverse of `opened`, and the objects."""
    parts = [leaf for leaf in jax.tree.leaves(tree, is_leaf=_is_opened) if _is_opened(leaf)]
    state = nnx.State({part.index: part.state for part in parts if part.state is not None})
    objects = nnx.merge(parts[0].graph, state)
    rest = iter(objects)
    return jax.tree.map(lambda x: next(rest) if _is_opened(x) else x, tree, is_leaf=_is_opened), objects


def functional(held: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
    """The function that `held` gives, of opened arguments; it also returns what its objects hold afterwards."""

    def pure(*args: Any, **kwargs: Any) -> Any:
        (args, kwargs), objects = closed((args, kwargs))
        return held()(*args, **kwargs), nnx.split(objects)[1]

    return pure


def update(objects: tuple[Any, ...], after: Any) -> None:
    """Gives objects the variables that a call has changed."""
    before = dict(nnx.to_flat_state(nnx.split(objects)[1]))
    changed = [(path, new) for path, new in nnx.to_flat_state(after) if _value(new) is not _value(before.get(path))]
    if changed:
        nnx.update(objects, nnx.from_flat_state(changed))


def _value(variable: Any) -> Any:
    return variable.get_raw_value() if hasattr(variable, "get_raw_value") else variable
