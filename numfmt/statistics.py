"""Statistics of quantization: what was clipped, what was lost, and how much error is left."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import decode, encode
from .block_arrays import BlockArray
from .block_functions import scale_values
from .block_layout import Axis, Layout, Task
from .block_run import for_each
from .blocks import BlockFormat
from .formats import Format
from .named_blocks import get_format
from .rounding import Overflow
from .scale_rules import scales_part
from .scheduler import thread_count
from .sources import operand_of
from .statistics_parts import Subject, counter_for, element_range

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]

CHUNK = 1 << 15  # elements of a part: its sums are made in order, and parts are joined exactly

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


# ---- what is counted ------------------------------------------------------------------------------------------


def _overflow(fmt: Format | BlockFormat, given: Overflow | str | None) -> Overflow | None:
    return fmt.default_overflow if given is None else Overflow.parse(given)


def _ratio(error: float, amax: float) -> float:
    return error / amax if amax else 0.0


def _of_scalars(x: Array, codes: Array, fmt: Format, overflow: Overflow | None, threads: int | None) -> Statistics:
    """One block after the other, of scale 1 and the size of a part."""
    if codes.shape != x.shape:
        raise ValueError(f"codes has shape {codes.shape}; x has shape {x.shape}")
    size = prod(x.shape)
    layout = Layout((size,), 0, (0,), 1, 1, size, 1, CHUNK, (-(-size // CHUNK),))
    low, high = element_range(fmt, overflow)
    one = np.ones((1, 1, layout.block_columns))
    subject = Subject(
        x.reshape(1, 1, -1), codes.reshape(1, 1, -1), layout, fmt, one, 0 * one, 0 * one, low * one, high * one,
        narrow=False,
    )  # fmt: skip
    found, _ = _measured(subject, threads)
    return replace(found, max_relative_error=_ratio(found.max_error, found.amax))


def _of_blocks(x: Array, q: BlockArray, overflow: Overflow | None, threads: int | None) -> Statistics:
    if x.shape != tuple(q.shape):
        raise ValueError(f"x has shape {x.shape}; the BlockArray has shape {tuple(q.shape)}")
    layout, fmt = q.layout, q.format
    scales = layout.scales_view(scale_values(q)).astype(np.float64)
    zeros = np.zeros(scales.shape)
    points = zeros if q.zero_points is None else layout.scales_view(q.zero_points).astype(np.float64)
    zero_points, minima = (points, zeros) if fmt.scale_rule.zero_point == "integer" else (zeros, points)
    tensor, divides = 1.0 if q.tensor_scale is None else float(q.tensor_scale), fmt.scale_rule.tensor_divides
    with np.errstate(all="ignore"):
        whole = scales / tensor if divides else scales * tensor
        ends = [(end - zero_points) * whole + minima for end in element_range(fmt.element, overflow)]
    ranged = (whole != 0) & np.isfinite(whole) & np.isfinite(minima)
    low, high = np.where(ranged, np.minimum(*ends), -np.inf), np.where(ranged, np.maximum(*ends), np.inf)
    levels = (np.stack([layout.scales_view(level[..., i]) for i in range(level.shape[-1])], -1) for level in q.micro)
    subject = Subject(
        layout.view(x), layout.view(q.codes), layout, fmt.element, scales, zero_points, minima, low, high, tensor,
        divides, micro=tuple((part, level) for (part, _), level in zip(fmt.micro, levels, strict=True)),
        micro_up=fmt.scale_rule.micro_up,
    )  # fmt: skip
    found, amax = _measured(subject, threads)
    return replace(found, **_scale_counts(q, scales, amax), blocks=scales.size)


def _scale_counts(q: BlockArray, scales: Doubles, amax: Doubles) -> dict[str, int]:
    """Scales at the ends of their format; a block of zeros has no use for its scale."""
    scale, values = q.format.scale, scales
    if q.nested is not None:  # then scales are codes that have scales of their own
        scale = q.nested.format.element
        values = np.asarray(decode(q.nested.codes, scale, dtype=np.float64)).reshape(scales.shape)
    assert not isinstance(scale, BlockFormat)
    least, most = float(scale.min_positive), element_range(scale, scale.default_overflow)[1]
    used = amax > 0
    return {
        "low_scales": int(np.count_nonzero(used & (np.abs(values) <= least))),
        "high_scales": int(np.count_nonzero(used & (np.abs(values) >= most))),
        "nan_scales": int(np.count_nonzero(np.isnan(scales))),
    }


def _measured(subject: Subject, threads: int | None) -> tuple[Statistics, Doubles]:
    """Statistics without those of scales, and the largest magnitude of every block."""
    layout, size = subject.layout, subject.x.size
    subject = subject.refined()
    fine = subject.layout
    tasks = fine.tasks(CHUNK)
    counts, sums = np.zeros((len(tasks), 6), np.int64), np.zeros((len(tasks), 3))
    amax, error = (np.zeros((fine.outer, fine.block_rows, fine.block_columns)) for _ in range(2))
    number = {task: i for i, task in enumerate(tasks)}
    count = counter_for(subject.element, size)

    def work(task: Task) -> None:
        i = number[task]
        largest = count(subject.part(task), counts[i], sums[i])
        scales_part(amax, task)[...], scales_part(error, task)[...] = (subject.by_block(v, task) for v in largest)

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
