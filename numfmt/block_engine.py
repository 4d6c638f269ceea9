"""Runs a block format over an array: amax of each block, its scale, its elements.

This is the NumPy engine, and the one path of control for both engines; `block_loops.py` has the compiled
loops for what is common: binary32 operands and deterministic modes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from . import block_compiled, engines
from ._core.block import quotient
from ._core.parameters import BINARY32, BINARY64, Carrier
from .block_layout import Layout, Task
from .blocks import BlockFormat
from .plans import Plan, encode_plan
from .scale_rules import (
    Coded,
    Params,
    Scales,
    from_scale,
    nan_scale,
    scale_array,
    scale_dtype,
    scales_part,
    step_params,
    steps_of,
    to_scale,
)
from .scheduler import over_chunks, thread_count
from .sources import decode_table
from .specials import Rules

Array = npt.NDArray[Any]
f32 = np.float32

CHUNK = 1 << 15  # elements of a task in NumPy: an int64 temporary of it takes 256 KiB

# How element values (float64, exact) and scales (float32) become values that one cast to float32 rounds.
Combine = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Operand3:
    """The canonical operand: carrier patterns (outer, rows, columns), and random numbers of that shape."""

    patterns: Array  # int32 or int64
    carrier: Carrier
    numbers: Array | None = None  # uint32

    @property
    def values(self) -> Array:
        """The same as floats."""
        return self.patterns.view(np.float32 if self.carrier is BINARY32 else np.float64)


@dataclass(frozen=True)
class BlockPlan:
    """A block format with the rounding rules of its elements."""

    format: BlockFormat
    rules: Rules

    @property
    def amax_limit(self) -> str:
        """Which elements an amax leaves out: "none", "nan" or "nonfinite"."""
        rule = self.format.scale_rule
        if rule.ignores_infinity or self.format.nonfinite == "propagate_elements":
            return "nonfinite"
        return "nan" if rule.ignores_nan else "none"


def limit_of(plan: BlockPlan, carrier: Carrier) -> int:
    """The largest magnitude code that counts in an amax."""
    return {
        "none": carrier.magnitude_mask,
        "nan": carrier.infinity,
        "nonfinite": carrier.infinity - 1,
    }[plan.amax_limit]


# ---- stage 1: amax ---------------------------------------------------------------------------------------------


def part_of(canonical: Array, layout: Layout, task: Task, padding: int = 0) -> Array:
    """A task's elements as (outer, block rows, a, block columns, g), `padding` beyond the array's ends."""
    (o0, o1), (r0, r1), (c0, c1) = task.outer, task.block_rows, task.block_columns
    a, g = layout.a, layout.g
    part = canonical[o0:o1, r0 * a : r1 * a, c0 * g : c1 * g]
    whole = (o1 - o0, (r1 - r0) * a, (c1 - c0) * g)
    if part.shape != whole:
        padded = np.full(whole, padding, part.dtype)
        padded[:, : part.shape[1], : part.shape[2]] = part
        part = padded
    return part.reshape(o1 - o0, r1 - r0, a, c1 - c0, g)


def put_part(canonical: Array, layout: Layout, task: Task, values: Array) -> None:
    """Write a task's elements back, less the padding."""
    (o0, o1), (r0, r1), (c0, c1) = task.outer, task.block_rows, task.block_columns
    a, g = layout.a, layout.g
    target = canonical[o0:o1, r0 * a : r1 * a, c0 * g : c1 * g]
    source = values.reshape(o1 - o0, (r1 - r0) * a, (c1 - c0) * g)
    np.copyto(target, source[:, : target.shape[1], : target.shape[2]], casting="unsafe")


def amax_of(part: Array, carrier: Carrier, limit: int) -> Array:
    """Largest magnitude codes, of those up to `limit`, of blocks (outer, block rows, a, block columns, g)."""
    magnitude = part & carrier.magnitude_mask
    if limit == carrier.magnitude_mask:
        return magnitude.max(axis=(2, 4))
    return np.where(magnitude > limit, 0, magnitude).max(axis=(2, 4))


def finite_amax_of(part: Array, carrier: Carrier) -> Array:
    """P3109's MaxAbsFinite: the largest finite magnitude; infinity, or else NaN, where nothing is finite.

    The padding of short blocks is NaN here.
    """
    magnitude = part & carrier.magnitude_mask
    finite, number = magnitude < carrier.infinity, magnitude <= carrier.infinity
    amax = np.where(finite, magnitude, 0).max(axis=(2, 4))
    nothing = np.where(number.any(axis=(2, 4)), carrier.infinity, carrier.magnitude_mask)
    return np.where(finite.any(axis=(2, 4)), amax, nothing)


