"""Coverage classes of blocks and of dot products."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats import CodebookFormat, FixedFormat, FloatFormat, Format, Specials, Subnormals
from ..named import scalar_format
from .coverage_scalar import Masks, ends, results, rounding, sides
from .intermediate import (
    INFINITE,
    NAN,
    NUMBER,
    ZERO,
    Array,
    Column,
    Exact,
    bit_length,
    decode,
    left,
    product,
    quotient,
)
from .places import place

if TYPE_CHECKING:
    from .functions import Function

BINARY32_INFINITY = 0x7F800000


# ---- blocks ----------------------------------------------------------------------------------------------------


def encoding(function: Function, codes: Array) -> Masks:
    """Classes of blocks of binary32 numbers; a row is in a class where one of its blocks is.

    Args:
        codes: binary32 patterns, (n, K).
    """
    block = function.block
    assert block is not None
    size = block.elements_per_block or function.size
    patterns = np.asarray(codes).astype(np.int64)
    rows, short = len(patterns), -patterns.shape[1] % size
    blocks = (patterns.shape[1] + short) // size
    padded = np.concatenate([patterns, np.zeros((rows, short), np.int64)], axis=1).reshape(rows, blocks, size)
    whole = np.arange(blocks * size).reshape(1, blocks, size) < patterns.shape[1]
    found = _operands_of_blocks(padded, np.broadcast_to(whole, padded.shape))
    amax = np.where(padded & 0x7FFFFFFF < BINARY32_INFINITY, padded & 0x7FFFFFFF, 0).max(axis=2, initial=0)
    tensor = _tensor_scale(amax) if block.has_tensor_scale else None
    found |= _amax(amax, block.element)
    found |= _scales(amax, tensor, block.element, block.scale_value_format)
    found |= _elements(function, patterns, padded, tensor)
    return {name: np.asarray(rows_in.any(axis=1)) for name, rows_in in found.items()}


def _operands_of_blocks(x: Array, whole: Array) -> Masks:
    magnitude, negative = x & 0x7FFFFFFF, x >> 31 == 1
    nan = (magnitude > BINARY32_INFINITY).sum(axis=2)
    infinite = (magnitude == BINARY32_INFINITY).sum(axis=2)
    some = ((magnitude > 0) & (magnitude <= BINARY32_INFINITY)).sum(axis=2)
    count = whole.sum(axis=2)
    finite = (nan == 0) & (infinite == 0)
    return {
        "zeros alone": (some + nan == 0) & ~negative.any(axis=2),
        "zeros of both signs": (some + nan == 0) & (negative & whole).any(axis=2) & (~negative & whole).any(axis=2),
        "one NaN": (nan == 1) & (infinite == 0),
        "one infinity": (infinite == 1) & (nan == 0),
        "NaN and infinity": (infinite > 0) & (nan > 0),
        "NaN alone": (nan == count) & (count > 0),
        "one element not zero": (some == 1) & finite & (count > 1),
        "all equal": finite & (some > 0) & ((x == x[:, :, :1]) | ~whole).all(axis=2),
        "both signs": finite & ((some > 0) & (negative & (magnitude > 0)).any(axis=2))
        & (~negative & (magnitude > 0)).any(axis=2),
        "all negative": finite & (some > 0) & (negative | ~whole).all(axis=2),
        "subnormal element": finite & ((magnitude > 0) & (magnitude < 1 << 23)).any(axis=2),
    }  # fmt: skip


def _normalised(magnitude: Array) -> Array:
    """Significands of binary32 magnitudes, moved up to 24 digits; 0 of zero."""
    m = np.where(magnitude >> 23 == 0, magnitude, magnitude & 0x7FFFFF | 1 << 23)
    return left(m, 24 - bit_length(m))


def _amax(amax: Array, element: Format) -> Masks:
    largest = max(element.max, -element.min)
    digits = largest.numerator << 24 >> largest.numerator.bit_length()
    m, near = _normalised(amax), 1 << 16
    finite = amax > 0
    return {
        "amax a power of two": finite & (m == 1 << 23),
        "amax just below a power of two": finite & (m > (1 << 24) - near),
        "amax 2^k times the largest element": finite & (m == digits),
        "amax just below 2^k times the largest element": finite & (m < digits) & (m >= digits - near),
        "amax just above 2^k times the largest element": finite & (m > digits) & (m <= digits + near),
        "amax subnormal": finite & (amax < 1 << 23),
        "amax the largest binary32": amax == BINARY32_INFINITY - 1,
    }


def _tensor_scale(amax: Array) -> Array:
    """binary32(amax of the row / 2688), as patterns, one a block."""
    row = amax.max(axis=1, keepdims=True, initial=0).astype(np.uint32).view(np.float32)
    scale = (row / np.float32(2688)).astype(np.float32).view(np.uint32).astype(np.int64)
    return np.broadcast_to(scale, amax.shape)


def _as_column(value: Any, like: Array) -> Column:
    no = np.zeros(like.shape, bool)
    m, e = value.numerator, 1 - value.denominator.bit_length()
    return Column(np.full(like.shape, NUMBER), no, np.full(like.shape, m, like.dtype), np.full(like.shape, e), no, no)


def _scales(amax: Array, tensor: Array | None, element: Format, scale: Format) -> Masks:
    """Where amax / largest element lies in the scale format, also under rules that do not round it so."""
    if not isinstance(scale, FloatFormat) or scale.bits > 16:
        return {}
    flat = decode(amax.reshape(-1), scalar_format("float32"), True)
    divisor = _as_column(max(element.max, -element.min), flat.m)
    if tensor is not None:
        divisor = _of(product(divisor, decode(tensor.reshape(-1), scalar_format("float32"), True)))
    exact = quotient(flat, divisor, scale.precision)
    p = place(exact, scale)
    found = {
        "scale: amax / largest element exact": p.exact,
        "scale: amax / largest element just above a value": p.above_value,
        "scale: amax / largest element just below a value": p.below_value,
        "scale: amax / largest element a tie, even below": p.tie & ~p.odd,
        "scale: amax / largest element a tie, odd below": p.tie & p.odd,
    }
    low, high = p.number & (exact.top < scale.emin), p.number & (p.top >= scale.emax)
    found["scale: below its least normal"] = low
    found["scale: at or above its largest binade"] = high
    return {name: rows.reshape(amax.shape) for name, rows in found.items()}


def _of(x: Exact) -> Column:
    no = np.zeros(x.kind.shape, bool)
    return Column(x.kind, x.negative, x.m, x.e, no, no)


def _elements(function: Function, patterns: Array, padded: Array, tensor: Array | None) -> Masks:
    """Where x / scale lies in the element format, with the scale that the row gets."""
    from .functions import Rules, evaluate

    block = function.block
    assert block is not None
    element, scale_format = block.element, block.scale_value_format
    if isinstance(element, CodebookFormat) or not isinstance(scale_format, FloatFormat | FixedFormat):
        return {}
    blocks = padded.shape[1]
    codes = evaluate(function, [patterns.astype(np.uint32)], Rules())[0] if len(patterns) else np.zeros((0, blocks))
    wide = tensor is not None
    scales = decode(codes[:, :blocks].astype(np.int64).reshape(-1), scale_format, wide)
    if tensor is not None:
        scales = _of(product(scales, decode(tensor.reshape(-1), scalar_format("float32"), wide)))
    each = Column(*(np.repeat(field, padded.shape[2]) for field in scales))
    x = decode(padded.reshape(-1), scalar_format("float32"), wide)
    exact = quotient(x, each, element.precision if isinstance(element, FloatFormat) else element.bits)
    p = place(exact, element)
    found = {f"element: {name}": rows for name, rows in rounding(p, element).items() if "sticky" not in name}
    found |= {f"element: {name}": rows for name, rows in ends(p, element, exact).items() if name in _ELEMENT_ENDS}
    if isinstance(element, FixedFormat):
        found["element: beyond the largest value"] = p.number & np.asarray(p.kept > element.max_integer, bool)
    return {name: np.asarray(rows.reshape(padded.shape).any(axis=2)) for name, rows in found.items()}


_ELEMENT_ENDS = (
    "largest finite value", "beyond the largest value, below the threshold", "overflow threshold", "overflow",
    "smallest normal", "largest subnormal", "rounds up to the smallest normal", "underflow: inexact subnormal",
    "half the least value", "just above half the least value", "just below half the least value",
    "far below the least value",
)  # fmt: skip


# ---- dot products ----------------------------------------------------------------------------------------------


def dot(function: Function, columns: Sequence[Array]) -> Masks:
    """Classes of sums of products."""
    terms, lanes = _terms(function, columns)
    to = function.to
    assert isinstance(to, FloatFormat)
    exact = _sum(terms)
    tops = np.where(terms.kind == NUMBER, terms.top, -(1 << 40))
    largest = tops.max(axis=1, keepdims=True, initial=-(1 << 40))
    below = np.where(terms.kind == NUMBER, largest - tops, -1)
    number, p = terms.kind == NUMBER, to.precision
    usual = (terms.kind <= NUMBER).all(axis=1)
    count = number.sum(axis=1)
    lost = np.where(exact.kind == NUMBER, largest[:, 0] - exact.top, 0)
    opposite = (number & terms.negative).any(axis=1) & (number & ~terms.negative).any(axis=1)
    found = {
        "products zero in every lane": usual & (count == 0),
        "products zero in some lanes": usual & (count > 0) & (terms.kind == ZERO).any(axis=1),
        "first lane alone": usual & (count == 1) & number[:, :1].any(axis=1),
        "last lane alone": usual & (count == 1) & number[:, -1:].any(axis=1),
        "every lane the same product": usual & (count == terms.kind.shape[1]) & (below == 0).all(axis=1)
        & (terms.m == terms.m[:, :1]).all(axis=1) & ~opposite,
        "carries beyond the largest product": usual & (exact.kind == NUMBER) & (exact.top > largest[:, 0] + 1),
        "cancellation to zero": usual & opposite & (exact.kind == ZERO),
        "massive cancellation": usual & opposite & (exact.kind == NUMBER) & (lost >= 8),
        "a term p - 1 digits below the largest": usual & (below == p - 1).any(axis=1),
        "a term p digits below the largest": usual & (below == p).any(axis=1),
        "a term far below the largest": usual & (below > p + 2).any(axis=1),
        "M, -M and a small term": usual & opposite & (exact.kind == NUMBER) & (lost > p),
        "order of additions matters": usual & _order_matters(terms, exact, to),
    }  # fmt: skip
    found |= lanes | rounding(place(exact, to), to) | sides(place(exact, to), exact)
    return found | ends(place(exact, to), to, exact) | results(exact, to, function.sources[0])


def _terms(function: Function, columns: Sequence[Array]) -> tuple[Column, Masks]:
    """Exact products of a row's lanes, and the classes of the operands."""
    a, b = (decode(np.asarray(columns[i]), function.sources[i], True) for i in ((0, 2) if function.block else (0, 1)))
    terms = product(a, b)
    lanes: Masks = {}
    if function.block is not None:
        size = function.block.elements_per_block or function.size
        ordinary = np.asarray((np.maximum(a.kind, b.kind) <= NUMBER).all(axis=1))
        nan: Array = np.zeros(len(ordinary), bool)
        for i in (1, 3):
            scale = decode(np.asarray(columns[i]), function.sources[i], True)
            nan |= (scale.kind == NAN).any(axis=1)
            spread = Column(*(np.repeat(field, size, axis=1)[:, : function.size] for field in scale))
            terms = product(_of(terms), spread)._replace(invalid=terms.invalid)
        if function.sources[1].has_nan:
            lanes["NaN scale"] = ordinary & nan
    source = function.sources[0]
    either = [a, b]
    if isinstance(source, FloatFormat) and source.has_subnormals:
        lanes["subnormal operand"] = np.logical_or.reduce([c.subnormal.any(axis=1) for c in either])
    if source.has_nan:
        nans = sum((c.kind == NAN).sum(axis=1) for c in either)
        lanes["one NaN"], lanes["several NaNs"] = nans == 1, nans > 1
    if source.has_infinity:
        infinities = sum((c.kind == INFINITE).sum(axis=1) for c in either)
        lanes["one infinity"] = infinities == 1
        zero = ((a.kind == ZERO) & (b.kind == INFINITE)) | ((a.kind == INFINITE) & (b.kind == ZERO))
        lanes["zero times infinity"] = zero.any(axis=1)
        signs = [((terms.kind == INFINITE) & (terms.negative == s)).any(axis=1) for s in (False, True)]
        lanes["infinities of opposite signs"] = signs[0] & signs[1]
    return _of(terms)._replace(signaling=terms.invalid), lanes


