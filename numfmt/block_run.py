"""One encoding of an array in a block format: which stages run when, on which engine and threads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from . import block_compiled
from ._core.parameters import BINARY32, Carrier
from .block_engine import (
    CHUNK,
    BlockPlan,
    Operand3,
    amax_of,
    as_float32,
    as_float32_values,
    element_codes,
    finite_amax_of,
    limit_of,
    part_of,
    scales_of,
)
from .block_layout import Layout, Task
from .blocks import BlockFormat
from .scale_rules import Coded, Params, from_scale, nan_scale, scale_dtype, scales_part, steps_of
from .scheduler import over_chunks, thread_count

Array = npt.NDArray[Any]
f32 = np.float32

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
    out = _blank(fmt, layout)
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


def encode_packed(plan: BlockPlan, x: Operand3, layout: Layout, threads: int | None, packed: Array) -> Encoded | None:
    """The same, with codes of four bits packed as they are made; None, and nothing done, where no loop does that.

    Args:
        packed: canonical array (outer, rows, columns / 2) of bytes to fill, the low half of a byte first.
    """
    fmt = plan.format
    if fmt.scale_rule.direct or isinstance(fmt.scale, BlockFormat) or layout.refined() is not layout:
        return None
    out, run = _blank(fmt, layout), _Run(plan, x, layout, layout, thread_count(threads, x.patterns.size))
    with np.errstate(all="ignore"):
        if not fmt.has_tensor_scale:
            return out if run.at_once(out, packed, False, packed=True) else None
        amax = run.find_tensor_scale(out)
        return out if run._nvfp4(amax, out, packed, False, packed=True) else None


def _blank(fmt: BlockFormat, layout: Layout) -> Encoded:
    """Results to be filled in."""
    blocks, rule = (layout.outer, layout.block_rows, layout.block_columns), fmt.scale_rule
    out = Encoded(layout, np.zeros(blocks, scale_dtype(fmt)), np.zeros(blocks, f32), None, (), None, None)
    if rule.zero_point:
        out.zero_points = np.zeros(blocks, np.int32 if rule.zero_point == "integer" else np.float16)
    out.micro = tuple(np.zeros((*blocks, -(-layout.a * layout.g // part)), np.uint8) for part, _ in fmt.micro)
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

    def find_tensor_scale(self, out: Encoded) -> Array:
        """The amax of all blocks, from which `out` gets those of the tensor and its scale."""
        amax = self.every_amax()
        out.tensor_amax = self.tensor_of(amax)
        out.tensor_scale = tensor_scale_of(self.plan, out.tensor_amax)
        return amax

    # scales, then elements

    def scales_first(self, sink: Sink, out: Encoded, target: Array | None, in_carrier: bool) -> None:
        """All scales, then all elements."""
        amax = self.find_tensor_scale(out) if self.fmt.has_tensor_scale else self.every_amax()
        if self.fmt.has_tensor_scale and target is not None and self.fine is self.layout:
            if self._nvfp4(amax, out, target, in_carrier):
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

    def _nvfp4(self, amax: Array, out: Encoded, target: Array, in_carrier: bool, packed: bool = False) -> bool:
        """NVFP4 in loops from its amaxes on; False, and nothing done, where NumPy is to do it."""
        elements = self.work(target, in_carrier, packed)
        work = block_compiled.tensor_scaled_function(
            self.fmt, self.plan.rules, elements, amax, out.tensor_amax, out.tensor_scale, out.scales
        )
        if work is None and not packed:
            work = self._nvfp4_in_stages(amax, out, target, in_carrier)
        if work is None:
            return False
        for_each(work, self.fine.tasks(block_compiled.CHUNK), self.threads)
        assert out.tensor_scale is not None
        if in_carrier and not np.isfinite(out.tensor_scale):
            with_quiet_nans(target, out.values, out.tensor_scale)
        return True

    def _nvfp4_in_stages(self, amax: Array, out: Encoded, target: Array, in_carrier: bool) -> Any:
        """A function of a task that finds scales, then writes elements; None where NumPy is to do it."""
        scales = block_compiled.tensor_scales_function(self.fmt, self.fine, amax, out.tensor_amax)
        fast = None if scales is None else self.fast_elements("factor32", out, target, in_carrier)
        if scales is None or fast is None:
            return None
        factors = np.empty(amax.shape, f32)

        def work(task: Task) -> None:
            scales(task, out.scales, out.values, factors)
            fast(task, factors, out.values)

        return work

    def at_once(self, out: Encoded, target: Array, in_carrier: bool, packed: bool = False) -> bool:
        """Scales and elements in one loop; False, and nothing done, where they are found one by one."""
        if self.fmt.scale_rule.name == "p3109":
            return False
        work = self.work(target, in_carrier, packed)
        whole = block_compiled.whole_function(self.fmt, self.plan.rules, work, out.scales)
        if whole is not None:
            for_each(whole, self.fine.tasks(block_compiled.CHUNK), self.threads)
        return whole is not None

    def task_by_task(self, sink: Sink, out: Encoded, target: Array | None, in_carrier: bool) -> None:
        """Each task's amaxes, scales and elements while it is in the cache."""
        if target is not None and self.at_once(out, target, in_carrier):
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

    def work(self, target: Array, in_carrier: bool, packed: bool = False) -> block_compiled.Work:
        """What the compiled loops read and write."""
        nan = nan_scale(self.fmt.scale_value_format)
        steps = None if self.plan.amax_limit != "none" else steps_of(self.fmt, BINARY32)
        largest = None
        if steps is not None and steps.infinite != nan and steps.exponents is not None:
            largest = int(steps.exponents.max())
        return block_compiled.Work(
            self.fine, self.x.patterns, target, in_carrier, self.x.numbers,
            numbers_only=steps is not None and steps.nan == nan, largest_holds_infinity=largest,
            limit=limit_of(self.plan, BINARY32), packed=packed,
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
    finite = np.isfinite(scales.max(initial=0)) and (tensor_scale is None or np.isfinite(tensor_scale))
    if not finite:  # max() hands NaN on
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
    from .block_functions import decode_array, encode_array

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
