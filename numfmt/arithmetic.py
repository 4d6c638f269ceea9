"""Arithmetic in a format: operations of IEEE 754 on codes, each rounded once, with exception flags.

    >>> from numfmt import arithmetic
    >>> hex(arithmetic.mul(0x3C, 0x3D, "e4m3fn"))                # 1.5 × 1.625 = 2.4375 → 2.5
    '0x42'
    >>> arithmetic.div(0x38, 0x00, "e5m2", return_flags=True)    # 0.5 / 0: infinity, and 8
    (np.uint8(124), np.uint8(8))

Operands and results are codes of any float format, of float formats that differ, and, for `add`, `sub`,
`mul` and `mac`, of fixed-point formats. Flags are 16 invalid, 8 division by zero, 4 overflow, 2 underflow, 1 inexact.

References: IEEE 754-2019 §5.3 to §5.7, §6, §7, §9.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from . import arithmetic_engine as engine
from .arithmetic_integers import from_integers, to_integers
from .arithmetic_orders import compared, neighbour, selected
from .arithmetic_plans import Operand
from .arrays import random_source
from .formats import FixedFormat, FloatFormat
from .named import scalar_format
from .plans import resolve
from .platforms import get_platform
from .random import Seed
from .rounding import Overflow, Platform, Rounding, unknown
from .sources import code_dtype

Array = npt.NDArray[Any]
Codes = npt.ArrayLike
Formats = str | Operand | Sequence[str | Operand]


@dataclass(frozen=True)
class Operation:
    """An operation: how many operands it takes, and what kind of thing it gives.

    Attributes:
        operands: how many codes it takes.
        kind: "rounded": codes of any format; "order": codes of its operands' format, never rounded;
            "comparison": bools; "to_integer" and "from_integer".
        fixed: whether fixed-point formats have it.
    """

    name: str
    operands: int
    kind: str = "rounded"
    fixed: bool = False


OPERATIONS = {
    op.name: op
    for op in (
        Operation("add", 2, fixed=True), Operation("sub", 2, fixed=True), Operation("mul", 2, fixed=True),
        Operation("mac", 3, fixed=True), Operation("fma", 3), Operation("div", 2), Operation("sqrt", 1),
        Operation("rem", 2), Operation("convert", 1), Operation("round_to_integral", 1), Operation("scale_b", 2),
        Operation("log_b", 1), Operation("minimum", 2, "order"), Operation("maximum", 2, "order"),
        Operation("minimum_number", 2, "order"), Operation("maximum_number", 2, "order"),
        Operation("next_up", 1, "order"), Operation("next_down", 1, "order"), Operation("equal", 2, "comparison"),
        Operation("less", 2, "comparison"), Operation("less_equal", 2, "comparison"),
        Operation("equal_signaling", 2, "comparison"), Operation("less_quiet", 2, "comparison"),
        Operation("less_equal_quiet", 2, "comparison"), Operation("to_integer", 1, "to_integer"),
        Operation("from_integer", 1, "from_integer"),
    )
}  # fmt: skip


def compute(
    operation: str,
    operands: Sequence[Codes],
    format: Formats,
    *,
    to: str | Operand | None = None,
    rounding: Rounding | str | None = None,
    overflow: Overflow | str | None = None,
    platform: Platform | str | None = None,
    seed: Seed | None = None,
    random_bits: npt.ArrayLike | None = None,
    random_bit_count: int | None = None,
    tininess: str = "after",
    exact: bool = False,
    integer: str | np.dtype[Any] = "int32",
    threads: int | None = None,
) -> tuple[Any, Any]:
    """Results of an operation, and the flags of each, for codes that broadcast.

    Args:
        operation: a name in `OPERATIONS`.
        operands: as many arrays of codes; bits above a format's width are ignored.
        format: of all operands, or of each.
        to: format of the result; that of the first operand unless given.
        rounding, overflow, platform: as for `numfmt.encode`; a platform also says which NaN results.
        seed, random_bits, random_bit_count: of the stochastic modes, as for `numfmt.encode`.
        tininess: "after" or "before" rounding, for the underflow flag.
        exact: to_integer and round_to_integral raise inexact.
        integer: dtype of to_integer's result.
        threads: at most so many.

    Returns:
        Results (codes in the smallest unsigned dtype, bools, or integers) and flags, uint8.

    Raises:
        ValueError: an unknown operation, a wrong number of operands, a rule that the format cannot express.
        TypeError: operands that are not integers.

    >>> compute("add", [0x38, 0x38], "e4m3fn")
    (np.uint8(64), np.uint8(0))
    """
    op = OPERATIONS.get(operation)
    if op is None:
        raise ValueError(unknown("operation", str(operation), list(OPERATIONS)))
    if len(operands) != op.operands:
        raise ValueError(f"{len(operands)} operands are given; {op.name} takes {op.operands}")
    if tininess not in ("after", "before"):
        raise ValueError(f"tininess {tininess!r} is given; it is 'after' or 'before' rounding")
    vendor = None if platform is None else get_platform(platform)
    if op.kind == "from_integer":
        target = _format(_one(format) if to is None else to, op)
        sources: tuple[Operand, ...] = ()
        numbers = [_integers(operands[0], "n")]
    else:
        sources = _formats(format, 1 if op.name == "scale_b" else op.operands, op)
        target = sources[0] if to is None else _format(to, op)
        numbers = [_integers(each, "a code") for each in operands]
    arrays = np.broadcast_arrays(*numbers)
    shape = arrays[0].shape
    flat = [a.reshape(-1) for a in arrays]
    if op.kind in ("order", "comparison") and {target, *sources} != {target}:
        raise ValueError(f"{op.name} of {', '.join(map(str, sources))} is given; operands and result have one format")
    if op.kind == "comparison":
        results, flags = compared(op.name, flat, _float(sources[0]))
    elif op.kind == "order":
        results, flags = _ordered(op, flat, sources[0], vendor)
    elif op.kind == "to_integer":
        rules = _rules(sources[0], rounding, None, vendor, None)
        results, flags = to_integers(flat[0], _float(sources[0]), np.dtype(integer), rules, vendor, exact)
    else:
        rules = _rules(target, rounding, overflow, vendor, random_bit_count)
        random = random_source(shape, rules, seed, random_bits)
        call = engine.Call(op.name, sources, target, rules, vendor, tininess == "after", exact)
        if op.kind == "from_integer":
            results, flags = from_integers(call, flat[0], random, threads)
        else:
            results, flags = engine.run(call, flat, random, threads)
    results, flags = results.reshape(shape), flags.reshape(shape)
    if shape == () and not any(isinstance(each, np.ndarray) for each in operands):
        return results[()], flags[()]
    return results, flags


@lru_cache(maxsize=4096)
def _rules(fmt: Operand, rounding: Any, overflow: Any, platform: Platform | None, random_bit_count: int | None) -> Any:
    if platform is not None and platform.arithmetic.rounding is not None:
        only = platform.arithmetic.rounding
        if rounding is not None and Rounding.parse(rounding) is not only:
            raise ValueError(f"rounding {str(rounding)!r} is given; platform {platform} has {only.value!r} alone")
        rounding = only
    return resolve(fmt, rounding, overflow, platform, random_bit_count)


def _one(format: Formats) -> str | Operand:
    return format if isinstance(format, str | FloatFormat | FixedFormat) else format[0]


def _formats(format: Formats, count: int, op: Operation) -> tuple[Operand, ...]:
    every = [format] * count if isinstance(format, str | FloatFormat | FixedFormat) else list(format)
    if len(every) != count:
        raise ValueError(f"{len(every)} formats are given; {op.name} takes {count}, or one for all")
    return tuple(_format(each, op) for each in every)


def _format(given: str | Operand, op: Operation) -> Operand:
    fmt = scalar_format(given)
    if isinstance(fmt, FixedFormat) and op.fixed:
        return fmt
    if not isinstance(fmt, FloatFormat) or op.name == "mac":
        takes = "float formats" + " and fixed point" * op.fixed
        takes = "fixed-point formats, fma takes floats" if op.name == "mac" else takes
        raise ValueError(f"{fmt} is given; {op.name} takes {takes}")
    if fmt.integer_bit:
        raise ValueError(f"{fmt} is given; arithmetic takes formats without an explicit integer bit, such as binary128")
    return fmt


def _float(fmt: Operand) -> FloatFormat:
    assert isinstance(fmt, FloatFormat)
    return fmt


def _integers(given: Codes, what: str) -> Array:
    array = np.asarray(given)
    if array.dtype.kind not in "iuO":
        raise TypeError(f"{what} has dtype {array.dtype}; it must be an integer")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _ordered(op: Operation, flat: list[Array], fmt: Operand, platform: Platform | None) -> tuple[Array, Array]:
    results, flags = (neighbour if op.operands == 1 else selected)(op.name, flat, _float(fmt))
    results = results.astype(code_dtype(fmt))
    if platform is not None and fmt.has_nan:
        call = engine.Call(
            op.name, (fmt,) * op.operands, fmt, _rules(fmt, None, None, platform, None), platform, True, False
        )
        results = np.where(results == _float(fmt).nan_code, np.array(call.nan, results.dtype), results)
        engine.propagate(call, flat, results, flags)
    return results, flags


# ---- operations --------------------------------------------------------------------------------------------------


def _result(found: tuple[Any, Any], return_flags: bool) -> Any:
    return found if return_flags else found[0]


def add(a: Codes, b: Codes, format: Formats, *, return_flags: bool = False, **options: Any) -> Any:
    """Codes of a + b; `options` are those of `compute`, here and below.

    >>> add(0x38, 0x39, "e4m3fn", rounding="toward_zero")
    np.uint8(64)
    """
    return _result(compute("add", (a, b), format, **options), return_flags)


def sub(a: Codes, b: Codes, format: Formats, *, return_flags: bool = False, **options: Any) -> Any:
    """Codes of a - b.

    >>> sub(0x38, 0x38, "e4m3fn", rounding="toward_negative")    # -0
    np.uint8(128)
    """
    return _result(compute("sub", (a, b), format, **options), return_flags)


def mul(a: Codes, b: Codes, format: Formats, *, return_flags: bool = False, **options: Any) -> Any:
    """Codes of a × b.

    >>> hex(mul(0x7E, 0x7E, "e4m3fn", to="float32"))             # 448², exactly
    '0x48440000'
    """
    return _result(compute("mul", (a, b), format, **options), return_flags)


def div(a: Codes, b: Codes, format: Formats, *, return_flags: bool = False, **options: Any) -> Any:
    """Codes of a ÷ b; x / 0 is infinite and raises division by zero.

    >>> div(0x3C00, 0x4200, "float16")                           # 1 / 3
    np.uint16(13653)
    """
    return _result(compute("div", (a, b), format, **options), return_flags)


def rem(a: Codes, b: Codes, format: Formats, *, return_flags: bool = False, **options: Any) -> Any:
    """Codes of a - b · n, n being the integer nearest to a / b, the even one of two: exact.

    >>> rem(0x4500, 0x4200, "float16")                           # 5 - 3 · 2 = -1
    np.uint16(48128)
    """
    return _result(compute("rem", (a, b), format, **options), return_flags)


def sqrt(a: Codes, format: Formats, *, return_flags: bool = False, **options: Any) -> Any:
    """Codes of √a; √-0 is -0.

    >>> sqrt(0x4000, "float16")
    np.uint16(15784)
    """
    return _result(compute("sqrt", (a,), format, **options), return_flags)


def fma(a: Codes, b: Codes, c: Codes, format: Formats, *, return_flags: bool = False, **options: Any) -> Any:
    """Codes of a × b + c, rounded once.

    >>> hex(fma(0x7E, 0x7E, 0x01, ["e4m3fn", "e4m3fn", "e4m3fn"], to="float32"))
    '0x48440000'
    """
    return _result(compute("fma", (a, b, c), format, **options), return_flags)


def mac(a: Codes, b: Codes, c: Codes, format: Formats, *, return_flags: bool = False, **options: Any) -> Any:
    """Codes of a × b + c in fixed point, rounded once.

    >>> mac(0x10, 0x18, 0x01, "q3.4")                            # 1 × 1.5 + 1/16
    np.uint8(25)
    """
    return _result(compute("mac", (a, b, c), format, **options), return_flags)


def convert(a: Codes, source: str | Operand, to: str | Operand, *, return_flags: bool = False, **options: Any) -> Any:
    """Codes of `to` for codes of `source`: `numfmt.convert`, with a platform's NaNs and subnormals.

    >>> hex(convert(0x7FA00000, "float32", "bfloat16", platform="x86.vcvtneps2bf16"))
    '0x7fe0'
    """
    return _result(compute("convert", (a,), source, to=to, **options), return_flags)


def minimum(a: Codes, b: Codes, format: Formats, *, return_flags: bool = False, **options: Any) -> Any:
    """The smaller code, -0 below +0; NaN where either is NaN (IEEE 754-2019 §9.6).

    >>> minimum(0x80, 0x00, "e4m3fn")
    np.uint8(128)
    """
    return _result(compute("minimum", (a, b), format, **options), return_flags)


def maximum(a: Codes, b: Codes, format: Formats, *, return_flags: bool = False, **options: Any) -> Any:
    """The larger code, +0 above -0; NaN where either is NaN.

    >>> maximum(0x7F, 0x38, "e4m3fn")
    np.uint8(127)
    """
    return _result(compute("maximum", (a, b), format, **options), return_flags)


def minimum_number(a: Codes, b: Codes, format: Formats, *, return_flags: bool = False, **options: Any) -> Any:
    """The smaller code, or that of the only number.

    >>> minimum_number(0x7F, 0x38, "e4m3fn")
    np.uint8(56)
    """
    return _result(compute("minimum_number", (a, b), format, **options), return_flags)


def maximum_number(a: Codes, b: Codes, format: Formats, *, return_flags: bool = False, **options: Any) -> Any:
    """The larger code, or that of the only number.

    >>> maximum_number(0xB8, 0x38, "e4m3fn")
    np.uint8(56)
    """
    return _result(compute("maximum_number", (a, b), format, **options), return_flags)


def equal(a: Codes, b: Codes, format: Formats, *, signaling: bool = False, return_flags: bool = False) -> Any:
    """Whether a = b; `signaling` raises invalid for quiet NaNs too.

    >>> equal(0x00, 0x80, "e4m3fn")
    np.True_
    """
    return _result(compute("equal_signaling" if signaling else "equal", (a, b), format), return_flags)


def less(a: Codes, b: Codes, format: Formats, *, signaling: bool = True, return_flags: bool = False) -> Any:
    """Whether a < b; unless `signaling` is False, any NaN raises invalid.

    >>> less(0xB8, 0x00, "e4m3fn")
    np.True_
    """
    return _result(compute("less" if signaling else "less_quiet", (a, b), format), return_flags)


def less_equal(a: Codes, b: Codes, format: Formats, *, signaling: bool = True, return_flags: bool = False) -> Any:
    """Whether a ≤ b, likewise.

    >>> less_equal(0x00, 0x80, "e4m3fn")
    np.True_
    """
    return _result(compute("less_equal" if signaling else "less_equal_quiet", (a, b), format), return_flags)


def to_integer(a: Codes, format: Formats, integer: Any = "int32", *, return_flags: bool = False, **options: Any) -> Any:
    """Integers of an integer dtype; what lies out of its range, and NaN, raises invalid and becomes what platforms say.

    >>> to_integer(0x44, "e4m3fn"), to_integer(0x7F, "e4m3fn", "int8", return_flags=True)
    (np.int32(3), (np.int8(127), np.uint8(16)))
    """
    return _result(compute("to_integer", (a,), format, integer=integer, **options), return_flags)


def from_integer(n: Codes, format: Formats, *, return_flags: bool = False, **options: Any) -> Any:
    """Codes of integers, rounded once.

    >>> from_integer(17, "e4m3fn", return_flags=True)
    (np.uint8(88), np.uint8(1))
    """
    return _result(compute("from_integer", (n,), format, **options), return_flags)


def round_to_integral(a: Codes, format: Formats, *, return_flags: bool = False, **options: Any) -> Any:
    """Codes of the integers next to a; `exact=True` raises inexact where that changes it.

    >>> round_to_integral(0x44, "e4m3fn", rounding="ties_to_even", exact=True, return_flags=True)    # 3
    (np.uint8(68), np.uint8(0))
    """
    return _result(compute("round_to_integral", (a,), format, **options), return_flags)


def next_up(a: Codes, format: Formats, *, return_flags: bool = False, **options: Any) -> Any:
    """Codes of the least value above a (IEEE 754-2019 §5.3.1); the largest one of a format without infinity stays.

    >>> next_up(0x80, "e4m3fn"), next_up(0x7E, "e4m3fn")
    (np.uint8(1), np.uint8(126))
    """
    return _result(compute("next_up", (a,), format, **options), return_flags)


def next_down(a: Codes, format: Formats, *, return_flags: bool = False, **options: Any) -> Any:
    """Codes of the greatest value below a.

    >>> next_down(0x01, "e4m3fn"), next_down(0x00, "e4m3fn")
    (np.uint8(0), np.uint8(129))
    """
    return _result(compute("next_down", (a,), format, **options), return_flags)


def scale_b(a: Codes, n: Codes, format: Formats, *, return_flags: bool = False, **options: Any) -> Any:
    """Codes of a × 2**n for integers n, rounded once.

    >>> scale_b(0x38, -9, "e4m3fn")
    np.uint8(1)
    """
    return _result(compute("scale_b", (a, n), format, **options), return_flags)


def log_b(a: Codes, format: Formats, *, return_flags: bool = False, **options: Any) -> Any:
    """Codes of the exponent of a, a number of the format; that of 0 is -infinity and raises division by zero.

    >>> log_b(0x44, "e4m3fn"), log_b(0, "e5m2", return_flags=True)
    (np.uint8(56), (np.uint8(252), np.uint8(8)))
    """
    return _result(compute("log_b", (a,), format, **options), return_flags)
