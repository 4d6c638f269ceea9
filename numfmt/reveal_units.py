"""reveal: the dot-product unit that an unknown function is, from its answers alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from . import reveal_probes as probes
from .formats import FloatFormat
from .named import scalar_format
from .named_units import NAMED_UNITS
from .reveal_operands import Rows, Scene, directed, exponents
from .reveal_search import (
    NEVER,
    Question,
    Search,
    alternatives,
    changed,
    parameters,
    question,
    structures,
    written,
)
from .rounding import Overflow
from .units import DotUnit, Evidence, Kind

LONGEST = 640  # products of the longest row, unless the caller says less
SEEN = 136  # products of rows that show steps
RANKED = 40  # structures that random operands rank
TRIED = 4  # those whose parameters are sought


@dataclass(frozen=True)
class Revealed:
    """What is known of an unknown dot product.

    Attributes:
        unit: the unit that gives all answers; None where none was found.
        name: a named unit that is the same function of these inputs; None where none is.
        names: all of them.
        evidence: one sentence for each finding: the probe, and the answer.
        undetermined: parameters that no probe with these inputs and lengths shows, with their values that were tried.
        mismatches: answers of `nearest` that differ, of those that were checked.
        checked: how many were.
        nearest: the unit that gives most of the answers.
    """

    unit: DotUnit | None
    name: str | None
    names: tuple[str, ...]
    evidence: tuple[str, ...]
    undetermined: dict[str, str] = field(hash=False)
    mismatches: int
    checked: int
    nearest: DotUnit

    def __str__(self) -> str:
        lines = []
        if self.unit is None:
            lines.append(f"no unit fits: the nearest differs in {self.mismatches:,} of {self.checked:,} answers")
        else:
            others = f", the same function as {', '.join(self.names[1:])}" if len(self.names) > 1 else ""
            lines.append(f"{self.name or 'a unit without a name'}{others}: all of {self.checked:,} answers")
        lines.append("  " + ", ".join(f"{name}={value}" for name, value in self.nearest.changes().items()))
        lines += [f"  - {sentence}" for sentence in self.evidence]
        lines += [f"  ? {name}: {why}" for name, why in self.undetermined.items()]
        return "\n".join(lines)


def reveal(
    fn: Callable[..., Any],
    *,
    inputs: str | FloatFormat = "float16",
    addend: str | FloatFormat | None = "float32",
    length: int | None = None,
    rows: int = 12,
    seed: int = 0,
) -> Revealed:
    """The dot-product unit that a function is, found from its answers: order, step, alignment, roundings, specials.

    Probes are masks (M, -M and ones), numbers that are kept or lost by one bit, ties, the ends of the range, zeros,
    infinities and NaNs, and operands at random. A candidate counts only if it gives every answer.

    Args:
        fn: called as fn(a, b, c) with float arrays of shapes (rows, K), (rows, K), (rows,), and gives (rows,). Arrays
            are float32, or float64 where a format needs it; all values are those of the formats. It takes any K; one of
            a fixed K pads with zeros, of a those that are -0, which add nothing to zeros of either sign.
        inputs: format of a and b.
        addend: format of c; None for functions fn(a, b).
        length: the longest K that fn takes; 640 unless given.
        rows: rows of each category of operands and K; more find rarer differences.
        seed: of the random operands.

    Returns:
        `Revealed`. Its unit has parameters at their defaults where no probe shows them (`undetermined`). Block scales,
        stochastic rounding, compensated and integer sums, and what becomes of float32 operands that are no values of
        the input format, are not probed.

    Raises:
        ValueError: inputs that are no float format; results that are not one float a row.

    References: P. Xie et al., "FPRev" (arXiv 2411.00442); M. Fasi et al., PeerJ CS 7:e330.

    >>> import numfmt as nf
    >>> found = nf.reveal(lambda a, b, c: nf.dot(a, b, c, unit="a100.bf16"), inputs="bf16", length=24)
    >>> found.name, found.unit.length, found.unit.fraction, found.mismatches
    ('a100.bf16', 8, 24, 0)
    """
    formats = [scalar_format(f) for f in (inputs, addend or inputs)]
    for fmt in formats:
        if not isinstance(fmt, FloatFormat) or not fmt.signed:
            raise ValueError(f"{fmt} is given; reveal takes functions of signed float formats")
    own, other = formats
    assert isinstance(own, FloatFormat) and isinstance(other, FloatFormat)  # noqa: PT018 (for mypy)
    if length is not None and length < 1:
        raise ValueError(f"length={length} is given; it is at least 1")
    subject = probes.Subject(fn, own, other if addend is not None else None, length or LONGEST)
    return _Inquiry(subject, rows, seed).run()


class _Inquiry:
    """One call of `reveal`."""

    def __init__(self, subject: probes.Subject, rows: int, seed: int) -> None:
        self.subject, self.rows, self.seed = subject, rows, seed
        self.evidence: list[str] = []
        self.search = Search(subject.inputs)

    def run(self) -> Revealed:
        """Measure, search, verify."""
        subject = self.subject
        self.place = probes.span(subject)
        low = exponents(subject.inputs)[0]
        coarse = Scene(subject.inputs, subject.addend, 24, max(2 * low, -100), 12, 24)
        sample = directed(coarse, [k for k in (1, 2, 4, 9) if k <= subject.longest], 16, self.seed)
        sample = [Rows(r.a[:80], r.b[:80], r.c[:80]) for r in sample]
        alone, every = probes.precisions(subject, sample)
        self.every = None
        if self.place is not None and subject.addend is not None and alone < every:
            self.every = probes.promotion(subject, alone, self.place)
        precision = alone if self.every else every
        self.acc = probes.accumulator(subject, precision, bool(self.every))
        self._base(precision, every)
        candidates = self._structures(precision)
        best, score = self._searched(candidates, precision)
        return self._verdict(best, score)

    def _base(self, precision: int, every: int) -> None:
        subject, base = self.subject, {"inputs": (self.subject.inputs,), "accumulator": self.acc}
        if self.every:
            base |= {"promote_every": self.every, "promoted": subject.addend}
            self.evidence.append(
                f"promotion: a sum of equal products that stalls at {precision} digits grows again after {self.every}, "
                f"and has up to {every} digits with an addend"
            )
        elif subject.addend is not None and subject.addend != self.acc:
            base["addend_format"] = subject.addend
        if self.acc.infinity_code is not None:
            base["overflow"] = Overflow.INFINITY
        self.base: dict[str, Any] = base
        self.evidence.append(f"accumulator: results have up to {precision} digits: {self.acc}")

    # ---- structure -----------------------------------------------------------------------------------------------

    def _structures(self, precision: int) -> list[DotUnit]:
        """Kinds, orders and lengths that explain most of the masks."""
        subject, k = self.subject, min(SEEN, self.subject.longest)
        asked: list[Rows] = []
        found: list[int] = []
        if self.place is not None and k >= 3:
            small = min(8, k)
            text = probes.tree_text(subject, small, self.place)
            top = self.place[0]
            self.evidence.append(f"order: masks 2^{top} and -2^{top} among {small} products: {text}")
            pairs = [(i, j) for i in range(small) for j in range(small) if i != j]
            pairs += [(-1, j) for j in range(small)] if subject.addend is not None else []
            asked.append(probes.masked(subject, small, pairs, self.place))
            ends = probes.records(subject, k, self.place)
            found += ends[:6]
            near = sorted({j for end in (*ends[:4], k // 2) for j in (end - 1, end, end + 1) if 0 < j < k})
            pairs = [(0, j) for j in near] + [(j, k - 1) for j in near if j < k - 1]
            pairs += [(-1, j) for j in near] if subject.addend is not None else []
            asked.append(probes.masked(subject, k, pairs, self.place))
        joined = probes.joined(subject, k, precision) if k >= 3 and not self.every else None
        if joined is not None:
            rows, ends = joined
            found += ends[:3]
            near = sorted({j for end in (*ends[:3], 2) for j in (end - 1, end, end + 1) if 0 < j < k})
            asked.append(Rows(*(x[[j - 1 for j in near]] for x in (rows.a, rows.b, rows.c))))
        lengths: list[int | None] = [*sorted({1, 2, 4, *found} | ({k} if k <= 8 else set())), None]
        fractions: dict[int | None, int] = {}
        self.said: dict[int | None, str] = {}
        for n in lengths:
            if (measured := probes.fraction(subject, n or min(k, 32))) is not None:
                fractions[n], self.said[n] = measured
        search = Search(subject.inputs, [question(subject, rows) for rows in asked])
        scored: list[tuple[int, int, DotUnit]] = []
        limit = NEVER
        for i, unit in enumerate(structures(self.base, lengths, fractions)):
            score = search.score(unit, limit)
            scored.append((score, i, unit))
            limit = min(limit, score + max(2, score // 4))
        scored.sort(key=lambda each: each[:2])
        return [u for score, _, u in scored if score <= limit]

    # ---- parameters ----------------------------------------------------------------------------------------------

    def _questions(self, unit: DotUnit, precision: int, rows: int, seed: int) -> list[Any]:
        """Directed rows about a unit's steps."""
        low, top = exponents(self.acc)
        scene = Scene(self.subject.inputs, self.subject.addend, precision, low, top, max(unit.fraction or 0, precision))
        step = unit.length or 8
        ks = {1, 2, 3, step - 1, step, step + 1, 2 * step + 3}
        if step == 1:
            ks |= {5, 8}
        if self.every:
            ks |= {self.every, self.every + 1, 2 * self.every + 1}
        ks = {k for k in ks if 0 < k <= self.subject.longest}
        return [question(self.subject, r) for r in directed(scene, sorted(ks), rows, seed)]

    def _searched(self, candidates: list[DotUnit], precision: int) -> tuple[DotUnit, int]:
        """The unit that gives most answers, of a few structures."""
        found: tuple[DotUnit, int] | None = None
        tried: list[DotUnit] = []
        for unit in candidates:
            if unit not in tried and len(tried) < RANKED:
                tried.append(unit)
        first = tried[0]
        self.search.questions = self._questions(first, precision, self.rows, self.seed)
        self.search.zero_exponents = self._zero_exponents(first)
        probes.breaks_of_ties(self.subject, precision)
        for rows, answers in self.subject.thresholds:
            if rows.k <= 40:
                self.search.questions.insert(0, Question(rows, probes.coded(rows, self.subject.inputs), answers))
        limit, ranked = NEVER, []
        for i, unit in enumerate(tried):
            score = self.search.score(unit, limit)
            limit = min(limit, 2 * score + 8)
            ranked.append((score, i))
        families: dict[object, DotUnit] = {}  # the best of each
        for _, i in sorted(ranked):
            families.setdefault((tried[i].kind, tried[i].addend, tried[i].order), tried[i])
        for start in list(families.values())[:TRIED]:
            options = [start]
            if start.kind is Kind.ALIGNED:
                options += [replace(start, zero_exponent=e) for e in self.search.zero_exponents]
                groups = [g for g in (4, 8, 16, 32) if start.length and start.length % g == 0]
                options += [replace(start, group=g) for g in groups]
            unit, score = self.search.improved(min(options, key=self.search.score))
            if found is None or score < found[1]:
                found = unit, score
            if not score:
                break
        assert found is not None
        return self._verified(found, precision)

    def _zero_exponents(self, unit: DotUnit) -> tuple[int, ...]:
        """Least alignment exponents that are worth a try."""
        low = exponents(self.acc)[0]
        usual = {low - 5, low - 6, low - 7}
        if unit.kind is Kind.ALIGNED and self.subject.longest >= 2:
            measured = probes.zero_exponent(self.subject, self.acc, unit.fraction or 24)
            usual |= set() if measured is None else {measured - 1, measured, measured + 1}
        return tuple(sorted(usual))

    def _verified(self, found: tuple[DotUnit, int], precision: int) -> tuple[DotUnit, int]:
        """The unit after fresh operands; where it fails, they join the search."""
        unit, score = found
        for turn in range(1, 4):
            if score:
                break
            fresh = self._questions(unit, precision, 2 * self.rows, self.seed + turn)
            missed = Search(self.subject.inputs, fresh).score(unit)
            self.search.questions += fresh
            self.search.known.clear()
            if not missed:
                break
            unit, score = self.search.improved(unit)
        return unit, score

    # ---- the verdict ---------------------------------------------------------------------------------------------

    def _verdict(self, unit: DotUnit, score: int) -> Revealed:
        checked = sum(len(q.rows) for q in self.search.questions)
        undetermined: dict[str, str] = {}
        names: tuple[str, ...] = ()
        if score:
            longer = min(32, self.subject.longest)
            if self.place is not None and longer > 8:
                text = probes.tree_text(self.subject, longer, self.place)
                self.evidence.append(f"order of {longer} products: {text}")
            example = self.search.first(unit)
            if example is not None:
                asked, i, answers = example
                self.evidence.append(
                    f"nothing that was tried gives every answer; the nearest unit fails first at {asked.rows.text(i)}, "
                    f"which gives {asked.answers[i]!s} and not {answers[i]!s}"
                )
        else:
            unit = self._patterns(unit)
            unit, undetermined = self._justified(unit)
            names = self._names(unit)
        evidence = Evidence("E", f"numfmt.reveal: {checked:,} answers, {score:,} differ")
        unit = replace(unit, evidence=evidence)
        return Revealed(
            None if score else unit,
            names[0] if names else None,
            names,
            tuple(self.evidence),
            undetermined,
            score,
            checked,
            unit,
        )

    def _patterns(self, unit: DotUnit) -> DotUnit:
        """The unit with the NaNs that the function gives."""
        nans = [q.answers[np.isnan(q.answers)] for q in self.search.questions]
        words = np.concatenate([x.view(f"uint{8 * x.dtype.itemsize}") for x in nans])
        patterns = sorted({int(w) for w in np.unique(words)})
        if not patterns:
            self.evidence.append("nan: no probe gives one")
            return unit
        if len(patterns) == 1:
            self.evidence.append(f"nan: all {words.size:,} NaNs are 0x{patterns[0]:x}")
            plain = self._nans_equal(unit)
            return unit if plain else replace(unit, nan=patterns[0])
        kept = replace(unit, nan_rule="x86.vdpbf16ps")
        if unit.result_format == scalar_format("float32") and str(self.subject.inputs) == "bfloat16":
            if self._nans_equal(kept):
                self.evidence.append("nan: operands' NaNs are kept as VDPBF16PS keeps them")
                return replace(kept, nan=0xFFC00000)
        shown = ", ".join(f"0x{p:x}" for p in patterns[:3])
        self.evidence.append(f"nan: patterns vary ({shown}, …), which those of our units do not: not modelled")
        return unit

    def _nans_equal(self, unit: DotUnit) -> bool:
        """Whether a unit's NaNs are those of the function, bit for bit."""
        for q in self.search.questions:
            got = q.expected(unit, self.subject.inputs)
            nan = np.isnan(q.answers)
            word = f"uint{8 * got.dtype.itemsize}"
            if got.dtype != q.answers.dtype or not np.array_equal(got[nan].view(word), q.answers[nan].view(word)):
                return False
        return True

    def _justified(self, unit: DotUnit) -> tuple[DotUnit, dict[str, str]]:
        """The unit, plain where nothing shows a parameter; a sentence for each that something shows."""
        undetermined: dict[str, str] = {}
        defaults = DotUnit(inputs=unit.inputs)
        if self.said.get(unit.length) and unit.kind is Kind.ALIGNED:
            self.evidence.append(f"fraction: {self.said[unit.length]}")
        for name in parameters(unit):
            now, equal, shown = getattr(unit, name), [], ""
            options = alternatives(unit, name, self.search.zero_exponents)
            for value in options:
                other = changed(unit, name, value)
                if other is None or (score := self.search.score(other, 0)) == NEVER:
                    continue
                if not score:
                    equal.append(value)
                elif not shown:
                    shown = self._example(name, now, value, other)
            if shown:
                also = f"; {', '.join(written(name, v) for v in equal)} gives the same answers" if equal else ""
                self.evidence.append(shown + also)
            elif equal:
                tried = ", ".join(str(getattr(v, "value", v)) for v in (now, *equal))
                undetermined[name] = f"{tried} give the same answers"
            plain = unit.rounding if name == "late_rounding" else getattr(defaults, name)
            if name not in ("length", "fraction") and plain in equal:
                other = changed(unit, name, plain)
                unit = other if other is not None and not self.search.score(other, 0) else unit
        if unit.late_rounding == unit.rounding:
            unit = replace(unit, late_rounding=None)
        return unit, undetermined

    def _example(self, name: str, now: Any, value: Any, other: DotUnit) -> str:
        """A probe that only one value of a parameter explains."""
        found = self.search.first(other)
        assert found is not None
        asked, i, answers = found
        return (
            f"{written(name, now)}: {asked.rows.text(i)} gives {asked.answers[i]!s}, "
            f"and with {written(name, value)} {answers[i]!s}"
        )

    def _names(self, unit: DotUnit) -> tuple[str, ...]:
        """Named units that give every answer: those of the same parameters first."""
        found: list[tuple[bool, bool, int, str, int, str]] = []
        for name, each in NAMED_UNITS.items():
            if self.subject.inputs not in each.inputs or each.kind is Kind.FIXED:
                continue
            plain = replace(each, scales=(), scale_blocks=())
            start = plain.promoted if plain.promote_every else plain.c_format
            if self.subject.addend is not None and start != self.subject.addend:
                continue
            if self.search.score(plain, 0) == 0:
                unlike = sum(getattr(unit, p) != getattr(plain, p) for p in parameters(unit))
                rank = bool(each.scales), each.inputs[0] != self.subject.inputs, unlike, each.evidence.grade, len(found)
                found.append((*rank, name))
        found.sort()
        if any(each[0] for each in found):
            self.evidence.append("scales: not probed; units with scales are compared with scales of one")
        return tuple(each[-1] for each in found)
