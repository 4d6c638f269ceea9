"""`python -m numfmt_jax train`: runs, one after another, and what they came to."""

from __future__ import annotations

import argparse
import platform
import signal
import sys
import threading
import time
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import jax

import numfmt

from ..emulate import receipt
from ..receipt import Receipt
from . import plan
from .data import Text, load
from .log import Log, Record
from .loop import Run, Settings, placements
from .measures import DEFINITIONS, result_of, table
from .model import Shape, init, loss

SCHEMA = 1  # of the log; a change that could break a reader raises it


def run_train(args: argparse.Namespace) -> int:
    """Train under each recipe in turn."""
    shape = Shape(args.width, args.layers, args.heads, args.context)
    settings = Settings(shape, args.batch, args.steps, args.lr, args.seed, args.validate_every, args.devices)
    rules = [plan.parse_rule(text) for text in args.policy]
    runs = prepare(args.recipe, settings, load(args.text), rules)
    if args.figure is not None:
        check_figure(args.figure)
    with Log(args.log) as log:
        try:
            execute(runs, log, Screen())
        finally:
            if args.figure is not None and any(record["record"] == "step" for record in log.records):
                from .figure import draw

                draw(log.records, args.figure)
                print(f"\ncurves: {args.figure}")
    return 0


def prepare(names: Sequence[str], settings: Settings, text: Text, rules: plan.Rules = ()) -> list[Run]:
    """The runs of some recipes; the first mistake in them raises, before anything is trained."""
    text.check(settings.shape.context)
    placements(settings)
    runs = [Run(name, plan.policy_for(name, settings.shape.layers, rules), settings, text) for name in names]
    if len(set(names)) < len(names):
        raise ValueError(f"recipes {', '.join(names)} are given; each is trained once")
    return runs


def execute(runs: Sequence[Run], log: Log, screen: Screen) -> list[Record]:
    """Train each run, log and show it; the results. An interrupt is logged and goes on up."""
    try:
        with Interrupts() as interrupts:
            log.write(header(runs))
            screen.say(introduction(runs))
            for run in runs:
                _one(run, log, screen, interrupts)
    except KeyboardInterrupt:
        screen.end()
        log.write({"record": "interrupted", "after": _last_step(log.records)})
        raise
    results = [record for record in log.records if record["record"] == "result"]
    screen.say("\n".join(["", *table(results), "", *(f"{word:10}  {says}." for word, says in DEFINITIONS.items())]))
    return results


class Interrupts:
    """Ctrl-C for a loop: an exception at once, and again at the next `check` if that one was lost.

    Python drops what is raised while a weak reference or an object is being finalized, and JAX has many of both.
    """

    asked = False

    def __enter__(self) -> Self:
        self.is_main = threading.current_thread() is threading.main_thread()  # no other may set a handler
        if self.is_main:
            self.previous = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_main:
            signal.signal(signal.SIGINT, self.previous)

    def check(self) -> None:
        """Raise KeyboardInterrupt if there was one."""
        if self.asked:
            raise KeyboardInterrupt

    def _note(self, *_: object) -> None:
        self.asked = True
        raise KeyboardInterrupt


def _one(run: Run, log: Log, screen: Screen, interrupts: Interrupts) -> None:
    paper = receipt_of(run)
    log.write({"record": "receipt", "recipe": run.name, **paper.as_dict()})
    screen.begin(run, paper)
    for record in run.records():
        log.write(record)
        screen.show(record)
        interrupts.check()
    log.write(result_of(run, log.records))


def receipt_of(run: Run) -> Receipt:
    """What the run's policy does to each product of the loss; nothing is computed."""
    shape = run.settings.shape
    parameters = jax.eval_shape(lambda: init(shape, 0))
    tokens = jax.ShapeDtypeStruct((run.settings.batch, shape.context + 1), "int32")
    return receipt(loss, run.policy, parameters, tokens, shape)


