"""The border: arrays of floats as patterns of a carrier, and back. Integer code and bit-casts only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from numfmt._core.parameters import BINARY32, BINARY64, Carrier
from numfmt.kernels import (
    FLOATS,
    FixedFormat,
    FloatFormat,
    Format,
    Plan,
    decode_patterns,
    dtype_format,
    encode_plan,
    narrowest_carrier,
    pattern_dtype,
    resolve,
    results_exact,
)
from numfmt.kernels import apply as run

Array = jax.Array


def operand(x: Any) -> Array:
    """`x` as an array of real numbers; raises TypeError for other dtypes."""
    array = jnp.asarray(x)
    fmt = dtype_format(np.dtype(array.dtype))
    if fmt is None or (isinstance(fmt, FloatFormat) and fmt.bits < 8):  # XLA has no bit-casts of the small floats
        raise TypeError(
            f"x has dtype {array.dtype}; float16, bfloat16, float32 and integers that float32 holds are taken"
        )
    return array


def carrier_of(dtype: Any) -> Carrier:
    """The carrier of a dtype's values; raises TypeError where neither binary32 nor (under x64) binary64 holds them."""
    fmt = dtype_format(np.dtype(dtype))
    assert fmt is not None
    carrier = narrowest_carrier(fmt)
    if carrier is not BINARY32 and not jax.config.read("jax_enable_x64"):
        raise TypeError(f"x has dtype {dtype}; without jax_enable_x64 float32 must hold every value: cast it first")
    if carrier is not BINARY32 and carrier is not BINARY64:
        raise TypeError(f"x has dtype {dtype}; 64-bit integers go through numfmt, or cast them to float64 first")
    return carrier


def patterns_of(x: Array, carrier: Carrier = BINARY32) -> Array:
    """Carrier patterns, signed integers of x's shape, of floats or integers that the carrier holds; exact."""
    fmt = dtype_format(np.dtype(x.dtype))
    assert fmt is not None
    wide = jnp.dtype(pattern_dtype(carrier))
    if isinstance(fmt, FixedFormat):  # a conversion of integers is exact, and no result is subnormal
        return lax.bitcast_convert_type(x.astype(f"float{carrier.bits}"), wide)
    codes = lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}"))
    if x.dtype.itemsize * 8 == carrier.bits:
        return lax.bitcast_convert_type(x, wide)
    codes = codes.astype(wide)
    if fmt == FLOATS[np.dtype(jnp.bfloat16)] and carrier is BINARY32:
        return codes << 16
    assert isinstance(fmt, FloatFormat)
    patterns = decode_patterns(codes, fmt, carrier, xp=jnp)
    if not (fmt.signed and fmt.has_nan):
        return patterns
    sign = (codes >> (fmt.bits - 1) & 1) << carrier.sign_shift  # platforms look at the sign of a NaN
    return jnp.where(patterns > carrier.infinity, patterns | sign, patterns)


def values_of(patterns: Array, dtype: Any, carrier: Carrier = BINARY32) -> Array:
    """The values of carrier patterns as an array of a float dtype that holds them."""
    dtype = jnp.dtype(dtype)
    if dtype.itemsize * 8 == carrier.bits:
        return lax.bitcast_convert_type(patterns, dtype)
    if dtype == jnp.bfloat16 and carrier is BINARY32:
        return lax.bitcast_convert_type((patterns >> 16).astype(jnp.uint16), dtype)
    fmt = FLOATS[np.dtype(dtype)]
    plan = encode_plan(fmt, resolve(fmt, None, None, None, None), carrier)
    assert plan is not None
    codes = apply(plan, patterns, None, in_carrier=False)
    return lax.bitcast_convert_type(codes.astype(f"uint{8 * dtype.itemsize}"), dtype)


def result_dtype(dtype: Any, fmt: Format) -> np.dtype[Any]:
    """Dtype of `quantize`: the operand's if every possible result is exact in it, else float32, else float64."""
    source = dtype_format(np.dtype(dtype))
    assert isinstance(source, FloatFormat | FixedFormat)
    candidates: list[np.dtype[Any]] = [np.dtype(np.float32), np.dtype(np.float64)]
    if np.dtype(dtype) in FLOATS:
        candidates.insert(0, np.dtype(dtype))
    return next(d for d in candidates if results_exact(source, fmt, FLOATS[d]))


def apply(plan: Plan, patterns: Array, numbers: Array | None, *, in_carrier: bool) -> Array:
    """Codes (or, `in_carrier`, carrier patterns) of the plan's format for carrier patterns."""
    if plan.kernel == "table":
        columns = (jnp.asarray(c) if isinstance(c, np.ndarray) else c for c in plan.parameters)
        plan = replace(plan, parameters=type(plan.parameters)._make(columns))
    return run(plan, patterns, numbers, in_carrier, jnp)
