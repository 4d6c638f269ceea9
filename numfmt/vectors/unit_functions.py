"""Dots of matrix units as functions of vector files: their names, their operands, and what they give.

A name is one of

    <unit>_dot<K>                              h100.e4m3_dot48
    unit(<unit>, <parameter>=<value>, …)_dot<K>    unit(h100.e4m3, b=e5m2, fraction=14)_dot48
    unit(<parameter>=<value>, …)_dot<K>        unit(inputs=e4m3fn, kind=aligned, length=8, fraction=20)_dot12

Parameters are those of `DotUnit`; a, b, scale and block choose among the formats and block sizes that the unit takes.
A tuple is written with / between its parts, and None is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import decode, encode
from ..formats import FixedFormat, FloatFormat, Format
from ..named import scalar_format
from ..named_units import CHIPS, NAMED_UNITS, NO_MODEL, get_unit, unit_name
from ..rounding import unknown
from ..sources import FLOATS, code_dtype
from ..sums import dot as unit_sums
from ..unit_plans import check_length, plan_of
from ..unit_run import roundings
from ..unit_trace import Trace
from ..units import CUSTOM, DotUnit
from .functions import MAX_LENGTH, Function, Rules

Array = npt.NDArray[Any]

CUSTOM_NAME = re.compile(r"unit\((.*)\)")
CHOICES = ("a", "b", "scale", "block")  # what a name says of operands, beside the parameters of the unit
PARAMETERS = tuple(field.name for field in fields(DotUnit) if field.name != "evidence")
FORMATS, COUNTS = ("inputs", "scales"), ("scale_blocks",)
SHORTEST = 5  # products of a dot whose length nobody says: enough for orders to show


# ---- names -----------------------------------------------------------------------------------------------------


def parsed(name: str, kind: str, length: str) -> Function | None:
    """The function of <kind>_dot<length>; None where the kind names no unit.

    Raises:
        ValueError: a unit or a parameter that does not exist, a length that the unit does not take.
    """
    if match := CUSTOM_NAME.fullmatch(kind):
        base, given = _arguments(name, match[1])
        return unit_dot(base, int(length), name=name, **given)
    first = kind.partition(".")[0].lower()
    try:
        found = unit_name(kind)
    except ValueError:
        chips = {each.partition(".")[0] for each in NAMED_UNITS} | set(CHIPS)
        if first in chips or any(first.startswith(word) for word in NO_MODEL):
            raise
        return None
    return unit_dot(found, int(length), name=name)


def _arguments(name: str, text: str) -> tuple[str | None, dict[str, Any]]:
    """The unit and the parameters between parentheses."""
    base, given = None, {}
    for number, part in enumerate(each.strip() for each in text.split(",")):
        key, equals, value = part.partition("=")
        if not equals and number == 0:
            base = part
        elif not equals:
            raise ValueError(f"function {name!r}: {part!r} is given; parameters are written as fraction=14")
        else:
            given[key.strip()] = value.strip()
    return base, given


def parameter(key: str, value: Any) -> Any:
    """A parameter of `DotUnit` from its text; what is no text is left as it is.

    >>> parameter("fraction", "14"), parameter("scale_blocks", "16/32"), parameter("zero_exponent", "none")
    (14, (16, 32), None)
    """
    if not isinstance(value, str):
        return value
    if key in FORMATS:
        return tuple(value.split("/"))
    if key in COUNTS:
        return tuple(_integer(key, part) for part in value.split("/"))
    if value.lower() in ("none", "true", "false"):
        return {"none": None, "true": True, "false": False}[value.lower()]
    return _integer(key, value) if re.fullmatch(r"[+-]?\d+|0x[\da-fA-F]+", value) else value


def _integer(key: str, text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise ValueError(f"{key}={text!r} is given; it is an integer") from None


def written(key: str, value: Any) -> str:
    """A parameter as names have it.

    >>> written("fraction", 14), written("nan", 0x7FFF), written("scale_blocks", (16, 32)), written("group", None)
    ('fraction=14', 'nan=0x7fff', 'scale_blocks=16/32', 'group=none')
    """
    if isinstance(value, tuple):
        return f"{key}={'/'.join(map(str, value))}"
    if value is None or isinstance(value, bool):
        return f"{key}={str(value).lower()}"
    return f"{key}={value:#x}" if key == "nan" else f"{key}={getattr(value, 'value', value)}"


# ---- functions -------------------------------------------------------------------------------------------------


def unit_dot(
    unit: str | DotUnit | None,
    k: int | None = None,
    *,
    a: str | Format | None = None,
    b: str | Format | None = None,
    scale: str | Format | None = None,
    block: int | str | None = None,
    name: str | None = None,
    **changes: Any,
) -> Function:
    """The dot of K products of a unit, as a function.

    Args:
        unit: name or `DotUnit`; None: the parameters say everything.
        k: products of a dot; None takes so many that they cross the end of a step, and the first promotion.
        a, b: formats of the operands; by default the unit's first, and of fixed-point units its second for b.
        scale, block: format of the block scales, and elements of a block; by default the unit's first.
        name: what the function is called, where a name was given.
        changes: parameters of the unit that are others.

    Raises:
        ValueError: parameters that do not exist or mean nothing together, formats that the unit does not take, K that
            is no multiple of the block.

    >>> f = unit_dot("h100.e4m3", b="e5m2", fraction=14)
    >>> f.name, f.operand_names, f.operand_sizes, str(f.to)
    ('unit(h100.e4m3, fraction=14, b=float8_e5m2)_dot48', ('a', 'b', 'c'), (48, 48, 1), 'float32')
    """
    strange = next((key for key in changes if key not in PARAMETERS), None)
    if strange is not None:
        raise ValueError(unknown("parameter of a unit", strange, [*PARAMETERS, *CHOICES]))
    made = {key: parameter(key, value) for key, value in changes.items()}
    base = None if unit is None else get_unit(unit)
    full = DotUnit(**made) if base is None else replace(base, **made)
    formats = _input(full, "a", a), _input(full, "b", b)
    narrow = _one_scale(full, scale, block)
    size = default_length(narrow) if k is None else k
    _check_size(narrow, size, name)
    plan = plan_of(narrow, *formats)
    check_length(plan, size)
    chosen = _choices(full, narrow, formats)
    label = unit if isinstance(unit, str) else _known(full)
    own = name or f"{_label(label, full, made if isinstance(unit, str) else {}, chosen)}_dot{size}"
    to = register_format(narrow)
    c = narrow.promoted if narrow.promote_every else narrow.c_format
    pairs = [(fmt, narrow.scales[0]) if narrow.scales else (fmt,) for fmt in formats]
    sources = (*pairs[0], *pairs[1], c)
    return Function(own, "unit_dot", sources, to, to.bits, size, unit=replace(narrow, evidence=CUSTOM))


def _input(unit: DotUnit, operand: str, fmt: str | Format | None) -> Any:
    if fmt is None:
        second = operand == "b" and isinstance(unit.inputs[0], FixedFormat)
        return unit.inputs[min(int(second), len(unit.inputs) - 1)]
    found = scalar_format(fmt)
    if found not in unit.inputs:
        raise ValueError(f"{operand} has format {found}; the unit takes {', '.join(map(str, unit.inputs))}")
    return found


def _one_scale(unit: DotUnit, scale: str | Format | None, block: int | str | None) -> DotUnit:
    """The unit with one format of scales and one size of blocks."""
    if not unit.scales:
        if scale is not None or block is not None:
            raise ValueError(f"{'block' if scale is None else 'scale'} is given; the unit takes no scales")
        return unit
    fmt = unit.scales[0] if scale is None else scalar_format(scale)
    size = unit.scale_blocks[0] if block is None else int(block)
    if fmt not in unit.scales:
        raise ValueError(f"scale has format {fmt}; the unit takes {', '.join(map(str, unit.scales))}")
    if size not in unit.scale_blocks:
        raise ValueError(f"block={size} is given; the unit takes one scale for {_or(unit.scale_blocks)} elements")
    return replace(unit, scales=(fmt,), scale_blocks=(size,))


def _or(sizes: Sequence[int]) -> str:
    return " or ".join(map(str, sizes))


def default_length(unit: DotUnit) -> int:
    """K that crosses the end of a step, and of the first stretch before a promotion, and ends within a step.

    >>> default_length(get_unit("h100.e4m3")), default_length(get_unit("h100.e4m3.promote128"))
    (48, 176)
    """
    step = unit.length or 1
    crossing = (unit.promote_every or 0) + step + step // 2
    block = unit.scale_blocks[0] if unit.scales else 1
    wanted = max(crossing, SHORTEST if unit.length is not None and unit.length > 1 else 2 * SHORTEST - 1)
    return -(-wanted // block) * block


def _check_size(unit: DotUnit, size: int, name: str | None) -> None:
    what = f"function {name!r}" if name else f"K = {size}"
    if not 1 <= size <= MAX_LENGTH:
        raise ValueError(f"{what} is given; a dot takes 1 to {MAX_LENGTH} products")
    if unit.scales and size % unit.scale_blocks[0]:
        block = unit.scale_blocks[0]
        fits = " and ".join(str(n) for n in (size // block * block, (size // block + 1) * block) if n)
        raise ValueError(f"{what} is given; K is a multiple of {block}, the elements of a scale: {fits} fits")


def _known(unit: DotUnit) -> str | None:
    """The name of a unit that has one."""
    plain = replace(unit, evidence=CUSTOM)
    return next((n for n, each in NAMED_UNITS.items() if replace(each, evidence=CUSTOM) == plain), None)


def _choices(full: DotUnit, narrow: DotUnit, formats: tuple[Any, Any]) -> dict[str, Any]:
    """What the operands have that is not the unit's first."""
    chosen: dict[str, Any] = {
        key: fmt for key, fmt in zip("ab", formats, strict=True) if fmt != _input(full, key, None)
    }
    if narrow.scales != full.scales[:1]:
        chosen["scale"] = narrow.scales[0]
    if narrow.scale_blocks != full.scale_blocks[:1]:
        chosen["block"] = narrow.scale_blocks[0]
    return chosen


