"""Why a device's dot is not the unit's: the row, its exact sum, its steps, and the unit that gives that answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._cli.numbers import short_decimal
from ..formats import Exact, FloatFormat, Format
from ..units import Kind
from . import explain_exact as real
from .checking import is_nan
from .explain_bits import code_text, distance, operand_lines, steps, value_of, value_text
from .unit_functions import Operands, written
from .unit_mutants import BY_BITS, mutants

if TYPE_CHECKING:
    from .functions import Function, Rules

Array = npt.NDArray[Any]
ANOTHER = "another unit"
STEPS, LANES = 6, 8  # that are written out


class Finding(NamedTuple):
    """Cause, hypothesis, faults that fit with their cause, and the lines of a row."""

    cause: str
    hypothesis: str
    fits: tuple[tuple[str, str], ...]
    lines: list[str]


def fitting(
    function: Function, operands: Sequence[Array], got: Array, rules: Rules, random: Array | None
) -> list[list[str]]:
    """For each row the mutants that give a device's answer, in words: "fraction=12 instead of fraction=13"."""
    unit, to = function.unit, function.to
    assert unit is not None
    assert to is not None
    made, found = Operands(function, operands, rules, random), [[] for _ in got]  # type: ignore[var-annotated]
    right = made.results(unit)
    got_nan = is_nan(got, to)
    for mutant in mutants(function):
        if mutant.parameter in BY_BITS:
            same = made.results(mutant.unit) == got
        else:
            wrong = made.results(mutant.unit)
            same = ((wrong == got) | (is_nan(wrong, to) & got_nan)) & ~(is_nan(right, to) & got_nan)
        text = f"{mutant} instead of {written(mutant.parameter, getattr(unit, mutant.parameter))}"
        for i in np.flatnonzero(same & (right != got)):
            found[i].append(text)
    return found


def explain(
    function: Function,
    operands: Sequence[Any],
    expected: int,
    got: int,
    rules: Rules,
    random: Any,
    fits: Sequence[str] | None = None,
    shown: bool = True,
) -> Finding:
    """The explanation of one row.

    Args:
        fits: what `fitting` says of it; None asks.
        shown: whether its lines are wanted.
    """
    to, unit = function.to, function.unit
    assert to is not None
    assert unit is not None
    if fits is not None and not shown:
        return judged(to, expected, got, fits)
    columns = [np.asarray(column).reshape(1, -1) for column in operands]
    numbers = None if random is None else np.asarray(random).reshape(1, -1)
    if fits is None:
        fits = fitting(function, columns, np.array([got], np.asarray(expected).dtype), rules, numbers)[0]
    rows = [
        [real.value_of(int(code), fmt) for code in column[0].tolist()]
        for column, fmt in zip(columns, function.sources, strict=True)
    ]
    lines = [*_lanes(function, rows), *_accumulator(function, operands), f"exact     {_text(_exact(function, rows))}"]
    lines += _steps(function, columns, rules, numbers)
    lines.append(f"expected  {code_text(expected, to)}")
    lines.append(f"got       {code_text(got, to)}{distance(to, expected, got)}")
    return judged(to, expected, got, fits)._replace(lines=lines)


def judged(to: Format, expected: int, got: int, fits: Sequence[str]) -> Finding:
    """The cause, without lines."""
    right, wrong = value_of(expected, to), value_of(got, to)
    named = tuple((fit, ANOTHER) for fit in fits)
    if right == "nan" and wrong == "nan":
        return Finding("NaN bits", fits[0] if fits else f"{got:#x} is another NaN than {expected:#x}", named, [])
    if fits:
        return Finding(ANOTHER, fits[0], named, [])
    if right in (0, "-0") and wrong in (0, "-0"):
        return Finding("sign of zero", "", (), [])
    if "nan" in (right, wrong):
        return Finding("NaN instead of a number" if wrong == "nan" else "number instead of NaN", "", (), [])
    near = steps(to, expected, got) in (1, -1)
    return Finding("off by one ulp" if near else "other", "no unit with one other parameter gives this", (), [])


def _lanes(function: Function, rows: list[list[Exact]]) -> list[str]:
    """The products that are no zeros, each with its scales."""
    unit = function.unit
    assert unit is not None
    scaled, count = bool(unit.scales), 0
    found: list[str] = []
    for lane, (x, y) in enumerate(zip(rows[0], rows[2 if scaled else 1], strict=True)):
        if {x, y} & {0, "-0"} and not {x, y} & {"inf", "-inf", "nan"}:
            continue
        count += 1
        factors = [x, y, *((rows[i][lane // unit.scale_blocks[0]] for i in (1, 3)) if scaled else ())]
        if len(found) < LANES:
            found.append(f"lane {lane:<4} {' × '.join(value_text(factor) for factor in factors)}")
    return found + ([f"…         {count} lanes that are not zero"] if count > LANES else [])


def _accumulator(function: Function, operands: Sequence[Any]) -> list[str]:
    last = replace(function, operation="operands", sources=function.sources[-1:], unit=None)
    return [f"c{line[1:]}" for line in operand_lines(last, operands[-1:])]


def _exact(function: Function, rows: list[list[Exact]]) -> Exact:
    """The exact sum of a row."""
    unit = function.unit
    assert unit is not None
    scaled = bool(unit.scales)
    a, b = rows[0], rows[2 if scaled else 1]
    scales: list[list[Exact]] = []
    if scaled:
        size = unit.scale_blocks[0]
        for i in (1, 3):
            each = [x if unit.scale_signs or x == "nan" else _size(x) for x in rows[i]]
            scales.append([each[lane // size] for lane in range(function.size)])
    return real.add(real.dot((a, b), scales, False), rows[-1][0], False)


def _size(x: Exact) -> Exact:
    return real.negated(x) if real.is_negative(x) else x


def _text(value: Exact) -> str:
    return short_decimal(value, 12) if isinstance(value, Fraction) else value


def _steps(function: Function, columns: Sequence[Array], rules: Rules, random: Array | None) -> list[str]:
    """The accumulator after every step, and the largest exponent of what was aligned."""
    unit, to = function.unit, function.to
    assert unit is not None
    if not isinstance(to, FloatFormat):
        return []
    trace = Operands(function, columns, rules, random).trace(unit)
    aligned, found = unit.kind is Kind.ALIGNED, []
    accumulators = trace.accumulator[0].tolist()
    for i, value in enumerate(accumulators[:STEPS]):
        exponent = f"E = {trace.exponent[0, i]}, " if aligned and trace.exponent.shape[1] > i else ""
        found.append(f"step {i + 1:<4} {exponent}accumulator {_number(value)}")
    if len(accumulators) > STEPS:
        found.append(f"…         {len(accumulators)} steps")
    return found


def _number(value: float) -> str:
    return value_text(Fraction(value)) if np.isfinite(value) else str(value)
