"""`nfmt units`: the dot-product units there are, and everything that one of them does."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterable
from typing import Any

from ..formats import FloatFormat
from ..named_units import FAMILIES, PARTS, get_unit, list_units, unit_name, units_of
from ..rounding import Overflow, Rounding
from ..units import GRADES, DotUnit, Kind, Order
from .screen import OK, Paint, code_text, columns, put, put_json, wants_colour

HEADER = ("name", "inputs", "sum", "F", "accumulator", "grade")
WIDTH = 80  # of a page

ROUNDED = {
    Rounding.TIES_TO_EVEN: "to nearest, ties to even",
    Rounding.TOWARD_ZERO: "toward zero",
    Rounding.TOWARD_NEGATIVE: "toward negative",
    Rounding.TO_ODD: "to odd",
}


def run_units(args: argparse.Namespace) -> int:
    """The table of units, of all or of a family or a chip; or the page of one."""
    names = list_units(args.family) if args.name is None else units_of(args.name)
    if not names:
        return _run_one(unit_name(args.name), args)
    if args.json:
        put_json({"units": [facts(name) for name in names]})
        return OK
    _put_table(names, Paint(wants_colour(args.color)))
    return OK


def _run_one(name: str, args: argparse.Namespace) -> int:
    if args.json:
        put_json(facts(name))
        return OK
    _put_page(name, Paint(wants_colour(args.color)))
    return OK


# ---- the table -------------------------------------------------------------------------------------------------


def _put_table(names: list[str], paint: Paint) -> None:
    lines = columns([HEADER, *(_row(name) for name in names)], "<<<><<")
    put(paint.bold("  " + lines[0]))
    family = ""
    for name, line in zip(names, lines[1:], strict=True):
        if family_of(name) != family:
            family = family_of(name)
            put(paint.bold(family))
        put("  " + line)
    put("")
    put(paint.dim("sum: how products are added, and how many of them a step; K: all"))
    put(paint.dim("F: bits that an aligned sum keeps below the largest exponent"))
    for grade in sorted({_grade(name) for name in names}):
        put(paint.dim(f"grade {grade}: {GRADES.get(grade, 'a definition, not a chip')}"))


def _row(name: str) -> tuple[str, ...]:
    unit = get_unit(name)
    length = "K" if unit.length is None else "" if unit.length == 1 else str(unit.length)
    fraction = "" if unit.fraction is None else str(unit.fraction)
    accumulator = _short(unit.accumulator)
    if isinstance(unit.accumulator, FloatFormat):
        accumulator += f" {unit.rounding.value}"
    return name, _inputs(unit), f"{unit.kind.value} {length}".strip(), fraction, accumulator, _grade(name)


def _inputs(unit: DotUnit) -> str:
    """Input formats in the width of a column; the page has all of them."""
    names = [_short(fmt) for fmt in unit.inputs]
    return text if len(text := ", ".join(names)) <= 12 else f"{names[0]} +{len(names) - 1}"


def _short(fmt: Any) -> str:
    """A format as names of units have it: float8_e4m3fn is e4m3, bfloat16 is bf16."""
    text = re.sub(r"^float\d_(e\dm\d(?:fnuz)?)(?:fn)?$", r"\1", str(fmt))
    return PARTS.get(text, text)


def _grade(name: str) -> str:
    """The letter of the evidence; a definition has none."""
    return "-" if family_of(name) == "accumulator" else get_unit(name).evidence.grade


def family_of(name: str) -> str:
    """Whose unit this is: nvidia, amd, x86, arm, accumulator."""
    return next(family for family, units in FAMILIES.items() if name in units)


# ---- JSON ------------------------------------------------------------------------------------------------------


def facts(name: str) -> dict[str, Any]:
    """Every parameter of a unit, as JSON takes it: those of `DotUnit`, two derived formats, the evidence."""
    unit = get_unit(name)
    found: dict[str, Any] = {"name": name, "family": family_of(name)}
    found |= unit.as_dict()
    found |= {"c_format": str(unit.c_format), "result_format": str(unit.result_format)}
    evidence = unit.evidence
    words = {"grade": evidence.grade, "meaning": GRADES[evidence.grade], "source": evidence.source}
    return found | {"evidence": words | {"unverified": evidence.note}}


# ---- a page ----------------------------------------------------------------------------------------------------


def _put_page(name: str, paint: Paint) -> None:
    unit = get_unit(name)
    evidence = unit.evidence
    rows = [*_operands(unit), *_step(unit), *_accumulator(unit), *_specials(unit)]
    grade = _grade(name)
    rows += [("evidence", f"grade {grade}: {GRADES.get(grade, evidence.note)}"), ("source", evidence.source)]
    rows += [("unverified", evidence.note if grade in GRADES else "")]
    put(paint.bold(name))
    for line in _wrapped([(label, text) for label, text in rows if text]):
        put("  " + line)
    put(paint.bold("in Python"))
    for line in example(name):
        put("  " + line)


def _wrapped(rows: list[tuple[str, str]]) -> Iterable[str]:
    """Rows of a label and a text, which is broken where a line would be too long."""
    label_width = max(len(label) for label, _ in rows) + 2
    wrap = textwrap.TextWrapper(WIDTH - 2 - label_width, break_long_words=False, break_on_hyphens=False)
    for label, text in rows:
        for i, line in enumerate(wrap.wrap(text)):
            yield ("" if i else label).ljust(label_width) + line


def _operands(unit: DotUnit) -> list[tuple[str, str]]:
    inputs = ", ".join(map(str, unit.inputs))
    if len(unit.inputs) > 1:
        pair = "the first is a's, the second b's" if unit.kind is Kind.FIXED else "in any mix"
        inputs += f": {pair}"
    if unit.input_rounding is not None:
        inputs += f"; float32 operands are rounded to it, {ROUNDED[unit.input_rounding]}"
    rows = [("inputs", inputs)]
    if unit.scales:
        sizes = " or ".join(map(str, unit.scale_blocks))
        sign = "" if unit.scale_signs or not any(f.signed for f in unit.scales) else "; their sign does not count"
        rows += [("scales", f"{' or '.join(map(str, unit.scales))}, one for {sizes} elements{sign}")]
    product = unit.product or (unit.accumulator if unit.kind in (Kind.KAHAN, Kind.NEUMAIER) else None)
    products = "exact" if product is None else f"rounded to {product}, {ROUNDED[unit.product_rounding]}"
    if unit.product_limit is not None:
        products += f"; those of magnitude 2^{unit.product_limit} and more count as infinite"
    return [*rows, ("products", products)]


def _step(unit: DotUnit) -> list[tuple[str, str]]:
    """How the products of a step are added."""
    length = "all products" if unit.length is None else f"{unit.length} product{'s' * (unit.length > 1)}"
    order = {
        Order.SEQUENTIAL: "",
        Order.ODD_FIRST: ", of every two the second first",
        Order.EVEN_ODD: ", those of even and of odd index apart, and both sums added",
    }[unit.order]
    early = unit.addend == "early"
    terms = "products and accumulator" if early else "products"
    match unit.kind:
        case Kind.ALIGNED:
            below = f"the bits below rounded {ROUNDED[unit.alignment]}"
            sum_ = f"{terms} as integers in units of 2^(E - {unit.fraction}), {below}"
        case Kind.CHAIN:
            sum_ = f"{terms} one after the other, every addition rounded" + (", fused" if unit.product is None else "")
        case Kind.TREE:
            sum_ = "neighbours in pairs, then their sums, every addition rounded"
        case Kind.EXACT:
            sum_ = f"{terms} without error, rounded once"
        case Kind.FIXED:
            sum_ = f"{terms} as integers, without error; then what is too large " + (
                "wraps" if unit.overflow is Overflow.WRAP else "saturates"
            )
        case Kind.KAHAN:
            sum_ = "one after the other, each addition's error taken from the next product; every operation rounded"
        case Kind.NEUMAIER:
            sum_ = "one after the other, the errors of the additions added at the end; every operation rounded"
    rows = [("step", length + order), ("sum", sum_)]
    if unit.kind is Kind.ALIGNED:
        rows.append(("E", _exponent(unit)))
    if unit.group is not None:
        rows.insert(1, ("groups", f"{unit.group} neighbours are added without error, before their scales apply"))
    return rows


def _exponent(unit: DotUnit) -> str:
    """What terms are aligned to."""
    accumulator = " and the accumulator" if unit.addend == "early" else ""
    if unit.group is None:
        words = [f"the largest exponent of the products{accumulator}"]
        words += ["products are not normalised, and subnormals have the least exponent of their format"]
    else:
        words = [f"the largest exponent of the groups{accumulator}"]
        words += ["that of a group is the sum of the exponents of its scales"]
    if unit.order is Order.EVEN_ODD:
        words += ["even and odd products have an E each, and their sums are floored to the larger one's unit"]
    if unit.zero_exponent is not None:
        words += [f"at least {unit.zero_exponent}"]
    return "; ".join(words)


def _accumulator(unit: DotUnit) -> list[tuple[str, str]]:
    rounded = f", rounded {ROUNDED[unit.rounding]}" if isinstance(unit.accumulator, FloatFormat) else ""
    if unit.overflow is Overflow.INFINITY:
        rounded += "; overflow becomes infinity"
    rows = [("accumulator", f"{unit.accumulator}{rounded}")]
    if unit.late_fraction is not None:
        reach = "" if unit.late_reach is None else f", and counts as zero if it lies more than {unit.late_reach} below"
        rows.append((
            "addition", f"the sum of a step is floored to {unit.late_fraction} bits below the larger exponent of it and"
            f" the accumulator, which is floored to {unit.fraction} bits{reach}; both are added, and rounded once",
        ))  # fmt: skip
    elif unit.addend == "late":
        late = unit.late_rounding or unit.rounding
        rows.append(("addition", f"the rounded sum of a step is added to the accumulator, rounded {ROUNDED[late]}"))
    if unit.promote_every is not None:
        rows.append((
            "promotion", f"every {unit.promote_every} products the accumulator is added to one of {unit.promoted},"
            " rounded to nearest, ties to even, and starts again at zero",
        ))  # fmt: skip
    elif unit.c_format != unit.accumulator:
        rows.append(("c", f"{unit.c_format}: the accumulator that the caller gives"))
    return rows


def _specials(unit: DotUnit) -> list[tuple[str, str]]:
    """Subnormals, zeros, NaNs."""
    if not isinstance(unit.accumulator, FloatFormat):
        return []
    operands = {None: "kept", "signed": "operands count as zeros of their sign", "positive": "operands count as +0"}
    subnormals = operands[unit.flush_inputs]
    if unit.flush_results:
        tiny = ", judged as if exponents had no end," if unit.flush_results == "tiny" else ""
        results = f"results of every operation{tiny} become zeros of their sign"
        subnormals = results if unit.flush_inputs is None else f"{subnormals}, {results}"
    zeros = "+0 always" if unit.zero == "positive" else "signed as IEEE 754 §6.3 says"
    code = unit.nan if unit.nan is not None else unit.accumulator.nan_code
    nan = "" if code is None else f"{code_text(code, unit.accumulator.bits)} of {unit.accumulator}"
    if unit.nan_rule != "canonical":
        nan = f"that of an operand, chosen as {unit.nan_rule} does; of invalid operations {nan}"
    return [("subnormals", subnormals), ("zero sums", zeros), ("NaN", nan)]


def example(name: str) -> list[str]:
    """Two lines of Python that use a unit.

    >>> example("h100.e4m3")[1]
    'nf.dot(64 * [1], 64 * [1], unit="h100.e4m3")'
    """
    unit = get_unit(name)
    scales = ""
    if unit.scales:
        one = unit.scales[0].bias << unit.scales[0].trailing_bits
        scales = f", scales=2 * [{64 // unit.scale_blocks[0]} * [{one}]]"
    return ["import numfmt as nf", f'nf.dot(64 * [1], 64 * [1], unit="{name}"{scales})']