def _label(known: str | None, unit: DotUnit, changes: Mapping[str, Any], chosen: Mapping[str, Any]) -> str:
    """What stands before _dot: a name where it is enough, and no format has it."""
    said = [written(key, value) for key, value in {**changes, **chosen}.items()]
    if known is None:
        stated = [written(key, value) for key, value in unit.changes().items()]
        return f"unit({', '.join(stated + [written(k, v) for k, v in chosen.items()])})"
    plain = unit_name(known)
    return plain if not said and not _is_format(plain) else f"unit({', '.join([plain, *said])})"


def _is_format(name: str) -> bool:
    try:
        scalar_format(name)
    except ValueError:
        return False
    return True


def register_format(unit: DotUnit) -> FloatFormat | FixedFormat:
    """The format of results as a file has them: that of c where it holds every result, as a register does."""
    result, c = unit.result_format, unit.c_format
    if isinstance(result, FixedFormat) or isinstance(c, FixedFormat) or unit.promote_every:
        return result
    return c if holds(c, result) else result


def holds(wide: FloatFormat, narrow: FloatFormat) -> bool:
    """Whether a format has every value of another."""
    holds_specials = wide.has_infinity >= narrow.has_infinity and wide.has_nan >= narrow.has_nan
    same_signs = wide.signed >= narrow.signed and wide.has_negative_zero >= narrow.has_negative_zero
    reaches = wide.precision >= narrow.precision and wide.max >= narrow.max and _quantum(wide) <= _quantum(narrow)
    return holds_specials and same_signs and reaches


