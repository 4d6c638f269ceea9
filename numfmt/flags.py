"""IEEE exception flags of an encoding, from what rounding without the range's ends would give.

16 invalid   8 division by zero   4 overflow   2 underflow   1 inexact     (TestFloat, RISC-V fflags)
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from . import engines
from ._core.parameters import BINARY64, Carrier
from .carriers import BINARY256, holds, magnitude_pattern
from .formats import CodebookFormat, FixedFormat, FloatFormat, Format, Specials
from .plans import Plan, quantize_plan
from .rounding import Overflow, Rule
from .scheduler import RandomSource, over_chunks
from .sources import Operand
from .specials import Rules

INVALID, OVERFLOW, UNDERFLOW, INEXACT = 16, 4, 2, 1
CHUNK = 1 << 14


def exception_flags(
    operand: Operand, fmt: Format, rules: Rules, random: RandomSource | None, tininess: str
) -> npt.NDArray[np.uint8]:
    """Flags of each element of `encode`, uint8 of the operand's shape.

    Overflow is decided on the value rounded without a largest exponent. A result is tiny where the
    operand — with tininess "after", the operand rounded without a least exponent — lies below the
    smallest normal; underflow is tiny and inexact. Invalid are signalling NaNs, infinities and NaNs
    that the format lacks, negative operands that become NaN, and integers out of range.

    References: IEEE 754-2019 §5.8, §7.2, §7.4, §7.5, §7.6.
    """
    if tininess not in ("after", "before"):
        raise ValueError(f"tininess {tininess!r} is given; it is 'after' or 'before' rounding")
    wide = not (holds(BINARY64, fmt) and operand.carrier is not BINARY256 and _plan(fmt, rules, BINARY64) is not None)
    carrier = BINARY256 if wide else BINARY64
    out = np.empty(operand.array.shape, np.uint8)
    flat = out.reshape(-1)
    x = operand.array.reshape(-1) if operand.array.flags.c_contiguous else operand.array.flat

    def work(start: int, stop: int) -> None:
        part = x[start:stop]
        numbers = None if random is None else random.numbers(start, stop)
        flat[start:stop] = _flags(operand, part, fmt, rules, carrier, numbers, tininess == "after")

    over_chunks(work, out.size, CHUNK, 1)
    return out


@lru_cache(maxsize=1024)
def _plan(fmt: Format, rules: Rules, carrier: Carrier) -> Plan | None:
    """The rounding to the format's values."""
    return quantize_plan(fmt, rules, carrier)


@lru_cache(maxsize=1024)
def _unbounded(fmt: Format, rules: Rules, carrier: Carrier) -> Plan | None:
    """Rounding to the format's precision (quantum, in fixed point) without its range; None for codebooks."""
    rules = rules._replace(rule=Rule(), overflow=Overflow.SATURATE, wrap_bits=0)
    match fmt:
        case FloatFormat():
            # An even change of bias keeps the parity of codes, which decides ties where p = 1.
            bits = 1 + 20 + fmt.trailing_bits
            return quantize_plan(
                FloatFormat(bits, fmt.precision, fmt.bias + 2**18, specials=Specials.FINITE), rules, carrier
            )
        case FixedFormat():
            return quantize_plan(FixedFormat(fmt.bits + 3, fmt.fraction_bits), rules, carrier)
        case _:
            return None


def _rounded(plan: Plan, patterns: Any, numbers: Any, carrier: Carrier) -> Any:
    """Carrier patterns of the rounded values, as an array."""
    if carrier is BINARY64:
        words = None if numbers is None else numbers.astype(np.int64)
        return engines.apply(plan, patterns, words, True)
    words = None if numbers is None else numbers.tolist()
    return _objects(engines.apply_exactly(plan, patterns, words, True))


def _objects(numbers: list[int]) -> npt.NDArray[Any]:
    out = np.empty(len(numbers), object)
    out[:] = numbers
    return out


