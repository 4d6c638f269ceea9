"""The compiled engine of blocks: which loops do the work of a plan, and what they are given."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ._core.parameters import BINARY32, BINARY64
from .block_layout import Layout, Task
from .blocks import BlockFormat, precision
from .carriers import floor_log2
from .compiled import block_loop, parameter_vector
from .formats import FixedFormat, FloatFormat
from .named_rules import nvfp4_encode_scale
from .plans import Plan, encode_plan, quantize_plan, resolve
from .rounding import Overflow, Rounding
from .scale_rules import Params, Steps, scale_dtype, step_params, steps_of
from .sources import decode_table, quantum_exponent
from .specials import Rules

Array = npt.NDArray[Any]
f32 = np.float32

CHUNK = 1 << 18  # elements of a task
FAR = 1 << 24  # bytes of a result that no cache will hold: it is written past them
UNROLLED = (16, 32, 64, 128)  # block lengths that have loops of their own
NAN_SCALE, ZERO_SCALE = -(2**20), 2**20  # as in block_element_loops.py


@dataclass(frozen=True)
class Ranges:
    """Block lengths and ranges that every loop takes."""

    layout: Layout

    def of(self, task: Task) -> tuple[int, ...]:
        """a, g, and the ranges of a task, in elements along rows."""
        layout = self.layout
        r0, r1 = task.block_rows
        return (
            layout.a, layout.g, *task.outer, r0 * layout.a, min(r1 * layout.a, layout.rows), *task.block_columns
        )  # fmt: skip

    def of_blocks(self, task: Task) -> tuple[int, ...]:
        """The ranges of a task, in blocks."""
        return (*task.outer, *task.block_rows, *task.block_columns)

    @property
    def columns(self) -> bool:
        """Whether blocks run along columns, one element wide."""
        return self.layout.g == 1

    @property
    def unrolled(self) -> int:
        """The block length where a loop of its own exists, else 0."""
        g = self.layout.g
        return g if g in UNROLLED and self.layout.columns % g == 0 else 0


def amax_function(layout: Layout, patterns: Array, limit: int) -> Any:
    """A function of a task that fills its part of an amax array; None where NumPy is to do it."""
    if patterns.dtype != np.int32:
        return None
    ranges = Ranges(layout)
    loop = block_loop(("amax columns",) if ranges.columns else ("amax", ranges.unrolled), patterns.size)
    if loop is None:
        return None
    return lambda task, amax: loop(patterns, amax, limit, *ranges.of(task))


def steps_function(fmt: BlockFormat, layout: Layout, size: int) -> Any:
    """A function of a task that fills scale codes and exponents from amaxes; None where NumPy is to do it."""
    step, loop = step_operands(fmt), block_loop(("steps",), size)
    if step is None or loop is None:
        return None
    ranges = Ranges(layout)

    def fill(task: Task, amax: Array, scales: Array, shifts: Array) -> None:
        loop(amax, *step, scales, shifts, *ranges.of_blocks(task))

    return fill


@lru_cache(maxsize=256)
def step_operands(fmt: BlockFormat) -> tuple[Array, Array, Array] | None:
    """A step rule's closed form, and the codes and exponents for NaN and infinity; None where it has no such form."""
    steps = steps_of(fmt, BINARY32)
    if steps is None or steps.exponents is None or fmt.scale_rule.zero_amax or scale_dtype(fmt).kind == "f":
        return None
    step = closed_form(steps)
    if step is None:
        return None
    special = step_params(fmt, np.array([0x7FC00000, 0x7F800000], np.int32), BINARY32, steps)
    return step, np.array([steps.nan, steps.infinite]), shifts_of(special)


def closed_form(steps: Steps) -> Array | None:
    """A step rule as (up, base, first, least, top, exponent), where it has that form.

    rank = 0 below `first`, else ((amax + up) >> 23) - base within [least, top]; the scale's code is the
    rank, its exponent is rank + `exponent`. Both sides are step functions: they agree where they agree on
    every threshold and just below it.
    """
    at = steps.thresholds[1:][steps.thresholds[1:] < BINARY32.infinity].astype(np.int64)
    least = max(1, int(np.count_nonzero(at == 0)))
    if steps.exponents is None or len(at) < least + 2 or steps.zeros.any():
        return None
    ranks = np.arange(len(at) + 1)
    exponent = int(steps.exponents[0])
    if not np.array_equal(steps.codes[ranks], ranks) or not np.array_equal(steps.exponents[ranks], ranks + exponent):
        return None
    regular = int(at[least + 1])  # the threshold of rank least + 2
    fraction = regular & (BINARY32.hidden - 1)
    up = BINARY32.hidden - fraction if fraction else 0
    base = ((regular + up) >> BINARY32.trailing) - least - 2
    form = np.array([up, base, at[0], least, len(at), exponent], np.int64)
    points = np.unique(np.concatenate([at, np.maximum(at - 1, 0), [0, BINARY32.infinity - 1]]))
    found = np.clip(((points + up) >> BINARY32.trailing) - base, least, len(at))
    found = np.where(points < at[0], 0, found)
    return form if np.array_equal(found, np.searchsorted(at, points, side="right")) else None


