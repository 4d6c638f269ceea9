"""Statistics of quantization: what was clipped, what was lost, and how much error is left."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from math import prod
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from ._core.parameters import BINARY64
from .arrays import decode, encode
from .block_arrays import BlockArray, scale_values
from .block_engine import _micro_factors, combine_exactly, decoded, for_each, part_of
from .block_layout import Axis, Layout, Task
from .blocks import BlockFormat
from .carriers import holds
from .formats import FixedFormat, Format
from .named_blocks import get_format
from .rounding import Overflow
from .scale_rules import scales_part
from .scheduler import thread_count
from .sources import decode_table, operand_of

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]

CHUNK = 1 << 15  # elements of a part: its sums are made in order, and parts are joined exactly
SMALL = 1 << 16  # below so many elements NumPy works until a larger array has loaded the loop
TABLE_BITS = 16  # values of wider codes are computed, not looked up

NAMES = (
    "elements", "blocks", "saturated", "last_bin", "underflow", "nan", "infinite", "nonfinite_results",
    "scale_clamped_low", "scale_clamped_high", "sqnr_db", "slope", "max_error", "max_relative_error",
)  # fmt: skip


@dataclass(frozen=True)
class Statistics(Mapping[str, float]):
    """What quantization did to an array: counts, sums, and the shares and ratios made of them.

    x is an element, q what it became, max and min the ends of the element format (of symmetric integers
    ±max), scale that of its block with all levels of scales in it, 1 for scalar formats. The attributes are
    counts and sums, so that the statistics of two parts add up to those of the whole; the properties are
    what is read. As a mapping it holds the names of `NAMES`.

    Attributes:
        elements: all of them; every share below is of these, zeros and NaNs included.
        blocks: all of them; 0 for scalar formats.
        nan, infinite: elements of x that are NaN, ±Inf. They are in none of the other counts and sums.
        nonfinite_results: other elements that became NaN or ±Inf; they are in no sum and no error.
        beyond: elements that exceed max × scale or fall below min × scale, before any rounding. An element
            that rounds to max from above is among them, one that rounds to it from below is not.
        at_end: elements whose code is that of max, or of min where min < 0.
        to_zero: non-zero elements that became ±0.
        low_scales: blocks with a non-zero element whose scale is the least positive value of the scale
            format, or zero.
        high_scales: blocks whose scale is the largest value of the scale format (the block that holds the
            largest element of an NVFP4 array is one by construction).
        nan_scales: blocks whose scale is NaN; their elements, and those of blocks whose scale is zero or
            infinite, are neither beyond nor at an end.
        xx, xq, ee: sums of x², x·q and (q - x)².
        max_error: the largest |q - x|.
        max_relative_error: the largest |q - x| over the largest |x| of the same block, or of the array in
            scalar formats.
        amax: the largest |x|.
    """

    elements: int = 0
    blocks: int = 0
    nan: int = 0
    infinite: int = 0
    nonfinite_results: int = 0
    beyond: int = 0
    at_end: int = 0
    to_zero: int = 0
    low_scales: int = 0
    high_scales: int = 0
    nan_scales: int = 0
    xx: float = 0.0
    xq: float = 0.0
    ee: float = 0.0
    max_error: float = 0.0
    max_relative_error: float = 0.0
    amax: float = 0.0

    @property
    def saturated(self) -> float:
        """Share of elements beyond the largest element × scale (`beyond`)."""
        return self.beyond / max(self.elements, 1)

    @property
    def last_bin(self) -> float:
        """Share of elements whose code is the largest magnitude's (`at_end`)."""
        return self.at_end / max(self.elements, 1)

    @property
    def underflow(self) -> float:
        """Share of elements that are not zero and became zero (`to_zero`)."""
        return self.to_zero / max(self.elements, 1)

    @property
    def scale_clamped_low(self) -> float:
        """Share of blocks whose scale is at the lower end of its format (`low_scales`)."""
        return self.low_scales / max(self.blocks, 1)

    @property
    def scale_clamped_high(self) -> float:
        """Share of blocks whose scale is at the upper end of its format (`high_scales`)."""
        return self.high_scales / max(self.blocks, 1)

    @property
    def scale_clamped(self) -> float:
        """Share of blocks whose scale is at either end."""
        return self.scale_clamped_low + self.scale_clamped_high

    @property
    def sqnr_db(self) -> float:
        """10 log10(Σ x² / Σ (q - x)²); infinite where nothing was lost."""
        if self.ee == 0:
            return math.inf
        return 10 * math.log10(self.xx / self.ee) if self.xx else -math.inf

    @property
    def slope(self) -> float:
        """⟨x, q⟩ / ⟨x, x⟩: 1 if quantization neither shrinks nor stretches; NaN where all x are zero."""
        return self.xq / self.xx if self.xx else math.nan

    def __add__(self, other: Statistics) -> Statistics:
        """Statistics of two parts together, where both are whole blocks."""
        if not isinstance(other, Statistics):
            return NotImplemented
        largest = ("max_error", "max_relative_error", "amax")
        merged = {
            f.name: max(getattr(self, f.name), getattr(other, f.name)) if f.name in largest
            else getattr(self, f.name) + getattr(other, f.name)
            for f in fields(self)
        }  # fmt: skip
        total = Statistics(**merged)
        return total if total.blocks else replace(total, max_relative_error=_ratio(total.max_error, total.amax))

    def __getitem__(self, name: str) -> float:
        if name not in NAMES:
            raise KeyError(name)
        value: float = getattr(self, name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)


