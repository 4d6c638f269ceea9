"""Large products of matrices by the compiled loops: which units have one, and what the loops are given."""

from __future__ import annotations

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
from .unit_numbers import Columns, Fmt, last_place, least_exponent
from .unit_plans import Plan, Rounder, term_bits
from .units import Kind, Order

Array = npt.NDArray[Any]
LANES = 16
ZERO = -(1 << 20)  # the exponent of an operand that is zero
FAR = 1 << 18  # beyond every exponent but those of zeros
WORD = 30  # bits of what 32-bit integers add, with one more summand and the sign


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
    if unit.is_stochastic:
        return None
    if unit.promote_every:
        if unit.promoted != scalar_format("float32") or unit.zero != "positive" or unit.flush_results:
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
    if unit.addend != "early" or unit.order is not Order.SEQUENTIAL:
        return None
    if unit.product is not None or unit.rounding is not Rounding.TIES_TO_EVEN or unit.flush_results:
        return None
    if unit.c_format != unit.accumulator or unit.zero != "ieee":
        return None
    digits = sum(least_exponent(fmt) - last_place(fmt) for fmt in (plan.fa, plan.fb))
    p, w = own.fmt.precision, digits + 2
    if p > 14 or w > PRODUCT - p:
        return None
    if last_place(plan.fa) + last_place(plan.fb) < last_place(own.fmt):
        return None
    run = compiled.unit_loop(("chain", 2 * p > PRODUCT or w > p), work)
    if run is None:
        return None
    to = own.kept
    options = (np.array([ACCUMULATOR + 1 - p, to.emax], np.int32),)
    return Loop(run, options, PRODUCT - digits, ACCUMULATOR)


