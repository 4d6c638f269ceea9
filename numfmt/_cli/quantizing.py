"""`nfmt quantize`: the tensors of a checkpoint into a format, with statistics of each."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

from .. import __version__
from ..arrays import encode
from ..block_arrays import BlockArray
from ..blocks import BlockFormat
from ..checkpoint_layouts import AnyFormat
from ..checkpoints import (
    Checkpoint,
    CheckpointWriter,
    Target,
    TargetError,
    byte_count,
    check_format,
    is_float,
    open_checkpoint,
    plan_checkpoint,
    write_checkpoint,
)
from ..named_blocks import get_format
from ..plans import resolve
from ..random import key_of, random_bits
from ..safetensors_files import SafetensorsFile
from ..specials import Rules
from ..statistics import Statistics, measure
from ..tensor_files import TensorFileError, shown
from .files import bad
from .output import Progress, atomic, is_stdout
from .pieces import CHUNK, PieceEncoder, pieces
from .report import FORMS, NUMBERS, Report, Row
from .screen import BAD_INPUT, OK, Failure, put

Array = npt.NDArray[Any]

KEEP = "keep"
QUANTIZED_BY_DEFAULT = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Choice:
    """A pattern over tensor names and the format for those that match it; None keeps them.

    `wrong` says why a block format cannot be: an error of the first tensor that it is for.
    """

    pattern: str
    format: AnyFormat | None
    wrong: str = ""

    def matches(self, name: str) -> bool:
        """Whether it is for a tensor."""
        return fnmatchcase(name, self.pattern)


# Arguments


def _choices(args: argparse.Namespace) -> list[Choice]:
    """The patterns of --map, then that of --to, which stands for every tensor that --map does not name."""
    choices = []
    for text in args.map or []:
        pattern, _, name = text.partition("=")
        if not name:
            raise Failure(f"--map {text} is given; it must be PATTERN=FORMAT, as '*.bias=keep'")
        choices.append(_choice(pattern, name))
    return [*choices, _choice("*", args.to)]


def _choice(pattern: str, name: str) -> Choice:
    if name.lower() == KEEP:
        return Choice(pattern, None)
    try:
        return Choice(pattern, get_format(name))
    except ValueError as error:
        if not re.match(r"\s*(block|bfp)\s*\(", name, re.IGNORECASE):
            raise
        return Choice(pattern, None, str(error))


def _report_form(args: argparse.Namespace) -> tuple[str, str | None]:
    """The form of the report, and its file; --report also takes a file's name, whose extension says the form."""
    if args.json:
        if args.report not in (None, "json"):
            raise Failure(f"--json and --report {args.report} are given; one of them")
        return "json", args.report_file
    if args.report is None:
        ending = Path(args.report_file or "").suffix.lower().removeprefix(".")
        return ending if ending in FORMS else "text", args.report_file
    if args.report in FORMS:
        return args.report, args.report_file
    ending = Path(args.report).suffix.lower().removeprefix(".")
    if ending not in FORMS:
        raise Failure(f"--report {args.report} is given; it is one of {', '.join(FORMS)}, or a file that ends so")
    if args.report_file is not None:
        raise Failure(f"--report {args.report} and --report-file {args.report_file} name two files; one of them")
    return ending, args.report


def _check_paths(args: argparse.Namespace, report_file: str | None) -> None:
    written = [path for path in (args.output, report_file) if path is not None and not is_stdout(path)]
    if args.output is not None and is_stdout(args.output):
        raise Failure("-o - is given; a checkpoint goes to a file")
    ending = Path(args.output or "").suffix.lower()
    if ending in (".gguf", ".safetensors") and (ending == ".gguf") != (args.layout == "gguf"):
        raise Failure(f"{args.output} is given with --layout {args.layout}, which makes another kind of file")
    for path in written:
        if os.path.exists(path) and os.path.exists(args.input) and os.path.samefile(path, args.input):
            raise Failure(f"{path} is the input, which is never written to; name another output")
        if os.path.isdir(path) or not os.path.isdir(os.path.dirname(os.path.realpath(path))):
            raise Failure(f"cannot write {path}: {'it is a directory' if os.path.isdir(path) else 'no such directory'}")
    if len({os.path.realpath(path) for path in written}) < len(written):
        raise Failure(f"the output and the report are both {args.output}; name two files")


# What is done with each tensor


@dataclass(frozen=True)
class Job:
    """A tensor of the input: what becomes of it, and why it is kept if it is."""

    name: str
    target: Target
    kept_because: str = ""


