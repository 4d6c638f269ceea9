"""The part of the judge that is for numfmt/_core/arithmetic.py: results and flags of operations, by spec/arithmetic.py.

    cases(seed)     the cases, in the order in which they are tried
    sweeps()        the same calls on other operands, without expectations, for sweep.py

Where a result and its flags fit one int64 they are judged together (the flags from bit 40 on), else apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from spec import arithmetic as oracle
from spec.names import get
from tests.mutation.judge import ARITHMETIC, Case

Array = np.ndarray[Any, Any]

FLAGS = 40  # the first bit of the flags
# Narrow and wide frames; no infinity, no -0, no zero, a hole in the grid, unsigned, one symbol for NaN and infinity.
FORMATS = {
    "float16": 300, "e5m2": 100, "e4m3fn": 100, "float32": 150, "float64": 300, "e4m3fnuz": 80, "e8m0": 80, "dlfloat16": 80,
    "binary8p3se": 80, "ue5m3": 60, "cfloat8_1_4_3": 60, "e2m1": 40, "q3.4": 100, "uint8": 60,
}  # fmt: skip
MODES = ("ties_to_even", "toward_negative", "to_odd", "away_from_zero")
FIXED = ("add", "sub", "mul", "mac")
COUNTS = {"add": 2, "sub": 2, "mul": 2, "mac": 3, "fma": 3, "div": 2, "sqrt": 1, "rem": 2, "convert": 1, "scale_b": 2,
          "log_b": 1, "round_to_integral": 1}  # fmt: skip
TARGETS = {"float32": "float16", "float64": "float32", "e4m3fn": "float16", "e8m0": "e4m3fn", "float16": "e2m1"}


def cases(seed: int = 0) -> list[Case]:
    """All cases."""
    made = list(_with_expectations(np.random.default_rng(seed)))
    return [made[i] for i in np.random.default_rng(seed).permutation(len(made))]


def _calls(rng: np.random.Generator) -> Iterator[tuple[str, str, str | None, str, str, list[Array]]]:
    """Operation, format, result's format, rounding, tininess and operands."""
    for name, count in FORMATS.items():
        fixed = name in ("q3.4", "uint8")
        operations = FIXED if fixed else [op for op in COUNTS if op != "mac"]
        for place, operation in enumerate(operations):
            columns = operands(name, operation, count, rng)
            modes = MODES if name == "float16" else (MODES[place % 4], MODES[(place + 1) % 4])
            for turn, rounding in enumerate(modes):
                tininess = "before" if turn & 1 else "after"
                yield operation, name, None, rounding, tininess, columns
            if name in TARGETS and operation not in ("scale_b", "log_b"):
                yield operation, name, TARGETS[name], "ties_to_even", "after", columns


def _with_expectations(rng: np.random.Generator) -> Iterator[Case]:
    for operation, name, to, rounding, tininess, columns in _calls(rng):
        case = _case(operation, name, to, rounding, tininess, columns)
        signed = [c.view(np.int64) if operation == "scale_b" and i else c for i, c in enumerate(columns)]
        rows = zip(*(column.tolist() for column in signed), strict=True)
        found = [
            oracle.compute(operation, list(row), name, to, rounding=rounding, tininess=tininess) for row in rows
        ]
        codes, flags = (np.array(column, np.uint64).view(np.int64) for column in zip(*found, strict=True))
        if get(to or name).bits <= FLAGS:
            case = replace(case, expected=codes + (flags << FLAGS))
            yield case
        else:
            yield replace(case, expected=codes)
            yield replace(case, kernel=f"{case.kernel} flags", expected=flags)
        if rounding == "ties_to_even" and to is None:
            yield _on_python(case if case.expected is not None else replace(case, expected=codes))


def _on_python(case: Case) -> Case:
    step = 5
    cut = lambda array: array[::step].tolist()  # noqa: E731
    by = None if case.by is None else tuple(cut(column) for column in case.by)
    return replace(case, engine="python", operands=cut(case.operands), expected=cut(case.expected), by=by)


def _case(operation: str, name: str, to: str | None, rounding: str, tininess: str, columns: list[Array]) -> Case:
    first, *others = (column.view(np.int64) for column in columns)
    kernel = f"arithmetic {operation}"
    assert kernel in ARITHMETIC
    return Case(
        kernel, name, 64, "numpy", False, first, None, rounding, platform=f"{to or name}, {tininess}",
        by=tuple(others) or None,
    )  # fmt: skip


# ---- operands ----------------------------------------------------------------------------------------------------


def operands(name: str, operation: str, count: int, rng: np.random.Generator) -> list[Array]:
    """Codes that meet: specials with each other, neighbouring exponents, few and many digits, and any."""
    fmt = get(name)
    own = COUNTS[operation]
    codes = _codes(fmt, count * 3, rng)
    columns = [rng.choice(codes, count) for _ in range(own)]
    special = _special(fmt)
    some = special if special.size < 14 else rng.choice(special, 14, replace=False)
    pairs = [np.array(c) for c in np.meshgrid(some, some)] if own > 1 else [special]
    columns = [np.concatenate([c, (pairs[i % len(pairs)]).ravel()]) for i, c in enumerate(columns)]
    if own == 3:
        columns[2] = np.concatenate([columns[2][:count], rng.choice(special, columns[2].size - count)])
    columns = [c.astype(np.uint64) for c in columns]
    if operation in ("add", "sub", "fma") and getattr(fmt, "trailing_bits", 0):
        near = columns[0] ^ rng.integers(0, 16, columns[0].size).astype(np.uint64)
        if own == 2:
            columns = [np.concatenate([c, e]) for c, e in zip(columns, (columns[0], near), strict=True)]
        else:
            columns = _cancelling(fmt, columns, rng)
    if operation == "scale_b":
        span = 2 * fmt.bits + 40
        columns[1] = rng.integers(-span, span + 1, columns[0].size).astype(np.int64).view(np.uint64)
    return columns


