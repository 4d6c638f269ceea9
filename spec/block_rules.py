"""Scale rules: from a block of exact values to the code of its scale, and from there to the codes of its elements.

This file has the rules that need nothing but the block: powers of two (OCP, torchao, NVIDIA, TetraJet, DeepGEMM,
microxcaling), real scales (projection, P3109, DeepSeek, bitsandbytes), shared microexponents, zero points.
Those with a tensor level or operations of their own are in block_vendors.py and block_gguf.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from spec.binary32 import (
    FLT_MAX,
    at_least,
    at_most,
    divide,
    floor_of_log2,
    is_infinite,
    is_less,
    is_nan,
    is_negative,
    magnitude,
    multiply,
    nearest,
    product,
    quotient,
)
from spec.block_spec import EXPONENT_RULES, BlockSpec
from spec.oracle import FixedFormat, FloatFormat, Format, Value, encode, fixed, floor_log2, power_of_two, value

ZERO = Fraction(0)
SMALLEST_AMAX = nearest(Fraction(1, 10000))  # DeepSeek and DeepGEMM clamp amax to float32(1e-4)
BINARY32_RULES = (  # these see a binary32 amax
    "rceil", "deepgemm", "microxcaling", "deepseek", "current_scaling", "bitsandbytes",
)  # fmt: skip


class EncodedBlock(NamedTuple):
    """One block: the code of its scale, the codes of its elements, and what else the format keeps per block."""

    scale: int
    codes: list[int]
    zero_point: int | None = None  # an integer (affine), or the code of the minimum (GGUF)
    subscales: tuple[int, ...] = ()  # one-bit exponents


class Rounder(NamedTuple):
    """How elements are rounded: one rounding, one overflow mode, and the random bits of each element, if any."""

    element: Format
    rounding: str
    overflow: str
    randoms: Sequence[int] | None = None
    n: int | None = None

    def codes(self, targets: Sequence[Value]) -> list[int]:
        drawn = [None] * len(targets) if self.randoms is None else self.randoms
        pairs = zip(targets, drawn, strict=True)
        return [encode(x, self.element, self.rounding, self.overflow, random, self.n) for x, random in pairs]

    def all(self, x: Value, count: int) -> list[int]:
        """The code of one value, `count` times, in no need of random bits."""
        return [encode(x, self.element, "ties_to_even", self.overflow)] * count


# ---- facts -----------------------------------------------------------------------------------------------------


def largest(fmt: Format) -> Fraction:
    """The largest finite value."""
    match fmt:
        case FloatFormat():
            return fmt.max
        case FixedFormat():
            return fmt.high * fmt.quantum
    finite = [v for v in (value(code, fmt) for code in range(2**fmt.bits)) if isinstance(v, Fraction)]
    return max(abs(v) for v in finite)


def digits_after_first(fmt: Format) -> int:
    """How many digits follow the leading one in the top binade of the format."""
    return fmt.trailing_bits if isinstance(fmt, FloatFormat) else floor_log2(Fraction(fmt.high))


def block_amax(values: Sequence[Value], spec: BlockSpec) -> Value:
    """The largest magnitude; NaN if there is one, unless NaN and infinity are for the elements alone."""
    sizes = [magnitude(v) for v in values]
    if spec.nonfinite == "propagate_elements":
        sizes = [size for size in sizes if isinstance(size, Fraction)]
    return largest_of(sizes)


def largest_of(sizes: Sequence[Value]) -> Value:
    if "nan" in sizes:
        return "nan"
    return "inf" if "inf" in sizes else max(sizes, default=ZERO)


def finite_or_zero(x: Value) -> bool:
    return isinstance(x, Fraction) or x == "-0"


# ---- powers of two ---------------------------------------------------------------------------------------------


def ceil_log2(x: Fraction) -> int:
    exponent = floor_log2(x)
    return exponent if power_of_two(exponent) == x else exponent + 1


def exponent_range(scale: FloatFormat) -> tuple[int, int]:
    """The exponents of the smallest and the largest power of two that the scale format has."""
    return ceil_log2(scale.magnitude(1 if scale.zero else 0)), floor_log2(scale.max)


def power_code(exponent: int, scale: FloatFormat) -> int:
    """The code of 2^exponent: the smallest power of two where that is too small, NaN where it is too large."""
    lowest, highest = exponent_range(scale)
    if exponent > highest:
        return encode("nan", scale)
    return encode(power_of_two(max(exponent, lowest)), scale)


def exponent_by_rule(amax: Fraction, spec: BlockSpec) -> int:
    """X of the rules that are stated exactly, for amax > 0."""
    element_max = largest(spec.element)
    emax = floor_log2(element_max)
    match spec.rule:
        case "floor":  # OCP MX v1.0, 6.3
            return floor_log2(amax) - emax
        case "ceil":  # torchao: the power of two at or above amax
            return ceil_log2(amax) - emax
        case "even":  # torchao: amax is rounded to the digits of the element first, half away
            half = power_of_two(floor_log2(amax) - digits_after_first(spec.element) - 1)
            return floor_log2(amax + half) - emax
        case "truncation_free" | "power_of_two":  # TetraJet: the least power of two under which nothing saturates
            return ceil_log2(amax / element_max)
    raise ValueError(f"{spec.rule} is no rule for an exponent")


def exponent_code(amax: Value, spec: BlockSpec) -> int:
    """The code of a scale that is a power of two."""
    scale = spec.scale
    assert isinstance(scale, FloatFormat)
    match spec.rule:
        case "rceil":
            return _rceil(amax, spec, scale)
        case "deepgemm":
            return _deepgemm(amax, spec, scale)
    if amax == "nan":
        return encode("nan", scale)
    if amax == "inf":
        saturates = spec.nonfinite == "saturate_inf"
        return power_code(exponent_range(scale)[1], scale) if saturates else encode("nan", scale)
    assert isinstance(amax, Fraction)
    if spec.rule == "microxcaling":  # the Python path; a zero block counts as the smallest normal binary32
        return power_code(floor_of_log2(amax or power_of_two(-126)) - floor_log2(largest(spec.element)), scale)
    if amax == 0:
        return encode(Fraction(1) if spec.rule == "power_of_two" else ZERO, scale)
    return power_code(exponent_by_rule(amax, spec), scale)


def _rceil(amax: Value, spec: BlockSpec, scale: FloatFormat) -> int:
    """The least power of two at or above fl(amax * fl(1 / element max)); the largest one where none is (NVIDIA)."""
    target = multiply(amax, nearest(1 / largest(spec.element)))
    if is_nan(target):
        return encode("nan", scale)
    if target == 0:
        return encode(ZERO, scale)
    highest = exponent_range(scale)[1]
    exponent = ceil_log2(target) if isinstance(target, Fraction) else highest
    return power_code(min(exponent, highest), scale)


def _deepgemm(amax: Value, spec: BlockSpec, scale: FloatFormat) -> int:
    """The least power of two at or above fl(max(amax, 1e-4) / element max), within 2^-126 .. 2^127.

    DeepGEMM reads the exponent field and adds 1 where a digit follows, then clamps to the bytes 1 .. 254; infinity and
    NaN come out as 254.
    """
    target = divide(at_least(amax, SMALLEST_AMAX), largest(spec.element))
    highest = min(exponent_range(scale)[1], 127)
    if not isinstance(target, Fraction):
        return power_code(highest, scale)
    return power_code(min(max(ceil_log2(target), -126), highest), scale)


# ---- real scales -----------------------------------------------------------------------------------------------


def real_code(amax: Value, spec: BlockSpec) -> int:
    """The code of a scale that is a real number: projection, ties to even, saturating."""
    if spec.rule == "deepseek":  # fl(max(amax, 1e-4) / element max); infinity and NaN take their course
        target = divide(at_least(amax, SMALLEST_AMAX), largest(spec.element))
        return encode(target, spec.scale, overflow="propagate")
    if spec.rule == "current_scaling":
        return encode(divide(Fraction(1), multiplier(amax, spec)), spec.scale)
    if amax == "nan" or (amax == "inf" and spec.nonfinite != "saturate_inf"):
        return encode("nan", spec.scale)
    target = amax if spec.rule == "bitsandbytes" else quotient(amax, largest(spec.element))  # fp4, nf4: the absmax
    return encode(target, spec.scale, overflow="saturate")


def multiplier(amax: Value, spec: BlockSpec) -> Value:
    """TransformerEngine's current scaling: fl(element max / amax), at most FLT_MAX; 1 where amax is 0 or not finite."""
    if amax == 0 or not isinstance(amax, Fraction):
        return Fraction(1)
    return at_most(divide(largest(spec.element), amax), FLT_MAX)