def _quantum(fmt: FloatFormat) -> Fraction:
    """The distance of a format's least values."""
    return fmt.min_normal * fmt.epsilon


def operand_formats(function: Function) -> tuple[Any, Any]:
    """The formats of a and b."""
    assert function.unit is not None
    return function.sources[0], function.sources[2 if function.unit.scales else 1]


# ---- results ---------------------------------------------------------------------------------------------------


def shaped(function: Function, columns: Sequence[Array]) -> list[Array]:
    """Operand columns with an axis of codes a row each."""
    return [
        np.asarray(column).reshape(len(column), size)
        for column, size in zip(columns, function.operand_sizes, strict=True)
    ]


class Operands:
    """The columns of rows as `numfmt.dot` takes them, decoded once for a unit and its mutants."""

    def __init__(self, function: Function, columns: Sequence[Array], rules: Rules, random: Array | None) -> None:
        assert function.unit is not None
        rows, scaled = len(columns[0]), bool(function.unit.scales)
        self.function, self.rules = function, rules
        parts = shaped(function, columns)
        a, b = parts[0], parts[2 if scaled else 1]
        self.formats = operand_formats(function)
        self.a, self.b = (x.astype(code_dtype(fmt)) for x, fmt in zip((a, b), self.formats, strict=True))
        scale = function.unit.scales[0] if scaled else None
        self.scales = None
        if scale is not None:
            self.scales = parts[1].astype(code_dtype(scale)), parts[3].astype(code_dtype(scale))
        self.c = _values(parts[-1].reshape(-1), function.sources[-1])
        self.random = None if random is None else np.asarray(random).reshape(rows, drawn(function))

    def keep(self, length: int) -> None:
        """Leave out all but the first products; of units without scales."""
        self.a, self.b = self.a[:, :length], self.b[:, :length]

    def results(self, unit: DotUnit, threads: int | None = 1) -> Array:
        """Codes, in the function's result format, of what a unit gives."""
        return codes_of(np.asarray(self._sums(unit, threads=threads)), self.function.to)

    def trace(self, unit: DotUnit) -> Trace:
        """The steps of a unit."""
        found: Trace = self._sums(unit, trace=True)[1]
        return found

    def _sums(self, unit: DotUnit, **options: Any) -> Any:
        if unit.is_stochastic:
            options |= {"random_bits": self.random, "random_bit_count": self.rules.random_bits}
        return unit_sums(self.a, self.b, self.c, unit=unit, formats=self.formats, scales=self.scales, **options)