def tensor_scales_function(fmt: BlockFormat, layout: Layout, amax: Array, tensor: Any) -> Any:
    """A function of a task that fills NVFP4 scales — codes, values and factors; None where NumPy is to do it."""
    operands = _tensor_scale_operands(fmt, amax, tensor)
    loop = None if operands is None else block_loop(("tensor scales",), layout.outer * layout.rows * layout.columns)
    if operands is None or loop is None:
        return None
    ranges = Ranges(layout)

    def fill(task: Task, codes: Array, values: Array, factors: Array) -> None:
        loop(*operands, codes, values, factors, *ranges.of_blocks(task))

    return fill


def _tensor_scale_operands(fmt: BlockFormat, amax: Array, tensor: Any) -> tuple[Any, ...] | None:
    """Amaxes, what they and inverse scales are multiplied by, how scales are rounded, and their values."""
    if fmt.rule != "transformer_engine" or amax.dtype != np.int32:
        return None
    scale = fmt.scale_value_format
    plan = encode_plan(scale, resolve(scale, None, Overflow.SATURATE, None, None), BINARY32)
    assert plan is not None
    by = nvfp4_encode_scale(tensor)
    table = decode_table(scale, BINARY32).view(f32)
    return amax.view(f32), by * (f32(1) / f32(6)), f32(1) / by, parameter_vector(plan), table


def shifts_of(params: Params) -> Array:
    """Exponents as the loops take them."""
    assert params.exponents is not None
    values = params.values
    shifts = np.where(np.isnan(values), NAN_SCALE, np.where(values == 0, ZERO_SCALE, params.exponents))
    return np.ascontiguousarray(shifts, np.int32)


@dataclass(frozen=True)
class Work:
    """What the loops read and write: canonical arrays."""

    layout: Layout
    patterns: Array  # int32
    target: Array  # codes, or float32 values
    in_carrier: bool
    numbers: Array | None = None
    numbers_only: bool = False  # whether blocks that hold NaN have NaN for a scale
    largest_holds_infinity: int | None = None  # the exponent that the scale of an infinite amax has
    limit: int = 0  # the largest magnitude code that counts in an amax
    packed: bool = False  # whether two codes of four bits share a byte of the target

    @property
    def far(self) -> bool:
        """Whether the target is so large that it is better written past the caches."""
        return self.target.nbytes >= FAR


def elements_function(fmt: BlockFormat, rules: Rules, work: Work, tensor_scale: Any, kind: str) -> Any:
    """A function of (task, arrays of the scales) that writes a task's elements; None where NumPy is to do it.

    Args:
        kind: "offset", "factor32", "divisor32" or "divisor": how elements meet their scale.
    """
    if work.patterns.dtype != np.int32 or not isinstance(fmt.element, FloatFormat | FixedFormat):
        return None
    if fmt.element.bits > 16 or (kind != "offset" and work.numbers is not None):
        return None
    if kind == "offset":
        return _offset(fmt, rules, work)
    if kind == "divisor":
        return _divided(fmt, rules, work)
    return _scaled(fmt, rules, work, tensor_scale, kind == "divisor32")


def _plans(fmt: BlockFormat, rules: Rules, work: Work, carrier: Any) -> tuple[Plan, Plan] | None:
    """Plans for codes and for what is written; None where the element has a kernel that the loops lack."""
    codes = encode_plan(fmt.element, rules, carrier)
    written = quantize_plan(fmt.element, rules, carrier) if work.in_carrier else codes
    if codes is None or written is None or {codes.kernel, written.kernel} - {"float", "fixed"}:
        return None
    return codes, written


@dataclass(frozen=True)
class _Offset:
    """What loops for elements under powers of two are told."""

    kernel: str
    way: str  # of rounding: "general", "saturating", or "even": saturating, and ties go to even
    randomly: bool
    numbers: Array
    rounding: tuple[Any, ...]  # parameters: fast and slow, ends, the range of fast exponents, values and mask of codes