def measure(
    x: npt.ArrayLike,
    format: str | Format | BlockFormat | BlockArray,
    *,
    axis: Axis = -1,
    codes: Array | None = None,
    threads: int | None = None,
    **options: Any,
) -> Statistics:
    """The `Statistics` of x and of what it became in a format.

    Counts are exact. The sums are real-valued computations in binary64 and round: each is made in the
    order of the elements within parts of about 32768, and the parts are joined by one correctly rounded
    sum, so that the same array gives the same bits on any engine and any number of threads.

    Args:
        x: real numbers of any shape.
        format: a format or its name; or the `BlockArray` that x was encoded to.
        axis: of blocks; a BlockArray has its own.
        codes: for scalar formats, what x was encoded to, if that is known; integers of x's shape.
        threads: at most so many; NUMFMT_THREADS, then all cores, by default.
        options: those of `numfmt.encode`, as rounding="toward_zero".

    Raises:
        ValueError: a shape that does not fit, options that make no sense.

    >>> import numpy as np
    >>> found = measure(np.float32([7.5] + 31 * [0.2]), "mxfp4")
    >>> found.saturated, found.last_bin, found.underflow, found.max_error
    (0.03125, 0.03125, 0.96875, 1.5)
    >>> round(found.slope, 3), dict(found)["blocks"]
    (0.783, 1)
    """
    if isinstance(format, BlockArray):
        if options or codes is not None:
            raise ValueError("a BlockArray and options of encode are given; options are for formats")
        return _of_blocks(operand_of(x).array, format, _overflow(format.format, None), threads)
    fmt = get_format(format)
    if isinstance(fmt, BlockFormat):
        if codes is not None:
            raise ValueError(f"codes= is given with {fmt}; give the BlockArray instead of the format")
        q = encode(x, fmt, axis=axis, threads=threads, **options)
        return _of_blocks(operand_of(x).array, q, _overflow(fmt, options.get("overflow")), threads)
    array = operand_of(x).array
    made = encode(x, fmt, threads=threads, **options) if codes is None else codes
    return _of_scalars(array, np.asarray(made), fmt, _overflow(fmt, options.get("overflow")), threads)


