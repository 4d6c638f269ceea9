"""Units that differ from one in a single parameter, and whether rows tell them apart from it.

A verdict is one of three: rows tell the mutant apart; it cannot matter, with the reason (`unit_reasons`); or nothing
that was tried shows it, which is said as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ..formats import FixedFormat, FloatFormat
from ..named import scalar_format
from ..reveal_search import ALIGNMENTS, ROUNDINGS
from ..rounding import Overflow, Rounding
from ..sources import FLOATS
from ..unit_numbers import least_exponent
from ..unit_plans import check_length, plan_of
from ..unit_run import result_dtype, roundings
from ..units import DotUnit, Order
from .checking import is_nan
from .functions import Function, Rules
from .unit_functions import Operands, holds, operand_formats, written

Array = npt.NDArray[Any]
BY_BITS = ("nan", "nan_rule")  # parameters that only the bits of NaNs show
EARLY: dict[str, Any] = {"late_rounding": None, "late_fraction": None, "late_reach": None}


@dataclass(frozen=True)
class Mutant:
    """A unit with one parameter changed.

    Attributes:
        parameter: its name.
        value: what it is there.
        unit: the mutant.
    """

    parameter: str
    value: Any
    unit: DotUnit

    def __str__(self) -> str:
        return written(self.parameter, self.value)


@dataclass(frozen=True)
class Verdict:
    """What rows say of a mutant.

    Attributes:
        mutant: as names write it, such as "fraction=14".
        parameter: which one is changed.
        rows: how many rows tell it apart.
        first: line of the first of them, counted from 1 where rows come from no file; 0 where none does.
        reason: why the change cannot matter, "" where it can.
        tried: rows that were compared.
    """

    mutant: str
    parameter: str
    rows: int
    first: int
    reason: str
    tried: int

    @property
    def is_settled(self) -> bool:
        """Whether the mutant is told apart, or cannot matter."""
        return self.rows > 0 or bool(self.reason)

    def __str__(self) -> str:
        if self.rows:
            return f"told apart by {self.rows:,} of {self.tried:,} rows, first in line {self.first}"
        return f"cannot matter: {self.reason}" if self.reason else f"not told apart in {self.tried:,} rows"


# ---- which mutants there are -----------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def mutants(function: Function) -> tuple[Mutant, ...]:
    """Every unit that differs from a function's in one parameter, takes the same operands, and can be computed.

    >>> from numfmt.vectors import parse
    >>> [str(m) for m in mutants(parse("h100.e4m3_dot48"))][:6]
    ['length=64', 'length=16', 'fraction=12', 'fraction=14', 'alignment=toward_negative', 'alignment=ties_to_even']
    """
    assert function.unit is not None
    found: dict[DotUnit, Mutant] = {}
    for parameter, value, changes in _changes(function, function.unit):
        unit = _changed(function, {parameter: value, **changes})
        if unit is not None and unit != function.unit and unit not in found:
            found[unit] = Mutant(parameter, value, unit)
    return tuple(found.values())


def _changed(function: Function, changes: dict[str, Any]) -> DotUnit | None:
    """The unit with other parameters, and with canonical NaNs where its rule for them does not go with those."""
    unit = function.unit
    assert unit is not None
    for more in ({}, {"nan_rule": "canonical"}):
        try:
            made = replace(unit, **{**more, **changes})
            check_length(plan_of(made, *operand_formats(function)), function.size)
        except ValueError:
            continue
        return made
    return None


def _changes(function: Function, unit: DotUnit) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """A parameter, its value, and what goes with it."""

    def each(parameter: str, values: Iterable[Any]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
        yield from ((parameter, value, {}) for value in values)

    yield from each("length", _doubled(unit.length, function.size))
    yield from each("fraction", _beside(unit.fraction))
    yield from each("alignment", ALIGNMENTS)
    yield from each("rounding", ROUNDINGS)
    if unit.rounding.is_stochastic:
        others = [mode for mode in Rounding if mode.is_stochastic and mode is not Rounding.STOCHASTIC]
        yield from each("rounding", others)
    yield from each("late_rounding", ROUNDINGS)
    yield from each("product_rounding", ROUNDINGS)
    yield from each("addend", ["late"])
    yield "addend", "early", {**EARLY, "order": Order.SEQUENTIAL if unit.order is Order.EVEN_ODD else unit.order}
    yield from each("order", Order)
    yield from each("zero_exponent", [None, *_beside(unit.zero_exponent)] if unit.zero_exponent is not None else ())
    if unit.zero_exponent is None and isinstance(unit.accumulator, FloatFormat):
        yield from each("zero_exponent", [least_exponent(unit.accumulator)])
    yield from each("flush_inputs", [None, "signed", "positive"])
    yield from each("flush_results", [False, True, "tiny"])
    yield from each("overflow", [None, Overflow.INFINITY, Overflow.SATURATE, Overflow.WRAP])
    yield from each("zero", ["ieee", "positive"])
    yield from each("product", _products(unit))
    for fmt in _accumulators(function, unit):
        yield "accumulator", fmt, {"addend_format": unit.c_format}
    yield from each("group", [None, *_doubled(unit.group, None)] if unit.group else [2])
    yield from each("late_fraction", _beside(unit.late_fraction))
    if unit.late_fraction is not None:
        yield "late_fraction", None, {"late_reach": None}
        reach = [None, *_beside(unit.late_reach)] if unit.late_reach is not None else [unit.fraction]
        yield from each("late_reach", reach)
    yield from each("product_limit", [None, *_beside(unit.product_limit)] if unit.product_limit is not None else ())
    yield from each("scale_signs", [not unit.scale_signs])
    yield from each("promote_every", _promotions(unit))
    yield from each("nan", _patterns(function, unit))
    yield from each("nan_rule", ["canonical", "x86.vdpbf16ps"])


def _beside(value: int | None) -> tuple[int, ...]:
    return () if value is None else (value - 1, value + 1)


def _doubled(value: int | None, whole: int | None) -> tuple[int, ...]:
    """Twice as many, and half; of all K only half."""
    if value is None:
        return () if whole is None else (max(1, whole // 2),)
    return (2 * value, value // 2) if value > 1 else (2 * value,)


def _products(unit: DotUnit) -> list[Any]:
    if isinstance(unit.accumulator, FixedFormat):
        return []
    return [None, unit.accumulator, scalar_format("float16"), scalar_format("bfloat16")]


def _accumulators(function: Function, unit: DotUnit) -> list[FloatFormat]:
    """Formats of a digit less and, where the result's format holds it, of a digit more."""
    acc, to = unit.accumulator, function.to
    if not isinstance(acc, FloatFormat) or not acc.has_infinity or not isinstance(to, FloatFormat):
        return []
    made = [scalar_format(f"e{acc.exponent_bits}m{acc.trailing_bits + more}") for more in (-1, 1)]
    return [fmt for fmt in made if isinstance(fmt, FloatFormat) and holds(to, fmt)]


