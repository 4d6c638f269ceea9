"""The compiled engine: the kernels inside Numba loops, cached on disk.

Nothing here imports Numba until a large array asks for it. Where Numba is absent, or fails, everything
works in NumPy, more slowly.
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ._core.parameters import BINARY32, BINARY64, Carrier
from .formats import CodebookFormat, Format
from .plans import Plan
from .sources import decode_plan, decode_table

if TYPE_CHECKING:
    from .scheduler import RandomSource

Array = npt.NDArray[Any]

SMALL = 1 << 16  # below so many elements NumPy works until a larger array has loaded the loop

_lock = threading.RLock()
_loops: dict[tuple[Any, ...], Any] = {}


@lru_cache(maxsize=8)
def _module(name: str = "loops") -> ModuleType | None:
    """A module that holds Numba code, or None where Numba cannot be had."""
    if importlib.util.find_spec("numba") is None:
        return None
    try:
        return importlib.import_module(f".{name}", __package__)
    except ImportError:  # an interpreter or a NumPy that Numba does not support yet
        return None


def _loop(name: tuple[Any, ...], size: int, module: str = "loops") -> Any:
    """The compiled loop called `name`; None where Numba is absent or the array too small to load it."""
    loop = _loops.get((module, *name))
    if loop is None and size >= SMALL:
        with _lock:
            found = _module(module)
            if found is not None:
                loop = _loops[module, *name] = found.make(*name)
    return loop


def block_loop(name: tuple[Any, ...], size: int) -> Any:
    """The same for the loops over blocks."""
    return _loop(name, size, "block_loops")


def arithmetic_loop(name: tuple[Any, ...], size: int) -> Any:
    """The same for the loops over operations."""
    return _loop(name, size, "arithmetic_loops")


def unit_loop(name: tuple[Any, ...], size: int) -> Any:
    """The same for the loops over dot-product units."""
    return _loop(name, size, "unit_loops")


def aligned_loop(name: tuple[Any, ...], size: int) -> Any:
    """The same for those of units that align what they add."""
    return _loop(name, size, "unit_aligned_loops")


Engine = Callable[[Plan, Any, "RandomSource | None", int, Array, bool], None]


def engine_for(plan: Plan, size: int, in_carrier: bool, random: RandomSource | None) -> Engine | None:
    """A function that fills a flat array with a plan's results, or None where NumPy is to do it."""
    if plan.kernel not in ("float", "fixed") or plan.carrier not in (BINARY32, BINARY64):
        return None
    randomness = "none"
    if random is not None:
        whole_words = plan.mode == (0, 0, 0, 0, 32, 2**31 - 1)  # of the mode "stochastic"
        randomness = "given" if random.key is None else "word" if whole_words else "seed"
    loop = _loop((plan.kernel, in_carrier, plan.carrier.bits, plan.general, randomness), size)
    if loop is None:
        return None
    p = parameter_vector(plan)

    def engine(
        plan: Plan, patterns: Any, random: RandomSource | None, start: int, out: Array, in_carrier: bool
    ) -> None:
        if in_carrier:
            out = out.view(patterns.dtype)
        if random is None:
            loop(patterns, p, out)
        elif random.key is not None:
            k0, k1 = random.key
            loop(patterns, p, out, k0, k1, start, 32 - random.count)
        else:
            loop(patterns, p, out, random.numbers(start, start + out.size))

    return engine


@lru_cache(maxsize=1024)
def parameter_vector(plan: Plan) -> npt.NDArray[np.int64]:
    """A plan's integers in one array: mode, results, target or grid."""
    return np.array([*plan.mode, *plan.results, *plan.parameters], np.int64)


def decoder_for(fmt: Format, carrier: Carrier, size: int) -> Callable[[Array, Array], None] | None:
    """A function that fills a flat float array from flat unsigned codes, or None where NumPy is to do it."""
    if carrier not in (BINARY32, BINARY64) or fmt.bits > carrier.bits:
        return None
    dtype = np.dtype(f"int{carrier.bits}")
    if fmt.bits <= 16:
        take = _loop(("take",), size)
        if take is None:
            return None
        table, mask = decode_table(fmt, carrier), 2**fmt.bits - 1
        return lambda codes, out: take(codes, table, mask, out.view(dtype))
    if isinstance(fmt, CodebookFormat):
        return None
    source = decode_plan(fmt, carrier)
    loop = _loop(("decode", type(source).__name__, carrier.bits), size)
    if loop is None:
        return None
    p = np.array(source, np.int64)
    return lambda codes, out: loop(codes, p, out.view(dtype))


def random_engine(size: int) -> Callable[[tuple[int, int], int, Array], None] | None:
    """A function that fills a flat uint32 array with random words, or None where NumPy is to do it."""
    loop = _loop(("random",), size)
    if loop is None:
        return None
    return lambda key, start, out: loop(key[0], key[1], start, out)