# ---- stage 2: scales -------------------------------------------------------------------------------------------


def as_float32(amax: Array, carrier: Carrier) -> Array:
    """Amax patterns as float32, rounded to nearest where the operand is wider."""
    if carrier is BINARY32:
        return amax.view(f32) if amax.flags.c_contiguous else np.ascontiguousarray(amax).view(f32)
    return np.ascontiguousarray(amax).view(np.float64).astype(f32)


def scales_of(plan: BlockPlan, amax: Array, carrier: Carrier, tensor: np.float32 | None) -> Params:
    """The scales of blocks from their amax patterns."""
    fmt = plan.format
    rule = fmt.scale_rule
    if rule.binary32 is not None:
        made: Scales = rule.binary32(fmt, as_float32(amax, carrier), tensor)
        values = from_scale(fmt, made.codes)
        return Params(made.codes, values, **{"divisor32" if made.divides else "factor32": made.operand})
    if rule.binary32_amax and carrier is not BINARY32:
        amax, carrier = as_float32(amax, carrier).view(np.int32), BINARY32
    steps = steps_of(fmt, carrier)
    if steps is None:
        return _quotient_scales(fmt, amax, carrier)
    return step_params(fmt, amax, carrier, steps)


def _quotient_scales(fmt: BlockFormat, amax: Array, carrier: Carrier) -> Params:
    """amax / max rounded once into a wide scale format."""
    wide = np.ascontiguousarray(amax).view(f32).astype(np.float64).view(np.int64) if carrier is BINARY32 else amax
    largest = np.float64(fmt.element.max).view(np.int64)
    ratio = quotient(wide, np.full(wide.shape, largest), BINARY64, xp=engines.NUMPY)
    codes = to_scale(fmt, ratio.view(np.float64))
    nan = nan_scale(fmt.scale_value_format)
    if nan is not None:
        infinite = nan if fmt.nonfinite != "saturate_inf" else codes
        codes = np.where(amax > carrier.infinity, nan, np.where(amax == carrier.infinity, infinite, codes))
    values = from_scale(fmt, codes)
    return Params(scale_array(fmt, codes.astype(scale_dtype(fmt, as_codes=True))), values, divisor=values)


# ---- stage 3: elements -----------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def element_plan(plan: BlockPlan, carrier: Carrier) -> Plan:
    """How elements that have met their scale are encoded."""
    made = encode_plan(plan.format.element, plan.rules, carrier)
    if made is None:
        mode = plan.rules.rounding.value
        raise ValueError(f"rounding {mode!r} of {plan.format.element} needs a wider carrier than blocks have")
    return made


def scaled(part: Array, carrier: Carrier, params: Params) -> tuple[Array, Carrier]:
    """Patterns of x / scale — exact, or rounded to odd, or a vendor's binary32 product — and their carrier."""
    spread = (slice(None), slice(None), None, slice(None), None)
    if params.factor32 is not None or params.divisor32 is not None:
        x = part.view(f32) if carrier is BINARY32 else as_float32_values(part)
        if params.factor32 is not None:
            return (x * params.factor32[spread]).view(np.int32), BINARY32
        assert params.divisor32 is not None
        return (x / params.divisor32[spread]).view(np.int32), BINARY32
    wide = part.view(f32).astype(np.float64) if carrier is BINARY32 else part.view(np.float64)
    if params.exponents is not None:
        y = np.ldexp(wide, -params.exponents[spread])
        lost = (y == 0) & (wide != 0)
        y = np.where(lost, np.copysign(5e-324, wide), y) if lost.any() else y
        result = y.view(np.int64)
    else:
        assert params.divisor is not None
        divisor = np.where(params.divisor > 0, params.divisor, f32(1)).astype(np.float64).view(np.int64)
        shape = np.broadcast_shapes(wide.shape, divisor[spread].shape)
        divisor = np.broadcast_to(divisor[spread], shape)
        result = quotient(wide.view(np.int64), divisor, BINARY64, xp=engines.NUMPY)
    return result, BINARY64


def as_float32_values(part: Array) -> Array:
    """binary64 patterns as float32 values."""
    return part.view(np.float64).astype(f32)


