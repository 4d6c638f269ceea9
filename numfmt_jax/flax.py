"""Flax nnx: names for its layers. Linen names its layers itself."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
from flax import nnx


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
        modules[path].__class__ = _named_class(type(modules[path]), "/".join(map(str, path[above:])))
    return model


@lru_cache(maxsize=4096)
def _named_class(cls: Any, name: str) -> Any:
    if getattr(cls, "_scope", None) is not None:
        cls = cls.__mro__[1]

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        with jax.named_scope(name):
            return cls.__call__(self, *args, **kwargs)

    own = {"__call__": __call__, "_scope": name, "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls)(cls.__name__, (cls,), own)
