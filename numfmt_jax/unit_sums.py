"""Runs dot-product units in 32-bit integers: all sums of a matrix at once, step by step under `lax.scan`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from numfmt._core import arithmetic as core
from numfmt._core import dot
from numfmt._core.float import pack
from numfmt._core.parameters import BINARY32
from numfmt.kernels import FixedFormat, Kind, Order, Overflow, last_place

from .unit_plans import CARRIER, TRAILING, Plan
from .unit_terms import (
    ALL,
    SUM,
    Numbers,
    Side,
    add,
    aligned,
    fma,
    fold,
    multiply,
    negated,
    rounded,
    taken,
    with_specials,
    zero,
    zero_sign,
)

Array = jax.Array
TREE = 32  # products that a tree takes for all outputs at once


# ---- rounded additions ---------------------------------------------------------------------------------------------


def _chain(plan: Plan, acc: Numbers, a: Numbers, b: Numbers) -> Numbers:
    """Products added to an accumulator one after the other."""
    own = plan.own
    assert own is not None

    def step(acc: Numbers, pair: Any) -> Any:
        x, y = jax.tree.map(lambda v: v[:, None], pair[0]), jax.tree.map(lambda v: v[None, :], pair[1])
        if plan.product is None:
            return fma(x, y, acc, own), None
        return add(multiply(x, y, plan.product), acc, own), None

    return lax.scan(step, acc, (a, b))[0]


def _ordered(plan: Plan, a: Side, b: Side) -> tuple[Numbers, Numbers]:
    """The numbers of both operands, in the order in which products are added."""
    unit, count = plan.unit, a.m.shape[0]
    if unit.order is not Order.ODD_FIRST:
        return a.number, b.number
    step = unit.length or count
    steps = [range(k, min(k + step, count)) for k in range(0, count, step)]
    order = [k for ks in steps for i in range(0, len(ks), 2) for k in reversed(ks[i : i + 2])]
    return taken(a.number, jnp.asarray(order)), taken(b.number, jnp.asarray(order))


def _late_chain(plan: Plan, acc: Numbers, a: Side, b: Side) -> Numbers:
    """One step of rounded additions, from zero on; then that sum and the accumulator."""
    own, late = plan.own, plan.late
    assert own is not None
    assert late is not None
    if plan.unit.order is not Order.EVEN_ODD:
        return add(acc, _chain(plan, zero(acc), *_ordered(plan, a, b)), late)
    even, odd = (_chain(plan, zero(acc), *(taken(x.number, slice(i, None, 2)) for x in (a, b))) for i in (0, 1))
    return add(acc, add(even, odd, own), late)


def _tree(plan: Plan, acc: Numbers, a: Side, b: Side) -> Numbers:
    """One step of additions in pairs."""
    own, late, product = plan.own, plan.late, plan.product
    assert own is not None
    assert late is not None
    assert product is not None
    x, y = a.number, b.number

    def rows(row: Numbers) -> Numbers:
        level = multiply(jax.tree.map(lambda v: v[:, :, None], row), jax.tree.map(lambda v: v[:, None, :], y), product)
        count = level.m.shape[0]
        while count > 1:
            whole = count - count % 2
            pairs = add(taken(level, slice(0, whole, 2)), taken(level, slice(1, whole, 2)), own)
            level = jax.tree.map(lambda *v: jnp.concatenate(v), pairs, taken(level, slice(whole, None)))
            count = level.m.shape[0]
        return jax.tree.map(lambda v: v[0], level)

    if a.m.shape[0] <= TREE:
        return add(acc, rows(x), late)
    turned = jax.tree.map(lambda v: v.T[:, :, None], x)  # a row of the result at a time: all products are kept
    return add(acc, jax.tree.map(lambda v: v[:, 0], lax.map(rows, turned)), late)


def _compensated(plan: Plan, acc: Numbers, a: Side, b: Side) -> Numbers:
    """All of the products, with the error of each addition carried along."""
    own = plan.own
    assert own is not None
    kahan = plan.unit.kind is Kind.KAHAN

    def step(carry: Any, pair: Any) -> Any:
        acc, error = carry
        x, y = jax.tree.map(lambda v: v[:, None], pair[0]), jax.tree.map(lambda v: v[None, :], pair[1])
        p = multiply(x, y, own)
        if kahan:
            y = add(p, negated(error), own)
            t = add(acc, y, own)
            return (t, add(add(t, negated(acc), own), negated(y), own)), None
        t = add(acc, p, own)
        larger = (acc.exponent > p.exponent) | ((acc.exponent == p.exponent) & (acc.m >= p.m)) | acc.infinite
        big, small = (jax.tree.map(partial(jnp.where, larger), *v) for v in ((acc, p), (p, acc)))
        more = add(add(big, negated(t), own), small, own)
        return (t, add(error, more, own)), None

    acc, error = lax.scan(step, (acc, zero(acc)), (a.number, b.number))[0]
    return acc if kahan else add(acc, error, own)


# ---- sums without error --------------------------------------------------------------------------------------------


def _exact(plan: Plan, acc: Numbers, a: Side, b: Side) -> Numbers:
    """One step of a sum without error, rounded, and added to the accumulator."""
    own, late = plan.own, plan.late
    assert own is not None
    assert late is not None
    low, word = last_place(plan.fa) + last_place(plan.fb), TRAILING + 1 - a.m.shape[0].bit_length()

    def of(x: Side, y: Side) -> tuple[Array, ...]:
        m, negative = x.m * y.m, x.negative ^ y.negative
        place = jnp.maximum(x.exponent + y.exponent - plan.digits - low, 0)
        return *dot.lifted(m, place, word, xp=jnp), (m == 0) & (negative != 0), (m == 0) & (negative == 0)

    high, rest, minus, plus = fold(of, (SUM, SUM, ALL, ALL), a._replace(number=()), b._replace(number=()))
    out = dot.settle_long(high, rest, word, low + high * 0, zero_sign(minus, plus, own), CARRIER, xp=jnp)
    return add(rounded(with_specials(plan, out, None, a, b), own), acc, late)


def integers(plan: Plan, acc: Array, a: Side, b: Side) -> Array:
    """The sums of a unit with an integer accumulator, int32."""
    unit, fmt = plan.unit, plan.unit.accumulator
    assert isinstance(fmt, FixedFormat)

    def of(x: Side, y: Side) -> tuple[Array, ...]:
        m = x.m * y.m
        place = jnp.where(m == 0, 0, x.exponent + y.exponent - plan.digits)
        negative = core.flag(m < 0, m, 1, xp=jnp)
        return (dot.align(jnp.abs(m), negative, place, plan.alignment, CARRIER.reach, xp=jnp),)

    def step(acc: Array, a: Side, b: Side) -> Array:
        (total,) = fold(of, (SUM,), a._replace(number=()), b._replace(number=()))
        found = acc + total  # modulo 2**32, which JAX defines
        if unit.overflow is Overflow.WRAP:
            return _wrapped(found, fmt)
        over = ((acc ^ found) & (total ^ found)) < 0
        found = jnp.where(over, jnp.where(total < 0, jnp.int32(-(2**31)), 2**31 - 1), found)
        return jnp.clip(found, int(fmt.min_integer), int(fmt.max_integer))

    return _steps(step, acc, a, b, unit.length)


def _wrapped(n: Array, fmt: FixedFormat) -> Array:
    """Integers modulo 2**bits, in the format's range."""
    if fmt.bits == 32:
        return n
    if fmt.signed:
        return (n << (32 - fmt.bits)) >> (32 - fmt.bits)
    return n & (2**fmt.bits - 1)


