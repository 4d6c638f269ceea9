"""Why a device's answer is wrong: the row in bits, and the fault that would give exactly this answer.

a         0x3d = 0 0111 101 = 13/8 × 2^0 = 1.625
b         0x3c = 0 0111 100 = 3/2 × 2^0 = 1.5
exact     +1.001|1|1 × 2^1 = 2.4375: guard 1, sticky 1
between   2.25 and 2.5, 0.75 of the way
expected  0x42 = 2.5 (guard 1, sticky 1: above the midpoint, so up)
got       0x41 = 2.25, 1 ulp below
cause     wrong rounding direction: rounds toward zero
also fits rounds toward negative, rounds to odd
class     signs + +; product in [2, 4); rounded, positive
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from .._cli.fields import class_of
from ..formats import Exact, Format
from . import explain_long, explain_units
from . import hypotheses as faults
from .explain_bits import (
    FLAGS,
    code_text,
    distance,
    exact_lines,
    flag_lines,
    operand_lines,
    reason,
    steps,
    value_of,
)
from .explain_case import Case, case_of, smallest_normal
from .hypotheses import fitting

if TYPE_CHECKING:
    from .functions import Function, Rules

CAUSES = (
    "flushed subnormal", "wrong tie", "missing sticky", "NaN bits", "sign of zero", "saturation", "overflow",
    "double rounding", "wrong rounding direction", "off by one ulp", "NaN instead of a number",
    "number instead of NaN", "flags only", "another unit", "other",
)  # fmt: skip


@dataclass(frozen=True)
class Mismatch:
    """What is wrong with a row.

    Attributes:
        cause: one of `CAUSES`.
        lines: the row in bits.
        hypothesis: the fault that gives exactly this answer, "" where none does.
        fits: every fault that does, from the specific to the general, each with its cause.
        classes: coverage classes of the row.
    """

    cause: str
    lines: list[str]
    hypothesis: str = ""
    fits: tuple[tuple[str, str], ...] = ()
    classes: tuple[str, ...] = ()


def explain(
    function: Function,
    operands: Sequence[Any],
    expected: Any,
    got: Any,
    expected_flags: int | None,
    got_flags: int | None,
    rules: Rules,
    random: Any = None,
    fits: Sequence[str] | None = None,
    shown: bool = True,
) -> Mismatch:
    """The explanation of one row that differs.

    Args:
        operands: of one row: a code a column; of blocks and dots an array of codes.
        expected, got: codes; of blocks an array, scales first.
        expected_flags, got_flags: None where flags are not compared.
        rules: what decides a result beside the operands.
        random: the row's random number in stochastic modes, of blocks and units an array; None takes 0.
        fits: of a dot of a unit, what `explain_units.fitting` says of the row; None asks.
        shown: whether the lines of a dot of a unit are wanted.

    >>> from numfmt.vectors.functions import Rules, parse
    >>> found = explain(parse("e4m3fn_mul"), [0x3D, 0x3C], 0x42, 0x41, None, None, Rules())
    >>> found.cause, found.lines[2]
    ('wrong rounding direction', 'exact     +1.001|1|1 × 2^1 = 2.4375: guard 1, sticky 1')
    """
    if function.operation == "encode_block":
        return _block(function, operands[0], expected, got, rules, random)
    expected, got = int(expected), int(got)
    if function.operation == "unit_dot":
        why = explain_units.explain(function, operands, expected, got, rules, random, fits, shown)
        fault = Mismatch(why.cause, [], why.hypothesis, why.fits)
        if not shown:
            return fault
        return _with_cause(fault, why.lines, _classes(function, operands))
    lines = operand_lines(function, operands)
    word = 0 if random is None else int(random)
    case = explain_long.dot_case(function, operands, expected, rules, word) if function.operation == "dot" else case_of(
        function, [int(code) for code in operands], expected, rules, word
    )  # fmt: skip
    to = case.to if case is not None else function.to
    lines += exact_lines(case) if case is not None else []
    because = reason(case) if case is not None else ""
    lines.append(f"expected  {code_text(expected, to)}{f' ({because})' if because else ''}")
    lines.append(f"got       {code_text(got, to)}{distance(to, expected, got)}")
    lines += flag_lines(expected_flags, got_flags)
    found = _judged(function, case, to, operands, expected, got)
    if expected == got:
        found = Mismatch("flags only", [], _flag_fault(case, expected_flags, got_flags))
    return _with_cause(found, lines, _classes(function, operands))


def _with_cause(found: Mismatch, lines: list[str], classes: tuple[str, ...]) -> Mismatch:
    lines.append(f"cause     {found.cause}{f': {found.hypothesis}' if found.hypothesis else ''}")
    others = [name for name, _ in found.fits if name != found.hypothesis]
    if others:
        lines.append(f"also fits {', '.join(others[:4])}{', …' if len(others) > 4 else ''}")
    if classes:
        lines.append(f"class     {'; '.join(classes)}")
    return Mismatch(found.cause, lines, found.hypothesis, found.fits, classes)


def common_cause(found: Sequence[Mismatch]) -> str:
    """The fault that explains most of the mismatches of one device, in a sentence; "" where none explains two.

    Of faults that explain equally many, the more specific one is named.
    """
    counts = Counter(fit for mismatch in found for fit in dict.fromkeys(mismatch.fits))
    order = {h.name: i for i, h in enumerate(faults.ALL)}
    if counts:
        (name, cause), count = min(counts.items(), key=lambda item: (-item[1], order.get(item[0][0], len(order))))
        if count > 1:
            return f"{cause}: {name} explains {count} of {len(found)} mismatches"
    causes = Counter(mismatch.cause for mismatch in found if mismatch.cause != "other")
    if not causes:
        return ""
    cause, count = causes.most_common(1)[0]
    return f"{cause} is the cause of {count} of {len(found)} mismatches" if count > 1 else ""


# ---- the likely cause ------------------------------------------------------------------------------------------


def _judged(
    function: Function, case: Case | None, to: Format | None, operands: Sequence[Any], expected: int, got: int
) -> Mismatch:
    """The cause, and the faults that fit."""
    if to is None:
        return _compared(function, operands, got)
    right, wrong = value_of(expected, to), value_of(got, to)
    if right == "nan" and wrong == "nan":
        return Mismatch("NaN bits", [], f"{got:#x} is another NaN than {expected:#x}")
    fits = fitting(case, got) if case is not None else []
    named = tuple((h.name, h.cause) for h in fits)
    if _both_zero(right, wrong):
        return Mismatch("sign of zero", [], _zero_fault(case), named)
    if "nan" in (right, wrong) and not (fits and fits[0].cause in (faults.OVERFLOW, faults.SATURATION)):
        return Mismatch("NaN instead of a number" if wrong == "nan" else "number instead of NaN", [], "", named)
    if fits:
        return Mismatch(fits[0].cause, [], fits[0].name, named)
    if steps(to, expected, got) in (1, -1):
        return Mismatch("off by one ulp", [], "no single fault of rounding gives this")
    return Mismatch("other", [], "no single fault of rounding gives this")


def _both_zero(x: Exact, y: Exact) -> bool:
    return x in (0, "-0") and y in (0, "-0")


def _zero_fault(case: Case | None) -> str:
    value = case.exact() if case is not None else None
    if value is None:
        return ""
    return "an exact zero" if value in (0, "-0") else "a result that rounds to zero keeps its sign"


def _compared(function: Function, operands: Sequence[Any], got: int) -> Mismatch:
    """Comparisons: what would make the other answer true."""
    values = [value_of(int(code), fmt) for code, fmt in zip(operands, function.sources, strict=True)]
    if "nan" in values:
        return Mismatch("number instead of NaN", [], "a NaN compares as a number" if got else "")
    if all(v in (0, "-0") for v in values):
        return Mismatch("sign of zero", [], "-0 and +0 compare as different")
    kinds = [class_of(fmt, int(code)) for code, fmt in zip(operands, function.sources, strict=True)]
    if "subnormal" in kinds:
        return Mismatch("flushed subnormal", [], "subnormal operands are read as zero")
    return Mismatch("other", [], "")


def _flag_fault(case: Case | None, expected: int | None, got: int | None) -> str:
    right, wrong = expected or 0, got or 0
    words = [f"{name} missing" for bit, name in FLAGS if right & ~wrong & bit]
    words += [f"{name} raised" for bit, name in FLAGS if wrong & ~right & bit]
    value = case.exact() if case is not None else None
    limit = smallest_normal(case.to) if case is not None else None
    near = limit is not None and isinstance(value, Fraction) and limit * Fraction(3, 4) < abs(value) < limit
    if right ^ wrong == 2 and near:
        words.append("tininess is decided on the other side of rounding")
    return ", ".join(words)


# ---- blocks ----------------------------------------------------------------------------------------------------


def _block(function: Function, x: Any, expected: Any, got: Any, rules: Rules, random: Any) -> Mismatch:
    """The first code of a block that differs: its scale, or an element."""
    found = explain_long.first_difference(function, x, expected, got, rules, random)
    lines = found.lines
    if found.case is None:
        fault = Mismatch(found.cause, [], found.hypothesis)
    else:
        lines += [f"element   {found.where}", *exact_lines(found.case)]
        because, to = reason(found.case), found.case.to
        lines.append(f"expected  {code_text(found.expected, to)}{f' ({because})' if because else ''}")
        lines.append(f"got       {code_text(found.got, to)}{distance(to, found.expected, found.got)}")
        fault = _judged(function, found.case, found.case.to, (), found.expected, found.got)
    return _with_cause(fault, lines, _classes(function, [x]))


def _classes(function: Function, operands: Sequence[Any]) -> tuple[str, ...]:
    """Coverage classes of the row."""
    from . import coverage

    columns = [np.asarray([np.asarray(o, object).tolist() if np.ndim(o) else int(o)], object) for o in operands]
    columns = [c if w > 64 else c.astype(np.uint64) for c, w in zip(columns, function.operand_widths, strict=True)]
    return tuple(name for name, rows in coverage.masks(function, columns).items() if rows.any())