def _offset_rounding(fmt: BlockFormat, rules: Rules, work: Work) -> _Offset | None:
    """How elements under powers of two are rounded; None where NumPy is to do it."""
    if work.patterns.dtype != np.int32 or not isinstance(fmt.element, FloatFormat | FixedFormat):
        return None
    plans = _plans(fmt, rules, work, BINARY32) if fmt.element.bits <= 16 else None
    if plans is None or (plans[0].kernel == "float" and plans[0].general):
        return None
    codes, written = plans
    way = "general"
    low, high = _fast_shifts(fmt, work.in_carrier)
    if isinstance(fmt.element, FloatFormat) and work.numbers_only and _saturates(fmt, rules):
        way = "saturating"
        if work.largest_holds_infinity is not None:
            high = min(high, work.largest_holds_infinity - 1)
        if rules.rounding is Rounding.TIES_TO_EVEN:
            way, low = "even", max(low, _least_shift_to_nearest(fmt.element))
    if way == "general" and work.in_carrier and not _shifts_alike(fmt, rules, work.numbers_only):
        low, high = 1, 0
    table = decode_table(fmt.element, BINARY64).view(np.float64)
    rounding = (
        parameter_vector(written), parameter_vector(codes), _finite_ends(fmt, rules), low, high, table,
        2**fmt.element.bits - 1,
    )  # fmt: skip
    numbers = work.patterns if work.numbers is None else work.numbers.view(np.int32)
    return _Offset(codes.kernel, way, work.numbers is not None, numbers, rounding)


def whole_function(fmt: BlockFormat, rules: Rules, work: Work, scales: Array) -> Any:
    """A function of a task that writes scales and elements in one; None where the stages go one by one."""
    ranges, step, found = Ranges(work.layout), step_operands(fmt), _offset_rounding(fmt, rules, work)
    if step is None or found is None or ranges.columns or not ranges.unrolled or work.layout.a > 1:
        return None
    limited = work.limit < BINARY32.magnitude_mask
    name = ("whole", found.kernel, work.in_carrier, found.way, ranges.unrolled, found.randomly, limited, work.packed)
    loop = block_loop(name, work.patterns.size)
    if loop is None:
        return None
    operands = (work.patterns, work.target, found.numbers, work.limit, *step, scales, *found.rounding, work.far)
    return lambda task: loop(*operands, *ranges.of(task))


def _offset(fmt: BlockFormat, rules: Rules, work: Work) -> Any:
    ranges, found = Ranges(work.layout), _offset_rounding(fmt, rules, work)
    if found is None:
        return None
    name = ("offset", found.kernel, work.in_carrier, found.way, ranges.unrolled, ranges.columns, found.randomly)
    loop = block_loop(name, work.patterns.size)
    if loop is None:
        return None

    def elements(task: Task, shifts: Array, *_: Array) -> None:
        loop(work.patterns, work.target, found.numbers, shifts, *found.rounding, *ranges.of(task))

    return elements


def _least_shift_to_nearest(element: FloatFormat) -> int:
    """The least exponent of a scale under which `block.nearest_in_place` rounds right.

    The format's least value is twice the carrier's least normal number then, or more.
    """
    return 2 - BINARY32.bias - (element.emin - element.trailing_bits)


def _fast_shifts(fmt: BlockFormat, in_carrier: bool) -> tuple[int, int]:
    """The scales' exponents under which every value of the elements is normal in binary32, or their grid is."""
    element = fmt.element
    assert isinstance(element, FloatFormat | FixedFormat)
    lowest = 1 - BINARY32.bias
    if isinstance(element, FixedFormat):
        top = floor_log2(max(element.max, -element.min))
        return lowest - BINARY32.trailing - quantum_exponent(element, 0), BINARY32.bias - top
    if not in_carrier:
        return lowest - element.emin, 2 * BINARY32.bias
    return lowest - floor_log2(element.min_positive), BINARY32.bias - element.emax


def _shifts_alike(fmt: BlockFormat, rules: Rules, numbers_only: bool) -> bool:
    """Whether special results shift with the scale for both signs or for none, as `shifted_values` takes them."""
    element = fmt.element
    if isinstance(element, FixedFormat):
        return True
    one_sided = rules.rounding.stays_inside(False) or rules.rounding.stays_inside(True)
    finite = rules.overflow in (Overflow.SATURATE, Overflow.PROPAGATE)
    return (element.has_nan or numbers_only) and (finite or not one_sided)


def _finite_ends(fmt: BlockFormat, rules: Rules) -> Array:
    """Whether overflow, and infinite operands, become finite values: 1 or 0 each."""
    element = fmt.element
    if isinstance(element, FixedFormat):
        return np.ones(2, np.int64)
    has_symbol = element.has_infinity or (element.has_nan and rules.overflow is Overflow.NAN)
    saturates = rules.overflow in (Overflow.SATURATE, Overflow.PROPAGATE)
    overflow = saturates or not has_symbol
    infinity = rules.overflow is Overflow.SATURATE or not has_symbol
    return np.array([overflow, infinity], np.int64)