def p3109_scale(values: Sequence[Value], spec: BlockSpec) -> int:
    """P3109 v4.0, 5, MaxAbsFinite: the largest finite magnitude, projected; else infinity; NaN if all are NaN."""
    finite = [size for v in values if isinstance(size := magnitude(v), Fraction)]
    if finite:
        return encode(max(finite), spec.scale, overflow="saturate")
    if any(is_infinite(v) for v in values):
        return encode("inf", spec.scale, overflow="propagate")
    return encode("nan" if values else ZERO, spec.scale)


# ---- elements --------------------------------------------------------------------------------------------------


def encode_plain(values: Sequence[Value], spec: BlockSpec, rounder: Rounder) -> EncodedBlock:
    """A scale from the block alone; an element is the exact x / scale, rounded once, unless the rule says otherwise."""
    if spec.rule == "p3109":
        return _encode_p3109(values, spec, rounder)
    amax = block_amax(values, spec)
    if spec.rule in BINARY32_RULES:
        amax = nearest(amax)
    scale = exponent_code(amax, spec) if spec.rule in EXPONENT_RULES else real_code(amax, spec)
    s = value(scale, spec.scale)
    if is_nan(s) or s == 0:
        codes = rounder.all("nan" if is_nan(s) else ZERO, len(values))
        return EncodedBlock(scale, codes, subscales=_pairs(values, spec, s))
    shifts = _pairs(values, spec, s)
    match spec.rule:
        case "deepseek":
            targets = [divide(nearest(x), s) for x in values]
        case "current_scaling":
            targets = [multiply(nearest(x), multiplier(amax, spec)) for x in values]
        case "bitsandbytes":
            inverse = divide(Fraction(1), s)
            targets = [multiply(nearest(x), inverse) for x in values]
        case _:
            targets = [quotient(x, s) for x in values]
    if shifts:
        targets = [product(x, Fraction(2 ** shifts[i // spec.pair])) for i, x in enumerate(targets)]
    return EncodedBlock(scale, rounder.codes(targets), subscales=shifts)


def _encode_p3109(values: Sequence[Value], spec: BlockSpec, rounder: Rounder) -> EncodedBlock:
    scale = p3109_scale(values, spec)
    s = value(scale, spec.scale)
    if is_nan(s) or s == 0:
        return EncodedBlock(scale, rounder.all("nan" if is_nan(s) else ZERO, len(values)))
    targets = [quotient(x, s) for x in values]
    if s == "inf":  # no element is finite
        targets = [x if is_nan(x) else Fraction(-1 if is_negative(x) else 1) for x in values]
    return EncodedBlock(scale, rounder.codes(targets))


# ---- shared microexponents (arXiv 2302.08007) ------------------------------------------------------------------


def _pairs(values: Sequence[Value], spec: BlockSpec, s: Value) -> tuple[int, ...]:
    """One bit a pair: 1 where the exponents of both are below that of the scale."""
    if not spec.pair or is_nan(s):
        return (0,) * -(-len(values) // spec.pair) if spec.pair else ()
    pairs = [values[start : start + spec.pair] for start in range(0, len(values), spec.pair)]
    return tuple(int(all(is_less(magnitude(v), s) for v in pair)) for pair in pairs)


# ---- zero points -----------------------------------------------------------------------------------------------

INTEGERS = fixed(256, 0, name="integers")  # wide enough for every quotient


def encode_affine(values: Sequence[Value], spec: BlockSpec, rounder: Rounder) -> EncodedBlock:
    """The range of the block, widened to hold 0, is spread over all integers of the element."""
    element = spec.element
    assert isinstance(element, FixedFormat)
    low_end, high_end = (-element.high if spec.symmetric else element.low), element.high

    def within(integer: int) -> int:
        return min(max(integer, low_end), high_end)

    def code(integer: int) -> int:
        return element.code(within(integer), integer < 0)

    if not all(finite_or_zero(v) for v in values):
        return EncodedBlock(encode("nan", spec.scale), [code(0)] * len(values), within(0))
    exact = [ZERO if v == "-0" else v for v in values]
    low, high = min([ZERO, *exact]), max([ZERO, *exact])
    scale = encode((high - low) / (high_end - low_end), spec.scale, overflow="saturate")
    s = value(scale, spec.scale)
    if s == 0:
        return EncodedBlock(scale, [code(0)] * len(values), within(0))
    zero_point = within(low_end - round(low / s))
    steps = rounder._replace(element=INTEGERS, overflow="saturate").codes([x / s for x in exact])
    integers = [value(step, INTEGERS) + zero_point for step in steps]
    return EncodedBlock(scale, [code(int(integer)) for integer in integers], zero_point)

