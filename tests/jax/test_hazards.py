"""What XLA does to bits: each hazard shown on the obvious code, and absent from ours.

Where a release of JAX has mended the obvious code, its test checks ours and is skipped with that message.
"""

from functools import partial

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax import lax

import numfmt as nf
from numfmt_jax.dots import dot_general
from numfmt_jax.quantize import GradientRule, decode, encode, quantize
from tests.jax.support import FORMATS, bfloat16, every_value, raw, same

SUBNORMALS = np.array([1, 2, 3, 0x400000], np.uint32).view(np.float32)
RNG = np.random.default_rng(0)
SIXTY_FOURTHS = (RNG.integers(-2048, 2048, (256, 64)) / 64).astype(np.float32)  # ties of FP4 are frequent here


def differs(naive, right):
    """Skips, where the obvious code gives the right bits on this JAX."""
    if np.array_equal(raw(naive), raw(np.asarray(right, np.asarray(naive).dtype))):
        pytest.skip(f"jax {jax.__version__} does not have this hazard any more; ours is right too")


def test_01_subnormals_are_zero_to_float_arithmetic():
    same(quantize(SUBNORMALS, "float32"), SUBNORMALS)
    same(encode(SUBNORMALS, "float32"), raw(SUBNORMALS))
    same(jax.jit(lambda x: quantize(x, "bfloat16"))(SUBNORMALS), nf.quantize(SUBNORMALS, "bfloat16"))
    for times_two in (lambda x: x * 2, jax.jit(lambda x: x * 2)):
        differs(times_two(jnp.asarray(SUBNORMALS)), SUBNORMALS * 2)
        assert not np.asarray(times_two(jnp.asarray(SUBNORMALS))).any()


def test_02_division_by_a_scalar_is_a_product_with_its_reciprocal():
    x = RNG.standard_normal(4096).astype(np.float32)
    tensor = "block(e4m3, scale=float32, size=tensor, rule=current_scaling)"
    same(jax.jit(lambda x: quantize(x, tensor))(x), nf.quantize(x, tensor))
    differs(jax.jit(lambda x: x / 448)(x), x / np.float32(448))


@pytest.mark.parametrize(
    "name", ["nvfp4", "block(e2m1, scale=float32, size=16, rule=ceil)", "block(e2m1, scale=float32, size=axis)"]
)
def test_03_so_blocks_with_scales_that_are_no_powers_of_two_get_wrong_codes(name):
    ours, right = jax.jit(lambda x: encode(x, name))(SIXTY_FOURTHS), nf.encode(SIXTY_FOURTHS, name)
    same(ours.codes, right.codes)
    same(ours.scales, right.scales)


def test_03_so_do_rows_divided_by_their_scale():
    def rows(x, xp):
        scale = xp.abs(x).max(-1, keepdims=True) / 6
        return x / scale

    codes = [
        nf.encode(np.asarray(v), "e2m1")
        for v in (jax.jit(partial(rows, xp=jnp))(SIXTY_FOURTHS), rows(SIXTY_FOURTHS, np))
    ]
    differs(*codes)


def test_04_a_rounding_that_was_asked_for_is_left_out():
    a = bfloat16(RNG.standard_normal(4096))
    right = (a * a + a).astype(np.float32)

    @jax.jit
    def ours(a):
        square = quantize(a.astype(jnp.float32) ** 2, "bfloat16")
        return quantize(square + a.astype(jnp.float32), "bfloat16")

    same(ours(a), right)
    differs(jax.jit(lambda a: (a * a + a).astype(jnp.float32))(a), right)


def test_05_the_rounding_of_a_product_is_left_out():
    a, b = (bfloat16(RNG.integers(-64, 64, (32, 32)) / 16) for _ in range(2))
    exact = a.astype(np.float64) @ b.astype(np.float64)  # and in float32
    right = bfloat16(exact.astype(np.float32)).astype(np.float32)
    numbers = (((1,), (0,)), ((), ()))
    ours = jax.jit(
        lambda a, b: quantize(lax.dot_general(a, b, numbers, preferred_element_type=jnp.float32), "bfloat16")
    )
    same(np.asarray(ours(a, b)).astype(np.float32), right)
    differs(jax.jit(lambda a, b: (a @ b).astype(jnp.float32))(a, b), right)


