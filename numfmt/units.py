"""Dot-product units as data: what a matrix unit takes, how it adds products, and where it rounds.

A unit takes `length` products a step, and the accumulator from step to step:

    operands → products → (groups) → aligned integers → sum → accumulator → promotion

`dot.py` runs units on arrays, `named_units.py` lists those of real chips.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from .formats import CodebookFormat, FixedFormat, FloatFormat, Format
from .named import scalar_format
from .rounding import Overflow, Rounding, _Named

GRADES = {
    "A": "reproduced on recordings of hardware",
    "B": "two independent models agree",
    "C": "one source",
    "D": "the vendor's text",
    "E": "unverified",
}


class Kind(_Named):
    """How the products of a step are added."""

    ALIGNED = "aligned"  # as integers in units of the largest exponent, bits below them dropped
    CHAIN = "chain"  # one after the other, each addition rounded; fused where products are exact
    TREE = "tree"  # in pairs, each addition rounded
    EXACT = "exact"  # without error, rounded once
    FIXED = "fixed"  # as integers of the accumulator's unit
    KAHAN = "kahan"  # as a chain, with the error of each addition carried along
    NEUMAIER = "neumaier"  # the same, kept beside the sum and added at the end


class Order(_Named):
    """Which products come first."""

    SEQUENTIAL = "sequential"
    ODD_FIRST = "odd_first"  # of every two, the second one
    EVEN_ODD = "even_odd"  # those of even and of odd index have sums of their own, which are added


@dataclass(frozen=True)
class Evidence:
    """Why a unit is believed to be what it says.

    Attributes:
        grade: a letter of GRADES.
        source: who says so.
        note: what is not known, or where sources differ.
    """

    grade: str
    source: str
    note: str = ""

    def __str__(self) -> str:
        return f"{self.grade} ({GRADES[self.grade]}): {self.source}" + (f"; {self.note}" if self.note else "")


CUSTOM = Evidence("E", "custom")


@dataclass(frozen=True, kw_only=True)
class DotUnit:
    """A dot-product unit.

    Args:
        inputs: formats that a and b may have, in any mix; the first is that of arrays without a format.
        kind: `Kind`, how the products of a step are added.
        length: products of a step; None takes all of K in one.
        order: `Order`, which products come first.
        accumulator: format of what goes from step to step and of the result.
        rounding: how sums are rounded to it; `stochastic` takes random numbers.
        overflow: what finite sums beyond the accumulator become: `infinity`, whatever the rounding; `saturate`; `wrap`
            (integers). None is what IEEE 754 says of the rounding, and saturation of integers.
        addend: "early": the accumulator takes part in a step's sum; "late": it is added to the rounded sum.
        addend_format: format of c; None is the accumulator's.
        late_rounding: how the late sum is rounded; None is `rounding`.
        product: format that products are rounded to; None keeps them exact.
        product_rounding: how.
        fraction: aligned sums: F, bits that are kept below 2**E, E being the largest exponent of the step.
        alignment: how terms are rounded to these bits: `toward_zero`, `toward_negative`, `ties_to_even` or `to_odd`.
        zero_exponent: the least E; None: there is none, zeros take no part.
        late_fraction: aligned sums with a late addend: the sum is floored to so many bits below the larger exponent of
            it and c, c to `fraction` bits, and both are rounded once; None rounds twice.
        late_reach: c counts as zero where its exponent lies further below that one than this; None: nowhere.
        group: products of so many neighbours are added exactly, before their scales apply; None: of no two.
        scales: formats of block scales; () takes none.
        scale_blocks: elements that may share a scale.
        scale_signs: whether the sign of a scale counts.
        promote_every: every so many products the accumulator is added to one of `promoted`, and starts again at zero.
        promoted: its format; it rounds to nearest, ties to even.
        input_rounding: how float32 operands that are no value of an input format become one; None refuses them.
        flush_inputs: subnormal operands count as zeros: "signed" of their sign, "positive" as +0; None: as they are.
        flush_results: subnormal results of every rounded operation become zeros of their sign.
        product_limit: exact products of magnitude 2**product_limit and more are infinite; None: no finite ones are.
        zero: sign of exact zeros: "positive" always, "ieee" as IEEE 754 §6.3 has it.
        nan: pattern, in their dtype, of results that are NaN; None is the canonical quiet NaN.
        nan_rule: "canonical": every NaN is that one; "x86.vdpbf16ps": operands' NaNs are kept as it keeps them.
        evidence: `Evidence`.

    Raises:
        ValueError: parameters that mean nothing together.

    References: DESIGN in spec/units.py, which states every step; M. Fasi et al., "Numerical behavior of NVIDIA tensor
    cores" (PeerJ CS 7:e330, 2021); P. Xie et al., "MMA-Sim" (arXiv 2511.10909).

    >>> unit = DotUnit(inputs=("e4m3fn",), kind="aligned", length=32, fraction=13, accumulator="e8m13",
    ...                rounding="toward_zero", overflow="infinity")
    >>> str(unit.accumulator), unit.length
    ('e8m13', 32)
    """

    inputs: tuple[Format, ...]
    kind: Kind = Kind.CHAIN
    length: int | None = 1
    order: Order = Order.SEQUENTIAL
    accumulator: FloatFormat | FixedFormat = "float32"  # type: ignore[assignment]
    rounding: Rounding = Rounding.TIES_TO_EVEN
    overflow: Overflow | None = None
    addend: Literal["early", "late"] = "early"
    addend_format: FloatFormat | FixedFormat | None = None
    late_rounding: Rounding | None = None
    product: FloatFormat | None = None
    product_rounding: Rounding = Rounding.TIES_TO_EVEN
    fraction: int | None = None
    alignment: Rounding = Rounding.TOWARD_ZERO
    zero_exponent: int | None = None
    late_fraction: int | None = None
    late_reach: int | None = None
    group: int | None = None
    scales: tuple[FloatFormat, ...] = ()
    scale_blocks: tuple[int, ...] = ()
    scale_signs: bool = False
    promote_every: int | None = None
    promoted: FloatFormat = "float32"  # type: ignore[assignment]
    input_rounding: Rounding | None = None
    flush_inputs: Literal["signed", "positive"] | None = None
    flush_results: bool = False
    product_limit: int | None = None
    zero: Literal["positive", "ieee"] = "ieee"
    nan: int | None = None
    nan_rule: Literal["canonical", "x86.vdpbf16ps"] = "canonical"
    evidence: Evidence = CUSTOM

    def __post_init__(self) -> None:
        def set_field(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        set_field("inputs", tuple(scalar_format(f) for f in _listed(self.inputs)))
        set_field("scales", tuple(scalar_format(f) for f in _listed(self.scales)))
        set_field("scale_blocks", tuple(int(n) for n in self.scale_blocks))
        for name in ("accumulator", "addend_format", "product", "promoted"):
            if getattr(self, name) is not None:
                set_field(name, scalar_format(getattr(self, name)))
        for name, enum in (
            ("kind", Kind), ("order", Order), ("rounding", Rounding), ("overflow", Overflow),
            ("late_rounding", Rounding), ("product_rounding", Rounding), ("alignment", Rounding),
            ("input_rounding", Rounding),
        ):  # fmt: skip
            if getattr(self, name) is not None:
                set_field(name, enum.parse(getattr(self, name)))
        self._check()

    # ---- derived -------------------------------------------------------------------------------------------------

    @property
    def c_format(self) -> FloatFormat | FixedFormat:
        """Format of the accumulator that the caller gives."""
        return self.addend_format or self.accumulator

    @property
    def result_format(self) -> FloatFormat | FixedFormat:
        """Format of the results."""
        return self.promoted if self.promote_every else self.accumulator

    @property
    def is_stochastic(self) -> bool:
        """Whether roundings take random numbers."""
        return self.rounding.is_stochastic

    def promotion(self, every: int, to: FloatFormat | str = "float32") -> DotUnit:
        """This unit with its accumulator added to one of another format every so many products."""
        return replace(self, promote_every=every, promoted=to)  # type: ignore[arg-type]

    def changes(self) -> dict[str, object]:
        """The parameters that differ from their defaults, formats and modes by name; evidence left out."""
        found: dict[str, object] = {}
        for field in fields(self):
            value, default = getattr(self, field.name), field.default
            if field.name == "evidence" or value == default or str(value) == str(scalar_or(default)):
                continue
            found[field.name] = tuple(map(str, value)) if isinstance(value, tuple) else _plain(value)
        return found

    # ---- refusals ------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        def need(condition: bool, message: str) -> None:
            if not condition:
                raise ValueError(message)

        def only(names: str, condition: bool, where: str) -> None:
            for name in names.split():
                default = next(f.default for f in fields(self) if f.name == name)
                need(
                    condition or getattr(self, name) == default,
                    f"{name}={_plain(getattr(self, name))} is given; it is read {where}",
                )

        aligned, late = self.kind is Kind.ALIGNED, self.addend == "late"
        need(bool(self.inputs), "no input format is given; name at least one, such as inputs=('e4m3fn',)")
        for fmt in self.inputs:
            need(
                not isinstance(fmt, CodebookFormat),
                f"{fmt} is given as an input; units multiply float and fixed-point formats",
            )
        for fmt in self.scales:
            finite = isinstance(fmt, FloatFormat) and fmt.infinity_code is None
            need(finite, f"{fmt} is given as a scale; scales are floats without infinity, such as e8m0 and ue4m3")
        need(bool(self.scales) == bool(self.scale_blocks), "scales and scale_blocks are given together, or neither")
        for name in ("length", "promote_every", "group"):
            value = getattr(self, name)
            need(value is None or value >= 1, f"{name}={value} is given; it is at least 1")
        need(aligned == (self.fraction is not None), "fraction is given for kind='aligned', and for no other")
        need(self.fraction is None or 0 <= self.fraction <= 52, f"fraction={self.fraction} is given; it is 0 to 52")
        only("alignment zero_exponent late_fraction late_reach group", aligned, "where kind='aligned'")
        allowed = (Rounding.TOWARD_ZERO, Rounding.TOWARD_NEGATIVE, Rounding.TIES_TO_EVEN, Rounding.TO_ODD)
        need(
            self.alignment in allowed,
            f"alignment={self.alignment.value} is given; it is toward_zero, toward_negative, ties_to_even or to_odd",
        )
        only("late_rounding late_fraction late_reach", late, "where addend='late'")
        need(self.addend in ("early", "late"), f"addend={self.addend!r} is given; it is 'early' or 'late'")
        need((self.kind is Kind.FIXED) == isinstance(self.accumulator, FixedFormat),
             f"accumulator={self.accumulator} is given; fixed-point accumulators go with kind='fixed'")  # fmt: skip
        need(
            self.product is not None or self.kind is not Kind.TREE,
            "kind='tree' is given without product; a tree adds rounded products",
        )
        only("product", self.kind in (Kind.CHAIN, Kind.TREE), "where kind='chain' or 'tree'")
        need(
            self.late_rounding is None or not self.late_rounding.is_stochastic or self.is_stochastic,
            f"late_rounding={_plain(self.late_rounding)} is given with rounding={self.rounding.value}; "
            "both are stochastic, or none",
        )
        need(
            self.promote_every is None or self.kind is not Kind.FIXED,
            f"promote_every={self.promote_every} is given with kind='fixed'; float accumulators are promoted",
        )
        exact = self.kind in (Kind.ALIGNED, Kind.EXACT)
        only("product_limit", exact, "where kind='aligned' or 'exact'")
        only("scales scale_blocks", exact or self.kind is Kind.FIXED, "where kind='aligned', 'exact' or 'fixed'")
        need(
            self.kind is not Kind.TREE or late,
            "kind='tree' is given with addend='early'; a tree adds the accumulator late",
        )
        only(
            "order",
            (aligned and late) or self.kind is Kind.CHAIN,
            "where kind='chain', or 'aligned' with a late addend",
        )
        need(
            self.order is not Order.EVEN_ODD or late,
            "order='even_odd' is given with addend='early'; two sums need a late one",
        )
        need(self.group is None or self.length is None or self.length % self.group == 0,
             f"group={self.group} is given with length={self.length}; a step holds whole groups")  # fmt: skip
        need(not self.is_stochastic or self.kind in (Kind.CHAIN, Kind.ALIGNED, Kind.EXACT),
             f"rounding={self.rounding.value} is given; only chain, aligned and exact sums take it")  # fmt: skip
        need(
            self.flush_inputs in (None, "signed", "positive"),
            f"flush_inputs={self.flush_inputs!r} is given; it is 'signed', 'positive' or None",
        )
        need(self.zero in ("positive", "ieee"), f"zero={self.zero!r} is given; it is 'positive' or 'ieee'")
        need(self.evidence.grade in GRADES, f"grade {self.evidence.grade!r} is given; it is one of {', '.join(GRADES)}")


def _listed(value: Any) -> tuple[Any, ...]:
    return (value,) if isinstance(value, str | FloatFormat | FixedFormat | CodebookFormat) else tuple(value)


def scalar_or(default: object) -> object:
    """A default that names a format as that format."""
    return scalar_format(default) if isinstance(default, str) and default == "float32" else default


def _plain(value: object) -> object:
    """A value as it is written: modes and formats by name."""
    return str(value) if isinstance(value, FloatFormat | FixedFormat) else getattr(value, "value", value)
