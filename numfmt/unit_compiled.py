"""Large products of matrices by the compiled loops: which units have one, and what the loops are given."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import compiled
from ._core.dot import ACCUMULATOR, PRODUCT
from ._core.parameters import BINARY32
from .arithmetic_plans import SHORT
from .carriers import holds
from .formats import FixedFormat
from .named import scalar_format
from .rounding import Rounding
from .unit_numbers import Columns, last_place, least_exponent
from .unit_plans import Plan
from .units import Kind, Order

Array = npt.NDArray[Any]
LANES = 16
ZERO = -(1 << 20)  # the exponent of an operand that is zero
NOWHERE = -(1 << 18)  # below the exponent of every product but those of zeros


class Loop(NamedTuple):
    """A loop, and what it is told of its unit.

    Attributes:
        options: what follows the arrays in its call.
        raised: bits by which b's significands are raised, so that products are in the loop's units.
        leading: where the leading bit of an accumulator is.
    """

    run: Any
    options: tuple[Any, ...]
    raised: int
    leading: int


def loop_for(plan: Plan, k: int, work: int) -> Loop | None:
    """The loop of a unit whose sums of k products 32-bit integers hold; None where unit_engine.py is to do it."""
    unit = plan.unit
    if unit.addend != "early" or unit.order is not Order.SEQUENTIAL or unit.is_stochastic:
        return None
    if unit.promote_every and (unit.promoted != scalar_format("float32") or unit.zero != "positive"):
        return None
    if plan.own is None or plan.own.kept is None or not holds(BINARY32, unit.accumulator):
        return None
    if any(isinstance(fmt, FixedFormat) for fmt in (plan.fa, plan.fb)):  # whose products have no leading place
        return None
    match unit.kind:
        case Kind.ALIGNED:
            return _aligned(plan, k, work)
        case Kind.CHAIN:
            return _chain(plan, work)
    return None


def _chain(plan: Plan, work: int) -> Loop | None:
    """The loop of fused sums in a narrow accumulator, none of whose sums is subnormal: `dot.accumulate` says when."""
    unit, own = plan.unit, plan.own
    if unit.product is not None or unit.rounding is not Rounding.TIES_TO_EVEN or unit.flush_results:
        return None
    if unit.c_format != unit.accumulator or unit.zero != "ieee":
        return None
    digits = sum(least_exponent(fmt) - last_place(fmt) for fmt in (plan.fa, plan.fb))
    p, w = own.fmt.precision, digits + 2
    if not (p <= 14 and w < p) and max(p, w) > 13:
        return None
    if last_place(plan.fa) + last_place(plan.fb) < last_place(own.fmt):
        return None
    run = compiled.unit_loop(("chain",), work)
    if run is None:
        return None
    to = own.kept
    options = (np.array([ACCUMULATOR + 1 - p, to.emax], np.int32),)
    return Loop(run, options, PRODUCT - digits, ACCUMULATOR)


def _aligned(plan: Plan, k: int, work: int) -> Loop | None:
    """The loop of aligned sums, truncated or floored."""
    unit, own = plan.unit, plan.own
    if unit.group is not None or unit.zero != "positive" or unit.product_limit is not None:
        return None
    if unit.alignment not in (Rounding.TOWARD_ZERO, Rounding.TOWARD_NEGATIVE) or not holds(BINARY32, unit.c_format):
        return None
    if any(fmt.precision != 1 for fmt in unit.scales):
        return None
    fraction = unit.fraction or 0
    digits = sum(least_exponent(fmt) - last_place(fmt) for fmt in (plan.fa, plan.fb))
    trailing = SHORT.carrier.trailing
    if fraction > trailing or digits + 2 > 30 or own.fmt.precision > trailing - 2:
        return None
    k = min(k, unit.promote_every or k)
    length = min(unit.length or max(k, 1), max(k, 1))
    part = 1 << max(28 - fraction, 0)  # terms below 2**(fraction + 2) whose sum 32 bits hold
    if length > part << 14:  # more halves than a word adds
        return None
    run = compiled.unit_loop(("aligned", unit.alignment is Rounding.TOWARD_NEGATIVE, length + 1 > part), work)
    if run is None:
        return None
    least = NOWHERE if unit.zero_exponent is None else unit.zero_exponent
    p = [*own.mode, *_short(plan), least, least_exponent(unit.c_format), max(digits - fraction, 0), trailing - fraction]
    return Loop(run, (np.array(p, np.int32), length, part), max(fraction - digits, 0), trailing)


@lru_cache(maxsize=256)
def _short(plan: Plan) -> Any:
    """The accumulator as `keep` takes it in 32 bits."""
    to = plan.own.kept
    return to._replace(largest=to.largest >> (plan.frame.carrier.trailing - SHORT.carrier.trailing))


def significands(x: Columns, scales: Columns | None, block: int, raised: int) -> tuple[Array, Array]:
    """Signed significands and exponents of an operand, K first, with scales that are powers of two in the exponents."""
    t = x.table
    m = np.where(t.special, 0, np.where(t.number.negative != 0, -t.m, t.m) << raised).astype(np.int32)
    e = np.where(t.special, ZERO, np.maximum(t.exponent, ZERO)).astype(np.int32)
    m, e = m[x.index], e[x.index]
    if scales is not None:
        shifts = scales.table.exponent.astype(np.int32)[scales.index]
        e += np.where(m == 0, 0, np.repeat(shifts, block, axis=0)[: len(e)])
    return m, e


def product(loop: Loop, a: list[Array], b: list[Array], c: list[Array], rows: slice) -> tuple[Array, Array]:
    """Results of some rows of a as float32, and where they are to be computed again.

    Args:
        a, c: significands and exponents, (rows, K) and (rows, columns); b: (K, columns), as many as LANES divides.
    """
    shape = c[0][rows].shape
    out, redo = np.empty(shape, np.uint32), np.empty(shape, np.uint32)
    left = [np.ascontiguousarray(x[rows]) for x in a]
    start = [np.ascontiguousarray(x[rows]).view(np.uint32) for x in c]
    loop.run(*left, *(x.view(np.uint32) for x in b), *start, out, redo, *loop.options)
    return out.view(np.float32), redo != 0


class Start(NamedTuple):
    """Accumulators at the start: significands and exponents, and where they are infinite, NaN or -0."""

    parts: tuple[Array, Array]
    special: Array


def accumulators(c: Any, shape: tuple[int, ...], trailing: int, leading: int) -> Start:
    """`Start` of numbers whose leading bit is at `trailing`, or of zeros; in the loop it is at `leading`."""
    if c is None:
        m = np.zeros(shape, np.int32)
        return Start((m, m + (ZERO << 4)), np.zeros(shape, bool))
    drop = trailing - leading
    m = np.where(c.negative != 0, -(c.m >> drop), c.m >> drop)
    e = np.maximum(c.exponent, ZERO << 4)
    return Start(
        (m.astype(np.int32).reshape(shape), e.astype(np.int32).reshape(shape)),
        c.infinite | c.nan | ((c.m == 0) & (c.negative != 0)),
    )


def padded(x: Array, fill: int) -> Array:
    """An array whose last axis LANES divides."""
    more = -x.shape[-1] % LANES
    return np.ascontiguousarray(np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, more)], constant_values=fill))
