"""Flax nnx: names for its layers. Linen names its layers itself."""

from __future__ import annotations

from typing import Any

from flax import nnx

from .naming import named_class


def named(model: Any) -> Any:
    """The same nnx model, each of whose layers calls itself under the name that it has in the model.

    Attributes, variables and optimizers that hold it stay as they are: each module's class becomes a subclass that
    differs in `__call__` alone. Paths compose: "layers/0/fc1/dot_general". A layer in two places has the first name.

    >>> from flax import nnx
    >>> import jax.numpy as jnp, numfmt_jax
    >>> model = named(nnx.Sequential(nnx.Linear(4, 8, rngs=nnx.Rngs(0)), nnx.relu))
    >>> numfmt_jax.paths(lambda model, x: model(x), model, jnp.ones((2, 4)))
    ('layers/0/dot_general',)
    """
    modules = {path: module for path, module in nnx.iter_modules(model)}
    callers = {path for path, module in modules.items() if callable(module)}
    for path in sorted(callers, key=len):
        if not path:
            continue
        above = max((len(p) for p in callers if len(p) < len(path) and path[: len(p)] == p), default=0)
        modules[path].__class__ = named_class(type(modules[path]), "/".join(map(str, path[above:])))
    return model