def _sum(terms: Column) -> Exact:
    """The exact sum of each row, in Python integers."""
    number = terms.kind == NUMBER
    low = np.where(number, terms.e, 1 << 40).min(axis=1, initial=1 << 40)
    low = np.where(number.any(axis=1), low, 0)
    shifts = np.where(number, terms.e - low[:, None], 0)
    signed = np.where(terms.negative, -terms.m, terms.m) * number
    m = left(signed, shifts).sum(axis=1) if signed.shape[0] else np.zeros(0, object)
    nan = (terms.kind == NAN).any(axis=1)
    plus = ((terms.kind == INFINITE) & ~terms.negative).any(axis=1)
    minus = ((terms.kind == INFINITE) & terms.negative).any(axis=1)
    zero = np.asarray(m == 0, bool)
    kind = np.where(plus | minus, INFINITE, np.where(zero, ZERO, NUMBER))
    kind = np.where(nan | (plus & minus), NAN, kind)
    negative = np.where(zero, (terms.negative & (terms.kind == ZERO)).all(axis=1), m < 0)
    negative = np.asarray(np.where(plus | minus, minus, negative), bool)
    invalid = terms.signaling.any(axis=1) | (plus & minus & ~nan)
    size = np.where(kind == NUMBER, np.abs(m), 0 * m)
    return Exact(kind, negative, size, low, np.zeros(kind.shape, bool), invalid)