# ---- what parts are counted with -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """An array and what it became, in canonical form: (outer, rows, columns), and one entry a block.

    `scales`, `factors` and `low`, `high` are float64: the scale of a block, what element values are
    multiplied by, and the reals that max and min of the element format stand for.
    """

    x: Array
    codes: Array
    layout: Layout
    element: Format
    scales: Doubles
    zero_points: Doubles
    minima: Doubles
    low: Doubles
    high: Doubles
    tensor: float  # the tensor scale: a factor, or a divisor
    divides: bool
    block: BlockArray | None  # None for scalar formats, whose values float64 holds


@lru_cache(maxsize=256)
def _has_table(element: Format) -> bool:
    return element.bits <= TABLE_BITS and holds(BINARY64, element)


@lru_cache(maxsize=64)
def _ends(element: Format) -> npt.NDArray[np.bool_]:
    """For every code, whether it is an end of the element format."""
    values = decode_table(element, BINARY64).view(np.float64)
    low, high = _range(element, element.default_overflow)
    ends: npt.NDArray[np.bool_] = (values == high) | ((values == low) & (low < 0))
    return ends


@lru_cache(maxsize=256)
def _range(element: Format, overflow: Overflow | None) -> tuple[float, float]:
    """min and max of an element format; ±max where overflow is symmetric."""
    low, high = _float(element.min), _float(element.max)
    if isinstance(element, FixedFormat) and overflow is not None and overflow.value == "symmetric":
        low = -high
    return low, high


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _overflow(fmt: Format | BlockFormat, given: Overflow | str | None) -> Overflow | None:
    if given is not None:
        return Overflow.parse(given)
    return fmt.default_overflow


def _ratio(error: float, amax: float) -> float:
    return error / amax if amax else 0.0


def _of_scalars(x: Array, codes: Array, fmt: Format, overflow: Overflow | None, threads: int | None) -> Statistics:
    """One block after the other, of scale 1 and the size of a part."""
    if codes.shape != x.shape:
        raise ValueError(f"codes has shape {codes.shape}; x has shape {x.shape}")
    size = prod(x.shape)
    layout = Layout((size,), 0, (0,), 1, 1, size, 1, CHUNK, (-(-size // CHUNK),))
    blocks = (1, 1, layout.block_columns)
    low, high = _range(fmt, overflow)
    one, zero = np.ones(blocks), np.zeros(blocks)
    subject = Subject(
        x.reshape(1, 1, -1), codes.reshape(1, 1, -1), layout, fmt, one, zero, zero, low * one, high * one, 1.0, False,
        None,
    )  # fmt: skip
    found = _measured(subject, threads)
    return replace(found, max_relative_error=_ratio(found.max_error, found.amax))


def _of_blocks(x: Array, q: BlockArray, overflow: Overflow | None, threads: int | None) -> Statistics:
    if x.shape != tuple(q.shape):
        raise ValueError(f"x has shape {x.shape}; the BlockArray has shape {tuple(q.shape)}")
    layout = q.layout
    scales = layout.scales_view(scale_values(q)).astype(np.float64)
    points = np.zeros(scales.shape) if q.zero_points is None else layout.scales_view(q.zero_points).astype(np.float64)
    integers = q.format.scale_rule.zero_point == "integer"
    none = np.zeros(scales.shape)
    zero_points, minima = (points, none) if integers else (none, points)
    tensor = 1.0 if q.tensor_scale is None else float(q.tensor_scale)
    divides = q.format.scale_rule.tensor_divides
    with np.errstate(all="ignore"):
        whole = scales / tensor if divides else scales * tensor
        ends = [(end - zero_points) * whole + minima for end in _range(q.format.element, overflow)]
    ranged = (whole != 0) & np.isfinite(whole) & np.isfinite(minima)
    low, high = np.where(ranged, np.minimum(*ends), -np.inf), np.where(ranged, np.maximum(*ends), np.inf)
    subject = Subject(
        layout.view(x), layout.view(q.codes), layout, q.format.element, scales, zero_points, minima, low, high, tensor,
        divides, q,
    )  # fmt: skip
    found, amax = _measured_blocks(subject, threads)
    return replace(found, **_scale_counts(q, scales, amax), blocks=scales.size)


def _scale_counts(q: BlockArray, scales: Doubles, amax: Doubles) -> dict[str, int]:
    """Scales at the ends of their format; a block of zeros has no use for its scale."""
    scale = q.nested.format.element if q.nested is not None else q.format.scale
    if q.nested is not None:  # codes of scales, which have scales of their own
        assert not isinstance(scale, BlockFormat)
        values = np.asarray(decode(q.nested.codes, scale, dtype=np.float64)).reshape(scales.shape)
    else:
        values = scales
    assert not isinstance(scale, BlockFormat)
    least, most = float(scale.min_positive), _range(scale, scale.default_overflow)[1]
    used = amax > 0
    return {
        "low_scales": int(np.count_nonzero(used & (np.abs(values) <= least))),
        "high_scales": int(np.count_nonzero(used & (np.abs(values) >= most))),
        "nan_scales": int(np.count_nonzero(np.isnan(scales))),
    }


A_BLOCK = ("scales", "zero_points", "minima", "low", "high")


# ---- the parts of an array --------------------------------------------------------------------------------------


def _measured(subject: Subject, threads: int | None) -> Statistics:
    return _measured_blocks(subject, threads)[0]


def _measured_blocks(subject: Subject, threads: int | None) -> tuple[Statistics, Doubles]:
    """Statistics without those of scales, and the largest magnitude of every block."""
    layout, size = subject.layout, subject.x.size
    fine = layout if subject.block is not None and subject.block.format.micro else layout.refined()
    if fine is not layout:
        blocks = (fine.outer, fine.block_rows, fine.block_columns)
        spread: dict[str, Any] = {name: np.broadcast_to(getattr(subject, name), blocks) for name in A_BLOCK}
        subject = replace(subject, layout=fine, **spread)
    tasks = fine.tasks(CHUNK)
    counts = np.zeros((len(tasks), 6), np.int64)
    sums = np.zeros((len(tasks), 3))
    amax, error = (np.zeros((fine.outer, fine.block_rows, fine.block_columns)) for _ in range(2))
    number = {task: i for i, task in enumerate(tasks)}
    count = _counter(subject, size)

    def work(task: Task) -> None:
        i = number[task]
        count(subject, task, counts[i], sums[i], scales_part(amax, task), scales_part(error, task))

    with np.errstate(all="ignore"):
        for_each(work, tasks, thread_count(threads, size))
    amax, error = layout.coarse(amax), layout.coarse(error)
    nan, infinite, nonfinite, beyond, at_end, to_zero = (int(n) for n in counts.sum(axis=0))
    xx, xq, ee = (_total(column) for column in sums.T)
    relative = np.divide(error, amax, out=np.zeros(amax.shape), where=amax > 0)
    return Statistics(
        elements=size, nan=nan, infinite=infinite, nonfinite_results=nonfinite, beyond=beyond, at_end=at_end,
        to_zero=to_zero, xx=xx, xq=xq, ee=ee, max_error=float(error.max(initial=0)),
        max_relative_error=float(relative.max(initial=0)), amax=float(amax.max(initial=0)),
    ), amax  # fmt: skip


def _total(parts: Doubles) -> float:
    """Their sum, rounded once; what is beyond binary64 is infinite."""
    try:
        return math.fsum(parts)
    except OverflowError:
        return math.inf


def _counter(subject: Subject, size: int) -> Any:
    """The function that counts a part: compiled where that is worth it, else NumPy's."""
    micro = subject.block is not None and subject.block.format.micro
    if micro or not _has_table(subject.element) or (size < SMALL and not _module.cache_info().currsize):
        return count_part
    module = _module()
    return count_part if module is None else _compiled_counter(subject, module.loop())


