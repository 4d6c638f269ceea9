"""quantize, encode and decode: numfmt's rounding inside JAX programs, with gradients of one's choice."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from numfmt import BlockFormat, Overflow, Platform, Rounding, get_format, get_platform
from numfmt._core.parameters import BINARY32, BINARY64, Carrier
from numfmt.kernels import (
    FLOATS,
    CodebookFormat,
    Format,
    Plan,
    Rules,
    code_dtype,
    decode_patterns,
    decode_table,
    encode_plan,
    holds,
    magnitude_pattern,
    quantize_plan,
    resolve,
    results_exact,
    unknown,
)

from .bits import apply, carrier_of, operand, patterns_of, result_dtype, values_of
from .blocks import BlockArray, clipped_mask, decode_blocks, encode_blocks, quantize_blocks
from .random import Key, fold, numbers_of, random_bits

Array = jax.Array
Axis = int | tuple[int, ...] | None


# ---- gradient rules --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GradientRule:
    """What `quantize` does to gradients.

    Args:
        rule: "straight_through": the cotangent passes unchanged; "clipped": it is zero where x lies beyond
            the range of the format (of a block: its scale times that of the elements).
        format: where given, the cotangent is rounded to this format too, scalar or block.
        rounding, overflow, platform, random_bit_count, axis: of that rounding, as for `quantize`; its
            random words are those of fold_in(key, crc32("cotangent")).

    Raises:
        ValueError: an unknown rule, rounding options without a format, a format that binary32 cannot carry.

    >>> import jax, jax.numpy as jnp
    >>> y, back = jax.vjp(lambda x: quantize(x, "e4m3fn", gradient="clipped"), jnp.float32([1.1, 1000.0]))
    >>> back(jnp.float32([1000.0, 1000.0]))[0].tolist()
    [1000.0, 0.0]
    """

    rule: str = "straight_through"
    format: Format | BlockFormat | str | None = None
    rounding: Rounding | str | None = None
    overflow: Overflow | str | None = None
    platform: Platform | str | None = None
    random_bit_count: int | None = None
    axis: Axis = -1

    def __post_init__(self) -> None:
        if self.rule not in ("straight_through", "clipped"):
            raise ValueError(unknown("gradient rule", str(self.rule), ["straight_through", "clipped"]))
        if self.format is None:
            for name in ("rounding", "overflow", "platform", "random_bit_count"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}={getattr(self, name)} is given for the cotangent; it needs a format= too")
            return
        object.__setattr__(self, "format", get_format(self.format))
        _ = self.rounds  # refuses what cannot be rounded to

    @property
    def rounds(self) -> Rounds | None:
        """How the cotangent is rounded, or None."""
        if self.format is None:
            return None
        return rounds_of(self.format, self.rounding, self.overflow, self.platform, self.random_bit_count, self.axis)


@dataclass(frozen=True)
class Rounds:
    """One rounding as static data: format, rules, block axis."""

    format: Format | BlockFormat
    rules: Rules
    axis: Axis = -1

    @property
    def is_stochastic(self) -> bool:
        """Whether it takes random numbers."""
        return self.rules.random_bit_count > 0


@lru_cache(maxsize=4096)
def rounds_of(
    format: Format | BlockFormat | str,
    rounding: Rounding | str | None = None,
    overflow: Overflow | str | None = None,
    platform: Platform | str | None = None,
    random_bit_count: int | None = None,
    axis: Axis = -1,
) -> Rounds:
    """A rounding with its names resolved; raises ValueError for what binary32 cannot carry, and for unknown names."""
    fmt = get_format(format)
    chosen = None if platform is None else get_platform(platform)
    if chosen is not None and chosen.arithmetic.converts:
        raise ValueError(
            f"platform {chosen} is given; it keeps the payload of NaNs or flushes subnormals, which numfmt.encode "
            "(NumPy) does; here is platform='nvidia' or none"
        )
    if isinstance(fmt, BlockFormat):
        rule = fmt.scale_rule
        if rule.direct is not None and rounding and Rounding.parse(rounding) is not fmt.default_rounding:
            raise ValueError(f"rounding {rounding!r} is given; rule {fmt.rule!r} fixes the rounding of its elements")
        rules = resolve(
            fmt.element, rounding or rule.rounding, overflow or fmt.default_overflow, chosen, random_bit_count
        )
        return Rounds(fmt, rules, axis)
    if not holds(BINARY32, fmt):
        raise ValueError(f"{fmt} is given; binary32 does not hold all its values, numfmt.quantize (NumPy) rounds to it")
    return Rounds(fmt, resolve(fmt, rounding, overflow, chosen, random_bit_count))


# ---- randomness ------------------------------------------------------------------------------------------------


def numbers_for(rounds: Rounds, shape: tuple[int, ...], key: Key | None, bits: Any) -> Array | None:
    """The random numbers of a rounding, int32 of `shape`; None for the deterministic modes."""
    mode, count = rounds.rules.rounding.value, rounds.rules.random_bit_count
    if not count:
        if bits is not None:
            raise ValueError(f"random_bits is given; rounding {mode!r} takes no random bits")
        return None
    if (key is None) == (bits is None):
        raise ValueError(f"rounding {mode!r} needs random bits; give one of key= (jax.random.key) and random_bits=")
    if key is not None:
        return numbers_of(random_bits(key, shape), count)
    given = jnp.asarray(bits)
    if not jnp.issubdtype(given.dtype, jnp.integer):
        raise TypeError(f"random_bits has dtype {given.dtype}; it must hold integers, uint32 for choice")
    try:
        return lax.bitcast_convert_type(jnp.broadcast_to(given, shape).astype(jnp.uint32), jnp.int32)
    except ValueError:
        raise ValueError(f"random_bits has shape {given.shape}; it must broadcast to x's shape {shape}") from None


# ---- the primal ------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _plan(fmt: Format, rules: Rules, carrier: Carrier, in_carrier: bool) -> Plan:
    plan = (quantize_plan if in_carrier else encode_plan)(fmt, rules, carrier)
    if plan is None:
        raise ValueError(
            f"rounding {rules.rounding.value!r} to {fmt} is given; 32-bit integers are too narrow for it, "
            "numfmt (NumPy) has it"
        )
    return plan


@partial(jax.jit, static_argnums=0, inline=True)
def rounded(rounds: Rounds, x: Array, numbers: Array | None, amax_of: Array | None = None) -> Array:
    """The values that x rounds to, without a gradient rule; scales of blocks are those of `amax_of`, by default x."""
    if isinstance(rounds.format, BlockFormat):
        return quantize_blocks(x, rounds.format, rounds.rules, rounds.axis, numbers, amax_of)
    dtype = result_dtype(x.dtype, rounds.format)
    carrier = max(carrier_of(x.dtype), carrier_of(dtype), key=lambda c: c.bits)
    plan = _plan(rounds.format, rounds.rules, carrier, True)
    patterns = apply(plan, patterns_of(x, carrier), _widened(numbers, carrier), in_carrier=True)
    return values_of(patterns, dtype, carrier)


def _widened(numbers: Array | None, carrier: Carrier) -> Array | None:
    """Random numbers in the carrier's integers."""
    if numbers is None or carrier is BINARY32:
        return numbers
    return lax.bitcast_convert_type(numbers, jnp.uint32).astype(f"int{carrier.bits}")


