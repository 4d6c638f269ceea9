"""Runs operations over arrays of codes: in NumPy, in compiled loops, or on Python integers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import compiled
from ._core import arithmetic as core
from ._core.arithmetic import Frame, Number, Outcome
from .arithmetic_plans import (
    FRAMES,
    Operand,
    ResultPlan,
    exact_frame,
    frame_name,
    grid_of,
    layout_of,
    precision_of,
    result_plan,
)
from .engines import NUMPY, PYTHON
from .formats import FixedFormat, FloatFormat
from .rounding import Platform
from .scheduler import RandomSource, over_chunks, thread_count
from .sources import code_dtype
from .specials import Rules

Array = npt.NDArray[Any]
CHUNK = 1 << 13  # an int64 temporary of it takes 64 KiB, and there are many
COMPILED_CHUNK = 1 << 16
LARGEST_SHIFT = 1 << 40  # of scale_b: beyond every range

KERNELS: dict[str, Callable[..., Any]] = {
    "add": core.add, "sub": core.add, "mul": core.multiply, "div": core.divide, "sqrt": core.square_root,
    "rem": core.remainder, "fma": core.fma, "mac": core.fma, "convert": core.itself,
    "round_to_integral": core.integral, "scale_b": core.itself, "log_b": core.itself,
}  # fmt: skip


@dataclass(frozen=True)
class Call:
    """An operation with all that decides its results."""

    operation: str
    sources: tuple[Operand, ...]
    to: Operand
    rules: Rules
    platform: Platform | None
    after: bool  # tininess is found after rounding
    exact: bool  # round_to_integral raises inexact

    def frame(self) -> tuple[str | None, Frame]:
        """The frame of 64-bit integers that does, by name; else one of Python integers."""
        name = frame_name(self.sources, self.to)
        if name is not None:
            return name, FRAMES[name]
        digits = max(map(precision_of, (*self.sources, self.to)))
        if isinstance(self.to, FixedFormat):
            digits = max(digits, 2 * max(map(precision_of, self.sources)) + 2)
        return None, exact_frame(max(digits, 64))

    @property
    def nan(self) -> int:
        """The NaN that an operation makes."""
        return self.plan(self.frame()[1]).results.nan & (2**self.to.bits - 1)

    def plan(self, frame: Frame) -> ResultPlan:
        """How the results are rounded."""
        rule = self.rules.rule
        arithmetic = None if self.platform is None else self.platform.arithmetic
        if arithmetic is not None and rule.nan is None and isinstance(self.to, FloatFormat) and self.to.has_nan:
            nan = default_nan(self.to, arithmetic.negative_nan, arithmetic.all_ones)
            rules = self.rules._replace(rule=type(rule)(**{**rule.__dict__, "nan": (nan, nan)}))
            return result_plan(self.to, rules, frame, self.after)
        return result_plan(self.to, self.rules, frame, self.after)


def default_nan(fmt: FloatFormat, negative: bool, all_ones: bool) -> int:
    """The NaN that operations make of numbers: IEEE formats have a choice; of all ones where they have 16 bits."""
    assert fmt.nan_code is not None
    if not fmt.quiet_bit or not fmt.signed:
        return fmt.nan_code
    return (fmt.magnitude_mask if all_ones and fmt.bits >= 16 else fmt.nan_code) | (fmt.sign_mask if negative else 0)


def run(call: Call, operands: list[Array], random: RandomSource | None, threads: int | None) -> tuple[Array, Array]:
    """Results and flags of flat arrays of codes."""
    size = operands[0].size
    results, flags = np.empty(size, code_dtype(call.to)), np.empty(size, np.uint8)
    name, frame = call.frame()
    plan = call.plan(frame)
    flushes = call.platform is not None and call.platform.arithmetic.flushes
    if flushes:
        operands = [flushed(array, fmt) for array, fmt in zip(operands, _kinds(call), strict=True)]
    if name is not None:
        loop = compiled_loop(call, name, plan, size, random)
        prepared = [_prepared(array, fmt) for array, fmt in zip(operands, _kinds(call), strict=True)]

        def work(start: int, stop: int) -> None:
            parts = [array[start:stop] for array in prepared]
            numbers = None if random is None else random.numbers(start, stop).astype(np.int64)
            if loop is not None:
                loop(parts, results[start:stop], flags[start:stop])
                return
            parts = [_patterns(part) for part in parts]
            made, raised = one(call, parts, numbers, frame, plan, NUMPY)
            results[start:stop] = made.view(np.uint64) if results.dtype == np.uint64 else made
            flags[start:stop] = raised

        over_chunks(work, size, COMPILED_CHUNK if loop is not None else CHUNK, thread_count(threads, size))
    else:
        words = None if random is None else random.numbers(0, size).tolist()
        for i, codes in enumerate(zip(*(array.tolist() for array in operands), strict=True)):
            made, raised = one(call, codes, None if words is None else words[i], frame, plan, PYTHON)
            results[i] = made & (2**call.to.bits - 1)
            flags[i] = raised
    if flushes:
        results = flushed(results, call.to)
    if call.platform is not None:
        propagate(call, operands, results, flags)
    return results, flags


def flushed(codes: Array, fmt: Operand | None) -> Array:
    """Codes with zeros of their sign in the place of subnormals."""
    if not isinstance(fmt, FloatFormat):
        return codes
    magnitude, smallest = codes & fmt.magnitude_mask, 1 << fmt.trailing_bits
    return np.where(magnitude < smallest, codes ^ magnitude, codes)


def _kinds(call: Call) -> tuple[Operand | None, ...]:
    """The format of each operand; None for integers."""
    return (*call.sources, None) if call.operation == "scale_b" else call.sources


def _prepared(array: Array, fmt: Operand | None) -> Array:
    """Codes as the smallest unsigned integers, which wrap; integers as int64."""
    if fmt is None:
        if array.dtype.kind == "O" or array.dtype == np.uint64:
            array = np.clip(array, -LARGEST_SHIFT, LARGEST_SHIFT)
        return np.clip(array.astype(np.int64), -LARGEST_SHIFT, LARGEST_SHIFT)
    if array.dtype.kind == "O":
        array = np.array([int(n) & (2**fmt.bits - 1) for n in array], np.uint64)
    return np.ascontiguousarray(array.astype(code_dtype(fmt), copy=False))


def patterns_of(codes: Array, fmt: Operand) -> Array:
    """Codes as int64, by their bits."""
    return _patterns(_prepared(codes, fmt))


def _patterns(part: Array) -> Array:
    return part.view(np.int64) if part.dtype == np.uint64 else part.astype(np.int64, copy=False)


# ---- one kernel call -------------------------------------------------------------------------------------------


def one(call: Call, codes: Any, random: Any, frame: Frame, plan: ResultPlan, xp: Any) -> tuple[Any, Any]:
    """Codes and flags of signed integer arrays, or of Python integers."""
    numbers = [_read(call, code, fmt, frame, xp) for code, fmt in zip(codes, call.sources, strict=False)]
    if call.operation == "scale_b":
        if xp is PYTHON:
            codes = [codes[0], max(-LARGEST_SHIFT, min(LARGEST_SHIFT, codes[1]))]
        numbers[0] = numbers[0]._replace(exponent=numbers[0].exponent + codes[1])
    return finished(call, outcome(call, numbers, frame, plan, xp), random, frame, plan, xp)


def _read(call: Call, code: Any, fmt: Operand, frame: Frame, xp: Any) -> Number:
    if isinstance(fmt, FixedFormat):
        return core.read_fixed(code, grid_of(fmt, frame), frame, xp=xp)
    number: Number = core.read(code, layout_of(fmt), frame, xp=xp)
    return number


def outcome(call: Call, numbers: list[Number], frame: Frame, plan: ResultPlan, xp: Any) -> Outcome:
    """The exact results."""
    kernel = KERNELS[call.operation]
    if call.operation == "sub":
        numbers = [numbers[0], core.negated(numbers[1])]
    if call.operation == "log_b":
        return core.logarithm(numbers[0], frame, xp=xp)
    found = kernel(*numbers, frame, plan.mode, xp=xp)
    if call.operation == "round_to_integral":
        found, changed = found
        return found._replace(flags=found.flags | core.flag(changed, found.m, core.INEXACT * call.exact, xp=xp))
    return found


def finished(call: Call, out: Outcome, random: Any, frame: Frame, plan: ResultPlan, xp: Any) -> tuple[Any, Any]:
    """Codes and flags of exact results."""
    if isinstance(call.to, FixedFormat):
        made: tuple[Any, Any] = core.deliver_fixed(out, random, frame, plan.target, plan.results, plan.mode, xp=xp)
        return made
    made = core.deliver(
        out, random, frame, plan.target, plan.gap, plan.results, plan.mode, plan.raised, plan.general, xp=xp
    )
    return made


# ---- NaNs --------------------------------------------------------------------------------------------------------


def propagate(call: Call, operands: list[Array], results: Array, flags: Array) -> None:
    """Give results that are NaN the NaN of the operand that the platform's rule chooses, in place."""
    assert call.platform is not None
    order = call.platform.arithmetic.nan
    to, sources = call.to, call.sources
    if order == "canonical" or not isinstance(to, FloatFormat) or not to.quiet_bit:
        return
    kinds = [fmt for fmt in sources if isinstance(fmt, FloatFormat) and fmt.quiet_bit]
    if len(kinds) < len(sources):
        return
    columns = [array.astype(np.uint64) if array.dtype.kind != "O" else array for array in operands[: len(kinds)]]
    if call.operation == "fma" and order == "signaling_first":
        columns = [columns[i] for i in (2, 0, 1)]  # FPProcessNaNs3: the addend comes first
        kinds = [kinds[i] for i in (2, 0, 1)]
    is_nan = [(c & f.magnitude_mask) > f.max_code + 1 for c, f in zip(columns, kinds, strict=True)]
    signaling = [n & ((c & f.quiet_bit) == 0) for n, c, f in zip(is_nan, columns, kinds, strict=True)]
    chosen = np.full(results.shape, -1)
    ranks = [*signaling, *is_nan] if order == "signaling_first" else is_nan
    for place in reversed(range(len(ranks))):
        chosen = np.where(ranks[place], place % len(kinds), chosen)
    result_nan = (results & to.magnitude_mask) > to.max_code + 1
    if call.operation == "fma":
        product = columns[1:] if order == "signaling_first" else columns[:2]
        indefinite = _indefinite(product, kinds) & ~np.logical_or.reduce(signaling)
        if call.platform.arithmetic.quiet_fma:
            flags[indefinite & (chosen >= 0)] = 0
        else:
            result_nan = result_nan & ~indefinite
    for place, (column, fmt) in enumerate(zip(columns, kinds, strict=True)):
        at = np.flatnonzero(result_nan & (chosen == place))
        if at.size:
            results[at] = quieted(column[at], fmt, to).astype(results.dtype)


