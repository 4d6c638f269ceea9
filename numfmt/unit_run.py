"""Runs dot-product units over pairs of rows: compiled loops for large matrices, and unit_engine.py for all else."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import unit_compiled, unit_exact
from ._core.parameters import BINARY32
from .arithmetic import compute
from .arrays import decode
from .carriers import holds
from .formats import FixedFormat, FloatFormat
from .random import key_of
from .scheduler import RandomSource, over_chunks, thread_count
from .sources import FLOATS, code_dtype
from .unit_engine import Chunk, Scales
from .unit_numbers import Columns, Numbers, columns, flushed, least_exponent, read
from .unit_operands import Operand
from .unit_plans import check_length, plan_of
from .unit_trace import Watch
from .units import DotUnit, Kind, Order
from .x86_nans import propagate

Array = npt.NDArray[Any]
CHUNK = 1 << 12  # outputs: a temporary of them takes 32 KiB, and there are many
ROWS = 16  # of a matrix that a thread takes at a time
LONG = 256  # products per dot and dot of a call from which each is a product of a row and a column


class Pairs(NamedTuple):
    """The outputs: pairs of rows of both operands, in C order of a shape.

    Attributes:
        grid: where the outputs are matrices: of each the index of a and b's matrix, and the rows of both.
    """

    a: Array
    b: Array
    shape: tuple[int, ...]
    grid: tuple[Array, Array, int, int] | None = None


def dots(a: Array, b: Array, shape: tuple[int, ...], k: int) -> Pairs:
    """`Pairs` of rows of k numbers; few and long ones are matrices of one element."""
    return Pairs(a, b, shape, (a, b, 1, 1) if LONG * a.size <= k else None)


class Call:
    """A unit on operands."""

    def __init__(
        self, unit: DotUnit, a: Operand, b: Operand, c: Array, pairs: Pairs, numbers: RandomSource | None
    ) -> None:
        self.unit, self.c, self.pairs, self.numbers = unit, c, pairs, numbers
        self.k = a.codes.shape[-1]
        self.plan = plan_of(unit, a.format, b.format, numbers.count if numbers is not None else 32)
        self.a, self.b = (self._columns(x.codes, x.format, unit.flush_inputs) for x in (a, b))
        self.scales = None
        if a.scales is not None and b.scales is not None:
            parts = [self._columns(x.scales, x.scale_format, None) for x in (a, b)]
            self.scales = Scales(parts[0], parts[1], a.block, b.block)
        self.draws = roundings(unit, self.k)

    def _columns(self, codes: Any, fmt: Any, flush: str | None) -> Columns:
        return columns(codes.reshape(-1, codes.shape[-1]), fmt, self.plan.frame, flush)

    def first(self, c: Array) -> Numbers:
        """Accumulators at the start."""
        unit = self.unit
        found = read(c, unit.promoted if unit.promote_every else unit.c_format, self.plan.frame)
        if unit.flush_inputs and not unit.promote_every:
            found = flushed(found, least_exponent(unit.accumulator), unit.flush_inputs)
        return found

    def codes(self, index: Any, start: int, stop: int, watch: Any = None) -> Array:
        """Codes of some outputs: those of `index`, or of a slice."""
        drawn = None
        if self.numbers is not None:
            words = self.numbers.numbers(start * self.draws, stop * self.draws)
            table = words.reshape(stop - start, self.draws).astype(np.int64)

            def drawn(i: int) -> Array:
                column: Array = table[:, i]
                return column

        rows = self.pairs.a[index], self.pairs.b[index]
        chunk = Chunk(self.plan, self.a, self.b, rows, self.scales, drawn, watch)
        if isinstance(self.unit.accumulator, FixedFormat):
            return unit_exact.fixed(chunk, self.c[index])
        return chunk.run(self.first(self.c[index]))


def run(
    unit: DotUnit,
    a: Operand,
    b: Operand,
    c: Array,
    pairs: Pairs,
    numbers: RandomSource | None,
    trace: bool,
    threads: int | None,
) -> Any:
    """Results of all pairs, and a `Trace` if asked for.

    Args:
        c: accumulators at the start: patterns, or integers of fixed-point ones, flat.
    """
    if a.codes.shape[-1] == 0:
        raise ValueError("a and b have K = 0; the unit adds at least one product")
    call = Call(unit, a, b, c, pairs, numbers)
    check_length(call.plan, call.k)
    size = pairs.a.size
    threads = thread_count(threads, size * max(call.k, 1))
    watch = Watch() if trace else None
    found = None if trace else _compiled(call, threads)
    if found is None:
        made = np.empty(size, np.int64)

        def work(start: int, stop: int) -> None:
            here = None if watch is None else watch.part(start, stop)
            made[start:stop] = call.codes(slice(start, stop), start, stop, here)

        over_chunks(work, size, CHUNK, threads)
        found = values(made, unit.result_format)
    for operand in (a, b):
        if operand.tensor_scale is not None:  # the epilogue of a product, in float32
            found = found * operand.tensor_scale
    if unit.nan is not None:
        patterns = found.view(f"uint{8 * found.dtype.itemsize}")
        patterns[np.isnan(found)] = unit.nan
    if unit.nan_rule == "x86.vdpbf16ps":
        k = call.k
        propagate(found, a.codes.reshape(-1, k), b.codes.reshape(-1, k), c, (pairs.a, pairs.b))
    result: Any = found.reshape(pairs.shape)
    result = result[()] if pairs.shape == () else result
    return (result, watch.finish(pairs.shape)) if watch is not None else result


def _compiled(call: Call, threads: int) -> Array | None:
    """Results of matrices by a compiled loop; None where there is none."""
    grid = call.pairs.grid
    if grid is None or not call.pairs.a.size:
        return None
    batch_a, batch_b, m, n = grid
    loop = unit_compiled.loop_for(call.plan, call.k, batch_a.size * m * unit_compiled.whole_tiles(n) * call.k)
    if loop is None:
        return None
    scales = call.scales or Scales(None, None, 1, 1)  # type: ignore[arg-type]
    plan = call.plan
    left = unit_compiled.significands(plan, call.a, plan.fa, scales.a, scales.block_a, 0)
    right = unit_compiled.significands(plan, call.b, plan.fb, scales.b, scales.block_b, loop.raised)
    found = np.empty((batch_a.size, m, n), np.float32)
    again = np.empty((batch_a.size, m, n), bool)
    special = [x.special for x in (call.a, call.b)]
    for at, s in enumerate((scales.a, scales.b) if call.scales else ()):
        special[at] = special[at] | s.special
    promoted = call.unit.promote_every is not None
    first = call.first(call.c) if np.any(call.c) else None
    start = unit_compiled.accumulators(first, found.shape, call.plan.frame.carrier.trailing, loop.leading)
    for i, (one, other) in enumerate(zip(batch_a.tolist(), batch_b.tolist(), strict=True)):
        rows, across = slice(one * m, (one + 1) * m), slice(other * n, (other + 1) * n)
        x, y = [part[:, rows].T for part in left], [part[:, across] for part in right]
        if promoted:
            found[i], again[i] = _promoted(call, loop, x, y, call.c.reshape(found.shape)[i], threads)
        else:
            found[i], again[i] = _matrix(loop, x, y, [part[i] for part in start.parts], threads)
        again[i] |= special[0][rows, None] | special[1][across]
    again |= start.special.reshape(again.shape)
    flat = found.reshape(-1)
    index = np.flatnonzero(again)
    for place in range(0, index.size, CHUNK):
        part = index[place : place + CHUNK]
        flat[part] = values(call.codes(part, 0, part.size), call.unit.result_format)
    return flat.astype(result_dtype(call.unit.result_format))


def _matrix(loop: unit_compiled.Loop, x: Any, y: Any, c: Any, threads: int) -> tuple[Array, Array]:
    """A matrix of results as float32, and where they are to be computed again."""
    m, n = c[0].shape
    x = [np.ascontiguousarray(part) for part in x]
    y = [unit_compiled.tiled(part, fill) for part, fill in zip(y, (0, unit_compiled.ZERO), strict=True)]
    c = [unit_compiled.padded(part, 0) for part in c]
    found, again = np.empty((m, n), np.float32), np.empty((m, n), bool)

    def work(first: int, last: int) -> None:
        made, redo = unit_compiled.product(loop, x, y, c, slice(first, last))
        found[first:last], again[first:last] = made[:, :n], redo[:, :n]

    over_chunks(work, m, ROWS, threads)
    return found, again


def _promoted(call: Call, loop: unit_compiled.Loop, x: Any, y: Any, total: Array, threads: int) -> tuple[Array, Array]:
    """The same of a unit that promotes its accumulator; `total` holds patterns of float32."""
    every = call.unit.promote_every or 1
    again = np.zeros(total.shape, bool)
    zero = unit_compiled.accumulators(None, total.shape, 0, 0).parts
    sums: Any = (total & 0xFFFFFFFF).astype(np.uint32)
    for k in range(0, call.k, every):
        at = [slice(k // n, (k + every) // n) for n in (1, call.unit.group or 1)]
        rows, across = [z[:, i] for z, i in zip(x, at, strict=True)], [z[i] for z, i in zip(y, at, strict=True)]
        part, redo = _matrix(loop, rows, across, zero, threads)
        sums, _ = compute("add", [sums, part.view(np.uint32)], "float32", threads=threads)
        again |= redo
    found: Array = sums.view(np.float32)
    return found, again | ~np.isfinite(found)


def roundings(unit: DotUnit, k: int) -> int:
    """Random numbers that a dot of length k takes."""
    if not unit.is_stochastic:
        return 0
    whole = [min(unit.promote_every, k - i) for i in range(0, k, unit.promote_every)] if unit.promote_every else [k]
    count = 0
    for stretch in whole:
        steps = -(-stretch // (unit.length or max(stretch, 1)))
        late = (
            unit.addend == "late" and unit.late_fraction is None and (unit.late_rounding or unit.rounding).is_stochastic
        )
        if unit.kind is Kind.CHAIN:
            count += stretch + steps * (late + (unit.order is Order.EVEN_ODD))
        else:
            count += max(steps, 1) * (1 + late)
    return count


def random_source(
    unit: DotUnit, k: int, shape: tuple[int, ...], seed: Any, random_bits: Any, bit_count: int | None
) -> RandomSource | None:
    """The random numbers of a call, one a rounding; None where the unit takes none."""
    if not unit.is_stochastic:
        if seed is not None or random_bits is not None or bit_count is not None:
            raise ValueError(f"random numbers are given; the unit rounds {unit.rounding.value} and takes none")
        return None
    if (seed is None) == (random_bits is None):
        raise ValueError(f"the unit rounds {unit.rounding.value}; give one of seed= and random_bits=")
    bits = bit_count or 32
    if seed is not None:
        return RandomSource(key_of(seed), None, bits)
    full = (*shape, roundings(unit, k))
    numbers = np.asarray(random_bits)
    try:
        return RandomSource(None, np.broadcast_to(numbers, full).astype(np.uint32).reshape(-1), bits)
    except ValueError:
        raise ValueError(
            f"random_bits has shape {numbers.shape}; it broadcasts to {full}: one number a rounding"
        ) from None


def result_dtype(fmt: FloatFormat | FixedFormat) -> Any:
    """The dtype of results of a format: its own, else float32 or wider."""
    if isinstance(fmt, FixedFormat):
        width = next(bits for bits in (8, 16, 32, 64) if fmt.bits <= bits)
        return np.dtype(float if fmt.fraction_bits else f"{'int' if fmt.signed else 'uint'}{width}")
    own = next((dtype for dtype in (np.float16, np.float32, np.float64) if FLOATS[np.dtype(dtype)] == fmt), None)
    return np.dtype(own or (np.float32 if holds(BINARY32, fmt) else np.float64))


def values(codes: Array, fmt: FloatFormat | FixedFormat) -> Array:
    """Flat results: codes, or integers of fixed-point formats, as values."""
    dtype = result_dtype(fmt)
    if isinstance(fmt, FixedFormat):
        return codes * 2.0**-fmt.fraction_bits if fmt.fraction_bits else codes.astype(dtype)
    patterns = codes.view(np.uint64) if fmt.bits == 64 else codes & (2**fmt.bits - 1)
    patterns = patterns.astype(code_dtype(fmt))
    return patterns.view(dtype) if FLOATS.get(dtype) == fmt else np.asarray(decode(patterns, fmt, dtype=dtype))