def test_05_ours_rounds_the_operands_of_the_next_product():
    a, b = (bfloat16(RNG.integers(-64, 64, (32, 32)) / 16) for _ in range(2))
    dot = partial(dot_general, dimension_numbers=(((1,), (0,)), ((), ())), recipe="bf16")
    hidden = bfloat16((a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32))
    expected = bfloat16((hidden.astype(np.float64) @ b.astype(np.float64)).astype(np.float32))
    assert np.abs(hidden.astype(np.float64) @ b.astype(np.float64)).max() < 2**15, "sums of multiples of 2^-9: 24 bits"
    same(jax.jit(lambda a, b: dot(dot(a, b), b))(a, b), expected)


def test_06_adding_and_subtracting_a_constant_rounds_nothing():
    x = RNG.uniform(-100, 100, 4096).astype(np.float32)
    same(jax.jit(lambda x: quantize(x, "int8"))(x), np.rint(x) + np.float32(0))
    magic = jax.jit(lambda x: (x + np.float32(1.5 * 2**23)) - np.float32(1.5 * 2**23))(x)
    differs(np.asarray(magic) + 0, np.rint(x) + np.float32(0))


def test_07_powers_of_two_are_not():
    exponents = np.arange(-126, 128)
    right = np.ldexp(np.float32(1), exponents).astype(np.float32)
    same(jax.jit(lambda e: decode(e, "e8m0"))((exponents + 127).astype(np.uint8)), right)
    differs(jnp.exp2(exponents.astype(np.float32)), right)
    differs(jnp.exp2(jnp.float32([13])), [8192])


def test_08_the_smallest_scale_divides_zero_by_zero():
    x = np.full((2, 32), 2.0**-127, np.float32)
    x[1] *= np.float32(2.5)
    for name in ("mxfp8_e4m3", "mxfp4"):
        ours, right = jax.jit(lambda x, name=name: encode(x, name))(x), nf.encode(x, name)
        same(ours.codes, right.codes)
        same(ours.scales, right.scales)
        assert not np.asarray(ours.scales).any(), "code 0 is 2^-127"
        same(jax.jit(lambda x, name=name: quantize(x, name))(x), nf.quantize(x, name))
    differs(jax.jit(lambda x, s: x / s)(x, x[0, 0]), x / x[0, 0])


def test_09_gradients_through_a_native_cast_are_rounded():
    g = np.float32([500, 1000, 1e-3, 1e-4])
    native = lambda x: x.astype(jnp.float8_e4m3fn).astype(jnp.float32)  # noqa: E731
    same(jax.vjp(lambda x: quantize(x, "e4m3fn"), jnp.ones(4))[1](g)[0], g)
    differs(jax.vjp(native, jnp.ones(4))[1](g)[0], g)
    rule = GradientRule(format="e4m3fn", platform="ml_dtypes")
    found = np.asarray(jax.vjp(lambda x: quantize(x, "e4m3fn", gradient=rule), jnp.ones(4))[1](g)[0])
    assert np.isnan(found[:2]).all(), "what the native cast does has to be asked for"
    assert found[3] == 0


@pytest.mark.parametrize(("fmt", "x"), [
    ("e4m3fn", [-1e-5]), ("e2m1", [-0.1]), ("e5m2", [np.inf]), ("e4m3fn", [1e12]), ("e2m1", [-np.inf, -0.0]),
])  # fmt: skip
def test_10_straight_through_by_stop_gradient_changes_the_value(fmt, x):
    x = jnp.float32(x)
    right = nf.quantize(np.asarray(x), fmt)
    same(jax.jit(lambda x: quantize(x, fmt))(x), right)
    same(jax.jit(jax.value_and_grad(lambda x: quantize(x, fmt)[0]))(x)[0], right[0])
    differs(jax.jit(lambda x: x + lax.stop_gradient(quantize(x, fmt) - x))(x), right)