def element_codes(plan: BlockPlan, part: Array, carrier: Carrier, params: Params, numbers: Array | None) -> Array:
    """Codes of a task's elements, (outer, block rows, a, block columns, g)."""
    patterns, own = scaled(part, carrier, params)
    if numbers is not None and own is BINARY32:
        patterns, own = patterns.view(f32).astype(np.float64).view(np.int64), BINARY64
    made = element_plan(plan, own)
    words = None if numbers is None else numbers.reshape(-1).astype(np.int64)
    codes = engines.apply(made, patterns.reshape(-1), words, False).reshape(part.shape)
    odd = ~(params.values > 0)  # NaN and zero scales; negative ones are a rule's own matter
    if odd.any() and (params.exponents is not None or params.divisor is not None):
        spread = (slice(None), slice(None), None, slice(None), None)
        codes = np.where(np.isnan(params.values)[spread], made.results.nan, codes)
        codes = np.where((params.values == 0)[spread], zero_code(plan), codes)
    return codes


def zero_code(plan: BlockPlan) -> int:
    """The code of +0, or of what zero rounds to."""
    made = element_plan(plan, BINARY64)
    zero = np.zeros(1, np.int64)
    return int(engines.apply(made, zero, zero if made.mode.random_bits else None, False)[0])


# ---- decoding --------------------------------------------------------------------------------------------------


def element_values(fmt: BlockFormat, codes: Array) -> Array:
    """float64 values of element codes; exact."""
    if fmt.element.bits <= 16:
        table = decode_table(fmt.element, BINARY64).view(np.float64)
        return table.take(codes.astype(np.intp) & (2**fmt.element.bits - 1), mode="wrap")
    from .arrays import decode

    return np.asarray(decode(codes, fmt.element, dtype=np.float64, threads=1))


def decoded(
    fmt: BlockFormat,
    codes: Array,
    scales: Array,
    zero_points: Array | None,
    micro: tuple[Array, ...],
    combine: Combine,
) -> Array:
    """float32 values of a task: codes (outer, block rows, a, block columns, g), the rest one a block."""
    spread = (slice(None), slice(None), None, slice(None), None)
    values = element_values(fmt, codes)
    if zero_points is not None and fmt.scale_rule.zero_point == "integer":
        values = values - zero_points[spread].astype(np.float64)
    for (part, _), shifts in zip(fmt.micro, micro, strict=True):
        values = values * _micro_factors(fmt, shifts, part, codes.shape)
    result = combine(values, scales[spread])
    if zero_points is not None and fmt.scale_rule.zero_point == "minimum":
        result = result.astype(np.float64) + zero_points[spread].astype(np.float64)
    result = result.astype(f32, copy=False)
    nan = np.isnan(result)
    if nan.any():
        result[nan] = np.nan
    return result


def _micro_factors(fmt: BlockFormat, shifts: Array, part: int, shape: tuple[int, ...]) -> Array:
    """Powers of two of a level of micro-exponents, for every element of a task."""
    o, nr, a, nc, g = shape
    up = 1 if fmt.scale_rule.micro_up else -1
    factors = np.repeat(np.ldexp(1.0, up * shifts.astype(np.int32)), part, axis=-1)[..., : a * g]
    return factors.reshape(o, nr, nc, a, g).transpose(0, 1, 3, 2, 4)



def combine_exactly(fmt: BlockFormat, tensor_scale: np.float32 | None) -> Combine:
    """The exact product of code, scale and tensor scale, rounded once to binary32."""

    def combine(values: Array, scales: Array) -> Array:
        product = values * scales.astype(np.float64)  # at most 48 bits
        if tensor_scale is None:
            return product
        if fmt.scale_rule.tensor_divides:
            return product / np.float64(tensor_scale)  # near no midpoint of binary32 but on it
        return product * np.float64(tensor_scale)  # at most 53 bits (BlockFormat checks it)

    return combine


def combine_transformer_engine(tensor_amax: np.float32) -> Combine:
    """dequantize_nvfp4.cuh: float32 operations in its order."""

    def combine(values: Array, scales: Array) -> Array:
        return values.astype(f32) * ((scales * f32(tensor_amax)) * (f32(1) / f32(2688)))

    return combine


def combine_compressed_tensors(global_scale: np.float32) -> Combine:
    """The effective scale is weight_scale / weight_global_scale, in binary32."""

    def combine(values: Array, scales: Array) -> Array:
        return values.astype(f32) * (scales / f32(global_scale))

    return combine


