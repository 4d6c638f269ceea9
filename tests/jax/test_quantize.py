"""Codes and values are those of numfmt, bit for bit: formats, modes, platforms, dtypes, shapes."""

import re

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import numfmt as nf
from numfmt.platforms import PLATFORMS
from numfmt_jax.quantize import decode, encode, quantize
from tests.jax.support import FORMATS, KEY, ML_DTYPES, SEED, every_value, float32_patterns, same

X = float32_patterns()
WORDS = np.random.default_rng(1).integers(0, 2**32, X.size, dtype=np.uint32)
MODES = [r.value for r in nf.Rounding if not r.is_stochastic]
STOCHASTIC = ["stochastic_a", "stochastic_b", "stochastic_c"]
FIXED_ONLY = ("ties_to_positive", "ties_to_negative")


def agree(fmt, x=X, **options):
    """Codes and values inside one jit are those of numfmt."""
    given = {k: v for k, v in options.items() if k not in ("seed", "random_bits")}

    @jax.jit
    def both(x, bits, key):
        drawn = {} if bits is None else {"random_bits": bits}
        drawn |= {} if key is None else {"key": key}
        return encode(x, fmt, **given, **drawn), quantize(x, fmt, **given, **drawn)

    codes, values = both(x, options.get("random_bits"), KEY if "seed" in options else None)
    same(codes, nf.encode(x, fmt, **options), f"codes of {fmt} {given}")
    same(values, nf.quantize(x, fmt, **options), f"values of {fmt} {given}")


def takes(fmt, **options):
    """Whether numfmt_jax takes a format with these modes; it refuses what numfmt refuses, and what binary32 is too narrow for."""
    try:
        encode(1.0, fmt, **options)
    except ValueError as error:
        if "binary32" not in str(error) and "32-bit" not in str(error):
            with pytest.raises(ValueError, match=re.escape(str(error))):
                nf.encode(np.float32(1), fmt, **options)
        return False
    return True


def modes(fmt):
    fixed = isinstance(nf.get_format(fmt), nf.FixedFormat)
    return [mode for mode in MODES if fixed or mode not in FIXED_ONLY]


# ---- formats ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", FORMATS)
def test_codes_and_values_are_those_of_numfmt(fmt):
    agree(fmt)


@pytest.mark.parametrize("fmt", ML_DTYPES)
def test_codes_are_those_of_ml_dtypes(fmt):
    with np.errstate(all="ignore"):
        expected = X.astype(getattr(ml_dtypes, fmt))
    codes = expected.view(np.uint16 if fmt == "bfloat16" else np.uint8)
    same(encode(X, fmt, platform="ml_dtypes"), codes, fmt)


@pytest.mark.parametrize("fmt", [f for f in FORMATS if nf.get_format(f).bits <= 16])
def test_every_code_decodes_to_its_value(fmt):
    bits = nf.get_format(fmt).bits
    codes = np.arange(2**bits, dtype=np.uint8 if bits <= 8 else np.uint16)
    same(decode(codes, fmt), nf.decode(codes, fmt, dtype=np.float32), fmt)


def test_decode_takes_codes_of_any_integer_dtype():
    codes = np.arange(-128, 128)
    for dtype in (np.int8, np.int16, np.int32, np.uint8, np.uint32):
        given = codes.astype(dtype)
        same(decode(given, "e2m1"), nf.decode(given, "e2m1", dtype=np.float32), str(dtype))
    small = decode(every_value(np.uint8), "e4m3fn", dtype=jnp.bfloat16)
    same(small, nf.decode(every_value(np.uint8), "e4m3fn", dtype=ml_dtypes.bfloat16))


@pytest.mark.parametrize(
    ("fmt", "dtype"),
    [
        ("e5m2", "float8_e4m3fn"),
        ("bfloat16", "float16"),
        ("nf4", "bfloat16"),
        ("e4m3fn", "int32"),
        ("e2m1", "float4_e2m1fn"),
    ],
)
def test_decode_refuses_dtypes_that_do_not_hold_every_value(fmt, dtype):
    with pytest.raises(ValueError, match="float32 does"):
        decode(jnp.uint8([1]), fmt, dtype=jnp.dtype(dtype))


