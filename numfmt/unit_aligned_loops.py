"""Numba loops over units that align what they add; imported by compiled.py when a large product asks for them.

    terms → their largest exponent → integers in its units → their sum, in one word or two → settled → kept

A loop takes a step of every row, then the next step; what goes from step to step is in memory meanwhile. The parts of a
step that units do differently are made by functions of their own, so that a loop holds no more than its unit needs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from . import loops, simd
from ._core import dot
from ._core.arithmetic import Number
from ._core.dot import Keep
from ._core.parameters import Round
from .arithmetic_plans import SHORT
from .unit_loops import CARRIER, CORE, LENGTH, keep_at, lane, round_at, to_float32

LOW = CARRIER.trailing + 1  # bits of the low of two words
FAR_BELOW = dot.far_below(CARRIER)
load, load_one, store = simd.loader(LENGTH), simd.loader(1), simd.store
cut, lifted, settle, settle_long = CORE["cut"], CORE["lifted"], CORE["settle"], CORE["settle_long"]
keep, add = CORE["keep"], CORE["add"]


class Rules(NamedTuple):
    """What a loop is told of its unit; exponents but for two roundings."""

    mode: Round
    to: Keep
    late_mode: Round
    late_to: Keep
    least: int  # the least largest exponent
    lowest: int  # the least of an accumulator
    lost: int  # bits of a term below the sum's last place, where it has the largest exponent
    place: int  # those of an accumulator
    limit: int  # beyond it products may count as infinite
    unsigned: int  # 1: the sign of an accumulator that is zero does not matter
    finer: int  # bits that a staged sum has below those of its terms
    reach: int  # how far below the largest exponent a staged accumulator counts


class Step(NamedTuple):
    """The terms of a step, of one row of a and sixteen columns of b.

    Attributes:
        a, b, ea, eb: significands, and exponents, one a term.
        row, column: which of them come first.
        n, e: terms that are sums of groups, and their exponents.
    """

    a: Any
    b: Any
    ea: Any
    eb: Any
    row: int
    column: int
    n: Any
    e: Any


def make(floors: bool, words: str, addend: str, apart: bool, grouped: bool) -> Any:
    """The loop of a kind of aligned sums.

    Args:
        floors: terms are floored; else they are cut toward zero.
        words: "one" holds a sum; "parts" of a sum; or two hold a "long" term.
        addend: "early"; "late", with two roundings; or "staged", where both sums are floored and rounded once.
        apart: terms of even and of odd index have sums of their own.
        grouped: a term is a sum of products.
    """
    prepare, significand, exponent = _groups() if grouped else _products()
    shifted = _long(floors) if words == "long" else _short(floors)
    total = _total(words != "one", shifted, significand, exponent)
    added = _apart(total) if apart else _together(total)
    settled = _settled_one() if words == "one" else _settled_two()
    finish = {"early": _early, "late": _late, "staged": _staged}[addend](added, shifted, settled)
    return loops.jit(_loop(prepare, finish), "aligned", floors, words, addend, apart, grouped)


# ---- terms -------------------------------------------------------------------------------------------------------


@njit(forceinline=True)  # type: ignore[untyped-decorator]
def _product(s: Any, i: int, j: int) -> Any:
    return load(s.b, j * LENGTH) * load_one(s.a, i)


@njit(forceinline=True)  # type: ignore[untyped-decorator]
def _exponent(s: Any, t: int) -> Any:
    return load(s.eb, (s.column + t) * LENGTH) + load_one(s.ea, s.row + t)


def _products() -> Any:
    """What prepares the terms of a step, and a term's significand and exponent, where each is a product."""

    @njit(forceinline=True)
    def prepare(s, count, group):  # type: ignore[no-untyped-def]
        pass

    @njit(forceinline=True)
    def significand(s, t):  # type: ignore[no-untyped-def]
        return _product(s, s.row + t, s.column + t)

    return prepare, significand, _exponent


