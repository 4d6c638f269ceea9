"""Operands of dot-product units in 32-bit integers, sums of aligned terms, and what rounds them.

    patterns → Number → Side (K first) → terms → Total → Outcome → Number

An output is a row of a and a column of the second matrix: arrays of a have shape (K, M), those of b (K, N).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from numfmt._core import arithmetic as core
from numfmt._core import dot
from numfmt._core.arithmetic import Number
from numfmt._core.float import normalize, unpack
from numfmt._core.parameters import BINARY32, Round
from numfmt.kernels import FixedFormat, Order, Rounding, least_exponent

from .unit_plans import CARRIER, CUT, FRAME, STAGES, TRAILING, Fmt, Plan, To, trailing

Array = jax.Array
Numbers = Any  # `Number` of arrays
Outcomes = Any  # `Outcome` of arrays
FAR = dot.far_below(CARRIER)
NOWHERE = -(1 << 20)  # below the exponent of every product but those of zeros
FLOOR = Round(0, 0, 1, 0, 0, 0)
MAXIMUM = (jnp.maximum, jnp.max)
SUM = (operator.add, partial(jnp.sum, dtype=jnp.int32))
ALL = (operator.and_, jnp.all)
ANY = (operator.or_, jnp.any)


class Side(NamedTuple):
    """An operand, K first.

    Attributes:
        number: its numbers, significands normalised.
        m, exponent: signed significands with the format's digits, and exponents no lower than the format's least, -FAR
            of zeros. Both with their scales, where no group of products comes before these.
        negative: signs of the same.
        scale, scale_exponent, scale_negative: of what is scaled in groups; else None.
    """

    number: Numbers
    m: Array
    exponent: Array
    negative: Array
    scale: Array | None = None
    scale_exponent: Array | None = None
    scale_negative: Array | None = None


# ---- operands ------------------------------------------------------------------------------------------------------


def read(patterns: Array, fmt: Fmt, flush: str | None) -> Numbers:
    """The numbers of binary32 patterns of values of a format."""
    negative, magnitude, field, m = unpack(patterns, BINARY32, xp=jnp)
    m, exponent = normalize(m, field - BINARY32.bias, BINARY32, xp=jnp)
    zero = m == 0
    if flush and not isinstance(fmt, FixedFormat):
        tiny = ~zero & (exponent < least_exponent(fmt))
        zero, m = zero | tiny, jnp.where(tiny, 0, m)
        negative = jnp.where(tiny, 0, negative) if flush == "positive" else negative
    exponent = jnp.where(zero, -FAR, exponent)
    m = m << (TRAILING - BINARY32.trailing)
    infinite, nan = magnitude == BINARY32.infinity, magnitude > BINARY32.infinity
    return Number(negative, exponent, m, infinite, nan, None)  # type: ignore[arg-type]


def side(number: Numbers, fmt: Fmt, scales: tuple[Numbers, Fmt] | None, plan: Plan) -> Side:
    """An operand of numbers of shape (K, rows), and of scales of the same shape."""
    m, exponent = _terms(number, fmt)
    negative = number.negative
    if scales is None:
        return Side(number, m, exponent, negative)
    factor, places = _terms(*scales)
    flip = scales[0].negative if plan.unit.scale_signs else jnp.zeros_like(negative)
    factor = jnp.where(flip == 0, jnp.abs(factor), factor)
    number = number._replace(nan=number.nan | scales[0].nan, negative=negative ^ flip)
    if plan.unit.group is not None:
        return Side(number, m, exponent, negative, factor, places, flip)
    m = m * factor
    return Side(number, m, jnp.where(m == 0, -FAR, exponent + places), negative ^ flip)


def _terms(number: Numbers, fmt: Fmt) -> tuple[Array, Array]:
    """Signed significands with the format's digits, and nominal exponents."""
    least = least_exponent(fmt)
    exponent = number.exponent * 0 + least if isinstance(fmt, FixedFormat) else jnp.maximum(number.exponent, least)
    none = (number.m == 0) | number.infinite | number.nan
    down = TRAILING - trailing(fmt) + exponent - number.exponent
    m = jnp.where(none, 0, number.m >> jnp.clip(down, 0, 30))
    return jnp.where(number.negative != 0, -m, m), jnp.where(none, -FAR, exponent)


def fold(function: Callable[[Any, Any], tuple[Array, ...]], operators: tuple[Any, ...], a: Any, b: Any) -> Any:
    """What a function makes of each k's operands, combined by an operator each."""
    every = function(jax.tree.map(lambda x: x[:, :, None], a), jax.tree.map(lambda x: x[:, None, :], b))
    return tuple(reduced(x, axis=0) for (_, reduced), x in zip(operators, every, strict=True))