def _jobs(args: argparse.Namespace, checkpoint: Checkpoint, choices: list[Choice]) -> list[Job]:
    jobs: list[Job] = []
    *mapped, default = choices
    for name, stored in checkpoint.tensors.items():
        choice = next((c for c in mapped if c.matches(name)), None)
        if stored.layout != "plain":
            why = f"quantized already, layout {stored.layout}"
            jobs += [Job(part, _kept(checkpoint, part), why) for part in stored.parts.values()]
            continue
        target, why = _kept(checkpoint, name), _reason_to_keep(checkpoint, name, choice, default)
        if not why:
            chosen = choice or default
            if chosen.wrong:
                raise Failure(f"{args.input}: {shown(name)}: {chosen.wrong}", BAD_INPUT)
            dtype = args.dtype if args.layout == "dequantized" and args.dtype else target.dtype
            target = Target(name, target.shape, dtype, chosen.format, args.axis)
        jobs.append(Job(name, target, why))
    for choice in choices:
        if choice is not default and not any(choice.matches(name) for name in checkpoint.tensors):
            raise Failure(f"--map {choice.pattern}=... matches no tensor of {args.input}")
        if choice.wrong:
            raise Failure(choice.wrong)
    return jobs


def _kept(checkpoint: Checkpoint, name: str) -> Target:
    info = checkpoint.file.info(name)
    return Target(name, info.shape, info.dtype)


def _reason_to_keep(checkpoint: Checkpoint, name: str, choice: Choice | None, default: Choice) -> str:
    info = checkpoint.file.info(name)
    if not is_float(info.dtype):
        return f"tensors of {info.dtype} are not quantized"
    if choice is not None:
        return "" if choice.format is not None or choice.wrong else "--map keeps it"
    if default.format is None and not default.wrong:
        return "--to keeps it"
    if info.dtype not in QUANTIZED_BY_DEFAULT:
        return f"{info.dtype} is a format of few bits already; --map names it if it is to be quantized"
    if len(info.shape) < 2:
        return "fewer than two axes; --map names it if it is to be quantized"
    return ""


# Rounding


def _rules(args: argparse.Namespace, fmt: AnyFormat) -> Rules:
    """How elements are rounded."""
    element = fmt.element if isinstance(fmt, BlockFormat) else fmt
    return resolve(element, args.rounding or fmt.default_rounding, fmt.default_overflow, None, args.random_bits)


def _check_rounding(args: argparse.Namespace, formats: set[AnyFormat]) -> None:
    """Try the options on a few zeros, so that they fail before anything is read."""
    if args.seed is not None:
        key_of(args.seed)
    for fmt in formats:
        rules = _rules(args, fmt)
        if rules.random_bit_count and args.seed is None:
            raise Failure(f"rounding {rules.rounding.value} needs random bits; give --seed N")
        options = {"seed": args.seed, "random_bit_count": args.random_bits}
        encode(np.zeros((1, 1), np.float32), fmt, rounding=args.rounding, **options)


def _numbers(found: Statistics) -> dict[str, float]:
    """What the report says of a tensor."""
    made = {name: float(getattr(found, name)) for name in NUMBERS if name != "nonfinite"}
    return made | {"nonfinite": float(found.nan + found.infinite + found.nonfinite_results)}


# The command


class Run:
    """One run: what is read, what is written, and how far it is."""

    def __init__(self, args: argparse.Namespace, checkpoint: Checkpoint, jobs: list[Job]) -> None:
        self.args, self.file, self.jobs = args, checkpoint.file, jobs
        assert isinstance(self.file, SafetensorsFile)
        self.progress = Progress(sum(prod(job.target.shape) for job in jobs), forced=args.progress)
        self.done = 0

    def write(self, writer: CheckpointWriter | None) -> dict[str, dict[str, float]]:
        """Every tensor, in the order of the file; statistics by name."""
        try:
            return {job.name: self._tensor(job, writer) for job in self.jobs}
        finally:
            self.progress.end()

    def _tensor(self, job: Job, writer: CheckpointWriter | None) -> dict[str, float]:
        target, found = job.target, Statistics()
        if target.format is None or job.kept_because:
            self._copy(job, writer)
            return {}
        ranges = pieces(target.shape, target.format, target.axis)

        def rows() -> Iterator[Array]:
            return (self._rows(job.name, start, stop) for start, stop in ranges)

        encoder = PieceEncoder(target.shape, target.format, target.axis, rows)
        for (start, _), x in zip(ranges, rows(), strict=True):
            q = encoder.encode(x, rounding=self.args.rounding, **self._random(job, start, x.shape))
            found += measure(x, q) if isinstance(q, BlockArray) else measure(x, target.format, codes=q)
            if writer is not None:
                writer.put(job.name, q)
            self._step(x.size)
        return _numbers(found)

    def _rows(self, name: str, start: int, stop: int) -> Array:
        assert isinstance(self.file, SafetensorsFile)
        x = self.file.rows(name, start, stop) if self.file.info(name).shape else self.file.tensor(name)
        return x.astype(np.float32) if x.dtype.itemsize == 2 else x  # the same values, and what is compiled

    def _random(self, job: Job, start: int, shape: tuple[int, ...]) -> dict[str, Any]:
        """Random numbers of rows of a tensor: the words of (seed, CRC-32 of its name)."""
        assert job.target.format is not None
        rules = _rules(self.args, job.target.format)
        if not rules.random_bit_count:
            return {}
        given = self.args.seed
        seed: tuple[int, ...] = (*(given if isinstance(given, tuple) else (given,)), crc32(job.name.encode()))
        words = random_bits(seed, prod(shape), offset=start * prod(shape[1:]))
        numbers = words >> np.uint32(32 - rules.random_bit_count)
        return {"random_bits": numbers.reshape(shape), "random_bit_count": self.args.random_bits}

    def _copy(self, job: Job, writer: CheckpointWriter | None) -> None:
        """Copy the bytes of a kept tensor."""
        info = self.file.info(job.name)
        for start in range(0, info.nbytes, 4 * CHUNK):
            if writer is not None:
                writer.keep(job.name, self.file.raw(job.name, start, min(start + 4 * CHUNK, info.nbytes)))
        self._step(info.size)

    def _step(self, count: int) -> None:
        self.done += count
        self.progress.at(self.done)


