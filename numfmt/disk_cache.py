"""Numba's on-disk cache for loops whose machine code depends on more than their own file.

Numba notices a changed file only where the loop itself stands; kernels are inlined from other files.
So the directory is keyed by everything that decides the machine code: the sources of all kernels and of
the compiled engine, the versions of Python, Numba and llvmlite, and the processor.
"""

from __future__ import annotations

import hashlib
import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from llvmlite import binding
from numba.core import caching

_SOURCES = ("lanes.py", "simd.py", "*loops.py", "disk_cache.py", "_core/*.py")


@lru_cache(maxsize=1)
def directory() -> Path | None:
    """Where compiled loops are kept, or None where nothing can be written.

    NUMFMT_CACHE_DIR, else numfmt under XDG_CACHE_HOME or ~/.cache; in it a directory a key.
    """
    root = os.environ.get("NUMFMT_CACHE_DIR")
    try:
        base = Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "numfmt"
        path = base / key()
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except (OSError, RuntimeError):
        return None
    return path


def key(package: Path = Path(__file__).parent) -> str:
    """A digest of what decides the machine code."""
    digest = hashlib.sha256()
    for pattern in _SOURCES:
        for source in sorted(package.glob(pattern)):
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
    processor = f"{binding.get_host_cpu_name()} {binding.get_host_cpu_features().flatten()}"
    for fact in (sys.version, numba.__version__, llvmlite.__version__, processor):
        digest.update(fact.encode() + b"\0")
    return digest.hexdigest()[:24]


class _Locator(caching._CacheLocator):
    """Puts every loop into `directory()`; the directory's name is the stamp."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get_cache_path(self) -> str:
        return str(self.path)

    def get_source_stamp(self) -> str:
        return self.path.name

    def get_disambiguator(self) -> str:
        return ""

    @classmethod
    def from_function(cls, function: Any, file: str) -> _Locator | None:
        path = directory()
        return None if path is None else cls(path)


class _Implementation(caching.CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012  (the base class's own attribute)


class _Cache(caching.FunctionCache):
    _impl_class = _Implementation

    def _index_key(self, signature: Any, codegen: Any) -> Any:
        """Loops are told apart by name and signature; the rest is in the directory's key."""
        return signature, codegen.magic_tuple()


def enable(dispatcher: Any, name: str) -> Any:
    """A Numba function that is cached on disk under `name`, where a cache can be written."""
    dispatcher.py_func.__qualname__ = name
    if directory() is not None:
        dispatcher._cache = _Cache(dispatcher.py_func)
    return dispatcher
