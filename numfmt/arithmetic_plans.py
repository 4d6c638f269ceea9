"""From formats and rules to the integers that arithmetic reads, and the frames that engines compute in."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from ._core.arithmetic import INEXACT, INVALID, OVERFLOW, Frame, Layout, Raised
from ._core.fixed import Grid
from ._core.parameters import Carrier, Gap, Results, Round, Target
from .carriers import floor_log2, signed
from .formats import FixedFormat, FloatFormat, Subnormals
from .plans import fixed_grid, float_target, gap_of, results_of, round_parameters
from .rounding import Overflow
from .specials import Rules, special_codes

Operand = FloatFormat | FixedFormat
TOP = 58  # of 64-bit integers: a significand of 59 bits, two for carries, one for a shift, and the sign
PRECISIONS = {"narrow": 29, "wide": 55}  # up to which a frame serves


def _frame(trailing: int, bits: int, precision: int, digits: tuple[int, ...], root: int) -> Frame:
    carrier = Carrier(
        bits=bits,
        trailing=trailing,
        bias=0,
        sign_shift=bits - 1,
        magnitude_mask=2 ** (bits - 1) - 1,
        infinity=0,  # not read: kinds of operands are found before
        hidden=1 << trailing,
        reach=trailing + 3,
        steps=tuple(2**i for i in reversed(range(trailing.bit_length()))),
    )
    return Frame(carrier, trailing + 1 - precision, digits, digits[0], root)


FRAMES = {
    "narrow": _frame(TOP, 64, PRECISIONS["narrow"], (33, 25), 31),
    "wide": _frame(TOP, 64, PRECISIONS["wide"], (8,) * 7 + (2,), TOP + 1),
}


SHORT = _frame(27, 32, 24, (27,), 28)  # of 32-bit integers, for sums of products: neither quotients nor roots


@lru_cache(maxsize=64)
def exact_frame(precision: int) -> Frame:
    """A frame of Python integers for operands and results of so many digits."""
    trailing = precision + 6 + precision % 2
    return _frame(trailing, 2 * trailing + 1024, precision, (trailing,), trailing + 1)


@dataclass(frozen=True, eq=False)
class ResultPlan:
    """How exact results become codes of a format."""

    frame: Frame
    target: Target | Grid
    gap: Gap | None
    results: Results
    mode: Round
    raised: Raised | None
    general: bool


def precision_of(fmt: Operand) -> int:
    """Digits of a format's significands; bits of its integers, in fixed point."""
    return fmt.precision if isinstance(fmt, FloatFormat) else fmt.bits


def frame_name(operands: tuple[Operand, ...], to: Operand) -> str | None:
    """The narrowest of FRAMES that does; None where only Python integers do."""
    every = (*operands, to)
    if any(fmt.bits > (64 if isinstance(fmt, FloatFormat) and fmt.signed else 62) for fmt in every):
        return None
    if isinstance(to, FixedFormat) and sum(fmt.bits for fmt in operands) > TOP:
        return None  # an overflow that wraps around needs the last bits of any result
    digits = max(map(precision_of, every))
    return next((name for name, most in PRECISIONS.items() if digits <= most), None)


@lru_cache(maxsize=1024)
def layout_of(fmt: FloatFormat) -> Layout:
    """How a float format's codes read."""
    alone = {"-0": 1, "nan": 2}.get(str(fmt.exact(2 ** (fmt.bits - 1))), 0) if fmt.signed else 1
    return Layout(
        mask=signed(2**fmt.bits - 1, 64) if fmt.bits == 64 else 2**fmt.bits - 1,
        sign_shift=fmt.bits - 1 if fmt.signed else fmt.bits,
        magnitude_mask=fmt.magnitude_mask,
        trailing=fmt.trailing_bits,
        bias=fmt.bias,
        largest=fmt.max_code,
        infinity=-1 if fmt.infinity_code is None else fmt.infinity_code,
        quiet=fmt.quiet_bit,
        subnormal=int(fmt.subnormals in (Subnormals.GRADUAL, Subnormals.SHIFTED)),
        shifted=int(fmt.subnormals is Subnormals.SHIFTED),
        unused=int(fmt.subnormals is Subnormals.NONE),
        zero=int(fmt.zero),
        negative_zero=alone,
    )


@lru_cache(maxsize=1024)
def grid_of(fmt: FixedFormat, frame: Frame) -> Grid:
    """How a fixed-point format's codes read."""
    return fixed_grid(fmt, None, frame.carrier)


@lru_cache(maxsize=4096)
def result_plan(to: Operand, rules: Rules, frame: Frame, after: bool) -> ResultPlan:
    """How results are rounded, and what they raise."""
    codes = special_codes(to, rules)
    carrier, mode = frame.carrier, round_parameters(rules)
    results = results_of(codes, lambda code: signed(code, carrier.bits))
    if isinstance(to, FixedFormat):
        return ResultPlan(frame, fixed_grid(to, rules, carrier), None, results, mode, None, True)
    target = float_target(to, rules.rule, carrier, codes, False)
    regular = to.signed and to.subnormals is Subnormals.GRADUAL
    general = not regular or rules.rule.absolute or rules.rule.lowest_away
    raised = _raised(to, rules, codes.negative, after)
    return ResultPlan(frame, target, gap_of(to), results, mode, raised, general)


def _raised(to: FloatFormat, rules: Rules, negative: int, after: bool) -> Raised:
    """The flags of a result's special cases, as those of `numfmt.encode`."""
    infinity = INVALID
    if to.takes_infinity:
        infinity = OVERFLOW | INEXACT if rules.overflow is Overflow.SATURATE else 0
    exponent = floor_log2(to.min_normal)
    return Raised(
        infinity=infinity,
        negative_infinity=infinity if to.min < 0 else INVALID,
        nan=0 if to.has_nan else INVALID,
        refused=INVALID if to.exact(negative) == "nan" else OVERFLOW | INEXACT,
        emax=floor_log2(to.max),
        tiny_exponent=exponent,
        tiny_significand=int(to.min_normal / Fraction(2) ** (exponent - to.trailing_bits)),
        after=int(after),
    )