def _order_matters(terms: Column, exact: Exact, to: FloatFormat) -> Array:
    """Whether adding one lane after the other, cut to p digits each time, loses something of the exact sum."""
    m, e = np.zeros(len(exact.kind), object), np.zeros(len(exact.kind), np.int64)
    for lane in range(terms.kind.shape[1]):
        number = terms.kind[:, lane] == NUMBER
        term = np.where(terms.negative[:, lane], -terms.m[:, lane], terms.m[:, lane])
        ours = np.where(number, terms.e[:, lane], e)
        low = np.minimum(np.where(m != 0, e, ours), ours)
        m = left(m, np.where(m != 0, e - low, 0)) + np.where(number, left(term, np.where(number, ours - low, 0)), 0)
        cut = np.maximum(bit_length(np.abs(m)) - to.precision, 0).astype(object)
        m, e = np.where(m < 0, -(-m >> cut), m >> cut), low + cut.astype(np.int64)
    p = place(exact, to)
    kept = np.where(exact.kind == NUMBER, p.kept, 0)
    low = np.where(m != 0, bit_length(np.abs(m)) + e, 0)
    same_top = (low == exact.top + 1) | (exact.kind != NUMBER)
    short = left(np.abs(m), to.precision - bit_length(np.abs(m)))
    wrong = (exact.kind == NUMBER) & ~(same_top & ((short == kept) | p.low))
    return wrong | (exact.kind == ZERO) & np.asarray(m != 0, bool)