def _saturates(fmt: BlockFormat, rules: Rules) -> bool:
    """Whether a float element has a -0 and a significand, and what lies beyond its range becomes its largest value."""
    element = fmt.element
    assert isinstance(element, FloatFormat)
    saturates = rules.overflow is Overflow.SATURATE and not rules.rule.zero
    return element.trailing_bits > 0 and element.has_negative_zero and saturates


def _scaled(fmt: BlockFormat, rules: Rules, work: Work, tensor_scale: Any, divides: bool) -> Any:
    found = _scaled_rounding(fmt, rules, work, tensor_scale)
    if found is None:
        return None
    ranges, x, (even, p) = Ranges(work.layout), work.patterns.view(f32), found
    tensor, how = tensor_operand(fmt, tensor_scale)
    name: tuple[Any, ...] = ("scaled", work.in_carrier, divides, even, ranges.columns)
    given: tuple[Any, ...] = (tensor, how, p)
    if ranges.unrolled and not ranges.columns:
        name = ("scaled vectors", work.in_carrier, divides, even, ranges.unrolled, how)
        given = (tensor, p, work.far)
    loop = block_loop(name, work.patterns.size)
    if loop is None:
        return None

    def elements(task: Task, operands: Array, scales: Array) -> None:
        loop(x, work.target, operands, scales, *given, *ranges.of(task))

    return elements


def tensor_scaled_function(
    fmt: BlockFormat, rules: Rules, work: Work, amax: Array, tensor: Any, tensor_scale: Any, scales: Array
) -> Any:
    """A function of a task that writes NVFP4 scales and elements in one; None where the stages go one by one."""
    ranges, operands = Ranges(work.layout), _tensor_scale_operands(fmt, amax, tensor)
    if operands is None or work.numbers is not None or not ranges.unrolled or ranges.columns or work.layout.a > 1:
        return None
    found = _scaled_rounding(fmt, rules, work, tensor_scale)
    if found is None:
        return None
    even, p = found
    by, how = tensor_operand(fmt, tensor_scale)
    loop = block_loop(
        ("tensor scaled", work.in_carrier, even, ranges.unrolled, how, work.packed), work.patterns.size
    )
    if loop is None:
        return None
    x = work.patterns.view(f32)
    return lambda task: loop(x, work.target, *operands, scales, by, p, work.far, *ranges.of(task))


def _scaled_rounding(fmt: BlockFormat, rules: Rules, work: Work, tensor_scale: Any) -> tuple[bool, Array] | None:
    """How elements that have met their scale are rounded: whether as numbers to even, and the parameters."""
    if work.patterns.dtype != np.int32 or not isinstance(fmt.element, FloatFormat) or fmt.element.bits > 16:
        return None
    plans = _plans(fmt, rules, work, BINARY32)
    if plans is None or plans[0].kernel != "float" or plans[0].general:
        return None
    exact = precision(fmt.element) + precision(fmt.scale_value_format) <= 24
    if work.in_carrier and tensor_scale is not None and not exact:
        return None
    even = (
        rules.rounding is Rounding.TIES_TO_EVEN and _saturates(fmt, rules) and not fmt.element.has_nan
        and not fmt.element.has_infinity and _least_shift_to_nearest(fmt.element) <= 0
    )  # fmt: skip
    return even, parameter_vector(plans[1])


def tensor_operand(fmt: BlockFormat, tensor_scale: Any) -> tuple[np.float32, int]:
    """The tensor scale, and how values meet it: 0 not, 1 multiplied, 2 divided."""
    if tensor_scale is None:
        return f32(1), 0
    return f32(tensor_scale), 2 if fmt.scale_rule.tensor_divides else 1


def _divided(fmt: BlockFormat, rules: Rules, work: Work) -> Any:
    plans = _plans(fmt, rules, work, BINARY64)
    if plans is None or rules.random_bit_count:
        return None
    ranges = Ranges(work.layout)
    name = ("divided", plans[0].kernel, work.in_carrier, plans[0].general, ranges.unrolled, ranges.columns)
    loop = block_loop(name, work.patterns.size)
    if loop is None:
        return None
    p, x = parameter_vector(plans[1]), work.patterns.view(f32)
    nan = int(plans[0].results.nan)

    def elements(task: Task, scales: Array, *_: Array) -> None:
        loop(x, work.target, scales, p, nan, *ranges.of(task))

    return elements