def _values(codes: Array, fmt: Format) -> Array:
    """Accumulators as `numfmt.dot` takes them: in their own dtype where there is one, integers in fixed point."""
    if isinstance(fmt, FixedFormat):
        wide = codes.astype(np.uint64).view(np.int64) << np.int64(64 - fmt.bits)
        return wide >> np.int64(64 - fmt.bits) if fmt.signed else codes.astype(np.int64)
    own = code_dtype(fmt)
    dtype = next((dtype for dtype, each in FLOATS.items() if each == fmt), None)
    patterns = codes.astype(own)
    return patterns.view(dtype) if dtype is not None else np.asarray(decode(patterns, fmt))


def codes_of(results: Array, to: Any) -> Array:
    """Results of `numfmt.dot` as codes of a format that has them."""
    own = code_dtype(to)
    if isinstance(to, FixedFormat):
        whole = results if results.dtype.kind in "iu" else np.rint(np.ldexp(results, to.fraction_bits))
        mask = np.uint64(2**to.bits - 1)
        return (whole.astype(np.int64).view(np.uint64) & mask).astype(own)
    if FLOATS.get(results.dtype) == to:
        return np.ascontiguousarray(results).view(own)
    return np.asarray(encode(results, to)).astype(own)


def dot(
    function: Function, operands: Sequence[Array], rules: Rules, random: Array | None, threads: int | None
) -> Array:
    """Codes of dots of a unit.

    Raises:
        ValueError: rules, of which a unit takes none but its own stochastic rounding with its random bits.
    """
    unit = function.unit
    assert unit is not None
    check_unit_rules(function, rules)
    return Operands(function, operands, rules, random).results(unit, threads)


def check_unit_rules(function: Function, rules: Rules) -> None:
    """Refuse rules that are not the unit's own."""
    unit = function.unit
    assert unit is not None
    given = next((key for key in ("overflow", "platform") if getattr(rules, key) is not None), None)
    if given is not None or rules.rounding not in (None, unit.rounding):
        key = given or "rounding"
        value = getattr(getattr(rules, key), "value", getattr(rules, key))
        raise ValueError(f"{key} {value} is given for {function}; a unit has its own: {key}=… among its parameters")
    if unit.is_stochastic and not rules.random_bits:
        raise ValueError(
            f"{function} rounds {unit.rounding.value}; say that and the random bits of a number: "
            f"--rounding {unit.rounding.value} --random-bits 1 to 32"
        )


@lru_cache(maxsize=256)
def drawn(function: Function) -> int:
    """Random numbers that a row takes."""
    assert function.unit is not None
    return roundings(function.unit, function.size)