def run_quantize(args: argparse.Namespace) -> int:
    """Read, quantize, write, report."""
    form, report_file = _report_form(args)
    _check_paths(args, report_file)
    if args.dtype is not None and args.layout != "dequantized":
        raise Failure(f"--dtype {args.dtype} is given; it is for --layout dequantized")
    choices = _choices(args)
    formats = {choice.format for choice in choices if choice.format is not None}
    for fmt in formats:
        check_format(args.layout, fmt, args.axis)
    _check_rounding(args, formats)
    with ExitStack() as stack:
        try:
            checkpoint = stack.enter_context(open_checkpoint(args.input))
        except OSError as error:
            raise bad(args.input, error.strerror or str(error)) from error
        except TensorFileError as error:
            raise Failure(str(error), BAD_INPUT) from error
        if not isinstance(checkpoint.file, SafetensorsFile):
            raise bad(args.input, "a GGUF file; nfmt quantize reads safetensors")
        try:
            _run(args, checkpoint, checkpoint.file, _jobs(args, checkpoint, choices), form, report_file)
        except TensorFileError as error:
            raise Failure(str(error), BAD_INPUT) from error
    return OK


def _run(
    args: argparse.Namespace,
    checkpoint: Checkpoint,
    file: SafetensorsFile,
    jobs: list[Job],
    form: str,
    report_file: str | None,
) -> None:
    if all(job.kept_because for job in jobs):
        raise Failure(f"{args.input}: no tensor is quantized: floats of two axes or more are, and what --map names")
    try:
        plan = plan_checkpoint([job.target for job in jobs], args.layout)
    except TargetError as error:
        raise Failure(f"{args.input}: {error}", BAD_INPUT) from None
    sizes = {name: sum(byte_count(spec, args.layout) for spec in specs.values()) for name, (_, specs) in plan.items()}
    run = Run(args, checkpoint, jobs)
    with ExitStack() as files:
        report_to = None if report_file is None or is_stdout(report_file) else files.enter_context(atomic(report_file))
        if args.output is None:
            statistics = run.write(None)
        else:
            targets = [job.target for job in jobs]
            with write_checkpoint(args.output, targets, layout=args.layout, metadata=file.metadata) as writer:
                statistics = run.write(writer)
        text = FORMS[form](_report(args, file, jobs, sizes, statistics))
        if report_to is not None:
            report_to.write(text.encode())
    if report_to is None:
        put(text.removesuffix("\n"))


def _report(
    args: argparse.Namespace, file: SafetensorsFile, jobs: list[Job], sizes: Mapping[str, int], found: Mapping[str, Any]
) -> Report:
    rows = []
    for job in jobs:
        info, target = file.info(job.name), job.target
        fmt = "kept" if job.kept_because else str(target.format)
        rows.append(
            Row(job.name, info.shape, info.dtype, fmt, info.size, info.nbytes, sizes[job.name],
                found[job.name] or None, job.kept_because)
        )  # fmt: skip
    facts = {"input": args.input, "output": args.output, "format": args.to, "map": args.map, "layout": args.layout}
    facts |= {"axis": args.axis, "rounding": args.rounding, "seed": args.seed, "numfmt": __version__}
    return Report(f"{Path(args.input).name} in {args.to}", facts, rows)