# ---- what they cannot reach ------------------------------------------------------------------------------------

LONG = {
    "largest finite value", "beyond the largest value, below the threshold", "just below the overflow threshold",
    "overflow threshold", "just above the overflow threshold", "rounds up to the smallest normal", "largest subnormal",
    "a quarter below the smallest normal, where tininess is decided", "carry to the next binade",
}  # fmt: skip


def unreachable(function: Function) -> set[str]:
    """Classes of dots that their formats exclude; blocks are asked of their candidates.

    - Sums of products of narrow formats neither overflow nor underflow binary32 where their range lies inside its own,
      are exact where all their digits fit, and have no term far below another where one block's range is too small.
    - Sums whose digits are fewer than binary32's are not next to the largest value nor to the smallest normal.
    """
    from .coverage import INEXACT, OVERFLOWS, TINY, UNSIGNED

    if function.operation == "encode_block":
        return _unreached(function)
    source, to = function.sources[0], function.to
    assert isinstance(to, FloatFormat)
    assert not isinstance(source, CodebookFormat)
    high, unit = max(source.max, -source.min) ** 2, _quantum(source) ** 2
    least = source.min_positive**2
    digits = int(high * function.size / unit).bit_length()
    span = int(high / least).bit_length()
    if function.block is not None:
        scale = function.sources[1]
        assert not isinstance(scale, CodebookFormat)
        several = function.scales > 1
        reach = int((scale.max / scale.min_positive) ** 2).bit_length()
        own = scale.precision if isinstance(scale, FloatFormat) else scale.bits
        digits += reach if several else 2 * (own - 1) + (own > 1)
        span += reach if several else 0
        high, unit, least = high * scale.max**2, unit * scale.min_positive**2, least * scale.min_positive**2
    missing: set[str] = set()
    if high * function.size < to.max / 2:
        missing |= OVERFLOWS | {"largest finite value"}
    if least >= to.min_normal:
        missing |= TINY | {"underflow: exact subnormal", "largest subnormal"}
        missing |= {"smallest normal"} if least > to.min_normal else set()
    p = to.precision
    if digits < p:
        missing |= LONG | {"order of additions matters", "M, -M and a small term"}
        missing |= INEXACT if unit >= _quantum(to) else set()
    missing |= {"massive cancellation"} if span < 9 else set()
    apart = {"a term p - 1 digits below the largest": p, "a term p digits below the largest": p + 1}
    missing |= {name for name, need in (apart | {"a term far below the largest": p + 3}).items() if span < need}
    if not source.has_infinity:
        missing |= {"result infinite"}
        signaling = isinstance(source, FloatFormat) and source.specials is Specials.IEEE
        missing |= set() if signaling else {"invalid operation"}
    missing |= UNSIGNED if source.min >= 0 else set()
    if function.size == 1:
        missing |= {name for name in _NEED_LANES}
    return missing


_NEED_LANES = {
    "products zero in some lanes", "carries beyond the largest product", "cancellation to zero", "massive cancellation",
    "a term p - 1 digits below the largest", "a term p digits below the largest", "a term far below the largest",
    "M, -M and a small term", "order of additions matters", "infinities of opposite signs",
}  # fmt: skip


def _quantum(fmt: FloatFormat | FixedFormat) -> Fraction:
    """Every value is a multiple of it."""
    if isinstance(fmt, FixedFormat):
        return fmt.quantum
    return Fraction(2) ** (fmt.emin - fmt.trailing_bits - (fmt.subnormals is Subnormals.SHIFTED))


@lru_cache(maxsize=64)
def _unreached(function: Function) -> set[str]:
    """What no candidate reaches: they hold every boundary of scales and elements."""
    from .directed import candidates

    columns = candidates(function, 1, 1)
    return {name for name, rows in encoding(function, columns[0]).items() if not rows.any()}
