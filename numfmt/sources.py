"""Operands and results: which dtype holds what, and how elements become carrier patterns."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from . import engines
from ._core.fixed import Grid
from ._core.parameters import BINARY32, BINARY64, Carrier, Source
from .carriers import BINARY256, floor_log2, holds, pattern, signed
from .formats import CodebookFormat, FixedFormat, FloatFormat, Format, Subnormals
from .named import scalar_format
from .plans import fixed_grid, source_plan

Array = npt.NDArray[Any]

_ML_DTYPES = (
    "bfloat16", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2",
    "float8_e5m2fnuz", "float8_e8m0fnu", "float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn",
)  # fmt: skip
FLOATS: dict[np.dtype[Any], FloatFormat] = {}
for _name in ("float16", "float32", "float64"):
    FLOATS[np.dtype(_name)] = scalar_format(_name)  # type: ignore[assignment]
FLOATS |= {np.dtype(getattr(ml_dtypes, n)): scalar_format(n) for n in _ML_DTYPES if hasattr(ml_dtypes, n)}
_SMALL_INTS = {
    np.dtype(getattr(ml_dtypes, n)): np.dtype(np.int8 if n.startswith("i") else np.uint8)
    for n in ("int1", "int2", "int4", "uint1", "uint2", "uint4")
    if hasattr(ml_dtypes, n)
}


def dtype_format(dtype: np.dtype[Any]) -> Format | None:
    """The format whose values a dtype holds: a float, or an integer as fixed point; None for other dtypes."""
    if dtype in FLOATS:
        return FLOATS[dtype]
    if dtype in _SMALL_INTS:
        name = dtype.name
        return FixedFormat(int(name.removeprefix("u").removeprefix("int")), signed=not name.startswith("u"))
    if dtype.kind in "iu":
        return FixedFormat(8 * dtype.itemsize, signed=dtype.kind == "i")
    return None


def code_dtype(fmt: Format) -> np.dtype[Any]:
    """Smallest unsigned dtype that holds a format's codes; object beyond 64 bits."""
    for bits in (8, 16, 32, 64):
        if fmt.bits <= bits:
            return np.dtype(f"uint{bits}")
    return np.dtype(object)


def pattern_dtype(carrier: Carrier) -> np.dtype[Any]:
    """Signed integer dtype of a carrier's patterns; object for exact Python integers."""
    return np.dtype({32: np.int32, 64: np.int64}.get(carrier.bits, object))


@dataclass(frozen=True)
class Operand:
    """An array of real numbers, and how its elements become patterns of a carrier."""

    array: Array  # native byte order
    format: Format
    is_scalar: bool  # a Python or NumPy scalar was given
    holds_codes: bool = False  # elements are codes of the format, not numbers of a dtype

    @property
    def carrier(self) -> Carrier:
        """The narrowest carrier that holds every element."""
        return narrowest_carrier(self.format)

    def patterns(self, part: Array, carrier: Carrier) -> Any:
        """Patterns of a flat part of the array: signed integers, or a list of ints for exact carriers."""
        fmt = self.format
        if not self.holds_codes:
            if part.dtype == np.float32 and carrier is BINARY32:
                return part.view(np.int32)
            if part.dtype == np.float64 and carrier is BINARY64:
                return part.view(np.int64)
            if carrier is BINARY256:  # the dtype's own codes, also where integers happen to fit 53 bits
                fmt = dtype_format(part.dtype) or fmt
            elif isinstance(fmt, FixedFormat):  # exact in the carrier's float, and none is subnormal
                return part.astype(f"float{carrier.bits}").view(pattern_dtype(carrier))
        codes = self.codes(part)
        return with_nan_signs(decode_codes(codes, fmt, carrier), codes, fmt, carrier)

    def codes(self, part: Array) -> Array:
        """Elements as the unsigned integers that name them."""
        if self.holds_codes:
            return part
        if part.dtype in _SMALL_INTS:
            part = part.astype(_SMALL_INTS[part.dtype])
        return part.view(f"uint{8 * part.dtype.itemsize}")