def test_decode_refuses_what_holds_no_code():
    with pytest.raises(TypeError, match="integers"):
        decode(jnp.float32([1]), "e4m3fn")
    with pytest.raises(ValueError, match="needs one"):
        decode(jnp.uint8([1]))


# ---- modes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", ["e4m3fn", "e8m0", "q3.4", "nf4", "bfloat16"])
def test_every_rounding_mode(fmt):
    called = jax.jit(lambda x: {mode: quantize(x, fmt, rounding=mode) for mode in modes(fmt)})
    for mode, values in called(X).items():
        same(values, nf.quantize(X, fmt, rounding=mode), mode)


@pytest.mark.parametrize("fmt", ["e4m3fn", "e5m2", "e4m3fnuz", "e8m0", "ue5m3", "int4", "q3.4", "uint8", "ternary"])
def test_every_overflow_mode(fmt):
    limits = [o.value for o in nf.Overflow if takes(fmt, overflow=o.value)]
    pairs = [(limit, mode) for limit in limits for mode in ("ties_to_even", "toward_negative")]
    called = jax.jit(lambda x: [encode(x, fmt, overflow=limit, rounding=mode) for limit, mode in pairs])
    for (limit, mode), codes in zip(pairs, called(X), strict=True):
        same(codes, nf.encode(X, fmt, overflow=limit, rounding=mode), f"{limit} {mode}")


@pytest.mark.parametrize("platform", [name for name, p in PLATFORMS.items() if not p.arithmetic.converts])
def test_every_platform(platform):
    names = [*PLATFORMS[platform].rules, "binary8p3se", "e4m3fn"]
    called = jax.jit(lambda x: {name: encode(x, name, platform=platform) for name in names})
    for name, codes in called(X).items():
        same(codes, nf.encode(X, name, platform=platform), f"{platform} {name}")


def test_platforms_that_keep_nan_payloads_are_refused():
    with pytest.raises(ValueError, match=r"platform x86.vcvtps2ph is given; .* numfmt.encode"):
        encode(X, "float16", platform="x86.vcvtps2ph")


@pytest.mark.parametrize(
    ("platform", "fmt"), [("amd", "e5m2"), ("torch", "e8m0"), ("bitsandbytes", "nf4"), ("p3109", "binary8p3se")]
)
def test_values_of_a_platform(platform, fmt):
    agree(fmt, platform=platform)


@pytest.mark.parametrize("fmt", ["e4m3fn", "e8m0", "bfloat16", "tf32", "q3.4", "binary8p3se"])
def test_stochastic_rounding_by_key_and_by_bits(fmt):
    agree(fmt, rounding="stochastic", seed=SEED)
    count = 5 if fmt == "tf32" else 9
    called = jax.jit(
        lambda x, bits: [quantize(x, fmt, rounding=m, random_bits=bits, random_bit_count=count) for m in STOCHASTIC]
    )
    for mode, values in zip(STOCHASTIC, called(X, WORDS), strict=True):
        same(values, nf.quantize(X, fmt, rounding=mode, random_bits=WORDS, random_bit_count=count), mode)


def test_a_key_gives_the_top_bits_of_its_words():
    agree("e4m3fn", rounding="stochastic_a", random_bit_count=7, seed=SEED)


def test_random_bits_broadcast_and_only_their_low_bits_count():
    x = X[:600].reshape(20, 30)
    bits = np.arange(30, dtype=np.int32) - 15
    found = quantize(x, "e4m3fn", rounding="stochastic_a", random_bit_count=3, random_bits=bits)
    same(found, nf.quantize(x, "e4m3fn", rounding="stochastic_a", random_bit_count=3, random_bits=bits & 7))


@pytest.mark.nightly
@pytest.mark.parametrize("fmt", [f for f in nf.list_formats() if not isinstance(nf.get_format(f), nf.BlockFormat)])
def test_every_named_format_in_several_modes(fmt):
    if not takes(fmt):
        return
    choices = [{}, *({"rounding": mode} for mode in ("toward_positive", "to_odd", "ties_to_away"))]
    choices += [{"overflow": o} for o in ("saturate", "nan", "infinity", "propagate", "wrap") if takes(fmt, overflow=o)]
    for options in choices:
        agree(fmt, **options)
    if takes(fmt, rounding="stochastic", random_bits=1):
        agree(fmt, rounding="stochastic", seed=SEED)
        for mode in STOCHASTIC:
            agree(fmt, rounding=mode, random_bits=WORDS, random_bit_count=11)


