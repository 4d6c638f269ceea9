"""Functions of any pytrees as jaxprs: arrays are traced, every other leaf is part of what is traced."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary, ref

import jax
import numpy as np


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True)
class Outputs:
    """What a function returned: arrays, which are traced, and everything else, which is not."""

    arrays: tuple[Any, ...]
    tree: Any
    fixed: tuple[tuple[int, Any], ...]

    @classmethod
    def of(cls, result: Any) -> Outputs:
        """A result taken apart."""
        arrays, tree, fixed = partition(result)
        return cls(tuple(arrays), tree, fixed)

    def together(self, arrays: Sequence[Any]) -> Any:
        """The result with these arrays."""
        return joined(arrays, self.tree, self.fixed)

    def tree_flatten(self) -> tuple[tuple[Any, ...], Any]:
        """Children and the rest, for JAX."""
        return self.arrays, (self.tree, self.fixed)

    @classmethod
    def tree_unflatten(cls, rest: Any, arrays: Any) -> Outputs:
        """The inverse of `tree_flatten`."""
        return cls(tuple(arrays), *rest)


def _is_array(leaf: Any) -> bool:
    if isinstance(leaf, (np.ndarray, np.generic)):
        return leaf.dtype.kind not in "OSUMm"
    return isinstance(leaf, (jax.Array, jax.ShapeDtypeStruct))


def partition(tree: Any) -> tuple[list[Any], Any, tuple[tuple[int, Any], ...]]:
    """The arrays of a tree, its structure, and its other leaves with their places."""
    leaves, structure = jax.tree.flatten(tree)
    arrays = [leaf for leaf in leaves if _is_array(leaf)]
    return arrays, structure, tuple((i, leaf) for i, leaf in enumerate(leaves) if not _is_array(leaf))


def joined(arrays: Sequence[Any], structure: Any, fixed: tuple[tuple[int, Any], ...]) -> Any:
    """The inverse of `partition`."""
    others = dict(fixed)
    rest = iter(arrays)
    return structure.unflatten([others[i] if i in others else next(rest) for i in range(structure.num_leaves)])


@dataclass
class Cache:
    """What is kept about a function: its jitted forms by structure of the arguments, and programs by jaxpr."""

    jitted: dict[Hashable, Any] = field(default_factory=dict)
    programs: dict[Hashable, Any] = field(default_factory=dict)
    functional: Any = None


_CACHES: WeakKeyDictionary[Any, Cache] = WeakKeyDictionary()


def cache_of(fn: Any) -> Cache:
    """The cache of a function, which goes with it."""
    try:
        return _CACHES.setdefault(fn, Cache())
    except TypeError:  # it has no hash, or no weak references
        return Cache()


def held(fn: Any) -> Callable[[], Any]:
    """fn held weakly, because what holds it is in its own cache."""
    try:
        return ref(fn)
    except TypeError:
        return lambda: fn


@dataclass(frozen=True)
class Trace:
    """A function traced for some arguments: a jaxpr of one jitted call, and its results."""

    closed: Any
    outputs: Outputs

    @property
    def inner(self) -> Any:
        """The jaxpr of the function, the same object whenever JAX finds the function in its cache."""
        eqns = self.closed.jaxpr.eqns
        return eqns[0].params["jaxpr"] if len(eqns) == 1 and eqns[0].primitive.name in ("jit", "pjit") else None


def trace(fn: Callable[..., Any], cache: Cache, arrays: list[Any], structure: Any, fixed: Any) -> Trace:
    """The jaxpr of fn; JAX's own cache decides whether fn runs."""
    try:
        kind = (structure, tuple((i, type(leaf), leaf) for i, leaf in fixed))
        jitted = cache.jitted.get(kind)
    except TypeError:  # a leaf, or data of a structure, that has no hash
        kind, jitted = None, None
    if jitted is None:
        jitted = jax.jit(_flat(fn, structure, fixed))
        if kind is not None:
            cache.jitted[kind] = jitted
    closed, outputs = jax.make_jaxpr(jitted, return_shape=True)(arrays)
    return Trace(closed, outputs)


def _flat(fn: Callable[..., Any], structure: Any, fixed: Any) -> Callable[[list[Any]], Outputs]:
    """fn as a function of arrays."""
    function = held(fn)

    def flat(arrays: list[Any]) -> Outputs:
        args, kwargs = joined(arrays, structure, fixed)
        return Outputs.of(function()(*args, **kwargs))

    return flat
