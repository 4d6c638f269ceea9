"""Dot-product units as data: what a matrix unit takes, how it adds products, and where it rounds.

A unit takes `length` products a step, and the accumulator from step to step:

    operands → products → (groups) → aligned integers → sum → accumulator → promotion

`sums.py` runs units on arrays, `named_units.py` lists those of real chips.
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
        flush_results: subnormal results of every rounded operation become zeros of their sign; "tiny": those that are
            subnormal when rounded as if exponents had no end (tininess after rounding, IEEE 754 §7.5), as x86 does.
        product_limit: exact products of magnitude 2**product_limit and more are infinite; None: no finite ones are.
        zero: sign of exact zeros: "positive" always, "ieee" as IEEE 754 §6.3 has it.
        nan: pattern, in their dtype, of results that are NaN; None is the canonical quiet NaN.
        nan_rule: "canonical": every NaN is that one; "x86.vdpbf16ps": operands' NaNs are kept as it keeps them.
        evidence: `Evidence`.

    Raises:
        ValueError: parameters that mean nothing together.

    References: spec/units.py, which states every step; M. Fasi et al., "Numerical behavior of NVIDIA tensor
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
    flush_results: Literal[False, True, "tiny"] = False
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
        check(self)

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
            if field.name == "evidence" or value == default or str(value) == str(_format_or_mode(default)):
                continue
            found[field.name] = tuple(map(str, value)) if isinstance(value, tuple) else _plain(value)
        return found

    def as_dict(self) -> dict[str, Any]:
        """Every parameter but the evidence, as JSON takes it: formats and modes by name, patterns in hexadecimal.

        >>> from numfmt import get_unit
        >>> found = get_unit("h100.e4m3").as_dict()
        >>> found["fraction"], found["accumulator"], found["rounding"], found["nan"]
        (13, 'e8m13', 'toward_zero', '0x7fffffff')
        """
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "evidence"}
        found = {name: list(map(str, v)) if name in ("inputs", "scales") else _plain(v) for name, v in values.items()}
        return found | {"scale_blocks": list(self.scale_blocks), "nan": None if self.nan is None else f"{self.nan:#x}"}


def _listed(value: Any) -> tuple[Any, ...]:
    return (value,) if isinstance(value, str | FloatFormat | FixedFormat | CodebookFormat) else tuple(value)


def _format_or_mode(default: object) -> object:
    """A default that names a format as that format."""
    return scalar_format(default) if isinstance(default, str) and default == "float32" else default


def _plain(value: object) -> object:
    """A value as it is written: modes and formats by name."""
    return str(value) if isinstance(value, FloatFormat | FixedFormat) else getattr(value, "value", value)


# ---- refusals ----------------------------------------------------------------------------------------------------


def check(unit: DotUnit) -> None:
    """Raise ValueError for parameters that mean nothing together."""
    for names, condition, where in _places(unit):
        for name in names.split():
            default = next(field.default for field in fields(unit) if field.name == name)
            value = getattr(unit, name)
            if not condition and value != default:
                given = ", ".join(map(str, value)) if isinstance(value, tuple) else _plain(value)
                raise ValueError(f"{name}={given} is given; it is read {where}")
    for condition, message in _demands(unit):
        if not condition:
            raise ValueError(message)


def _places(unit: DotUnit) -> list[tuple[str, bool, str]]:
    """Parameters, whether the unit reads them, and where they are read."""
    kind, late = unit.kind, unit.addend == "late"
    aligned, fixed, chain = kind is Kind.ALIGNED, kind is Kind.FIXED, kind is Kind.CHAIN
    exact = kind in (Kind.ALIGNED, Kind.EXACT)
    rounds_products = unit.product is not None or fixed
    return [
        ("alignment zero_exponent late_fraction late_reach group", aligned, "where kind='aligned'"),
        ("addend", exact or kind in (Kind.CHAIN, Kind.TREE), "where kind='aligned', 'exact', 'chain' or 'tree'"),
        ("late_rounding late_fraction", late, "where addend='late'"),
        ("late_reach", unit.late_fraction is not None, "with late_fraction"),
        ("late_rounding", unit.late_fraction is None, "where late_fraction is None: with it there is one rounding"),
        ("product", chain or kind is Kind.TREE, "where kind='chain' or 'tree'"),
        ("product_rounding", rounds_products, "with product, or where kind='fixed'"),
        ("product_limit", exact, "where kind='aligned' or 'exact'"),
        ("scales scale_blocks", exact or fixed, "where kind='aligned', 'exact' or 'fixed'"),
        ("scale_signs", bool(unit.scales), "with scales"),
        ("order", (aligned and late) or chain, "where kind='chain', or 'aligned' with a late addend"),
        ("promote_every flush_results", not fixed, "where accumulators are floats, not where kind='fixed'"),
        ("length", kind not in (Kind.KAHAN, Kind.NEUMAIER), "where there are steps, not in compensated sums"),
    ]


def _demands(unit: DotUnit) -> list[tuple[bool, str]]:
    """What must hold, and what is said where it does not."""
    kind, late, fixed = unit.kind, unit.addend == "late", unit.kind is Kind.FIXED
    codebooks = [fmt for fmt in unit.inputs if isinstance(fmt, CodebookFormat)]
    scales = [fmt for fmt in unit.scales if not isinstance(fmt, FloatFormat) or fmt.infinity_code is not None]
    given = {name: getattr(unit, name) for name in ("length", "promote_every", "group")}
    counts = [f"{name}={count}" for name, count in given.items() if count is not None and count < 1]
    alignments = (Rounding.TOWARD_ZERO, Rounding.TOWARD_NEGATIVE, Rounding.TIES_TO_EVEN, Rounding.TO_ODD)
    drawn = [name for name in ("product_rounding", "input_rounding") if getattr(unit, name) is not None]
    drawn = [name for name in drawn if getattr(unit, name).is_stochastic]
    both = unit.late_rounding is None or not unit.late_rounding.is_stochastic or unit.is_stochastic
    wraps = unit.overflow is Overflow.WRAP
    sorts = {isinstance(fmt, FixedFormat) for fmt in (unit.accumulator, unit.c_format)}
    in_pairs = kind is Kind.CHAIN and unit.order is Order.ODD_FIRST and unit.length == 2
    return [
        (bool(unit.inputs), "no input format is given; name at least one, such as inputs=('e4m3fn',)"),
        (not codebooks,
         f"{codebooks and codebooks[0]} is given as an input; units multiply float and fixed-point formats"),
        (not scales,
         f"{scales and scales[0]} is given as a scale; scales are floats without infinity, such as e8m0 and ue4m3"),
        (bool(unit.scales) == bool(unit.scale_blocks), "scales and scale_blocks are given together, or neither"),
        (not counts, f"{counts and counts[0]} is given; it is at least 1"),
        ((kind is Kind.ALIGNED) == (unit.fraction is not None),
         "fraction is given for kind='aligned', and for no other"),
        (0 <= (unit.fraction or 0) <= 52, f"fraction={unit.fraction} is given; it is 0 to 52"),
        (unit.alignment in alignments,
         f"alignment={unit.alignment.value} is given; it is toward_zero, toward_negative, ties_to_even or to_odd"),
        (unit.addend in ("early", "late"), f"addend={unit.addend!r} is given; it is 'early' or 'late'"),
        (fixed == isinstance(unit.accumulator, FixedFormat),
         f"accumulator={unit.accumulator} is given; fixed-point accumulators go with kind='fixed'"),
        (len(sorts) == 1,
         f"addend_format={unit.c_format} is given; it is a float where accumulator={unit.accumulator} is one"),
        (unit.product is None or isinstance(unit.product, FloatFormat),
         f"product={unit.product} is given; products are rounded to float formats"),
        (kind is not Kind.TREE or unit.product is not None,
         "kind='tree' is given without product; a tree adds rounded products"),
        (kind is not Kind.TREE or late, "kind='tree' is given with addend='early'; a tree adds the accumulator late"),
        (unit.order is not Order.ODD_FIRST or kind is Kind.CHAIN, "order='odd_first' is given; it is for kind='chain'"),
        (unit.order is not Order.EVEN_ODD or late,
         "order='even_odd' is given with addend='early'; two sums need a late one"),
        (unit.order is not Order.EVEN_ODD or unit.group is None,
         "order='even_odd' is given with group; groups are of neighbours"),
        (unit.group is None or (unit.length or 0) % unit.group == 0,
         f"group={unit.group} is given with length={unit.length}; a step holds whole groups"),
        (not unit.is_stochastic or kind in (Kind.CHAIN, Kind.ALIGNED, Kind.EXACT),
         f"rounding={unit.rounding.value} is given; only chain, aligned and exact sums take it"),
        (both, f"late_rounding={_plain(unit.late_rounding)} is given with rounding={unit.rounding.value}; "
               "both are stochastic, or none"),
        (not drawn,
         f"{drawn and drawn[0]} is given as stochastic; only rounding to the accumulator takes random numbers"),
        (unit.overflow in (None, Overflow.SATURATE, Overflow.WRAP if fixed else Overflow.INFINITY),
         f"overflow={_plain(unit.overflow)} is given; it is saturate, or {'wrap' if fixed else 'infinity'}"
         f"{' of integers alone' * (wraps and not fixed)}, or None"),
        (unit.flush_inputs in (None, "signed", "positive"),
         f"flush_inputs={unit.flush_inputs!r} is given; it is 'signed', 'positive' or None"),
        (unit.flush_results in (False, True, "tiny"),
         f"flush_results={unit.flush_results!r} is given; it is False, True or 'tiny'"),
        (unit.zero in ("positive", "ieee"), f"zero={unit.zero!r} is given; it is 'positive' or 'ieee'"),
        (unit.nan_rule in ("canonical", "x86.vdpbf16ps"),
         f"nan_rule={unit.nan_rule!r} is given; it is 'canonical' or 'x86.vdpbf16ps'"),
        (unit.nan_rule == "canonical" or in_pairs,
         "nan_rule='x86.vdpbf16ps' is given; it goes with kind='chain', length=2 and order='odd_first'"),
        (unit.evidence.grade in GRADES, f"grade {unit.evidence.grade!r} is given; it is one of {', '.join(GRADES)}"),
    ]  # fmt: skip