# ---- operands --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8", "uint8", "int16", "uint16"])
def test_every_value_of_every_small_dtype(dtype):
    x = every_value(jnp.dtype(dtype))
    names = ("e4m3fn", "bfloat16", "e8m0", "q3.4", "nf4")
    found = jax.jit(lambda x: [(encode(x, fmt), quantize(x, fmt)) for fmt in names])(x)
    for fmt, (codes, values) in zip(names, found, strict=True):
        for half in (slice(None, x.size // 2), slice(x.size // 2, None)):
            same(codes[half], nf.encode(x[half], fmt), f"codes of {fmt}")
            same(values[half], nf.quantize(x[half], fmt), f"values of {fmt}")


@pytest.mark.parametrize("platform", ["amd", "ml_dtypes"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_platforms_see_the_sign_of_a_nan_in_every_dtype(dtype, platform):
    x = every_value(jnp.dtype(dtype))
    same(encode(x, "e5m2", platform=platform), nf.encode(x, "e5m2", platform=platform))


def test_four_bit_floats_are_no_operands():  # XLA casts no bits between them and bytes
    with pytest.raises(TypeError, match="float16, bfloat16, float32"):
        quantize(jnp.ones(4).astype("float4_e2m1fn"), "e4m3fn")


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2fnuz", "float8_e8m0fnu"])
def test_native_eight_bit_dtypes_are_operands(dtype):
    x = every_value(jnp.dtype(dtype))
    same(quantize(x, "bfloat16"), nf.quantize(x, "bfloat16"))
    same(encode(x, "e2m1"), nf.encode(x, "e2m1"))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0, 3), (2, 3, 4)])
def test_shapes_are_kept(shape):
    x = np.full(shape, 0.3, np.float32)
    same(quantize(x, "e4m3fn"), np.asarray(nf.quantize(x, "e4m3fn")))
    codes = nf.encode(x, "int4", rounding="stochastic", seed=SEED)
    same(encode(x, "int4", rounding="stochastic", key=KEY), np.asarray(codes))


def test_numbers_of_python_are_float32():
    assert quantize(0.3, "e4m3fn").dtype == jnp.float32
    assert float(quantize(0.3, "e4m3fn")) == 0.3125
    assert float(quantize([0.3, 1000], "e4m3fn")[1]) == 448


def test_operations_one_by_one_give_the_same_bits():
    with jax.disable_jit():
        agree("e8m0")
        agree("e4m3fn", rounding="stochastic", seed=SEED)


# ---- refusals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", ["float64", "binary128", "int32", "e9m5", "e5m30"])
def test_formats_that_binary32_cannot_carry_are_refused_with_advice(fmt):
    for call in (quantize, encode):
        with pytest.raises(ValueError, match=r"binary32 does not hold.*numfmt\.quantize"):
            call(jnp.ones(3), fmt)
    with pytest.raises(ValueError, match="binary32 does not hold"):
        decode(jnp.zeros(3, jnp.uint32), fmt)


@pytest.mark.parametrize("x", [True, [True, False], 1j, np.int32(3), np.uint32(3)])
def test_dtypes_that_float32_does_not_hold_are_refused(x):
    if jax.config.jax_enable_x64 and np.asarray(x).dtype.kind in "iu":
        pytest.skip("64-bit integers are on: float64 holds these")
    with pytest.raises(TypeError, match="x has dtype"):
        quantize(x, "e4m3fn")


def test_unknown_names_come_with_the_nearest():
    with pytest.raises(ValueError, match="float8_e4m3fn"):
        quantize(1.0, "float8_e4m3fm")
    with pytest.raises(ValueError, match="toward_zero"):
        quantize(1.0, "e4m3fn", rounding="toward_zeros")
    with pytest.raises(ValueError, match="saturate"):
        quantize(1.0, "e4m3fn", overflow="saturated")
    with pytest.raises(ValueError, match="nvidia"):
        quantize(1.0, "e4m3fn", platform="nvidea")
