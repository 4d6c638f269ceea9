"""Numba loops over dot-product units; imported by compiled.py when a large product asks for them.

A loop fills a matrix of results, sixteen columns at a time. What is infinite or NaN on the way is marked, and computed
again by unit_engine.py.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

from numba import njit

from . import lanes, loops, simd
from ._core import arithmetic, dot
from ._core.dot import Keep
from ._core.parameters import BINARY32, Round
from .arithmetic_plans import SHORT

lane = lanes.lane32
LENGTH = simd.LENGTH
CARRIER = SHORT.carrier


@njit(forceinline=True)  # type: ignore[untyped-decorator]
def _normalize(m: Any, field: Any, carrier: Any, xp: Any) -> Any:
    """`float.normalize` by counting zeros."""
    up = simd.where(m == 0, m * 0, simd.leading_zeros(m) - (31 - carrier.trailing))
    return m << up, field - up


def _compiled() -> dict[str, Any]:
    """The functions of `_core.arithmetic` and `_core.dot` as Numba functions, over those of `loops`."""
    bound: dict[str, Any] = {**loops.KERNELS, "float.normalize": _normalize}
    for module in (arithmetic, dot):
        shared = dict(vars(module))
        for name, function in vars(module).items():
            if isinstance(function, FunctionType) and function.__module__.startswith("numfmt."):
                key = f"{function.__module__.rsplit('.', 1)[1]}.{name}"
                if function.__module__ == module.__name__:
                    bound[name] = bound[key] = loops.kernel(function, shared)
                shared[name] = bound.get(key)
    return bound


CORE = _compiled()
pack = loops.KERNELS["float.pack"]


def make(kind: str, *options: Any) -> Any:
    """The loop of a kind of units."""
    makers: dict[str, Any] = {"chain": _chain}
    return loops.jit(makers[kind](*options), "units", kind, *options)


@njit(forceinline=True)  # type: ignore[untyped-decorator]
def round_at(p: Any, at: int) -> Any:
    """The `Round` that a vector of parameters holds from a place on."""
    return Round(lane(p[at]), lane(p[at + 1]), lane(p[at + 2]), lane(p[at + 3]), lane(p[at + 4]), lane(p[at + 5]))


@njit(forceinline=True)  # type: ignore[untyped-decorator]
def keep_at(p: Any, at: int) -> Any:
    """The same of a `Keep`."""
    return Keep(
        lane(p[at]), lane(p[at + 1]), lane(p[at + 2]), lane(p[at + 3]), lane(p[at + 4]), lane(p[at + 5]),
        lane(p[at + 6]), lane(p[at + 7]),
    )  # fmt: skip


@njit(forceinline=True)  # type: ignore[untyped-decorator]
def to_float32(negative: Any, exponent: Any, m: Any) -> Any:
    """The binary32 patterns of numbers that binary32 holds."""
    packed = pack(m >> (CARRIER.trailing - BINARY32.trailing), exponent + BINARY32.bias, BINARY32, simd)
    return packed | (negative << BINARY32.sign_shift)


def _chain(sticky: bool) -> Any:
    """A loop over matrices whose sums are rounded after every product, four rows at a time."""
    accumulate = CORE["accumulate"]
    load, load_one, store = simd.loader(LENGTH), simd.loader(1), simd.store

    @njit(forceinline=True)
    def step(m, e, most, row, exponents, at, columns, more, shift):  # type: ignore[no-untyped-def]
        m, e = accumulate(m, e, columns * load_one(row, at), more + load_one(exponents, at), shift, sticky, simd)
        return m, e, simd.maximum(most, e)

    @njit(forceinline=True)
    def finish(out, redo, j, m, e, most, emax):  # type: ignore[no-untyped-def]
        size = simd.magnitude(m)
        long = size >> (dot.ACCUMULATOR + 1)
        exponent = e + long
        normal = size >> (long + (dot.ACCUMULATOR - CARRIER.trailing))
        store(out, j, to_float32(simd.where(m < 0, m * 0 + 1, m * 0), exponent, normal))
        store(redo, j, simd.where(most >= emax, m * 0 + 1, m * 0))

    def loop(a, ea, b, eb, c, ec, out, redo, p):  # type: ignore[no-untyped-def]
        shift, emax = lane(p[0]), lane(p[1])
        rows, depth = a.shape
        for tile in range(b.shape[0]):
            j = tile * LENGTH
            for i in range(0, rows, 4):
                i1, i2, i3 = min(i + 1, rows - 1), min(i + 2, rows - 1), min(i + 3, rows - 1)
                m0, m1, m2, m3 = load(c[i], j), load(c[i1], j), load(c[i2], j), load(c[i3], j)
                e0, e1, e2, e3 = load(ec[i], j), load(ec[i1], j), load(ec[i2], j), load(ec[i3], j)
                t0, t1, t2, t3 = e0, e1, e2, e3
                for k in range(depth):
                    at = (tile * depth + k) * LENGTH
                    columns, more = load(b, at), load(eb, at)
                    m0, e0, t0 = step(m0, e0, t0, a, ea, i * depth + k, columns, more, shift)
                    m1, e1, t1 = step(m1, e1, t1, a, ea, i1 * depth + k, columns, more, shift)
                    m2, e2, t2 = step(m2, e2, t2, a, ea, i2 * depth + k, columns, more, shift)
                    m3, e3, t3 = step(m3, e3, t3, a, ea, i3 * depth + k, columns, more, shift)
                finish(out[i], redo[i], j, m0, e0, t0, emax)
                finish(out[i1], redo[i1], j, m1, e1, t1, emax)
                finish(out[i2], redo[i2], j, m2, e2, t2, emax)
                finish(out[i3], redo[i3], j, m3, e3, t3, emax)

    return loop
