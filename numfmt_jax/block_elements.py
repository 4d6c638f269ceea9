"""Elements of blocks: how they meet their scale and are rounded, and what their codes are worth, in int32.

x / scale becomes a binary32 pattern that the kernels of scalars round; the scale then moves the result's
exponent, or multiplies it. Arrays are (outer, block rows, a, block columns, g); scales have the axes of
blocks alone and are spread.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from numfmt import BlockFormat, FixedFormat, FloatFormat
from numfmt._core import binary32
from numfmt._core.block import shifted_grid, shifted_target
from numfmt._core.fraction import away_at_random
from numfmt._core.parameters import BINARY32, BINARY64, Carrier, ieee_carrier
from numfmt._core.rounding import round_away
from numfmt.kernels import (
    CodebookFormat,
    Plan,
    Rules,
    encode_plan,
    nan_scale,
    pattern,
    precision,
    quantize_plan,
    signed,
    steps_of,
)
from numfmt.kernels import apply as run_numpy

from .binary32 import divide, multiply
from .bits import apply
from .block_scales import Scaling, amax_limit
from .nearest import nearest_codes, nearest_values, suits_nearest
from .quotients import HIGH, as_bits, as_float, counted, divided, long_quotient, quotient, quotient32, significand
from .usual import spread

Array = jax.Array
HIDDEN, MAGNITUDE, INFINITY, NAN = BINARY32.hidden, BINARY32.magnitude_mask, BINARY32.infinity, binary32.NAN
TRAILING, SIGN, ONE = BINARY32.trailing, -(2**31), 0x3F800000
NORMAL_FACTORS = ("transformer_engine", "current_scaling")  # their factors are normal numbers always
NORMAL_DIVISORS = ("deepseek",)  # their divisors are normal numbers, infinite or NaN


@dataclass(frozen=True)
class Way:
    """How the elements of a format are rounded under some rules: static facts.

    Attributes:
        moderate: every value of the element format and every tie lies well within binary32's normal numbers.
        nearest: a kernel of `nearest.py` applies.
        exact_products: a power-of-two scale never leaves bits of an element below binary32's last.
        nan_with_scale: a NaN element makes its block's scale NaN.
        bounded: under a scale that is a number, elements are not infinite and far from overflow.
        is_quick: `_size_met` gives what the nearest modes need.
    """

    fmt: BlockFormat
    rules: Rules
    moderate: bool
    nearest: bool
    exact_products: bool
    nan_with_scale: bool
    bounded: bool
    is_quick: bool


@lru_cache(maxsize=1024)
def way_of(fmt: BlockFormat, rules: Rules) -> Way:
    """The static facts of a format's elements under some rules."""
    element = fmt.element
    least = min(abs(v) for v in element.values if v) if isinstance(element, CodebookFormat) else element.min_positive
    if isinstance(element, CodebookFormat):
        ranks = sorted(set(element.values))
        least = min([least] + [b - a for a, b in pairwise(ranks)]) / 2**24
    moderate = least >= Fraction(2) ** -60 and max(element.max, -element.min) <= Fraction(2) ** 60
    scale = fmt.scale_value_format
    exact = not isinstance(element, CodebookFormat) and element.min_positive * scale.min_positive >= Fraction(2) ** -149
    steps = steps_of(fmt, BINARY32)
    nan_with_scale = amax_limit(fmt) == MAGNITUDE and steps is not None and steps.nan == nan_scale(scale)
    bounded = nan_with_scale and steps is not None and steps.infinite == nan_scale(scale) and scale.max >= 2**60
    nearest = moderate and suits_nearest(element, rules)
    quick = fmt.scale_rule.binary32 is None or fmt.rule in NORMAL_FACTORS + NORMAL_DIVISORS
    return Way(fmt, rules, moderate, nearest, exact, nan_with_scale, bounded, quick)


# ---- x / scale ---------------------------------------------------------------------------------------------------


def met(way: Way, part: Array, scaling: Scaling, lower: Array | int = 0) -> Array:
    """binary32 patterns of x / scale where it is moved by an exponent, or multiplied or divided in binary32.

    Moved beyond the normal numbers it becomes the largest of them, or the least subnormal number: rounded,
    both give the same.
    """
    operand = spread(scaling.operand)
    if scaling.kind == "offset":
        return lowered(part, operand - lower)
    if scaling.kind == "divisor32":
        return divide(part, operand)
    stochastic = way.rules.random_bit_count > 0
    if not (stochastic and way.moderate and way.fmt.rule in NORMAL_FACTORS):
        return multiply(part, operand)
    magnitude = part & MAGNITUDE
    return jnp.where(magnitude > INFINITY, NAN, _by_factor(magnitude, operand)) | (part & SIGN)