def _groups() -> Any:
    """The same where each is an exact sum of products, with one exponent; sums that are zero have none."""

    @njit(forceinline=True)
    def prepare(s, count, group):  # type: ignore[no-untyped-def]
        for t in range(count):
            exponent = _exponent(s, t)
            n = exponent * 0
            for k in range(group):
                n = n + _product(s, (s.row + t) * group + k, (s.column + t) * group + k)
            store(s.n, t * LENGTH, n)
            store(s.e, t * LENGTH, simd.where(n == 0, n - FAR_BELOW, exponent))

    @njit(forceinline=True)
    def significand(s, t):  # type: ignore[no-untyped-def]
        return load(s.n, t * LENGTH)

    @njit(forceinline=True)
    def exponent(s, t):  # type: ignore[no-untyped-def]
        return load(s.e, t * LENGTH)

    return prepare, significand, exponent


# ---- sums of integers --------------------------------------------------------------------------------------------


def _short(floors: bool) -> Any:
    """n · 2**-drop as an integer, in a high word and a low one that holds it; drop ≥ 0."""

    @njit(forceinline=True)
    def shifted(n, drop):  # type: ignore[no-untyped-def]
        return n * 0, cut(n, drop, floors, CARRIER, simd)

    return shifted


def _long(floors: bool) -> Any:
    """The same of any drop, with LOW bits in the low word."""

    @njit(forceinline=True)
    def shifted(n, drop):  # type: ignore[no-untyped-def]
        kept = cut(n, simd.maximum(drop, 0), floors, CARRIER, simd)
        return lifted(kept, simd.maximum(-drop, 0), LOW, simd)

    return shifted


def _total(carries: bool, shifted: Any, significand: Any, exponent: Any) -> Any:
    """The largest exponent of `count` terms, and their sum in its units, of which `part` fit the low word."""

    @njit(forceinline=True)
    def total(s, start, stride, count, part, top, lost):  # type: ignore[no-untyped-def]
        for t in range(count):
            top = simd.maximum(top, exponent(s, start + t * stride))
        high, low = top * 0, top * 0
        done = 0
        while done < count:
            stop = min(done + part, count)
            for t in range(done, stop):
                at = start + t * stride
                some, rest = shifted(significand(s, at), top + lost - exponent(s, at))
                high, low = high + some, low + rest
            if carries:
                high, low = high + (low >> LOW), low & ((1 << LOW) - 1)
            done = stop
        return top, high, low

    return total


def _together(total: Any) -> Any:
    """All terms of a step."""

    @njit(forceinline=True)
    def added(s, count, part, top, lost):  # type: ignore[no-untyped-def]
        return total(s, 0, 1, count, part, top, lost)

    return added


