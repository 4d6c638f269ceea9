"""Numba loops over operations; imported by compiled.py when a large array asks for them."""

from __future__ import annotations

from types import FunctionType
from typing import Any

from numba import njit

from . import lanes, loops
from ._core import arithmetic
from ._core.arithmetic import Layout, Outcome, Raised
from ._core.parameters import Results, Round, Target
from .arithmetic_plans import FRAMES

lane = lanes.lane64


def _compiled() -> dict[str, Any]:
    """The functions of `_core.arithmetic` as Numba functions, over those of `loops`."""
    shared, bound = dict(vars(arithmetic)), {}
    for name, function in list(vars(arithmetic).items()):
        if isinstance(function, FunctionType) and function.__module__.startswith("numfmt.") and "fixed" not in name:
            key = f"{function.__module__.rsplit('.', 1)[1]}.{name}"
            own = function.__module__ == arithmetic.__name__
            bound[name] = shared[name] = loops.kernel(function, shared) if own else loops.KERNELS.get(key)
    return bound


CORE = _compiled()
read, deliver = CORE["read"], CORE["deliver"]
ONE = {
    "add": "add", "sub": "add", "mul": "multiply", "div": "divide", "sqrt": "square_root", "rem": "remainder",
    "fma": "fma", "convert": "itself", "scale_b": "itself", "log_b": "logarithm", "round_to_integral": "integral",
}  # fmt: skip


def make(operation: str, count: int, frame_name: str, general: bool) -> Any:
    """The loop of an operation: codes and layouts in, results and flags out."""
    return loops.jit(_loop(operation, count, frame_name, general), "arithmetic", operation, count, frame_name, general)


@njit(forceinline=True)  # type: ignore[untyped-decorator]
def _layout(p: Any) -> Any:
    return Layout(
        lane(p[0]), lane(p[1]), lane(p[2]), lane(p[3]), lane(p[4]), lane(p[5]), lane(p[6]), lane(p[7]), lane(p[8]),
        lane(p[9]), lane(p[10]), lane(p[11]), lane(p[12]),
    )  # fmt: skip


@njit(forceinline=True)  # type: ignore[untyped-decorator]
def _rules(p: Any) -> Any:
    mode = Round(lane(p[0]), lane(p[1]), lane(p[2]), lane(p[3]), lane(p[4]), lane(p[5]))
    results = Results(
        lane(p[6]), lane(p[7]), lane(p[8]), lane(p[9]), lane(p[10]), lane(p[11]), lane(p[12]), lane(p[13])
    )
    target = Target(
        lane(p[14]), lane(p[15]), lane(p[16]), lane(p[17]), lane(p[18]), lane(p[19]), lane(p[20]), lane(p[21]),
        lane(p[22]), lane(p[23]), lane(p[24]),
    )  # fmt: skip
    raised = Raised(
        lane(p[25]), lane(p[26]), lane(p[27]), lane(p[28]), lane(p[29]), lane(p[30]), lane(p[31]), lane(p[32])
    )
    return mode, results, target, raised


def _loop(operation: str, count: int, frame_name: str, general: bool) -> Any:
    kernel, frame, plain = CORE[ONE[operation]], FRAMES[frame_name], lanes.plain
    negated, is_sub = CORE["negated"], operation == "sub"
    ends_here = operation == "log_b"

    @njit(forceinline=True)
    def finish(out, target, results, mode, raised):  # type: ignore[no-untyped-def]
        return deliver(out, None, frame, target, None, results, mode, raised, general, lanes)

    def unary(a, of_a, p, out, flags):  # type: ignore[no-untyped-def]
        mode, results, target, raised = _rules(p)
        layout = _layout(of_a)
        for i in range(out.size):
            x = read(lane(a[i]), layout, frame, lanes)
            found = kernel(x, frame, lanes) if ends_here else kernel(x, frame, mode, lanes)
            code, more = finish(found, target, results, mode, raised)
            out[i], flags[i] = plain(code), plain(more)

    def scaled(a, n, of_a, p, out, flags):  # type: ignore[no-untyped-def]
        mode, results, target, raised = _rules(p)
        layout = _layout(of_a)
        for i in range(out.size):
            x = read(lane(a[i]), layout, frame, lanes)
            found = kernel(x, frame, mode, lanes)
            found = Outcome(
                found.negative, found.exponent + lane(n[i]), found.m, found.infinite, found.nan, found.flags
            )
            code, more = finish(found, target, results, mode, raised)
            out[i], flags[i] = plain(code), plain(more)

    def integral(a, of_a, p, out, flags):  # type: ignore[no-untyped-def]
        mode, results, target, raised = _rules(p)
        layout = _layout(of_a)
        for i in range(out.size):
            found, _ = kernel(read(lane(a[i]), layout, frame, lanes), frame, mode, lanes)
            code, more = finish(found, target, results, mode, raised)
            out[i], flags[i] = plain(code), plain(more)

    def binary(a, b, of_a, of_b, p, out, flags):  # type: ignore[no-untyped-def]
        mode, results, target, raised = _rules(p)
        layout, other = _layout(of_a), _layout(of_b)
        for i in range(out.size):
            x, y = read(lane(a[i]), layout, frame, lanes), read(lane(b[i]), other, frame, lanes)
            found = kernel(x, negated(y) if is_sub else y, frame, mode, lanes)
            code, more = finish(found, target, results, mode, raised)
            out[i], flags[i] = plain(code), plain(more)

    def ternary(a, b, c, of_a, of_b, of_c, p, out, flags):  # type: ignore[no-untyped-def]
        mode, results, target, raised = _rules(p)
        layout, other, third = _layout(of_a), _layout(of_b), _layout(of_c)
        for i in range(out.size):
            x, y = read(lane(a[i]), layout, frame, lanes), read(lane(b[i]), other, frame, lanes)
            found = kernel(x, y, read(lane(c[i]), third, frame, lanes), frame, mode, lanes)
            code, more = finish(found, target, results, mode, raised)
            out[i], flags[i] = plain(code), plain(more)

    special = {"scale_b": scaled, "round_to_integral": integral}
    return special.get(operation, (unary, binary, ternary)[count - 1])
