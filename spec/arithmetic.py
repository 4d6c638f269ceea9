"""Arithmetic on codes: the exact result of the values, rounded once. This is the judge: slow, short, obvious.

    compute("add", [a, b], format) = encode(value(a) + value(b), format), with the flags of IEEE 754-2019, section 7

The exact operations say what a result is and whether it is NaN or a division by zero; `spec.oracle` rounds it. The
sign of zero is part of an exact value ("-0"). What the standard leaves open is the platform's: which NaN, and what
an integer becomes that is out of range. Fixed point takes add, sub, mul and mac only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from math import floor, isqrt
from typing import NamedTuple

from spec.binary32 import is_infinite, is_negative, magnitude, product, quotient, total, with_sign
from spec.formats import FixedFormat, FloatFormat, Format, Value, floor_log2, floor_rank, power_of_two
from spec.names import fixed, resolve
from spec.nan_rules import PLATFORMS, Operand, nan_code, read
from spec.oracle import DIVISION_BY_ZERO, INVALID, encode_flags

# ---- exact results of values that are no NaN; "nan" is the result of an invalid operation -------------------------


def ordinary(x: Value, y: Value) -> bool:
    """Two numbers, neither of them zero."""
    return isinstance(x, Fraction) and isinstance(y, Fraction) and bool(x) and bool(y)


def add(x: Value, y: Value, rounding: str) -> Value:
    """The sum. An exact zero that is not the sum of two zeros of one sign is +0, toward negative -0 (IEEE 6.3)."""
    result = x + y if ordinary(x, y) else total(x, y)
    if result == 0 and rounding == "toward_negative" and (is_negative(x) or is_negative(y)):
        return "-0"
    return result


def mul(x: Value, y: Value) -> Value:
    return x * y if ordinary(x, y) else product(x, y)


def div(x: Value, y: Value) -> Value:
    return x / y if ordinary(x, y) else quotient(x, y)


def negated(x: Value) -> Value:
    return -x if ordinary(x, x) else with_sign(magnitude(x), not is_negative(x))


def rem(x: Value, y: Value) -> Value:
    """x - y * n, where n is the integer nearest to x / y, the even one of two (Python's round); zero has x's sign."""
    if is_infinite(x) or magnitude(y) == 0:
        return "nan"
    if is_infinite(y) or magnitude(x) == 0:
        return x
    result = x - y * round(x / y)
    return result if result else with_sign(result, is_negative(x))


def sqrt(x: Value, to: FloatFormat) -> Value:
    """The square root, or a fraction that every rounding into `to` takes for it.

    A root that is no fraction is no decision point: values of `to`, their midpoints and the thresholds of stochastic
    rounding with up to 32 bits (2^-33 of a quantum) are all multiples of `step`, which is 2^-64 of the least quantum.
    So the root lies strictly between two neighbouring multiples of step, and so does the middle of these two; no
    decision point is there to tell them apart.
    """
    if magnitude(x) == 0 or x == "inf":
        return x
    if is_negative(x):
        return "nan"
    root = Fraction(isqrt(x.numerator), isqrt(x.denominator))
    if root * root == x:
        return root
    step = power_of_two(-to.bias - to.trailing_bits - 64)
    below = isqrt(floor(x / (step * step)))
    assert (below * step) ** 2 < x < ((below + 1) * step) ** 2
    return (below + Fraction(1, 2)) * step


def order(x: Value) -> tuple[int, Fraction]:
    if is_infinite(x):
        return (-1 if is_negative(x) else 1), Fraction(0)
    return 0, Fraction(0) if isinstance(x, str) else x


def smaller(x: Value, y: Value) -> Value:
    """IEEE 754-2019, 9.6: -0 is below +0."""
    return min(x, y, key=lambda v: (order(v), not is_negative(v)))


def larger(x: Value, y: Value) -> Value:
    return max(x, y, key=lambda v: (order(v), not is_negative(v)))


def scale_b(x: Value, n: int) -> Value:
    return x if isinstance(x, str) else x * power_of_two(n)


def log_b(x: Value) -> Value:
    size = magnitude(x)
    if size == 0:
        return "-inf"
    return size if size == "inf" else Fraction(floor_log2(size))


def next_up(x: Value, fmt: FloatFormat) -> Value:
    """The least value above x; where there is none, x (IEEE 754-2019, 5.3.1)."""
    if x == "inf":
        return x
    if x == "-inf":
        return -fmt.max
    size = magnitude(x)
    rank = 0 if size == 0 else floor_rank(size, fmt)
    unused = fmt.lowest_binade == "unused"  # ranks between 0 and the first normal one are no values
    if is_negative(x) and size != 0:
        if rank == 0 and not fmt.zero:
            return x
        below = 0 if unused and rank == fmt.steps else rank - 1
        return with_sign(fmt.magnitude(below), True)
    if rank == fmt.max_rank:
        return "inf" if fmt.infinity in ("ieee", "top") else x
    return fmt.magnitude(fmt.steps if unused and rank == 0 else rank + 1)


def next_down(x: Value, fmt: FloatFormat) -> Value:
    if magnitude(x) == 0 and not fmt.signed:
        return x
    return negated(next_up(negated(x), fmt))


Result = tuple[Value, int]  # exact, and flags
Coded = tuple[int, int]  # rounded, and flags
# operation: the number of operands, and the exact value; `to` is the format of the result
EXACT: dict[str, tuple[int, Callable[..., Value]]] = {
    "add": (2, lambda x, y, to, rounding: add(x, y, rounding)),
    "sub": (2, lambda x, y, to, rounding: add(x, negated(y), rounding)),
    "mul": (2, lambda x, y, to, rounding: mul(x, y)),
    "div": (2, lambda x, y, to, rounding: div(x, y)),
    "rem": (2, lambda x, y, to, rounding: rem(x, y)),
    "sqrt": (1, lambda x, to, rounding: sqrt(x, to)),
    "fma": (3, lambda x, y, z, to, rounding: add(mul(x, y), z, rounding)),
    "mac": (3, lambda x, y, z, to, rounding: add(mul(x, y), z, rounding)),
    "minimum": (2, lambda x, y, to, rounding: smaller(x, y)),
    "maximum": (2, lambda x, y, to, rounding: larger(x, y)),
    "minimum_number": (2, lambda x, y, to, rounding: smaller(x, y)),
    "maximum_number": (2, lambda x, y, to, rounding: larger(x, y)),
    "convert": (1, lambda x, to, rounding: x),
    "scale_b": (2, lambda x, n, to, rounding: scale_b(x, n)),
    "log_b": (1, lambda x, to, rounding: log_b(x)),
}
COMPARISONS: dict[str, tuple[bool, Callable[[Value, Value], bool]]] = {  # does a quiet NaN raise invalid?
    "equal": (False, lambda x, y: order(x) == order(y)),
    "less": (True, lambda x, y: order(x) < order(y)),
    "less_equal": (True, lambda x, y: order(x) <= order(y)),
    "equal_signaling": (True, lambda x, y: order(x) == order(y)),
    "less_quiet": (False, lambda x, y: order(x) < order(y)),
    "less_equal_quiet": (False, lambda x, y: order(x) <= order(y)),
}
INTEGERS = {"to_integer": 1, "from_integer": 1, "round_to_integral": 1}
NEIGHBOURS = {"next_up": next_up, "next_down": next_down}
COUNTS = {name: count for name, (count, _) in EXACT.items()} | dict.fromkeys(COMPARISONS, 2) | INTEGERS
COUNTS |= dict.fromkeys(NEIGHBOURS, 1)
FIXED = ("add", "sub", "mul", "mac")
ORDER = ("minimum", "maximum", "minimum_number", "maximum_number")  # one of the operands, as it is: nothing saturates


def exact(operation: str, operands: Sequence[Operand], to: Format, rounding: str, n: int | None = None) -> Result:
    """The exact result, and the flags raised before it is rounded; `n` is the second operand of scale_b.

    A NaN operand gives NaN, but for the *_number operations, which take the other one (IEEE 754-2019, 9.6).
    """
    values = [operand.value for operand in operands]
    raised = INVALID if any(operand.signaling for operand in operands) else 0
    numbers = [x for x in values if not is_nan(x)]
    if operation.endswith("_number") and len(numbers) == 1:
        return numbers[0], raised
    if len(numbers) < len(values):
        return "nan", INVALID if operation == "fma" and is_infinity_times_zero(values) else raised
    _, function = EXACT[operation]
    result = function(*values, *([] if n is None else [n]), to=to, rounding=rounding)
    if is_nan(result):
        return "nan", INVALID
    by_zero = operation in ("div", "log_b") and is_infinite(result) and not is_infinite(values[0])
    return result, DIVISION_BY_ZERO if by_zero else 0


def is_nan(x: Value) -> bool:
    return isinstance(x, str) and x == "nan"


def is_infinity_times_zero(values: list[Value]) -> bool:
    """Are the factors of a multiplication that is followed by an addition an infinity and a zero?"""
    sizes = [magnitude(factor) for factor in values[:2]]
    return 0 in sizes and "inf" in sizes


def compare(operation: str, x: Operand, y: Operand) -> Coded:
    """0 or 1, and the flags; a comparison with NaN does not hold."""
    signaling, holds = COMPARISONS[operation]
    if "nan" in (x.value, y.value):
        return 0, INVALID if signaling or x.signaling or y.signaling else 0
    return int(holds(x.value, y.value)), 0


class Rules(NamedTuple):
    """What decides a result besides the operands."""

    rounding: str
    overflow: str | None = None
    platform: str | None = None
    tininess: str = "after"
    exact: bool = False
    random: int | None = None
    random_bit_count: int | None = None

    def encode(self, x: Value, to: Format, overflow: str | None = None) -> Coded:
        return encode_flags(x, to, self.rounding, overflow or self.overflow, self.random, self.random_bit_count,
                            tininess=self.tininess)


def nan_result(operation: str, operands: list[Operand], to: Format, flags: int, rules: Rules) -> Coded:
    """The code and flags of an operation that gives NaN.

    Whether fma(0, infinity, quiet NaN) is invalid is left open by IEEE 754-2019, 7.2: it is, but not on x86 (measured).
    Arm's FPMulAdd gives the default NaN there, and elsewhere looks at the addend first.
    """
    if operation == "fma" and rules.platform in ("arm", "x86.sse"):
        *factors, addend = operands
        if is_infinity_times_zero([operand.value for operand in operands]) and not addend.signaling:
            flags = flags if addend.value != "nan" or rules.platform == "arm" else 0
            operands = [] if rules.platform == "arm" else operands
        elif rules.platform == "arm":
            operands = [addend, *factors]
    code, raised = rules.encode("nan", to)
    if isinstance(to, FloatFormat) and to.nan_code is not None:
        code = nan_code(operands, to, rules.platform)
    return code, flags | raised


# ---- the operations -----------------------------------------------------------------------------------------------


def compute(operation: str, operands: Sequence[int], fmt: Format | str | Sequence[Format | str],
            to: Format | str | None = None, rounding: str | None = "ties_to_even", overflow: str | None = None,
            platform: str | None = None, tininess: str = "after", exact: bool = False, random: int | None = None,
            random_bit_count: int | None = None) -> Coded:
    """The code of the result, and the flags; comparisons give 0 or 1, to_integer the integer.

    `fmt` is that of all operands, or of each; `to` that of the result, or the integer ("int32") of to_integer. The
    second operand of scale_b and the operand of from_integer are integers, not codes; from_integer's `fmt` is that of
    its result.
    """
    if operation not in COUNTS or len(operands) != COUNTS[operation]:
        raise ValueError(f"operations: {COUNTS}; given {operation} with {len(operands)} operands")
    if platform not in (None, *PLATFORMS):
        raise ValueError(f"platforms are {', '.join(PLATFORMS)}; given {platform}")
    formats = [resolve(each) for each in ([fmt] * len(operands) if isinstance(fmt, (Format, str)) else fmt)]
    for each in formats:
        if not isinstance(each, (FloatFormat, FixedFormat) if operation in FIXED else FloatFormat):
            raise ValueError(f"{operation} is not stated for {each.name}")
    target = integers(to) if operation == "to_integer" else resolve(to or formats[0])
    rules = Rules(rounding or target.default_rounding, overflow, platform, tininess, exact, random, random_bit_count)
    if operation == "from_integer":
        return rules.encode(Fraction(operands[0]), target)
    if operation == "scale_b":
        return _rounded(operation, [read(operands[0], formats[0])], target, rules, operands[1])
    read_ones = [read(code, each) for code, each in zip(operands, formats, strict=True)]
    if operation in COMPARISONS:
        return compare(operation, *read_ones)
    if operation == "to_integer":
        return _to_integer(*read_ones, target, rules)
    if operation == "round_to_integral":
        return _round_to_integral(*read_ones, target, rules)
    if operation in NEIGHBOURS:
        return _neighbour(operation, *read_ones, target, rules)
    return _rounded(operation, read_ones, target, rules)


def _rounded(operation: str, operands: list[Operand], to: Format, rules: Rules, n: int | None = None) -> Coded:
    result, flags = exact(operation, operands, to, rules.rounding, n)
    if is_nan(result):
        return nan_result(operation, operands, to, flags, rules)
    code, raised = rules.encode(result, to, "infinity" if operation in ORDER else None)
    return code, flags | raised


def _neighbour(operation: str, x: Operand, to: Format, rules: Rules) -> Coded:
    if x.value == "nan":
        return nan_result(operation, [x], to, INVALID if x.signaling else 0, rules)
    return rules.encode(NEIGHBOURS[operation](x.value, x.format), to, "infinity")


def _round_to_integral(x: Operand, to: Format, rules: Rules) -> Coded:
    """An integer of x's sign; inexact only where it is asked for, or where the format lacks the integer."""
    if x.value == "nan":
        return nan_result("round_to_integral", [x], to, INVALID if x.signaling else 0, rules)
    if isinstance(x.value, str) or x.value == 0:
        return rules.encode(x.value, to)
    wide = fixed(max(floor_log2(abs(x.value)), 0) + 3, 0)
    integer, inexact = rules.encode(x.value, wide, "saturate")
    code, flags = rules.encode(with_sign(magnitude(wide.value(integer)), x.value < 0), to)
    return code, flags | (inexact if rules.exact else 0)


def _to_integer(x: Operand, to: FixedFormat, rules: Rules) -> Coded:
    """IEEE 754-2019, 5.8; what an integer out of range becomes is the platform's. Inexact only if it is asked for."""
    if rules.platform == "nvidia":
        raise ValueError("no rule is stated for integers out of range on nvidia")
    code, flags = rules.encode(x.value, to, "saturate")
    if flags != INVALID:
        return int(to.value(code)), flags if rules.exact else 0
    if rules.platform == "x86.sse":
        return to.low if to.signed else to.high, INVALID
    if x.value != "nan":
        return int(to.value(code)), INVALID
    if rules.platform == "arm":
        return 0, INVALID
    return to.high, INVALID


def integers(name: Format | str | None) -> FixedFormat:
    """The integers called int32, uint64, ..."""
    found = re.fullmatch(r"(u?)int(\d+)", str(name))
    if not found:
        raise ValueError(f"integers are called int32, uint64, ...; given {name}")
    return fixed(int(found[2]), 0, not found[1], name=found[0])
