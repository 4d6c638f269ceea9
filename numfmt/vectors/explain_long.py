"""Mismatches of blocks and dot products, brought down to one rounding."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._cli.numbers import short_decimal
from ..formats import Exact
from ..named import scalar_format
from . import explain_exact as real
from .explain_case import Case, resolved

if TYPE_CHECKING:
    from .functions import Function, Rules


def dot_case(function: Function, operands: Sequence[Any], expected: int, rules: Rules, random: int = 0) -> Case:
    """The case of a dot product: both rows, and the scales of each lane."""
    rows = [[int(code) for code in np.atleast_1d(np.asarray(column, object)).tolist()] for column in operands]
    to = function.to
    assert to is not None
    names = (0, 2) if function.block is not None else (0, 1)
    values = [[real.value_of(code, function.sources[i]) for code in rows[i]] for i in names]
    scales: list[tuple[Exact, ...]] = []
    if function.block is not None:
        size = function.block.elements_per_block or function.size
        for i in (1, 3):
            each = [real.value_of(code, function.sources[i]) for code in rows[i]]
            scales.append(tuple(each[lane // size] for lane in range(function.size)))
    both, source = (*values[0], *values[1]), function.sources[0]
    return Case("dot", both, (source,), to, resolved(to, rules), expected, tuple(scales), random)


class Difference(NamedTuple):
    """The first code of a row that is wrong.

    Attributes:
        lines: the block and its scale.
        where: the element, as a text.
        case: the rounding of the element; None where the scale is wrong.
        cause, hypothesis: of a wrong scale.
    """

    lines: list[str]
    where: str
    case: Case | None
    expected: int
    got: int
    cause: str = "other"
    hypothesis: str = ""


def first_difference(
    function: Function, x: Any, expected: Any, got: Any, rules: Rules, random: Any = None
) -> Difference:
    """Where a block's answer goes wrong first: scales come before elements."""
    block = function.block
    assert block is not None
    numbers = [int(code) for code in np.asarray(x).reshape(-1)]
    right, wrong = ([int(code) for code in np.asarray(row).reshape(-1)] for row in (expected, got))
    place = next((i for i, (a, b) in enumerate(zip(right, wrong, strict=True)) if a != b), 0)
    size, count = block.elements_per_block or function.size, function.scales
    index = place if place < count else (place - count) // size
    part = numbers[index * size : (index + 1) * size]
    binary32 = scalar_format("float32")
    values = [binary32.exact(code) for code in part]
    sizes = [abs(real.number(v)) for v in values if not real.is_infinite(v)]
    amax = max(sizes, default=Fraction(0))
    scale_format = block.scale_value_format
    lines = [f"block     {index}: largest magnitude {short_decimal(amax, 9)}"]
    if any(isinstance(v, str) and v != "-0" for v in values):
        lines[0] += f", and {', '.join(sorted({v for v in values if isinstance(v, str) and v != '-0'}))}"
    scale = scale_format.exact(right[index])
    lines.append(f"scale     {right[index]:#x} = {_text(scale)}")
    if place < count:
        return _wrong_scale(function, lines, scale, right[place], wrong[place])
    element = place - count
    given = binary32.exact(numbers[element])
    whole = _tensor_scale(numbers) if block.has_tensor_scale else Fraction(1)
    case = Case(
        "div", (given, _times(scale, whole)), (binary32, binary32), block.element,
        resolved(block.element, _element_rules(function, rules)), right[place],
        random=0 if random is None else int(random[element]),
    )  # fmt: skip
    where = f"{element}: {numbers[element]:#010x} = {_text(given)}, over the scale"
    return Difference(lines, where, case, right[place], wrong[place])


def _element_rules(function: Function, rules: Rules) -> Rules:
    from dataclasses import replace

    assert function.block is not None
    rounding = rules.rounding or function.block.default_rounding
    return replace(rules, rounding=rounding, overflow=rules.overflow or function.block.default_overflow)


def _text(value: Exact) -> str:
    return value if isinstance(value, str) else short_decimal(value, 9)


def _times(scale: Exact, whole: Fraction) -> Exact:
    return scale * whole if isinstance(scale, Fraction) else scale


def _tensor_scale(numbers: list[int]) -> Fraction:
    """binary32(amax / 2688) of the row."""
    row = np.array([code & 0x7FFFFFFF for code in numbers], np.uint32).view(np.float32)
    finite = row[np.isfinite(row)]
    scale = np.float32(finite.max(initial=0)) / np.float32(2688)
    return Fraction(float(scale)) or Fraction(1)


def _wrong_scale(function: Function, lines: list[str], scale: Exact, right: int, wrong: int) -> Difference:
    assert function.block is not None
    fmt = function.block.scale_value_format
    found = fmt.exact(wrong)
    lines += [f"expected  {right:#x} = {_text(scale)}", f"got       {wrong:#x} = {_text(found)}"]
    if scale == "nan" and found == "nan":
        cause, text = "NaN bits", "another NaN as the scale"
    elif "nan" in (scale, found):
        cause = "NaN instead of a number" if found == "nan" else "number instead of NaN"
        text = "the scale of the block"
    elif abs(right - wrong) == 1:
        direction = "larger" if wrong > right else "smaller"
        cause, text = "off by one ulp", f"the scale is one step {direction}: another scale rule, or its rounding"
    elif wrong in (0, fmt.bits and (1 << fmt.bits) - 1):
        cause, text = "saturation", "the scale is at the end of its range"
    else:
        cause, text = "other", "the scale of the block"
    return Difference(lines, "", None, right, wrong, cause, text)