def _flags(
    operand: Operand, part: Any, fmt: Format, rules: Rules, carrier: Carrier, numbers: Any, after: bool
) -> npt.NDArray[np.uint8]:
    """Flags of a flat part of the operand."""
    patterns = operand.patterns(part, carrier)
    plan = _plan(fmt, rules, carrier)
    assert plan is not None
    result = _rounded(plan, patterns, numbers, carrier)
    bits = patterns if carrier is BINARY64 else _objects(patterns)
    magnitude = bits & carrier.magnitude_mask
    sign = (bits >> carrier.sign_shift) & 1 != 0
    if isinstance(fmt, FloatFormat) and rules.rule.absolute:
        sign = sign & False
    negative = sign & (magnitude != 0)
    same_sign = ((result >> carrier.sign_shift) & 1 != 0) == negative
    changed = ((result & carrier.magnitude_mask) != magnitude) | ~(same_sign | (magnitude == 0))
    flags = np.where(changed, INEXACT, 0)

    unbounded = _unbounded(fmt, rules, carrier)
    reached = magnitude
    if unbounded is not None:
        reached = _rounded(unbounded, patterns, numbers, carrier) & carrier.magnitude_mask
    largest, least = magnitude_pattern(fmt.max, carrier), magnitude_pattern(abs(fmt.min), carrier)
    match fmt:
        case FloatFormat():
            tiny = (magnitude != 0) & ((reached if after else magnitude) < magnitude_pattern(fmt.min_normal, carrier))
            flags = np.where(changed & tiny, UNDERFLOW | INEXACT, flags)
            flags = np.where(reached > largest, OVERFLOW | INEXACT, flags)
            if not fmt.signed:
                is_nan = (result & carrier.magnitude_mask) > carrier.infinity
                refused = np.where(is_nan, INVALID, OVERFLOW | INEXACT)
                flags = np.where(negative & _reaches_below_zero(fmt, rules, patterns, numbers, carrier), refused, flags)
        case FixedFormat():
            if rules.overflow is Overflow.SYMMETRIC:
                least = largest
            flags = np.where(reached > np.where(negative, least, largest), INVALID, flags)
        case CodebookFormat():
            value = np.where(negative, -magnitude, magnitude)
            low = least if fmt.min >= 0 else -least
            high = largest if fmt.max >= 0 else -largest
            flags = np.where((value < low) | (value > high), OVERFLOW | INEXACT, flags)
    return _with_specials(flags, operand, part, magnitude, sign, fmt, rules, carrier).astype(np.uint8)


def _reaches_below_zero(fmt: FloatFormat, rules: Rules, patterns: Any, numbers: Any, carrier: Carrier) -> Any:
    """Where a negative operand of an unsigned format does not round to zero."""
    if not fmt.zero:
        return True
    signed = FloatFormat(fmt.bits + 1, fmt.precision, fmt.bias, True, Specials.FINITE, fmt.subnormals)
    plan = quantize_plan(signed, rules._replace(rule=Rule(), overflow=Overflow.SATURATE), carrier)
    assert plan is not None
    return (_rounded(plan, patterns, numbers, carrier) & carrier.magnitude_mask) != 0


def _with_specials(
    flags: Any, operand: Operand, part: Any, magnitude: Any, sign: Any, fmt: Format, rules: Rules, carrier: Carrier
) -> Any:
    """`flags`, but for infinite and NaN operands what those raise."""
    takes = isinstance(fmt, FloatFormat) and fmt.takes_infinity
    taken = (OVERFLOW | INEXACT if rules.overflow is Overflow.SATURATE else 0) if takes else INVALID
    infinite = np.where(sign & (fmt.min >= 0), INVALID, taken)
    nan = np.where(_signaling(operand, part), INVALID, 0 if fmt.has_nan else INVALID)
    flags = np.where(magnitude == carrier.infinity, infinite, flags)
    return np.where(magnitude > carrier.infinity, nan, flags)


def _signaling(operand: Operand, part: Any) -> Any:
    """Where elements are signalling NaNs: IEEE 754 formats only, the quiet bit clear."""
    fmt = operand.format
    if not isinstance(fmt, FloatFormat) or fmt.specials is not Specials.IEEE:
        return np.zeros(part.size, bool)
    codes = operand.codes(part).astype(object)
    quiet = codes & (1 << (fmt.trailing_bits - 1))
    return ((codes & fmt.magnitude_mask) > fmt.max_code + 1) & (quiet == 0)
