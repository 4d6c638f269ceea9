"""IEEE exception flags of an encoding.

16 invalid   8 division by zero   4 overflow   2 underflow   1 inexact     (TestFloat, RISC-V fflags)
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from . import arithmetic_engine, engines
from ._core.arithmetic import INEXACT, INVALID, OVERFLOW
from ._core.parameters import BINARY64, Carrier
from .carriers import BINARY256, holds, magnitude_pattern
from .formats import CodebookFormat, FixedFormat, FloatFormat, Format
from .named import scalar_format
from .plans import Plan, quantize_plan
from .rounding import Overflow, Rule
from .scheduler import RandomSource, over_chunks
from .sources import Operand, code_dtype
from .specials import Rules

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
    wide = operand.carrier is BINARY256 or not (isinstance(fmt, FloatFormat) or holds(BINARY64, fmt))
    if not wide and not isinstance(fmt, FloatFormat):
        wide = _plan(fmt, rules, BINARY64) is None
    carrier = BINARY256 if wide else BINARY64
    out = np.empty(operand.array.shape, np.uint8)
    flat = out.reshape(-1)
    x = operand.array.reshape(-1) if operand.array.flags.c_contiguous else operand.array.flat
    of_part = _of_float if isinstance(fmt, FloatFormat) else _of_others

    def work(start: int, stop: int) -> None:
        part = x[start:stop]
        numbers = None if random is None else random.numbers(start, stop)
        flags = of_part(operand.patterns(part, carrier), fmt, rules, carrier, numbers, tininess)
        flat[start:stop] = np.where(_signaling(operand, part), INVALID, flags)

    over_chunks(work, out.size, CHUNK, 1)
    return out


def _of_float(patterns: Any, fmt: Any, rules: Rules, carrier: Carrier, numbers: Any, tininess: str) -> Any:
    """Flags of conversions between floats: arithmetic on the carrier's format raises them."""
    source = scalar_format(f"binary{carrier.bits}")
    assert isinstance(source, FloatFormat)
    call = arithmetic_engine.Call("convert", (source,), fmt, rules, None, tininess == "after", False)
    codes = patterns.view(code_dtype(source)) if carrier is BINARY64 else _objects(patterns)
    random = None if numbers is None else RandomSource(None, numbers, rules.random_bit_count)
    return arithmetic_engine.run(call, [codes], random, 1)[1]


@lru_cache(maxsize=1024)
def _plan(fmt: Format, rules: Rules, carrier: Carrier) -> Plan | None:
    """The rounding to the format's values."""
    return quantize_plan(fmt, rules, carrier)


@lru_cache(maxsize=1024)
def _unbounded(fmt: Format, rules: Rules, carrier: Carrier) -> Plan | None:
    """Rounding to a fixed-point format's quantum without its range; None for codebooks."""
    if not isinstance(fmt, FixedFormat):
        return None
    rules = rules._replace(rule=Rule(), overflow=Overflow.SATURATE, wrap_bits=0)
    return quantize_plan(FixedFormat(fmt.bits + 3, fmt.fraction_bits), rules, carrier)


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


def _of_others(patterns: Any, fmt: Format, rules: Rules, carrier: Carrier, numbers: Any, tininess: str) -> Any:
    """Flags of conversions to fixed point and codebooks: the operand against what it becomes, and the ends."""
    plan = _plan(fmt, rules, carrier)
    assert plan is not None
    result = _rounded(plan, patterns, numbers, carrier)
    bits = patterns if carrier is BINARY64 else _objects(patterns)
    magnitude = bits & carrier.magnitude_mask
    negative = ((bits >> carrier.sign_shift) & 1 != 0) & (magnitude != 0)
    same_sign = ((result >> carrier.sign_shift) & 1 != 0) == negative
    changed = ((result & carrier.magnitude_mask) != magnitude) | ~(same_sign | (magnitude == 0))
    flags = np.where(changed, INEXACT, 0)

    unbounded = _unbounded(fmt, rules, carrier)
    reached = magnitude
    if unbounded is not None:
        reached = _rounded(unbounded, patterns, numbers, carrier) & carrier.magnitude_mask
    largest, least = magnitude_pattern(fmt.max, carrier), magnitude_pattern(abs(fmt.min), carrier)
    if isinstance(fmt, CodebookFormat):
        value = np.where(negative, -magnitude, magnitude)
        low = least if fmt.min >= 0 else -least
        high = largest if fmt.max >= 0 else -largest
        flags = np.where((value < low) | (value > high), OVERFLOW | INEXACT, flags)
    else:
        if rules.overflow is Overflow.SYMMETRIC:
            least = largest
        flags = np.where(reached > np.where(negative, least, largest), INVALID, flags)
    return np.where(magnitude >= carrier.infinity, INVALID, flags)


def _signaling(operand: Operand, part: Any) -> Any:
    """Where elements are signalling NaNs: IEEE 754 formats only, the quiet bit clear."""
    fmt = operand.format
    if not isinstance(fmt, FloatFormat) or not fmt.quiet_bit:
        return np.zeros(part.size, bool)
    codes = operand.codes(part).astype(object)
    return ((codes & fmt.magnitude_mask) > fmt.max_code + 1) & ((codes & fmt.quiet_bit) == 0)
