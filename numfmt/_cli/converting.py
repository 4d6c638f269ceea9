"""`nfmt convert`: a file of values or codes into codes, or values, of a format."""

from __future__ import annotations

import argparse
import os
import struct
from contextlib import ExitStack
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import __version__
from .._core.parameters import BINARY64
from ..arrays import convert, decode, encode, quantize
from ..carriers import exact_in, pattern
from ..explain import round_exactly
from ..formats import CodebookFormat, FixedFormat, FloatFormat, Format
from ..named import scalar_format
from ..plans import resolve
from ..platforms import get_platform
from ..random import Seed, key_of, random_bits
from ..sources import code_dtype, result_dtype
from ..specials import Rules
from .files import Input, bad, kind_of, opened, read_csv, read_hex, read_npy, read_raw, sidecar_of
from .numbers import parse_value
from .output import Progress, atomic, binary_stdout, is_stdout, stdout_file
from .screen import BAD_INPUT, OK, Failure, json_text
from .writing import WRITERS, Writer

Array = npt.NDArray[Any]


class Job:
    """One conversion: the target, its rules, and the random words of each element."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.target = scalar_format(args.to)
        self.source = None if args.source is None else scalar_format(args.source)
        self.quantizes: bool = args.quantize
        self.options = {"rounding": args.rounding, "overflow": args.overflow, "platform": args.platform}
        place = None if args.platform is None else get_platform(args.platform)
        self.rules: Rules = resolve(self.target, args.rounding, args.overflow, place, args.random_bits)
        self.count = args.random_bits
        self.seed: Seed | None = args.seed
        if self.rules.random_bit_count and self.seed is None:
            raise Failure(f"rounding {self.rules.rounding.value} needs random bits; give --seed N")
        if self.seed is not None:
            key_of(self.seed)
            if not self.rules.random_bit_count:
                raise Failure(f"--seed is given; rounding {self.rules.rounding.value} takes no random bits")

    def numbers(self, start: int, count: int) -> Array | None:
        """Random numbers of elements start … start + count - 1, or None."""
        if self.seed is None:
            return None
        return np.asarray(random_bits(self.seed, count, offset=start) >> np.uint32(32 - self.rules.random_bit_count))

    def run(self, kind: str, chunk: Any, start: int, path: str) -> Array:
        """Codes or values for one chunk."""
        options: dict[str, Any] = dict(self.options)
        numbers = self.numbers(start, len(chunk))
        if numbers is not None:
            options |= {"random_bits": numbers, "random_bit_count": self.count}
        if kind == "texts":
            if not in_double(self.target, self.rules):
                return self._decoded(self._exactly(chunk, numbers, path))
            chunk = np.array([double_of(cell, number, path) for number, cell in chunk], np.float64)
        if kind == "codes":
            assert self.source is not None
            _check_codes(chunk, self.source, start, path)
            return self._decoded(convert(chunk, self.source, self.target, **options))
        return quantize(chunk, self.target, **options) if self.quantizes else encode(chunk, self.target, **options)

    def _exactly(self, cells: list[tuple[int, str]], numbers: Array | None, path: str) -> Array:
        """Codes of texts that binary64 is too narrow for, one by one on exact integers."""
        codes = np.empty(len(cells), object)
        for i, (number, cell) in enumerate(cells):
            try:
                value = parse_value(cell)
            except ValueError as error:
                raise bad(path, f"line {number}: {error}") from None
            codes[i] = round_exactly(self.target, value, self.rules, None if numbers is None else int(numbers[i]))
        return np.asarray(codes.astype(code_dtype(self.target)))

    def _decoded(self, codes: Array) -> Array:
        return decode(codes, self.target) if self.quantizes else codes

    def dtype(self, found: Input) -> np.dtype[Any]:
        """Dtype of the results; for files that hold nothing."""
        if not self.quantizes:
            return code_dtype(self.target)
        if found.kind == "values" and found.dtype is not None:
            return result_dtype(found.dtype.newbyteorder("="), self.target)
        return np.dtype(decode(np.zeros(0, code_dtype(self.target)), self.target).dtype)


def _check_codes(chunk: Array, source: Format, start: int, path: str) -> None:
    """Refuses codes with bits beyond the format's; negative integers are two's complement."""
    if (chunk.dtype.kind == "u" and chunk.dtype.itemsize * 8 <= source.bits) or not chunk.size:
        return
    low = -(2 ** (source.bits - 1)) if chunk.dtype.kind == "i" else 0
    for i in (int(chunk.argmax()), int(chunk.argmin())):
        if not low <= int(chunk[i]) < 2**source.bits:
            raise bad(path, f"element {start + i}: {int(chunk[i]):#x} has more than the {source.bits} bits of {source}")


# Numbers that were text


def in_double(fmt: Format, rules: Rules) -> bool:
    """Whether a text may go through binary64, rounded to odd, without changing the result."""
    spare = 36 if rules.random_bit_count else 2
    match fmt:
        case FloatFormat():
            lowest = fmt.emin - fmt.trailing_bits - 1
            return fmt.precision + spare <= 53 and lowest - spare >= -1074 and fmt.emax < 1022
        case FixedFormat():
            return fmt.bits + spare <= 53 and abs(fmt.fraction_bits) < 900
        case CodebookFormat():
            return True


def double_of(text: str, number: int, path: str) -> float:
    """The binary64 value of a text, rounded to odd where it is not exact."""
    try:
        value = float(text)
        if value != value or (value - value != 0 and "n" in text.lower()) or Decimal(text) == Decimal(value):
            return value
    except (ValueError, InvalidOperation):
        pass
    try:
        exact = parse_value(text)
    except ValueError as error:
        raise bad(path, f"line {number}: {error}") from None
    bits = pattern(exact, BINARY64) | (isinstance(exact, Fraction) and not exact_in(exact, BINARY64))
    return float(struct.unpack("<d", struct.pack("<Q", bits))[0])


# The command


def run_convert(args: argparse.Namespace) -> int:
    """Read, round, write."""
    in_kind = kind_of(args.input, args.input_format, "csv", "input")
    out_kind = kind_of(args.output or "-", args.output_format, "csv" if args.quantize else "hex", "output")
    _check_paths(args, in_kind, out_kind)
    job = Job(args)
    if out_kind == "hex" and args.quantize:
        raise Failure("hex files hold codes; leave --quantize out, or write npy, csv or raw")
    if in_kind in ("hex", "raw") and job.source is None:
        raise Failure(f"{in_kind} files hold codes; say --from FORMAT")
    if out_kind == "npy" and not args.quantize and job.target.bits > 64:
        raise Failure(f"codes of {job.target} have {job.target.bits} bits, .npy holds 64; write hex or raw")
    if in_kind == "npy" and job.source is None and (said := sidecar_of(args.input)):
        advice = f"say --from {said}, or --from uint8 if these are numbers"
        raise Failure(f"{args.input}.json says that the file holds codes of {said}; {advice}")
    with ExitStack() as stack:
        found = _read(args, in_kind, stack.enter_context(opened(args.input)), job)
        _write(args, out_kind, found, job)
    return OK


def _check_paths(args: argparse.Namespace, in_kind: str, out_kind: str) -> None:
    if is_stdout(args.output) or args.input == "-":
        return
    written = [args.output] + ([args.output + ".json"] if out_kind == "npy" else [])
    for path in written:
        if os.path.exists(path) and os.path.exists(args.input) and os.path.samefile(path, args.input):
            raise Failure(f"{path} is the input, which is never written to; name another output")


def _read(args: argparse.Namespace, kind: str, stream: Any, job: Job) -> Input:
    if kind == "npy":
        return read_npy(args.input, stream, job.source)
    if kind == "csv":
        return read_csv(args.input, stream, job.source, header=args.header)
    assert job.source is not None
    return (read_raw if kind == "raw" else read_hex)(args.input, stream, job.source)


def _write(args: argparse.Namespace, kind: str, found: Input, job: Job) -> None:
    """Write the results, and for .npy files what they are beside them; both appear together or not at all."""
    rules = f"{job.rules.rounding.value}, overflow {job.rules.overflow.value}"
    heading = f"numfmt {__version__}: codes of {job.target}, {rules}"
    with ExitStack() as files:
        if not is_stdout(args.output):
            side = files.enter_context(atomic(args.output + ".json")) if kind == "npy" else None
            stream = files.enter_context(atomic(args.output))
        else:
            side = None
            stream = files.enter_context(stdout_file()) if kind == "npy" else binary_stdout()
        writer = WRITERS[kind](stream, None if job.quantizes else job.target, found.shape, heading)
        shape, dtype = _pump(args, found, job, writer)
        if side is not None:
            side.write(json_text(_sidecar(job, shape, dtype)).encode())


def _pump(args: argparse.Namespace, found: Input, job: Job, writer: Writer) -> tuple[tuple[int, ...], np.dtype[Any]]:
    progress = Progress(found.total, forced=args.progress)
    done = 0
    try:
        for chunk in found.chunks:
            results = job.run(found.kind, chunk, done, args.input)
            writer.write(results, found.columns)
            done += len(results)
            progress.at(done)
    except TypeError as error:
        raise Failure(f"{args.input}: {error}", BAD_INPUT) from error
    finally:
        progress.end()
    shape = found.shape if found.shape is not None else (done,)
    dtype = job.dtype(found)
    writer.finish(shape, dtype)
    return shape, dtype


def _sidecar(job: Job, shape: tuple[int, ...], dtype: np.dtype[Any]) -> dict[str, Any]:
    return {
        "numfmt": __version__, "holds": "values" if job.quantizes else "codes", "format": str(job.target),
        "bits": job.target.bits, "dtype": dtype.name, "shape": list(shape),
        "from": None if job.source is None else str(job.source),
        "rounding": job.rules.rounding.value, "overflow": job.rules.overflow.value,
        "platform": None if job.options["platform"] is None else str(get_platform(job.options["platform"])),
        "seed": list(job.seed) if isinstance(job.seed, tuple) else job.seed,
        "random_bit_count": job.rules.random_bit_count or None,
    }  # fmt: skip
