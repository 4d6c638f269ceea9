"""Processes that judge mutants: each is forked, imports numfmt with one file of _core changed, and answers."""

from __future__ import annotations

import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import multiprocessing
import multiprocessing.connection
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.mutation.mutants import Mutant, core

WALL = 300  # seconds; the limit that counts is one of processor time
MEMORY = 1 << 30  # bytes a worker may take beyond what its parent has

Answer = tuple[str, str]  # verdict and detail


class _Source(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module another source."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        self.name, self.path, self.source = name, path, source

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self, origin=str(self.path)) if name == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.source, str(self.path), "exec"), module.__dict__)


def become(mutant: Mutant | None) -> None:
    """Import numfmt anew, with a file of _core as the mutant has it. For a process that will do nothing else."""
    for name in [n for n in sys.modules if n == "numfmt" or n.startswith("numfmt.")]:
        del sys.modules[name]
    if mutant is not None:
        name = f"numfmt._core.{mutant.file.removesuffix('.py')}"
        sys.meta_path.insert(0, _Source(name, core() / mutant.file, mutant.source()))
    importlib.import_module("numfmt")


def limit(seconds: float) -> None:
    """Bound this process's time and memory: a mutant may loop, or shift by a million bits."""
    soft = int(time.process_time() + seconds + 1)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, soft + 5))
    size = Path("/proc/self/statm")
    if size.exists():
        bytes_ = int(size.read_text().split()[0]) * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (bytes_, bytes_))


def _worker(task: Callable[[Any], Answer], item: Any, seconds: float, pipe: Any) -> None:
    try:
        limit(seconds)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            answer = task(item)
    except BaseException as error:  # the mutant does not even import
        answer = "error", repr(error)
    pipe.send(answer)
    pipe.close()


def run(task: Callable[[Any], Answer], items: Sequence[Any], jobs: int, seconds: float) -> Iterator[tuple[Any, Answer]]:
    """Pairs of an item and what `task` says of it, each asked in a process of its own, `jobs` at a time.

    A process is forked when its turn comes, so that a task sees what its caller has learnt meanwhile.
    A process that dies, or uses more than `seconds` of processor time, gives the verdict "error".
    """
    context = multiprocessing.get_context("fork")
    gc.collect()
    gc.freeze()  # pages that workers do not touch stay shared
    waiting, running = list(reversed(items)), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            item = waiting.pop()
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_worker, args=(task, item, seconds, theirs), daemon=True)
            process.start()
            theirs.close()
            running[ours] = process, item, time.monotonic()
        ready = multiprocessing.connection.wait(list(running), timeout=1)
        late = [pipe for pipe, (_, _, start) in running.items() if time.monotonic() - start > WALL]
        for pipe in {*ready, *late}:
            process, item, _ = running.pop(pipe)
            try:
                answer = pipe.recv() if pipe in ready else ("error", "took too long")
            except EOFError:
                answer = "error", "took too long, or died"
            process.kill()
            process.join()
            pipe.close()
            yield item, answer