@partial(jax.jit, static_argnums=0, inline=True)
def beyond(rounds: Rounds, x: Array, amax_of: Array | None = None) -> Array:
    """Where x lies above the format's range or below it, of a block format the block's; False for NaN and zeros."""
    if isinstance(rounds.format, BlockFormat):
        return clipped_mask(x, rounds.format, rounds.rules, rounds.axis, amax_of)
    carrier = carrier_of(x.dtype)
    patterns = patterns_of(x, carrier)
    magnitude = patterns & carrier.magnitude_mask
    fmt = rounds.format
    above = magnitude > magnitude_pattern(fmt.max, carrier)
    below = magnitude > magnitude_pattern(max(-fmt.min, Fraction(0)), carrier)
    return jnp.where(patterns < 0, below, above) & (magnitude <= carrier.infinity)


# ---- gradients -------------------------------------------------------------------------------------------------


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def straight_through(
    rounds: Rounds, clipped: bool, x: Array, numbers: Array | None, amax_of: Array | None = None
) -> Array:
    """The values that x rounds to; tangents and cotangents pass, `clipped` only where x is in the range."""
    return rounded(rounds, x, numbers, amax_of)


@straight_through.defjvp
def _straight_through_jvp(rounds: Rounds, clipped: bool, primals: Any, tangents: Any) -> Any:
    x, numbers, amax_of = primals
    y = straight_through(rounds, clipped, x, numbers, amax_of)
    tangent = tangents[0].astype(y.dtype)
    return y, jnp.where(beyond(rounds, x, amax_of), jnp.zeros((), y.dtype), tangent) if clipped else tangent


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _cotangent(rounds: Rounds, y: Array, key: Array | None) -> Array:
    """y itself; its cotangent is rounded."""
    return y


