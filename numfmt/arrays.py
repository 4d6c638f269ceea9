"""encode, decode, quantize, convert: formats over NumPy arrays of any shape, stride and dtype.

An operand goes through the narrowest carrier that holds it exactly (binary32, binary64, or Python
integers) and is rounded once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from . import engines
from ._core.parameters import BINARY32, BINARY64, Carrier
from .block_arrays import BlockArray
from .block_functions import decode_array, encode_array, quantize_array
from .block_layout import Axis
from .blocks import BlockFormat
from .carriers import BINARY256
from .formats import Exact, FloatFormat, Format
from .named import scalar_format
from .named_blocks import get_format
from .plans import Plan, encode_plan, quantize_plan, resolve
from .platforms import get_platform
from .random import Seed, key_of
from .rounding import Overflow, Platform, Rounding
from .scheduler import RandomSource, over_chunks, run, thread_count
from .sources import (
    FLOATS,
    Operand,
    code_dtype,
    code_operand,
    decode_codes,
    narrowest_carrier,
    operand_of,
    result_dtype,
)
from .specials import Rules

Array = npt.NDArray[Any]
CARRIERS = (BINARY32, BINARY64, BINARY256)


@lru_cache(maxsize=4096)
def _rules(
    fmt: Format,
    rounding: str | None,
    overflow: str | None,
    platform: str | Platform | None,
    random_bit_count: int | None,
    wrap_bits: int,
) -> Rules:
    return resolve(
        fmt, rounding, overflow, None if platform is None else get_platform(platform), random_bit_count, wrap_bits
    )


@lru_cache(maxsize=4096)
def _choose_plan(
    maker: Callable[[Format, Rules, Carrier], Plan | None], fmt: Format, rules: Rules, at_least: Carrier
) -> Plan:
    """The plan on the narrowest carrier, from `at_least` on, that can do it."""
    plans = (maker(fmt, rules, carrier) for carrier in CARRIERS[CARRIERS.index(at_least) :])
    return next(plan for plan in plans if plan is not None)


def random_source(
    shape: tuple[int, ...], rules: Rules, seed: Seed | None, random_bits: npt.ArrayLike | None
) -> RandomSource | None:
    """The random numbers of a call on an array of `shape`, checked against the mode."""
    if not rules.random_bit_count:
        if seed is not None or random_bits is not None:
            given = "seed" if seed is not None else "random_bits"
            raise ValueError(f"{given} is given; rounding {rules.rounding.value!r} takes no random bits")
        return None
    if (seed is None) == (random_bits is None):
        raise ValueError(f"rounding {rules.rounding.value!r} needs random bits; give one of seed= and random_bits=")
    if seed is not None:
        return RandomSource(key_of(seed), None, rules.random_bit_count)
    numbers = np.asarray(random_bits)
    if numbers.dtype.kind not in "iu":
        raise TypeError(f"random_bits has dtype {numbers.dtype}; it must hold integers, uint32 for choice")
    try:
        every = np.broadcast_to(numbers, shape)
    except ValueError:
        raise ValueError(
            f"random_bits has shape {numbers.shape}; it must broadcast to x's shape {shape}"
        ) from None
    flat = every.astype(np.uint32).reshape(-1)
    return RandomSource(None, flat, rules.random_bit_count)


def checked_out(out: Array | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """`out`, or a new array; raises ValueError where it does not fit the result."""
    if out is None:
        return np.empty(shape, dtype)
    if not isinstance(out, np.ndarray) or out.shape != shape or out.dtype != dtype:
        given = f"shape {out.shape} and dtype {out.dtype}" if isinstance(out, np.ndarray) else f"a {type(out).__name__}"
        raise ValueError(f"out has {given}; the result has shape {shape} and dtype {dtype}")
    if not out.flags.writeable:
        raise ValueError("out is read-only; give an array that can be written")
    return out


def encode(
    x: npt.ArrayLike,
    format: str | Format | BlockFormat,
    *,
    axis: Axis = -1,
    rounding: Rounding | str | None = None,
    overflow: Overflow | str | None = None,
    platform: Platform | str | None = None,
    seed: Seed | None = None,
    random_bits: npt.ArrayLike | None = None,
    random_bit_count: int | None = None,
    wrap_bits: int = 0,
    return_flags: bool = False,
    tininess: str = "after",
    out: Any = None,
    threads: int | None = None,
) -> Any:
    """Codes of the values that `x` rounds to; for a block format, codes and scales: a `BlockArray`.

    Args:
        x: real numbers of any shape: floats, integers, ml_dtypes types, Python scalars.
        format: a format or its name; a scalar one, or a block format such as mxfp4.
        axis: of blocks: an int; a pair for tiles (by default the last two); not looked at otherwise.
        rounding: `Rounding` or name; the format's default, mostly ties to even.
        overflow: `Overflow` or name; the format's default: infinity where it has one, else saturate.
        platform: a vendor's rules (`get_platform`); `rounding` and `overflow` override them.
        seed: for stochastic modes: element i, in C order, takes the word of (seed, i).
        random_bits: instead of a seed: integers that broadcast to x's shape; the low N bits count.
        random_bit_count: N, 1 to 32, for stochastic_a, _b and _c; 32 if not given.
        wrap_bits: for overflow="wrap": how many top bits saturate (the N of ap_fixed).
        return_flags: return (codes, flags), flags being uint8 IEEE flags in TestFloat's order.
        tininess: "after" or "before" rounding, for the underflow flag.
        out: array of the result's shape and dtype to fill; of a block format a `BlockArray`, its codes packed or not.
        threads: at most so many; NUMFMT_THREADS, then all cores, by default.

    Returns:
        Array of x's shape, of the smallest unsigned dtype that holds the format's codes (object above
        64 bits); a NumPy scalar for a scalar. Of a block format a `BlockArray`, whose elements saturate
        unless `overflow` says otherwise; flags and wrap_bits are for scalar formats.

    Raises:
        ValueError: unknown names, a mode that the format cannot express, missing random bits, an axis
            that x lacks.
        TypeError: x is bool, complex, longdouble or no number.

    References: IEEE 754-2019 §4.3, §5.4.2, §7; P3109 Interim Report v4.0 §4.7.

    >>> import numpy as np
    >>> encode(np.float32([0.1, -1.7, 300, 1e6]), "e4m3fn")
    array([ 29, 190, 121, 126], dtype=uint8)
    >>> encode(np.float32([0.1, -1.7, 300, 1e6]), "e4m3fn", return_flags=True)[1]
    array([1, 1, 1, 5], dtype=uint8)
    """
    fmt = get_format(format)
    if isinstance(fmt, BlockFormat):
        _refuse_scalar_options(fmt, wrap_bits, return_flags)
        return encode_array(
            x, fmt, axis=axis, rounding=rounding, overflow=overflow, platform=platform, seed=seed,
            random_bits=random_bits, random_bit_count=random_bit_count, out=out, threads=threads,
        )  # fmt: skip
    operand = operand_of(x)
    result: Any
    rules = _rules(fmt, rounding, overflow, platform, random_bit_count, wrap_bits)
    random = random_source(operand.array.shape, rules, seed, random_bits)
    plan = _choose_plan(encode_plan, fmt, rules, operand.carrier)
    codes = checked_out(out, operand.array.shape, code_dtype(fmt))
    if platform is not None and get_platform(platform).arithmetic.converts:
        flags = _encode_as_arithmetic(operand, fmt, rules, get_platform(platform), random, codes, tininess)
        if flags is not None:
            result = codes[()] if operand.is_scalar else codes
            return (result, flags[()] if operand.is_scalar else flags) if return_flags else result
    finish = _with_integer_bits(fmt) if isinstance(fmt, FloatFormat) and fmt.integer_bit else None
    run(plan, operand, random, False, codes, finish, threads)
    result = codes[()] if operand.is_scalar else codes
    if not return_flags:
        return result
    from .flags import exception_flags

    flags = exception_flags(operand, fmt, rules, random, tininess)
    return result, flags[()] if operand.is_scalar else flags


def _encode_as_arithmetic(
    operand: Operand,
    fmt: Format,
    rules: Rules,
    platform: Platform,
    random: RandomSource | None,
    out: Array,
    tininess: str,
) -> Array | None:
    """Fill `out` as a platform's convert instruction does, NaNs and subnormals too; its flags, or None."""
    from . import arithmetic_engine as engine

    source = operand.format
    if not (isinstance(source, FloatFormat) and isinstance(fmt, FloatFormat)) or source.integer_bit or fmt.integer_bit:
        return None
    call = engine.Call("convert", (source,), fmt, rules, platform, tininess == "after", False)
    codes, flags = engine.run(call, [operand.codes(operand.array).reshape(-1)], random, None)
    out[...] = codes.reshape(out.shape)
    return flags.reshape(out.shape)