@lru_cache(maxsize=1)
def _module() -> ModuleType | None:
    """The module that holds Numba code, or None where Numba cannot be had."""
    if importlib.util.find_spec("numba") is None:
        return None
    try:
        from . import statistics_loops
    except ImportError:  # an interpreter or a NumPy that Numba does not support yet
        return None
    return statistics_loops


def _compiled_counter(subject: Subject, loop: Any) -> Any:
    table = decode_table(subject.element, BINARY64).view(np.float64)
    ends, narrow = _ends(subject.element), subject.block is not None

    def count(subject: Subject, task: Task, counts: Array, sums: Array, amax: Array, error: Array) -> None:
        x, codes = _slice(subject.x, subject.layout, task), _slice(subject.codes, subject.layout, task)
        a_block = (scales_part(getattr(subject, name), task) for name in A_BLOCK)
        found = np.zeros((2, *amax.shape))
        loop(
            _plain(x), np.ascontiguousarray(codes), table, ends, *(np.ascontiguousarray(v) for v in a_block),
            subject.tensor, subject.divides, narrow, subject.layout.a, subject.layout.g, counts, sums, *found,
        )  # fmt: skip
        amax[...], error[...] = found

    return count


def _plain(x: Array) -> Array:
    """A part as contiguous float32 or float64."""
    return np.ascontiguousarray(x, np.float32 if x.dtype == np.float32 else np.float64)


def _slice(canonical: Array, layout: Layout, task: Task) -> Array:
    """A task's elements as they lie in a canonical array."""
    (o0, o1), (r0, r1), (c0, c1) = task.outer, task.block_rows, task.block_columns
    return canonical[o0:o1, r0 * layout.a : r1 * layout.a, c0 * layout.g : c1 * layout.g]


