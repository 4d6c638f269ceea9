"""Runs a plan over an array: chunks that fit the cache, threads, and the compiled engine where it pays."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import compiled, engines, lookup
from .plans import Plan
from .random import aligned
from .sources import Operand

Array = npt.NDArray[Any]

CHUNK = 1 << 15  # elements of a NumPy chunk: an int64 temporary of it takes 256 KiB
LONG_CHUNK = 1 << 19  # of the compiled engine, which makes no temporaries
PARALLEL = 1 << 17  # elements from which a second thread pays


@dataclass(frozen=True)
class RandomSource:
    """Random numbers of a call: given ones, or those of a key, made element by element."""

    key: tuple[int, int] | None = None
    given: Array | None = None  # flat uint32
    count: int = 32

    def numbers(self, start: int, stop: int) -> npt.NDArray[np.uint32]:
        """Random numbers of elements start … stop - 1."""
        if self.given is not None:
            return self.given[start:stop]
        assert self.key is not None
        return aligned(engines.random_words(self.key, start, stop), self.count)

    def every(self, size: int, threads: int | None) -> npt.NDArray[np.uint32]:
        """The random numbers of `size` elements as an array."""
        if self.given is not None:
            return self.given
        assert self.key is not None
        words = np.empty(size, np.uint32)
        fill_random(self.key, 0, words, threads)
        words >>= np.uint32(32 - self.count)
        return words



def run(
    plan: Plan,
    operand: Operand,
    random: RandomSource | None,
    in_carrier: bool,
    out: Array,
    finish: Callable[[Any], Any] | None,
    threads: int | None,
) -> None:
    """Fill `out` with the plan's results.

    Args:
        out: array of the operand's shape; of a dtype that codes or, `in_carrier`, patterns cast to.
        finish: maps a chunk of patterns to what `out` holds, where that is something else.
    """
    size = out.size
    contiguous = operand.array.flags.c_contiguous
    x = operand.array.reshape(-1) if contiguous else operand.array.flat
    direct = out.flags.c_contiguous
    y: Any = out.reshape(-1) if direct else out.flat
    engine = compiled.engine_for(plan, size, in_carrier, random) if finish is None and direct else None
    chunk = LONG_CHUNK
    if engine is None and finish is None and direct and random is None:
        engine, chunk = lookup.engine_for(plan, size, in_carrier, out.dtype), lookup.CHUNK
    whole = contiguous and operand.array.dtype.kind == "f" and operand.array.dtype.itemsize * 8 == plan.carrier.bits

    def work(start: int, stop: int) -> None:
        part = x[start:stop]
        patterns = operand.patterns(part, plan.carrier)
        if engine is not None:
            engine(plan, patterns, random, start, y[start:stop], in_carrier)
            return
        numbers = None if random is None else random.numbers(start, stop)
        if isinstance(patterns, list):
            result = engines.apply_exactly(plan, patterns, None if numbers is None else numbers.tolist(), in_carrier)
            chunk: Any = np.empty(len(result), object)
            chunk[:] = result
        else:
            words = None if numbers is None else _as_patterns(numbers, plan)
            chunk = engines.apply(plan, patterns, words, in_carrier)
        if finish is not None:
            chunk = finish(chunk)
        elif in_carrier:
            chunk = chunk.view(out.dtype)
        if direct:
            np.copyto(y[start:stop], chunk, casting="unsafe")
        else:
            y[start:stop] = chunk.astype(out.dtype)

    over_chunks(work, size, chunk if engine is not None and whole else CHUNK, thread_count(threads, size))


def _as_patterns(numbers: npt.NDArray[np.uint32], plan: Plan) -> Any:
    """Random numbers in the carrier's integer type, as bit patterns."""
    if plan.carrier.bits == 32:
        return numbers.view(np.int32)
    return numbers.astype(np.int64)


def fill_random(key: tuple[int, int], offset: int, out: npt.NDArray[np.uint32], threads: int | None = None) -> None:
    """Fill a flat array with the words of a key from index `offset` on."""
    engine = compiled.random_engine(out.size)

    def work(start: int, stop: int) -> None:
        if engine is not None:
            engine(key, offset + start, out[start:stop])
        else:
            out[start:stop] = engines.random_words(key, offset + start, offset + stop)

    over_chunks(work, out.size, LONG_CHUNK if engine is not None else CHUNK, thread_count(threads, out.size))


# Threads

_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    """A forked child has none of its parent's threads, so it starts a pool of its own."""
    global _pool
    _pool = None


os.register_at_fork(after_in_child=_forget_pool)


def thread_count(threads: int | None, size: int) -> int:
    """Threads for `size` elements: as asked, else NUMFMT_THREADS, else one a core; one for small arrays."""
    if threads is None:
        text = os.environ.get("NUMFMT_THREADS", "")
        if text and not text.isdigit():
            raise ValueError(f"NUMFMT_THREADS={text!r} is set; it must be a positive integer")
        threads = int(text) if text else _cores()
    if threads < 1:
        raise ValueError(f"threads={threads} is given; it must be at least 1")
    return 1 if size < PARALLEL else threads


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def over_chunks(work: Callable[[int, int], None], size: int, chunk: int, threads: int) -> None:
    """Call work(start, stop) for all chunks of range(size), on `threads` threads, this one among them."""
    global _pool
    chunk = max(1, min(chunk, -(-size // threads)))  # so that every thread gets some
    if threads == 1 or size <= chunk:
        for start in range(0, size, chunk):
            work(start, min(start + chunk, size))
        return
    starts = iter(range(0, size, chunk))  # a range iterator hands out each start once, whoever asks

    def drain(_: int) -> None:
        for start in starts:
            work(start, min(start + chunk, size))

    if _pool is None or _pool._max_workers < threads - 1:
        _pool = ThreadPoolExecutor(threads - 1, thread_name_prefix="numfmt")
    others = [_pool.submit(drain, i) for i in range(threads - 1)]
    drain(threads - 1)
    for other in others:
        other.result()