def code_operand(codes: Any, fmt: Format) -> Operand:
    """The operand of codes that are converted; raises TypeError for what is not an integer."""
    array = np.asarray(codes)
    if array.dtype.kind not in "iuO":
        raise TypeError(f"codes has dtype {array.dtype}; it must hold integers")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return Operand(array, fmt, array.ndim == 0 and not isinstance(codes, np.ndarray), True)


@lru_cache(maxsize=1024)
def narrowest_carrier(fmt: Format) -> Carrier:
    """The narrowest carrier that holds every value of a format."""
    return next((c for c in (BINARY32, BINARY64) if holds(c, fmt)), BINARY256)


def operand_of(x: Any) -> Operand:
    """The operand of a call; raises TypeError for what is not a real number."""
    if isinstance(x, Operand):
        return x
    array = np.asarray(x)
    if array.dtype.kind == "O" or (array.dtype.kind in "bcSUVmM" and dtype_format(array.dtype) is None):
        raise TypeError(f"x has dtype {array.dtype}; it must hold real numbers: floats, integers or ml_dtypes types")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    is_python = isinstance(x, int | float) and not isinstance(x, np.generic)
    if is_python and array.dtype.kind in "iu":
        array = array.astype(np.float64) if abs(int(x)) <= 2**53 else array
    fmt = dtype_format(array.dtype)
    if fmt is None or isinstance(fmt, CodebookFormat):
        raise TypeError(f"x has dtype {array.dtype}; float16, float32, float64, integers and ml_dtypes types are taken")
    if isinstance(fmt, FixedFormat) and fmt.bits == 64 and _fits_53(array):
        fmt = FixedFormat(53, signed=fmt.signed)
    return Operand(array, fmt, is_python or isinstance(x, np.generic))


def _fits_53(array: Array) -> bool:
    """Whether 64-bit integers are all exact in binary64, so that the faster carrier gives the same results."""
    return array.size == 0 or (int(array.max()) <= 2**53 and int(array.min()) >= -(2**53))


# Results


def quantum_exponent(fmt: FloatFormat | FixedFormat, exponent: int) -> int:
    """Exponent of the distance of a format's neighbours in [2**exponent, 2**(exponent + 1))."""
    if isinstance(fmt, FixedFormat):
        return -fmt.fraction_bits
    if exponent >= fmt.emin:
        return exponent - fmt.trailing_bits
    if fmt.subnormals is Subnormals.NONE:
        return fmt.emin
    return fmt.emin - fmt.trailing_bits - (fmt.subnormals is Subnormals.SHIFTED)


