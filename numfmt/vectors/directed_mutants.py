"""Rows for a unit: some of every coverage class, some that tell each of its mutants apart, and a sample of the rest.

The search is by mutant: what the first batch does not tell apart gets more of them, until it is or the batches end.
Mutants that provably cannot matter are not searched for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from . import coverage, directed_units
from .intermediate import Array
from .rows import random_count
from .unit_mutants import Mutant, differences, mutants
from .unit_reasons import reason

if TYPE_CHECKING:
    from .functions import Function, Rules

FIRST = {1: 2400, 2: 24_000}  # rows that are drawn at first
MORE = 4800  # rows of a further batch
BATCHES = 24  # of them: 115,200 rows
PER_CLASS = {1: 4, 2: 60}
PER_MUTANT = {1: 4, 2: 60}
SAMPLE = {1: 200, 2: 6000}
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def cases(function: Function, rules: Rules, level: int = 1, seed: int = 1) -> Iterator[list[Array]]:
    """Chunks of operand columns: equal arguments give equal rows.

    Args:
        rules: of a stochastic unit, its random bits.
        level: 1: hundreds of rows; 2: thousands.
        seed: of what is drawn.
    """
    columns = directed_units.drawn(function, FIRST[level], seed)
    left = [mutant for mutant in mutants(function) if not reason(function, mutant)]
    keep, left = _telling(function, rules, left, columns, PER_MUTANT[level])
    found = coverage.masks(function, columns)
    for rows in found.values():
        keep[np.flatnonzero(rows)[: PER_CLASS[level]]] = True
    rng = np.random.default_rng([seed, len(keep)])
    keep[rng.permutation(len(keep))[: SAMPLE[level]]] = True
    order = rng.permutation(np.flatnonzero(keep))
    yield [column[order] for column in columns]
    reachable = coverage.classes(function)
    missed = {name for name in reachable if not found[name].any()}
    for batch in range(1, BATCHES + 1):
        if not left and not missed:
            return
        columns = directed_units.drawn(function, MORE, seed, batch)
        keep, left = _telling(function, rules, left, columns, PER_MUTANT[level])
        if missed:
            found = coverage.masks(function, columns)
            for name in sorted(missed):
                keep[np.flatnonzero(found[name])[: PER_CLASS[level]]] = True
            missed = {name for name in missed if not found[name].any()}
        if keep.any():
            yield [column[keep] for column in columns]


def _telling(
    function: Function, rules: Rules, chosen: list[Mutant], columns: list[Array], count: int
) -> tuple[Array, list[Mutant]]:
    """Rows to keep, a few for each mutant, and the mutants that no row tells apart."""
    keep, left = np.zeros(len(columns[-1]), bool), []
    for mutant, rows in differences(function, chosen, columns, rules, numbers(function, columns, rules)):
        keep[np.flatnonzero(rows)[:count]] = True
        if not rows.any():
            left.append(mutant)
    return keep, left


def numbers(function: Function, columns: Sequence[Array], rules: Rules) -> Array | None:
    """Random numbers of a stochastic unit's rows, which its operands decide: drawn, none, all ones."""
    bits = rules.random_bits
    if not bits or function.unit is None or not function.unit.is_stochastic:
        return None
    key = np.zeros(len(columns[-1]), np.uint64)
    for column in columns:
        for codes in column.reshape(len(key), -1).T:
            key = _mixed(key + codes.astype(np.uint64))
    index = np.arange(1, random_count(function) + 1, dtype=np.uint64) * GOLDEN
    drawn = (_mixed(key[:, None] + index) >> np.uint64(64 - bits)).astype(np.uint32)
    kind = (key & np.uint64(3))[:, None]
    return np.where(kind == 2, np.uint32(0), np.where(kind == 3, np.uint32(2**bits - 1), drawn))


def _mixed(x: Array) -> Array:
    """SplitMix64's finalizer, after one step of its counter."""
    x = x + GOLDEN
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ x >> np.uint64(31))
