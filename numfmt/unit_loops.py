"""Numba loops over dot-product units; imported by compiled.py when a large product asks for them.

A loop fills a matrix of results, sixteen columns at a time. What is infinite or NaN on the way is marked, and computed
again by unit_engine.py.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

from numba import njit

from . import arithmetic_loops, lanes, loops, simd
from ._core import dot
from ._core.dot import Keep
from ._core.parameters import BINARY32, Round
from .arithmetic_plans import SHORT

lane = lanes.lane32
LENGTH = simd.LENGTH
CARRIER = SHORT.carrier
HALF = 16  # bits of the low word of sums that one word may not hold


def _compiled() -> dict[str, Any]:
    """The functions of `_core.dot` as Numba functions, over those of `loops` and `arithmetic_loops`."""
    shared = dict(vars(dot))
    for name, function in vars(dot).items():
        if isinstance(function, FunctionType) and function.__module__.startswith("numfmt."):
            module = function.__module__.rsplit(".", 1)[1]
            others: Any = arithmetic_loops.CORE if module == "arithmetic" else loops.KERNELS
            key = name if module == "arithmetic" else f"{module}.{name}"
            shared[name] = loops.kernel(function, shared) if module == "dot" else others[key]
    return shared


CORE = _compiled()
pack = loops.KERNELS["float.pack"]


def make(kind: str, *options: Any) -> Any:
    """The loop of a kind of units."""
    makers: dict[str, Any] = {"aligned": _aligned, "chain": _chain}
    return loops.jit(makers[kind](*options), "units", kind, *options)


@njit(forceinline=True)  # type: ignore[untyped-decorator]
def _round(p: Any) -> Any:
    return Round(lane(p[0]), lane(p[1]), lane(p[2]), lane(p[3]), lane(p[4]), lane(p[5]))


@njit(forceinline=True)  # type: ignore[untyped-decorator]
def _keep(p: Any) -> Any:
    return Keep(lane(p[6]), lane(p[7]), lane(p[8]), lane(p[9]), lane(p[10]), lane(p[11]), lane(p[12]), lane(p[13]))


@njit(forceinline=True)  # type: ignore[untyped-decorator]
def _float32(negative: Any, exponent: Any, m: Any) -> Any:
    """The binary32 patterns of numbers that binary32 holds."""
    packed = pack(m >> (CARRIER.trailing - BINARY32.trailing), exponent + BINARY32.bias, BINARY32, simd)
    return packed | (negative << BINARY32.sign_shift)


def _aligned(floors: bool, split: bool) -> Any:
    """A loop over matrices whose sums are aligned, the accumulator among what is added."""
    cut, settle, settle_long, keep = CORE["cut"], CORE["settle"], CORE["settle_long"], CORE["keep"]
    load, store = simd.loader(LENGTH), simd.store
    ones = (1 << HALF) - 1

    @njit(forceinline=True)
    def terms(row, exponents, columns, more, start, stop, j, top, extra):  # type: ignore[no-untyped-def]
        total = lane(0)
        for k in range(start, stop):
            away = top - (load(more[k], j) + lane(exponents[k])) + extra
            total = total + cut(load(columns[k], j) * lane(row[k]), away, floors, CARRIER, simd)
        return total

    def loop(a, ea, b, eb, c, ec, out, redo, p, length, part):  # type: ignore[no-untyped-def]
        mode, to = _round(p), _keep(p)
        least, lowest, extra, place = lane(p[14]), lane(p[15]), lane(p[16]), lane(p[17])
        depth = a.shape[1]
        for j in range(0, b.shape[1], LENGTH):
            for i in range(a.shape[0]):
                row, exponents = a[i], ea[i]
                acc, e = load(c[i], j), load(ec[i], j)
                bad = acc * 0
                negative, m = acc * 0, acc * 0
                for first in range(0, depth, length):
                    last = min(first + length, depth)
                    top = simd.where(acc == 0, least, simd.maximum(simd.maximum(e, lowest), least))
                    for k in range(first, last):
                        top = simd.maximum(top, load(eb[k], j) + lane(exponents[k]))
                    mine = cut(acc, top - e + place, floors, CARRIER, simd)
                    if split:
                        high, low = mine >> HALF, mine & ones
                        for k in range(first, last, part):
                            some = terms(row, exponents, b, eb, k, min(k + part, last), j, top, extra)
                            high, low = high + (some >> HALF), low + (some & ones)
                        found = settle_long(high, low, HALF, top + place - CARRIER.trailing, 0, CARRIER, simd)
                    else:
                        mine = mine + terms(row, exponents, b, eb, first, last, j, top, extra)
                        found = settle(mine, top + place - CARRIER.trailing, 0, CARRIER, simd)
                    number = keep(found, None, CARRIER, to, mode, simd)
                    bad = simd.where(number.infinite | number.nan, acc * 0 + 1, bad)
                    negative, m, e = number.negative, number.m, number.exponent
                    acc = simd.where(negative != 0, -m, m)
                store(out[i], j, _float32(negative, e, m))
                store(redo[i], j, bad)

    return loop


def _chain() -> Any:
    """A loop over matrices whose sums are rounded after every product, four rows at a time."""
    accumulate = CORE["accumulate"]
    load, store = simd.loader(LENGTH), simd.store

    @njit(forceinline=True)
    def step(m, e, most, row, exponents, k, columns, more, shift):  # type: ignore[no-untyped-def]
        product = columns * lane(row[k])
        m, e = accumulate(m, e, product, more + lane(exponents[k]), shift, simd)
        return m, e, simd.maximum(most, e)

    @njit(forceinline=True)
    def finish(out, redo, j, m, e, most, emax):  # type: ignore[no-untyped-def]
        size = simd.magnitude(m)
        long = size >> (dot.ACCUMULATOR + 1)
        exponent = e + long
        normal = size >> (long + (dot.ACCUMULATOR - CARRIER.trailing))
        store(out, j, _float32(simd.where(m < 0, m * 0 + 1, m * 0), exponent, normal))
        store(redo, j, simd.where(most >= emax, m * 0 + 1, m * 0))

    def loop(a, ea, b, eb, c, ec, out, redo, p):  # type: ignore[no-untyped-def]
        shift, emax = lane(p[0]), lane(p[1])
        rows, depth = a.shape
        for j in range(0, b.shape[1], LENGTH):
            for i in range(0, rows, 4):
                i1, i2, i3 = min(i + 1, rows - 1), min(i + 2, rows - 1), min(i + 3, rows - 1)
                m0, m1, m2, m3 = load(c[i], j), load(c[i1], j), load(c[i2], j), load(c[i3], j)
                e0, e1, e2, e3 = load(ec[i], j), load(ec[i1], j), load(ec[i2], j), load(ec[i3], j)
                t0, t1, t2, t3 = e0, e1, e2, e3
                for k in range(depth):
                    columns, more = load(b[k], j), load(eb[k], j)
                    m0, e0, t0 = step(m0, e0, t0, a[i], ea[i], k, columns, more, shift)
                    m1, e1, t1 = step(m1, e1, t1, a[i1], ea[i1], k, columns, more, shift)
                    m2, e2, t2 = step(m2, e2, t2, a[i2], ea[i2], k, columns, more, shift)
                    m3, e3, t3 = step(m3, e3, t3, a[i3], ea[i3], k, columns, more, shift)
                finish(out[i], redo[i], j, m0, e0, t0, emax)
                finish(out[i1], redo[i1], j, m1, e1, t1, emax)
                finish(out[i2], redo[i2], j, m2, e2, t2, emax)
                finish(out[i3], redo[i3], j, m3, e3, t3, emax)

    return loop
