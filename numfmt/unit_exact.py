"""Sums without error: in 64-bit integers where the formats allow it, else in Python's; and integer accumulators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ._core import arithmetic as core
from ._core import dot
from .engines import NUMPY
from .formats import FixedFormat
from .plans import round_parameters
from .rounding import Overflow, Rule
from .specials import Rules
from .unit_numbers import Numbers, last_place, numbers_of, signs_of_zeros, sum_bits
from .unit_plans import SUM_BITS, Outcomes

if TYPE_CHECKING:
    from .unit_engine import Chunk

Array = npt.NDArray[Any]


def step(chunk: Chunk, acc: Numbers, ks: range) -> Numbers:
    """One step of a unit of kind `exact`."""
    plan, unit, own, late = chunk.plan, chunk.unit, chunk.own, chunk.late
    early = unit.addend == "early"
    low = last_place(plan.fa) + last_place(plan.fb)
    bits = sum_bits(plan.fa, plan.fb, len(ks))
    if chunk.scales is not None:
        low += 2 * min(map(last_place, unit.scales))
        bits += max(sum_bits(fmt, fmt, 1) for fmt in unit.scales)
    minus, plus = chunk.zeros() + 1, chunk.zeros() + 1
    short = bits <= SUM_BITS
    total: Any = chunk.zeros() if short else chunk.zeros().astype(object)
    for k in ks:
        negative, m, exponent, digits = chunk.term(k)
        m = m if short else m.astype(object)
        p = m << np.maximum(exponent - digits - low, 0)
        total = total + np.where(negative != 0, -p, p)
        minus, plus = signs_of_zeros((minus, plus), m, negative)
    if not early:
        out = _outcome(total, low, chunk.zero_sign((minus, plus)), chunk, short)
        return late.add(own.rounded(chunk.with_specials(out, acc, ks, False), chunk.draw(own)), acc, chunk.draw(late))
    if not short:
        return own.rounded(_with_accumulator(total, low, acc, (minus, plus), chunk, ks), chunk.draw(own))
    out = _outcome(total, low, chunk.zero_sign((minus, plus)), chunk, short)
    out = chunk.with_specials(out, acc, ks, False)
    exact = numbers_of(out.negative, out.exponent, out.m, out.infinite, out.nan, np.zeros_like(out.nan))
    exact = exact._replace(exponent=np.where(out.m == 0, -core.FAR, out.exponent))
    return own.add(exact, acc, chunk.draw(own))


def _outcome(total: Any, low: int, zero_sign: Array, chunk: Chunk, short: bool) -> Outcomes:
    if short:
        out: Outcomes = dot.settle(total, low + chunk.zeros(), zero_sign, chunk.carrier, xp=NUMPY)
        return out
    return _settled(total, low, zero_sign, chunk)


def _with_accumulator(
    total: Any, low: int, acc: Numbers, signs: tuple[Array, Array], chunk: Chunk, ks: range
) -> Outcomes:
    """The sum and the accumulator together, in Python integers."""
    trailing = chunk.carrier.trailing
    least = min(low, last_place(chunk.unit.c_format), last_place(chunk.unit.accumulator))
    shift = np.where(acc.m == 0, 0, acc.exponent - trailing - least)
    size: Any = np.empty(acc.m.size, object)
    size[:] = [m << s if s >= 0 else m >> -s for m, s in zip(acc.m.tolist(), shift.tolist(), strict=True)]
    total = (total << (low - least)) + np.where(acc.negative != 0, -size, size)
    signs = signs_of_zeros(signs, acc.m, acc.negative)
    out = _settled(total, least, chunk.zero_sign(signs), chunk)
    return chunk.with_specials(out, acc, ks, True)


def _settled(total: Any, low: int, zero_sign: Array, chunk: Chunk) -> Outcomes:
    """Python integers as outcomes: their leading bits, and one that is set where anything lies below."""
    sizes = [abs(int(n)) for n in total]
    drop = [max(n.bit_length() - SUM_BITS, 0) for n in sizes]
    kept = [(n >> d) | (n & ((1 << d) - 1) != 0) for n, d in zip(sizes, drop, strict=True)]
    signed = np.array([-n if t < 0 else n for n, t in zip(kept, total, strict=True)], np.int64)
    out: Outcomes = dot.settle(signed, low + np.array(drop, np.int64), zero_sign, chunk.carrier, xp=NUMPY)
    return out


def fixed(chunk: Chunk, acc: Array) -> Array:
    """The dots of a unit of kind `fixed`, as integers in units of the accumulator."""
    unit, fmt = chunk.unit, chunk.unit.accumulator
    assert isinstance(fmt, FixedFormat)
    mode = round_parameters(Rules(unit.product_rounding, Overflow.SATURATE, Rule(), 0))
    for ks in chunk.steps(0, chunk.length):
        for k in ks:
            negative, m, exponent, digits = chunk.term(k)
            acc = acc + dot.align(
                m,
                negative,
                np.where(m == 0, 0, exponent - digits + fmt.fraction_bits),
                mode,
                chunk.carrier.reach,
                xp=NUMPY,
            )
        acc = wrapped(acc, fmt) if unit.overflow is Overflow.WRAP else np.clip(acc, fmt.min_integer, fmt.max_integer)
        if chunk.watch is not None:
            chunk.watch.integers(acc)
    return acc


def wrapped(n: Array, fmt: FixedFormat) -> Array:
    """Integers modulo 2**bits, in a format's range."""
    span = 1 << fmt.bits
    return (n - fmt.min_integer) % span + fmt.min_integer
