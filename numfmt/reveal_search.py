"""Units that may be an unknown dot product: which structures there are, and which parameters explain its answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .formats import FloatFormat
from .reveal_operands import Rows, exponents
from .reveal_probes import carried, coded
from .rounding import Overflow, Rounding
from .sums import dot
from .units import DotUnit, Kind, Order

Array = npt.NDArray[Any]
NEVER = 1 << 60  # differences of a unit that cannot be computed
ROUNDINGS = (
    Rounding.TIES_TO_EVEN, Rounding.TOWARD_ZERO, Rounding.TO_ODD, Rounding.TOWARD_NEGATIVE, Rounding.TOWARD_POSITIVE,
    Rounding.TIES_TO_AWAY, Rounding.TIES_TO_ZERO, Rounding.AWAY_FROM_ZERO,
)  # fmt: skip
ALIGNMENTS = (Rounding.TOWARD_ZERO, Rounding.TOWARD_NEGATIVE, Rounding.TIES_TO_EVEN, Rounding.TO_ODD)
COMMON = ("rounding", "zero", "flush_inputs", "flush_results", "overflow")
READ = {
    Kind.ALIGNED: ("fraction", *COMMON, "alignment", "zero_exponent", "product_limit", "group", "length"),
    Kind.CHAIN: (*COMMON, "product", "product_rounding", "order", "length"),
    Kind.TREE: (*COMMON, "product", "product_rounding", "length"),
    Kind.EXACT: (*COMMON, "product_limit", "length"),
}
LATE = {
    Kind.ALIGNED: ("late_rounding", "late_fraction", "late_reach", "order"),
    Kind.CHAIN: ("late_rounding",),
    Kind.TREE: ("late_rounding",),
    Kind.EXACT: ("late_rounding",),
}
PAIRS = (
    ("alignment", "group"), ("fraction", "zero_exponent"), ("fraction", "alignment"), ("rounding", "overflow"),
    ("flush_inputs", "flush_results"), ("late_fraction", "late_reach"),
)  # fmt: skip


@dataclass(frozen=True)
class Question:
    """Rows, their codes, and what the unknown function says."""

    rows: Rows
    codes: tuple[Array, Array]
    answers: Array  # as the function gives them

    def expected(self, unit: DotUnit, inputs: FloatFormat) -> Array:
        """What a unit says."""
        fmt = unit.promoted if unit.promote_every else unit.c_format
        assert isinstance(fmt, FloatFormat)
        return np.asarray(dot(*self.codes, carried(self.rows.c, fmt), unit=unit, formats=inputs))

    def differs(self, unit: DotUnit, inputs: FloatFormat) -> Array:
        """Which rows a unit answers otherwise; NaNs are equal."""
        return ~same(self.expected(unit, inputs), self.answers)


def same(x: Array, y: Array) -> Array:
    """Which results are the same number, zeros with their signs, or both NaN."""
    with np.errstate(invalid="ignore"):
        wide = x.astype(np.float64), y.astype(np.float64)
    equal: Array = (wide[0].view(np.uint64) == wide[1].view(np.uint64)) | (np.isnan(wide[0]) & np.isnan(wide[1]))
    return equal


@dataclass
class Search:
    """Questions with their answers, and the units that were tried on them."""

    inputs: FloatFormat
    questions: list[Question] = field(default_factory=list)
    zero_exponents: tuple[int, ...] = ()
    known: dict[DotUnit, int] = field(default_factory=dict)

    def score(self, unit: DotUnit, limit: int = NEVER) -> int:
        """How many answers a unit does not give; those beyond a limit are not counted."""
        if unit in self.known and self.known[unit] <= limit:
            return self.known[unit]
        total = 0
        for question in self.questions:
            try:
                total += int(np.count_nonzero(question.differs(unit, self.inputs)))
            except ValueError:
                return NEVER
            if total > limit:
                return total
        self.known[unit] = total
        return total

    def first(self, unit: DotUnit) -> tuple[Question, int, Array] | None:
        """The first answer that a unit does not give: question, row, the unit's answers."""
        for question in self.questions:
            differs = question.differs(unit, self.inputs)
            if differs.any():
                return question, int(np.argmax(differs)), question.expected(unit, self.inputs)
        return None

    def improved(self, unit: DotUnit) -> tuple[DotUnit, int]:
        """The unit with parameters changed, one after the other, as long as it gives more of the answers."""
        best = self.score(unit)
        while best:
            before = best
            for name in (*parameters(unit), "roundings"):
                for value in alternatives(unit, name, self.zero_exponents):
                    other = changed(unit, name, value)
                    score = NEVER if other is None else self.score(other, best - 1)
                    if other is not None and score < best:
                        unit, best = other, score
                        if not best:
                            return unit, 0
            if best == before:
                unit, best = self._pair(unit, best)
            if best == before:
                break
        return unit, best

    def _pair(self, unit: DotUnit, best: int) -> tuple[DotUnit, int]:
        """The unit with two parameters changed that hide each other, if that gives more of the answers."""
        names = parameters(unit)
        for one, other in PAIRS:
            if one not in names or other not in names:
                continue
            for first in alternatives(unit, one, self.zero_exponents):
                between = changed(unit, one, first)
                if between is None:
                    continue
                for second in alternatives(between, other, self.zero_exponents):
                    made = changed(between, other, second)
                    if made is not None and (score := self.score(made, best - 1)) < best:
                        return made, score
        return unit, best


# ---- structures --------------------------------------------------------------------------------------------------