def _cancelling(fmt: Any, columns: list[Array], rng: np.random.Generator) -> list[Array]:
    """Addends next to -a · b, so that the low half of the product decides."""
    rows = zip(*(c.tolist() for c in columns), strict=True)
    made = []
    for a, b, _ in list(rows)[: 250 if fmt.bits > 8 else 60]:
        code, _ = oracle.compute("mul", [a, b], fmt.name, rounding="toward_zero")
        made.append((a, b, (code ^ 1 << fmt.bits - 1) + int(rng.integers(-2, 3)) & 2**fmt.bits - 1))
    extra = np.array(made, np.uint64)
    return [np.concatenate([c, extra[:, i]]) for i, c in enumerate(columns)]


def _special(fmt: Any) -> Array:
    top = 2**fmt.bits - 1
    t = getattr(fmt, "trailing_bits", fmt.bits - 2)
    sign = 1 << fmt.bits - 1
    found = {0, 1, 2, 3, sign - 1, sign - 2, sign, sign + 1, top, top - 1, (1 << t) - 1, 1 << t, (1 << t) + 1}
    found |= {sign | (1 << t), sign | (1 << t) - 1, 3 << max(t - 1, 0)}
    half = fmt.bits // 2
    found |= {c + d for c in (sign - (1 << t), sign - (2 << t), sign >> 1, (sign >> 1) + (1 << t)) for d in (-1, 0, 1)}
    found |= {(1 << half) - 1, sign | sign - (1 << t)}
    return np.array(sorted(c for c in found if 0 <= c <= top), np.uint64)


def _codes(fmt: Any, count: int, rng: np.random.Generator) -> Array:
    """Codes around the middle of the range, whose significands have runs of ones and zeros, or any digits."""
    t = getattr(fmt, "trailing_bits", 0)
    if not t or fmt.bits <= 8:
        return rng.integers(0, 2**fmt.bits, count).astype(np.uint64)
    ones = 2**t - 1
    shapes = [rng.integers(0, ones + 1, count), rng.integers(0, ones + 1, count) & ~(ones >> 3)]
    cut = rng.integers(0, t + 1, count)
    shapes += [ones & ~((1 << cut) - 1), (1 << cut) - 1, (1 << cut) & ones, ones - ((1 << cut) & ones)]
    fraction = np.choose(np.arange(count) % 6, [np.asarray(s, np.int64) for s in shapes])
    fields = 2 ** (fmt.bits - 1 - t)
    middle = rng.integers(max(0, fields // 2 - t - 3), min(fields, fields // 2 + t + 3), count)
    edge = np.choose(np.arange(count) % 3, [rng.integers(0, 3, count), fields - 1 - rng.integers(0, 3, count), middle])
    field = np.where(np.arange(count) % 4 == 0, edge, middle)
    field = np.where(np.arange(count) % 16 == 1, rng.integers(0, fields, count), field)
    sign = rng.integers(0, 2, count).astype(np.uint64) << np.uint64(fmt.bits - 1)
    return (field.astype(np.uint64) << np.uint64(t)) | fraction.astype(np.uint64) | sign


# ---- calls -------------------------------------------------------------------------------------------------------


def call_of(case: Case) -> Any:
    """The imported numfmt's kernels, as `judge.answer` calls them."""
    from numfmt import arithmetic_engine as engine
    from numfmt.named import scalar_format
    from numfmt.plans import resolve

    operation = case.kernel.removeprefix("arithmetic ").removesuffix(" flags")
    to, _, tininess = str(case.platform).rpartition(", ")
    source, target = scalar_format(case.format), scalar_format(to)
    sources = (source,) * (1 if operation == "scale_b" else COUNTS[operation])
    rules = resolve(target, case.rounding, None, None, None)
    call = engine.Call(operation, sources, target, rules, None, tininess == "after", False)
    _, frame = call.frame()
    plan = call.plan(frame)

    def answer(a: Any, _: Any, by: Any, xp: Any) -> Any:
        codes, flags = engine.one(call, (a, *(by or ())), None, frame, plan, xp)
        if case.kernel.endswith("flags"):
            return flags
        return codes if target.bits > FLAGS else codes + (flags << FLAGS)

    return answer


# ---- sweeps ------------------------------------------------------------------------------------------------------


def sweeps() -> Iterator[Case]:
    """Every call on other operands than those of `cases`, without expectations."""
    for seed in (101, 102, 103):
        for operation, name, to, rounding, tininess, columns in _calls(np.random.default_rng(seed)):
            case = _case(operation, name, to, rounding, tininess, columns)
            yield case
            if get(to or name).bits > FLAGS:
                yield replace(case, kernel=f"{case.kernel} flags")
