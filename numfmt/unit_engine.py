"""Runs dot-product units in NumPy: any unit, all outputs of a chunk at once, one product after the other.

An operand is `Columns`: its numbers, K first, so that the k-th of every row lies together. An output is a pair of rows,
one of each operand, given by two arrays of indices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import unit_exact
from ._core import arithmetic as core
from ._core import dot
from ._core.arithmetic import FAR
from .engines import NUMPY
from .plans import round_parameters
from .rounding import Overflow, Rounding, Rule
from .specials import Rules
from .unit_numbers import Columns, Numbers, least_exponent, numbers_of, signs_of_zeros
from .unit_plans import Outcomes, Plan, Rounder
from .units import Kind, Order

Array = npt.NDArray[Any]
Random = Callable[[int], Array] | None
FLOOR = round_parameters(Rules(Rounding.TOWARD_NEGATIVE, Overflow.SATURATE, Rule(), 0))


class Scales(NamedTuple):
    """Scales of both operands: (K / block, rows) columns, and elements of a block."""

    a: Columns
    b: Columns
    block_a: int
    block_b: int


class Chunk:
    """Outputs that are computed together: pairs of rows, and what a unit does with them."""

    def __init__(
        self,
        plan: Plan,
        a: Columns,
        b: Columns,
        rows: tuple[Array, Array],
        scales: Scales | None,
        random: Random,
        watch: Any,
    ) -> None:
        self.plan, self.unit, self.frame = plan, plan.unit, plan.frame
        self.own, self.late, self.carrier = plan.own, plan.late, plan.frame.carrier
        self.fraction: int = plan.unit.fraction or 0
        self.a, self.b, self.scales = a, b, scales
        self.ia, self.ib = rows
        self.random, self.drawn, self.watch = random, 0, watch
        self.special = bool(a.special.any() or b.special.any()) or plan.unit.product_limit is not None
        self.length = len(a.index)

    def draw(self, rounder: Rounder) -> Array | None:
        """The next random numbers, if the rounding takes any."""
        if self.random is None or not rounder.mode.random_bits:
            return None
        self.drawn += 1
        return self.random(self.drawn - 1)

    def zeros(self) -> Array:
        """An integer 0 for every output."""
        return np.zeros(self.ia.shape, np.int64)

    def zero(self) -> Numbers:
        """+0 for every output."""
        none = np.zeros(self.ia.shape, bool)
        return numbers_of(self.zeros(), self.zeros() - FAR, self.zeros(), none, none, none)

    def steps(self, start: int, stop: int) -> list[range]:
        """The products of each step between two k."""
        length = self.unit.length or max(stop - start, 1)
        return [range(k, min(k + length, stop)) for k in range(start, stop, length)] or [range(start, start)]

    # ---- terms ---------------------------------------------------------------------------------------------------

    def pair(self, k: int) -> tuple[Numbers, Numbers]:
        """The k-th operands."""
        return self.a.at(k, self.ia), self.b.at(k, self.ib)

    def scale(self, k: int) -> tuple[Array, Array, Array, int]:
        """Sign, significand, exponent and digits of the product of the scales of the k-th operands."""
        s = self.scales
        if s is None:
            return self.zeros(), self.zeros() + 1, self.zeros(), 0
        negative, m, exponent = s.a.term(k // s.block_a, self.ia)
        other, n, more = s.b.term(k // s.block_b, self.ib)
        flip = negative ^ other if self.unit.scale_signs else self.zeros()
        return flip, m * n, exponent + more, s.a.table.digits + s.b.table.digits

    def term(self, k: int) -> tuple[Array, Array, Array, int]:
        """Sign, significand, exponent and digits of the k-th product."""
        negative, m, exponent = self.a.term(k, self.ia)
        other, n, more = self.b.term(k, self.ib)
        negative, m, exponent = negative ^ other, m * n, exponent + more
        digits = self.a.table.digits + self.b.table.digits
        if self.scales is not None and self.unit.group is None:
            flip, factor, shift, places = self.scale(k)
            negative, m, exponent, digits = negative ^ flip, m * factor, exponent + shift, digits + places
        return negative, m, np.where(m == 0, -FAR, exponent), digits

    def group(self, ks: range) -> tuple[Array, Array, Array, int]:
        """The same of a group of products, added exactly and scaled."""
        least = least_exponent(self.plan.fa) + least_exponent(self.plan.fb)
        total, negative_zero = self.zeros(), self.zeros() + 1
        for k in ks:
            negative, m, exponent, digits = self.term(k)
            p = m << np.maximum(exponent - least, 0)
            total += np.where(negative != 0, -p, p)
            negative_zero &= negative
        flip, factor, exponent, places = self.scale(ks[0])
        negative = np.where(total == 0, negative_zero, total < 0) ^ flip
        m = np.abs(total) * factor
        return negative, m, np.where(m == 0, -FAR, exponent), digits - least + places

    def terms(self, ks: range) -> list[Callable[[], tuple[Array, Array, Array, int]]]:
        """What a step adds, each made when it is asked for."""
        size = self.unit.group
        if size is None:
            return [lambda k=k: self.term(k) for k in ks]  # type: ignore[misc]
        return [lambda s=ks[i : i + size]: self.group(s) for i in range(0, len(ks), size)]  # type: ignore[misc]

    def specials(self, ks: range) -> tuple[Array, Array, Array]:
        """Where a step's products hold a NaN, +infinity, -infinity."""
        nan, plus, minus = (np.zeros(self.ia.shape, bool) for _ in range(3))
        for k in ks:
            a, b = self.pair(k)
            infinite = a.infinite | b.infinite
            nan |= a.nan | b.nan | (infinite & (((a.m == 0) & ~a.infinite) | ((b.m == 0) & ~b.infinite)))
            negative = a.negative ^ b.negative
            if self.unit.product_limit is not None:
                _, m, exponent, digits = self.term(k)
                past = np.minimum(np.maximum(self.unit.product_limit + digits - exponent, 0), 62)
                infinite = infinite | ((m >> past) != 0) & (m != 0)
            if self.scales is not None:
                negative = negative ^ self.scale(k)[0]
            plus |= infinite & (negative == 0)
            minus |= infinite & (negative != 0)
        if self.scales is not None:
            for columns_, block, rows in (
                (self.scales.a, self.scales.block_a, self.ia),
                (self.scales.b, self.scales.block_b, self.ib),
            ):
                for place in sorted({k // block for k in ks}):
                    nan |= columns_.at(place, rows).nan
        return nan, plus, minus

    # ---- kinds ---------------------------------------------------------------------------------------------------

    def aligned(self, acc: Numbers, ks: range) -> Numbers:
        """One step of an aligned sum."""
        unit = self.unit
        late = unit.addend == "late"
        if unit.order is Order.EVEN_ODD:
            total, top, signs = self._two_sums(ks)
        else:
            total, top, signs = self._aligned_sum(ks, None if late else acc)
        low = top - self.fraction
        if not late:
            out = dot.settle(total, low, self.zero_sign(signs), self.carrier, xp=NUMPY)
            return self.own.rounded(self.with_specials(out, acc, ks, True), self.draw(self.own))
        if unit.late_fraction is None:
            out = dot.settle(total, low, self.zero_sign(signs), self.carrier, xp=NUMPY)
            part = self.own.rounded(self.with_specials(out, acc, ks, False), self.draw(self.own))
            return self.late.add(part, acc, self.draw(self.late))
        return self._two_stages(total, top, signs, acc, ks)

    def _aligned_sum(self, ks: range, acc: Numbers | None) -> tuple[Array, Array, tuple[Array, Array]]:
        """The sum in units of 2**(E - F), E, and where every summand is -0, and +0."""
        unit, mode = self.unit, self.plan.alignment
        terms = self.terms(ks)
        top = self.zeros() + (-FAR if unit.zero_exponent is None else unit.zero_exponent)
        for each in terms:
            top = np.maximum(top, each()[2])
        if acc is not None:
            least = least_exponent(unit.c_format)
            top = np.maximum(top, np.where(acc.m == 0, -FAR, np.maximum(acc.exponent, least)))
        total, minus, plus = self.zeros(), self.zeros() + 1, self.zeros() + 1
        for each in terms:
            negative, m, exponent, digits = each()
            part = dot.align(m, negative, self.fraction - digits - (top - exponent), mode, self.carrier.reach, xp=NUMPY)
            if self.watch is not None:
                self.watch.term(m, self.fraction - digits - (top - exponent), part)
            total, (minus, plus) = total + part, signs_of_zeros((minus, plus), m, negative)
        if acc is not None:
            place = self.fraction - self.carrier.trailing - (top - acc.exponent)
            total = total + dot.align(acc.m, acc.negative, place, mode, self.carrier.reach, xp=NUMPY)
            minus, plus = signs_of_zeros((minus, plus), acc.m, acc.negative)
        if self.watch is not None:
            self.watch.exponent(np.where(top <= -FAR, 0, top))
        return total, np.where(top <= -FAR, 0, top), (minus, plus)

    def _two_sums(self, ks: range) -> tuple[Array, Array, tuple[Array, Array]]:
        """The same of products of even and of odd index, each aligned alone, then floored to the larger unit."""
        even, e0, (minus, plus) = self._aligned_sum(ks[::2], None)
        odd, e1, (more, most) = self._aligned_sum(ks[1::2], None)
        none, nothing = self._empty(ks[::2]), self._empty(ks[1::2])
        top = np.where(none, e1, np.where(nothing, e0, np.maximum(e0, e1)))
        far = [np.minimum(np.where(empty, 0, top - e), 62) for empty, e in ((none, e0), (nothing, e1))]
        return (even >> far[0]) + (odd >> far[1]), top, (minus & more, plus & most)

    def _empty(self, ks: range) -> Array:
        """Where every term is zero."""
        empty = np.ones(self.ia.shape, bool)
        for each in self.terms(ks):
            empty &= each()[1] == 0
        return empty

    def _two_stages(self, total: Array, top: Array, signs: tuple[Array, Array], acc: Numbers, ks: range) -> Numbers:
        """The sum floored to `late_fraction` bits, the accumulator to `fraction`, and one rounding."""
        unit = self.unit
        trailing = self.carrier.trailing
        own = np.maximum(acc.exponent, least_exponent(unit.c_format))
        own = np.where(acc.m == 0, -FAR, own)
        high = np.maximum(np.where(self._empty(ks), -FAR, top), own)
        high = np.where(high <= -FAR, 0, high)
        finer, common = unit.late_fraction or 0, max(unit.late_fraction or 0, self.fraction)
        size, negative = np.abs(total), (total < 0).astype(np.int64)
        first = dot.align(size, negative, finer - self.fraction - (high - top), FLOOR, self.carrier.reach, xp=NUMPY)
        second = dot.align(
            acc.m, acc.negative, self.fraction - trailing - (high - acc.exponent), FLOOR, self.carrier.reach, xp=NUMPY
        )
        if unit.late_reach is not None:
            second = np.where(own < high - unit.late_reach, 0, second)
        total = (first << (common - finer)) + (second << (common - self.fraction))
        signs = signs_of_zeros(signs, acc.m, acc.negative)
        out = dot.settle(total, high - common, self.zero_sign(signs), self.carrier, xp=NUMPY)
        return self.own.rounded(self.with_specials(out, acc, ks, True), self.draw(self.own))

    def zero_sign(self, signs: tuple[Array, Array]) -> Array:
        """The sign of an exact zero, from where every summand is -0, and +0."""
        minus, plus = signs
        return np.where(minus != 0, 1, np.where(plus != 0, 0, self.own.downward))

    def with_specials(self, out: Outcomes, acc: Numbers, ks: range, with_acc: bool) -> Outcomes:
        """A sum, infinite or NaN where what is added is."""
        nan = plus = minus = np.zeros(self.ia.shape, bool)
        if self.special or (self.scales is not None):
            nan, plus, minus = self.specials(ks)
        if with_acc:
            nan = nan | acc.nan
            plus, minus = plus | (acc.infinite & (acc.negative == 0)), minus | (acc.infinite & (acc.negative != 0))
        infinite = plus | minus
        negative = np.where(infinite, minus.astype(np.int64), out.negative)
        return out._replace(negative=negative, infinite=infinite, nan=nan | (plus & minus))

    def chain(self, acc: Numbers, ks: range) -> Numbers:
        """One step of rounded additions."""
        unit, own, late = self.unit, self.own, self.late
        if unit.order is Order.EVEN_ODD:
            even, odd = self._chain(self.zero(), ks[::2]), self._chain(self.zero(), ks[1::2])
            return late.add(acc, own.add(even, odd, self.draw(own)), self.draw(late))
        order = [*ks]
        if unit.order is Order.ODD_FIRST:
            order = [k for i in range(0, len(ks), 2) for k in reversed(ks[i : i + 2])]
        if unit.addend == "late":
            return late.add(acc, self._chain(self.zero(), order), self.draw(late))
        return self._chain(acc, order)

    def _chain(self, acc: Numbers, ks: Any) -> Numbers:
        own = self.own
        for k in ks:
            a, b = self.pair(k)
            if self.plan.product is None:
                acc = own.fma(a, b, acc, self.draw(own))
            else:
                acc = own.add(self.plan.product.multiply(a, b), acc, self.draw(own))
        return acc

    def tree(self, acc: Numbers, ks: range) -> Numbers:
        """One step of additions in pairs."""
        own, late = self.own, self.late
        level = [self.plan.product.multiply(*self.pair(k)) for k in ks]
        if not level:
            return acc
        while len(level) > 1:
            pairs = [own.add(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
            level = pairs + level[len(level) - len(level) % 2 :]
        return late.add(acc, level[0])

    def kahan(self, acc: Numbers, stretch: range) -> Numbers:
        """All of the products, with the error of each addition taken from the next."""
        own = self.own
        compensation = self.zero()
        for k in stretch:
            y = own.add(own.multiply(*self.pair(k)), core.negated(compensation))
            t = own.add(acc, y)
            compensation = own.add(own.add(t, core.negated(acc)), core.negated(y))
            acc = t
        return acc

    def neumaier(self, acc: Numbers, stretch: range) -> Numbers:
        """All of the products, with the error of each addition added at the end."""
        own = self.own
        compensation = self.zero()
        for k in stretch:
            p = own.multiply(*self.pair(k))
            t = own.add(acc, p)
            larger = (acc.exponent > p.exponent) | ((acc.exponent == p.exponent) & (acc.m >= p.m)) | acc.infinite
            big = numbers_of(*(np.where(larger, x, y) for x, y in zip(acc, p, strict=True)))
            small = numbers_of(*(np.where(larger, y, x) for x, y in zip(acc, p, strict=True)))
            error = own.add(own.add(big, core.negated(t)), small)
            compensation, acc = own.add(compensation, error), t
        return own.add(acc, compensation)

    # ---- a dot ---------------------------------------------------------------------------------------------------

    def floats(self, acc: Numbers, stretch: range) -> Numbers:
        """The dot of a stretch of products, from an accumulator on."""
        unit = self.unit
        compensated = unit.kind in (Kind.KAHAN, Kind.NEUMAIER)  # these carry more than an accumulator: one step
        for ks in [stretch] if compensated else self.steps(stretch.start, stretch.stop):
            match unit.kind:
                case Kind.ALIGNED:
                    acc = self.aligned(acc, ks)
                case Kind.CHAIN:
                    acc = self.chain(acc, ks)
                case Kind.TREE:
                    acc = self.tree(acc, ks)
                case Kind.KAHAN:
                    acc = self.kahan(acc, ks)
                case Kind.NEUMAIER:
                    acc = self.neumaier(acc, ks)
                case _:
                    acc = self.exact(acc, ks)
            if self.watch is not None:
                self.watch.accumulator(acc)
        return acc

    def run(self, c: Numbers) -> Array:
        """Codes of the results, in the unit's result format."""
        unit, promoted, own = self.unit, self.plan.promoted, self.own
        whole = range(self.length)
        if promoted is None or unit.promote_every is None:
            found, fmt = self.floats(c, whole), own
        else:
            for start in range(0, self.length, unit.promote_every):
                stretch = whole[start : start + unit.promote_every]
                c = promoted.add(c, self.floats(self.zero(), stretch))
            found, fmt = c, promoted
        return fmt.code(core.itself(found._replace(signaling=np.zeros_like(found.nan)), self.frame, fmt.mode, xp=NUMPY))

    def exact(self, acc: Numbers, ks: range) -> Numbers:
        """One step of a sum without error."""
        return unit_exact.step(self, acc, ks)
