"""dot, matmul: sums of products as a matrix unit computes them, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .block_arrays import BlockArray
from .named_units import get_unit
from .random import Seed
from .unit_operands import Formats, addend, expanded, operands, transposed
from .unit_run import Pairs, dots, random_source, run
from .units import DotUnit

Array = npt.NDArray[Any]


def dot(
    a: npt.ArrayLike | BlockArray,
    b: npt.ArrayLike | BlockArray,
    c: npt.ArrayLike | None = None,
    *,
    unit: str | DotUnit,
    formats: Formats | None = None,
    scales: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    seed: Seed | None = None,
    random_bits: npt.ArrayLike | None = None,
    random_bit_count: int | None = None,
    trace: bool = False,
    threads: int | None = None,
) -> Any:
    """Sums of a · b over the last axis, added to c, as a unit computes them.

    Args:
        a, b: arrays of shape (…, K) that broadcast but for K: floats whose values the unit's input format has, codes
            (unsigned integers, with `formats`), or `BlockArray`s whose blocks lie along K; their tensor scales multiply
            the unit's result, each in one rounding to float32.
        c: array that broadcasts to the result: values of the unit's accumulator; None is +0. Not beside tensor scales.
        unit: name (`numfmt.list_units()`) or `DotUnit`.
        formats: of both operands, or of each; the unit's first input format unless given.
        scales: codes of block scales, of shapes (…, ceil(K / block)); for units that take them.
        seed, random_bits, random_bit_count: of units that round stochastically, as for `numfmt.encode`; random_bits has
            the result's shape and one more axis: one number a rounding.
        trace: return a `Trace` of every step too.
        threads: at most so many.

    Returns:
        Array of the broadcast shape without K, of the accumulator's dtype (float16, float32, float64, an integer);
        float32 where NumPy has none, float64 if it takes that; and a `Trace`, if asked for.

    Raises:
        ValueError: shapes that do not meet, values that the input format does not have, formats or scales that the unit
            does not take.

    References: `numfmt.get_unit(name).evidence`.

    >>> import numpy as np, numfmt as nf
    >>> ones = np.ones(64_000, np.float32)
    >>> float(nf.dot(ones, ones, unit="h100.e4m3")), float(nf.dot(ones, ones, unit="h100.e4m3.promote128"))
    (16384.0, 64000.0)
    """
    unit = get_unit(unit)
    left, right = operands(a, b, unit, formats, scales, (-1, -1))
    for name, each in (("a", left), ("b", right)):
        if each.codes.ndim == 0:
            raise ValueError(f"{name} is a scalar; dot takes arrays with an axis K")
    if left.codes.shape[-1] != right.codes.shape[-1]:
        raise ValueError(
            f"a has K = {left.codes.shape[-1]} and b has K = {right.codes.shape[-1]}; the last axes are equally long"
        )
    lead_a, lead_b = left.codes.shape[:-1], right.codes.shape[:-1]
    try:
        shape = np.broadcast_shapes(lead_a, lead_b)
    except ValueError:
        raise ValueError(
            f"a has shape {left.codes.shape} and b has shape {right.codes.shape}; all axes but the last broadcast"
        ) from None
    pairs = dots(_numbered(lead_a, shape), _numbered(lead_b, shape), shape, left.codes.shape[-1])
    numbers = random_source(unit, left.codes.shape[-1], shape, seed, random_bits, random_bit_count)
    return run(unit, left, right, addend(c, unit, shape, left, right), pairs, numbers, trace, threads)


def matmul(
    a: npt.ArrayLike | BlockArray,
    b: npt.ArrayLike | BlockArray,
    c: npt.ArrayLike | None = None,
    *,
    unit: str | DotUnit,
    formats: Formats | None = None,
    scales: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    seed: Seed | None = None,
    random_bits: npt.ArrayLike | None = None,
    random_bit_count: int | None = None,
    trace: bool = False,
    threads: int | None = None,
) -> Any:
    """a @ b + c as a unit computes it: every element a `dot` of a row of a and a column of b.

    Args:
        a, b: arrays of shapes (…, M, K) and (…, K, N), or 1-D, as `numpy.matmul` takes them; floats, codes or
            `BlockArray`s whose blocks lie along K, as for `dot`.
        scales: codes of block scales, of shapes (…, M, ceil(K / block)) and (…, ceil(K / block), N).
        c, unit, formats, seed, random_bits, random_bit_count, trace, threads: as for `dot`.

    Returns:
        Array of shape (…, M, N), as `numpy.matmul` has it, of `dot`'s dtype; and a `Trace`, if asked for.

    Raises:
        ValueError: as for `dot`.

    >>> import numpy as np, numfmt as nf
    >>> nf.matmul(np.ones((2, 40)), np.full((40, 3), 0.5), unit="a100.bf16").tolist()
    [[20.0, 20.0, 20.0], [20.0, 20.0, 20.0]]
    """
    unit = get_unit(unit)
    left, right = operands(a, b, unit, formats, scales, (-1, -2))
    shapes = left.codes.shape, right.codes.shape
    if min(map(len, shapes)) == 0:
        raise ValueError(f"a has shape {shapes[0]} and b has shape {shapes[1]}; matmul takes no scalars")
    flat_a, flat_b = len(shapes[0]) == 1, len(shapes[1]) == 1
    left = left if not flat_a else expanded(left, 0)
    right = expanded(right, 0) if flat_b else transposed(right)
    if left.codes.shape[-1] != right.codes.shape[-1]:
        raise ValueError(
            f"a has shape {shapes[0]} and b has shape {shapes[1]}: "
            f"K = {left.codes.shape[-1]} and K = {right.codes.shape[-1]} do not meet"
        )
    m, n = left.codes.shape[-2], right.codes.shape[-2]
    try:
        lead = np.broadcast_shapes(left.codes.shape[:-2], right.codes.shape[:-2])
    except ValueError:
        raise ValueError(
            f"a has shape {shapes[0]} and b has shape {shapes[1]}; all axes but the last two broadcast"
        ) from None
    batches = [_numbered(x.codes.shape[:-2], lead) for x in (left, right)]
    rows = (
        (batches[0][:, None, None] * m + np.arange(m)[:, None] + np.zeros(n, np.int64)).reshape(-1),
        (batches[1][:, None, None] * n + np.arange(n) + np.zeros((m, 1), np.int64)).reshape(-1),
    )
    shape = (*lead, *(() if flat_a else (m,)), *(() if flat_b else (n,)))
    pairs = Pairs(*rows, shape, (batches[0], batches[1], m, n))
    numbers = random_source(unit, left.codes.shape[-1], shape, seed, random_bits, random_bit_count)
    return run(unit, left, right, addend(c, unit, shape, left, right), pairs, numbers, trace, threads)


def _numbered(lead: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    """The index, in C order, of the element that each of a broadcast shape comes from."""
    size = int(np.prod(lead, dtype=np.int64))
    return np.broadcast_to(np.arange(size).reshape(lead), shape).reshape(-1)