def _refuse_scalar_options(fmt: BlockFormat, wrap_bits: int, return_flags: bool = False) -> None:
    given = "wrap_bits" if wrap_bits else "return_flags" if return_flags else None
    if given:
        raise ValueError(f"{given} is given for {fmt}; it is for scalar formats, such as {fmt.element}")


def _with_integer_bits(fmt: FloatFormat) -> Callable[[Array], Array]:
    def finish(codes: Array) -> Array:
        joined = np.empty(codes.size, object)
        joined[:] = [fmt.join_integer_bit(code) for code in codes.tolist()]
        return joined

    return finish


def quantize(
    x: npt.ArrayLike,
    format: str | Format | BlockFormat,
    *,
    axis: Axis = -1,
    rounding: Rounding | str | None = None,
    overflow: Overflow | str | None = None,
    platform: Platform | str | None = None,
    seed: Seed | None = None,
    random_bits: npt.ArrayLike | None = None,
    random_bit_count: int | None = None,
    wrap_bits: int = 0,
    out: Array | None = None,
    threads: int | None = None,
) -> Any:
    """The values that `x` rounds to: decode(encode(x, format), format), in x's own dtype where it can.

    Args: as for `encode`.

    Returns:
        Array of x's shape. Its dtype is x's if every result that this dtype and format can give is
        exact in it, else float32, else float64. NaN is the quiet NaN of sign 0.

    Raises:
        ValueError, TypeError: as `encode`.

    >>> import numpy as np
    >>> quantize(np.float32([0.1, -1.7, 300, 1e6]), "e4m3fn").tolist()
    [0.1015625, -1.75, 288.0, 448.0]
    >>> quantize(np.float32([0.1, -1.7]), "e2m1", rounding="stochastic", seed=0)
    array([ 0.5, -2. ], dtype=float32)
    """
    fmt = get_format(format)
    if isinstance(fmt, BlockFormat):
        _refuse_scalar_options(fmt, wrap_bits)
        return quantize_array(
            x, fmt, axis=axis, rounding=rounding, overflow=overflow, platform=platform, seed=seed,
            random_bits=random_bits, random_bit_count=random_bit_count, out=out, threads=threads,
        )  # fmt: skip
    operand = operand_of(x)
    rules = _rules(fmt, rounding, overflow, platform, random_bit_count, wrap_bits)
    random = random_source(operand.array.shape, rules, seed, random_bits)
    dtype = result_dtype(operand.array.dtype, fmt)
    if platform is not None and get_platform(platform).arithmetic.flushes and isinstance(fmt, FloatFormat):
        values = checked_out(out, operand.array.shape, dtype)
        codes = encode(operand, fmt, platform=platform, rounding=rounding, overflow=overflow)  # type: ignore[arg-type]
        values[...] = decode(codes, fmt, dtype=dtype)
        return values[()] if operand.is_scalar else values
    own = narrowest_carrier(FLOATS[dtype])
    plan = _choose_plan(quantize_plan, fmt, rules, max(operand.carrier, own, key=CARRIERS.index))
    values = checked_out(out, operand.array.shape, dtype)
    run(plan, operand, random, True, values, _to_dtype(plan.carrier, dtype), threads)
    return values[()] if operand.is_scalar else values