def count_part(subject: Subject, task: Task, counts: Array, sums: Array, amax: Array, error: Array) -> None:
    """Count a part in NumPy; the loop in statistics_loops.py does the same.

    Args:
        counts: int64, 6: NaN, infinite, results that are not finite, beyond, at an end, to zero.
        sums: float64, 3: x², x·q, (q - x)².
        amax, error: float64, one a block: its largest |x| and |q - x|.
    """
    layout = subject.layout
    x = _slice(subject.x, layout, task).astype(np.float64)
    codes = _slice(subject.codes, layout, task)
    q = _values(subject, task, x.shape)

    def spread(values: Doubles) -> Array:
        part = scales_part(values, task)
        return part.repeat(layout.a, axis=1).repeat(layout.g, axis=2)[:, : x.shape[1], : x.shape[2]]

    finite = np.isfinite(x)
    kept = finite & np.isfinite(q)
    has_scale = np.isfinite(spread(subject.low))
    scaled = has_scale if subject.block is not None else True
    low, high = spread(subject.low), spread(subject.high)
    factor = _micro_spread(subject, task, x.shape)
    counts[:] = [
        np.count_nonzero(np.isnan(x)), np.count_nonzero(np.isinf(x)), np.count_nonzero(finite & ~kept),
        np.count_nonzero(finite & ((x < low * factor) | (x > high * factor))),
        np.count_nonzero(finite & scaled & _at_end(subject.element, codes)),
        np.count_nonzero(kept & (x != 0) & (q == 0)),
    ]  # fmt: skip
    lost = np.where(kept, q - x, 0.0)
    known, result = np.where(kept, x, 0.0), np.where(kept, q, 0.0)
    sums[:] = [_in_order(known * known), _in_order(known * result), _in_order(lost * lost)]
    for target, values in ((amax, np.where(finite, np.abs(x), 0.0)), (error, np.abs(lost))):
        target[...] = _block_max(values, layout)


def _values(subject: Subject, task: Task, shape: tuple[int, ...]) -> Array:
    """float64 values of a part's codes."""
    if subject.block is None:
        codes = _slice(subject.codes, subject.layout, task)
        return np.asarray(decode(np.ascontiguousarray(codes), subject.element, dtype=np.float64, threads=1))
    q = subject.block
    points = subject.zero_points if q.format.scale_rule.zero_point == "integer" else subject.minima
    part = decoded(
        q.format, part_of(subject.codes, subject.layout, task), scales_part(subject.scales, task),
        None if q.zero_points is None else scales_part(points, task), _micro_parts(subject, task),
        combine_exactly(q.format, q.tensor_scale),
    )  # fmt: skip
    return _whole(part, shape).astype(np.float64)


def _whole(part: Array, shape: tuple[int, ...]) -> Array:
    """(outer, block rows, a, block columns, g) as (outer, rows, columns), without padding."""
    o, nr, a, nc, g = part.shape
    return part.reshape(o, nr * a, nc * g)[:, : shape[1], : shape[2]]


def _micro_parts(subject: Subject, task: Task) -> tuple[Array, ...]:
    if subject.block is None:
        return ()
    view = subject.layout.scales_view
    levels = (np.stack([view(m[..., i]) for i in range(m.shape[-1])], -1) for m in subject.block.micro)
    return tuple(scales_part(level, task) for level in levels)


def _micro_spread(subject: Subject, task: Task, shape: tuple[int, ...]) -> Any:
    """The power of two by which micro-exponents move the ends of the range, for every element."""
    if subject.block is None or not subject.block.micro:
        return 1.0
    fmt, layout = subject.block.format, subject.layout
    (o0, o1), (r0, r1), (c0, c1) = task.outer, task.block_rows, task.block_columns
    padded = (o1 - o0, r1 - r0, layout.a, c1 - c0, layout.g)
    factor = np.ones(padded)
    for (part, _), level in zip(fmt.micro, _micro_parts(subject, task), strict=True):
        factor = factor * _micro_factors(fmt, level, part, padded)
    return _whole(factor, shape)


def _at_end(element: Format, codes: Array) -> npt.NDArray[np.bool_]:
    if _has_table(element):
        return np.asarray(_ends(element)[codes.astype(np.intp) & (2**element.bits - 1)])
    low, high = _range(element, element.default_overflow)
    values = np.asarray(decode(np.ascontiguousarray(codes), element, dtype=np.float64, threads=1))
    return np.asarray((values == high) | ((values == low) & (low < 0)))


def _in_order(values: Doubles) -> float:
    """Their sum from the first to the last (np.sum pairs them)."""
    return float(np.cumsum(values.reshape(-1))[-1]) if values.size else 0.0


def _block_max(values: Doubles, layout: Layout) -> Doubles:
    o, rows, columns = values.shape
    padded = np.zeros((o, -(-rows // layout.a) * layout.a, -(-columns // layout.g) * layout.g))
    padded[:, :rows, :columns] = values
    blocks = padded.reshape(o, -1, layout.a, padded.shape[2] // layout.g, layout.g)
    return np.asarray(blocks.max(axis=(2, 4)))