def _indefinite(product: list[Array], kinds: list[FloatFormat]) -> Any:
    """Where a product is infinity times zero: its NaN is the default one, whatever is added."""
    a, b = (c & f.magnitude_mask for c, f in zip(product, kinds, strict=False))
    infinity = kinds[0].max_code + 1
    return ((a == infinity) & (b == 0)) | ((b == infinity) & (a == 0))


def quieted(codes: Array, source: FloatFormat, to: FloatFormat) -> Array:
    """NaNs of a format as quiet NaNs of another: the sign, and as many top bits of the payload as fit."""
    shift = to.trailing_bits - source.trailing_bits
    payload = codes & (2**source.trailing_bits - 1)
    payload = payload << shift if shift >= 0 else payload >> -shift
    sign = (codes >> (source.bits - 1)) & 1
    return (sign << (to.bits - 1)) | (to.max_code + 1) | to.quiet_bit | payload


# ---- compiled loops ----------------------------------------------------------------------------------------------


def compiled_loop(call: Call, name: str, plan: ResultPlan, size: int, random: RandomSource | None) -> Any:
    """A function that fills flat arrays, or None where NumPy is to do it."""
    plain = all(isinstance(fmt, FloatFormat) for fmt in (*call.sources, call.to))
    if not plain or plan.gap is not None or random is not None or call.exact:
        return None
    loop = compiled.arithmetic_loop((call.operation, len(call.sources), name, plan.general), size)
    if loop is None:
        return None
    layouts = [np.array(layout_of(fmt), np.int64) for fmt in call.sources if isinstance(fmt, FloatFormat)]
    p = np.array([*plan.mode, *plan.results, *plan.target, *plan.raised], np.int64)  # type: ignore[misc]

    def fill(parts: list[Array], results: Array, flags: Array) -> None:
        loop(*parts, *layouts, p, results, flags)

    return fill