def part(x: Side, ks: slice) -> Side:
    """Some of an operand."""
    return jax.tree.map(lambda array: array[ks], x)


# ---- rounding ------------------------------------------------------------------------------------------------------


def carried(number: Numbers) -> Numbers:
    """A number as loops carry it."""
    return number._replace(signaling=None)


def _whole(number: Numbers) -> Numbers:
    """A number as operations take it."""
    return number._replace(signaling=False)


def rounded(out: Outcomes, to: To) -> Numbers:
    """Exact results as numbers of a format."""
    if to.positive:
        zero = (out.m == 0) & ~out.infinite & ~out.nan
        out = out._replace(negative=jnp.where(zero, 0, out.negative))
    number: Numbers = dot.keep(out, None, CARRIER, to.kept, to.mode, xp=jnp)
    return carried(number)


def add(a: Numbers, b: Numbers, to: To) -> Numbers:
    """a + b, rounded."""
    return rounded(core.add(_whole(a), _whole(b), FRAME, to.mode, xp=jnp), to)


def multiply(a: Numbers, b: Numbers, to: To) -> Numbers:
    """a × b, rounded."""
    return rounded(core.multiply(_whole(a), _whole(b), FRAME, to.mode, xp=jnp), to)


def fma(a: Numbers, b: Numbers, c: Numbers, to: To) -> Numbers:
    """a × b + c, rounded once."""
    return rounded(core.fma(_whole(a), _whole(b), _whole(c), FRAME, to.mode, xp=jnp), to)


def negated(x: Numbers) -> Numbers:
    """-x."""
    return x._replace(negative=x.negative ^ 1)


def zero(like: Numbers) -> Numbers:
    """+0 for every output."""
    m, never = jnp.zeros_like(like.m), jnp.zeros_like(like.nan)
    return Number(m, m - FAR, m, never, never, None)  # type: ignore[arg-type]


def taken(x: Numbers, index: Any) -> Numbers:
    """Some of the numbers, along the first axis."""
    return jax.tree.map(lambda v: v[index], x)


# ---- aligned sums --------------------------------------------------------------------------------------------------


class Total(NamedTuple):
    """A sum high · 2**word + low in units of 2**(top - F); where every summand is -0, and +0; where none is nonzero."""

    high: Array
    low: Array | None
    top: Array
    minus: Any
    plus: Any
    empty: Array


def _each(plan: Plan, a: Side, b: Side) -> Callable[..., Any]:
    """A function that folds a function of the terms of a step: of significand, exponent and sign."""
    if plan.unit.group is None:

        def fold_products(function: Any, *operators: Any) -> Any:
            def of(x: Side, y: Side) -> Any:
                return function(x.m * y.m, x.exponent + y.exponent, x.negative ^ y.negative)

            return fold(of, operators, a._replace(number=()), b._replace(number=()))

        return fold_products
    groups = [_group(plan, a, b, k) for k in range(0, a.m.shape[0], plan.unit.group)]

    def fold_groups(function: Any, *operators: Any) -> Any:
        found: Any = None
        for each in groups:
            one = function(*each)
            found = one if found is None else tuple(f(x, y) for (f, _), x, y in zip(operators, found, one, strict=True))
        return found

    return fold_groups


def _group(plan: Plan, a: Side, b: Side, start: int) -> tuple[Array, Array, Array]:
    """Significand, exponent and sign of the sum of a group of products, scaled."""
    ks = slice(start, start + (plan.unit.group or 1))

    def integers(x: Side, fmt: Fmt) -> tuple[Array, Array]:
        least = least_exponent(fmt)
        return x.m[ks] << jnp.maximum(x.exponent[ks] - least, 0), x.negative[ks]

    total, negative = fold(
        lambda x, y: (x[0] * y[0], x[1] ^ y[1]), (SUM, (operator.and_, partial(jnp.min))),
        integers(a, plan.fa), integers(b, plan.fb),
    )  # fmt: skip
    negative = jnp.where(total == 0, negative, core.flag(total < 0, total, 1, xp=jnp))
    exponent = total * 0
    if a.scale is not None:
        x, y = (jax.tree.map(lambda v: v[start], tuple(s[4:])) for s in (a, b))
        total = total * (x[0][:, None] * y[0])
        exponent, negative = x[1][:, None] + y[1], negative ^ x[2][:, None] ^ y[2]
    return total, jnp.where(total == 0, -FAR, exponent), negative