def lowered(bits: Array, exponent: Array) -> Array:
    """Patterns of x / 2**exponent; what is finite stays so, and what lies below the normal numbers becomes 2**-149."""
    magnitude = bits & MAGNITUDE
    y = _lowered(magnitude, exponent, False)
    y = jnp.where(y < HIDDEN, jnp.minimum(magnitude, 1), y)
    return jnp.where(magnitude >= INFINITY, magnitude, y) | (bits & SIGN)


def _lowered(magnitude: Array, exponent: Array, bounded: bool) -> Array:
    """Patterns of x / 2**exponent for x ≥ 0; anything below the normal numbers where the result is.

    Args:
        bounded: whether no result exceeds the finite numbers.
    """
    moved = exponent << TRAILING
    # A subnormal x is an integer times 2**-149; the product is exact, or so small that it may count as zero.
    power = jnp.clip(BINARY32.bias - 149 - exponent, 0, 254) << TRAILING
    low = as_bits(magnitude.astype(jnp.float32) * as_float(power))
    if bounded:
        high = magnitude - moved
    else:
        high = jnp.minimum(magnitude, INFINITY - 1 + jnp.minimum(moved, 0)) - moved
        high = jnp.where(magnitude >= INFINITY, INFINITY, high)
    return jnp.where(magnitude < HIDDEN, low, jnp.maximum(high, 0))


def _by_factor(magnitude: Array, factor: Array) -> Array:
    """Patterns of x × factor for x ≥ 0 and normal factors, as IEEE 754 rounds them where they are normal.

    Else they are anything below the normal numbers. Moved by the factor's exponent first, the product is
    normal wherever it matters.
    """
    y = _lowered(magnitude, BINARY32.bias - (factor >> TRAILING), False)
    product = as_bits(as_float(y) * as_float((factor & (HIDDEN - 1)) | ONE))
    return jnp.minimum(product, INFINITY)  # an integer step, lest a compiler fuse the product with a later sum


# ---- codes -----------------------------------------------------------------------------------------------------


def element_codes(
    fmt: BlockFormat,
    rules: Rules,
    part: Array,
    scaling: Scaling,
    numbers: Array | None,
    lower: Array | int = 0,
) -> Array:
    """Codes, int32, of elements: the exact x / scale, or a vendor's binary32 result, rounded once.

    Args:
        part: int32 array, binary32 patterns.
        numbers: int32 array of random numbers, or None.
        lower: by how many binades the scale, a power of two, is lower for each element (micro-exponents).
    """
    way = way_of(fmt, rules)
    if scaling.kind == "offset" and not way.moderate:
        codes = _shifted_codes(fmt, rules, part, spread(scaling.operand) - lower, numbers)
    elif way.nearest and way.is_quick:
        codes = nearest_codes(fmt.element, rules, _size_met(way, part, scaling, lower), part)
        if not way.nan_with_scale:
            codes = jnp.where(_is_nan(part, scaling), special_code(fmt, rules, NAN), codes)
    elif scaling.kind == "divisor":
        codes = _quotient_codes(fmt, rules, part, _divisor(scaling), numbers)
    else:
        codes = apply(plan_of(fmt, rules, BINARY32), met(way, part, scaling, lower), numbers, in_carrier=False)
    if scaling.kind not in ("offset", "divisor"):
        return codes
    scales = spread(scaling.values)
    codes = jnp.where(scales > INFINITY, special_code(fmt, rules, NAN), codes)
    return jnp.where(scales == 0, special_code(fmt, rules, 0), codes) if has_zero_scales(fmt) else codes


def _size_met(way: Way, part: Array, scaling: Scaling, lower: Array | int = 0) -> Array:
    """Magnitudes of x / scale for the nearest modes: what is not normal counts as zero, NaN as infinite.

    An exact quotient is rounded to odd with 21 significant bits, which leaves every later rounding to 19 right.
    """
    magnitude, operand = part & MAGNITUDE, spread(scaling.operand)
    match scaling.kind:
        case "offset":
            return _lowered(magnitude, operand - lower, way.bounded)
        case "divisor":
            made = divided(jnp.minimum(magnitude, INFINITY - 1), _divisor(scaling))
            size, exponent = (made.q << 3) | (made.rest != 0).astype(jnp.int32), made.exponent
        case "divisor32":
            size, exponent = quotient32(jnp.minimum(magnitude, INFINITY - 1), operand)
            size = jnp.where(operand >= INFINITY, 0, size)
        case _:
            return _by_factor(magnitude, operand)
    y = (jnp.minimum(exponent + BINARY32.bias - 1, 253) << TRAILING) + size
    y = jnp.where((exponent < -126) | (size == 0), 0, y)
    return jnp.where(magnitude >= INFINITY, INFINITY, y)


