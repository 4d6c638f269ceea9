"""Which coverage classes rows reach: of any vector file, also of one that somebody else made.

A class says where the exact intermediate result of a row lies (a tie with an even digit below, just above a tie, the
overflow threshold, massive cancellation) or which special operands meet. Classes are found from operands alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats import CodebookFormat, FixedFormat, FloatFormat, Specials, Subnormals
from . import coverage_arithmetic, coverage_codebooks, coverage_long, coverage_orders, coverage_scalar, coverage_units
from .coverage_scalar import Masks
from .intermediate import Array, Column, decode, integers, is_wide, negated, same

if TYPE_CHECKING:
    from .functions import Function, Rules

ENUMERABLE = 16  # bits of operands whose every combination is classified
MULTIPLYING = ("mul", "div", "sqrt", "fma", "mac", "rem")
ORDERS = ("minimum", "maximum", "equal", "less")


def count(function: Function, operands: Sequence[Array], rules: Rules | None = None) -> dict[str, int]:
    """Rows of a chunk in each class of the function; a row may be in several.

    Args:
        operands: one array of codes a column, as for `evaluate`.
        rules: no class depends on them today.

    >>> from numfmt.vectors.functions import parse
    >>> import numpy as np
    >>> found = count(parse("e4m3fn_mul"), [np.array([0x3C, 0x38]), np.array([0x39, 0x38])])
    >>> found["exact"], found["tie, odd below"]
    (1, 1)
    """
    found = masks(function, operands)
    return {name: int(np.count_nonzero(found[name])) for name in classes(function)}


def masks(function: Function, operands: Sequence[Array]) -> Masks:
    """For each class, which rows are in it; also for classes that the function cannot reach."""
    if function.operation == "encode_block":
        return coverage_long.encoding(function, operands[0])
    if function.operation == "dot":
        return coverage_long.dot(function, operands)
    if function.operation == "unit_dot":
        return coverage_units.dot(function, operands)
    columns, codes = _decoded(function, operands)
    found = _operation(function, columns, codes)
    return coverage_scalar.operands(columns, function.sources, codes) | found


def _decoded(function: Function, operands: Sequence[Array]) -> tuple[list[Column], list[Array]]:
    formats = [*function.sources, *([function.to] if function.to is not None else [])]
    wide = is_wide(function.operation in MULTIPLYING, *formats) or function.integer in ("int64", "uint64")
    codes = [integers(np.asarray(column).reshape(-1), wide) for column in operands]
    columns = [decode(code, fmt, wide) for code, fmt in zip(codes, function.sources, strict=True)]
    return columns, codes


def _operation(function: Function, columns: Sequence[Column], codes: Sequence[Array]) -> Masks:
    operation, source = function.operation, function.sources[0]
    to = source if function.to is None else function.to
    if operation.startswith(ORDERS):
        return coverage_orders.comparison(columns[0], columns[1], source)
    match operation:
        case "operands":
            return {}
        case "convert" | "from_integer" if isinstance(to, CodebookFormat):
            return coverage_codebooks.conversion(columns[0], to)
        case "convert" | "from_integer":
            return coverage_scalar.rounded(same(columns[0]), to, source)
        case "add":
            return coverage_arithmetic.addition(columns[0], columns[1], source, to)
        case "sub":
            return coverage_arithmetic.addition(columns[0], negated(columns[1]), source, to)
        case "mul":
            return coverage_arithmetic.multiplication(columns[0], columns[1], source, to)
        case "mac" if isinstance(source, FixedFormat):
            return coverage_arithmetic.accumulated(columns[0], columns[1], columns[2], source, to)
    if isinstance(source, FixedFormat | CodebookFormat):
        raise ValueError(f"{function} is given; {operation} is for floats")
    match operation:
        case "div":
            return coverage_arithmetic.division(columns[0], columns[1], source, to)
        case "fma":
            return coverage_arithmetic.fused(columns[0], columns[1], columns[2], source, to)
        case "sqrt":
            return coverage_arithmetic.square_root(columns[0], source, to)
        case "rem":
            return coverage_arithmetic.remaindering(columns[0], columns[1], source, to)
        case "to_integer":
            return coverage_orders.integral(columns[0], *_integer_ends(str(function.integer)))
        case "round_to_integral":
            return coverage_orders.integral(columns[0], None, None)
        case "next_up" | "next_down":
            return coverage_orders.stepping(columns[0], codes[0], source)
        case "scale_b":
            n = columns[1]
            return coverage_orders.scaling(columns[0], np.where(n.negative, -n.m, n.m), source, to)
        case "log_b":
            return coverage_orders.exponent(columns[0], source)
    raise ValueError(f"operation {operation!r} is given; it has no coverage classes")


def _integer_ends(integer: str) -> tuple[int, int]:
    bits = int(integer.removeprefix("u").removeprefix("int"))
    return (0, 2**bits - 1) if integer.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


# ---- which classes there are -----------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _classes(function: Function) -> tuple[str, ...]:
    if not function.is_long and sum(function.operand_widths) <= ENUMERABLE:
        found = masks(function, _every(function))
        return tuple(name for name, rows in found.items() if rows.any())
    nothing = [np.zeros((0, size) if function.is_long else 0, np.uint64) for size in function.operand_sizes]
    names = masks(function, nothing)
    without = unreachable(function)
    return tuple(name for name in names if name not in without)


def classes(function: Function) -> list[str]:
    """Names of the classes that the function can reach.

    Of functions with at most 16 bits of operands every combination is classified, so that the list is exact. Of others
    the classes in `unreachable` are left out.

    >>> from numfmt.vectors.functions import parse
    >>> "cancellation to zero" in classes(parse("e5m2_sub")), "tie, even below" in classes(parse("f32_sqrt"))
    (True, False)
    """
    return list(_classes(function))


def _every(function: Function) -> list[Any]:
    axes = np.meshgrid(*(np.arange(2**width, dtype=np.uint64) for width in function.operand_widths), indexing="ij")
    return [axis.reshape(-1) for axis in axes]


TIES = {"tie, even below", "tie, odd below"}
INEXACT = {
    *TIES, "just above a tie, even below", "just above a tie, odd below", "just below a tie, even below",
    "just below a tie, odd below", "just above a value", "just below a value", "sticky only",
    "carry to the next binade", "rounded, positive", "rounded, negative",
}  # fmt: skip
OVERFLOWS = {
    "beyond the largest value, below the threshold", "just below the overflow threshold", "overflow threshold",
    "just above the overflow threshold", "overflow", "far overflow",
}  # fmt: skip
UNSIGNED = {
    "negative operand", "signs + -", "signs - +", "signs - -", "cancellation to zero", "massive cancellation",
    "product overflows, the sum does not", "rounded, negative", "M, -M and a small term", "lower end",
    "lower end and a fraction", "just outside the lower end", "beyond the lower end",
}  # fmt: skip
TINY = {
    "rounds up to the smallest normal", "a quarter below the smallest normal, where tininess is decided",
    "underflow: inexact subnormal", "underflow: tie", "just below half the least value", "half the least value",
    "just above half the least value", "far below the least value",
}  # fmt: skip


def unreachable(function: Function) -> set[str]:
    """Classes that no operands of the function reach.

    - A sum of values is a multiple of the least value: below the smallest normal it is exact (Hauser 1996), and it is
      less than twice the largest value: no far overflow.
    - A quotient of p digits by p digits is no tie of p + 1 digits, but for subnormals; and where it is below a power of
      two at all, then by more than 2^-p of it: rounding never carries.
    - A root is no tie either, and lies inside the range where that is wide.
    - nextUp, nextDown and logB of exact results round nothing that is listed; remainders are exact.
    - Without infinities a product and a sum are neither infinite nor, of numbers, invalid; a remainder is finite.
    - What a conversion or scaleB reaches depends on the source's precision and range: its candidates, which meet every
      boundary, are asked. So are those of formats of one or two digits, without sign, -0, zero or gradual underflow.
    - Fixed-point sums are exact, and so are products of integers.
    - Of units `unit_limits` has a reason for each.
    """
    if function.operation == "unit_dot":
        from . import unit_limits

        return set(unit_limits.unreachable(function))
    operation, source, to = function.operation, function.sources[0], function.to
    if operation == "dot" and isinstance(source, FloatFormat) and _is_unusual(source):
        return _not_reached(function)
    if operation in ("encode_block", "dot"):
        return coverage_long.unreachable(function)
    if operation in ("convert", "from_integer", "to_integer", "round_to_integral", "scale_b"):
        return _not_reached(function)
    if isinstance(source, FixedFormat):
        return _fixed_unreachable(operation, source)
    if not isinstance(source, FloatFormat) or to != source:
        return set()
    if _is_unusual(source):
        return _not_reached(function)
    match operation:
        case "add" | "sub":
            return TINY | {"far overflow", "result infinite"} - ({"result infinite"} if source.has_infinity else set())
        case "fma":
            signaling = source.specials is Specials.IEEE
            return set() if source.has_infinity else {"result infinite", "" if signaling else "invalid operation"}
        case "rem":
            return {"result infinite"}
        case "sqrt":
            lost = TIES | {"rounded, negative", "carry to the next binade"}
            inside = source.emin < -source.trailing_bits and source.emax > 2
            ends = OVERFLOWS | TINY | {"largest finite value", "largest subnormal", "underflow: exact subnormal"}
            return lost | ends | {"smallest normal"} if inside else lost
        case "div":
            full = source.max_code & (1 << source.trailing_bits) - 1 == (1 << source.trailing_bits) - 1
            lost = {"carry to the next binade", "a quarter below the smallest normal, where tininess is decided"}
            return lost | {"overflow threshold"} | (OVERFLOWS - {"overflow", "far overflow"} if full else set())
        case _:
            return set()


def _is_unusual(fmt: FloatFormat) -> bool:
    usual = fmt.signed and fmt.has_negative_zero and fmt.zero and fmt.subnormals is Subnormals.GRADUAL
    return not usual or fmt.precision <= 2


def _fixed_unreachable(operation: str, fmt: FixedFormat) -> set[str]:
    if operation not in ("add", "sub", "mul", "mac"):
        return set()
    found = set() if fmt.sign_magnitude else {"zeros of opposite signs" if operation == "add" else "zeros of one sign"}
    if operation in ("add", "sub") or fmt.fraction_bits <= 0:
        found |= INEXACT | {"upper end and a fraction", "lower end and a fraction"}
    if not fmt.signed:
        no_sum = {"negative operand", "carry out", "just outside the upper end", "beyond the upper end", "lower end"}
        found |= no_sum if operation == "sub" else UNSIGNED | {"cancellation by one digit"}
    return found


@lru_cache(maxsize=64)
def _not_reached(function: Function) -> set[str]:
    """What no candidate of the function reaches."""
    from .directed import candidates

    columns = candidates(function, 2, 1)
    return {name for name, rows in masks(function, columns).items() if not rows.any()}