def test_11_callbacks_compute_without_subnormals():
    shape = jax.ShapeDtypeStruct(SUBNORMALS.shape, jnp.float32)
    ours = jax.jit(lambda x: jax.pure_callback(lambda x: nf.quantize(np.asarray(x), "bfloat16"), shape, x))(SUBNORMALS)
    same(ours, nf.quantize(SUBNORMALS, "bfloat16"))
    naive = jax.jit(lambda x: jax.pure_callback(lambda x: np.asarray(x) * np.float32(2), shape, x))(SUBNORMALS)
    differs(naive, SUBNORMALS * 2)


def test_12_casts_from_float64_round_twice():
    x = np.float64([1.0625 + 2**-40, 1.1875 - 2**-40, 2.125 + 2**-45])  # beside ties of E4M3, on them in float32
    right = nf.encode(x, "e4m3fn")
    with jax.enable_x64(True):
        same(jax.jit(lambda x: encode(x, "e4m3fn"))(x), right)
        values = np.asarray(nf.decode(right, "e4m3fn"), np.float64)
        same(np.asarray(quantize(x, "e4m3fn")), values)
    differs(x.astype(ml_dtypes.float8_e4m3fn).view(np.uint8), right)


def test_13_sums_in_a_small_dtype_stop():
    assert float(quantize(jnp.ones(1000), "e4m3fn").sum()) == 1000  # values stay in their carrier
    assert float(np.ones(1000, ml_dtypes.float8_e4m3fn).sum()) == 16
    differs(np.float32(jnp.ones(1000, jnp.float8_e4m3fn).sum()), 1000)  # 256


@pytest.mark.parametrize("fmt", ["float6_e2m3fn", "float6_e3m2fn"])
def test_14_six_bits_have_no_native_dtype(fmt):
    x = np.float32([0.3, -7.7, 1e9])
    same(jax.jit(lambda x: quantize(x, fmt))(x), nf.quantize(x, fmt))
    same(jax.jit(lambda x: encode(x, fmt))(x), nf.encode(x, fmt))
    there_and_back = jax.jit(lambda x: x.astype(getattr(ml_dtypes, fmt)).astype(jnp.float32))
    try:
        naive = there_and_back(x)
    except Exception:  # an internal error of the compiler; its class differs between releases
        return
    differs(naive, nf.quantize(x, fmt, platform="ml_dtypes"))


def test_15_small_scales_flush_what_they_multiply():
    x = (RNG.standard_normal((4, 64)) * 2.0**-130).astype(np.float32)
    for name in ("mxfp8_e5m2", "mxfp4"):
        right = nf.quantize(x, name)
        assert right.any()
        same(jax.jit(lambda x, name=name: quantize(x, name))(x), right)
        same(decode(encode(x, name)), right)
    element, scale = np.float32(1.5), np.float32(2.0**-120)
    differs(jax.jit(lambda a, s: a * s * np.float32(2.0**-10))(element, scale), np.float32(1.5 * 2.0**-130))


def test_16_one_source_in_float_arithmetic_gives_other_bits_on_every_engine():
    def to_bfloat16(x, xp):  # round to nearest, in the float domain
        m, e = xp.frexp(x)
        return xp.ldexp(xp.round(xp.ldexp(m, 8)), xp.maximum(e, -125) - 8)

    x = np.concatenate([SUBNORMALS, np.arange(1, 2**22, 7919, dtype=np.uint32).view(np.float32)])
    differs(to_bfloat16(jnp.asarray(x), jnp), to_bfloat16(x, np))


@pytest.mark.parametrize("fmt", FORMATS[::3])  # test_quantize has them all, jitted
def test_16_ours_gives_one_answer_on_subnormals_zeros_and_nan(fmt):
    patterns = np.concatenate(
        [np.arange(8), [0x400000, 0x7FFFFF, 0x800000, 0x7F800000, 0x7FC00000, 0x7F800001, 0x7FFFFFFF]]
    )
    x = np.concatenate([patterns, patterns + 2**31]).astype(np.uint32).view(np.float32)
    right = nf.quantize(x, fmt)
    same(quantize(x, fmt), right, "eager")
    same(jax.jit(lambda x: quantize(x, fmt))(x), right, "jit")


def test_16_and_of_every_bfloat16():
    x = every_value(ml_dtypes.bfloat16)
    for fmt in ("bfloat16", "e8m0"):
        same(jax.jit(lambda x, fmt=fmt: quantize(x, fmt))(x), nf.quantize(x, fmt))