def _is_nan(part: Array, scaling: Scaling) -> Array:
    """Where x / scale is NaN though the scale is not."""
    magnitude = part & MAGNITUDE
    if scaling.kind != "divisor32":
        return magnitude > INFINITY
    operand = spread(scaling.operand)
    return (magnitude > INFINITY) | (operand > INFINITY) | ((magnitude == INFINITY) & (operand == INFINITY))


@lru_cache(maxsize=1024)
def has_zero_scales(fmt: BlockFormat) -> bool:
    """Whether a block may have the scale zero."""
    steps = steps_of(fmt, BINARY32)
    return steps is None or bool(steps.zeros.any())


@lru_cache(maxsize=1024)
def plan_of(fmt: BlockFormat, rules: Rules, carrier: Carrier) -> Plan:
    """How elements that have met their scale are encoded; raises ValueError where int32 is too narrow."""
    plan = encode_plan(fmt.element, rules, carrier)
    wide = carrier is HIGH and precision(fmt.element) > HIGH.trailing - 1
    if plan is None or wide:
        raise ValueError(
            f"{fmt} is given with rounding {rules.rounding.value!r}; its elements need more than 32-bit integers, "
            "numfmt (NumPy) has it"
        )
    return plan


@lru_cache(maxsize=1024)
def special_code(fmt: BlockFormat, rules: Rules, bits: int) -> int:
    """The code that elements have under a scale that is NaN, or zero: that of NaN, or of what +0 rounds to."""
    plan = encode_plan(fmt.element, rules, BINARY64)
    assert plan is not None
    if bits == NAN:
        return plan.results.nan
    zero = np.zeros(1, np.int64)
    return int(run_numpy(plan, zero, zero if plan.is_stochastic else None, False)[0])


def _shifted_codes(fmt: BlockFormat, rules: Rules, part: Array, exponent: Array, numbers: Array | None) -> Array:
    """Codes of x / 2**exponent for elements of any range: their grid lies that many binades higher."""
    plan = plan_of(fmt, rules, BINARY32)
    parameters: Any = plan.parameters
    if plan.kernel == "table" or (plan.kernel != "fixed" and parameters.trailing > 20):
        raise ValueError(
            f"{fmt} is given; its elements under power-of-two scales need more than 32-bit integers, "
            "numfmt (NumPy) has it"
        )
    moved = shifted_grid if plan.kernel == "fixed" else shifted_target
    plan = replace(plan, parameters=moved(parameters, exponent), general=True)
    return apply(plan, part, numbers, in_carrier=False)


# ---- exact quotients -------------------------------------------------------------------------------------------


def _divisor(scaling: Scaling) -> Array:
    operand = spread(scaling.operand)
    return jnp.where((operand > 0) & (operand < INFINITY), operand, ONE)


def _quotient_codes(fmt: BlockFormat, rules: Rules, part: Array, divisor: Array, numbers: Array | None) -> Array:
    """Codes of the exact x / divisor."""
    if isinstance(fmt.element, CodebookFormat):
        return _listed_codes(fmt, rules, part, divisor)
    plan = plan_of(fmt, rules, HIGH)
    if numbers is None:
        return apply(plan, quotient(part, divisor), None, in_carrier=False)
    if plan.kernel == "gapped":
        raise ValueError(
            f"{fmt} is given with rounding {rules.rounding.value!r}; its elements have no even grid, which only "
            "numfmt (NumPy) rounds so: a scale of e8m0 works here too"
        )
    assert isinstance(fmt.element, FloatFormat | FixedFormat)
    chosen = _stochastic_quotient(fmt.element, plan, part, divisor, numbers)
    return apply(replace(plan, mode=binary32.NEAREST), chosen, None, in_carrier=False)


