"""Conversions between float formats and integers of machine width."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from . import arithmetic_engine as engine
from ._core import arithmetic as core
from ._core.arithmetic import INEXACT, INVALID, Outcome
from ._core.float import normalize
from .arithmetic_plans import FRAMES, exact_frame, layout_of, precision_of
from .engines import NUMPY, PYTHON
from .formats import FloatFormat
from .plans import round_parameters
from .rounding import Platform
from .scheduler import RandomSource
from .sources import code_dtype
from .specials import Rules

Array = npt.NDArray[Any]
CHUNK = 1 << 14


def to_integers(
    codes: Array, fmt: FloatFormat, dtype: np.dtype[Any], rules: Rules, platform: Platform | None, exact: bool
) -> tuple[Array, Array]:
    """Integers of a dtype next to the values of codes, and flags (IEEE 754-2019 §5.8).

    Raises:
        TypeError: a dtype that holds no integers.
        ValueError: a stochastic mode.
    """
    if dtype.kind not in "iu":
        raise TypeError(f"integer dtype {dtype} is given; int8 to int64 and uint8 to uint64 are taken")
    if rules.random_bit_count:
        raise ValueError(f"rounding {rules.rounding.value!r} is given; conversions to integers are deterministic")
    info = np.iinfo(dtype)
    low, high = int(info.min), int(info.max)
    behaviour = "riscv" if platform is None else platform.arithmetic.integers
    ends = {
        "riscv": (low, high, high),
        "arm": (low, high, 0),
        "x86": (low, low, low) if low else (high, high, high),
    }[behaviour]
    whole, changed, negative, nan = _integral(codes, fmt, rules)
    value = np.where(negative, -whole, whole)
    under, over = (value < low) & ~nan, (value > high) & ~nan
    value = np.where(under, ends[0], np.where(over, ends[1], np.where(nan, ends[2], value)))
    flags = np.where(under | over | nan, INVALID, np.where(changed & exact, INEXACT, 0))
    return value.astype(dtype), flags.astype(np.uint8)


def _integral(codes: Array, fmt: FloatFormat, rules: Rules) -> tuple[Array, Array, Array, Array]:
    """Magnitudes of integers, as Python ints and at most 2**80; whether rounding changed them; signs; NaNs."""
    mode = round_parameters(rules)
    narrow = fmt.bits <= 64 and precision_of(fmt) <= 55
    frame = FRAMES["wide"] if narrow else exact_frame(max(64, precision_of(fmt)))
    found: list[tuple[int, bool, bool, bool]] = []
    top = frame.carrier.trailing
    if narrow:
        patterns = engine.patterns_of(codes, fmt)
        number = core.read(patterns, layout_of(fmt), frame, xp=NUMPY)
        out, changed = core.integral(number, frame, mode, xp=NUMPY)
        large = np.where(number.infinite, 80, np.minimum(out.exponent, 80)) - top
        m = np.where(out.m == 0, 0, out.m).astype(object)
        up, down = (np.maximum(shift, 0).astype(object) for shift in (large, -large))
        whole = m << up >> down
        whole = np.where(number.infinite, 2**80, whole)
        return whole, changed, number.negative != 0, number.nan
    for code in codes.tolist():
        one = core.read(code, layout_of(fmt), frame, xp=PYTHON)
        result, moved = core.integral(one, frame, mode, xp=PYTHON)
        shift = min(result.exponent, 80) - top
        size = 2**80 if one.infinite else result.m << shift if shift >= 0 else result.m >> -shift
        found.append((size, moved, one.negative != 0, one.nan))
    columns = list(zip(*found, strict=True)) or [(), (), (), ()]
    sizes = np.empty(len(found), object)
    sizes[:] = columns[0]
    changed, negative, nan = (np.array(column, bool) for column in columns[1:])
    return sizes, changed, negative, nan


def from_integers(
    call: engine.Call, numbers: Array, random: RandomSource | None, threads: int | None
) -> tuple[Array, Array]:
    """Codes of integers, and flags."""
    results, flags = np.empty(numbers.size, code_dtype(call.to)), np.empty(numbers.size, np.uint8)
    if numbers.dtype.kind == "O" or call.frame()[0] is None:
        frame = exact_frame(max(64, precision_of(call.to), *(abs(int(n)).bit_length() for n in numbers), 1))
        plan = call.plan(frame)
        words = None if random is None else random.numbers(0, numbers.size).tolist()
        for i, n in enumerate(numbers.tolist()):
            m, exponent = normalize(abs(n), frame.carrier.trailing, frame.carrier, xp=PYTHON)
            out = Outcome(int(n < 0), exponent, m, False, False, 0)
            word = None if words is None else words[i]
            made, raised = engine.finished(call, out, word, frame, plan, PYTHON)
            results[i], flags[i] = made & (2**call.to.bits - 1), raised
        return results, flags
    frame = FRAMES["wide"]
    plan = call.plan(frame)
    for start in range(0, numbers.size, CHUNK):
        part = numbers[start : start + CHUNK]
        words = None if random is None else random.numbers(start, start + part.size).astype(np.int64)
        made, raised = engine.finished(call, _outcome(part, frame), words, frame, plan, NUMPY)
        results[start : start + CHUNK] = made.view(np.uint64) if results.dtype == np.uint64 else made
        flags[start : start + CHUNK] = raised
    return results, flags


def _outcome(numbers: Array, frame: core.Frame) -> Any:
    """Machine integers as significands: the last five bits of the longest ones become one sticky bit."""
    negative: Any = (numbers < 0).astype(np.int64)
    size = numbers.astype(np.uint64)
    size = np.where(negative != 0, np.uint64(0) - size, size)
    long = size >= np.uint64(2 * frame.carrier.hidden)
    spare = np.uint64(64 - 1 - frame.carrier.trailing)
    sticky = ((size & (np.uint64(1) << spare) - np.uint64(1)) != 0).astype(np.uint64)
    size = np.where(long, (size >> spare) | sticky, size)
    place = np.where(long, frame.carrier.trailing + int(spare), frame.carrier.trailing).astype(np.int64)
    m: Any
    m, exponent = normalize(size.astype(np.int64), place, frame.carrier, xp=NUMPY)
    never: Any = np.zeros(numbers.shape, bool)
    none: Any = np.zeros(numbers.shape, np.int64)
    return Outcome(negative, exponent, m, never, never, none)
