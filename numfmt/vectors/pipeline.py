"""Work on chunks of a stream in several threads, results in order, few chunks in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


def in_order(work: Callable[[In], Out], items: Iterable[In], threads: int) -> Iterator[Out]:
    """work(item) of every item, in order; items are taken from the iterable in this thread, as results are.

    At most threads + 1 items are on their way. With one thread, nothing runs elsewhere.

    >>> list(in_order(lambda x: x * x, range(4), 2))
    [0, 1, 4, 9]
    """
    if threads < 2:
        for item in items:
            yield work(item)
        return
    waiting: deque[Future[Out]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="numfmt-vectors")
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for each in waiting:
            each.cancel()
        pool.shutdown(wait=True)