def header(runs: Sequence[Run]) -> Record:
    """The first record: everything that decides the result."""
    settings, text = runs[0].settings, runs[0].text
    shape = settings.shape
    return {
        "record": "run", "schema": SCHEMA, "recipes": [run.name for run in runs],
        "policies": {run.name: [[p, None if r is None else str(r)] for p, r in run.policy.products] for run in runs},
        "width": shape.width, "layers": shape.layers, "heads": shape.heads, "context": shape.context,
        "parameters": shape.parameters, "batch": settings.batch, "devices": settings.devices,
        "steps": settings.steps, "lr": settings.lr, "seed": settings.seed, "text": text.title,
        "text_bytes": len(text.training) + len(text.validation),
        "text_sha256": text.sha256, "versions": versions(),
    }  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of what takes part."""
    found = {"numfmt": numfmt.__version__, "python": platform.python_version(), "machine": platform.machine()}
    found |= {name: version(name) for name in ("jax", "jaxlib", "optax", "numpy")}
    return found | {"device": f"{jax.device_count()} {jax.devices()[0].device_kind}"}


def introduction(runs: Sequence[Run]) -> str:
    """What is going to happen, in words."""
    settings, text = runs[0].settings, runs[0].text
    shape = settings.shape
    return (
        f"A transformer of {shape.parameters:,} weights ({shape.layers} layers of width {shape.width}, "
        f"{shape.heads} heads) learns\n{text.title}: {len(text.training):,} bytes, {len(text.validation):,} held out; "
        f"{settings.steps} steps of {settings.batch} × {shape.context} bytes\n"
        f"under {', '.join(run.name for run in runs)}."
    )


def check_figure(path: str) -> None:
    """Raise before the training rather than after it where no figure can be written."""
    if find_spec("matplotlib") is None:
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"the figure {path} is given; there is no folder {folder}")


def _last_step(records: Sequence[Record]) -> Record | None:
    steps = [record for record in records if record["record"] == "step"]
    return {"recipe": steps[-1]["recipe"], "step": steps[-1]["step"]} if steps else None


class Screen:
    """What people see: lines on stdout, and on a terminal a bar on stderr that is gone when the run ends.

    Args:
        receipts: names of the recipes whose receipts are shown in full; of others the first line is.
    """

    def __init__(self, *, receipts: Sequence[str] | None = None) -> None:
        self.bar = sys.stderr.isatty()
        self.receipts = receipts
        self.name, self.steps, self.start, self.last = "", 0, 0.0, 0.0
        self.shown = False

    def say(self, text: str) -> None:
        """Write lines."""
        self.end()
        print(text, flush=True)

    def begin(self, run: Run, paper: Receipt) -> None:
        """Say what a run rounds, and that it compiles."""
        whole = self.receipts is None or run.name in self.receipts
        if plan.recipe_of(run.name) is not None:
            text = str(paper)
            self.say(f"\n{run.name}: {text if whole else text.splitlines()[0]}\n")
        else:
            self.say("")
        self.name, self.steps, self.start, self.last = run.name, run.settings.steps, time.monotonic(), 0.0
        self._put(f"{run.name}: compiling ")

    def show(self, record: Record) -> None:
        """A line for each validation, and the bar, at most five times a second."""
        step, found, validation = record["step"], record["loss"], record["validation_loss"]
        if step == 0:
            self.start = time.monotonic()
        if validation is not None:
            trained = "" if found is None else f"  loss {found:.4f}"
            self.say(f"{self.name}  step {step:{len(str(self.steps))}}  validation {validation:.4f}{trained}")
        now = time.monotonic()
        if step < self.steps and found is not None and now - self.last >= 0.2:
            self.last = now
            self._put(self._bar(step, found, now - self.start))

    def end(self) -> None:
        """Take the bar away."""
        if self.shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self.shown = False

    def _bar(self, step: int, found: float, seconds: float) -> str:
        done = 24 * step // self.steps
        left = round(seconds / step * (self.steps - step))
        return (
            f"{self.name} [{'#' * done}{'.' * (24 - done)}] {step}/{self.steps}  loss {found:.3f}  "
            f"{step / max(seconds, 1e-9):.1f} steps/s  {left // 60}:{left % 60:02} left "
        )

    def _put(self, text: str) -> None:
        if self.bar:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
            self.shown = True