def _aligned(plan: Plan, k: int, work: int) -> Loop | None:
    """The loop of aligned sums, truncated or floored."""
    unit = plan.unit
    group, staged, apart = unit.group or 1, unit.late_fraction is not None, unit.order is Order.EVEN_ODD
    if not _is_truncated(plan) or any(n % group for n in (*unit.scale_blocks, unit.promote_every or 0)):
        return None
    k = min(k, unit.promote_every or k)
    length = -(-min(unit.length or k, k) // group)
    words = _words(plan, -(-length // 2) if apart else length)
    if words is None or (words != "one" and (staged or apart)):
        return None
    floors = unit.alignment is Rounding.TOWARD_NEGATIVE
    addend = "staged" if staged else unit.addend
    run = compiled.aligned_loop((floors, words, addend, apart, unit.group is not None), work)
    if run is None:
        return None
    fraction, above, trailing = unit.fraction or 0, term_bits(plan), SHORT.carrier.trailing
    part = {"one": length, "parts": 1 << max(WORD - above - fraction, 0), "long": 4}[words]
    raised = max(fraction - _digits(plan), 0) if words != "long" else 0
    options = [
        *plan.own.mode, *_short(plan.own), *plan.late.mode, *_short(plan.late),
        -FAR if unit.zero_exponent is None else unit.zero_exponent, least_exponent(unit.c_format),
        _digits(plan) + raised - fraction, trailing - fraction,
        FAR if unit.product_limit is None else unit.product_limit - above, int(unit.zero == "positive"),
        unit.late_fraction - fraction if unit.late_fraction is not None else 0,
        FAR if unit.late_reach is None else unit.late_reach,
    ]  # fmt: skip
    return Loop(run, (np.array(options, np.int32), length, part, group), raised, trailing)


def _is_truncated(plan: Plan) -> bool:
    """Whether terms are cut or floored, and late sums such as the loop adds; exact zeros are +0 in it."""
    unit, finer = plan.unit, (plan.unit.late_fraction or 0) - (plan.unit.fraction or 0)
    if unit.alignment not in (Rounding.TOWARD_ZERO, Rounding.TOWARD_NEGATIVE) or not holds(BINARY32, unit.c_format):
        return False
    if unit.late_fraction is not None and not (unit.zero_exponent is None and 0 <= finer <= SHORT.carrier.trailing):
        return False
    if (plan.own.downward or plan.late.downward) and not (unit.addend == "early" and unit.zero == "positive"):
        return False
    return unit.group is None or unit.product_limit is None  # which is one of products, not of groups


def _words(plan: Plan, length: int) -> str | None:
    """What a word holds of the sum of so many terms and the accumulator; None where two do not hold it."""
    fraction, above, trailing = plan.unit.fraction or 0, term_bits(plan), SHORT.carrier.trailing
    bits = fraction + above + length.bit_length()
    if _digits(plan) + above > WORD or plan.own.fmt.precision > trailing - 2 or bits > WORD + trailing:
        return None
    if fraction + above > WORD or fraction > trailing:
        return "long"
    return "one" if bits <= WORD else "parts"


def _digits(plan: Plan) -> int:
    """Bits of a term's significand below the place that its exponent names."""
    pair = (plan.fa, plan.fb)
    digits = sum(least_exponent(fmt) - last_place(fmt) for fmt in pair) + 2 * _scale_digits(plan)
    return digits if plan.unit.group is None else digits - sum(map(least_exponent, pair))


def _scale_digits(plan: Plan) -> int:
    """The same of a scale's."""
    return max((least_exponent(fmt) - last_place(fmt) for fmt in plan.unit.scales), default=0)


def _short(to: Rounder) -> Any:
    """A format as `keep` takes it in 32 bits."""
    assert to.kept is not None
    return to.kept._replace(largest=to.kept.largest >> (to.frame.carrier.trailing - SHORT.carrier.trailing))


def significands(
    plan: Plan, x: Columns, fmt: Fmt, scales: Columns | None, block: int, raised: int
) -> tuple[Array, Array]:
    """Signed significands of an operand, times those of its scales, and their exponents, one a group; K first."""
    t, group = x.table, plan.unit.group
    m, e = t.m, t.exponent
    if plan.unit.kind is Kind.CHAIN:  # `dot.accumulate` takes normalised ones
        m, e = t.number.m >> (plan.frame.carrier.trailing - t.digits), t.number.exponent
    m, e = np.where(t.special, 0, np.where(t.number.negative != 0, -m, m) << raised), np.maximum(e, ZERO)
    if group is not None:
        m, e = m << np.maximum(e - least_exponent(fmt), 0), np.zeros_like(e)
    index = x.index.astype(np.intp)
    m, e = (np.take(part.astype(np.int32), index, mode="clip") for part in (m, e))
    if scales is not None:
        factor, shift = _factors(plan, scales)
        m, e = m * np.repeat(factor, block, axis=0), e + np.repeat(shift, block, axis=0)
    if group is None:
        return m, np.where(m == 0, ZERO, e)
    return np.pad(m, ((0, -len(m) % group), (0, 0))), e[::group]


def _factors(plan: Plan, scales: Columns) -> tuple[Array, Array]:
    """Significands and exponents of scales."""
    t = scales.table
    m, e = t.m << (_scale_digits(plan) - t.digits), np.maximum(t.exponent, ZERO)
    if plan.unit.scale_signs:
        m = np.where(t.number.negative != 0, -m, m)
    return m.astype(np.int32)[scales.index], e.astype(np.int32)[scales.index]


def product(loop: Loop, a: list[Array], b: list[Array], c: list[Array], rows: slice) -> tuple[Array, Array]:
    """Results of some rows of a as float32, and where they are to be computed again.

    Args:
        a, c: significands and exponents, (rows, K) and (rows, columns), as many as LANES divides; b: `tiled`.
            Loops may write to c.
    """
    shape = c[0][rows].shape
    out, redo = np.empty(shape, np.uint32), np.zeros(shape, np.uint32)
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


def whole_tiles(columns: int) -> int:
    """So many columns and what LANES lacks to divide them."""
    return columns + -columns % LANES


def padded(x: Array, fill: int) -> Array:
    """An array whose last axis LANES divides."""
    more = whole_tiles(x.shape[-1]) - x.shape[-1]
    return np.ascontiguousarray(np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, more)], constant_values=fill))


def tiled(x: Array, fill: int) -> Array:
    """(K, columns) as (tiles, K, LANES): a tile of columns lies together, as loops read it."""
    return np.ascontiguousarray(padded(x, fill).reshape(len(x), -1, LANES).swapaxes(0, 1))