def _cotangent_forward(rounds: Rounds, y: Array, key: Array | None) -> Any:
    return _cotangent(rounds, y, key), key  # a second derivative has the rule too


def _cotangent_backward(rounds: Rounds, key: Array | None, g: Array) -> Any:
    bits = numbers_for(rounds, g.shape, key, None)
    return straight_through(rounds, False, g, bits, None), None


_cotangent.defvjp(_cotangent_forward, _cotangent_backward)


def quantize(
    x: Any,
    format: str | Format | BlockFormat,
    *,
    rounding: Rounding | str | None = None,
    overflow: Overflow | str | None = None,
    platform: Platform | str | None = None,
    key: Key | None = None,
    random_bits: Any = None,
    random_bit_count: int | None = None,
    axis: Axis = -1,
    gradient: GradientRule | str = "straight_through",
) -> Array:
    """The values that `x` rounds to, bit for bit those of `numfmt.quantize`, with a gradient.

    Args:
        x: float16, bfloat16, float32 (float64 under x64) or integers that float32 holds, of any shape.
        format: a format or its name, scalar or block; binary32 must hold its values.
        rounding, overflow, platform, random_bit_count, axis: as for `numfmt.quantize`.
        key: for stochastic rounding: element i, in C order, takes word i of jax.random.bits(key, x.shape).
            Under vmap a key that is not mapped is shared noise.
        random_bits: instead of a key: integers that broadcast to x's shape; their low N bits count.
        gradient: `GradientRule` or the name of its rule. Straight-through and clipped gradients work in
            both modes of differentiation, a rounded cotangent in reverse mode.

    Returns:
        Array of x's shape, of its dtype where every possible result is exact in it, else float32.

    Raises:
        ValueError: a format that binary32 cannot carry, unknown names, stochastic rounding without a key.
        TypeError: x is bool, complex, or wider than the carrier.

    >>> import jax, jax.numpy as jnp
    >>> x = jnp.float32([0.1, -1.7, 300, 1e6])
    >>> quantize(x, "e4m3fn").tolist()
    [0.1015625, -1.75, 288.0, 448.0]
    >>> jax.grad(lambda x: quantize(x, "e4m3fn").sum())(x).tolist()
    [1.0, 1.0, 1.0, 1.0]
    >>> quantize(x[:2], "e2m1", rounding="stochastic", key=jax.random.key(0)).tolist()
    [0.5, -2.0]
    """
    array = operand(x)
    rounds = rounds_of(format, rounding, overflow, platform, random_bit_count, _hashable(axis))
    rule = gradient if isinstance(gradient, GradientRule) else GradientRule(gradient)
    numbers = numbers_for(rounds, array.shape, key, random_bits)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return rounded(rounds, array, numbers)
    backward = rule.rounds
    if backward is not None:
        array = _with_rounded_cotangent(backward, array, key)
    return straight_through(rounds, rule.rule == "clipped", array, numbers, None)


def _with_rounded_cotangent(rounds: Rounds, x: Array, key: Key | None) -> Array:
    """x, with a cotangent that is rounded."""
    if rounds.is_stochastic and key is None:
        mode = rounds.rules.rounding.value
        raise ValueError(f"the cotangent's rounding {mode!r} needs random bits; give key= (jax.random.key)")
    dtype = result_dtype(x.dtype, _values_format(rounds.format))
    if dtype != x.dtype:
        raise ValueError(f"the cotangent of {x.dtype} is to be rounded to {rounds.format}; it takes {dtype}: cast x")
    return _cotangent(rounds, x, fold(key, "cotangent") if rounds.is_stochastic else None)


def _values_format(fmt: Format | BlockFormat) -> Format:
    return get_format("float32") if isinstance(fmt, BlockFormat) else fmt  # type: ignore[return-value]


def _hashable(axis: Any) -> Axis:
    return tuple(axis) if isinstance(axis, list) else axis


# ---- codes -----------------------------------------------------------------------------------------------------