@lru_cache(maxsize=256)
def _to_dtype(carrier: Carrier, dtype: np.dtype[Any]) -> Callable[[Any], Any] | None:
    """How patterns become elements of a float dtype; None where they are its bits."""
    if dtype.kind == "f" and dtype.itemsize * 8 == carrier.bits:
        return None
    fmt = FLOATS[dtype]
    plan = encode_plan(fmt, resolve(fmt, None, None, None, None), carrier)
    assert plan is not None
    codes = np.dtype(f"uint{8 * dtype.itemsize}")

    def finish(patterns: Any) -> Any:
        if carrier is BINARY256:
            narrow = engines.apply_exactly(plan, patterns.tolist(), None, False)
            return np.array(narrow, codes).view(dtype)
        return engines.apply(plan, patterns, None, False).astype(codes).view(dtype)

    return finish


def decode(
    codes: npt.ArrayLike | BlockArray,
    format: str | Format | None = None,
    *,
    dtype: npt.DTypeLike | None = None,
    platform: Platform | str | None = None,
    out: Array | None = None,
    threads: int | None = None,
) -> Any:
    """Values of codes.

    Args:
        codes: integers of any shape; bits above the format's width are ignored, negative ones are
            two's complement in the low bits. Or a `BlockArray`.
        format: a format or its name; a `BlockArray` has its own.
        platform: for a `BlockArray`: whose order of binary32 operations decodes it
            (transformer_engine, compressed_tensors, modelopt); by default the exact product is rounded once.
        dtype: float dtype of the result, rounded to once (ties to even) where values do not fit it.
        out, threads: as for `encode`.

    Returns:
        Array of codes' shape: float32 where every value of the format is exact in it, else float64.

    Raises:
        ValueError: neither holds every value and no dtype is given.
        TypeError: codes are not integers, or dtype is no float type.

    >>> import numpy as np
    >>> decode(np.uint8([0, 1, 0x7E, 0x7F, 0x80]), "e4m3fn")
    array([ 0.000000e+00,  1.953125e-03,  4.480000e+02,           nan,
           -0.000000e+00], dtype=float32)
    """
    if isinstance(codes, BlockArray):
        if format is not None and get_format(format) != codes.format:
            raise ValueError(f"{format} is given for a BlockArray of {codes.format}; leave the format out")
        return decode_array(codes, dtype=dtype, out=out, platform=platform, threads=threads)
    if format is None:
        raise ValueError("codes are given without a format; decode(codes, format) needs one")
    fmt = scalar_format(format)
    operand = code_operand(codes, fmt)
    array = operand.array
    natural = narrowest_carrier(fmt)
    if dtype is None:
        if natural is BINARY256:
            raise ValueError(f"values of {fmt} do not all fit float64; say dtype= to round them, or use exact()")
        wanted = np.dtype(np.float32 if natural is BINARY32 else np.float64)
    else:
        wanted = np.dtype(dtype)
        if wanted not in FLOATS:
            raise TypeError(f"dtype {wanted} is given; float16, float32, float64 and ml_dtypes floats are taken")
    carrier = max(natural, narrowest_carrier(FLOATS[wanted]), key=CARRIERS.index)
    values = checked_out(out, array.shape, wanted)
    run_decode(fmt, carrier, array, values, _to_dtype(carrier, wanted), threads)
    return values[()] if operand.is_scalar else values


