"""Layers that call themselves under a name, for frameworks whose layers have none."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax


@lru_cache(maxsize=4096)
def named_class(cls: Any, name: str) -> Any:
    """A subclass whose `__call__` runs in a jax.named_scope; of a class that has a name already, its plain one's."""
    if getattr(cls, "_scope", None) is not None:
        cls = cls.__mro__[1]

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        with jax.named_scope(name):
            return cls.__call__(self, *args, **kwargs)

    own = {"__call__": __call__, "_scope": name, "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls)(cls.__name__, (cls,), own)