def _stochastic_quotient(
    element: FloatFormat | FixedFormat, plan: Plan, part: Array, divisor: Array, numbers: Array
) -> Array:
    """HIGH patterns of the neighbour of x / divisor that stochastic rounding chooses, range unbounded."""
    magnitude = part & MAGNITUDE
    made = divided(jnp.minimum(magnitude, INFINITY - 1), divisor)
    if isinstance(element, FixedFormat):
        kept = made.exponent + element.fraction_bits
    else:
        kept = element.trailing_bits - jnp.maximum(element.emin - made.exponent, 0)
    kept = jnp.minimum(kept, 20)  # where there are more the element overflows
    s = made.q >> jnp.clip(20 - kept, 0, 31)
    d = (made.numerator << jnp.maximum(kept, 0)) - s * made.divisor
    s = s + away_at_random(d, made.divisor, jnp.maximum(-kept, 0), numbers, plan.mode, xp=jnp)
    # s is an integer below 2**22 in units of 2**(exponent - kept).
    field, m = significand(binary32.from_integer(s, xp=jnp))
    field = field - BINARY32.bias + made.exponent - kept + HIGH.bias
    packed = ((field - 1) << HIGH.trailing) + (m >> (TRAILING - HIGH.trailing))
    packed = jnp.where(s == 0, 0, packed)
    special = jnp.where(magnitude > INFINITY, jnp.int32(HIGH.infinity | HIGH.hidden >> 1), HIGH.infinity)
    return jnp.where(magnitude >= INFINITY, special, packed) | (part & SIGN)


@lru_cache(maxsize=256)
def listing_carrier(element: CodebookFormat) -> Carrier | None:
    """A carrier of 32 bits for quotients: it holds every value and midpoint of a list, and one bit more."""
    ranks = sorted(set(element.values))
    points = [v for v in (*ranks, *((a + b) / 2 for a, b in pairwise(ranks))) if v]
    trailing = max(abs(v.numerator).bit_length() - _twos(v.numerator) for v in points)
    exponents = [(pattern(abs(v), BINARY32) >> TRAILING) - BINARY32.bias for v in points]
    fields = max(exponents) - min(exponents) + 5
    if trailing > 28 or trailing + fields.bit_length() > 31:
        return None
    carrier = ieee_carrier(32, trailing)
    return carrier._replace(bias=2 - min(exponents))


def _twos(n: int) -> int:
    return (n & -n).bit_length() - 1


def _listed_codes(fmt: BlockFormat, rules: Rules, part: Array, divisor: Array) -> Array:
    """Codes of x / divisor in a list of values: the quotient has a bit more than the values and their midpoints."""
    assert isinstance(fmt.element, CodebookFormat)
    carrier = listing_carrier(fmt.element)
    plan = None if carrier is None or rules.random_bit_count else encode_plan(fmt.element, rules, carrier)
    if plan is None or carrier is None:
        raise ValueError(
            f"{fmt} is given with rounding {rules.rounding.value!r}; its elements need more than 32-bit integers: "
            "the rule 'bitsandbytes' multiplies in binary32 instead, and numfmt (NumPy) has it"
        )
    magnitude = part & MAGNITUDE
    q, exponent = long_quotient(jnp.minimum(magnitude, INFINITY - 1), divisor)
    drop = 28 - carrier.trailing
    size = (q >> drop) | ((q & ((1 << drop) - 1)) != 0).astype(jnp.int32)
    field = exponent + carrier.bias
    y = (jnp.minimum(field - 1, (carrier.infinity >> carrier.trailing) - 2) << carrier.trailing) + size
    y = jnp.where(field < 1, jnp.minimum(magnitude, 1), y)
    special = jnp.where(magnitude > INFINITY, carrier.infinity + 1, jnp.int32(carrier.infinity))
    y = jnp.where(magnitude >= INFINITY, special, jnp.where(q == 0, 0, y))
    return apply(plan, y | (part & SIGN), None, in_carrier=False)


# ---- values ----------------------------------------------------------------------------------------------------


def element_values(
    fmt: BlockFormat, rules: Rules, part: Array, scaling: Scaling, numbers: Array | None
) -> Array | None:
    """binary32 patterns of what elements become, without codes in between; None where there is no such way."""
    way = way_of(fmt, rules)
    if not way.moderate or (not way.nearest and quantize_plan(fmt.element, rules, BINARY32) is None):
        return None
    if scaling.kind == "offset" and way.exact_products:
        return _offset_values(way, part, scaling, numbers)
    stochastic = rules.random_bit_count > 0 and scaling.kind == "factor32"
    widest = 2 if fmt.has_tensor_scale else 7
    if not (way.is_quick and (way.nearest or stochastic)) or precision(fmt.element) > widest:
        return None
    values, tail = _rounded(way, part, scaling, numbers), spread(scaling.values)
    if scaling.tensor_scale is not None:  # code × scale has six significant bits: the product is exact
        values, tail = as_bits(as_float(values) * as_float(tail)), scaling.tensor_scale
    values = times(values, tail)
    if scaling.kind != "divisor":
        return values
    return jnp.where(tail == 0, special_value(fmt, rules, 0) & SIGN, values) if has_zero_scales(fmt) else values