def _aligned_sum(plan: Plan, a: Side, b: Side, acc: Numbers | None) -> Total:
    """The sum of the terms of a step, and of the accumulator."""
    unit, each = plan.unit, _each(plan, a, b)
    (top,) = each(lambda m, exponent, negative: (exponent,), MAXIMUM)
    empty = top < NOWHERE
    if acc is not None:
        top = jnp.maximum(top, jnp.where(acc.m == 0, -FAR, jnp.maximum(acc.exponent, least_exponent(unit.c_format))))
    top = jnp.where(top < NOWHERE, 0, top) if unit.zero_exponent is None else jnp.maximum(top, unit.zero_exponent)
    word = plan.word(-(-a.m.shape[0] // (unit.group or 1)) + 1)

    def term(m: Array, exponent: Array, digits: int) -> tuple[Array, ...]:
        return _parts(plan, m, (unit.fraction or 0) - digits - (top - exponent), word)

    def of(m: Array, exponent: Array, negative: Array) -> tuple[Array, ...]:
        zero = (m == 0,) if unit.zero == "ieee" else ()
        signs = (zero[0] & (negative != 0), zero[0] & (negative == 0)) if zero else ()
        return *term(m, exponent, plan.digits), *signs

    sums = (SUM,) if word == 0 else (SUM, SUM)
    found = each(of, *sums, *((ALL, ALL) if unit.zero == "ieee" else ()))
    parts, signs = found[: len(sums)], found[len(sums) :] or (True, True)
    if acc is not None:
        m = jnp.where(acc.negative != 0, -acc.m, acc.m)
        parts = tuple(x + y for x, y in zip(parts, term(m, acc.exponent, TRAILING), strict=True))
        signs = _signs_with(acc, signs)
    return Total(parts[0], parts[1] if word else None, top, signs[0], signs[1], empty)


def _signs_with(acc: Numbers, signs: Any) -> Any:
    """Where every summand is -0, and +0, with the accumulator."""
    zero = acc.m == 0
    return signs[0] & zero & (acc.negative != 0), signs[1] & zero & (acc.negative == 0)


def _parts(plan: Plan, m: Array, place: Array, word: int) -> tuple[Array, ...]:
    """m · 2**place rounded to an integer, in one word or in two."""
    mode = plan.unit.alignment
    if mode in CUT:
        t = dot.cut(m, jnp.maximum(-place, 0), mode is Rounding.TOWARD_NEGATIVE, CARRIER, xp=jnp)
    else:
        negative = core.flag(m < 0, m, 1, xp=jnp)
        t = dot.align(jnp.abs(m), negative, jnp.minimum(place, 0), plan.alignment, CARRIER.reach, xp=jnp)
    up = jnp.maximum(place, 0)
    if word == 0:
        return (t << up,)
    if plan.term_bits <= 31:
        t = t << up
        return t >> word, t & ((1 << word) - 1)
    return tuple(dot.lifted(t, up, word, xp=jnp))


def _two_sums(plan: Plan, a: Side, b: Side) -> Total:
    """The sum of those of even and of odd k, each aligned alone, then floored to the larger unit."""
    even = _aligned_sum(plan, part(a, slice(0, None, 2)), part(b, slice(0, None, 2)), None)
    if a.m.shape[0] == 1:
        return even
    odd = _aligned_sum(plan, part(a, slice(1, None, 2)), part(b, slice(1, None, 2)), None)
    top = jnp.where(even.empty, odd.top, jnp.where(odd.empty, even.top, jnp.maximum(even.top, odd.top)))
    total = sum(x.high >> jnp.where(x.empty, 0, jnp.minimum(top - x.top, 31)) for x in (even, odd))
    return Total(jnp.asarray(total), None, top, even.minus & odd.minus, even.plus & odd.plus, even.empty & odd.empty)


def aligned(plan: Plan, acc: Numbers, a: Side, b: Side) -> Numbers:
    """One step of an aligned sum."""
    unit, own = plan.unit, plan.own
    assert own is not None
    assert plan.late is not None
    late = unit.addend == "late"
    total = _two_sums(plan, a, b) if unit.order is Order.EVEN_ODD else _aligned_sum(plan, a, b, None if late else acc)
    if unit.late_fraction is not None:
        return _two_stages(plan, total, acc, a, b)
    exponent = total.top - (unit.fraction or 0)
    zero = zero_sign(total.minus, total.plus, own)
    if total.low is None:
        out = dot.settle(total.high, exponent, zero, CARRIER, xp=jnp)
    else:
        word = plan.word(-(-a.m.shape[0] // (unit.group or 1)) + 1)
        out = dot.settle_long(total.high, total.low, word, exponent, zero, CARRIER, xp=jnp)
    if not late:
        return rounded(with_specials(plan, out, acc, a, b), own)
    return add(rounded(with_specials(plan, out, None, a, b), own), acc, plan.late)


def _two_stages(plan: Plan, total: Total, acc: Numbers, a: Side, b: Side) -> Numbers:
    """The sum floored to `late_fraction` bits, the accumulator to `fraction`, and one rounding."""
    unit, fraction = plan.unit, plan.unit.fraction or 0
    finer = unit.late_fraction or 0
    common = max(finer, fraction)
    own = jnp.where(acc.m == 0, -FAR, jnp.maximum(acc.exponent, least_exponent(unit.c_format)))
    high = jnp.maximum(jnp.where(total.empty, -FAR, total.top), own)
    high = jnp.where(high < NOWHERE, 0, high)

    def floored(n: Array, place: Array, more: int) -> Any:
        kept = dot.cut(n, jnp.maximum(-place, 0), True, CARRIER, xp=jnp)
        return dot.lifted(kept, jnp.maximum(place, 0) + more, STAGES, xp=jnp)

    first = floored(total.high, jnp.where(total.high == 0, 0, finer - fraction - (high - total.top)), common - finer)
    m = jnp.where(acc.negative != 0, -acc.m, acc.m)
    if unit.late_reach is not None:
        m = jnp.where(own < high - unit.late_reach, 0, m)
    second = floored(m, fraction - TRAILING - (high - acc.exponent), common - fraction)
    to = plan.own
    assert to is not None
    minus, plus = _signs_with(acc, (total.minus, total.plus))
    zero = zero_sign(minus, plus, to)
    out = dot.settle_long(first[0] + second[0], first[1] + second[1], STAGES, high - common, zero, CARRIER, xp=jnp)
    return rounded(with_specials(plan, out, acc, a, b), to)


def zero_sign(minus: Any, plus: Any, to: To) -> Array:
    """The sign of an exact zero."""
    return jnp.where(minus, 1, jnp.where(plus, 0, jnp.int32(to.downward)))


# ---- infinities and NaNs -------------------------------------------------------------------------------------------


def with_specials(plan: Plan, out: Outcomes, acc: Numbers | None, a: Side, b: Side) -> Outcomes:
    """A sum, infinite or NaN where what is added is."""
    nan, plus, minus = _specials(plan, a, b)
    if acc is not None:
        nan = nan | acc.nan
        plus, minus = plus | (acc.infinite & (acc.negative == 0)), minus | (acc.infinite & (acc.negative != 0))
    infinite = plus | minus
    negative = jnp.where(infinite, core.flag(minus, out.m, 1, xp=jnp), out.negative)
    return out._replace(negative=negative, infinite=out.infinite | infinite, nan=out.nan | nan | (plus & minus))


def _specials(plan: Plan, a: Side, b: Side) -> tuple[Any, Any, Any]:
    """Where a step's products hold a NaN, +infinity, -infinity: products of matrices of zeros and ones."""
    x, y = a.number, b.number
    nan = plus = minus = jnp.zeros((x.m.shape[1], y.m.shape[1]), bool)
    if plan.specials:
        some_a, some_b = jnp.ones_like(x.nan), jnp.ones_like(y.nan)
        zero_a, zero_b = x.m == 0, y.m == 0
        nan = _hits((x.nan, some_a, x.infinite, zero_a), (some_b, y.nan, zero_b, y.infinite))
        minus_a, minus_b = x.negative != 0, y.negative != 0
        left = (x.infinite & ~minus_a, x.infinite & minus_a, ~minus_a, minus_a)
        right = (~minus_b, minus_b, y.infinite & ~minus_b, y.infinite & minus_b)
        plus = _hits(left, right)
        minus = _hits(left, (right[1], right[0], right[3], right[2]))
    if plan.limited:
        beyond = _each(plan, a, b)(partial(_beyond, plan), ANY, ANY)
        plus, minus = plus | beyond[0], minus | beyond[1]
    return nan, plus, minus


def _hits(a: tuple[Array, ...], b: tuple[Array, ...]) -> Array:
    """Where a row of a and one of b have a true in one place."""
    left, right = (jnp.concatenate(x).astype(jnp.float32) for x in (a, b))
    return lax.dot_general(left, right, (((0,), (0,)), ((), ()))) > 0


def _beyond(plan: Plan, m: Array, exponent: Array, negative: Array) -> tuple[Array, Array]:
    """Where a finite product is too large, by its sign."""
    past = (plan.unit.product_limit or 0) + plan.digits - exponent
    found = (jnp.abs(m) >> jnp.clip(past, 0, 31)) != 0
    return found & (negative == 0), found & (negative != 0)