# ---- a dot ---------------------------------------------------------------------------------------------------------


def _steps(step: Callable[[Any, Any, Any], Any], acc: Any, a: Any, b: Any, length: int | None) -> Any:
    """Step after step, of `length` of K each; the last one may be shorter."""
    k = jax.tree.leaves(a)[0].shape[0]
    size = min(length or k, k)
    whole = k // size

    def parts(x: Any) -> Any:
        return jax.tree.map(lambda v: v[: whole * size].reshape(whole, size, *v.shape[1:]), x)

    if whole == 1:
        acc = step(acc, *(jax.tree.map(lambda v: v[:size], x) for x in (a, b)))
    else:
        acc, _ = lax.scan(lambda acc, pair: (step(acc, *pair), None), acc, (parts(a), parts(b)))
    if whole * size == k:
        return acc
    return step(acc, *(jax.tree.map(lambda v: v[whole * size :], x) for x in (a, b)))


def _stretch(plan: Plan, acc: Numbers, a: Side, b: Side) -> Numbers:
    """The dots of a stretch of products, from an accumulator on."""
    unit = plan.unit
    match unit.kind:
        case Kind.KAHAN | Kind.NEUMAIER:
            return _compensated(plan, acc, a, b)
        case Kind.CHAIN if unit.addend == "early":
            return _chain(plan, acc, *_ordered(plan, a, b))
    step = {Kind.ALIGNED: aligned, Kind.CHAIN: _late_chain, Kind.TREE: _tree, Kind.EXACT: _exact}[unit.kind]
    return _steps(partial(step, plan), acc, a, b, unit.length)


def sums(plan: Plan, c: Numbers, a: Side, b: Side) -> Numbers:
    """Every row of a with every row of b, added to numbers c of shape (M, N)."""
    promoted, every = plan.promoted, plan.unit.promote_every
    if promoted is None or every is None:
        return _stretch(plan, c, a, b)

    def stretch(acc: Numbers, a: Side, b: Side) -> Numbers:
        return add(acc, _stretch(plan, zero(acc), a, b), promoted)

    return _steps(stretch, c, a, b, every)


def patterns_of_sums(number: Numbers, nan: int) -> Array:
    """binary32 patterns of numbers that binary32 holds."""
    found = pack(number.m >> (TRAILING - BINARY32.trailing), number.exponent + BINARY32.bias, BINARY32, xp=jnp)
    found = jnp.where(number.infinite, BINARY32.infinity, found) | (number.negative << 31)
    return jnp.where(number.nan, jnp.int32(nan), found)