def encode(
    x: Any,
    format: str | Format | BlockFormat,
    *,
    rounding: Rounding | str | None = None,
    overflow: Overflow | str | None = None,
    platform: Platform | str | None = None,
    key: Key | None = None,
    random_bits: Any = None,
    random_bit_count: int | None = None,
    axis: Axis = -1,
) -> Any:
    """Codes of the values that `x` rounds to; for a block format a `BlockArray`. Codes have no gradient.

    Args: as for `quantize`.

    Returns:
        Array of x's shape, of the smallest unsigned dtype that holds the format's codes; or a `BlockArray`.

    Raises:
        ValueError, TypeError: as `quantize`.

    >>> import jax.numpy as jnp
    >>> encode(jnp.float32([0.1, -1.7, 300, 1e6]), "e4m3fn").tolist()
    [29, 190, 121, 126]
    """
    array = lax.stop_gradient(operand(x))
    rounds = rounds_of(format, rounding, overflow, platform, random_bit_count, _hashable(axis))
    return encoded(rounds, array, numbers_for(rounds, array.shape, key, random_bits))


@partial(jax.jit, static_argnums=0, inline=True)
def encoded(rounds: Rounds, x: Array, numbers: Array | None, amax_of: Array | None = None) -> Any:
    """The codes that x rounds to; of a block format a `BlockArray`."""
    if isinstance(rounds.format, BlockFormat):
        return encode_blocks(x, rounds.format, rounds.rules, rounds.axis, numbers, amax_of)
    carrier = carrier_of(x.dtype)
    in_carrier = rounds.format == FLOATS[np.dtype(f"float{carrier.bits}")]  # its codes are the patterns
    plan = _plan(rounds.format, rounds.rules, carrier, in_carrier)
    codes = apply(plan, patterns_of(x, carrier), _widened(numbers, carrier), in_carrier=in_carrier)
    return lax.bitcast_convert_type(codes, f"uint{carrier.bits}").astype(code_dtype(rounds.format))


def decode(
    codes: Any, format: str | Format | None = None, *, dtype: Any = None, platform: Platform | str | None = None
) -> Array:
    """Values of codes: float32, or `dtype` where that holds every value of the format.

    Args:
        codes: integers of any shape; bits above the format's width are ignored. Or a `BlockArray`.
        format: a format or its name; a `BlockArray` has its own.
        platform: for a `BlockArray`, as for `numfmt.decode`.

    Raises:
        ValueError: a format that binary32 cannot carry, or a dtype that does not hold its values.
        TypeError: codes are not integers.

    >>> import jax.numpy as jnp
    >>> decode(jnp.uint8([0, 1, 0x7E, 0x7F]), "e4m3fn").tolist()
    [0.0, 0.001953125, 448.0, nan]
    """
    if isinstance(codes, BlockArray):
        if format is not None and get_format(format) != codes.format:
            raise ValueError(f"{format} is given for a BlockArray of {codes.format}; leave the format out")
        return decode_blocks(codes, dtype=dtype, platform=platform)
    if format is None:
        raise ValueError("codes are given without a format; decode(codes, format) needs one")
    fmt = rounds_of(format).format
    if isinstance(fmt, BlockFormat):
        raise ValueError(f"{fmt} is given for an array of codes; decode(encode(x, format)) takes a BlockArray")
    array = jnp.asarray(codes)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"codes has dtype {array.dtype}; it must hold integers")
    wanted = np.dtype(jnp.float32 if dtype is None else dtype)
    if not _holds_values(wanted, fmt):
        raise ValueError(f"dtype {wanted} is given; it does not hold every value of {fmt}, float32 does")
    if wanted == np.float64 and not jax.config.read("jax_enable_x64"):
        raise ValueError(f"dtype float64 is given without jax_enable_x64; float32 holds every value of {fmt} too")
    return _decoded(fmt, array, wanted)


def _holds_values(dtype: np.dtype[Any], fmt: Format) -> bool:
    """Whether a dtype that arrays can have holds every value of a format."""
    if dtype not in FLOATS or FLOATS[dtype].bits < 8:
        return False
    source = FLOATS[np.dtype(np.float32)] if isinstance(fmt, CodebookFormat) else fmt
    return results_exact(source, fmt, FLOATS[dtype])


@partial(jax.jit, static_argnums=(0, 2), inline=True)
def _decoded(fmt: Format, codes: Array, dtype: np.dtype[Any]) -> Array:
    carrier = BINARY64 if dtype == np.float64 else BINARY32
    wide = lax.bitcast_convert_type(codes.astype(jnp.uint32), jnp.int32)
    if fmt.bits < 32:
        wide = wide & (2**fmt.bits - 1)
    if carrier is BINARY64:
        wide = lax.bitcast_convert_type(wide, jnp.uint32).astype(jnp.int64)
    if isinstance(fmt, CodebookFormat):
        return values_of(jnp.asarray(decode_table(fmt, carrier))[wide], dtype, carrier)
    return values_of(decode_patterns(wide, fmt, carrier, xp=jnp), dtype, carrier)