def _promotions(unit: DotUnit) -> list[int | None]:
    every = unit.promote_every
    if every is None:
        return []
    step = unit.length or 1
    return [None, every - 1, every + 1, 2 * every, every // 2, every - step, every + step]


def _patterns(function: Function, unit: DotUnit) -> list[int]:
    """The pattern of a NaN with its other sign, where results are codes of their arrays' dtype."""
    dtype = result_dtype(unit.result_format)
    if FLOATS.get(dtype) != function.to:
        return []
    code = unit.nan if unit.nan is not None else FLOATS[dtype].nan_code
    return [] if code is None else [code ^ 1 << (8 * dtype.itemsize - 1)]


# ---- comparison ------------------------------------------------------------------------------------------------


class Comparison:
    """The mutants of a function that is no stranger to some rows, told apart as rows come."""

    def __init__(self, function: Function, chosen: Sequence[Mutant] | None = None) -> None:
        self.function = function
        self.mutants = tuple(mutants(function) if chosen is None else chosen)
        self.rows = dict.fromkeys(self.mutants, 0)
        self.first = dict.fromkeys(self.mutants, 0)
        self.tried = 0

    def update(self, columns: Sequence[Array], rules: Rules, random: Array | None, lines: Array | None = None) -> None:
        """Take rows of operands in."""
        n = len(columns[0])
        for mutant, rows in differences(self.function, self.mutants, columns, rules, random):
            count = int(np.count_nonzero(rows))
            if count and not self.rows[mutant]:
                at = int(np.argmax(rows))
                self.first[mutant] = self.tried + at + 1 if lines is None else int(lines[at])
            self.rows[mutant] += count
        self.tried += n

    def verdicts(self) -> list[Verdict]:
        """One of each mutant, in order."""
        from .unit_reasons import reason

        found = []
        for mutant in self.mutants:
            why = "" if self.rows[mutant] else reason(self.function, mutant)
            found.append(Verdict(str(mutant), mutant.parameter, self.rows[mutant], self.first[mutant], why, self.tried))
        return found


def differences(
    function: Function,
    chosen: Iterable[Mutant],
    columns: Sequence[Array],
    rules: Rules,
    random: Array | None = None,
) -> Iterator[tuple[Mutant, npt.NDArray[np.bool_]]]:
    """For each mutant, which rows it answers otherwise than the unit; NaNs are equal but where their bits are meant."""
    unit, to = function.unit, function.to
    assert unit is not None
    assert to is not None
    operands = Operands(function, columns, rules, random)
    right = operands.results(unit)
    right_nan = is_nan(right, to)
    for mutant in chosen:
        if roundings(mutant.unit, function.size) != roundings(unit, function.size):
            yield mutant, np.ones(len(right), bool)  # a row has another number of random numbers
            continue
        wrong = operands.results(mutant.unit)
        differs = right != wrong
        if mutant.parameter not in BY_BITS and differs.any():
            differs &= ~(right_nan & is_nan(wrong, to))
        yield mutant, np.asarray(differs, bool)