def run_decode(
    fmt: Format, carrier: Carrier, codes: Array, out: Array, finish: Callable[[Any], Any] | None, threads: int | None
) -> None:
    """Fill `out` with the values of codes."""
    from . import compiled
    from .scheduler import CHUNK, LONG_CHUNK

    contiguous = codes.flags.c_contiguous
    x: Any = codes.reshape(-1) if contiguous else codes.flat
    direct = out.flags.c_contiguous
    y: Any = out.reshape(-1) if direct else out.flat
    engine = compiled.decoder_for(fmt, carrier, codes.size) if finish is None and direct else None

    def work(start: int, stop: int) -> None:
        part = x[start:stop]
        if engine is not None and part.dtype.kind == "u":
            engine(part, y[start:stop])
            return
        patterns = decode_codes(part, fmt, carrier)
        if isinstance(patterns, list):
            chunk: Any = np.empty(len(patterns), object)
            chunk[:] = patterns
        else:
            chunk = patterns
        chunk = chunk.view(out.dtype) if finish is None else finish(chunk)
        y[start:stop] = chunk

    long = engine is not None and contiguous
    over_chunks(work, codes.size, LONG_CHUNK if long else CHUNK, thread_count(threads, codes.size))


def convert(
    codes: npt.ArrayLike,
    source: str | Format,
    target: str | Format,
    **options: Any,
) -> Any:
    """Codes of `target` for codes of `source`, rounded once (IEEE 754 convertFormat).

    Args:
        codes: integers, as for `decode`.
        source, target: formats or names.
        options: those of `encode`.

    Returns:
        As `encode`.

    >>> import numpy as np
    >>> convert(np.uint8([0x38, 0x7E]), "e4m3fn", "e5m2")
    array([60, 95], dtype=uint8)
    """
    return encode(code_operand(codes, scalar_format(source)), target, **options)  # type: ignore[arg-type]


def exact(code: int, format: str | Format) -> Exact:
    """The exact value of one code: a Fraction, or "nan", "inf", "-inf", "-0".

    >>> exact(0x7E, "e4m3fn"), exact(0x80, "e4m3fn")
    (Fraction(448, 1), '-0')
    """
    return scalar_format(format).exact(int(code))


def value_table(format: str | Format) -> list[Exact]:
    """Exact values of all codes of a format of at most 16 bits, in code order.

    >>> [str(v) for v in value_table("e2m1")[:8]]
    ['0', '1/2', '1', '3/2', '2', '3', '4', '6']
    """
    fmt = scalar_format(format)
    if fmt.bits > 16:
        raise ValueError(f"{fmt} has {fmt.bits} bits; tables are made of at most 16, exact() reads single codes")
    return [fmt.exact(code) for code in range(2**fmt.bits)]
