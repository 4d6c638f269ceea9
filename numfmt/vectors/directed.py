"""Directed test vectors: operands aimed at where the exact intermediate result lies.

Constructions make far more candidates than a file should hold; each is classified (`coverage`), and level 1 keeps some
rows of every class, of both signs, beside an even sample of the rest. Level 2 keeps tens of thousands.

References: Berkeley TestFloat (interesting exponents × patterns of digits); Aharoni and others, FPgen, HLDVT 2003.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from .. import random as counter
from . import coverage, directed_blocks, directed_dots, directed_scalar
from .intermediate import Array, decode, integers, is_wide, negated, product, same, total
from .places import threshold

if TYPE_CHECKING:
    from .functions import Function, Rules

CHUNK = 1 << 16
PER_CLASS = {1: 24, 2: 400}  # rows kept of each class and sign
SAMPLE = {1: 600, 2: 20_000}  # rows kept beside those
EVERY = 16  # operands of so many bits altogether are all candidates


def cases(function: Function, rules: Rules | None = None, level: int = 1, seed: int = 1) -> Iterator[list[Array]]:
    """Chunks of operand columns, aimed at every coverage class of the function.

    Args:
        rules: what decides a result beside the operands; classes do not depend on it.
        level: 1: hundreds to thousands of rows; 2: tens of thousands.
        seed: of what is drawn; equal arguments give equal rows.

    Yields:
        One array of codes a column: of n codes, (n, K) for blocks and dots; n is at most 65536.

    Raises:
        ValueError: a level that does not exist.

    >>> from numfmt.vectors.functions import parse
    >>> (a, b), = cases(parse("e4m3fn_mul"))
    >>> len(a) == len(b), a.dtype
    (True, dtype('uint64'))
    """
    if level not in PER_CLASS:
        raise ValueError(f"level {level} is given; there are levels 1 and 2")
    if function.operation == "unit_dot":
        from . import directed_mutants

        yield from directed_mutants.cases(function, rules or _no_rules(), level, seed)
        return
    columns = candidates(function, level, seed)
    kept = _selected(function, columns, level, seed)
    for start in range(0, len(kept), CHUNK):
        rows = kept[start : start + CHUNK]
        yield [column[rows] for column in columns]


def _no_rules() -> Rules:
    from .functions import Rules

    return Rules()


@lru_cache(maxsize=4)
def _candidates(function: Function, level: int, seed: int) -> tuple[Array, ...]:
    random = Random(f"{function.name} {level} {seed}")
    if function.operation == "encode_block":
        return tuple(directed_blocks.candidates(function, level, random))
    if function.operation == "dot":
        return tuple(directed_dots.candidates(function, level, random))
    widths = function.operand_widths
    if sum(widths) <= EVERY and (level == 2 or sum(widths) <= 12 or len(widths) == 2):
        axes = np.meshgrid(*(np.arange(2**w, dtype=np.uint64) for w in widths), indexing="ij")
        return tuple(axis.reshape(-1) for axis in axes)
    found = list(dict.fromkeys(directed_scalar.rows(function, level, random)))
    return tuple(
        np.array([row[i] for row in found], np.uint64 if width <= 64 else object) for i, width in enumerate(widths)
    )


def candidates(function: Function, level: int, seed: int) -> list[Array]:
    """All operands that were constructed, before rows are chosen; every combination where those have 16 bits."""
    return list(_candidates(function, level, seed))


def _selected(function: Function, columns: Sequence[Array], level: int, seed: int) -> Array:
    """Rows to keep, in order: some of each class and sign, and an even sample."""
    count = len(columns[0])
    if count <= SAMPLE[level] // 2:
        return np.arange(count)
    order = np.argsort(counter.random_bits(seed, count), kind="stable")
    keep = np.zeros(count, bool)
    keep[order[: SAMPLE[level]]] = True
    negative = _signs(function, columns)
    share = PER_CLASS[level]
    for rows in coverage.masks(function, columns).values():
        for side in (rows & negative, rows & ~negative):
            keep[order[side[order]][:share]] = True
    return np.flatnonzero(keep)


def _signs(function: Function, columns: Sequence[Array]) -> Array:
    """Whether the sign bits of a row's operands differ: of a product, its sign."""
    found = np.zeros(len(columns[0]), bool)
    for column, width in zip(columns, function.operand_widths, strict=True):
        if column.ndim == 1:
            found = found ^ np.asarray(column >> (width - 1) & 1 == 1, bool)
    return found


# ---- random bits -----------------------------------------------------------------------------------------------


def random_bits(function: Function, operands: Sequence[Array], rules: Rules, seed: int = 1) -> Array | None:
    """Random numbers for rows of a stochastic mode: at its threshold, one below, the ends, and others.

    With ν the dropped fraction and N bits, StochasticA goes away from zero from R = 2^N - floor(ν·2^N) on. Rows take in
    turn that R, R - 1, 0, 2^N - 1 and a drawn one; rows whose ν is not known (blocks, dots) take the last three.

    Returns:
        uint32, one for each result that is rounded: n, or (n, K) for blocks; None for deterministic modes.

    References: IEEE P3109 v4.0 §4.7.4.
    """
    n = rules.random_bits
    if n == 0:
        return None
    if function.operation == "unit_dot":
        from . import directed_mutants

        return directed_mutants.numbers(function, operands, rules)
    rows = len(operands[0])
    shape = (rows, function.size) if function.operation == "encode_block" else (rows,)
    drawn = counter.random_bits(seed, shape).astype(np.uint64) >> np.uint64(32 - n)
    ones, index = np.uint64(2**n - 1), np.arange(rows).reshape(-1, *[1] * (len(shape) - 1))
    fixed = np.where(index % 5 == 2, np.uint64(0), np.where(index % 5 == 3, ones, drawn))
    if function.operation not in ("convert", "add", "sub", "mul") or function.to is None:
        return fixed.astype(np.uint32)
    threshold = _thresholds(function, operands, n)
    index = index.reshape(-1)
    aimed = np.where(index % 5 == 1, threshold - np.uint64(1), fixed)
    aimed = np.where(index % 5 == 0, threshold, aimed)
    return np.where(threshold > ones, fixed, aimed).astype(np.uint32)


def _thresholds(function: Function, operands: Sequence[Array], n: int) -> Array:
    """The least R that goes away from zero; 2^N where none does."""
    assert function.to is not None
    source, to = function.sources[0], function.to
    wide = is_wide(True, source, to)
    pairs = zip(operands, function.sources, strict=True)
    columns = [decode(integers(column, wide), fmt, wide) for column, fmt in pairs]
    match function.operation:
        case "mul":
            exact = product(*columns)
        case "convert":
            exact = same(columns[0])
        case "sub":
            exact = total(columns[0], negated(columns[1]))
        case _:
            exact = total(columns[0], columns[1])
    return threshold(exact, to, n)