@lru_cache(maxsize=4096)
def results_exact(source: FloatFormat | FixedFormat, fmt: Format, result: FloatFormat) -> bool:
    """Whether every value that rounding a `source` value to `fmt` can give, in any mode, is a value of `result`."""
    largest = max(source.max, -source.min)
    beyond = largest > fmt.max or source.has_infinity or (source.has_nan and not fmt.has_nan)
    negative = source.min < 0 <= fmt.min
    if not _zero(result) or (source.has_nan and fmt.has_nan and not result.has_nan):
        return False
    if fmt.has_nan and (largest > fmt.max or negative) and not result.has_nan:
        return False
    if fmt.has_infinity and beyond and not result.has_infinity:
        return False
    if not result.signed and source.min < 0 and fmt.min < 0:
        return False
    carrier = narrowest_carrier(result)
    if isinstance(fmt, CodebookFormat):
        return all(_in(v, result, carrier) for v in fmt.values)
    if beyond and not (_in(fmt.max, result, carrier) and _in(fmt.min, result, carrier)):
        return False
    if source.min_positive < fmt.min_positive and not _in(fmt.min_positive, result, carrier):
        return False
    for e in range(floor_log2(source.min_positive), min(floor_log2(largest), floor_log2(fmt.max)) + 1):
        grid = max(quantum_exponent(fmt, e), quantum_exponent(source, e))
        last = min(largest, Fraction(2) ** (e + 1) - Fraction(2) ** quantum_exponent(source, e))
        top = min(-(-last // Fraction(2) ** grid) * Fraction(2) ** grid, fmt.max)  # the last operand, rounded up
        if quantum_exponent(result, e) > grid or top > result.max:
            return False
    return True


def _zero(fmt: Format) -> bool:
    return not isinstance(fmt, FloatFormat) or fmt.zero


def _in(value: Fraction, fmt: FloatFormat, carrier: Carrier) -> bool:
    """Whether a float format (of a NumPy dtype) holds a value."""
    if abs(value) > fmt.max or (value < 0 and not fmt.signed):
        return False
    if value == 0:
        return fmt.zero
    return value / Fraction(2) ** quantum_exponent(fmt, floor_log2(abs(value))) % 1 == 0


@lru_cache(maxsize=4096)
def result_dtype(dtype: np.dtype[Any], fmt: Format) -> np.dtype[Any]:
    """Dtype of `quantize`: the operand's if every possible result is exact in it, else float32, else float64."""
    source = dtype_format(dtype)
    assert source is not None
    assert not isinstance(source, CodebookFormat)
    candidates = [np.dtype(np.float32)]
    if dtype in FLOATS:
        candidates.insert(0, dtype)
    return next((d for d in candidates if results_exact(source, fmt, FLOATS[d])), np.dtype(np.float64))


# Decoding


@lru_cache(maxsize=1024)
def decode_plan(fmt: FloatFormat | FixedFormat, carrier: Carrier) -> Source | Grid:
    """Kernel parameters for decoding."""
    return source_plan(fmt, carrier) if isinstance(fmt, FloatFormat) else fixed_grid(fmt, None, carrier)


@lru_cache(maxsize=64)
def decode_table(fmt: Format, carrier: Carrier) -> Array:
    """Patterns of all codes of a format of at most 16 bits."""
    dtype = pattern_dtype(carrier)
    if isinstance(fmt, CodebookFormat):
        entries = [pattern(fmt.exact(code), carrier) for code in range(2**fmt.bits)]
        table = np.array([signed(e, carrier.bits) for e in entries], dtype)
    else:
        table = engines.decode(np.arange(2**fmt.bits, dtype=dtype), carrier, decode_plan(fmt, carrier))
    table.flags.writeable = False
    return table


def decode_codes(codes: Array, fmt: Format, carrier: Carrier) -> Any:
    """Patterns of flat codes (any integer dtype) in a carrier that holds the format's values."""
    if carrier is BINARY256 or fmt.bits > 64:
        return [exact_pattern(int(code), fmt, carrier) for code in codes.tolist()]
    if codes.dtype.kind == "i" or fmt.bits < 8 * codes.dtype.itemsize:
        codes = codes & codes.dtype.type(
            min(2**fmt.bits - 1, np.iinfo(codes.dtype).max if codes.dtype.kind == "u" else -1)
        )
    if fmt.bits <= 16:
        return decode_table(fmt, carrier).take(codes.astype(np.intp), mode="wrap")
    wide = codes.astype(f"uint{carrier.bits}").view(pattern_dtype(carrier))
    return engines.decode(wide, carrier, decode_plan(fmt, carrier))


def with_nan_signs(patterns: Any, codes: Array, fmt: Format, carrier: Carrier) -> Any:
    """`patterns`, but NaNs with the sign of their codes: platforms look at it."""
    if not isinstance(fmt, FloatFormat) or not fmt.signed or not fmt.has_nan:
        return patterns
    sign = 1 << carrier.sign_shift
    if isinstance(patterns, list):
        top = 1 << (fmt.bits - 1)
        return [
            p | sign if p > carrier.infinity and c & top else p for p, c in zip(patterns, codes.tolist(), strict=True)
        ]
    negative = (patterns > carrier.infinity) & (codes >> (fmt.bits - 1) & 1 != 0)
    return np.where(negative, patterns | signed(sign, carrier.bits), patterns) if negative.any() else patterns


def exact_pattern(code: int, fmt: Format, carrier: Carrier) -> int:
    """Pattern of one code, in plain Python."""
    return pattern(fmt.exact(code), carrier)