def _offset_values(way: Way, part: Array, scaling: Scaling, numbers: Array | None) -> Array:
    """Those of elements under powers of two."""
    fmt, rules = way.fmt, way.rules
    values = raised(fmt, _rounded(way, part, scaling, numbers), spread(scaling.operand), way.nearest and way.bounded)
    scales = spread(scaling.values)
    values = jnp.where(scales > INFINITY, NAN, values)
    return jnp.where(scales == 0, special_value(fmt, rules, 0) & SIGN, values) if has_zero_scales(fmt) else values


def times(values: Array, scale: Array) -> Array:
    """Patterns of values × scale, rounded once, for moderate values of up to seven significant bits and scales ≥ 0.

    Where the product is normal it is float32's of a scale in [1, 2), moved by an exponent. Below it is an
    integer of 31 bits, the last three as one sticky bit, rounded to units of 2**-149.
    """
    magnitude = values & MAGNITUDE
    field, m = significand(scale)
    product = as_bits(as_float(magnitude) * as_float((m & (HIDDEN - 1)) | ONE)) + ((field - BINARY32.bias) << TRAILING)
    exact = (((magnitude & (HIDDEN - 1)) | HIDDEN) >> 17) * m
    exact = (exact >> 3) | ((exact & 7) != 0).astype(jnp.int32)  # a subnormal result drops seven bits or more
    drop = jnp.clip(131 - (magnitude >> TRAILING) - field, 1, 28)
    low = (exact >> drop) + round_away(exact, drop, exact >> drop, 0, binary32.NEAREST, 28, xp=jnp)
    result = jnp.where(product < HIDDEN, low, jnp.minimum(product, INFINITY))
    result = jnp.where(magnitude == 0, 0, result)
    infinite = jnp.where((magnitude == 0) | (magnitude > INFINITY) | (scale > INFINITY), NAN, jnp.int32(INFINITY))
    result = jnp.where(scale >= INFINITY, infinite, jnp.where(magnitude >= INFINITY, magnitude, result))
    result = jnp.where(scale == 0, 0, result)
    return jnp.where(result > INFINITY, NAN, result | (values & SIGN))


def _rounded(way: Way, part: Array, scaling: Scaling, numbers: Array | None) -> Array:
    """Patterns of the element format's values next to x / scale."""
    element = way.fmt.element
    if way.nearest:
        values = nearest_values(element, way.rules, _size_met(way, part, scaling), part)
        if way.nan_with_scale:
            return values
        return jnp.where(_is_nan(part, scaling), special_value(way.fmt, way.rules, NAN), values)
    plan = quantize_plan(element, way.rules, BINARY32)
    assert plan is not None
    return apply(plan, met(way, part, scaling), numbers, in_carrier=True)


@lru_cache(maxsize=1024)
def special_value(fmt: BlockFormat, rules: Rules, bits: int) -> int:
    """The binary32 pattern of `special_code`'s value."""
    return signed(pattern(fmt.element.exact(special_code(fmt, rules, bits)), BINARY32), 32)


def raised(fmt: BlockFormat, values: Array, exponent: Array, bounded: bool) -> Array:
    """Patterns of values × 2**exponent, where it loses no bit; what overflows is infinite.

    Args:
        bounded: whether values are numbers, and no product passes 2**128.
    """
    magnitude = values & MAGNITUDE
    moved = exponent << TRAILING
    least = jnp.maximum(HIDDEN - moved, 1)  # where the product is normal
    # A subnormal product is an integer times 2**-149.
    power = jnp.clip(BINARY32.bias + 149 + exponent, 0, 254) << TRAILING
    low = counted(as_float(magnitude) * as_float(power))
    if bounded:
        return jnp.where(magnitude < least, low, magnitude + moved) | (values & SIGN)
    high = jnp.minimum(magnitude, INFINITY - jnp.maximum(moved, 0)) + moved
    result = jnp.where(magnitude < least, low, high)
    if fmt.element.has_infinity or fmt.element.has_nan:
        result = jnp.where(magnitude >= INFINITY, magnitude, result)
    return result | (values & SIGN)


def products(fmt: BlockFormat, values: Array, scales: Array, tensor_scale: Array | None) -> Array:
    """binary32 patterns of value × scale (× or ÷ the tensor scale), rounded once.

    Args:
        values: int32 array, binary32 patterns of elements before their scale.
        scales: int32 array, binary32 patterns, spread over elements.
    """
    product = multiply(values, scales)
    if tensor_scale is None:
        return product
    return (divide if fmt.scale_rule.tensor_divides else multiply)(product, tensor_scale)
