"""What blocks and dot products give: encodings of whole blocks, and exact sums of products that are rounded once."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..arithmetic import compute
from ..arrays import encode as encode_array
from ..formats import CodebookFormat, FixedFormat, FloatFormat, Format, Specials, Subnormals
from ..named import scalar_format
from ..rounding import Rounding
from .evaluation import options_of
from .functions import Function, Rules

Array = npt.NDArray[Any]

INVALID = 16
TABLE_BITS = 16  # codes up to so many bits are decoded by a table
NARROW = 62  # bits of a sum in int64
BINARY64, BINARY256 = scalar_format("float64"), scalar_format("binary256")
WORKING = 230  # bits of a sum that binary256 takes; lower ones become sticky

# ---- blocks ----------------------------------------------------------------------------------------------------


def encode(function: Function, x: Array, rules: Rules, random: Array | None, threads: int | None) -> Array:
    """Codes of rows of binary32 codes: scales, then elements. With a tensor scale, a row is the whole array."""
    assert function.block is not None
    values = np.ascontiguousarray(x, np.uint32).reshape(len(x), function.size).view(np.float32)
    out = np.empty((len(x), function.scales + function.size), np.uint32)
    if not function.block.has_tensor_scale:
        if len(x):
            _fill(function, values, rules, random, slice(None), out, threads)
        return out
    magnitudes = (values.view(np.uint32) & 0x7FFFFFFF).max(axis=1, initial=0)
    for index in _alike(magnitudes):
        _fill(function, values, rules, random, index, out, threads)
    return out


def _alike(magnitudes: Array) -> list[Array]:
    """Indices of rows with the same largest magnitude, which share a tensor scale; NaNs are each by itself."""
    order = np.argsort(magnitudes, kind="stable")
    ordered = magnitudes[order]
    changes = (ordered[1:] != ordered[:-1]) | (ordered[1:] > 0x7F800000)
    return [part for part in np.split(order, np.flatnonzero(changes) + 1) if part.size]


def _fill(
    function: Function, values: Array, rules: Rules, random: Array | None, rows: Any, out: Array, threads: int | None
) -> None:
    """Encode some rows as one array."""
    assert function.block is not None
    numbers = None if random is None else random.reshape(len(values), function.size)[rows]
    made = encode_array(values[rows], function.block, axis=-1, threads=threads, **options_of(rules, numbers))
    count = len(made.codes)
    scales = np.ascontiguousarray(made.scales).reshape(count, function.scales)
    if scales.dtype.kind == "f":
        scales = scales.view(f"uint{8 * scales.dtype.itemsize}")
    out[rows, : function.scales] = scales
    out[rows, function.scales :] = made.codes


# ---- dot products ----------------------------------------------------------------------------------------------

NUMBER, INFINITE, QUIET, SIGNALING = 0, 1, 2, 3


class Factor(NamedTuple):
    """Codes taken apart: each finite value is m × 2**q with one q for all, or with an exponent each."""

    m: Array  # int64, or object where that is too narrow
    kind: Array
    negative: Array
    q: Any  # int, or an int64 array


def _kind(code: int, fmt: Format) -> tuple[int, bool]:
    """Kind and sign of a code that is no finite value other than zero, or of -0."""
    value = fmt.exact(code)
    if isinstance(value, Fraction):
        return NUMBER, value < 0
    if value == "nan":
        return SIGNALING if is_signaling(code, fmt) else QUIET, False
    return (NUMBER if value == "-0" else INFINITE), value != "inf"


def is_signaling(code: int, fmt: Format) -> bool:
    """Whether a code is a signalling NaN: of IEEE 754 formats, the quiet bit clear."""
    if not isinstance(fmt, FloatFormat) or fmt.specials is not Specials.IEEE:
        return False
    return code & fmt.magnitude_mask > fmt.max_code + 1 and not code & fmt.quiet_bit


def _fraction(code: int, fmt: Format) -> Fraction:
    value = fmt.exact(code)
    return value if isinstance(value, Fraction) else Fraction(0)


def _objects(values: Sequence[int]) -> Array:
    made = np.empty(len(values), object)
    made[:] = values
    return made


@lru_cache(maxsize=64)
def _quantum(fmt: Format) -> int:
    """q such that every finite value of a format is a multiple of 2**q."""
    if isinstance(fmt, FixedFormat):
        return -fmt.fraction_bits
    assert isinstance(fmt, FloatFormat)
    return fmt.emin - fmt.trailing_bits - (fmt.subnormals is Subnormals.SHIFTED)


@lru_cache(maxsize=64)
def _width(fmt: Format) -> int:
    """Bits of the largest magnitude in units of 2**q."""
    assert not isinstance(fmt, CodebookFormat)
    return int(max(fmt.max, -fmt.min) / Fraction(2) ** _quantum(fmt)).bit_length()


def _factor(codes: Sequence[int], fmt: Format, scale: bool) -> Factor:
    """Codes taken apart one by one; those of scales with an exponent each."""
    values = [_fraction(code, fmt) for code in codes]
    kinds = [_kind(code, fmt) for code in codes]
    kind, negative = np.array([k for k, _ in kinds], np.uint8), np.array([n for _, n in kinds], bool)
    if not scale:
        m = _objects([int(v / Fraction(2) ** _quantum(fmt)) for v in values])
        return Factor(m.astype(np.int64) if _width(fmt) <= NARROW else m, kind, negative, _quantum(fmt))
    twos = [(v.numerator & -v.numerator).bit_length() - v.denominator.bit_length() if v else 0 for v in values]
    m = _objects([int(v / Fraction(2) ** e) for v, e in zip(values, twos, strict=True)])
    return Factor(m.astype(np.int64), kind, negative, np.array(twos, np.int64))


@lru_cache(maxsize=32)
def _table(fmt: Format, scale: bool) -> Factor:
    """Every code of a narrow format taken apart."""
    return _factor(range(2**fmt.bits), fmt, scale)


def _decoded(codes: Array, fmt: Format, scale: bool = False) -> Factor:
    """Codes taken apart."""
    if fmt.bits <= TABLE_BITS:
        table, index = _table(fmt, scale), codes.astype(np.intp)
    else:
        unique, index = np.unique(codes, return_inverse=True)
        table, index = _factor([int(code) for code in unique.tolist()], fmt, scale), index.reshape(codes.shape)
    return Factor(table.m[index], table.kind[index], table.negative[index], table.q[index] if scale else table.q)


def dot(
    function: Function, operands: Sequence[Array], rules: Rules, random: Array | None, threads: int | None
) -> tuple[Array, Array]:
    """Binary32 codes and flags of exact sums of products.

    A zero sum has the sign of its terms where they are zeros of one sign; else it is +0, -0 rounding toward negative.
    NaN operands give NaN; so do infinity times zero and infinities of both signs, which are invalid, as signalling NaNs
    are.
    """
    rows, element = len(operands[0]), function.sources[0]
    columns = [column.reshape(rows, -1) for column in operands]
    a, b = (_decoded(column, element) for column in (columns[0], columns[len(columns) // 2]))
    scales = [_decoded(column, function.sources[1], True) for column in columns[1::2]] if function.block else []
    factors = [a, b, *(_spread(scale, function) for scale in scales)]
    narrow = 2 * _width(element) + function.size.bit_length() <= NARROW
    products = a.m * b.m if narrow else a.m.astype(object) * b.m.astype(object)
    sums, exponent = _scaled(function, products, scales, 2 * a.q) if scales else (products.sum(axis=1), 2 * a.q)
    specials = _specials(factors, rules)
    sources, codes = _float_codes(sums, exponent, specials.minus_zero)
    assert isinstance(sources, FloatFormat)
    assert sources.infinity_code is not None
    assert sources.nan_code is not None
    assert isinstance(function.to, FloatFormat)
    codes[specials.plus] = sources.infinity_code
    codes[specials.minus] = sources.infinity_code | sources.sign_mask
    codes[specials.nan] = sources.nan_code
    results, flags = compute(
        "convert", [codes], sources, to=function.to, tininess=rules.tininess, threads=threads,
        **options_of(rules, random),
    )  # fmt: skip
    return results, flags | np.where(specials.invalid, np.uint8(INVALID), np.uint8(0))


def _spread(scale: Factor, function: Function) -> Factor:
    """Scales beside the elements they belong to."""
    assert function.block is not None
    size = function.block.elements_per_block or function.size
    return Factor(*(np.repeat(part, size, axis=1)[:, : function.size] for part in scale))


def _scaled(function: Function, products: Array, scales: Sequence[Factor], q: int) -> tuple[Array, Array]:
    """Sums m and their exponents of products in blocks that have scales."""
    assert function.block is not None
    size = function.block.elements_per_block or function.size
    starts = np.arange(0, function.size, size)
    sums = np.add.reduceat(products, starts, axis=1)
    exponents = q + scales[0].q + scales[1].q
    factors = scales[0].m * scales[1].m
    if function.scales == 1 and sums.dtype != object:
        largest = int(np.abs(sums).max(initial=0)) * int(np.abs(factors).max(initial=0))
        if largest < 1 << NARROW:
            return (sums * factors)[:, 0], exponents[:, 0]
    lowest = exponents.min(axis=1)
    shifts = (exponents - lowest[:, None]).astype(object)
    return ((sums.astype(object) * factors.astype(object)) << shifts).sum(axis=1), lowest


class _Specials(NamedTuple):
    """Rows whose sum is no ordinary number."""

    nan: Array
    invalid: Array
    plus: Array  # infinity
    minus: Array
    minus_zero: Array  # where the sum is zero


def _specials(factors: Sequence[Factor], rules: Rules) -> _Specials:
    """What a row with NaNs, infinities and zeros comes to; every product is that of all factors."""
    negative = np.logical_xor.reduce([f.negative for f in factors])
    infinite = np.logical_or.reduce([f.kind == INFINITE for f in factors])
    nan = np.logical_or.reduce([f.kind >= QUIET for f in factors])
    zero = np.logical_or.reduce([(f.kind == NUMBER) & (f.m == 0) for f in factors])
    signaling = np.logical_or.reduce([f.kind == SIGNALING for f in factors]).any(axis=1)
    infinite &= ~nan
    plus, minus = (infinite & ~negative).any(axis=1), (infinite & negative).any(axis=1)
    no_nan = ~nan.any(axis=1)
    invalid = signaling | (no_nan & ((infinite & zero).any(axis=1) | (plus & minus)))
    one_sign = negative.all(axis=1) | (~negative).all(axis=1)
    only_zeros = zero.all(axis=1) & one_sign
    minus_zero = np.where(only_zeros, negative.all(axis=1), rules.rounding is Rounding.TOWARD_NEGATIVE)
    return _Specials(~no_nan | invalid, invalid, plus, minus, minus_zero)


def _float_codes(sums: Array, exponent: Any, minus_zero: Array) -> tuple[Format, Array]:
    """Codes of sums × 2**exponent in a format that holds them; of the bits beyond 230 only whether there are any."""
    exponents = np.broadcast_to(np.asarray(exponent, np.int64), sums.shape)
    low, high = (int(exponents.min(initial=0)), int(exponents.max(initial=0)))
    if sums.dtype != object and int(np.abs(sums).max(initial=0)) < 2**53 and low > -1000 and high < 900:
        values = np.ldexp(sums.astype(np.float64), exponents.astype(np.int32))
        codes = values.view(np.uint64)
        codes[(sums == 0) & minus_zero] = np.uint64(1 << 63)
        return BINARY64, codes
    wide = [_wide_code(int(m), int(e)) for m, e in zip(sums.tolist(), exponents.tolist(), strict=True)]
    zeros = zip(wide, minus_zero.tolist(), strict=True)
    return BINARY256, _objects([1 << 255 if code == 0 and minus else code for code, minus in zeros])


def _wide_code(m: int, e: int) -> int:
    """The binary256 code of m × 2**e."""
    assert isinstance(BINARY256, FloatFormat)
    magnitude, t = abs(m), BINARY256.trailing_bits
    if magnitude == 0:
        return 0
    spare = magnitude.bit_length() - WORKING
    if spare > 0:
        magnitude = magnitude >> spare | (magnitude & ((1 << spare) - 1) != 0)
        e += spare
    length = magnitude.bit_length()
    field = e + length - 1 + BINARY256.bias
    trailing = (magnitude << (t + 1 - length)) - (1 << t)
    return (m < 0) << (BINARY256.bits - 1) | field << t | trailing