def combine_modelopt(tensor_scale: np.float32) -> Combine:
    """The effective scale is weight_scale × weight_scale_2, in binary32."""

    def combine(values: Array, scales: Array) -> Array:
        return values.astype(f32) * (scales * f32(tensor_scale))

    return combine


# Takes a task's element codes: (layout, task, codes, values of its scales, what is known of all of them).
Sink = Callable[[Layout, Task, Array, Array, "Encoded"], None]


# ---- the whole array -------------------------------------------------------------------------------------------


@dataclass
class Encoded:
    """Canonical results: one entry a block, and the tensor level."""

    layout: Layout
    scales: Array
    values: Array  # float32 values of the scales
    zero_points: Array | None
    micro: tuple[Array, ...]
    tensor_scale: np.float32 | None
    tensor_amax: np.float32 | None
    nested: Any = None


def encode_blocks(
    plan: BlockPlan,
    x: Operand3,
    layout: Layout,
    sink: Sink,
    threads: int | None,
    target: Array | None = None,
    in_carrier: bool = False,
) -> Encoded:
    """Encode an array: amaxes, scales and elements, task by task.

    Where a scale depends on more than its block (a tensor scale, scales that are quantized together,
    blocks too long for a task), all amaxes come first.

    Args:
        sink: takes each task's element codes, where NumPy makes them.
        target: canonical array that compiled loops may fill instead: codes or, `in_carrier`, float32 values.
    """
    fmt, rule = plan.format, plan.format.scale_rule
    blocks = (layout.outer, layout.block_rows, layout.block_columns)
    out = Encoded(layout, np.zeros(blocks, scale_dtype(fmt)), np.zeros(blocks, f32), None, (), None, None)
    if rule.zero_point:
        out.zero_points = np.zeros(blocks, np.int32 if rule.zero_point == "integer" else np.float16)
    out.micro = tuple(np.zeros((*blocks, -(-layout.a * layout.g // part)), np.uint8) for part, _ in fmt.micro)
    cut = layout if rule.direct else layout.refined()
    run = _Run(plan, x, layout, cut, thread_count(threads, x.patterns.size))
    with np.errstate(all="ignore"):
        if rule.direct:
            if fmt.has_tensor_scale:
                out.tensor_amax = run.tensor_of(run.every_amax())
            run.elements_directly(sink, out)
        elif cut is not layout or fmt.has_tensor_scale or isinstance(fmt.scale, BlockFormat):
            run.scales_first(sink, out, target, in_carrier)
        else:
            run.task_by_task(sink, out, target, in_carrier)
    return out


@dataclass(frozen=True)
class _Run:
    """One encoding: the plan, the operand, and how it is cut."""

    plan: BlockPlan
    x: Operand3
    layout: Layout
    fine: Layout  # blocks that are too long for a task in pieces
    threads: int

    @property
    def fmt(self) -> BlockFormat:
        return self.plan.format

    def blocks(self, layout: Layout) -> tuple[int, int, int]:
        return layout.outer, layout.block_rows, layout.block_columns

    # amax

    def amax_function(self) -> Callable[[Task, Array], None]:
        """A function that fills a task's part of an amax array."""
        limit = limit_of(self.plan, self.x.carrier)
        if self.fmt.scale_rule.name == "p3109":
            nan = self.x.carrier.magnitude_mask
            return self._filling(
                lambda task: finite_amax_of(part_of(self.x.patterns, self.fine, task, nan), self.x.carrier)
            )
        fast = block_compiled.amax_function(self.fine, self.x.patterns, limit)
        if fast is not None:
            return fast
        return self._filling(lambda task: amax_of(part_of(self.x.patterns, self.fine, task), self.x.carrier, limit))

    def _filling(self, function: Callable[[Task], Array]) -> Callable[[Task, Array], None]:
        def fill(task: Task, amax: Array) -> None:
            scales_part(amax, task)[...] = function(task)

        return fill

    def every_amax(self) -> Array:
        """The amax of all blocks."""
        amax = np.zeros(self.blocks(self.fine), self.x.patterns.dtype)
        fill = self.amax_function()
        for_each(lambda task: fill(task, amax), self.fine.tasks(block_compiled.CHUNK), self.threads)
        return self.layout.coarse(amax)

    def tensor_of(self, amax: Array) -> np.float32:
        """The amax of the array, as float32."""
        return np.float32(as_float32(amax.max(initial=0).reshape(1), self.x.carrier)[0])

    # scales, then elements

    def scales_first(self, sink: Sink, out: Encoded, target: Array | None, in_carrier: bool) -> None:
        """All scales, then all elements."""
        amax = self.every_amax()
        if self.fmt.has_tensor_scale:
            out.tensor_amax = self.tensor_of(amax)
            out.tensor_scale = tensor_scale_of(self.plan, out.tensor_amax)
            if target is not None and self.fine is self.layout and self._nvfp4(amax, out, target, in_carrier):
                return
        params = scales_of(self.plan, amax, self.x.carrier, out.tensor_amax)
        if isinstance(self.fmt.scale, BlockFormat):
            params, out.nested = _nested(self.fmt.scale, params)
        out.scales, out.values = params.codes, params.values
        params = params.spread_over(self.fine, self.layout)
        fast = self.fast_elements(params.kind, out, target, in_carrier)
        if fast is not None:
            arrays = [np.ascontiguousarray(a) for a in params.operands()]
            for_each(lambda task: fast(task, *arrays), self.fine.tasks(block_compiled.CHUNK), self.threads)
            if in_carrier and target is not None:
                with_quiet_nans(target, out.values, out.tensor_scale)
            return
        for_each(
            lambda task: self.elements(task, params.part(task), sink, out), self.fine.tasks(CHUNK), self.threads
        )

    def _nvfp4(self, amax: Array, out: Encoded, target: Array, in_carrier: bool) -> bool:
        """NVFP4 in loops from its amaxes on; False where NumPy is to do it."""
        scales = block_compiled.tensor_scales_function(self.fmt, self.fine, amax, out.tensor_amax)
        fast = None if scales is None else self.fast_elements("factor32", out, target, in_carrier)
        if scales is None or fast is None:
            return False
        factors = np.empty(amax.shape, f32)

        def work(task: Task) -> None:
            scales(task, out.scales, out.values, factors)
            fast(task, factors, out.values)

        for_each(work, self.fine.tasks(block_compiled.CHUNK), self.threads)
        if in_carrier:
            with_quiet_nans(target, out.values, out.tensor_scale)
        return True

    def task_by_task(self, sink: Sink, out: Encoded, target: Array | None, in_carrier: bool) -> None:
        """Each task's amaxes, scales and elements while it is in the cache."""
        whole = None
        if target is not None and self.fmt.scale_rule.name != "p3109":
            whole = block_compiled.whole_function(self.fmt, self.plan.rules, self.work(target, in_carrier), out.scales)
        if whole is not None:
            for_each(whole, self.fine.tasks(block_compiled.CHUNK), self.threads)
            return
        fill = self.amax_function()
        amax = np.zeros(self.blocks(self.fine), self.x.patterns.dtype)
        kind = scales_of(self.plan, amax[:0], self.x.carrier, None).kind
        fast = self.fast_elements(kind, out, target, in_carrier)
        steps = None if fast is None else block_compiled.steps_function(self.fmt, self.fine, self.x.patterns.size)
        operand = np.empty(amax.shape, np.int32 if kind == "offset" else f32)

        def work(task: Task) -> None:
            fill(task, amax)
            if steps is not None:
                steps(task, amax, out.scales, operand)
            else:
                params = scales_of(self.plan, scales_part(amax, task), self.x.carrier, None)
                scales_part(out.scales, task)[...] = params.codes
                scales_part(out.values, task)[...] = params.values
                if fast is None:
                    self.elements(task, params, sink, out)
                    return
                scales_part(operand, task)[...] = params.operands()[0]
            assert fast is not None
            fast(task, operand, out.values)

        for_each(work, self.fine.tasks(CHUNK if fast is None else block_compiled.CHUNK), self.threads)
        if in_carrier and target is not None and fast is not None and steps is None:
            with_quiet_nans(target, out.values, None)

    def fast_elements(self, kind: str, out: Encoded, target: Array | None, in_carrier: bool) -> Any:
        """The compiled loops for the elements, or None."""
        if target is None or isinstance(self.fmt.scale, BlockFormat):
            return None
        work = self.work(target, in_carrier)
        return block_compiled.elements_function(self.fmt, self.plan.rules, work, out.tensor_scale, kind)

    def work(self, target: Array, in_carrier: bool) -> block_compiled.Work:
        """What the compiled loops read and write."""
        nan = nan_scale(self.fmt.scale_value_format)
        steps = None if self.plan.amax_limit != "none" else steps_of(self.fmt, BINARY32)
        largest = None
        if steps is not None and steps.infinite != nan and steps.exponents is not None:
            largest = int(steps.exponents.max())
        return block_compiled.Work(
            self.fine, self.x.patterns, target, in_carrier, self.x.numbers,
            numbers_only=steps is not None and steps.nan == nan, largest_holds_infinity=largest,
            limit=limit_of(self.plan, BINARY32),
        )  # fmt: skip

    def elements(self, task: Task, params: Params, sink: Sink, out: Encoded) -> None:
        """A task's elements, in NumPy."""
        part = part_of(self.x.patterns, self.fine, task)
        numbers = None if self.x.numbers is None else part_of(self.x.numbers, self.fine, task)
        codes = element_codes(self.plan, part, self.x.carrier, params, numbers)
        sink(self.fine, task, codes, params.values, out)

    def elements_directly(self, sink: Sink, out: Encoded) -> None:
        """Rules that make scales and elements in one."""

        def work(task: Task) -> None:
            part = part_of(self.x.patterns, self.layout, task)
            codes = _direct(self.plan, part, self.x.carrier, out, task)
            sink(self.layout, task, codes, scales_part(out.values, task), out)

        for_each(work, self.layout.tasks(CHUNK), self.threads)


def tensor_scale_of(plan: BlockPlan, tensor: Any) -> np.float32 | None:
    """The tensor scale that a rule derives from the tensor's amax."""
    assert plan.format.scale_rule.binary32 is not None
    return plan.format.scale_rule.binary32(plan.format, np.zeros(0, f32), tensor).tensor_scale


def with_quiet_nans(values: Array, scales: Array, tensor_scale: np.float32 | None) -> None:
    """Clear the sign that the NaN of 0 × infinity has on some processors, where a scale is infinite."""
    if not np.isfinite(scales).all() or (tensor_scale is not None and not np.isfinite(tensor_scale)):
        values[np.isnan(values)] = np.nan


def for_each(work: Callable[[Task], None], tasks: list[Task], threads: int) -> None:
    """Run tasks on threads. What NumPy would warn of is what formats are about: overflow, NaN, division by zero."""

    def some(start: int, stop: int) -> None:
        with np.errstate(all="ignore"):
            for task in tasks[start:stop]:
                work(task)

    over_chunks(some, len(tasks), 1, threads)


def _nested(scale: BlockFormat, params: Params) -> tuple[Params, Any]:
    """Scales, as real numbers, quantized as blocks in turn."""
    from .block_arrays import decode_array, encode_array

    nested = encode_array(params.values, scale, axis=-1 if scale.flat else None)
    values = decode_array(nested)
    if params.divisor is not None:
        return Params(values, values, divisor=values), nested
    return replace(params, codes=values, values=values), nested


def _direct(plan: BlockPlan, part: Array, carrier: Carrier, out: Encoded, task: Task) -> Array:
    """The codes of a task under a rule that makes scales and elements in one; the rest goes to `out`."""
    fmt = plan.format
    o, nr, a, nc, g = part.shape
    values = part.view(f32) if carrier is BINARY32 else as_float32_values(part)
    rows = values.transpose(0, 1, 3, 2, 4).reshape(-1, a * g)
    if fmt.scale_rule.zero_point == "minimum":  # the padding of short blocks takes no part in a minimum
        layout = out.layout
        nowhere = np.broadcast_to(np.False_, (layout.outer, layout.rows, layout.columns))
        padding = part_of(nowhere, layout, task, True)
        rows = np.where(padding.transpose(0, 1, 3, 2, 4).reshape(rows.shape), rows[:, :1], rows)
    assert fmt.scale_rule.direct is not None
    made: Coded = fmt.scale_rule.direct(fmt, rows, plan.rules, out.tensor_amax)
    blocks = (o, nr, nc)
    scales_part(out.scales, task)[...] = made.scales.reshape(blocks)
    scales_part(out.values, task)[...] = from_scale(fmt, made.scales).reshape(blocks)
    if made.zero_points is not None and out.zero_points is not None:
        scales_part(out.zero_points, task)[...] = made.zero_points.reshape(blocks)
    for target, level in zip(out.micro, made.micro, strict=True):
        scales_part(target, task)[...] = level.reshape(*blocks, -1)
    if made.tensor_scale is not None:
        out.tensor_scale = made.tensor_scale
    return made.codes.reshape(o, nr, nc, a, g).transpose(0, 1, 3, 2, 4)