def structures(
    base: dict[str, Any], lengths: Sequence[int | None], fractions: dict[int | None, int]
) -> Iterator[DotUnit]:
    """Units of every kind and order with these step lengths; roundings that show in masks too."""
    nearest = Rounding.TIES_TO_EVEN
    yield DotUnit(kind=Kind.CHAIN, length=1, **base)
    yield DotUnit(kind=Kind.CHAIN, length=1, product=base["accumulator"], **base)
    yield DotUnit(kind=Kind.CHAIN, length=2, order=Order.ODD_FIRST, **base)
    for length in lengths:
        late = {"length": length, "addend": "late", "late_rounding": nearest, **base}
        if length is None or length > 1:
            for mode in ROUNDINGS[:3]:
                modes = {"rounding": mode, "late_rounding": mode, "product_rounding": mode}
                yield DotUnit(kind=Kind.TREE, product=base["accumulator"], **{**late, **modes})
            yield DotUnit(kind=Kind.CHAIN, **late)
            yield DotUnit(kind=Kind.CHAIN, order=Order.EVEN_ODD, **late)
            yield DotUnit(kind=Kind.CHAIN, order=Order.ODD_FIRST, **late)
            yield DotUnit(kind=Kind.EXACT, length=length, **base)
            yield DotUnit(kind=Kind.EXACT, **late)
        for bits in {fractions.get(length, 24), 24}:
            for mode in (Rounding.TOWARD_ZERO, nearest):
                yield DotUnit(kind=Kind.ALIGNED, length=length, fraction=bits, **{**base, "rounding": mode})
            yield DotUnit(kind=Kind.ALIGNED, fraction=bits, **late)
            yield DotUnit(kind=Kind.ALIGNED, fraction=bits, **{**late, "rounding": Rounding.TOWARD_ZERO})
            two = {**late, "late_rounding": None, "late_fraction": bits + 7}
            yield DotUnit(kind=Kind.ALIGNED, fraction=bits, **two)


# ---- parameters --------------------------------------------------------------------------------------------------


def parameters(unit: DotUnit) -> tuple[str, ...]:
    """Those that a unit of its kind reads."""
    found = READ[unit.kind] + (LATE[unit.kind] if unit.addend == "late" else ())
    return (*found, "promote_every") if unit.promote_every else found


def alternatives(unit: DotUnit, name: str, zero_exponents: Sequence[int] = ()) -> list[Any]:
    """Other values of a parameter that are worth a try."""
    now = getattr(unit, "rounding" if name == "roundings" else name)
    acc = unit.accumulator
    assert isinstance(acc, FloatFormat)
    length, bits = unit.length, unit.fraction or 0
    choices: dict[str, Sequence[Any]] = {
        "rounding": ROUNDINGS,
        "roundings": ROUNDINGS,
        "late_rounding": ROUNDINGS,
        "product_rounding": ROUNDINGS if unit.product is not None else (),
        "alignment": ALIGNMENTS,
        "zero": ("ieee", "positive"),
        "overflow": (None, Overflow.INFINITY, Overflow.SATURATE),
        "flush_inputs": (None, "signed", "positive"),
        "flush_results": (False, True, "tiny"),
        "fraction": (bits - 1, bits + 1, bits - 2, bits + 2),
        "zero_exponent": (None, *zero_exponents),
        "product_limit": (None, exponents(acc)[1] + 1),
        "group": (None, 2, 4, 8, 16, 32),
        "length": () if length is None else (length - 1, length + 1, length // 2, 2 * length),
        "product": (None, acc, *(f for f in ("float32", "float16") if f != str(acc) and unit.kind is not Kind.TREE)),
        "order": (Order.SEQUENTIAL, Order.ODD_FIRST, Order.EVEN_ODD),
        "late_fraction": (None, *range(bits - 1, bits + 12)),
        "late_reach": (None, *(bits + i for i in range(-2, 5))),
        "promote_every": (None, (unit.promote_every or 2) - 1, (unit.promote_every or 2) + 1),
    }  # fmt: skip
    if name == "order" and length == 1:
        return []
    if name == "order" and unit.kind is Kind.ALIGNED:
        return [v for v in (Order.SEQUENTIAL, Order.EVEN_ODD) if v != now]
    if name == "order" and unit.addend == "early":
        return [v for v in (Order.SEQUENTIAL, Order.ODD_FIRST) if v != now]
    if name == "length" and unit.kind is Kind.CHAIN and unit.addend == "early":
        return []
    if name == ("late_reach" if unit.late_fraction is None else "late_rounding"):
        return []
    return [v for v in choices[name] if str(v) != str(now)]


def changed(unit: DotUnit, name: str, value: Any) -> DotUnit | None:
    """The unit with another parameter; None where that means nothing."""
    more: dict[str, Any] = {name: value}
    if name == "roundings":  # of all operations
        more = {"rounding": value, "late_rounding": None if unit.late_rounding is None else value}
        more["product_rounding"] = unit.product_rounding if unit.product is None else value
    if name == "late_fraction":
        more["late_rounding"] = unit.rounding if value is None else None
        more["late_reach"] = None if value is None else unit.late_reach
    if name == "product" and value is None:
        more["product_rounding"] = Rounding.TIES_TO_EVEN
    try:
        return replace(unit, **more)
    except ValueError:
        return None


def written(name: str, value: Any) -> str:
    """A parameter as it is written."""
    return f"{name}={getattr(value, 'value', value)}"


def question(subject: Any, rows: Rows) -> Question:
    """Rows that are put to the unknown function."""
    return Question(rows, coded(rows, subject.inputs), subject.ask(rows))