def _apart(total: Any) -> Any:
    """Those of even and of odd index, then both sums, floored to the larger unit; one word holds them."""

    @njit(forceinline=True)
    def added(s, count, part, top, lost):  # type: ignore[no-untyped-def]
        even, high, low = total(s, 0, 2, (count + 1) // 2, part, top, lost)
        odd, _, other = total(s, 1, 2, count // 2, part, top, lost)
        top = simd.maximum(even, odd)
        return top, high, cut(low, top - even, True, CARRIER, simd) + cut(other, top - odd, True, CARRIER, simd)

    return added


def _settled_one() -> Any:
    """(high, low) · 2**exponent as an `Outcome`, the low word alone being a sum."""

    @njit(forceinline=True)
    def settled(high, low, exponent):  # type: ignore[no-untyped-def]
        return settle(low, exponent, 0, CARRIER, simd)

    return settled


def _settled_two() -> Any:
    """The same of both words."""

    @njit(forceinline=True)
    def settled(high, low, exponent):  # type: ignore[no-untyped-def]
        return settle_long(high, low, LOW, exponent, 0, CARRIER, simd)

    return settled


# ---- accumulators ------------------------------------------------------------------------------------------------


def _early(added: Any, shifted: Any, settled: Any) -> Any:
    """The accumulator after a step, and the largest exponent of its terms, of which it is one here."""

    @njit(forceinline=True)
    def finish(s, count, part, acc, e, r):  # type: ignore[no-untyped-def]
        least = acc * 0 + r.least
        top = simd.where(acc == 0, least, simd.maximum(simd.maximum(e, r.lowest), least))
        top, high, low = added(s, count, part, top, r.lost)
        mine, rest = shifted(acc, top - e + r.place)
        out = settled(high + mine, low + rest, top + r.place - CARRIER.trailing)
        number = keep(out, None, CARRIER, r.to, r.mode, simd)
        return number, top

    return finish


def _late(added: Any, shifted: Any, settled: Any) -> Any:
    """The same where it is added to the rounded sum."""

    @njit(forceinline=True)
    def finish(s, count, part, acc, e, r):  # type: ignore[no-untyped-def]
        top, high, low = added(s, count, part, acc * 0 + r.least, r.lost)
        out = settled(high, low, top + r.place - CARRIER.trailing)
        some = keep(out, None, CARRIER, r.to, r.mode, simd)
        never = acc != acc
        own = Number(simd.where(acc < 0, acc * 0 + 1, acc * 0), e, simd.magnitude(acc), never, never, never)
        number = keep(add(some, own, SHORT, r.late_mode, simd), None, CARRIER, r.late_to, r.late_mode, simd)
        return number, top

    return finish


def _staged(added: Any, shifted: Any, settled: Any) -> Any:
    """The same where both are floored to units of the larger one, the sum to finer ones."""

    @njit(forceinline=True)
    def finish(s, count, part, acc, e, r):  # type: ignore[no-untyped-def]
        top, _, total = added(s, count, part, acc * 0 + r.least, r.lost)
        own = simd.where(acc == 0, acc * 0 + r.least, simd.maximum(e, r.lowest))
        high = simd.maximum(top, own)
        drop = high - top - r.finer
        total = cut(total, simd.maximum(drop, 0), True, CARRIER, simd)
        near = cut(simd.where(own < high - r.reach, acc * 0, acc), high - e + r.place, True, CARRIER, simd)
        (a, b), (c, d) = lifted(total, simd.maximum(-drop, 0), LOW, simd), lifted(near, r.finer, LOW, simd)
        out = settle_long(a + c, b + d, LOW, high + r.place - CARRIER.trailing - r.finer, 0, CARRIER, simd)
        number = keep(out, None, CARRIER, r.to, r.mode, simd)
        return number, top

    return finish


# ---- a loop ------------------------------------------------------------------------------------------------------


@njit(forceinline=True)  # type: ignore[untyped-decorator]
def _rules(p: Any) -> Any:
    return Rules(
        round_at(p, 0), keep_at(p, 6), round_at(p, 14), keep_at(p, 20),
        lane(p[28]), lane(p[29]), lane(p[30]), lane(p[31]), lane(p[32]), lane(p[33]), lane(p[34]), lane(p[35]),
    )  # fmt: skip


def _loop(prepare: Any, finish: Any) -> Any:
    def loop(a, ea, b, eb, c, ec, out, redo, p, length, part, group):  # type: ignore[no-untyped-def]
        r = _rules(p)
        rows, depth = ea.shape
        n, e = np.empty(length * LENGTH, np.uint32), np.empty(length * LENGTH, np.uint32)
        for tile in range(b.shape[0]):
            for first in range(0, depth, length):
                count = min(length, depth - first)
                for i in range(rows):
                    at = i * c.shape[1] + tile * LENGTH
                    step = Step(a, b, ea, eb, i * depth + first, tile * depth + first, n, e)
                    prepare(step, count, group)
                    acc = load(c, at)
                    number, top = finish(step, count, part, acc, load(ec, at), r)
                    bad = number.infinite | number.nan | (top > r.limit)
                    bad = bad | ((number.m == 0) & (number.negative > r.unsigned))
                    store(c, at, simd.where(number.negative != 0, -number.m, number.m))
                    store(ec, at, number.exponent)
                    store(out, at, number.negative)
                    store(redo, at, simd.where(bad, acc * 0 + 1, load(redo, at)))
        for at in range(0, out.size, LENGTH):
            store(out, at, to_float32(load(out, at), load(ec, at), simd.magnitude(load(c, at))))

    return loop
